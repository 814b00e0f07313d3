// AdamW on torch's fused kernel.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/optimizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <regex>
#include <set>
#include <tuple>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <fmt/format.h>

namespace rankwise::train {

namespace {

constexpr std::array kStateKinds { "master", "exp_avg", "exp_avg_sq", "step" };

at::ScalarType masterType(at::ScalarType type)
{
    return type == at::kDouble ? at::kDouble : at::kFloat;
}

std::string shapeText(const at::Tensor& tensor)
{
    std::string text = "[";
    for (const std::int64_t size : tensor.sizes()) {
        text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    }
    return text + "]";
}

/// Norm of the norms, as torch's clip_grad_norm_. The list must not be empty and may mix f32 and f64.
double totalNorm(const std::vector<at::Tensor>& tensors)
{
    std::vector<at::Tensor> norms = at::_foreach_norm(tensors, 2);
    const bool wide = std::ranges::any_of(norms, [](const at::Tensor& n) { return n.scalar_type() == at::kDouble; });
    for (at::Tensor& norm : norms) {
        norm = norm.to(wide ? at::kDouble : at::kFloat);
    }
    return at::linalg_vector_norm(at::stack(norms), 2).item<double>();
}

} // namespace

Result<std::unique_ptr<AdamW>> AdamW::create(std::vector<models::NamedParameter> parameters, const AdamWConfig& config)
{
    if (parameters.empty()) {
        return fail(Errc::FieldMissing, "the adaptation method leaves nothing to train", "optimizer");
    }
    std::vector<std::regex> expressions;
    for (const ParameterGroup& group : config.groups) {
        try {
            expressions.emplace_back(group.match);
        } catch (const std::regex_error& error) {
            return fail(Errc::FieldInvalid,
                        fmt::format("\"{}\" is not a regular expression: {}", group.match, error.what()),
                        "optimizer.groups");
        }
    }

    const at::NoGradGuard noGrad;
    std::unique_ptr<AdamW> optimizer(new AdamW);
    optimizer->m_config = config;
    optimizer->m_parameters = std::move(parameters);
    std::set<std::string> names;
    for (const models::NamedParameter& parameter : optimizer->m_parameters) {
        if (!names.insert(parameter.name).second) {
            return fail(Errc::FieldInvalid, "two trained parameters have the same name", parameter.name);
        }
        if (!parameter.tensor.is_floating_point()) {
            return fail(Errc::FieldInvalid, "only floating-point parameters can be trained", parameter.name);
        }
        Slot slot;
        const at::ScalarType own = parameter.tensor.scalar_type();
        at::Tensor value = parameter.tensor.detach(); // shares storage
        slot.master = own == masterType(own) ? value : value.to(masterType(own));
        slot.average = at::zeros_like(slot.master);
        slot.square = at::zeros_like(slot.master);
        slot.steps = at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(slot.master.device()));
        if (config.emaDecay > 0) {
            slot.ema = slot.master.clone();
        }
        slot.weightDecay = config.decayMatricesOnly && value.dim() < 2 ? 0.0 : config.weightDecay;
        for (std::size_t i = 0; i < expressions.size(); ++i) {
            if (std::regex_search(parameter.name, expressions[i])) {
                slot.lrScale = config.groups[i].lrScale;
                slot.weightDecay = config.groups[i].weightDecay < 0 ? slot.weightDecay : config.groups[i].weightDecay;
                break;
            }
        }
        parameter.tensor.requires_grad_(true);
        optimizer->m_slots.push_back(std::move(slot));
    }
    return optimizer;
}

void AdamW::collectGradients()
{
    const at::NoGradGuard noGrad;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        Slot& slot = m_slots[i];
        at::Tensor& own = m_parameters[i].tensor.mutable_grad();
        if (!own.defined() || own.scalar_type() == slot.master.scalar_type()) {
            continue; // autograd itself adds up
        }
        if (slot.gradient.defined()) {
            slot.gradient.add_(own);
        } else {
            slot.gradient = own.to(slot.master.scalar_type());
        }
        own = at::Tensor();
    }
}

void AdamW::finishGradients()
{
    collectGradients();
    const at::NoGradGuard noGrad;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        at::Tensor& own = m_parameters[i].tensor.mutable_grad();
        Slot& slot = m_slots[i];
        if (own.defined()) {
            slot.gradient = own;
        } else if (slot.gradient.defined()) {
            own = slot.gradient.to(m_parameters[i].tensor.scalar_type());
        }
    }
}

