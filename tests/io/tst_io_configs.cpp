// Configurations from outside: policies, processor pipelines and adapters. Golden files, one row for each error,
// rewriting without loss, and expressions that must not hang.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/adapter_config.h"
#include "backend/io/policy_config.h"
#include "test_support.h"

#include <chrono>

namespace fs = std::filesystem;
using namespace rankwise;
using namespace rankwise::io;
using namespace rankwise::test;

class TestIoConfigs : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void goldenPolicies_data();
    void goldenPolicies();
    void goldenProcessors();
    void hostilePolicies_data();
    void hostilePolicies();
    void policyErrors_data();
    void policyErrors();
    void policyDefaults();
    void smolVlaSizes();
    void publishedVlm();
    void openVlaStatistics();
    void pipelineErrors_data();
    void pipelineErrors();

    void hostileAdapters_data();
    void hostileAdapters();
    void goldenAdapters();
    void adapterErrors_data();
    void adapterErrors();
    void adapterMatching_data();
    void adapterMatching();
    void goldenPatterns();
    void adapterRanks();
    void adalora();
    void adapterRewrite();
    void expensiveExpression();
    void truncatedConfigs();
};

namespace {

/// Every key of `original` with the same value in `written`; says which differs.
QString missingFrom(const OrderedJson& written, const Json& original, const QString& path)
{
    for (const auto& [key, value] : original.items()) {
        const QString here = path + "." + QString::fromStdString(key);
        if (!written.contains(key)) {
            return here + " is missing";
        }
        const Json found = Json::parse(written.at(key).dump());
        if (value.is_object() && found.is_object()) {
            if (const QString problem = missingFrom(written.at(key), value, here); !problem.isEmpty()) {
                return problem;
            }
        } else if (value.is_number() ? found.get<double>() != value.get<double>() : found != value) {
            return here + " is " + QString::fromStdString(found.dump()) + ", not "
                + QString::fromStdString(value.dump());
        }
    }
    return {};
}

const std::string kSmolVla = R"({"type":"smolvla","input_features":{"observation.state":{"type":"STATE","shape":[6]},
"observation.images.z":{"type":"VISUAL","shape":[3,8,8]},"observation.images.a":{"type":"VISUAL","shape":[3,4,4]}},
"output_features":{"action":{"type":"ACTION","shape":[7]}})";

Result<PolicyConfig> parsePolicy(const std::string& text, const std::string& vlm = {})
{
    std::vector<Warning> warnings;
    return parsePolicyConfig(text, vlm, "config.json", warnings);
}

Result<AdapterConfig> parseAdapter(const std::string& text)
{
    std::vector<Warning> warnings;
    return parseAdapterConfig(text, "adapter_config.json", warnings);
}

} // namespace

void TestIoConfigs::goldenPolicies_data()
{
    QTest::addColumn<QString>("path");
    const fs::path root = goldenFolder() / "models";
    int found = 0;
    if (fs::is_directory(root)) {
        for (const auto& entry : fs::recursive_directory_iterator(root)) {
            if (entry.path().filename() == "config.json") {
                QTest::newRow(fs::relative(entry.path(), root).c_str())
                    << QString::fromStdString(entry.path().string());
                ++found;
            }
        }
    }
    QVERIFY2(found > 0, "no golden policy configurations");
}

