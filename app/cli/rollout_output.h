// What `eval` and `demo` share: the processes that roll out, tables on a terminal, videos of episodes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/data/run_directory.h"
#include "backend/eval/rollout_processes.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace rankwise::cli {

/// The argument that makes rankwise-engine a worker of an evaluation; private.
inline constexpr const char* kRolloutWorker = "rollout-worker";

/// Loads `policy` with `adapter` (may be empty); warnings go to the log.
[[nodiscard]] eval::RuntimeFactory runtimeFactory(const std::filesystem::path& policy,
                                                  const std::filesystem::path& adapter);

/// Workers of this program; `processes` <= 0 takes the cores.
[[nodiscard]] eval::RolloutProcesses rolloutWorkers(std::int64_t processes);

/// Copies what normalises states and actions from one adapter folder to another: without it the base's statistics
/// would drive the robot. Errors: IoFailed, DiskFull.
[[nodiscard]] Result<void> copyPipelines(const std::filesystem::path& from, const std::filesystem::path& to);

/// What a compaction did, in one line; `receipt` is that of compress::compactAdapter().
[[nodiscard]] std::string compactText(const Json& receipt);

/// Columns padded to equal width, a line a row.
[[nodiscard]] std::string tableText(const std::vector<std::vector<std::string>>& rows);

/// The episode's cameras side by side as MP4. Errors: DataInvalid (no frames were kept), those of the encoder.
[[nodiscard]] Result<void> writeRolloutVideo(const eval::RolloutEpisode& episode, const std::filesystem::path& path);

} // namespace rankwise::cli
