// A file that one process at a time holds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <filesystem>
#include <string_view>

namespace rankwise {

/// An advisory lock (flock) on a file made for it. The system lets go of it when the process ends, however it ends.
/// Thread: one at a time.
class FileLock {
public:
    FileLock() = default; ///< Holds nothing.
    FileLock(FileLock&& other) noexcept;
    FileLock& operator=(FileLock&& other) noexcept;
    ~FileLock();

    /// Makes `file` where it is not there, and never waits.
    /// Errors: AlreadyExists (another holder; with the words of `held`), IoFailed, FileNotFound (no such folder).
    [[nodiscard]] static Result<FileLock> take(const std::filesystem::path& file, std::string_view held);

    void release();

private:
    int m_fd = -1;
};

} // namespace rankwise