void TestIoConfigs::goldenPolicies()
{
    QFETCH(QString, path);
    const fs::path file = path.toStdString();
    std::vector<Warning> warnings;
    const auto config = readPolicyConfig(file, warnings);
    QVERIFY2(config, config ? "" : qPrintable(describe(config.error())));
    QVERIFY2(warnings.empty() || config->type == "openvla", warnings.empty() ? "" : warnings.front().message.c_str());
    const auto original = readJsonFile(file);
    // Nothing of the file is lost, and what is written reads as the same.
    const QString lost = missingFrom(policyConfigJson(*config), *original, {});
    QVERIFY2(lost.isEmpty(), qPrintable(lost));
    const QTemporaryDir folder;
    QVERIFY(writePolicyConfig(*config, pathOf(folder)));
    const auto again = readPolicyConfig(pathOf(folder), warnings);
    QVERIFY2(again, again ? "" : qPrintable(describe(again.error())));
    QVERIFY(*again == *config);

    if (original->contains("input_features")) {
        const auto ordered = readOrderedJsonFile(file);
        std::size_t i = 0;
        for (const auto& [name, feature] : ordered->at("input_features").items()) {
            QCOMPARE(config->inputFeatures.at(i).name, name);
            QCOMPARE(config->inputFeatures.at(i++).shape, feature.at("shape").get<std::vector<std::int64_t>>());
        }
    }
    const fs::path vlm = file.parent_path() / "vlm_config.json";
    if (fs::exists(vlm)) {
        const auto vlmJson = readJsonFile(vlm);
        QVERIFY(config->smolvla()->vlmFromFile);
        QCOMPARE(config->smolvla()->vlm.text.hiddenSize,
                 vlmJson->at("text_config").at("hidden_size").get<std::int64_t>());
        const QString lostVlm = missingFrom(vlmConfigJson(config->smolvla()->vlm), *vlmJson, {});
        QVERIFY2(lostVlm.isEmpty(), qPrintable(lostVlm));
    }
}

void TestIoConfigs::goldenProcessors()
{
    int found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(goldenFolder() / "models")) {
        const std::string name = entry.path().filename().string();
        if (name != "policy_preprocessor.json" && name != "policy_postprocessor.json") {
            continue;
        }
        std::vector<Warning> warnings;
        const auto pipeline = readProcessorPipeline(entry.path(), warnings);
        QVERIFY2(pipeline, pipeline ? "" : qPrintable(describe(pipeline.error())));
        QVERIFY(warnings.empty());
        QCOMPARE(processorPipelineJson(*pipeline).dump(), readOrderedJsonFile(entry.path())->dump());
        ++found;
    }
    QVERIFY2(found > 0, "no golden processor pipelines");
}

void TestIoConfigs::hostilePolicies_data()
{
    QTest::addColumn<QString>("folder");
    QTest::addColumn<QString>("expect");
    const auto cases = readCases(goldenFolder() / "hostile" / "policy");
    QVERIFY2(cases, "no hostile policies");
    for (const Json& row : cases->at("cases")) {
        const auto dir = row.at("dir").get<std::string>();
        QTest::newRow(dir.c_str()) << QString::fromStdString(dir)
                                   << QString::fromStdString(row.at("expect").get<std::string>());
    }
}

void TestIoConfigs::hostilePolicies()
{
    QFETCH(QString, folder);
    QFETCH(QString, expect);
    std::vector<Warning> warnings;
    const auto config = readPolicyConfig(goldenFolder() / "hostile" / "policy" / folder.toStdString(), warnings);
    QCOMPARE(config ? (warnings.empty() ? QStringLiteral("open") : QStringLiteral("warn")) : QStringLiteral("refuse"),
             expect);
}

