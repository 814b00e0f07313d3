// Private to policy_config*.cpp: the fields of each configuration, listed once and visited by the parser (FieldsIn) and
// the writer (FieldsOut).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/io/policy_config.h"

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace rankwise::io::detail {

inline constexpr std::int64_t kMaxWidth = 1 << 20; ///< Of any layer, vocabulary excepted.
inline constexpr std::int64_t kMaxVocab = 1 << 28; ///< Also of token ids.
inline constexpr std::int64_t kMaxLayers = 4096;
inline constexpr std::int64_t kMaxSteps = 1'000'000'000;
inline constexpr double kMaxReal = std::numeric_limits<double>::max();

/// Reads each visited field where the file has it.
class FieldsIn {
public:
    FieldsIn(FieldReader& reader, const Json& json) : m_reader(reader), m_json(json) { }

    void operator()(std::string_view key, std::int64_t& value, std::int64_t low, std::int64_t high)
    {
        m_reader.optional(key, value, low, high);
    }
    void operator()(std::string_view key, double& value, double low, double high)
    {
        m_reader.optional(key, value, low, high);
    }
    void operator()(std::string_view key, bool& value) { m_reader.optional(key, value); }
    void operator()(std::string_view key, std::string& value) { m_reader.optional(key, value); }
    void operator()(std::string_view key, std::vector<std::string>& value) { m_reader.optional(key, value); }
    void operator()(std::string_view key, std::vector<std::int64_t>& value, std::int64_t low, std::int64_t high)
    {
        m_reader.optional(key, value, low, high);
    }
    void operator()(std::string_view key, std::array<std::int64_t, 2>& value, std::int64_t low, std::int64_t high)
    {
        std::vector<std::int64_t> list(value.begin(), value.end());
        m_reader.optional(key, list, low, high);
        assignPair(key, list, value);
    }
    void operator()(std::string_view key, std::array<double, 2>& value, double low, double high)
    {
        std::vector<double> list(value.begin(), value.end());
        m_reader.optional(key, list);
        assignPair(key, list, value);
        for (const double v : value) {
            if (v < low || v > high) {
                m_reader.reject(key, "is outside its range");
            }
        }
    }
    /// Null in the file is an empty text or list, or -1.
    void nullable(std::string_view key, std::string& value)
    {
        value = isNull(key) ? std::string() : value;
        m_reader.optional(key, value);
    }
    void nullable(std::string_view key, std::int64_t& value, std::int64_t low, std::int64_t high)
    {
        value = isNull(key) ? -1 : value;
        m_reader.optional(key, value, low, high);
    }
    void nullable(std::string_view key, std::vector<std::string>& value)
    {
        value = isNull(key) ? std::vector<std::string>() : value;
        m_reader.optional(key, value);
    }
    void oneOf(std::string_view key, std::string& value, const std::vector<std::string>& allowed);

private:
    template <class T> void assignPair(std::string_view key, const std::vector<T>& list, std::array<T, 2>& value)
    {
        if (list.size() != 2) {
            m_reader.reject(key, "must have two elements, not " + std::to_string(list.size()));
            return;
        }
        value = { list[0], list[1] };
    }

    [[nodiscard]] bool isNull(std::string_view key) const
    {
        const auto found = m_json.is_object() ? m_json.find(key) : m_json.end();
        return m_json.is_object() && found != m_json.end() && found->is_null();
    }

    FieldReader& m_reader;
    const Json& m_json;
};

/// Writes each visited field.
class FieldsOut {
public:
    explicit FieldsOut(OrderedJson& json) : m_json(json) { }

    void operator()(std::string_view key, const std::int64_t& value, std::int64_t, std::int64_t) { put(key, value); }
    void operator()(std::string_view key, const double& value, double, double) { put(key, value); }
    void operator()(std::string_view key, const bool& value) { put(key, value); }
    void operator()(std::string_view key, const std::string& value) { put(key, value); }
    void operator()(std::string_view key, const std::vector<std::string>& value) { put(key, value); }
    void operator()(std::string_view key, const std::vector<std::int64_t>& value, std::int64_t, std::int64_t)
    {
        put(key, value);
    }
    void operator()(std::string_view key, const std::array<std::int64_t, 2>& value, std::int64_t, std::int64_t)
    {
        put(key, value);
    }
    void operator()(std::string_view key, const std::array<double, 2>& value, double, double) { put(key, value); }
    void nullable(std::string_view key, const std::string& value)
    {
        value.empty() ? put(key, nullptr) : put(key, value);
    }
    void nullable(std::string_view key, const std::int64_t& value, std::int64_t, std::int64_t)
    {
        value < 0 ? put(key, nullptr) : put(key, value);
    }
    void nullable(std::string_view key, const std::vector<std::string>& value)
    {
        value.empty() ? put(key, nullptr) : put(key, value);
    }
    void oneOf(std::string_view key, const std::string& value, const std::vector<std::string>&) { put(key, value); }

private:
    template <class T> void put(std::string_view key, const T& value) { m_json[std::string(key)] = value; }

    OrderedJson& m_json;
};

template <class Visitor> void visitText(Visitor& visit, TextConfig& c)
{
    visit("model_type", c.modelType);
    visit("hidden_size", c.hiddenSize, 1, kMaxWidth);
    visit("intermediate_size", c.intermediateSize, 1, kMaxWidth);
    visit("num_hidden_layers", c.numHiddenLayers, 1, kMaxLayers);
    visit("num_attention_heads", c.numAttentionHeads, 1, kMaxWidth);
    visit("num_key_value_heads", c.numKeyValueHeads, 1, kMaxWidth);
    visit("head_dim", c.headDim, 1, kMaxWidth);
    visit("vocab_size", c.vocabSize, 1, kMaxVocab);
    visit("max_position_embeddings", c.maxPositionEmbeddings, 1, kMaxVocab);
    visit("rms_norm_eps", c.rmsNormEps, 0.0, 1.0);
    visit("hidden_act", c.hiddenAct);
    visit("attention_bias", c.attentionBias);
    visit("mlp_bias", c.mlpBias);
    visit("tie_word_embeddings", c.tieWordEmbeddings);
    visit.nullable("pad_token_id", c.padTokenId, -1, kMaxVocab);
    visit.nullable("bos_token_id", c.bosTokenId, -1, kMaxVocab);
    visit.nullable("eos_token_id", c.eosTokenId, -1, kMaxVocab);
}

template <class Visitor> void visitVision(Visitor& visit, VisionConfig& c)
{
    visit("model_type", c.modelType);
    visit("hidden_size", c.hiddenSize, 1, kMaxWidth);
    visit("intermediate_size", c.intermediateSize, 1, kMaxWidth);
    visit("num_hidden_layers", c.numHiddenLayers, 1, kMaxLayers);
    visit("num_attention_heads", c.numAttentionHeads, 1, kMaxWidth);
    visit("image_size", c.imageSize, 1, kMaxWidth);
    visit("patch_size", c.patchSize, 1, kMaxWidth);
    visit("num_channels", c.numChannels, 1, kMaxWidth);
    visit("layer_norm_eps", c.layerNormEps, 0.0, 1.0);
    visit("hidden_act", c.hiddenAct);
}

template <class Visitor> void visitVlm(Visitor& visit, VlmConfig& c)
{
    visit("model_type", c.modelType);
    visit("scale_factor", c.scaleFactor, 1, 1024);
    visit("image_token_id", c.imageTokenId, 0, kMaxVocab);
    visit("fake_image_token_id", c.fakeImageTokenId, 0, kMaxVocab);
    visit("global_image_token_id", c.globalImageTokenId, 0, kMaxVocab);
    visit.nullable("pad_token_id", c.padTokenId, -1, kMaxVocab);
    visit("tie_word_embeddings", c.tieWordEmbeddings);
}

template <class Visitor> void visitSmolVla(Visitor& visit, SmolVlaConfig& c)
{
    visit("adapt_to_pi_aloha", c.adaptToPiAloha);
    visit("use_delta_joint_actions_aloha", c.useDeltaJointActionsAloha);
    visit("num_steps", c.numSteps, 1, 10'000);
    visit("use_cache", c.useCache);
    visit("freeze_vision_encoder", c.freezeVisionEncoder);
    visit("train_expert_only", c.trainExpertOnly);
    visit("train_state_proj", c.trainStateProj);
    visit("vlm_model_name", c.vlmModelName);
    visit("load_vlm_weights", c.loadVlmWeights);
    visit("add_image_special_tokens", c.addImageSpecialTokens);
    visit.oneOf("attention_mode", c.attentionMode, { "cross_attn", "self_attn" });
    visit("prefix_length", c.prefixLength, -1, kMaxWidth);
    visit.oneOf("pad_language_to", c.padLanguageTo, { "longest", "max_length" });
    visit("num_expert_layers", c.numExpertLayers, -1, kMaxLayers);
    visit("num_vlm_layers", c.numVlmLayers, -1, kMaxLayers);
    visit("self_attn_every_n_layers", c.selfAttnEveryNLayers, -1, kMaxLayers);
    visit("expert_width_multiplier", c.expertWidthMultiplier, 1e-3, 64.0);
    visit("min_period", c.minPeriod, 1e-12, 1e12);
    visit("max_period", c.maxPeriod, 1e-12, 1e12);
}

template <class Visitor> void visitPi(Visitor& visit, PiConfig& c)
{
    visit.oneOf("paligemma_variant", c.paligemmaVariant, { "gemma_2b", "gemma_300m" });
    visit.oneOf("action_expert_variant", c.actionExpertVariant, { "gemma_2b", "gemma_300m" });
    visit.oneOf("dtype", c.dtype, { "float32", "bfloat16" });
    visit("num_inference_steps", c.numInferenceSteps, 1, 10'000);
    visit("time_sampling_beta_alpha", c.timeSamplingBetaAlpha, 1e-6, 1e6);
    visit("time_sampling_beta_beta", c.timeSamplingBetaBeta, 1e-6, 1e6);
    visit("time_sampling_scale", c.timeSamplingScale, 0.0, 1e6);
    visit("time_sampling_offset", c.timeSamplingOffset, -1e6, 1e6);
    visit("min_period", c.minPeriod, 1e-12, 1e12);
    visit("max_period", c.maxPeriod, 1e-12, 1e12);
    visit("image_resolution", c.imageResolution, 1, 65'536);
    visit("gradient_checkpointing", c.gradientCheckpointing);
    visit("freeze_vision_encoder", c.freezeVisionEncoder);
    visit("train_expert_only", c.trainExpertOnly);
}

/// Fields that lerobot 0.4 does not have and refuses.
template <class Visitor> void visitPiRelative(Visitor& visit, PiConfig& c)
{
    visit("use_relative_actions", c.useRelativeActions);
    visit("relative_exclude_joints", c.relativeExcludeJoints);
    visit.nullable("action_feature_names", c.actionFeatureNames);
}

template <class Visitor> void visitTimm(Visitor& visit, TimmVisionConfig& c)
{
    visit("timm_id", c.timmId);
    visit("depth", c.depth, 2, kMaxLayers);
    visit("embed_dim", c.embedDim, 1, kMaxWidth);
    visit("num_heads", c.numHeads, 1, kMaxWidth);
    visit("mlp_hidden", c.mlpHidden, 1, kMaxWidth);
    visit("patch_size", c.patchSize, 1, kMaxWidth);
    visit("num_prefix_tokens", c.numPrefixTokens, 0, kMaxWidth);
    visit("norm_eps", c.normEps, 0.0, 1.0);
}

template <class Visitor> void visitOpenVla(Visitor& visit, OpenVlaConfig& c)
{
    visit("arch_specifier", c.archSpecifier);
    visit("image_resize_strategy", c.imageResizeStrategy);
    visit("vision_backbone_id", c.visionBackboneId);
    visit("llm_backbone_id", c.llmBackboneId);
    visit("hf_llm_id", c.hfLlmId);
    visit("use_fused_vision_backbone", c.useFusedVisionBackbone);
    visit("image_sizes", c.imageSizes, 1, 65'536);
    visit("n_action_bins", c.nActionBins, 2, 1 << 20);
    visit("pad_to_multiple_of", c.padToMultipleOf, 1, kMaxVocab);
    visit("pad_token_id", c.padTokenId, 0, kMaxVocab);
    visit("llm_max_length", c.llmMaxLength, 1, kMaxVocab);
}

/// Fields that every lerobot policy has.
template <class Visitor> void visitCommon(Visitor& visit, PolicyConfig& c)
{
    visit("n_obs_steps", c.nObsSteps, 1, 10'000);
    visit("chunk_size", c.chunkSize, 1, 100'000);
    visit("n_action_steps", c.nActionSteps, 1, 100'000);
    visit("max_state_dim", c.maxStateDim, 1, kMaxWidth);
    visit("max_action_dim", c.maxActionDim, 1, kMaxWidth);
    visit("empty_cameras", c.emptyCameras, 0, 1000);
    visit("tokenizer_max_length", c.tokenizerMaxLength, 1, kMaxWidth);
    visit.nullable("device", c.device);
    visit("use_amp", c.useAmp);
    visit("use_peft", c.usePeft);
    visit.nullable("pretrained_path", c.pretrainedPath);
}

template <class Visitor> void visitTraining(Visitor& visit, OptimizerPreset& o, SchedulerPreset& s)
{
    visit("optimizer_lr", o.lr, 0.0, kMaxReal);
    visit("optimizer_betas", o.betas, 0.0, 1.0);
    visit("optimizer_eps", o.eps, 0.0, kMaxReal);
    visit("optimizer_weight_decay", o.weightDecay, 0.0, kMaxReal);
    visit("optimizer_grad_clip_norm", o.gradClipNorm, 0.0, kMaxReal);
    visit("scheduler_warmup_steps", s.warmupSteps, 0, kMaxSteps);
    visit("scheduler_decay_steps", s.decaySteps, 0, kMaxSteps);
    visit("scheduler_decay_lr", s.decayLr, 0.0, kMaxReal);
}

/// transformers' defaults of model type "llama".
[[nodiscard]] TextConfig llamaDefaults();
/// transformers' defaults of SmolVLM's vision tower.
[[nodiscard]] VisionConfig smolVlmVisionDefaults();
/// Sizes of "gemma_2b" or "gemma_300m".
[[nodiscard]] TextConfig gemmaSizes(std::string_view variant);
[[nodiscard]] PiSizes piSizes(const PiConfig& config);

/// Parses nested configurations; errors go to `parent` by merge().
void readText(const Json& json, const std::string& file, const std::string& path, TextConfig& config,
              FieldReader& parent);
void readVision(const Json& json, const std::string& file, const std::string& path, VisionConfig& config,
                FieldReader& parent);
void readVlm(const Json& json, const std::string& file, const std::string& path, VlmConfig& config,
             FieldReader& parent);
[[nodiscard]] OrderedJson textJson(const TextConfig& config);
[[nodiscard]] OrderedJson visionJson(const VisionConfig& config);

/// The keys of `source` in `keys`, in the file's order, as JSON text; empty when there are none.
[[nodiscard]] std::string otherFieldsText(const Json& source, const std::vector<std::string>& keys);
/// Adds the fields of otherFieldsText() that `json` does not have.
void addOtherFields(OrderedJson& json, const std::string& text);

} // namespace rankwise::io::detail
