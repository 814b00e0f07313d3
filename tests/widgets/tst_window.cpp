// The real window with a scripted worker behind the run directory: it follows, steers, selects, scrubs and exports,
// with OpenGL, without it and after losing it. Needs a display: ctest under xvfb-run where there is none.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "app/gui/screenshots.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/box_chart.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/heat_map.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/theme.h"
#include "widgets/common/vtk_view.h"
#include "widgets/robot/joint_bars.h"
#include "widgets/robot/robot_view.h"
#include "widgets/robot/scene_view.h"
#include "widgets/train/rank_panel.h"
#include "widgets/train/score_panel.h"
#include "widgets/train/train_view.h"

#include <QComboBox>
#include <QDir>
#include <QDoubleSpinBox>
#include <QSignalSpy>
#include <QSlider>
#include <QTabWidget>

using namespace rankwise;
using bridge::RunTail;
using bridge::toPath;
using tests::colors;
using tests::FinishedRun;
using tests::kPatience;
using tests::optionsIn;
using tests::RunShape;
using tests::RunWriter;
using tests::ScriptedWorker;

class TestWindow : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { tests::openGlIsAsExpected(); }
    void cleanup() { common::ChartView::setSoftware(false); }

    void windowFollowsRunAndEta();
    void followsRunThatComesLater();
    void windowsWatchTheSameRun();
    void selectionIsShared();
    void scrubberMovesEverything();
    void everyCanvasExports();
    void tablesAreUsableWithoutOpenGl();
    void lostContextsAreReplaced();
    void screenshotsAreNotEmpty();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

void TestWindow::windowFollowsRunAndEta()
{
    QTemporaryDir folder;
    RunShape shape;
    shape.steps = 100'000;
    shape.digestEvery = 2;
    const ScriptedWorker worker(toPath(folder.filePath(QStringLiteral("run"))), shape, 10);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("train"));
    QTRY_VERIFY_WITH_TIMEOUT(worker.step() > 3, kPatience);
    window.workspace().openPath(folder.filePath(QStringLiteral("run")));
    QTRY_VERIFY_WITH_TIMEOUT(window.workspace().currentRun() != nullptr, kPatience);
    RunTail* run = window.workspace().currentRun();
    train_view::TrainView* train = window.trainView();
    train->pages().setCurrentIndex(1);
    // The rank map fills as the worker writes.
    common::HeatMap& map = train->ranks().map();
    QTRY_VERIFY_WITH_TIMEOUT(map.columnCount() > 3, kPatience);
    const int before = map.columnCount();
    QTRY_VERIFY_WITH_TIMEOUT(map.columnCount() > before + 3, kPatience);
    QCOMPARE(map.rowCount(), shape.layers);
    const auto mean = [&] { return run->record().digests.back()->rank[4]; };
    const double high = mean();
    // η down: the active ranks follow.
    QTRY_VERIFY_WITH_TIMEOUT(train->eta().isVisible(), kPatience);
    QCOMPARE(train->eta().value(), 0.9);
    train->eta().setValue(0.5);
    train->applyEta();
    QTRY_VERIFY_WITH_TIMEOUT(mean() < 0.5 * high, kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().contains(QStringLiteral("done")), kPatience);
    QCOMPARE(run->record().parameter("eta"), std::optional(0.5));
    // Pause stops the steps, resume goes on.
    QVERIFY(window.commands().trigger(QStringLiteral("run.pause")));
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("paused"), kPatience);
    const int paused = worker.step();
    QTest::qWait(150);
    QVERIFY(worker.step() <= paused + 1);
    QVERIFY(window.commands().trigger(QStringLiteral("run.pause")));
    QTRY_VERIFY_WITH_TIMEOUT(worker.step() > paused + 2, kPatience);
    // A snapshot on request is shown.
    const std::size_t snapshots = run->record().snapshots.size();
    QVERIFY(window.commands().trigger(QStringLiteral("run.snapshot")));
    QTRY_VERIFY_WITH_TIMEOUT(run->record().snapshots.size() > snapshots, kPatience);
    train->pages().setCurrentIndex(2);
    QTRY_VERIFY_WITH_TIMEOUT(!train->scores().scores().isEmpty(), kPatience);
    QVERIFY(!train->scores().routing().isEmpty());
    // What the worker refuses is said.
    QVERIFY(window.commands().trigger(QStringLiteral("run.checkpoint")));
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().contains(QStringLiteral("refused")), kPatience);
    QVERIFY(window.commands().trigger(QStringLiteral("run.stop")));
    QTRY_COMPARE_WITH_TIMEOUT(run->stateText(), QStringLiteral("stopped"), kPatience);
    QVERIFY(!window.commands().isEnabled(QStringLiteral("run.stop")));
}

