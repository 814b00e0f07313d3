// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/peft_folder.h"

#include "backend/base/file.h"
#include "backend/base/log.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kConfigName = "adapter_config.json";
constexpr std::string_view kWeightsName = "adapter_model.safetensors";
constexpr std::int64_t kMaxRank = 1 << 20;

/// Fields of adapter_config.json that PEFT 0.18 to 0.21 write.
const std::set<std::string, std::less<>>& knownFields()
{
    static const std::set<std::string, std::less<>> known {
        "peft_type",
        "task_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "r",
        "lora_alpha",
        "lora_dropout",
        "bias",
        "fan_in_fan_out",
        "init_lora_weights",
        "use_rslora",
        "use_dora",
        "lora_bias",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "target_parameters",
        "modules_to_save",
        "trainable_token_indices",
        "layer_replication",
        "rank_pattern",
        "alpha_pattern",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "arrow_config",
        "kasa_config",
        "velora_config",
        "monteclora_config",
        "use_bdlora",
        "use_qalora",
        "qalora_group_size",
        "alora_invocation_tokens",
        "megatron_config",
        "megatron_core",
        "ensure_weight_tying",
        "target_r",
        "init_r",
        "tinit",
        "tfinal",
        "deltaT",
        "beta1",
        "beta2",
        "orth_reg_weight",
        "total_step",
        "runtime_config",
        "lora_ga_config",
        "tensor_parallel_config",
    };
    return known;
}

/// Initialisers that take a part out of the base weights: the stored factors are no update of the original model.
const std::set<std::string, std::less<>>& baseChangingInits()
{
    static const std::set<std::string, std::less<>> names { "pissa", "olora", "corda", "lora_ga", "loftq" };
    return names;
}

bool isSet(const Json& config, const char* key)
{
    const auto at = config.find(key);
    if (at == config.end() || at->is_null()) {
        return false;
    }
    return !(at->is_boolean() && !at->get<bool>()) && !((at->is_object() || at->is_array()) && at->empty());
}

/// What the file says about ranks and scales.
struct Config {
    std::string type;
    std::int64_t rank = 8;
    double alpha = 8;
    bool rankStabilized = false;
    bool dora = false;
    bool transposed = false;
    std::string init;
    PatternTable ranks;
    PatternTable alphas;
    std::map<std::string, std::int64_t> keptRanks; ///< AdaLoRA: by module path.
    TargetOptions targets;
};

Result<std::vector<std::pair<std::string, double>>> patternEntries(const OrderedJson& config, const char* key,
                                                                   bool integers, const std::string& file)
{
    std::vector<std::pair<std::string, double>> entries;
    const auto at = config.find(key);
    if (at == config.end() || at->is_null()) {
        return entries;
    }
    if (!at->is_object()) {
        return fail(Errc::FieldInvalid, fmt::format("{} must be an object", key), file);
    }
    for (const auto& [name, value] : at->items()) {
        if (integers ? !value.is_number_integer() : !value.is_number()) {
            return fail(Errc::FieldInvalid,
                        fmt::format("{}[\"{}\"] must be {}", key, name, integers ? "a whole number" : "a number"),
                        file);
        }
        const double number = value.get<double>();
        if (!std::isfinite(number) || (integers && (number < 1 || number > kMaxRank))) {
            return fail(Errc::FieldInvalid, fmt::format("{}[\"{}\"] is {}, outside of its range", key, name, number),
                        file);
        }
        entries.emplace_back(name, number);
    }
    return entries;
}

