// Sizes of text and vision stacks: transformers' configuration of SmolVLM, and what pi0 and OpenVLA embed.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/policy_config_fields.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::io {

namespace detail {

void FieldsIn::oneOf(std::string_view key, std::string& value, const std::vector<std::string>& allowed)
{
    m_reader.optional(key, value);
    if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
        m_reader.reject(key, fmt::format("is \"{}\"; one of {} is expected", value.substr(0, 60), allowed));
    }
}

TextConfig llamaDefaults()
{
    TextConfig config;
    config.hiddenSize = 4096;
    config.intermediateSize = 11'008;
    config.numHiddenLayers = 32;
    config.numAttentionHeads = 32;
    config.numKeyValueHeads = 32;
    config.headDim = 128;
    config.vocabSize = 32'000;
    config.maxPositionEmbeddings = 2048;
    config.rmsNormEps = 1e-6;
    config.ropeTheta = 10'000;
    config.padTokenId = -1;
    return config;
}

VisionConfig smolVlmVisionDefaults()
{
    VisionConfig config;
    config.hiddenSize = 1152;
    config.numAttentionHeads = 16;
    config.imageSize = 224;
    config.patchSize = 32;
    return config;
}

TextConfig gemmaSizes(std::string_view variant)
{
    TextConfig config;
    config.modelType = "gemma";
    config.hiddenSize = variant == "gemma_300m" ? 1024 : 2048;
    config.intermediateSize = variant == "gemma_300m" ? 4096 : 16'384;
    config.numHiddenLayers = 18;
    config.numAttentionHeads = 8;
    config.numKeyValueHeads = 1;
    config.headDim = 256;
    config.vocabSize = 257'152;
    config.rmsNormEps = 1e-6;
    config.ropeTheta = 10'000;
    config.hiddenAct = "gelu_pytorch_tanh";
    config.tieWordEmbeddings = true;
    config.padTokenId = 0;
    config.bosTokenId = 2;
    config.eosTokenId = 1;
    return config;
}

PiSizes piSizes(const PiConfig& config)
{
    PiSizes sizes;
    sizes.vision.modelType = "siglip_vision_model";
    sizes.vision.hiddenSize = 1152;
    sizes.vision.intermediateSize = 4304;
    sizes.vision.numHiddenLayers = 27;
    sizes.vision.numAttentionHeads = 16;
    sizes.vision.imageSize = config.imageResolution[0];
    sizes.vision.patchSize = 14;
    sizes.text = gemmaSizes(config.paligemmaVariant);
    sizes.expert = gemmaSizes(config.actionExpertVariant);
    return sizes;
}

void readText(const Json& json, const std::string& file, const std::string& path, TextConfig& config,
              FieldReader& parent)
{
    FieldReader reader(json, file, path);
    FieldsIn visit(reader, json);
    const Json* heads = reader.find("num_attention_heads");
    const Json* hidden = reader.find("hidden_size");
    visitText(visit, config);
    // Sizes that a file leaves out follow from those it gives.
    if (reader.find("num_key_value_heads") == nullptr && heads != nullptr) {
        config.numKeyValueHeads = config.numAttentionHeads;
    }
    if (reader.find("head_dim") == nullptr && (heads != nullptr || hidden != nullptr)) {
        config.headDim =
            std::max<std::int64_t>(1, config.hiddenSize / std::max<std::int64_t>(1, config.numAttentionHeads));
    }
    visit("rope_theta", config.ropeTheta, 1e-6, 1e15);
    if (const Json* rope = reader.find("rope_parameters"); rope != nullptr && rope->is_object()) {
        FieldReader ropeReader(*rope, file, path + "rope_parameters.");
        ropeReader.optional("rope_theta", config.ropeTheta, 1e-6, 1e15);
        std::string type = "default";
        ropeReader.optional("rope_type", type);
        if (type != "default") {
            ropeReader.reject("rope_type", "is \"" + type.substr(0, 60) + "\"; only \"default\" is computed here",
                              Errc::Unsupported);
        }
        reader.merge(ropeReader);
    }
    if (json.is_object() && json.contains("rope_scaling") && !json.at("rope_scaling").is_null()) {
        reader.reject("rope_scaling", "is set; rotary embeddings are not scaled here", Errc::Unsupported);
    }
    if (reader.ok() && config.numAttentionHeads % config.numKeyValueHeads != 0) {
        reader.reject("num_key_value_heads",
                      fmt::format("is {}, which does not divide the {} attention heads", config.numKeyValueHeads,
                                  config.numAttentionHeads));
    }
    config.otherFields = otherFieldsText(json, reader.unknownKeys());
    parent.merge(reader);
}

