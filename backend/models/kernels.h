// The few operations that LibTorch offers only as chains of small ones: norms, rotary positions, gated activations
// and grouped attention, each as one pass with its own backward pass. CPU tensors in f32 and bf16 take the direct
// loops; other devices and dtypes go through LibTorch operators with the same result up to rounding.
//
// Notation: B batch, S tokens (queries), T keys, H query heads, G key/value heads, d head width, D model width.
// Definitions: "Numeric primitives" of the model families: Llama RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467),
// half-split RoPE (Su et al. 2021, arXiv:2104.09864), SwiGLU (Shazeer 2020, arXiv:2002.05202).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// x/rms(x) · w over the last dimension. The quotient is rounded to x's dtype before it meets w, as in Llama.
[[nodiscard]] at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps);
/// x/rms(x) · (1 + w), all in f32, then rounded to x's dtype, as in Gemma.
[[nodiscard]] at::Tensor gemmaNorm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// Cosines and sines of rotary positions, f32.
struct RopeTable {
    at::Tensor cos; ///< [B or 1, S, d/2]
    at::Tensor sin;
};

/// Table for integer positions [B or 1, S]. Angles pos / theta^(2k/d) in f32.
[[nodiscard]] RopeTable ropeTable(const at::Tensor& positions, std::int64_t headDim, double theta = 10'000.0);

/// [B, S, H·d] -> [B, H, S, d], contiguous, each head rotated (first half with second half) in f32 when `table` is
/// given. `x` may be a slice of a wider product: only its last dimension must be dense.
[[nodiscard]] at::Tensor splitHeads(const at::Tensor& x, std::int64_t headDim, const RopeTable* table = nullptr);

enum class Activation : std::uint8_t { Silu, GeluTanh };

/// act(gate) · up, elementwise; both may be slices of one product.
[[nodiscard]] at::Tensor gatedProduct(const at::Tensor& gate, const at::Tensor& up, Activation activation);

/// Tanh-GELU, elementwise. Without a graph an `x` that nobody else holds is overwritten.
[[nodiscard]] at::Tensor geluTanh(at::Tensor x);

/// Attention in which query heads g·n .. g·n+n-1 share key/value head g.
///
/// @param q     [B, H, S, d]   contiguous
/// @param k, v  [B, G, T, d]   contiguous
/// @param bias  [B or 1, S, T] f32, added to the scaled scores; undefined for none. Masks use a finite lowest
///              number: a row that may see nothing then averages everything instead of becoming NaN.
/// @return      [B, S, H·d] in v's dtype. Scores scaled by d^-1/2; softmax in f32, then rounded to v's dtype.
[[nodiscard]] at::Tensor groupedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const at::Tensor& bias);

} // namespace rankwise::models
