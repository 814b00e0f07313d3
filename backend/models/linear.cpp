// SPDX-License-Identifier: Apache-2.0
#include "backend/models/linear.h"

#include "backend/base/result.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>

namespace rankwise::models {

namespace {

bool wantsGradient(const at::Tensor& tensor)
{
    return tensor.defined() && tensor.requires_grad();
}

/// The rows of all `parts` as one tensor without a copy, or an undefined tensor when they do not lie together.
at::Tensor joinedView(const std::vector<const Linear*>& layers, at::Tensor Linear::*member)
{
    const at::Tensor& first = (layers.front()->*member);
    if (!first.defined() || !first.is_contiguous()) {
        return {};
    }
    std::int64_t rows = 0;
    std::int64_t offset = first.storage_offset();
    for (const Linear* layer : layers) {
        const at::Tensor& part = layer->*member;
        if (!part.defined() || part.storage_offset() != offset || !part.is_alias_of(first) || !part.is_contiguous()
            || part.scalar_type() != first.scalar_type()) {
            return {};
        }
        rows += part.size(0);
        offset += part.numel();
    }
    return first.dim() == 2 ? first.as_strided({ rows, first.size(1) }, { first.size(1), 1 })
                            : first.as_strided({ rows }, { 1 });
}

void packMember(const std::vector<Linear*>& layers, at::Tensor Linear::*member)
{
    std::vector<at::Tensor> parts;
    for (const Linear* layer : layers) {
        parts.push_back(layer->*member);
    }
    const at::Tensor whole = at::cat(parts, 0);
    std::int64_t row = 0;
    for (Linear* layer : layers) {
        const std::int64_t rows = (layer->*member).size(0);
        // variable_data(): a tensor of its own for autograd, on the same bytes.
        layer->*member = whole.narrow(0, row, rows).variable_data();
        row += rows;
    }
}

} // namespace

at::Tensor Linear::forward(const at::Tensor& x) const
{
    return adapter ? adapter->forward(*this, x) : forwardBase(x);
}

at::Tensor Linear::forwardBase(const at::Tensor& x) const
{
    return at::linear(x.scalar_type() == weight.scalar_type() ? x : x.to(weight.scalar_type()), weight, bias);
}

bool Linear::trains() const
{
    return adapter != nullptr || wantsGradient(weight) || wantsGradient(bias);
}

void LinearGroup::pack(const std::vector<Linear*>& layers)
{
    RW_CHECK(!layers.empty());
    bool biases = true;
    for (const Linear* layer : layers) {
        RW_CHECK(layer->weight.dim() == 2 && layer->weight.size(1) == layers.front()->weight.size(1), layer->path);
        if (layer->weight.scalar_type() != layers.front()->weight.scalar_type()) {
            return; // a mix of dtypes cannot be one product
        }
        biases = biases && layer->bias.defined();
    }
    packMember(layers, &Linear::weight);
    if (biases) {
        packMember(layers, &Linear::bias);
    }
}

at::Tensor LinearGroup::forward(const std::vector<const Linear*>& layers, const at::Tensor& x)
{
    bool separate = false;
    for (const Linear* layer : layers) {
        separate = separate || layer->adapter != nullptr || (at::GradMode::is_enabled() && layer->trains());
    }
    if (!separate) {
        const at::Tensor weight = joinedView(layers, &Linear::weight);
        const bool noBias = !layers.front()->bias.defined();
        const at::Tensor bias = noBias ? at::Tensor() : joinedView(layers, &Linear::bias);
        if (weight.defined() && (noBias || bias.defined())) {
            return at::linear(x.scalar_type() == weight.scalar_type() ? x : x.to(weight.scalar_type()), weight, bias);
        }
    }
    std::vector<at::Tensor> outputs;
    for (const Linear* layer : layers) {
        outputs.push_back(layer->forward(x));
    }
    return at::cat(outputs, -1);
}

} // namespace rankwise::models
