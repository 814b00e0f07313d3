// Checks the tensors of an adapter folder against each other and the configuration.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/adapter_config.h"

#include "backend/io/checkpoint.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "base_model.model.";

enum class Part : std::uint8_t { A, B, E, UpBias, Magnitude, Tokens };

struct Suffix {
    std::string_view text;
    Part part;
    bool embedding = false;
};

/// Longer endings first.
constexpr std::array kSuffixes {
    Suffix { ".token_adapter.trainable_tokens_delta", Part::Tokens },
    Suffix { ".lora_magnitude_vector.weight", Part::Magnitude },
    Suffix { ".lora_magnitude_vector", Part::Magnitude },
    Suffix { ".lora_embedding_A", Part::A, true },
    Suffix { ".lora_embedding_B", Part::B, true },
    Suffix { ".lora_A.weight", Part::A },
    Suffix { ".lora_B.weight", Part::B },
    Suffix { ".lora_B.bias", Part::UpBias },
    Suffix { ".lora_A", Part::A },
    Suffix { ".lora_B", Part::B },
    Suffix { ".lora_E", Part::E },
};

/// Tensors of one module, by part.
struct Parts {
    std::map<Part, TensorInfo> tensors;
    bool embedding = false;

    [[nodiscard]] const TensorInfo* find(Part part) const
    {
        const auto it = tensors.find(part);
        return it == tensors.end() ? nullptr : &it->second;
    }
};

/// Sorts the tensors of an adapter by what they are.
struct Sorted {
    std::map<std::string, Parts> modules;
    std::vector<std::string> saved;
    std::vector<std::string> other;
    std::vector<std::string> tokens;
};

bool isSavedTensor(std::string_view path, const AdapterConfig& config)
{
    const std::string_view module = path.substr(0, path.rfind('.'));
    for (const std::string& name : config.modulesToSave) {
        const std::string inside = "." + name + ".";
        if (module == name || module.ends_with("." + name) || module.starts_with(name + ".")
            || module.find(inside) != std::string_view::npos) {
            return true;
        }
    }
    return config.bias != "none" && path.ends_with(".bias");
}

Result<Sorted> sortTensors(const Checkpoint& checkpoint, const AdapterConfig& config)
{
    Sorted sorted;
    for (const std::string& name : checkpoint.names()) {
        const auto suffix = std::find_if(kSuffixes.begin(), kSuffixes.end(),
                                         [&name](const Suffix& s) { return name.ends_with(s.text); });
        const bool prefixed = name.starts_with(kPrefix);
        if (suffix != kSuffixes.end() && !prefixed) {
            return fail(Errc::DataInvalid,
                        fmt::format("the tensor \"{}\" does not begin with \"{}\": another program's adapter",
                                    displayName(name, 200), kPrefix),
                        checkpoint.files().front().string());
        }
        const std::string path = prefixed ? name.substr(kPrefix.size()) : name;
        if (suffix == kSuffixes.end()) {
            (prefixed && isSavedTensor(path, config) ? sorted.saved : sorted.other).push_back(name);
            continue;
        }
        if (suffix->part == Part::Tokens) {
            sorted.tokens.push_back(name);
            continue;
        }
        RW_TRY(TensorInfo info, checkpoint.info(name));
        Parts& parts = sorted.modules[path.substr(0, path.size() - suffix->text.size())];
        parts.embedding = parts.embedding || suffix->embedding;
        parts.tensors[suffix->part] = std::move(info);
    }
    return sorted;
}

/// The checks of one module; `chosen` false makes every trouble a warning.
Result<AdapterModule> checkModule(const std::string& path, const Parts& parts, const AdapterConfig& config,
                                  const AdapterMatcher& matcher, const std::string& file)
{
    const auto refuse = [&](Errc code, const std::string& message) {
        return fail(code, fmt::format("module \"{}\": {}", displayName(path, 200), message), file);
    };
    const TensorInfo* a = parts.find(Part::A);
    const TensorInfo* b = parts.find(Part::B);
    const TensorInfo* e = parts.find(Part::E);
    if (a == nullptr || b == nullptr) {
        return refuse(Errc::TensorNotFound, fmt::format("lora_{} is missing", a == nullptr ? "A" : "B"));
    }
    if (config.type == PeftType::AdaLora && e == nullptr) {
        return refuse(Errc::TensorNotFound, "lora_E is missing");
    }
    if (config.useDora && parts.find(Part::Magnitude) == nullptr) {
        return refuse(Errc::TensorNotFound, "use_dora is true, but lora_magnitude_vector is missing");
    }
    if (config.loraBias && !parts.embedding && parts.find(Part::UpBias) == nullptr) {
        return refuse(Errc::TensorNotFound, "lora_bias is true, but lora_B.bias is missing");
    }
    const bool conv = a->shape.size() >= 3 && a->shape.size() <= 5 && b->shape.size() == a->shape.size();
    if (!conv && (a->shape.size() != 2 || b->shape.size() != 2)) {
        return refuse(
            Errc::ShapeMismatch,
            fmt::format("lora_A is {} and lora_B {}; matrices are expected", shapeText(a->shape), shapeText(b->shape)));
    }
    AdapterModule module;
    module.path = path;
    module.kind = parts.embedding ? AdapterModule::Kind::Embedding
        : conv                    ? AdapterModule::Kind::Conv
                                  : AdapterModule::Kind::Linear;
    module.rank = a->shape[0];
    module.inFeatures = a->shape[1];
    module.outFeatures = b->shape[0];
    if (b->shape[1] != module.rank) {
        return refuse(Errc::ShapeMismatch,
                      fmt::format("lora_A {} has rank {}, lora_B {} has rank {}", shapeText(a->shape), module.rank,
                                  shapeText(b->shape), b->shape[1]));
    }
    if (e != nullptr && (e->shape.size() != 2 || e->shape[0] != module.rank || e->shape[1] != 1)) {
        return refuse(Errc::ShapeMismatch,
                      fmt::format("lora_E is {}, [{}, 1] is expected", shapeText(e->shape), module.rank));
    }
    const TensorInfo* magnitude = parts.find(Part::Magnitude);
    const std::int64_t width = parts.embedding ? module.inFeatures : module.outFeatures;
    if (magnitude != nullptr && magnitude->elementCount() != static_cast<std::uint64_t>(module.outFeatures)
        && magnitude->elementCount() != static_cast<std::uint64_t>(width)) {
        return refuse(Errc::ShapeMismatch,
                      fmt::format("lora_magnitude_vector is {}, {} elements are expected", shapeText(magnitude->shape),
                                  module.outFeatures));
    }
    auto rank = matcher.rank(path);
    if (!rank) {
        return tl::unexpected(rank.error());
    }
    if (*rank != module.rank) {
        return refuse(Errc::ShapeMismatch,
                      fmt::format("the tensors have rank {}, the configuration says {}", module.rank, *rank));
    }
    RW_TRY(module.alpha, matcher.alpha(path));
    return module;
}

