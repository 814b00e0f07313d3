// A fine-tune run from its configuration: policy, dataset, method and optimiser put together, checked, and trained in
// a run directory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/train/preflight.h"
#include "backend/train/train_config.h"
#include "backend/train/training_loop.h"

#include <filesystem>
#include <functional>

namespace rankwise::train {

/// What the caller of a run wants to hear besides TrainObserver's calls.
struct RunObserver : TrainObserver {
    std::function<void(const PreflightReport& report)> preflight;
};

/// Puts the parts together and checks them without training; nothing is written.
/// Errors: those of reading; a red check is in the report, not an error.
[[nodiscard]] Result<PreflightReport> checkRun(const TrainConfig& config, const JobContext& job);

/// Trains in `runFolder`.
///
/// With `resume` the run there goes on from its newest whole checkpoint, or begins anew when it has none; the
/// configuration must agree with run.json in every field that changes results, except `steps`. A resumed run ends with
/// the same bits as an uninterrupted one on the same machine with the same number of torch threads.
/// A stop through `job`, or by request, writes a checkpoint and is no error.
///
/// Errors: a red pre-flight check as its Errc, with the remedy; AlreadyExists; FieldInvalid (another configuration on
/// resume); NotFinite; DiskFull, IoFailed; those of reading.
/// Thread: any; torch's thread count is the application's business.
[[nodiscard]] Result<TrainSummary> runTraining(const TrainConfig& config, const std::filesystem::path& runFolder,
                                               bool resume, const JobContext& job, const RunObserver& observer = {});

/// The configuration that run.json holds, for resuming. Errors: those of reading and of parseTrainConfig().
[[nodiscard]] Result<TrainConfig> readRunConfig(const std::filesystem::path& runFolder);

} // namespace rankwise::train