void AdamW::forEachGradient(const std::function<void(const std::string&, at::Tensor&)>& visit)
{
    const at::NoGradGuard noGrad;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        if (m_slots[i].gradient.defined()) {
            visit(m_parameters[i].name, m_slots[i].gradient);
        }
    }
}

double AdamW::gradientNorm() const
{
    return gradientNorm([](const std::string&) { return true; });
}

double AdamW::gradientNorm(const std::function<bool(const std::string&)>& pick) const
{
    const at::NoGradGuard noGrad;
    std::vector<at::Tensor> gradients;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        if (m_slots[i].gradient.defined() && pick(m_parameters[i].name)) {
            gradients.push_back(m_slots[i].gradient);
        }
    }
    return gradients.empty() ? 0.0 : totalNorm(gradients);
}

double AdamW::weightNorm(const std::function<bool(const std::string&)>& pick) const
{
    const at::NoGradGuard noGrad;
    std::vector<at::Tensor> weights;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        if (pick(m_parameters[i].name)) {
            weights.push_back(m_slots[i].master);
        }
    }
    return weights.empty() ? 0.0 : totalNorm(weights);
}

std::vector<std::string> AdamW::nonFiniteGradients() const
{
    const at::NoGradGuard noGrad;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        if (m_slots[i].gradient.defined() && !at::isfinite(m_slots[i].gradient).all().item<bool>()) {
            names.push_back(m_parameters[i].name);
        }
    }
    return names;
}

void AdamW::step(double lr, double norm)
{
    const at::NoGradGuard noGrad;
    struct Batch {
        std::vector<at::Tensor> masters, gradients, averages, squares, steps;
    };
    std::map<std::tuple<at::ScalarType, double, double>, Batch> batches; // dtype, rate, decay
    for (Slot& slot : m_slots) {
        if (!slot.gradient.defined()) {
            continue;
        }
        Batch& batch = batches[{ slot.master.scalar_type(), lr * slot.lrScale, slot.weightDecay }];
        batch.masters.push_back(slot.master);
        batch.gradients.push_back(slot.gradient);
        batch.averages.push_back(slot.average);
        batch.squares.push_back(slot.square);
        batch.steps.push_back(slot.steps);
    }
    // torch computes the factor in the norm's own dtype, f32.
    const float factor = static_cast<float>(m_config.clipNorm) / (static_cast<float>(norm) + 1e-6F);
    for (auto& [key, batch] : batches) {
        if (m_config.clipNorm > 0 && factor < 1.0F) {
            at::_foreach_mul_(batch.gradients, static_cast<double>(factor));
        }
        at::_foreach_add_(batch.steps, 1);
        at::_fused_adamw_(batch.masters, batch.gradients, batch.averages, batch.squares, {}, batch.steps,
                          std::get<1>(key), m_config.beta1, m_config.beta2, std::get<2>(key), m_config.eps, false,
                          false);
    }
    publish();
    updateAverage();
    zeroGradients();
}

void AdamW::publish()
{
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        if (m_slots[i].master.scalar_type() != m_parameters[i].tensor.scalar_type()) {
            m_parameters[i].tensor.detach().copy_(m_slots[i].master);
        }
    }
}

void AdamW::updateAverage()
{
    if (m_config.emaDecay <= 0) {
        return;
    }
    const auto n = static_cast<double>(m_emaSteps++);
    const double decay = m_config.emaWarmup ? std::min(m_config.emaDecay, (1.0 + n) / (10.0 + n)) : m_config.emaDecay;
    std::map<at::ScalarType, std::pair<std::vector<at::Tensor>, std::vector<at::Tensor>>> lists;
    for (const Slot& slot : m_slots) {
        auto& [averages, masters] = lists[slot.master.scalar_type()];
        averages.push_back(slot.ema);
        masters.push_back(slot.master);
    }
    for (auto& [type, list] : lists) {
        at::_foreach_lerp_(list.first, list.second, 1.0 - decay);
    }
}

void AdamW::zeroGradients()
{
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        m_slots[i].gradient = at::Tensor();
        m_parameters[i].tensor.mutable_grad() = at::Tensor();
    }
}

