// Header parsing on nlohmann's event interface: entries are checked while they are read, no document tree is built.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/safetensors_reader.h"

#include "backend/base/checked_math.h"
#include "backend/base/json.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

static_assert(std::endian::native == std::endian::little, "tensor bytes are used as they are stored: little-endian");

namespace {

constexpr std::size_t kMaxSkippedDepth = 126; // of unknown values; with the two levels above, serde_json's limit of 128
constexpr std::string_view kMetadataKey = "__metadata__";

std::string inQuotes(std::string_view name)
{
    return "\"" + displayName(name, 200) + "\"";
}

/// Receives the events of the header's JSON and fills a SafetensorsHeader.
class HeaderHandler {
public:
    explicit HeaderHandler(SafetensorsHeader& header) : m_header(header) { }

    bool null() { return otherScalar("null"); }
    bool boolean(bool) { return otherScalar("a truth value"); }
    bool number_integer(Json::number_integer_t value)
    {
        return otherScalar(fmt::format("the negative number {}", value));
    }
    bool number_float(Json::number_float_t, const std::string& text) { return otherScalar("the number " + text); }
    bool binary(Json::binary_t&) { return otherScalar("binary data"); }

    bool number_unsigned(Json::number_unsigned_t value)
    {
        if (m_place == Place::Shape) {
            const auto dim = checkedCast<std::int64_t>(static_cast<std::uint64_t>(value));
            if (!dim) {
                return refuse(Errc::ShapeOverflow,
                              fmt::format("tensor {}: the dimension {} does not fit 63 bits", inQuotes(m_name), value));
            }
            m_entry.shape.push_back(*dim);
            return true;
        }
        if (m_place == Place::Offsets) {
            if (m_offsetCount == 2) {
                return refuse(Errc::HeaderInvalid,
                              fmt::format("tensor {}: more than two data_offsets", inQuotes(m_name)));
            }
            (m_offsetCount == 0 ? m_entry.begin : m_entry.end) = value;
            ++m_offsetCount;
            return true;
        }
        return otherScalar(fmt::format("the number {}", value));
    }

    bool string(std::string& value)
    {
        if (m_place == Place::Metadata) {
            if (!m_header.metadata.try_emplace(m_name, std::move(value)).second) {
                return refuse(Errc::HeaderInvalid, fmt::format("the metadata key {} occurs twice", inQuotes(m_name)));
            }
            return true;
        }
        if (m_place == Place::Entry && m_field == Field::Dtype) {
            const auto dtype = dtypeFromName(value);
            if (!dtype) {
                return refuse(Errc::DtypeUnknown,
                              fmt::format("tensor {} has the unknown dtype {}", inQuotes(m_name), inQuotes(value)));
            }
            m_entry.dtype = *dtype;
            return true;
        }
        return otherScalar("a string");
    }

    bool start_object(std::size_t)
    {
        switch (m_place) {
        case Place::Document:
            m_place = Place::Header;
            return true;
        case Place::Header:
            if (m_name == kMetadataKey) {
                m_place = Place::Metadata;
                return true;
            }
            m_place = Place::Entry;
            m_entry = {};
            m_seen = 0;
            m_offsetCount = 0;
            return true;
        default:
            return startSkipped("an object");
        }
    }

    bool end_object()
    {
        switch (m_place) {
        case Place::Entry:
            m_place = Place::Header;
            return finishEntry();
        case Place::Metadata:
            m_place = Place::Header;
            return true;
        case Place::Header:
            m_place = Place::Document;
            return true;
        default:
            return endSkipped();
        }
    }

    bool start_array(std::size_t)
    {
        if (m_place == Place::Entry && m_field == Field::Shape) {
            m_place = Place::Shape;
            return true;
        }
        if (m_place == Place::Entry && m_field == Field::Offsets) {
            m_place = Place::Offsets;
            return true;
        }
        return startSkipped("an array");
    }

    bool end_array()
    {
        if (m_place == Place::Shape || m_place == Place::Offsets) {
            if (m_place == Place::Offsets && m_offsetCount != 2) {
                return refuse(Errc::HeaderInvalid,
                              fmt::format("tensor {}: data_offsets must be two numbers", inQuotes(m_name)));
            }
            m_place = Place::Entry;
            return true;
        }
        return endSkipped();
    }

    bool key(std::string& name)
    {
        switch (m_place) {
        case Place::Header:
            m_name = std::move(name);
            if (m_name == kMetadataKey && std::exchange(m_metadataSeen, true)) {
                return refuse(Errc::HeaderInvalid, "__metadata__ occurs twice");
            }
            return true;
        case Place::Metadata:
            m_name = std::move(name);
            return true;
        case Place::Entry:
            return entryKey(name);
        default:
            return true;
        }
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& exception)
    {
        const std::string what = exception.what();
        const std::size_t bracket = what.find("] ");
        m_offset = static_cast<std::int64_t>(position);
        return refuse(Errc::HeaderInvalid,
                      "the header is not valid JSON: "
                          + displayName(bracket == std::string::npos ? what : what.substr(bracket + 2), 300));
    }

