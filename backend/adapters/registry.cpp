// The list of adaptation methods: a method is one line here.
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/adaptation_method.h"
#include "backend/adapters/full.h"
#include "backend/adapters/lora.h"
#include "backend/adapters/lora_sp.h"
#include "backend/adapters/peft_folder.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

struct Entry {
    std::string_view name;
    std::string_view peftType; ///< peft_type of its folders.
    std::unique_ptr<AdaptationMethod> (*make)(FieldReader&);
};

constexpr std::array kMethods {
    Entry { "full", "FULL", makeFull },
    Entry { "lora", "LORA", makeLora },
    Entry { "lora_sp", "LORA_SP", makeLoraSp },
};

std::string knownNames()
{
    std::string text;
    for (const std::string& name : methodNames()) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text;
}

} // namespace

Result<void> AdaptationMethod::set(std::string_view parameter, double)
{
    return fail(Errc::FieldInvalid, fmt::format("method \"{}\" has no such parameter to change", name()),
                std::string(parameter));
}

Result<void> AdaptationMethod::saveCompact(const std::filesystem::path&, const std::string&, double) const
{
    return fail(Errc::Unsupported, fmt::format("method \"{}\" has no vectors to leave out", name()),
                std::string(name()));
}

Result<void> AdaptationMethod::merge(models::Policy&)
{
    return fail(Errc::Unsupported, fmt::format("\"{}\" cannot be merged: its update depends on the input", name()),
                std::string(name()));
}

Result<std::unique_ptr<AdaptationMethod>> makeMethod(const Json& options, const std::string& file)
{
    if (!options.is_object()) {
        return fail(Errc::FieldInvalid, "the adaptation method must be an object", file);
    }
    FieldReader reader(options, file, "method.");
    std::string type;
    reader.require("type", type);
    RW_TRY_VOID(reader.result());
    for (const Entry& entry : kMethods) {
        if (entry.name == type) {
            std::unique_ptr<AdaptationMethod> method = entry.make(reader);
            for (const std::string& key : reader.unknownKeys()) {
                reader.reject(key, fmt::format("is no option of \"{}\"", type));
            }
            RW_TRY_VOID(reader.result());
            return method;
        }
    }
    return fail(Errc::Unsupported, fmt::format("\"{}\" is no adaptation method; known: {}", type, knownNames()), file);
}

Result<std::unique_ptr<AdaptationMethod>> methodFromFolder(const std::filesystem::path& folder, models::Policy& policy)
{
    const std::filesystem::path file = folder / "adapter_config.json";
    RW_TRY(const Json config, readJsonFile(file));
    FieldReader reader(config, file.string());
    std::string type;
    reader.require("peft_type", type);
    RW_TRY_VOID(reader.result());
    const auto entry = std::ranges::find(kMethods, type, [](const Entry& e) { return std::string(e.peftType); });
    if (entry == kMethods.end()) {
        return fail(Errc::Unsupported, fmt::format("peft_type \"{}\" is not run as an adapter here", type),
                    file.string());
    }
    Json options = config;
    if (type == "LORA") {
        // The modules and ranks are those of the tensors, which readPeftFolder() checks against the configuration.
        RW_TRY(const PeftFolder stored, readPeftFolder(folder));
        options = Json { { "dropout", config.value("lora_dropout", 0.0) } };
        std::vector<std::string> paths;
        for (const PeftModule& module : stored.modules) {
            paths.push_back(module.path);
        }
        std::vector<std::string> all;
        for (const models::Linear& linear : policy.linears()) {
            all.push_back(linear.path);
        }
        options["target_modules"] = peftTargets({}, paths, all);
        if (config.contains("modules_to_save") && config["modules_to_save"].is_array()) {
            options["modules_to_save"] = config["modules_to_save"];
        }
    } else {
        for (const char* key : { "peft_type", "format", "compacted", "base_model_name_or_path" }) {
            options.erase(key);
        }
    }
    options["type"] = entry->name;
    RW_TRY(std::unique_ptr<AdaptationMethod> method, makeMethod(options, file.string()));
    RW_TRY_VOID(method->attach(policy, 0));
    if (auto loaded = method->load(folder); !loaded) {
        method->detach(policy);
        return tl::unexpected(std::move(loaded).error());
    }
    return method;
}

std::vector<std::string> methodNames()
{
    std::vector<std::string> names;
    for (const Entry& entry : kMethods) {
        names.emplace_back(entry.name);
    }
    std::ranges::sort(names);
    return names;
}

} // namespace rankwise::adapters
