// The bridge between backend and window: jobs, the recognition of paths, the form of a run, commands, item models and
// programs started beside the window. Opens no window.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/log.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/column_model.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/config_form.h"
#include "widgets/bridge/jobs_model.h"
#include "widgets/bridge/log_model.h"
#include "widgets/bridge/recognition.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"

#include <QAbstractItemModelTester>
#include <QDir>
#include <QElapsedTimer>
#include <QSignalSpy>

#include <cmath>
#include <limits>

using namespace rankwise;
using bridge::toPath;
using tests::FinishedRun;
using tests::kPatience;
using tests::RunWriter;

class TestBridge : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void jobDeliversResultInGuiThread();
    void jobCancelsWithin200Milliseconds();
    void jobExceptionBecomesInternalError();
    void jobReceiverMayDie();
    void progressIsThrottled();
    void numbersAreWrittenForPeople_data();
    void numbersAreWrittenForPeople();
    void recognizesItems_data();
    void recognizesItems();
    void formMakesConfiguration();
    void formRefusesBadValues_data();
    void formRefusesBadValues();
    void commandKeysAreRebindable();
    void modelsKeepTheirContract();
    void csvQuotesAndKeepsPrecision();
    void killedWindowLeavesRunAlive();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

void TestBridge::jobDeliversResultInGuiThread()
{
    bridge::JobRunner runner;
    QObject receiver;
    std::optional<int> result;
    QThread* at = nullptr;
    bridge::Job* job = runner.start<int>(
        QStringLiteral("add"), [](const JobContext&) -> Result<int> { return 40 + 2; }, &receiver,
        [&](Result<int> r) {
            result = *r;
            at = QThread::currentThread();
        });
    QSignalSpy finished(job, &bridge::Job::finished);
    QTRY_VERIFY_WITH_TIMEOUT(result.has_value(), kPatience);
    QCOMPARE(*result, 42);
    QCOMPARE(at, thread());
    QCOMPARE(finished.count(), 1);
    QCOMPARE(runner.runningJobs(), 0);
}

void TestBridge::jobCancelsWithin200Milliseconds()
{
    bridge::JobRunner runner;
    QObject receiver;
    std::optional<Errc> code;
    bridge::Job* job = runner.start<int>(
        QStringLiteral("long"),
        [](const JobContext& context) -> Result<int> {
            while (!context.stopped()) {
                waitFor(context.stop, std::chrono::milliseconds(20));
            }
            return fail(Errc::Cancelled, "stopped");
        },
        &receiver, [&](Result<int> r) { code = r.error().code; });
    QTest::qWait(50);
    QElapsedTimer watch;
    watch.start();
    job->cancel();
    while (!code && watch.elapsed() < kPatience) {
        QTest::qWait(2);
    }
    QCOMPARE(code, std::optional(Errc::Cancelled));
    QVERIFY2(watch.elapsed() < 200, qPrintable(QStringLiteral("%1 ms").arg(watch.elapsed())));
}

void TestBridge::jobExceptionBecomesInternalError()
{
    bridge::JobRunner runner;
    QObject receiver;
    std::optional<Error> error;
    runner.start<int>(
        QStringLiteral("throws"), [](const JobContext&) -> Result<int> { throw std::runtime_error("deep inside"); },
        &receiver, [&](Result<int> r) { error = r.error(); });
    QTRY_VERIFY_WITH_TIMEOUT(error.has_value(), kPatience);
    QCOMPARE(error->code, Errc::Internal);
    QCOMPARE(error->message, std::string("deep inside"));
}

void TestBridge::jobReceiverMayDie()
{
    bridge::JobRunner runner;
    auto receiver = std::make_unique<QObject>();
    bool called = false;
    std::atomic<bool> release { false };
    bridge::Job* job = runner.start<int>(
        QStringLiteral("orphan"),
        [&](const JobContext&) -> Result<int> {
            while (!release) {
                std::this_thread::yield();
            }
            return 1;
        },
        receiver.get(), [&](Result<int>) { called = true; });
    QSignalSpy finished(job, &bridge::Job::finished);
    receiver.reset();
    release = true;
    QVERIFY(finished.wait(kPatience));
    QVERIFY(!called);
}

void TestBridge::progressIsThrottled()
{
    bridge::JobRunner runner;
    QObject receiver;
    bool done = false;
    bridge::Job* job = runner.start<int>(
        QStringLiteral("chatty"),
        [](const JobContext& context) -> Result<int> {
            const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
            while (std::chrono::steady_clock::now() < end) {
                context.report(0.5, "step");
            }
            return 0;
        },
        &receiver, [&](Result<int>) { done = true; });
    QSignalSpy progressed(job, &bridge::Job::progressed);
    QTRY_VERIFY_WITH_TIMEOUT(done, kPatience);
    QVERIFY(progressed.count() >= 1);
    QVERIFY2(progressed.count() <= 12, qPrintable(QString::number(progressed.count())));
}