void TestIoConfigs::policyErrors_data()
{
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("vlm");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const std::string& text, const char* code, const char* vlm = "") {
        QTest::newRow(name) << QString::fromStdString(text) << QString(vlm) << QString(code);
    };
    row("good", kSmolVla + "}", "ok");
    row("list", "[]", "FieldInvalid");
    row("cut", kSmolVla, "JsonInvalid");
    row("text after a NUL", kSmolVla + "}" + std::string("\0x", 2), "JsonInvalid");
    row("NaN", kSmolVla + R"(,"optimizer_lr":NaN})", "JsonInvalid");
    row("key twice", kSmolVla + R"(,"chunk_size":4,"chunk_size":4})", "JsonInvalid");
    row("type a number", R"({"type":1})", "FieldInvalid");
    row("a model's configuration", R"({"model_type":"smolvlm"})", "FieldMissing");
    row("no action", R"({"type":"pi0","input_features":{"observation.state":{"type":"STATE","shape":[6]}}})",
        "FieldMissing");
    row("feature type", R"({"type":"pi0","output_features":{"action":{"type":"X","shape":[6]}}})", "FieldInvalid");
    row("feature without shape", R"({"type":"pi0","output_features":{"action":{"type":"ACTION"}}})", "FieldMissing");
    row("features a list", R"({"type":"pi0","output_features":[]})", "FieldInvalid");
    row("image of two dimensions",
        R"({"type":"pi0","input_features":{"i":{"type":"VISUAL","shape":[3,4]}},"output_features":{"action":{"type":"ACTION","shape":[6]}}})",
        "FieldInvalid");
    row("normalization", kSmolVla + R"(,"normalization_mapping":{"STATE":"SOME"}})", "FieldInvalid");
    row("steps above chunk", kSmolVla + R"(,"chunk_size":4,"n_action_steps":5})", "FieldInvalid");
    row("chunk fractional", kSmolVla + R"(,"chunk_size":4.5})", "FieldInvalid");
    row("resize of three", kSmolVla + R"(,"resize_imgs_with_padding":[1,2,3]})", "FieldInvalid");
    row("resize null", kSmolVla + R"(,"resize_imgs_with_padding":null})", "ok");
    row("attention mode", kSmolVla + R"(,"attention_mode":"none"})", "FieldInvalid");
    row("periods", kSmolVla + R"(,"min_period":5.0})", "FieldInvalid");
    row("betas of 2", kSmolVla + R"(,"optimizer_betas":[2,0.9]})", "FieldInvalid");
    row("expert layers do not divide", kSmolVla + R"(,"num_vlm_layers":16,"num_expert_layers":5})", "FieldInvalid");
    row("expert without width", kSmolVla + R"(,"expert_width_multiplier":0.001})", "FieldInvalid");
    row("delta actions", kSmolVla + R"(,"use_delta_joint_actions_aloha":true})", "Unsupported");
    row("variant", R"({"type":"pi05","paligemma_variant":"gemma_9b"})", "FieldInvalid");
    row("sizes a number", R"({"type":"pi05","sizes":3})", "FieldInvalid");
    row("unknown type", R"({"type":"act","chunk_size":100,"n_action_steps":100,"anything":1})", "ok");
    row("vlm broken", kSmolVla + "}", "JsonInvalid", "{");
    row("vlm without text", kSmolVla + "}", "FieldMissing", R"({"vision_config":{}})");
    row("vlm heads", kSmolVla + "}", "FieldInvalid",
        R"({"vision_config":{},"text_config":{"num_attention_heads":4,"num_key_value_heads":3}})");
    row("vlm rope scaled", kSmolVla + "}", "Unsupported",
        R"({"vision_config":{},"text_config":{"rope_scaling":{"factor":2}}})");
    row("vlm patch", kSmolVla + "}", "FieldInvalid", R"({"text_config":{},"vision_config":{"patch_size":999}})");
    row("statistics uneven", R"({"model_type":"openvla","norm_stats":{"d":{"action":{"q01":[0],"q99":[1,2]}}}})",
        "FieldInvalid");
    row("statistics mask", R"({"model_type":"openvla","norm_stats":{"d":{"action":{"q01":[0],"q99":[1],"mask":[1]}}}})",
        "FieldInvalid");
    row("statistics without action", R"({"model_type":"openvla","norm_stats":{"d":{}}})", "FieldMissing");
    row("vision sizes", R"({"model_type":"openvla","vision_sizes":[{"embed_dim":10,"num_heads":3}]})", "FieldInvalid");
}

void TestIoConfigs::policyErrors()
{
    QFETCH(QString, text);
    QFETCH(QString, vlm);
    QFETCH(QString, expected);
    const auto config = parsePolicy(text.toStdString(), vlm.toStdString());
    QVERIFY2(codeOf(config) == expected, config ? "ok" : qPrintable(describe(config.error())));
}

