// Writing policy configurations as their own programs lay them out.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/io/policy_config.h"
#include "backend/io/policy_config_fields.h"

#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace {

OrderedJson featuresJson(const std::vector<PolicyFeature>& features)
{
    OrderedJson json = OrderedJson::object();
    for (const PolicyFeature& feature : features) {
        json[feature.name] = { { "type", std::string(featureTypeName(feature.type)) }, { "shape", feature.shape } };
    }
    return json;
}

OrderedJson statisticsJson(const ActionStatistics& statistics)
{
    OrderedJson json = OrderedJson::object();
    for (const auto& [key, list] : { std::pair { "mean", &statistics.mean }, std::pair { "std", &statistics.std },
                                     std::pair { "max", &statistics.max }, std::pair { "min", &statistics.min },
                                     std::pair { "q01", &statistics.q01 }, std::pair { "q99", &statistics.q99 } }) {
        if (!list->empty()) {
            json[key] = *list;
        }
    }
    if (!statistics.mask.empty()) {
        json["mask"] = statistics.mask;
    }
    return json;
}

/// Returns the towers' names, for a file that does not have them.
OrderedJson writeOpenVla(OrderedJson& json, OpenVlaConfig config)
{
    json["model_type"] = "openvla";
    detail::FieldsOut visit(json);
    detail::visitOpenVla(visit, config);
    json["text_config"] = detail::textJson(config.text);
    OrderedJson stats = OrderedJson::object();
    for (const auto& [name, statistics] : config.normStats) {
        OrderedJson entry = OrderedJson::object();
        entry["action"] = statisticsJson(statistics);
        detail::addOtherFields(entry, statistics.otherFields);
        stats[name] = std::move(entry);
    }
    json["norm_stats"] = std::move(stats);
    OrderedJson ids = OrderedJson::array();
    OrderedJson towers = OrderedJson::array();
    for (TimmVisionConfig& tower : config.vision) {
        ids.push_back(tower.timmId);
        OrderedJson entry = OrderedJson::object();
        detail::FieldsOut visitTower(entry);
        detail::visitTimm(visitTower, tower);
        towers.push_back(std::move(entry));
    }
    if (config.visionFromFile) {
        json["vision_sizes"] = std::move(towers);
    }
    return ids;
}

void writeModel(OrderedJson& json, const PolicyConfig& config)
{
    detail::FieldsOut visit(json);
    if (const SmolVlaConfig* smolvla = config.smolvla()) {
        SmolVlaConfig copy = *smolvla;
        detail::visitSmolVla(visit, copy);
        json["resize_imgs_with_padding"] = copy.resizeImages ? OrderedJson(copy.resizeImgsWithPadding) : OrderedJson();
    } else if (const PiConfig* pi = config.pi()) {
        PiConfig copy = *pi;
        detail::visitPi(visit, copy);
        if (copy.relativeFieldsFromFile || copy.useRelativeActions) {
            detail::visitPiRelative(visit, copy);
        }
        if (copy.sizesFromFile) {
            json["sizes"] = { { "vision", detail::visionJson(copy.sizes.vision) },
                              { "text", detail::textJson(copy.sizes.text) },
                              { "expert", detail::textJson(copy.sizes.expert) } };
        }
    }
}

} // namespace

OrderedJson policyConfigJson(const PolicyConfig& config)
{
    OrderedJson json = OrderedJson::object();
    OrderedJson towerNames;
    if (config.model.index() == 0) {
        json["type"] = config.type;
    } else if (const OpenVlaConfig* openvla = config.openvla()) {
        towerNames = writeOpenVla(json, *openvla);
    } else {
        json["type"] = config.type;
        json["input_features"] = featuresJson(config.inputFeatures);
        json["output_features"] = featuresJson(config.outputFeatures);
        OrderedJson mapping = OrderedJson::object();
        for (const auto& [type, mode] : config.normalizationMapping) {
            mapping[std::string(featureTypeName(type))] = std::string(normalizationModeName(mode));
        }
        json["normalization_mapping"] = std::move(mapping);
        PolicyConfig copy = config;
        detail::FieldsOut visit(json);
        detail::visitCommon(visit, copy);
        writeModel(json, config);
        detail::visitTraining(visit, copy.optimizer, copy.scheduler);
    }
    detail::addOtherFields(json, config.otherFields);
    if (!towerNames.is_null() && !json.contains("timm_model_ids")) {
        json["timm_model_ids"] = std::move(towerNames);
    }
    return json;
}

Result<void> writePolicyConfig(const PolicyConfig& config, const std::filesystem::path& folder)
{
    const SmolVlaConfig* smolvla = config.smolvla();
    if (smolvla != nullptr && smolvla->vlmFromFile) {
        RW_TRY_VOID(writeFileAtomically(folder / "vlm_config.json", jsonText(vlmConfigJson(smolvla->vlm))));
    }
    return writeFileAtomically(folder / "config.json", jsonText(policyConfigJson(config)));
}

} // namespace rankwise::io
