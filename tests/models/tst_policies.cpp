// Properties of policies that no recorded case shows: gradients by finite differences, loading old and broken files,
// adapters at every layer, padding that changes nothing. SPDX-License-Identifier: Apache-2.0
#include "backend/models/token_context.h"
#include "backend/tensor/tensor_file.h"
#include "backend/tensor/tensor_hash.h"
#include "tests/models/policy_fixture.h"

#include <algorithm>
#include <functional>
#include <set>

#include <gtest/gtest.h>

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

namespace {

using namespace rankwise;
using namespace rankwise::models;
using tests::tinyBatch;
using tests::tinyConfig;
using tests::tinyPolicy;

double lossOf(Policy& policy, const tests::TinyBatch& data)
{
    const at::NoGradGuard noGrad;
    return policy.loss(data.batch, data.noise, data.time).loss.item<double>();
}

std::string digestOf(const Policy& policy)
{
    tensor::TensorMap tensors;
    for (const NamedParameter& parameter : policy.parameters()) {
        tensors.emplace(parameter.name, parameter.tensor);
    }
    return *tensor::sha256OfTensors(tensors);
}

double largestDifference(const at::Tensor& a, const at::Tensor& b)
{
    return (a - b).abs().max().item<double>();
}

TEST(Policy, gradientsAgreeWithFiniteDifferences)
{
    const auto policy = tinyPolicy();
    const tests::TinyBatch data = tinyBatch(policy->config(), { 6, 3 });
    for (const NamedParameter& parameter : policy->parameters()) {
        parameter.tensor.requires_grad_(true);
        if (parameter.name == "model.action_out_proj.weight") {
            const at::NoGradGuard noGrad;
            parameter.tensor.mul_(10.0); // its small start would leave every other gradient tiny
        }
    }
    const LossOutput loss = policy->loss(data.batch, data.noise, data.time);
    loss.loss.backward();
    const double value = loss.loss.item<double>();
    double largest = 0;
    for (const NamedParameter& parameter : policy->parameters()) {
        if (parameter.tensor.grad().defined()) {
            largest = std::max(largest, parameter.tensor.grad().norm().item<double>());
        }
    }
    std::size_t checked = 0;
    for (const NamedParameter& parameter : policy->parameters()) {
        const at::Tensor gradient = parameter.tensor.grad();
        const double norm = gradient.defined() ? gradient.norm().item<double>() : 0.0;
        if (norm < 1e-3 * largest) {
            continue; // too little slope to see in f32
        }
        // Along the gradient the loss changes by its norm. The step changes the loss by about 0.4 %.
        const double step = 2e-3 * value / norm;
        const at::Tensor direction = gradient / norm;
        at::Tensor weight = parameter.tensor.detach();
        weight.add_(direction * step);
        const double up = lossOf(*policy, data);
        weight.sub_(direction * (2 * step));
        const double down = lossOf(*policy, data);
        weight.add_(direction * step);
        EXPECT_NEAR((up - down) / (2 * step), norm, 0.03 * norm) << parameter.name;
        ++checked;
    }
    EXPECT_GT(checked, 60U);
}

TEST(Policy, onlyTheStateRowsGraphGivesTheSameGradients)
{
    // With a frozen language model, the context runs without a graph; hooking an adapter anywhere in it forces the
    // whole graph. Both must give the trainable parameters the same gradients.
    struct Passthrough : LinearAdapter {
        at::Tensor forward(const Linear& base, const at::Tensor& x) override { return base.forwardBase(x); }
    };
    const auto gradients = [](bool hooked) {
        const auto policy = tinyPolicy();
        for (const NamedParameter& parameter : policy->parameters()) {
            parameter.tensor.requires_grad_(parameter.trainableByConfig);
        }
        if (hooked) {
            for (Linear& layer : policy->linears()) {
                layer.adapter = layer.path.find("text_model.layers.0.self_attn.q_proj") != std::string::npos
                    ? std::make_shared<Passthrough>()
                    : nullptr;
            }
        }
        const tests::TinyBatch data = tinyBatch(policy->config(), { 4, 2, 6 });
        policy->loss(data.batch, data.noise, data.time).loss.backward();
        std::map<std::string, at::Tensor> result;
        for (const NamedParameter& parameter : policy->parameters()) {
            if (parameter.trainableByConfig) {
                result.emplace(parameter.name, parameter.tensor.grad());
            }
        }
        return result;
    };
    const auto split = gradients(false);
    const auto whole = gradients(true);
    for (const auto& [name, gradient] : whole) {
        ASSERT_TRUE(gradient.defined() && split.at(name).defined()) << name;
        EXPECT_LE(largestDifference(gradient, split.at(name)), 1e-5 * gradient.abs().max().item<double>() + 1e-9)
            << name;
    }
}

TEST(Policy, everySampleOfAPaddedBatchIsAsAlone)
{
    const auto policy = tinyPolicy();
    tests::TinyBatch data = tinyBatch(policy->config(), { 6, 2, 4 });
    data.batch.imageMasks[1][1].fill_(false); // this camera shows nothing for the second sample
    const at::Tensor together = policy->sampleActions(data.batch, data.noise);
    for (std::int64_t i = 0; i < 3; ++i) {
        const tests::TinyBatch one = tests::sampleOf(data, i);
        EXPECT_LE(largestDifference(policy->sampleActions(one.batch, one.noise), together.narrow(0, i, 1)), 2e-5);
    }
}

TEST(Policy, whatIsMaskedChangesNothing)
{
    const auto policy = tinyPolicy();
    tests::TinyBatch data = tinyBatch(policy->config(), { 3, 2 });
    data.batch.imageMasks[0][0].fill_(false);
    const at::Tensor before = policy->sampleActions(data.batch, data.noise);
    data.batch.tokens.narrow(1, 3, 3).fill_(11);
    data.batch.images[0] = data.batch.images[0].clone();
    data.batch.images[0][0].fill_(0.77);
    EXPECT_TRUE(at::equal(policy->sampleActions(data.batch, data.noise), before));
    data.batch.images[0][1].fill_(0.77);
    EXPECT_FALSE(at::equal(policy->sampleActions(data.batch, data.noise), before));
}

TEST(Policy, paddedStepsStayOutOfTheLoss)
{
    const auto policy = tinyPolicy();
    tests::TinyBatch data = tinyBatch(policy->config(), { 3, 2 });
    data.batch.actionIsPad = at::zeros({ 2, 5 }, at::TensorOptions(at::kBool));
    EXPECT_NEAR(
        lossOf(*policy, data),
        [&] {
            tests::TinyBatch without = data;
            without.batch.actionIsPad = at::Tensor();
            return lossOf(*policy, without);
        }(),
        1e-6);
    data.batch.actionIsPad.narrow(1, 4, 1).fill_(true);
    const double before = lossOf(*policy, data);
    // The last step is causal: nobody else sees it, and it does not count.
    data.batch.actions = data.batch.actions.clone();
    data.batch.actions.narrow(1, 4, 1).fill_(5.0);
    EXPECT_NEAR(lossOf(*policy, data), before, 1e-6);
    data.batch.actionIsPad.fill_(true);
    EXPECT_EQ(lossOf(*policy, data), 0.0);
}

/// Adds nothing, and notes what it saw.
class Recording : public LinearAdapter {
public:
    struct Seen {
        std::int64_t rows = 0;
        std::size_t kinds = 0;
        bool validFits = true;
        std::set<TokenKind> kindSet;
    };

