// The picture levels of every camera over all recorded episodes, kept beside the statistics so that a recorder that
// goes on later still has exact numbers without decoding; for the sources of backend/data only.
//
// On disk: meta/rankwise_levels.json, {"format": 1, "episodes": N, "cameras": {key: {"frames": n, "counts": [[256] ×
// C]}}}. Keys and meaning never change. Other readers ignore the file. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
#include "backend/data/statistics.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace rankwise::data {

struct LevelCounts {
    std::int64_t episodes = 0; ///< Episodes that are counted.
    std::map<std::string, ChannelHistogram> cameras;
};

/// An absent or unusable file gives zero episodes.
[[nodiscard]] LevelCounts readLevelCounts(const std::filesystem::path& root, const DatasetInfo& info);
[[nodiscard]] Result<void> writeLevelCounts(const std::filesystem::path& root, const LevelCounts& counts);

} // namespace rankwise::data
