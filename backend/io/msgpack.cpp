// Decoding through msgpack-c++'s parser events, so that no container is sized by an unchecked count.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/msgpack.h"

#include "backend/base/checked_math.h"
#include "backend/io/tokenizer_text.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include <fmt/format.h>

#define MSGPACK_NO_BOOST
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wnull-dereference"
#include <msgpack.hpp>
#pragma GCC diagnostic pop

namespace rankwise::io {

namespace {

using tokenizer::isUtf8;

constexpr std::string_view kArrayKey = "__ndarray__";
constexpr std::string_view kScalarKey = "__npgeneric__";

struct Dtype {
    bool bigEndian = false;
    char kind = 'f';
    std::uint64_t size = 4;
};

Result<Dtype> parseDtype(std::string_view text)
{
    const auto refuse = [&](std::string_view why) {
        return fail(Errc::Unsupported, fmt::format("the numpy dtype \"{}\" {}", text.substr(0, 40), why));
    };
    if (text.size() < 3 || std::string_view("<>|=").find(text[0]) == std::string_view::npos) {
        return refuse("is not known");
    }
    Dtype dtype { text[0] == '>', text[1], 0 };
    if (std::string_view("OVc").find(dtype.kind) != std::string_view::npos) {
        return refuse("is not allowed in a message");
    }
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + 2, end, dtype.size);
    const bool isTime = dtype.kind == 'M' || dtype.kind == 'm';
    if (error != std::errc {} || (rest != end && !(isTime && *rest == '['))) {
        return refuse("is not known");
    }
    const auto oneOf = [&](std::initializer_list<std::uint64_t> sizes) {
        return std::find(sizes.begin(), sizes.end(), dtype.size) != sizes.end();
    };
    switch (dtype.kind) {
    case 'b':
        return oneOf({ 1 }) ? Result<Dtype>(dtype) : refuse("is not known");
    case 'i':
    case 'u':
        return oneOf({ 1, 2, 4, 8 }) ? Result<Dtype>(dtype) : refuse("is not known");
    case 'f':
        return oneOf({ 2, 4, 8 }) ? Result<Dtype>(dtype) : refuse("is not known");
    case 'M':
    case 'm':
        return oneOf({ 8 }) ? Result<Dtype>(dtype) : refuse("is not known");
    case 'S':
        return dtype;
    case 'U': {
        const auto bytes = checkedMul<std::uint64_t>(dtype.size, 4);
        if (!bytes) {
            return refuse("is too long");
        }
        dtype.size = *bytes;
        return dtype;
    }
    default:
        return refuse("is not known");
    }
}

Result<void> checkArray(const NumpyArray& array)
{
    RW_TRY(const std::uint64_t item, numpyItemSize(array.dtype));
    if (std::any_of(array.shape.begin(), array.shape.end(), [](std::int64_t dim) { return dim < 0; })) {
        return fail(Errc::FieldInvalid, "a dimension of an array is negative");
    }
    const auto count = elementCount(array.shape);
    const auto bytes = count ? checkedMul(*count, item) : std::nullopt;
    if (!bytes) {
        return fail(Errc::ShapeOverflow, "an array has more bytes than 64 bits count");
    }
    if (*bytes != array.data.size()) {
        return fail(Errc::DataInvalid,
                    fmt::format("an array of {} {} elements needs {} bytes, {} are there", *count, array.dtype, *bytes,
                                array.data.size()));
    }
    return {};
}

float halfToFloat(std::uint16_t half)
{
    const std::uint32_t sign = (half & 0x8000U) << 16;
    const std::uint32_t exponent = (half >> 10) & 0x1FU;
    const std::uint32_t fraction = half & 0x3FFU;
    if (exponent == 0) {
        const float value = std::ldexp(static_cast<float>(fraction), -24);
        return sign != 0 ? -value : value;
    }
    const std::uint32_t bits =
        exponent == 31 ? 0x7F80'0000U | (fraction << 13) : ((exponent + 112) << 23) | (fraction << 13);
    return std::bit_cast<float>(sign | bits);
}

/// One element as a number; the dtype was checked.
double elementAsDouble(const std::byte* data, const Dtype& dtype)
{
    std::array<std::byte, 8> raw {};
    std::memcpy(raw.data(), data, dtype.size);
    if (dtype.bigEndian) {
        std::reverse(raw.begin(), raw.begin() + static_cast<std::ptrdiff_t>(dtype.size));
    }
    std::uint64_t bits = 0;
    std::memcpy(&bits, raw.data(), sizeof bits);
    switch (dtype.kind) {
    case 'b':
        return bits != 0 ? 1.0 : 0.0;
    case 'u':
        return static_cast<double>(bits);
    case 'i': {
        const auto shift = static_cast<unsigned>(64 - 8 * dtype.size);
        return static_cast<double>(static_cast<std::int64_t>(bits << shift) >> shift);
    }
    default:
        return dtype.size == 2 ? static_cast<double>(halfToFloat(static_cast<std::uint16_t>(bits)))
            : dtype.size == 4  ? static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)))
                               : std::bit_cast<double>(bits);
    }
}

