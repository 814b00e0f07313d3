// One frame, borrowed, and how its values become elements of columns.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/frame_view.h"

#include "backend/data/arrow_columns.h"
#include "backend/data/dataset_reader.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace rankwise::data {

FrameView& FrameView::floats(std::string_view key, std::span<const float> values)
{
    m_values.push_back({ key, Value::Kind::Floats, std::as_bytes(values), 0, 0 });
    return *this;
}
FrameView& FrameView::doubles(std::string_view key, std::span<const double> values)
{
    m_values.push_back({ key, Value::Kind::Doubles, std::as_bytes(values), 0, 0 });
    return *this;
}
FrameView& FrameView::integers(std::string_view key, std::span<const std::int64_t> values)
{
    m_values.push_back({ key, Value::Kind::Integers, std::as_bytes(values), 0, 0 });
    return *this;
}
FrameView& FrameView::number(std::string_view key, double value)
{
    m_values.push_back({ key, Value::Kind::Double, {}, value, 0 });
    return *this;
}
FrameView& FrameView::integer(std::string_view key, std::int64_t value)
{
    m_values.push_back({ key, Value::Kind::Integer, {}, 0, value });
    return *this;
}
FrameView& FrameView::boolean(std::string_view key, bool value)
{
    m_values.push_back({ key, Value::Kind::Bool, {}, 0, value ? 1 : 0 });
    return *this;
}
FrameView& FrameView::text(std::string_view key, std::string_view value)
{
    m_values.push_back({ key, Value::Kind::Text, std::as_bytes(std::span(value)), 0, 0 });
    return *this;
}
FrameView& FrameView::image(std::string_view key, std::span<const std::uint8_t> pixels)
{
    m_values.push_back({ key, Value::Kind::Pixels, std::as_bytes(pixels), 0, 0 });
    return *this;
}
FrameView& FrameView::raw(std::string_view key, std::span<const std::byte> bytes)
{
    m_values.push_back({ key, Value::Kind::Raw, bytes, 0, 0 });
    return *this;
}
FrameView& FrameView::task(std::string_view text)
{
    m_task = text;
    return *this;
}
void FrameView::clear()
{
    m_values.clear();
    m_task = {};
}

namespace {

template <class T> void put(std::vector<std::byte>& bytes, T value)
{
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof(T));
    std::memcpy(bytes.data() + at, &value, sizeof(T));
}

/// Whether a number is a value of T without loss, floating-point precision excepted.
template <class T> bool fits(double value)
{
    if constexpr (std::is_integral_v<T>) {
        return value == std::floor(value) && value >= static_cast<double>(std::numeric_limits<T>::lowest())
            && value < static_cast<double>(std::numeric_limits<T>::max()) + 1.0;
    } else {
        return true;
    }
}

template <class T> bool putReal(std::vector<std::byte>& bytes, double value)
{
    if (!fits<T>(value)) {
        return false;
    }
    put(bytes, static_cast<T>(value));
    return true;
}

template <class T> bool putWhole(std::vector<std::byte>& bytes, std::int64_t value)
{
    if constexpr (std::is_integral_v<T>) {
        if (!std::in_range<T>(value)) {
            return false;
        }
    }
    put(bytes, static_cast<T>(value));
    return true;
}

/// Calls `body` with a value of the element's C++ type.
template <class Body> bool withType(FeatureType type, const Body& body)
{
    switch (type) {
    case FeatureType::UInt8:
        return body(std::uint8_t {});
    case FeatureType::Int8:
        return body(std::int8_t {});
    case FeatureType::UInt16:
        return body(std::uint16_t {});
    case FeatureType::Int16:
        return body(std::int16_t {});
    case FeatureType::UInt32:
        return body(std::uint32_t {});
    case FeatureType::Int32:
        return body(std::int32_t {});
    case FeatureType::UInt64:
        return body(std::uint64_t {});
    case FeatureType::Int64:
        return body(std::int64_t {});
    case FeatureType::Float32:
        return body(float {});
    case FeatureType::Float64:
        return body(double {});
    default:
        return false;
    }
}

bool appendReal(std::vector<std::byte>& bytes, FeatureType type, double value)
{
    if (type == FeatureType::Bool) {
        put<std::uint8_t>(bytes, value != 0 ? 1 : 0);
        return value == 0 || value == 1;
    }
    if (type == FeatureType::Float16) {
        put(bytes, floatToHalf(static_cast<float>(value)));
        return true;
    }
    return withType(type, [&](auto sample) { return putReal<decltype(sample)>(bytes, value); });
}

bool appendWhole(std::vector<std::byte>& bytes, FeatureType type, std::int64_t value)
{
    if (type == FeatureType::Bool || type == FeatureType::Float16) {
        return appendReal(bytes, type, static_cast<double>(value));
    }
    return withType(type, [&](auto sample) { return putWhole<decltype(sample)>(bytes, value); });
}

template <class T, class Append> bool appendEach(std::span<const std::byte> bytes, const Append& append)
{
    bool ok = true;
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(T)) {
        T value {};
        std::memcpy(&value, bytes.data() + at, sizeof(T));
        ok = ok && append(value);
    }
    return ok;
}

} // namespace

Result<void> appendValue(const Feature& feature, const FrameView::Value& value, Column& column)
{
    using Kind = FrameView::Value::Kind;
    if (feature.type == FeatureType::String) {
        if (value.kind != Kind::Text) {
            return fail(Errc::FieldInvalid, "a text is needed", feature.key);
        }
        column.texts.emplace_back(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
        return {};
    }
    const std::size_t before = column.bytes.size();
    const std::size_t wanted = elementSize(feature.type) * static_cast<std::size_t>(column.width);
    bool ok = true;
    switch (value.kind) {
    case Kind::Floats:
        ok = appendEach<float>(value.bytes,
                               [&](float v) { return appendReal(column.bytes, feature.type, static_cast<double>(v)); });
        break;
    case Kind::Doubles:
        ok = appendEach<double>(value.bytes, [&](double v) { return appendReal(column.bytes, feature.type, v); });
        break;
    case Kind::Integers:
        ok = appendEach<std::int64_t>(value.bytes,
                                      [&](std::int64_t v) { return appendWhole(column.bytes, feature.type, v); });
        break;
    case Kind::Double:
        ok = appendReal(column.bytes, feature.type, value.real);
        break;
    case Kind::Integer:
    case Kind::Bool:
        ok = appendWhole(column.bytes, feature.type, value.integer);
        break;
    case Kind::Raw:
        column.bytes.insert(column.bytes.end(), value.bytes.begin(), value.bytes.end());
        break;
    case Kind::Text:
    case Kind::Pixels:
        return fail(Errc::FieldInvalid, "a number is needed", feature.key);
    }
    if (!ok) {
        column.bytes.resize(before);
        return fail(Errc::FieldInvalid, fmt::format("the value does not fit {}", featureTypeName(feature.type)),
                    feature.key);
    }
    if (column.bytes.size() - before != wanted) {
        const std::size_t given = (column.bytes.size() - before) / elementSize(feature.type);
        column.bytes.resize(before);
        return fail(Errc::ShapeMismatch,
                    fmt::format("{} values were given, and the feature has {}", given, column.width), feature.key);
    }
    return {};
}

} // namespace rankwise::data
