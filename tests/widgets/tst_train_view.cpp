// The Train tab as a researcher uses it: the form and its presets, the pre-flight, curves under the pointer and the
// keys, alarms of long runs, and going on with a run that stopped. Where the engine is built, with real runs of the
// nano policy. Needs a display.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "backend/base/resources.h"
#include "backend/train/resume_plan.h"
#include "backend/train/run_directory.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/config_form.h"
#include "widgets/bridge/run_alarms.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/line_chart.h"
#include "widgets/train/compose_panel.h"
#include "widgets/train/preflight_card.h"
#include "widgets/train/resume_dialog.h"
#include "widgets/train/telemetry_panel.h"
#include "widgets/train/train_view.h"

#include <QDir>
#include <QElapsedTimer>
#include <QFrame>
#include <QLabel>
#include <QLineEdit>
#include <QProcess>
#include <QPushButton>
#include <QSignalSpy>
#include <QSlider>
#include <QSpinBox>
#include <QTableWidget>
#include <QTabWidget>
#include <QTemporaryDir>
#include <QTest>
#include <QWheelEvent>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>

using namespace rankwise;
using bridge::RunTail;
using bridge::toPath;
using tests::optionsIn;
using tests::RunShape;
using tests::RunWriter;

namespace {

constexpr int kPatience = 60'000;

/// A chart with two curves of 1000 points, painted once so that it knows its pixels.
class PaintedChart {
public:
    PaintedChart() : chart(QStringLiteral("chart"), QStringLiteral("step"), QStringLiteral("loss"))
    {
        for (int c = 0; c < 2; ++c) {
            auto series = std::make_shared<common::Series>();
            for (int i = 0; i < 1000; ++i) {
                series->append(i, (c + 1) * 10.0 + std::sin(i * 0.05));
            }
            chart.setCurves([&] {
                std::vector<common::LineChart::Curve> curves = chart.curves();
                curves.push_back({ QStringLiteral("curve %1").arg(c), series, static_cast<std::size_t>(c), false });
                return curves;
            }());
        }
        paint();
    }
    QImage paint()
    {
        QImage image(800, 400, QImage::Format_RGB32);
        QPainter painter(&image);
        common::PainterSurface surface(painter);
        surface.fillRect(image.rect(), common::currentTheme().base);
        chart.paint(surface, image.rect(), common::currentTheme());
        return image;
    }

    common::LineChart chart;
};

/// A policy folder and a dataset folder that a plan can hash, and a run that was trained on them.
struct ResumableRun {
    explicit ResumableRun(const QTemporaryDir& folder) : path(folder.filePath(QStringLiteral("run")))
    {
        policy = folder.filePath(QStringLiteral("policy"));
        dataset = folder.filePath(QStringLiteral("dataset"));
        QDir().mkpath(policy);
        QDir().mkpath(dataset + QStringLiteral("/meta"));
        std::ofstream(toPath(dataset) / "meta/info.json") << "{}";
        const Json config { { "policy", { { "path", policy.toStdString() } } },
                            { "dataset", { { "path", dataset.toStdString() } } },
                            { "method", { { "type", "lora_sp" } } },
                            { "schedule",
                              { { "type", "cosine_openpi" }, { "warmup_steps", 0 }, { "decay_steps", 0 } } },
                            { "steps", 100 } };
        RunWriter writer(toPath(path), RunShape { .steps = 100 });
        writer.whole();
        std::ofstream(toPath(path) / "run.json") << Json {
            { "format", "rankwise_run" }, { "version", 1 }, { "config", config }, { "hashes", { { "dataset", "abc" } } }
        }.dump();
        const data::RunPaths paths { toPath(path) };
        for (const int step : { 20, 40 }) {
            QDir().mkpath(bridge::pathText(paths.checkpoint(step)));
            std::ofstream(paths.checkpoint(step) / "trainer.json") << "{}";
            (void)data::writeManifest(paths.checkpoint(step), step);
        }
        writer.status(data::RunState::Stopped, 55, "stopped on request");
    }
    [[nodiscard]] Result<train::ResumePlan> plan(std::int64_t steps = 0) const
    {
        return train::planResume(toPath(path), steps, {}, {});
    }

    QString path, policy, dataset;
};

bool differs(const train::ResumePlan& plan, const std::string& what)
{
    return std::any_of(plan.differences.begin(), plan.differences.end(), [&](const auto& d) { return d.what == what; });
}

} // namespace

class TestTrainView : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase();
    void cleanupTestCase();

    void presetGivesTheFormItsNumbers();
    void presetOfThePolicyIsShown();
    void layersAreNamedAsAListOrAnExpression_data();
    void layersAreNamedAsAListOrAnExpression();
    void loadedConfigurationStaysWhatItWas();
    void problemIsToldAtItsField();

    void wheelAndDragMoveTheView();
    void boxZoomsBothAxes();
    void chartIsUsedByKeyboard();
    void crosshairReadsAllCurves();
    void smoothingCarriesOn();
    void logarithmicAxisLeavesOutZeros();
    void curvesDifferWithoutColors();
    void plotsShareViewAndCrosshair();
    void canvasTellsItsMouseAndKeys();

    void alarmsLookAtEachRowOnce();
    void alarmsOfLongRunAreCheap();
    void badEndIsTold();

    void resumePlanFindsWhereToGoOn();
    void resumePlanTellsWhatDiffers();
    void resumePlanPassesDamagedCheckpoints();
    void resumeIsRefusedBesideAWorker();
    void resumeSaysWhatIsMissing();
    void resumeCommandFollowsTheRun();

