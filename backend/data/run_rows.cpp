// The scanner, and the fall-back to the general parser.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/run_rows.h"

#include "backend/base/file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <string_view>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace rankwise::data {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::uint64_t kMaxLineBytes = 64u << 20;
constexpr std::size_t kReadBytes = 1u << 20;
constexpr std::size_t kMaxKeys = 48; ///< Objects with more go to the general parser.

/// Powers of ten that a double holds exactly.
constexpr std::array<double, 23> kPowers { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                           1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

bool isDigit(char c)
{
    return c >= '0' && c <= '9';
}

/// Reads JSON left to right. Each function returns false where the text is not what it reads; the position is of no
/// use then, and the general parser decides.
class Scanner {
public:
    explicit Scanner(std::string_view text) : m_at(text.data()), m_end(text.data() + text.size()) { }

    [[nodiscard]] bool next(char c)
    {
        skipSpace();
        if (m_at == m_end || *m_at != c) {
            return false;
        }
        ++m_at;
        return true;
    }

    /// Whether nothing but space is left.
    [[nodiscard]] bool done()
    {
        skipSpace();
        return m_at == m_end;
    }

    /// A string of printable ASCII without escapes.
    [[nodiscard]] bool string(std::string_view& text)
    {
        if (!next('"')) {
            return false;
        }
        const char* const begin = m_at;
        for (; m_at != m_end && *m_at != '"'; ++m_at) {
            if (*m_at == '\\' || static_cast<unsigned char>(*m_at) - 0x20U >= 0x5fU) {
                return false;
            }
        }
        if (m_at == m_end) {
            return false;
        }
        text = { begin, static_cast<std::size_t>(m_at - begin) };
        ++m_at;
        return true;
    }

    /// A number, rounded as std::from_chars() does; null is NaN.
    [[nodiscard]] bool number(double& value)
    {
        skipSpace();
        if (m_at != m_end && *m_at == 'n') {
            value = kNaN;
            return word("null");
        }
        const char* const begin = m_at;
        const bool negative = m_at != m_end && *m_at == '-';
        m_at += negative ? 1 : 0;
        std::uint64_t mantissa = 0;
        int digits = 0;
        int exponent = 0;
        if (!wholePart(mantissa, digits)) {
            return false;
        }
        if (m_at != m_end && *m_at == '.') {
            const char* const point = ++m_at;
            takeDigits(mantissa, digits);
            if (m_at == point) {
                return false;
            }
            exponent = -static_cast<int>(std::min<std::ptrdiff_t>(m_at - point, 1000));
        }
        if (m_at != m_end && (*m_at == 'e' || *m_at == 'E')) {
            if (!exponentPart(exponent)) {
                return false;
            }
        }
        constexpr std::uint64_t kExact = std::uint64_t(1) << 53;
        if (digits <= 18 && mantissa <= kExact && exponent >= -22 && exponent <= 22) {
            const auto whole = static_cast<double>(mantissa);
            value = exponent < 0 ? whole / kPowers[static_cast<std::size_t>(-exponent)]
                                 : whole * kPowers[static_cast<std::size_t>(exponent)];
            value = negative ? -value : value;
            return true;
        }
        return std::from_chars(begin, m_at, value).ec == std::errc();
    }

    /// A number without fraction and exponent, of at most 18 digits.
    [[nodiscard]] bool integer(std::int64_t& value)
    {
        skipSpace();
        const bool negative = m_at != m_end && *m_at == '-';
        m_at += negative ? 1 : 0;
        std::uint64_t mantissa = 0;
        int digits = 0;
        if (!wholePart(mantissa, digits) || digits > 18
            || (m_at != m_end && (*m_at == '.' || *m_at == 'e' || *m_at == 'E'))) {
            return false;
        }
        value = negative ? -static_cast<std::int64_t>(mantissa) : static_cast<std::int64_t>(mantissa);
        return true;
    }

    /// `item` reads one value; an empty list has none.
    template <class Item> [[nodiscard]] bool list(const Item& item)
    {
        if (!next('[')) {
            return false;
        }
        if (next(']')) {
            return true;
        }
        do {
            if (!item()) {
                return false;
            }
        } while (next(','));
        return next(']');
    }

    [[nodiscard]] bool numbers(std::vector<float>& values)
    {
        return list([&] {
            double value = 0;
            if (!number(value)) {
                return false;
            }
            values.push_back(static_cast<float>(value));
            return true;
        });
    }

    /// A value that is not wanted; no list and no object.
    [[nodiscard]] bool skip()
    {
        skipSpace();
        if (m_at == m_end) {
            return false;
        }
        double number_ = 0;
        std::string_view text;
        switch (*m_at) {
        case '"':
            return string(text);
        case 't':
            return word("true");
        case 'f':
            return word("false");
        default:
            return number(number_);
        }
    }

    /// `member` reads the value of a key. Objects of many keys, and ones that say a key twice, are refused.
    template <class Member> [[nodiscard]] bool object(const Member& member)
    {
        std::array<std::string_view, kMaxKeys> keys;
        std::size_t count = 0;
        if (!next('{')) {
            return false;
        }
        if (next('}')) {
            return true;
        }
        do {
            std::string_view key;
            if (count == kMaxKeys || !string(key) || !next(':')) {
                return false;
            }
            const auto seen = keys.begin() + static_cast<std::ptrdiff_t>(count);
            if (std::find(keys.begin(), seen, key) != seen) {
                return false;
            }
            keys[count++] = key;
            if (!member(key)) {
                return false;
            }
        } while (next(','));
        return next('}');
    }

private:
    void skipSpace()
    {
        while (m_at != m_end && (*m_at == ' ' || *m_at == '\t' || *m_at == '\r' || *m_at == '\n')) {
            ++m_at;
        }
    }

    [[nodiscard]] bool word(std::string_view expected)
    {
        if (static_cast<std::size_t>(m_end - m_at) < expected.size()
            || std::memcmp(m_at, expected.data(), expected.size()) != 0) {
            return false;
        }
        m_at += expected.size();
        return true;
    }

    /// Digits into the mantissa; beyond 18 of them it is of no use.
    void takeDigits(std::uint64_t& mantissa, int& digits)
    {
        for (; m_at != m_end && isDigit(*m_at); ++m_at) {
            if (++digits <= 18) {
                mantissa = mantissa * 10 + static_cast<std::uint64_t>(*m_at - '0');
            }
        }
    }

    [[nodiscard]] bool wholePart(std::uint64_t& mantissa, int& digits)
    {
        if (m_at == m_end || !isDigit(*m_at)) {
            return false;
        }
        if (*m_at == '0') {
            ++m_at;
            return m_at == m_end || !isDigit(*m_at);
        }
        takeDigits(mantissa, digits);
        return true;
    }

    [[nodiscard]] bool exponentPart(int& exponent)
    {
        ++m_at;
        const bool negative = m_at != m_end && *m_at == '-';
        m_at += m_at != m_end && (*m_at == '-' || *m_at == '+') ? 1 : 0;
        const char* const begin = m_at;
        int value = 0;
        for (; m_at != m_end && isDigit(*m_at); ++m_at) {
            value = std::min(10 * value + (*m_at - '0'), 9999);
        }
        exponent += negative ? -value : value;
        return m_at != begin;
    }

    const char* m_at;
    const char* m_end;
};

/// What the known keys of one line hold. Kept between lines, for its memory.
struct Line {
    std::string_view kind;
    std::int64_t step = 0;
    std::int64_t table = 0;
    double time = 0;
    double loss = 0, total = 0, lr = 0, gradNorm = 0, samplesPerSecond = 0, loadSeconds = 0, computeSeconds = 0;
    std::vector<std::pair<std::string_view, double>> aux;
    std::vector<float> rank, energy;
    std::vector<std::int64_t> tokens;
    RaggedRows quantiles, shares, kinds;

    void clear()
    {
        kind = {};
        step = table = 0;
        time = 0;
        loss = total = lr = gradNorm = samplesPerSecond = loadSeconds = computeSeconds = kNaN;
        aux.clear();
        rank.clear();
        energy.clear();
        tokens.clear();
        for (RaggedRows* rows : { &quantiles, &shares, &kinds }) {
            rows->values.clear();
            rows->ends.clear();
        }
    }
};

bool readRows(Scanner& scan, RaggedRows& rows)
{
    return scan.list([&] {
        const bool whole = scan.numbers(rows.values);
        rows.endRow();
        return whole;
    });
}

bool readKinds(Scanner& scan, RaggedRows& rows)
{
    std::size_t layer = 0;
    return scan.list([&] {
        const bool whole = scan.list([&] {
            rows.values.push_back(static_cast<float>(layer));
            const bool row = scan.numbers(rows.values);
            rows.endRow();
            return row;
        });
        ++layer;
        return whole;
    });
}

bool readAux(Scanner& scan, Line& line)
{
    return scan.object([&](std::string_view name) {
        double value = 0;
        const bool read = scan.number(value);
        line.aux.emplace_back(name, value);
        return read;
    });
}

bool readMember(Scanner& scan, std::string_view key, Line& line)
{
    using Number = std::pair<std::string_view, double Line::*>;
    static constexpr std::array<Number, 7> kNumbers { {
        { "loss", &Line::loss },
        { "total", &Line::total },
        { "lr", &Line::lr },
        { "grad_norm", &Line::gradNorm },
        { "samples_per_s", &Line::samplesPerSecond },
        { "load_s", &Line::loadSeconds },
        { "compute_s", &Line::computeSeconds },
    } };
    for (const auto& [name, member] : kNumbers) {
        if (key == name) {
            return scan.number(line.*member);
        }
    }
    if (key == "time") {
        return scan.number(line.time) && std::isfinite(line.time);
    }
    if (key == "event") {
        return scan.string(line.kind);
    }
    if (key == "step") {
        return scan.integer(line.step);
    }
    if (key == "table") {
        return scan.integer(line.table);
    }
    if (key == "aux") {
        return readAux(scan, line);
    }
    if (key == "rank") {
        return scan.numbers(line.rank);
    }
    if (key == "energy") {
        return scan.numbers(line.energy);
    }
    if (key == "tokens") {
        return scan.list([&] {
            line.tokens.emplace_back();
            return scan.integer(line.tokens.back());
        });
    }
    if (key == "quantiles") {
        return readRows(scan, line.quantiles);
    }
    if (key == "shares") {
        return readRows(scan, line.shares);
    }
    if (key == "kinds") {
        return readKinds(scan, line.kinds);
    }
    return scan.skip();
}

void addStep(const Line& line, StepColumns& columns)
{
    const std::size_t before = columns.size();
    columns.step.push_back(static_cast<double>(line.step));
    columns.time.push_back(line.time);
    columns.loss.push_back(line.loss);
    columns.total.push_back(line.total);
    columns.lr.push_back(line.lr);
    columns.gradNorm.push_back(line.gradNorm);
    columns.samplesPerSecond.push_back(line.samplesPerSecond);
    columns.loadSeconds.push_back(line.loadSeconds);
    columns.computeSeconds.push_back(line.computeSeconds);
    for (const auto& [name, value] : line.aux) {
        auto found = columns.aux.find(name);
        if (found == columns.aux.end()) {
            found = columns.aux.emplace(std::string(name), std::vector<double>()).first;
        }
        found->second.resize(before, kNaN);
        found->second.push_back(value);
    }
    for (auto& [name, column] : columns.aux) {
        column.resize(before + 1, kNaN);
    }
}

DigestColumnsPtr digestOf(const Line& line)
{
    auto digest = std::make_shared<DigestColumns>();
    digest->step = line.step;
    digest->table = line.table;
    digest->rank = line.rank;
    digest->energy = line.energy;
    digest->tokens = line.tokens;
    digest->quantiles = line.quantiles;
    digest->shares = line.shares;
    digest->kinds = line.kinds;
    return digest;
}

bool addByScanner(std::string_view text, RunRows& rows)
{
    static thread_local Line line;
    line.clear();
    Scanner scan(text);
    if (!scan.object([&](std::string_view key) { return readMember(scan, key, line); }) || !scan.done()) {
        return false;
    }
    if (line.kind == "step") {
        addStep(line, rows.steps);
        return true;
    }
    if (line.kind == "digest") {
        rows.digests.push_back(digestOf(line));
        return true;
    }
    return false;
}

/// Closes on destruction.
class File {
public:
    explicit File(const std::filesystem::path& path) : m_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) { }
    ~File()
    {
        if (m_fd >= 0) {
            ::close(m_fd);
        }
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    [[nodiscard]] int get() const { return m_fd; }

private:
    int m_fd;
};

} // namespace

