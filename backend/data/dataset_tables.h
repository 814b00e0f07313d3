// Everything of a dataset that is no picture, read and checked against itself; for the sources of backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
#include "backend/data/dataset_reader.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace rankwise::data {

/// One Parquet file of frames.
struct DataFile {
    std::filesystem::path path;
    std::int64_t firstRow = 0;
    std::int64_t rows = 0;
    std::vector<std::int64_t> groupRows; ///< Rows of each row group.
};

/// Where the row of an episode stands.
struct EpisodeRow {
    std::filesystem::path file;
    std::int64_t row = 0;
};

struct DatasetTables {
    std::filesystem::path root;
    DatasetInfo info;
    std::vector<EpisodeInfo> episodes;
    std::vector<EpisodeRow> episodeRows;              ///< v3.0 only.
    std::vector<DatasetStatistics> episodeStatistics; ///< v2.1 only.
    std::vector<std::string> tasks;
    std::vector<DataFile> files;
    std::map<std::string, Column, std::less<>> columns;
    std::vector<std::string> imageKeys; ///< Image features that the files hold.
    DatasetStatistics statistics;
};

/// Errors: as DatasetReader::open() with Verify::Tables.
[[nodiscard]] Result<DatasetTables> readTables(const std::filesystem::path& root, std::vector<Warning>& warnings);

/// The episode table of a v3.0 dataset alone, in order; used by the writer's recovery.
[[nodiscard]] Result<std::vector<EpisodeInfo>> readEpisodeTable(const std::filesystem::path& root,
                                                                const DatasetInfo& info, std::vector<EpisodeRow>& rows,
                                                                std::vector<Warning>& warnings);

/// meta/tasks.parquet alone. Empty when the file is missing.
[[nodiscard]] Result<std::vector<std::string>> readTaskTable(const std::filesystem::path& root,
                                                             std::vector<Warning>& warnings);

/// meta/stats.json; NaN and Infinity, which Python writes, are told and left out.
[[nodiscard]] DatasetStatistics readStatisticsFile(const std::filesystem::path& root, std::vector<Warning>& warnings);

/// Statistics columns of one episode row. Errors: those of reading a Parquet file.
[[nodiscard]] Result<DatasetStatistics> readEpisodeRowStatistics(const EpisodeRow& row, const DatasetInfo& info);

/// Height, width and channels of a camera feature, whatever the order of its shape.
struct PictureShape {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t channels = 3;
};
[[nodiscard]] PictureShape pictureShape(const Feature& feature);

/// Files `<folder>/*/*<ending>`, sorted by path as lerobot sorts them.
[[nodiscard]] std::vector<std::filesystem::path> chunkFiles(const std::filesystem::path& folder,
                                                            std::string_view ending);

} // namespace rankwise::data
