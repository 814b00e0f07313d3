// Expert episodes written as a LeRobotDataset v3.0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/data/dataset_writer.h"
#include "backend/sim/episode_generator.h"

#include <filesystem>

namespace rankwise::sim {

/// Features written: observation.state [7], action [7], observation.images.<camera> (video), next.success (bool);
/// 10 fps; the task text of each episode is one of the task's instructions. With `generator.labels` also kLabelsKey,
/// which holds four numbers of each point of labelNames() in each camera: u, v (0…1 from the left and the top),
/// depth along the optical axis m, and 1 where the point is within the picture, else 0 (then u, v and depth are 0).
struct RecordOptions {
    GeneratorOptions generator;
    data::VideoOptions video;
    std::filesystem::path out; ///< Folder of the new dataset; must not exist, unless `resume`.
    /// Goes on with what an earlier call with the same options left in `out`, after whatever end it had: the result is
    /// the dataset that one call would have made. Without anything there it begins.
    bool resume = false;
};

inline constexpr const char* kLabelsKey = "labels.points";

/// "<camera>.<point>.<number>" for every number of kLabelsKey, e.g. "front.button.u". The points are the objects of
/// all registered tasks, whether they are in a scene or not, and "gripper": datasets of any tasks agree.
[[nodiscard]] std::vector<std::string> labelNames(const std::vector<std::string>& cameras);

struct RecordSummary {
    GeneratorSummary generated;
    std::filesystem::path dataset;
};

/// Errors: AlreadyExists, DiskFull, IoFailed, FieldInvalid (resume: a dataset of other options), and those of
/// generateEpisodes() and DatasetWriter::openForAppend(). When stopped, the finished episodes
/// stay as a whole dataset and Cancelled is returned.
[[nodiscard]] Result<RecordSummary> recordEpisodes(const RecordOptions& options, const JobContext& job);

} // namespace rankwise::sim