void readVision(const Json& json, const std::string& file, const std::string& path, VisionConfig& config,
                FieldReader& parent)
{
    FieldReader reader(json, file, path);
    FieldsIn visit(reader, json);
    visitVision(visit, config);
    if (reader.ok() && config.hiddenSize % config.numAttentionHeads != 0) {
        reader.reject("num_attention_heads",
                      fmt::format("is {}, which does not divide the hidden size {}", config.numAttentionHeads,
                                  config.hiddenSize));
    }
    if (reader.ok() && config.patchSize > config.imageSize) {
        reader.reject("patch_size",
                      fmt::format("is {}, larger than the image size {}", config.patchSize, config.imageSize));
    }
    config.otherFields = otherFieldsText(json, reader.unknownKeys());
    parent.merge(reader);
}

void readVlm(const Json& json, const std::string& file, const std::string& path, VlmConfig& config, FieldReader& parent)
{
    FieldReader reader(json, file, path);
    FieldsIn visit(reader, json);
    visitVlm(visit, config);
    if (const Json* text = reader.requireObject("text_config"); text != nullptr) {
        config.text = llamaDefaults();
        readText(*text, file, path + "text_config.", config.text, reader);
    }
    if (const Json* vision = reader.requireObject("vision_config"); vision != nullptr) {
        config.vision = smolVlmVisionDefaults();
        readVision(*vision, file, path + "vision_config.", config.vision, reader);
    }
    config.otherFields = otherFieldsText(json, reader.unknownKeys());
    parent.merge(reader);
}

OrderedJson textJson(const TextConfig& config)
{
    TextConfig copy = config;
    OrderedJson json = OrderedJson::object();
    FieldsOut visit(json);
    visitText(visit, copy);
    json["rope_theta"] = config.ropeTheta;
    json["rope_parameters"] = { { "rope_theta", config.ropeTheta }, { "rope_type", "default" } };
    addOtherFields(json, config.otherFields);
    return json;
}

OrderedJson visionJson(const VisionConfig& config)
{
    VisionConfig copy = config;
    OrderedJson json = OrderedJson::object();
    FieldsOut visit(json);
    visitVision(visit, copy);
    addOtherFields(json, config.otherFields);
    return json;
}

std::string otherFieldsText(const Json& source, const std::vector<std::string>& keys)
{
    if (keys.empty()) {
        return {};
    }
    Json other = Json::object();
    for (const std::string& key : keys) {
        other[key] = source.at(key);
    }
    return other.dump();
}

void addOtherFields(OrderedJson& json, const std::string& text)
{
    if (text.empty()) {
        return;
    }
    const OrderedJson other = OrderedJson::parse(text, nullptr, false);
    if (other.is_object()) {
        for (const auto& [key, value] : other.items()) {
            if (!json.contains(key)) {
                json[key] = value;
            }
        }
    }
}

} // namespace detail

OrderedJson vlmConfigJson(const VlmConfig& config)
{
    VlmConfig copy = config;
    OrderedJson json = OrderedJson::object();
    detail::FieldsOut visit(json);
    detail::visitVlm(visit, copy);
    json["text_config"] = detail::textJson(config.text);
    json["vision_config"] = detail::visionJson(config.vision);
    detail::addOtherFields(json, config.otherFields);
    return json;
}

} // namespace rankwise::io
