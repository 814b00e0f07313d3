// The Demo tab of the real window, on a demo's folder as a demo writes it. Needs a display.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "backend/base/file.h"
#include "backend/data/demo_status.h"
#include "backend/eval/statistics.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/job_runner.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/demo/demo_view.h"
#include "widgets/robot/robot_view.h"

#include <QComboBox>
#include <QDir>
#include <QLabel>
#include <QProcess>
#include <QSignalSpy>
#include <QTableView>

#include <nlohmann/json.hpp>

#include <csignal>

#include <unistd.h>

using namespace rankwise;
using tests::kPatience;
using tests::optionsIn;

namespace {

/// A demo that this process pretends to work on.
data::DemoStatus statusOf(data::RunState state)
{
    data::DemoStatus status;
    status.worker.pid = ::getpid();
    status.worker.pidStart = data::processStartTicks(status.worker.pid);
    status.worker.host = data::hostName();
    status.worker.state = state;
    status.worker.step = 400;
    status.worker.total = 1000;
    status.worker.heartbeat = data::unixSeconds();
    status.worker.etaSeconds = 75;
    status.doing = "lora_sp";
    status.parts = { { .name = "recording", .fraction = 1 },
                     { .name = "lora_sp", .fraction = 0.5, .run = "runs/lora_sp" },
                     { .name = "lora", .fraction = 0.6, .run = "runs/lora" },
                     { .name = "rollouts of base" } };
    return status;
}

QString demoIn(const QTemporaryDir& folder)
{
    QString path = folder.filePath(QStringLiteral("demo"));
    QDir().mkpath(path + QStringLiteral("/runs"));
    (void)writeFileAtomically(bridge::toPath(path + QStringLiteral("/demo.json")),
                              std::string_view(R"({"plan": {}, "finished": false})"));
    return path;
}

void write(const QString& demo, const data::DemoStatus& status)
{
    const auto written = data::writeDemoStatus(bridge::toPath(demo), status);
    QVERIFY2(written.has_value(), written ? "" : written.error().describe().c_str());
}

} // namespace

class TestDemoView : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { tests::openGlIsAsExpected(); }

    void statusSurvives();
    void brokenStatusIsAnError_data();
    void brokenStatusIsAnError();
    void windowFollowsDemo();
    void stopIsAskedOfItsProcess();
    void lostDemoIsToldAndGoesOn();
    void emptyTabTeaches();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

void TestDemoView::statusSurvives()
{
    const QTemporaryDir folder;
    const QString demo = demoIn(folder);
    QVERIFY(data::isDemoFolder(bridge::toPath(demo)));
    QVERIFY(!data::isDemoFolder(bridge::toPath(folder.path())));
    data::DemoStatus status = statusOf(data::RunState::Running);
    status.quick = true;
    status.tallies = { { "base", "press_button", 3, 8 } };
    write(demo, status);
    const auto read = data::readDemoStatus(bridge::toPath(demo));
    QVERIFY2(read.has_value(), read ? "" : read.error().describe().c_str());
    QCOMPARE(read->worker.state, data::RunState::Running);
    QCOMPARE(read->worker.etaSeconds, 75.0);
    QCOMPARE(read->doing, status.doing);
    QVERIFY(read->quick);
    QCOMPARE(read->parts.size(), std::size_t(4));
    QCOMPARE(read->parts[1].run, std::string("runs/lora_sp"));
    QCOMPARE(read->parts[1].fraction, 0.5);
    QCOMPARE(read->tallies.size(), std::size_t(1));
    QCOMPARE(read->tallies[0].successes, std::int64_t(3));
}

void TestDemoView::brokenStatusIsAnError_data()
{
    QTest::addColumn<QString>("key");
    QTest::addColumn<QString>("value");
    QTest::newRow("parts no list") << "parts"
                                   << "7";
    QTest::newRow("part no object") << "parts"
                                    << "[7]";
    QTest::newRow("part without name") << "parts"
                                       << R"([{"fraction": 0.5}])";
    QTest::newRow("more than whole") << "parts"
                                     << R"([{"name": "x", "fraction": 1.5}])";
    QTest::newRow("more successes than trials") << "tallies"
                                                << R"([{"policy": "p", "task": "t", "successes": 9, "trials": 8}])";
    QTest::newRow("negative trials") << "tallies"
                                     << R"([{"policy": "p", "task": "t", "successes": 0, "trials": -1}])";
    QTest::newRow("newer version") << "version"
                                   << "999";
}

