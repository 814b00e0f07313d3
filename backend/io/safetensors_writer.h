// Writes .safetensors files, also larger than memory, and sharded checkpoints with their index.
//
// The header is laid out as the reference writer does: tensors by dtype descending, then name; compact JSON padded with
// spaces to a multiple of 8 bytes. Metadata is sorted by key (the reference leaves its order to chance).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/file.h"
#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/io/dtype.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace rankwise::io {

/// A tensor to come: what the header must know before the first byte.
struct TensorSpec {
    std::string name;
    Dtype dtype = Dtype::F32;
    std::vector<std::int64_t> shape;
};

/// A tensor in memory; `bytes` is row-major and little-endian.
struct TensorView {
    Dtype dtype = Dtype::F32;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;
};

using Metadata = std::map<std::string, std::string>;

/// Streams tensors into a file that appears whole on commit(). Without commit() nothing appears.
///
///     RW_TRY(auto writer, SafetensorsWriter::create(path, specs, {{"format", "pt"}}));
///     for (const TensorSpec& spec : writer.specs()) {
///         RW_TRY_VOID(writer.write(spec.name, bytesOf(spec)));
///     }
///     RW_TRY_VOID(writer.commit());
///
/// Thread: one at a time. Memory: the header.
class SafetensorsWriter {
public:
    /// Writes the header. Nothing may be added later.
    /// Errors: AlreadyExists (a name twice), FieldInvalid (a name or metadata that is not UTF-8, or the reserved name
    ///         "__metadata__"), ShapeOverflow, OffsetsInvalid (sub-byte elements that do not fill a byte),
    ///         HeaderTooLarge, FileNotFound (no such folder), DiskFull, IoFailed.
    [[nodiscard]] static Result<SafetensorsWriter> create(const std::filesystem::path& path,
                                                          std::vector<TensorSpec> specs, const Metadata& metadata = {});

    /// The tensors in the order of the file; writing in this order is fastest.
    [[nodiscard]] const std::vector<TensorSpec>& specs() const { return m_specs; }

    /// One whole tensor. Errors: TensorNotFound, ShapeMismatch (other length than the specification's),
    /// AlreadyExists (written before), DiskFull, IoFailed.
    [[nodiscard]] Result<void> write(const std::string& name, std::span<const std::byte> bytes);

    /// The next piece of a tensor that is written in pieces, front to back. Errors: as write().
    [[nodiscard]] Result<void> append(const std::string& name, std::span<const std::byte> bytes);

    /// Errors: DataInvalid (tensors that are not complete, named), DiskFull, IoFailed.
    [[nodiscard]] Result<void> commit();

private:
    struct Range {
        std::uint64_t begin = 0; ///< File offset.
        std::uint64_t length = 0;
        std::uint64_t written = 0;
        std::size_t index = 0; ///< Into m_specs.
    };

    explicit SafetensorsWriter(AtomicFile file) : m_file(std::move(file)) { }

    AtomicFile m_file;
    std::vector<TensorSpec> m_specs;
    std::map<std::string, Range> m_ranges;
    std::string m_path;
};

/// Header (length prefix included) of a file with these tensors, and the order of its data in `specs`.
/// Errors: those of SafetensorsWriter::create() that concern the specifications.
[[nodiscard]] Result<std::string> safetensorsHeaderText(std::vector<TensorSpec>& specs, const Metadata& metadata);

/// Writes one file. Errors: those of SafetensorsWriter, Cancelled.
[[nodiscard]] Result<void> writeSafetensors(const std::filesystem::path& path,
                                            const std::map<std::string, TensorView>& tensors,
                                            const Metadata& metadata = {}, const JobContext& job = {});

/// Default shard size of huggingface_hub: 5 GB.
inline constexpr std::uint64_t kDefaultShardBytes = 5'000'000'000;

/// Writes `stem`.safetensors, or, when the tensors take more than `maxShardBytes`, `stem`-00001-of-0000N.safetensors
/// and `stem`.safetensors.index.json (last, so that a half-written set has no index). Shards are filled in the order of
/// the names; a tensor larger than a shard gets one of its own. An index or single file of an earlier save under the
/// same stem is removed. Returns the files written.
/// Errors: those of SafetensorsWriter, UsageInvalid (a stem with a path separator), Cancelled.
[[nodiscard]] Result<std::vector<std::filesystem::path>>
writeSharded(const std::filesystem::path& folder, const std::string& stem,
             const std::map<std::string, TensorView>& tensors, std::uint64_t maxShardBytes = kDefaultShardBytes,
             const Metadata& metadata = {}, const JobContext& job = {});

} // namespace rankwise::io
