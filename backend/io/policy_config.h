// The configuration of a policy checkpoint: lerobot's config.json (smolvla, pi0, pi05), OpenVLA's config.json, and the
// vision-language model's sizes beside it (vlm_config.json). Parsed with checks, written back with unknown keys kept.
//
// Source: lerobot 0.4 to 0.6 (configs/policies.py and policies/*/configuration_*.py), transformers' SmolVLM and
// OpenVLA's Prismatic configuration. Defaults are those of the sources.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace rankwise::io {

/// What a feature is. Stored by name ("VISUAL"); names never change.
enum class FeatureType : std::uint8_t { State, Visual, Env, Action, Reward, Language };

/// How a feature is normalised. Stored by name ("MEAN_STD"); names never change.
enum class NormalizationMode : std::uint8_t { Identity, MeanStd, MinMax, Quantiles, Quantile10 };

[[nodiscard]] std::string_view featureTypeName(FeatureType type);
[[nodiscard]] std::optional<FeatureType> featureTypeFromName(std::string_view name);
[[nodiscard]] std::string_view normalizationModeName(NormalizationMode mode);
[[nodiscard]] std::optional<NormalizationMode> normalizationModeFromName(std::string_view name);

/// One input or output, e.g. "observation.images.top" VISUAL [3, 480, 640].
struct PolicyFeature {
    std::string name;
    FeatureType type = FeatureType::State;
    std::vector<std::int64_t> shape; ///< Every dimension at least 1. Images are [channels, height, width].
    [[nodiscard]] bool operator==(const PolicyFeature&) const = default;
};

/// AdamW as the checkpoint was trained with.
struct OptimizerPreset {
    double lr = 1e-4;
    std::array<double, 2> betas { 0.9, 0.95 };
    double eps = 1e-8;
    double weightDecay = 1e-10;
    double gradClipNorm = 10;
    [[nodiscard]] bool operator==(const OptimizerPreset&) const = default;
};

/// Cosine decay with warmup.
struct SchedulerPreset {
    std::int64_t warmupSteps = 1'000;
    std::int64_t decaySteps = 30'000;
    double decayLr = 2.5e-6;
    [[nodiscard]] bool operator==(const SchedulerPreset&) const = default;
};

/// Sizes of a decoder stack: SmolLM2, Gemma or Llama. The defaults are SmolVLM2-500M's; a file that leaves a key out
/// means the default of its model type (transformers' LlamaConfig).
struct TextConfig {
    std::string modelType = "llama";
    std::int64_t hiddenSize = 960;
    std::int64_t intermediateSize = 2560;
    std::int64_t numHiddenLayers = 32;
    std::int64_t numAttentionHeads = 15;
    std::int64_t numKeyValueHeads = 5;
    std::int64_t headDim = 64;
    std::int64_t vocabSize = 49'280;
    std::int64_t maxPositionEmbeddings = 8192;
    double rmsNormEps = 1e-5;
    double ropeTheta = 100'000; ///< SmolVLA ignores it and rotates by 10,000.
    std::string hiddenAct = "silu";
    bool attentionBias = false;
    bool mlpBias = false;
    bool tieWordEmbeddings = false;
    std::int64_t padTokenId = 2; ///< -1: none.
    std::int64_t bosTokenId = 1;
    std::int64_t eosTokenId = 2;
    std::string otherFields; ///< Keys that have no field here, as JSON text of one object; empty: none.
    [[nodiscard]] bool operator==(const TextConfig&) const = default;
};

/// Sizes of a vision transformer. Defaults and absent keys as above.
struct VisionConfig {
    std::string modelType = "smolvlm_vision";
    std::int64_t hiddenSize = 768;
    std::int64_t intermediateSize = 3072;
    std::int64_t numHiddenLayers = 12;
    std::int64_t numAttentionHeads = 12;
    std::int64_t imageSize = 512;
    std::int64_t patchSize = 16;
    std::int64_t numChannels = 3;
    double layerNormEps = 1e-6;
    std::string hiddenAct = "gelu_pytorch_tanh";
    std::string otherFields; ///< Keys that have no field here, as JSON text of one object; empty: none.
    [[nodiscard]] bool operator==(const VisionConfig&) const = default;
};

