// Following a run by its directory: rows, torn lines, resumes, vanished disks, dead workers, alarms and snapshots.
// Opens no window.
// SPDX-License-Identifier: Apache-2.0
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/snapshot.h"
#include "widgets/bridge/text.h"

#include <QDir>
#include <QElapsedTimer>
#include <QProcess>

#include <cmath>
#include <fstream>
#include <numeric>

using namespace rankwise;
using bridge::RunTail;
using bridge::toPath;
using tests::FinishedRun;
using tests::kPatience;
using tests::RunShape;
using tests::RunWriter;

class TestRunTail : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void rowsEqualThoseOfTheGeneralParser_data();
    void rowsEqualThoseOfTheGeneralParser();
    void tailReadsWholeRun();
    void tailTakesLongRunsInOrder();
    void tailWaitsForTornLine();
    void tailDropsStepsVoidedByResume();
    void tailTellsVanishedDirectory();
    void tailTellsNewerVersion();
    void tailTakesAnotherRunInSamePlace();
    void killedWorkerIsTold();
    void openingLongRunIsFast();
    void alarmsAreRaised_data();
    void alarmsAreRaised();
    void snapshotIsRead();
    void tornSnapshotIsAnError();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

namespace {

/// Equal numbers; NaN equals NaN.
template <class T> bool sameNumbers(const std::vector<T>& a, const std::vector<T>& b)
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](T u, T v) { return u == v || (std::isnan(u) && std::isnan(v)); });
}

void compareColumns(const data::StepColumns& a, const data::StepColumns& b)
{
    for (const auto column :
         { &data::StepColumns::step, &data::StepColumns::time, &data::StepColumns::loss, &data::StepColumns::total,
           &data::StepColumns::lr, &data::StepColumns::gradNorm, &data::StepColumns::samplesPerSecond,
           &data::StepColumns::loadSeconds, &data::StepColumns::computeSeconds }) {
        QVERIFY(sameNumbers(a.*column, b.*column));
    }
    QCOMPARE(a.aux.size(), b.aux.size());
    for (const auto& [name, values] : a.aux) {
        QVERIFY(b.aux.contains(name));
        QVERIFY(sameNumbers(values, b.aux.at(name)));
    }
}

/// A line read both ways; the same rows, or refused by both.
void compareReadings(const QByteArray& line)
{
    std::vector<data::RunRows> fast;
    std::vector<data::RunRows> slow;
    const std::string_view text(line.constData(), static_cast<std::size_t>(line.size()));
    QCOMPARE(data::addRunLine(text, fast, true), data::addRunLine(text, slow, false));
    QCOMPARE(fast.size(), slow.size());
    for (std::size_t i = 0; i < fast.size(); ++i) {
        QCOMPARE(fast[i].cutAbove, slow[i].cutAbove);
        compareColumns(fast[i].steps, slow[i].steps);
        QCOMPARE(fast[i].others.size(), slow[i].others.size());
        QCOMPARE(fast[i].tables.size(), slow[i].tables.size());
        QCOMPARE(fast[i].digests.size(), slow[i].digests.size());
        for (std::size_t d = 0; d < fast[i].digests.size(); ++d) {
            const data::DigestColumns& a = *fast[i].digests[d];
            const data::DigestColumns& b = *slow[i].digests[d];
            QCOMPARE(a.step, b.step);
            QCOMPARE(a.table, b.table);
            QVERIFY(sameNumbers(a.rank, b.rank));
            QVERIFY(sameNumbers(a.energy, b.energy));
            QCOMPARE(a.tokens, b.tokens);
            for (const auto rows :
                 { &data::DigestColumns::quantiles, &data::DigestColumns::shares, &data::DigestColumns::kinds }) {
                QCOMPARE((a.*rows).ends, (b.*rows).ends);
                QVERIFY(sameNumbers((a.*rows).values, (b.*rows).values));
            }
        }
    }
}

} // namespace

