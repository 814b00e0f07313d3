// Processors against recorded pipelines of the reference: images, normalisation, prompts, whole step lists,
// checkpoints. SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/models/certify.h"
#include "backend/models/image_transform.h"
#include "backend/models/processor.h"
#include "backend/models/prompt.h"
#include "backend/tensor/tensor_file.h"
#include "tests/models/golden_cases.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace {

using namespace rankwise;
using namespace rankwise::models;
namespace fs = std::filesystem;

/// A test whose body is a function, for cases found at run time.
class FoundCase : public testing::Test {
public:
    explicit FoundCase(std::function<void()> body) : m_body(std::move(body)) { }
    void TestBody() override { m_body(); }

private:
    std::function<void()> m_body;
};

void registerCase(const std::string& suite, const std::string& name, std::function<void()> body)
{
    testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [body = std::move(body)]() -> testing::Test* { return new FoundCase(body); });
}

template <class T> T expectValue(Result<T> result)
{
    if (!result) {
        throw std::runtime_error(result.error().describe());
    }
    return std::move(*result);
}

struct Tolerance {
    double relative = 0;
    double absolute = 0;
};

void expectClose(const at::Tensor& ours, const at::Tensor& expected, const Tolerance& tolerance,
                 const std::string& what)
{
    ASSERT_TRUE(ours.defined()) << what;
    ASSERT_EQ(ours.sizes(), expected.sizes()) << what;
    ASSERT_EQ(ours.scalar_type(), expected.scalar_type()) << what;
    if (!expected.is_floating_point()) {
        EXPECT_TRUE(ours.equal(expected)) << what;
        return;
    }
    const at::Tensor a = ours.to(at::kDouble);
    const at::Tensor b = expected.to(at::kDouble);
    const at::Tensor excess = (a - b).abs() - (tolerance.absolute + tolerance.relative * b.abs());
    EXPECT_LE(excess.max().item<double>(), 0.0)
        << what << ": largest difference " << (a - b).abs().max().item<double>();
}

PolicyProcessor loadedProcessor(const fs::path& folder, const fs::path& tokenizer)
{
    ProcessorOptions options;
    options.tokenizer = tokenizer;
    std::vector<Warning> warnings;
    return expectValue(PolicyProcessor::load(folder, options, warnings));
}

Transition transitionOf(const tensor::TensorMap& inputs, const std::vector<std::string>& tasks)
{
    Transition transition;
    transition.tasks = tasks;
    for (const auto& [name, value] : inputs) {
        if (name.starts_with("observation.")) {
            transition.observation[name] = value;
        }
    }
    if (const auto action = inputs.find("action"); action != inputs.end()) {
        transition.action = action->second;
    }
    return transition;
}

