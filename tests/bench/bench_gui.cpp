// Measurements of the window: opening long runs, a million points, frames beside a training worker, memory, start-up.
// Usage: bench_gui open [steps layers digest_every] | telemetry [points] | frames [seconds] [alone] | memory [seconds]
// |
//        start [times]
// Each prints one line a number. Needs a display except for `open`. `frames` starts a worker that trains the nano
// policy beside the window, as the window would; with `alone` the run is only written, ten steps a second.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "backend/base/resources.h"
#include "backend/base/worker_thread.h"
#include "backend/train/run_directory.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/vtk_view.h"
#include "widgets/common/watched_application.h"
#include "widgets/robot/robot_view.h"
#include "widgets/robot/scene_view.h"
#include "widgets/train/train_view.h"

#include <QDir>
#include <QElapsedTimer>
#include <QProcess>
#include <QTabWidget>
#include <QTemporaryDir>
#include <QTimer>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <ctime>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace {

using namespace rankwise;

struct Shape {
    int steps = 100'000;
    int layers = 300;
    int digestEvery = 500;
    int experts = 4;
};

std::vector<data::RunLayer> layersOf(const Shape& shape)
{
    std::vector<data::RunLayer> layers;
    for (int i = 0; i < shape.layers; ++i) {
        layers.push_back(
            { fmt::format("model.vlm_with_expert.lm_expert.layers.{}.mlp.up_proj", i), i * 3 / shape.layers, i, 128 });
    }
    return layers;
}

data::RunDigest digestOf(const Shape& shape, int step)
{
    data::RunDigest digest { .step = step };
    for (int i = 0; i < shape.layers; ++i) {
        const double mean = 40 + 20 * std::sin(i + step * 1e-4);
        digest.rank.push_back(mean);
        digest.quantiles.push_back({ mean - 20, mean - 7.25, mean, mean + 6.5, mean + 30 });
        digest.energy.push_back(0.9123 + 1e-5 * i);
        digest.tokens.push_back(65536);
        const double a = 0.25 + 0.2 * std::sin(i * 0.7 + step * 1e-3);
        digest.shares.push_back(std::vector<double>(static_cast<std::size_t>(shape.experts), a));
    }
    return digest;
}

Json stepOf(int step)
{
    return { { "loss", 0.2 + std::exp(-step * 1e-4) },
             { "aux", { { "spectral", 0.0123 }, { "balance", 0.00456 }, { "z", 1.25e-4 } } },
             { "total", 0.25 + std::exp(-step * 1e-4) },
             { "lr", 1e-4 * (1 + std::cos(step * 3e-5)) },
             { "grad_norm", 1 + 0.3 * std::sin(step * 0.7) },
             { "clipped", false },
             { "samples_per_s", 140.0 + step % 7 },
             { "load_s", 0.004 },
             { "compute_s", 0.05 } };
}

std::unique_ptr<train::RunWriter> writerOf(const QString& folder, const Shape& shape)
{
    auto writer = train::RunWriter::open(bridge::toPath(folder), false, shape.steps);
    if (!writer) {
        fmt::print(stderr, "{}\n", writer.error().describe());
        std::exit(1);
    }
    (void)(*writer)->writeRun({ { "method", { { "type", "lora_sp" }, { "eta", 0.9 } } }, { "seed", 7 } });
    (void)(*writer)->event("start", 0, { { "pid", ::getpid() }, { "resumed_from", nullptr } });
    return std::move(*writer);
}

void writeRun(const QString& folder, const Shape& shape)
{
    const auto writer = writerOf(folder, shape);
    const std::vector<data::RunLayer> layers = layersOf(shape);
    (void)writer->digest(digestOf(shape, 0), layers);
    for (int step = 1; step <= shape.steps; ++step) {
        (void)writer->event("step", step, stepOf(step));
        if (step % shape.digestEvery == 0) {
            (void)writer->digest(digestOf(shape, step), layers);
        }
    }
    (void)writer->setState(data::RunState::Finished, "all steps done");
}

void processFor(int milliseconds, const std::function<bool()>& enough = {})
{
    QElapsedTimer watch;
    watch.start();
    while (watch.elapsed() < milliseconds && !(enough && enough())) {
        QCoreApplication::processEvents(QEventLoop::AllEvents | QEventLoop::WaitForMoreEvents, 5);
    }
}

