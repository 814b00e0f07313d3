// Adapters: golden cases of LoRA-SP, PEFT folders and baselines, discovered in the golden directory, and properties.
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/adaptation_method.h"
#include "backend/adapters/certify_adapter.h"
#include "backend/adapters/lora_sp_layer.h"
#include "backend/adapters/peft_folder.h"
#include "backend/adapters/target_selection.h"
#include "backend/models/token_context.h"
#include "backend/tensor/tensor_file.h"
#include "tests/models/judged_cases.h"
#include "tests/train/temporary_folder.h"
#include "tiny_vla.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {
namespace {

std::filesystem::path goldenRoot()
{
    return tests::goldenRoot() / "adapters";
}

const std::size_t kCases =
    tests::registerCases("AdapterCase", goldenRoot(), adapterCases(goldenRoot()), certifyAdapterCase);

TEST(Golden, casesAreFound)
{
    EXPECT_GT(kCases, 0U) << goldenRoot();
}

// ------------------------------------------------------------------------------------------------ properties

tensor::TensorMap tinyWeights()
{
    auto weights = tensor::loadTensors(goldenRoot() / "peft" / "tiny_base.safetensors");
    EXPECT_TRUE(weights.has_value());
    return *weights;
}

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType type = at::kDouble)
{
    at::Tensor values = at::empty(shape, at::TensorOptions().dtype(at::kDouble));
    return values.normal_(0, 1, at::detail::createCPUGenerator(seed)).to(type);
}

models::Linear randomLinear(std::int64_t out, std::int64_t in, at::ScalarType type = at::kDouble)
{
    models::Linear linear;
    linear.weight = random({ out, in }, 11, type);
    linear.bias = random({ out }, 12, type);
    linear.path = "layer";
    return linear;
}

LoraSpOptions smallOptions(at::ScalarType type = at::kDouble)
{
    LoraSpOptions options;
    options.bank = 24;
    options.routerDropout = 0;
    options.paramType = type;
    return options;
}

/// A layer away from its initialisation: everything random.
std::shared_ptr<LoraSpLayer> randomLayer(const models::Linear& base, const LoraSpOptions& options)
{
    auto layer = std::make_shared<LoraSpLayer>(base, options, std::make_shared<AdapterRandom>(5));
    const at::ScalarType type = options.paramType;
    const at::NoGradGuard noGrad;
    layer->up.copy_(random(layer->up.sizes(), 21, type));
    layer->router1.copy_(random(layer->router1.sizes(), 22, type));
    layer->router2.add_(random(layer->router2.sizes(), 23, type) * 0.1);
    return layer;
}

std::unique_ptr<AdaptationMethod> methodOf(const Json& options)
{
    auto method = makeMethod(options, "test");
    EXPECT_TRUE(method.has_value()) << method.error().describe();
    return method ? std::move(*method) : nullptr;
}

TEST(LoraSp, addsNothingAtTheStart)
{
    const models::Linear base = randomLinear(9, 16);
    for (const bool fused : { false, true }) {
        LoraSpOptions options = smallOptions();
        options.fused = fused;
        LoraSpLayer layer(base, options, std::make_shared<AdapterRandom>(1));
        const at::Tensor x = random({ 2, 5, 16 }, 3);
        EXPECT_TRUE(layer.forward(base, x).equal(base.forwardBase(x)));
    }
}

TEST(LoraSp, resultDoesNotDependOnTheOrderOfVectors)
{
    const models::Linear base = randomLinear(9, 16);
    const at::Tensor x = random({ 2, 5, 16 }, 3);
    for (const bool fused : { false, true }) {
        LoraSpOptions options = smallOptions();
        options.fused = fused;
        const auto layer = randomLayer(base, options);
        const at::Tensor before = layer->forward(base, x);
        const at::Tensor order = at::randperm(options.bank, at::detail::createCPUGenerator(4));
        {
            const at::NoGradGuard noGrad;
            layer->down.copy_(layer->down.index_select(0, order).clone());
            layer->up.copy_(layer->up.index_select(1, order).clone());
            layer->router2.copy_(layer->router2.index_select(0, order).clone());
        }
        EXPECT_TRUE(layer->forward(base, x).allclose(before, 1e-12, 1e-12));
    }
}

TEST(LoraSp, scalingTheScoresScalesTheUpdate)
{
    const models::Linear base = randomLinear(9, 16);
    const at::Tensor x = random({ 2, 5, 16 }, 3);
    const double kappa = 3.7;
    for (const bool fused : { false, true }) {
        LoraSpOptions options = smallOptions();
        options.fused = fused;
        const auto layer = randomLayer(base, options);
        LoraSpLayer* layers[] = { layer.get() };
        const at::Tensor update = layer->forward(base, x) - base.forwardBase(x);
        const double spectral = loraSpLosses(layers, options).at("spectral").item<double>();
        const at::Tensor ranks = layer->digest.ranks.clone();
        {
            const at::NoGradGuard noGrad;
            layer->router2.mul_(kappa);
        }
        layer->beginStep();
        layer->digest.reset(layer->bank(), layer->blocks());
        const at::Tensor scaled = layer->forward(base, x) - base.forwardBase(x);
        EXPECT_TRUE(scaled.allclose(update * kappa, 1e-9, 1e-9));
        EXPECT_TRUE(layer->digest.ranks.equal(ranks));
        EXPECT_NEAR(loraSpLosses(layers, options).at("spectral").item<double>(), spectral, 1e-12);
    }
}

