// Framing, checksums and the few protocol-buffer fields that scalars need, by hand.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/event_file.h"

#include "backend/base/file.h"

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kHeaderBytes = 12; // length and its checksum
constexpr std::size_t kFooterBytes = 4;
constexpr std::string_view kFileVersion = "brain.Event:2";

constexpr std::array<std::uint32_t, 256> makeCrcTable()
{
    constexpr std::uint32_t kPolynomial = 0x82F6'3B78; // reversed 0x1EDC6F41
    std::array<std::uint32_t, 256> table {};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc & 1U) != 0 ? (crc >> 1) ^ kPolynomial : crc >> 1;
        }
        table[i] = crc;
    }
    return table;
}

constexpr auto kCrcTable = makeCrcTable();

// --- protocol buffers: writing -------------------------------------------------------------------------------------

void putVarint(std::string& out, std::uint64_t value)
{
    while (value >= 0x80) {
        out += static_cast<char>(value | 0x80U);
        value >>= 7;
    }
    out += static_cast<char>(value);
}

void putKey(std::string& out, unsigned field, unsigned wireType)
{
    putVarint(out, field << 3 | wireType);
}

template <class T> void putRaw(std::string& out, T value)
{
    std::array<char, sizeof value> raw {};
    std::memcpy(raw.data(), &value, sizeof value);
    out.append(raw.data(), raw.size());
}

void putBytes(std::string& out, unsigned field, std::string_view bytes)
{
    putKey(out, field, 2);
    putVarint(out, bytes.size());
    out += bytes;
}

std::string eventHead(double wallTime, std::int64_t step)
{
    std::string event;
    putKey(event, 1, 1);
    putRaw(event, wallTime);
    if (step != 0) {
        putKey(event, 2, 0);
        putVarint(event, static_cast<std::uint64_t>(step));
    }
    return event;
}

// --- protocol buffers: reading -------------------------------------------------------------------------------------

/// One field of a message. Numbers are in `number`, everything else in `bytes`.
struct Field {
    std::uint64_t id = 0;
    unsigned wireType = 0;
    std::uint64_t number = 0;
    std::string_view bytes;
};

/// Walks the fields of a message; failed() tells whether it ended before its end.
class FieldWalker {
public:
    explicit FieldWalker(std::string_view message) : m_rest(message) { }

    std::optional<Field> next()
    {
        if (m_rest.empty() || m_failed) {
            return std::nullopt;
        }
        Field field;
        const auto key = varint();
        field.id = key.value_or(0) >> 3;
        field.wireType = static_cast<unsigned>(key.value_or(0) & 7U);
        if (!key || field.id == 0 || field.id > 0x1FFF'FFFF || !content(field)) {
            m_failed = true;
            return std::nullopt;
        }
        return field;
    }
    [[nodiscard]] bool failed() const { return m_failed; }

private:
    std::optional<std::uint64_t> varint()
    {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64 && !m_rest.empty(); shift += 7) {
            const auto byte = static_cast<unsigned char>(m_rest.front());
            m_rest.remove_prefix(1);
            value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
            if (byte < 0x80) {
                return value;
            }
        }
        return std::nullopt;
    }

    bool take(std::size_t size, std::string_view& bytes)
    {
        if (size > m_rest.size()) {
            return false;
        }
        bytes = m_rest.substr(0, size);
        m_rest.remove_prefix(size);
        return true;
    }

    bool content(Field& field)
    {
        std::optional<std::uint64_t> number;
        switch (field.wireType) {
        case 0:
            number = varint();
            field.number = number.value_or(0);
            return number.has_value();
        case 1:
        case 5:
            if (!take(field.wireType == 1 ? 8 : 4, field.bytes)) {
                return false;
            }
            std::memcpy(&field.number, field.bytes.data(), field.bytes.size());
            return true;
        case 2:
            number = varint();
            return number && *number <= m_rest.size() && take(static_cast<std::size_t>(*number), field.bytes);
        default:
            return false; // groups are not used
        }
    }

    std::string_view m_rest;
    bool m_failed = false;
};