template <class T> NumpyArray makeArray(std::string dtype, std::span<const T> values, std::vector<std::int64_t> shape)
{
    const auto bytes = std::as_bytes(values);
    RW_CHECK(elementCount(shape) == values.size(), "shape and number of elements differ");
    return { std::move(dtype), std::move(shape), { bytes.begin(), bytes.end() } };
}

/// A map's key: envelopes have binary ones.
struct Key {
    std::string text;
    bool binary = false;
};

using Entries = std::vector<std::pair<Key, Value>>;

const Value* findBinary(const Entries& entries, std::string_view key)
{
    for (const auto& [name, value] : entries) {
        if (name.binary && name.text == key) {
            return &value;
        }
    }
    return nullptr;
}

template <class T> Result<const T*> envelopeField(const Entries& entries, std::string_view key)
{
    const Value* value = findBinary(entries, key);
    if (value == nullptr) {
        return fail(Errc::FieldMissing, fmt::format("a numpy envelope has no \"{}\"", key));
    }
    const T* field = value->as<T>();
    if (field == nullptr) {
        return fail(Errc::FieldInvalid, fmt::format("\"{}\" of a numpy envelope has the wrong type", key));
    }
    return field;
}

Result<Value> arrayFrom(const Entries& entries)
{
    RW_TRY(const auto* data, envelopeField<Value::Bytes>(entries, "data"));
    RW_TRY(const auto* dtype, envelopeField<std::string>(entries, "dtype"));
    RW_TRY(const auto* shape, envelopeField<Value::Array>(entries, "shape"));
    NumpyArray array { *dtype, {}, *data };
    if (shape->size() > 64) {
        return fail(Errc::FieldInvalid, fmt::format("an array has {} dimensions, at most 64 are taken", shape->size()));
    }
    for (const Value& dim : *shape) {
        const auto* number = dim.as<std::int64_t>();
        if (number == nullptr) {
            return fail(Errc::FieldInvalid, "a dimension of an array is no integer of 63 bits");
        }
        array.shape.push_back(*number);
    }
    RW_TRY_VOID(checkArray(array));
    return Value(std::move(array));
}

