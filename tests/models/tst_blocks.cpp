// The shared blocks against their definitions, written out with plain operators in f64.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/decoder.h"
#include "backend/models/flow_matching.h"
#include "backend/models/kernels.h"
#include "backend/models/token_blocks.h"
#include "backend/models/vision_tower.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

namespace {

using namespace rankwise::models;

at::Tensor wide(const at::Tensor& x)
{
    return x.to(at::kDouble);
}

double relativeGap(const at::Tensor& ours, const at::Tensor& theirs)
{
    return ((wide(ours) - wide(theirs)).abs().max() / wide(theirs).abs().max()).item<double>();
}

/// Value and all gradients of `ours` (f32) against `reference` (f64) at the same inputs.
void expectSameFunction(const std::vector<at::Tensor>& inputs,
                        const std::function<at::Tensor(const std::vector<at::Tensor>&)>& ours,
                        const std::function<at::Tensor(const std::vector<at::Tensor>&)>& reference)
{
    std::vector<at::Tensor> narrow;
    std::vector<at::Tensor> precise;
    for (const at::Tensor& input : inputs) {
        narrow.push_back(input.clone().requires_grad_(true));
        precise.push_back(wide(input).requires_grad_(true));
    }
    const at::Tensor a = ours(narrow);
    const at::Tensor b = reference(precise);
    ASSERT_EQ(a.sizes(), b.sizes());
    EXPECT_LT(relativeGap(a.detach(), b.detach()), 2e-6);
    const at::Tensor weights = at::randn(a.sizes());
    (a * weights).sum().backward();
    (b * wide(weights)).sum().backward();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_TRUE(narrow[i].grad().defined()) << "input " << i;
        EXPECT_LT(relativeGap(narrow[i].grad(), precise[i].grad()), 2e-5) << "input " << i;
    }
    // Without a graph the result is the same.
    std::vector<at::Tensor> detached;
    for (const at::Tensor& input : narrow) {
        detached.push_back(input.detach());
    }
    EXPECT_LT(relativeGap(ours(detached), b.detach()), 2e-6);
}

at::Tensor unit(const at::Tensor& x, double eps)
{
    return x * (x.square().mean(-1, true) + eps).rsqrt();
}

TEST(Blocks, norms)
{
    for (const std::int64_t width : { 7, 16, 33, 720 }) {
        const std::vector<at::Tensor> inputs { at::randn({ 3, 4, width }) * 3, at::randn({ width }) };
        expectSameFunction(
            inputs, [](const auto& in) { return rmsNorm(in[0], in[1], 1e-5); },
            [](const auto& in) { return unit(in[0], 1e-5) * in[1]; });
        expectSameFunction(
            inputs, [](const auto& in) { return gemmaNorm(in[0], in[1], 1e-6); },
            [](const auto& in) { return unit(in[0], 1e-6) * (in[1] + 1); });
    }
}

TEST(Blocks, adaptiveNormSplitsScaleShiftGate)
{
    RmsNorm norm;
    norm.style = NormStyle::Adaptive;
    norm.eps = 1e-6;
    norm.modulation.weight = at::randn({ 24, 5 });
    norm.modulation.bias = at::randn({ 24 });
    const at::Tensor x = at::randn({ 2, 3, 8 });
    const at::Tensor condition = at::randn({ 2, 5 });
    const at::Tensor parts = at::linear(condition, norm.modulation.weight, norm.modulation.bias).unsqueeze(1);
    const RmsNorm::Output out = norm.forward(x, condition);
    EXPECT_LT(relativeGap(out.y, unit(x, 1e-6) * (parts.narrow(2, 0, 8) + 1) + parts.narrow(2, 8, 8)), 1e-6);
    EXPECT_TRUE(at::equal(out.gate, parts.narrow(2, 16, 8)));
}

