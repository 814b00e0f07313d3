// The loops for products of rows and for attention in tiles, against LibTorch in f64.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/linear.h"
#include "backend/models/row_products.h"
#include "backend/models/tiled_attention.h"

#include <limits>
#include <string>
#include <tuple>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace {

using namespace rankwise::models;

class Precisions : public testing::TestWithParam<at::ScalarType> {
protected:
    /// Relative to the largest entry: what one rounding at the end and sums in f32 may differ by.
    [[nodiscard]] double tolerance() const { return GetParam() == at::kFloat ? 2e-6 : 6e-3; }
    [[nodiscard]] loops::Element element() const
    {
        return GetParam() == at::kFloat ? loops::Element::F32 : loops::Element::Bf16;
    }
    void expectClose(const at::Tensor& ours, const at::Tensor& exact, const std::string& what) const
    {
        ASSERT_EQ(ours.sizes(), exact.sizes()) << what;
        EXPECT_EQ(ours.scalar_type(), GetParam()) << what;
        const double peak = exact.abs().max().item<double>();
        EXPECT_LE((ours.to(at::kDouble) - exact).abs().max().item<double>(), tolerance() * peak) << what;
    }
};

TEST_P(Precisions, linearProduct)
{
    at::manual_seed(3);
    const at::NoGradGuard noGrad;
    // Every height of a tile, depths with and without a rest, several blocks of depth and of rows, odd widths.
    for (const auto& [rows, features, depth] :
         { std::tuple { 1, 960, 720 }, std::tuple { 2, 1024, 130 }, std::tuple { 7, 333, 257 },
           std::tuple { 50, 97, 720 }, std::tuple { 74, 65, 960 }, std::tuple { 64, 48, 3072 },
           std::tuple { 301, 66, 2048 }, std::tuple { 517, 70, 1040 }, std::tuple { 13, 1, 20'000 },
           std::tuple { 5, 5000, 33 } }) {
        const at::Tensor x = at::randn({ rows, depth }).to(GetParam());
        const at::Tensor w = at::randn({ features, depth }).to(GetParam());
        const at::Tensor b = at::randn({ features }).to(GetParam()) * 10;
        const std::string what = std::to_string(rows) + "x" + std::to_string(features) + "x" + std::to_string(depth);
        const at::Tensor exact = at::linear(x.to(at::kDouble), w.to(at::kDouble));
        expectClose(linearProduct(x, w, {}), exact, what);
        expectClose(linearProduct(x, w, b), exact + b.to(at::kDouble), what + " with bias");
        const at::Tensor wide = at::randn({ 1, rows, depth + 3 }).to(GetParam()).narrow(2, 0, depth);
        expectClose(linearProduct(wide, w, b), at::linear(wide.to(at::kDouble), w.to(at::kDouble), b.to(at::kDouble)),
                    what + " of a slice");
    }
}

TEST_P(Precisions, everyPartOfAProductIsTheSame)
{
    if (!loops::hasRowProducts(element())) {
        GTEST_SKIP() << "not on this processor";
    }
    const at::Tensor x = at::randn({ 31, 400 }).to(GetParam());
    const at::Tensor w = at::randn({ 53, 400 }).to(GetParam());
    const auto product = [&](const at::Tensor& rows, std::initializer_list<std::int64_t> cuts) {
        at::Tensor out = at::full({ rows.size(0), 53 }, -7.0, rows.options());
        std::int64_t first = 0;
        for (const std::int64_t last : cuts) {
            loops::rowProduct({ .element = element(),
                                .x = rows.const_data_ptr(),
                                .weight = w.const_data_ptr(),
                                .out = out.mutable_data_ptr(),
                                .rows = rows.size(0),
                                .depth = 400,
                                .features = 53,
                                .xStride = 400 },
                              first, last);
            first = last;
        }
        return out;
    };
    const at::Tensor whole = product(x, { 53 });
    EXPECT_TRUE(whole.equal(product(x, { 16, 20, 53 })));
    for (std::int64_t row = 0; row < x.size(0); ++row) {
        EXPECT_TRUE(whole.narrow(0, row, 1).equal(product(x.narrow(0, row, 1).contiguous(), { 53 }))) << row;
    }
}

TEST_P(Precisions, attentionInTiles)
{
    for (const auto& [images, tokens, heads, width] : { std::tuple { 2, 300, 3, 64 }, std::tuple { 1, 65, 2, 32 },
                                                        std::tuple { 1, 1, 1, 16 }, std::tuple { 3, 257, 1, 48 } }) {
        if (!loops::hasTiledAttention(element(), width)) {
            GTEST_SKIP() << "not on this processor";
        }
        const std::int64_t row = std::int64_t { heads } * width;
        const at::Tensor qkv = (at::randn({ images, tokens, 3 * row }) * 2).to(GetParam());
        at::Tensor out = at::full({ images, tokens, row }, -7.0, qkv.options());
        const auto part = [&](std::int64_t index) { return qkv.narrow(2, index * row, row); };
        const auto run = [&](std::int64_t first, std::int64_t last) {
            loops::tiledAttention({ .element = element(),
                                    .q = part(0).const_data_ptr(),
                                    .k = part(1).const_data_ptr(),
                                    .v = part(2).const_data_ptr(),
                                    .out = out.mutable_data_ptr(),
                                    .images = images,
                                    .tokens = tokens,
                                    .heads = heads,
                                    .headDim = width,
                                    .tokenStride = qkv.stride(1),
                                    .imageStride = qkv.stride(0) },
                                  first, last);
        };
        run(0, 1);
        run(1, std::int64_t { images } * heads);
        const auto split = [&](std::int64_t index) {
            return part(index).to(at::kDouble).view({ images, tokens, heads, width }).transpose(1, 2);
        };
        const at::Tensor exact = at::scaled_dot_product_attention(split(0), split(1), split(2))
                                     .transpose(1, 2)
                                     .reshape({ images, tokens, row });
        expectClose(out, exact, std::to_string(tokens));
    }
}

TEST_P(Precisions, whatIsNotANumberShows)
{
    at::Tensor x = at::randn({ 9, 512 }).to(GetParam());
    x[4][300] = std::numeric_limits<double>::quiet_NaN();
    const at::NoGradGuard noGrad;
    const at::Tensor y = linearProduct(x, at::randn({ 512, 512 }).to(GetParam()), {});
    EXPECT_TRUE(y[4].isnan().all().item<bool>());
    EXPECT_FALSE(y[3].isnan().any().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(Products, Precisions, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& row) { return std::string(row.param == at::kFloat ? "f32" : "bf16"); });

} // namespace
