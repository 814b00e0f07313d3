// PCRE2 with limits on steps, depth and memory.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/path_pattern.h"

#include <array>
#include <charconv>

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace rankwise::io {

namespace {

constexpr std::size_t kMaxLength = 64 << 10;
constexpr std::uint32_t kMatchLimit = 200'000; // a few milliseconds
constexpr std::uint32_t kHeapLimitKib = 16 << 10;

PCRE2_SPTR units(std::string_view text)
{
    return reinterpret_cast<PCRE2_SPTR>(text.data());
}

struct MatchData {
    explicit MatchData(const pcre2_code* code) : data(pcre2_match_data_create_from_pattern(code, nullptr)) { }
    ~MatchData() { pcre2_match_data_free(data); }
    MatchData(const MatchData&) = delete;
    MatchData& operator=(const MatchData&) = delete;

    pcre2_match_data* data;
};

} // namespace

struct PathPattern::Code {
    pcre2_code* code = nullptr;
    pcre2_match_context* context = nullptr;

    Code() = default;
    Code(const Code&) = delete;
    Code& operator=(const Code&) = delete;
    ~Code()
    {
        pcre2_match_context_free(context);
        pcre2_code_free(code);
    }

    Result<bool> match(std::string_view path, std::uint32_t options, const MatchData& data) const
    {
        const int status = pcre2_match(code, units(path), path.size(), 0, options, data.data, context);
        if (status >= 0) {
            return true;
        }
        if (status == PCRE2_ERROR_NOMATCH) {
            return false;
        }
        return fail(Errc::TooLarge, "a regular expression takes too many steps on a module path",
                    std::string(path.substr(0, 200)));
    }
};

Result<PathPattern> PathPattern::compile(std::string_view expression, const std::string& subject)
{
    if (expression.size() > kMaxLength) {
        return fail(Errc::TooLarge,
                    fmt::format("a regular expression of {} bytes, at most {} are read", expression.size(), kMaxLength),
                    subject);
    }
    auto code = std::make_shared<Code>();
    int error = 0;
    PCRE2_SIZE offset = 0;
    code->code = pcre2_compile(units(expression), expression.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (code->code == nullptr) {
        std::array<PCRE2_UCHAR, 256> message {};
        pcre2_get_error_message(error, message.data(), message.size());
        return fail(Errc::FieldInvalid,
                    fmt::format("\"{}\" is no regular expression: {} at {}", expression.substr(0, 100),
                                reinterpret_cast<const char*>(message.data()), offset),
                    subject);
    }
    code->context = pcre2_match_context_create(nullptr);
    RW_CHECK(code->context != nullptr);
    pcre2_set_match_limit(code->context, kMatchLimit);
    pcre2_set_heap_limit(code->context, kHeapLimitKib);
    PathPattern pattern;
    pattern.m_code = std::move(code);
    return pattern;
}

Result<bool> PathPattern::matches(std::string_view path) const
{
    return m_code->match(path, PCRE2_ANCHORED | PCRE2_ENDANCHORED, MatchData(m_code->code));
}

Result<std::optional<std::int64_t>> PathPattern::capturedNumber(std::string_view path) const
{
    const MatchData data(m_code->code);
    RW_TRY(const bool found, m_code->match(path, PCRE2_ANCHORED, data));
    if (!found || pcre2_get_ovector_count(data.data) < 2) {
        return std::optional<std::int64_t>();
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.data);
    if (range[2] == PCRE2_UNSET || range[3] < range[2] || range[3] > path.size()) {
        return std::optional<std::int64_t>();
    }
    const std::string_view digits = path.substr(range[2], range[3] - range[2]);
    std::int64_t number = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return status == std::errc {} && end == digits.data() + digits.size() ? std::optional(number) : std::nullopt;
}

} // namespace rankwise::io