void TestWindow::followsRunThatComesLater()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("later"));
    const auto parsed = gui::parseOptions({ QStringLiteral("workbench"), QStringLiteral("--follow"), path });
    gui::Options options = std::get<gui::Options>(parsed);
    options.settingsFile = folder.filePath(QStringLiteral("workbench.ini"));
    gui::MainWindow window(options);
    window.show();
    QVERIFY(window.workspace().currentRun() != nullptr);
    QTRY_VERIFY_WITH_TIMEOUT(window.workspace().currentRun()->problem().contains(QStringLiteral("not complete yet")),
                             kPatience);
    RunWriter(toPath(path), {}).whole();
    QTRY_COMPARE_WITH_TIMEOUT(window.workspace().currentRun()->record().steps.size(), std::size_t(100), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(window.workspace().currentRun()->problem().isEmpty(), kPatience);
    QVERIFY(std::holds_alternative<int>(
        gui::parseOptions({ QStringLiteral("workbench"), QStringLiteral("--theme"), QStringLiteral("pink") })));
    QVERIFY(std::holds_alternative<int>(
        gui::parseOptions({ QStringLiteral("workbench"), QStringLiteral("--size"), QStringLiteral("9x9") })));
    QVERIFY(std::holds_alternative<int>(
        gui::parseOptions({ QStringLiteral("workbench"), QStringLiteral("--session"), QStringLiteral("../x") })));
}

void TestWindow::windowsWatchTheSameRun()
{
    QTemporaryDir folder;
    QTemporaryDir other;
    RunShape shape;
    shape.steps = 100'000;
    const ScriptedWorker worker(toPath(folder.filePath(QStringLiteral("run"))), shape, 10);
    gui::MainWindow first(optionsIn(folder));
    gui::MainWindow second(optionsIn(other));
    QTRY_VERIFY_WITH_TIMEOUT(worker.step() > 2, kPatience);
    for (gui::MainWindow* window : { &first, &second }) {
        window->workspace().openPath(folder.filePath(QStringLiteral("run")));
        QTRY_VERIFY_WITH_TIMEOUT(window->workspace().currentRun() != nullptr, kPatience);
        QTRY_VERIFY_WITH_TIMEOUT(window->workspace().currentRun()->active(), kPatience);
    }
    second.showView(QStringLiteral("train"));
    QVERIFY(second.commands().trigger(QStringLiteral("run.pause")));
    QTRY_COMPARE_WITH_TIMEOUT(first.workspace().currentRun()->stateText(), QStringLiteral("paused"), kPatience);
}

void TestWindow::selectionIsShared()
{
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    window.show();
    window.workspace().addItem(run.item());
    window.showView(QStringLiteral("train"));
    train_view::TrainView* train = window.trainView();
    QTRY_COMPARE_WITH_TIMEOUT(train->ranks().map().rowCount(), run.shape.layers, kPatience);
    // In the routing chart …
    train->pages().setCurrentIndex(2);
    QTRY_VERIFY_WITH_TIMEOUT(!train->scores().routing().isEmpty(), kPatience);
    Q_EMIT train->scores().routing().picked(5);
    const QString layer = bridge::toQString(tests::layerPath(run.shape, 5));
    QCOMPARE(window.workspace().selection().layer, layer);
    QCOMPARE(train->ranks().map().selectedRow(), 5); // … the map has it too,
    // and from the map back to the others, by keyboard.
    // The kinds of token that it sees, and the layers that see a kind.
    QCOMPARE(train->scores().kinds().table()->rowCount(), 2);
    train->scores().tokenChoice()->setCurrentIndex(train->scores().tokenChoice()->findData(3));
    QCOMPARE(train->scores().routing().table()->rowCount(), run.shape.layers / 3);
    train->scores().tokenChoice()->setCurrentIndex(0);
    QCOMPARE(train->scores().routing().table()->rowCount(), run.shape.layers);
    Q_EMIT train->scores().routing().picked(5);
    QVERIFY(train->ranks().map().key(Qt::Key_Down));
    QCOMPARE(window.workspace().selection().layer, bridge::toQString(tests::layerPath(run.shape, 6)));
    QTRY_VERIFY_WITH_TIMEOUT(!train->scores().scores().isEmpty(), kPatience);
}

