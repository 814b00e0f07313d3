// Encoded pictures that lie in Parquet columns, read a row group at a time and kept within a limit; for the sources of
// backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_tables.h"

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace rankwise::data {

/// Thread: any.
class ImageColumnReader {
public:
    explicit ImageColumnReader(const std::vector<DataFile>& files) : m_files(files) { }

    /// The stored bytes of a picture. Errors: those of reading a Parquet file, DataInvalid (no bytes).
    [[nodiscard]] Result<std::vector<std::byte>> bytes(const std::string& key, std::int64_t row) const;

private:
    struct Group {
        std::string key;
        std::size_t file = 0;
        int group = 0;
        std::int64_t firstRow = 0;
        std::size_t size = 0;
        std::vector<std::vector<std::byte>> pictures;
    };
    using GroupPtr = std::shared_ptr<const Group>;
    Result<GroupPtr> groupOf(const std::string& key, std::int64_t row) const;

    const std::vector<DataFile>& m_files;
    mutable std::mutex m_mutex;
    mutable std::list<GroupPtr> m_groups; ///< Most recent first.
    mutable std::size_t m_bytes = 0;
};

} // namespace rankwise::data
