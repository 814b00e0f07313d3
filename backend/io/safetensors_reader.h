// Reads the header of a .safetensors file and hands out tensor bytes.
// Knows nothing of torch: backend/tensor turns the bytes into tensors.
//
// Format: 8-byte little-endian header length N, N bytes of JSON, then the tensor bytes.
// Specification: README of huggingface/safetensors, and the checks of its 0.8 reader. Stricter than that reader:
// names and keys that occur twice, and entries written as arrays, are refused.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/io/dtype.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace rankwise::io {

/// One entry of the header. Shapes are row-major, outermost dimension first; an empty shape is a scalar.
struct TensorInfo {
    Dtype dtype = Dtype::F32;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0; ///< First byte, counted from the end of the header.
    std::uint64_t end = 0;   ///< One past the last byte.

    [[nodiscard]] std::uint64_t byteCount() const { return end - begin; }
    /// Product of the shape; it fits, the reader has checked it.
    [[nodiscard]] std::uint64_t elementCount() const;
};

/// The checked header of one file. Immutable once parsed, so any number of threads may read it.
struct SafetensorsHeader {
    std::map<std::string, TensorInfo> tensors;   ///< By tensor name, e.g. "lm_head.weight".
    std::map<std::string, std::string> metadata; ///< The "__metadata__" entry.
    std::uint64_t dataOffset = 0;                ///< File offset of the first tensor byte.
};

/// Longest header accepted, in bytes; the limit of the reference reader.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

/// Parses and checks the header at the start of `file`.
///
/// `file` is the whole file, usually a memory map; only the header is touched. After success every tensor range lies
/// inside the file, none overlap, there is no hole between them, and each is as long as shape and dtype say.
/// Harmless oddities go to `warnings`: white space before the header, sub-byte types, control characters in names.
///
/// Errors: FileTruncated, HeaderTooLarge, HeaderInvalid, DtypeUnknown, ShapeOverflow, OffsetsInvalid (also for bytes
///         after the last tensor), PickleRefused (a torch or pickle file under another name; how to convert it).
/// Thread: any. Memory: the header only.
[[nodiscard]] Result<SafetensorsHeader> parseSafetensorsHeader(std::span<const std::byte> file);
[[nodiscard]] Result<SafetensorsHeader> parseSafetensorsHeader(std::span<const std::byte> file,
                                                               std::vector<Warning>& warnings);

/// Bytes of the tensor `name`, a view into `file`. The caller keeps `file` alive.
///
/// Errors: TensorNotFound.
[[nodiscard]] Result<std::span<const std::byte>> tensorBytes(const SafetensorsHeader& header,
                                                             std::span<const std::byte> file, const std::string& name);

/// Bytes that a tensor of this type and shape takes.
///
/// Errors: ShapeOverflow (also for a negative dimension), OffsetsInvalid (sub-byte elements that do not fill a byte).
[[nodiscard]] Result<std::uint64_t> tensorByteCount(Dtype dtype, std::span<const std::int64_t> shape);

/// The refusal of a pickle (.bin, .pt, .pth, .ckpt), with the command that converts it.
[[nodiscard]] tl::unexpected<Error> failPickle(const std::filesystem::path& path);

/// True for a torch zip archive or a pickle stream, by its first bytes.
[[nodiscard]] bool looksLikePickle(std::span<const std::byte> start);

/// Text for a terminal or label: control characters as \xNN, and cut to `maxBytes` with "..." at the end.
[[nodiscard]] std::string displayName(std::string_view name, std::size_t maxBytes = 512);

/// [2, 3] as "[2, 3]".
[[nodiscard]] std::string shapeText(std::span<const std::int64_t> shape);

} // namespace rankwise::io
