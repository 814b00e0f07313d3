// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file_lock.h"

#include "backend/base/file.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace rankwise {

FileLock::FileLock(FileLock&& other) noexcept : m_fd(std::exchange(other.m_fd, -1)) { }

FileLock& FileLock::operator=(FileLock&& other) noexcept
{
    std::swap(m_fd, other.m_fd);
    return *this;
}

FileLock::~FileLock()
{
    release();
}

Result<FileLock> FileLock::take(const std::filesystem::path& file, std::string_view held)
{
    FileLock lock;
    lock.m_fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock.m_fd < 0) {
        return failErrno(errno, "create", file);
    }
    if (::flock(lock.m_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return fail(Errc::AlreadyExists, std::string(held), file.parent_path().string());
        }
        return failErrno(errno, "lock", file);
    }
    return lock;
}

void FileLock::release()
{
    if (m_fd >= 0) {
        ::close(m_fd);
        m_fd = -1;
    }
}

} // namespace rankwise
