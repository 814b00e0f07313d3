// What a demo tells a window that watches it: DEMO/status.json, which has the form of a run directory's status and in
// addition the parts of the work and the outcome of the rollouts so far. DEMO/demo.json is the plan; runs of the parts
// that train are run directories inside of DEMO. Readers ignore keys that they do not know.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"

#include <string>
#include <vector>

namespace rankwise::data {

/// One part of the work, in the order in which it is done.
struct DemoPart {
    std::string name;
    double fraction = 0; ///< Done, in [0, 1].
    std::string run;     ///< Run directory of a part that trains, relative to the demo's folder; else empty.
};

/// Rollouts of one policy at one task so far.
struct DemoTally {
    std::string policy;
    std::string task;
    std::int64_t successes = 0;
    std::int64_t trials = 0;
};

struct DemoStatus {
    RunStatus worker;  ///< Its step and total count thousandths of the work.
    std::string doing; ///< In words.
    bool quick = false; ///< The short plan.
    std::vector<DemoPart> parts;
    std::vector<DemoTally> tallies;
};

/// Whether `folder` looks like one of a demo.
[[nodiscard]] bool isDemoFolder(const std::filesystem::path& folder);

/// Replaces DEMO/status.json. Errors: IoFailed, DiskFull.
[[nodiscard]] Result<void> writeDemoStatus(const std::filesystem::path& folder, const DemoStatus& status);

/// Errors: those of readRunStatus(); FieldInvalid.
[[nodiscard]] Result<DemoStatus> readDemoStatus(const std::filesystem::path& folder);

} // namespace rankwise::data
