// safetensors, checkpoints, MessagePack, event files and the hub cache: golden vectors, one row for each error,
// truncation at every byte, flips of every header byte, and write-then-read equality.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/checkpoint.h"
#include "backend/io/event_file.h"
#include "backend/io/hub_cache.h"
#include "backend/io/msgpack.h"
#include "backend/io/safetensors_reader.h"
#include "backend/io/safetensors_writer.h"
#include "test_support.h"

#include "backend/base/sha256.h"

#include <bit>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include <sys/resource.h>

namespace fs = std::filesystem;
using namespace rankwise;
using namespace rankwise::io;
using namespace rankwise::test;

namespace {

/// The golden tables write values that JSON lacks as objects.
Value valueOf(const OrderedJson& json)
{
    if (json.is_null()) {
        return {};
    }
    if (json.is_boolean()) {
        return json.get<bool>();
    }
    if (json.is_number_unsigned()) {
        return json.get<std::uint64_t>();
    }
    if (json.is_number_integer()) {
        return json.get<std::int64_t>();
    }
    if (json.is_number_float()) {
        return json.get<double>();
    }
    if (json.is_string()) {
        return json.get<std::string>();
    }
    if (json.is_array()) {
        Value::Array list;
        for (const OrderedJson& item : json) {
            list.push_back(valueOf(item));
        }
        return list;
    }
    if (json.contains("float")) {
        return std::stod(json.at("float").get<std::string>());
    }
    Value::Map map;
    for (const auto& [key, item] : json.items()) {
        map.emplace_back(key, valueOf(item));
    }
    return map;
}

} // namespace

class TestIoFormats : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void dtypeTable();
    void rejectsMalformedHeader_data();
    void rejectsMalformedHeader();
    void acceptsOddHeaders();
    void goldenSafetensors_data();
    void goldenSafetensors();
    void truncationAtEveryByte();
    void headerFlipsNeverCrash();
    void manyTensorsOpenFast();
    void hugeHeaderIsLinear();

    void writtenEqualsRead();
    void writerOrderIsTheReference();
    void writerRefuses_data();
    void writerRefuses();
    void writerPieces();
    void uncommittedWriterLeavesNothing();
    void shardsRoundTrip();

    void checkpointFolders();
    void checkpointErrors_data();
    void checkpointErrors();
    void checkpointAliases();
    void pickleNamesTheCommand();
    void nonFiniteAgainstPlainLoop_data();
    void nonFiniteAgainstPlainLoop();
    void nonFiniteScanStops();

    void goldenMessages_data();
    void goldenMessages();
    void goldenMalformedMessages_data();
    void goldenMalformedMessages();
    void messageErrors_data();
    void messageErrors();
    void messageTruncation();
    void messageNumbers();

    void crcVectors();
    void goldenEventFiles_data();
    void goldenEventFiles();
    void eventsRoundTrip();
    void eventFileTruncation();

    void hubCache();
    void hubFolders();
};

void TestIoFormats::dtypeTable()
{
    for (std::size_t i = 0; i < kDtypeCount; ++i) {
        const auto dtype = static_cast<Dtype>(i);
        QCOMPARE(dtypeFromName(dtypeName(dtype)), std::optional(dtype));
        QVERIFY(dtypeBits(dtype) == 4 || dtypeBits(dtype) == 6 || dtypeBits(dtype) % 8 == 0);
    }
    QVERIFY(!dtypeFromName("f32"));
    QVERIFY(!dtypeFromName("F99"));
    QCOMPARE(tensorByteCount(Dtype::F4, std::vector<std::int64_t> { 3, 2 }).value(), std::uint64_t { 3 });
    QCOMPARE(codeOf(tensorByteCount(Dtype::F4, std::vector<std::int64_t> { 3 })), QStringLiteral("OffsetsInvalid"));
}

void TestIoFormats::rejectsMalformedHeader_data()
{
    QTest::addColumn<QByteArray>("file");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const std::string& file, const char* code) {
        QTest::newRow(name) << QByteArray(file.data(), static_cast<qsizetype>(file.size())) << QString(code);
    };
    const std::string u8 = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
    row("empty file", "", "FileTruncated");
    row("seven bytes", "1234567", "FileTruncated");
    row("length 2^63", std::string("\0\0\0\0\0\0\0\x80", 8), "HeaderTooLarge");
    row("length beyond the file", raw(std::uint64_t { 1000 }) + "{}", "FileTruncated");
    row("length just above the limit", raw(kMaxHeaderBytes + 1) + "{}", "HeaderTooLarge");
    row("not json", safetensorsOf("{\"a\":", 0), "HeaderInvalid");
    row("byte-order mark", safetensorsOf("\xEF\xBB\xBF{}", 0), "HeaderInvalid");
    row("NUL after the object", safetensorsOf(std::string("{}\0\0\0\0\0\0", 8), 0), "HeaderInvalid");
    row("null", safetensorsOf("null", 0), "HeaderInvalid");
    row("entry is a number", safetensorsOf(R"({"a":1})", 0), "HeaderInvalid");
    row("unknown dtype", safetensorsOf(R"({"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}})", 4), "DtypeUnknown");
    row("dtype a number", safetensorsOf(R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4), "HeaderInvalid");
    row("no shape", safetensorsOf(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4), "HeaderInvalid");
    row("three offsets", safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4),
        "HeaderInvalid");
    row("negative offset", safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}})", 4),
        "HeaderInvalid");
    row("offset of 2^64",
        safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551616]}})", 4),
        "HeaderInvalid");
    row("dimension of 2^63",
        safetensorsOf(R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4]}})", 4),
        "ShapeOverflow");
    row("shape is an object", safetensorsOf(R"({"a":{"dtype":"U8","shape":{},"data_offsets":[0,4]}})", 4),
        "HeaderInvalid");
    row("shape twice", safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}})", 4),
        "HeaderInvalid");
    row("metadata twice", safetensorsOf(R"({"__metadata__":{},"__metadata__":{}})", 0), "HeaderInvalid");
    row("metadata key twice", safetensorsOf(R"({"__metadata__":{"a":"1","a":"1"}})", 0), "HeaderInvalid");
    row("metadata nested", safetensorsOf(R"({"__metadata__":{"a":{"b":"c"}}})", 0), "HeaderInvalid");
    row("metadata null", safetensorsOf(R"({"__metadata__":null})", 0), "HeaderInvalid");
    row("deep value of an unknown key",
        safetensorsOf(R"({"a":{"x":)" + std::string(500, '[') + std::string(500, ']')
                          + R"(,"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                      4),
        "HeaderInvalid");
    row("data cut short", safetensorsOf(u8, 3), "FileTruncated");
    row("one byte too many", safetensorsOf(u8, 5), "OffsetsInvalid");
    row("F4 with an odd count", safetensorsOf(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2),
        "OffsetsInvalid");
    row("overlap",
        safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                      6),
        "OffsetsInvalid");
    row("hole",
        safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
                      9),
        "OffsetsInvalid");
    row("zip archive of torch", std::string("PK\x03\x04\x14\0\0\0\x08\x08", 10), "PickleRefused");
    row("pickle stream", std::string("\x80\x02}q\0X\x01\0\0\0aq\x01.", 14), "PickleRefused");
}