TEST(Blocks, gatedProducts)
{
    for (const std::int64_t width : { 1, 5, 64, 300 }) {
        const at::Tensor gate = at::randn({ 2, 3, width }) * 4;
        const at::Tensor up = at::randn({ 2, 3, width });
        expectSameFunction(
            { gate, up }, [](const auto& in) { return gatedProduct(in[0], in[1], Activation::Silu); },
            [](const auto& in) { return at::silu(in[0]) * in[1]; });
        expectSameFunction(
            { gate, up }, [](const auto& in) { return gatedProduct(in[0], in[1], Activation::GeluTanh); },
            [](const auto& in) { return at::gelu(in[0], "tanh") * in[1]; });
        expectSameFunction(
            { gate }, [](const auto& in) { return geluTanh(in[0]); },
            [](const auto& in) { return at::gelu(in[0], "tanh"); });
    }
    // Slices of one product, and arguments at the ends of the exponential's range.
    const at::Tensor both = at::randn({ 4, 6, 20 }) * 60;
    EXPECT_LT(relativeGap(gatedProduct(both.narrow(2, 0, 10), both.narrow(2, 10, 10), Activation::Silu),
                          at::silu(wide(both.narrow(2, 0, 10))) * wide(both.narrow(2, 10, 10))),
              2e-6);
}

TEST(Blocks, notANumberStaysOne)
{
    at::Tensor x = at::ones({ 2, 40 });
    x[1][3].fill_(std::nan(""));
    EXPECT_TRUE(std::isnan(geluTanh(x)[1][3].item<float>()));
    EXPECT_TRUE(std::isnan(gatedProduct(x, x, Activation::Silu)[1][3].item<float>()));
    EXPECT_TRUE(std::isnan(rmsNorm(x, at::ones({ 40 }), 1e-5)[1][0].item<float>()));
    EXPECT_FALSE(std::isnan(rmsNorm(x, at::ones({ 40 }), 1e-5)[0][0].item<float>()));
}

/// Rotation by the definition: pairs (i, i + d/2) turned by pos / 10000^(2i/d).
at::Tensor rotated(const at::Tensor& heads, const at::Tensor& positions)
{
    const std::int64_t half = heads.size(3) / 2;
    at::Tensor out = heads.clone();
    const at::Tensor steps = at::arange(half, at::TensorOptions(at::kDouble));
    const at::Tensor angle =
        wide(positions).unsqueeze(-1) * (steps * (-2.0 / static_cast<double>(heads.size(3))) * std::log(1e4)).exp();
    const at::Tensor cos = angle.cos().unsqueeze(1);
    const at::Tensor sin = angle.sin().unsqueeze(1);
    const at::Tensor first = heads.narrow(3, 0, half);
    const at::Tensor second = heads.narrow(3, half, half);
    out.narrow(3, 0, half).copy_(first * cos - second * sin);
    out.narrow(3, half, half).copy_(second * cos + first * sin);
    return out;
}

TEST(Blocks, splitHeadsRotates)
{
    const at::Tensor positions = at::arange(10, at::TensorOptions(at::kLong)).view({ 2, 5 }) * 3;
    const RopeTable table = ropeTable(positions, 8);
    expectSameFunction(
        { at::randn({ 2, 5, 24 }) }, [&](const auto& in) { return splitHeads(in[0], 8, &table); },
        [&](const auto& in) {
            return rotated(in[0].view({ 2, 5, 3, 8 }).transpose(1, 2), positions);
        });
    expectSameFunction(
        { at::randn({ 2, 5, 24 }) }, [&](const auto& in) { return splitHeads(in[0], 8); },
        [&](const auto& in) {
            return in[0].view({ 2, 5, 3, 8 }).transpose(1, 2);
        });
    const at::Tensor product = at::randn({ 2, 5, 40 }); // a slice of a wider product
    EXPECT_TRUE(at::equal(splitHeads(product.narrow(2, 8, 16), 8),
                          product.narrow(2, 8, 16).reshape({ 2, 5, 2, 8 }).transpose(1, 2)));
}