TEST(LoraSp, rankGrowsWithEtaAndOneKeepsEveryNonzeroScore)
{
    at::Tensor scores = random({ 40, 33 }, 6);
    scores.select(1, 7).zero_();
    at::Tensor before = at::zeros({ 40 }, at::TensorOptions().dtype(at::kLong));
    for (const double eta : { 0.05, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999, 1.0 }) {
        const auto chosen = selectByEnergy(scores, eta, false, LoraSpOptions::SortKey::Square);
        ASSERT_TRUE(chosen.has_value());
        EXPECT_TRUE(chosen->k.ge(before).all().item<bool>()) << eta;
        EXPECT_TRUE(chosen->energy.ge(eta * (1 - 2e-6)).all().item<bool>()) << eta;
        before = chosen->k;
    }
    EXPECT_TRUE(before.eq(32).all().item<bool>());
}

TEST(LoraSp, kernelSelectsAsTheSort)
{
    // Random, tied, wide and narrow scores of many lengths, against the full sort.
    int compared = 0;
    for (const std::int64_t bank : { 1, 2, 3, 7, 16, 17, 64, 128, 200 }) {
        for (int kind = 0; kind < 5; ++kind) {
            at::Tensor scores = random({ 60, bank }, static_cast<std::uint64_t>(bank * 10 + kind), at::kFloat);
            if (kind == 1) {
                scores = scores.mul(4).round(); // ties and zeros
            } else if (kind == 2) {
                scores = scores.pow(9);
            } else if (kind == 3) {
                scores = scores.mul(1e-21);
            } else if (kind == 4) {
                scores = at::ones_like(scores) + scores.mul(1e-4);
            }
            for (const double eta : { 0.1, 0.5, 0.9, 0.99, 0.999999, 1.0 }) {
                const auto sorted = selectByEnergy(scores, eta, false, LoraSpOptions::SortKey::Square);
                ASSERT_TRUE(sorted.has_value());
                for (std::int64_t t = 0; t < scores.size(0); ++t) {
                    const at::Tensor row = scores.select(0, t).contiguous();
                    const Cut<float> cut = selectScores(row.const_data_ptr<float>(), bank, eta);
                    const at::Tensor size = row.abs();
                    const at::Tensor index = at::arange(bank, at::TensorOptions().dtype(at::kLong));
                    const at::Tensor keep =
                        size.gt(cut.level).logical_or(size.eq(cut.level).logical_and(index.le(cut.last)));
                    ASSERT_EQ(cut.count, sorted->k.select(0, t).item<std::int64_t>())
                        << "bank " << bank << " kind " << kind << " eta " << eta << " row " << t;
                    ASSERT_TRUE(keep.equal(sorted->keep.select(0, t)));
                    ++compared;
                }
            }
        }
    }
    EXPECT_GT(compared, 10'000);
}

TEST(LoraSp, fusedAndComposedAgreeWithPadding)
{
    const models::Linear base = randomLinear(9, 16);
    const at::Tensor mask = at::ones({ 2, 300 }, at::TensorOptions().dtype(at::kBool));
    mask.select(0, 1).narrow(0, 200, 100).fill_(false);
    std::vector<models::TokenKind> kinds(300, models::TokenKind::Image);
    std::fill(kinds.begin() + 120, kinds.begin() + 250, models::TokenKind::Language);
    std::fill(kinds.begin() + 250, kinds.end(), models::TokenKind::Action);
    const models::TokenContext tokens { mask, kinds };
    std::vector<std::vector<at::Tensor>> results;
    for (const bool fused : { false, true }) {
        LoraSpOptions options = smallOptions();
        options.fused = fused;
        const auto layer = randomLayer(base, options);
        LoraSpLayer* layers[] = { layer.get() };
        at::Tensor x = random({ 2, 300, 16 }, 3).set_requires_grad(true);
        at::Tensor y;
        {
            const models::TokenScope scope(tokens);
            y = layer->forward(base, x);
        }
        const auto losses = loraSpLosses(layers, options);
        (y.sin().sum() + losses.at("spectral") + 2 * losses.at("balance") + 3 * losses.at("z")).backward();
        results.push_back({ y.detach(), losses.at("spectral").detach(), losses.at("balance").detach(),
                            losses.at("z").detach(), x.grad(), layer->down.grad(), layer->up.grad(),
                            layer->router1.grad(), layer->router2.grad(), layer->digest.ranks.to(at::kDouble),
                            layer->digest.kept.to(at::kDouble), layer->digest.gates, layer->digest.share,
                            layer->digest.largestShare, layer->digest.kinds });
        EXPECT_EQ(layer->digest.tokens, 500);
        // By kind: the valid ones of both samples, and together what is counted over all.
        const at::Tensor byKind = layer->digest.kinds;
        const std::vector<double> counts { 240, 210, 0, 50, 0 };
        for (std::int64_t kind = 0; kind < kTokenKinds; ++kind) {
            EXPECT_EQ(byKind[kind][0].item<double>(), counts.at(static_cast<std::size_t>(kind)));
        }
        EXPECT_TRUE(byKind.sum(0).narrow(0, 2, layer->blocks()).allclose(layer->digest.gates, 1e-9, 1e-10));
        EXPECT_EQ(byKind.sum(0)[1].item<double>(),
                  (layer->digest.ranks * at::arange(layer->bank() + 1)).sum().item<double>());
    }
    for (std::size_t i = 0; i < results[0].size(); ++i) {
        EXPECT_TRUE(results[0][i].allclose(results[1][i], 1e-9, 1e-10)) << "result " << i;
    }
}

/// y = W x + b + c · Σ_e softmax(W1 x)_e · U_e V_e x: LoRA-MoE with gates as weights.
at::Tensor loraMoe(const models::Linear& base, const LoraSpLayer& layer, const at::Tensor& x)
{
    const at::Tensor gates = at::softmax(at::matmul(x, layer.router1.t()), -1);
    const std::int64_t rank = layer.bank() / layer.blocks();
    at::Tensor y = base.forwardBase(x);
    for (std::int64_t e = 0; e < layer.blocks(); ++e) {
        const at::Tensor down = layer.down.narrow(0, e * rank, rank);
        const at::Tensor up = layer.up.narrow(1, e * rank, rank);
        y = y + layer.scale * gates.narrow(-1, e, 1) * at::matmul(at::matmul(x, down.t()), up.t());
    }
    return y;
}

TEST(LoraSp, etaOneWithFrozenBlocksIsWeightedLoraMoe)
{
    const models::Linear base = randomLinear(9, 16);
    for (const bool fused : { false, true }) {
        for (const std::int64_t blocks : { 1, 2, 4, 8 }) {
            LoraSpOptions options = smallOptions();
            options.fused = fused;
            options.blocks = blocks;
            options.eta = 1;
            const auto layer = std::make_shared<LoraSpLayer>(base, options, std::make_shared<AdapterRandom>(5));
            layer->router2.set_requires_grad(false); // stays the block indicator of its initialisation
            {
                const at::NoGradGuard noGrad;
                layer->up.copy_(random(layer->up.sizes(), 21));
                layer->router1.copy_(random(layer->router1.sizes(), 22));
            }
            for (int round = 0; round < 4; ++round) { // trains on by the gradients of each in turn
                std::vector<at::Tensor> outcome[2];
                for (const bool moe : { false, true }) {
                    at::Tensor x = random({ 2, 30, 16 }, static_cast<std::uint64_t>(3 + round)).set_requires_grad(true);
                    const at::Tensor y = moe ? loraMoe(base, *layer, x) : layer->forward(base, x);
                    y.sin().sum().backward();
                    outcome[moe] = { y.detach(), x.grad() };
                    for (at::Tensor* parameter : { &layer->down, &layer->up, &layer->router1 }) {
                        outcome[moe].push_back(parameter->grad().clone());
                        parameter->mutable_grad() = at::Tensor();
                    }
                }
                for (std::size_t i = 0; i < outcome[0].size(); ++i) {
                    const double size = std::max(1.0, outcome[1][i].abs().max().item<double>());
                    EXPECT_LT((outcome[0][i] - outcome[1][i]).abs().max().item<double>(), 1e-11 * size)
                        << "blocks " << blocks << " fused " << fused << " round " << round << " result " << i;
                }
                EXPECT_FALSE(layer->router2.grad().defined());
                const at::NoGradGuard noGrad;
                layer->down.sub_(outcome[0][2], 0.005);
                layer->up.sub_(outcome[0][3], 0.005);
                layer->router1.sub_(outcome[0][4], 0.005);
            }
            // Every vector of every token was kept.
            EXPECT_EQ(layer->digest.ranks.select(0, options.bank).item<std::int64_t>(), 4 * 60);
        }
    }
}

TEST(LoraSp, oneBlockHasScoresThatDoNotDependOnTheInput)
{
    const models::Linear base = randomLinear(9, 16);
    LoraSpOptions options = smallOptions();
    options.blocks = 1;
    const auto layer = randomLayer(base, options);
    const LoraSpLayer::Scores scores = layer->scores(random({ 40, 16 }, 3));
    EXPECT_TRUE(scores.scores.equal(layer->router2.detach().t().expand({ 40, options.bank })));
}

TEST(LoraSp, paddedTokensCountNowhere)
{
    const models::Linear base = randomLinear(9, 16);
    const at::Tensor mask = at::ones({ 1, 10 }, at::TensorOptions().dtype(at::kBool));
    mask.narrow(1, 6, 4).fill_(false);
    const models::TokenContext tokens { mask, {} };
    for (const bool fused : { false, true }) {
        LoraSpOptions options = smallOptions();
        options.fused = fused;
        const auto layer = randomLayer(base, options);
        LoraSpLayer* layers[] = { layer.get() };
        const at::Tensor real = random({ 1, 6, 16 }, 3);
        const at::Tensor padded = at::cat({ real, random({ 1, 4, 16 }, 9) * 100 }, 1);
        (void)layer->forward(base, real);
        const auto expected = loraSpLosses(layers, options);
        const at::Tensor ranks = layer->digest.ranks.clone();
        layer->beginStep();
        layer->digest.reset(layer->bank(), layer->blocks());
        {
            const models::TokenScope scope(tokens);
            (void)layer->forward(base, padded);
        }
        for (const auto& [name, value] : loraSpLosses(layers, options)) {
            EXPECT_NEAR(value.item<double>(), expected.at(name).item<double>(), 1e-12) << name;
        }
        EXPECT_TRUE(layer->digest.ranks.equal(ranks));
    }
}

TEST(LoraSp, resultsDoNotDependOnThreads)
{
    const models::Linear base = randomLinear(33, 40, at::kFloat);
    const int before = at::get_num_threads();
    std::vector<at::Tensor> gradients;
    for (const int threads : { 1, 3 }) {
        at::set_num_threads(threads);
        LoraSpOptions options = smallOptions(at::kFloat);
        const auto layer = randomLayer(base, options);
        LoraSpLayer* layers[] = { layer.get() };
        (void)layer->forward(base, random({ 2000, 40 }, 3, at::kFloat));
        loraSpLosses(layers, options).at("total").backward();
        gradients.push_back(layer->router2.grad());
    }
    at::set_num_threads(before);
    EXPECT_TRUE(gradients[0].equal(gradients[1]));
}

TEST(LoraSp, routerDropoutIsFair)
{
    const std::int64_t tokens = 4000;
    for (const std::int64_t width : { 63, 64 }) {
        at::Tensor factors = at::empty({ tokens, width }, at::TensorOptions().dtype(at::kDouble));
        const RouterDropout dropout { 0.2, 0x1234'5678'9abc'def0U };
        for (std::int64_t t = 0; t < tokens; ++t) {
            dropoutFactors(dropout, t, width, factors.data_ptr<double>() + t * width);
        }
        EXPECT_NEAR(factors.max().item<double>(), 1 / (1 - 0.2), 1e-4);
        EXPECT_EQ(factors.min().item<double>(), 0);
        const at::Tensor dropped = factors.eq(0).to(at::kDouble) - 0.2;
        EXPECT_NEAR(dropped.mean().item<double>(), 0, 4e-3);
        EXPECT_LT(dropped.mean(0).abs().max().item<double>(), 0.03); // 4.7 deviations
        EXPECT_LT(dropped.mean(1).abs().max().item<double>(), 0.27); // 5.3 deviations
        for (const std::int64_t shift : { 1, 2, 31, 32 }) {
            const std::int64_t left = width - shift;
            const double pairs =
                (dropped.narrow(1, 0, left) * dropped.narrow(1, shift, left)).mean().item<double>() / 0.16;
            EXPECT_NEAR(pairs, 0, 0.015) << "entries " << shift << " apart";
            const double tokensApart =
                (dropped.narrow(0, 0, tokens - shift) * dropped.narrow(0, shift, tokens - shift)).mean().item<double>()
                / 0.16;
            EXPECT_NEAR(tokensApart, 0, 0.015) << "tokens " << shift << " apart";
        }
    }
}

TEST(LoraSp, nonFiniteScoresAreNamed)
{
    test::TinyVla policy(tinyWeights());
    for (const bool fused : { false, true }) {
        const auto method = methodOf({ { "type", "lora_sp" },
                                       { "bank", 8 },
                                       { "fused", fused },
                                       { "router_dropout", 0.0 },
                                       { "target_modules", { "state_proj" } } });
        ASSERT_TRUE(method->attach(policy, 1).has_value());
        method->beginStep({});
        (void)policy.linear("model.state_proj").forward(random({ 2, 12 }, 1, at::kFloat));
        EXPECT_EQ(method->nonFiniteLayer(), "");
        at::Tensor x = random({ 2, 12 }, 1, at::kFloat);
        x.select(0, 0).fill_(std::nan(""));
        method->beginStep({});
        const at::Tensor y = policy.linear("model.state_proj").forward(x);
        EXPECT_TRUE(y.select(0, 0).isnan().all().item<bool>());
        EXPECT_EQ(method->nonFiniteLayer(), "model.state_proj");
        EXPECT_TRUE(method->auxiliaryLosses().at("total").isnan().item<bool>());
        method->detach(policy);
    }
}

TEST(LoraSp, etaChangesWhileRunning)
{
    test::TinyVla policy(tinyWeights());
    const auto method = methodOf({ { "type", "lora_sp" }, { "bank", 16 }, { "target_modules", { "q_proj" } } });
    ASSERT_TRUE(method->attach(policy, 1).has_value());
    const auto meanRank = [&] {
        (void)policy.forward(*tensor::loadTensors(goldenRoot() / "peft" / "lora_r4" / "golden.safetensors"));
        double sum = 0;
        const auto digests = method->takeDigest();
        for (const LayerDigest& digest : digests) {
            EXPECT_GT(digest.tokens, 0) << digest.path;
            EXPECT_EQ(digest.rankQuantiles.size(), 5u);
            EXPECT_EQ(digest.expertShares.size(), 4u);
            EXPECT_NEAR(std::accumulate(digest.expertShares.begin(), digest.expertShares.end(), 0.0), 1, 1e-5);
            EXPECT_GE(digest.energy, 0.2);
            sum += digest.rankMean;
        }
        return sum / static_cast<double>(digests.size());
    };
    const double wide = meanRank();
    ASSERT_TRUE(method->set("eta", 0.3).has_value());
    EXPECT_LT(meanRank(), wide);
    EXPECT_FALSE(method->set("eta", 0).has_value());
    EXPECT_FALSE(method->set("eta", 1.5).has_value());
    EXPECT_FALSE(method->set("alpha", 1).has_value());
    method->detach(policy);
}

/// A training step: losses and gradients into `parameters`, plain SGD.
double trainStep(test::TinyVla& policy, AdaptationMethod& method, const tensor::TensorMap& golden, std::int64_t step)
{
    method.beginStep({ step, 100 });
    models::PolicyBatch batch;
    batch.images = { golden.at("model.image") };
    batch.tokens = golden.at("model.tokens");
    batch.state = golden.at("model.state");
    batch.actions = golden.at("model.out") * 0.5;
    at::Tensor loss = policy.loss(batch, golden.at("model.action"), golden.at("model.t")).loss;
    const auto auxiliary = method.auxiliaryLosses();
    if (auxiliary.contains("total")) {
        loss = loss + auxiliary.at("total");
    }
    loss.backward();
    const at::NoGradGuard noGrad;
    for (const models::NamedParameter& parameter : method.trainable()) {
        EXPECT_TRUE(parameter.tensor.requires_grad()) << parameter.name;
        if (parameter.tensor.grad().defined()) {
            parameter.tensor.sub_(parameter.tensor.grad() * 0.05);
            parameter.tensor.mutable_grad() = at::Tensor();
        }
    }
    method.afterStep({ step + 1, 100 });
    policy.weightsChanged();
    return loss.item<double>();
}

tensor::TensorMap goldenBatch()
{
    auto golden = tensor::loadTensors(goldenRoot() / "peft" / "lora_r4" / "golden.safetensors");
    EXPECT_TRUE(golden.has_value());
    return *golden;
}

const std::vector<Json>& trainedMethods()
{
    static const std::vector<Json> methods {
        { { "type", "lora" }, { "r", 4 }, { "dropout", 0.1 } },
        { { "type", "lora" },
          { "r", 4 },
          { "alpha", 2 },
          { "rslora", true },
          { "init", "gaussian" },
          { "target_modules", "default" },
          { "modules_to_save", { "prefix_to_expert" } } },
        { { "type", "lora_sp" }, { "bank", 16 }, { "router_dropout", 0.2 } },
        { { "type", "lora_sp" }, { "bank", 16 }, { "union_slicing", true }, { "w2_init", "block+noise" } },
        { { "type", "lora_sp" }, { "bank", 16 }, { "mode", "reference" } },
        { { "type", "lora_sp" }, { "bank", 16 }, { "router_norm", "rms" }, { "score_map", "softplus" } },
        { { "type", "lora_sp" },
          { "bank", 16 },
          { "prune",
            { { "every", 1 },
              { "warmup", 1 },
              { "kept_below", 1.0 },
              { "share_below", 0.08 },
              { "checks", 2 },
              { "least", 6 },
              { "rescale_eta", true } } } },
        { { "type", "full" }, { "freeze", { "vision" } } },
    };
    return methods;
}

TEST(Methods, resumeIsExactToTheLastBit)
{
    const tensor::TensorMap golden = goldenBatch();
    for (const Json& options : trainedMethods()) {
        const test::TemporaryFolder scratch;
        test::TinyVla whole(tinyWeights());
        const auto method = methodOf(options);
        ASSERT_TRUE(method->attach(whole, 3).has_value());
        std::map<std::string, at::Tensor> middle;
        std::vector<double> losses;
        for (std::int64_t step = 0; step < 8; ++step) {
            if (step == 4) {
                for (const auto& [name, value] : method->state()) {
                    middle[name] = value.clone();
                }
                ASSERT_TRUE(method->save(scratch.path(), "base").has_value());
            }
            losses.push_back(trainStep(whole, *method, golden, step));
        }
        EXPECT_LT(losses.back(), losses.front()) << options.dump();

        test::TinyVla resumed(tinyWeights());
        const auto second = methodOf(options);
        ASSERT_TRUE(second->attach(resumed, 99).has_value());
        ASSERT_TRUE(second->load(scratch.path()).has_value()) << second->load(scratch.path()).error().describe();
        ASSERT_TRUE(second->restoreState(middle).has_value());
        for (std::int64_t step = 4; step < 8; ++step) {
            EXPECT_EQ(trainStep(resumed, *second, golden, step), losses[static_cast<std::size_t>(step)])
                << options.dump();
        }
        const auto expected = method->trainable();
        const auto actual = second->trainable();
        ASSERT_EQ(expected.size(), actual.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            EXPECT_EQ(expected[i].name, actual[i].name);
            EXPECT_TRUE(expected[i].tensor.equal(actual[i].tensor)) << expected[i].name << " " << options.dump();
        }
        const auto one = method->state();
        const auto two = second->state();
        ASSERT_EQ(one.size(), two.size());
        for (const auto& [name, value] : one) {
            EXPECT_TRUE(value.equal(two.at(name))) << name << " " << options.dump();
        }
    }
}

TEST(Methods, foldersOpenByThemselves)
{
    const tensor::TensorMap golden = goldenBatch();
    for (const Json& options : trainedMethods()) {
        const test::TemporaryFolder scratch;
        test::TinyVla policy(tinyWeights());
        const auto method = methodOf(options);
        ASSERT_TRUE(method->attach(policy, 3).has_value());
        for (std::int64_t step = 0; step < 3; ++step) {
            (void)trainStep(policy, *method, golden, step);
        }
        ASSERT_TRUE(method->save(scratch.path(), "base").has_value());
        const at::NoGradGuard noGrad;
        test::TinyVla other(tinyWeights());
        const auto opened = methodFromFolder(scratch.path(), other);
        ASSERT_TRUE(opened.has_value()) << opened.error().describe();
        EXPECT_EQ((*opened)->name(), options.at("type").get<std::string>());
        if (!options.contains("prune")) { // what is pruned is state, not part of a full save
            EXPECT_TRUE(other.forward(golden).equal(policy.forward(golden))) << options.dump();
        }
        method->detach(policy);
        (*opened)->detach(other);
        for (models::Linear& linear : policy.linears()) {
            EXPECT_FALSE(linear.adapter);
        }
    }
}

TEST(Methods, detachRestoresThePolicy)
{
    const tensor::TensorMap golden = goldenBatch();
    test::TinyVla policy(tinyWeights());
    policy.parameters().front().tensor.set_requires_grad(true);
    at::Tensor before;
    {
        const at::NoGradGuard noGrad;
        before = policy.forward(golden);
    }
    for (const char* type : { "lora", "lora_sp", "full" }) {
        const auto method = methodOf({ { "type", type } });
        ASSERT_TRUE(method->attach(policy, 1).has_value());
        if (std::string_view(type) != "full") {
            EXPECT_FALSE(method->attach(policy, 1).has_value()) << "twice";
            for (const models::NamedParameter& parameter : policy.parameters()) {
                EXPECT_FALSE(parameter.tensor.requires_grad()) << parameter.name;
            }
        }
        method->detach(policy);
        const at::NoGradGuard noGrad;
        EXPECT_TRUE(policy.forward(golden).equal(before));
        EXPECT_TRUE(policy.parameters().front().tensor.requires_grad());
        EXPECT_FALSE(policy.parameters().back().tensor.requires_grad());
    }
}

TEST(Methods, mergedLoraGivesTheSameFunction)
{
    const tensor::TensorMap golden = goldenBatch();
    test::TinyVla policy(tinyWeights());
    const auto method = methodOf({ { "type", "lora" }, { "r", 4 } });
    ASSERT_TRUE(method->attach(policy, 3).has_value());
    for (std::int64_t step = 0; step < 5; ++step) {
        (void)trainStep(policy, *method, golden, step);
    }
    const at::NoGradGuard noGrad;
    const at::Tensor adapted = policy.forward(golden);
    ASSERT_TRUE(method->merge(policy).has_value());
    EXPECT_FALSE(policy.linear("model.state_proj").adapter);
    EXPECT_TRUE(policy.forward(golden).allclose(adapted, 1e-4, 1e-5));

    const auto routed = methodOf({ { "type", "lora_sp" } });
    ASSERT_TRUE(routed->attach(policy, 3).has_value());
    const auto refused = routed->merge(policy);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::Unsupported);
}

TEST(Methods, goldenFoldersGiveTheReferencesOutputs)
{
    int compared = 0;
    for (const auto& entry : std::filesystem::directory_iterator(goldenRoot() / "peft")) {
        const auto golden = tensor::loadTensors(entry.path() / "golden.safetensors");
        const auto json = readJsonFile(entry.path() / "golden.json");
        if (!golden || !json || !golden->contains("model.out") || !json->contains("modules")
            || json->contains("reload_error")) {
            continue;
        }
        const at::NoGradGuard noGrad;
        test::TinyVla policy(tinyWeights());
        const auto merged = mergePeftFolder(entry.path(), policy);
        if (json->contains("note") && entry.path().filename() == "trainable_tokens") {
            ASSERT_FALSE(merged.has_value());
            continue;
        }
        ASSERT_TRUE(merged.has_value()) << merged.error().describe();
        const at::Tensor expected = golden->at("model.out");
        EXPECT_LT((policy.forward(*golden) - expected).abs().max().item<double>(),
                  1e-4 * expected.abs().max().item<double>())
            << entry.path();

        const auto folder = readPeftFolder(entry.path());
        ASSERT_TRUE(folder.has_value());
        test::TinyVla hooked(tinyWeights());
        const auto method = methodFromFolder(entry.path(), hooked);
        const bool plain = !folder->dora && std::ranges::all_of(folder->modules, [](const PeftModule& m) {
            return m.kind == PeftModule::Kind::Linear && !m.upBias.defined() && !m.baseBias.defined();
        });
        EXPECT_EQ(method.has_value(), plain) << entry.path();
        if (method) {
            EXPECT_LT((hooked.forward(*golden) - expected).abs().max().item<double>(),
                      1e-4 * expected.abs().max().item<double>())
                << entry.path();
        }
        ++compared;
    }
    EXPECT_GE(compared, 5);
}

TEST(Methods, compactedBankKeepsTheFunction)
{
    const tensor::TensorMap golden = goldenBatch();
    const test::TemporaryFolder scratch;
    test::TinyVla policy(tinyWeights());
    const auto method = methodOf({ { "type", "lora_sp" },
                                   { "bank", 32 },
                                   { "router_dropout", 0.0 },
                                   { "target_modules", { "q_proj", "action_out_proj" } } });
    ASSERT_TRUE(method->attach(policy, 3).has_value());
    {
        // Half of each bank is never wanted.
        const at::NoGradGuard noGrad;
        for (const models::NamedParameter& parameter : method->trainable()) {
            if (parameter.name.ends_with("W2")) {
                parameter.tensor.narrow(0, 0, 16).mul_(1e-6);
            }
            if (parameter.name.ends_with("_U")) {
                parameter.tensor.copy_(random(parameter.tensor.sizes(), 8, at::kFloat) * 0.1);
            }
        }
    }
    const at::NoGradGuard noGrad;
    (void)method->takeDigest();
    EXPECT_FALSE(method->saveCompact(scratch.path(), "base", 1e-3).has_value()) << "no token was seen";
    const at::Tensor before = policy.forward(golden);
    ASSERT_TRUE(method->saveCompact(scratch.path(), "base", 1e-3).has_value());
    const auto stored = tensor::loadTensors(scratch.path() / "adapter_model.safetensors");
    ASSERT_TRUE(stored.has_value());
    EXPECT_EQ(stored->at("base_model.model.model.action_out_proj.lora_sp_V").size(0), 16);
    test::TinyVla other(tinyWeights());
    const auto opened = methodFromFolder(scratch.path(), other);
    ASSERT_TRUE(opened.has_value()) << opened.error().describe();
    EXPECT_TRUE(other.forward(golden).allclose(before, 1e-5, 1e-5));
    EXPECT_FALSE(methodOf({ { "type", "lora" } })->saveCompact(scratch.path(), "base", 0.1).has_value());
}

TEST(Methods, deadVectorsAreDropped)
{
    const tensor::TensorMap golden = goldenBatch();
    test::TinyVla policy(tinyWeights());
    const auto method = methodOf({ { "type", "lora_sp" },
                                   { "bank", 32 },
                                   { "router_dropout", 0.0 },
                                   { "target_modules", { "action_out_proj" } },
                                   { "prune", { { "every", 1 }, { "warmup", 1 }, { "checks", 2 } } } });
    ASSERT_TRUE(method->attach(policy, 3).has_value());
    {
        const at::NoGradGuard noGrad;
        for (const models::NamedParameter& parameter : method->trainable()) {
            if (parameter.name.ends_with("W2")) {
                parameter.tensor.narrow(0, 0, 10).mul_(1e-6);
            }
        }
    }
    for (std::int64_t step = 0; step < 3; ++step) {
        (void)trainStep(policy, *method, golden, step);
        const auto digests = method->takeDigest();
        EXPECT_EQ(digests.at(0).capacity, step < 1 ? 32 : 22) << step;
    }
}

TEST(Targets, patternsAndNearMisses)
{
    test::TinyVla policy(tinyWeights());
    const auto chosen = [&](const Json& fields) {
        FieldReader reader(fields, "test");
        TargetOptions options;
        readTargetOptions(reader, options);
        EXPECT_TRUE(reader.ok());
        const auto layers = selectTargets(policy, options);
        return layers ? layers->size() : 0;
    };
    EXPECT_EQ(chosen({ { "target_modules", { "q_proj" } } }), 6u);
    EXPECT_EQ(chosen({ { "target_modules", { "q_proj" } }, { "exclude_modules", { "layers.0.self_attn.q_proj" } } }),
              3u);
    EXPECT_EQ(chosen({ { "target_modules", { "q_proj" } }, { "layers_to_transform", 1 } }), 3u);
    EXPECT_EQ(chosen({ { "target_modules", ".*lm_expert.*\\.(q|v)_proj" } }), 4u);
    EXPECT_EQ(chosen({ { "target_modules", "default" } }), 9u);
    const std::size_t all = chosen({ { "target_modules", "all-linear" } });
    EXPECT_EQ(all, policy.linears().size());
    policy.linear("model.state_proj").deadEnd = true;
    EXPECT_EQ(chosen({ { "target_modules", "all-linear" } }), all - 1);

    TargetOptions wrong;
    wrong.kind = TargetOptions::Kind::Endings;
    wrong.endings = { "q_porj" };
    const auto none = selectTargets(policy, wrong);
    ASSERT_FALSE(none.has_value());
    EXPECT_EQ(none.error().code, Errc::FieldInvalid);
    EXPECT_NE(none.error().message.find("nearest: q_proj"), std::string::npos) << none.error().message;

    wrong.kind = TargetOptions::Kind::Expression;
    wrong.expression = "(a+)+$(";
    EXPECT_FALSE(selectTargets(policy, wrong).has_value());
    wrong.expression = "(([a-z_.0-9]+)+)+[!?]";
    const auto bomb = selectTargets(policy, wrong);
    ASSERT_FALSE(bomb.has_value());
    EXPECT_EQ(bomb.error().code, Errc::TooLarge);
}

TEST(Registry, namesAndRefusals)
{
    EXPECT_EQ(methodNames(), (std::vector<std::string> { "full", "lora", "lora_sp" }));
    for (const Json& bad : { Json { { "type", "nonsense" } }, Json { { "type", "lora" }, { "r", 0 } },
                             Json { { "type", "lora" }, { "rr", 4 } }, Json { { "type", "lora_sp" }, { "eta", 1.5 } },
                             Json { { "type", "lora_sp" }, { "bank", 10 }, { "blocks", 4 } },
                             Json { { "type", "lora_sp" }, { "weights", { { "spec", 1 } } } },
                             Json { { "type", "full" }, { "freeze", { "wheels" } } }, Json::array() }) {
        const auto method = makeMethod(bad, "test");
        EXPECT_FALSE(method.has_value()) << bad.dump();
    }
    for (const char* type : { "full", "lora", "lora_sp" }) {
        // A method's configuration makes the same method.
        const auto method = methodOf({ { "type", type } });
        EXPECT_EQ(methodOf(method->config())->config(), method->config());
    }
}

TEST(Full, freezesGroups)
{
    test::TinyVla policy(tinyWeights());
    const auto count = [&](const Json& options) {
        const auto method = methodOf(options);
        if (!method->attach(policy, 0)) {
            return std::size_t(0);
        }
        const std::size_t n = method->trainable().size();
        for (const models::NamedParameter& parameter : method->trainable()) {
            EXPECT_TRUE(parameter.tensor.requires_grad());
        }
        method->detach(policy);
        return n;
    };
    const std::size_t all = count({ { "type", "full" } });
    EXPECT_EQ(all, policy.parameters().size());
    const std::size_t noVision = count({ { "type", "full" }, { "freeze", { "vision" } } });
    EXPECT_LT(noVision, all);
    EXPECT_EQ(count({ { "type", "full" }, { "trainable", "config" } }), noVision);
    EXPECT_EQ(count({ { "type", "full" }, { "freeze", { "vision", "language", "action", "projection" } } }), 0u);
    EXPECT_EQ(count({ { "type", "full" }, { "freeze_modules", { "state_proj" } } }), all - 2);
}

/// Needs a Python with peft, named by RANKWISE_PEER_PYTHON.
TEST(Peer, peftLoadsOurFolders)
{
    const char* python = std::getenv("RANKWISE_PEER_PYTHON");
    if (!python) {
        GTEST_SKIP() << "RANKWISE_PEER_PYTHON is not set";
    }
    const tensor::TensorMap golden = goldenBatch();
    for (const Json& options : {
             Json { { "type", "lora" }, { "r", 4 } },
             Json {
                 { "type", "lora" }, { "r", 6 }, { "rslora", true }, { "alpha", 3 }, { "target_modules", "default" } },
             Json { { "type", "lora" },
                    { "r", 4 },
                    { "target_modules", { "q_proj", "action_out_proj" } },
                    { "exclude_modules", { "layers.0.self_attn.q_proj" } },
                    { "rank_pattern", { { "action_out_proj", 2 } } },
                    { "alpha_pattern", { { "layers.1.self_attn.q_proj", 5 } } } },
         }) {
        const test::TemporaryFolder scratch;
        test::TinyVla policy(tinyWeights());
        const auto method = methodOf(options);
        ASSERT_TRUE(method->attach(policy, 3).has_value());
        for (std::int64_t step = 0; step < 3; ++step) {
            (void)trainStep(policy, *method, golden, step);
        }
        ASSERT_TRUE(method->save(scratch.path(), "base").has_value());
        const auto folder = readPeftFolder(scratch.path());
        ASSERT_TRUE(folder.has_value()) << folder.error().describe();
        EXPECT_TRUE(folder->warnings.empty());
        tensor::TensorMap expected;
        for (const PeftModule& module : folder->modules) {
            expected[module.path] = peftDelta(module, at::kFloat);
        }
        ASSERT_TRUE(tensor::saveTensors(scratch.path() / "expected.safetensors", expected).has_value());
        const std::string command = std::string(python) + " " RANKWISE_TEST_DATA "/../peers/peft_folder.py "
            + (goldenRoot() / "peft" / "tiny_base.safetensors").string() + " " + scratch.path().string() + " "
            + (scratch.path() / "expected.safetensors").string();
        EXPECT_EQ(std::system(command.c_str()), 0) << options.dump();
    }
}

/// Needs a Python with peft, named by RANKWISE_PEER_PYTHON.
TEST(Peer, weLoadPeftsFolders)
{
    const char* python = std::getenv("RANKWISE_PEER_PYTHON");
    if (!python) {
        GTEST_SKIP() << "RANKWISE_PEER_PYTHON is not set";
    }
    const test::TemporaryFolder scratch;
    const std::string command = std::string(python) + " " RANKWISE_TEST_DATA "/../peers/peft_writes.py "
        + (goldenRoot() / "peft" / "tiny_base.safetensors").string() + " " + scratch.path().string();
    ASSERT_EQ(std::system(command.c_str()), 0);
    int folders = 0;
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
        const auto folder = readPeftFolder(entry.path());
        ASSERT_TRUE(folder.has_value()) << folder.error().describe();
        const auto expected = tensor::loadTensors(entry.path() / "expected.safetensors");
        ASSERT_TRUE(expected.has_value());
        EXPECT_EQ(2 * folder->modules.size() + 1, expected->size()) << entry.path();
        for (const PeftModule& module : folder->modules) {
            const at::Tensor delta = peftDelta(module, at::kFloat);
            const at::Tensor& theirs = expected->at(module.path);
            const double size = std::max(1.0, theirs.abs().max().item<double>());
            EXPECT_LT((delta - theirs).abs().max().item<double>(), 2e-5 * size) << module.path;
            const at::Tensor x = expected->at("x").narrow(1, 0, delta.size(1));
            const at::Tensor y = expected->at(module.path + ".y");
            EXPECT_LT((at::mm(x, delta.t()) - y).abs().max().item<double>(),
                      1e-4 * std::max(1.0, y.abs().max().item<double>()))
                << module.path;
        }
        ++folders;
    }
    EXPECT_EQ(folders, 4);
}

} // namespace
} // namespace rankwise::adapters