void TestDemoView::brokenStatusIsAnError()
{
    QFETCH(QString, key);
    QFETCH(QString, value);
    const QTemporaryDir folder;
    const QString demo = demoIn(folder);
    write(demo, statusOf(data::RunState::Running));
    const data::RunPaths paths { bridge::toPath(demo) };
    Json json = Json::parse(*readFile(paths.status()));
    json[key.toStdString()] = Json::parse(value.toStdString());
    QVERIFY(writeFileAtomically(paths.status(), std::string_view(json.dump())).has_value());
    QVERIFY(!data::readDemoStatus(bridge::toPath(demo)).has_value());
}

void TestDemoView::windowFollowsDemo()
{
    const QTemporaryDir folder;
    const QString demo = demoIn(folder);
    write(demo, statusOf(data::RunState::Running));
    const QString run = demo + QStringLiteral("/runs/lora_sp");
    for (const char* name : { "/runs/lora_sp", "/runs/lora" }) {
        tests::RunWriter(bridge::toPath(demo + QLatin1String(name)), {}).whole();
    }
    gui::Options options = optionsIn(folder);
    options.follow << demo;
    gui::MainWindow window(options);
    window.show();
    demo_view::DemoView* view = window.demoView();
    QTRY_VERIFY_WITH_TIMEOUT(view->tail() != nullptr && view->tail()->status().has_value(), kPatience);
    // The run that trains is open, and is shown while it is what happens.
    QTRY_VERIFY_WITH_TIMEOUT(window.workspace().run(run) != nullptr, kPatience);
    QCOMPARE(window.workspace().selection().run, run); // the first of the two that train
    QTRY_COMPARE_WITH_TIMEOUT(window.tabs().tabText(window.tabs().currentIndex()), QStringLiteral("Train"), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(window.workspace().run(run)->caughtUp(), kPatience);
    // The demo is one of the jobs.
    bool listed = false;
    for (const bridge::Job* job : window.workspace().jobs().findChildren<bridge::Job*>()) {
        listed = listed || (job->title().startsWith(QStringLiteral("Demo")) && std::abs(job->fraction() - 0.4) < 1e-9);
    }
    QVERIFY(listed);
    const auto* table = view->findChild<QTableView*>();
    QCOMPARE(table->model()->rowCount(), 4);
    QVERIFY(table->model()->index(0, 1).data().toString().contains(QStringLiteral("done")));
    QCOMPARE(table->model()->index(1, 1).data().toString(), QStringLiteral("50 %"));
    // Whoever closed the run is not given it again.
    window.workspace().closeItem(run);
    data::DemoStatus later = statusOf(data::RunState::Running);
    later.parts[1].fraction = later.parts[2].fraction = 1;
    later.parts[3].fraction = 0.25;
    later.tallies = { { "base", "open_pot", 1, 24 },
                      { "base", "press_button", 2, 24 },
                      { "lora", "open_pot", 20, 24 } };
    write(demo, later);
    // Rollouts: back in the tab, with a rate and its interval for each policy.
    QTRY_COMPARE_WITH_TIMEOUT(view->success().rows().size(), std::size_t(2), kPatience);
    QCOMPARE(window.tabs().tabText(window.tabs().currentIndex()), QStringLiteral("Demo"));
    QVERIFY(window.workspace().run(run) == nullptr);
    const auto& base = view->success().rows()[0];
    const eval::Interval interval = eval::wilson({ 3, 48 });
    QCOMPARE(base.words, QStringLiteral("3/48"));
    QCOMPARE(base.value, 100.0 * 3 / 48);
    QCOMPARE(base.low, 100 * interval.low);
    QCOMPARE(base.high, 100 * interval.high);
    view->taskChoice()->setCurrentIndex(view->taskChoice()->findData(QStringLiteral("press_button")));
    QCOMPARE(view->success().rows().size(), std::size_t(1));
    QCOMPARE(view->success().rows()[0].words, QStringLiteral("2/24"));
    view->taskChoice()->setCurrentIndex(0);
    // The end: the report opens, the job is done, nothing is left to stop.
    QVERIFY(writeFileAtomically(bridge::toPath(demo + QStringLiteral("/report.html")), std::string_view("<html>")));
    QVERIFY(!window.commands().isEnabled(QStringLiteral("demo.report")));
    later.worker.state = data::RunState::Finished;
    later.worker.heartbeat += 1;
    write(demo, later);
    QTRY_VERIFY_WITH_TIMEOUT(window.commands().isEnabled(QStringLiteral("demo.report")), kPatience);
    QVERIFY(!window.commands().isEnabled(QStringLiteral("demo.stop")));
    QVERIFY(!window.commands().isEnabled(QStringLiteral("demo.go_on")));
    QVERIFY(window.commands().isEnabled(QStringLiteral("demo.rollout")));
    // It comes back with the session.
    const QJsonObject saved = window.workspace().save();
    QCOMPARE(saved.value(QStringLiteral("demo")).toString(), demo);
}

void TestDemoView::stopIsAskedOfItsProcess()
{
    // A process that the view may stop in place of a demo.
    QProcess worker;
    worker.start(QStringLiteral("sleep"), { QStringLiteral("60") });
    QVERIFY(worker.waitForStarted());
    const QTemporaryDir folder;
    const QString demo = demoIn(folder);
    data::DemoStatus status = statusOf(data::RunState::Running);
    status.worker.pid = worker.processId();
    status.worker.pidStart = data::processStartTicks(status.worker.pid);
    write(demo, status);
    gui::Options options = optionsIn(folder);
    options.follow << demo;
    gui::MainWindow window(options);
    window.show();
    (void)window.demoView();
    QTRY_VERIFY_WITH_TIMEOUT(window.commands().isEnabled(QStringLiteral("demo.stop")), kPatience);
    QVERIFY(!window.commands().isEnabled(QStringLiteral("demo.start")));
    QVERIFY(window.commands().trigger(QStringLiteral("demo.stop")));
    QVERIFY(worker.waitForFinished(kPatience));
    QCOMPARE(worker.exitCode(), SIGINT);
}

void TestDemoView::lostDemoIsToldAndGoesOn()
{
    const QTemporaryDir folder;
    const QString demo = demoIn(folder);
    data::DemoStatus status = statusOf(data::RunState::Running);
    status.worker.pidStart = 1; // another process had this id
    write(demo, status);
    gui::Options options = optionsIn(folder);
    options.open << demo; // recognised for what it is
    gui::MainWindow window(options);
    window.show();
    demo_view::DemoView* view = window.demoView();
    QTRY_VERIFY_WITH_TIMEOUT(view->tail() != nullptr && view->tail()->status().has_value(), kPatience);
    QCOMPARE(view->tail()->status()->worker.state, data::RunState::Lost);
    QTRY_VERIFY_WITH_TIMEOUT(window.commands().isEnabled(QStringLiteral("demo.go_on")), kPatience);
    bool told = false;
    for (const QLabel* label : view->findChildren<QLabel*>()) {
        told = told || label->text().contains(QStringLiteral("ended without a word"));
    }
    QVERIFY(told);
    // A folder that vanishes: what was read stays.
    QVERIFY(QDir(demo).removeRecursively());
    QTRY_VERIFY_WITH_TIMEOUT(!view->tail()->problem().isEmpty(), kPatience);
    QCOMPARE(view->tail()->status()->parts.size(), std::size_t(4));
}

void TestDemoView::emptyTabTeaches()
{
    const QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.settings().setRunsFolder(folder.filePath(QStringLiteral("runs")));
    window.show();
    window.showView(QStringLiteral("demo"));
    QVERIFY(window.commands().isEnabled(QStringLiteral("demo.start")));
    QVERIFY(!window.commands().isEnabled(QStringLiteral("demo.stop")));
    const QString line = window.commands().commandLine(QStringLiteral("demo.quick"));
    QVERIFY2(line.startsWith(QStringLiteral("rankwise demo")) && line.contains(QStringLiteral("--quick")),
             qPrintable(line));
}

int main(int argc, char** argv)
{
    return tests::runTest<TestDemoView>(argc, argv);
}

#include "tst_demo_view.moc"
