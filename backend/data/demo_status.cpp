// SPDX-License-Identifier: Apache-2.0
#include "backend/data/demo_status.h"

#include "backend/base/file.h"
#include "backend/base/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace rankwise::data {

namespace {

/// Calls `read` with a reader of each object of the list `key`.
template <class Read> void readList(FieldReader& reader, const std::string& file, const char* key, const Read& read)
{
    const Json* const list = reader.find(key);
    if (list == nullptr) {
        return;
    }
    if (!list->is_array()) {
        reader.reject(key, "is not a list");
        return;
    }
    for (const Json& entry : *list) {
        if (!entry.is_object()) {
            reader.reject(key, "holds something that is not an object");
            return;
        }
        FieldReader nested(entry, file, std::string(key) + ".");
        read(nested);
        reader.merge(nested);
    }
}

} // namespace

bool isDemoFolder(const std::filesystem::path& folder)
{
    const auto plan = readJsonFile(folder / "demo.json", { .maxBytes = 1u << 20 });
    return plan && plan->is_object() && plan->contains("plan");
}

Result<void> writeDemoStatus(const std::filesystem::path& folder, const DemoStatus& status)
{
    Json json = statusJson(status.worker);
    json["doing"] = status.doing;
    json["quick"] = status.quick;
    json["parts"] = Json::array();
    for (const DemoPart& part : status.parts) {
        json["parts"].push_back({ { "name", part.name }, { "fraction", part.fraction }, { "run", part.run } });
    }
    json["tallies"] = Json::array();
    for (const DemoTally& tally : status.tallies) {
        json["tallies"].push_back({ { "policy", tally.policy },
                                    { "task", tally.task },
                                    { "successes", tally.successes },
                                    { "trials", tally.trials } });
    }
    return writeFileAtomically(RunPaths { folder }.status(), jsonText(json));
}

Result<DemoStatus> readDemoStatus(const std::filesystem::path& folder)
{
    const RunPaths paths { folder };
    DemoStatus status;
    RW_TRY(status.worker, readRunStatus(paths));
    const std::string file = paths.status().string();
    RW_TRY(const Json json, readJsonFile(paths.status(), { .maxBytes = 1u << 20 }));
    FieldReader reader(json, file);
    reader.optional("doing", status.doing);
    reader.optional("quick", status.quick);
    readList(reader, file, "parts", [&](FieldReader& nested) {
        DemoPart& part = status.parts.emplace_back();
        nested.require("name", part.name);
        nested.require("fraction", part.fraction, 0, 1);
        nested.optional("run", part.run);
    });
    readList(reader, file, "tallies", [&](FieldReader& nested) {
        DemoTally& tally = status.tallies.emplace_back();
        nested.require("policy", tally.policy);
        nested.require("task", tally.task);
        nested.require("trials", tally.trials, 0);
        nested.require("successes", tally.successes, 0, std::max<std::int64_t>(0, tally.trials));
    });
    RW_TRY_VOID(reader.result());
    return status;
}

} // namespace rankwise::data