void TestIoConfigs::policyDefaults()
{
    for (const char* type : { "smolvla", "pi0", "pi05", "openvla" }) {
        const auto config = defaultPolicyConfig(type);
        QVERIFY(config);
        const auto again = parsePolicy(policyConfigJson(*config).dump());
        QVERIFY2(again, again ? "" : qPrintable(describe(again.error())));
        QCOMPARE(again->type, std::string(type));
        QVERIFY2(policyConfigJson(*again) == policyConfigJson(*config), type);
    }
    QCOMPARE(codeOf(defaultPolicyConfig("act")), QStringLiteral("Unsupported"));
    const auto config = parsePolicy(kSmolVla + "}");
    QCOMPARE(config->cameraNames(), (std::vector<std::string> { "observation.images.z", "observation.images.a" }));
    QCOMPARE(config->stateDim(), std::int64_t { 6 });
    QCOMPARE(config->actionDim(), std::int64_t { 7 });
    QVERIFY(config->normalizationMapping.at(FeatureType::Visual) == NormalizationMode::Identity);
    QVERIFY(defaultPolicyConfig("pi05")->normalizationMapping.at(FeatureType::State) == NormalizationMode::Quantiles);
}

void TestIoConfigs::smolVlaSizes()
{
    // Widths of the reference's expert: int(0.75 * 960) = 720, and 2048 for its feed-forward.
    const SmolVlaConfig config;
    QCOMPARE(config.expertHiddenSize(), std::int64_t { 720 });
    QCOMPARE(config.expertIntermediateSize(), std::int64_t { 2048 });
}

