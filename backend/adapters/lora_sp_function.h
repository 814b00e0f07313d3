// The autograd node around the CPU kernel of LoRA-SP.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/lora_sp_kernel.h"
#include "backend/adapters/lora_sp_layer.h"

#include <utility>

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// Masked product z ⊙ s̄ [T, R] (or s̄ alone when `projected` is undefined) and the loss sums
/// [Σ (1 - E), Σ lse², Σ gates] over the tokens that `valid` [T] (uint8, or undefined) names.
///
/// logits [T, m], w2 [R, m], projected [T, R]: contiguous, all f32 or all f64, on the CPU. Adds to `statistics` and
/// fills top [m]. Gradients flow to logits, w2 and projected.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> selectAndMask(const at::Tensor& logits, const at::Tensor& w2,
                                                              const at::Tensor& projected, const at::Tensor& valid,
                                                              double eta, ScoreMap map, LoraSpStatistics& statistics,
                                                              at::Tensor& top);

}  // namespace rankwise::adapters