void TestWindow::scrubberMovesEverything()
{
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    window.show();
    window.workspace().addItem(run.item());
    window.showView(QStringLiteral("train"));
    train_view::RankPanel& ranks = window.trainView()->ranks();
    QTRY_COMPARE_WITH_TIMEOUT(ranks.map().columnCount(), run.shape.steps / run.shape.digestEvery + 1, kPatience);
    auto* slider = ranks.findChild<QSlider*>();
    QCOMPARE(slider->value(), slider->maximum()); // the newest by itself
    slider->setValue(2);
    QCOMPARE(window.workspace().selection().step, qint64(2 * run.shape.digestEvery));
    QCOMPARE(ranks.map().selectedColumn(), 2);
    const auto rankAt = [&](int step) { // in the precision of a digest
        return static_cast<double>(static_cast<float>(tests::scriptedRank(run.shape, 0, step, run.shape.eta)));
    };
    QCOMPARE(ranks.boxes().table()->index(0, 2).data(Qt::EditRole).toDouble(), rankAt(2 * run.shape.digestEvery));
    QCOMPARE(ranks.boxes().table()->index(0, 8).data(Qt::EditRole).toDouble(), rankAt(0));
    // The movie runs to its end and stops.
    slider->setValue(slider->maximum() - 2);
    ranks.togglePlay();
    QVERIFY(ranks.playing());
    QTRY_VERIFY_WITH_TIMEOUT(!ranks.playing(), kPatience);
    QCOMPARE(slider->value(), slider->maximum());
}

void TestWindow::everyCanvasExports()
{
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    window.show();
    window.workspace().addItem(run.item());
    int canvases = 0;
    for (const QString& id : window.viewIds()) {
        window.showView(id);
        QTRY_VERIFY_WITH_TIMEOUT(window.settled(), kPatience);
        const auto frames = window.view(id)->findChildren<common::CanvasFrame*>();
        for (common::CanvasFrame* frame : frames) {
            ++canvases;
            QVERIFY2(!frame->title().isEmpty(), qPrintable(id));
            QVERIFY(!frame->accessibleName().isEmpty());
            QVERIFY(frame->table() != nullptr);
            for (const char* suffix : { "svg", "pdf", "png", "csv" }) {
                const QString file =
                    run.folder.filePath(QStringLiteral("%1.%2").arg(canvases).arg(QLatin1String(suffix)));
                const auto done = frame->exportTo(file);
                QVERIFY2(done.has_value(), qPrintable(frame->title()));
                QVERIFY(QFileInfo(file).size() > 0);
            }
        }
    }
    QVERIFY2(canvases >= 10, qPrintable(QString::number(canvases)));
}

void TestWindow::tablesAreUsableWithoutOpenGl()
{
    // In the default run charts are told to do without; the runs `tst_window_offscreen` and `tst_window_broken_gl`
    // have no OpenGL at all.
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    window.settings().setSoftwareCharts(true);
    window.show();
    window.workspace().addItem(run.item());
    window.showView(QStringLiteral("train"));
    train_view::TrainView* train = window.trainView();
    QTRY_VERIFY_WITH_TIMEOUT(train->ranks().map().columnCount() > 3, kPatience);
    window.showView(QStringLiteral("robot"));
    QVERIFY(window.commands().trigger(QStringLiteral("robot.connect")));
    robot_view::RobotView* robot = window.robotView(true);
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm() != nullptr && !robot->joints().isEmpty(), kPatience);
    int filled = 0;
    for (const QString& id : window.viewIds()) {
        window.showView(id);
        for (common::CanvasFrame* frame : window.view(id)->findChildren<common::CanvasFrame*>()) {
            frame->showTable(true);
            QVERIFY(frame->tableShown());
            filled += frame->table()->rowCount() > 0 ? 1 : 0;
            const QString csv = run.folder.filePath(QStringLiteral("numbers.csv"));
            const auto written = frame->exportTo(csv);
            QVERIFY2(written.has_value(), written ? "" : written.error().describe().c_str());
            const auto picture = frame->exportTo(run.folder.filePath(QStringLiteral("picture.svg")));
            QVERIFY2(picture.has_value(), picture ? "" : picture.error().describe().c_str());
            frame->showTable(false);
        }
    }
    QVERIFY2(filled >= 8, qPrintable(QString::number(filled)));
    for (common::ChartView* view : window.findChildren<common::ChartView*>()) {
        QVERIFY(view->glCanvas() == nullptr);
    }
    // The pictures are there as well, painted by other means.
    window.showView(QStringLiteral("train"));
    train->pages().setCurrentIndex(1);
    QTest::qWait(200);
    QVERIFY(colors(window.grab().toImage(), 200) > 60);
}

