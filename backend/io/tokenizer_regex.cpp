// PCRE2 with limits, the translation from Oniguruma's syntax, and a hand-written scanner for GPT-2's expression.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_regex.h"

#include "backend/io/tokenizer_text.h"

#include <array>
#include <chrono>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

namespace rankwise::io::tokenizer {

namespace {

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
/// Backtracking steps of one match; an ordinary match takes a few hundred.
constexpr std::uint32_t kMatchLimit = 2'000'000;
constexpr std::uint32_t kHeapLimitKib = 64 * 1024;
/// All matches in one text together.
constexpr std::chrono::seconds kTimeLimit { 5 };

constexpr std::string_view kSpaceRanges =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kWordClasses = R"(\p{L}\p{M}\p{N}\p{Pc})";

/// Writes the escapes that Oniguruma and PCRE2 read differently in PCRE2's way.
std::string translated(std::string_view expression)
{
    std::string out;
    int classDepth = 0;
    for (std::size_t i = 0; i < expression.size(); ++i) {
        const char c = expression[i];
        if (c != '\\' || i + 1 == expression.size()) {
            if (c == '[' && (classDepth == 0 || expression.substr(i, 2) != "[:")) {
                ++classDepth;
            } else if (c == ']' && classDepth > 0 && (i == 0 || expression[i - 1] != ':')) {
                --classDepth;
            }
            out.push_back(c);
            continue;
        }
        const char escape = expression[++i];
        const bool inClass = classDepth > 0;
        const auto set = [&](std::string_view content, bool negated) {
            out += inClass ? std::string(content) : fmt::format("[{}{}]", negated ? "^" : "", content);
        };
        if (escape == 's') {
            set(kSpaceRanges, false);
        } else if (escape == 'S' && !inClass) {
            set(kSpaceRanges, true);
        } else if (escape == 'w') {
            set(kWordClasses, false);
        } else if (escape == 'W' && !inClass) {
            set(kWordClasses, true);
        } else if (escape == 'h') {
            set("0-9a-fA-F", false);
        } else if (escape == 'H' && !inClass) {
            set("0-9a-fA-F", true);
        } else if (escape == 'u' && i + 4 < expression.size()) {
            out += fmt::format("\\x{{{}}}", expression.substr(i + 1, 4));
            i += 4;
        } else {
            out.push_back('\\');
            out.push_back(escape);
        }
    }
    return out;
}

/// Length of a quantifier at `i`, or 0; tells whether it is unbounded and not possessive.
std::size_t quantifierLength(std::string_view text, std::size_t i, bool& unbounded)
{
    unbounded = false;
    if (i >= text.size()) {
        return 0;
    }
    std::size_t length = 0;
    if (text[i] == '*' || text[i] == '+') {
        unbounded = true;
        length = 1;
    } else if (text[i] == '?') {
        length = 1;
    } else if (text[i] == '{') {
        const std::size_t close = text.find('}', i);
        if (close == std::string_view::npos) {
            return 0;
        }
        unbounded = close > i + 1 && text[close - 1] == ',';
        length = close + 1 - i;
    } else {
        return 0;
    }
    if (i + length < text.size() && text[i + length] == '+') {
        unbounded = false;
        ++length;
    } else if (i + length < text.size() && text[i + length] == '?') {
        ++length;
    }
    return length;
}

bool hasNestedRepeats(std::string_view text)
{
    std::vector<bool> repeatsInside { false };
    for (std::size_t i = 0; i < text.size();) {
        bool closedGroupRepeats = false;
        if (text[i] == '\\') {
            i += 2;
        } else if (text[i] == '[') {
            for (++i; i < text.size() && text[i] != ']'; ++i) {
                i += text[i] == '\\' ? 1u : 0u;
            }
            ++i;
        } else if (text[i] == '(') {
            repeatsInside.push_back(false);
            ++i;
            if (i + 1 < text.size() && text[i] == '?') {
                i += 2;
            }
            continue;
        } else if (text[i] == ')') {
            if (repeatsInside.size() > 1) {
                closedGroupRepeats = repeatsInside.back();
                repeatsInside.pop_back();
            }
            ++i;
        } else {
            ++i;
        }
        bool unbounded = false;
        i += quantifierLength(text, i, unbounded);
        if (unbounded && closedGroupRepeats) {
            return true;
        }
        if (unbounded || closedGroupRepeats) {
            repeatsInside.back() = true;
        }
    }
    return false;
}

} // namespace

struct Pattern::Compiled {
    pcre2_code* code = nullptr;
    bool jit = false;

    Compiled() = default;
    Compiled(const Compiled&) = delete;
    Compiled& operator=(const Compiled&) = delete;
    ~Compiled() { pcre2_code_free(code); }
};

namespace {

/// The mutable parts of matching, one set for each search.
struct MatchState {
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_match_data* data;