void TestBridge::numbersAreWrittenForPeople_data()
{
    QTest::addColumn<double>("value");
    QTest::addColumn<QString>("text");
    QTest::newRow("zero") << 0.0 << QStringLiteral("0");
    QTest::newRow("small") << 0.00001234 << QStringLiteral("1.23e-05");
    QTest::newRow("digits") << 3.14159265 << QStringLiteral("3.142");
    QTest::newRow("thousand") << 12345.6 << QStringLiteral("12345.6");
    QTest::newRow("million") << 2.5e6 << QStringLiteral("2.50e+06");
    QTest::newRow("negative") << -2.0 << QStringLiteral("−2");
    QTest::newRow("nan") << std::nan("") << QStringLiteral("NaN");
    QTest::newRow("infinity") << -std::numeric_limits<double>::infinity() << QStringLiteral("−∞");
}

void TestBridge::numbersAreWrittenForPeople()
{
    QFETCH(double, value);
    QTEST(bridge::numberText(value), "text");
}

void TestBridge::recognizesItems_data()
{
    QTest::addColumn<QString>("path");
    QTest::addColumn<int>("kind"); // -1: refused
    QTest::newRow("run") << QStringLiteral("run") << static_cast<int>(bridge::ItemKind::Run);
    QTest::newRow("file in a run") << QStringLiteral("run/events.jsonl") << static_cast<int>(bridge::ItemKind::Run);
    QTest::newRow("dataset") << QStringLiteral("data") << static_cast<int>(bridge::ItemKind::Dataset);
    QTest::newRow("file in a dataset") << QStringLiteral("data/meta/info.json")
                                       << static_cast<int>(bridge::ItemKind::Dataset);
    QTest::newRow("adapter") << QStringLiteral("adapter") << static_cast<int>(bridge::ItemKind::Adapter);
    QTest::newRow("checkpoint") << QStringLiteral("policy") << static_cast<int>(bridge::ItemKind::Checkpoint);
    QTest::newRow("empty folder") << QStringLiteral("empty") << -1;
    QTest::newRow("nothing there") << QStringLiteral("missing") << -1;
    QTest::newRow("broken dataset") << QStringLiteral("broken") << -1;
}

void TestBridge::recognizesItems()
{
    QTemporaryDir folder;
    const QDir root(folder.path());
    const auto write = [&](const QString& file, const QByteArray& text) {
        root.mkpath(QFileInfo(file).path());
        QFile out(root.filePath(file));
        QVERIFY(out.open(QIODevice::WriteOnly));
        out.write(text);
    };
    RunWriter(toPath(root.filePath(QStringLiteral("run"))), {}).whole();
    write(QStringLiteral("data/meta/info.json"),
          R"({"codebase_version":"v3.0","total_episodes":3,"total_frames":90,"fps":10})");
    write(QStringLiteral("adapter/adapter_config.json"), R"({"peft_type":"LORA","r":8})");
    write(QStringLiteral("policy/config.json"), R"({"type":"smolvla"})");
    write(QStringLiteral("policy/model.safetensors"), "");
    write(QStringLiteral("broken/meta/info.json"), "{");
    root.mkpath(QStringLiteral("empty"));
    QFETCH(QString, path);
    QFETCH(int, kind);
    const auto found = bridge::recognize(toPath(root.filePath(path)), {});
    if (kind < 0) {
        QVERIFY(!found.has_value());
        QVERIFY(!bridge::errorSentence(found.error()).isEmpty());
    } else {
        QVERIFY(found.has_value());
        QCOMPARE(static_cast<int>(found->kind), kind);
        QVERIFY(!found->detail.empty());
    }
}