/// vlm_config.json. The defaults are HuggingFaceTB/SmolVLM2-500M-Video-Instruct.
struct VlmConfig {
    std::string modelType = "smolvlm";
    TextConfig text;
    VisionConfig vision;
    std::int64_t scaleFactor = 4; ///< Pixel shuffle: scaleFactor² patches become one token.
    std::int64_t imageTokenId = 49'190;
    std::int64_t fakeImageTokenId = 49'189;   ///< <fake_token_around_image>
    std::int64_t globalImageTokenId = 49'152; ///< <global-img>
    std::int64_t padTokenId = 128'002;
    bool tieWordEmbeddings = false;
    std::string otherFields; ///< Keys that have no field here, as JSON text of one object; empty: none.
    [[nodiscard]] bool operator==(const VlmConfig&) const = default;
};

/// SmolVLA's part of config.json; common fields are in PolicyConfig.
struct SmolVlaConfig {
    std::array<std::int64_t, 2> resizeImgsWithPadding { 512, 512 }; ///< [width, height] as lerobot reads it.
    bool resizeImages = true;                                       ///< False when the file says null.
    bool adaptToPiAloha = false;
    bool useDeltaJointActionsAloha = false; ///< true is refused: the reference does not implement it.
    std::int64_t numSteps = 10;             ///< Euler steps of sampling.
    bool useCache = true;
    bool freezeVisionEncoder = true;
    bool trainExpertOnly = true;
    bool trainStateProj = true;
    std::string vlmModelName = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct";
    bool loadVlmWeights = false;
    bool addImageSpecialTokens = false;
    std::string attentionMode = "cross_attn"; ///< "cross_attn" or "self_attn".
    std::int64_t prefixLength = -1;           ///< At most 0: as long as the prefix is.
    std::string padLanguageTo = "longest";    ///< "longest" or "max_length".
    std::int64_t numExpertLayers = -1;        ///< At most 0: as many as the VLM has.
    std::int64_t numVlmLayers = 16;           ///< The first layers of the text model that are kept; at most 0: all.
    std::int64_t selfAttnEveryNLayers = 2;
    double expertWidthMultiplier = 0.75;
    double minPeriod = 0.004;
    double maxPeriod = 4.0;
    VlmConfig vlm;
    bool vlmFromFile = false; ///< vlm_config.json (or "vlm_config" in config.json) gave `vlm`, not the defaults.
    [[nodiscard]] bool operator==(const SmolVlaConfig&) const = default;

    /// int(hiddenSize * expertWidthMultiplier)
    [[nodiscard]] std::int64_t expertHiddenSize() const;
    /// As in the reference: two thirds of four times the width, up to a multiple of 256.
    [[nodiscard]] std::int64_t expertIntermediateSize() const;
};

/// Sizes of pi0's three stacks where they differ from the published model; key "sizes" of config.json, which lerobot
/// does not know: the small models of tests and studies carry it.
struct PiSizes {
    VisionConfig vision;
    TextConfig text;
    TextConfig expert;
    [[nodiscard]] bool operator==(const PiSizes&) const = default;
};

/// pi0's and pi0.5's part of config.json.
struct PiConfig {
    std::string paligemmaVariant = "gemma_2b";      ///< "gemma_2b" or "gemma_300m".
    std::string actionExpertVariant = "gemma_300m"; ///< as above
    std::string dtype = "float32";                  ///< "float32" or "bfloat16".
    std::int64_t numInferenceSteps = 10;
    double timeSamplingBetaAlpha = 1.5;
    double timeSamplingBetaBeta = 1.0;
    double timeSamplingScale = 0.999;
    double timeSamplingOffset = 0.001;
    double minPeriod = 0.004;
    double maxPeriod = 4.0;
    bool useRelativeActions = false;
    std::vector<std::string> relativeExcludeJoints { "gripper" };
    std::vector<std::string> actionFeatureNames; ///< Empty: null in the file.
    bool relativeFieldsFromFile = false; ///< The file has the three above; otherwise written only where they matter.
    std::array<std::int64_t, 2> imageResolution { 224, 224 };
    bool gradientCheckpointing = false;
    bool freezeVisionEncoder = false;
    bool trainExpertOnly = false;
    PiSizes sizes;              ///< By the variants, or from the file.
    bool sizesFromFile = false; ///< The file has a "sizes" key.
    [[nodiscard]] bool operator==(const PiConfig&) const = default;
};

