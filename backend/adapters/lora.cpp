// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora.h"

#include "backend/adapters/attachment.h"
#include "backend/adapters/peft_folder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

LoraLayer::LoraLayer(at::Tensor a, at::Tensor b, double scaling, double dropoutProbability,
                     std::shared_ptr<AdapterRandom> random)
    : down(std::move(a)), up(std::move(b)), scale(scaling), m_dropout(dropoutProbability), m_random(std::move(random))
{
    down.set_requires_grad(true);
    up.set_requires_grad(true);
}

at::Tensor LoraLayer::forward(const models::Linear& base, const at::Tensor& x)
{
    const at::Tensor plain = x.dim() == 2 ? x : x.reshape({ -1, x.size(-1) });
    at::Tensor y = base.forwardBase(plain); // [T, out]
    at::Tensor rows = plain.scalar_type() == down.scalar_type() ? plain : plain.to(down.scalar_type());
    if (m_dropout > 0 && at::GradMode::is_enabled()) {
        rows = m_random->dropout(rows, m_dropout);
    }
    const at::Tensor h = at::linear(rows, down); // [T, r]
    // In place: y is the fresh result of a product whose gradient does not need it.
    if (y.scalar_type() == h.scalar_type() && y.scalar_type() == up.scalar_type()) {
        y.addmm_(h, up.t(), 1, scale);
    } else {
        y = y + (at::linear(h, up) * scale).to(y.scalar_type());
    }
    if (x.dim() == 2) {
        return y;
    }
    std::vector<std::int64_t> sizes = x.sizes().vec();
    sizes.back() = y.size(1);
    return y.view(sizes);
}

namespace {

constexpr std::array kTypes { std::pair { "float32", at::kFloat }, std::pair { "float64", at::kDouble },
                              std::pair { "bfloat16", at::kBFloat16 } };

struct LoraOptions {
    std::int64_t rank = 16;
    double alpha = 32;
    bool rankStabilized = false;
    double dropout = 0;
    bool gaussian = false;
    at::ScalarType type = at::kFloat;
    std::vector<std::pair<std::string, double>> rankPattern;
    std::vector<std::pair<std::string, double>> alphaPattern;
    TargetOptions targets;
};

class LoraMethod final : public AdaptationMethod {
public:
    explicit LoraMethod(LoraOptions options) : m_options(std::move(options)) { }

    [[nodiscard]] std::string_view name() const override { return "lora"; }

    [[nodiscard]] Result<void> attach(models::Policy& policy, std::uint64_t seed) override
    {
        RW_TRY(const PatternTable ranks, PatternTable::make(m_options.rankPattern, "rank_pattern"));
        RW_TRY(const PatternTable alphas, PatternTable::make(m_options.alphaPattern, "alpha_pattern"));
        RW_TRY(const auto chosen, selectTargets(policy, m_options.targets));
        std::map<std::string, std::pair<std::int64_t, double>> sizes;
        for (const models::Linear& linear : chosen) {
            RW_TRY(const std::optional<double> rank, ranks.find(linear.path));
            RW_TRY(const std::optional<double> alpha, alphas.find(linear.path));
            sizes[linear.path] = { static_cast<std::int64_t>(rank.value_or(static_cast<double>(m_options.rank))),
                                   alpha.value_or(m_options.alpha) };
        }
        m_random = std::make_shared<AdapterRandom>(seed);
        return m_attachment.attach(policy, m_options.targets, [&](const models::Linear& linear) {
            const auto [rank, alpha] = sizes.at(linear.path);
            return makeLayer(linear, rank, alpha);
        });
    }

    void detach(models::Policy& policy) override { m_attachment.detach(policy); }

    [[nodiscard]] std::vector<models::NamedParameter> trainable() const override
    {
        std::vector<models::NamedParameter> parameters;
        for (const Attachment::Layer& entry : m_attachment.layers()) {
            const LoraLayer& layer = layerOf(entry);
            parameters.push_back({ entry.linear->path + ".lora_A.weight", layer.down });
            parameters.push_back({ entry.linear->path + ".lora_B.weight", layer.up });
        }
        for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
            parameters.push_back(parameter);
        }
        return parameters;
    }

    [[nodiscard]] std::map<std::string, at::Tensor> state() const override
    {
        return m_random ? std::map<std::string, at::Tensor> { { "rng", m_random->state() } }
                        : std::map<std::string, at::Tensor> {};
    }

    [[nodiscard]] Result<void> restoreState(const std::map<std::string, at::Tensor>& state) override
    {
        RW_CHECK(m_random != nullptr);
        const auto rng = state.find("rng");
        if (rng == state.end()) {
            return fail(Errc::TensorNotFound, "is missing from the adapter's state", "rng");
        }
        return m_random->restore(rng->second);
    }

