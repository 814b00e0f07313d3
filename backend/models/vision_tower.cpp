// SPDX-License-Identifier: Apache-2.0
#include "backend/models/vision_tower.h"

#include "backend/base/result.h"
#include "backend/models/kernels.h"
#include "backend/models/tiled_attention.h"

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

/// Patches up to this many go through groupedAttention(), which is faster while the score matrix stays in the cache;
/// more of them through the loops of tiled_attention.h or LibTorch's tiled kernel.
constexpr std::int64_t kTiledAttention = 256;

/// y + x in y's dtype, in place without a graph (see the same function of the decoder).
at::Tensor addResidual(at::Tensor y, const at::Tensor& x, const Linear& from)
{
    return !at::GradMode::is_enabled() && !from.adapter ? y.add_(x) : y + x;
}

/// The loops for attention in tiles, where processor and tensors fit them; an undefined tensor otherwise.
at::Tensor tiledAttention(const std::vector<at::Tensor>& rows, std::int64_t heads)
{
    const at::Tensor& q = rows[0];
    const std::int64_t headDim = q.size(2) / heads;
    const bool bf16 = q.scalar_type() == at::kBFloat16;
    const auto element = bf16 ? loops::Element::Bf16 : loops::Element::F32;
    const bool graph = at::GradMode::is_enabled()
        && std::ranges::any_of(rows, [](const at::Tensor& tensor) { return tensor.requires_grad(); });
    const bool alike = std::ranges::all_of(rows, [&](const at::Tensor& tensor) {
        return tensor.scalar_type() == q.scalar_type() && tensor.strides() == q.strides() && tensor.stride(2) == 1;
    });
    if (graph || !alike || !q.device().is_cpu() || !(bf16 || q.scalar_type() == at::kFloat)
        || !loops::hasTiledAttention(element, headDim)) {
        return {};
    }
    at::Tensor out = at::empty(q.sizes(), q.options());
    const loops::TiledAttention task { .element = element,
                                       .q = q.const_data_ptr(),
                                       .k = rows[1].const_data_ptr(),
                                       .v = rows[2].const_data_ptr(),
                                       .out = out.mutable_data_ptr(),
                                       .images = q.size(0),
                                       .tokens = q.size(1),
                                       .heads = heads,
                                       .headDim = headDim,
                                       .tokenStride = q.stride(1),
                                       .imageStride = q.stride(0) };
    at::parallel_for(0, task.images * heads, 1,
                     [&](std::int64_t begin, std::int64_t end) { loops::tiledAttention(task, begin, end); });
    return out; // [N, S, W]
}

at::Tensor attention(const VisionTower::Block& block, const at::Tensor& h, std::int64_t heads)
{
    const std::vector<at::Tensor> rows = LinearGroup::forward({ &block.q, &block.k, &block.v }, h);
    const std::int64_t headDim = rows[0].size(2) / heads;
    if (h.size(1) <= kTiledAttention) {
        return groupedAttention(splitHeads(rows[0], headDim), splitHeads(rows[1], headDim),
                                splitHeads(rows[2], headDim), {});
    }
    if (const at::Tensor out = tiledAttention(rows, heads); out.defined()) {
        return out;
    }
    const auto split = [&](const at::Tensor& x) {
        return x.view({ x.size(0), x.size(1), heads, headDim }).transpose(1, 2);
    };
    return at::scaled_dot_product_attention(split(rows[0]), split(rows[1]), split(rows[2]))
        .transpose(1, 2)
        .reshape({ h.size(0), h.size(1), -1 }); // [N, S, W]
}

} // namespace

at::Tensor LayerNorm::operator()(const at::Tensor& x) const
{
    return at::layer_norm(x, { x.size(-1) }, weight, bias, eps);
}

at::Tensor VisionTower::forward(const at::Tensor& images, const at::Tensor& positionIds) const
{
    const std::int64_t patch = patchWeight.size(2);
    const std::int64_t channels = patchWeight.size(1);
    const std::int64_t rows = images.size(2) / patch;
    const std::int64_t cols = images.size(3) / patch;
    const at::Tensor cut = images.narrow(2, 0, rows * patch).narrow(3, 0, cols * patch).to(patchWeight.scalar_type());
    const at::Tensor patches = cut.reshape({ -1, channels, rows, patch, cols, patch })
                                   .permute({ 0, 2, 4, 1, 3, 5 })
                                   .reshape({ images.size(0), rows * cols, channels * patch * patch }); // [N, S, c·p·p]
    at::Tensor x = linearProduct(patches, patchWeight.flatten(1), patchBias) + at::embedding(positions, positionIds);
    for (const Block& block : blocks) {
        x = addResidual(block.out.forward(attention(block, block.norm1(x), heads)), x, block.out);
        x = addResidual(block.fc2.forward(geluTanh(block.fc1.forward(block.norm2(x)))), x, block.fc2);
    }
    return postNorm(x);
}

bool VisionTower::trains() const
{
    const auto wants = [](const at::Tensor& tensor) { return tensor.requires_grad(); };
    if (wants(patchWeight) || wants(patchBias) || wants(positions) || wants(postNorm.weight) || wants(postNorm.bias)) {
        return true;
    }
    return std::ranges::any_of(blocks, [&](const Block& block) {
        return wants(block.norm1.weight) || wants(block.norm1.bias) || wants(block.norm2.weight)
            || wants(block.norm2.bias) || block.q.trains() || block.k.trains() || block.v.trains() || block.out.trains()
            || block.fc1.trains() || block.fc2.trains();
    });
}

void VisionTower::pack()
{
    for (Block& block : blocks) {
        LinearGroup::pack({ &block.q, &block.k, &block.v });
    }
}

at::Tensor bucketPositions(std::int64_t rows, std::int64_t cols, std::int64_t side)
{
    const at::TensorOptions f32 = at::TensorOptions().dtype(at::kFloat);
    const double step = 1.0 / static_cast<double>(side);
    const at::Tensor boundaries = at::arange(step, 1.0, step, f32);
    const auto buckets = [&](std::int64_t count) {
        // The reference divides in f32 and keeps the last patch below 1.
        const at::Tensor places = at::arange(count, f32) * static_cast<double>(1.0F / static_cast<float>(count));
        return at::bucketize(places.clamp_max(1.0 - 1e-6), boundaries, false, true);
    };
    return (buckets(rows).unsqueeze(1) * side + buckets(cols)).flatten();
}

at::Tensor pixelShuffle(const at::Tensor& features, std::int64_t factor)
{
    const std::int64_t width = features.size(2);
    const auto side = static_cast<std::int64_t>(std::sqrt(static_cast<double>(features.size(1))));
    RW_CHECK(side * side == features.size(1) && side % factor == 0,
             "grid of patches that is not a square of whole tokens");
    const std::int64_t tokens = side / factor;
    return features.view({ -1, tokens, factor, tokens, factor, width })
        .permute({ 0, 1, 3, 2, 4, 5 })
        .reshape({ features.size(0), tokens * tokens, factor * factor * width });
}

} // namespace rankwise::models