    at::Tensor forward(const Linear& base, const at::Tensor& x) override
    {
        const TokenContext* tokens = currentTokens();
        EXPECT_NE(tokens, nullptr) << base.path;
        EXPECT_EQ(x.dim(), 3) << base.path;
        if (tokens != nullptr && x.dim() == 3) {
            EXPECT_EQ(tokens->kinds.size(), static_cast<std::size_t>(x.size(1))) << base.path;
            if (tokens->valid.defined()) {
                EXPECT_EQ(tokens->valid.size(0), x.size(0)) << base.path;
                EXPECT_EQ(tokens->valid.size(1), x.size(1)) << base.path;
            }
            seen.insert(tokens->kinds.begin(), tokens->kinds.end());
        }
        ++calls;
        return base.forwardBase(x);
    }

    int calls = 0;
    std::set<TokenKind> seen;
};

TEST(Policy, adaptersSeeEveryLayerAndItsTokens)
{
    const auto policy = tinyPolicy();
    const tests::TinyBatch data = tinyBatch(policy->config(), { 6, 2 });
    const double bare = lossOf(*policy, data);
    const at::Tensor bareActions = policy->sampleActions(data.batch, data.noise);
    std::vector<std::shared_ptr<Recording>> recordings;
    for (Linear& layer : policy->linears()) {
        recordings.push_back(std::make_shared<Recording>());
        layer.adapter = recordings.back();
    }
    EXPECT_NEAR(lossOf(*policy, data), bare, 1e-6);
    EXPECT_LE(largestDifference(policy->sampleActions(data.batch, data.noise), bareActions), 1e-5);
    std::set<std::string> paths;
    std::size_t index = 0;
    for (const Linear& layer : policy->linears()) {
        const Recording& recording = *recordings[index++];
        EXPECT_TRUE(paths.insert(layer.path).second) << layer.path;
        EXPECT_EQ(recording.calls == 0, layer.deadEnd) << layer.path;
        if (layer.group == LayerGroup::Vision) {
            EXPECT_EQ(recording.seen, std::set { TokenKind::Image }) << layer.path;
        }
        if (layer.path.ends_with("lm_expert.layers.0.self_attn.q_proj")) {
            EXPECT_EQ(recording.seen, std::set { TokenKind::Action });
        }
        if (layer.path.ends_with("text_model.layers.0.self_attn.k_proj")
            || layer.path.ends_with("lm_expert.layers.1.self_attn.k_proj")) {
            EXPECT_EQ(recording.seen, (std::set { TokenKind::Image, TokenKind::Language, TokenKind::State }));
        }
    }
    EXPECT_EQ(currentTokens(), nullptr);
}

TEST(Policy, aChangedWeightCountsAtOnce)
{
    // Also where several layers are one product, and when a layer's weight is replaced by another tensor.
    const auto policy = tinyPolicy();
    const tests::TinyBatch data = tinyBatch(policy->config(), { 6 });
    const at::Tensor before = policy->sampleActions(data.batch, data.noise);
    for (Linear& layer : policy->linears()) {
        if (!layer.path.ends_with("lm_expert.layers.0.self_attn.k_proj")) {
            continue;
        }
        const at::Tensor kept = layer.weight;
        layer.weight = layer.weight.clone();
        policy->weightsChanged();
        EXPECT_LE(largestDifference(policy->sampleActions(data.batch, data.noise), before), 1e-5);
        layer.weight.mul_(3.0);
        EXPECT_GT(largestDifference(policy->sampleActions(data.batch, data.noise), before), 1e-3);
        layer.weight = kept;
        policy->weightsChanged();
        EXPECT_TRUE(at::equal(policy->sampleActions(data.batch, data.noise), before));
    }
}

TEST(Policy, autocastStaysClose)
{
    const auto gradient = [](bool autocast, const auto& trains, double& loss) {
        const auto policy = tinyPolicy();
        const tests::TinyBatch data = tinyBatch(policy->config(), { 6, 2 });
        for (const NamedParameter& parameter : policy->parameters()) {
            parameter.tensor.requires_grad_(trains(parameter));
        }
        at::autocast::set_autocast_enabled(at::kCPU, autocast);
        at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
        const at::Tensor value = policy->loss(data.batch, data.noise, data.time).loss;
        value.backward();
        const at::Tensor actions = policy->sampleActions(data.batch, data.noise);
        at::autocast::clear_cache();
        at::autocast::set_autocast_enabled(at::kCPU, false);
        EXPECT_EQ(value.scalar_type(), at::kFloat);
        EXPECT_FALSE(actions.isnan().any().item<bool>());
        loss = value.item<double>();
        for (const NamedParameter& parameter : policy->parameters()) {
            if (parameter.name == "model.action_in_proj.weight") {
                return parameter.tensor.grad().clone();
            }
        }
        return at::Tensor();
    };
    const auto compare = [&](const auto& trains) {
        double narrow = 0;
        double wide = 0;
        const at::Tensor rough = gradient(true, trains, narrow);
        const at::Tensor exact = gradient(false, trains, wide);
        EXPECT_NEAR(narrow, wide, 0.01 * wide);
        EXPECT_LT(largestDifference(rough, exact), 0.1 * exact.abs().max().item<double>());
        EXPECT_GT(largestDifference(rough, exact), 0.0);
    };
    compare([](const NamedParameter&) { return true; });
    compare([](const NamedParameter& parameter) { return parameter.trainableByConfig; });
}

TEST(Policy, theSeedDecides)
{
    EXPECT_EQ(digestOf(*tinyPolicy(3)), digestOf(*tinyPolicy(3)));
    EXPECT_NE(digestOf(*tinyPolicy(3)), digestOf(*tinyPolicy(4)));
    for (const NamedParameter& parameter : tinyPolicy(3)->parameters()) {
        EXPECT_FALSE(parameter.tensor.requires_grad()) << parameter.name;
    }
}

class PolicyFiles : public testing::Test {
protected:
    PolicyFiles() : m_policy(tinyPolicy()), m_data(tinyBatch(m_policy->config(), { 6, 2 }))
    {
        RW_CHECK(savePolicy(*m_policy, m_folder.path()).has_value());
        m_tensors = *tensor::loadTensors(weights());
    }

