// The window with the real programs behind it: it composes a LoRA-SP run of the nano policy on recorded demonstrations,
// starts it, steers it, loses and finds it again; and lets policies drive the practice arm.
// Needs a display and the built programs.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "backend/base/resources.h"
#include "backend/sim/rollout_stream.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/rollout_arm.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/robot/joint_bars.h"
#include "widgets/robot/robot_view.h"
#include "widgets/robot/rollout_panel.h"
#include "widgets/robot/scene_view.h"
#include "widgets/train/compose_panel.h"
#include "widgets/train/rank_panel.h"
#include "widgets/train/score_panel.h"
#include "widgets/train/train_view.h"

#include <QComboBox>
#include <QDir>
#include <QDoubleSpinBox>
#include <QFrame>
#include <QLineEdit>
#include <QProcess>
#include <QPushButton>
#include <QSignalSpy>
#include <QSlider>
#include <QTabWidget>
#include <QTreeWidget>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <numeric>
#include <optional>

using namespace rankwise;
using bridge::RunTail;

namespace {

constexpr int kPatience = 60'000; // training, simulation and inference answer later than a scripted worker

double meanRank(const data::DigestColumns& digest)
{
    return std::accumulate(digest.rank.begin(), digest.rank.end(), 0.0) / static_cast<double>(digest.rank.size());
}

} // namespace

class TestWorkbench : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase();
    void cleanupTestCase();
    void composedRunTrainsAndIsSteered();
    void windowComesBackToTheRun();
    void killedWorkerIsToldAndResumes();
    void policyRollsOut();
    void trainedRunRollsOutWithItsRanks();
    void shownEpisodeIsTheOneThatEvalCounts();
    void rolloutFaultsAreTold();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }

private:
    [[nodiscard]] gui::Options options() const;
    [[nodiscard]] QString runPath() const { return m_folder.filePath(QStringLiteral("runs/steered")); }

    QTemporaryDir m_folder;
    QString m_nano;
};

gui::Options TestWorkbench::options() const
{
    gui::Options options = tests::optionsIn(m_folder);
    options.session = QStringLiteral("steered");
    return options;
}

void TestWorkbench::initTestCase()
{
    QVERIFY(m_folder.isValid());
    tests::prepareEngine(QStringLiteral(RANKWISE_BIN_DIR "/rankwise"), m_folder.filePath(QStringLiteral("demos")), 3,
                         m_nano);
}

void TestWorkbench::cleanupTestCase()
{
    tests::killWorkers(m_folder.filePath(QStringLiteral("runs")));
}