#ifdef RANKWISE_HAS_ENGINE
    void preflightCardTellsWhatTrains();
    void refusedRunIsTold();
    void lostRunResumesFromTheWindow();
    void finishedRunIsExtended();
    void secondWorkerIsRefused();
#endif
    void guiThreadStaysResponsive()
    {
        tests::guiThreadStaysResponsive();
    }

private:
    void fillForm(bridge::ConfigForm& form, int steps) const;
    /// The newest resume dialog of a window.
    static train_view::ResumeDialog* dialogOf(gui::MainWindow& window)
    {
        return window.findChild<train_view::ResumeDialog*>();
    }

    QTemporaryDir m_folder;
    QString m_nano;
};

void TestTrainView::initTestCase()
{
    QCoreApplication::setApplicationName(QStringLiteral("rankwise-workbench"));
    QVERIFY(m_folder.isValid());
#ifdef RANKWISE_HAS_ENGINE
    tests::prepareEngine(QStringLiteral(RANKWISE_BIN_DIR "/rankwise"), m_folder.filePath(QStringLiteral("demos")), 2,
                         m_nano);
#endif
}

void TestTrainView::cleanupTestCase()
{
    tests::killWorkers(m_folder.filePath(QStringLiteral("runs")));
}

void TestTrainView::presetGivesTheFormItsNumbers()
{
    bridge::ConfigForm form;
    form.setValue(QStringLiteral("policy.path"), QStringLiteral("/p"));
    form.setValue(QStringLiteral("dataset.path"), QStringLiteral("/d"));
    form.setValue(QStringLiteral("optimizer.preset"), QStringLiteral("nano"));
    // What the worker will take is what the form shows, and it is not written as if somebody had given it.
    QCOMPARE(form.value(QStringLiteral("optimizer.lr")), QStringLiteral("0.001"));
    QCOMPARE(form.value(QStringLiteral("ema.decay")), QStringLiteral("0.998"));
    QVERIFY(!(*form.config())["optimizer"].contains("lr"));
    // A value that the description has as its default, but the preset has not, is one that was given.
    form.setValue(QStringLiteral("optimizer.lr"), QStringLiteral("0.0001"));
    QCOMPARE((*form.config())["optimizer"]["lr"].get<double>(), 1e-4);
    form.setValue(QStringLiteral("optimizer.lr"), QStringLiteral("0.001"));
    form.setValue(QStringLiteral("optimizer.preset"), QStringLiteral("pi0"));
    QCOMPARE(form.value(QStringLiteral("optimizer.lr")), QStringLiteral("2.5e-05"));
}

void TestTrainView::presetOfThePolicyIsShown()
{
    QTemporaryDir folder;
    std::ofstream(toPath(folder.filePath(QStringLiteral("config.json"))))
        << R"({"type": "smolvla", "optimizer_lr": 0.00025, "scheduler_warmup_steps": 77})";
    gui::MainWindow window(optionsIn(folder));
    bridge::ConfigForm& form = window.trainView()->compose().form();
    form.setValue(QStringLiteral("policy.path"), folder.path());
    QTRY_COMPARE_WITH_TIMEOUT(form.value(QStringLiteral("optimizer.lr")), QStringLiteral("0.00025"), kPatience);
    QCOMPARE(form.value(QStringLiteral("schedule.warmup_steps")), QStringLiteral("77"));
}

void TestTrainView::layersAreNamedAsAListOrAnExpression_data()
{
    QTest::addColumn<QString>("given");
    QTest::addColumn<QString>("json");
    QTest::newRow("all") << QStringLiteral("all-linear") << QStringLiteral(R"("all-linear")");
    QTest::newRow("the policy's") << QStringLiteral("default") << QStringLiteral(R"("default")");
    QTest::newRow("one name") << QStringLiteral("q_proj") << QStringLiteral(R"(["q_proj"])");
    QTest::newRow("names") << QStringLiteral("q_proj, v_proj") << QStringLiteral(R"(["q_proj","v_proj"])");
    QTest::newRow("expression") << QStringLiteral(R"(.*layers\.\d{1,2}\.q_proj)")
                                << QStringLiteral(R"(".*layers\\.\\d{1,2}\\.q_proj")");
}

void TestTrainView::layersAreNamedAsAListOrAnExpression()
{
    QFETCH(QString, given);
    QFETCH(QString, json);
    bridge::ConfigForm form;
    form.setValue(QStringLiteral("policy.path"), QStringLiteral("/p"));
    form.setValue(QStringLiteral("dataset.path"), QStringLiteral("/d"));
    form.setValue(QStringLiteral("method.target_modules"), given);
    const auto config = form.config();
    QVERIFY2(config.has_value(), config ? "" : config.error().describe().c_str());
    QCOMPARE(bridge::toQString((*config)["method"]["target_modules"].dump()), json);
    bridge::ConfigForm again;
    again.load(*config);
    QCOMPARE(again.value(QStringLiteral("method.target_modules")), given);
    QVERIFY(*again.config() == *config);
}