/// AdaLoRA's rank_pattern: "<path>.lora_E" → which of the init_r directions are left.
Result<std::map<std::string, std::int64_t>> keptRanks(const OrderedJson& config, std::int64_t rank,
                                                      const std::string& file)
{
    std::map<std::string, std::int64_t> kept;
    const auto at = config.find("rank_pattern");
    if (at == config.end() || at->is_null()) {
        return kept;
    }
    if (!at->is_object()) {
        return fail(Errc::FieldInvalid, "rank_pattern must be an object", file);
    }
    for (const auto& [name, flags] : at->items()) {
        std::string path = name;
        const std::size_t end = path.find(".lora_E");
        if (end == std::string::npos || !flags.is_array() || static_cast<std::int64_t>(flags.size()) != rank
            || !std::ranges::all_of(flags, [](const OrderedJson& flag) { return flag.is_boolean(); })) {
            return fail(Errc::FieldInvalid,
                        fmt::format("rank_pattern[\"{}\"] must name a lora_E and hold {} booleans", name, rank), file);
        }
        path.resize(end);
        if (path.starts_with(kPrefix)) {
            path.erase(0, kPrefix.size());
        }
        kept[path] = std::ranges::count(flags, OrderedJson(true));
    }
    return kept;
}

Result<void> refuseUnsupported(const Json& config, const std::string& file)
{
    struct Case {
        const char* key;
        const char* what;
    };
    static constexpr std::array kCases {
        Case { "target_parameters", "updates of raw parameters" },
        Case { "alora_invocation_tokens", "activated LoRA" },
        Case { "kasa_config", "KaSA" },
        Case { "velora_config", "VeLoRA" },
        Case { "monteclora_config", "MonteCLoRA" },
        Case { "arrow_config", "Arrow routing" },
        Case { "use_bdlora", "block-diagonal LoRA" },
        Case { "use_qalora", "QA-LoRA" },
        Case { "layer_replication", "replicated layers" },
        Case { "megatron_config", "Megatron layers" },
    };
    for (const Case& entry : kCases) {
        if (isSet(config, entry.key)) {
            return fail(Errc::Unsupported,
                        fmt::format("{} ({}) is not supported; merge it with PEFT first", entry.what, entry.key), file);
        }
    }
    return {};
}

Result<Config> readConfig(const OrderedJson& ordered, const std::string& file, std::vector<Warning>& warnings)
{
    if (!ordered.is_object()) {
        return fail(Errc::FieldInvalid, "must hold one JSON object", file);
    }
    const Json json = Json::parse(ordered.dump()); // the reader works on the sorted type
    FieldReader reader(json, file);
    Config config;
    reader.require("peft_type", config.type);
    RW_TRY_VOID(reader.result());
    if (config.type != "LORA" && config.type != "ADALORA") {
        return fail(Errc::Unsupported,
                    fmt::format("peft_type \"{}\": only LORA and ADALORA folders are read; merge it with PEFT and use "
                                "the merged checkpoint",
                                config.type),
                    file);
    }
    RW_TRY_VOID(refuseUnsupported(json, file));
    const bool adaptive = config.type == "ADALORA";
    config.rank = adaptive ? 12 : 8;
    reader.optional(adaptive ? "init_r" : "r", config.rank, 1, kMaxRank);
    reader.optional("lora_alpha", config.alpha);
    reader.optional("use_rslora", config.rankStabilized);
    reader.optional("use_dora", config.dora);
    reader.optional("fan_in_fan_out", config.transposed);
    if (!reader.find("target_modules")) {
        reader.reject("target_modules", "must name the adapted modules", Errc::FieldMissing);
    }
    readTargetOptions(reader, config.targets);
    RW_TRY_VOID(reader.result());
    if (const Json* init = reader.find("init_lora_weights"); init && init->is_string()) {
        config.init = init->get<std::string>();
        if (config.init.starts_with("pissa")) {
            config.init = "pissa";
        }
    }
    if (adaptive) {
        RW_TRY(config.keptRanks, keptRanks(ordered, config.rank, file));
        if (config.dora) {
            return fail(Errc::FieldInvalid, "use_dora cannot go with AdaLoRA", file);
        }
    } else {
        RW_TRY(auto ranks, patternEntries(ordered, "rank_pattern", true, file));
        RW_TRY(config.ranks, PatternTable::make(std::move(ranks), file + ": rank_pattern"));
    }
    RW_TRY(auto alphas, patternEntries(ordered, "alpha_pattern", false, file));
    RW_TRY(config.alphas, PatternTable::make(std::move(alphas), file + ": alpha_pattern"));
    if (config.alpha == 0) {
        warnings.push_back({ "lora_alpha is 0: the adapter does nothing", file });
    }
    for (const auto& [key, value] : json.items()) {
        if (!knownFields().contains(key)) {
            warnings.push_back({ fmt::format("unknown field \"{}\" is ignored", key), file });
        }
    }
    return config;
}

