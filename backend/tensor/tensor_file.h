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

/// The torch type of a stored dtype. Errors: Unsupported (a stored type that torch lacks).
[[nodiscard]] Result<at::ScalarType> scalarTypeOf(io::Dtype dtype);
/// The stored dtype of a torch type. Errors: Unsupported (complex, quantized, ...).
[[nodiscard]] Result<io::Dtype> dtypeOf(at::ScalarType type);
/// "F32", "BF16", ...: as safetensors headers spell it; "?" for types that the format lacks.
[[nodiscard]] std::string dtypeName(at::ScalarType type);

using TensorMap = std::map<std::string, at::Tensor>;
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// A safetensors file mapped privately: tensors are views into the map and keep it alive on their own. Writing to
/// them changes this process's copy of the page, never the file. Copies share the map. Thread: any.
///
/// Another process that shortens the file while it is mapped raises SIGBUS; files of ours are replaced by renaming.
class TensorFile {
public:
    /// Errors: FileNotFound, IoFailed and those of io::parseSafetensorsHeader().
    [[nodiscard]] static Result<TensorFile> open(const std::filesystem::path& path);

    [[nodiscard]] const io::SafetensorsHeader& header() const { return *m_header; }
    [[nodiscard]] std::vector<std::string> names() const; ///< Sorted.
    [[nodiscard]] bool contains(const std::string& name) const;
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const;

    /// Row-major, on the CPU. A copy only if the file leaves it misaligned for its type.
    /// Errors: TensorNotFound, Unsupported.
    [[nodiscard]] Result<at::Tensor> tensor(const std::string& name) const;

    /// All tensors. Errors: Unsupported.
    [[nodiscard]] Result<TensorMap> all() const;

private:
    struct Mapping;
    TensorFile() = default;

    std::shared_ptr<const Mapping> m_mapping;
    std::shared_ptr<const io::SafetensorsHeader> m_header;
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
