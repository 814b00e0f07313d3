// Inspection: every hostile golden case gets its verdict, and every kind of thing is recognised with its numbers.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/inspection.h"
#include "backend/io/event_file.h"
#include "backend/io/safetensors_writer.h"
#include "test_support.h"

#include <chrono>

namespace fs = std::filesystem;
using namespace rankwise;
using namespace rankwise::data;
using namespace rankwise::test;

class TestInspection : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void hostileCases_data();
    void hostileCases();
    void goldenCheckpoints_data();
    void goldenCheckpoints();
    void goldenAdapters();
    void kinds();
    void totals();
    void groups();
    void refusals_data();
    void refusals();
    void stops();
};

namespace {

/// Points at the file or folder of a hostile case.
fs::path pathOfCase(const fs::path& folder, const Json& row)
{
    return folder / row.at(row.contains("file") ? "file" : "dir").get<std::string>();
}

} // namespace

void TestInspection::hostileCases_data()
{
    QTest::addColumn<QString>("path");
    QTest::addColumn<QString>("expect");
    int found = 0;
    const fs::path root = goldenFolder() / "hostile";
    QVERIFY2(fs::is_directory(root), "no hostile golden cases");
    for (const auto& entry : fs::directory_iterator(root)) {
        if (!fs::is_regular_file(entry.path() / "cases.json")) {
            continue;
        }
        const auto cases = readCases(entry.path());
        QVERIFY(cases);
        for (const Json& row : cases->at("cases")) {
            const fs::path path = pathOfCase(entry.path(), row);
            const std::string name = entry.path().filename().string() + "/" + path.filename().string();
            QTest::newRow(name.c_str()) << QString::fromStdString(path.string())
                                        << QString::fromStdString(row.at("expect").get<std::string>());
            ++found;
        }
    }
    QVERIFY(found > 0);
}

void TestInspection::hostileCases()
{
    QFETCH(QString, path);
    QFETCH(QString, expect);
    const auto start = std::chrono::steady_clock::now();
    const auto inspection = inspectPath(path.toStdString());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    QVERIFY2(seconds < 10, qPrintable(QString::number(seconds)));
    QString verdict = "refuse";
    QString why;
    if (inspection) {
        verdict = inspection->problems.empty() ? "open" : "warn";
        why = QString::fromStdString(inspectionText(*inspection));
        QVERIFY(OrderedJson::parse(inspectionJson(*inspection).dump()).is_object());
    } else {
        why = describe(inspection.error());
        QVERIFY(inspection.error().code != Errc::Internal);
    }
    QVERIFY2(verdict == expect, qPrintable(verdict + ": " + why));
}

void TestInspection::goldenCheckpoints_data()
{
    QTest::addColumn<QString>("folder");
    int found = 0;
    for (const auto& entry : fs::directory_iterator(goldenFolder() / "models" / "checkpoints")) {
        if (entry.is_directory()) {
            QTest::newRow(entry.path().filename().c_str()) << QString::fromStdString(entry.path().string());
            ++found;
        }
    }
    QVERIFY2(found > 0, "no golden checkpoints");
}

void TestInspection::goldenCheckpoints()
{
    QFETCH(QString, folder);
    const auto inspection = inspectPath(folder.toStdString());
    QVERIFY2(inspection, inspection ? "" : qPrintable(describe(inspection.error())));
    QVERIFY2(inspection->problems.empty(), inspectionText(*inspection).c_str());
    QVERIFY(inspection->kind == InspectionKind::Policy);
    const Json summary = Json::parse(inspection->summary);
    const auto config = readJsonFile(fs::path(folder.toStdString()) / "config.json");
    QCOMPARE(summary.at("type").get<std::string>(), config->at("type").get<std::string>());
    QVERIFY(summary.at("chunk_size") == config->at("chunk_size"));
    QCOMPARE(summary.at("inputs").dump(), config->at("input_features").dump());
    const std::vector<std::string> roles { "config", "preprocessor", "postprocessor", "statistics", "weights" };
    for (const std::string& role : roles) {
        QVERIFY2(std::any_of(inspection->parts.begin(), inspection->parts.end(),
                             [&role](const InspectedPart& part) { return part.role == role && part.bytes > 0; }),
                 role.c_str());
    }
    std::uint64_t bytes = 0;
    for (const auto& [dtype, total] : inspection->dtypes) {
        bytes += total.bytes;
    }
    QCOMPARE(bytes, inspection->total.bytes);
    QVERIFY(inspection->valuesScanned);
}

