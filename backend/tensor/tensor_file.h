// Tensors in safetensors files: bytes <-> at::Tensor, without a copy where the machine allows it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::io {
enum class Dtype : std::uint8_t;
struct SafetensorsHeader;
} // namespace rankwise::io

namespace rankwise::tensor {

/// The torch type of a stored dtype. Errors: Unsupported (sub-byte types).
[[nodiscard]] Result<at::ScalarType> scalarTypeOf(io::Dtype dtype);
/// The stored dtype of a torch type. Errors: Unsupported (quantized types, complex64 of halves, ...).
[[nodiscard]] Result<io::Dtype> dtypeOf(at::ScalarType type);
/// "F32", "BF16", ...: as safetensors headers spell it; "?" for types that the format lacks.
[[nodiscard]] std::string dtypeName(at::ScalarType type);

using TensorMap = std::map<std::string, at::Tensor>;
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// A safetensors file, or all shards of a checkpoint, mapped privately: tensors are views into the map and keep it
/// alive on their own. Writing to them changes this process's copy of the page, never the file. Copies share the maps.
/// Thread: any.
///
/// Another process that shortens the file while it is mapped raises SIGBUS; files of ours are replaced by renaming.
class TensorFile {
public:
    /// Opens what io::Checkpoint::open() takes: a .safetensors file, an index of shards, or a folder with either.
    /// Errors: those of io::Checkpoint::open().
    [[nodiscard]] static Result<TensorFile> open(const std::filesystem::path& path);

    [[nodiscard]] std::vector<std::string> names() const;       ///< Sorted, without aliases.
    [[nodiscard]] bool contains(const std::string& name) const; ///< Also by alias.
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const;

    /// Row-major, on the CPU. A copy only if the file leaves it misaligned for its type.
    /// Errors: TensorNotFound, Unsupported (a stored type that torch lacks).
    [[nodiscard]] Result<at::Tensor> tensor(const std::string& name) const;

    /// All tensors. Errors: Unsupported.
    [[nodiscard]] Result<TensorMap> all() const;

private:
    struct State;
    TensorFile() = default;

    std::shared_ptr<const State> m_state;
};

/// TensorFile::open() and all(): every tensor, mapped, in the time it takes to read the header.
[[nodiscard]] Result<TensorMap> loadTensors(const std::filesystem::path& path);

/// Writes a file that appears whole or not at all. Tensors may be on any device and of any layout; one at a time is
/// brought to the CPU. Tensors that share memory are written each by itself.
/// Errors: Unsupported (dtype), AlreadyExists (a name twice), IoFailed, DiskFull, Cancelled.
[[nodiscard]] Result<void> saveTensors(const std::filesystem::path& path, const NamedTensors& tensors,
                                       const std::map<std::string, std::string>& metadata = {},
                                       const JobContext& job = {});
[[nodiscard]] Result<void> saveTensors(const std::filesystem::path& path, const TensorMap& tensors,
                                       const std::map<std::string, std::string>& metadata = {},
                                       const JobContext& job = {});

} // namespace rankwise::tensor
