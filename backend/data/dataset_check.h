// Says whether a dataset can be used, and what is wrong with it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
#include "backend/data/dataset_reader.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::data {

enum class Verdict : std::uint8_t {
    Open,   ///< Nothing found.
    Warn,   ///< Usable; read the problems.
    Refuse, ///< Not usable as it is.
};
[[nodiscard]] std::string_view verdictName(Verdict verdict); ///< "open", "warn", "refuse"

struct DatasetReport {
    Verdict verdict = Verdict::Open;
    std::optional<Error> error;    ///< Why it is refused.
    std::vector<Warning> problems; ///< What else was found.
    std::optional<DatasetInfo> info;
    std::int64_t episodes = 0;
    std::int64_t frames = 0;
    std::uint64_t bytes = 0; ///< Of all files of the dataset.
    double seconds = 0;      ///< Frames / fps.
};

/// Errors: Cancelled only; a dataset that does not open is a verdict.
[[nodiscard]] Result<DatasetReport> checkDataset(const std::filesystem::path& root, Verify verify,
                                                 const JobContext& job = {});

} // namespace rankwise::data
