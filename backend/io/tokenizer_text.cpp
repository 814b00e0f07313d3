// UTF-8, character classes and tracked strings of the tokenizers.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_text.h"

#include <array>

#include <utf8proc.h>

namespace rankwise::io::tokenizer {

namespace {

constexpr std::uint32_t kReplacement = 0xFFFD;

/// Length of the well-formed character at the start of `text`, or 0; `bad` gets the length of the ill-formed part.
std::size_t wellFormedLength(std::string_view text, std::size_t& bad)
{
    const auto byte = [&](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
    };
    const unsigned lead = byte(0);
    bad = 1;
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return 0;
    }
    const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte(1) < low || byte(1) > high) {
        return 0;
    }
    for (std::size_t i = 2; i < length; ++i) {
        bad = i;
        if ((byte(i) & 0xC0u) != 0x80u) {
            return 0;
        }
    }
    return length;
}

struct ByteLevelTable {
    std::array<std::string, 256> chars;
    std::array<std::int16_t, 0x144> bytes;

    ByteLevelTable()
    {
        bytes.fill(-1);
        std::uint32_t next = 256;
        for (std::uint32_t b = 0; b < 256; ++b) {
            const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            const std::uint32_t codePoint = printable ? b : next++;
            appendCodePoint(chars[b], codePoint);
            bytes[codePoint] = static_cast<std::int16_t>(b);
        }
    }
};

const ByteLevelTable& byteLevelTable()
{
    static const ByteLevelTable table;
    return table;
}

CharClass classify(std::uint32_t codePoint)
{
    if (isSpace(codePoint)) {
        return CharClass::Space;
    }
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(codePoint))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CharClass::Letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CharClass::Number;
    default:
        return CharClass::Other;
    }
}

} // namespace

bool isUtf8(std::string_view text)
{
    std::size_t position = 0;
    std::size_t bad = 0;
    while (position < text.size()) {
        if (static_cast<unsigned char>(text[position]) < 0x80) {
            ++position;
            continue;
        }
        const std::size_t length = wellFormedLength(text.substr(position), bad);
        if (length == 0) {
            return false;
        }
        position += length;
    }
    return true;
}

std::string lossyUtf8(std::string_view bytes)
{
    std::string out;
    out.reserve(bytes.size());
    for (std::size_t position = 0; position < bytes.size();) {
        std::size_t bad = 0;
        const std::size_t length = wellFormedLength(bytes.substr(position), bad);
        if (length == 0) {
            appendCodePoint(out, kReplacement);
            position += bad;
        } else {
            out.append(bytes, position, length);
            position += length;
        }
    }
    return out;
}

void appendCodePoint(std::string& text, std::uint32_t codePoint)
{
    std::array<utf8proc_uint8_t, 4> bytes {};
    const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(codePoint), bytes.data());
    for (utf8proc_ssize_t i = 0; i < length; ++i) {
        text.push_back(static_cast<char>(bytes[static_cast<std::size_t>(i)]));
    }
}

CharClass charClass(std::uint32_t codePoint)
{
    static const auto latin = [] {
        std::array<CharClass, 0x500> table {};
        for (std::uint32_t i = 0; i < table.size(); ++i) {
            table[i] = classify(i);
        }
        return table;
    }();
    return codePoint < latin.size() ? latin[codePoint] : classify(codePoint);
}

bool isSpace(std::uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680
        || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool isNumeric(std::uint32_t codePoint)
{
    return charClass(codePoint) == CharClass::Number;
}

bool isWordChar(std::uint32_t codePoint)
{
    const bool enclosedLetter = (codePoint >= 0x24B6 && codePoint <= 0x24E9)
        || (codePoint >= 0x1F130 && codePoint <= 0x1F149) || (codePoint >= 0x1F150 && codePoint <= 0x1F169)
        || (codePoint >= 0x1F170 && codePoint <= 0x1F189);
    if (enclosedLetter || codePoint == 0x200C || codePoint == 0x200D) {
        return true; // Other_Alphabetic and Join_Control.
    }
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(codePoint))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return false;
    }
}

bool isPunctuation(std::uint32_t c)
{
    if (c < 0x80) {
        return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60)
            || (c >= 0x7B && c <= 0x7E);
    }
    switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return true;
    default:
        return false;
    }
}

std::string_view byteLevelChar(std::uint8_t byte)
{
    return byteLevelTable().chars[byte];
}

int byteOfLevelChar(std::uint32_t codePoint)
{
    const auto& bytes = byteLevelTable().bytes;
    return codePoint < bytes.size() ? bytes[codePoint] : -1;
}

TrackedText TrackedText::fromInput(std::string_view input, std::size_t begin, bool tracked)
{
    TrackedText result { .text = std::string(input), .origin = {}, .tracked = tracked };
    if (tracked) {
        result.origin.reserve(input.size());
        for (std::size_t i = 0; i < input.size();) {
            const std::size_t length = charLength(input[i]);
            result.origin.insert(result.origin.end(), length, { begin + i, begin + i + length });
            i += length;
        }
    }
    return result;
}

void TrackedText::prepend(std::string_view prefix)
{
    if (text.empty()) {
        return;
    }
    text.insert(0, prefix);
    if (tracked) {
        const TextRange first = origin.front();
        origin.insert(origin.begin(), prefix.size(), first);
    }
}

TrackedWriter::TrackedWriter(const TrackedText& source) : m_source(source)
{
    m_out.tracked = source.tracked;
    m_out.text.reserve(source.text.size() + source.text.size() / 4);
    if (source.tracked) {
        m_out.origin.reserve(m_out.text.capacity());
    }
}

void TrackedWriter::copy(std::size_t begin, std::size_t end)
{
    m_out.text.append(m_source.text, begin, end - begin);
    if (m_out.tracked) {
        const auto first = m_source.origin.begin();
        m_out.origin.insert(m_out.origin.end(), first + static_cast<std::ptrdiff_t>(begin),
                            first + static_cast<std::ptrdiff_t>(end));
    }
}

void TrackedWriter::replace(std::size_t begin, std::size_t end, std::string_view text)
{
    m_out.text.append(text);
    if (m_out.tracked) {
        TextRange range;
        if (begin < end) {
            range = m_source.inputRange(begin, end);
        } else if (begin > 0) {
            range = m_source.origin[begin - 1];
        }
        m_out.origin.insert(m_out.origin.end(), text.size(), range);
    }
}

} // namespace rankwise::io::tokenizer