/// Where one tensor of the file belongs.
struct Slot {
    std::string path;
    std::string
        what; ///< "A", "B", "E", "bias", "magnitude", "embedding_A", "embedding_B", "tokens", "saved", "base_bias"
};

/// Parses a key. Errors: DataInvalid with what is wrong about the name.
Result<Slot> slotOf(const std::string& key, const std::string& file)
{
    const auto refuse = [&](std::string why) { return fail(Errc::DataInvalid, std::move(why), file + ": " + key); };
    if (!key.starts_with(kPrefix)) {
        if (key.find(".lora_down") != std::string::npos || key.find(".lora_up") != std::string::npos) {
            return refuse("has the names of another trainer (lora_down, lora_up); convert it to PEFT's");
        }
        return refuse(fmt::format("does not begin with \"{}\"; PEFT would silently ignore this tensor", kPrefix));
    }
    std::string rest = key.substr(kPrefix.size());
    if (rest.starts_with(kPrefix) || rest.starts_with("base_model.") || rest.starts_with("_orig_mod.")
        || rest.starts_with("module.")) {
        return refuse("carries the prefix of a wrapper (compiled, data-parallel or wrapped twice); PEFT would silently "
                      "ignore this tensor");
    }
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kEndings { {
        { ".lora_A.weight", "A" },
        { ".lora_A.default.weight", "A" },
        { ".lora_B.weight", "B" },
        { ".lora_B.default.weight", "B" },
        { ".lora_B.bias", "bias" },
        { ".lora_B.default.bias", "bias" },
        { ".lora_A", "A" },
        { ".lora_B", "B" },
        { ".lora_E", "E" },
        { ".lora_embedding_A", "embedding_A" },
        { ".lora_embedding_B", "embedding_B" },
        { ".lora_magnitude_vector", "magnitude" },
        { ".token_adapter.trainable_tokens_delta", "tokens" },
        { ".base_layer.bias", "base_bias" },
    } };
    for (const auto& [ending, what] : kEndings) {
        if (rest.ends_with(ending) && rest.size() > ending.size()) {
            rest.resize(rest.size() - ending.size());
            return Slot { rest, std::string(what) };
        }
    }
    if (rest.find(".lora_") != std::string::npos || rest.starts_with("lora_")) {
        return refuse("is no tensor of a known variant of LoRA");
    }
    return Slot { rest, "saved" };
}

Result<void> checkValues(const at::Tensor& tensor, const std::string& key, const std::string& file)
{
    if (!tensor.is_floating_point()) {
        return fail(Errc::DtypeUnknown, "holds integers; adapters are floating point", file + ": " + key);
    }
    if (!tensor.isfinite().all().item<bool>()) {
        return fail(Errc::NotFinite, "holds NaN or infinity", file + ": " + key);
    }
    return {};
}

std::string shapeText(const at::Tensor& tensor)
{
    std::string text = "[";
    for (const std::int64_t size : tensor.sizes()) {
        text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    }
    return text + "]";
}

/// Shapes of one module against each other.
Result<void> checkShapes(const PeftModule& module, const std::string& file)
{
    const auto mismatch = [&](const std::string& why) {
        return fail(Errc::ShapeMismatch, why, file + ": " + module.path);
    };
    const std::string shapes = fmt::format("lora_A is {}, lora_B is {}", shapeText(module.a), shapeText(module.b));
    const std::int64_t dims = module.kind == PeftModule::Kind::Conv2d ? 4 : 2;
    if (module.a.dim() != dims || module.b.dim() != dims || module.a.size(0) != module.b.size(1)) {
        return mismatch(shapes + ": the ranks differ");
    }
    if (dims == 4 && (module.b.size(2) != 1 || module.b.size(3) != 1)) {
        return mismatch(shapes + ": the second convolution must be 1 × 1");
    }
    if (module.e.defined() && (module.e.dim() != 2 || module.e.size(0) != module.rank() || module.e.size(1) != 1)) {
        return mismatch(fmt::format("lora_E is {}, the rank is {}", shapeText(module.e), module.rank()));
    }
    for (const at::Tensor* vector : { &module.magnitude, &module.upBias, &module.baseBias }) {
        if (vector->defined() && vector->numel() != module.b.size(0)) {
            return mismatch(fmt::format("a vector of {} entries for {} outputs", vector->numel(), module.b.size(0)));
        }
    }
    return {};
}