double asDouble(const Field& field)
{
    return std::bit_cast<double>(field.number);
}

float asFloat(const Field& field)
{
    return std::bit_cast<float>(static_cast<std::uint32_t>(field.number));
}

/// Values of a repeated fixed-width field, packed or not.
template <class T> void appendFixed(const Field& field, std::vector<double>& values)
{
    std::string_view bytes = field.bytes;
    for (; bytes.size() >= sizeof(T); bytes.remove_prefix(sizeof(T))) {
        T value {};
        std::memcpy(&value, bytes.data(), sizeof value);
        values.push_back(static_cast<double>(value));
    }
}

bool readHistogram(std::string_view message, HistogramSummary& histogram)
{
    FieldWalker walker(message);
    while (const auto field = walker.next()) {
        switch (field->id) {
        case 1:
            histogram.min = asDouble(*field);
            break;
        case 2:
            histogram.max = asDouble(*field);
            break;
        case 3:
            histogram.num = asDouble(*field);
            break;
        case 4:
            histogram.sum = asDouble(*field);
            break;
        case 5:
            histogram.sumSquares = asDouble(*field);
            break;
        case 6:
            appendFixed<double>(*field, histogram.limits);
            break;
        case 7:
            appendFixed<double>(*field, histogram.buckets);
            break;
        default:
            break;
        }
    }
    return !walker.failed();
}

bool readTensor(std::string_view message, SummaryValue& value)
{
    std::string_view content;
    FieldWalker walker(message);
    while (const auto field = walker.next()) {
        switch (field->id) {
        case 1:
            value.tensorDtype = static_cast<std::int64_t>(field->number);
            break;
        case 4:
            content = field->bytes;
            break;
        case 5:
            appendFixed<float>(*field, value.tensorValues);
            break;
        case 6:
            appendFixed<double>(*field, value.tensorValues);
            break;
        case 8:
            value.tensorTexts.emplace_back(field->bytes);
            break;
        default:
            break;
        }
    }
    constexpr std::int64_t kFloat = 1;
    constexpr std::int64_t kDouble = 2;
    const Field raw { 0, 2, 0, content };
    if (value.tensorDtype == kFloat) {
        appendFixed<float>(raw, value.tensorValues);
    } else if (value.tensorDtype == kDouble) {
        appendFixed<double>(raw, value.tensorValues);
    }
    return !walker.failed();
}

bool readImage(std::string_view message, SummaryValue& value)
{
    FieldWalker walker(message);
    while (const auto field = walker.next()) {
        switch (field->id) {
        case 1:
            value.imageHeight = static_cast<std::int64_t>(field->number);
            break;
        case 2:
            value.imageWidth = static_cast<std::int64_t>(field->number);
            break;
        case 4:
            value.imageBytes = field->bytes.size();
            break;
        default:
            break;
        }
    }
    return !walker.failed();
}

bool readMetadata(std::string_view message, std::string& plugin)
{
    FieldWalker walker(message);
    while (const auto field = walker.next()) {
        if (field->id == 1) {
            FieldWalker data(field->bytes);
            while (const auto item = data.next()) {
                if (item->id == 1) {
                    plugin = item->bytes;
                }
            }
            if (data.failed()) {
                return false;
            }
        }
    }
    return !walker.failed();
}

bool readValue(std::string_view message, SummaryValue& value)
{
    FieldWalker walker(message);
    bool good = true;
    while (const auto field = walker.next()) {
        switch (field->id) {
        case 1:
            value.tag = field->bytes;
            break;
        case 2:
            value.kind = SummaryKind::SimpleValue;
            value.simpleValue = asFloat(*field);
            break;
        case 4:
            value.kind = SummaryKind::Image;
            good = readImage(field->bytes, value) && good;
            break;
        case 5:
            value.kind = SummaryKind::Histogram;
            good = readHistogram(field->bytes, value.histogram) && good;
            break;
        case 6:
            value.kind = SummaryKind::Audio;
            break;
        case 8:
            value.kind = SummaryKind::Tensor;
            good = readTensor(field->bytes, value) && good;
            break;
        case 9:
            good = readMetadata(field->bytes, value.plugin) && good;
            break;
        default:
            break;
        }
    }
    return good && !walker.failed();
}