void TestTrainView::loadedConfigurationStaysWhatItWas()
{
    // As run.json holds it: resolved, with numbers that equal some preset's. Another policy must not change them.
    const Json config { { "policy", { { "path", "/p" } } },
                        { "dataset", { { "path", "/d" } } },
                        { "method",
                          { { "type", "lora_sp" }, { "weights", { { "spectral", 0.5 } } }, { "mode", "reference" } } },
                        { "optimizer", { { "preset", "policy" }, { "lr", 1e-4 }, { "clip_norm", 10.0 } } } };
    bridge::ConfigForm form;
    form.load(config);
    form.setPolicyConfig(Json { { "type", "pi0" }, { "optimizer_lr", 0.5 } });
    QCOMPARE(form.value(QStringLiteral("optimizer.lr")), QStringLiteral("0.0001"));
    const auto out = form.config();
    QVERIFY2(out.has_value(), out ? "" : out.error().describe().c_str());
    QCOMPARE((*out)["optimizer"]["lr"].get<double>(), 1e-4);
    QCOMPARE((*out)["method"]["weights"]["spectral"].get<double>(), 0.5);
    QCOMPARE((*out)["method"]["mode"].get<std::string>(), std::string("reference"));
}

void TestTrainView::problemIsToldAtItsField()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    train_view::ComposePanel& compose = window.trainView()->compose();
    bridge::ConfigForm& form = compose.form();
    // What is missing is told where it belongs,
    QTRY_VERIFY(!compose.problemAt(QStringLiteral("dataset.path")).isEmpty());
    form.setValue(QStringLiteral("policy.path"), QStringLiteral("/p"));
    form.setValue(QStringLiteral("dataset.path"), QStringLiteral("/d"));
    QTRY_VERIFY(compose.problemAt(QStringLiteral("dataset.path")).isEmpty());
    // what is out of range as well, and what only the backend's reader knows to be wrong.
    form.setValue(QStringLiteral("steps"), QStringLiteral("-3"));
    QTRY_VERIFY(compose.problemAt(QStringLiteral("steps")).contains(QStringLiteral("between")));
    form.setValue(QStringLiteral("steps"), QStringLiteral("3"));
    form.setValue(QStringLiteral("optimizer.betas"), QStringLiteral("[0.9, 2]"));
    QTRY_VERIFY(compose.problemAt(QStringLiteral("optimizer.betas")).contains(QStringLiteral("[0, 1)")));
    QVERIFY(compose.problemAt(QStringLiteral("steps")).isEmpty());
}

void TestTrainView::wheelAndDragMoveTheView()
{
    PaintedChart painted;
    common::LineChart& chart = painted.chart;
    const double before = 250;
    // The value under the pointer stays under it.
    chart.hover({ 300, 200 });
    const double under = *chart.crosshair();
    chart.wheel({ 300, 200 }, 3);
    painted.paint();
    chart.hover({ 301, 200 });
    chart.hover({ 300, 200 });
    QVERIFY(std::abs(*chart.crosshair() - under) < 1);
    QVERIFY(chart.view()->second - chart.view()->first < 999 - before);
    const auto zoomed = *chart.view();
    chart.press({ 300, 200 });
    chart.drag({ 350, 200 });
    chart.release({ 350, 200 });
    QVERIFY(chart.view()->first < zoomed.first);
    QVERIFY(!chart.yView());
    chart.wheelUpright({ 300, 200 }, 2);
    QVERIFY(chart.yView().has_value());
    chart.doubleClick({ 10, 10 });
    QVERIFY(!chart.view() && !chart.yView());
}

void TestTrainView::boxZoomsBothAxes()
{
    PaintedChart painted;
    common::ChartView view(painted.chart);
    view.resize(800, 400);
    view.show();
    QVERIFY(QTest::qWaitForWindowExposed(&view));
    QTest::qWait(100);
    QWidget* canvas = nullptr;
    for (QWidget* child : view.findChildren<QWidget*>()) {
        canvas = child->accessibleName() == painted.chart.title() && child->focusPolicy() == Qt::StrongFocus ? child
                                                                                                             : canvas;
    }
    QVERIFY(canvas != nullptr);
    QSignalSpy clicked(&painted.chart, &common::LineChart::clicked);
    QTest::mousePress(canvas, Qt::LeftButton, Qt::ShiftModifier, { 200, 100 });
    QMouseEvent move(QEvent::MouseMove, QPointF(400, 200), canvas->mapToGlobal(QPointF(400, 200)), Qt::NoButton,
                     Qt::LeftButton, Qt::ShiftModifier);
    QApplication::sendEvent(canvas, &move);
    QTest::mouseRelease(canvas, Qt::LeftButton, Qt::ShiftModifier, { 400, 200 });
    QVERIFY(painted.chart.view().has_value());
    QVERIFY(painted.chart.yView().has_value());
    QVERIFY(painted.chart.view()->first > 0 && painted.chart.view()->second < 999);
    QVERIFY(clicked.isEmpty());
    // A drag without Shift moves both now.
    const auto y = *painted.chart.yView();
    QTest::mousePress(canvas, Qt::LeftButton, {}, { 300, 100 });
    QMouseEvent pan(QEvent::MouseMove, QPointF(300, 140), canvas->mapToGlobal(QPointF(300, 140)), Qt::NoButton,
                    Qt::LeftButton, Qt::NoModifier);
    QApplication::sendEvent(canvas, &pan);
    QTest::mouseRelease(canvas, Qt::LeftButton, {}, { 300, 140 });
    QVERIFY(painted.chart.yView()->first > y.first);
    QVERIFY(std::abs((painted.chart.yView()->second - painted.chart.yView()->first) - (y.second - y.first)) < 1e-9);
    QTest::mouseDClick(canvas, Qt::LeftButton, {}, { 300, 140 });
    QVERIFY(!painted.chart.view() && !painted.chart.yView());
}

