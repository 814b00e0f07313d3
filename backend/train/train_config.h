// The configuration of a fine-tune run: read from JSON, written to run.json, and described field by field for
// forms and `--help`. Torch-free.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/train/schedule.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::train {

/// A parameter group as in the configuration; see optimizer.h.
struct GroupConfig {
    std::string match;
    double lrScale = 1.0;
    double weightDecay = -1.0;
};

/// Every field with its default; train_config.cpp documents each one in the table that also reads it.
struct TrainConfig {
    struct PolicyPart {
        std::string path;
        std::string init = "checkpoint";
        std::int64_t seed = 0;
        std::string tokenizer;
        std::string relativeActions = "checkpoint";
    } policy;

    struct DatasetPart {
        std::string path;
        std::vector<std::int64_t> episodes;
        std::map<std::string, std::string> rename;
        std::map<std::string, double> taskWeights;
        std::string statistics = "dataset";
        double stdFloor = 1e-3;
        std::int64_t threads = 1;
        std::int64_t cacheMegabytes = 256;
    } dataset;

    Json method = Json::object();

    struct LocalizationPart {
        std::string feature;
        double weight = 1.0;
    } localization;

    std::int64_t steps = 1000;
    std::int64_t batchSize = 8;
    std::int64_t accumulation = 1;
    std::int64_t seed = 1000;
    std::string precision = "f32";
    std::int64_t noiseDraws = 1;

    struct OptimizerPart {
        std::string preset = "policy";
        double lr = 1e-4;
        std::vector<double> betas { 0.9, 0.95 };
        double eps = 1e-8;
        double weightDecay = 1e-10;
        bool decayMatricesOnly = false;
        double clipNorm = 10.0;
        std::vector<GroupConfig> groups;
    } optimizer;

    struct SchedulePart {
        std::string type = "cosine";
        std::int64_t warmupSteps = 1000;
        std::int64_t decaySteps = 30'000;
        double decayLr = 2.5e-6;
    } schedule;

    struct EmaPart {
        double decay = 0.0;
        bool warmup = true;
    } ema;

    std::int64_t logEvery = 1;
    std::int64_t digestEvery = 0;
    std::int64_t snapshotEvery = 0;
    std::int64_t checkpointEvery = 500;
    std::int64_t keepCheckpoints = 0;
    bool tensorboard = true;

    struct PreflightPart {
        std::int64_t overfitSteps = 0;
        double memoryFraction = 0.9;
    } preflight;

    /// digestEvery and snapshotEvery with "automatic" (0) resolved from the number of steps.
    [[nodiscard]] std::int64_t digestInterval() const;
    [[nodiscard]] std::int64_t snapshotInterval() const;

    [[nodiscard]] Schedule scheduleOf() const;
};

/// Kind of value of a configuration field, for forms.
enum class FieldKind : std::uint8_t {
    Integer,
    Real,
    Boolean,
    Text,
    Choice,
    Integers,
    Reals,
    Texts,
    TextMap,
    NumberMap,
    Object,
    List
};

struct FieldDescription {
    std::string name; ///< Dotted path, e.g. "optimizer.lr".
    FieldKind kind = FieldKind::Text;
    Json defaultValue;
    std::optional<double> low, high;  ///< Inclusive.
    std::vector<std::string> choices; ///< Kind Choice.
    std::string help;
    bool changesResults = true; ///< False: only speed, files or display.
};

/// Every field in the order in which a form shows them.
[[nodiscard]] std::vector<FieldDescription> trainConfigFields();
/// As a JSON array of {"name", "type", "default", "minimum", "maximum", "choices", "help", "changes_results"}.
[[nodiscard]] Json trainConfigSchema();

/// Reads a configuration. Fields that `optimizer` and `schedule` leave out come from the preset: "policy" (that of the
/// checkpoint's config.json, `policyConfig`, where it has optimizer_* and scheduler_* fields), or a name of
/// presetNames(). An unknown field is an error, with the nearest known name.
///
/// Errors: FieldInvalid, FieldMissing, Unsupported. `file` names the source in errors.
[[nodiscard]] Result<TrainConfig> parseTrainConfig(const Json& json, const std::string& file,
                                                   const Json* policyConfig = nullptr);
/// Reads a file; `policy.path`, `dataset.path` and the preset's config.json are seen from the file's folder.
[[nodiscard]] Result<TrainConfig> readTrainConfig(const std::filesystem::path& path);
/// All fields, resolved; parses back to the same configuration.
[[nodiscard]] Json trainConfigJson(const TrainConfig& config);

/// Name of the first field that changes results and differs between two configurations; `steps` may differ. Empty:
/// none.
[[nodiscard]] std::string firstDifference(const Json& a, const Json& b);
/// SHA-256 over the fields that change results, `steps` left out.
[[nodiscard]] std::string configDigest(const TrainConfig& config);

/// Optimiser and schedule of the references: "smolvla", "pi0", "pi05", "openpi", "openvla_lora", "openvla_full",
/// "nano".
[[nodiscard]] std::vector<std::string> presetNames();

} // namespace rankwise::train
