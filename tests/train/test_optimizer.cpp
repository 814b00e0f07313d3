// AdamW against its formula in plain arithmetic, f32 masters, accumulation, clipping, averages, state.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/optimizer.h"

#include "backend/train/flow_noise.h"

#include <cmath>
#include <limits>

#include <ATen/core/grad_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <gtest/gtest.h>

using namespace rankwise;
using namespace rankwise::train;

namespace {

at::Tensor values(std::uint64_t seed, std::int64_t rows, std::int64_t columns)
{
    return drawNoise(seed, 1, rows, columns).squeeze(0);
}

std::unique_ptr<AdamW> make(const std::vector<std::pair<std::string, at::Tensor>>& tensors, const AdamWConfig& config)
{
    std::vector<models::NamedParameter> parameters;
    for (const auto& [name, tensor] : tensors) {
        parameters.push_back({ name, tensor });
    }
    auto optimizer = AdamW::create(std::move(parameters), config);
    EXPECT_TRUE(optimizer) << optimizer.error().describe();
    return std::move(*optimizer);
}

void give(const at::Tensor& parameter, const at::Tensor& gradient)
{
    at::Tensor(parameter).mutable_grad() = gradient.to(parameter.scalar_type()).clone();
}

void stepOnce(AdamW& optimizer, double lr)
{
    optimizer.finishGradients();
    optimizer.step(lr, optimizer.gradientNorm());
}

TEST(AdamW, followsTheFormula)
{
    constexpr double kLr = 0.01;
    AdamWConfig config { .weightDecay = 0.1, .decayMatricesOnly = true, .clipNorm = 0.7 };
    config.groups = { { .match = "slow", .lrScale = 0.5, .weightDecay = 0.02 } };
    const at::Tensor matrix = values(1, 3, 5);
    const at::Tensor vector = values(2, 1, 4).squeeze(0).clone();
    const at::Tensor slow = values(3, 2, 2);
    const auto optimizer = make({ { "matrix", matrix }, { "vector", vector }, { "slow.matrix", slow } }, config);

    struct Reference {
        std::vector<double> weight, average, square;
        double lrScale, decay;
    };
    const auto reference = [](const at::Tensor& tensor, double lrScale, double decay) {
        Reference r { .lrScale = lrScale, .decay = decay };
        const at::Tensor flat = tensor.detach().flatten().contiguous();
        for (std::int64_t i = 0; i < flat.numel(); ++i) {
            r.weight.push_back(flat.data_ptr<float>()[i]);
        }
        r.average.resize(r.weight.size());
        r.square.resize(r.weight.size());
        return r;
    };
    std::vector<Reference> references { reference(matrix, 1, 0.1), reference(vector, 1, 0.0),
                                        reference(slow, 0.5, 0.02) };
    for (int step = 1; step <= 12; ++step) {
        std::vector<at::Tensor> gradients { values(100 + static_cast<std::uint64_t>(step), 3, 5),
                                            values(200 + static_cast<std::uint64_t>(step), 1, 4).squeeze(0),
                                            values(300 + static_cast<std::uint64_t>(step), 2, 2) };
        double norm = 0;
        for (const at::Tensor& gradient : gradients) {
            norm += gradient.to(at::kDouble).square().sum().item<double>();
        }
        norm = std::sqrt(norm);
        give(matrix, gradients[0]);
        give(vector, gradients[1]);
        give(slow, gradients[2]);
        optimizer->finishGradients();
        EXPECT_NEAR(optimizer->gradientNorm(), norm, 1e-6 * norm);
        optimizer->step(kLr, optimizer->gradientNorm());

        const double factor = std::min(1.0, 0.7 / (norm + 1e-6));
        const std::vector<at::Tensor> tensors { matrix, vector, slow };
        for (std::size_t t = 0; t < tensors.size(); ++t) {
            Reference& r = references[t];
            const at::Tensor flat = gradients[t].flatten().contiguous();
            const at::Tensor found = tensors[t].detach().flatten().contiguous();
            for (std::size_t i = 0; i < r.weight.size(); ++i) {
                const double g = factor * flat.data_ptr<float>()[i];
                const double lr = kLr * r.lrScale;
                r.weight[i] *= 1 - lr * r.decay;
                r.average[i] = 0.9 * r.average[i] + 0.1 * g;
                r.square[i] = 0.95 * r.square[i] + 0.05 * g * g;
                const double m = r.average[i] / (1 - std::pow(0.9, step));
                const double v = r.square[i] / (1 - std::pow(0.95, step));
                r.weight[i] -= lr * m / (std::sqrt(v) + 1e-8);
                EXPECT_NEAR(found.data_ptr<float>()[i], r.weight[i], 2e-6) << "tensor " << t << " step " << step;
            }
        }
    }
    EXPECT_EQ(optimizer->elementCount(), 15 + 4 + 4);
}

TEST(AdamW, halfPrecisionWeightsMoveByTheirF32Master)
{
    // A bf16 weight at 1 cannot move by 1e-4 alone; its master can, and the weight follows once it is a step away.
    const at::Tensor half = at::full({ 2, 2 }, 1.0, at::kBFloat16);
    const at::Tensor full = at::full({ 2, 2 }, 1.0, at::kFloat);
    const AdamWConfig config { .weightDecay = 0, .clipNorm = 0 };
    const auto a = make({ { "w", half } }, config);
    const auto b = make({ { "w", full } }, config);
    for (int i = 0; i < 60; ++i) {
        give(half, at::full({ 2, 2 }, 0.5));
        give(full, at::full({ 2, 2 }, 0.5));
        stepOnce(*a, 1e-4);
        stepOnce(*b, 1e-4);
    }
    EXPECT_TRUE(at::equal(a->state().at("master.w"), full.detach()));
    EXPECT_TRUE(at::equal(half.detach(), full.detach().to(at::kBFloat16)));
    EXPECT_LT(half.detach().to(at::kFloat).max().item<double>(), 1.0);
}

TEST(AdamW, accumulatesOverPasses)
{
    const at::Tensor once = values(7, 4, 4);
    const at::Tensor twice = once.clone();
    const at::Tensor half = at::zeros({ 4, 4 }, at::kBFloat16);
    const auto a = make({ { "w", once } }, {});
    const auto b = make({ { "w", twice }, { "h", half } }, {});
    const at::Tensor x = values(8, 4, 4);
    const auto backward = [](const at::Tensor& weight, const at::Tensor& input, double scale) {
        at::Tensor loss = weight.to(at::kFloat).mul(input).sum().mul(scale);
        loss.backward();
    };
    backward(once, x, 1.0);
    a->collectGradients();
    for (int pass = 0; pass < 2; ++pass) {
        backward(twice, x, 0.5);
        backward(half, at::full({ 4, 4 }, 1.0 / 512), 1.0);
        backward(half, at::full({ 4, 4 }, 1.0), 1.0);
        b->collectGradients();
    }
    a->finishGradients();
    b->finishGradients();
    const double expected = a->gradientNorm([](const std::string& name) { return name == "w"; });
    EXPECT_NEAR(b->gradientNorm([](const std::string& name) { return name == "w"; }), expected, 1e-6 * expected);
    EXPECT_TRUE(once.grad().allclose(twice.grad()));
    EXPECT_EQ(half.grad().scalar_type(), at::kBFloat16) << "methods see the gradient in the weight's dtype";
    b->forEachGradient(
        [](const std::string& name, at::Tensor& gradient) { EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name; });
    b->zeroGradients();
    EXPECT_FALSE(twice.grad().defined());
    EXPECT_EQ(b->gradientNorm(), 0.0);
}

TEST(AdamW, leavesParametersWithoutGradientAlone)
{
    const at::Tensor used = values(9, 2, 3);
    const at::Tensor unused = values(10, 2, 3);
    const at::Tensor before = unused.clone();
    const auto optimizer = make({ { "used", used }, { "unused", unused } }, { .weightDecay = 0.5 });
    give(used, values(11, 2, 3));
    stepOnce(*optimizer, 0.1);
    EXPECT_TRUE(at::equal(unused.detach(), before));
    EXPECT_EQ(optimizer->state().at("step.unused").item<std::int64_t>(), 0);
    EXPECT_EQ(optimizer->state().at("step.used").item<std::int64_t>(), 1);
}

TEST(AdamW, averageFollowsItsRecursionAndServesWhileAsked)
{
    AdamWConfig config { .weightDecay = 0, .emaDecay = 0.8, .emaWarmup = false };
    const at::Tensor weight = values(12, 2, 2);
    at::Tensor average = weight.clone();
    const auto optimizer = make({ { "w", weight } }, config);
    for (std::uint64_t i = 0; i < 5; ++i) {
        give(weight, values(20 + i, 2, 2));
        stepOnce(*optimizer, 0.05);
        average = average.mul(0.8).add(weight.detach(), 0.2);
    }
    const at::Tensor trained = weight.detach().clone();
    EXPECT_TRUE(optimizer->averagedWeights().at("w").allclose(average, 1e-6, 1e-7));
    {
        const AdamW::AveragedScope scope(*optimizer);
        EXPECT_TRUE(weight.detach().allclose(average, 1e-6, 1e-7));
        EXPECT_FALSE(at::equal(weight.detach(), trained));
    }
    EXPECT_TRUE(at::equal(weight.detach(), trained));
    give(weight, values(30, 2, 2));
    stepOnce(*optimizer, 0.05);
    EXPECT_FALSE(at::equal(weight.detach(), trained)) << "the weight still is what gets trained";

    config.emaWarmup = true;
    const at::Tensor second = values(13, 2, 2);
    const at::Tensor start = second.clone();
    const auto warm = make({ { "w", second } }, config);
    give(second, values(31, 2, 2));
    stepOnce(*warm, 0.05);
    EXPECT_TRUE(warm->averagedWeights().at("w").allclose(start.mul(0.1).add(second.detach(), 0.9), 1e-6, 1e-7))
        << "the first decay is 1/10";
}

TEST(AdamW, restoredStateContinuesToTheLastBit)
{
    AdamWConfig config { .weightDecay = 0.1, .emaDecay = 0.9 };
    const auto run = [&](bool interrupted) {
        at::Tensor full = values(40, 5, 7);
        at::Tensor half = values(41, 3, 3).to(at::kBFloat16);
        auto optimizer = make({ { "full", full }, { "half", half } }, config);
        for (std::uint64_t i = 0; i < 20; ++i) {
            if (interrupted && i == 9) {
                std::map<std::string, at::Tensor> saved;
                for (const auto& [name, tensor] : optimizer->state()) {
                    saved[name] = tensor.clone();
                }
                full = values(99, 5, 7);
                half = at::zeros({ 3, 3 }, at::kBFloat16);
                optimizer = make({ { "full", full }, { "half", half } }, config);
                const auto restored = optimizer->restore(saved);
                EXPECT_TRUE(restored) << restored.error().describe();
            }
            give(full, values(50 + i, 5, 7));
            give(half, values(80 + i, 3, 3));
            stepOnce(*optimizer, 0.01);
        }
        return optimizer->state();
    };
    const auto whole = run(false);
    const auto parts = run(true);
    ASSERT_EQ(whole.size(), parts.size());
    for (const auto& [name, tensor] : whole) {
        EXPECT_TRUE(at::equal(tensor.detach(), parts.at(name).detach())) << name;
    }
}

TEST(AdamW, refusesWhatItCannotTrain)
{
    const at::Tensor weight = values(60, 2, 2);
    EXPECT_EQ(AdamW::create({}, {}).error().code, Errc::FieldMissing);
    EXPECT_EQ(AdamW::create({ { "a", weight }, { "a", weight.clone() } }, {}).error().code, Errc::FieldInvalid);
    EXPECT_EQ(AdamW::create({ { "a", at::zeros({ 2 }, at::kLong) } }, {}).error().code, Errc::FieldInvalid);
    AdamWConfig config;
    config.groups = { { .match = "(" } };
    EXPECT_EQ(AdamW::create({ { "a", weight } }, config).error().code, Errc::FieldInvalid);

    const auto optimizer = make({ { "w", weight } }, {});
    auto state = optimizer->state();
    state["exp_avg.w"] = at::zeros({ 3, 3 });
    const auto shape = optimizer->restore(state);
    ASSERT_FALSE(shape);
    EXPECT_EQ(shape.error().code, Errc::ShapeMismatch);
    EXPECT_EQ(shape.error().subject, "exp_avg.w");
    state.erase("exp_avg.w");
    EXPECT_EQ(optimizer->restore(state).error().code, Errc::TensorNotFound);

    give(weight, at::full({ 2, 2 }, std::numeric_limits<float>::quiet_NaN()));
    optimizer->finishGradients();
    EXPECT_EQ(optimizer->nonFiniteGradients(), std::vector<std::string> { "w" });
    EXPECT_FALSE(std::isfinite(optimizer->gradientNorm()));
}

TEST(FlowNoise, dependsOnItsCoordinatesOnly)
{
    const FlowDraw a = drawFlow(5, 17, 0, 3, 4, 7);
    (void)drawFlow(5, 3, 0, 3, 4, 7);
    const FlowDraw b = drawFlow(5, 17, 0, 3, 4, 7);
    EXPECT_TRUE(at::equal(a.noise, b.noise));
    EXPECT_TRUE(at::equal(a.time, b.time));
    for (const FlowDraw& other :
         { drawFlow(6, 17, 0, 3, 4, 7), drawFlow(5, 18, 0, 3, 4, 7), drawFlow(5, 17, 1, 3, 4, 7) }) {
        EXPECT_FALSE(at::equal(a.noise, other.noise));
        EXPECT_FALSE(at::equal(a.time, other.time));
    }
}

TEST(FlowNoise, timeIsBetaAndNoiseNormal)
{
    const FlowDraw draw = drawFlow(1, 0, 0, 20'000, 2, 2);
    EXPECT_GE(draw.time.min().item<double>(), 0.001);
    EXPECT_LE(draw.time.max().item<double>(), 1.0);
    // Beta(1.5, 1): mean 0.6, variance 0.6 * 0.4 / 3.5.
    EXPECT_NEAR(draw.time.mean().item<double>(), 0.001 + 0.999 * 0.6, 0.006);
    EXPECT_NEAR(draw.time.var().item<double>(), 0.999 * 0.999 * 0.24 / 3.5, 0.003);
    EXPECT_NEAR(draw.noise.mean().item<double>(), 0, 0.015);
    EXPECT_NEAR(draw.noise.std().item<double>(), 1, 0.015);
}

} // namespace
