// One transformer decoder block with separate query heads and fewer key/value heads, as in Llama (SmolVLA's language
// model and expert) and Gemma (pi0, pi0.5). The block does not run attention itself: two streams with weights of
// their own may share one attention, so it gives out heads and takes the attended rows back.
//
// Notation: B batch, S tokens, D width, H query heads, G key/value heads, d head width.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/kernels.h"
#include "backend/models/linear.h"

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

enum class NormStyle : std::uint8_t {
    Llama,    ///< x̂·w
    Gemma,    ///< x̂·(1 + w)
    Adaptive, ///< x̂·(1 + scale) + shift, and a gate for the residual; scale, shift, gate = Linear(condition).
};

class RmsNorm {
public:
    struct Output {
        at::Tensor y;
        at::Tensor gate; ///< [B, 1, D]; undefined unless the style is Adaptive.
    };

    at::Tensor weight; ///< [D]; undefined for Adaptive.
    Linear modulation; ///< Adaptive only: [3D, condition width].
    NormStyle style = NormStyle::Llama;
    double eps = 1e-5;

    /// `condition` [B, C] is needed by Adaptive only.
    [[nodiscard]] Output forward(const at::Tensor& x, const at::Tensor& condition = {}) const;
    [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const { return forward(x).y; }
};

/// Query, key and value heads of some tokens, [B, H or G, S, d], contiguous, queries and keys rotated.
struct AttentionHeads {
    at::Tensor q;
    at::Tensor k;
    at::Tensor v;
};

class DecoderBlock {
public:
    RmsNorm inputNorm;
    RmsNorm postNorm;
    Linear q;
    Linear k;
    Linear v;
    Linear o;
    Linear gate;
    Linear up;
    Linear down;
    Activation activation = Activation::Silu;
    std::int64_t headDim = 0;

    /// Heads of the normalised tokens `h` [B, S, D], rotated by `rope`.
    [[nodiscard]] AttentionHeads heads(const at::Tensor& h, const RopeTable& rope) const;
    /// Keys and values alone (q is undefined).
    [[nodiscard]] AttentionHeads keysAndValues(const at::Tensor& h, const RopeTable& rope) const;

    /// The residual stream after this block: x + gate·o(attended), then + gate·MLP(norm(·)).
    ///
    /// `attended` is [B, S, H·d]. `gate` is that of inputNorm (undefined: 1), `condition` goes to postNorm.
    [[nodiscard]] at::Tensor finish(const at::Tensor& x, const at::Tensor& attended, const at::Tensor& gate = {},
                                    const at::Tensor& condition = {}) const;

    /// Lets q, k, v and gate, up lie together, so that each group can be one product. Before anyone holds the weights.
    void pack();
};

/// Width of the expert's MLP for its model width, as the reference rounds it: 4·int(2w/3) up to a multiple of 256.
[[nodiscard]] std::int64_t expertMlpWidth(std::int64_t width);

} // namespace rankwise::models
