// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/module_pattern.h"

#include <cstdint>

#include <fmt/core.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace rankwise::adapters {

namespace {

constexpr std::size_t kMaxExpression = 64u << 10;
constexpr std::uint32_t kMatchLimit = 1'000'000; // steps of backtracking
constexpr std::uint32_t kHeapLimitKib = 16u << 10;

PCRE2_SPTR units(std::string_view text)
{
    return reinterpret_cast<PCRE2_SPTR>(text.data());
}

} // namespace

struct ModulePattern::Code {
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

    /// Matches found, 0 or more groups; below 0 an error of the library.
    int match(std::string_view text, std::uint32_t options, pcre2_match_data* data) const
    {
        return pcre2_match(code, units(text), text.size(), 0, options, data, context);
    }
};

Result<ModulePattern> ModulePattern::compile(std::string_view expression, const std::string& subject)
{
    if (expression.size() > kMaxExpression) {
        return fail(Errc::TooLarge, fmt::format("a pattern of {} bytes; {} at most", expression.size(), kMaxExpression),
                    subject);
    }
    int error = 0;
    PCRE2_SIZE offset = 0;
    auto code = std::make_shared<Code>();
    code->code = pcre2_compile(units(expression), expression.size(), PCRE2_UTF, &error, &offset, nullptr);
    if (!code->code) {
        PCRE2_UCHAR text[256] = {};
        pcre2_get_error_message(error, text, sizeof text);
        return fail(Errc::FieldInvalid,
                    fmt::format("\"{}\" is no valid regular expression: {} at character {}", expression.substr(0, 200),
                                reinterpret_cast<const char*>(text), offset),
                    subject);
    }
    code->context = pcre2_match_context_create(nullptr);
    RW_CHECK(code->context != nullptr);
    pcre2_set_match_limit(code->context, kMatchLimit);
    pcre2_set_heap_limit(code->context, kHeapLimitKib);
    ModulePattern pattern;
    pattern.m_code = std::move(code);
    pattern.m_expression = expression.substr(0, 200);
    return pattern;
}

Result<bool> ModulePattern::matchesWhole(std::string_view path) const
{
    std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(1, nullptr),
                                                                        pcre2_match_data_free);
    const int found = m_code->match(path, PCRE2_ANCHORED | PCRE2_ENDANCHORED, data.get());
    if (found >= 0) {
        return true;
    }
    if (found == PCRE2_ERROR_NOMATCH) {
        return false;
    }
    return fail(Errc::TooLarge, fmt::format("matching \"{}\" takes too long (backtracking); simplify it", m_expression),
                std::string(path));
}

Result<std::optional<std::string>> ModulePattern::capture(std::string_view path) const
{
    std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(4, nullptr),
                                                                        pcre2_match_data_free);
    const int found = m_code->match(path, PCRE2_ANCHORED, data.get());
    if (found == PCRE2_ERROR_NOMATCH) {
        return std::optional<std::string> {};
    }
    if (found < 0) {
        return fail(Errc::TooLarge,
                    fmt::format("matching \"{}\" takes too long (backtracking); simplify it", m_expression),
                    std::string(path));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    if (found < 2 || ends[2] == PCRE2_UNSET) {
        return std::optional<std::string> {};
    }
    return std::optional<std::string>(path.substr(ends[2], ends[3] - ends[2]));
}

Result<PatternTable> PatternTable::make(std::vector<std::pair<std::string, double>> entries, const std::string& subject)
{
    PatternTable table;
    table.m_patterns.reserve(entries.size());
    for (const auto& [key, value] : entries) {
        // Alone first: "a)(b" would compile inside of the group.
        RW_TRY_VOID(ModulePattern::compile(key, subject).map([](const ModulePattern&) {}));
        RW_TRY(ModulePattern pattern, ModulePattern::compile("(?:.*\\.)?(?:" + key + ")", subject));
        table.m_patterns.push_back(std::move(pattern));
    }
    table.m_entries = std::move(entries);
    return table;
}

Result<std::optional<double>> PatternTable::find(std::string_view path) const
{
    for (std::size_t i = 0; i < m_entries.size(); ++i) {
        RW_TRY(const bool hit, m_patterns[i].matchesWhole(path));
        if (hit) {
            return std::optional<double>(m_entries[i].second);
        }
    }
    return std::optional<double> {};
}

Result<std::optional<std::string>> PatternTable::findKey(std::string_view path) const
{
    for (std::size_t i = 0; i < m_entries.size(); ++i) {
        RW_TRY(const bool hit, m_patterns[i].matchesWhole(path));
        if (hit) {
            return std::optional<std::string>(m_entries[i].first);
        }
    }
    return std::optional<std::string> {};
}

std::string escapePattern(std::string_view text)
{
    std::string escaped;
    for (const char c : text) {
        if (std::string_view("\\^$.|?*+()[]{}-").find(c) != std::string_view::npos) {
            escaped += '\\';
        }
        escaped += c;
    }
    return escaped;
}

bool endsAtDot(std::string_view path, std::string_view name)
{
    return path == name
        || (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

} // namespace rankwise::adapters