    /// What stopped the parser; `offset` counts from the start of the JSON.
    [[nodiscard]] const Error& error() const { return m_error; }
    [[nodiscard]] std::int64_t offset() const { return m_offset; }

private:
    enum class Place : std::uint8_t { Document, Header, Metadata, Entry, Shape, Offsets, Skipped };
    enum class Field : std::uint8_t { Dtype, Shape, Offsets, Other };

    bool refuse(Errc code, std::string message)
    {
        m_error.code = code;
        m_error.message = std::move(message);
        return false;
    }

    bool entryKey(const std::string& name)
    {
        m_field = name == "dtype"    ? Field::Dtype
            : name == "shape"        ? Field::Shape
            : name == "data_offsets" ? Field::Offsets
                                     : Field::Other;
        if (m_field == Field::Other) {
            return true;
        }
        const unsigned bit = 1U << static_cast<unsigned>(m_field);
        if ((m_seen & bit) != 0) {
            return refuse(Errc::HeaderInvalid, fmt::format("tensor {}: {} occurs twice", inQuotes(m_name), name));
        }
        m_seen |= bit;
        return true;
    }

    bool otherScalar(const std::string& what)
    {
        if (m_place == Place::Skipped || (m_place == Place::Entry && m_field == Field::Other)) {
            return true;
        }
        return unexpected(what);
    }

    bool unexpected(const std::string& what)
    {
        switch (m_place) {
        case Place::Document:
            return refuse(Errc::HeaderInvalid, "the header must be a JSON object, not " + what);
        case Place::Header:
            return refuse(Errc::HeaderInvalid,
                          fmt::format("{} must be a JSON object, not {}",
                                      m_name == kMetadataKey ? m_name : "the entry of tensor " + inQuotes(m_name),
                                      what));
        case Place::Metadata:
            return refuse(Errc::HeaderInvalid,
                          fmt::format("the metadata value {} must be a string, not {}", inQuotes(m_name), what));
        default:
            return refuse(
                Errc::HeaderInvalid,
                fmt::format("tensor {}: {} stands where the {} should be", inQuotes(m_name), what, fieldMeaning()));
        }
    }

    [[nodiscard]] std::string_view fieldMeaning() const
    {
        switch (m_field) {
        case Field::Dtype:
            return "name of the dtype";
        case Field::Shape:
            return "shape, a list of numbers from 0,";
        default:
            return "data_offsets, two numbers from 0,";
        }
    }

    bool startSkipped(const std::string& what)
    {
        if (m_place == Place::Entry && m_field == Field::Other) {
            m_place = Place::Skipped;
            m_depth = 1;
            return true;
        }
        if (m_place == Place::Skipped) {
            return ++m_depth <= kMaxSkippedDepth
                || refuse(Errc::HeaderInvalid, fmt::format("tensor {}: values are nested too deep", inQuotes(m_name)));
        }
        return unexpected(what);
    }

    bool endSkipped()
    {
        if (--m_depth == 0) {
            m_place = Place::Entry;
        }
        return true;
    }

    bool finishEntry()
    {
        const auto missing = [this](Field field) { return (m_seen & (1U << static_cast<unsigned>(field))) == 0; };
        for (const auto& [field, name] : { std::pair { Field::Dtype, "dtype" }, std::pair { Field::Shape, "shape" },
                                           std::pair { Field::Offsets, "data_offsets" } }) {
            if (missing(field)) {
                return refuse(Errc::HeaderInvalid, fmt::format("tensor {} has no {}", inQuotes(m_name), name));
            }
        }
        if (m_entry.end < m_entry.begin) {
            return refuse(Errc::OffsetsInvalid,
                          fmt::format("tensor {} ends at {} before it begins at {}", inQuotes(m_name), m_entry.end,
                                      m_entry.begin));
        }
        const auto size = tensorByteCount(m_entry.dtype, m_entry.shape);
        if (!size) {
            return refuse(size.error().code, fmt::format("tensor {}: {}", inQuotes(m_name), size.error().message));
        }
        if (m_entry.end - m_entry.begin != *size) {
            return refuse(Errc::OffsetsInvalid,
                          fmt::format("tensor {} takes the {} bytes from {} to {}, but {} of shape {} needs {}",
                                      inQuotes(m_name), m_entry.end - m_entry.begin, m_entry.begin, m_entry.end,
                                      dtypeName(m_entry.dtype), shapeText(m_entry.shape), *size));
        }
        if (!m_header.tensors.try_emplace(m_name, std::move(m_entry)).second) {
            return refuse(Errc::HeaderInvalid, fmt::format("the tensor name {} occurs twice", inQuotes(m_name)));
        }
        return true;
    }