/// A folder of its own that is removed at the end.
class TemporaryFolder {
public:
    TemporaryFolder()
    {
        std::string name = (fs::temp_directory_path() / "rankwise-processors-XXXXXX").string();
        m_path = ::mkdtemp(name.data());
    }
    ~TemporaryFolder()
    {
        std::error_code ignored;
        fs::remove_all(m_path, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    [[nodiscard]] const fs::path& path() const { return m_path; }

private:
    fs::path m_path;
};

/// The recorded outputs, by the judge that `rankwise certify` uses.
void runCertify(const fs::path& path)
{
    const CertifyReport report = expectValue(certifyCase(path));
    EXPECT_TRUE(report.passed()) << report.table(false);
}

void expectSame(const PolicyProcessor& one, const PolicyProcessor& other, const Transition& transition)
{
    const Transition a = expectValue(one.preprocess(transition));
    const Transition b = expectValue(other.preprocess(transition));
    EXPECT_EQ(a.tasks, b.tasks);
    ASSERT_EQ(a.observation.size(), b.observation.size());
    for (const auto& [name, value] : a.observation) {
        EXPECT_TRUE(value.equal(b.observation.at(name))) << name;
    }
    const std::int64_t width = one.config().actionDim();
    const at::Tensor actions = at::rand({ static_cast<std::int64_t>(a.tasks.size()), 5, width });
    EXPECT_TRUE(expectValue(one.postprocess(actions, a.referenceState))
                    .equal(expectValue(other.postprocess(actions, b.referenceState))));
}

/// A pipeline made in memory from configuration and statistics, and one that was saved and read again, do the same.
void runCopies(const fs::path& folder)
{
    const Json json = expectValue(readJsonFile(folder / "case.json"));
    const fs::path tokenizerFolder = folder / json.at("tokenizer").get<std::string>();
    const PolicyProcessor processor = loadedProcessor(folder, tokenizerFolder);
    const Transition transition = transitionOf(expectValue(tensor::loadTensors(folder / "inputs.safetensors")),
                                               json.at("tasks").get<std::vector<std::string>>());
    std::vector<Warning> warnings;
    const io::Tokenizer tokenizer = expectValue(io::Tokenizer::load(tokenizerFolder, warnings));
    const PolicyProcessor made =
        expectValue(PolicyProcessor::create(processor.config(), processor.statistics(), tokenizer));
    expectSame(processor, made, transition);

    const TemporaryFolder temporary;
    ASSERT_TRUE(made.save(temporary.path()));
    fs::copy_file(folder / "config.json", temporary.path() / "config.json");
    expectSame(processor, loadedProcessor(temporary.path(), tokenizerFolder), transition);
}

/// Registers everything in the golden folder; a kind that nobody can run is a failing test.
std::size_t registerGolden()
{
    std::set<fs::path> cases;
    const fs::path root = tests::goldenRoot() / "models" / "preprocessing";
    for (const fs::path& folder : tests::caseFolders(root)) {
        cases.insert(folder);
    }
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(root, ignored)) {
        if (entry.is_regular_file() && entry.path().extension() == ".json") {
            cases.insert(entry.path());
        }
    }
    for (const fs::path& path : cases) {
        const auto guarded = [path](void (*run)(const fs::path&)) {
            return [run, path] {
                try {
                    run(path);
                } catch (const std::runtime_error& error) {
                    FAIL() << error.what();
                }
            };
        };
        registerCase("Golden_preprocessing", path.stem().string(), guarded(runCertify));
        const auto json = readJsonFile(path / "case.json");
        if (json && json->value("kind", "") == "pipeline") {
            registerCase("Golden_copies", path.stem().string(), guarded(runCopies));
        }
    }
    return cases.size();
}

io::PolicyConfig smallConfig(const std::string& type)
{
    io::PolicyConfig config = expectValue(io::defaultPolicyConfig(type));
    config.inputFeatures = { { "observation.images.top", io::FeatureType::Visual, { 3, 24, 32 } },
                             { "observation.images.wrist", io::FeatureType::Visual, { 3, 24, 32 } },
                             { kStateKey, io::FeatureType::State, { 6 } } };
    config.outputFeatures = { { kActionKey, io::FeatureType::Action, { 6 } } };
    return config;
}

Statistics smallStatistics()
{
    Statistics statistics;
    for (const char* feature : { kStateKey, kActionKey }) {
        statistics[feature] = { { "mean", at::full({ 6 }, 0.5) }, { "std", at::full({ 6 }, 2.0) },
                                { "min", at::full({ 6 }, -1.0) }, { "max", at::full({ 6 }, 3.0) },
                                { "q01", at::full({ 6 }, -0.5) }, { "q99", at::full({ 6 }, 1.5) } };
    }
    return statistics;
}

std::optional<io::Tokenizer> anyTokenizer(const char* name)
{
    std::vector<Warning> warnings;
    return expectValue(io::Tokenizer::load(fs::path(RANKWISE_TEST_DATA "/golden/models/tokenizers") / name, warnings));
}

Transition smallObservation()
{
    Transition transition;
    transition.observation["observation.images.top"] = at::randint(0, 256, { 24, 32, 3 }, at::kByte);
    transition.observation[kStateKey] = at::rand({ 6 });
    transition.tasks = { "pick up the cube" };
    return transition;
}

template <class T> void expectError(const Result<T>& result, Errc code)
{
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(errcName(result.error().code), errcName(code)) << result.error().describe();
}

TEST(Images, resizeLikeTorch)
{
    at::manual_seed(1);
    for (const auto& [height, width, targetHeight, targetWidth] :
         { std::array { 7, 11, 16, 16 }, std::array { 33, 20, 16, 24 }, std::array { 5, 5, 30, 30 },
           std::array { 50, 64, 50, 64 } }) {
        const at::Tensor image = at::randint(0, 256, { 2, 3, height, width }, at::kByte);
        const double ratio =
            std::max(static_cast<double>(width) / targetWidth, static_cast<double>(height) / targetHeight);
        const auto h = static_cast<std::int64_t>(height / ratio);
        const auto w = static_cast<std::int64_t>(width / ratio);
        const at::Tensor expected = at::upsample_bilinear2d(image.to(at::kFloat) / 255.0, { h, w }, false) * 2 - 1;
        const at::Tensor leftTop = expectValue(resizeWithPad(image, targetHeight, targetWidth, PadPlacement::LeftTop));
        const at::Tensor centered =
            expectValue(resizeWithPad(image, targetHeight, targetWidth, PadPlacement::Centered));
        const std::int64_t top = targetHeight - h;
        const std::int64_t left = targetWidth - w;
        expectClose(leftTop.narrow(2, top, h).narrow(3, left, w), expected, { 0, 1e-6 }, "left/top");
        expectClose(centered.narrow(2, top / 2, h).narrow(3, left / 2, w), expected, { 0, 1e-6 }, "centred");
        const double padding = static_cast<double>(targetHeight * targetWidth - h * w) * 6;
        EXPECT_NEAR(leftTop.sum().item<double>(),
                    leftTop.narrow(2, top, h).narrow(3, left, w).sum().item<double>() - padding, 1e-2);
    }
}

TEST(Images, everyLayoutGivesTheSame)
{
    const at::Tensor image = at::randint(0, 256, { 1, 3, 23, 31 }, at::kByte);
    const at::Tensor interleaved = image.permute({ 0, 2, 3, 1 }).contiguous();
    const std::pair<const char*, at::Tensor> forms[] {
        { "bytes HWC", interleaved },
        { "bytes channels-last", interleaved.permute({ 0, 3, 1, 2 }) },
        { "f32 CHW", image.to(at::kFloat) / 255.0 },
        { "f32 HWC", interleaved.to(at::kFloat) / 255.0 },
        { "one image", image.select(0, 0) },
        { "of two observation steps the last", at::stack({ at::zeros_like(image), image }, 1) },
    };
    for (const PadPlacement placement : { PadPlacement::LeftTop, PadPlacement::Centered }) {
        const at::Tensor expected = expectValue(resizeWithPad(image, 40, 48, placement));
        for (const auto& [form, tensor] : forms) {
            expectClose(expectValue(resizeWithPad(tensor, 40, 48, placement)), expected, { 0, 1e-6 }, form);
        }
    }
    const OpenVlaImageConfig config;
    expectClose(expectValue(openVlaPixels(image.to(at::kFloat) / 255.0, config)),
                expectValue(openVlaPixels(image, config)), {}, "OpenVLA from floats");
}

TEST(Images, refusals)
{
    const at::Tensor bytes = at::zeros({ 8, 8, 4 }, at::kByte);
    expectError(resizeWithPad(bytes, 8, 8, PadPlacement::LeftTop), Errc::ShapeMismatch);
    expectError(resizeWithPad(at::Tensor(), 8, 8, PadPlacement::LeftTop), Errc::ShapeMismatch);
    expectError(resizeWithPad(at::zeros({ 3, 8, 8 }, at::kLong), 8, 8, PadPlacement::LeftTop), Errc::Unsupported);
    expectError(resizeWithPad(at::zeros({ 1, 3, 2000, 1 }, at::kByte), 16, 16, PadPlacement::LeftTop),
                Errc::FieldInvalid);
    expectError(openVlaResized(at::zeros({ 3, 8, 8 }, at::kFloat), {}), Errc::Unsupported);
    for (const char* text : { R"({"interpolations":["lanczos"]})", R"({"image_resize_strategy":"stretch"})",
                              R"({"input_sizes":[[3,224,112]]})" }) {
        expectError(parseOpenVlaImageConfig(text, "x"), Errc::Unsupported);
    }
    for (const char* text : { R"({"means":[[1,2]]})", R"({"means":3})", R"({"stds":[[1,1,0],[1,1,1]]})", "[]" }) {
        expectError(parseOpenVlaImageConfig(text, "x"), Errc::FieldInvalid);
    }
}

TEST(Normalizing, missingStatisticIsAnError)
{
    const std::vector<io::PolicyFeature> features { { kStateKey, io::FeatureType::State, { 6 } } };
    Statistics statistics = smallStatistics();
    const Normalizer normalizer(features, { { io::FeatureType::State, io::NormalizationMode::Quantile10 } },
                                statistics);
    expectError(normalizer.normalize(kStateKey, at::zeros({ 6 })), Errc::DataInvalid);
    const Normalizer narrow(features, { { io::FeatureType::State, io::NormalizationMode::MeanStd } }, statistics);
    expectError(narrow.normalize(kStateKey, at::zeros({ 2, 5 })), Errc::ShapeMismatch);
    EXPECT_TRUE(narrow.featuresWithoutStatistics().empty());
    const Normalizer inert(features, { { io::FeatureType::State, io::NormalizationMode::MeanStd } }, {});
    EXPECT_EQ(inert.featuresWithoutStatistics(), std::vector<std::string> { kStateKey });
    EXPECT_TRUE(expectValue(inert.normalize(kStateKey, at::ones({ 6 }))).equal(at::ones({ 6 })));
}

TEST(Normalizing, keepsDtypeAndComesBack)
{
    const std::vector<io::PolicyFeature> features { { kStateKey, io::FeatureType::State, { 6 } } };
    using Mode = io::NormalizationMode;
    for (const Mode mode : { Mode::MeanStd, Mode::MinMax, Mode::Quantiles }) {
        const Normalizer normalizer(features, { { io::FeatureType::State, mode } }, smallStatistics());
        for (const at::ScalarType type : { at::kFloat, at::kDouble, at::kBFloat16 }) {
            const at::Tensor x = at::rand({ 4, 6 }, at::kDouble).to(type);
            const at::Tensor there = expectValue(normalizer.normalize(kStateKey, x));
            EXPECT_EQ(there.scalar_type(), type);
            const double tolerance = type == at::kBFloat16 ? 5e-2 : 1e-6;
            expectClose(expectValue(normalizer.unnormalize(kStateKey, there)), x, { 0, tolerance }, "round trip");
        }
    }
}

TEST(Normalizing, legacyNames)
{
    const auto features = smallConfig("smolvla").inputFeatures;
    const at::Tensor value = at::ones({ 6 });
    const Statistics found = legacyStatistics(
        {
            { "normalize_inputs.buffer_observation_state.mean", value },
            { "normalize_inputs.so100-red_buffer_observation_state.std", value },
            { "normalize_targets.buffer_action.mean", value },
            { "unnormalize_outputs.so100_buffer_action.std", value },
            { "model.unnormalize_outputs.buffer_action.max", value },
            { "normalize_inputs.buffer_observation_images_top.mean", value },
            { "model.state_proj.weight", value },
        },
        features);
    EXPECT_EQ(found.size(), 3U);
    EXPECT_EQ(found.at(kStateKey).size(), 2U);
    EXPECT_EQ(found.at(kActionKey).size(), 3U);
    EXPECT_EQ(found.at("observation.images.top").size(), 1U);
    EXPECT_TRUE(isLegacyStatistic("normalize_inputs.buffer_observation_state.mean"));
    EXPECT_FALSE(isLegacyStatistic("model.state_proj.weight"));
    EXPECT_FALSE(isLegacyStatistic("so100.buffer.action.mean"));
}

TEST(Prompts, edgeBins)
{
    for (const auto& [value, bin] :
         { std::pair { -1.2, -1 }, std::pair { -1.0, 0 }, std::pair { 0.0, 128 }, std::pair { -1e-300, 127 },
           std::pair { 0.5, 192 }, std::pair { 1.0, 255 }, std::pair { 1e30, 255 }, std::pair { -1e30, -1 } }) {
        EXPECT_EQ(stateBin(value), bin) << value;
    }
    EXPECT_EQ(stateBin(std::numeric_limits<double>::quiet_NaN()), 255);
    for (int i = 0; i < 256; ++i) {
        const double edge = -1 + i / 128.0;
        EXPECT_EQ(stateBin(edge), i);
        EXPECT_EQ(stateBin(std::nextafter(edge, -2)), i - 1);
    }
}

TEST(Prompts, openVla)
{
    EXPECT_EQ(openVlaPrompt("Pick UP the ÄPFEL"), "In: What action should the robot take to pick up the äpfel?\nOut:");
    const auto tokenizer = anyTokenizer("llama2");
    const auto ids = expectValue(openVlaPromptIds(*tokenizer, "Pick up"));
    const auto plain = expectValue(tokenizer->encode(openVlaPrompt("Pick up"))).ids;
    ASSERT_EQ(ids.size(), plain.size() + 1);
    EXPECT_EQ(ids.back(), 29'871);
    EXPECT_EQ(stripped(" \t\n a b\x1f "), "a b");
    EXPECT_EQ(lowerCase("ΟΔΟΣ"), "οδος");
}

TEST(Processor, missingCameras)
{
    for (const auto& [type, emptyCameras, images] :
         { std::tuple { "smolvla", 0, 1U }, std::tuple { "smolvla", 1, 2U }, std::tuple { "pi0", 0, 2U } }) {
        io::PolicyConfig config = smallConfig(type);
        config.emptyCameras = emptyCameras;
        const char* tokenizer = std::string_view(type) == "smolvla" ? "smollm2" : "paligemma";
        const auto processor = expectValue(PolicyProcessor::create(config, smallStatistics(), anyTokenizer(tokenizer)));
        const PolicyBatch batch = expectValue(processor.makeBatch(smallObservation()));
        ASSERT_EQ(batch.images.size(), images) << type;
        EXPECT_TRUE(batch.imageMasks.front().all().item<bool>());
        if (images == 2) {
            EXPECT_FALSE(batch.imageMasks.back().any().item<bool>());
            EXPECT_TRUE((batch.images.back() == -1).all().item<bool>());
        }
        EXPECT_EQ(batch.images.front().size(2), std::string_view(type) == "smolvla" ? 512 : 224);
        EXPECT_EQ(batch.state.sizes(), (std::vector<std::int64_t> { 1, 32 }));
        EXPECT_FALSE(batch.actions.defined());
        EXPECT_EQ(batch.tokens.scalar_type(), at::kLong);
    }
}

TEST(Processor, paddingMaskAndTraining)
{
    const auto processor =
        expectValue(PolicyProcessor::create(smallConfig("smolvla"), smallStatistics(), anyTokenizer("smollm2")));
    Transition transition;
    transition.observation["observation.images.top"] = at::randint(0, 256, { 2, 3, 24, 32 }, at::kByte);
    transition.observation["observation.images.top_padding_mask"] = at::tensor({ 1, 0 }).to(at::kBool);
    transition.observation[kStateKey] = at::rand({ 2, 6 });
    transition.action = at::rand({ 2, 5, 6 });
    transition.actionIsPad = at::zeros({ 2, 5 }, at::kBool);
    transition.tasks = { "a", "pick up the cube" };
    const PolicyBatch batch = expectValue(processor.makeBatch(transition));
    EXPECT_TRUE(batch.imageMasks.front().equal(at::tensor({ 1, 0 }).to(at::kBool)));
    EXPECT_EQ(batch.actions.sizes(), (std::vector<std::int64_t> { 2, 5, 32 }));
    expectClose(batch.actions.narrow(2, 0, 6), (transition.action - 0.5) / 2.0, { 0, 1e-6 }, "actions");
    EXPECT_TRUE((batch.actions.narrow(2, 6, 26) == 0).all().item<bool>());
    EXPECT_TRUE(batch.actionIsPad.defined());
    EXPECT_FALSE(batch.tokenMask[0].all().item<bool>());
}

TEST(Processor, refusals)
{
    io::PolicyConfig config = smallConfig("smolvla");
    const auto processor = expectValue(PolicyProcessor::create(config, smallStatistics(), anyTokenizer("smollm2")));
    Transition noTask = smallObservation();
    noTask.tasks.clear();
    expectError(processor.preprocess(noTask), Errc::FieldMissing);
    Transition noCamera = smallObservation();
    noCamera.observation.erase("observation.images.top");
    expectError(processor.makeBatch(noCamera), Errc::FieldMissing);
    Transition noState = smallObservation();
    noState.observation.erase(kStateKey);
    expectError(processor.makeBatch(noState), Errc::FieldMissing);
    expectError(processor.batch(smallObservation()), Errc::FieldMissing);
    const auto silent = expectValue(PolicyProcessor::create(config, smallStatistics(), std::nullopt));
    expectError(silent.preprocess(smallObservation()), Errc::FieldMissing);
    ProcessorOptions noDevice;
    noDevice.device = "abacus";
    expectError(PolicyProcessor::create(config, smallStatistics(), std::nullopt, noDevice), Errc::FieldInvalid);
    config.maxStateDim = 4;
    const auto narrow = expectValue(PolicyProcessor::create(config, smallStatistics(), anyTokenizer("smollm2")));
    expectError(narrow.makeBatch(smallObservation()), Errc::ShapeMismatch);
    config.type = "act";
    config.model = std::monostate {};
    expectError(PolicyProcessor::create(config, {}, std::nullopt), Errc::Unsupported);
}

TEST(Processor, unknownStepIsRefused)
{
    const TemporaryFolder folder;
    const auto processor =
        expectValue(PolicyProcessor::create(smallConfig("smolvla"), smallStatistics(), std::nullopt));
    ASSERT_TRUE(processor.save(folder.path()));
    ASSERT_TRUE(writeFileAtomically(folder.path() / "config.json", jsonText(io::policyConfigJson(processor.config()))));
    ProcessorOptions options;
    options.tokenizer = RANKWISE_TEST_DATA "/golden/models/tokenizers/smollm2";
    std::vector<Warning> warnings;
    ASSERT_TRUE(PolicyProcessor::load(folder.path(), options, warnings).has_value());
    const Json good = expectValue(readJsonFile(folder.path() / "policy_preprocessor.json"));
    const auto refuses = [&](const std::function<void(Json&)>& edit, Errc code) {
        Json json = good;
        edit(json);
        ASSERT_TRUE(writeFileAtomically(folder.path() / "policy_preprocessor.json", json.dump()));
        expectError(PolicyProcessor::load(folder.path(), options, warnings), code);
    };
    refuses([](Json& json) { json["steps"][2]["registry_name"] = "sharpen_processor"; }, Errc::Unsupported);
    refuses([](Json& json) { json["steps"][3]["config"]["padding"] = "sometimes"; }, Errc::FieldInvalid);
    refuses([](Json& json) { json["steps"][3]["config"]["task_key"] = "goal"; }, Errc::Unsupported);
    refuses([](Json& json) { json["steps"][4]["config"]["float_dtype"] = "int8"; }, Errc::FieldInvalid);
    refuses([](Json& json) { json["steps"][5]["config"]["norm_map"]["STATE"] = "LOUD"; }, Errc::FieldInvalid);
    refuses([](Json& json) { json["steps"][5]["state_file"] = "missing.safetensors"; }, Errc::FileNotFound);
    refuses([](Json& json) { json["steps"][0]["config"]["rename_map"]["a"] = 3; }, Errc::FieldInvalid);
}

TEST(Processor, warnsWithoutStatistics)
{
    const TemporaryFolder folder;
    const auto processor = expectValue(PolicyProcessor::create(smallConfig("pi0"), {}, std::nullopt));
    ASSERT_TRUE(processor.save(folder.path()));
    EXPECT_EQ(processor.preprocessorSteps().back(), "normalizer_processor");
    ASSERT_TRUE(writeFileAtomically(folder.path() / "config.json", jsonText(io::policyConfigJson(processor.config()))));
    ProcessorOptions options;
    options.tokenizer = RANKWISE_TEST_DATA "/golden/models/tokenizers/paligemma";
    std::vector<Warning> warnings;
    ASSERT_TRUE(PolicyProcessor::load(folder.path(), options, warnings).has_value());
    EXPECT_TRUE(std::any_of(warnings.begin(), warnings.end(), [](const Warning& warning) {
        return warning.message.find("no statistics for observation.state, action") != std::string::npos;
    }));
    options.tokenizer.clear();
    expectError(PolicyProcessor::load(folder.path(), options, warnings), Errc::FileNotFound);
}

TEST(Processor, liftsStatisticsOfOldCheckpoints)
{
    const TemporaryFolder folder;
    const io::PolicyConfig config = smallConfig("smolvla");
    ASSERT_TRUE(writeFileAtomically(folder.path() / "config.json", jsonText(io::policyConfigJson(config))));
    const tensor::TensorMap weights { { "model.state_proj.weight", at::ones({ 2, 2 }) },
                                      { "normalize_inputs.buffer_observation_state.mean", at::full({ 6 }, 0.5) },
                                      { "normalize_inputs.buffer_observation_state.std", at::full({ 6 }, 2.0) },
                                      { "unnormalize_outputs.buffer_action.mean", at::full({ 6 }, 1.0) },
                                      { "unnormalize_outputs.buffer_action.std", at::full({ 6 }, 3.0) } };
    ASSERT_TRUE(tensor::saveTensors(folder.path() / "model.safetensors", weights));
    ProcessorOptions options;
    options.tokenizer = RANKWISE_TEST_DATA "/golden/models/tokenizers/smollm2";
    std::vector<Warning> warnings;
    const auto processor = expectValue(PolicyProcessor::load(folder.path(), options, warnings));
    Transition transition = smallObservation();
    const at::Tensor state = transition.observation.at(kStateKey);
    const Transition result = expectValue(processor.preprocess(transition));
    expectClose(result.observation.at(kStateKey), ((state - 0.5) / 2.0).unsqueeze(0), { 0, 1e-6 }, "state");
    expectClose(expectValue(processor.postprocess(at::ones({ 1, 6 }))), at::full({ 1, 6 }, 4.0), { 0, 1e-6 }, "action");
}

TEST(Processor, renamesAndRelativeActions)
{
    io::PolicyConfig config = smallConfig("pi0");
    auto& pi = std::get<io::PiConfig>(config.model);
    pi.useRelativeActions = true;
    pi.actionFeatureNames = { "a", "b", "c", "d", "e", "Gripper.pos" };
    ProcessorOptions options;
    options.renameMap = { { "observation.images.front", "observation.images.top" } };
    const auto processor =
        expectValue(PolicyProcessor::create(config, smallStatistics(), anyTokenizer("paligemma"), options));
    Transition transition = smallObservation();
    transition.observation["observation.images.front"] = transition.observation.at("observation.images.top");
    transition.observation.erase("observation.images.top");
    transition.observation[kStateKey] = transition.observation.at(kStateKey).unsqueeze(0);
    transition.action = at::rand({ 1, 4, 6 });
    const Transition result = expectValue(processor.preprocess(transition));
    EXPECT_TRUE(result.observation.contains("observation.images.top"));
    at::Tensor expected = transition.action.clone();
    expected.narrow(2, 0, 5).sub_(transition.observation.at(kStateKey).unsqueeze(1).narrow(2, 0, 5));
    expectClose(result.action, (expected - 0.5) / 2.0, { 0, 1e-6 }, "relative");
    expectClose(expectValue(processor.postprocess(result.action, result.referenceState)), transition.action,
                { 0, 1e-5 }, "back");
    expectError(processor.postprocess(result.action), Errc::FieldMissing);
}

TEST(Processor, openVla)
{
    io::PolicyConfig config = expectValue(io::defaultPolicyConfig("openvla"));
    auto& openvla = std::get<io::OpenVlaConfig>(config.model);
    io::ActionStatistics statistics;
    statistics.q01 = { -2, 0, 0 };
    statistics.q99 = { 2, 4, 1 };
    statistics.mask = { true, true, false };
    openvla.normStats = { { "one", statistics }, { "two", statistics } };
    ProcessorOptions options;
    const auto vague = expectValue(PolicyProcessor::create(config, {}, anyTokenizer("llama2"), options));
    expectError(vague.postprocess(at::zeros({ 1, 3 })), Errc::FieldMissing);
    options.unnormKey = "two";
    const auto processor = expectValue(PolicyProcessor::create(config, {}, anyTokenizer("llama2"), options));
    const at::Tensor robot = expectValue(processor.postprocess(at::tensor({ 0.0F, 0.5F, 0.7F }).unsqueeze(0)));
    expectClose(robot, at::tensor({ 0.0F, 3.0F, 0.7F }).unsqueeze(0), { 0, 1e-6 }, "robot units");
    expectError(processor.postprocess(at::zeros({ 1, 4 })), Errc::ShapeMismatch);
    Transition transition;
    transition.observation["observation.images.top"] = at::randint(0, 256, { 2, 48, 64, 3 }, at::kByte);
    transition.tasks = { "Pick", "pick up the red block" };
    transition.action = at::tensor({ 9.0F, 3.0F, 0.7F }).repeat({ 2, 1 });
    const PolicyBatch batch = expectValue(processor.makeBatch(transition));
    ASSERT_EQ(batch.images.size(), 1U);
    EXPECT_EQ(batch.images.front().sizes(), (std::vector<std::int64_t> { 2, 6, 224, 224 }));
    EXPECT_EQ(batch.tokens.select(0, 0)[-1].item<std::int64_t>(), 32'000);
    EXPECT_EQ(batch.tokens.select(0, 1)[-1].item<std::int64_t>(), 29'871);
    EXPECT_TRUE(batch.tokenMask.equal(batch.tokens != 32'000));
    expectClose(batch.actions, at::tensor({ 1.0F, 0.5F, 0.7F }).repeat({ 2, 1 }), { 0, 1e-6 }, "clipped");
}

} // namespace

int main(int argc, char** argv)
{
    testing::InitGoogleTest(&argc, argv);
    const std::size_t found = registerGolden();
    registerCase("Golden", "casesWereFound", [found] {
        EXPECT_GT(found, 0U) << "no case under " << tests::goldenRoot() / "models" / "preprocessing";
    });
    return RUN_ALL_TESTS();
}
