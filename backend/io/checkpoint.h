// The tensors of a checkpoint, whatever it is spread over: one .safetensors file, shards behind an index, or a folder
// that holds either. Mapped, never copied.
//
// Layout of sharded checkpoints: model.safetensors.index.json with "metadata" and "weight_map" (tensor -> file name),
// as written by huggingface_hub.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/io/safetensors_reader.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace rankwise::io {

/// Immutable after open(). Copies share the maps, which live as long as any copy. Thread: any.
class Checkpoint {
public:
    /// Opens a .safetensors file, a *.safetensors.index.json, or a folder that holds model.safetensors,
    /// model.safetensors.index.json or adapter_model.safetensors (looked for in this order).
    ///
    /// `warnings` gets what parseSafetensorsHeader() warns of, a total_size that is not the sum, and tensors of shards
    /// that the index does not list.
    /// Errors: FileNotFound (also missing shards, all of them named), PickleRefused (.bin, .pt, .pth, .ckpt or such
    ///         content), JsonInvalid, FieldMissing, FieldInvalid (index; a file name that leaves the folder),
    ///         TensorNotFound (a listed tensor is not in its shard), DataInvalid (a tensor in two shards), IoFailed and
    ///         those of parseSafetensorsHeader().
    [[nodiscard]] static Result<Checkpoint> open(const std::filesystem::path& path, std::vector<Warning>& warnings);
    [[nodiscard]] static Result<Checkpoint> open(const std::filesystem::path& path);

    /// Stored tensors, sorted; aliases are not among them.
    [[nodiscard]] const std::vector<std::string>& names() const;
    /// "dropped name -> kept name" entries of the metadata: tensors that shared memory and were stored once.
    [[nodiscard]] const std::map<std::string, std::string>& aliases() const;
    [[nodiscard]] bool contains(const std::string& name) const; ///< Also by alias.

    /// Errors: TensorNotFound.
    [[nodiscard]] Result<TensorInfo> info(const std::string& name) const;
    /// Row-major bytes, a view that stays valid as long as a copy of this checkpoint. Errors: TensorNotFound.
    [[nodiscard]] Result<std::span<const std::byte>> bytes(const std::string& name) const;

    /// The shards in the order of their names, or the one file.
    [[nodiscard]] const std::vector<std::filesystem::path>& files() const;
    /// The "__metadata__" of all files together; of two values for one key the first file's.
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const;
    [[nodiscard]] std::uint64_t parameterCount() const; ///< Elements of all stored tensors.
    [[nodiscard]] std::uint64_t byteCount() const;      ///< Bytes of all stored tensors.

private:
    struct State;
    explicit Checkpoint(std::shared_ptr<const State> state);

    std::shared_ptr<const State> m_state;
};

/// The file that Checkpoint::open() would open in `folder`, or an empty path.
[[nodiscard]] std::filesystem::path findWeights(const std::filesystem::path& folder);

/// Elements that are no numbers.
struct NonFiniteCount {
    std::uint64_t nan = 0;
    std::uint64_t infinite = 0;
    [[nodiscard]] bool operator==(const NonFiniteCount&) const = default;
};

/// Counts NaN and infinity among elements of a floating type; other types have none. Reads at memory speed where all
/// elements are finite. `bytes` needs no alignment. Complex numbers count each part.
[[nodiscard]] NonFiniteCount countNonFinite(Dtype dtype, std::span<const std::byte> bytes);

/// countNonFinite() of every tensor that has any, by name.
///
/// Errors: Cancelled.
[[nodiscard]] Result<std::map<std::string, NonFiniteCount>> scanNonFinite(const Checkpoint& checkpoint,
                                                                          const JobContext& job = {});

} // namespace rankwise::io