Result<Value> scalarFrom(const Entries& entries)
{
    RW_TRY(const auto* name, envelopeField<std::string>(entries, "dtype"));
    RW_TRY(const Dtype dtype, parseDtype(*name));
    const Value* data = findBinary(entries, "data");
    if (data == nullptr) {
        return fail(Errc::FieldMissing, "a numpy envelope has no \"data\"");
    }
    NumpyScalar scalar { *name, false };
    const bool isInteger = dtype.kind == 'i' || dtype.kind == 'u';
    if (const auto* truth = data->as<bool>(); truth != nullptr && dtype.kind == 'b') {
        scalar.value = *truth;
    } else if (const auto* whole = data->as<std::int64_t>(); whole != nullptr && isInteger) {
        scalar.value = *whole;
    } else if (const auto* large = data->as<std::uint64_t>(); large != nullptr && dtype.kind == 'u') {
        scalar.value = *large;
    } else if (const auto* real = data->as<double>(); real != nullptr && dtype.kind == 'f') {
        scalar.value = *real;
    } else {
        return fail(Errc::FieldInvalid, fmt::format("\"data\" of a numpy scalar is no {}", name->substr(0, 40)));
    }
    return Value(std::move(scalar));
}

Result<Value> mapFrom(Entries entries)
{
    if (findBinary(entries, kArrayKey) != nullptr) {
        return arrayFrom(entries);
    }
    if (findBinary(entries, kScalarKey) != nullptr) {
        return scalarFrom(entries);
    }
    std::vector<std::string_view> names;
    names.reserve(entries.size());
    for (const auto& [key, value] : entries) {
        if (key.binary) {
            return fail(Errc::DataInvalid, "a map has a binary key and is no numpy envelope");
        }
        names.push_back(key.text);
    }
    std::sort(names.begin(), names.end());
    if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
        return fail(Errc::DataInvalid, fmt::format("the key \"{}\" occurs twice in one map", twice->substr(0, 100)));
    }
    Value::Map map;
    map.reserve(entries.size());
    for (auto& [key, value] : entries) {
        map.emplace_back(std::move(key.text), std::move(value));
    }
    return Value(std::move(map));
}

/// Receives the parser's events and builds the value.
class Builder : public msgpack::null_visitor {
public:
    Builder(std::size_t size, const MsgpackLimits& limits) : m_size(size), m_limits(limits) { }

    bool visit_nil() { return add({}); }
    bool visit_boolean(bool v) { return add(v); }
    bool visit_positive_integer(std::uint64_t v) { return add(v); }
    bool visit_negative_integer(std::int64_t v) { return add(v); }
    bool visit_float32(float v) { return add(static_cast<double>(v)); }
    bool visit_float64(double v) { return add(v); }
    bool visit_str(const char* text, std::uint32_t size)
    {
        std::string value(size == 0 ? "" : text, size);
        if (!isUtf8(value)) {
            return refuse(Errc::DataInvalid, "a text is not UTF-8");
        }
        return isKey() ? addKey({ std::move(value), false }) : add(std::move(value));
    }
    bool visit_bin(const char* data, std::uint32_t size)
    {
        if (isKey()) {
            return addKey({ std::string(size == 0 ? "" : data, size), true });
        }
        Value::Bytes bytes(size);
        if (size > 0) {
            std::memcpy(bytes.data(), data, size);
        }
        return add(std::move(bytes));
    }
    bool visit_ext(const char*, std::uint32_t)
    {
        return refuse(Errc::Unsupported, "extension types are not used in this protocol");
    }
    bool start_array(std::uint32_t count) { return open(false, count); }
    bool end_array()
    {
        Frame frame = std::move(m_frames.back());
        m_frames.pop_back();
        return add(std::move(frame.items), false);
    }
    bool start_map(std::uint32_t count) { return open(true, std::uint64_t { count } * 2); }
    bool start_map_key()
    {
        m_frames.back().atKey = true;
        return true;
    }
    bool end_map_key()
    {
        m_frames.back().atKey = false;
        return true;
    }
    bool end_map()
    {
        Frame frame = std::move(m_frames.back());
        m_frames.pop_back();
        auto value = mapFrom(std::move(frame.entries));
        if (!value) {
            m_error = value.error();
            return false;
        }
        return add(std::move(*value), false);
    }
    void parse_error(std::size_t, std::size_t offset)
    {
        m_error = { Errc::DataInvalid, "is not MessagePack", {}, static_cast<std::int64_t>(offset) };
    }
    void insufficient_bytes(std::size_t, std::size_t offset)
    {
        m_error = { Errc::FileTruncated, "the message ends inside a value", {}, static_cast<std::int64_t>(offset) };
    }

