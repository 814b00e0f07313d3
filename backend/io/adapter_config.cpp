// Fields of adapter_config.json and the rules by which they choose modules and ranks.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/adapter_config.h"

#include "backend/base/file.h"
#include "backend/io/safetensors_reader.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kMaxRank = 1 << 20;
constexpr std::int64_t kMaxSteps = 1'000'000'000'000;

/// Keys of PEFT's writers that have no member; known, so that they are not reported as unknown.
const std::set<std::string, std::less<>>& passiveKeys()
{
    static const std::set<std::string, std::less<>> keys {
        "alora_invocation_tokens",
        "arrow_config",
        "auto_mapping",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "inference_mode",
        "kasa_config",
        "layer_replication",
        "loftq_config",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "monteclora_config",
        "peft_version",
        "qalora_group_size",
        "runtime_config",
        "trainable_token_indices",
        "use_bdlora",
        "use_qalora",
        "velora_config",
        "lora_bias",
    };
    return keys;
}

bool isOn(const Json& value)
{
    return !(value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_structured() && value.empty()));
}

std::vector<std::string> variantsOf(const Json& json)
{
    static const std::vector<std::string> keys {
        "alora_invocation_tokens", "arrow_config", "corda_config",   "eva_config",      "kasa_config",
        "layer_replication",       "loftq_config", "lora_ga_config", "megatron_config", "monteclora_config",
        "trainable_token_indices", "use_bdlora",   "use_qalora",     "velora_config",
    };
    std::vector<std::string> variants;
    for (const std::string& key : keys) {
        if (json.contains(key) && isOn(json.at(key))) {
            variants.push_back(key);
        }
    }
    return variants;
}

ModuleSelection readSelection(FieldReader& reader, std::string_view key)
{
    ModuleSelection selection;
    const Json* value = reader.find(key);
    if (value == nullptr) {
        return selection;
    }
    if (value->is_string()) {
        const auto text = value->get<std::string>();
        selection.kind = text == "all-linear" ? ModuleSelection::Kind::AllLinear : ModuleSelection::Kind::Pattern;
        selection.pattern = text == "all-linear" ? std::string() : text;
        return selection;
    }
    reader.require(key, selection.names);
    selection.kind = ModuleSelection::Kind::List;
    return selection;
}

OrderedJson selectionJson(const ModuleSelection& selection)
{
    switch (selection.kind) {
    case ModuleSelection::Kind::List:
        return selection.names;
    case ModuleSelection::Kind::Pattern:
        return selection.pattern;
    case ModuleSelection::Kind::AllLinear:
        return "all-linear";
    default:
        return nullptr;
    }
}

/// Pairs of a name and a value, in their order.
template <class Pairs> OrderedJson patternJson(const Pairs& pairs)
{
    OrderedJson json = OrderedJson::object();
    for (const auto& [name, value] : pairs) {
        json[name] = value;
    }
    return json;
}

/// {"name or expression": number}, in the file's order; `take` stores one and says what is wrong with it.
template <class Take>
void readPattern(FieldReader& reader, const OrderedJson& ordered, const std::string& key, const Take& take)
{
    const Json* value = reader.find(key);
    if (value == nullptr) {
        return;
    }
    if (!value->is_object()) {
        reader.reject(key, std::string("must be an object, not ") + value->type_name());
        return;
    }
    for (const auto& [name, number] : ordered.at(key).items()) {
        if (const char* problem = take(name, number)) {
            reader.reject(key + "." + displayName(name, 200), problem);
            return;
        }
    }
}

void readRankPattern(FieldReader& reader, const OrderedJson& ordered, AdapterConfig& config)
{
    readPattern(reader, ordered, "rank_pattern", [&config](const std::string& name, const OrderedJson& value) {
        if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > kMaxRank)
            || value.get<std::int64_t>() < 1) {
            return "is no rank of at least 1";
        }
        config.rankPattern.emplace_back(name, value.get<std::int64_t>());
        return static_cast<const char*>(nullptr);
    });
}

