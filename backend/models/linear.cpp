// SPDX-License-Identifier: Apache-2.0
#include "backend/models/linear.h"

#include "backend/base/result.h"
#include "backend/models/row_products.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace rankwise::models {

namespace {

/// oneDNN's product, which is 15 to 40 % faster in f32 than the BLAS behind at::linear for the shapes of these models;
/// LibTorch reaches it only through an operator looked up by name.
using OneDnnLinear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                std::string_view, c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);

const std::optional<c10::TypedOperatorHandle<OneDnnLinear>>& oneDnnLinear()
{
    static const std::optional<c10::TypedOperatorHandle<OneDnnLinear>> handle =
        []() -> std::optional<c10::TypedOperatorHandle<OneDnnLinear>> {
        const auto found = c10::Dispatcher::singleton().findSchema({ "mkldnn::_linear_pointwise", "" });
        if (!found || !found->hasKernelForDispatchKey(c10::DispatchKey::CPU)) {
            return std::nullopt;
        }
        return found->typed<OneDnnLinear>();
    }();
    return handle;
}

/// Multiplications below which the choice does not matter.
constexpr std::int64_t kLargeProduct = 4'000'000;
constexpr std::int64_t kRowProduct = 200'000;

/// The loops for products of rows, where processor and tensors fit them; an undefined tensor otherwise.
at::Tensor productOfRows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias)
{
    const std::int64_t depth = weight.size(1);
    const std::int64_t features = weight.size(0);
    const bool bf16 = x.scalar_type() == at::kBFloat16;
    const auto element = bf16 ? loops::Element::Bf16 : loops::Element::F32;
    static const std::array kThere { loops::hasRowProducts(loops::Element::F32),
                                     loops::hasRowProducts(loops::Element::Bf16) };
    if (!(bf16 || x.scalar_type() == at::kFloat) || !kThere[bf16 ? 1 : 0] || x.numel() * features < kRowProduct
        || !weight.is_contiguous()
        || (bias.defined() && (bias.scalar_type() != x.scalar_type() || !bias.is_contiguous()))) {
        return {};
    }
    const at::Tensor rows = x.contiguous();
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = features;
    at::Tensor out = at::empty(shape, x.options());
    const loops::RowProduct product { .element = element,
                                      .x = rows.const_data_ptr(),
                                      .weight = weight.const_data_ptr(),
                                      .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
                                      .out = out.mutable_data_ptr(),
                                      .rows = rows.numel() / depth,
                                      .depth = depth,
                                      .features = features,
                                      .xStride = depth };
    constexpr std::int64_t kShare = 16; // features that lie in one cache line
    at::parallel_for(0, (features + kShare - 1) / kShare, std::max<std::int64_t>(1, 2'000'000 / (x.numel() * kShare)),
                     [&](std::int64_t begin, std::int64_t end) {
                         loops::rowProduct(product, begin * kShare, std::min(end * kShare, features));
                     });
    return out;
}

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

at::Tensor linearProduct(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias)
{
    const at::Tensor x = input.scalar_type() == weight.scalar_type() ? input : input.to(weight.scalar_type());
    const bool graph = at::GradMode::is_enabled()
        && (x.requires_grad() || weight.requires_grad() || (bias.defined() && bias.requires_grad()));
    if (!graph && x.device().is_cpu() && c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU)) {
        if (const at::Tensor out = productOfRows(x, weight, bias); out.defined()) {
            return out;
        }
        if (x.scalar_type() == at::kFloat && x.numel() * weight.size(0) >= kLargeProduct && oneDnnLinear()) {
            return oneDnnLinear()->call(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, "none",
                                        c10::List<std::optional<at::Scalar>>(), "");
        }
    }
    return at::linear(x, weight, bias);
}

at::Tensor Linear::forward(const at::Tensor& x) const
{
    return adapter ? adapter->forward(*this, x) : forwardBase(x);
}

at::Tensor Linear::forwardBase(const at::Tensor& x) const
{
    return linearProduct(x, weight, bias);
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

std::vector<at::Tensor> LinearGroup::forward(const std::vector<const Linear*>& layers, const at::Tensor& x)
{
    bool separate = false;
    for (const Linear* layer : layers) {
        separate = separate || layer->adapter != nullptr || (at::GradMode::is_enabled() && layer->trains());
    }
    std::vector<at::Tensor> outputs;
    outputs.reserve(layers.size());
    const at::Tensor weight = separate ? at::Tensor() : joinedView(layers, &Linear::weight);
    const bool noBias = !layers.front()->bias.defined();
    const at::Tensor bias = separate || noBias ? at::Tensor() : joinedView(layers, &Linear::bias);
    if (!weight.defined() || (!noBias && !bias.defined())) {
        for (const Linear* layer : layers) {
            outputs.push_back(layer->forward(x));
        }
        return outputs;
    }
    const at::Tensor whole = linearProduct(x, weight, bias);
    std::int64_t column = 0;
    for (const Linear* layer : layers) {
        outputs.push_back(whole.narrow(-1, column, layer->outFeatures()));
        column += layer->outFeatures();
    }
    return outputs;
}

} // namespace rankwise::models