void TestTrainView::chartIsUsedByKeyboard()
{
    PaintedChart painted;
    common::LineChart& chart = painted.chart;
    QVERIFY(chart.key(Qt::Key_Plus));
    const auto zoomed = *chart.view();
    QVERIFY(chart.key(Qt::Key_Right));
    QVERIFY(chart.view()->first > zoomed.first);
    QVERIFY(chart.key(Qt::Key_PageUp));
    const auto y = *chart.yView();
    QVERIFY(chart.key(Qt::Key_Up));
    QVERIFY(chart.yView()->first > y.first);
    QVERIFY(chart.key(Qt::Key_0));
    QVERIFY(!chart.view() && !chart.yView());
    QVERIFY(chart.key(Qt::Key_Period));
    const double at = *chart.crosshair();
    QVERIFY(chart.key(Qt::Key_Period));
    QVERIFY(*chart.crosshair() > at);
    QVERIFY(chart.key(Qt::Key_Comma));
    QCOMPARE(*chart.crosshair(), at);
    QSignalSpy clicked(&chart, &common::LineChart::clicked);
    QVERIFY(chart.key(Qt::Key_Return));
    QCOMPARE(clicked.takeFirst().at(0).toDouble(), at);
    QVERIFY(chart.key(Qt::Key_L));
    QVERIFY(chart.logarithmic());
}

void TestTrainView::crosshairReadsAllCurves()
{
    PaintedChart painted;
    painted.chart.setCrosshair(500.2);
    const QStringList reading = painted.chart.reading();
    QCOMPARE(reading.size(), 3);
    QVERIFY(reading[0].contains(QStringLiteral("500")));
    QVERIFY(reading[1].startsWith(QStringLiteral("curve 0")));
    QVERIFY(reading[1].contains(bridge::numberText(10 + std::sin(25.0))));
    QVERIFY(reading[2].contains(bridge::numberText(20 + std::sin(25.0))));
}

void TestTrainView::smoothingCarriesOn()
{
    PaintedChart painted;
    common::LineChart& chart = painted.chart;
    const QImage raw = painted.paint();
    chart.setSmoothing(0.95);
    QVERIFY(painted.paint() != raw);
    // Points that come later continue the average; all equals the definition.
    for (int i = 1000; i < 1500; ++i) {
        for (const auto& curve : chart.curves()) {
            curve.series->append(i, i % 97 == 0 ? std::nan("") : i * 0.01);
        }
        if (i % 7 == 0) {
            chart.seriesGrew();
        }
    }
    chart.seriesGrew();
    const common::Series& series = *chart.curves()[1].series;
    const common::Series* average = chart.smoothed(1);
    QVERIFY(average != nullptr);
    QCOMPARE(average->size(), series.size());
    double sum = 0;
    double weight = 0;
    for (std::size_t i = 0; i < series.size(); ++i) {
        if (!std::isfinite(series.y(i))) {
            QVERIFY(!std::isfinite(average->y(i)));
            continue;
        }
        sum = 0.95 * sum + 0.05 * series.y(i);
        weight = 0.95 * weight + 0.05;
        QVERIFY(std::abs(average->y(i) - sum / weight) < 1e-12);
    }
    QCOMPARE(average->y(0), series.y(0)); // no pull towards 0 at the start
    QCOMPARE(chart.table()->columnCount(), 5);
    chart.setSmoothing(0);
    QVERIFY(chart.smoothed(1) == nullptr);
    QCOMPARE(chart.table()->columnCount(), 3);
}

void TestTrainView::logarithmicAxisLeavesOutZeros()
{
    // A learning rate that begins at 0 must not make the logarithmic axis fall back to the linear one.
    common::LineChart chart(QStringLiteral("rate"), QStringLiteral("step"), QStringLiteral("rate"));
    auto series = std::make_shared<common::Series>();
    for (int i = 0; i < 400; ++i) {
        series->append(i, i == 0 ? 0 : std::pow(10.0, -6 + i * 0.01));
    }
    chart.setCurves({ { QStringLiteral("rate"), series, 0, false } });
    const auto picture = [&] {
        QImage image(600, 300, QImage::Format_RGB32);
        QPainter painter(&image);
        common::PainterSurface surface(painter);
        surface.fillRect(image.rect(), common::currentTheme().base);
        chart.paint(surface, image.rect(), common::currentTheme());
        return image;
    };
    const QImage linear = picture();
    chart.setLogarithmic(true);
    QVERIFY(picture() != linear);
}