void readAdaLora(FieldReader& reader, const OrderedJson& ordered, AdapterConfig& config)
{
    AdaLoraFields& ada = config.adalora;
    reader.optional("target_r", ada.targetR, 0, kMaxRank);
    reader.optional("init_r", ada.initR, 1, kMaxRank);
    reader.optional("tinit", ada.tinit, 0, kMaxSteps);
    reader.optional("tfinal", ada.tfinal, 0, kMaxSteps);
    reader.optional("deltaT", ada.deltaT, 1, kMaxSteps);
    reader.optional("beta1", ada.beta1, 0.0, 1.0);
    reader.optional("beta2", ada.beta2, 0.0, 1.0);
    reader.optional("orth_reg_weight", ada.orthRegWeight);
    reader.require("total_step", ada.totalStep, 1, kMaxSteps);
    readPattern(reader, ordered, "rank_pattern", [&ada](const std::string& name, const OrderedJson& value) {
        const bool valid = value.is_array() && value.size() == static_cast<std::size_t>(ada.initR)
            && std::all_of(value.begin(), value.end(), [](const OrderedJson& item) { return item.is_boolean(); });
        if (!valid) {
            return "must be a list of init_r truth values";
        }
        ada.rankPattern[name] = value.get<std::vector<bool>>();
        return static_cast<const char*>(nullptr);
    });
    if (config.useDora) {
        reader.reject("use_dora", "is true, which AdaLoRA does not have");
    }
}

void readLayers(FieldReader& reader, AdapterConfig& config)
{
    const Json* layers = reader.find("layers_to_transform");
    if (layers != nullptr && layers->is_number()) {
        config.layersToTransform.resize(1);
        reader.require("layers_to_transform", config.layersToTransform.front(), 0, kMaxRank);
    } else {
        reader.optional("layers_to_transform", config.layersToTransform, 0, kMaxRank);
    }
    const Json* patterns = reader.find("layers_pattern");
    if (patterns != nullptr && patterns->is_string()) {
        config.layersPattern = { patterns->get<std::string>() };
    } else {
        reader.optional("layers_pattern", config.layersPattern);
    }
}

void readLora(FieldReader& reader, const OrderedJson& ordered, AdapterConfig& config)
{
    reader.optional("r", config.r, 1, kMaxRank);
    reader.optional("lora_alpha", config.loraAlpha);
    reader.optional("lora_dropout", config.loraDropout, 0.0, 1.0);
    reader.optional("bias", config.bias);
    if (config.bias != "none" && config.bias != "all" && config.bias != "lora_only") {
        reader.reject("bias", "must be \"none\", \"all\" or \"lora_only\"");
    }
    reader.optional("fan_in_fan_out", config.fanInFanOut);
    reader.optional("use_rslora", config.useRslora);
    reader.optional("use_dora", config.useDora);
    reader.optional("lora_bias", config.loraBias);
    if (const Json* init = reader.find("init_lora_weights"); init != nullptr) {
        if (!init->is_boolean() && !init->is_string()) {
            reader.reject("init_lora_weights", "must be true, false or the name of a method");
        }
        config.initLoraWeights = init->dump();
    }
    reader.optional("target_parameters", config.targetParameters);
    readLayers(reader, config);
    readPattern(reader, ordered, "alpha_pattern", [&config](const std::string& name, const OrderedJson& value) {
        if (!value.is_number()) {
            return "is no number";
        }
        config.alphaPattern.emplace_back(name, value.get<double>());
        return static_cast<const char*>(nullptr);
    });
    if (config.type == PeftType::AdaLora) {
        readAdaLora(reader, ordered, config);
    } else {
        readRankPattern(reader, ordered, config);
    }
    const ModuleSelection& targets = config.targetModules;
    const bool none = targets.kind == ModuleSelection::Kind::None
        || (targets.kind == ModuleSelection::Kind::List && targets.names.empty());
    if (none && config.targetParameters.empty()) {
        reader.reject("target_modules", "chooses no modules, and target_parameters no parameters", Errc::FieldMissing);
    }
}

