// base: strict JSON, typed fields, atomic files, checked sizes, hashing, logging levels, threads.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/checked_math.h"
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/base/log.h"
#include "backend/base/sha256.h"
#include "backend/base/strong_id.h"
#include "backend/base/worker_thread.h"

#include <atomic>
#include <cmath>
#include <limits>

#include <sys/resource.h>

#include <csignal>

#include <nlohmann/json.hpp>

#include <QTemporaryDir>
#include <QTest>

using namespace rankwise;
namespace fs = std::filesystem;

class TestBase : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void refusesJson_data();
    void refusesJson();
    void keepsKeyOrder();
    void readsFields_data();
    void readsFields();
    void reportsUnknownKeys();
    void errorNamesFieldAndFile();
    void countsElements_data();
    void countsElements();
    void atomicFileReplacesOnCommitOnly();
    void atomicFileReportsFullDisk();
    void atomicFolderAppearsWhole();
    void mappedFileShowsBytes();
    void readFileHonoursLimit();
    void sha256KnownVectors_data();
    void sha256KnownVectors();
    void logLevelsByModule();
    void logWritesJsonLines();
    void waitsEndEarly();
    void threadExceptionIsLogged();
    void errcNamesAreUnique();
    void printableTextIsUtf8_data();
    void printableTextIsUtf8();
};