/// What is known of a module that the configuration does not choose.
AdapterModule looseModule(const std::string& path, const Parts& parts)
{
    AdapterModule module;
    module.path = path;
    module.targeted = false;
    if (const TensorInfo* a = parts.find(Part::A); a != nullptr && a->shape.size() >= 2) {
        module.rank = a->shape[0];
        module.inFeatures = a->shape[1];
    }
    if (const TensorInfo* b = parts.find(Part::B); b != nullptr && b->shape.size() >= 2) {
        module.outFeatures = b->shape[0];
    }
    return module;
}

void warnOfDtypes(const Sorted& sorted, const std::string& file, std::vector<Warning>& warnings)
{
    for (const auto& [path, parts] : sorted.modules) {
        for (const auto& [part, info] : parts.tensors) {
            if (!isFloating(info.dtype)) {
                warnings.push_back(
                    { fmt::format("the factors of \"{}\" are stored as {}, not as floating-point numbers",
                                  displayName(path, 200), dtypeName(info.dtype)),
                      file });
                break;
            }
        }
    }
}

void warnOfNames(const std::vector<std::string>& names, std::string_view what, const std::string& file,
                 std::vector<Warning>& warnings)
{
    if (!names.empty()) {
        warnings.push_back(
            { fmt::format("{} {}, the first is \"{}\"", names.size(), what, displayName(names.front(), 200)), file });
    }
}

} // namespace

Result<AdapterFolder> readAdapterFolder(const fs::path& folder, std::vector<Warning>& warnings)
{
    AdapterFolder result;
    RW_TRY(result.config, readAdapterConfig(folder, warnings));
    const fs::path weights = folder / "adapter_model.safetensors";
    std::error_code error;
    if (!fs::is_regular_file(weights, error) && fs::is_regular_file(folder / "adapter_model.bin", error)) {
        return failPickle(folder / "adapter_model.bin");
    }
    RW_TRY(const Checkpoint checkpoint, Checkpoint::open(weights, warnings));
    const std::string file = weights.string();
    if (result.config.type == PeftType::Other) {
        result.otherTensors = checkpoint.names();
        return result;
    }

    RW_TRY(Sorted sorted, sortTensors(checkpoint, result.config));
    RW_TRY(const AdapterMatcher matcher, AdapterMatcher::make(result.config, folder.string()));
    if (sorted.modules.empty() && sorted.saved.empty() && sorted.tokens.empty()) {
        return fail(Errc::DataInvalid, "holds no tensors of an adapter", file);
    }
    std::vector<std::string> unchosen;
    bool undecided = false;
    for (const auto& [path, parts] : sorted.modules) {
        const auto chosen = matcher.targets(path);
        if (!chosen || (!*chosen && result.config.targetParameters.empty())) {
            undecided = undecided || !chosen;
            unchosen.push_back(path);
            result.modules.push_back(looseModule(path, parts));
            continue;
        }
        auto module = checkModule(path, parts, result.config, matcher, file);
        if (!module && module.error().code == Errc::TooLarge) { // an expression that cannot be decided
            undecided = true;
            result.modules.push_back(looseModule(path, parts));
            continue;
        }
        if (!module) {
            return tl::unexpected(module.error());
        }
        result.modules.push_back(std::move(*module));
    }
    if (undecided) {
        warnings.push_back({ "a regular expression of the configuration takes too many steps; whether it matches is "
                             "unknown",
                             folder.string() });
    }
    warnOfNames(unchosen, "modules have factors but are not chosen by the configuration", file, warnings);
    warnOfNames(sorted.other, "tensors are of no known kind", file, warnings);
    warnOfDtypes(sorted, file, warnings);
    result.savedTensors = std::move(sorted.saved);
    result.savedTensors.insert(result.savedTensors.end(), sorted.tokens.begin(), sorted.tokens.end());
    result.otherTensors = std::move(sorted.other);
    return result;
}

} // namespace rankwise::io