    [[nodiscard]] Value& root() { return m_root; }
    [[nodiscard]] const Error& error() const { return m_error; }

private:
    struct Frame {
        bool isMap = false;
        bool atKey = false;
        Key key;
        Value::Array items;
        Entries entries;
    };

    [[nodiscard]] bool isKey() const { return !m_frames.empty() && m_frames.back().atKey; }

    bool refuse(Errc code, std::string message)
    {
        m_error = { code, std::move(message) };
        return false;
    }

    bool open(bool isMap, std::uint64_t values)
    {
        if (isKey()) {
            return refuse(Errc::DataInvalid, "a map's key is no text");
        }
        if (m_frames.size() >= m_limits.maxDepth) {
            return refuse(Errc::TooLarge, fmt::format("values are nested deeper than {}", m_limits.maxDepth));
        }
        if (values > m_size) { // every value takes at least a byte
            return refuse(Errc::FileTruncated,
                          fmt::format("a container promises {} values, the message has {} bytes", values, m_size));
        }
        m_frames.push_back({ isMap });
        return true;
    }

    bool countElement()
    {
        return ++m_elements <= m_limits.maxElements
            || refuse(Errc::TooLarge, fmt::format("more than {} values", m_limits.maxElements));
    }

    bool addKey(Key key)
    {
        m_frames.back().key = std::move(key);
        return countElement();
    }

    bool add(Value value, bool scalar = true)
    {
        if (scalar && isKey()) {
            return refuse(Errc::DataInvalid, "a map's key is no text");
        }
        if (m_frames.empty()) {
            m_root = std::move(value);
        } else if (Frame& frame = m_frames.back(); frame.isMap) {
            frame.entries.emplace_back(std::move(frame.key), std::move(value));
        } else {
            frame.items.push_back(std::move(value));
        }
        return countElement();
    }

    std::size_t m_size;
    MsgpackLimits m_limits;
    std::vector<Frame> m_frames;
    Value m_root;
    std::uint64_t m_elements = 0;
    Error m_error { Errc::FileTruncated, "the message is empty" };
};

/// Bytes that grow, with the interface that msgpack's packer wants.
struct Sink {
    std::vector<std::byte> bytes;
    void write(const char* data, std::size_t size)
    {
        const auto* begin = reinterpret_cast<const std::byte*>(data);
        bytes.insert(bytes.end(), begin, begin + size);
    }
};