TEST(Blocks, groupedAttentionIsAttention)
{
    for (const std::int64_t biases : { 0, 1, 2 }) { // none, shared, one a sample
        at::Tensor mask = at::rand({ std::max<std::int64_t>(biases, 1), 5, 7 }).gt(0.4);
        mask.narrow(1, 2, 1).fill_(false); // a row that may see nothing averages everything
        const at::Tensor bias = biases == 0 ? at::Tensor() : additiveMask(mask);
        expectSameFunction(
            { at::randn({ 2, 6, 5, 8 }), at::randn({ 2, 2, 7, 8 }), at::randn({ 2, 2, 7, 8 }) },
            [&](const auto& in) { return groupedAttention(in[0], in[1], in[2], bias); },
            [&](const auto& in) {
                const at::Tensor keys = in[1].repeat_interleave(3, 1);
                const at::Tensor values = in[2].repeat_interleave(3, 1);
                at::Tensor scores = at::matmul(in[0], keys.transpose(2, 3)) / std::sqrt(8.0);
                if (bias.defined()) {
                    scores = scores + wide(bias).unsqueeze(1);
                }
                return at::matmul(at::softmax(scores, -1), values).transpose(1, 2).reshape({ 2, 5, 48 });
            });
    }
}

TEST(Blocks, bf16FollowsF32)
{
    const at::Tensor x = at::randn({ 2, 9, 64 });
    const at::Tensor w = at::randn({ 64 });
    const auto half = [](const at::Tensor& t) { return t.to(at::kBFloat16); };
    EXPECT_LT(relativeGap(rmsNorm(half(x), half(w), 1e-5), rmsNorm(x, w, 1e-5)), 0.02);
    EXPECT_EQ(rmsNorm(x, half(w), 1e-5).scalar_type(), at::kFloat);
    EXPECT_LT(relativeGap(rmsNorm(x, half(w), 1e-5), rmsNorm(x, w, 1e-5)), 0.01);
    EXPECT_LT(relativeGap(gatedProduct(half(x), half(x), Activation::Silu), at::silu(x) * x), 0.02);
    EXPECT_LT(relativeGap(geluTanh(half(x)), at::gelu(x, "tanh")), 0.02);
    const RopeTable table = ropeTable(at::arange(9, at::TensorOptions(at::kLong)).unsqueeze(0), 16);
    EXPECT_LT(relativeGap(splitHeads(half(x), 16, &table), splitHeads(x, 16, &table)), 0.01);
    const at::Tensor q = at::randn({ 2, 4, 9, 16 });
    const at::Tensor k = at::randn({ 2, 2, 9, 16 });
    EXPECT_LT(relativeGap(groupedAttention(half(q), half(k), half(k), {}), groupedAttention(q, k, k, {})), 0.03);
}

TEST(Blocks, linearGroupsAreTheirLayers)
{
    Linear a;
    Linear b;
    a.weight = at::randn({ 6, 10 });
    b.weight = at::randn({ 4, 10 });
    a.bias = at::randn({ 6 });
    b.bias = at::randn({ 4 });
    const at::Tensor x = at::randn({ 3, 5, 10 });
    const at::Tensor first = a.forward(x);
    const at::Tensor second = b.forward(x);
    LinearGroup::pack({ &a, &b });
    EXPECT_TRUE(a.weight.is_alias_of(b.weight));
    const std::vector<at::Tensor> out = LinearGroup::forward({ &a, &b }, x);
    EXPECT_TRUE(out[0].is_alias_of(out[1]));
    EXPECT_LT(relativeGap(out[0], first), 1e-6);
    EXPECT_LT(relativeGap(out[1], second), 1e-6);
    a.weight.requires_grad_(true);
    const std::vector<at::Tensor> trained = LinearGroup::forward({ &a, &b }, x);
    EXPECT_FALSE(trained[0].is_alias_of(trained[1]));
    trained[0].sum().backward();
    EXPECT_EQ(a.weight.grad().sizes(), a.weight.sizes());
    EXPECT_FALSE(b.weight.requires_grad());
    // Large products go another way inside; the numbers agree.
    Linear large;
    large.weight = at::randn({ 512, 256 });
    const at::Tensor rows = at::randn({ 64, 256 });
    EXPECT_LT(relativeGap(large.forward(rows), at::matmul(wide(rows), wide(large.weight).t())), 5e-6);
}