void TestIoConfigs::publishedVlm()
{
    const VlmConfig vlm;
    QCOMPARE(vlm.text.hiddenSize, std::int64_t { 960 });
    QCOMPARE(vlm.text.vocabSize, std::int64_t { 49'280 });
    // A file that leaves keys out means transformers' defaults of the model type, not SmolVLM2's.
    const auto config = parsePolicy(kSmolVla + "}",
                                    R"({"text_config":{"hidden_size":64,"num_attention_heads":4,
        "rope_parameters":{"rope_theta":5000.0,"rope_type":"default"}},"vision_config":{"image_size":64}})");
    QVERIFY2(config, config ? "" : qPrintable(describe(config.error())));
    const VlmConfig& read = config->smolvla()->vlm;
    QCOMPARE(read.text.headDim, std::int64_t { 16 });
    QCOMPARE(read.text.numKeyValueHeads, std::int64_t { 4 });
    QCOMPARE(read.text.ropeTheta, 5000.0);
    QCOMPARE(read.text.rmsNormEps, 1e-6);
    QCOMPARE(read.text.intermediateSize, std::int64_t { 11'008 });
    QCOMPARE(read.vision.hiddenSize, std::int64_t { 1152 });
}

void TestIoConfigs::openVlaStatistics()
{
    const QTemporaryDir folder;
    writeText(
        pathOf(folder) / "config.json",
        R"({"model_type":"openvla","norm_stats":{"a":{"action":{"q01":[0,0],"q99":[1,1],"mask":[true,false]}}}})");
    writeText(pathOf(folder) / "dataset_statistics.json", R"({"mine":{"action":{"q01":[-1],"q99":[2]}}})");
    std::vector<Warning> warnings;
    const auto config = readPolicyConfig(pathOf(folder), warnings);
    QVERIFY2(config, config ? "" : qPrintable(describe(config.error())));
    const auto& stats = config->openvla()->normStats;
    QCOMPARE(stats.size(), std::size_t { 2 });
    QCOMPARE(stats.at("a").mask, (std::vector<bool> { true, false }));
    QCOMPARE(stats.at("mine").q99, std::vector<double> { 2.0 });
}

void TestIoConfigs::pipelineErrors_data()
{
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const char* text, const char* code) {
        QTest::newRow(name) << QString(text) << QString(code);
    };
    row("good", R"({"name":"x","steps":[{"registry_name":"a","config":{"k":[1]},"state_file":"s.safetensors"}]})",
        "ok");
    row("not json", "x", "JsonInvalid");
    row("no steps", R"({"name":"x"})", "FieldMissing");
    row("steps an object", R"({"steps":{}})", "FieldInvalid");
    row("step a number", R"({"steps":[1]})", "FieldInvalid");
    row("no registry name", R"({"steps":[{}]})", "FieldMissing");
    row("Python class", R"({"steps":[{"class":"os.system"}]})", "Unsupported");
    row("config a list", R"({"steps":[{"registry_name":"a","config":[]}]})", "FieldInvalid");
    row("state file leaves the folder", R"({"steps":[{"registry_name":"a","state_file":"../x"}]})", "FieldInvalid");
    row("state file absolute", R"({"steps":[{"registry_name":"a","state_file":"/x"}]})", "FieldInvalid");
}

void TestIoConfigs::pipelineErrors()
{
    QFETCH(QString, text);
    QFETCH(QString, expected);
    std::vector<Warning> warnings;
    QCOMPARE(codeOf(parseProcessorPipeline(text.toStdString(), "p.json", warnings)), expected);
}

void TestIoConfigs::hostileAdapters_data()
{
    QTest::addColumn<QString>("folder");
    QTest::addColumn<QString>("expect");
    const auto cases = readCases(goldenFolder() / "hostile" / "adapter");
    QVERIFY2(cases, "no hostile adapters");
    for (const Json& row : cases->at("cases")) {
        const auto dir = row.at("dir").get<std::string>();
        QTest::newRow(dir.c_str()) << QString::fromStdString(dir)
                                   << QString::fromStdString(row.at("expect").get<std::string>());
    }
}

void TestIoConfigs::hostileAdapters()
{
    QFETCH(QString, folder);
    QFETCH(QString, expect);
    std::vector<Warning> warnings;
    const auto adapter = readAdapterFolder(goldenFolder() / "hostile" / "adapter" / folder.toStdString(), warnings);
    const QString verdict =
        adapter ? (warnings.empty() ? QStringLiteral("open") : QStringLiteral("warn")) : QStringLiteral("refuse");
    QVERIFY2(verdict == expect,
             adapter ? (warnings.empty() ? "open" : warnings.front().message.c_str())
                     : qPrintable(describe(adapter.error())));
}

void TestIoConfigs::goldenAdapters()
{
    int found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(goldenFolder() / "adapters")) {
        const fs::path folder = entry.path().parent_path();
        if (entry.path().filename() != "adapter_config.json" || !loadsInPeft(folder)) {
            continue;
        }
        std::vector<Warning> warnings;
        const auto adapter = readAdapterFolder(folder, warnings);
        QVERIFY2(adapter,
                 adapter ? "" : qPrintable(QString::fromStdString(folder.string()) + describe(adapter.error())));
        if (adapter->config.type != PeftType::Other) {
            QVERIFY2(!adapter->modules.empty(), folder.c_str());
            QVERIFY2(std::all_of(adapter->modules.begin(), adapter->modules.end(),
                                 [](const AdapterModule& m) { return m.targeted && m.inFeatures > 0; })
                         || !adapter->config.targetParameters.empty(),
                     folder.c_str());
        }
        // Written as PEFT does, and nothing is lost.
        const auto original = readJsonFile(entry.path());
        const QString lost = missingFrom(adapterConfigJson(adapter->config), *original, {});
        QVERIFY2(lost.isEmpty(), qPrintable(QString::fromStdString(folder.string()) + lost));
        ++found;
    }
    QVERIFY2(found > 0, "no golden adapters");
}