void TestBridge::formMakesConfiguration()
{
    bridge::ConfigForm form;
    QVERIFY(form.find(QStringLiteral("optimizer.lr")) != nullptr);
    QVERIFY(!form.config().has_value()); // no policy and no dataset yet
    form.setValue(QStringLiteral("policy.path"), QStringLiteral("/p"));
    form.setValue(QStringLiteral("dataset.path"), QStringLiteral("/d"));
    form.setValue(QStringLiteral("steps"), QStringLiteral("250"));
    form.setValue(QStringLiteral("optimizer.lr"), QStringLiteral("0.0005"));
    form.setValue(QStringLiteral("method.eta"), QStringLiteral("0.8"));
    form.setValue(QStringLiteral("method.*"), QStringLiteral(R"({"target_modules":"all-linear"})"));
    const auto config = form.config();
    QVERIFY2(config.has_value(), config ? "" : config.error().describe().c_str());
    QCOMPARE((*config)["steps"].get<int>(), 250);
    QCOMPARE((*config)["optimizer"]["lr"].get<double>(), 0.0005);
    QCOMPARE((*config)["method"]["type"].get<std::string>(), std::string("lora_sp"));
    QCOMPARE((*config)["method"]["eta"].get<double>(), 0.8);
    QCOMPARE((*config)["method"]["target_modules"].get<std::string>(), std::string("all-linear"));
    QVERIFY(!config->contains("batch_size")); // a default is left out
    form.setValue(QStringLiteral("method.type"), QStringLiteral("lora"));
    QVERIFY(!(*form.config())["method"].contains("eta")); // not an option of LoRA
    QVERIFY((*form.config())["method"].contains("r"));

    bridge::ConfigForm other;
    other.load(*config);
    QVERIFY(*other.config() == *config);
}

void TestBridge::formRefusesBadValues_data()
{
    QTest::addColumn<QString>("field");
    QTest::addColumn<QString>("value");
    QTest::newRow("words for a number") << QStringLiteral("steps") << QStringLiteral("many");
    QTest::newRow("below range") << QStringLiteral("steps") << QStringLiteral("0");
    QTest::newRow("above range") << QStringLiteral("method.eta") << QStringLiteral("1.5");
    QTest::newRow("fraction for an integer") << QStringLiteral("batch_size") << QStringLiteral("2.5");
    QTest::newRow("empty number") << QStringLiteral("optimizer.lr") << QString();
    QTest::newRow("not JSON") << QStringLiteral("dataset.episodes") << QStringLiteral("[1,");
    QTest::newRow("JSON of another kind") << QStringLiteral("method.*") << QStringLiteral("[1]");
}

void TestBridge::formRefusesBadValues()
{
    QFETCH(QString, field);
    QFETCH(QString, value);
    bridge::ConfigForm form;
    form.setValue(QStringLiteral("policy.path"), QStringLiteral("/p"));
    form.setValue(QStringLiteral("dataset.path"), QStringLiteral("/d"));
    QVERIFY(form.config().has_value());
    form.setValue(field, value);
    const auto config = form.config();
    QVERIFY(!config.has_value());
    QVERIFY(!config.error().message.empty());
}

void TestBridge::commandKeysAreRebindable()
{
    bridge::CommandRegistry registry;
    int ran = 0;
    bool enabled = false;
    registry.add({ .id = QStringLiteral("a"),
                   .category = {},
                   .text = QStringLiteral("A"),
                   .key = QStringLiteral("F2"),
                   .help = {},
                   .run = [&] { ++ran; },
                   .enabled = [&] { return enabled; } });
    registry.add({ .id = QStringLiteral("b"),
                   .category = {},
                   .text = QStringLiteral("B"),
                   .key = QStringLiteral("F3"),
                   .help = {},
                   .run = [] {} });
    QVERIFY(!registry.trigger(QStringLiteral("a")));
    enabled = true;
    QVERIFY(registry.trigger(QStringLiteral("a")));
    QCOMPARE(ran, 1);
    QVERIFY(!registry.trigger(QStringLiteral("unknown")));
    registry.setKey(QStringLiteral("a"), QStringLiteral("F3"));
    QCOMPARE(registry.key(QStringLiteral("a")), QStringLiteral("F3"));
    QCOMPARE(registry.key(QStringLiteral("b")), QString()); // a key has one owner
    registry.resetKeys();
    QCOMPARE(registry.key(QStringLiteral("b")), QStringLiteral("F3"));
    QCOMPARE(registry.commandLine(QStringLiteral("b")), QStringLiteral("rankwise gui --do b"));
}