    SafetensorsHeader& m_header;
    Place m_place = Place::Document;
    Field m_field = Field::Other;
    std::string m_name; // of the tensor or metadata key being read
    TensorInfo m_entry;
    unsigned m_seen = 0;
    int m_offsetCount = 0;
    std::size_t m_depth = 0;
    bool m_metadataSeen = false;
    Error m_error { Errc::HeaderInvalid, "the header is not a JSON object" };
    std::int64_t m_offset = -1;
};

/// What the first bytes are instead, as a hint for the message; empty when unknown.
std::string hintFor(std::span<const std::byte> file)
{
    const std::string_view start(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 64));
    if (start.starts_with('<')) {
        return "; this looks like a web page saved in place of the file";
    }
    if (start.starts_with("version https://git-lfs")) {
        return "; this is a Git LFS pointer, fetch the file itself with \"git lfs pull\"";
    }
    if (start.starts_with('{')) {
        return "; this looks like a JSON file";
    }
    if (start.starts_with("GGUF")) {
        return "; this is a GGUF file";
    }
    return {};
}

/// Ranges must follow each other from 0 to the last byte.
Result<void> checkOffsets(const SafetensorsHeader& header, std::uint64_t available)
{
    std::vector<std::pair<const std::string*, const TensorInfo*>> order;
    order.reserve(header.tensors.size());
    for (const auto& [name, info] : header.tensors) {
        order.emplace_back(&name, &info);
    }
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
        return std::tie(a.second->begin, a.second->end) < std::tie(b.second->begin, b.second->end);
    });
    std::uint64_t reached = 0;
    for (const auto& [name, info] : order) {
        if (info->begin != reached) {
            return fail(Errc::OffsetsInvalid,
                        fmt::format("tensor {} begins at {}, but the tensors before it end at {}: {}", inQuotes(*name),
                                    info->begin, reached, info->begin < reached ? "they overlap" : "a hole"));
        }
        reached = info->end;
    }
    if (reached > available) {
        return fail(Errc::FileTruncated,
                    fmt::format("the header promises {} bytes of tensors, the file has {}; it is cut short, fetch it "
                                "again",
                                reached, available));
    }
    if (reached < available) {
        return fail(Errc::OffsetsInvalid,
                    fmt::format("{} bytes after the last tensor belong to none", available - reached), {},
                    static_cast<std::int64_t>(header.dataOffset + reached));
    }
    return {};
}

void warnOfOddities(const SafetensorsHeader& header, std::string_view json, std::vector<Warning>& warnings)
{
    if (!json.starts_with('{')) {
        warnings.push_back({ "the header begins with white space, which the format forbids", {} });
    }
    const auto isControl = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
    for (const auto& [name, info] : header.tensors) {
        if (isSubByte(info.dtype)) {
            warnings.push_back({ fmt::format("has elements of {} bits ({}), which are not decoded",
                                             dtypeBits(info.dtype), dtypeName(info.dtype)),
                                 displayName(name) });
        }
        if (std::any_of(name.begin(), name.end(), isControl)) {
            warnings.push_back({ "the tensor's name holds control characters", displayName(name) });
        }
    }
}

std::string shellQuoted(const std::string& text)
{
    std::string result = "'";
    for (const char c : text) {
        result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    }
    return result + "'";
}

} // namespace

std::uint64_t TensorInfo::elementCount() const
{
    return rankwise::elementCount(shape).value_or(0);
}

Result<std::uint64_t> tensorByteCount(Dtype dtype, std::span<const std::int64_t> shape)
{
    const auto count = rankwise::elementCount(shape);
    const auto bits = count ? checkedMul(*count, dtypeBits(dtype)) : std::nullopt;
    if (!bits) {
        return fail(Errc::ShapeOverflow,
                    fmt::format("{} of shape {} has more bytes than 64 bits count, or a negative dimension",
                                dtypeName(dtype), shapeText(shape.first(std::min<std::size_t>(shape.size(), 16)))));
    }
    if (*bits % 8 != 0) {
        return fail(Errc::OffsetsInvalid,
                    fmt::format("{} elements of {} bits do not fill whole bytes", *count, dtypeBits(dtype)));
    }
    return *bits / 8;
}