void TestRunTail::rowsEqualThoseOfTheGeneralParser_data()
{
    QTest::addColumn<QByteArray>("line");
    const auto row = [](const char* name, const char* line) { QTest::newRow(name) << QByteArray(line); };
    row("step",
        R"({"aux":{"balance":0.5,"z":1e-3},"clipped":false,"compute_s":0.25,"event":"step","grad_norm":1.5,)"
        R"("grad_norm_vision":0.1,"load_s":0.001,"loss":0.123456789012345678,"lr":1e-4,"samples_per_s":12,)"
        R"("step":42,"time":1700000000.123456,"total":-0.5e+2})");
    row("step with blanks", " { \"event\" : \"step\" , \"step\" : 7 , \"loss\" : 1 } \r");
    row("null is not a number", R"({"event":"step","step":1,"time":2,"loss":null,"aux":{"z":null}})");
    row("digest",
        R"({"event":"digest","step":5,"time":1.5,"table":1,"rank":[1.5,null,3],"quantiles":[[1,2,3,4,5],[],)"
        R"([0.1]],"energy":[0.9,1,0],"tokens":[10,0,999999999999],"shares":[[0.5,0.5],[],[1]],)"
        R"("kinds":[[[0,5,1.5,0.25,0.75],[3,5,2]],[],[[1]]]})");
    row("digest of no layers",
        R"({"event":"digest","step":0,"time":0,"table":0,"rank":[],"quantiles":[],"energy":[]})");
    row("exact decimal", R"({"event":"step","step":1,"loss":9007199254740993,"lr":0.1,"total":1e22,"grad_norm":1e23})");
    row("subnormal", R"({"event":"step","step":1,"loss":4.9e-324,"lr":2.2250738585072011e-308,"total":1e-400})");
    row("infinite", R"({"event":"step","step":1,"loss":1e999})");
    row("start", R"({"event":"start","step":0,"time":1,"pid":5,"resumed_from":12})");
    row("begun", R"({"event":"start","step":0,"time":1,"pid":5,"resumed_from":null})");
    row("table",
        R"({"event":"layer_table","step":0,"time":1,"table":1,"layers":[{"path":"a.b","group":2,"depth":3,)"
        R"("capacity":16}]})");
    row("escapes", R"({"event":"st\u0065p","step":3,"note":"a \"b\"","loss":2})");
    row("other alphabet", R"({"event":"step","step":3,"läuft":true,"loss":2})");
    row("nested unknown", R"({"event":"step","step":3,"more":{"a":[1,2]},"loss":2})");
    row("step as a fraction", R"({"event":"step","step":3.5,"loss":2})");
    row("words for numbers", R"({"event":"step","step":"3","loss":"2","time":"x"})");
    row("key twice", R"({"event":"step","step":3,"step":4})");
    row("leading zero", R"({"event":"step","step":03,"loss":1})");
    row("leading plus", R"({"event":"step","step":3,"loss":+1})");
    row("bare point", R"({"event":"step","step":3,"loss":1.})");
    row("trailing comma", R"({"event":"step","step":3,})");
    row("text behind", R"({"event":"step","step":3} x)");
    row("NaN", R"({"event":"step","step":3,"loss":NaN})");
    row("no event", R"({"step":3})");
    row("empty", "");
}

void TestRunTail::rowsEqualThoseOfTheGeneralParser()
{
    QFETCH(QByteArray, line);
    compareReadings(line);
    // Also when it is torn anywhere, or any byte is another.
    for (qsizetype i = 0; i < line.size(); ++i) {
        compareReadings(line.left(i));
        for (const char other : { '0', '"', ',', '}', ']', '-', '\\', 'e' }) {
            QByteArray changed = line;
            changed[i] = other;
            compareReadings(changed);
        }
        if (QTest::currentTestFailed()) {
            return;
        }
    }
}

