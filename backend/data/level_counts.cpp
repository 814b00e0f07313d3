// The picture levels of every camera over all recorded episodes.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/level_counts.h"

#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/data/dataset_tables.h"

#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace {

constexpr const char* kFile = "rankwise_levels.json";

bool readCamera(const Json& json, ChannelHistogram& histogram)
{
    const auto frames = json.is_object() ? json.find("frames") : json.end();
    const auto counts = json.is_object() ? json.find("counts") : json.end();
    if (!json.is_object() || frames == json.end() || counts == json.end() || !frames->is_number_unsigned()
        || !counts->is_array() || static_cast<std::int64_t>(counts->size()) != histogram.channels()) {
        return false;
    }
    std::vector<std::uint64_t> values;
    for (const Json& channel : *counts) {
        if (!channel.is_array() || channel.size() != 256) {
            return false;
        }
        for (const Json& count : channel) {
            if (!count.is_number_unsigned() || count.get<std::uint64_t>() >> 53 != 0) {
                return false;
            }
            values.push_back(count.get<std::uint64_t>());
        }
    }
    histogram.addCounts(values, frames->get<std::int64_t>());
    return true;
}

} // namespace

LevelCounts readLevelCounts(const std::filesystem::path& root, const DatasetInfo& info)
{
    LevelCounts result;
    LevelCounts empty;
    for (const std::string& key : info.cameraKeys()) {
        empty.cameras.emplace(key, ChannelHistogram(pictureShape(*info.find(key)).channels));
    }
    const auto json = readJsonFile(root / "meta" / kFile);
    const bool usable = json && json->is_object() && json->value("format", Json()) == 1 && json->contains("episodes")
        && (*json)["episodes"].is_number_unsigned() && json->contains("cameras") && (*json)["cameras"].is_object();
    for (const std::string& key : info.cameraKeys()) {
        ChannelHistogram histogram(pictureShape(*info.find(key)).channels);
        if (usable && !readCamera((*json)["cameras"].value(key, Json()), histogram)) {
            return empty;
        }
        result.cameras.emplace(key, std::move(histogram));
    }
    result.episodes = usable ? (*json)["episodes"].get<std::int64_t>() : 0;
    return result;
}

Result<void> writeLevelCounts(const std::filesystem::path& root, const LevelCounts& counts)
{
    Json cameras = Json::object();
    for (const auto& [key, histogram] : counts.cameras) {
        Json channels = Json::array();
        for (std::int64_t c = 0; c < histogram.channels(); ++c) {
            const auto begin = histogram.counts().begin() + c * 256;
            channels.push_back(std::vector<std::uint64_t>(begin, begin + 256));
        }
        cameras[key] = { { "frames", static_cast<std::uint64_t>(histogram.frames()) },
                         { "counts", std::move(channels) } };
    }
    const Json json { { "format", 1 },
                      { "episodes", static_cast<std::uint64_t>(counts.episodes) },
                      { "cameras", std::move(cameras) } };
    return writeFileAtomically(root / "meta" / kFile, json.dump() + "\n");
}

} // namespace rankwise::data
