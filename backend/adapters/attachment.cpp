// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/attachment.h"

#include <algorithm>
#include <utility>

namespace rankwise::adapters {

Result<void> Attachment::attach(models::Policy& policy, const TargetOptions& options, const Factory& factory)
{
    RW_TRY(const auto chosen, selectTargets(policy, options));
    for (const models::Linear& linear : chosen) {
        if (linear.adapter) {
            return fail(Errc::AlreadyExists, "already has an adapter; detach the other method first", linear.path);
        }
    }
    std::vector<ModulePattern> patterns;
    for (const std::string& module : options.modulesToSave) {
        RW_TRY(ModulePattern pattern,
               ModulePattern::compile("(?:.*\\.)?(?:" + module + ")(?:\\..*)?", "modules_to_save"));
        patterns.push_back(std::move(pattern));
    }
    std::vector<models::NamedParameter> saved;
    const std::vector<models::NamedParameter> parameters = policy.parameters();
    for (std::size_t i = 0; i < patterns.size(); ++i) {
        std::size_t hits = 0;
        for (const models::NamedParameter& parameter : parameters) {
            const std::string module = parameter.name.substr(0, parameter.name.rfind('.'));
            RW_TRY(const bool hit, patterns[i].matchesWhole(module));
            hits += hit ? 1 : 0;
            const bool known = std::ranges::any_of(saved, [&](const auto& s) { return s.name == parameter.name; });
            if (hit && !known) {
                saved.push_back(parameter);
            }
        }
        if (hits == 0) {
            return fail(Errc::FieldInvalid, "matches no module of the policy",
                        "modules_to_save: " + options.modulesToSave[i]);
        }
    }

    for (const models::NamedParameter& parameter : parameters) {
        m_wasTrainable[parameter.name] = parameter.tensor.requires_grad();
        parameter.tensor.set_requires_grad(false);
    }
    m_saved = std::move(saved);
    for (const models::NamedParameter& parameter : m_saved) {
        parameter.tensor.set_requires_grad(true);
    }
    for (const std::reference_wrapper<models::Linear> linear : policy.linears()) {
        m_allPaths.push_back(linear.get().path);
    }
    for (models::Linear& linear : chosen) {
        linear.adapter = factory(linear);
        m_layers.push_back({ &linear, linear.adapter });
    }
    policy.weightsChanged();
    return {};
}

void Attachment::detach(models::Policy& policy)
{
    for (const Layer& layer : m_layers) {
        layer.linear->adapter.reset();
    }
    for (const models::NamedParameter& parameter : policy.parameters()) {
        if (const auto flag = m_wasTrainable.find(parameter.name); flag != m_wasTrainable.end()) {
            parameter.tensor.set_requires_grad(flag->second);
        }
    }
    m_layers.clear();
    m_allPaths.clear();
    m_saved.clear();
    m_wasTrainable.clear();
    policy.weightsChanged();
}

std::vector<std::string> Attachment::paths() const
{
    std::vector<std::string> paths;
    for (const Layer& layer : m_layers) {
        paths.push_back(layer.linear->path);
    }
    return paths;
}

namespace {

/// Leading components that two dotted names share.
std::size_t sharedComponents(std::string_view a, std::string_view b)
{
    std::size_t shared = 0;
    std::size_t i = 0;
    for (; i < std::min(a.size(), b.size()) && a[i] == b[i]; ++i) {
        shared += a[i] == '.' ? 1U : 0U;
    }
    return shared;
}

} // namespace

std::map<std::string, models::LayerGroup> parameterGroups(models::Policy& policy)
{
    const auto linears = policy.linears();
    std::map<std::string, models::LayerGroup> groups;
    for (const models::NamedParameter& parameter : policy.parameters()) {
        std::size_t best = 0;
        models::LayerGroup group = models::LayerGroup::Projection;
        for (const models::Linear& linear : linears) {
            // The dot at the end lets "a.b" share two components with "a.b.weight".
            const std::size_t shared = sharedComponents(linear.path + ".", parameter.name);
            if (shared > best) {
                best = shared;
                group = linear.group;
            }
        }
        groups[parameter.name] = group;
    }
    return groups;
}

std::string_view groupName(models::LayerGroup group)
{
    switch (group) {
    case models::LayerGroup::Vision:
        return "vision";
    case models::LayerGroup::Language:
        return "language";
    case models::LayerGroup::Action:
        return "action";
    case models::LayerGroup::Projection:
        return "projection";
    }
    return "projection";
}

} // namespace rankwise::adapters