/// Rank and scale of a module by the configuration, against its tensors.
Result<void> setScale(PeftModule& module, const Config& config, const std::string& file)
{
    RW_TRY(const std::optional<double> alpha, config.alphas.find(module.path));
    module.alpha = alpha.value_or(config.alpha);
    module.transposed = config.transposed;
    if (config.type == "ADALORA") {
        const auto kept = config.keptRanks.find(module.path);
        const std::int64_t expected = kept == config.keptRanks.end() ? config.rank : kept->second;
        if (expected != module.rank()) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("has rank {}, rank_pattern leaves {}", module.rank(), expected),
                        file + ": " + module.path);
        }
        const double numerator = module.alpha > 0 ? module.alpha : static_cast<double>(config.rank);
        module.scale = numerator / (static_cast<double>(config.rank) + 1e-5);
        return {};
    }
    RW_TRY(const std::optional<double> rank, config.ranks.find(module.path));
    const auto expected = static_cast<std::int64_t>(rank.value_or(static_cast<double>(config.rank)));
    if (expected != module.rank()) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("has rank {}, the configuration says {}{}", module.rank(), expected,
                                config.ranks.entries().size() > 1
                                    ? "; PEFT sorts rank_pattern when it saves, which changes the first match"
                                    : ""),
                    file + ": " + module.path);
    }
    const auto r = static_cast<double>(module.rank());
    module.scale = module.alpha / (config.rankStabilized ? std::sqrt(r) : r);
    return {};
}

/// Pattern keys without a module, and modules that the configuration does not choose.
Result<void> reportUnused(PeftFolder& folder, const Config& config, const std::string& file)
{
    RW_TRY(const TargetMatcher matcher, TargetMatcher::make(config.targets));
    std::vector<PeftModule> chosen;
    for (PeftModule& module : folder.modules) {
        RW_TRY(const bool hit, matcher.matches(module.path));
        if (hit) {
            chosen.push_back(std::move(module));
        } else {
            folder.warnings.push_back(
                { "has tensors, but target_modules and exclude_modules do not choose it: ignored", module.path });
        }
    }
    folder.modules = std::move(chosen);
    if (folder.modules.empty()) {
        return fail(Errc::FieldInvalid, "target_modules choose none of the modules that have tensors", file);
    }
    for (const PatternTable* table : { &config.ranks, &config.alphas }) {
        std::set<std::string> used;
        for (const PeftModule& module : folder.modules) {
            RW_TRY(const std::optional<std::string> key, table->findKey(module.path));
            if (key) {
                used.insert(*key);
            }
        }
        for (const auto& [key, value] : table->entries()) {
            if (!used.contains(key)) {
                folder.warnings.push_back({ fmt::format("pattern key \"{}\" decides for no module", key), file });
            }
        }
    }
    if (config.targets.kind == TargetOptions::Kind::Endings) {
        for (const std::string& ending : config.targets.endings) {
            if (std::ranges::none_of(folder.modules, [&](const PeftModule& m) { return endsAtDot(m.path, ending); })) {
                return fail(Errc::TensorNotFound,
                            fmt::format("target_modules name \"{}\", but no such module has tensors", ending), file);
            }
        }
    }
    return {};
}

