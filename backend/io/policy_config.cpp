// Parsing of policy configurations: types and ranges first, then what must agree with each other.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/policy_config.h"

#include "backend/base/file.h"
#include "backend/io/policy_config_fields.h"
#include "backend/io/safetensors_reader.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::pair<FeatureType, std::string_view>, 6> kFeatureTypes { {
    { FeatureType::State, "STATE" },
    { FeatureType::Visual, "VISUAL" },
    { FeatureType::Env, "ENV" },
    { FeatureType::Action, "ACTION" },
    { FeatureType::Reward, "REWARD" },
    { FeatureType::Language, "LANGUAGE" },
} };

constexpr std::array<std::pair<NormalizationMode, std::string_view>, 5> kNormalizationModes { {
    { NormalizationMode::Identity, "IDENTITY" },
    { NormalizationMode::MeanStd, "MEAN_STD" },
    { NormalizationMode::MinMax, "MIN_MAX" },
    { NormalizationMode::Quantiles, "QUANTILES" },
    { NormalizationMode::Quantile10, "QUANTILE10" },
} };

template <class Table, class Value> std::string_view nameIn(const Table& table, Value value)
{
    const auto row = std::find_if(table.begin(), table.end(), [&](const auto& r) { return r.first == value; });
    RW_CHECK(row != table.end());
    return row->second;
}

template <class Value, std::size_t N>
std::optional<Value> valueIn(const std::array<std::pair<Value, std::string_view>, N>& table, std::string_view name)
{
    const auto row = std::find_if(table.begin(), table.end(), [&](const auto& r) { return r.second == name; });
    return row == table.end() ? std::nullopt : std::optional(row->first);
}

/// Keys of lerobot's configurations that change nothing here; kept for rewriting, no reason to warn.
const std::set<std::string, std::less<>>& passiveKeys()
{
    static const std::set<std::string, std::less<>> keys {
        "push_to_hub",         "repo_id",    "private",       "tags",         "license",
        "pretrained_revision", "rtc_config", "compile_model", "compile_mode", "compute_dtype_checkpoint",
    };
    return keys;
}

/// Keys that transformers adds to every configuration.
const std::set<std::string, std::less<>>& transformersKeys()
{
    static const std::set<std::string, std::less<>> keys {
        "_name_or_path",
        "_commit_hash",
        "add_cross_attention",
        "architectures",
        "auto_map",
        "bad_words_ids",
        "begin_suppress_tokens",
        "bos_token_id",
        "chunk_size_feed_forward",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "eos_token_id",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "id2label",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_projector_states",
        "output_scores",
        "prefix",
        "problem_type",
        "pruned_heads",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tie_word_embeddings",
        "timm_model_ids",
        "timm_override_act_layers",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "typical_p",
        "use_bfloat16",
        "use_cache",
    };
    return keys;
}

PolicyConfig smolVlaDefaults()
{
    PolicyConfig config;
    config.type = "smolvla";
    config.model = SmolVlaConfig {};
    config.normalizationMapping = { { FeatureType::Visual, NormalizationMode::Identity },
                                    { FeatureType::State, NormalizationMode::MeanStd },
                                    { FeatureType::Action, NormalizationMode::MeanStd } };
    return config;
}

PolicyConfig piDefaults(std::string_view type)
{
    PolicyConfig config = smolVlaDefaults();
    config.type = type;
    PiConfig pi;
    pi.sizes = detail::piSizes(pi);
    config.model = std::move(pi);
    config.optimizer = { .lr = 2.5e-5, .betas = { 0.9, 0.95 }, .eps = 1e-8, .weightDecay = 0.01, .gradClipNorm = 1.0 };
    if (type == "pi05") {
        config.tokenizerMaxLength = 200;
        config.normalizationMapping[FeatureType::State] = NormalizationMode::Quantiles;
        config.normalizationMapping[FeatureType::Action] = NormalizationMode::Quantiles;
    }
    return config;
}

