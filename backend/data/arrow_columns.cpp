// Arrow arrays to plain values.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/arrow_columns.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <arrow/array.h>
#include <arrow/chunked_array.h>
#include <arrow/extension_type.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

float halfToFloat(std::uint16_t half)
{
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t exponent = (half >> 10) & 0x1Fu;
    const std::uint32_t mantissa = half & 0x3FFu;
    if (exponent == 0) {
        const float value = static_cast<float>(mantissa) * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    if (exponent == 31) {
        return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

std::uint16_t floatToHalf(float value)
{
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    const float magnitude = std::abs(value);
    if (std::isnan(value)) {
        return static_cast<std::uint16_t>(sign | 0x7E00u);
    }
    if (magnitude >= 65520.0f) {
        return static_cast<std::uint16_t>(sign | 0x7C00u);
    }
    if (magnitude < 0x1p-14f) {
        return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
    }
    // Round to nearest, ties to even, on the 13 bits that go.
    std::uint32_t rounded = (bits & 0x7FFFFFFFu) - (112u << 23);
    rounded += 0xFFFu + ((rounded >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(rounded >> 13));
}

namespace {

/// One stored element, as the widest type of its kind.
struct Element {
    enum class Kind : std::uint8_t { Integer, Unsigned, Real } kind = Kind::Integer;
    std::int64_t integer = 0;
    double real = 0;
};

template <class T> void put(std::vector<std::byte>& bytes, T value)
{
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof(T));
    std::memcpy(bytes.data() + at, &value, sizeof(T));
}

template <class T> void putConverted(std::vector<std::byte>& bytes, const Element& e)
{
    switch (e.kind) {
    case Element::Kind::Integer:
        put(bytes, static_cast<T>(e.integer));
        break;
    case Element::Kind::Unsigned:
        put(bytes, static_cast<T>(static_cast<std::uint64_t>(e.integer)));
        break;
    case Element::Kind::Real:
        if constexpr (std::is_integral_v<T>) {
            // A whole-number column stored as floating point: outside the range the cast would be undefined.
            const double low = static_cast<double>(std::numeric_limits<T>::lowest());
            const double high = static_cast<double>(std::numeric_limits<T>::max());
            const bool usable = e.real >= low && e.real < high;
            put(bytes, usable ? static_cast<T>(e.real) : T { 0 });
        } else {
            put(bytes, static_cast<T>(e.real));
        }
        break;
    }
}

void putElement(std::vector<std::byte>& bytes, FeatureType type, const Element& e)
{
    switch (type) {
    case FeatureType::Bool:
        put<std::uint8_t>(bytes, (e.kind == Element::Kind::Real ? e.real != 0 : e.integer != 0) ? 1 : 0);
        break;
    case FeatureType::UInt8:
        putConverted<std::uint8_t>(bytes, e);
        break;
    case FeatureType::Int8:
        putConverted<std::int8_t>(bytes, e);
        break;
    case FeatureType::UInt16:
        putConverted<std::uint16_t>(bytes, e);
        break;
    case FeatureType::Int16:
        putConverted<std::int16_t>(bytes, e);
        break;
    case FeatureType::UInt32:
        putConverted<std::uint32_t>(bytes, e);
        break;
    case FeatureType::Int32:
        putConverted<std::int32_t>(bytes, e);
        break;
    case FeatureType::UInt64:
        putConverted<std::uint64_t>(bytes, e);
        break;
    case FeatureType::Int64:
        putConverted<std::int64_t>(bytes, e);
        break;
    case FeatureType::Float16:
        put<std::uint16_t>(
            bytes,
            floatToHalf(e.kind == Element::Kind::Real ? static_cast<float>(e.real) : static_cast<float>(e.integer)));
        break;
    case FeatureType::Float32:
        putConverted<float>(bytes, e);
        break;
    case FeatureType::Float64:
        putConverted<double>(bytes, e);
        break;
    default:
        break;
    }
}

template <class ArrayType> Element readElement(const arrow::Array& array, std::int64_t i)
{
    const auto value = static_cast<const ArrayType&>(array).Value(i);
    if constexpr (std::is_same_v<ArrayType, arrow::HalfFloatArray>) {
        return { Element::Kind::Real, 0, halfToFloat(value) };
    } else if constexpr (std::is_floating_point_v<decltype(value)>) {
        return { Element::Kind::Real, 0, static_cast<double>(value) };
    } else if constexpr (std::is_unsigned_v<std::remove_cv_t<
                             decltype(value)>> && !std::is_same_v<std::remove_cv_t<decltype(value)>, bool>) {
        return { Element::Kind::Unsigned, static_cast<std::int64_t>(value), 0 };
    } else {
        return { Element::Kind::Integer, static_cast<std::int64_t>(value), 0 };
    }
}

using ReadElement = Element (*)(const arrow::Array&, std::int64_t);

ReadElement elementReader(arrow::Type::type id)
{
    switch (id) {
    case arrow::Type::BOOL:
        return readElement<arrow::BooleanArray>;
    case arrow::Type::UINT8:
        return readElement<arrow::UInt8Array>;
    case arrow::Type::INT8:
        return readElement<arrow::Int8Array>;
    case arrow::Type::UINT16:
        return readElement<arrow::UInt16Array>;
    case arrow::Type::INT16:
        return readElement<arrow::Int16Array>;
    case arrow::Type::UINT32:
        return readElement<arrow::UInt32Array>;
    case arrow::Type::INT32:
        return readElement<arrow::Int32Array>;
    case arrow::Type::UINT64:
        return readElement<arrow::UInt64Array>;
    case arrow::Type::INT64:
        return readElement<arrow::Int64Array>;
    case arrow::Type::HALF_FLOAT:
        return readElement<arrow::HalfFloatArray>;
    case arrow::Type::FLOAT:
        return readElement<arrow::FloatArray>;
    case arrow::Type::DOUBLE:
        return readElement<arrow::DoubleArray>;
    default:
        return nullptr;
    }
}

/// The range of child elements of one list cell; nothing when the type is no list.
struct ListRange {
    const arrow::Array* child = nullptr;
    std::int64_t begin = 0;
    std::int64_t end = 0;
};

ListRange listRange(const arrow::Array& array, std::int64_t row)
{
    switch (array.type_id()) {
    case arrow::Type::LIST: {
        const auto& list = static_cast<const arrow::ListArray&>(array);
        return { list.values().get(), list.value_offset(row), list.value_offset(row + 1) };
    }
    case arrow::Type::LARGE_LIST: {
        const auto& list = static_cast<const arrow::LargeListArray&>(array);
        return { list.values().get(), list.value_offset(row), list.value_offset(row + 1) };
    }
    case arrow::Type::FIXED_SIZE_LIST: {
        const auto& list = static_cast<const arrow::FixedSizeListArray&>(array);
        return { list.values().get(), list.value_offset(row), list.value_offset(row) + list.value_length(row) };
    }
    default:
        return {};
    }
}

/// A list whose every row, back to back, is a run of plain values of `type`: copied at once.
bool copyContiguous(const arrow::Array& array, Column& column)
{
    const arrow::Array* values = &array;
    std::int64_t begin = 0;
    std::int64_t count = array.length();
    if (array.null_count() != 0) {
        return false;
    }
    if (const ListRange first = array.length() > 0 ? listRange(array, 0) : ListRange {}; first.child != nullptr) {
        for (std::int64_t row = 0; row < array.length(); ++row) {
            const ListRange range = listRange(array, row);
            if (range.end - range.begin != column.width) {
                return false;
            }
        }
        values = first.child;
        begin = first.begin;
        count *= column.width;
    } else if (column.width != 1) {
        return false;
    }
    if (values->null_count() != 0) {
        return false;
    }
    const auto append = [&](const auto* raw, std::size_t size) {
        const std::size_t at = column.bytes.size();
        column.bytes.resize(at + static_cast<std::size_t>(count) * size);
        std::memcpy(column.bytes.data() + at, raw + begin, static_cast<std::size_t>(count) * size);
        return true;
    };
    if (column.type == FeatureType::Float32 && values->type_id() == arrow::Type::FLOAT) {
        return append(static_cast<const arrow::FloatArray&>(*values).raw_values(), 4);
    }
    if (column.type == FeatureType::Float64 && values->type_id() == arrow::Type::DOUBLE) {
        return append(static_cast<const arrow::DoubleArray&>(*values).raw_values(), 8);
    }
    if (column.type == FeatureType::Int64 && values->type_id() == arrow::Type::INT64) {
        return append(static_cast<const arrow::Int64Array&>(*values).raw_values(), 8);
    }
    return false;
}

class ColumnAppender {
public:
    ColumnAppender(Column& column, const std::string& subject) : m_column(column), m_subject(subject) { }

    Result<void> append(const arrow::Array& array)
    {
        if (array.type_id() == arrow::Type::EXTENSION) {
            return append(*static_cast<const arrow::ExtensionArray&>(array).storage());
        }
        if (m_column.type == FeatureType::String) {
            return appendTexts(array);
        }
        if (copyContiguous(array, m_column)) {
            m_row += array.length();
            return {};
        }
        for (std::int64_t i = 0; i < array.length(); ++i, ++m_row) {
            m_elements = 0;
            RW_TRY_VOID(appendCell(array, i, 0));
            if (m_elements != m_column.width) {
                return fail(Errc::ShapeMismatch,
                            fmt::format("row {} holds {} values and the description says {}", m_row, m_elements,
                                        m_column.width),
                            m_subject);
            }
        }
        return {};
    }

private:
    Result<void> appendCell(const arrow::Array& array, std::int64_t i, int depth)
    {
        if (array.IsNull(i)) {
            return fail(Errc::DataInvalid, fmt::format("row {} is empty (null)", m_row), m_subject);
        }
        if (const ListRange range = listRange(array, i); range.child != nullptr) {
            if (depth >= 8 || range.end - range.begin > m_column.width) {
                return fail(
                    Errc::ShapeMismatch,
                    fmt::format("row {} holds more values than the description says ({})", m_row, m_column.width),
                    m_subject);
            }
            for (std::int64_t k = range.begin; k < range.end; ++k) {
                RW_TRY_VOID(appendCell(*range.child, k, depth + 1));
            }
            return {};
        }
        const ReadElement read = elementReader(array.type_id());
        if (read == nullptr) {
            return fail(Errc::DataInvalid,
                        fmt::format("is stored as {} where {} is declared", array.type()->ToString(),
                                    featureTypeName(m_column.type)),
                        m_subject);
        }
        putElement(m_column.bytes, m_column.type, read(array, i));
        ++m_elements;
        return {};
    }

    Result<void> appendTexts(const arrow::Array& array)
    {
        for (std::int64_t i = 0; i < array.length(); ++i, ++m_row) {
            const arrow::Array* values = &array;
            std::int64_t at = i;
            if (array.type_id() == arrow::Type::DICTIONARY && array.IsValid(i)) {
                const auto& dictionary = static_cast<const arrow::DictionaryArray&>(array);
                values = dictionary.dictionary().get();
                at = dictionary.GetValueIndex(i);
            }
            if (array.IsNull(i)) {
                m_column.texts.emplace_back();
            } else if (values->type_id() == arrow::Type::STRING) {
                m_column.texts.emplace_back(static_cast<const arrow::StringArray&>(*values).GetView(at));
            } else if (values->type_id() == arrow::Type::LARGE_STRING) {
                m_column.texts.emplace_back(static_cast<const arrow::LargeStringArray&>(*values).GetView(at));
            } else {
                return fail(Errc::DataInvalid,
                            fmt::format("is stored as {} where text is declared", array.type()->ToString()), m_subject);
            }
        }
        return {};
    }

    Column& m_column;
    const std::string& m_subject;
    std::int64_t m_row = 0;
    std::int64_t m_elements = 0;
};

Result<std::shared_ptr<arrow::ChunkedArray>> columnOf(const arrow::Table& table, const std::string& name,
                                                      const std::string& subject)
{
    auto array = table.GetColumnByName(name);
    if (array == nullptr) {
        return fail(Errc::FieldMissing, fmt::format("the column \"{}\" is missing", name), subject);
    }
    return array;
}

template <class T>
Result<std::vector<T>> numbersOf(const arrow::Table& table, const std::string& name, FeatureType type,
                                 const std::string& subject)
{
    RW_TRY(const auto array, columnOf(table, name, subject));
    Column column { .type = type, .width = 1, .bytes = {}, .texts = {} };
    RW_TRY_VOID(appendColumn(*array, column, subject + ": " + name));
    std::vector<T> values(column.bytes.size() / sizeof(T));
    if (!values.empty()) {
        std::memcpy(values.data(), column.bytes.data(), column.bytes.size());
    }
    return values;
}

/// The chunk and the row in it.
std::pair<const arrow::Array*, std::int64_t> locate(const arrow::ChunkedArray& array, std::int64_t row)
{
    for (const auto& chunk : array.chunks()) {
        if (row < chunk->length()) {
            return { chunk.get(), row };
        }
        row -= chunk->length();
    }
    return { nullptr, 0 };
}

void collectNumbers(const arrow::Array& array, std::int64_t i, int depth, std::vector<double>& values, int& deepest)
{
    deepest = std::max(deepest, depth);
    if (array.IsNull(i) || depth > 8) {
        return;
    }
    if (const ListRange range = listRange(array, i); range.child != nullptr) {
        for (std::int64_t k = range.begin; k < range.end; ++k) {
            collectNumbers(*range.child, k, depth + 1, values, deepest);
        }
    } else if (const ReadElement read = elementReader(array.type_id()); read != nullptr) {
        const Element e = read(array, i);
        values.push_back(e.kind == Element::Kind::Real ? e.real : static_cast<double>(e.integer));
    }
}

} // namespace

Result<void> appendColumn(const arrow::ChunkedArray& array, Column& column, const std::string& subject)
{
    ColumnAppender appender(column, subject);
    for (const auto& chunk : array.chunks()) {
        RW_TRY_VOID(appender.append(*chunk));
    }
    return {};
}

Result<std::vector<std::int64_t>> integersOf(const arrow::Table& table, const std::string& name,
                                             const std::string& subject)
{
    return numbersOf<std::int64_t>(table, name, FeatureType::Int64, subject);
}

Result<std::vector<double>> doublesOf(const arrow::Table& table, const std::string& name, const std::string& subject)
{
    return numbersOf<double>(table, name, FeatureType::Float64, subject);
}

Result<std::vector<std::string>> textsOf(const arrow::Table& table, const std::string& name, const std::string& subject)
{
    RW_TRY(const auto array, columnOf(table, name, subject));
    Column column { .type = FeatureType::String, .width = 1, .bytes = {}, .texts = {} };
    RW_TRY_VOID(appendColumn(*array, column, subject + ": " + name));
    return std::move(column.texts);
}

Result<std::vector<std::vector<std::string>>> textListsOf(const arrow::Table& table, const std::string& name,
                                                          const std::string& subject)
{
    RW_TRY(const auto array, columnOf(table, name, subject));
    std::vector<std::vector<std::string>> lists;
    for (const auto& chunk : array->chunks()) {
        for (std::int64_t row = 0; row < chunk->length(); ++row) {
            std::vector<std::string> texts;
            if (chunk->IsValid(row)) {
                const ListRange range = listRange(*chunk, row);
                if (range.child == nullptr || range.child->type_id() != arrow::Type::STRING) {
                    return fail(Errc::DataInvalid, fmt::format("\"{}\" must be lists of texts", name), subject);
                }
                const auto& child = static_cast<const arrow::StringArray&>(*range.child);
                for (std::int64_t k = range.begin; k < range.end; ++k) {
                    texts.emplace_back(child.IsNull(k) ? std::string_view() : child.GetView(k));
                }
            }
            lists.push_back(std::move(texts));
        }
    }
    return lists;
}

std::vector<double> cellNumbers(const arrow::ChunkedArray& array, std::int64_t row, int& depth)
{
    std::vector<double> values;
    depth = 0;
    if (const auto [chunk, at] = locate(array, row); chunk != nullptr) {
        collectNumbers(*chunk, at, 0, values, depth);
    }
    return values;
}

std::string cellJson(const arrow::ChunkedArray& array, std::int64_t row)
{
    const auto [chunk, at] = locate(array, row);
    if (chunk == nullptr || chunk->IsNull(at)) {
        return "null";
    }
    if (chunk->type_id() == arrow::Type::STRING) {
        return nlohmann::json(std::string(static_cast<const arrow::StringArray&>(*chunk).GetView(at)))
            .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
    if (chunk->type_id() == arrow::Type::BOOL) {
        return static_cast<const arrow::BooleanArray&>(*chunk).Value(at) ? "true" : "false";
    }
    const ReadElement read = elementReader(chunk->type_id());
    if (read == nullptr) {
        return "null";
    }
    const Element e = read(*chunk, at);
    if (e.kind == Element::Kind::Real) {
        return nlohmann::json(e.real).dump();
    }
    return std::to_string(e.integer);
}

Result<std::vector<std::byte>> cellBytes(const arrow::ChunkedArray& array, std::int64_t row, const std::string& subject)
{
    const auto [chunk, at] = locate(array, row);
    const arrow::Array* values = chunk;
    if (values != nullptr && values->type_id() == arrow::Type::EXTENSION) {
        values = static_cast<const arrow::ExtensionArray&>(*values).storage().get();
    }
    std::shared_ptr<arrow::Array> field;
    if (values != nullptr && values->type_id() == arrow::Type::STRUCT && values->IsValid(at)) {
        field = static_cast<const arrow::StructArray&>(*values).GetFieldByName("bytes");
        values = field.get();
    }
    if (values == nullptr || values->IsNull(at)) {
        return fail(Errc::DataInvalid, fmt::format("row {} holds no picture bytes", row), subject);
    }
    std::string_view view;
    if (values->type_id() == arrow::Type::BINARY) {
        view = static_cast<const arrow::BinaryArray&>(*values).GetView(at);
    } else if (values->type_id() == arrow::Type::LARGE_BINARY) {
        view = static_cast<const arrow::LargeBinaryArray&>(*values).GetView(at);
    } else {
        return fail(Errc::DataInvalid,
                    fmt::format("is stored as {} where a picture is declared", values->type()->ToString()), subject);
    }
    const auto* first = reinterpret_cast<const std::byte*>(view.data());
    return std::vector<std::byte>(first, first + view.size());
}

} // namespace rankwise::data
