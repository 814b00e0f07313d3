// `rankwise dataset info|check|convert|stats` as functions: options in, a result with text and JSON out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/data/dataset_check.h"
#include "backend/data/dataset_convert.h"

#include <filesystem>
#include <string>

namespace rankwise::data {

/// What a command prints.
struct CommandOutput {
    std::string text; ///< Lines for a terminal, newline at the end.
    std::string json; ///< One JSON object, newline at the end.
    bool ok = true;   ///< False: exit code 1 although the command ran (check found the dataset unusable).
};

struct DatasetInfoOptions {
    std::filesystem::path path;
    bool episodes = false; ///< A line an episode.
};
/// Version, counters, features, tasks, sizes, problems. Errors: those of DatasetReader::open() with Verify::Tables.
[[nodiscard]] Result<CommandOutput> datasetInfoCommand(const DatasetInfoOptions& options, const JobContext& job = {});

struct DatasetCheckOptions {
    std::filesystem::path path;
    bool deep = true;    ///< Decodes every frame of every camera.
    bool repair = false; ///< Removes what a crash left before checking.
};
/// A dataset that is refused is an answer (ok = false, verdict "refuse"), not an error.
[[nodiscard]] Result<CommandOutput> datasetCheckCommand(const DatasetCheckOptions& options, const JobContext& job = {});

struct DatasetConvertOptions {
    std::filesystem::path path;
    std::filesystem::path out;
    std::string to = "v3.0"; ///< "v3.0" or "v2.1".
};
[[nodiscard]] Result<CommandOutput> datasetConvertCommand(const DatasetConvertOptions& options,
                                                          const JobContext& job = {});

struct DatasetStatsOptions {
    std::filesystem::path path;
    bool cameras = true; ///< Decodes sampled frames.
    bool write = false;  ///< Replaces meta/stats.json.
};
/// Exact statistics, beside the stored ones and the largest difference.
[[nodiscard]] Result<CommandOutput> datasetStatsCommand(const DatasetStatsOptions& options, const JobContext& job = {});

} // namespace rankwise::data