TEST(Blocks, pixelShuffleIndices)
{
    const at::Tensor in = at::arange(16 * 3, at::TensorOptions(at::kLong)).view({ 1, 16, 3 });
    const at::Tensor out = pixelShuffle(in, 2); // [1, 4, 12]
    for (std::int64_t token = 0; token < 4; ++token) {
        for (std::int64_t channel = 0; channel < 12; ++channel) {
            const std::int64_t row = token / 2 * 2 + channel / 6;
            const std::int64_t col = token % 2 * 2 + channel / 3 % 2;
            EXPECT_EQ(out[0][token][channel].item<std::int64_t>(), (row * 4 + col) * 3 + channel % 3);
        }
    }
    EXPECT_ANY_THROW(static_cast<void>(pixelShuffle(at::zeros({ 1, 12, 3 }), 2)));
}

TEST(Blocks, positionsOfAWholeImageAreInOrder)
{
    for (const std::int64_t side : { 2, 4, 8, 16, 32, 64 }) {
        EXPECT_TRUE(at::equal(bucketPositions(side, side, side), at::arange(side * side, at::TensorOptions(at::kLong))))
            << side;
    }
}

TEST(Flow, timesAndIntegral)
{
    const at::Tensor grid = (at::arange(20'000, at::TensorOptions(at::kDouble)) + 0.5) / 20'000;
    const at::Tensor times = flowTime(grid);
    EXPECT_NEAR(times.to(at::kDouble).mean().item<double>(), 0.6 * 0.999 + 0.001, 1e-4);
    EXPECT_GE(times.min().item<double>(), 0.001);
    EXPECT_LE(times.max().item<double>(), 1.0);
    const at::Tensor noise = at::randn({ 2, 3, 4 });
    const at::Tensor actions = at::randn({ 2, 3, 4 });
    const at::Tensor out = integrateFlow(noise, 10, [&](const at::Tensor&, double) { return noise - actions; });
    EXPECT_LT(relativeGap(out, actions), 1e-5);
    EXPECT_LT(relativeGap(noisyActions(actions, noise, at::ones({ 2 })), noise), 1e-7);
    EXPECT_LT(relativeGap(noisyActions(actions, noise, at::zeros({ 2 })), actions), 1e-7);
}

TEST(Flow, lossCountsRealStepsAndColumns)
{
    const at::Tensor velocity = at::zeros({ 2, 3, 4 });
    const at::Tensor actions = at::zeros({ 2, 3, 4 });
    at::Tensor noise = at::ones({ 2, 3, 4 });
    noise.narrow(2, 2, 2).fill_(100); // columns beyond the robot's
    noise.narrow(1, 2, 1).fill_(3);   // the last step
    at::Tensor pad = at::zeros({ 2, 3 }, at::TensorOptions(at::kBool));
    const FlowLoss all = flowLoss(velocity, actions, noise, pad, 2);
    EXPECT_FLOAT_EQ(all.loss.item<float>(), (1 + 1 + 9) / 3.0F);
    EXPECT_FLOAT_EQ(flowLoss(velocity, actions, noise, {}, 2).loss.item<float>(), (1 + 1 + 9) / 3.0F);
    pad[0][2].fill_(true);
    const FlowLoss some = flowLoss(velocity, actions, noise, pad, 2);
    EXPECT_FLOAT_EQ(some.loss.item<float>(), (4 * 1 + 9) / 5.0F);
    EXPECT_FLOAT_EQ(some.perSample[0].item<float>(), 1.0F);
    EXPECT_FLOAT_EQ(some.perSample[1].item<float>(), 11 / 3.0F);
    EXPECT_EQ(some.elements.sizes(), velocity.sizes());
}

} // namespace