void TestInspection::goldenAdapters()
{
    const fs::path root = goldenFolder() / "adapters";
    int found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
        if (entry.path().filename() != "adapter_config.json" || !loadsInPeft(entry.path().parent_path())) {
            continue;
        }
        const auto inspection = inspectPath(entry.path().parent_path());
        QVERIFY2(inspection,
                 inspection ? ""
                            : qPrintable(QString::fromStdString(entry.path().string()) + describe(inspection.error())));
        QVERIFY(inspection->kind == InspectionKind::Adapter);
        ++found;
    }
    QVERIFY2(found > 0, "no golden adapters");
}

void TestInspection::kinds()
{
    const QTemporaryDir folder;
    const fs::path root = pathOf(folder);
    const std::string weights = safetensorsOf(R"({"a.b.weight":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
    const auto kindOf = [](const fs::path& path) {
        const auto inspection = inspectPath(path);
        return inspection ? QString::fromStdString(std::string(inspectionKindName(inspection->kind)))
                          : describe(inspection.error());
    };
    writeText(root / "any.name", weights);
    QCOMPARE(kindOf(root / "any.name"), QStringLiteral("tensors"));
    writeText(root / "w" / "model.safetensors", weights);
    QCOMPARE(kindOf(root / "w"), QStringLiteral("tensors"));
    writeText(root / "s" / "s1.safetensors", weights);
    writeText(root / "s" / "model.safetensors.index.json", R"({"weight_map":{"a.b.weight":"s1.safetensors"}})");
    QCOMPARE(kindOf(root / "s"), QStringLiteral("sharded_tensors"));
    const std::string config = R"({"type":"smolvla","output_features":{"action":{"type":"ACTION","shape":[7]}}})";
    writeText(root / "p" / "config.json", config);
    QCOMPARE(kindOf(root / "p"), QStringLiteral("policy_config"));
    QCOMPARE(kindOf(root / "p" / "config.json"), QStringLiteral("policy_config"));
    writeText(root / "p" / "model.safetensors", weights);
    QCOMPARE(kindOf(root / "p"), QStringLiteral("policy"));
    writeText(root / "step" / "pretrained_model" / "config.json", config);
    QCOMPARE(kindOf(root / "step"), QStringLiteral("policy_config"));
    writeText(root / "policy_preprocessor.json", R"({"name":"x","steps":[]})");
    QCOMPARE(kindOf(root / "policy_preprocessor.json"), QStringLiteral("processor_pipeline"));
    writeText(root / "adapter_config.json", R"({"peft_type":"LORA","target_modules":["q"]})");
    QCOMPARE(kindOf(root / "adapter_config.json"), QStringLiteral("adapter"));
    auto events = io::EventFileWriter::create(root / "tb");
    QVERIFY(events && events->addScalar("loss", 1, 3, 0));
    QCOMPARE(kindOf(root / "tb"), QStringLiteral("event_file"));
    QCOMPARE(kindOf(events->path()), QStringLiteral("event_file"));
    const fs::path tokenizers = goldenFolder() / "hostile" / "tokenizer";
    QCOMPARE(kindOf(tokenizers / "ok.json"), QStringLiteral("tokenizer"));
    writeText(root / "t" / "tokenizer.json", readFile(tokenizers / "ok.json").value());
    QCOMPARE(kindOf(root / "t"), QStringLiteral("tokenizer"));
}

void TestInspection::totals()
{
    const QTemporaryDir folder;
    const fs::path path = pathOf(folder) / "a.safetensors";
    const std::vector<float> values { 1.0F, NAN, -INFINITY, 2.0F, 3.0F, 4.0F };
    const std::vector<std::uint8_t> bytes { 1, 2, 3 };
    const std::map<std::string, io::TensorView> views {
        { "model.x.weight", { io::Dtype::F32, { 2, 3 }, std::as_bytes(std::span(values)) } },
        { "model.y.weight", { io::Dtype::U8, { 3 }, std::as_bytes(std::span(bytes)) } },
    };
    QVERIFY(io::writeSafetensors(path, views, { { "format", "pt" } }));
    const auto inspection = inspectPath(path);
    QVERIFY(inspection);
    const OrderedJson json = inspectionJson(*inspection);
    QCOMPARE(json.at("parameters").get<int>(), 9);
    QCOMPARE(json.at("bytes").get<int>(), 27);
    QCOMPARE(json.at("dtypes").at("F32").at("parameters").get<int>(), 6);
    QCOMPARE(json.at("dtypes").at("U8").at("bytes").get<int>(), 3);
    QCOMPARE(json.at("groups").size(), std::size_t { 2 });
    QCOMPARE(json.at("tensors")[0].at("nan").get<int>(), 1);
    QCOMPARE(json.at("tensors")[0].at("infinite").get<int>(), 1);
    QCOMPARE(json.at("problems").size(), std::size_t { 1 });
    QCOMPARE(json.at("summary").at("metadata").at("format").get<std::string>(), std::string("pt"));
    QVERIFY(json.at("values_scanned").get<bool>());
    const std::string text = inspectionText(*inspection);
    QVERIFY(text.find("9 parameters in 2 tensors") != std::string::npos);
    QVERIFY(text.find("1 NaN and 1 infinite") != std::string::npos);

    const auto fast = inspectPath(path, { .values = ValueScan::None, .listTensors = false });
    QVERIFY(fast && fast->problems.empty() && fast->tensors.empty() && !fast->valuesScanned);
    QCOMPARE(fast->total.parameters, std::uint64_t { 9 });
}

void TestInspection::groups()
{
    std::vector<std::string> names { "model.state_proj.weight", "model.state_proj.bias", "lonely" };
    for (int i = 0; i < 3; ++i) {
        names.push_back("model.vlm.text_model.layers." + std::to_string(i) + ".self_attn.q_proj.weight");
        names.push_back("model.vlm.vision_model.encoder.layers." + std::to_string(i) + ".mlp.fc1.bias");
        names.push_back("0.weight");
    }
    const auto groups = moduleGroups(names);
    QCOMPARE(groups.at("model.state_proj.bias"), std::string("model.state_proj"));
    QCOMPARE(groups.at("model.vlm.text_model.layers.2.self_attn.q_proj.weight"), std::string("model.vlm.text_model"));
    QCOMPARE(groups.at("model.vlm.vision_model.encoder.layers.0.mlp.fc1.bias"),
             std::string("model.vlm.vision_model.encoder"));
    QCOMPARE(groups.at("lonely"), std::string());
    QCOMPARE(groups.at("0.weight"), std::string());
    std::vector<std::string> many;
    for (int i = 0; i < 500; ++i) {
        many.push_back("model.part" + std::to_string(i) + ".weight");
    }
    std::set<std::string> distinct;
    for (const auto& [name, group] : moduleGroups(many, 24)) {
        distinct.insert(group);
    }
    QCOMPARE(distinct, std::set<std::string> { "model" });
}

void TestInspection::refusals_data()
{
    QTest::addColumn<QString>("name");
    QTest::addColumn<QByteArray>("text");
    QTest::addColumn<QString>("expected");
    QTest::newRow("absent") << "" << QByteArray() << "FileNotFound";
    QTest::newRow("pickle by name") << "x.pt" << QByteArray("abc") << "PickleRefused";
    QTest::newRow("pickle by content") << "x.safetensors" << QByteArray("PK\x03\x04 more") << "PickleRefused";
    QTest::newRow("web page") << "x.safetensors" << QByteArray("<!DOCTYPE html><html></html>") << "HeaderTooLarge";
    QTest::newRow("other JSON") << "x.json" << QByteArray("{\"a\":1}") << "Unsupported";
    QTest::newRow("JSON list") << "x.json" << QByteArray("[]") << "Unsupported";
    QTest::newRow("no JSON") << "x.json" << QByteArray("{") << "JsonInvalid";
    QTest::newRow("parquet") << "x.parquet" << QByteArray("PAR1") << "Unsupported";
    QTest::newRow("no event file") << "x.tfevents" << QByteArray("this is text, not records") << "HeaderInvalid";
    QTest::newRow("state file missing")
        << "policy/policy_preprocessor.json"
        << QByteArray(R"({"name":"p","steps":[{"registry_name":"normalizer_processor","state_file":"s.safetensors"}]})")
        << "FileNotFound";
}

void TestInspection::refusals()
{
    QFETCH(QString, name);
    QFETCH(QByteArray, text);
    QFETCH(QString, expected);
    const QTemporaryDir folder;
    fs::path path = pathOf(folder) / (name.isEmpty() ? "absent" : name.toStdString());
    if (!name.isEmpty()) {
        writeText(path, text.toStdString());
    }
    if (path.parent_path().filename() == "policy") {
        path = path.parent_path();
        writeText(path / "config.json", R"({"type":"pi0","output_features":{"action":{"type":"ACTION","shape":[7]}}})");
    }
    QCOMPARE(codeOf(inspectPath(path)), expected);
    if (name == "x.json") {
        QCOMPARE(codeOf(inspectPath(pathOf(folder))), QStringLiteral("Unsupported"));
    }
}

void TestInspection::stops()
{
    std::stop_source stop;
    stop.request_stop();
    const JobContext job { stop.get_token(), {} };
    QCOMPARE(codeOf(inspectPath(goldenFolder() / "hostile" / "adapter" / "ok", {}, job)), QStringLiteral("Cancelled"));
}

QTEST_GUILESS_MAIN(TestInspection)
#include "tst_inspection.moc"