void TestTrainView::curvesDifferWithoutColors()
{
    // Two curves of one shape and place, painted by a theme that has one colour: their pictures differ by their marks.
    common::Theme grey = common::darkTheme();
    grey.series.fill(Qt::white);
    const auto picture = [&](std::size_t first, std::size_t second) {
        common::LineChart chart(QStringLiteral("c"), QStringLiteral("x"), QStringLiteral("y"));
        std::vector<common::LineChart::Curve> curves;
        for (const std::size_t color : { first, second }) {
            auto series = std::make_shared<common::Series>();
            for (int i = 0; i < 50; ++i) {
                series->append(i, static_cast<double>(curves.size()));
            }
            curves.push_back({ QStringLiteral("n"), series, color, false });
        }
        chart.setCurves(curves);
        QImage image(600, 300, QImage::Format_RGB32);
        QPainter painter(&image);
        common::PainterSurface surface(painter);
        surface.fillRect(image.rect(), grey.base);
        chart.paint(surface, image.rect(), grey);
        return image;
    };
    QVERIFY(picture(0, 1) != picture(1, 0));
    QVERIFY(picture(2, 3) != picture(3, 2));
    QVERIFY(picture(0, 1) == picture(0, 1));
}

void TestTrainView::plotsShareViewAndCrosshair()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("run"));
    RunWriter(toPath(path), RunShape()).whole();
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, path, {} });
    window.showView(QStringLiteral("train"));
    train_view::TelemetryPanel& telemetry = window.trainView()->telemetry();
    QTRY_VERIFY_WITH_TIMEOUT(!telemetry.chart(0).isEmpty(), kPatience);
    telemetry.chart(0).setView(std::pair { 10.0, 40.0 });
    QCOMPARE(telemetry.chart(3).view(), std::optional(std::pair(10.0, 40.0)));
    telemetry.chart(2).setCrosshair(20);
    QCOMPARE(telemetry.chart(1).crosshair(), std::optional(20.0));
    telemetry.smoothing()->setValue(900);
    QCOMPARE(telemetry.chart(0).smoothing(), 0.9);
    QCOMPARE(telemetry.chart(1).smoothing(), 0.0); // a learning rate is what it is
}

void TestTrainView::canvasTellsItsMouseAndKeys()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.showView(QStringLiteral("train"));
    int lineCharts = 0;
    for (auto* view : window.trainView()->findChildren<common::ChartView*>()) {
        if (qobject_cast<common::LineChart*>(&view->chart()) != nullptr) {
            ++lineCharts;
            QVERIFY(view->usage().join(QLatin1Char(' ')).contains(QStringLiteral("Wheel")));
        }
    }
    QCOMPARE(lineCharts, 5);
}

void TestTrainView::alarmsLookAtEachRowOnce()
{
    bridge::RunRecord record;
    bridge::AlarmWatch watch;
    const auto add = [&](int step, double loss) {
        record.steps.add({ .step = step, .loss = loss, .gradNorm = 1, .loadSeconds = 0.01, .computeSeconds = 0.1 });
    };
    for (int i = 0; i < 50; ++i) {
        add(i, 1);
    }
    QVERIFY(watch.look(record).empty());
    QCOMPARE(watch.rowsSeen(), std::size_t(50));
    // A row that was seen is not looked at again: one that becomes bad behind the watch's back stays unseen.
    record.steps.loss[10] = std::nan("");
    add(50, 1);
    QVERIFY(watch.look(record).empty());
    add(51, std::nan(""));
    const auto alarms = watch.look(record);
    QCOMPARE(alarms.size(), std::size_t(1));
    QCOMPARE(alarms[0].step, std::int64_t(51));
    // After a resume everything is looked at anew, and the alarm goes with its row.
    record.steps.loss[10] = 1;
    record.steps.cutAbove(50);
    ++record.epoch;
    QVERIFY(watch.look(record).empty());
}

void TestTrainView::alarmsOfLongRunAreCheap()
{
    bridge::RunRecord record;
    record.run = std::make_shared<const Json>(Json { { "method", { { "type", "lora_sp" } } } });
    constexpr int kSteps = 100'000;
    constexpr std::size_t kLayers = 300;
    for (int i = 0; i < kSteps; ++i) {
        record.steps.add({ .step = i, .loss = 1, .gradNorm = 1, .loadSeconds = 0.01, .computeSeconds = 0.1 });
    }
    bridge::AlarmWatch watch;
    (void)watch.look(record);
    double worst = 0;
    for (int i = 0; i < 200; ++i) {
        record.steps.add({ .step = kSteps + i, .loss = 1, .gradNorm = 1, .loadSeconds = 0.01, .computeSeconds = 0.1 });
        auto digest = std::make_shared<data::DigestColumns>();
        digest->step = i;
        digest->rank.assign(kLayers, 4.0F + 0.01F * static_cast<float>(i));
        for (std::size_t layer = 0; layer < kLayers; ++layer) {
            digest->shares.values.insert(digest->shares.values.end(), { 0.25F, 0.25F, 0.25F, 0.25F });
            digest->shares.endRow();
        }
        record.digests.push_back(digest);
        QElapsedTimer time;
        time.start();
        QVERIFY(watch.look(record).empty());
        worst = std::max(worst, static_cast<double>(time.nsecsElapsed()) * 1e-6);
    }
    qInfo("a look at a run of %d steps and %zu layers: %.3f ms at worst", kSteps, kLayers, worst);
    QVERIFY2(worst < 16, qPrintable(QString::number(worst)));
}

