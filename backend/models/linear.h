// The linear layer of every model here, with the one place where an adapter may hook in.
//
// Notation: W [out, in], b [out], x [..., in] -> [..., out].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

class Linear;

/// What an adaptation method puts on one linear layer; implemented in backend/adapters.
class LinearAdapter {
public:
    virtual ~LinearAdapter() = default;

    /// The adapted output. `base` gives W and b; call base.forwardBase(x) for the frozen part.
    /// May read models::currentTokens(). Thread: one forward pass at a time.
    [[nodiscard]] virtual at::Tensor forward(const Linear& base, const at::Tensor& x) = 0;
};

/// Part of the policy that a layer belongs to; panels of the rank map. Values are written to files and never change.
enum class LayerGroup : std::uint8_t { Vision = 0, Language = 1, Action = 2, Projection = 3 };

/// y = x Wᵀ + b, plus what the adapter adds.
class Linear {
public:
    at::Tensor weight;                       ///< [out, in]
    at::Tensor bias;                         ///< [out], or undefined.
    std::string path;                        ///< Module path in the checkpoint, without ".weight".
    LayerGroup group = LayerGroup::Projection;
    std::int64_t depth = -1;                 ///< Layer number in its stack, -1 outside of stacks.
    bool deadEnd = false;                    ///< Its output influences neither loss nor actions (e.g. lm_head).
    std::shared_ptr<LinearAdapter> adapter;  ///< None by default.

    [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;
    /// Without the adapter. x is cast to the weight's dtype first.
    [[nodiscard]] at::Tensor forwardBase(const at::Tensor& x) const;
    [[nodiscard]] std::int64_t inFeatures() const { return weight.size(1); }
    [[nodiscard]] std::int64_t outFeatures() const { return weight.size(0); }
};

}  // namespace rankwise::models