void TestRunTail::tailReadsWholeRun()
{
    const FinishedRun run;
    RunTail tail(run.path);
    QTRY_VERIFY_WITH_TIMEOUT(tail.caughtUp() && tail.record().status, kPatience);
    const bridge::RunRecord& record = tail.record();
    QCOMPARE(record.steps.size(), static_cast<std::size_t>(run.shape.steps));
    QCOMPARE(record.digests.size(), static_cast<std::size_t>(run.shape.steps / run.shape.digestEvery + 1));
    QCOMPARE(record.layers().size(), static_cast<std::size_t>(run.shape.layers));
    QCOMPARE(record.snapshots.size(), std::size_t(2));
    QCOMPARE(record.steps.aux.size(), std::size_t(3));
    QCOMPARE(record.steps.aux.at("balance").size(), record.steps.size());
    QCOMPARE(record.method(), std::string("lora_sp"));
    QCOMPARE(record.parameter("eta"), std::optional(0.9));
    QCOMPARE(tail.stateText(), QStringLiteral("finished"));
    QVERIFY(tail.problem().isEmpty());
    const bridge::DigestPtr digest = record.digestAt(52);
    QCOMPARE(digest->step, std::int64_t(50));
    QCOMPARE(digest->rank[3], static_cast<float>(tests::scriptedRank(run.shape, 3, 50, 0.9)));
    QCOMPARE(digest->quantiles.row(3).size(), std::size_t(5));
    QVERIFY(digest->quantiles.row(static_cast<std::size_t>(run.shape.layers)).empty());
    const std::vector<bridge::KindRow> kinds = bridge::kindRows(*digest);
    QCOMPARE(kinds.back().layer, static_cast<std::size_t>(run.shape.layers) - 1);
    QCOMPARE(kinds.back().kind, 3);
    QCOMPARE(kinds.back().shares.size(), std::size_t(4));
}

void TestRunTail::tailTakesLongRunsInOrder()
{
    // More rows than the window takes at once, with a resume among them.
    QTemporaryDir folder;
    RunShape shape;
    shape.steps = 50'000;
    shape.layers = 3;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), shape);
    writer.writeRunJson();
    writer.start();
    writer.layerTable();
    for (int step = 1; step <= 30'000; ++step) {
        writer.step(step, 1);
        if (step % 1000 == 0) {
            writer.digest(step, 0.9);
        }
    }
    writer.start(25'000);
    for (int step = 25'001; step <= 50'000; ++step) {
        writer.step(step, 2);
    }
    RunTail tail(folder.filePath(QStringLiteral("run")));
    QTRY_VERIFY_WITH_TIMEOUT(tail.caughtUp() && tail.record().steps.size() == 50'000, kPatience);
    QVERIFY(std::is_sorted(tail.record().steps.step.begin(), tail.record().steps.step.end()));
    QCOMPARE(tail.record().steps.loss[24'999], 1.0);
    QCOMPARE(tail.record().steps.loss[25'000], 2.0);
    QCOMPARE(tail.record().digests.back()->step, std::int64_t(25'000));
}

void TestRunTail::tailWaitsForTornLine()
{
    QTemporaryDir folder;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), {});
    writer.writeRunJson();
    writer.start();
    writer.step(1, 0.5);
    writer.raw(R"({"event":"step","step":2,"ti)");
    RunTail tail(folder.filePath(QStringLiteral("run")));
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().steps.size(), std::size_t(1), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(tail.record().tornBytes > 0, kPatience);
    writer.raw(R"(me":1,"loss":0.25,"total":0.25,"lr":0.1,"grad_norm":1,"samples_per_s":1,"load_s":0,"compute_s":0})"
               "\nnot json\n");
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().steps.size(), std::size_t(2), kPatience);
    QCOMPARE(tail.record().steps.loss[1], 0.25);
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().skippedLines, std::uint64_t(1), kPatience);
}

void TestRunTail::tailDropsStepsVoidedByResume()
{
    QTemporaryDir folder;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), {});
    writer.writeRunJson();
    writer.start();
    writer.layerTable();
    for (int step = 1; step <= 10; ++step) {
        writer.step(step, 10.0);
        writer.digest(step, 0.9);
    }
    RunTail tail(folder.filePath(QStringLiteral("run")));
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().steps.size(), std::size_t(10), kPatience);
    const std::uint64_t epoch = tail.record().epoch;
    writer.start(6);
    writer.step(7, 3.0);
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().steps.size(), std::size_t(7), kPatience);
    QCOMPARE(tail.record().steps.loss.back(), 3.0);
    QCOMPARE(tail.record().digests.back()->step, std::int64_t(6));
    QVERIFY(tail.record().epoch != epoch);
    // A reader that comes later sees the same.
    RunTail late(folder.filePath(QStringLiteral("run")));
    QTRY_COMPARE_WITH_TIMEOUT(late.record().steps.size(), std::size_t(7), kPatience);
    QCOMPARE(late.record().digests.size(), tail.record().digests.size());
}