void TestTrainView::badEndIsTold()
{
    QTemporaryDir folder;
    const ResumableRun files(folder);
    RunWriter writer(toPath(files.path), RunShape { .steps = 100 });
    writer.status(data::RunState::Failed, 55, "the disk was full");
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, files.path, {} });
    window.showView(QStringLiteral("train"));
    const auto told = [&] {
        for (const auto* label : window.trainView()->findChildren<QLabel*>()) {
            if (label->isVisible() && label->text().contains(QStringLiteral("the disk was full"))) {
                return label->text();
            }
        }
        return QString();
    };
    QTRY_VERIFY_WITH_TIMEOUT(told().contains(QStringLiteral("checkpoint of step 40")), kPatience);
}

void TestTrainView::resumePlanFindsWhereToGoOn()
{
    QTemporaryDir folder;
    const ResumableRun run(folder);
    const auto plan = run.plan();
    QVERIFY2(plan.has_value(), plan ? "" : plan.error().describe().c_str());
    QCOMPARE(plan->checkpoint, std::int64_t(40));
    QCOMPARE(plan->reached, std::int64_t(55));
    QCOMPARE(plan->total, std::int64_t(100));
    QVERIFY(!plan->complete());
    QVERIFY(!differs(*plan, "steps"));
    // Without a checkpoint it begins anew.
    QVERIFY(QDir(run.path + QStringLiteral("/checkpoints")).removeRecursively());
    QCOMPARE(run.plan()->checkpoint, std::int64_t(-1));
    QCOMPARE(run.plan()->from(), std::int64_t(0));
}

void TestTrainView::resumePlanTellsWhatDiffers()
{
    QTemporaryDir folder;
    const ResumableRun run(folder);
    const auto plan = run.plan(200);
    QVERIFY2(plan.has_value(), plan ? "" : plan.error().describe().c_str());
    QVERIFY(differs(*plan, "steps"));
    QVERIFY(differs(*plan, "learning_rate")); // a cosine over the run's length is stretched
    QVERIFY(differs(*plan, "dataset"));       // it is not the one that was hashed
    QCOMPARE(run.plan(30).error().code, Errc::FieldInvalid);
    QVERIFY(run.plan(40)->complete());
}

void TestTrainView::resumePlanPassesDamagedCheckpoints()
{
    QTemporaryDir folder;
    const ResumableRun run(folder);
    std::ofstream(data::RunPaths { toPath(run.path) }.checkpoint(40) / "trainer.json") << "torn";
    const auto plan = run.plan();
    QVERIFY2(plan.has_value(), plan ? "" : plan.error().describe().c_str());
    QCOMPARE(plan->checkpoint, std::int64_t(20));
    QVERIFY(differs(*plan, "checkpoint"));
}

void TestTrainView::resumeIsRefusedBesideAWorker()
{
    QTemporaryDir folder;
    const ResumableRun run(folder);
    // A worker holds the run by its lock, whatever its status says.
    auto worker = train::RunWriter::open(toPath(run.path), true, 100);
    QVERIFY2(worker.has_value(), worker ? "" : worker.error().describe().c_str());
    QCOMPARE(data::expectNoWorker({ toPath(run.path) }).error().code, Errc::AlreadyExists);
    QCOMPARE(run.plan().error().code, Errc::AlreadyExists);
    QVERIFY(train_view::resumeFailure(run.plan().error()).contains(QStringLiteral("Another worker")));
    QCOMPARE(bridge::resumeTraining(run.path, 0, {}).error().code, Errc::AlreadyExists);
    worker->reset();
    QVERIFY(data::expectNoWorker({ toPath(run.path) }).has_value());
}

void TestTrainView::resumeSaysWhatIsMissing()
{
    QTemporaryDir folder;
    const ResumableRun run(folder);
    QVERIFY(QDir(run.dataset).removeRecursively());
    const auto plan = run.plan();
    QCOMPARE(plan.error().code, Errc::FileNotFound);
    QVERIFY(plan.error().message.find("dataset") != std::string::npos);
    QFile::remove(run.path + QStringLiteral("/run.json"));
    QVERIFY(!run.plan().has_value());
}

