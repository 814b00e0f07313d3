// Parquet files through Arrow C++: the only place that touches the parquet API, whose signatures change between
// majors. Arrow's own errors and exceptions come out as typed errors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace arrow {
class Schema;
class Table;
} // namespace arrow

namespace rankwise::io {

/// A Parquet file that is open for reading.
/// Thread: one at a time.
class ParquetFile {
public:
    ParquetFile(ParquetFile&&) noexcept;
    ParquetFile& operator=(ParquetFile&&) noexcept;
    ~ParquetFile();

    /// Errors: FileNotFound, FileTruncated (too short to be one), HeaderInvalid (no Parquet footer), IoFailed.
    [[nodiscard]] static Result<ParquetFile> open(const std::filesystem::path& path);

    [[nodiscard]] const std::filesystem::path& path() const;
    [[nodiscard]] std::int64_t rows() const;
    [[nodiscard]] int rowGroups() const;
    [[nodiscard]] std::int64_t rowsOfGroup(int group) const;
    /// The Arrow schema with its key-value metadata.
    [[nodiscard]] const std::shared_ptr<arrow::Schema>& schema() const;

    /// Top-level columns for which `wanted` says yes, whole file or one row group.
    /// Errors: DataInvalid (pages or levels that contradict the footer), TooLarge (no memory), IoFailed.
    using Wanted = std::function<bool(const std::string& name)>;
    [[nodiscard]] Result<std::shared_ptr<arrow::Table>> read(const Wanted& wanted = {}) const;
    [[nodiscard]] Result<std::shared_ptr<arrow::Table>> readRowGroup(int group, const Wanted& wanted = {}) const;

private:
    struct Impl;
    explicit ParquetFile(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

/// Writes a Parquet file row group by row group: snappy, no dictionary, Arrow schema stored.
/// Thread: one at a time.
class ParquetWriter {
public:
    ParquetWriter(ParquetWriter&&) noexcept;
    ParquetWriter& operator=(ParquetWriter&&) noexcept;
    ~ParquetWriter(); ///< Without finish() the file has no footer.

    /// Replaces `path`. Errors: FileNotFound (no such folder), IoFailed, DiskFull.
    [[nodiscard]] static Result<ParquetWriter> create(const std::filesystem::path& path,
                                                      const std::shared_ptr<arrow::Schema>& schema);
    /// One row group. The table's schema must be the writer's.
    /// Errors: DiskFull, IoFailed; the file is of no use then.
    [[nodiscard]] Result<void> write(const arrow::Table& table);
    /// Footer and sync.
    [[nodiscard]] Result<void> finish();

private:
    struct Impl;
    explicit ParquetWriter(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

/// A whole table as one row group, written aside and renamed into place.
/// Errors: DiskFull, IoFailed.
[[nodiscard]] Result<void> writeParquetAtomically(const std::filesystem::path& path, const arrow::Table& table);

} // namespace rankwise::io