PolicyConfig openVlaDefaults()
{
    PolicyConfig config;
    config.type = "openvla";
    config.chunkSize = 1;
    config.nActionSteps = 1;
    config.maxActionDim = 7;
    config.tokenizerMaxLength = 2048;
    OpenVlaConfig openvla;
    openvla.text = detail::llamaDefaults();
    openvla.text.vocabSize = 32'064;
    openvla.text.padTokenId = 32'000;
    openvla.vision = {
        { "vit_large_patch14_reg4_dinov2.lvd142m", 24, 1024, 16, 4096, 14, 5, 1e-6 },
        { "vit_so400m_patch14_siglip_224", 27, 1152, 16, 4304, 14, 0, 1e-6 },
    };
    config.model = std::move(openvla);
    return config;
}

/// {"observation.state": {"type": "STATE", "shape": [7]}, ...} in the file's order.
std::vector<PolicyFeature> readFeatures(FieldReader& reader, const OrderedJson& ordered, const std::string& key,
                                        const std::string& file)
{
    const Json* object = reader.find(key);
    if (object == nullptr) {
        return {};
    }
    if (!object->is_object()) {
        reader.reject(key, std::string("must be an object, not ") + object->type_name());
        return {};
    }
    std::vector<PolicyFeature> features;
    for (const auto& [name, unused] : ordered.at(key).items()) {
        PolicyFeature feature;
        feature.name = name;
        FieldReader entry(object->at(name), file, key + "." + displayName(name, 200) + ".");
        std::string type;
        entry.require("type", type);
        entry.require("shape", feature.shape, 1, detail::kMaxWidth);
        if (entry.ok()) {
            if (const auto known = featureTypeFromName(type)) {
                feature.type = *known;
            } else {
                entry.reject("type", "is \"" + displayName(type, 60) + "\", which is no feature type");
            }
            if (feature.shape.size() > 8) {
                entry.reject("shape", "has more than 8 dimensions");
            }
        }
        reader.merge(entry);
        features.push_back(std::move(feature));
    }
    return features;
}

void readNormalization(FieldReader& reader, std::map<FeatureType, NormalizationMode>& mapping)
{
    const Json* object = reader.find("normalization_mapping");
    if (object == nullptr) {
        return;
    }
    if (!object->is_object()) {
        reader.reject("normalization_mapping", std::string("must be an object, not ") + object->type_name());
        return;
    }
    mapping.clear();
    for (const auto& [key, value] : object->items()) {
        const auto type = featureTypeFromName(key);
        const auto mode =
            value.is_string() ? normalizationModeFromName(value.get_ref<const std::string&>()) : std::nullopt;
        if (!type || !mode) {
            reader.reject("normalization_mapping." + displayName(key, 60),
                          type ? "is no normalization mode" : "is no feature type");
            return;
        }
        mapping[*type] = *mode;
    }
}

/// A feature named as an action and the rest of the agreement between features.
void checkFeatures(FieldReader& reader, const PolicyConfig& config, std::vector<Warning>& warnings,
                   const std::string& file)
{
    std::set<std::string> names;
    for (const auto* features : { &config.inputFeatures, &config.outputFeatures }) {
        for (const PolicyFeature& feature : *features) {
            names.insert(feature.name);
            if (feature.type == FeatureType::Visual && feature.shape.size() != 3) {
                reader.reject("input_features." + displayName(feature.name, 200) + ".shape",
                              "must be [channels, height, width] for an image");
            }
        }
    }
    if (names.size() != config.inputFeatures.size() + config.outputFeatures.size()) {
        reader.reject("output_features", "names a feature that is an input as well");
    }
    if (config.inputFeatures.empty() && config.outputFeatures.empty()) {
        warnings.push_back({ "has no input and output features: a base model, whose actions mean nothing before it is "
                             "given a data set",
                             file });
        return;
    }
    const auto isAction = [](const PolicyFeature& feature) { return feature.type == FeatureType::Action; };
    if (std::none_of(config.outputFeatures.begin(), config.outputFeatures.end(), isAction)) {
        reader.reject("output_features", "has no feature of type ACTION", Errc::FieldMissing);
    }
}

