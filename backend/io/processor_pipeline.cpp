// policy_preprocessor.json and policy_postprocessor.json: which steps, with what configuration and state file.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/io/policy_config.h"
#include "backend/io/safetensors_reader.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace {

constexpr std::size_t kMaxSteps = 1000;

bool isPlainName(const std::string& name)
{
    return name != "." && name != ".." && name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

ProcessorStep readStep(const Json& json, const OrderedJson& ordered, const std::string& file, const std::string& path,
                       FieldReader& parent, std::vector<Warning>& warnings)
{
    ProcessorStep step;
    FieldReader reader(json, file, path);
    reader.optional("registry_name", step.registryName);
    std::string className;
    reader.optional("class", className);
    if (step.registryName.empty()) {
        reader.reject("registry_name",
                      className.empty() ? "is missing; a string is expected"
                                        : "is missing; steps given by a Python class (\"" + displayName(className, 100)
                              + "\") cannot be run",
                      className.empty() ? Errc::FieldMissing : Errc::Unsupported);
    }
    if (const Json* config = reader.find("config"); config != nullptr) {
        if (config->is_object()) {
            step.config = ordered.at("config").dump();
        } else {
            reader.reject("config", std::string("must be an object, not ") + config->type_name());
        }
    }
    reader.optional("state_file", step.stateFile);
    if (!isPlainName(step.stateFile)) {
        reader.reject("state_file",
                      "is \"" + displayName(step.stateFile, 200)
                          + "\"; a plain name of a file in the same folder is expected");
    }
    for (const std::string& key : reader.unknownKeys()) {
        warnings.push_back(
            { fmt::format("the key \"{}{}\" is not known and has no effect", path, displayName(key, 200)), file });
    }
    parent.merge(reader);
    return step;
}

} // namespace

Result<ProcessorPipeline> parseProcessorPipeline(std::string_view text, const std::string& subject,
                                                 std::vector<Warning>& warnings)
{
    RW_TRY(const Json json, parseJson(text, subject));
    RW_TRY(const OrderedJson ordered, parseOrderedJson(text, subject));
    FieldReader reader(json, subject);
    ProcessorPipeline pipeline;
    reader.optional("name", pipeline.name);
    const Json* steps = reader.find("steps");
    if (steps == nullptr) {
        reader.reject("steps", "is missing; a list of steps is expected", Errc::FieldMissing);
    } else if (!steps->is_array()) {
        reader.reject("steps", std::string("must be a list, not ") + steps->type_name());
    } else if (steps->size() > kMaxSteps) {
        reader.reject("steps", fmt::format("has {} steps, at most {} are read", steps->size(), kMaxSteps),
                      Errc::TooLarge);
    } else {
        for (std::size_t i = 0; i < steps->size(); ++i) {
            pipeline.steps.push_back(readStep(steps->at(i), ordered.at("steps").at(i), subject,
                                              fmt::format("steps.{}.", i), reader, warnings));
        }
    }
    RW_TRY_VOID(reader.result());
    return pipeline;
}

Result<ProcessorPipeline> readProcessorPipeline(const std::filesystem::path& file, std::vector<Warning>& warnings)
{
    RW_TRY(const std::string text, readFile(file));
    return parseProcessorPipeline(text, file.string(), warnings);
}

OrderedJson processorPipelineJson(const ProcessorPipeline& pipeline)
{
    OrderedJson steps = OrderedJson::array();
    for (const ProcessorStep& step : pipeline.steps) {
        OrderedJson entry = OrderedJson::object();
        entry["registry_name"] = step.registryName;
        entry["config"] = OrderedJson::parse(step.config);
        if (!step.stateFile.empty()) {
            entry["state_file"] = step.stateFile;
        }
        steps.push_back(std::move(entry));
    }
    OrderedJson json = OrderedJson::object();
    json["name"] = pipeline.name;
    json["steps"] = std::move(steps);
    return json;
}

} // namespace rankwise::io