bool readSummary(std::string_view message, std::vector<SummaryValue>& values)
{
    FieldWalker walker(message);
    while (const auto field = walker.next()) {
        if (field->id == 1) {
            values.emplace_back();
            if (!readValue(field->bytes, values.back())) {
                return false;
            }
        }
    }
    return !walker.failed();
}

bool readEvent(std::string_view message, Event& event)
{
    FieldWalker walker(message);
    while (const auto field = walker.next()) {
        switch (field->id) {
        case 1:
            event.wallTime = asDouble(*field);
            break;
        case 2:
            event.step = static_cast<std::int64_t>(field->number);
            break;
        case 3:
            event.kind = "file_version";
            event.fileVersion = field->bytes;
            break;
        case 4:
            event.kind = "graph_def";
            break;
        case 5:
            event.kind = "summary";
            if (!readSummary(field->bytes, event.values)) {
                return false;
            }
            break;
        case 6:
            event.kind = "log_message";
            break;
        case 7:
            event.kind = "session_log";
            break;
        case 8:
            event.kind = "tagged_run_metadata";
            break;
        case 9:
            event.kind = "meta_graph_def";
            break;
        default:
            break;
        }
    }
    return !walker.failed();
}

template <class T> T readRaw(std::span<const std::byte> bytes, std::size_t offset)
{
    T value {};
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

std::string hostName()
{
    std::array<char, 256> name {};
    if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') {
        return "localhost";
    }
    std::string host(name.data());
    for (char& c : host) {
        c = c == '/' ? '_' : c;
    }
    return host;
}

} // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes)
{
    std::uint32_t crc = 0xFFFF'FFFF;
    for (const std::byte byte : bytes) {
        crc = kCrcTable[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFFU] ^ (crc >> 8);
    }
    return ~crc;
}

std::uint32_t maskedCrc32c(std::span<const std::byte> bytes)
{
    return std::rotr(crc32c(bytes), 15) + 0xA282'EAD8U;
}

EventFileWriter::EventFileWriter(EventFileWriter&& other) noexcept
    : m_fd(std::exchange(other.m_fd, -1)), m_size(other.m_size), m_path(std::move(other.m_path))
{
}

EventFileWriter& EventFileWriter::operator=(EventFileWriter&& other) noexcept
{
    std::swap(m_fd, other.m_fd);
    std::swap(m_size, other.m_size);
    std::swap(m_path, other.m_path);
    return *this;
}

EventFileWriter::~EventFileWriter()
{
    if (m_fd >= 0) {
        ::close(m_fd);
    }
}

Result<EventFileWriter> EventFileWriter::create(const fs::path& folder)
{
    static std::atomic<unsigned> counter { 0 };
    RW_TRY_VOID(createFolders(folder));
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const double seconds = std::chrono::duration<double>(now).count();
    EventFileWriter writer;
    do {
        writer.m_path = folder
            / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", static_cast<std::int64_t>(seconds), hostName(),
                          ::getpid(), counter++);
        writer.m_fd = ::open(writer.m_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    } while (writer.m_fd < 0 && errno == EEXIST);
    if (writer.m_fd < 0) {
        return failErrno(errno, "create", writer.m_path);
    }
    std::string event = eventHead(seconds, 0);
    putBytes(event, 3, kFileVersion);
    RW_TRY_VOID(writer.append(event));
    return writer;
}

Result<void> EventFileWriter::addScalar(std::string_view tag, double value, std::int64_t step, double wallTime)
{
    return addScalars({ { std::string(tag), value } }, step, wallTime);
}