void TestIoFormats::rejectsMalformedHeader()
{
    QFETCH(QByteArray, file);
    QFETCH(QString, expected);
    const auto header = parseSafetensorsHeader(std::as_bytes(std::span(file.constData(), std::size_t(file.size()))));
    QCOMPARE(codeOf(header), expected);
    QVERIFY(!header.error().message.empty());
}

void TestIoFormats::acceptsOddHeaders()
{
    std::vector<Warning> warnings;
    const std::string plain =
        safetensorsOf(R"({"b":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":{"y":[1,{"z":null}]}},)"
                      R"("__metadata__":{"format":"pt"},"a":{"shape":[2,0,3],"data_offsets":[4,4],"dtype":"I64"}}   )",
                      4);
    const auto header = parseSafetensorsHeader(bytesOf(plain), warnings);
    QVERIFY2(header, header ? "" : qPrintable(describe(header.error())));
    QVERIFY(warnings.empty());
    QCOMPARE(header->tensors.size(), std::size_t { 2 });
    QCOMPARE(header->tensors.at("b").elementCount(), std::uint64_t { 1 });
    QCOMPARE(header->tensors.at("a").elementCount(), std::uint64_t { 0 });
    QCOMPARE(header->metadata.at("format"), std::string("pt"));
    QCOMPARE(textOf(tensorBytes(*header, bytesOf(plain), "b").value()), std::string("\0\1\2\3", 4));
    QCOMPARE(codeOf(tensorBytes(*header, bytesOf(plain), "c")), QStringLiteral("TensorNotFound"));

    QVERIFY(parseSafetensorsHeader(bytesOf(safetensorsOf("\n {}", 0)), warnings));
    QCOMPARE(warnings.size(), std::size_t { 1 });
    warnings.clear();
    QVERIFY(parseSafetensorsHeader(
        bytesOf(safetensorsOf(R"({"a\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1)), warnings));
    QCOMPARE(warnings.size(), std::size_t { 1 });
    QCOMPARE(warnings.front().subject, std::string("a\\x00b"));
}

void TestIoFormats::goldenSafetensors_data()
{
    QTest::addColumn<QString>("file");
    QTest::addColumn<QString>("expect");
    const auto cases = readCases(goldenFolder() / "hostile" / "safetensors");
    QVERIFY2(cases, "no golden safetensors cases");
    for (const Json& row : cases->at("cases")) {
        const auto file = row.at("file").get<std::string>();
        QTest::newRow(file.c_str()) << QString::fromStdString(file)
                                    << QString::fromStdString(row.at("expect").get<std::string>());
    }
}

void TestIoFormats::goldenSafetensors()
{
    QFETCH(QString, file);
    QFETCH(QString, expect);
    std::vector<Warning> warnings;
    const auto checkpoint = Checkpoint::open(goldenFolder() / "hostile" / "safetensors" / file.toStdString(), warnings);
    if (expect == "refuse") {
        QVERIFY(!checkpoint);
        QVERIFY(checkpoint.error().code != Errc::Internal);
        return;
    }
    QVERIFY2(checkpoint, checkpoint ? "" : qPrintable(describe(checkpoint.error())));
    const auto bad = scanNonFinite(*checkpoint);
    QVERIFY(bad);
    QCOMPARE(!warnings.empty() || !bad->empty(), expect == "warn");
}

void TestIoFormats::truncationAtEveryByte()
{
    const std::string file = safetensorsOf(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                                           R"("b":{"dtype":"U8","shape":[5],"data_offsets":[12,17]}})",
                                           17);
    QVERIFY(parseSafetensorsHeader(bytesOf(file)));
    for (std::size_t size = 0; size < file.size(); ++size) {
        QVERIFY2(!parseSafetensorsHeader(bytesOf(file).first(size)), qPrintable(QString::number(size)));
    }
}

void TestIoFormats::headerFlipsNeverCrash()
{
    const std::string file = safetensorsOf(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[3],)"
                                           R"("data_offsets":[0,12]},"b":{"dtype":"BF16","shape":[2,2],)"
                                           R"("data_offsets":[12,20]}})",
                                           20);
    int accepted = 0;
    for (std::size_t i = 0; i < file.size() - 20; ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string flipped = file;
            flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
            const auto header = parseSafetensorsHeader(bytesOf(flipped));
            if (!header) {
                continue;
            }
            ++accepted; // e.g. another letter in a name; every range must still be inside
            for (const auto& [name, info] : header->tensors) {
                const auto bytes = tensorBytes(*header, bytesOf(flipped), name);
                QVERIFY(bytes && bytes->data() + bytes->size() <= bytesOf(flipped).data() + flipped.size());
            }
        }
    }
    QVERIFY(accepted > 0);
}

