// What going on with a run would mean, before anything is started: where it goes on from, and what would be different
// from the run so far. Torch-free.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace rankwise::train {

/// Something that would not be as it was. `what` names it: "steps", "learning_rate" (at the first step), "base",
/// "dataset", "statistics", "checkpoint", "version", "host". Names never change.
struct ResumeDifference {
    std::string what;
    std::string before;
    std::string now;
    bool changesResults = true; ///< False: worth knowing, the numbers stay the same.
};

struct ResumePlan {
    std::int64_t checkpoint = -1; ///< Step of the newest whole checkpoint; -1: none, the run begins anew.
    std::int64_t reached = 0;     ///< Last step that the worker told of; those above `checkpoint` are done again.
    std::int64_t totalBefore = 0; ///< Steps that the run was to have.
    std::int64_t total = 0;       ///< Steps that it will have.
    std::vector<ResumeDifference> differences;

    [[nodiscard]] std::int64_t from() const { return checkpoint < 0 ? 0 : checkpoint; }
    /// Nothing is left to do with `total` steps.
    [[nodiscard]] bool complete() const { return from() >= total; }
};

/// Plans to go on with the run in `folder` up to `steps` in all; 0 keeps its number. `version` is that of the program
/// that would go on. Hashes the checkpoint, the base weights and the dataset's tables: a job.
///
/// Errors: FileNotFound, those of readRunJson() (no run that got as far as its first step); AlreadyExists (a worker is
/// at it); FieldMissing, FieldInvalid (run.json); FileNotFound naming the policy or the dataset when it has moved;
/// Cancelled.
/// Thread: any.
[[nodiscard]] Result<ResumePlan> planResume(const std::filesystem::path& folder, std::int64_t steps,
                                            const std::string& version, const JobContext& job);

} // namespace rankwise::train