void readSmolVla(FieldReader& reader, const Json& json, const Json* vlmJson, const std::string& file,
                 SmolVlaConfig& config)
{
    detail::FieldsIn visit(reader, json);
    detail::visitSmolVla(visit, config);
    const auto resize = json.find("resize_imgs_with_padding");
    if (resize != json.end() && resize->is_null()) {
        (void)reader.find("resize_imgs_with_padding");
        config.resizeImages = false;
    } else {
        visit("resize_imgs_with_padding", config.resizeImgsWithPadding, 1, 65'536);
    }
    if (config.useDeltaJointActionsAloha) {
        reader.reject("use_delta_joint_actions_aloha", "is true, which the reference does not implement",
                      Errc::Unsupported);
    }
    if (!(config.minPeriod < config.maxPeriod)) {
        reader.reject("min_period", "must be smaller than max_period");
    }
    const Json* embedded = reader.find("vlm_config");
    if (embedded != nullptr && embedded->is_object()) {
        detail::readVlm(*embedded, file, "vlm_config.", config.vlm, reader);
        config.vlmFromFile = true;
    } else if (vlmJson != nullptr) {
        detail::readVlm(*vlmJson, file + ": vlm_config.json", "", config.vlm, reader);
        config.vlmFromFile = true;
    }
    const std::int64_t layers = config.numVlmLayers > 0 ? std::min(config.numVlmLayers, config.vlm.text.numHiddenLayers)
                                                        : config.vlm.text.numHiddenLayers;
    if (config.numExpertLayers > 0 && layers % config.numExpertLayers != 0) {
        reader.reject("num_expert_layers",
                      fmt::format("is {}, which does not divide the {} layers of the language model",
                                  config.numExpertLayers, layers));
    }
    if (config.expertHiddenSize() < 2) {
        reader.reject("expert_width_multiplier", "leaves the expert no width");
    }
}

void readPi(FieldReader& reader, const Json& json, const std::string& file, PiConfig& config)
{
    detail::FieldsIn visit(reader, json);
    detail::visitPi(visit, config);
    detail::visitPiRelative(visit, config);
    config.relativeFieldsFromFile = json.contains("use_relative_actions");
    if (!(config.minPeriod < config.maxPeriod)) {
        reader.reject("min_period", "must be smaller than max_period");
    }
    config.sizes = detail::piSizes(config);
    const Json* sizes = reader.find("sizes");
    if (sizes == nullptr) {
        return;
    }
    FieldReader nested(*sizes, file, "sizes.");
    if (const Json* vision = nested.find("vision")) {
        detail::readVision(*vision, file, "sizes.vision.", config.sizes.vision, nested);
    }
    if (const Json* text = nested.find("text")) {
        detail::readText(*text, file, "sizes.text.", config.sizes.text, nested);
    }
    if (const Json* expert = nested.find("expert")) {
        detail::readText(*expert, file, "sizes.expert.", config.sizes.expert, nested);
    }
    config.sizesFromFile = true;
    reader.merge(nested);
}

ActionStatistics readActionStatistics(const Json& json, const std::string& file, const std::string& path,
                                      FieldReader& parent)
{
    ActionStatistics statistics;
    FieldReader reader(json, file, path);
    reader.require("q01", statistics.q01);
    reader.require("q99", statistics.q99);
    for (const auto& [key, list] : { std::pair { "mean", &statistics.mean }, std::pair { "std", &statistics.std },
                                     std::pair { "min", &statistics.min }, std::pair { "max", &statistics.max } }) {
        reader.optional(key, *list);
        if (!list->empty() && list->size() != statistics.q01.size()) {
            reader.reject(key, "is not as long as q01");
        }
    }
    if (statistics.q01.empty() || statistics.q01.size() != statistics.q99.size()) {
        reader.reject("q99", "is not as long as q01, or empty");
    }
    if (const Json* mask = reader.find("mask"); mask != nullptr) {
        const bool valid = mask->is_array() && mask->size() == statistics.q01.size()
            && std::all_of(mask->begin(), mask->end(), [](const Json& item) { return item.is_boolean(); });
        if (!valid) {
            reader.reject("mask", "must be a list of truth values as long as q01");
        } else {
            statistics.mask = mask->get<std::vector<bool>>();
        }
    }
    parent.merge(reader);
    return statistics;
}

/// norm_stats of OpenVLA, or a dataset_statistics.json: data set -> {"action": {...}, ...}.
void readNormStats(const Json& object, const std::string& file, const std::string& path, OpenVlaConfig& config,
                   FieldReader& parent)
{
    if (!object.is_object()) {
        parent.reject("norm_stats", std::string("must be an object, not ") + object.type_name());
        return;
    }
    for (const auto& [name, entry] : object.items()) {
        const std::string prefix = path + displayName(name, 200) + ".";
        FieldReader reader(entry, file, prefix);
        if (const Json* action = reader.requireObject("action"); action != nullptr) {
            ActionStatistics statistics = readActionStatistics(*action, file, prefix + "action.", reader);
            statistics.otherFields = detail::otherFieldsText(entry, reader.unknownKeys());
            config.normStats[name] = std::move(statistics);
        }
        parent.merge(reader);
    }
}

void readOpenVla(FieldReader& reader, const Json& json, const std::string& file, OpenVlaConfig& config)
{
    detail::FieldsIn visit(reader, json);
    detail::visitOpenVla(visit, config);
    if (const Json* text = reader.find("text_config")) {
        config.text = detail::llamaDefaults();
        detail::readText(*text, file, "text_config.", config.text, reader);
    }
    if (const Json* stats = reader.find("norm_stats")) {
        readNormStats(*stats, file, "norm_stats.", config, reader);
    }
    if (!config.useFusedVisionBackbone && config.vision.size() > 1) {
        config.vision.resize(1);
    }
    const Json* towers = reader.find("vision_sizes");
    if (towers == nullptr) {
        return;
    }
    if (!towers->is_array() || towers->empty() || towers->size() > 2) {
        reader.reject("vision_sizes", "must be a list of one or two vision towers");
        return;
    }
    config.vision.assign(towers->size(), {});
    for (std::size_t i = 0; i < towers->size(); ++i) {
        const Json& tower = towers->at(i);
        FieldReader nested(tower, file, fmt::format("vision_sizes.{}.", i));
        detail::FieldsIn visitTower(nested, tower);
        detail::visitTimm(visitTower, config.vision[i]);
        if (nested.ok() && config.vision[i].embedDim % config.vision[i].numHeads != 0) {
            nested.reject("num_heads", "does not divide embed_dim");
        }
        reader.merge(nested);
    }
    config.visionFromFile = true;
}

/// The policy's type: lerobot's "type", or "openvla" by transformers' "model_type".
Result<std::string> typeOf(const Json& json, const std::string& file)
{
    FieldReader reader(json, file);
    std::string type;
    std::string modelType;
    reader.optional("model_type", modelType);
    reader.optional("type", type);
    RW_TRY_VOID(reader.result());
    if (type.empty() && modelType == "openvla") {
        return modelType;
    }
    if (type.empty()) {
        return fail(Errc::FieldMissing,
                    "field \"type\" is missing, which names the policy"
                        + (modelType.empty() ? std::string()
                                             : "; this is the configuration of a " + displayName(modelType, 60)
                                   + " model, not of a policy"),
                    file);
    }
    return type;
}

void warnOfUnknownKeys(const std::vector<std::string>& keys, const PolicyConfig& config, const std::string& file,
                       std::vector<Warning>& warnings)
{
    const auto& passive = config.type == "openvla" ? transformersKeys() : passiveKeys();
    std::size_t shown = 0;
    for (const std::string& key : keys) {
        if (!passive.contains(key) && ++shown <= 20) {
            warnings.push_back(
                { fmt::format("the key \"{}\" is not known and has no effect", displayName(key, 200)), file });
        }
    }
    if (shown > 20) {
        warnings.push_back({ fmt::format("{} more keys are not known", shown - 20), file });
    }
}

/// Empty when there is no such file.
Result<std::string> readIfThere(const fs::path& path)
{
    std::error_code error;
    if (path.empty() || !fs::is_regular_file(path, error)) {
        return std::string();
    }
    return readFile(path);
}

/// Where the sizes of the vision-language model stand beside config.json.
fs::path findVlmConfig(const fs::path& folder, const std::string& vlmModelName)
{
    std::vector<fs::path> candidates { folder / "vlm_config.json" };
    const bool plain = !vlmModelName.empty() && vlmModelName != "." && vlmModelName != ".."
        && vlmModelName.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
    if (plain) {
        candidates.push_back(folder / vlmModelName);
        candidates.push_back(folder / vlmModelName / "config.json");
    }
    for (const fs::path& candidate : candidates) {
        std::error_code error;
        if (fs::is_regular_file(candidate, error)) {
            return candidate;
        }
    }
    return {};
}

} // namespace