void TestIoConfigs::adapterErrors_data()
{
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("expected");
    const auto row = [](const char* name, const char* text, const char* code) {
        QTest::newRow(name) << QString(text) << QString(code);
    };
    row("good", R"({"peft_type":"LORA","target_modules":["q"]})", "ok");
    row("list", "[]", "FieldInvalid");
    row("empty", "", "JsonInvalid");
    row("no type", R"({"target_modules":["q"]})", "FieldMissing");
    row("type a number", R"({"peft_type":1})", "FieldInvalid");
    row("other type", R"({"peft_type":"IA3","r":"anything"})", "ok");
    row("no targets", R"({"peft_type":"LORA"})", "FieldMissing");
    row("targets a number", R"({"peft_type":"LORA","target_modules":3})", "FieldInvalid");
    row("targets mixed", R"({"peft_type":"LORA","target_modules":["a",1]})", "FieldInvalid");
    row("rank 0", R"({"peft_type":"LORA","target_modules":["q"],"r":0})", "FieldInvalid");
    row("rank 2.5", R"({"peft_type":"LORA","target_modules":["q"],"r":2.5})", "FieldInvalid");
    row("alpha text", R"({"peft_type":"LORA","target_modules":["q"],"lora_alpha":"8"})", "FieldInvalid");
    row("dropout 2", R"({"peft_type":"LORA","target_modules":["q"],"lora_dropout":2})", "FieldInvalid");
    row("bias", R"({"peft_type":"LORA","target_modules":["q"],"bias":"some"})", "FieldInvalid");
    row("pattern rank 0", R"({"peft_type":"LORA","target_modules":["q"],"rank_pattern":{"a":0}})", "FieldInvalid");
    row("pattern rank 2.5", R"({"peft_type":"LORA","target_modules":["q"],"rank_pattern":{"a":2.5}})", "FieldInvalid");
    row("pattern a list", R"({"peft_type":"LORA","target_modules":["q"],"rank_pattern":[]})", "FieldInvalid");
    row("pattern expression", R"({"peft_type":"LORA","target_modules":["q"],"rank_pattern":{"(":2}})", "FieldInvalid");
    row("target expression", R"({"peft_type":"LORA","target_modules":"[a"})", "FieldInvalid");
    row("alpha pattern", R"({"peft_type":"LORA","target_modules":["q"],"alpha_pattern":{"a":"b"}})", "FieldInvalid");
    row("adalora without steps", R"({"peft_type":"ADALORA","target_modules":["q"]})", "FieldMissing");
    row("adalora with dora", R"({"peft_type":"ADALORA","target_modules":["q"],"total_step":1,"use_dora":true})",
        "FieldInvalid");
    row("adalora pattern",
        R"({"peft_type":"ADALORA","target_modules":["q"],"total_step":1,"rank_pattern":{"a":[true]}})", "FieldInvalid");
    row("init a list", R"({"peft_type":"LORA","target_modules":["q"],"init_lora_weights":[]})", "FieldInvalid");
}

void TestIoConfigs::adapterErrors()
{
    QFETCH(QString, text);
    QFETCH(QString, expected);
    QCOMPARE(codeOf(parseAdapter(text.toStdString())), expected);
}

void TestIoConfigs::adapterMatching_data()
{
    QTest::addColumn<QString>("fields");
    QTest::addColumn<QString>("path");
    QTest::addColumn<bool>("expected");
    const auto row = [](const char* fields, const char* path, bool expected) {
        QTest::newRow((std::string(fields) + " " + path).c_str()) << QString(fields) << QString(path) << expected;
    };
    row(R"("target_modules":["q"])", "q", true);
    row(R"("target_modules":["q"])", "a.q", true);
    row(R"("target_modules":["q"])", "a.kq", false);
    row(R"("target_modules":["a.q"])", "b.a.q", true);
    row(R"("target_modules":["a.q"])", "ba.q", false);
    row(R"("target_modules":".*\\.q")", "a.q", true);
    row(R"("target_modules":".*\\.q")", "a.qq", false); // the whole path
    row(R"("target_modules":"q")", "a.q", false);
    row(R"("target_modules":"all-linear")", "anything.at.all", true);
    row(R"("target_modules":["q"],"exclude_modules":["b.q"])", "b.q", false);
    row(R"("target_modules":["q"],"exclude_modules":"b\\..*")", "b.q", false);
    row(R"("target_modules":["q"],"exclude_modules":"b\\..*")", "c.q", true);
    row(R"("target_modules":["q"],"layers_to_transform":[1,3])", "m.layers.1.q", true);
    row(R"("target_modules":["q"],"layers_to_transform":[1,3])", "m.layers.2.q", false);
    row(R"("target_modules":["q"],"layers_to_transform":2)", "m.layers.2.q", true);
    row(R"("target_modules":["q"],"layers_to_transform":[1])", "q", true); // the path itself
    row(R"("target_modules":["q"],"layers_to_transform":[1],"layers_pattern":"h")", "m.layers.1.q", false);
    row(R"("target_modules":["q"],"layers_to_transform":[1],"layers_pattern":["h","layers"])", "m.layers.1.q", true);
}

void TestIoConfigs::adapterMatching()
{
    QFETCH(QString, fields);
    QFETCH(QString, path);
    QFETCH(bool, expected);
    const auto config = parseAdapter(R"({"peft_type":"LORA",)" + fields.toStdString() + "}");
    QVERIFY2(config, config ? "" : qPrintable(describe(config.error())));
    QCOMPARE(AdapterMatcher::make(*config, "x")->targets(path.toStdString()).value(), expected);
}

void TestIoConfigs::goldenPatterns()
{
    const auto golden = readOrderedJsonFile(goldenFolder() / "adapters" / "peft" / "pattern_rules.json");
    QVERIFY2(golden, "no golden pattern rules");
    for (const OrderedJson& row : golden->at("patterns")) {
        OrderedJson config { { "peft_type", "LORA" }, { "r", 1000 }, { "target_modules", { "x" } } };
        std::int64_t rank = 1;
        for (const OrderedJson& key : row.at("keys")) {
            config["rank_pattern"][key.get<std::string>()] = rank++;
        }
        const auto parsed = parseAdapter(config.dump());
        if (row.contains("error")) {
            QVERIFY2(!parsed, row.dump().c_str());
            continue;
        }
        QVERIFY2(parsed, row.dump().c_str());
        const auto found = AdapterMatcher::make(*parsed, "x")->rank(row.at("path").get<std::string>());
        std::int64_t expected = 1000;
        for (std::size_t i = 0; i < row.at("keys").size(); ++i) {
            if (row.at("keys")[i] == row.at("resolved")) {
                expected = static_cast<std::int64_t>(i) + 1;
                break;
            }
        }
        QVERIFY2(found && *found == expected, row.dump().c_str());
    }
    for (const OrderedJson& row : golden->at("targets")) {
        OrderedJson config = row.at("config");
        config["peft_type"] = "LORA";
        const auto parsed = parseAdapter(config.dump());
        QVERIFY2(parsed, row.dump().c_str());
        const auto targeted = AdapterMatcher::make(*parsed, "x")->targets(row.at("path").get<std::string>());
        QVERIFY2(targeted && *targeted == row.at("targeted").get<bool>(), row.dump().c_str());
    }
}

void TestIoConfigs::adapterRanks()
{
    const auto config = parseAdapter(R"({"peft_type":"LORA","target_modules":["q"],"r":8,"lora_alpha":16,
        "rank_pattern":{"layers\\.\\d+\\..*":2,"q":4,"^exact":5},"alpha_pattern":{"a.q":3.5}})");
    QVERIFY2(config, config ? "" : qPrintable(describe(config.error())));
    const auto matcher = AdapterMatcher::make(*config, "x");
    QCOMPARE(matcher->rank("m.layers.12.q").value(), std::int64_t { 2 }); // the first key in the file's order
    QCOMPARE(matcher->rank("m.q").value(), std::int64_t { 4 });
    QCOMPARE(matcher->rank("exact").value(), std::int64_t { 5 });
    QCOMPARE(matcher->rank("m.exact").value(), std::int64_t { 8 });
    QCOMPARE(matcher->alpha("z.a.q").value(), 3.5);
    QCOMPARE(matcher->alpha("q").value(), 16.0);
    QCOMPARE(config->scale(4, 16.0), 4.0);
    AdapterConfig stabilized = *config;
    stabilized.useRslora = true;
    QCOMPARE(stabilized.scale(4, 16.0), 8.0);
}

void TestIoConfigs::adalora()
{
    const auto config = parseAdapter(R"({"peft_type":"ADALORA","target_modules":["l1","l2"],"init_r":3,"lora_alpha":9,
        "total_step":10,"rank_pattern":{"l1.lora_E":[true,false,true],"base_model.model.l2.lora_E":[false,false,false]}})");
    QVERIFY2(config, config ? "" : qPrintable(describe(config.error())));
    const auto matcher = AdapterMatcher::make(*config, "x");
    QCOMPARE(matcher->rank("l1").value(), std::int64_t { 2 });
    QCOMPARE(matcher->rank("l2").value(), std::int64_t { 0 });
    QCOMPARE(matcher->rank("l3").value(), std::int64_t { 3 });
    QCOMPARE(config->scale(2, 9.0), 9.0 / (3.0 + 1e-5));
    QCOMPARE(config->scale(2, 0.0), 2.0 / (3.0 + 1e-5));
}