Result<void> placeTensor(const Slot& slot, const std::string& key, const at::Tensor& tensor, PeftFolder& folder,
                         std::map<std::string, PeftModule>& modules)
{
    if (slot.what == "saved") {
        folder.saved[slot.path] = tensor;
        return {};
    }
    if (slot.what == "tokens") {
        folder.tokens[slot.path] = tensor;
        return {};
    }
    PeftModule& module = modules[slot.path];
    module.path = slot.path;
    at::Tensor* place = nullptr;
    if (slot.what == "A" || slot.what == "embedding_A") {
        place = &module.a;
    } else if (slot.what == "B" || slot.what == "embedding_B") {
        place = &module.b;
    } else if (slot.what == "E") {
        place = &module.e;
    } else if (slot.what == "bias") {
        place = &module.upBias;
    } else if (slot.what == "magnitude") {
        place = &module.magnitude;
    } else {
        place = &module.baseBias;
    }
    if (slot.what.starts_with("embedding")) {
        module.kind = PeftModule::Kind::Embedding;
    } else if (tensor.dim() == 4) {
        module.kind = PeftModule::Kind::Conv2d;
    }
    if (place->defined()) {
        return fail(Errc::DataInvalid, "is there twice under two names", key);
    }
    *place = tensor;
    return {};
}

Result<void> checkModule(PeftModule& module, const Config& config, const std::string& file)
{
    for (const auto& [tensor, name] : { std::pair { &module.a, "lora_A" }, std::pair { &module.b, "lora_B" } }) {
        if (!tensor->defined()) {
            return fail(Errc::TensorNotFound, fmt::format("{} is missing; PEFT would silently use a fresh one", name),
                        file + ": " + module.path);
        }
    }
    if ((config.type == "ADALORA") != module.e.defined()) {
        return fail(module.e.defined() ? Errc::DataInvalid : Errc::TensorNotFound,
                    module.e.defined() ? "has a lora_E, but the type is LORA" : "lora_E is missing",
                    file + ": " + module.path);
    }
    if (config.dora != module.magnitude.defined() && module.kind == PeftModule::Kind::Linear) {
        return fail(Errc::TensorNotFound,
                    config.dora ? "lora_magnitude_vector is missing (use_dora is true)"
                                : "has a lora_magnitude_vector, but use_dora is false",
                    file + ": " + module.path);
    }
    RW_TRY_VOID(checkShapes(module, file));
    return setScale(module, config, file);
}

} // namespace

Result<PeftFolder> readPeftFolder(const std::filesystem::path& folder)
{
    const std::filesystem::path configPath = folder / kConfigName;
    PeftFolder result;
    RW_TRY(result.config, readOrderedJsonFile(configPath));
    RW_TRY(const Config config, readConfig(result.config, configPath.string(), result.warnings));
    result.type = config.type;
    result.dora = config.dora;
    result.rankStabilized = config.rankStabilized;
    result.alpha = config.alpha;
    if (baseChangingInits().contains(config.init)) {
        result.baseChanging = config.init;
        result.warnings.push_back({ fmt::format("init_lora_weights \"{}\" changed the base weights: these factors are "
                                                "no update of the original model",
                                                config.init),
                                    configPath.string() });
    }
    const std::filesystem::path weightsPath = folder / kWeightsName;
    std::error_code missing;
    if (!std::filesystem::exists(weightsPath, missing)
        && std::filesystem::exists(folder / "adapter_model.bin", missing)) {
        return fail(Errc::PickleRefused, "is a pickle; save the adapter again with safe_serialization",
                    (folder / "adapter_model.bin").string());
    }
    RW_TRY(const tensor::TensorFile file, tensor::TensorFile::open(weightsPath));
    std::map<std::string, PeftModule> modules;
    for (const std::string& key : file.names()) {
        RW_TRY(const Slot slot, slotOf(key, weightsPath.string()));
        RW_TRY(const at::Tensor tensor, file.tensor(key));
        RW_TRY_VOID(checkValues(tensor, key, weightsPath.string()));
        RW_TRY_VOID(placeTensor(slot, key, tensor, result, modules));
    }
    for (auto& [path, module] : modules) {
        RW_TRY_VOID(checkModule(module, config, weightsPath.string()));
        result.modules.push_back(std::move(module));
    }
    if (result.modules.empty()) {
        return fail(Errc::TensorNotFound, "holds no LoRA factors", weightsPath.string());
    }
    RW_TRY_VOID(reportUnused(result, config, configPath.string()));
    return result;
}