/// Sizes of one timm vision transformer.
struct TimmVisionConfig {
    std::string timmId;
    std::int64_t depth = 24;
    std::int64_t embedDim = 1024;
    std::int64_t numHeads = 16;
    std::int64_t mlpHidden = 4096;
    std::int64_t patchSize = 14;
    std::int64_t numPrefixTokens = 5; ///< Class and register tokens.
    double normEps = 1e-6;
    [[nodiscard]] bool operator==(const TimmVisionConfig&) const = default;
};

/// Action statistics of one pre-training data set of OpenVLA.
struct ActionStatistics {
    std::vector<double> q01, q99, mean, std, min, max;
    std::vector<bool> mask;  ///< False: the dimension is not un-normalised (gripper). Empty: all are.
    std::string otherFields; ///< The rest of the data set's entry, as JSON text of one object; empty: none.
    [[nodiscard]] bool operator==(const ActionStatistics&) const = default;
};

/// OpenVLA's config.json.
struct OpenVlaConfig {
    std::string archSpecifier = "no-align+fused-gelu-mlp";
    std::string imageResizeStrategy = "resize-naive";
    std::string visionBackboneId = "dinosiglip-vit-so-224px";
    std::string llmBackboneId = "llama2-7b-pure";
    std::string hfLlmId = "meta-llama/Llama-2-7b-hf";
    bool useFusedVisionBackbone = true;
    std::vector<std::int64_t> imageSizes { 224, 224 };
    std::vector<TimmVisionConfig> vision; ///< One for each tower; key "vision_sizes", else the published sizes.
    bool visionFromFile = false;          ///< The file has "vision_sizes".
    std::int64_t nActionBins = 256;
    std::int64_t padToMultipleOf = 64;
    std::int64_t padTokenId = 32'000;
    std::int64_t llmMaxLength = 2048;
    TextConfig text;                                   ///< "text_config"; Llama-2-7B where absent.
    std::map<std::string, ActionStatistics> normStats; ///< By data set, dataset_statistics.json included.
    [[nodiscard]] bool operator==(const OpenVlaConfig&) const = default;
};

/// One policy's configuration. The common part is filled for every type, `model` for the four we know.
struct PolicyConfig {
    std::string type; ///< "smolvla", "pi0", "pi05", "openvla", or another that we do not run.
    std::int64_t nObsSteps = 1;
    std::vector<PolicyFeature> inputFeatures; ///< In the file's order, which is the cameras' order.
    std::vector<PolicyFeature> outputFeatures;
    std::map<FeatureType, NormalizationMode> normalizationMapping;
    std::int64_t chunkSize = 50;
    std::int64_t nActionSteps = 50; ///< 1 to chunkSize.
    std::int64_t maxStateDim = 32;
    std::int64_t maxActionDim = 32;
    std::int64_t emptyCameras = 0;
    std::int64_t tokenizerMaxLength = 48;
    std::string device; ///< Empty: null in the file.
    bool useAmp = false;
    bool usePeft = false;
    std::string pretrainedPath; ///< Empty: null.
    OptimizerPreset optimizer;
    SchedulerPreset scheduler;
    std::variant<std::monostate, SmolVlaConfig, PiConfig, OpenVlaConfig> model;
    std::string otherFields; ///< Keys that have no field here, as JSON text of one object; empty: none. Of a type that
                             ///< we do not run: the whole file.
    [[nodiscard]] bool operator==(const PolicyConfig&) const = default;

