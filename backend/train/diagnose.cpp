// The search of diagnose.h.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/diagnose.h"

#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>

#include <fmt/format.h>

namespace rankwise::train {

namespace {

bool finite(const at::Tensor& tensor)
{
    return !tensor.defined() || !tensor.is_floating_point() || at::isfinite(tensor).all().item<bool>();
}

/// Stands in for a layer's adapter and notes the first layer that turns finite input into something else.
class Probe : public models::LinearAdapter {
public:
    Probe(std::shared_ptr<models::LinearAdapter> inner, std::optional<std::string>& first)
        : m_inner(std::move(inner)), m_first(first)
    {
    }
    at::Tensor forward(const models::Linear& base, const at::Tensor& x) override
    {
        at::Tensor y = m_inner ? m_inner->forward(base, x) : base.forwardBase(x);
        if (!m_first && finite(x) && !finite(y)) {
            m_first = base.path;
        }
        return y;
    }

private:
    std::shared_ptr<models::LinearAdapter> m_inner;
    std::optional<std::string>& m_first;
};

std::optional<std::string> firstBadLayer(models::Policy& policy, const models::PolicyBatch& batch, const FlowDraw& draw)
{
    std::optional<std::string> first;
    std::vector<std::pair<models::Linear*, std::shared_ptr<models::LinearAdapter>>> before;
    for (models::Linear& linear : policy.linears()) {
        before.emplace_back(&linear, linear.adapter);
        linear.adapter = std::make_shared<Probe>(linear.adapter, first);
    }
    policy.weightsChanged();
    try {
        const at::NoGradGuard noGrad;
        (void)policy.loss(batch, draw.noise, draw.time);
    } catch (...) {
        for (auto& [linear, adapter] : before) {
            linear->adapter = adapter;
        }
        policy.weightsChanged();
        throw;
    }
    for (auto& [linear, adapter] : before) {
        linear->adapter = adapter;
    }
    policy.weightsChanged();
    return first;
}

std::optional<std::string> badInput(const models::PolicyBatch& batch)
{
    for (std::size_t i = 0; i < batch.images.size(); ++i) {
        if (!finite(batch.images[i])) {
            return fmt::format("camera {}", i);
        }
    }
    if (!finite(batch.state)) {
        return "observation.state";
    }
    return finite(batch.actions) ? std::nullopt : std::optional<std::string>("action");
}

} // namespace

Error explainNonFinite(models::Policy& policy, const AdamW& optimizer, const models::PolicyBatch& batch,
                       const FlowDraw& draw, std::int64_t step)
{
    const auto error = [&](std::string subject, const std::string& message) {
        return Error { Errc::NotFinite, fmt::format("step {}: {}", step, message), std::move(subject) };
    };
    if (const auto input = badInput(batch)) {
        return error(*input,
                     "the batch holds NaN or infinity after normalisation; check this feature of the dataset and its "
                     "statistics (a zero standard deviation?)");
    }
    for (const models::NamedParameter& parameter : optimizer.parameters()) {
        if (!finite(parameter.tensor)) {
            return error(parameter.name,
                         "this trained weight is NaN or infinity; lower the learning rate and resume from an "
                         "earlier checkpoint");
        }
    }
    for (const models::NamedParameter& parameter : policy.parameters()) {
        if (!finite(parameter.tensor)) {
            return error(parameter.name, "this weight of the checkpoint is NaN or infinity; the checkpoint is damaged");
        }
    }
    if (const auto layer = firstBadLayer(policy, batch, draw)) {
        return error(*layer,
                     "this layer is the first whose output is NaN or infinity; lower the learning rate or the "
                     "adapter's scale, and check the range of the inputs");
    }
    const std::vector<std::string> gradients = optimizer.nonFiniteGradients();
    if (!gradients.empty()) {
        return error(gradients.front(),
                     fmt::format("the gradient of this weight ({} in all) is NaN or infinity while the forward "
                                 "pass is finite; lower the learning rate, or clip",
                                 gradients.size()));
    }
    return error("loss", "the loss is NaN or infinity although no weight and no layer's output is");
}

} // namespace rankwise::train
