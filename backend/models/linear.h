// The linear layer of every model here, with the one place where an adapter may hook in.
//
// Notation: W [out, in], b [out], x [..., in] -> [..., out].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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
    at::Tensor weight; ///< [out, in]
    at::Tensor bias;   ///< [out], or undefined.
    std::string path;  ///< Module path in the checkpoint, without ".weight".
    LayerGroup group = LayerGroup::Projection;
    std::int64_t depth = -1;                ///< Layer number in its stack, -1 outside of stacks.
    bool deadEnd = false;                   ///< Its output influences neither loss nor actions (e.g. lm_head).
    std::shared_ptr<LinearAdapter> adapter; ///< None by default.

    [[nodiscard]] at::Tensor forward(const at::Tensor& x) const;
    /// Without the adapter. x is cast to the weight's dtype first.
    [[nodiscard]] at::Tensor forwardBase(const at::Tensor& x) const;
    [[nodiscard]] std::int64_t inFeatures() const { return weight.size(1); }
    [[nodiscard]] std::int64_t outFeatures() const { return weight.size(0); }
    /// Whether a backward pass through this layer must reach W, b or an adapter.
    [[nodiscard]] bool trains() const;
};

/// x Wᵀ + b; `x` [..., in] is cast to the weight's dtype first, `bias` may be undefined. Without a graph, on the CPU,
/// by whatever is fastest there: the loops of row_products.h, else oneDNN.
[[nodiscard]] at::Tensor linearProduct(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// Linear layers of the same input (q, k, v; gate, up), in this order, computed as one product where that is exact
/// and needs no extra memory: no adapter hooked, no gradient of a weight wanted, and the weights still lying one
/// behind the other as pack() put them.
class LinearGroup {
public:
    /// Moves the weights (and biases, if all have one) into one block; each layer keeps a view of its rows.
    /// Call before anybody else holds the weights.
    static void pack(const std::vector<Linear*>& layers);

    /// The outputs of all layers for x [..., in]; views into one product where it was one.
    [[nodiscard]] static std::vector<at::Tensor> forward(const std::vector<const Linear*>& layers, const at::Tensor& x);
};

} // namespace rankwise::models
