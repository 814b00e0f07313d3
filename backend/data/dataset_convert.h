// Converts datasets between v2.1 and v3.0. Videos are copied or cut packet by packet, never encoded again,
// except where an episode does not begin at a key frame.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/data/dataset_info.h"

#include <filesystem>
#include <vector>

namespace rankwise::data {

struct ConvertReport {
    DatasetVersion from = DatasetVersion::V21;
    DatasetVersion to = DatasetVersion::V30;
    std::int64_t episodes = 0;
    std::int64_t frames = 0;
    std::int64_t videosCopied = 0;
    std::int64_t videosEncoded = 0;
    std::vector<Warning> warnings;
};

/// Writes the dataset of `root` as `version` to `out`, which must not exist; it appears whole or not at all.
/// Errors: those of opening, AlreadyExists, Unsupported (the same version), DiskFull, IoFailed, Cancelled.
[[nodiscard]] Result<ConvertReport> convertDataset(const std::filesystem::path& root, const std::filesystem::path& out,
                                                   DatasetVersion version, const JobContext& job = {});

} // namespace rankwise::data