    [[nodiscard]] Json config() const override
    {
        Json json { { "type", "lora" },
                    { "r", m_options.rank },
                    { "alpha", m_options.alpha },
                    { "rslora", m_options.rankStabilized },
                    { "dropout", m_options.dropout },
                    { "init", m_options.gaussian ? "gaussian" : "default" } };
        for (const auto& [name, type] : kTypes) {
            if (type == m_options.type) {
                json["param_dtype"] = name;
            }
        }
        for (const auto& [key, entries] : { std::pair { "rank_pattern", &m_options.rankPattern },
                                            std::pair { "alpha_pattern", &m_options.alphaPattern } }) {
            for (const auto& [path, value] : *entries) {
                json[key][path] = value;
            }
        }
        writeTargetOptions(m_options.targets, json);
        return json;
    }

    [[nodiscard]] Result<void> save(const std::filesystem::path& folder, const std::string& baseModel) const override
    {
        RW_CHECK(m_attachment.attached());
        std::vector<PeftOutput> modules;
        for (const Attachment::Layer& entry : m_attachment.layers()) {
            const LoraLayer& layer = layerOf(entry);
            modules.push_back({ entry.linear->path, layer.down, layer.up, layer.alpha });
        }
        PeftWriteOptions options;
        options.targetModules = peftTargets(m_options.targets, m_attachment.paths(), m_attachment.allPaths());
        options.baseModel = baseModel;
        options.rankStabilized = m_options.rankStabilized;
        options.dropout = m_options.dropout;
        options.modulesToSave = m_options.targets.modulesToSave;
        options.type = m_options.type;
        for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
            options.saved[parameter.name] = parameter.tensor;
        }
        return writePeftFolder(folder, modules, options);
    }

    [[nodiscard]] Result<void> load(const std::filesystem::path& path) override
    {
        RW_CHECK(m_attachment.attached());
        RW_TRY(PeftFolder folder, readPeftFolder(path));
        if (folder.type != "LORA" || folder.dora || !folder.baseChanging.empty() || !folder.tokens.empty()) {
            return fail(Errc::Unsupported, "is no plain LoRA adapter; merge it into the base weights instead",
                        path.string());
        }
        std::map<std::string, PeftModule*> byPath;
        for (PeftModule& module : folder.modules) {
            byPath[module.path] = &module;
        }
        RW_TRY_VOID(checkModules(byPath, path.string()));
        RW_TRY_VOID(checkSaved(folder, path.string()));
        const at::NoGradGuard noGrad;
        for (const Attachment::Layer& entry : m_attachment.layers()) {
            const PeftModule& module = *byPath.at(entry.linear->path);
            LoraLayer& layer = layerOf(entry);
            layer.scale = module.scale;
            layer.alpha = module.alpha;
            assign(layer.down, module.a);
            assign(layer.up, module.b);
        }
        for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
            parameter.tensor.copy_(folder.saved.at(parameter.name));
        }
        m_options.rankStabilized = folder.rankStabilized;
        return {};
    }

    [[nodiscard]] Result<void> merge(models::Policy& policy) override
    {
        {
            const at::NoGradGuard noGrad;
            for (const Attachment::Layer& entry : m_attachment.layers()) {
                const LoraLayer& layer = layerOf(entry);
                PeftModule module;
                module.path = entry.linear->path;
                module.a = layer.down.detach();
                module.b = layer.up.detach();
                module.scale = layer.scale;
                RW_TRY(const at::Tensor merged, peftMergedWeight(module, entry.linear->weight));
                entry.linear->weight.copy_(merged);
            }
        }
        detach(policy);
        return {};
    }

