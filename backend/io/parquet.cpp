// Parquet files through Arrow C++.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/parquet.h"

#include "backend/base/file.h"

#include <atomic>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include <arrow/buffer.h>
#include <arrow/io/file.h>
#include <arrow/io/interfaces.h>
#include <arrow/memory_pool.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/arrow/writer.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/properties.h>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

tl::unexpected<Error> failArrow(const arrow::Status& status, Errc code, std::string_view action, const fs::path& path)
{
    if (status.IsOutOfMemory()) {
        code = Errc::TooLarge;
    }
    return fail(code, fmt::format("cannot {}: {}", action, status.message()), path.string());
}

/// Runs `body`, which may throw as parquet does on damaged files.
template <class Body>
auto guarded(Errc code, std::string_view action, const fs::path& path, const Body& body) -> decltype(body())
{
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return fail(Errc::TooLarge, fmt::format("cannot {}: not enough memory", action), path.string());
    } catch (const std::exception& exception) {
        return fail(code, fmt::format("cannot {}: {}", action, exception.what()), path.string());
    }
}

/// A file descriptor as Arrow's sink; keeps errno, so that a full disk is told from other trouble.
class DescriptorStream final : public arrow::io::OutputStream {
public:
    explicit DescriptorStream(int fd) : m_fd(fd) { }
    ~DescriptorStream() override
    {
        if (m_fd >= 0) {
            ::close(m_fd);
        }
    }

    arrow::Status Write(const void* data, std::int64_t count) override
    {
        const char* bytes = static_cast<const char*>(data);
        while (count > 0) {
            const ssize_t n = ::write(m_fd, bytes, static_cast<std::size_t>(std::min<std::int64_t>(count, 1 << 30)));
            if (n < 0) {
                if (errno == EINTR) {
                    continue;
                }
                m_errno = errno;
                return arrow::Status::IOError(std::generic_category().message(errno));
            }
            bytes += n;
            count -= n;
            m_position += n;
        }
        return arrow::Status::OK();
    }
    arrow::Status Flush() override { return arrow::Status::OK(); }
    arrow::Status Close() override
    {
        if (m_fd >= 0) {
            if (::fsync(m_fd) != 0 && m_errno == 0) {
                m_errno = errno;
            }
            if (::close(m_fd) != 0 && m_errno == 0) {
                m_errno = errno;
            }
            m_fd = -1;
        }
        return m_errno == 0 ? arrow::Status::OK() : arrow::Status::IOError(std::generic_category().message(m_errno));
    }
    arrow::Result<std::int64_t> Tell() const override { return m_position; }
    bool closed() const override { return m_fd < 0; }

    [[nodiscard]] int systemError() const { return m_errno; }

private:
    int m_fd;
    int m_errno = 0;
    std::int64_t m_position = 0;
};

void collectLeaves(const parquet::arrow::SchemaField& field, std::vector<int>& leaves)
{
    if (field.column_index >= 0) {
        leaves.push_back(field.column_index);
    }
    for (const auto& child : field.children) {
        collectLeaves(child, leaves);
    }
}

} // namespace

struct ParquetFile::Impl {
    fs::path path;
    std::unique_ptr<parquet::arrow::FileReader> reader;
    std::shared_ptr<arrow::Schema> schema;

    [[nodiscard]] std::vector<int> leavesOf(const Wanted& wanted) const
    {
        std::vector<int> leaves;
        for (const auto& field : reader->manifest().schema_fields) {
            if (!wanted || wanted(field.field->name())) {
                collectLeaves(field, leaves);
            }
        }
        return leaves;
    }
};

ParquetFile::ParquetFile(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }
ParquetFile::ParquetFile(ParquetFile&&) noexcept = default;
ParquetFile& ParquetFile::operator=(ParquetFile&&) noexcept = default;
ParquetFile::~ParquetFile() = default;

Result<ParquetFile> ParquetFile::open(const fs::path& path)
{
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
        return fail(Errc::FileNotFound, "is not a file", path.string());
    }
    const std::uintmax_t bytes = fs::file_size(path, error);
    if (error) {
        return fail(Errc::IoFailed, error.message(), path.string());
    }
    if (bytes < 12) {
        return fail(Errc::FileTruncated, "is too short for a Parquet file; it was probably not finished",
                    path.string());
    }
    return guarded(Errc::HeaderInvalid, "read the Parquet footer", path, [&]() -> Result<ParquetFile> {
        auto file = arrow::io::ReadableFile::Open(path.string());
        if (!file.ok()) {
            return failArrow(file.status(), Errc::IoFailed, "open", path);
        }
        auto reader = parquet::arrow::OpenFile(*file, arrow::default_memory_pool());
        if (!reader.ok()) {
            return failArrow(reader.status(), Errc::HeaderInvalid, "read the Parquet footer", path);
        }
        auto impl = std::make_unique<Impl>();
        impl->path = path;
        impl->reader = std::move(*reader);
        impl->reader->set_use_threads(false);
        const arrow::Status status = impl->reader->GetSchema(&impl->schema);
        if (!status.ok()) {
            return failArrow(status, Errc::HeaderInvalid, "read the Parquet schema", path);
        }
        return ParquetFile(std::move(impl));
    });
}

