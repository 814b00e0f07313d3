// Files: whole reads with a limit, read-only maps, and writing aside then renaming,
// so that a reader or a crash never meets half a file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise {

/// Bytes of a text or small binary file.
///
/// Errors: FileNotFound, TooLarge (longer than `limit`), IoFailed.
/// Thread: any.
[[nodiscard]] Result<std::string> readFile(const std::filesystem::path& path, std::uint64_t limit = 256u << 20);

/// A whole file mapped read-only and privately. Movable; unmapped by the destructor.
///
/// Another process that truncates the file while it is mapped raises SIGBUS, as for every mapping:
/// writers of ours replace files by renaming and never shorten one.
class MappedFile {
public:
    MappedFile() = default;
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    /// Errors: FileNotFound (also for a folder), IoFailed. An empty file maps to an empty span.
    [[nodiscard]] static Result<MappedFile> open(const std::filesystem::path& path);

    [[nodiscard]] std::span<const std::byte> bytes() const { return { m_data, m_size }; }
    [[nodiscard]] const std::filesystem::path& path() const { return m_path; }

    /// Tells the kernel that the range will be read soon, front to back.
    void willRead(std::size_t offset, std::size_t length) const;

private:
    const std::byte* m_data = nullptr;
    std::size_t m_size = 0;
    std::filesystem::path m_path;
};

/// Writes a file beside its target and renames it into place on commit().
///
/// Without commit() the destructor removes the temporary and the target is as before.
/// Thread: one at a time.
class AtomicFile {
public:
    AtomicFile(AtomicFile&& other) noexcept;
    AtomicFile& operator=(AtomicFile&&) = delete;
    ~AtomicFile();

    /// Opens `<name>.tmp-<pid>-<n>` in the target's folder, which must exist.
    /// Errors: FileNotFound (no such folder), IoFailed.
    [[nodiscard]] static Result<AtomicFile> create(const std::filesystem::path& target);

    /// Errors: DiskFull, IoFailed. After an error only the destructor may follow.
    [[nodiscard]] Result<void> write(std::span<const std::byte> bytes);
    [[nodiscard]] Result<void> write(std::string_view text);

    /// Replaces bytes written earlier (a header that is known last).
    [[nodiscard]] Result<void> writeAt(std::uint64_t offset, std::span<const std::byte> bytes);

    /// Syncs the data, renames, and syncs the folder. Errors: DiskFull, IoFailed.
    [[nodiscard]] Result<void> commit();

    [[nodiscard]] const std::filesystem::path& temporaryPath() const { return m_temporary; }

private:
    AtomicFile() = default;

    int m_fd = -1;
    std::filesystem::path m_target;
    std::filesystem::path m_temporary;
};

/// AtomicFile in one call.
[[nodiscard]] Result<void> writeFileAtomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
[[nodiscard]] Result<void> writeFileAtomically(const std::filesystem::path& path, std::string_view text);

/// A folder that appears whole or not at all: fill path(), then commit() syncs every file in it and renames it
/// to the target. An existing target is replaced; readers see the old or the new one, for an instant neither.
class AtomicFolder {
public:
    AtomicFolder(AtomicFolder&& other) noexcept;
    AtomicFolder& operator=(AtomicFolder&&) = delete;
    ~AtomicFolder();  ///< Removes the temporary folder unless committed.

    [[nodiscard]] static Result<AtomicFolder> create(const std::filesystem::path& target);
    [[nodiscard]] const std::filesystem::path& path() const { return m_temporary; }
    [[nodiscard]] Result<void> commit();

private:
    AtomicFolder() = default;

    std::filesystem::path m_target;
    std::filesystem::path m_temporary;
};

/// mkdir -p. Errors: IoFailed, DiskFull.
[[nodiscard]] Result<void> createFolders(const std::filesystem::path& path);

/// Maps errno to DiskFull, FileNotFound or IoFailed, with the system's text.
[[nodiscard]] tl::unexpected<Error> failErrno(int error, std::string_view action, const std::filesystem::path& path);

}  // namespace rankwise
