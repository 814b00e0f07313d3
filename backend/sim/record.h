// Expert episodes written as a LeRobotDataset v3.0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/sim/episode_generator.h"

#include <filesystem>

namespace rankwise::sim {

/// Features written: observation.state [7], action [7], observation.images.<camera> (video), next.success (bool);
/// 10 fps; the task text of each episode is one of the task's instructions.
struct RecordOptions {
    GeneratorOptions generator;
    std::filesystem::path out; ///< Folder of the new dataset; must not exist.
};

struct RecordSummary {
    GeneratorSummary generated;
    std::filesystem::path dataset;
};

/// Errors: AlreadyExists, DiskFull, IoFailed, and those of generateEpisodes(). When stopped, the finished episodes
/// stay as a whole dataset and Cancelled is returned.
[[nodiscard]] Result<RecordSummary> recordEpisodes(const RecordOptions& options, const JobContext& job);

} // namespace rankwise::sim