void TestWorkbench::composedRunTrainsAndIsSteered()
{
    gui::MainWindow window(options());
    window.settings().setRunsFolder(m_folder.filePath(QStringLiteral("runs")));
    window.show();
    window.showView(QStringLiteral("train"));
    train_view::TrainView* train = window.trainView();
    train_view::ComposePanel& compose = train->compose();
    train->pages().setCurrentWidget(&compose);
    bridge::ConfigForm& form = compose.form();
    const std::initializer_list<std::pair<const char*, QString>> values {
        { "policy.path", m_nano },
        { "dataset.path", m_folder.filePath(QStringLiteral("demos")) },
        { "method.type", QStringLiteral("lora_sp") },
        { "method.*", QStringLiteral(R"({"bank":16,"blocks":4})") },
        { "method.eta", QStringLiteral("0.95") },
        { "steps", QStringLiteral("100000") },
        { "batch_size", QStringLiteral("4") },
        { "digest_every", QStringLiteral("1") },
        { "snapshot_every", QStringLiteral("100000") },
        { "checkpoint_every", QStringLiteral("100000") },
        { "dataset.std_floor", QStringLiteral("0.002") },
        { "optimizer.preset", QStringLiteral("nano") },
    };
    for (const auto& [name, value] : values) {
        if (form.find(QLatin1String(name)) != nullptr) {
            form.setValue(QLatin1String(name), value);
        }
    }
    const auto config = form.config();
    QVERIFY2(config.has_value(), config ? "" : config.error().describe().c_str());
    compose.nameEdit()->setText(QStringLiteral("steered"));
    QVERIFY(compose.commandLine().contains(QStringLiteral("rankwise train")));
    QVERIFY(window.commands().trigger(QStringLiteral("train.start")));
    RunTail* run = window.workspace().currentRun();
    QVERIFY(run != nullptr);
    QCOMPARE(run->path(), runPath());
    QTRY_VERIFY2_WITH_TIMEOUT(run->active() && run->record().steps.size() > 0, qPrintable(run->problem()), kPatience);

    // Step 0 is there first, and the rank map fills.
    train->pages().setCurrentIndex(1);
    common::HeatMap& map = train->ranks().map();
    QTRY_VERIFY_WITH_TIMEOUT(map.columnCount() > 5, kPatience);
    QCOMPARE(run->record().firstDigest()->step, std::int64_t(0));
    QVERIFY(map.rowCount() > 10);
    QTRY_VERIFY_WITH_TIMEOUT(train->eta().isVisible(), kPatience);
    QCOMPARE(train->eta().value(), 0.95);
    const double before = meanRank(*run->record().digests.back());
    QVERIFY(before > 1);

    // η down: the ranks of the next steps follow.
    train->eta().setValue(0.4);
    train->applyEta();
    QTRY_COMPARE_WITH_TIMEOUT(run->record().parameter("eta"), std::optional(0.4), kPatience);
    QTRY_VERIFY2_WITH_TIMEOUT(meanRank(*run->record().digests.back()) < 0.7 * before,
                              qPrintable(QString::number(meanRank(*run->record().digests.back()))), kPatience);

    // Routing by layer and by kind of token.
    train->pages().setCurrentIndex(2);
    QVERIFY(window.commands().trigger(QStringLiteral("run.snapshot")));
    QTRY_VERIFY_WITH_TIMEOUT(!train->scores().routing().isEmpty(), kPatience);
    const std::vector<bridge::KindRow> kinds = bridge::kindRows(*run->record().digests.back());
    std::vector<double> tokensOf(bridge::kTokenKinds);
    for (const bridge::KindRow& row : kinds) {
        tokensOf[static_cast<std::size_t>(row.kind)] += row.tokens;
        QVERIFY(std::abs(std::accumulate(row.shares.begin(), row.shares.end(), 0.0F) - 1) < 1e-2F);
    }
    for (const int kind : { 0, 1, 2, 3 }) { // image, language, state, action
        QVERIFY2(tokensOf[static_cast<std::size_t>(kind)] > 0, qPrintable(bridge::tokenKindName(kind)));
        train->scores().tokenChoice()->setCurrentIndex(kind + 1);
        QVERIFY(!train->scores().routing().isEmpty());
    }
    train->scores().tokenChoice()->setCurrentIndex(0);

    // One layer, selected in the map, is selected in the boxes, the scores and the inspector.
    map.selectRow(2);
    Q_EMIT map.rowPicked(2);
    const QString layer = window.workspace().selection().layer;
    QCOMPARE(layer, bridge::toQString(run->record().layers()[2].path));
    QTRY_VERIFY_WITH_TIMEOUT(!train->scores().scores().isEmpty(), kPatience);
    bool inspected = false;
    for (QTreeWidget* tree : window.findChildren<QTreeWidget*>()) {
        QTest::qWait(100);
        inspected = inspected || !tree->findItems(layer, Qt::MatchExactly | Qt::MatchRecursive, 1).isEmpty();
    }
    QVERIFY(inspected);

    // Pause holds the worker, scrubbing goes back, resuming goes on.
    QVERIFY(window.commands().trigger(QStringLiteral("run.pause")));
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("paused"), kPatience);
    const std::size_t steps = run->record().steps.size();
    QTest::qWait(700);
    QVERIFY(run->record().steps.size() <= steps + 1);
    auto* slider = train->ranks().findChild<QSlider*>();
    slider->setValue(0);
    QCOMPARE(window.workspace().selection().step, qint64(0));
    QVERIFY(window.commands().trigger(QStringLiteral("run.pause")));
    QTRY_VERIFY_WITH_TIMEOUT(run->record().steps.size() > steps + 2, kPatience);
    for (auto* frame : train->findChildren<common::CanvasFrame*>()) {
        const QString file = m_folder.filePath(frame->title().remove(QLatin1Char('/')) + QStringLiteral(".svg"));
        const auto written = frame->exportTo(file);
        QVERIFY2(written.has_value(), written ? "" : written.error().describe().c_str());
    }
    window.saveSession();
}