    [[nodiscard]] const SmolVlaConfig* smolvla() const { return std::get_if<SmolVlaConfig>(&model); }
    [[nodiscard]] const PiConfig* pi() const { return std::get_if<PiConfig>(&model); }
    [[nodiscard]] const OpenVlaConfig* openvla() const { return std::get_if<OpenVlaConfig>(&model); }

    /// Names of the VISUAL inputs in the file's order.
    [[nodiscard]] std::vector<std::string> cameraNames() const;
    /// The input or output of that name, or nullptr.
    [[nodiscard]] const PolicyFeature* findFeature(std::string_view name) const;
    /// Width of "observation.state" and of "action"; 0 where there is none.
    [[nodiscard]] std::int64_t stateDim() const;
    [[nodiscard]] std::int64_t actionDim() const;
};

/// A configuration of that type with the source's defaults and no features.
/// Errors: Unsupported (not "smolvla", "pi0", "pi05" or "openvla").
[[nodiscard]] Result<PolicyConfig> defaultPolicyConfig(std::string_view type);

/// Parses the text of a config.json; `vlmText` is that of vlm_config.json, empty where there is none.
///
/// Unknown keys and policy types that we do not run go to `warnings`.
/// Errors: JsonInvalid, TooLarge, FieldMissing (type, action feature), FieldInvalid (with the field's path).
/// Thread: any.
[[nodiscard]] Result<PolicyConfig> parsePolicyConfig(std::string_view text, std::string_view vlmText,
                                                     const std::string& subject, std::vector<Warning>& warnings);

/// Reads a config.json, or the one of a folder, and what stands beside it: vlm_config.json, dataset_statistics.json.
/// Errors: FileNotFound, IoFailed and those of parsePolicyConfig().
[[nodiscard]] Result<PolicyConfig> readPolicyConfig(const std::filesystem::path& fileOrFolder,
                                                    std::vector<Warning>& warnings);

/// config.json as lerobot (OpenVLA: transformers) lays it out, unknown keys of the source included.
[[nodiscard]] OrderedJson policyConfigJson(const PolicyConfig& config);
/// vlm_config.json; lerobot finds the sizes by `vlm_model_name`.
[[nodiscard]] OrderedJson vlmConfigJson(const VlmConfig& config);

/// Writes config.json and, where vlmFromFile, vlm_config.json. Errors: IoFailed, DiskFull.
[[nodiscard]] Result<void> writePolicyConfig(const PolicyConfig& config, const std::filesystem::path& folder);

/// One step of a processor pipeline. `config` stays JSON: the step's own code reads it.
struct ProcessorStep {
    std::string registryName;
    std::string config = "{}"; ///< JSON text of one object, in the file's key order.
    std::string stateFile;     ///< Plain file name beside the pipeline's JSON; empty: stateless.
    [[nodiscard]] bool operator==(const ProcessorStep&) const = default;
};

/// policy_preprocessor.json or policy_postprocessor.json.
struct ProcessorPipeline {
    std::string name;
    std::vector<ProcessorStep> steps;
    [[nodiscard]] bool operator==(const ProcessorPipeline&) const = default;
};

/// Parses a pipeline's text. Steps are not executed and registry names not looked up here.
/// Errors: JsonInvalid, FieldMissing, FieldInvalid (also a state file name that leaves the folder), TooLarge.
[[nodiscard]] Result<ProcessorPipeline> parseProcessorPipeline(std::string_view text, const std::string& subject,
                                                               std::vector<Warning>& warnings);
/// Errors: FileNotFound and those of parseProcessorPipeline().
[[nodiscard]] Result<ProcessorPipeline> readProcessorPipeline(const std::filesystem::path& file,
                                                              std::vector<Warning>& warnings);
[[nodiscard]] OrderedJson processorPipelineJson(const ProcessorPipeline& pipeline);

} // namespace rankwise::io