void TestIoFormats::manyTensorsOpenFast()
{
    // The published SmolVLA's table: 500 tensors, 907 MB, as a sparse file.
    const QTemporaryDir folder;
    const auto identity = readJsonFile(goldenFolder() / "models" / "identity" / "smolvla_base.json");
    std::vector<TensorSpec> specs;
    if (identity) {
        for (const auto& [name, entry] : identity->at("table").items()) {
            specs.push_back({ name, dtypeFromName(entry.at("dtype").get<std::string>()).value(),
                              entry.at("shape").get<std::vector<std::int64_t>>() });
        }
    } else {
        for (int i = 0; i < 500; ++i) {
            specs.push_back({ "model.layers." + std::to_string(i) + ".weight", Dtype::BF16, { 907, 1000 } });
        }
    }
    const auto header = safetensorsHeaderText(specs, {});
    QVERIFY(header);
    std::uint64_t total = 0;
    for (const TensorSpec& spec : specs) {
        total += tensorByteCount(spec.dtype, spec.shape).value();
    }
    const fs::path path = pathOf(folder) / "model.safetensors";
    std::ofstream(path, std::ios::binary) << *header;
    fs::resize_file(path, header->size() + total);

    rusage before {};
    getrusage(RUSAGE_SELF, &before);
    const auto start = std::chrono::steady_clock::now();
    const auto checkpoint = Checkpoint::open(path);
    const double milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    rusage after {};
    getrusage(RUSAGE_SELF, &after);
    QVERIFY(checkpoint);
    QCOMPARE(checkpoint->byteCount(), total);
    qInfo("%zu tensors, %.0f MB: %.2f ms, peak memory +%ld kB", specs.size(), static_cast<double>(total) / 1e6,
          milliseconds, after.ru_maxrss - before.ru_maxrss);
    QVERIFY(milliseconds < 50 * 20); // far above the 50 ms wanted: the machine may be busy
    QVERIFY(after.ru_maxrss - before.ru_maxrss < 20'000);
}

void TestIoFormats::hugeHeaderIsLinear()
{
    const auto secondsFor = [](int tensors) {
        std::string json = "{";
        for (int i = 0; i < tensors; ++i) {
            json += (i == 0 ? "" : ",") + ("\"t" + std::to_string(i))
                + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
        }
        const std::string file = safetensorsOf(json + "}", 0);
        const auto start = std::chrono::steady_clock::now();
        const auto header = parseSafetensorsHeader(bytesOf(file));
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return header && header->tensors.size() == std::size_t(tensors) ? seconds : -1.0;
    };
    const double small = secondsFor(10'000);
    const double large = secondsFor(100'000);
    QVERIFY(small > 0 && large > 0);
    QVERIFY2(large < 60 * small + 0.2, qPrintable(QString::number(large / small)));
}

void TestIoFormats::writtenEqualsRead()
{
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "a.safetensors";
    std::mt19937 random(7);
    std::map<std::string, std::string> data;
    std::map<std::string, TensorView> views;
    for (std::size_t i = 0; i < kDtypeCount; ++i) {
        const auto dtype = static_cast<Dtype>(i);
        const std::vector<std::int64_t> shape { 2, 4, static_cast<std::int64_t>(i % 4) };
        std::string bytes(tensorByteCount(dtype, shape).value(), '\0');
        for (char& c : bytes) {
            c = static_cast<char>(random());
        }
        const std::string name = "t." + std::string(dtypeName(dtype)) + " \"ü\n";
        data[name] = bytes;
        views[name] = { dtype, shape, bytesOf(data[name]) };
    }
    const Metadata metadata { { "format", "pt" }, { "zeta", "\\\"\t" } };
    QVERIFY(writeSafetensors(path, views, metadata));
    const auto checkpoint = Checkpoint::open(path);
    QVERIFY2(checkpoint, checkpoint ? "" : qPrintable(describe(checkpoint.error())));
    QCOMPARE(checkpoint->names().size(), views.size());
    QCOMPARE(checkpoint->metadata(), metadata);
    for (const auto& [name, view] : views) {
        QCOMPARE(textOf(checkpoint->bytes(name).value()), data[name]);
        QVERIFY(checkpoint->info(name)->dtype == view.dtype && checkpoint->info(name)->shape == view.shape);
    }
}

void TestIoFormats::writerOrderIsTheReference()
{
    // Header of safetensors 0.8 for the same tensors, byte for byte.
    std::vector<TensorSpec> specs {
        { "b", Dtype::F32, { 1 } }, { "a", Dtype::F32, { 2, 3 } }, { "z", Dtype::I64, {} }, { "c", Dtype::U8, { 0 } }
    };
    const std::string json =
        R"({"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
        R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},"b":{"dtype":"F32","shape":[1],)"
        R"("data_offsets":[32,36]},"c":{"dtype":"U8","shape":[0],"data_offsets":[36,36]}})";
    const std::string padded = json + std::string((8 - json.size() % 8) % 8, ' ');
    QCOMPARE(safetensorsHeaderText(specs, { { "format", "pt" } }).value(),
             raw(std::uint64_t { padded.size() }) + padded);
    std::vector<TensorSpec> none;
    QCOMPARE(safetensorsHeaderText(none, {}).value(), raw(std::uint64_t { 8 }) + "{}      ");
}

void TestIoFormats::writerRefuses_data()
{
    QTest::addColumn<int>("which");
    QTest::addColumn<QString>("expected");
    QTest::newRow("name twice") << 0 << "AlreadyExists";
    QTest::newRow("reserved name") << 1 << "FieldInvalid";
    QTest::newRow("name not UTF-8") << 2 << "FieldInvalid";
    QTest::newRow("metadata not UTF-8") << 3 << "FieldInvalid";
    QTest::newRow("negative dimension") << 4 << "ShapeOverflow";
    QTest::newRow("overflow") << 5 << "ShapeOverflow";
    QTest::newRow("half a byte") << 6 << "OffsetsInvalid";
    QTest::newRow("no folder") << 7 << "FileNotFound";
    QTest::newRow("header above the limit") << 8 << "HeaderTooLarge";
}

void TestIoFormats::writerRefuses()
{
    QFETCH(int, which);
    QFETCH(QString, expected);
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "a.safetensors";
    const std::vector<TensorSpec> specs[] {
        { { "a", Dtype::U8, { 1 } }, { "a", Dtype::F32, { 1 } } },
        { { "__metadata__", Dtype::U8, { 1 } } },
        { { "\xFF", Dtype::U8, { 1 } } },
        { { "a", Dtype::U8, { 1 } } },
        { { "a", Dtype::U8, { -1 } } },
        { { "a", Dtype::U8, { std::int64_t { 1 } << 40, std::int64_t { 1 } << 40 } } },
        { { "a", Dtype::F4, { 5 } } },
        { { "a", Dtype::U8, { 1 } } },
        { { std::string(kMaxHeaderBytes, 'x'), Dtype::U8, { 1 } } },
    };
    const Metadata metadata = which == 3 ? Metadata { { "k", "\xC0\xAF" } } : Metadata {};
    const auto writer =
        SafetensorsWriter::create(which == 7 ? pathOf(folder) / "no" / "a.safetensors" : path, specs[which], metadata);
    QCOMPARE(codeOf(writer), expected);
    QVERIFY(fs::is_empty(pathOf(folder)));
}

void TestIoFormats::writerPieces()
{
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "a.safetensors";
    auto writer = SafetensorsWriter::create(path, { { "a", Dtype::U8, { 4 } }, { "b", Dtype::F32, { 2 } } });
    QVERIFY(writer);
    QCOMPARE(writer->specs().front().name, std::string("b"));
    QVERIFY(writer->append("a", bytesOf("xy")));
    QCOMPARE(codeOf(writer->commit()), QStringLiteral("DataInvalid"));
    QVERIFY(writer->write("b", bytesOf("12345678")));
    QCOMPARE(codeOf(writer->append("a", bytesOf("zzz"))), QStringLiteral("ShapeMismatch"));
    QVERIFY(writer->append("a", bytesOf("zw")));
    QCOMPARE(codeOf(writer->write("a", bytesOf("abcd"))), QStringLiteral("AlreadyExists"));
    QCOMPARE(codeOf(writer->write("c", bytesOf("abcd"))), QStringLiteral("TensorNotFound"));
    QVERIFY(writer->commit());
    const auto checkpoint = Checkpoint::open(path);
    QCOMPARE(textOf(checkpoint->bytes("a").value()), std::string("xyzw"));
    QCOMPARE(textOf(checkpoint->bytes("b").value()), std::string("12345678"));
}

void TestIoFormats::uncommittedWriterLeavesNothing()
{
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "a.safetensors";
    writeText(path, "the old file");
    {
        auto writer = SafetensorsWriter::create(path, { { "a", Dtype::U8, { 4 } } });
        QVERIFY(writer && writer->write("a", bytesOf("abcd")));
    }
    QCOMPARE(readFile(path).value(), std::string("the old file"));
    QCOMPARE(std::distance(fs::directory_iterator(pathOf(folder)), fs::directory_iterator()), 1);
}

void TestIoFormats::shardsRoundTrip()
{
    const QTemporaryDir folder;
    std::map<std::string, std::string> data;
    std::map<std::string, TensorView> views;
    for (int i = 0; i < 7; ++i) {
        const std::string name = "layer." + std::to_string(i);
        data[name] = std::string(std::size_t(i == 3 ? 300 : 40), static_cast<char>('a' + i));
        views[name] = { Dtype::U8, { std::int64_t(data[name].size()) }, bytesOf(data[name]) };
    }
    writeText(pathOf(folder) / "model.safetensors", "stale");
    const auto files = writeSharded(pathOf(folder), "model", views, 100, { { "format", "pt" } });
    QVERIFY(files);
    // 0 1 | 2 | 3 (too large, alone) | 4 5 | 6
    QCOMPARE(files->size(), std::size_t { 6 });
    QCOMPARE(files->front().filename().string(), std::string("model-00001-of-00005.safetensors"));
    std::vector<Warning> warnings;
    const auto checkpoint = Checkpoint::open(pathOf(folder), warnings);
    QVERIFY2(checkpoint, checkpoint ? "" : qPrintable(describe(checkpoint.error())));
    QVERIFY(warnings.empty());
    QCOMPARE(checkpoint->names().size(), data.size());
    for (const auto& [name, bytes] : data) {
        QCOMPARE(textOf(checkpoint->bytes(name).value()), bytes);
    }
    const auto single = writeSharded(pathOf(folder), "model", views);
    QVERIFY(single && single->size() == 1);
    QVERIFY(!fs::exists(pathOf(folder) / "model.safetensors.index.json"));
    QCOMPARE(codeOf(writeSharded(pathOf(folder), "../model", views)), QStringLiteral("UsageInvalid"));
}

void TestIoFormats::checkpointFolders()
{
    const QTemporaryDir folder;
    const std::string file = safetensorsOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
    writeText(pathOf(folder) / "x" / "adapter_model.safetensors", file);
    writeText(pathOf(folder) / "y" / "model.safetensors", file);
    QCOMPARE(Checkpoint::open(pathOf(folder) / "x")->parameterCount(), std::uint64_t { 4 });
    QCOMPARE(Checkpoint::open(pathOf(folder) / "y")->files().front(), pathOf(folder) / "y" / "model.safetensors");
    QCOMPARE(Checkpoint::open(pathOf(folder) / "y" / "model.safetensors")->byteCount(), std::uint64_t { 4 });
}

void TestIoFormats::checkpointErrors_data()
{
    QTest::addColumn<QString>("index");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const char* index, const char* code) {
        QTest::newRow(name) << QString(index) << QString(code);
    };
    row("not json", "{", "JsonInvalid");
    row("no map", R"({"metadata":{}})", "FieldMissing");
    row("map is a list", R"({"weight_map":[]})", "FieldInvalid");
    row("name is a number", R"({"weight_map":{"a":1}})", "FieldInvalid");
    row("leaves the folder", R"({"weight_map":{"a":"../s1.safetensors"}})", "FieldInvalid");
    row("absolute", R"({"weight_map":{"a":"/s1.safetensors"}})", "FieldInvalid");
    row("two dots", R"({"weight_map":{"a":".."}})", "FieldInvalid");
    row("empty name", R"({"weight_map":{"a":""}})", "FieldInvalid");
    row("missing shard", R"({"weight_map":{"a":"s1.safetensors","b":"s9.safetensors"}})", "FileNotFound");
    row("tensor not in its shard", R"({"weight_map":{"a":"s1.safetensors","zz":"s1.safetensors"}})", "TensorNotFound");
    row("tensor in the other shard", R"({"weight_map":{"a":"s2.safetensors","b":"s1.safetensors"}})", "TensorNotFound");
    row("tensor in two shards", R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors","c":"s3.safetensors"}})",
        "DataInvalid");
    row("pickle shard", R"({"weight_map":{"a":"s.bin"}})", "PickleRefused");
    row("good", R"({"metadata":{"total_size":8},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})", "ok");
}

void TestIoFormats::checkpointErrors()
{
    QFETCH(QString, index);
    QFETCH(QString, expected);
    const QTemporaryDir folder;
    const auto tensor = [](const char* name, int at) {
        return std::string("\"") + name + R"(":{"dtype":"U8","shape":[4],"data_offsets":[)" + std::to_string(at) + ","
            + std::to_string(at + 4) + "]}";
    };
    writeText(pathOf(folder) / "s1.safetensors", safetensorsOf("{" + tensor("a", 0) + "}", 4));
    writeText(pathOf(folder) / "s2.safetensors", safetensorsOf("{" + tensor("b", 0) + "}", 4));
    writeText(pathOf(folder) / "s3.safetensors", safetensorsOf("{" + tensor("a", 0) + "," + tensor("c", 4) + "}", 8));
    writeText(pathOf(folder) / "s.bin", "PK\x03\x04");
    writeText(pathOf(folder) / "model.safetensors.index.json", index.toStdString());
    std::vector<Warning> warnings;
    QCOMPARE(codeOf(Checkpoint::open(pathOf(folder), warnings)), expected);
    QVERIFY(warnings.empty());
}

void TestIoFormats::checkpointAliases()
{
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "a.safetensors";
    writeText(path,
              safetensorsOf(R"({"__metadata__":{"format":"pt","head":"embed","embed":"head","x":"gone"},)"
                            R"("embed":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                            4));
    const auto checkpoint = Checkpoint::open(path);
    QVERIFY(checkpoint);
    QCOMPARE(checkpoint->names(), std::vector<std::string> { "embed" });
    QCOMPARE(checkpoint->aliases(), (std::map<std::string, std::string> { { "head", "embed" } }));
    QVERIFY(checkpoint->contains("head") && !checkpoint->contains("x"));
    QCOMPARE(checkpoint->bytes("head")->data(), checkpoint->bytes("embed")->data());
    QCOMPARE(codeOf(checkpoint->bytes("x")), QStringLiteral("TensorNotFound"));
}

void TestIoFormats::pickleNamesTheCommand()
{
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "pytorch_model.bin";
    writeText(path, "PK\x03\x04 anything");
    for (const fs::path& given : { path, pathOf(folder) }) {
        const auto checkpoint = Checkpoint::open(given);
        QCOMPARE(codeOf(checkpoint), QStringLiteral("PickleRefused"));
        QVERIFY(checkpoint.error().message.find("weights_only=True") != std::string::npos);
        QVERIFY(checkpoint.error().message.find("pytorch_model.safetensors") != std::string::npos);
    }
    QCOMPARE(codeOf(Checkpoint::open(pathOf(folder) / "absent.bin")), QStringLiteral("FileNotFound"));
    QCOMPARE(codeOf(Checkpoint::open(pathOf(folder) / "absent")), QStringLiteral("FileNotFound"));
    fs::remove(path);
    QCOMPARE(codeOf(Checkpoint::open(pathOf(folder))), QStringLiteral("FileNotFound"));
}

void TestIoFormats::nonFiniteAgainstPlainLoop_data()
{
    QTest::addColumn<int>("dtype");
    for (std::size_t i = 0; i < kDtypeCount; ++i) {
        QTest::newRow(std::string(dtypeName(static_cast<Dtype>(i))).c_str()) << int(i);
    }
}

void TestIoFormats::nonFiniteAgainstPlainLoop()
{
    QFETCH(int, dtype);
    const auto type = static_cast<Dtype>(dtype);
    const std::size_t width = std::max<std::size_t>(1, dtypeBits(type) / 8);
    struct Layout {
        std::uint64_t exponent, fraction;
    };
    const std::map<Dtype, Layout> layouts { { Dtype::F64, { 0x7FF0000000000000, 0x000FFFFFFFFFFFFF } },
                                            { Dtype::F32, { 0x7F800000, 0x7FFFFF } },
                                            { Dtype::C64, { 0x7F800000, 0x7FFFFF } },
                                            { Dtype::F16, { 0x7C00, 0x3FF } },
                                            { Dtype::BF16, { 0x7F80, 0x7F } },
                                            { Dtype::F8E5M2, { 0x7C, 0x3 } } };
    std::mt19937_64 random(99);
    for (const std::size_t count : { 0UL, 1UL, 7UL, 511UL, 4096UL, 9001UL }) {
        std::string bytes(count * width, '\0');
        for (char& c : bytes) {
            c = static_cast<char>(random());
        }
        if (type == Dtype::F64 || type == Dtype::F32) { // random words are hardly ever special there
            for (std::size_t i = 0; i + 97 < count; i += 97) {
                const bool infinite = i % 2 == 0;
                if (type == Dtype::F32) {
                    const float v = infinite ? -INFINITY : NAN;
                    std::memcpy(bytes.data() + i * width, &v, width);
                } else {
                    const double v = infinite ? INFINITY : -NAN;
                    std::memcpy(bytes.data() + i * width, &v, width);
                }
            }
        }
        NonFiniteCount expected;
        const std::size_t element = type == Dtype::C64 ? 4 : width;
        for (std::size_t i = 0; i + element <= bytes.size(); i += element) {
            std::uint64_t v = 0;
            std::memcpy(&v, bytes.data() + i, element);
            if (const auto layout = layouts.find(type); layout != layouts.end()) {
                if ((v & layout->second.exponent) == layout->second.exponent) {
                    ++((v & layout->second.fraction) == 0 ? expected.infinite : expected.nan);
                }
            } else if ((type == Dtype::F8E4M3 && (v & 0x7F) == 0x7F) || (type == Dtype::F8E8M0 && v == 0xFF)
                       || ((type == Dtype::F8E4M3Fnuz || type == Dtype::F8E5M2Fnuz) && v == 0x80)) {
                ++expected.nan;
            }
        }
        const NonFiniteCount found = countNonFinite(type, bytesOf(bytes));
        QCOMPARE(found.nan, expected.nan);
        QCOMPARE(found.infinite, expected.infinite);
    }
}

void TestIoFormats::nonFiniteScanStops()
{
    const auto checkpoint = Checkpoint::open(goldenFolder() / "hostile" / "safetensors" / "ok_nan_payload.safetensors");
    QVERIFY(checkpoint);
    QVERIFY(!scanNonFinite(*checkpoint)->empty());
    std::stop_source stop;
    stop.request_stop();
    QCOMPARE(codeOf(scanNonFinite(*checkpoint, { stop.get_token(), {} })), QStringLiteral("Cancelled"));
}

void TestIoFormats::goldenMessages_data()
{
    QTest::addColumn<int>("index");
    const auto golden = readJsonFile(goldenFolder() / "openpi" / "messages.json");
    QVERIFY2(golden, "no golden messages");
    int index = 0;
    for (const Json& row : golden->at("messages")) {
        QTest::newRow(row.at("name").get<std::string>().c_str()) << index++;
    }
    QVERIFY(index > 0);
}

namespace {

/// Compares a decoded value with the golden table's description.
bool agrees(const Value& value, const OrderedJson& json)
{
    if (json.is_object() && json.contains("ndarray")) {
        const auto* array = value.as<NumpyArray>();
        if (array == nullptr || array->dtype != json.at("ndarray").get<std::string>()
            || array->shape != json.at("shape").get<std::vector<std::int64_t>>()) {
            return false;
        }
        if (json.contains("data_sha256")) {
            return sha256Hex(array->data) == json.at("data_sha256").get<std::string>();
        }
        return textOf(array->data) == fromHex(json.at("data_hex").get<std::string>());
    }
    if (json.is_object() && json.contains("npgeneric")) {
        const auto text = json.at("value").get<std::string>();
        const double expected = text == "True" ? 1 : text == "False" ? 0 : std::stod(text);
        const auto* scalar = value.as<NumpyScalar>();
        const bool plain = json.at("npgeneric") == "<f8"; // numpy's float64 is a Python float
        return value.number() == expected
            && (plain ? value.as<double>() != nullptr
                      : scalar != nullptr && scalar->dtype == json.at("npgeneric").get<std::string>());
    }
    if (json.is_object() && json.contains("float")) {
        const double expected = std::stod(json.at("float").get<std::string>());
        const auto* real = value.as<double>();
        return real != nullptr && (std::isnan(expected) ? std::isnan(*real) : *real == expected);
    }
    if (json.is_object() && json.contains("bytes")) {
        const auto* bytes = value.as<Value::Bytes>();
        return bytes != nullptr && textOf(*bytes) == fromHex(json.at("bytes").get<std::string>());
    }
    if (json.is_object()) {
        const auto* map = value.as<Value::Map>();
        if (map == nullptr || map->size() != json.size()) {
            return false;
        }
        std::size_t i = 0;
        for (const auto& [key, item] : json.items()) {
            if ((*map)[i].first != key || !agrees((*map)[i].second, item)) {
                return false;
            }
            ++i;
        }
        return true;
    }
    if (json.is_array()) {
        const auto* list = value.as<Value::Array>();
        return list != nullptr && list->size() == json.size()
            && std::equal(list->begin(), list->end(), json.begin(), agrees);
    }
    return value == valueOf(json);
}

} // namespace

void TestIoFormats::goldenMessages()
{
    QFETCH(int, index);
    const auto golden = readOrderedJsonFile(goldenFolder() / "openpi" / "messages.json");
    const OrderedJson& row = golden->at("messages").at(std::size_t(index));
    std::string message;
    if (row.contains("hex")) {
        message = fromHex(row.at("hex").get<std::string>());
    } else if (row.contains("recipe") && row.at("value").contains("observation/image")) {
        // Two pictures by formula and a state, too long for the table.
        Value::Map map;
        for (const auto& [key, item] : row.at("value").items()) {
            if (key.find("image") != std::string::npos) {
                const int k = key == "observation/image" ? 99 : 100;
                std::vector<std::uint8_t> pixels;
                for (int y = 0; y < 224; ++y) {
                    for (int x = 0; x < 224; ++x) {
                        for (int c = 0; c < 3; ++c) {
                            pixels.push_back(static_cast<std::uint8_t>((3 * x + 5 * y + 7 * c + k) % 256));
                        }
                    }
                }
                map.emplace_back(key, NumpyArray::of(std::span<const std::uint8_t>(pixels), { 224, 224, 3 }));
            } else if (item.is_object()) {
                const auto state = item.at("values").get<std::vector<double>>();
                map.emplace_back(key, NumpyArray::of(std::span<const double>(state), { std::int64_t(state.size()) }));
            } else {
                map.emplace_back(key, item.get<std::string>());
            }
        }
        message = textOf(encodeMsgpack(Value(map)).value());
    } else {
        // Only the size and digest are given: rebuilt from the value.
        QVERIFY2(row.at("value").dump().find("ndarray") == std::string::npos, "arrays without bytes");
        message = textOf(encodeMsgpack(valueOf(row.at("value"))).value());
    }
    QCOMPARE(message.size(), row.at("size").get<std::size_t>());
    QCOMPARE(sha256Hex(bytesOf(message)), row.at("sha256").get<std::string>());
    const auto value = decodeMsgpack(bytesOf(message));
    QVERIFY2(value, value ? "" : qPrintable(describe(value.error())));
    QVERIFY(agrees(*value, row.at("value")));
    QCOMPARE(textOf(encodeMsgpack(*value).value()), message);
}

void TestIoFormats::goldenMalformedMessages_data()
{
    QTest::addColumn<QByteArray>("message");
    QTest::addColumn<QString>("expect");
    const auto golden = readJsonFile(goldenFolder() / "openpi" / "malformed.json");
    QVERIFY2(golden, "no golden malformed messages");
    for (const Json& row : golden->at("messages")) {
        if (row.at("opcode") == "binary") {
            const std::string message = fromHex(row.at("hex").get<std::string>());
            QTest::newRow(row.at("name").get<std::string>().c_str())
                << QByteArray(message.data(), static_cast<qsizetype>(message.size()))
                << QString::fromStdString(row.at("expect").get<std::string>());
        }
    }
}

void TestIoFormats::goldenMalformedMessages()
{
    QFETCH(QByteArray, message);
    QFETCH(QString, expect);
    const auto value = decodeMsgpack(std::as_bytes(std::span(message.constData(), std::size_t(message.size()))));
    if (!value) {
        QVERIFY(value.error().code != Errc::Internal);
        return;
    }
    if (expect == "any") {
        return;
    }
    // Well-formed as MessagePack: what is wrong is what the server asks of an observation.
    const Value* state = value->find("observation/state");
    const auto* array = state == nullptr ? nullptr : state->as<NumpyArray>();
    const Value* image = value->find("observation/image");
    const auto* picture = image == nullptr ? nullptr : image->as<NumpyArray>();
    QVERIFY(array == nullptr || (picture != nullptr && picture->shape.size() != 3));
}

void TestIoFormats::messageErrors_data()
{
    QTest::addColumn<QByteArray>("message");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const std::string& message, const char* code) {
        QTest::newRow(name) << QByteArray(message.data(), static_cast<qsizetype>(message.size())) << QString(code);
    };
    const auto envelope = [](const std::string& data, const std::string& dtype, const std::string& shape) {
        return "\x84\xC4\x0B__ndarray__\xC3\xC4\x04"
               "data"
            + data
            + "\xC4\x05"
              "dtype"
            + dtype
            + "\xC4\x05"
              "shape"
            + shape;
    };
    const std::string four = std::string("\xC4\x04", 2) + "abcd";
    row("empty", "", "FileTruncated");
    row("never-used code", "\xC1", "DataInvalid");
    row("two values", "\x01\x02", "DataInvalid");
    row("ends inside", "\xCD\x01", "FileTruncated");
    row("array of 4e9", "\xDD\xFF\xFF\xFF\xFF\x01", "FileTruncated");
    row("map of 4e9", "\xDF\xFF\xFF\xFF\xFF\xA1k", "FileTruncated");
    row("bin of 4e9", "\xC6\xFF\xFF\xFF\xFF\x01", "FileTruncated");
    row("deep", std::string(200, '\x91') + "\x01", "TooLarge");
    row("extension", std::string("\xD4\x05\x00", 3), "Unsupported");
    row("integer key", "\x81\x01\x02", "DataInvalid");
    row("map as key", "\x81\x80\x02", "DataInvalid");
    row("key twice", "\x82\xA1k\x01\xA1k\x02", "DataInvalid");
    row("binary key", "\x81\xC4\x01k\x02", "DataInvalid");
    row("text not UTF-8", "\xA1\xFF", "DataInvalid");
    row("good array", envelope(four, "\xA3<f4", "\x91\x01"), "ok");
    row("good zero-dimensional array", envelope(four, "\xA3<f4", "\x90"), "ok");
    row("data too short", envelope(four, "\xA3<f8", "\x91\x01"), "DataInvalid");
    row("data too long", envelope(four, "\xA3|u1", "\x91\x03"), "DataInvalid");
    row("negative dimension", envelope(four, "\xA3<f4", "\x91\xFF"), "FieldInvalid");
    row("text as dimension", envelope(four, "\xA3<f4", "\x91\xA1x"), "FieldInvalid");
    row("overflow", envelope(four, "\xA3<f4", std::string("\x92\xCF\0\0\0\1\0\0\0\0\xCF\0\0\0\1\0\0\0\0", 19)),
        "ShapeOverflow");
    row("object dtype", envelope(four, "\xA2|O", "\x91\x01"), "Unsupported");
    row("complex dtype", envelope(four, "\xA3<c8", "\x91\x01"), "Unsupported");
    row("void dtype", envelope(four, "\xA3|V4", "\x91\x01"), "Unsupported");
    row("unknown dtype", envelope(four, "\xA3<q4", "\x91\x01"), "Unsupported");
    row("dtype a number", envelope(four, "\x04", "\x91\x01"), "FieldInvalid");
    row("no shape",
        "\x83\xC4\x0B__ndarray__\xC3\xC4\x04"
        "data"
            + four
            + "\xC4\x05"
              "dtype\xA3<f4",
        "FieldMissing");
}

void TestIoFormats::messageErrors()
{
    QFETCH(QByteArray, message);
    QFETCH(QString, expected);
    const auto bytes = std::as_bytes(std::span(message.constData(), std::size_t(message.size())));
    QCOMPARE(codeOf(decodeMsgpack(bytes)), expected);
    QCOMPARE(codeOf(decodeMsgpack(bytes, { .maxBytes = 0 })),
             message.isEmpty() ? QStringLiteral("FileTruncated") : QStringLiteral("TooLarge"));
    if (expected == "ok") {
        QCOMPARE(codeOf(decodeMsgpack(bytes, { .maxElements = 3 })), QStringLiteral("TooLarge"));
    }
}

void TestIoFormats::messageTruncation()
{
    const std::vector<float> actions { 1.5F, -2.0F, 3.0F, 4.0F, 5.0F, 6.0F };
    const Value value(Value::Map { { "actions", NumpyArray::of(std::span<const float>(actions), { 2, 3 }) },
                                   { "policy_timing", Value::Map { { "infer_ms", 12.25 } } },
                                   { "n", Value::Array { true, 300, -5, "text", Value() } } });
    const std::string message = textOf(encodeMsgpack(value).value());
    QVERIFY(decodeMsgpack(bytesOf(message)).value() == value);
    for (std::size_t size = 0; size < message.size(); ++size) {
        QVERIFY2(!decodeMsgpack(bytesOf(message).first(size)), qPrintable(QString::number(size)));
    }
    for (std::size_t i = 0; i < message.size(); ++i) {
        std::string flipped = message;
        flipped[i] = static_cast<char>(flipped[i] ^ 0x80);
        (void)decodeMsgpack(bytesOf(flipped));
    }
    NumpyArray wrong { "<f4", { 3 }, std::vector<std::byte>(4) };
    QCOMPARE(codeOf(encodeMsgpack(wrong)), QStringLiteral("DataInvalid"));
    QCOMPARE(codeOf(encodeMsgpack(std::string("\xFF"))), QStringLiteral("DataInvalid"));
}

void TestIoFormats::messageNumbers()
{
    const auto doubles = [](const char* dtype, const std::string& data, std::int64_t count) {
        const auto bytes = bytesOf(data);
        return NumpyArray { dtype, { count }, { bytes.begin(), bytes.end() } }.toDoubles().value_or(
            std::vector<double> {});
    };
    QCOMPARE(doubles("<f2", std::string("\x00\x3C\x00\xC0\x01\x00\xFF\x7B", 8), 4),
             (std::vector<double> { 1.0, -2.0, std::ldexp(1.0, -24), 65504.0 }));
    QCOMPARE(doubles(">i2", std::string("\xFF\xFE\x01\x00", 4), 2), (std::vector<double> { -2.0, 256.0 }));
    QCOMPARE(doubles("|i1", "\xFF\x7F", 2), (std::vector<double> { -1.0, 127.0 }));
    QCOMPARE(doubles("<u8", raw(std::numeric_limits<std::uint64_t>::max()), 1), std::vector<double> { 0x1p64 });
    QCOMPARE(doubles("|b1", std::string("\x00\x01", 2), 2), (std::vector<double> { 0.0, 1.0 }));
    QCOMPARE(doubles(">f8", std::string("\x40\x09\x21\xFB\x54\x44\x2D\x18", 8), 1),
             std::vector<double> { 3.141592653589793 });
    NumpyArray times { "<M8[ns]", { 1 }, std::vector<std::byte>(8) };
    QCOMPARE(codeOf(times.toDoubles()), QStringLiteral("Unsupported"));
    QCOMPARE(numpyItemSize("<U5").value(), std::uint64_t { 20 });
    QCOMPARE(codeOf(numpyItemSize("<U9999999999999999999")), QStringLiteral("Unsupported"));
}

void TestIoFormats::crcVectors()
{
    const auto golden = readJsonFile(goldenFolder() / "tensorboard" / "crc.json");
    QVERIFY2(golden, "no golden checksums");
    QVERIFY(!golden->at("vectors").empty());
    for (const Json& row : golden->at("vectors")) {
        const std::string data = fromHex(row.at("data_hex").get<std::string>());
        QCOMPARE(crc32c(bytesOf(data)), std::stoul(row.at("crc32c").get<std::string>(), nullptr, 16));
        QCOMPARE(maskedCrc32c(bytesOf(data)), std::stoul(row.at("masked").get<std::string>(), nullptr, 16));
    }
}

void TestIoFormats::goldenEventFiles_data()
{
    QTest::addColumn<QString>("file");
    const auto golden = readJsonFile(goldenFolder() / "tensorboard" / "expected.json");
    QVERIFY2(golden, "no golden event files");
    for (const auto& [file, row] : golden->at("files").items()) {
        QTest::newRow(file.c_str()) << QString::fromStdString(file);
    }
}

void TestIoFormats::goldenEventFiles()
{
    QFETCH(QString, file);
    const auto golden = readJsonFile(goldenFolder() / "tensorboard" / "expected.json");
    const Json& row = golden->at("files").at(file.toStdString());
    const auto map = MappedFile::open(goldenFolder() / "tensorboard" / file.toStdString());
    QVERIFY(map);
    const EventFile events = parseEventFile(map->bytes());
    if (row.contains("reader_returns_events")) {
        QCOMPARE(events.events.size(), row.at("reader_returns_events").get<std::size_t>());
        QCOMPARE(events.problem.empty(), map->bytes().empty());
        return;
    }
    QVERIFY2(events.problem.empty(), events.problem.c_str());
    QCOMPARE(events.validBytes, map->bytes().size());
    QCOMPARE(events.records.size(), row.at("records").size());
    for (std::size_t i = 0; i < events.records.size(); ++i) {
        QCOMPARE(events.records[i].first, row.at("records")[i].at("offset").get<std::uint64_t>());
        QCOMPARE(events.records[i].second, row.at("records")[i].at("length").get<std::uint64_t>());
    }
    QCOMPARE(events.events.size(), row.at("events").size());
    for (std::size_t i = 0; i < events.events.size(); ++i) {
        const Event& event = events.events[i];
        const Json& expected = row.at("events")[i];
        QCOMPARE(event.wallTime, expected.at("wall_time").get<double>());
        QCOMPARE(event.step, expected.at("step").get<std::int64_t>());
        QCOMPARE(event.kind, expected.at("kind").get<std::string>());
        QCOMPARE(event.fileVersion, expected.value("file_version", std::string()));
        const Json values = expected.value("values", Json::array());
        QCOMPARE(event.values.size(), values.size());
        for (std::size_t k = 0; k < values.size(); ++k) {
            const SummaryValue& value = event.values[k];
            QCOMPARE(value.tag, values[k].at("tag").get<std::string>());
            QCOMPARE(value.plugin, values[k].at("plugin").get<std::string>());
            const auto kind = values[k].at("value_kind").get<std::string>();
            if (kind == "simple_value") {
                QVERIFY(value.kind == SummaryKind::SimpleValue);
                QCOMPARE(raw(value.simpleValue), fromHex(values[k].at("float32_hex").get<std::string>()));
            } else if (kind == "tensor") {
                QVERIFY(value.kind == SummaryKind::Tensor);
                QCOMPARE(value.tensorDtype, values[k].at("dtype").get<std::int64_t>());
                QCOMPARE(value.tensorTexts, values[k].at("string_val").get<std::vector<std::string>>());
                QCOMPARE(value.tensorValues, values[k].at("float_val").get<std::vector<double>>());
            } else if (kind == "histo") {
                QVERIFY(value.kind == SummaryKind::Histogram);
                const Json& histo = values[k].at("histo");
                QCOMPARE(value.histogram.min, histo.at("min").get<double>());
                QCOMPARE(value.histogram.max, histo.at("max").get<double>());
                QCOMPARE(value.histogram.num, histo.at("num").get<double>());
                QCOMPARE(value.histogram.sum, histo.at("sum").get<double>());
                QCOMPARE(value.histogram.sumSquares, histo.at("sum_squares").get<double>());
                QCOMPARE(value.histogram.buckets.size(), histo.at("buckets").get<std::size_t>());
            } else if (kind == "image") {
                QVERIFY(value.kind == SummaryKind::Image);
                const Json& image = values[k].at("image");
                QCOMPARE(value.imageWidth, image.at("width").get<std::int64_t>());
                QCOMPARE(value.imageHeight, image.at("height").get<std::int64_t>());
                QCOMPARE(value.imageBytes, image.at("png_bytes").get<std::uint64_t>());
            } else {
                QFAIL(("a kind of value without a check: " + kind).c_str());
            }
        }
    }
}

void TestIoFormats::eventsRoundTrip()
{
    const QTemporaryDir folder;
    auto writer = EventFileWriter::create(pathOf(folder) / "tensorboard");
    QVERIFY2(writer, writer ? "" : qPrintable(describe(writer.error())));
    QVERIFY(writer->path().filename().string().find("tfevents") != std::string::npos);
    QVERIFY(writer->addScalar("train/loss", 0.1, 0, 1.5));
    QVERIFY(writer->addScalars({ { "a", -1e30 }, { "b", NAN }, { "ü", 3 } }, std::int64_t { 1 } << 40, 2.5));
    QVERIFY(writer->sync());
    auto second = EventFileWriter::create(pathOf(folder) / "tensorboard");
    QVERIFY(second && second->path() != writer->path());
    const auto events = readEventFile(writer->path());
    QVERIFY(events && events->problem.empty());
    QCOMPARE(events->events.size(), std::size_t { 3 });
    QCOMPARE(events->events[0].fileVersion, std::string("brain.Event:2"));
    QCOMPARE(events->events[1].values[0].scalar().value(), static_cast<double>(0.1F));
    QCOMPARE(events->events[2].step, std::int64_t { 1 } << 40);
    QCOMPARE(events->events[2].wallTime, 2.5);
    QCOMPARE(events->events[2].values[2].tag, std::string("ü"));
    QVERIFY(std::isnan(events->events[2].values[1].scalar().value()));
    QCOMPARE(codeOf(readEventFile(goldenFolder() / "tensorboard" / "not_tfrecord.tfevents")),
             QStringLiteral("HeaderInvalid"));
    QCOMPARE(codeOf(readEventFile(pathOf(folder) / "absent")), QStringLiteral("FileNotFound"));
    writeText(pathOf(folder) / "file", "");
    QCOMPARE(codeOf(EventFileWriter::create(pathOf(folder) / "file" / "x")), QStringLiteral("FileNotFound"));
}

void TestIoFormats::eventFileTruncation()
{
    const auto map = MappedFile::open(goldenFolder() / "tensorboard" / "tensorboardX.tfevents");
    QVERIFY(map);
    const EventFile whole = parseEventFile(map->bytes());
    std::size_t expected = 0;
    for (std::size_t size = 0; size < map->bytes().size(); ++size) {
        while (expected < whole.records.size()
               && whole.records[expected].first + whole.records[expected].second + 16 <= size) {
            ++expected;
        }
        const EventFile part = parseEventFile(map->bytes().first(size));
        QCOMPARE(part.events.size(), expected);
        QCOMPARE(part.problem.empty(), part.validBytes == size);
    }
}

void TestIoFormats::hubCache()
{
    const QTemporaryDir folder;
    const fs::path root = pathOf(folder) / "hub";
    const std::string commit(40, 'a');
    const std::string other(40, 'b');
    const fs::path repo = root / "models--org--name--x";
    writeText(repo / "blobs" / "1", R"({"type": "smolvla"})");
    writeText(repo / "blobs" / "2", std::string(100, 'w'));
    writeText(repo / "blobs" / "3.incomplete", "part");
    writeText(repo / "refs" / "main", commit);
    writeText(repo / "refs" / "pr" / "1", other);
    writeText(repo / "refs" / "gone", std::string(40, 'c'));
    writeText(repo / "refs" / "odd", "not a commit");
    fs::create_directories(repo / "snapshots" / commit / "sub");
    fs::create_directories(repo / "snapshots" / other);
    const fs::path snapshot = repo / "snapshots" / commit;
    fs::create_symlink("../../blobs/1", snapshot / "config.json");
    fs::create_symlink("../../blobs/2", snapshot / "model.safetensors");
    fs::create_symlink("../../../blobs/2", snapshot / "sub" / "again.bin");
    fs::create_symlink("../../blobs/9", repo / "snapshots" / other / "model.safetensors");
    fs::create_symlink("/etc/passwd", repo / "snapshots" / other / "outside");
    fs::create_symlink(".", snapshot / "sub" / "loop");
    writeText(root / "datasets--d" / "snapshots" / commit / "meta" / "info.json", R"({"codebase_version": "v3.0"})");
    writeText(root / "datasets--d" / "refs" / "main", commit + "\n");
    writeText(root / ".locks" / "x", "");
    writeText(root / "models--", "a file");

    const auto cache = scanHubCache(root);
    QVERIFY(cache);
    QCOMPARE(cache->repos.size(), std::size_t { 2 });
    const HubRepo& model = cache->repos[0];
    QCOMPARE(model.id, std::string("org/name/x"));
    QCOMPARE(model.partialDownloads, std::uint64_t { 1 });
    QCOMPARE(model.bytes, std::uint64_t { 19 + 100 + 4 });
    QCOMPARE(model.problems.size(), std::size_t { 3 }); // a dangling ref, an odd one, a partial download
    const HubRevision& main = *model.preferred();
    QCOMPARE(main.commit, commit);
    QVERIFY(main.refs == std::vector<std::string> { "main" });
    QVERIFY(main.use == HubUse::Policy);
    QCOMPARE(main.bytes, std::uint64_t { 119 }); // each blob once
    const HubRevision& pull = model.revisions[1];
    QVERIFY(!pull.complete);
    QCOMPARE(pull.refs, std::vector<std::string> { "pr/1" });
    QCOMPARE(pull.problems.size(), std::size_t { 2 });
    const HubRepo& data = cache->repos[1];
    QVERIFY(data.type == HubRepoType::Dataset && data.revisions.at(0).use == HubUse::Dataset
            && data.revisions.at(0).complete);
    QVERIFY(hubCacheJson(*cache).at("repos").size() == 2);

    QCOMPARE(scanHubCache(pathOf(folder) / "absent")->repos.size(), std::size_t { 0 });
    std::stop_source stop;
    stop.request_stop();
    QCOMPARE(codeOf(scanHubCache(root, { stop.get_token(), {} })), QStringLiteral("Cancelled"));
}

void TestIoFormats::hubFolders()
{
    for (const char* name :
         { "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_LEROBOT_HOME" }) {
        qunsetenv(name);
    }
    qputenv("HOME", "/home/x");
    QCOMPARE(hubCacheFolder(), fs::path("/home/x/.cache/huggingface/hub"));
    qputenv("XDG_CACHE_HOME", "/c");
    QCOMPARE(hubCacheFolder(), fs::path("/c/huggingface/hub"));
    qputenv("HF_HOME", "~/hf/$XDG_CACHE_HOME/${HOME}/$NONE");
    QCOMPARE(huggingFaceHome(), fs::path("/home/x/hf//c//home/x/$NONE"));
    QCOMPARE(lerobotHome(), huggingFaceHome() / "lerobot");
    qputenv("HUGGINGFACE_HUB_CACHE", "/old");
    QCOMPARE(hubCacheFolder(), fs::path("/old"));
    qputenv("HF_HUB_CACHE", "/new");
    QCOMPARE(hubCacheFolder(), fs::path("/new"));
}

QTEST_GUILESS_MAIN(TestIoFormats)
#include "tst_io_formats.moc"