void TestWorkbench::windowComesBackToTheRun()
{
    // The window is gone; the worker trained on meanwhile. A new one of the session is back at the run.
    const auto there = data::readRunStatus({ bridge::toPath(runPath()) });
    QVERIFY(there.has_value());
    QVERIFY2(there->active(), there->reason.c_str());
    gui::MainWindow window(options());
    window.show();
    RunTail* run = window.workspace().currentRun();
    QVERIFY(run != nullptr);
    QCOMPARE(run->path(), runPath());
    QTRY_VERIFY_WITH_TIMEOUT(run->caughtUp() && run->active(), kPatience);
    const std::size_t steps = run->record().steps.size();
    QVERIFY(steps >= static_cast<std::size_t>(there->step));
    QTRY_VERIFY_WITH_TIMEOUT(run->record().steps.size() > steps, kPatience);
    QCOMPARE(run->record().parameter("eta"), std::optional(0.4));
    // A checkpoint to go on from, and for the rollout below.
    QVERIFY(window.commands().trigger(QStringLiteral("run.checkpoint")));
    QTRY_VERIFY_WITH_TIMEOUT(!run->record().checkpoints.empty(), kPatience);
}

void TestWorkbench::killedWorkerIsToldAndResumes()
{
    gui::MainWindow window(options());
    window.show();
    window.showView(QStringLiteral("train"));
    RunTail* run = window.workspace().currentRun();
    QVERIFY(run != nullptr);
    QTRY_VERIFY_WITH_TIMEOUT(run->caughtUp() && run->active(), kPatience);
    const pid_t worker = static_cast<pid_t>(run->record().status->pid);
    QVERIFY(worker > 0);
    QCOMPARE(::kill(worker, SIGKILL), 0);
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("lost"), kPatience);
    const std::int64_t checkpoint = run->record().checkpoints.back().step;
    QVERIFY(run->record().steps.size() > 0); // what was read is kept
    // The same command goes on from the checkpoint, and the window sees later steps replaced.
    const auto resumed = bridge::startDetached(
        bridge::trainArguments(m_folder.filePath(QStringLiteral("runs")), QStringLiteral("steered"), true),
        m_folder.filePath(QStringLiteral("resumed.log")));
    QVERIFY(resumed.has_value());
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("running"), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(run->record().steps.step.back() > static_cast<double>(checkpoint) + 1, kPatience);
    QVERIFY(window.commands().trigger(QStringLiteral("run.stop")));
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("stopped"), kPatience);
}