void TestRunTail::tailTellsVanishedDirectory()
{
    const FinishedRun run;
    RunTail tail(run.path);
    QTRY_VERIFY_WITH_TIMEOUT(tail.caughtUp(), kPatience);
    const std::size_t steps = tail.record().steps.size();
    QVERIFY(QDir(run.path).removeRecursively());
    QTRY_VERIFY_WITH_TIMEOUT(tail.problem().contains(QStringLiteral("vanished")), kPatience);
    QCOMPARE(tail.record().steps.size(), steps);
    // It comes back: the disk was mounted again.
    RunWriter(toPath(run.path), {}).whole();
    QTRY_VERIFY_WITH_TIMEOUT(tail.problem().isEmpty(), kPatience);
}

void TestRunTail::tailTellsNewerVersion()
{
    QTemporaryDir folder;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), {});
    writer.whole();
    writer.writeRunJson(99);
    RunTail tail(folder.filePath(QStringLiteral("run")));
    QTRY_VERIFY_WITH_TIMEOUT(tail.problem().contains(QStringLiteral("newer version")), kPatience);
    QTRY_VERIFY_WITH_TIMEOUT(tail.record().steps.size() > 0, kPatience); // what can be read is shown
}

void TestRunTail::tailTakesAnotherRunInSamePlace()
{
    const FinishedRun run;
    RunTail tail(run.path);
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().steps.size(), std::size_t(100), kPatience);
    QTest::qWait(20); // another time stamp
    QVERIFY(QDir(run.path).removeRecursively());
    RunShape other;
    other.steps = 30;
    RunWriter(toPath(run.path), other).whole();
    QTRY_COMPARE_WITH_TIMEOUT(tail.record().steps.size(), std::size_t(30), kPatience);
}

void TestRunTail::killedWorkerIsTold()
{
    QTemporaryDir folder;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), {});
    writer.writeRunJson();
    writer.start();
    writer.step(1, 1);
    // A worker that was there and is gone: a process of this host that ended.
    QProcess process;
    process.start(QStringLiteral("sleep"), { QStringLiteral("60") });
    QVERIFY(process.waitForStarted());
    data::RunStatus status;
    status.pid = process.processId();
    status.pidStart = data::processStartTicks(status.pid);
    status.host = data::hostName();
    status.state = data::RunState::Running;
    status.heartbeat = data::unixSeconds();
    const data::RunPaths paths { writer.folder() };
    std::ofstream(paths.status()) << jsonText(data::statusJson(status));
    RunTail tail(folder.filePath(QStringLiteral("run")));
    QTRY_COMPARE_WITH_TIMEOUT(tail.stateText(), QStringLiteral("running"), kPatience);
    process.kill();
    QVERIFY(process.waitForFinished());
    QTRY_COMPARE_WITH_TIMEOUT(tail.stateText(), QStringLiteral("lost"), kPatience);
    QCOMPARE(tail.record().steps.size(), std::size_t(1));
}