void StepColumns::add(const RunStep& row)
{
    Line line;
    line.step = row.step;
    line.time = row.time;
    line.loss = row.loss;
    line.total = row.total;
    line.lr = row.lr;
    line.gradNorm = row.gradNorm;
    line.samplesPerSecond = row.samplesPerSecond;
    line.loadSeconds = row.loadSeconds;
    line.computeSeconds = row.computeSeconds;
    line.aux.assign(row.aux.begin(), row.aux.end());
    addStep(line, *this);
}

void StepColumns::append(const StepColumns& more)
{
    const std::size_t before = size();
    const auto join = [](std::vector<double>& to, const std::vector<double>& from) {
        to.insert(to.end(), from.begin(), from.end());
    };
    join(step, more.step);
    join(time, more.time);
    join(loss, more.loss);
    join(total, more.total);
    join(lr, more.lr);
    join(gradNorm, more.gradNorm);
    join(samplesPerSecond, more.samplesPerSecond);
    join(loadSeconds, more.loadSeconds);
    join(computeSeconds, more.computeSeconds);
    for (const auto& [name, column] : more.aux) {
        std::vector<double>& own = aux[name];
        own.resize(before, kNaN);
        join(own, column);
    }
    for (auto& [name, column] : aux) {
        column.resize(size(), kNaN);
    }
}

