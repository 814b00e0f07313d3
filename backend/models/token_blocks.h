// Which token sees which: the block mask and positions that SmolVLA, pi0 and pi0.5 share.
//
// A token carries a validity bit and a flag; a flag of 1 opens a new block. A token sees its own block and all
// earlier ones, and only valid tokens see or are seen. Notation: B batch, S queries, T keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// [B, S, S] bool: query i may see key j. `valid` and `flags` are [B, S] bool (flags: any integer or float type too).
[[nodiscard]] at::Tensor blockMask(const at::Tensor& valid, const at::Tensor& flags);

/// [B, S] int64: number of valid tokens up to and including this one, minus one; padding does not advance positions.
[[nodiscard]] at::Tensor positionIds(const at::Tensor& valid);

/// A mask as numbers to add to attention scores: 0 where true, the lowest finite f32 where false.
[[nodiscard]] at::Tensor additiveMask(const at::Tensor& mask);

} // namespace rankwise::models