Result<SafetensorsHeader> parseSafetensorsHeader(std::span<const std::byte> file, std::vector<Warning>& warnings)
{
    const auto refuse = [&](Errc code, std::string message, std::int64_t offset = -1) -> tl::unexpected<Error> {
        if (looksLikePickle(file)) {
            return failPickle({});
        }
        return fail(code, std::move(message) + hintFor(file), {}, offset);
    };
    std::uint64_t length = 0;
    if (file.size() < sizeof length) {
        return refuse(Errc::FileTruncated,
                      fmt::format("{} bytes are too few for a safetensors file, which begins with 8", file.size()));
    }
    std::memcpy(&length, file.data(), sizeof length);
    if (length > kMaxHeaderBytes) {
        return refuse(Errc::HeaderTooLarge,
                      fmt::format("is no safetensors file: it promises a header of {} bytes, at most {} are allowed",
                                  length, kMaxHeaderBytes),
                      0);
    }
    if (length > file.size() - sizeof length) {
        return refuse(Errc::FileTruncated,
                      fmt::format("promises a header of {} bytes, the file has {} after the length", length,
                                  file.size() - sizeof length),
                      0);
    }
    const std::string_view json(reinterpret_cast<const char*>(file.data()) + sizeof length, length);
    // The JSON lexer takes a NUL for the end of its input and skips a byte-order mark.
    if (const std::size_t nul = json.find('\0'); nul != std::string_view::npos) {
        return refuse(Errc::HeaderInvalid, "the header holds a NUL byte",
                      static_cast<std::int64_t>(nul + sizeof length));
    }
    if (json.starts_with("\xEF\xBB\xBF")) {
        return refuse(Errc::HeaderInvalid, "the header begins with a byte-order mark", sizeof length);
    }
    SafetensorsHeader header;
    header.dataOffset = sizeof length + length;
    HeaderHandler handler(header);
    if (!Json::sax_parse(json.begin(), json.end(), &handler)) {
        const Error& error = handler.error();
        return refuse(error.code, error.message,
                      handler.offset() < 0 ? -1 : handler.offset() + static_cast<std::int64_t>(sizeof length));
    }
    RW_TRY_VOID(checkOffsets(header, file.size() - header.dataOffset));
    warnOfOddities(header, json, warnings);
    return header;
}

Result<SafetensorsHeader> parseSafetensorsHeader(std::span<const std::byte> file)
{
    std::vector<Warning> ignored;
    return parseSafetensorsHeader(file, ignored);
}

Result<std::span<const std::byte>> tensorBytes(const SafetensorsHeader& header, std::span<const std::byte> file,
                                               const std::string& name)
{
    const auto it = header.tensors.find(name);
    if (it == header.tensors.end()) {
        return fail(Errc::TensorNotFound, "no tensor of this name", displayName(name));
    }
    const std::uint64_t begin = header.dataOffset + it->second.begin;
    RW_CHECK(begin <= file.size() && it->second.byteCount() <= file.size() - begin, "another file than was parsed");
    return file.subspan(begin, it->second.byteCount());
}

tl::unexpected<Error> failPickle(const std::filesystem::path& path)
{
    const std::string source = path.empty() ? "FILE" : shellQuoted(path.string());
    const std::string target = path.empty()
        ? "model.safetensors"
        : shellQuoted(std::filesystem::path(path).replace_extension(".safetensors").string());
    return fail(Errc::PickleRefused,
                fmt::format("is a pickle, which can run any code while it is read, and is not opened; convert it with: "
                            "python3 -c \"import sys,torch,safetensors.torch as s; d=torch.load(sys.argv[1],"
                            "map_location='cpu',weights_only=True); d=d.get('state_dict',d); s.save_file({{k:v.clone()"
                            ".contiguous() for k,v in d.items() if torch.is_tensor(v)}},sys.argv[2])\" {} {}",
                            source, target),
                path.string(), 0);
}

bool looksLikePickle(std::span<const std::byte> start)
{
    const auto at = [&](std::size_t i) { return i < start.size() ? std::to_integer<unsigned>(start[i]) : 0U; };
    if (at(0) == 'P' && at(1) == 'K' && at(2) == 3 && at(3) == 4) {
        return true; // the zip archive that torch.save writes
    }
    // PROTO with a version, then an opcode. Small numbers are no opcodes, but common in a header length.
    return at(0) == 0x80 && at(1) >= 1 && at(1) <= 5 && at(2) >= 0x20;
}

std::string displayName(std::string_view name, std::size_t maxBytes)
{
    std::string result;
    for (const char c : name) {
        const auto byte = static_cast<unsigned char>(c);
        if (result.size() >= maxBytes && (byte & 0xC0U) != 0x80) { // never inside a UTF-8 sequence
            return result + "...";
        }
        if (byte < 0x20 || byte == 0x7F) {
            result += fmt::format("\\x{:02x}", byte);
        } else {
            result += c;
        }
    }
    return result;
}

std::string shapeText(std::span<const std::int64_t> shape)
{
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

} // namespace rankwise::io