at::Tensor peftDelta(const PeftModule& module, at::ScalarType type)
{
    const at::NoGradGuard noGrad;
    at::Tensor a = module.a.to(type);
    at::Tensor b = module.b.to(type);
    if (module.kind == PeftModule::Kind::Conv2d) {
        at::Tensor delta = at::mm(b.flatten(1), a.flatten(1)) * module.scale;
        return delta.view({ b.size(0), a.size(1), a.size(2), a.size(3) });
    }
    if (module.e.defined()) {
        a = a * module.e.to(type);
    }
    at::Tensor delta = at::mm(b, a) * module.scale;
    const bool transpose = module.transposed || module.kind == PeftModule::Kind::Embedding;
    return transpose ? delta.t().contiguous() : delta;
}

Result<at::Tensor> peftMergedWeight(const PeftModule& module, const at::Tensor& weight)
{
    const at::NoGradGuard noGrad;
    const at::ScalarType type = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor delta = peftDelta(module, type).to(weight.device());
    if (delta.sizes() != weight.sizes()) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("the update is {}, the weight is {}", shapeText(delta), shapeText(weight)),
                    module.path);
    }
    at::Tensor merged = weight.to(type) + delta;
    if (module.magnitude.defined()) {
        const at::Tensor norm = at::linalg_vector_norm(merged.flatten(1), 2, at::IntArrayRef { 1 }, true);
        at::Tensor factor = module.magnitude.to(weight.device(), type).view({ -1, 1 }) / norm;
        merged = merged * (merged.dim() == 4 ? factor.view({ -1, 1, 1, 1 }) : factor);
    }
    return merged.to(weight.scalar_type());
}

Result<at::Tensor> peftForward(const PeftModule& module, const at::Tensor& weight, const at::Tensor& bias,
                               const at::Tensor& x)
{
    if (module.magnitude.defined()) {
        RW_TRY(const at::Tensor merged, peftMergedWeight(module, weight));
        return at::linear(x, merged, bias);
    }
    if (module.a.size(1) != weight.size(1) || module.b.size(0) != weight.size(0)) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("lora_A is {}, lora_B is {}, the weight is {}", shapeText(module.a),
                                shapeText(module.b), shapeText(weight)),
                    module.path);
    }
    const at::ScalarType type = weight.scalar_type();
    at::Tensor a = module.a.to(type);
    if (module.e.defined()) {
        a = a * module.e.to(type);
    }
    const at::Tensor base = module.baseBias.defined() ? module.baseBias.to(type) : bias;
    const at::Tensor upBias = module.upBias.defined() ? module.upBias.to(type) : at::Tensor();
    return at::linear(x, weight, base) + at::linear(at::linear(x, a), module.b.to(type), upBias) * module.scale;
}

