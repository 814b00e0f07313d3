// What a dataset on disk holds for certain, and the removal of what a crash left; for the sources of backend/data only.
//
// The episode table is the truth: an episode whose row is there, and whose files are, is whole; everything else
// (scratch, temporary files, data and videos without a row, counters) follows from it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/file_lock.h"
#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
#include "backend/data/dataset_tables.h"
#include "backend/data/dataset_writer.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace rankwise::data {

/// The folder inside the dataset where an episode grows.
inline constexpr const char* kScratchFolder = ".recording";

/// Exclusive use of a dataset by one writer; released by the destructor and by the death of the process.
class WriterLock {
public:
    /// Creates the scratch folder. Errors: AlreadyExists (another writer), IoFailed, DiskFull.
    [[nodiscard]] static Result<WriterLock> take(const std::filesystem::path& root);

    /// Removes the scratch folder and releases.
    void removeScratch();

private:
    FileLock m_lock;
    std::filesystem::path m_scratch;
};

struct RecoveredDataset {
    DatasetInfo info;
    std::vector<EpisodeInfo> episodes;
    std::vector<EpisodeRow> rows;
    std::vector<std::string> tasks;
    DatasetStatistics statistics; ///< Of stats.json, or aggregated from the episode rows where counters were behind.
};

/// Brings the dataset into the state of its last whole episode. The caller holds the lock.
/// Errors: those of reading the tables, Unsupported (v2.1), IoFailed, DiskFull.
[[nodiscard]] Result<RecoveredDataset> recover(const std::filesystem::path& root, RecoveryReport& report);

} // namespace rankwise::data
