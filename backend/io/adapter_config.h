// PEFT adapters on disk: adapter_config.json as types, and whether adapter_model.safetensors beside it agrees.
// Knows nothing of torch; backend/adapters does the arithmetic.
//
// Source: huggingface/peft 0.18 to 0.20 (LoraConfig, AdaLoraConfig; save_and_load.py). Stricter than it: a factor
// without its partner and DoRA without its magnitudes are refused.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/io/path_pattern.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rankwise::io {

/// Methods that are read with all their fields; of others only the common part is.
enum class PeftType : std::uint8_t { Lora, AdaLora, Other };

/// Which modules: by the end of their paths, by an expression for the whole path, or every linear layer.
struct ModuleSelection {
    enum class Kind : std::uint8_t { None, List, Pattern, AllLinear };
    Kind kind = Kind::None;
    std::vector<std::string> names; ///< List: equal to the path, or the path ends with "." + name.
    std::string pattern;            ///< Pattern: matches the whole path.
    [[nodiscard]] bool operator==(const ModuleSelection&) const = default;
};

/// AdaLoRA's own fields.
struct AdaLoraFields {
    std::int64_t targetR = 8;
    std::int64_t initR = 12;
    std::int64_t tinit = 0;
    std::int64_t tfinal = 0;
    std::int64_t deltaT = 1;
    double beta1 = 0.85;
    double beta2 = 0.85;
    double orthRegWeight = 0.5;
    std::int64_t totalStep = 0;
    std::map<std::string, std::vector<bool>> rankPattern; ///< "<module>.lora_E" -> which of initR directions are kept.
    [[nodiscard]] bool operator==(const AdaLoraFields&) const = default;
};

struct AdapterConfig {
    PeftType type = PeftType::Lora;
    std::string peftType = "LORA"; ///< As in the file.
    std::string baseModel;         ///< base_model_name_or_path; empty: null.
    std::string revision;
    std::string taskType;
    std::int64_t r = 8;
    double loraAlpha = 8;
    double loraDropout = 0;
    std::string bias = "none"; ///< "none", "all" or "lora_only".
    bool fanInFanOut = false;
    bool useRslora = false;
    bool useDora = false;
    bool loraBias = false;
    std::string initLoraWeights = "true"; ///< JSON: true, false or a method's name in quotes.
    ModuleSelection targetModules;
    ModuleSelection excludeModules;
    std::vector<std::string> modulesToSave;
    std::vector<std::string> targetParameters;
    std::vector<std::int64_t> layersToTransform;
    std::vector<std::string> layersPattern;
    std::vector<std::pair<std::string, std::int64_t>>
        rankPattern; ///< In the file's order; the first that matches wins.
    std::vector<std::pair<std::string, double>> alphaPattern;
    AdaLoraFields adalora;
    std::vector<std::string> variants; ///< Fields of variants that are switched on: "loftq_config", "use_qalora", ...
    std::vector<std::string> unknownKeys; ///< Keys that PEFT's writers do not have; kept on rewriting.
    std::string otherFields;              ///< All keys that have no member here, as JSON text of one object.
    [[nodiscard]] bool operator==(const AdapterConfig&) const = default;

    /// Initialiser that changed the base weights at load ("pissa", "olora", ...), so that merging into the published
    /// base is wrong; empty for the others.
    [[nodiscard]] std::string baseChangingInit() const;
    /// alpha / r, or alpha / sqrt(r) with useRslora; AdaLoRA: alpha (or r) / (initR + 1e-5).
    [[nodiscard]] double scale(std::int64_t rank, double alpha) const;
};

/// Parses the text of an adapter_config.json. Unknown keys are kept; an unknown peft_type is a warning, and then only
/// the common fields are read.
///
/// Errors: JsonInvalid, TooLarge, FieldMissing (peft_type, targets), FieldInvalid (types, ranges, expressions).
/// Thread: any.
[[nodiscard]] Result<AdapterConfig> parseAdapterConfig(std::string_view text, const std::string& subject,
                                                       std::vector<Warning>& warnings);
/// Errors: FileNotFound, IoFailed and those of parseAdapterConfig().
[[nodiscard]] Result<AdapterConfig> readAdapterConfig(const std::filesystem::path& fileOrFolder,
                                                      std::vector<Warning>& warnings);
/// Sorted keys, as PEFT writes it, patterns in their order; unknown keys of the source included.
[[nodiscard]] OrderedJson adapterConfigJson(const AdapterConfig& config);

/// The expressions of one configuration, compiled once. Thread: any.
class AdapterMatcher {
public:
    /// Errors: FieldInvalid, TooLarge.
    [[nodiscard]] static Result<AdapterMatcher> make(const AdapterConfig& config, const std::string& subject);

    /// Whether the adapter applies to the module `path` (inside the policy, without "base_model.model.").
    /// Errors: TooLarge.
    [[nodiscard]] Result<bool> targets(std::string_view path) const;
    /// Rank and alpha of a module. AdaLoRA: what rankPattern keeps of initR. Errors: TooLarge.
    [[nodiscard]] Result<std::int64_t> rank(std::string_view path) const;
    [[nodiscard]] Result<double> alpha(std::string_view path) const;

private:
    explicit AdapterMatcher(AdapterConfig config) : m_config(std::move(config)) { }

    AdapterConfig m_config;
    std::optional<PathPattern> m_target;
    std::optional<PathPattern> m_exclude;
    std::vector<PathPattern> m_layers;
    std::vector<PathPattern> m_ranks;
    std::vector<PathPattern> m_alphas;
};

/// The factors of one module.
struct AdapterModule {
    enum class Kind : std::uint8_t { Linear, Conv, Embedding };
    std::string path;
    Kind kind = Kind::Linear;
    std::int64_t rank = 0;
    std::int64_t inFeatures = 0;  ///< Embedding: rows.
    std::int64_t outFeatures = 0; ///< Embedding: columns.
    double alpha = 0;
    bool targeted = true; ///< The configuration chooses it.
    [[nodiscard]] bool operator==(const AdapterModule&) const = default;
};

struct AdapterFolder {
    AdapterConfig config;
    std::vector<AdapterModule> modules;    ///< Sorted by path.
    std::vector<std::string> savedTensors; ///< Whole tensors of modules_to_save and trained biases.
    std::vector<std::string> otherTensors; ///< Neither.
};

/// Reads both files of `folder` and checks them against each other.
///
/// Refused: a factor of a chosen module without its partner, ranks that disagree with each other or the configuration,
/// DoRA without magnitudes, tensors under other prefixes. Only warned of: tensors of modules that are not chosen,
/// tensors of unknown kind, integer weights, an expression that is too expensive to decide, alpha 0.
/// Errors: those of readAdapterConfig() and Checkpoint::open(), TensorNotFound, ShapeMismatch, DataInvalid (no factors
///         at all; other prefixes).
[[nodiscard]] Result<AdapterFolder> readAdapterFolder(const std::filesystem::path& folder,
                                                      std::vector<Warning>& warnings);

} // namespace rankwise::io