class Encoder {
public:
    Result<void> value(const Value& v)
    {
        return std::visit([this](const auto& alternative) { return one(alternative); }, v.variant());
    }
    [[nodiscard]] std::vector<std::byte>& bytes() { return m_sink.bytes; }

private:
    Result<void> one(std::monostate)
    {
        m_packer.pack_nil();
        return {};
    }
    Result<void> one(bool v)
    {
        v ? m_packer.pack_true() : m_packer.pack_false();
        return {};
    }
    Result<void> one(std::int64_t v)
    {
        m_packer.pack_int64(v);
        return {};
    }
    Result<void> one(std::uint64_t v)
    {
        m_packer.pack_uint64(v);
        return {};
    }
    Result<void> one(double v)
    {
        // The packer would shorten whole numbers to integers, which the reference keeps apart.
        auto bits = std::bit_cast<std::uint64_t>(v);
        std::array<char, 9> encoded { static_cast<char>(0xCB) };
        for (std::size_t i = encoded.size() - 1; i > 0; --i) {
            encoded[i] = static_cast<char>(bits & 0xFFU);
            bits >>= 8;
        }
        m_sink.write(encoded.data(), encoded.size());
        return {};
    }
    Result<void> one(const std::string& v)
    {
        if (!isUtf8(v)) {
            return fail(Errc::DataInvalid, "a text is not UTF-8");
        }
        RW_TRY(const std::uint32_t size, length(v.size()));
        m_packer.pack_str(size).pack_str_body(v.data(), size);
        return {};
    }
    Result<void> one(const Value::Bytes& v) { return binary(v); }
    Result<void> one(const Value::Array& v)
    {
        RW_TRY(const std::uint32_t size, length(v.size()));
        m_packer.pack_array(size);
        for (const Value& item : v) {
            RW_TRY_VOID(value(item));
        }
        return {};
    }
    Result<void> one(const Value::Map& v)
    {
        RW_TRY(const std::uint32_t size, length(v.size()));
        m_packer.pack_map(size);
        for (const auto& [key, item] : v) {
            RW_TRY_VOID(one(key));
            RW_TRY_VOID(value(item));
        }
        return {};
    }
    Result<void> one(const NumpyArray& v)
    {
        RW_TRY_VOID(checkArray(v));
        m_packer.pack_map(4);
        RW_TRY_VOID(key(kArrayKey));
        m_packer.pack_true();
        RW_TRY_VOID(key("data"));
        RW_TRY_VOID(binary(v.data));
        RW_TRY_VOID(key("dtype"));
        RW_TRY_VOID(one(v.dtype));
        RW_TRY_VOID(key("shape"));
        RW_TRY(const std::uint32_t dims, length(v.shape.size()));
        m_packer.pack_array(dims);
        for (const std::int64_t dim : v.shape) {
            m_packer.pack_int64(dim);
        }
        return {};
    }
    Result<void> one(const NumpyScalar& v)
    {
        RW_TRY_VOID(parseDtype(v.dtype));
        m_packer.pack_map(3);
        RW_TRY_VOID(key(kScalarKey));
        m_packer.pack_true();
        RW_TRY_VOID(key("data"));
        RW_TRY_VOID(std::visit([this](auto alternative) { return one(alternative); }, v.value));
        RW_TRY_VOID(key("dtype"));
        return one(v.dtype);
    }

    Result<void> key(std::string_view text) { return binary(std::as_bytes(std::span(text))); }

    Result<void> binary(std::span<const std::byte> v)
    {
        RW_TRY(const std::uint32_t size, length(v.size()));
        m_packer.pack_bin(size).pack_bin_body(reinterpret_cast<const char*>(v.data()), size);
        return {};
    }

    static Result<std::uint32_t> length(std::size_t size)
    {
        if (size > std::numeric_limits<std::uint32_t>::max()) {
            return fail(Errc::TooLarge, fmt::format("a length of {} does not fit MessagePack's 32 bits", size));
        }
        return static_cast<std::uint32_t>(size);
    }

    Sink m_sink;
    msgpack::packer<Sink> m_packer { m_sink };
};

} // namespace

Result<std::uint64_t> numpyItemSize(std::string_view dtype)
{
    RW_TRY(const Dtype parsed, parseDtype(dtype));
    return parsed.size;
}

NumpyArray NumpyArray::of(std::span<const float> values, std::vector<std::int64_t> shape)
{
    return makeArray("<f4", values, std::move(shape));
}

NumpyArray NumpyArray::of(std::span<const double> values, std::vector<std::int64_t> shape)
{
    return makeArray("<f8", values, std::move(shape));
}

NumpyArray NumpyArray::of(std::span<const std::uint8_t> values, std::vector<std::int64_t> shape)
{
    return makeArray("|u1", values, std::move(shape));
}

NumpyArray NumpyArray::of(std::span<const std::int64_t> values, std::vector<std::int64_t> shape)
{
    return makeArray("<i8", values, std::move(shape));
}