void StepColumns::cutAbove(std::int64_t lastStep)
{
    std::size_t keep = step.size();
    while (keep > 0 && step[keep - 1] > static_cast<double>(lastStep)) {
        --keep;
    }
    for (std::vector<double>* column :
         { &step, &time, &loss, &total, &lr, &gradNorm, &samplesPerSecond, &loadSeconds, &computeSeconds }) {
        column->resize(keep);
    }
    for (auto& [name, column] : aux) {
        column.resize(keep);
    }
}

std::span<const float> RaggedRows::row(std::size_t index) const
{
    if (index >= ends.size()) {
        return {};
    }
    const std::size_t begin = index == 0 ? 0 : ends[index - 1];
    return std::span(values).subspan(begin, ends[index] - begin);
}

DigestColumns::DigestColumns(const RunDigest& digest)
    : step(digest.step), table(digest.table), rank(digest.rank.begin(), digest.rank.end()),
      energy(digest.energy.begin(), digest.energy.end()), tokens(digest.tokens)
{
    const auto copy = [](const std::vector<std::vector<double>>& from, RaggedRows& to) {
        for (const std::vector<double>& row : from) {
            to.values.insert(to.values.end(), row.begin(), row.end());
            to.endRow();
        }
    };
    copy(digest.quantiles, quantiles);
    copy(digest.shares, shares);
    for (std::size_t layer = 0; layer < digest.kinds.size(); ++layer) {
        for (const std::vector<double>& row : digest.kinds[layer]) {
            kinds.values.push_back(static_cast<float>(layer));
            kinds.values.insert(kinds.values.end(), row.begin(), row.end());
            kinds.endRow();
        }
    }
}

