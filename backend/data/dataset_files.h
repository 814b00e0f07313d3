// The files of a v3.0 dataset as lerobot reads them: Arrow schemas, rows and key-value metadata; for the sources of
// backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
#include "backend/data/dataset_reader.h"
#include "backend/data/statistics.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace arrow {
class Schema;
class Table;
} // namespace arrow

namespace rankwise::data {

/// The schema of a data file: one field a feature that is no video.
[[nodiscard]] std::shared_ptr<arrow::Schema> dataSchema(const DatasetInfo& info);

/// Bytes of the picture of a row of an image feature.
using PictureSource = std::function<Result<std::vector<std::byte>>(const std::string& key, std::int64_t row)>;

/// The column of a feature, or nullptr where there is none (its cells are null then).
using ColumnSource = std::function<const Column*(const std::string& key)>;

/// Writes rows [begin, end) of `columns` to a data file, row group by row group, synced.
/// Errors: DiskFull, IoFailed, those of `pictures`.
[[nodiscard]] Result<void> writeDataFile(const std::filesystem::path& path, const DatasetInfo& info,
                                         const ColumnSource& columns, std::int64_t begin, std::int64_t end,
                                         const PictureSource& pictures);

/// meta/tasks.parquet, replaced atomically.
[[nodiscard]] Result<void> writeTaskTable(const std::filesystem::path& root, const std::vector<std::string>& tasks);

/// One row of the episode table. `schema` is that of the dataset's earlier rows, or nullptr for the usual one;
/// `extraColumns` are further columns (EpisodeInfo::extra holds their values).
[[nodiscard]] Result<std::shared_ptr<arrow::Table>> episodeRow(const DatasetInfo& info, const EpisodeInfo& episode,
                                                               const DatasetStatistics& statistics,
                                                               std::int64_t metaChunk, std::int64_t metaFile,
                                                               const std::vector<Feature>& extraColumns,
                                                               const std::shared_ptr<arrow::Schema>& schema);

/// `<root>/meta/episodes/chunk-CCC/file-FFF.parquet`
[[nodiscard]] std::filesystem::path episodeTablePath(const std::filesystem::path& root, std::int64_t chunk,
                                                     std::int64_t file);

/// Statistics of rows [begin, end) of every numeric column.
[[nodiscard]] DatasetStatistics columnStatistics(const std::map<std::string, Column, std::less<>>& columns,
                                                 std::int64_t begin, std::int64_t end, QuantileRule rule);

/// Writes meta/stats.json atomically.
[[nodiscard]] Result<void> writeStatisticsFile(const std::filesystem::path& root, const DatasetStatistics& statistics);

} // namespace rankwise::data