std::string_view featureTypeName(FeatureType type)
{
    return nameIn(kFeatureTypes, type);
}

std::optional<FeatureType> featureTypeFromName(std::string_view name)
{
    return valueIn(kFeatureTypes, name);
}

std::string_view normalizationModeName(NormalizationMode mode)
{
    return nameIn(kNormalizationModes, mode);
}

std::optional<NormalizationMode> normalizationModeFromName(std::string_view name)
{
    return valueIn(kNormalizationModes, name);
}

std::int64_t SmolVlaConfig::expertHiddenSize() const
{
    return static_cast<std::int64_t>(static_cast<double>(vlm.text.hiddenSize) * expertWidthMultiplier);
}

std::int64_t SmolVlaConfig::expertIntermediateSize() const
{
    constexpr std::int64_t kMultipleOf = 256;
    // int(2 * width / 3), as floating-point division rounds it; then 4 times, rounded up.
    const auto twoThirds = static_cast<std::int64_t>(static_cast<double>(2 * expertHiddenSize()) / 3.0);
    const std::int64_t size = 4 * twoThirds;
    return kMultipleOf * ((size + kMultipleOf - 1) / kMultipleOf);
}

std::vector<std::string> PolicyConfig::cameraNames() const
{
    std::vector<std::string> names;
    for (const PolicyFeature& feature : inputFeatures) {
        if (feature.type == FeatureType::Visual) {
            names.push_back(feature.name);
        }
    }
    return names;
}