const fs::path& ParquetFile::path() const
{
    return m_impl->path;
}
std::int64_t ParquetFile::rows() const
{
    return m_impl->reader->parquet_reader()->metadata()->num_rows();
}
int ParquetFile::rowGroups() const
{
    return m_impl->reader->num_row_groups();
}
std::int64_t ParquetFile::rowsOfGroup(int group) const
{
    return m_impl->reader->parquet_reader()->metadata()->RowGroup(group)->num_rows();
}
const std::shared_ptr<arrow::Schema>& ParquetFile::schema() const
{
    return m_impl->schema;
}

namespace {

/// Arrow reports lengths and offsets from the file; everything later relies on them.
Result<std::shared_ptr<arrow::Table>> validated(arrow::Result<std::shared_ptr<arrow::Table>> table,
                                                const fs::path& path)
{
    if (!table.ok()) {
        return failArrow(table.status(), Errc::DataInvalid, "read the Parquet pages", path);
    }
    const arrow::Status status = (*table)->ValidateFull();
    if (!status.ok()) {
        return failArrow(status, Errc::DataInvalid, "use the Parquet columns", path);
    }
    return std::move(*table);
}

} // namespace

Result<std::shared_ptr<arrow::Table>> ParquetFile::read(const Wanted& wanted) const
{
    return guarded(Errc::DataInvalid, "read the Parquet pages", m_impl->path,
                   [&]() { return validated(m_impl->reader->ReadTable(m_impl->leavesOf(wanted)), m_impl->path); });
}

Result<std::shared_ptr<arrow::Table>> ParquetFile::readRowGroup(int group, const Wanted& wanted) const
{
    RW_CHECK(group >= 0 && group < rowGroups());
    return guarded(Errc::DataInvalid, "read the Parquet pages", m_impl->path, [&]() {
        return validated(m_impl->reader->ReadRowGroup(group, m_impl->leavesOf(wanted)), m_impl->path);
    });
}

struct ParquetWriter::Impl {
    fs::path path;
    std::shared_ptr<DescriptorStream> sink;
    std::unique_ptr<parquet::arrow::FileWriter> writer;

    [[nodiscard]] tl::unexpected<Error> failed(const arrow::Status& status) const
    {
        if (sink->systemError() != 0) {
            return failErrno(sink->systemError(), "write", path);
        }
        return failArrow(status, Errc::IoFailed, "write", path);
    }
};

ParquetWriter::ParquetWriter(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }
ParquetWriter::ParquetWriter(ParquetWriter&&) noexcept = default;
ParquetWriter& ParquetWriter::operator=(ParquetWriter&&) noexcept = default;
ParquetWriter::~ParquetWriter() = default;

Result<ParquetWriter> ParquetWriter::create(const fs::path& path, const std::shared_ptr<arrow::Schema>& schema)
{
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return failErrno(errno, "create", path);
    }
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->sink = std::make_shared<DescriptorStream>(fd);
    return guarded(Errc::IoFailed, "write", path, [&]() -> Result<ParquetWriter> {
        const auto properties = parquet::WriterProperties::Builder()
                                    .compression(parquet::Compression::SNAPPY)
                                    ->disable_dictionary()
                                    ->build();
        const auto arrowProperties = parquet::ArrowWriterProperties::Builder().store_schema()->build();
        auto writer = parquet::arrow::FileWriter::Open(*schema, arrow::default_memory_pool(), impl->sink, properties,
                                                       arrowProperties);
        if (!writer.ok()) {
            return impl->failed(writer.status());
        }
        impl->writer = std::move(*writer);
        return ParquetWriter(std::move(impl));
    });
}

Result<void> ParquetWriter::write(const arrow::Table& table)
{
    return guarded(Errc::IoFailed, "write", m_impl->path, [&]() -> Result<void> {
        const arrow::Status status = m_impl->writer->WriteTable(table, std::max<std::int64_t>(table.num_rows(), 1));
        if (!status.ok()) {
            return m_impl->failed(status);
        }
        return {};
    });
}

Result<void> ParquetWriter::finish()
{
    return guarded(Errc::IoFailed, "write", m_impl->path, [&]() -> Result<void> {
        arrow::Status status = m_impl->writer->Close();
        if (status.ok()) {
            status = m_impl->sink->Close();
        }
        if (!status.ok()) {
            return m_impl->failed(status);
        }
        return {};
    });
}

Result<void> writeParquetAtomically(const fs::path& path, const arrow::Table& table)
{
    static std::atomic<std::uint64_t> counter = 0;
    const fs::path aside =
        path.parent_path() / fmt::format("{}.tmp-{}-p{}", path.filename().string(), ::getpid(), counter.fetch_add(1));
    const auto writeAside = [&]() -> Result<void> {
        RW_TRY(ParquetWriter writer, ParquetWriter::create(aside, table.schema()));
        RW_TRY_VOID(writer.write(table));
        return writer.finish();
    };
    if (auto written = writeAside(); !written) {
        ::unlink(aside.c_str());
        return written;
    }
    if (::rename(aside.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(aside.c_str());
        return failErrno(error, "rename into place", path);
    }
    const int folder = ::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        ::fsync(folder);
        ::close(folder);
    }
    return {};
}

} // namespace rankwise::io
