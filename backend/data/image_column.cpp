// Encoded pictures that lie in Parquet columns.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/image_column.h"

#include "backend/data/arrow_columns.h"
#include "backend/io/parquet.h"

#include <algorithm>

#include <arrow/chunked_array.h>
#include <arrow/table.h>
#include <fmt/format.h>

namespace rankwise::data {

namespace {
/// Encoded pictures kept in memory.
constexpr std::size_t kKeepBytes = std::size_t { 1 } << 30;
} // namespace

Result<ImageColumnReader::GroupPtr> ImageColumnReader::groupOf(const std::string& key, std::int64_t row) const
{
    std::size_t file = 0;
    while (file < m_files.size() && row >= m_files[file].firstRow + m_files[file].rows) {
        ++file;
    }
    RW_CHECK(file < m_files.size() && row >= 0);
    const DataFile& entry = m_files[file];
    int group = 0;
    std::int64_t first = entry.firstRow;
    while (row >= first + entry.groupRows[static_cast<std::size_t>(group)]) {
        first += entry.groupRows[static_cast<std::size_t>(group++)];
    }
    {
        const std::lock_guard lock(m_mutex);
        const auto found = std::find_if(m_groups.begin(), m_groups.end(), [&](const GroupPtr& g) {
            return g->file == file && g->group == group && g->key == key;
        });
        if (found != m_groups.end()) {
            m_groups.splice(m_groups.begin(), m_groups, found);
            return m_groups.front();
        }
    }
    RW_TRY(const io::ParquetFile parquet, io::ParquetFile::open(entry.path));
    if (group >= parquet.rowGroups()) {
        return fail(Errc::DataInvalid, "the file changed while it was open", entry.path.string());
    }
    RW_TRY(const auto table, parquet.readRowGroup(group, [&](const std::string& name) { return name == key; }));
    const auto column = table->GetColumnByName(key);
    if (column == nullptr || column->length() != entry.groupRows[static_cast<std::size_t>(group)]) {
        return fail(Errc::DataInvalid, "the file changed while it was open", entry.path.string());
    }
    auto loaded = std::make_shared<Group>();
    loaded->key = key;
    loaded->file = file;
    loaded->group = group;
    loaded->firstRow = first;
    for (std::int64_t i = 0; i < column->length(); ++i) {
        RW_TRY(auto bytes, cellBytes(*column, i, fmt::format("{}: {}", entry.path.string(), key)));
        loaded->size += bytes.size();
        loaded->pictures.push_back(std::move(bytes));
    }
    const std::lock_guard lock(m_mutex);
    m_groups.push_front(loaded);
    m_bytes += loaded->size;
    while (m_bytes > kKeepBytes && m_groups.size() > 1) {
        m_bytes -= m_groups.back()->size;
        m_groups.pop_back();
    }
    return GroupPtr(loaded);
}

Result<std::vector<std::byte>> ImageColumnReader::bytes(const std::string& key, std::int64_t row) const
{
    RW_TRY(const GroupPtr group, groupOf(key, row));
    return group->pictures[static_cast<std::size_t>(row - group->firstRow)];
}

} // namespace rankwise::data