Result<std::vector<Warning>> mergePeftFolder(const std::filesystem::path& path, models::Policy& policy)
{
    RW_TRY(PeftFolder folder, readPeftFolder(path));
    if (!folder.baseChanging.empty()) {
        return fail(Errc::Unsupported,
                    fmt::format("was initialised by \"{}\", which changed the base weights; convert it to plain LoRA "
                                "with PEFT (path_initial_model_for_weight_conversion)",
                                folder.baseChanging),
                    path.string());
    }
    if (!folder.tokens.empty()) {
        return fail(Errc::Unsupported, "holds trained token rows; merge it with PEFT first", path.string());
    }
    std::map<std::string, at::Tensor> parameters;
    std::vector<std::string> names;
    for (const models::NamedParameter& parameter : policy.parameters()) {
        parameters[parameter.name] = parameter.tensor;
        names.push_back(parameter.name);
    }
    const auto notFound = [&](const std::string& name) {
        std::string near;
        for (const std::string& miss : nearMisses(name, names, 2)) {
            near += (near.empty() ? "" : ", ") + miss;
        }
        return fail(Errc::TensorNotFound, fmt::format("the policy has no such parameter; nearest: {}", near), name);
    };
    std::vector<std::pair<at::Tensor, at::Tensor>> changes; // target, new value
    for (const PeftModule& module : folder.modules) {
        const auto weight = parameters.find(module.path + ".weight");
        if (weight == parameters.end()) {
            return notFound(module.path + ".weight");
        }
        RW_TRY(at::Tensor merged, peftMergedWeight(module, weight->second));
        changes.emplace_back(weight->second, std::move(merged));
        if (!module.upBias.defined() && !module.baseBias.defined()) {
            continue;
        }
        const auto bias = parameters.find(module.path + ".bias");
        if (bias == parameters.end()) {
            return notFound(module.path + ".bias");
        }
        const at::NoGradGuard noGrad;
        at::Tensor value = module.baseBias.defined() ? module.baseBias.to(at::kFloat) : bias->second.to(at::kFloat);
        if (module.upBias.defined()) {
            value = value + module.upBias.to(at::kFloat) * module.scale;
        }
        changes.emplace_back(bias->second, value);
    }
    for (const auto& [name, tensor] : folder.saved) {
        const auto parameter = parameters.find(name);
        if (parameter == parameters.end()) {
            return notFound(name);
        }
        if (parameter->second.sizes() != tensor.sizes()) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("is {}, the policy's is {}", shapeText(tensor), shapeText(parameter->second)),
                        name);
        }
        changes.emplace_back(parameter->second, tensor);
    }
    const at::NoGradGuard noGrad;
    for (auto& [target, value] : changes) {
        target.copy_(value);
    }
    policy.weightsChanged();
    return folder.warnings;
}

OrderedJson patternFor(const std::map<std::string, double>& values, double standard)
{
    OrderedJson pattern = OrderedJson::object();
    for (const auto& [path, value] : values) {
        if (value == standard) {
            continue;
        }
        const auto hits = [&, name = &path](const auto& other) {
            // As PEFT reads the key: a regular expression at the end of the path.
            const auto table = PatternTable::make({ { *name, 1 } }, "pattern");
            const auto hit = table ? table->find(other.first) : Result<std::optional<double>>(std::nullopt);
            return hit && hit->has_value();
        };
        const bool alone = std::ranges::count_if(values, hits) == 1;
        std::string key = path;
        if (!alone) {
            key = "^" + escapePattern(path);
        }
        if (value == std::floor(value) && std::abs(value) < 1e15) {
            pattern[key] = static_cast<std::int64_t>(value);
        } else {
            pattern[key] = value;
        }
    }
    return pattern;
}