void warnOfVariants(const AdapterConfig& config, const std::string& subject, std::vector<Warning>& warnings)
{
    if (const std::string init = config.baseChangingInit(); !init.empty()) {
        warnings.push_back({ fmt::format("was initialised by {}, which changes the base weights: it does not fit the "
                                         "published base model as it is",
                                         init),
                             subject });
    }
    for (const std::string& variant : config.variants) {
        if (variant != "trainable_token_indices" && variant != "loftq_config" && variant != "corda_config") {
            warnings.push_back({ fmt::format("uses {}, which is shown but not computed here", variant), subject });
        }
    }
    if (!config.targetParameters.empty()) {
        warnings.push_back({ "adapts parameters by target_parameters, which is shown but not computed here", subject });
    }
    if (config.loraAlpha == 0.0 && config.type == PeftType::Lora) {
        warnings.push_back({ "lora_alpha is 0: the adapter has no effect", subject });
    }
}

bool endsAtDot(std::string_view path, std::string_view name)
{
    return path == name
        || (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

/// Modules that are stored whole, and what is inside them, get no factors.
bool isSavedWhole(std::string_view path, const std::vector<std::string>& saved)
{
    return std::any_of(saved.begin(), saved.end(), [path](const std::string& name) {
        return endsAtDot(path, name) || path.starts_with(name + ".")
            || path.find("." + name + ".") != std::string_view::npos;
    });
}

} // namespace

std::string AdapterConfig::baseChangingInit() const
{
    const Json init = Json::parse(initLoraWeights, nullptr, false);
    if (!init.is_string()) {
        return {};
    }
    const auto name = init.get<std::string>();
    for (const std::string_view prefix : { "pissa", "olora", "corda", "lora_ga", "loftq", "mica" }) {
        if (name.starts_with(prefix)) {
            return name;
        }
    }
    return {};
}

double AdapterConfig::scale(std::int64_t rank, double alpha) const
{
    if (type == PeftType::AdaLora) {
        const double numerator = alpha > 0 ? alpha : static_cast<double>(rank);
        return numerator / (static_cast<double>(adalora.initR) + 1e-5);
    }
    const auto r_ = static_cast<double>(rank);
    return alpha / (useRslora ? std::sqrt(r_) : r_);
}

Result<AdapterConfig> parseAdapterConfig(std::string_view text, const std::string& subject,
                                         std::vector<Warning>& warnings)
{
    RW_TRY(const Json json, parseJson(text, subject));
    RW_TRY(const OrderedJson ordered, parseOrderedJson(text, subject));
    FieldReader reader(json, subject);
    AdapterConfig config;
    reader.require("peft_type", config.peftType);
    RW_TRY_VOID(reader.result());
    config.type = config.peftType == "LORA" ? PeftType::Lora
        : config.peftType == "ADALORA"      ? PeftType::AdaLora
                                            : PeftType::Other;
    reader.optional("base_model_name_or_path", config.baseModel);
    reader.optional("revision", config.revision);
    reader.optional("task_type", config.taskType);
    config.targetModules = readSelection(reader, "target_modules");
    config.excludeModules = readSelection(reader, "exclude_modules");
    reader.optional("modules_to_save", config.modulesToSave);
    if (config.type != PeftType::Other) {
        readLora(reader, ordered, config);
        config.variants = variantsOf(json);
    }
    RW_TRY_VOID(reader.result());
    const std::vector<std::string> rest = reader.unknownKeys();
    Json other = Json::object();
    for (const std::string& key : rest) {
        other[key] = json.at(key);
        if (config.type != PeftType::Other && !passiveKeys().contains(key)) {
            config.unknownKeys.push_back(key);
        }
    }
    config.otherFields = rest.empty() ? std::string() : other.dump();
    if (config.type == PeftType::Other) {
        warnings.push_back(
            { fmt::format("adapters of type \"{}\" are shown but not run here", displayName(config.peftType, 60)),
              subject });
        return config;
    }
    RW_TRY_VOID(AdapterMatcher::make(config, subject).map([](const AdapterMatcher&) {}));
    warnOfVariants(config, subject, warnings);
    return config;
}

Result<AdapterConfig> readAdapterConfig(const fs::path& fileOrFolder, std::vector<Warning>& warnings)
{
    std::error_code error;
    const fs::path path = fs::is_directory(fileOrFolder, error) ? fileOrFolder / "adapter_config.json" : fileOrFolder;
    RW_TRY(const std::string text, readFile(path));
    return parseAdapterConfig(text, path.string(), warnings);
}

OrderedJson adapterConfigJson(const AdapterConfig& config)
{
    std::map<std::string, OrderedJson> fields; // sorted keys, as PEFT writes them
    const OrderedJson other =
        config.otherFields.empty() ? OrderedJson::object() : OrderedJson::parse(config.otherFields, nullptr, false);
    for (const auto& [key, value] : other.items()) {
        fields[key] = value;
    }
    const auto nullable = [](const std::string& text) { return text.empty() ? OrderedJson() : OrderedJson(text); };
    const auto nullableList = [](const auto& list) { return list.empty() ? OrderedJson() : OrderedJson(list); };
    fields["peft_type"] = config.peftType;
    fields["base_model_name_or_path"] = nullable(config.baseModel);
    fields["revision"] = nullable(config.revision);
    fields["task_type"] = nullable(config.taskType);
    fields["target_modules"] = selectionJson(config.targetModules);
    fields["exclude_modules"] = selectionJson(config.excludeModules);
    fields["modules_to_save"] = nullableList(config.modulesToSave);
    if (config.type != PeftType::Other) {
        const bool whole = config.loraAlpha == std::floor(config.loraAlpha) && std::abs(config.loraAlpha) < 1e15;
        fields["r"] = config.r;
        fields["lora_alpha"] =
            whole ? OrderedJson(static_cast<std::int64_t>(config.loraAlpha)) : OrderedJson(config.loraAlpha);
        fields["lora_dropout"] = config.loraDropout;
        fields["bias"] = config.bias;
        fields["fan_in_fan_out"] = config.fanInFanOut;
        fields["use_rslora"] = config.useRslora;
        fields["use_dora"] = config.useDora;
        fields["lora_bias"] = config.loraBias;
        fields["init_lora_weights"] = OrderedJson::parse(config.initLoraWeights);
        fields["target_parameters"] = nullableList(config.targetParameters);
        fields["layers_to_transform"] = nullableList(config.layersToTransform);
        fields["layers_pattern"] = config.layersPattern.size() == 1 ? OrderedJson(config.layersPattern.front())
                                                                    : nullableList(config.layersPattern);
        fields["rank_pattern"] = patternJson(config.rankPattern); // the order decides which key wins
        fields["alpha_pattern"] = patternJson(config.alphaPattern);
    }
    if (config.type == PeftType::AdaLora) {
        const AdaLoraFields& ada = config.adalora;
        fields["target_r"] = ada.targetR;
        fields["init_r"] = ada.initR;
        fields["tinit"] = ada.tinit;
        fields["tfinal"] = ada.tfinal;
        fields["deltaT"] = ada.deltaT;
        fields["beta1"] = ada.beta1;
        fields["beta2"] = ada.beta2;
        fields["orth_reg_weight"] = ada.orthRegWeight;
        fields["total_step"] = ada.totalStep;
        fields["rank_pattern"] = patternJson(ada.rankPattern);
    }
    OrderedJson json = OrderedJson::object();
    for (auto& [key, value] : fields) {
        json[key] = std::move(value);
    }
    return json;
}

Result<AdapterMatcher> AdapterMatcher::make(const AdapterConfig& config, const std::string& subject)
{
    AdapterMatcher matcher(config);
    if (config.targetModules.kind == ModuleSelection::Kind::Pattern) {
        RW_TRY(matcher.m_target, PathPattern::compile(config.targetModules.pattern, subject + ": target_modules"));
    }
    if (config.excludeModules.kind == ModuleSelection::Kind::Pattern) {
        RW_TRY(matcher.m_exclude, PathPattern::compile(config.excludeModules.pattern, subject + ": exclude_modules"));
    }
    if (!config.layersToTransform.empty()) {
        const std::vector<std::string> layers =
            config.layersPattern.empty() ? std::vector<std::string> { "[^.]*" } : config.layersPattern;
        // Any list of layers: the outermost number counts. A list that is named: the innermost of that name.
        const std::string start = config.layersPattern.empty() ? ".*?\\." : ".*\\.";
        for (const std::string& layer : layers) {
            RW_TRY(PathPattern pattern,
                   PathPattern::compile(start + layer + "\\.(\\d+)\\.", subject + ": layers_pattern"));
            matcher.m_layers.push_back(std::move(pattern));
        }
    }
    const auto tail = [](const std::string& key) { return "(.*\\.)?(" + key + ")"; };
    for (const auto& [key, rank] : config.rankPattern) {
        RW_TRY(PathPattern pattern, PathPattern::compile(tail(key), subject + ": rank_pattern"));
        matcher.m_ranks.push_back(std::move(pattern));
    }
    for (const auto& [key, alpha] : config.alphaPattern) {
        RW_TRY(PathPattern pattern, PathPattern::compile(tail(key), subject + ": alpha_pattern"));
        matcher.m_alphas.push_back(std::move(pattern));
    }
    return matcher;
}

Result<bool> AdapterMatcher::targets(std::string_view path) const
{
    const auto inList = [path](const std::vector<std::string>& names) {
        return std::any_of(names.begin(), names.end(),
                           [path](const std::string& name) { return endsAtDot(path, name); });
    };
    if (m_exclude) {
        RW_TRY(const bool excluded, m_exclude->matches(path));
        if (excluded) {
            return false;
        }
    }
    if (inList(m_config.excludeModules.names) || isSavedWhole(path, m_config.modulesToSave)) {
        return false;
    }
    switch (m_config.targetModules.kind) {
    case ModuleSelection::Kind::None:
        return false;
    case ModuleSelection::Kind::AllLinear:
        return true;
    case ModuleSelection::Kind::Pattern:
        return m_target->matches(path);
    case ModuleSelection::Kind::List:
        break;
    }
    if (!inList(m_config.targetModules.names)) {
        return false;
    }
    // A name that is the whole path is meant as it is; layer restrictions are for endings.
    const auto& names = m_config.targetModules.names;
    if (m_layers.empty() || std::find(names.begin(), names.end(), path) != names.end()) {
        return true;
    }
    for (const PathPattern& layer : m_layers) {
        RW_TRY(const auto index, layer.capturedNumber(path));
        if (index) {
            const auto& wanted = m_config.layersToTransform;
            return std::find(wanted.begin(), wanted.end(), *index) != wanted.end();
        }
    }
    return false;
}

Result<std::int64_t> AdapterMatcher::rank(std::string_view path) const
{
    if (m_config.type == PeftType::AdaLora) {
        for (const std::string_view prefix : { "", "base_model.model.", "model." }) {
            const auto found = m_config.adalora.rankPattern.find(std::string(prefix) + std::string(path) + ".lora_E");
            if (found != m_config.adalora.rankPattern.end()) {
                return std::count(found->second.begin(), found->second.end(), true);
            }
        }
        return m_config.adalora.initR;
    }
    for (std::size_t i = 0; i < m_ranks.size(); ++i) {
        RW_TRY(const bool matches, m_ranks[i].matches(path));
        if (matches) {
            return m_config.rankPattern[i].second;
        }
    }
    return m_config.r;
}

Result<double> AdapterMatcher::alpha(std::string_view path) const
{
    for (std::size_t i = 0; i < m_alphas.size(); ++i) {
        RW_TRY(const bool matches, m_alphas[i].matches(path));
        if (matches) {
            return m_config.alphaPattern[i].second;
        }
    }
    return m_config.loraAlpha;
}

} // namespace rankwise::io