double residentMegabytes()
{
    std::ifstream file("/proc/self/statm");
    long long all = 0;
    long long resident = 0;
    file >> all >> resident;
    return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

gui::Options optionsIn(const QTemporaryDir& folder)
{
    gui::Options options;
    options.settingsFile = folder.filePath(QStringLiteral("workbench.ini"));
    return options;
}

int argument(const QStringList& arguments, int index, int otherwise)
{
    return arguments.size() > index ? arguments[index].toInt() : otherwise;
}

int openRun(const QStringList& arguments)
{
    Shape shape;
    shape.steps = argument(arguments, 2, shape.steps);
    shape.layers = argument(arguments, 3, shape.layers);
    shape.digestEvery = argument(arguments, 4, shape.digestEvery);
    const QTemporaryDir folder;
    const QString run = folder.filePath(QStringLiteral("run"));
    writeRun(run, shape);
    fmt::print("events.jsonl: {:.1f} MB, {} steps, {} layers, {} digests\n",
               static_cast<double>(QFileInfo(run + QStringLiteral("/events.jsonl")).size()) / 1e6, shape.steps,
               shape.layers, shape.steps / shape.digestEvery + 1);
    for (int round = 0; round < 3; ++round) {
        QElapsedTimer watch;
        watch.start();
        const std::clock_t cpu = std::clock();
        bridge::RunTail tail(run);
        qint64 first = -1;
        processFor(60'000, [&] {
            first = first < 0 && tail.record().steps.size() > 0 ? watch.elapsed() : first;
            return tail.caughtUp() && tail.record().steps.size() == static_cast<std::size_t>(shape.steps);
        });
        fmt::print("round {}: first rows after {} ms, all readable after {} ms ({:.0f} ms of processor time)\n", round,
                   first, watch.elapsed(), 1000.0 * static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC);
    }
    return 0;
}