void TestTrainView::resumeCommandFollowsTheRun()
{
    QTemporaryDir folder;
    const ResumableRun run(folder);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("train"));
    QVERIFY(!window.commands().isEnabled(QStringLiteral("run.resume")));
    window.workspace().addItem({ bridge::ItemKind::Run, run.path, {} });
    QTRY_VERIFY_WITH_TIMEOUT(window.commands().isEnabled(QStringLiteral("run.resume")), kPatience);
    QVERIFY(!window.commands().key(QStringLiteral("run.resume")).isEmpty());
    QCOMPARE(window.commands().commandLine(QStringLiteral("run.resume")),
             QStringLiteral("rankwise train --run %1 --resume").arg(bridge::shellWord(run.path)));
    QVERIFY(window.trainView()->findChild<QWidget*>(QStringLiteral("button.run.resume")) != nullptr);
    // The dialog looks before anything starts, and shows what would be different.
    QVERIFY(window.commands().trigger(QStringLiteral("run.resume")));
    train_view::ResumeDialog* dialog = dialogOf(window);
    QVERIFY(dialog != nullptr);
    QTRY_VERIFY_WITH_TIMEOUT(dialog->plan().has_value(), kPatience);
    QVERIFY2(dialog->text().contains(QStringLiteral("step 40")), qPrintable(dialog->text()));
    QVERIFY(dialog->resumeButton().isEnabled());
    QCOMPARE(dialog->differences().rowCount(), 1);
    dialog->steps().setValue(150);
    QVERIFY(!dialog->resumeButton().isEnabled());
    QTRY_VERIFY_WITH_TIMEOUT(dialog->plan().has_value(), kPatience);
    QVERIFY(dialog->differences().rowCount() >= 3);
    QVERIFY(dialog->commandLine().endsWith(QStringLiteral("--steps 150")));
    dialog->reject();
    // While a worker is at it there is nothing to resume.
    RunWriter writer(toPath(run.path), RunShape { .steps = 100 });
    writer.status(data::RunState::Running, 60);
    QTRY_VERIFY_WITH_TIMEOUT(!window.commands().isEnabled(QStringLiteral("run.resume")), kPatience);
}

void TestTrainView::fillForm(bridge::ConfigForm& form, int steps) const
{
    const std::initializer_list<std::pair<const char*, QString>> values {
        { "policy.path", m_nano },
        { "dataset.path", m_folder.filePath(QStringLiteral("demos")) },
        { "method.type", QStringLiteral("lora_sp") },
        { "method.bank", QStringLiteral("16") },
        { "steps", QString::number(steps) },
        { "batch_size", QStringLiteral("2") },
        { "digest_every", QStringLiteral("2") },
        { "checkpoint_every", QStringLiteral("5") },
        { "dataset.std_floor", QStringLiteral("0.002") },
        { "optimizer.preset", QStringLiteral("nano") },
    };
    for (const auto& [name, value] : values) {
        form.setValue(QLatin1String(name), value);
    }
}

#ifdef RANKWISE_HAS_ENGINE

void TestTrainView::preflightCardTellsWhatTrains()
{
    gui::MainWindow window(optionsIn(m_folder));
    train_view::ComposePanel& compose = window.trainView()->compose();
    fillForm(compose.form(), 30);
    compose.runPreflight();
    train_view::PreflightCard& card = compose.preflight();
    QTRY_VERIFY2_WITH_TIMEOUT(card.text().contains(QStringLiteral("passed")), qPrintable(card.text()), kPatience);
    for (const char* expected :
         { "Layers adapted", "Parameters trained", "Memory, estimate", "normalisation", "cameras", "Whole run" }) {
        QVERIFY2(card.text().contains(QLatin1String(expected)), qPrintable(card.text()));
    }
    // One that cannot work is refused, with the check that says why.
    compose.form().setValue(QStringLiteral("dataset.rename"), QStringLiteral(R"({"nowhere": "observation.state"})"));
    compose.runPreflight();
    QTRY_VERIFY2_WITH_TIMEOUT(card.text().contains(QStringLiteral("nowhere")), qPrintable(card.text()), kPatience);
    QVERIFY2(card.text().contains(QStringLiteral("⚠")), qPrintable(card.text()));
}

void TestTrainView::refusedRunIsTold()
{
    gui::MainWindow window(optionsIn(m_folder));
    window.settings().setRunsFolder(m_folder.filePath(QStringLiteral("runs")));
    window.show();
    train_view::ComposePanel& compose = window.trainView()->compose();
    fillForm(compose.form(), 30);
    compose.form().setValue(QStringLiteral("preflight.memory_fraction"), QStringLiteral("1e-9"));
    compose.nameEdit()->setText(QStringLiteral("refused"));
    compose.start();
    QTRY_VERIFY2_WITH_TIMEOUT(compose.preflight().text().contains(QStringLiteral("memory")),
                              qPrintable(compose.preflight().text()), kPatience);
    RunTail* run = window.workspace().run(m_folder.filePath(QStringLiteral("runs/refused")));
    QVERIFY(run != nullptr);
    QTRY_VERIFY2_WITH_TIMEOUT(run->problem().contains(QStringLiteral("did not start")), qPrintable(run->problem()),
                              kPatience);
    QVERIFY(!window.commands().isEnabled(QStringLiteral("run.resume"))); // there is nothing to go on with
}