    explicit MatchState(const pcre2_code* code) : data(pcre2_match_data_create_from_pattern(code, nullptr))
    {
        pcre2_set_match_limit(context, kMatchLimit);
        pcre2_set_heap_limit(context, kHeapLimitKib);
    }
    MatchState(const MatchState&) = delete;
    MatchState& operator=(const MatchState&) = delete;
    ~MatchState()
    {
        pcre2_match_data_free(data);
        pcre2_match_context_free(context);
    }
};

PCRE2_SPTR bytesOf(std::string_view text)
{
    return reinterpret_cast<PCRE2_SPTR>(text.data());
}

void findLiteral(std::string_view text, std::string_view literal, std::vector<MatchRange>& ranges)
{
    std::size_t position = 0;
    while (position < text.size()) {
        const std::size_t found = literal.empty() ? std::string_view::npos : text.find(literal, position);
        if (found == std::string_view::npos) {
            ranges.push_back({ position, text.size(), false });
            return;
        }
        if (found > position) {
            ranges.push_back({ position, found, false });
        }
        position = found + literal.size();
        ranges.push_back({ found, position, true });
    }
}

} // namespace

Pattern Pattern::literal(std::string text)
{
    Pattern pattern;
    pattern.m_literal = std::move(text);
    return pattern;
}

Result<Pattern> Pattern::regex(std::string_view expression)
{
    Pattern pattern;
    if (expression == kGpt2) {
        pattern.m_gpt2 = true;
        return pattern;
    }
    const std::string text = translated(expression);
    auto compiled = std::make_shared<Compiled>();
    int code = 0;
    PCRE2_SIZE offset = 0;
    compiled->code =
        pcre2_compile(bytesOf(text), text.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &offset, nullptr);
    if (compiled->code == nullptr) {
        std::array<PCRE2_UCHAR, 256> message {};
        pcre2_get_error_message(code, message.data(), message.size());
        return fail(Errc::FieldInvalid,
                    fmt::format("the regular expression \"{}\" cannot be used: {} (at {})", expression,
                                reinterpret_cast<const char*>(message.data()), offset));
    }
    compiled->jit = pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE) == 0;
    pattern.m_compiled = std::move(compiled);
    pattern.m_nestedRepeats = hasNestedRepeats(expression);
    return pattern;
}

Result<void> Pattern::findAll(std::string_view text, std::vector<MatchRange>& ranges) const
{
    if (m_gpt2) {
        for (std::size_t begin = 0; begin < text.size();) {
            const std::size_t end = gpt2PieceEnd(text, begin);
            ranges.push_back({ begin, end, true });
            begin = end;
        }
        return {};
    }
    if (!m_compiled) {
        findLiteral(text, m_literal, ranges);
        return {};
    }
    const MatchState state(m_compiled->code);
    const auto deadline = std::chrono::steady_clock::now() + kTimeLimit;
    std::size_t done = 0;
    std::size_t position = 0;
    bool matchedBefore = false;
    while (position <= text.size() && !text.empty()) {
        int count = pcre2_match(m_compiled->code, bytesOf(text), text.size(), position, PCRE2_NO_UTF_CHECK, state.data,
                                state.context);
        if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
            count = pcre2_match(m_compiled->code, bytesOf(text), text.size(), position,
                                PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.data, state.context);
        }
        if (count == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (count < 0 || std::chrono::steady_clock::now() > deadline) {
            return fail(Errc::TooLarge,
                        "the tokenizer's regular expression takes too many steps on this text; shorten the text or use "
                        "another tokenizer");
        }
        const PCRE2_SIZE* found = pcre2_get_ovector_pointer(state.data);
        const std::size_t begin = found[0];
        const std::size_t end = std::max<std::size_t>(found[1], begin);
        const bool emptyAfterMatch = begin == end && matchedBefore && begin == done;
        if (!emptyAfterMatch && begin >= done) {
            if (begin > done) {
                ranges.push_back({ done, begin, false });
            }
            ranges.push_back({ begin, end, true });
            done = end;
            matchedBefore = true;
        }
        if (end > position && begin != end) {
            position = end;
        } else {
            position = end < text.size() ? end + charLength(text[end]) : text.size() + 1;
        }
    }
    if (done < text.size()) {
        ranges.push_back({ done, text.size(), false });
    }
    return {};
}

std::size_t gpt2PieceEnd(std::string_view text, std::size_t begin)
{
    const auto runEnd = [&](std::size_t from, CharClass wanted) {
        while (from < text.size() && charClass(codePointAt(text, from)) == wanted) {
            from += charLength(text[from]);
        }
        return from;
    };
    if (text[begin] == '\'') {
        for (const std::string_view suffix : { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" }) {
            if (text.substr(begin, suffix.size()) == suffix) {
                return begin + suffix.size();
            }
        }
    }
    // A run of one class, with at most one space in front of it.
    const std::size_t start = text[begin] == ' ' && begin + 1 < text.size() ? begin + 1 : begin;
    const CharClass first = charClass(codePointAt(text, start));
    if (first != CharClass::Space) {
        return runEnd(start, first);
    }
    // White space leaves its last character to the run that follows.
    const std::size_t end = runEnd(begin, CharClass::Space);
    if (end < text.size()) {
        const std::size_t last = previousChar(text, end);
        if (last > begin) {
            return last;
        }
    }
    return end;
}

} // namespace rankwise::io::tokenizer