void TestBase::refusesJson_data()
{
    QTest::addColumn<QByteArray>("text");
    QTest::newRow("empty") << QByteArray();
    QTest::newRow("cut") << QByteArray("{\"a\":");
    QTest::newRow("trailing comma") << QByteArray("[1,]");
    QTest::newRow("trailing text") << QByteArray("{} x");
    QTest::newRow("NaN") << QByteArray("[NaN]");
    QTest::newRow("comment") << QByteArray("[1] // x");
    QTest::newRow("key twice") << QByteArray(R"({"a":1,"b":{"c":1,"c":2}})");
    QTest::newRow("not UTF-8") << QByteArray("[\"\xff\"]");
    QTest::newRow("lone surrogate") << QByteArray(R"(["\ud800"])");
    QTest::newRow("number overflows") << QByteArray("[1e999]");
    QTest::newRow("too deep") << QByteArray(20'000, '[') + QByteArray(20'000, ']');
}

void TestBase::refusesJson()
{
    QFETCH(QByteArray, text);
    const auto result = parseJson(text.toStdString(), "x.json");
    QVERIFY(!result);
    QCOMPARE(result.error().code, Errc::JsonInvalid);
    QCOMPARE(result.error().subject, std::string("x.json"));
}

void TestBase::keepsKeyOrder()
{
    const auto json = parseOrderedJson(R"({"z":1,"a":2})", "x");
    QVERIFY(json.has_value());
    QCOMPARE(json->begin().key(), std::string("z"));
}

void TestBase::readsFields_data()
{
    QTest::addColumn<QByteArray>("text");
    QTest::addColumn<int>("code");
    QTest::newRow("good") << QByteArray(R"({"n":4,"x":0.5,"s":"a","list":[1,2]})") << -1;
    QTest::newRow("absent") << QByteArray(R"({"x":0.5,"s":"a","list":[]})") << int(Errc::FieldMissing);
    QTest::newRow("null") << QByteArray(R"({"n":null,"x":0.5,"s":"a","list":[]})") << int(Errc::FieldMissing);
    QTest::newRow("below") << QByteArray(R"({"n":0,"x":0.5,"s":"a","list":[]})") << int(Errc::FieldInvalid);
    QTest::newRow("above") << QByteArray(R"({"n":9,"x":0.5,"s":"a","list":[]})") << int(Errc::FieldInvalid);
    QTest::newRow("2^64-1") << QByteArray(R"({"n":18446744073709551615,"x":0,"s":"","list":[]})")
                            << int(Errc::FieldInvalid);
    QTest::newRow("float for int") << QByteArray(R"({"n":4.0,"x":0.5,"s":"a","list":[]})") << int(Errc::FieldInvalid);
    QTest::newRow("text for number") << QByteArray(R"({"n":4,"x":"fast","s":"a","list":[]})")
                                     << int(Errc::FieldInvalid);
    QTest::newRow("number for text") << QByteArray(R"({"n":4,"x":1,"s":2,"list":[]})") << int(Errc::FieldInvalid);
    QTest::newRow("bad item") << QByteArray(R"({"n":4,"x":1,"s":"","list":[1,"2"]})") << int(Errc::FieldInvalid);
    QTest::newRow("no object") << QByteArray("[1]") << int(Errc::FieldInvalid);
}

void TestBase::readsFields()
{
    QFETCH(QByteArray, text);
    QFETCH(int, code);
    const auto json = parseJson(text.toStdString(), "x.json");
    QVERIFY(json.has_value());
    FieldReader reader(*json, "x.json");
    std::int64_t n = 0;
    double x = 0;
    std::string s;
    std::vector<std::int64_t> list;
    reader.require("n", n, 1, 8);
    reader.require("x", x);
    reader.require("s", s);
    reader.require("list", list, 0, 10);
    const auto result = reader.result();
    QCOMPARE(result ? -1 : int(result.error().code), code);
    if (code < 0) {
        QCOMPARE(n, 4);
        QCOMPARE(x, 0.5);
        QCOMPARE(list, (std::vector<std::int64_t> { 1, 2 }));
    }
}

void TestBase::reportsUnknownKeys()
{
    const auto json = parseJson(R"({"a":1,"zz":2})", "x");
    FieldReader reader(*json, "x");
    std::int64_t a = 0;
    reader.require("a", a);
    QCOMPARE(reader.unknownKeys(), std::vector<std::string> { "zz" });
}

void TestBase::errorNamesFieldAndFile()
{
    const auto json = parseJson(R"({"lr":"fast"})", "x");
    FieldReader reader(*json, "run/config.json", "optimizer.");
    double lr = 0;
    reader.require("lr", lr, 0.0, 1.0);
    const auto result = reader.result();
    QVERIFY(!result);
    const std::string text = result.error().describe();
    QVERIFY(text.find("run/config.json") != std::string::npos);
    QVERIFY(text.find("optimizer.lr") != std::string::npos);
    QVERIFY(text.find("\"fast\"") != std::string::npos);
}

void TestBase::countsElements_data()
{
    QTest::addColumn<QList<qint64>>("shape");
    QTest::addColumn<qint64>("count");
    QTest::newRow("scalar") << QList<qint64> {} << qint64(1);
    QTest::newRow("plain") << QList<qint64> { 2, 3 } << qint64(6);
    QTest::newRow("empty") << QList<qint64> { 3, 0 } << qint64(0);
    QTest::newRow("negative") << QList<qint64> { 3, -1 } << qint64(-1);
    QTest::newRow("overflow") << QList<qint64> { qint64(1) << 40, qint64(1) << 40 } << qint64(-1);
    QTest::newRow("overflow with zero") << QList<qint64> { qint64(1) << 40, qint64(1) << 40, 0 } << qint64(-1);
}

void TestBase::countsElements()
{
    QFETCH(QList<qint64>, shape);
    QFETCH(qint64, count);
    const std::vector<std::int64_t> dims(shape.begin(), shape.end());
    const auto result = elementCount(dims);
    QCOMPARE(result ? qint64(*result) : -1, count);
}

void TestBase::atomicFileReplacesOnCommitOnly()
{
    const QTemporaryDir folder;
    const fs::path path = fs::path(folder.path().toStdString()) / "a.txt";
    QVERIFY(writeFileAtomically(path, "old").has_value());
    {
        auto file = AtomicFile::create(path);
        QVERIFY(file.has_value());
        QVERIFY(file->write("new text").has_value());
        QCOMPARE(readFile(path).value(), std::string("old"));
    }
    QCOMPARE(readFile(path).value(), std::string("old"));
    QCOMPARE(std::distance(fs::directory_iterator(path.parent_path()), fs::directory_iterator {}), 1);
    QVERIFY(writeFileAtomically(path, "new").has_value());
    QCOMPARE(readFile(path).value(), std::string("new"));
    const auto nowhere = AtomicFile::create(path.parent_path() / "none" / "b");
    QVERIFY(!nowhere);
    QCOMPARE(nowhere.error().code, Errc::FileNotFound);
}

void TestBase::atomicFileReportsFullDisk()
{
    const QTemporaryDir folder;
    // A file-size limit stands in for a full disk: the write fails half way through, the old file stays.
    const fs::path path = fs::path(folder.path().toStdString()) / "limited";
    QVERIFY(writeFileAtomically(path, "old").has_value());
    rlimit before {};
    ::getrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small { 4096, before.rlim_max };
    ::setrlimit(RLIMIT_FSIZE, &small);
    const auto result = writeFileAtomically(path, std::string(100'000, 'x'));
    ::setrlimit(RLIMIT_FSIZE, &before);
    QVERIFY(!result);
    QCOMPARE(result.error().code, Errc::IoFailed);
    QCOMPARE(readFile(path).value(), std::string("old"));
    QCOMPARE(failErrno(ENOSPC, "write", path).value().code, Errc::DiskFull);
}

void TestBase::atomicFolderAppearsWhole()
{
    const QTemporaryDir folder;
    const fs::path target = fs::path(folder.path().toStdString()) / "step-1";
    for (const char* text : { "one", "two" }) {
        auto aside = AtomicFolder::create(target);
        QVERIFY(aside.has_value());
        QVERIFY(writeFileAtomically(aside->path() / "f", text).has_value());
        QVERIFY(aside->commit().has_value());
        QCOMPARE(readFile(target / "f").value(), std::string(text));
    }
    {
        auto aside = AtomicFolder::create(target);
        QVERIFY(writeFileAtomically(aside->path() / "f", "three").has_value());
    }
    QCOMPARE(readFile(target / "f").value(), std::string("two"));
    QCOMPARE(std::distance(fs::directory_iterator(target.parent_path()), fs::directory_iterator {}), 1);
}

void TestBase::mappedFileShowsBytes()
{
    const QTemporaryDir folder;
    const fs::path path = fs::path(folder.path().toStdString()) / "m";
    QVERIFY(writeFileAtomically(path, "abc").has_value());
    auto file = MappedFile::open(path);
    QVERIFY(file.has_value());
    const MappedFile moved = std::move(*file);
    QCOMPARE(moved.bytes().size(), std::size_t(3));
    QCOMPARE(moved.bytes()[2], std::byte('c'));
    QVERIFY(writeFileAtomically(path, "").has_value());
    QVERIFY(MappedFile::open(path)->bytes().empty());
    QCOMPARE(MappedFile::open(path.parent_path()).error().code, Errc::FileNotFound);
}

void TestBase::readFileHonoursLimit()
{
    const QTemporaryDir folder;
    const fs::path path = fs::path(folder.path().toStdString()) / "r";
    QVERIFY(writeFileAtomically(path, "12345").has_value());
    QCOMPARE(readFile(path, 5).value(), std::string("12345"));
    QCOMPARE(readFile(path, 4).error().code, Errc::TooLarge);
    QCOMPARE(readFile("/dev/zero", 1000).error().code, Errc::TooLarge);
    QCOMPARE(readFile(path / "x").error().code, Errc::FileNotFound);
}

void TestBase::sha256KnownVectors_data()
{
    QTest::addColumn<QByteArray>("text");
    QTest::addColumn<QByteArray>("hex");
    // FIPS 180-4 examples.
    QTest::newRow("empty") << QByteArray()
                           << QByteArray("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    QTest::newRow("abc") << QByteArray("abc")
                         << QByteArray("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

void TestBase::sha256KnownVectors()
{
    QFETCH(QByteArray, text);
    QFETCH(QByteArray, hex);
    const QTemporaryDir folder;
    const fs::path path = fs::path(folder.path().toStdString()) / "h";
    QVERIFY(writeFileAtomically(path, text.toStdString()).has_value());
    QCOMPARE(sha256OfFile(path).value(), hex.toStdString());
}

void TestBase::logLevelsByModule()
{
    log::LogConfig config;
    QVERIFY(log::parseLevels("warn,io=debug", config).has_value());
    config.terminal = false;
    QVERIFY(log::configure(config).has_value());
    QVERIFY(log::enabled(log::Level::Debug, "io"));
    QVERIFY(!log::enabled(log::Level::Info, "train"));
    QVERIFY(log::enabled(log::Level::Warn, "train"));
    QCOMPARE(log::parseLevels("io=loud", config).error().code, Errc::FieldInvalid);
}

void TestBase::logWritesJsonLines()
{
    const QTemporaryDir folder;
    const fs::path path = fs::path(folder.path().toStdString()) / "log.jsonl";
    log::LogConfig config;
    config.terminal = false;
    config.json = true;
    config.file = path;
    QVERIFY(log::configure(config).has_value());
    std::string heard;
    log::setListener([&](const log::Record& record) { heard = record.module + ":" + record.message; });
    log::warn("io", "value \"{}\"", 7);
    log::setListener({});
    const auto line = parseJson(readFile(path).value(), "log");
    QVERIFY(line.has_value());
    QCOMPARE(line->at("message").get<std::string>(), std::string("value \"7\""));
    QCOMPARE(line->at("module").get<std::string>(), std::string("io"));
    QCOMPARE(heard, std::string("io:value \"7\""));
    config.file = path / "below a file" / "log";
    QCOMPARE(log::configure(config).error().code, Errc::IoFailed);
    QVERIFY(log::configure({ .terminal = false }).has_value());
}

void TestBase::waitsEndEarly()
{
    std::atomic<bool> woken { false };
    const auto start = std::chrono::steady_clock::now();
    {
        WorkerThread thread("sleeper",
                            [&](const std::stop_token& stop) { woken = !waitFor(stop, std::chrono::hours(1)); });
    }
    QVERIFY(woken);
    QVERIFY(std::chrono::steady_clock::now() - start < std::chrono::minutes(1));
    const std::stop_source never;
    QVERIFY(waitFor(never.get_token(), std::chrono::milliseconds(1)));
}

void TestBase::threadExceptionIsLogged()
{
    QVERIFY(log::configure({ .terminal = false }).has_value());
    std::string heard;
    log::setListener([&](const log::Record& record) { heard = record.message; });
    WorkerThread("thrower", [](const std::stop_token&) { RW_CHECK(1 > 2, "values"); }).join();
    log::setListener({});
    QVERIFY(heard.find("1 > 2") != std::string::npos);
    QVERIFY(heard.find("values") != std::string::npos);
}

void TestBase::errcNamesAreUnique()
{
    std::set<std::string_view> names;
    for (int code = 0; code <= int(Errc::UsageInvalid); ++code) {
        names.insert(errcName(Errc(code)));
    }
    QCOMPARE(int(names.size()), int(Errc::UsageInvalid) + 1);
    QVERIFY(!names.contains("Unknown"));
}

void TestBase::printableTextIsUtf8_data()
{
    QTest::addColumn<QByteArray>("raw");
    QTest::addColumn<QString>("shown");
    QTest::newRow("plain") << QByteArray("a\n\tb") << QStringLiteral("a\n\tb");
    QTest::newRow("umlaut and emoji") << QByteArray("\xc3\xa4\xf0\x9f\x98\x80")
                                      << QString::fromUtf8("\xc3\xa4\xf0\x9f\x98\x80");
    QTest::newRow("stray byte") << QByteArray("a\xff"
                                              "b")
                                << QStringLiteral("a\uFFFDb");
    QTest::newRow("cut sequence") << QByteArray("a\xe2\x82") << QStringLiteral("a\uFFFD\uFFFD");
    QTest::newRow("surrogate") << QByteArray("\xed\xa0\x80") << QStringLiteral("\uFFFD\uFFFD\uFFFD");
    QTest::newRow("overlong") << QByteArray("\xc0\xaf") << QStringLiteral("\uFFFD\uFFFD");
    QTest::newRow("escape sequence") << QByteArray("\x1b[31m") << QStringLiteral("\uFFFD[31m");
}

void TestBase::printableTextIsUtf8()
{
    QFETCH(QByteArray, raw);
    QFETCH(QString, shown);
    QCOMPARE(QString::fromStdString(printableText(raw.toStdString())), shown);
}

QTEST_APPLESS_MAIN(TestBase)
#include "tst_base.moc"