void TestWorkbench::policyRollsOut()
{
    gui::MainWindow window(options());
    window.show();
    window.showView(QStringLiteral("robot"));
    robot_view::RobotView* robot = window.robotView(true);
    bridge::RolloutSetup setup { .policy = m_nano, .task = QStringLiteral("press_button"), .episode = 4 };
    setup.paused = true;
    robot->rollOut(setup);
    QVERIFY(robot->rollingOut());
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm() != nullptr && robot->arm()->latest() != nullptr, kPatience);
    bridge::ArmSource* arm = robot->arm();
    QCOMPARE(arm->latest()->seed, std::uint64_t(4));
    QCOMPARE(arm->latest()->step, std::int64_t(0));
    QVERIFY(arm->latest()->mode == bridge::ArmMode::Hold);
    QVERIFY(arm->latest()->images.size() == 2);
    // One action: a chunk is planned, a tenth of a second passes, and it holds again.
    QVERIFY(window.commands().trigger(QStringLiteral("robot.step")));
    QTRY_COMPARE_WITH_TIMEOUT(arm->latest()->step, std::int64_t(1), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(arm->latest()->chunk != nullptr, kPatience);
    const auto chunk = arm->latest()->chunk;
    QCOMPARE(chunk->step, std::int64_t(0));
    QVERIFY(static_cast<std::int64_t>(chunk->actions.size()) >= arm->scene()->actionSteps);
    QCOMPARE(chunk->path.size(), chunk->actions.size());
    QVERIFY(chunk->latency > 0);
    QVERIFY(std::abs(arm->latest()->time - 0.1) < 1e-9);
    // The arm was told the first planned action, and the plan is drawn.
    for (std::size_t j = 0; j < bridge::kArmValues; ++j) {
        QVERIFY(std::abs(arm->latest()->target[j] - chunk->actions[0][j]) < 1e-6);
    }
    QTRY_VERIFY_WITH_TIMEOUT(!robot->rollout().plan().isEmpty(), kPatience);
    QTRY_COMPARE_WITH_TIMEOUT(robot->rollout().plan().curves()[2].series->size(), chunk->actions.size(), kPatience);
    robot->rollout().jointChoice()->setCurrentIndex(1);
    QCOMPARE(robot->rollout().plan().curves()[2].series->size(), chunk->actions.size());
    // Going on, in real time; Space holds.
    QVERIFY(window.commands().trigger(QStringLiteral("robot.resume")));
    QTRY_VERIFY_WITH_TIMEOUT(arm->latest()->step > 8, kPatience);
    QTest::keyClick(&window, Qt::Key_Space);
    QTRY_VERIFY_WITH_TIMEOUT(arm->latest()->mode == bridge::ArmMode::Hold, kPatience);
    const auto held = arm->latest()->step;
    QTest::qWait(400);
    QVERIFY(arm->latest()->step <= held + 1);
    QVERIFY(robot->stripText().contains(QStringLiteral("action")));
    QVERIFY(robot->rollout().trail().size() > 10);
    // The next episode begins anew; the same one again is the same to the last bit.
    QVERIFY(window.commands().trigger(QStringLiteral("robot.scene")));
    QTRY_COMPARE_WITH_TIMEOUT(arm->latest()->step, std::int64_t(0), kPatience);
    arm->resetScene(4);
    QTRY_COMPARE_WITH_TIMEOUT(arm->latest()->seed, std::uint64_t(4), kPatience);
    arm->stepOnce();
    QTRY_VERIFY_WITH_TIMEOUT(arm->latest()->step == 1 && arm->latest()->chunk != nullptr, kPatience);
    QCOMPARE(arm->latest()->chunk->actions, chunk->actions);
    QVERIFY(window.commands().commandLine(QStringLiteral("robot.rollout")).contains(QStringLiteral("rankwise eval")));
}