void TestRunTail::openingLongRunIsFast()
{
    QTemporaryDir folder;
    RunShape shape;
    shape.layers = 300;
    shape.steps = 100'000;
    shape.digestEvery = 500;
    shape.writeSnapshots = false;
    RunWriter(toPath(folder.filePath(QStringLiteral("run"))), shape).whole();
    QElapsedTimer watch;
    watch.start();
    RunTail tail(folder.filePath(QStringLiteral("run")));
    qint64 first = -1;
    while (!tail.caughtUp() && watch.elapsed() < kPatience) {
        QTest::qWait(5);
        if (first < 0 && tail.record().steps.size() > 0) {
            first = watch.elapsed();
        }
    }
    qInfo("100,000 steps x 300 layers: first rows after %lld ms, all after %lld ms", first, watch.elapsed());
    QCOMPARE(tail.record().steps.size(), std::size_t(100'000));
    QVERIFY(first >= 0 && first < 1000);
    // Everything under a second on a quiet machine: bench_gui measures that; here other tests may run beside.
    QVERIFY2(watch.elapsed() < 3000, qPrintable(QString::number(watch.elapsed())));
}

void TestRunTail::alarmsAreRaised_data()
{
    QTest::addColumn<int>("kind");
    QTest::newRow("stuck ranks") << static_cast<int>(bridge::RunAlarm::Kind::StuckRanks);
    QTest::newRow("dead expert") << static_cast<int>(bridge::RunAlarm::Kind::DeadExpert);
    QTest::newRow("not finite") << static_cast<int>(bridge::RunAlarm::Kind::NotFinite);
    QTest::newRow("starving loader") << static_cast<int>(bridge::RunAlarm::Kind::StarvingLoader);
    QTest::newRow("healthy") << -1;
}

void TestRunTail::alarmsAreRaised()
{
    QFETCH(int, kind);
    bridge::RunRecord record;
    record.run = std::make_shared<const Json>(Json { { "method", { { "type", "lora_sp" } } } });
    record.tables[0] = { { "a.q_proj", 0, 0, 8 } };
    for (int i = 0; i < 30; ++i) {
        data::RunStep step { .step = i, .loss = 1.0, .gradNorm = 1, .loadSeconds = 0.01, .computeSeconds = 0.1 };
        if (kind == static_cast<int>(bridge::RunAlarm::Kind::NotFinite) && i == 20) {
            step.loss = std::nan("");
        }
        if (kind == static_cast<int>(bridge::RunAlarm::Kind::StarvingLoader)) {
            step.loadSeconds = 0.3;
        }
        record.steps.add(step);
        auto digest = std::make_shared<data::DigestColumns>();
        digest->step = i;
        digest->rank = { kind == static_cast<int>(bridge::RunAlarm::Kind::StuckRanks)
                             ? 4.0F
                             : 4.0F + 0.01F * static_cast<float>(i) };
        digest->shares.values = { kind == static_cast<int>(bridge::RunAlarm::Kind::DeadExpert) ? 0.0F : 0.5F, 0.5F };
        digest->shares.endRow();
        record.digests.push_back(digest);
    }
    const std::vector<bridge::RunAlarm> alarms = bridge::findAlarms(record);
    if (kind < 0) {
        QVERIFY(alarms.empty());
    } else {
        QCOMPARE(alarms.size(), std::size_t(1));
        QCOMPARE(static_cast<int>(alarms[0].kind), kind);
        QVERIFY(!alarms[0].text.isEmpty());
    }
}

void TestRunTail::snapshotIsRead()
{
    QTemporaryDir folder;
    const RunShape shape;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), shape);
    writer.snapshot(40, 0.9);
    const auto snapshot = bridge::readSnapshot(data::RunPaths { writer.folder() }.snapshot(40), {});
    QVERIFY(snapshot.has_value());
    QCOMPARE(snapshot->layers.size(), static_cast<std::size_t>(shape.layers));
    const bridge::LayerSnapshot& layer = snapshot->layers.at(tests::layerPath(shape, 2));
    QCOMPARE(layer.rankHistogram.size(), static_cast<std::size_t>(shape.capacity) + 1);
    QVERIFY(std::abs(layer.meanRank() - tests::scriptedRank(shape, 2, 40, 0.9)) < 0.5);
    const std::vector<double> shares = layer.sortedShares();
    QVERIFY(std::is_sorted(shares.rbegin(), shares.rend()));
    QVERIFY(std::abs(std::accumulate(shares.begin(), shares.end(), 0.0) - 1.0) < 1e-9);
}

void TestRunTail::tornSnapshotIsAnError()
{
    QTemporaryDir folder;
    RunWriter writer(toPath(folder.filePath(QStringLiteral("run"))), {});
    writer.snapshot(0, 0.9);
    const auto file = data::RunPaths { writer.folder() }.snapshot(0);
    const auto size = std::filesystem::file_size(file);
    for (const std::uintmax_t keep : { std::uintmax_t(0), std::uintmax_t(7), std::uintmax_t(100), size - 1 }) {
        std::filesystem::resize_file(file, keep);
        QVERIFY(!bridge::readSnapshot(file, {}).has_value());
    }
}

int main(int argc, char** argv)
{
    return tests::runTest<TestRunTail>(argc, argv);
}

#include "tst_run_tail.moc"