Result<void> EventFileWriter::addScalars(const std::vector<std::pair<std::string, double>>& scalars, std::int64_t step,
                                         double wallTime)
{
    std::string summary;
    for (const auto& [tag, number] : scalars) {
        std::string value;
        putBytes(value, 1, tag);
        putKey(value, 2, 5);
        putRaw(value, static_cast<float>(number));
        putBytes(summary, 1, value);
    }
    std::string event = eventHead(wallTime, step);
    putBytes(event, 5, summary);
    return append(event);
}

Result<void> EventFileWriter::append(std::string_view payload)
{
    std::string record;
    putRaw(record, static_cast<std::uint64_t>(payload.size()));
    putRaw(record, maskedCrc32c(std::as_bytes(std::span(record))));
    record += payload;
    putRaw(record, maskedCrc32c(std::as_bytes(std::span(payload))));
    std::string_view rest = record;
    while (!rest.empty()) {
        const ssize_t n = ::write(m_fd, rest.data(), rest.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            const int error = errno;
            // A record that is not whole would hide every later one.
            if (::ftruncate(m_fd, static_cast<off_t>(m_size)) != 0) {
                return failErrno(errno, "remove an unfinished record from", m_path);
            }
            return failErrno(error, "write", m_path);
        }
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    m_size += record.size();
    return {};
}

Result<void> EventFileWriter::sync()
{
    return ::fdatasync(m_fd) == 0 ? Result<void>() : Result<void>(failErrno(errno, "sync", m_path));
}

std::optional<double> SummaryValue::scalar() const
{
    if (kind == SummaryKind::SimpleValue) {
        return static_cast<double>(simpleValue);
    }
    if (kind == SummaryKind::Tensor && tensorValues.size() == 1 && (plugin.empty() || plugin == "scalars")) {
        return tensorValues.front();
    }
    return std::nullopt;
}

EventFile parseEventFile(std::span<const std::byte> file)
{
    EventFile result;
    const auto stop = [&result](std::string why) {
        result.problem = fmt::format("record {} at byte {}: {}", result.records.size(), result.validBytes, why);
    };
    while (result.validBytes < file.size()) {
        const auto rest = file.subspan(result.validBytes);
        if (rest.size() < kHeaderBytes) {
            stop("the file ends inside its length");
            break;
        }
        if (readRaw<std::uint32_t>(rest, 8) != maskedCrc32c(rest.first(8))) {
            stop("the checksum of its length does not match");
            break;
        }
        const auto length = readRaw<std::uint64_t>(rest, 0);
        if (length > rest.size() - kHeaderBytes || rest.size() - kHeaderBytes - length < kFooterBytes) {
            stop(fmt::format("the file ends before its {} bytes do", length));
            break;
        }
        const auto payload = rest.subspan(kHeaderBytes, length);
        if (readRaw<std::uint32_t>(rest, kHeaderBytes + length) != maskedCrc32c(payload)) {
            stop("the checksum of its data does not match");
            break;
        }
        Event event;
        if (!readEvent({ reinterpret_cast<const char*>(payload.data()), payload.size() }, event)) {
            stop("is no protocol buffer");
            break;
        }
        result.events.push_back(std::move(event));
        result.records.emplace_back(result.validBytes, length);
        result.validBytes += kHeaderBytes + length + kFooterBytes;
    }
    return result;
}

Result<EventFile> readEventFile(const fs::path& path)
{
    RW_TRY(const MappedFile map, MappedFile::open(path));
    const auto bytes = map.bytes();
    if (bytes.size() >= kHeaderBytes && readRaw<std::uint32_t>(bytes, 8) != maskedCrc32c(bytes.first(8))) {
        return fail(Errc::HeaderInvalid, "is no TensorBoard event file: the first checksum does not match",
                    path.string(), 8);
    }
    return parseEventFile(bytes);
}

} // namespace rankwise::io
