// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/full.h"

#include "backend/adapters/attachment.h"
#include "backend/adapters/target_selection.h"
#include "backend/base/file.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

constexpr std::array kGroups { models::LayerGroup::Vision, models::LayerGroup::Language, models::LayerGroup::Action,
                               models::LayerGroup::Projection };

struct FullOptions {
    bool byConfig = false;
    std::vector<std::string> freeze;
    std::vector<std::string> freezeModules;
};

class FullMethod final : public AdaptationMethod {
public:
    explicit FullMethod(FullOptions options) : m_options(std::move(options)) { }

    [[nodiscard]] std::string_view name() const override { return "full"; }

    [[nodiscard]] Result<void> attach(models::Policy& policy, std::uint64_t) override
    {
        const auto groups = parameterGroups(policy);
        std::set<std::string> dead;
        for (const models::Linear& linear : policy.linears()) {
            if (linear.deadEnd) {
                dead.insert(linear.path + ".weight");
                dead.insert(linear.path + ".bias");
            }
        }
        std::vector<models::NamedParameter> chosen;
        for (const models::NamedParameter& parameter : policy.parameters()) {
            const bool frozen = dead.contains(parameter.name) || !parameter.tensor.is_floating_point()
                || (m_options.byConfig && !parameter.trainableByConfig)
                || std::ranges::find(m_options.freeze, groupName(groups.at(parameter.name))) != m_options.freeze.end()
                || std::ranges::any_of(m_options.freezeModules, [&](const std::string& module) {
                                    return parameter.name.starts_with(module + ".")
                                        || endsAtDot(parameter.name.substr(0, parameter.name.rfind('.')), module);
                                });
            if (!frozen) {
                chosen.push_back(parameter);
            }
        }
        if (chosen.empty()) {
            return fail(Errc::FieldInvalid, "everything is frozen; leave out some of freeze or freeze_modules", "full");
        }
        for (const models::NamedParameter& parameter : policy.parameters()) {
            m_wasTrainable[parameter.name] = parameter.tensor.requires_grad();
            if (parameter.tensor.is_floating_point()) {
                parameter.tensor.set_requires_grad(false);
            }
        }
        for (const models::NamedParameter& parameter : chosen) {
            parameter.tensor.set_requires_grad(true);
        }
        m_parameters = std::move(chosen);
        policy.weightsChanged();
        m_policy = &policy;
        return {};
    }

    void detach(models::Policy& policy) override
    {
        for (const models::NamedParameter& parameter : policy.parameters()) {
            if (const auto flag = m_wasTrainable.find(parameter.name);
                flag != m_wasTrainable.end() && parameter.tensor.is_floating_point()) {
                parameter.tensor.set_requires_grad(flag->second);
            }
        }
        m_parameters.clear();
        m_wasTrainable.clear();
        m_policy = nullptr;
        policy.weightsChanged();
    }

    [[nodiscard]] std::vector<models::NamedParameter> trainable() const override { return m_parameters; }

    [[nodiscard]] Json config() const override
    {
        return Json { { "type", "full" },
                      { "trainable", m_options.byConfig ? "config" : "all" },
                      { "freeze", m_options.freeze },
                      { "freeze_modules", m_options.freezeModules } };
    }

    [[nodiscard]] Result<void> save(const std::filesystem::path& folder, const std::string& baseModel) const override
    {
        Json json = config();
        json["peft_type"] = "FULL";
        json["base_model_name_or_path"] = baseModel;
        RW_TRY_VOID(writeFileAtomically(folder / "adapter_config.json", jsonText(json)));
        tensor::TensorMap tensors;
        for (const models::NamedParameter& parameter : m_parameters) {
            tensors[parameter.name] = parameter.tensor.detach();
        }
        return tensor::saveTensors(folder / "adapter_model.safetensors", tensors, { { "format", "pt" } });
    }

    [[nodiscard]] Result<void> load(const std::filesystem::path& folder) override
    {
        RW_TRY(const tensor::TensorFile file, tensor::TensorFile::open(folder / "adapter_model.safetensors"));
        std::vector<std::pair<at::Tensor, at::Tensor>> changes;
        for (const models::NamedParameter& parameter : m_parameters) {
            RW_TRY(at::Tensor stored, file.tensor(parameter.name));
            if (stored.sizes() != parameter.tensor.sizes()) {
                return fail(Errc::ShapeMismatch, "has another shape than the policy's", parameter.name);
            }
            changes.emplace_back(parameter.tensor, std::move(stored));
        }
        const at::NoGradGuard noGrad;
        for (auto& [target, value] : changes) {
            target.copy_(value);
        }
        if (m_policy) {
            m_policy->weightsChanged();
        }
        return {};
    }

    /// The weights are the policy's own already.
    [[nodiscard]] Result<void> merge(models::Policy& policy) override
    {
        detach(policy);
        return {};
    }

private:
    FullOptions m_options;
    std::vector<models::NamedParameter> m_parameters;
    std::map<std::string, bool> m_wasTrainable;
    models::Policy* m_policy = nullptr;
};

} // namespace

std::unique_ptr<AdaptationMethod> makeFull(FieldReader& reader)
{
    FullOptions options;
    std::string trainable = "all";
    reader.optional("trainable", trainable);
    if (trainable != "all" && trainable != "config") {
        reader.reject("trainable", fmt::format("is \"{}\"; known: all, config", trainable));
    }
    options.byConfig = trainable == "config";
    reader.optional("freeze", options.freeze);
    for (const std::string& group : options.freeze) {
        if (std::ranges::none_of(kGroups, [&](models::LayerGroup g) { return groupName(g) == group; })) {
            reader.reject("freeze",
                          fmt::format("\"{}\" is no part; known: vision, language, action, projection", group));
        }
    }
    reader.optional("freeze_modules", options.freezeModules);
    return std::make_unique<FullMethod>(std::move(options));
}

} // namespace rankwise::adapters
