// Element types of stored tensors: names as safetensors headers spell them, and widths in bits.
//
// Source: huggingface/safetensors 0.8, enumeration Dtype.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace rankwise::io {

/// Element type. The order is that of the reference, which sorts a written file's tensors by it (descending, so that
/// wide types come first); it never changes.
enum class Dtype : std::uint8_t {
    Bool,       ///< One byte, 0 or 1.
    F4,         ///< Two elements a byte.
    F6E2M3,     ///< Four elements in three bytes.
    F6E3M2,     ///< Four elements in three bytes.
    U8,         ///< Unsigned integer.
    I8,         ///< Signed integer.
    F8E5M2,     ///< OCP 8-bit float with infinities.
    F8E4M3,     ///< OCP 8-bit float without infinities; NaN is S.1111.111.
    F8E8M0,     ///< Power-of-two scale; NaN is 0xFF.
    F8E4M3Fnuz, ///< No infinities, no negative zero; NaN is 0x80.
    F8E5M2Fnuz, ///< No infinities, no negative zero; NaN is 0x80.
    I16,        ///< Signed integer.
    U16,        ///< Unsigned integer.
    F16,        ///< IEEE 754 binary16.
    BF16,       ///< Upper half of a binary32.
    I32,        ///< Signed integer.
    U32,        ///< Unsigned integer.
    F32,        ///< IEEE 754 binary32.
    C64,        ///< Two binary32: real, imaginary.
    F64,        ///< IEEE 754 binary64.
    I64,        ///< Signed integer.
    U64,        ///< Unsigned integer.
};

inline constexpr std::size_t kDtypeCount = 22;

/// "F32", "F8_E4M3", ...
[[nodiscard]] std::string_view dtypeName(Dtype dtype);

/// The dtype of a header's name, or nothing. Case matters.
[[nodiscard]] std::optional<Dtype> dtypeFromName(std::string_view name);

/// Bits of one element: 4, 6, 8, 16, 32 or 64.
[[nodiscard]] std::uint64_t dtypeBits(Dtype dtype);

/// True for types narrower than a byte, which torch cannot hold one element of.
[[nodiscard]] bool isSubByte(Dtype dtype);

/// True for every floating-point type, complex included.
[[nodiscard]] bool isFloating(Dtype dtype);

/// True for signed and unsigned integers; Bool is none.
[[nodiscard]] bool isInteger(Dtype dtype);

} // namespace rankwise::io