std::map<std::string, at::Tensor> AdamW::averagedWeights() const
{
    std::map<std::string, at::Tensor> weights;
    if (m_config.emaDecay > 0) {
        for (std::size_t i = 0; i < m_slots.size(); ++i) {
            weights[m_parameters[i].name] = m_slots[i].ema.to(m_parameters[i].tensor.scalar_type());
        }
    }
    return weights;
}

AdamW::AveragedScope::AveragedScope(AdamW& optimizer) : m_optimizer(optimizer)
{
    if (m_optimizer.m_config.emaDecay > 0) {
        const at::NoGradGuard noGrad;
        for (std::size_t i = 0; i < m_optimizer.m_slots.size(); ++i) {
            Slot& slot = m_optimizer.m_slots[i];
            at::Tensor parameter = m_optimizer.m_parameters[i].tensor.detach();
            if (slot.master.scalar_type() == parameter.scalar_type()) {
                slot.master = slot.master.clone(); // keeps the trained values for the way back
            }
            parameter.copy_(slot.ema);
        }
    }
}

AdamW::AveragedScope::~AveragedScope()
{
    if (m_optimizer.m_config.emaDecay > 0) {
        const at::NoGradGuard noGrad;
        for (std::size_t i = 0; i < m_optimizer.m_slots.size(); ++i) {
            Slot& slot = m_optimizer.m_slots[i];
            at::Tensor parameter = m_optimizer.m_parameters[i].tensor.detach();
            parameter.copy_(slot.master);
            if (slot.master.scalar_type() == parameter.scalar_type()) {
                slot.master = parameter;
            }
        }
    }
}

std::map<std::string, at::Tensor> AdamW::state() const
{
    std::map<std::string, at::Tensor> state;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        const std::string& name = m_parameters[i].name;
        const Slot& slot = m_slots[i];
        state["master." + name] = slot.master;
        state["exp_avg." + name] = slot.average;
        state["exp_avg_sq." + name] = slot.square;
        state["step." + name] = slot.steps.to(at::kLong);
        if (slot.ema.defined()) {
            state["ema." + name] = slot.ema;
        }
    }
    state["ema_steps"] = at::scalar_tensor(m_emaSteps, at::TensorOptions().dtype(at::kLong));
    return state;
}

Result<void> AdamW::restore(const std::map<std::string, at::Tensor>& state)
{
    const auto find = [&](const std::string& key, at::IntArrayRef shape) -> Result<at::Tensor> {
        const auto found = state.find(key);
        if (found == state.end()) {
            return fail(Errc::TensorNotFound, "the checkpoint lacks this part of the optimiser's state", key);
        }
        if (found->second.sizes() != shape) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("has shape {} in the checkpoint and {} in this run", shapeText(found->second),
                                    shapeText(at::empty(shape, at::TensorOptions().device(at::kMeta)))),
                        key);
        }
        return found->second;
    };

    std::vector<std::array<at::Tensor, 5>> found;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        const Slot& slot = m_slots[i];
        std::array<at::Tensor, 5> parts;
        for (std::size_t kind = 0; kind < kStateKinds.size(); ++kind) {
            const bool scalar = std::string_view(kStateKinds[kind]) == "step";
            RW_TRY(parts[kind],
                   find(std::string(kStateKinds[kind]) + "." + m_parameters[i].name,
                        scalar ? at::IntArrayRef() : slot.master.sizes()));
        }
        if (slot.ema.defined()) {
            RW_TRY(parts[4], find("ema." + m_parameters[i].name, slot.master.sizes()));
        }
        found.push_back(std::move(parts));
    }
    RW_TRY(const at::Tensor emaSteps, find("ema_steps", {}));

    const at::NoGradGuard noGrad;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        Slot& slot = m_slots[i];
        slot.master.copy_(found[i][0]);
        slot.average.copy_(found[i][1]);
        slot.square.copy_(found[i][2]);
        slot.steps.copy_(found[i][3]);
        if (slot.ema.defined()) {
            slot.ema.copy_(found[i][4]);
        }
    }
    m_emaSteps = emaSteps.item<std::int64_t>();
    publish();
    zeroGradients();
    return {};
}

std::int64_t AdamW::elementCount() const
{
    std::int64_t count = 0;
    for (const models::NamedParameter& parameter : m_parameters) {
        count += parameter.tensor.numel();
    }
    return count;
}

} // namespace rankwise::train
