// The vision transformer of SigLIP as SmolVLA, pi0 and pi0.5 use it: patches by a strided convolution, learned
// positions, pre-norm blocks with full attention and tanh-GELU, one norm at the end, no class token, no pooling.
//
// Notation: N images, S patches, W width. Source: Zhai et al. 2023, arXiv:2303.15343; the position buckets are those
// of Idefics3, the pixel shuffle that of its connector (Laurençon et al. 2024, arXiv:2408.12637).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/linear.h"

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

struct LayerNorm {
    at::Tensor weight;
    at::Tensor bias;
    double eps = 1e-6;
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
};

class VisionTower {
public:
    struct Block {
        LayerNorm norm1;
        LayerNorm norm2;
        Linear q;
        Linear k;
        Linear v;
        Linear out;
        Linear fc1;
        Linear fc2;
    };

    at::Tensor patchWeight; ///< [W, channels, patch, patch]
    at::Tensor patchBias;   ///< [W]
    at::Tensor positions;   ///< [table, W]
    std::vector<Block> blocks;
    LayerNorm postNorm;
    std::int64_t heads = 1;

    /// Patch features [N, S, W] of images [N, channels, height, width], patches row by row.
    ///
    /// `positionIds` [S] picks the rows of the position table. Sides that the patch size does not divide lose the rest.
    [[nodiscard]] at::Tensor forward(const at::Tensor& images, const at::Tensor& positionIds) const;

    /// Whether anything in it trains or carries an adapter.
    [[nodiscard]] bool trains() const;
    /// See DecoderBlock::pack().
    void pack();
};

/// Rows of a side x side position table for a grid of rows x cols patches: the table is spread over the image, in the
/// f32 rounding of the reference. Identity when rows = cols = side. [rows·cols] int64.
[[nodiscard]] at::Tensor bucketPositions(std::int64_t rows, std::int64_t cols, std::int64_t side);

/// [N, S, W] -> [N, S/f², W·f²]: f x f neighbouring patches become one token; its channel (dy·f + dx)·W + c is channel
/// c of the patch dy rows down and dx columns right. The grid is taken as int(sqrt(S)) rows and columns.
[[nodiscard]] at::Tensor pixelShuffle(const at::Tensor& features, std::int64_t factor);

} // namespace rankwise::models