int telemetry(const QStringList& arguments)
{
    Shape shape;
    shape.steps = argument(arguments, 2, 200'000); // in five charts of twelve curves
    shape.layers = 30;
    shape.digestEvery = 1000;
    const QTemporaryDir folder;
    const QString run = folder.filePath(QStringLiteral("run"));
    writeRun(run, shape);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("train"));
    auto* const app = qobject_cast<common::WatchedApplication*>(qApp);
    processFor(300);
    app->resetReport();
    QElapsedTimer watch;
    watch.start();
    window.workspace().addItem({ bridge::ItemKind::Run, run, {} });
    const bridge::RunTail* tail = window.workspace().run(run);
    processFor(60'000, [&] { return tail->caughtUp() && tail->record().steps.size() == std::size_t(shape.steps); });
    std::size_t points = 0;
    std::vector<common::ImGuiView*> canvases;
    for (auto* view : window.trainView()->findChildren<common::ChartView*>()) {
        if (view->isVisible() && view->glCanvas() != nullptr) {
            canvases.push_back(view->glCanvas());
        }
    }
    points = tail->record().steps.size() * (9 + tail->record().steps.aux.size());
    fmt::print("{} points shown after {} ms; longest event while opening {:.0f} ms ({})\n", points, watch.elapsed(),
               app->report().worstSeconds * 1000, app->report().worst.toStdString());
    constexpr int kFrames = 60;
    double slowest = 0;
    watch.restart();
    for (int frame = 0; frame < kFrames; ++frame) {
        for (common::ImGuiView* canvas : canvases) {
            canvas->update();
        }
        const std::uint64_t before = canvases.empty() ? 0 : canvases.front()->paintCount();
        processFor(1000, [&] { return canvases.empty() || canvases.front()->paintCount() > before; });
        double all = 0;
        for (const common::ImGuiView* canvas : canvases) {
            all += canvas->paintSeconds();
        }
        slowest = std::max(slowest, all);
    }
    fmt::print("{} charts redrawn whole: {:.1f} frames/s, slowest frame's own painting {:.1f} ms\n", canvases.size(),
               kFrames * 1000.0 / static_cast<double>(std::max<qint64>(1, watch.elapsed())), slowest * 1000);
    return 0;
}

/// Writes rows in a thread of its own until it is destroyed, as a worker does.
class Feeder {
public:
    Feeder(const QString& run, const Shape& shape, int stepsPerSecond)
        : m_thread("feeder", [run, shape, stepsPerSecond](const std::stop_token& stop) {
              const auto writer = writerOf(run, shape);
              const std::vector<data::RunLayer> layers = layersOf(shape);
              (void)writer->digest(digestOf(shape, 0), layers);
              (void)writer->setState(data::RunState::Running);
              for (int step = 1; waitFor(stop, std::chrono::microseconds(1'000'000 / stepsPerSecond)); ++step) {
                  (void)writer->event("step", step, stepOf(step));
                  if (step % shape.digestEvery == 0) {
                      (void)writer->digest(digestOf(shape, step), layers);
                  }
                  writer->setProgress(step, 100);
              }
          })
    {
    }

private:
    WorkerThread m_thread;
};

/// A real worker on a few recorded demonstrations; killed with this object.
class TrainingWorker {
public:
    explicit TrainingWorker(const QTemporaryDir& folder)
    {
        QProcess record;
        record.start(bridge::commandProgram(),
                     { QStringLiteral("sim"), QStringLiteral("record"), QStringLiteral("--task"),
                       QStringLiteral("press_button"), QStringLiteral("--episodes"), QStringLiteral("8"),
                       QStringLiteral("--out"), folder.filePath(QStringLiteral("demos")) });
        const auto nano = resourcePath("nano");
        if (!record.waitForFinished(120'000) || record.exitCode() != 0 || !nano) {
            fmt::print(stderr, "no demonstrations or no policy: {}\n", record.readAllStandardError().toStdString());
            std::exit(1);
        }
        const auto run = bridge::startTraining(
            folder.path(), QStringLiteral("live"),
            { { "policy", { { "path", nano->string() } } },
              { "dataset",
                { { "path", folder.filePath(QStringLiteral("demos")).toStdString() }, { "std_floor", 0.002 } } },
              { "method", { { "type", "lora_sp" }, { "bank", 64 }, { "blocks", 4 }, { "eta", 0.9 } } },
              { "optimizer", { { "preset", "nano" } } },
              { "batch_size", 32 },
              { "noise_draws", 4 },
              { "steps", 100'000 },
              { "checkpoint_every", 100'000 },
              { "digest_every", 10 } });
        if (!run) {
            fmt::print(stderr, "{}\n", run.error().describe());
            std::exit(1);
        }
        m_run = *run;
    }
    ~TrainingWorker()
    {
        if (const auto status = data::readRunStatus({ bridge::toPath(m_run) }); status && status->active()) {
            ::kill(static_cast<pid_t>(status->pid), SIGKILL);
        }
    }
    TrainingWorker(const TrainingWorker&) = delete;
    TrainingWorker& operator=(const TrainingWorker&) = delete;
    [[nodiscard]] const QString& run() const { return m_run; }

private:
    QString m_run;
};

int frames(const QStringList& arguments)
{
    const int seconds = argument(arguments, 2, 15);
    const bool alone = arguments.value(3) == QLatin1String("alone");
    const QTemporaryDir folder;
    std::unique_ptr<Feeder> feeder;
    std::unique_ptr<TrainingWorker> worker;
    QString run = folder.filePath(QStringLiteral("live"));
    if (alone) {
        feeder = std::make_unique<Feeder>(
            run, Shape { .steps = 1'000'000, .layers = 100, .digestEvery = 10, .experts = 4 }, 10);
        processFor(500);
    } else {
        worker = std::make_unique<TrainingWorker>(folder);
        run = worker->run();
    }
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, run, {} });
    window.showView(QStringLiteral("train"));
    const bridge::RunTail* const tail = window.workspace().run(run);
    processFor(60'000, [&] { return tail->record().steps.size() >= 10; });
    const std::size_t stepsBefore = tail->record().steps.size();
    window.showView(QStringLiteral("robot"));
    robot_view::RobotView* robot = window.robotView(true);
    robot->connectPracticeArm();
    processFor(20'000, [&] { return robot->arm() != nullptr && robot->arm()->latest() != nullptr; });
    robot->runExpert();
    processFor(1000);
    auto* const app = qobject_cast<common::WatchedApplication*>(qApp);
    app->resetReport();
    const common::VtkView* const canvas = robot->scene().canvas();
    const std::uint64_t before = canvas->paintCount();
    const std::uint64_t images = robot->arm()->latest()->imageSequence;
    const std::clock_t cpu = std::clock();
    std::vector<double> gaps;
    std::uint64_t seen = before;
    QElapsedTimer watch;
    QElapsedTimer gap;
    watch.start();
    gap.start();
    processFor(seconds * 1000, [&] {
        if (canvas->paintCount() != seen) {
            seen = canvas->paintCount();
            gaps.push_back(static_cast<double>(gap.nsecsElapsed()) / 1e6);
            gap.restart();
        }
        if (robot->arm()->latest()->succeeded) {
            robot->newScene();
            robot->runExpert();
        }
        return false;
    });
    const double elapsed = static_cast<double>(watch.elapsed()) / 1000;
    std::ranges::sort(gaps);
    fmt::print("arm in 3D: {:.1f} frames/s over {:.0f} s; time between frames median {:.0f} ms, 99 % {:.0f} ms, "
               "longest {:.0f} ms; own painting {:.1f} ms; {:.1f} ms of processor time a frame, everything included\n",
               static_cast<double>(canvas->paintCount() - before) / elapsed, elapsed,
               gaps.empty() ? 0 : gaps[gaps.size() / 2], gaps.empty() ? 0 : gaps[gaps.size() * 99 / 100],
               gaps.empty() ? 0 : gaps.back(), canvas->paintSeconds() * 1000,
               1000.0 * static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC
                   / static_cast<double>(std::max<std::uint64_t>(1, canvas->paintCount() - before)));
    fmt::print("two cameras: {:.1f} pictures/s each; simulation loop {:.1f} Hz\n",
               static_cast<double>(robot->arm()->latest()->imageSequence - images) / elapsed,
               robot->arm()->latest()->loopHz);
    fmt::print("{}: {} steps meanwhile; longest event {:.0f} ms of wall, {:.0f} ms of work ({})\n",
               alone ? "run written beside" : "worker beside", tail->record().steps.size() - stepsBefore,
               app->report().worstSeconds * 1000, app->report().worstWorkSeconds * 1000,
               app->report().worstWork.toStdString());
    return 0;
}

int memory(const QStringList& arguments)
{
    const int seconds = argument(arguments, 2, 60);
    const QTemporaryDir folder;
    const QString run = folder.filePath(QStringLiteral("live"));
    // An hour of 1 step a second in a minute: 60 steps/s, a digest every 20 of them.
    const Feeder feeder(run, { .steps = 1'000'000, .layers = 100, .digestEvery = 20, .experts = 4 }, 60);
    processFor(500);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, run, {} });
    window.showView(QStringLiteral("train"));
    window.showView(QStringLiteral("robot"));
    window.robotView(true)->connectPracticeArm();
    const QStringList views { QStringLiteral("train"), QStringLiteral("robot") };
    QElapsedTimer watch;
    watch.start();
    int turn = 0;
    int quarter = 0;
    while (watch.elapsed() < seconds * 1000) {
        window.showView(views[turn % 2]);
        window.trainView()->pages().setCurrentIndex(turn / 2 % 3);
        ++turn;
        processFor(500);
        if (watch.elapsed() * 4 >= static_cast<qint64>(quarter + 1) * seconds * 1000) {
            ++quarter;
            fmt::print("after {} of 4 quarters: {:.1f} MB resident, {} steps, {} digests\n", quarter,
                       residentMegabytes(), window.workspace().run(run)->record().steps.size(),
                       window.workspace().run(run)->record().digests.size());
        }
    }
    return 0;
}

int startUp(const QStringList& arguments)
{
    const int times = argument(arguments, 2, 7);
    std::vector<int> measured;
    for (int i = 0; i < times; ++i) {
        const QTemporaryDir folder;
        QProcess window;
        window.start(QCoreApplication::applicationDirPath() + QStringLiteral("/rankwise-workbench"),
                     { QStringLiteral("--timing"), QStringLiteral("--settings"),
                       folder.filePath(QStringLiteral("workbench.ini")) });
        if (!window.waitForFinished(30'000)) {
            fmt::print(stderr, "the workbench did not start\n");
            return 1;
        }
        const QString words = QString::fromUtf8(window.readAllStandardOutput());
        measured.push_back(words.section(QLatin1Char(' '), 3, 3).toInt());
    }
    std::ranges::sort(measured);
    fmt::print("start to first painted window: best {} ms, median {} ms, worst {} ms of {} starts\n", measured.front(),
               measured[measured.size() / 2], measured.back(), times);
    return 0;
}

} // namespace

int main(int argc, char** argv)
{
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "open" && qEnvironmentVariableIsEmpty("DISPLAY")) {
        qputenv("QT_QPA_PLATFORM", "offscreen");
    }
    common::setDefaultGlFormat();
    common::WatchedApplication app(argc, argv);
    QCoreApplication::setApplicationName(QStringLiteral("rankwise-workbench"));
    const QStringList arguments = QCoreApplication::arguments();
    if (mode == "open") {
        return openRun(arguments);
    }
    if (mode == "telemetry") {
        return telemetry(arguments);
    }
    if (mode == "frames") {
        return frames(arguments);
    }
    if (mode == "memory") {
        return memory(arguments);
    }
    if (mode == "start") {
        return startUp(arguments);
    }
    fmt::print(stderr, "usage: bench_gui open|telemetry|frames|memory|start\n");
    return 2;
}