void TestIoConfigs::adapterRewrite()
{
    const std::string text = R"({"peft_type":"LORA","target_modules":["q"],"from_the_future":{"a":[1]},"r":4,
        "peft_version":"0.99","init_lora_weights":"pissa_niter_4","rank_pattern":{"z":1,"a":2}})";
    const auto config = parseAdapter(text);
    QVERIFY(config);
    QCOMPARE(config->unknownKeys, std::vector<std::string> { "from_the_future" });
    QCOMPARE(config->baseChangingInit(), std::string("pissa_niter_4"));
    const OrderedJson written = adapterConfigJson(*config);
    QVERIFY(written.at("from_the_future") == OrderedJson::parse(text).at("from_the_future"));
    QVERIFY(written.at("peft_version") == "0.99" && written.at("r") == 4);
    const auto again = parseAdapter(written.dump());
    QVERIFY2(again, again ? "" : qPrintable(describe(again.error())));
    QVERIFY(*again == *config);
}

void TestIoConfigs::expensiveExpression()
{
    const auto start = std::chrono::steady_clock::now();
    const auto pattern = PathPattern::compile("(a+)+$", "x");
    QVERIFY(pattern);
    const auto verdict = pattern->matches(std::string(60, 'a') + "!");
    QVERIFY(!verdict || !*verdict);
    const auto nested = PathPattern::compile("(a+)+[bc]", "x");
    QCOMPARE(codeOf(nested->matches(std::string(200, 'a'))), QStringLiteral("TooLarge"));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    QVERIFY2(seconds < 5, qPrintable(QString::number(seconds)));
    QCOMPARE(codeOf(PathPattern::compile(std::string(100'000, 'a'), "x")), QStringLiteral("TooLarge"));
    QCOMPARE(codeOf(PathPattern::compile("(?P<n", "x")), QStringLiteral("FieldInvalid"));
}

void TestIoConfigs::truncatedConfigs()
{
    const std::string policy = kSmolVla + "}";
    const std::string adapter = R"({"peft_type":"LORA","target_modules":["q"],"rank_pattern":{"a":2}})";
    for (std::size_t size = 0; size < policy.size(); ++size) {
        QVERIFY(!parsePolicy(policy.substr(0, size)));
    }
    for (std::size_t size = 0; size < adapter.size(); ++size) {
        QVERIFY(!parseAdapter(adapter.substr(0, size)));
    }
    for (std::size_t i = 0; i < policy.size(); ++i) {
        std::string flipped = policy;
        flipped[i] = static_cast<char>(flipped[i] ^ 1);
        (void)parsePolicy(flipped);
    }
}

QTEST_GUILESS_MAIN(TestIoConfigs)
#include "tst_io_configs.moc"