bool addRunLine(std::string_view line, std::vector<RunRows>& rows, bool fast)
{
    if (rows.empty()) {
        rows.emplace_back();
    }
    if (fast && addByScanner(line, rows.back())) {
        return true;
    }
    auto event = parseRunEvent(line);
    if (!event) {
        return false;
    }
    RunHistory history;
    const bool start = event->kind == "start";
    history.add({ std::move(*event) });
    if (start) {
        const auto& fields = history.others.front().fields;
        if (const auto from = fields.find("resumed_from"); from != fields.end() && from->is_number_integer()) {
            rows.emplace_back().cutAbove = from->get<std::int64_t>();
        }
    }
    for (const RunStep& step : history.steps) {
        rows.back().steps.add(step);
    }
    for (const RunDigest& digest : history.digests) {
        rows.back().digests.push_back(std::make_shared<const DigestColumns>(digest));
    }
    rows.back().tables.merge(history.tables);
    for (auto& [number, table] : history.tables) { // a table told again
        rows.back().tables[number] = std::move(table);
    }
    std::ranges::move(history.others, std::back_inserter(rows.back().others));
    return true;
}

void RunRows::append(RunRows&& next)
{
    steps.append(next.steps);
    std::ranges::move(next.digests, std::back_inserter(digests));
    for (auto& [number, table] : next.tables) {
        tables[number] = std::move(table);
    }
    std::ranges::move(next.others, std::back_inserter(others));
}

namespace {

/// Whole lines, and how many of them were no events.
struct Part {
    std::vector<RunRows> rows { 1 };
    std::uint64_t skipped = 0;

