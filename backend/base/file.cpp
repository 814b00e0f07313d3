// POSIX implementation of file.h.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rankwise {

namespace fs = std::filesystem;

namespace {

/// A name beside `target` that no other writer of this or another process uses.
fs::path temporaryBeside(const fs::path& target)
{
    static std::atomic<unsigned> counter { 0 };
    fs::path name = target.filename();
    if (name.empty()) {  // "folder/" ends in an empty component
        name = target.parent_path().filename();
    }
    const fs::path folder = target.filename().empty() ? target.parent_path().parent_path() : target.parent_path();
    name += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
    return folder / name;
}

Result<void> syncPath(const fs::path& path, int flags)
{
    const int fd = ::open(path.empty() ? "." : path.c_str(), flags | O_CLOEXEC);
    if (fd < 0) {
        return failErrno(errno, "open for syncing", path);
    }
    const int status = ::fsync(fd);
    const int error = errno;
    ::close(fd);
    if (status != 0 && error != EINVAL) {  // EINVAL: a file system that cannot sync folders
        return failErrno(error, "sync", path);
    }
    return {};
}

Result<void> writeAll(int fd, std::span<const std::byte> bytes, std::int64_t offset, const fs::path& path)
{
    while (!bytes.empty()) {
        const std::size_t part = std::min<std::size_t>(bytes.size(), 1u << 30);
        const ssize_t n = offset < 0 ? ::write(fd, bytes.data(), part) : ::pwrite(fd, bytes.data(), part, offset);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return failErrno(errno, "write", path);
        }
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        if (offset >= 0) {
            offset += n;
        }
    }
    return {};
}

}  // namespace

tl::unexpected<Error> failErrno(int error, std::string_view action, const fs::path& path)
{
    const std::string text = "cannot " + std::string(action) + ": " + std::generic_category().message(error);
    switch (error) {
    case ENOSPC:
    case EDQUOT: return fail(Errc::DiskFull, text + "; free some space and try again", path.string());
    case ENOENT:
    case ENOTDIR: return fail(Errc::FileNotFound, text, path.string());
    default: return fail(Errc::IoFailed, text, path.string());
    }
}

Result<std::string> readFile(const fs::path& path, std::uint64_t limit)
{
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failErrno(errno, "open", path);
    }
    struct stat info { };
    if (::fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
        ::close(fd);
        return fail(Errc::FileNotFound, "is not a file", path.string());
    }
    std::string text;
    if (S_ISREG(info.st_mode) && info.st_size > 0) {
        if (static_cast<std::uint64_t>(info.st_size) > limit) {
            ::close(fd);
            return fail(Errc::TooLarge,
                        "is " + std::to_string(info.st_size) + " bytes long, at most " + std::to_string(limit)
                            + " are read",
                        path.string());
        }
        text.reserve(static_cast<std::size_t>(info.st_size));
    }
    char buffer[1 << 16];
    for (;;) {
        const ssize_t n = ::read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            const int error = errno;
            ::close(fd);
            return failErrno(error, "read", path);
        }
        if (n == 0) {
            break;
        }
        text.append(buffer, static_cast<std::size_t>(n));
        if (text.size() > limit) {
            ::close(fd);
            return fail(Errc::TooLarge, "is longer than the " + std::to_string(limit) + " bytes that are read",
                        path.string());
        }
    }
    ::close(fd);
    return text;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : m_data(std::exchange(other.m_data, nullptr)), m_size(std::exchange(other.m_size, 0)),
      m_path(std::move(other.m_path))
{
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept
{
    std::swap(m_data, other.m_data);
    std::swap(m_size, other.m_size);
    std::swap(m_path, other.m_path);
    return *this;
}

MappedFile::~MappedFile()
{
    if (m_data != nullptr) {
        ::munmap(const_cast<std::byte*>(m_data), m_size);
    }
}

Result<MappedFile> MappedFile::open(const fs::path& path)
{
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failErrno(errno, "open", path);
    }
    struct stat info { };
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        ::close(fd);
        return fail(Errc::FileNotFound, "is not a file", path.string());
    }
    MappedFile file;
    file.m_path = path;
    file.m_size = static_cast<std::size_t>(info.st_size);
    if (file.m_size > 0) {
        void* data = ::mmap(nullptr, file.m_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            const int error = errno;
            ::close(fd);
            file.m_size = 0;
            return failErrno(error, "map", path);
        }
        file.m_data = static_cast<const std::byte*>(data);
    }
    ::close(fd);
    return file;
}

