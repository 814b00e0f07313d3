// Text on its way through a tokenizer: UTF-8 walking, character classes, and strings whose bytes
// remember which bytes of the input they come from. Internal to the tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/io/tokenizer.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::io::tokenizer {

/// True if `text` is UTF-8 as of RFC 3629 (no surrogates, no overlong forms).
[[nodiscard]] bool isUtf8(std::string_view text);

/// Replaces every maximal ill-formed part by U+FFFD, as the WHATWG decoder does.
[[nodiscard]] std::string lossyUtf8(std::string_view bytes);

/// Bytes of the character whose first byte is `lead`; well-formed text only.
[[nodiscard]] inline std::size_t charLength(char lead)
{
    const auto byte = static_cast<unsigned char>(lead);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The code point that starts at `position`; well-formed text only.
[[nodiscard]] inline std::uint32_t codePointAt(std::string_view text, std::size_t position)
{
    const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
    const std::uint32_t lead = byte(position);
    if (lead < 0x80) {
        return lead;
    }
    if (lead < 0xE0) {
        return (lead & 0x1Fu) << 6 | (byte(position + 1) & 0x3Fu);
    }
    if (lead < 0xF0) {
        return (lead & 0x0Fu) << 12 | (byte(position + 1) & 0x3Fu) << 6 | (byte(position + 2) & 0x3Fu);
    }
    return (lead & 0x07u) << 18 | (byte(position + 1) & 0x3Fu) << 12 | (byte(position + 2) & 0x3Fu) << 6
        | (byte(position + 3) & 0x3Fu);
}

/// Start of the character that ends before `position` > 0.
[[nodiscard]] inline std::size_t previousChar(std::string_view text, std::size_t position)
{
    do {
        --position;
    } while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0u) == 0x80u);
    return position;
}

void appendCodePoint(std::string& text, std::uint32_t codePoint);

/// Coarse class of a character, as the expressions of the tokenizers ask for it.
enum class CharClass : std::uint8_t { Letter, Number, Space, Other };

[[nodiscard]] CharClass charClass(std::uint32_t codePoint);
[[nodiscard]] bool isSpace(std::uint32_t codePoint);       ///< White_Space of Unicode.
[[nodiscard]] bool isNumeric(std::uint32_t codePoint);     ///< Categories Nd, Nl, No.
[[nodiscard]] bool isWordChar(std::uint32_t codePoint);    ///< \w: letters, marks, digits, connectors.
[[nodiscard]] bool isPunctuation(std::uint32_t codePoint); ///< Categories P*, and ASCII punctuation.

/// The printable character that stands for a byte in byte-level vocabularies (the table of GPT-2), as UTF-8.
[[nodiscard]] std::string_view byteLevelChar(std::uint8_t byte);
/// The byte of such a character, or -1.
[[nodiscard]] int byteOfLevelChar(std::uint32_t codePoint);

/// A string that, when tracked, knows for each byte the range of the input it stands for.
struct TrackedText {
    std::string text;
    std::vector<TextRange> origin; ///< One for each byte when tracked, else empty.
    bool tracked = false;

    /// The input itself, at `begin` in the whole text.
    [[nodiscard]] static TrackedText fromInput(std::string_view input, std::size_t begin, bool tracked);

    /// Puts `prefix` in front; it shares the origin of the first character. Nothing happens to an empty text.
    void prepend(std::string_view prefix);
    /// Input range of the bytes [begin, end) of the text, begin < end.
    [[nodiscard]] TextRange inputRange(std::size_t begin, std::size_t end) const
    {
        return { origin[begin].begin, origin[end - 1].end };
    }
};

/// Builds a TrackedText from another one, piece by piece.
class TrackedWriter {
public:
    explicit TrackedWriter(const TrackedText& source);

    void copy(std::size_t begin, std::size_t end);
    /// Appends `text` with the origin of the source bytes [begin, end); an empty range takes that of the byte before.
    void replace(std::size_t begin, std::size_t end, std::string_view text);
    [[nodiscard]] std::size_t size() const { return m_out.text.size(); }
    [[nodiscard]] TrackedText take() { return std::move(m_out); }

private:
    const TrackedText& m_source;
    TrackedText m_out;
};

} // namespace rankwise::io::tokenizer
