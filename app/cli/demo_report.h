// The page that `rankwise demo` ends with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/cli/demo_plan.h"
#include "backend/base/result.h"
#include "backend/eval/rollout.h"

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace rankwise::cli {

/// What the demo made, for its report.
struct DemoRecord {
    std::filesystem::path out;
    DemoPlan plan;
    std::vector<eval::RolloutReport> reports;                            ///< The first is the base policy's.
    std::vector<std::pair<std::string, std::filesystem::path>> adapters; ///< Of each report; the base has none.
    std::filesystem::path compacted;                                     ///< Empty without a LoRA-SP bank.
    /// Video of an episode of a policy.
    std::function<std::filesystem::path(const std::string& policy, const std::string& task, std::int64_t index)> video;
    std::vector<std::string> commands;
};

/// Reads the runs' histories, receipts and videos and writes the page.
/// Errors: those of reading and of writeFileAtomically().
[[nodiscard]] Result<void> writeDemoReport(const DemoRecord& record, const std::filesystem::path& file);

} // namespace rankwise::cli