void MappedFile::willRead(std::size_t offset, std::size_t length) const
{
    if (m_data == nullptr || offset >= m_size) {
        return;
    }
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t begin = offset / page * page;
    const std::size_t end = std::min(m_size, offset + std::min(length, m_size - offset));
    ::madvise(const_cast<std::byte*>(m_data) + begin, end - begin, MADV_WILLNEED);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : m_fd(std::exchange(other.m_fd, -1)), m_target(std::move(other.m_target)),
      m_temporary(std::exchange(other.m_temporary, {}))
{
}

AtomicFile::~AtomicFile()
{
    if (m_fd >= 0) {
        ::close(m_fd);
    }
    if (!m_temporary.empty()) {
        ::unlink(m_temporary.c_str());
    }
}

Result<AtomicFile> AtomicFile::create(const fs::path& target)
{
    AtomicFile file;
    file.m_target = target;
    const fs::path temporary = temporaryBeside(target);
    file.m_fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file.m_fd < 0) {
        return failErrno(errno, "create", temporary);
    }
    file.m_temporary = temporary;
    return file;
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) { return writeAll(m_fd, bytes, -1, m_target); }

Result<void> AtomicFile::write(std::string_view text) { return write(std::as_bytes(std::span(text))); }

Result<void> AtomicFile::writeAt(std::uint64_t offset, std::span<const std::byte> bytes)
{
    RW_CHECK(offset <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
    return writeAll(m_fd, bytes, static_cast<std::int64_t>(offset), m_target);
}

Result<void> AtomicFile::commit()
{
    RW_CHECK(m_fd >= 0, "commit() a second time");
    if (::fsync(m_fd) != 0) {
        return failErrno(errno, "sync", m_temporary);
    }
    if (const int status = ::close(std::exchange(m_fd, -1)); status != 0) {
        return failErrno(errno, "close", m_temporary);
    }
    if (::rename(m_temporary.c_str(), m_target.c_str()) != 0) {
        return failErrno(errno, "rename the finished file to", m_target);
    }
    m_temporary.clear();
    return syncPath(m_target.parent_path(), O_RDONLY | O_DIRECTORY);
}

Result<void> writeFileAtomically(const fs::path& path, std::span<const std::byte> bytes)
{
    RW_TRY(auto file, AtomicFile::create(path));
    RW_TRY_VOID(file.write(bytes));
    return file.commit();
}

Result<void> writeFileAtomically(const fs::path& path, std::string_view text)
{
    return writeFileAtomically(path, std::as_bytes(std::span(text)));
}

AtomicFolder::AtomicFolder(AtomicFolder&& other) noexcept
    : m_target(std::move(other.m_target)), m_temporary(std::exchange(other.m_temporary, {}))
{
}

AtomicFolder::~AtomicFolder()
{
    if (!m_temporary.empty()) {
        std::error_code ignored;
        fs::remove_all(m_temporary, ignored);
    }
}

Result<AtomicFolder> AtomicFolder::create(const fs::path& target)
{
    AtomicFolder folder;
    folder.m_target = target;
    const fs::path temporary = temporaryBeside(target);
    RW_TRY_VOID(createFolders(temporary));
    folder.m_temporary = temporary;
    return folder;
}

Result<void> AtomicFolder::commit()
{
    RW_CHECK(!m_temporary.empty(), "commit() a second time");
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(m_temporary, error)) {
        const bool folder = entry.is_directory();
        if (folder || entry.is_regular_file()) {
            RW_TRY_VOID(syncPath(entry.path(), folder ? O_RDONLY | O_DIRECTORY : O_RDONLY));
        }
    }
    if (error) {
        return failErrno(error.value(), "list", m_temporary);
    }
    RW_TRY_VOID(syncPath(m_temporary, O_RDONLY | O_DIRECTORY));
    fs::path replaced;
    if (fs::exists(m_target, error)) {
        replaced = temporaryBeside(m_target);
        if (::rename(m_target.c_str(), replaced.c_str()) != 0) {
            return failErrno(errno, "move the previous folder away from", m_target);
        }
    }
    if (::rename(m_temporary.c_str(), m_target.c_str()) != 0) {
        const int renameError = errno;
        if (!replaced.empty()) {
            ::rename(replaced.c_str(), m_target.c_str());
        }
        return failErrno(renameError, "rename the finished folder to", m_target);
    }
    m_temporary.clear();
    if (!replaced.empty()) {
        fs::remove_all(replaced, error);
    }
    return syncPath(m_target.parent_path(), O_RDONLY | O_DIRECTORY);
}

Result<void> createFolders(const fs::path& path)
{
    std::error_code error;
    fs::create_directories(path, error);
    if (error) {
        return failErrno(error.value(), "create the folder", path);
    }
    return {};
}

}  // namespace rankwise