void TestWorkbench::trainedRunRollsOutWithItsRanks()
{
    gui::MainWindow window(options());
    window.show();
    window.showView(QStringLiteral("robot"));
    robot_view::RobotView* robot = window.robotView(true);
    RunTail* run = window.workspace().run(runPath());
    QVERIFY(run != nullptr);
    QTRY_VERIFY_WITH_TIMEOUT(run->caughtUp(), kPatience);
    const int index = robot->policyChoice()->findData(runPath());
    QVERIFY(index >= 0);
    robot->policyChoice()->setCurrentIndex(index);
    robot->taskChoice()->setCurrentIndex(robot->taskChoice()->findData(QStringLiteral("press_button")));
    QVERIFY(window.commands().trigger(QStringLiteral("robot.rollout")));
    QTRY_VERIFY2_WITH_TIMEOUT(robot->arm() != nullptr && robot->arm()->latest() != nullptr
                                  && robot->arm()->latest()->chunk != nullptr,
                              qPrintable(window.lastMessage()), kPatience);
    const auto scene = robot->arm()->scene();
    const auto chunk = robot->arm()->latest()->chunk;
    QCOMPARE(scene->layers.size(), run->record().layers().size());
    QCOMPARE(chunk->rank.size(), scene->layers.size());
    QVERIFY(*std::max_element(chunk->rank.begin(), chunk->rank.end()) > 0);
    QVERIFY(!chunk->shares.empty() && !chunk->kinds.empty());
    QTRY_VERIFY_WITH_TIMEOUT(robot->rollout().ranks().columnCount() >= 2, kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(!robot->rollout().routing().isEmpty(), kPatience);
    // A layer picked here is the selected one everywhere.
    Q_EMIT robot->rollout().ranks().rowPicked(1);
    QCOMPARE(window.workspace().selection().layer, bridge::toQString(scene->layers[1].path));
    QVERIFY(window.commands().trigger(QStringLiteral("robot.disconnect")));
    QVERIFY(!robot->rollingOut());
}

void TestWorkbench::shownEpisodeIsTheOneThatEvalCounts()
{
    bridge::RolloutSetup setup { .policy = m_nano, .task = QStringLiteral("press_button"), .seed = 5, .episode = 1 };
    setup.imageSize = 0;
    setup.speed = 0; // as fast as it goes
    bridge::RolloutArm arm(setup);
    QTRY_VERIFY_WITH_TIMEOUT(arm.latest() != nullptr && arm.latest()->ended, 2 * kPatience);
    QProcess eval;
    const QStringList words = bridge::RolloutArm::evalCommand(setup, 2).split(QLatin1Char(' '));
    eval.start(bridge::commandProgram(), QStringList { QStringLiteral("--json") } + words.mid(1));
    QVERIFY(eval.waitForFinished(4 * kPatience));
    const Json results = Json::parse(eval.readAllStandardOutput().toStdString(), nullptr, false);
    QVERIFY2(results.is_object(), eval.readAllStandardError().constData());
    const Json& episode = results["policies"][0]["episodes"][1];
    QCOMPARE(episode["index"].get<int>(), 1);
    QCOMPARE(arm.latest()->step, episode["steps"].get<std::int64_t>());
    QCOMPARE(arm.latest()->succeeded, episode["success"].get<bool>());
    QCOMPARE(bridge::toQString(episode["instruction"].get<std::string>()), arm.latest()->instruction);
}

void TestWorkbench::rolloutFaultsAreTold()
{
    gui::MainWindow window(options());
    window.show();
    window.showView(QStringLiteral("robot"));
    robot_view::RobotView* robot = window.robotView(true);
    // No policy there.
    robot->rollOut({ .policy = m_folder.filePath(QStringLiteral("nowhere")), .task = QStringLiteral("press_button") });
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().contains(QStringLiteral("cannot start")), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(!robot->connected(), kPatience);
    // The process dies: the view says so and lets go.
    robot->rollOut({ .policy = m_nano, .task = QStringLiteral("press_button") });
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm() != nullptr && robot->arm()->latest() != nullptr, kPatience);
    const auto* arm = qobject_cast<bridge::RolloutArm*>(robot->arm());
    QVERIFY(arm != nullptr);
    QCOMPARE(::kill(static_cast<pid_t>(arm->processId()), SIGKILL), 0);
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().contains(QStringLiteral("stopped by itself")), kPatience);
    QVERIFY(!robot->connected());
    // The card tells it, the last picture stays, and one button goes on.
    auto* card = robot->findChild<QFrame*>(QStringLiteral("robot.stopped"));
    QVERIFY(card != nullptr && card->isVisible());
    QVERIFY(robot->scene().isVisible());
    QTest::mouseClick(card->findChild<QPushButton*>(), Qt::LeftButton);
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm() != nullptr && robot->arm()->latest() != nullptr, kPatience);
    QVERIFY(robot->rollingOut() && !card->isVisible());
    // The process ends when nobody holds the other end of its pipes.
    auto orphan = std::make_unique<bridge::RolloutArm>(
        bridge::RolloutSetup { .policy = m_nano, .task = QStringLiteral("press_button"), .imageSize = 0 });
    QSignalSpy connected(orphan.get(), &bridge::ArmSource::connected);
    QVERIFY(connected.wait(kPatience));
    const auto pid = static_cast<pid_t>(orphan->processId());
    orphan.reset();
    QTRY_VERIFY_WITH_TIMEOUT(data::processStartTicks(pid) == 0, kPatience);
}

int main(int argc, char** argv)
{
    return tests::runTest<TestWorkbench>(argc, argv);
}

#include "tst_workbench.moc"