namespace {

double mostCommon(const std::map<std::string, double>& values)
{
    std::map<double, std::size_t> counts;
    for (const auto& [path, value] : values) {
        ++counts[value];
    }
    double best = 0;
    std::size_t most = 0;
    for (const auto& [value, count] : counts) {
        if (count >= most) { // the larger of two equally common ones
            most = count;
            best = value;
        }
    }
    return best;
}

OrderedJson numberJson(double value)
{
    if (value == std::floor(value) && std::abs(value) < 1e15) {
        return static_cast<std::int64_t>(value);
    }
    return value;
}

/// What PEFT writes for a plain LoRA, in the order of its sorted keys.
OrderedJson standardConfig()
{
    return OrderedJson { { "alora_invocation_tokens", nullptr },
                         { "alpha_pattern", OrderedJson::object() },
                         { "auto_mapping", nullptr },
                         { "base_model_name_or_path", nullptr },
                         { "bias", "none" },
                         { "corda_config", nullptr },
                         { "eva_config", nullptr },
                         { "exclude_modules", nullptr },
                         { "fan_in_fan_out", false },
                         { "inference_mode", true },
                         { "init_lora_weights", true },
                         { "layer_replication", nullptr },
                         { "layers_pattern", nullptr },
                         { "layers_to_transform", nullptr },
                         { "loftq_config", OrderedJson::object() },
                         { "lora_alpha", 8 },
                         { "lora_bias", false },
                         { "lora_dropout", 0.0 },
                         { "megatron_config", nullptr },
                         { "megatron_core", "megatron.core" },
                         { "modules_to_save", nullptr },
                         { "peft_type", "LORA" },
                         { "r", 8 },
                         { "rank_pattern", OrderedJson::object() },
                         { "revision", nullptr },
                         { "target_modules", nullptr },
                         { "target_parameters", nullptr },
                         { "task_type", nullptr },
                         { "trainable_token_indices", nullptr },
                         { "use_dora", false },
                         { "use_qalora", false },
                         { "use_rslora", false } };
}

/// Every module must find its own value, whatever the order of the keys.
void checkPattern(const OrderedJson& pattern, const std::map<std::string, double>& values, double standard)
{
    std::vector<std::pair<std::string, double>> entries;
    for (const auto& [key, value] : pattern.items()) {
        entries.emplace_back(key, value.get<double>());
    }
    for (int order = 0; order < 2; ++order) {
        const auto table = PatternTable::make(entries, "pattern");
        RW_CHECK(table.has_value());
        for (const auto& [path, value] : values) {
            const auto found = table->find(path);
            RW_CHECK(found.has_value() && found->value_or(standard) == value, path);
        }
        std::ranges::reverse(entries);
    }
}

} // namespace

Result<void> writePeftFolder(const std::filesystem::path& folder, const std::vector<PeftOutput>& modules,
                             const PeftWriteOptions& options)
{
    RW_CHECK(!modules.empty());
    std::map<std::string, double> ranks;
    std::map<std::string, double> alphas;
    tensor::TensorMap tensors;
    for (const PeftOutput& module : modules) {
        RW_CHECK(module.a.size(0) == module.b.size(1) && module.a.size(0) > 0, module.path);
        ranks[module.path] = static_cast<double>(module.a.size(0));
        alphas[module.path] = module.alpha;
        const std::string key = std::string(kPrefix) + module.path;
        tensors[key + ".lora_A.weight"] = module.a.detach().to(options.type).contiguous();
        tensors[key + ".lora_B.weight"] = module.b.detach().to(options.type).contiguous();
    }
    for (const auto& [name, tensor] : options.saved) {
        tensors[std::string(kPrefix) + name] = tensor.detach().contiguous();
    }
    double rank = mostCommon(ranks);
    double alpha = mostCommon(alphas);
    if (options.largestRank) {
        rank = std::ranges::max_element(ranks, {}, [](const auto& entry) { return entry.second; })->second;
    }
    OrderedJson config = standardConfig();
    if (options.inherit.is_object()) {
        config.update(options.inherit);
    }
    config["peft_type"] = "LORA";
    config["r"] = static_cast<std::int64_t>(rank);
    config["lora_alpha"] = numberJson(alpha);
    config["rank_pattern"] = patternFor(ranks, rank);
    config["alpha_pattern"] = patternFor(alphas, alpha);
    config["use_rslora"] = options.rankStabilized;
    config["lora_dropout"] = options.dropout;
    config["init_lora_weights"] = true;
    config["use_dora"] = false;
    config["inference_mode"] = true;
    config["exclude_modules"] = nullptr;
    config["layers_to_transform"] = nullptr;
    config["layers_pattern"] = nullptr;
    config["target_modules"] = OrderedJson::parse(options.targetModules.dump());
    if (!options.modulesToSave.empty()) {
        config["modules_to_save"] = options.modulesToSave;
    }
    if (!options.baseModel.empty()) {
        config["base_model_name_or_path"] = options.baseModel;
    }
    checkPattern(config["rank_pattern"], ranks, rank);
    checkPattern(config["alpha_pattern"], alphas, alpha);
    RW_TRY_VOID(writeFileAtomically(folder / kConfigName, jsonText(config)));
    return tensor::saveTensors(folder / kWeightsName, tensors, { { "format", "pt" } });
}

} // namespace rankwise::adapters