const PolicyFeature* PolicyConfig::findFeature(std::string_view name) const
{
    for (const auto* features : { &inputFeatures, &outputFeatures }) {
        for (const PolicyFeature& feature : *features) {
            if (feature.name == name) {
                return &feature;
            }
        }
    }
    return nullptr;
}

std::int64_t PolicyConfig::stateDim() const
{
    const PolicyFeature* feature = findFeature("observation.state");
    return feature == nullptr || feature->shape.empty() ? 0 : feature->shape.front();
}

std::int64_t PolicyConfig::actionDim() const
{
    const PolicyFeature* feature = findFeature("action");
    return feature == nullptr || feature->shape.empty() ? 0 : feature->shape.front();
}

Result<PolicyConfig> defaultPolicyConfig(std::string_view type)
{
    if (type == "smolvla") {
        return smolVlaDefaults();
    }
    if (type == "pi0" || type == "pi05") {
        return piDefaults(type);
    }
    if (type == "openvla") {
        return openVlaDefaults();
    }
    return fail(Errc::Unsupported, "is none of the policy types smolvla, pi0, pi05, openvla", displayName(type, 60));
}

Result<PolicyConfig> parsePolicyConfig(std::string_view text, std::string_view vlmText, const std::string& subject,
                                       std::vector<Warning>& warnings)
{
    RW_TRY(const Json json, parseJson(text, subject));
    RW_TRY(const OrderedJson ordered, parseOrderedJson(text, subject));
    RW_TRY(const std::string type, typeOf(json, subject));
    std::optional<Json> vlmJson;
    if (!vlmText.empty()) {
        RW_TRY(vlmJson, parseJson(vlmText, subject + ": vlm_config.json"));
    }
    PolicyConfig config;
    if (auto known = defaultPolicyConfig(type)) {
        config = std::move(*known);
    } else {
        config.type = type;
        warnings.push_back({ fmt::format("policies of type \"{}\" are not run here; only the common fields were read",
                                         displayName(type, 60)),
                             subject });
    }

    FieldReader reader(json, subject);
    (void)reader.find("type");
    detail::FieldsIn visit(reader, json);
    if (auto* openvla = std::get_if<OpenVlaConfig>(&config.model)) {
        (void)reader.find("model_type");
        readOpenVla(reader, json, subject, *openvla);
        if (!openvla->normStats.empty()) {
            config.maxActionDim = static_cast<std::int64_t>(openvla->normStats.begin()->second.q01.size());
        }
    } else {
        config.inputFeatures = readFeatures(reader, ordered, "input_features", subject);
        config.outputFeatures = readFeatures(reader, ordered, "output_features", subject);
        readNormalization(reader, config.normalizationMapping);
        detail::visitCommon(visit, config);
        detail::visitTraining(visit, config.optimizer, config.scheduler);
        if (auto* smolvla = std::get_if<SmolVlaConfig>(&config.model)) {
            readSmolVla(reader, json, vlmJson ? &*vlmJson : nullptr, subject, *smolvla);
        } else if (auto* pi = std::get_if<PiConfig>(&config.model)) {
            readPi(reader, json, subject, *pi);
        }
        const bool chunked = config.model.index() != 0 || json.contains("chunk_size");
        if (chunked && config.nActionSteps > config.chunkSize) {
            reader.reject("n_action_steps",
                          fmt::format("is {}, more than the chunk_size of {}", config.nActionSteps, config.chunkSize));
        }
        if (reader.ok()) {
            checkFeatures(reader, config, warnings, subject);
        }
    }
    RW_TRY_VOID(reader.result());
    const std::vector<std::string> unknown = reader.unknownKeys();
    if (config.model.index() == 0) {
        config.otherFields = ordered.dump();
    } else {
        config.otherFields = detail::otherFieldsText(json, unknown);
        warnOfUnknownKeys(unknown, config, subject, warnings);
    }
    return config;
}

