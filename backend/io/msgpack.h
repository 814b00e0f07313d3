// MessagePack messages with numpy arrays in them, as openpi's policy protocol exchanges them.
//
// Format: https://github.com/msgpack/msgpack/blob/master/spec.md; arrays as openpi_client/msgpack_numpy.py 0.1.2 wraps
// them: maps with *binary* keys "__ndarray__", "data", "dtype", "shape" (scalars: "__npgeneric__", "data", "dtype").
// The PyPI package msgpack-numpy uses other keys and is another format.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace rankwise::io {

/// A numpy array. `data` is row-major in the byte order that `dtype` names.
struct NumpyArray {
    std::string dtype; ///< numpy's code: "<f4", "|u1", ">i2", "|b1", "<U5", ...
    std::vector<std::int64_t> shape;
    std::vector<std::byte> data;
    [[nodiscard]] bool operator==(const NumpyArray&) const = default;

    [[nodiscard]] static NumpyArray of(std::span<const float> values, std::vector<std::int64_t> shape);
    [[nodiscard]] static NumpyArray of(std::span<const double> values, std::vector<std::int64_t> shape);
    [[nodiscard]] static NumpyArray of(std::span<const std::uint8_t> values, std::vector<std::int64_t> shape);
    [[nodiscard]] static NumpyArray of(std::span<const std::int64_t> values, std::vector<std::int64_t> shape);

    /// Elements as numbers, converted from any boolean, integer or floating type and byte order.
    /// Errors: Unsupported (times, texts).
    [[nodiscard]] Result<std::vector<double>> toDoubles() const;
    [[nodiscard]] Result<std::vector<float>> toFloats() const; ///< Rounded once.
};

/// Bytes of one element of a numpy dtype.
/// Errors: Unsupported (object, void, complex and unknown types).
[[nodiscard]] Result<std::uint64_t> numpyItemSize(std::string_view dtype);

/// A numpy scalar other than float64, which travels as a plain float.
struct NumpyScalar {
    std::string dtype;
    std::variant<bool, std::int64_t, std::uint64_t, double> value;
    [[nodiscard]] bool operator==(const NumpyScalar&) const = default;
};

/// One MessagePack value. Maps keep their order; their keys are texts.
class Value {
public:
    using Bytes = std::vector<std::byte>;
    using Array = std::vector<Value>;
    using Map = std::vector<std::pair<std::string, Value>>;
    using Variant = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Bytes, Array,
                                 Map, NumpyArray, NumpyScalar>;

    Value() = default; ///< nil
    Value(bool value) : m_value(value) { }
    Value(int value) : m_value(std::int64_t { value }) { }
    Value(std::int64_t value) : m_value(value) { }
    Value(std::uint64_t value); ///< Kept as std::int64_t where it fits.
    Value(double value) : m_value(value) { }
    Value(const char* value) : m_value(std::string(value)) { }
    Value(std::string value) : m_value(std::move(value)) { }
    Value(Bytes value) : m_value(std::move(value)) { }
    Value(Array value) : m_value(std::move(value)) { }
    Value(Map value) : m_value(std::move(value)) { }
    Value(NumpyArray value) : m_value(std::move(value)) { }
    Value(NumpyScalar value) : m_value(std::move(value)) { }

    [[nodiscard]] const Variant& variant() const { return m_value; }
    template <class T> [[nodiscard]] const T* as() const { return std::get_if<T>(&m_value); }
    [[nodiscard]] bool isNil() const { return m_value.index() == 0; }

    /// The value of `key` in a map; nullptr for an absent key or another type.
    [[nodiscard]] const Value* find(std::string_view key) const;
    /// Any number (integers, floats, numpy scalars, arrays of one element); nothing for other types.
    [[nodiscard]] std::optional<double> number() const;
    /// A text, or bytes that are UTF-8.
    [[nodiscard]] std::optional<std::string> text() const;

    [[nodiscard]] bool operator==(const Value&) const;

private:
    Variant m_value;
};

/// Bounds on what one message may hold.
struct MsgpackLimits {
    std::size_t maxDepth = 64;            ///< Arrays and maps inside each other.
    std::uint64_t maxElements = 1U << 20; ///< Values of the whole message, keys included.
    std::uint64_t maxBytes = 64ULL << 20; ///< Of the message.
};

/// Decodes exactly one value. Nothing is allocated by a count or length alone: each must be covered by bytes that are
/// there.
///
/// Errors: TooLarge, FileTruncated (ends inside a value), DataInvalid (bytes after the value, not MessagePack, keys
/// that
///         are no texts or occur twice, text that is not UTF-8, an envelope whose data are not as long as shape and
///         dtype say), FieldMissing (envelope), FieldInvalid (envelope), ShapeOverflow, Unsupported (forbidden or
///         unknown dtype, extension types).
/// Thread: any.
[[nodiscard]] Result<Value> decodeMsgpack(std::span<const std::byte> message, const MsgpackLimits& limits = {});

/// Encodes as openpi's packer does: shortest integers and lengths, floats as 64 bits.
/// Errors: DataInvalid (an array whose data do not fit shape and dtype, text that is not UTF-8), TooLarge (a length
///         beyond 32 bits), Unsupported (forbidden dtype).
[[nodiscard]] Result<std::vector<std::byte>> encodeMsgpack(const Value& value);

} // namespace rankwise::io