    [[nodiscard]] std::filesystem::path weights() const { return m_folder.path() / "model.safetensors"; }

    /// Rewrites the weights under other names; an empty name drops a tensor.
    void rename(const std::function<std::string(const std::string&)>& newName)
    {
        tensor::TensorMap renamed;
        for (const auto& [name, value] : m_tensors) {
            if (const std::string to = newName(name); !to.empty()) {
                renamed.emplace(to, value.clone());
            }
        }
        ASSERT_TRUE(tensor::saveTensors(weights(), renamed));
    }

    void expectSameActions()
    {
        const auto loaded = loadPolicy(m_folder.path());
        ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
        EXPECT_TRUE(at::equal((*loaded)->sampleActions(m_data.batch, m_data.noise),
                              m_policy->sampleActions(m_data.batch, m_data.noise)));
    }

    Error loadError()
    {
        const auto loaded = loadPolicy(m_folder.path());
        EXPECT_FALSE(loaded.has_value());
        return loaded ? Error {} : loaded.error();
    }

    tests::TemporaryFolder m_folder;
    std::unique_ptr<Policy> m_policy;
    tests::TinyBatch m_data;
    tensor::TensorMap m_tensors;
};

TEST_F(PolicyFiles, whatIsSavedIsLoadedBitForBit)
{
    const auto loaded = loadPolicy(m_folder.path());
    ASSERT_TRUE(loaded.has_value()) << loaded.error().describe();
    EXPECT_EQ(digestOf(**loaded), digestOf(*m_policy));
    EXPECT_EQ((*loaded)->config(), m_policy->config());
    expectSameActions();
}

TEST_F(PolicyFiles, compiledPolicysNamesAreUnderstood)
{
    rename([](const std::string& name) { return "model._orig_mod." + name.substr(6); });
    expectSameActions();
}

TEST_F(PolicyFiles, namesWithoutModelAreUnderstood)
{
    rename([](const std::string& name) { return name.substr(6); });
    expectSameActions();
}

TEST_F(PolicyFiles, oldNormalisationStatisticsAreNoWeights)
{
    m_tensors.emplace("normalize_inputs.buffer_observation_state.mean", at::zeros({ 7 }));
    m_tensors.emplace("unnormalize_outputs.so100-red_buffer_action.std", at::ones({ 7 }));
    rename([](const std::string& name) { return name; });
    expectSameActions();
}

TEST_F(PolicyFiles, theLanguageHeadMayBeMissing)
{
    rename([](const std::string& name) { return name.find("lm_head") != std::string::npos ? std::string() : name; });
    expectSameActions();
    const auto loaded = loadPolicy(m_folder.path());
    ASSERT_TRUE(savePolicy(**loaded, m_folder.path()));
    EXPECT_TRUE(tensor::loadTensors(weights())->contains("model.vlm_with_expert.vlm.lm_head.weight"));
}

TEST_F(PolicyFiles, aMissingTensorIsNamed)
{
    rename([](const std::string& name) { return name == "model.state_proj.bias" ? std::string() : name; });
    const Error error = loadError();
    EXPECT_EQ(error.code, Errc::TensorNotFound);
    EXPECT_NE(error.message.find("model.state_proj.bias"), std::string::npos) << error.message;
}

TEST_F(PolicyFiles, anUnexpectedTensorIsNamed)
{
    m_tensors.emplace("model.more.weight", at::zeros({ 1 }));
    rename([](const std::string& name) { return name; });
    const Error error = loadError();
    EXPECT_EQ(error.code, Errc::DataInvalid);
    EXPECT_NE(error.message.find("model.more.weight"), std::string::npos) << error.message;
}

TEST_F(PolicyFiles, aTensorOfAnotherShapeIsNamed)
{
    m_tensors["model.state_proj.weight"] = at::zeros({ 32, 8 });
    m_tensors["model.action_in_proj.bias"] = at::zeros({ 1 });
    rename([](const std::string& name) { return name; });
    const Error error = loadError();
    EXPECT_EQ(error.code, Errc::ShapeMismatch);
    EXPECT_NE(error.message.find("model.state_proj.weight is [32, 8], expected [32, 9]"), std::string::npos)
        << error.message;
    EXPECT_NE(error.message.find("model.action_in_proj.bias"), std::string::npos) << error.message;
}

TEST_F(PolicyFiles, aNameUnderTwoSpellingsIsRefused)
{
    m_tensors.emplace("state_proj.bias", at::zeros({ 32 }));
    rename([](const std::string& name) { return name; });
    EXPECT_EQ(loadError().code, Errc::DataInvalid);
}

TEST_F(PolicyFiles, mixedPrecisionIsTheReferencesMix)
{
    ASSERT_TRUE(savePolicy(*m_policy, m_folder.path(), Precision::Mixed));
    const tensor::TensorMap stored = *tensor::loadTensors(weights());
    const auto typeOf = [&](const std::string& name) { return stored.at("model." + name).scalar_type(); };
    EXPECT_EQ(typeOf("state_proj.weight"), at::kFloat);
    EXPECT_EQ(typeOf("action_out_proj.bias"), at::kFloat);
    EXPECT_EQ(typeOf("vlm_with_expert.lm_expert.layers.1.self_attn.k_proj.weight"), at::kFloat);
    EXPECT_EQ(typeOf("vlm_with_expert.lm_expert.layers.0.self_attn.k_proj.weight"), at::kBFloat16);
    EXPECT_EQ(typeOf("vlm_with_expert.lm_expert.layers.1.self_attn.q_proj.weight"), at::kBFloat16);
    EXPECT_EQ(typeOf("vlm_with_expert.vlm.model.text_model.embed_tokens.weight"), at::kBFloat16);

    // Loaded in each precision, the actions agree to what bf16 holds.
    const auto wide = loadPolicy(m_folder.path());
    const auto mixed = loadPolicy(m_folder.path(), { .precision = Precision::Stored });
    ASSERT_TRUE(wide.has_value() && mixed.has_value());
    const at::Tensor a = (*wide)->sampleActions(m_data.batch, m_data.noise);
    const at::Tensor b = (*mixed)->sampleActions(m_data.batch, m_data.noise);
    EXPECT_EQ(b.scalar_type(), at::kFloat);
    EXPECT_LE(largestDifference(a, b), 0.03 * a.abs().max().item<double>());
    EXPECT_GT(largestDifference(a, b), 0.0);
    EXPECT_NEAR(lossOf(**mixed, m_data), lossOf(**wide, m_data), 0.02);
}

TEST(PolicyRegistry, errorsAreTyped)
{
    EXPECT_EQ(policyTypes(), std::vector<std::string> { "smolvla" });
    io::PolicyConfig other = tinyConfig();
    other.type = "act";
    EXPECT_EQ(createPolicy(other, 1).error().code, Errc::Unsupported);
    EXPECT_EQ(createPolicy(tinyConfig(), 1, { .device = "toaster" }).error().code, Errc::FieldInvalid);
    EXPECT_EQ(loadPolicy("no/such/folder").error().code, Errc::FileNotFound);

    struct Row {
        const char* name;
        std::function<void(io::PolicyConfig&, io::SmolVlaConfig&)> change;
        Errc code;
    };
    const std::vector<Row> rows {
        { "expert layers that do not divide", [](auto&, auto& s) { s.numExpertLayers = 3; }, Errc::FieldInvalid },
        { "joint layers that do not line up", [](auto&, auto& s) { s.numExpertLayers = 2; }, Errc::FieldInvalid },
        { "more layers than there are", [](auto&, auto& s) { s.numVlmLayers = 5; }, Errc::FieldInvalid },
        { "odd expert width", [](auto&, auto& s) { s.expertWidthMultiplier = 0.35; }, Errc::FieldInvalid },
        { "heads that do not group", [](auto&, auto& s) { s.vlm.text.numKeyValueHeads = 3; }, Errc::FieldInvalid },
        { "action wider than the network", [](auto& c, auto&) { c.maxActionDim = 6; }, Errc::FieldInvalid },
        { "special tokens outside of the vocabulary", [](auto&, auto& s) { s.addImageSpecialTokens = true; },
          Errc::FieldInvalid },
        { "ALOHA joints", [](auto&, auto& s) { s.adaptToPiAloha = true; }, Errc::Unsupported },
    };
    for (const Row& row : rows) {
        io::PolicyConfig config = tinyConfig();
        row.change(config, std::get<io::SmolVlaConfig>(config.model));
        const auto made = createPolicy(config, 1);
        ASSERT_FALSE(made.has_value()) << row.name;
        EXPECT_EQ(made.error().code, row.code) << row.name << ": " << made.error().describe();
    }
    io::PolicyConfig sparse = tinyConfig();
    std::get<io::SmolVlaConfig>(sparse.model).numExpertLayers = 2;
    std::get<io::SmolVlaConfig>(sparse.model).selfAttnEveryNLayers = -1;
    EXPECT_TRUE(createPolicy(sparse, 1).has_value());
}

} // namespace