void TestWindow::lostContextsAreReplaced()
{
    if (!common::openGlWorks()) {
        QSKIP("there is no OpenGL here whose contexts could be lost");
    }
    const FinishedRun run;
    gui::MainWindow window(optionsIn(run.folder));
    window.show();
    window.workspace().addItem(run.item());
    window.showView(QStringLiteral("robot"));
    QVERIFY(window.commands().trigger(QStringLiteral("robot.connect")));
    robot_view::RobotView* robot = window.robotView(true);
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm() != nullptr && !robot->joints().isEmpty(), kPatience);
    window.showView(QStringLiteral("train"));
    train_view::TrainView* train = window.trainView();
    QTRY_VERIFY_WITH_TIMEOUT(train->ranks().map().columnCount() > 3, kPatience);
    // A canvas that moves into another window loses its context and everything in it; it draws on with a new one.
    auto* const view = train->findChild<common::ChartView*>();
    QVERIFY(view != nullptr && view->glCanvas() != nullptr);
    QTRY_VERIFY_WITH_TIMEOUT(view->glCanvas()->paintCount() > 0, kPatience);
    view->setParent(nullptr);
    view->resize(500, 300);
    view->show();
    QVERIFY(QTest::qWaitForWindowExposed(view));
    const std::uint64_t painted = view->glCanvas()->paintCount();
    view->glCanvas()->update();
    QTRY_VERIFY_WITH_TIMEOUT(view->glCanvas()->paintCount() > painted, kPatience);
    QVERIFY(colors(view->grab().toImage(), 100) > 10);
    delete view;
    // OpenGL that fails for good: charts are painted by other means, the scene keeps its table.
    auto* const chart = train->findChild<common::ChartView*>();
    Q_EMIT chart->glCanvas()->glFailed();
    QTRY_VERIFY_WITH_TIMEOUT(chart->glCanvas() == nullptr, kPatience);
    window.showView(QStringLiteral("robot"));
    Q_EMIT robot->scene().canvas()->glFailed();
    QTRY_VERIFY_WITH_TIMEOUT(robot->scene().tableShown(), kPatience);
    QVERIFY(robot->scene().canvas() == nullptr);
    QVERIFY(robot->scene().table()->rowCount() > 10);
    const auto time = robot->arm()->latest()->time;
    QTRY_VERIFY_WITH_TIMEOUT(robot->arm()->latest()->time > time, kPatience);
    QTest::qWait(100); // snapshots still arrive
}

void TestWindow::screenshotsAreNotEmpty()
{
    const FinishedRun run;
    gui::Options options = optionsIn(run.folder);
    options.screenshots = qEnvironmentVariable("RANKWISE_SCREENSHOTS", run.folder.filePath(QStringLiteral("shots")));
    gui::MainWindow window(options);
    window.show();
    window.workspace().addItem(run.item());
    gui::Screenshots shots(window, options.screenshots,
                           { QStringLiteral("dark"), QStringLiteral("light"), QStringLiteral("contrast") });
    if (!qEnvironmentVariableIsSet("RANKWISE_SCREENSHOTS")) {
        shots.setSettleMs(100); // nobody looks at them
    }
    QSignalSpy finished(&shots, &gui::Screenshots::finished);
    shots.start();
    QVERIFY(finished.wait(120'000));
    QVERIFY2(finished[0][1].toString().isEmpty(), qPrintable(finished[0][1].toString()));
    const QFileInfoList files = QDir(options.screenshots).entryInfoList({ QStringLiteral("*.png") });
    QCOMPARE(files.size(), finished[0][0].toInt());
    QVERIFY(files.size() >= 12);
    for (const QFileInfo& file : files) {
        const QImage image(file.filePath());
        QCOMPARE(image.size(), options.size);
        QVERIFY2(colors(image) > 20, qPrintable(file.fileName()));
    }
    common::ThemeSwitch::instance().apply(QStringLiteral("dark"), 1);
}

int main(int argc, char** argv)
{
    return tests::runTest<TestWindow>(argc, argv);
}

#include "tst_window.moc"
