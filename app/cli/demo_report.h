// The page that `rankwise demo` ends with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/eval/rollout.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace rankwise::cli {

/// What the demo made, for its report.
struct DemoRecord {
    std::filesystem::path out;
    std::vector<std::string> methods;                                      ///< Runs under out/runs.
    std::vector<std::pair<std::string, std::filesystem::path>> compressed; ///< Name and PEFT folder.
    std::vector<eval::RolloutReport> reports;                              ///< The first is the base policy's.
    std::vector<std::string> commands;
};

/// Reads the runs' histories and writes the page. Errors: those of reading and of writeFileAtomically().
[[nodiscard]] Result<void> writeDemoReport(const DemoRecord& record, const std::filesystem::path& file);

} // namespace rankwise::cli