Result<std::vector<double>> NumpyArray::toDoubles() const
{
    RW_TRY_VOID(checkArray(*this));
    RW_TRY(const Dtype parsed, parseDtype(dtype));
    if (std::string_view("biuf").find(parsed.kind) == std::string_view::npos) {
        return fail(Errc::Unsupported, fmt::format("an array of numpy dtype \"{}\" holds no numbers", dtype));
    }
    std::vector<double> values(data.size() / parsed.size);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = elementAsDouble(data.data() + i * parsed.size, parsed);
    }
    return values;
}

Result<std::vector<float>> NumpyArray::toFloats() const
{
    if (dtype == "<f4") {
        RW_TRY_VOID(checkArray(*this));
        std::vector<float> values(data.size() / sizeof(float));
        if (!data.empty()) {
            std::memcpy(values.data(), data.data(), data.size());
        }
        return values;
    }
    RW_TRY(const std::vector<double> doubles, toDoubles());
    std::vector<float> values(doubles.size());
    std::transform(doubles.begin(), doubles.end(), values.begin(), [](double v) { return static_cast<float>(v); });
    return values;
}

Value::Value(std::uint64_t value)
{
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        m_value = static_cast<std::int64_t>(value);
    } else {
        m_value = value;
    }
}

bool Value::operator==(const Value& other) const
{
    return m_value == other.m_value;
}

const Value* Value::find(std::string_view key) const
{
    const Map* map = as<Map>();
    if (map == nullptr) {
        return nullptr;
    }
    const auto it = std::find_if(map->begin(), map->end(), [key](const auto& entry) { return entry.first == key; });
    return it == map->end() ? nullptr : &it->second;
}

std::optional<double> Value::number() const
{
    if (const auto* whole = as<std::int64_t>()) {
        return static_cast<double>(*whole);
    }
    if (const auto* large = as<std::uint64_t>()) {
        return static_cast<double>(*large);
    }
    if (const auto* real = as<double>()) {
        return *real;
    }
    if (const auto* scalar = as<NumpyScalar>()) {
        return std::visit([](auto v) { return static_cast<double>(v); }, scalar->value);
    }
    if (const auto* array = as<NumpyArray>()) {
        const auto values = array->toDoubles();
        if (values && values->size() == 1) {
            return values->front();
        }
    }
    return std::nullopt;
}

std::optional<std::string> Value::text() const
{
    if (const auto* value = as<std::string>()) {
        return *value;
    }
    if (const auto* bytes = as<Bytes>(); bytes != nullptr && !bytes->empty()) {
        std::string value(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        return isUtf8(value) ? std::optional(std::move(value)) : std::nullopt;
    }
    return as<Bytes>() != nullptr ? std::optional(std::string()) : std::nullopt;
}

Result<Value> decodeMsgpack(std::span<const std::byte> message, const MsgpackLimits& limits)
{
    if (message.size() > limits.maxBytes) {
        return fail(Errc::TooLarge,
                    fmt::format("a message of {} bytes, at most {} are taken", message.size(), limits.maxBytes));
    }
    if (message.empty()) {
        return fail(Errc::FileTruncated, "the message is empty", {}, 0);
    }
    Builder builder(message.size(), limits);
    std::size_t offset = 0;
    const auto* data = reinterpret_cast<const char*>(message.data());
    try {
        if (!msgpack::parse(data, message.size(), offset, builder)) {
            return tl::unexpected(builder.error());
        }
    } catch (const msgpack::unpack_error& error) {
        return fail(Errc::DataInvalid, std::string("is not MessagePack: ") + error.what(), {},
                    static_cast<std::int64_t>(offset));
    }
    if (offset != message.size()) {
        return fail(Errc::DataInvalid, fmt::format("{} bytes follow the value", message.size() - offset), {},
                    static_cast<std::int64_t>(offset));
    }
    return std::move(builder.root());
}

Result<std::vector<std::byte>> encodeMsgpack(const Value& value)
{
    Encoder encoder;
    RW_TRY_VOID(encoder.value(value));
    return std::move(encoder.bytes());
}

} // namespace rankwise::io