    void take(std::string_view lines)
    {
        while (!lines.empty()) {
            const std::size_t end = lines.find('\n');
            skipped += addRunLine(lines.substr(0, end), rows) ? 0U : 1U;
            lines.remove_prefix(end + 1);
        }
    }
};

/// Reads lines on several threads where there are enough of them; the rows come in order all the same.
Part takeInParts(std::string_view lines)
{
    constexpr std::size_t kWorthAThread = 1u << 20;
    constexpr std::size_t kMostThreads = 4;
    const std::size_t count = std::clamp<std::size_t>(
        std::min<std::size_t>(std::thread::hardware_concurrency(), lines.size() / kWorthAThread), 1, kMostThreads);
    std::vector<Part> parts(count);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i + 1 < count; ++i) {
            const std::size_t end = lines.find('\n', lines.size() / (count - i));
            threads.emplace_back([&part = parts[i], own = lines.substr(0, end + 1)] { part.take(own); });
            lines.remove_prefix(end + 1);
        }
        parts.back().take(lines);
    }
    Part& all = parts.front();
    for (std::size_t i = 1; i < count; ++i) {
        all.rows.back().append(std::move(parts[i].rows.front()));
        std::move(parts[i].rows.begin() + 1, parts[i].rows.end(), std::back_inserter(all.rows));
        all.skipped += parts[i].skipped;
    }
    return std::move(all);
}

} // namespace

class RunRowTail::Reader {
public:
    explicit Reader(std::filesystem::path file_) : file(std::move(file_)) { }

    Result<std::vector<RunRows>> poll(std::uint64_t maxBytes)
    {
        const File handle(file);
        if (handle.get() < 0) {
            if (errno == ENOENT) {
                return std::vector<RunRows>(1);
            }
            return failErrno(errno, "open", file);
        }
        struct stat info { };
        if (::fstat(handle.get(), &info) != 0) {
            return failErrno(errno, "read the size of", file);
        }
        const auto size = static_cast<std::uint64_t>(info.st_size);
        offset = std::min(offset, size);
        torn = 0;
        std::size_t filled = 0; // of m_text, which begins at `offset`
        std::size_t whole = 0;  // of it, up to the last newline
        while (offset + filled < size && (filled < maxBytes || whole == 0)) {
            if (m_text.size() < filled + kReadBytes) {
                m_text.resize(std::max(filled + kReadBytes, 2 * m_text.size()));
            }
            const ssize_t n =
                ::pread(handle.get(), m_text.data() + filled, kReadBytes, static_cast<off_t>(offset + filled));
            if (n < 0) {
                if (errno == EINTR) {
                    continue;
                }
                return failErrno(errno, "read", file);
            }
            if (n == 0) {
                break;
            }
            const std::string_view part(m_text.data() + filled, static_cast<std::size_t>(n));
            if (const std::size_t newline = part.rfind('\n'); newline != std::string_view::npos) {
                whole = filled + newline + 1;
            }
            filled += part.size();
            if (filled - whole > kMaxLineBytes) {
                return fail(Errc::TooLarge, fmt::format("a line is longer than {} bytes", kMaxLineBytes), file.string(),
                            static_cast<std::int64_t>(offset + whole));
            }
        }
        Part part = takeInParts({ m_text.data(), whole });
        offset += whole;
        skipped += part.skipped;
        torn = filled - whole;
        if (filled < kReadBytes) {
            m_text = {}; // the end is reached: what comes is small
        }
        return std::move(part.rows);
    }

    std::filesystem::path file;
    std::uint64_t offset = 0;
    std::uint64_t skipped = 0;
    std::uint64_t torn = 0;

private:
    std::vector<char> m_text;
};

RunRowTail::RunRowTail(std::filesystem::path file) : m_reader(std::make_unique<Reader>(std::move(file))) { }
RunRowTail::~RunRowTail() = default;
RunRowTail::RunRowTail(RunRowTail&& other) noexcept = default;
RunRowTail& RunRowTail::operator=(RunRowTail&& other) noexcept = default;

Result<std::vector<RunRows>> RunRowTail::poll(std::uint64_t maxBytes)
{
    return m_reader->poll(maxBytes);
}

std::uint64_t RunRowTail::offset() const
{
    return m_reader->offset;
}

std::uint64_t RunRowTail::skippedLines() const
{
    return m_reader->skipped;
}

std::uint64_t RunRowTail::tornBytes() const
{
    return m_reader->torn;
}

} // namespace rankwise::data