Result<PolicyConfig> readPolicyConfig(const fs::path& fileOrFolder, std::vector<Warning>& warnings)
{
    std::error_code error;
    const fs::path path = fs::is_directory(fileOrFolder, error) ? fileOrFolder / "config.json" : fileOrFolder;
    const fs::path folder = path.parent_path();
    RW_TRY(const std::string text, readFile(path));

    std::string vlmModelName;
    if (const auto json = parseJson(text, path.string()); json && json->is_object()) {
        vlmModelName = json->contains("vlm_model_name") && json->at("vlm_model_name").is_string()
            ? json->at("vlm_model_name").get<std::string>()
            : std::string();
    }
    RW_TRY(const std::string vlmText, readIfThere(findVlmConfig(folder, vlmModelName)));
    RW_TRY(PolicyConfig config, parsePolicyConfig(text, vlmText, path.string(), warnings));

    if (auto* openvla = std::get_if<OpenVlaConfig>(&config.model)) {
        const fs::path statistics = folder / "dataset_statistics.json";
        RW_TRY(const std::string statisticsText, readIfThere(statistics));
        if (!statisticsText.empty()) {
            RW_TRY(const Json json, parseJson(statisticsText, statistics.string()));
            FieldReader reader(json, statistics.string());
            readNormStats(json, statistics.string(), "", *openvla, reader);
            RW_TRY_VOID(reader.result());
        }
    }
    return config;
}

} // namespace rankwise::io