void TestTrainView::lostRunResumesFromTheWindow()
{
    gui::MainWindow window(optionsIn(m_folder));
    window.settings().setRunsFolder(m_folder.filePath(QStringLiteral("runs")));
    window.show();
    window.showView(QStringLiteral("train"));
    train_view::ComposePanel& compose = window.trainView()->compose();
    fillForm(compose.form(), 40);
    compose.nameEdit()->setText(QStringLiteral("again"));
    compose.start();
    const QString path = m_folder.filePath(QStringLiteral("runs/again"));
    RunTail* run = window.workspace().run(path);
    QVERIFY(run != nullptr);
    QTRY_VERIFY2_WITH_TIMEOUT(!run->record().checkpoints.empty(), qPrintable(run->problem()), kPatience);
    QVERIFY(!window.commands().isEnabled(QStringLiteral("run.resume")));
    ::kill(static_cast<pid_t>(run->record().status->pid), SIGKILL);
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("lost"), kPatience);
    // The run says itself what it is: the file that it was started from may be gone.
    QVERIFY(QFile::remove(path + QStringLiteral(".json")));
    QTRY_VERIFY_WITH_TIMEOUT(window.commands().trigger(QStringLiteral("run.resume")), kPatience);
    train_view::ResumeDialog* dialog = dialogOf(window);
    QVERIFY(dialog != nullptr);
    QTRY_VERIFY2_WITH_TIMEOUT(dialog->plan().has_value(), qPrintable(dialog->text()), kPatience);
    QCOMPARE(dialog->differences().rowCount(), 0);
    QVERIFY2(dialog->text().contains(QStringLiteral("Nothing is different")), qPrintable(dialog->text()));
    const std::int64_t checkpoint = dialog->plan()->checkpoint;
    QVERIFY(checkpoint >= 5);
    QTest::mouseClick(&dialog->resumeButton(), Qt::LeftButton);
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("finished"), kPatience);
    QCOMPARE(run->record().status->step, std::int64_t(40));
    QTRY_COMPARE_WITH_TIMEOUT(run->record().steps.size(), std::size_t(40), kPatience); // each step once
    const auto resumed = std::any_of(run->record().events.begin(), run->record().events.end(), [&](const auto& event) {
        return event.kind == "start" && event.fields.value("resumed_from", Json()) == Json(checkpoint);
    });
    QVERIFY(resumed);
}

void TestTrainView::finishedRunIsExtended()
{
    gui::MainWindow window(optionsIn(m_folder));
    window.show();
    window.showView(QStringLiteral("train"));
    const QString path = m_folder.filePath(QStringLiteral("runs/again"));
    window.workspace().addItem({ bridge::ItemKind::Run, path, {} });
    RunTail* run = window.workspace().run(path);
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("finished"), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(window.commands().trigger(QStringLiteral("run.resume")), kPatience);
    train_view::ResumeDialog* dialog = dialogOf(window);
    QVERIFY(dialog != nullptr);
    QCOMPARE(dialog->steps().value(), 60); // half as many again
    dialog->steps().setValue(40);
    QTRY_VERIFY_WITH_TIMEOUT(dialog->plan().has_value(), kPatience);
    QVERIFY2(dialog->text().contains(QStringLiteral("All 40 steps are done")), qPrintable(dialog->text()));
    QVERIFY(!dialog->resumeButton().isEnabled());
    dialog->steps().setValue(46);
    QTRY_VERIFY_WITH_TIMEOUT(dialog->plan().has_value(), kPatience);
    QCOMPARE(dialog->differences().rowCount(), 1); // the schedule of the preset is not spread over the run
    QCOMPARE(dialog->differences().item(0, 1)->text(), QStringLiteral("40"));
    QCOMPARE(dialog->differences().item(0, 2)->text(), QStringLiteral("46"));
    QTest::mouseClick(&dialog->resumeButton(), Qt::LeftButton);
    QTRY_VERIFY2_WITH_TIMEOUT(run->record().status->total == 46 && run->stateText() == QStringLiteral("finished"),
                              qPrintable(window.lastMessage()), kPatience);
    QCOMPARE(run->record().status->step, std::int64_t(46));
    // The next resume knows of the extension: there is nothing to do up to step 46.
    const auto plan = train::planResume(toPath(path), 0, {}, {});
    QVERIFY(plan.has_value());
    QCOMPARE(plan->totalBefore, std::int64_t(46));
    QVERIFY(plan->complete());
}

void TestTrainView::secondWorkerIsRefused()
{
    gui::MainWindow window(optionsIn(m_folder));
    window.show();
    const QString path = m_folder.filePath(QStringLiteral("runs/again"));
    window.workspace().addItem({ bridge::ItemKind::Run, path, {} });
    RunTail* run = window.workspace().run(path);
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("finished"), kPatience);
    // Two windows whose users agreed at the same moment.
    window.trainView()->resumeRun(path, 100'000);
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("running"), kPatience);
    const std::int64_t worker = run->record().status->pid;
    gui::MainWindow other(optionsIn(m_folder));
    other.trainView()->resumeRun(path, 100'000);
    QTRY_VERIFY2_WITH_TIMEOUT(other.lastMessage().contains(QStringLiteral("Another worker")),
                              qPrintable(other.lastMessage()), kPatience);
    QCOMPARE(run->record().status->pid, worker);
    // A worker that loses the race tells so itself, and its window hears it.
    const auto late = bridge::startDetached(bridge::resumeArguments(path, 100'000), bridge::workerLog(path));
    QVERIFY(late.has_value());
    QCOMPARE(bridge::awaitWorker(path, *late, {}).error().code, Errc::AlreadyExists);
    QVERIFY(window.commands().trigger(QStringLiteral("run.stop")));
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("stopped"), kPatience);
}

#endif

int main(int argc, char** argv)
{
    return tests::runTest<TestTrainView>(argc, argv);
}

#include "tst_train_view.moc"
