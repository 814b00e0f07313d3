// The autograd node around the CPU kernel of LoRA-SP.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/lora_sp_kernel.h"
#include "backend/adapters/lora_sp_layer.h"

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// Arguments of selectAndMask(). Tensors on the CPU, rows and weights all f32 or all f64.
struct SelectInputs {
    at::Tensor rows;       ///< X [T, in]
    at::Tensor routerRows; ///< What the router reads instead of X (then without `dropout`); undefined: X.
    at::Tensor down;       ///< V [R, in]; undefined: masked scores alone, z = 1.
    at::Tensor w1;         ///< [m, in]
    at::Tensor w2;         ///< [R, m]
    at::Tensor valid;      ///< [T] uint8; undefined: all.
    RouterDropout dropout;
    double eta = 1;
    std::int64_t stride = 1; ///< As in SelectForward.
    ScoreMap map = ScoreMap::None;
};

struct SelectOutputs {
    at::Tensor masked; ///< (V x) ⊙ s̄ [T, R]
    at::Tensor sums;   ///< [2 + m]: Σ (1 - E), Σ lse², Σ gates over valid tokens
    at::Tensor top;    ///< [m] valid tokens whose largest gate this is; no gradient.
    std::int64_t tokens = 0;
};

/// Gradients flow to rows, routerRows, down, w1 and w2. Adds to `statistics`.
[[nodiscard]] SelectOutputs selectAndMask(const SelectInputs& inputs, LoraSpStatistics& statistics);

} // namespace rankwise::adapters