void TestBridge::modelsKeepTheirContract()
{
    bridge::ColumnModel columns;
    const QAbstractItemModelTester columnTester(&columns, QAbstractItemModelTester::FailureReportingMode::QtTest);
    columns.reset({ QStringLiteral("a"), QStringLiteral("b") }, 3, [](int r, int c) { return QVariant(r * 10.0 + c); });
    columns.grow(7);
    columns.touch();
    QCOMPARE(columns.rowCount(), 7);
    columns.reset({}, 0, {});

    bridge::LogModel lines;
    const QAbstractItemModelTester logTester(&lines, QAbstractItemModelTester::FailureReportingMode::QtTest);
    log::warn("test", "a line for the dock");
    QTRY_VERIFY_WITH_TIMEOUT(lines.rowCount() > 0, kPatience);
    QCOMPARE(lines.index(lines.rowCount() - 1, bridge::LogModel::Message).data().toString(),
             QStringLiteral("a line for the dock"));

    const FinishedRun run;
    bridge::Workspace workspace;
    bridge::JobsModel jobs(workspace);
    const QAbstractItemModelTester jobsTester(&jobs, QAbstractItemModelTester::FailureReportingMode::QtTest);
    workspace.addItem(run.item());
    QCOMPARE(jobs.rowCount(), 1);
    QTRY_COMPARE_WITH_TIMEOUT(jobs.index(0, 0).data(bridge::JobsModel::FractionRole).toDouble(), 1.0, kPatience);
    QObject receiver;
    bridge::Job* job = workspace.jobs().start<int>(
        QStringLiteral("work"),
        [](const JobContext& context) -> Result<int> {
            waitFor(context.stop, std::chrono::seconds(20));
            return fail(Errc::Cancelled, "stopped");
        },
        &receiver, [](Result<int>) {});
    QCOMPARE(jobs.rowCount(), 2);
    QCOMPARE(jobs.activeCount(), 2 - 1 + (workspace.currentRun()->active() ? 1 : 0));
    QSignalSpy finished(job, &bridge::Job::finished);
    jobs.cancel(0);
    QVERIFY(finished.wait(kPatience));
    QVERIFY(jobs.index(0, bridge::JobsModel::State).data().toString().startsWith(QStringLiteral("cancelled")));
    jobs.clearFinished();
    QCOMPARE(jobs.rowCount(), 1);
    workspace.closeItem(run.path);
    QTRY_COMPARE_WITH_TIMEOUT(jobs.rowCount(), 0, kPatience);
}

void TestBridge::csvQuotesAndKeepsPrecision()
{
    bridge::ColumnModel model;
    model.reset({ QStringLiteral("na,me"), QStringLiteral("value") }, 1,
                [](int, int c) -> QVariant { return c == 0 ? QVariant(QStringLiteral("say \"hi\"")) : QVariant(0.1); });
    QCOMPARE(bridge::csvText(model), QStringLiteral("\"na,me\",value\r\n\"say \"\"hi\"\"\",0.10000000000000001\r\n"));
}

void TestBridge::killedWindowLeavesRunAlive()
{
    // The program named by RANKWISE_PROGRAM stands for the command line: it notes its arguments and lives on.
    QTemporaryDir folder;
    const QString program = folder.filePath(QStringLiteral("rankwise"));
    {
        QFile script(program);
        QVERIFY(script.open(QIODevice::WriteOnly));
        script.write("#!/bin/sh\necho \"$@\" > \"$6.args\"\necho started\nsleep 30\n");
        script.setPermissions(QFile::ReadOwner | QFile::WriteOwner | QFile::ExeOwner);
    }
    qputenv("RANKWISE_PROGRAM", program.toLocal8Bit());
    const QString runs = folder.filePath(QStringLiteral("runs"));
    const Json config { { "steps", 5 } };
    const auto run = bridge::startTraining(runs, QStringLiteral("one"), config);
    QVERIFY2(run.has_value(), run ? "" : run.error().describe().c_str());
    QTRY_VERIFY_WITH_TIMEOUT(QFile::exists(*run + QStringLiteral(".args")), kPatience);
    QFile arguments(*run + QStringLiteral(".args"));
    QVERIFY(arguments.open(QIODevice::ReadOnly));
    QCOMPARE(QString::fromUtf8(arguments.readAll()).trimmed(),
             QStringLiteral("--nice 10 ") + bridge::trainArguments(runs, QStringLiteral("one")).join(QLatin1Char(' ')));
    QTRY_VERIFY_WITH_TIMEOUT(QFileInfo(*run + QStringLiteral(".log")).size() > 0, kPatience); // its output is kept
    QCOMPARE(bridge::startTraining(runs, QStringLiteral("one"), config).error().code, Errc::AlreadyExists);
    qputenv("RANKWISE_PROGRAM", "");
    // It is no child of this process: its parent is not us, so that our end is not its end.
    const auto pid = bridge::startDetached({}, {});
    QVERIFY(pid.has_value() || pid.error().code == Errc::FileNotFound);
}

int main(int argc, char** argv)
{
    return tests::runTest<TestBridge>(argc, argv);
}

#include "tst_bridge.moc"