private:
    static LoraLayer& layerOf(const Attachment::Layer& entry) { return static_cast<LoraLayer&>(*entry.adapter); }

    /// In place where the shape allows, so that an optimiser keeps its parameter.
    static void assign(at::Tensor& target, const at::Tensor& value)
    {
        if (target.sizes() == value.sizes()) {
            target.copy_(value);
        } else {
            target = value.to(target.options()).clone().set_requires_grad(true);
        }
    }

    std::shared_ptr<LoraLayer> makeLayer(const models::Linear& linear, std::int64_t rank, double alpha)
    {
        const auto r = static_cast<double>(rank);
        const std::int64_t in = linear.inFeatures();
        const at::Device device = linear.weight.device();
        at::Tensor down = m_options.gaussian
            ? m_random->normal(rank, in, 1 / r, m_options.type)
            : m_random->uniform(rank, in, 1 / std::sqrt(static_cast<double>(in)), m_options.type);
        at::Tensor up =
            at::zeros({ linear.outFeatures(), rank }, at::TensorOptions().dtype(m_options.type).device(device));
        const double scaling = alpha / (m_options.rankStabilized ? std::sqrt(r) : r);
        auto layer = std::make_shared<LoraLayer>(down.to(device), up, scaling, m_options.dropout, m_random);
        layer->alpha = alpha;
        return layer;
    }

    [[nodiscard]] Result<void> checkModules(const std::map<std::string, PeftModule*>& byPath,
                                            const std::string& file) const
    {
        for (const auto& [modulePath, module] : byPath) {
            const auto matches = [&, wanted = &modulePath](const auto& e) { return e.linear->path == *wanted; };
            if (std::ranges::none_of(m_attachment.layers(), matches)) {
                return fail(Errc::TensorNotFound, "is in the adapter, but not adapted here", file + ": " + modulePath);
            }
            if (module->upBias.defined() || module->baseBias.defined()) {
                return fail(Errc::Unsupported, "holds trained biases; merge it into the base weights instead",
                            file + ": " + modulePath);
            }
        }
        for (const Attachment::Layer& entry : m_attachment.layers()) {
            const auto module = byPath.find(entry.linear->path);
            if (module == byPath.end()) {
                return fail(Errc::TensorNotFound, "is adapted here, but not in the adapter",
                            file + ": " + entry.linear->path);
            }
            if (module->second->kind != PeftModule::Kind::Linear || module->second->transposed
                || module->second->a.size(1) != entry.linear->inFeatures()
                || module->second->b.size(0) != entry.linear->outFeatures()) {
                return fail(Errc::ShapeMismatch, "does not fit the layer of the policy",
                            file + ": " + entry.linear->path);
            }
        }
        return {};
    }

    [[nodiscard]] Result<void> checkSaved(const PeftFolder& folder, const std::string& file) const
    {
        for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
            const auto stored = folder.saved.find(parameter.name);
            if (stored == folder.saved.end()) {
                return fail(Errc::TensorNotFound, "is trained whole here, but not in the adapter",
                            file + ": " + parameter.name);
            }
            if (stored->second.sizes() != parameter.tensor.sizes()) {
                return fail(Errc::ShapeMismatch, "does not fit the parameter of the policy",
                            file + ": " + parameter.name);
            }
        }
        for (const auto& [parameterName, tensor] : folder.saved) {
            const auto matches = [&, wanted = &parameterName](const models::NamedParameter& p) {
                return p.name == *wanted;
            };
            if (std::ranges::none_of(m_attachment.savedParameters(), matches)) {
                return fail(Errc::TensorNotFound, "is in the adapter, but not trained whole here",
                            file + ": " + parameterName);
            }
        }
        return {};
    }

    LoraOptions m_options;
    Attachment m_attachment;
    std::shared_ptr<AdapterRandom> m_random;
};

void readPattern(FieldReader& reader, const char* key, bool ranks, std::vector<std::pair<std::string, double>>& entries)
{
    const Json* pattern = reader.find(key);
    if (!pattern) {
        return;
    }
    if (!pattern->is_object()) {
        reader.reject(key, "must be an object");
        return;
    }
    for (const auto& [path, value] : pattern->items()) {
        if (ranks ? !value.is_number_integer() || value.get<std::int64_t>() < 1 : !value.is_number()) {
            reader.reject(key, fmt::format("\"{}\" must be {}", path, ranks ? "a positive whole number" : "a number"));
            return;
        }
        entries.emplace_back(path, value.get<double>());
    }
}

} // namespace

std::unique_ptr<AdaptationMethod> makeLora(FieldReader& reader)
{
    LoraOptions options;
    reader.optional("r", options.rank, 1, 1 << 20);
    options.alpha = 2 * static_cast<double>(options.rank);
    reader.optional("lora_alpha", options.alpha);
    reader.optional("alpha", options.alpha);
    reader.optional("use_rslora", options.rankStabilized);
    reader.optional("rslora", options.rankStabilized);
    reader.optional("lora_dropout", options.dropout, 0.0, 0.99);
    reader.optional("dropout", options.dropout, 0.0, 0.99);
    std::string init = "default";
    if (const Json* stored = reader.find("init_lora_weights"); stored && stored->is_string()) {
        init = stored->get<std::string>();
    }
    reader.optional("init", init);
    if (init != "default" && init != "gaussian") {
        reader.reject("init", fmt::format("is \"{}\"; known: default, gaussian", init));
    }
    options.gaussian = init == "gaussian";
    std::string type = "float32";
    reader.optional("param_dtype", type);
    const auto found = std::ranges::find(kTypes, type, [](const auto& entry) { return std::string(entry.first); });
    if (found == kTypes.end()) {
        reader.reject("param_dtype", fmt::format("is \"{}\"; known: float32, float64, bfloat16", type));
    } else {
        options.type = found->second;
    }
    readPattern(reader, "rank_pattern", true, options.rankPattern);
    readPattern(reader, "alpha_pattern", false, options.alphaPattern);
    readTargetOptions(reader, options.targets);
    return std::make_unique<LoraMethod>(std::move(options));
}

} // namespace rankwise::adapters
