// Encoding and decoding: added tokens, normalizer, pre-tokenizer, model, template, truncation, padding.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer.h"

#include "backend/base/log.h"
#include "backend/io/tokenizer_data.h"

#include <algorithm>

#include <fmt/format.h>

namespace rankwise::io {

using tokenizer::Segment;
using tokenizer::TrackedText;

namespace {

constexpr std::size_t kMaxTextBytes = std::size_t { 64 } << 20;

/// Ids and, if asked for, ranges of a text before the template.
struct RawEncoding {
    std::vector<TokenId> ids;
    std::vector<TextRange> offsets;
};

void replaceAll(std::string& text, std::string_view from, std::string_view to)
{
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

/// What transformers does to decoded text under clean_up_tokenization_spaces.
void cleanUpSpaces(std::string& text)
{
    static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
        { " .", "." },     { " ?", "?" },   { " !", "!" },   { " ,", "," },     { " ' ", "'" },
        { " n't", "n't" }, { " 'm", "'m" }, { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" }
    };
    for (const auto& [from, to] : kRules) {
        replaceAll(text, from, to);
    }
}

/// Encodes one text; lives for one call.
class TextEncoder {
public:
    TextEncoder(const Tokenizer::Data& data, bool withOffsets) : m_data(data), m_withOffsets(withOffsets) { }

    Result<RawEncoding> run(std::string_view text)
    {
        m_input = text;
        m_out.ids.reserve(text.size() / 3 + 4);
        std::vector<Segment> segments;
        m_data.added.split(text, false, segments);
        for (const Segment& segment : segments) {
            if (segment.id) {
                push(*segment.id, { segment.begin, segment.end });
            } else {
                RW_TRY_VOID(encodeInput(text.substr(segment.begin, segment.end - segment.begin), segment.begin));
            }
        }
        return std::move(m_out);
    }

private:
    void push(TokenId id, const TextRange& range)
    {
        m_out.ids.push_back(id);
        if (m_withOffsets) {
            m_out.offsets.push_back(range);
        }
    }

    Result<void> encodeInput(std::string_view input, std::size_t begin)
    {
        if (m_data.sentencePiece) {
            return m_data.sentencePiece->encode(input, begin, m_out.ids, m_withOffsets ? &m_out.offsets : nullptr);
        }
        TrackedText text = TrackedText::fromInput(input, begin, m_withOffsets);
        if (m_data.normalizer) {
            RW_TRY_VOID(m_data.normalizer->apply(text));
        }
        if (!m_data.added.anyNormalized()) {
            return encodeNormalized(std::move(text), begin == 0);
        }
        std::vector<Segment> segments;
        m_data.added.split(text.text, true, segments);
        for (const Segment& segment : segments) {
            if (segment.id) {
                push(*segment.id, m_withOffsets ? text.inputRange(segment.begin, segment.end) : TextRange {});
                continue;
            }
            tokenizer::TrackedWriter part(text);
            part.copy(segment.begin, segment.end);
            RW_TRY_VOID(encodeNormalized(part.take(), begin == 0 && segment.begin == 0));
        }
        return {};
    }

    Result<void> encodeNormalized(TrackedText text, bool startsInput)
    {
        if (text.text.empty()) {
            return {};
        }
        tokenizer::PieceText pieces { .buffer = std::move(text), .pieces = {}, .startsInput = startsInput };
        pieces.pieces.push_back({ 0, pieces.buffer.text.size() });
        if (m_data.preTokenizer) {
            RW_TRY_VOID(m_data.preTokenizer->apply(pieces));
        }
        const std::string_view all = pieces.buffer.text;
        for (const TextRange& piece : pieces.pieces) {
            m_tokens.clear();
            RW_TRY_VOID(m_data.bpe->tokenize(all.substr(piece.begin, piece.end - piece.begin), m_tokens));
            std::size_t position = piece.begin;
            for (const tokenizer::PieceToken& token : m_tokens) {
                m_out.ids.push_back(token.id);
                if (m_withOffsets) {
                    m_out.offsets.push_back(
                        offsetOf(pieces.buffer, position, std::min(position + token.length, piece.end)));
                }
                position = std::min<std::size_t>(position + token.length, piece.end);
            }
        }
        return {};
    }

    TextRange offsetOf(const TrackedText& text, std::size_t begin, std::size_t end) const
    {
        if (begin == end) {
            return {}; // A prefix or suffix that fell back to bytes stands for no text.
        }
        TextRange range = text.inputRange(begin, end);
        if (!m_data.trimOffsets) {
            return range;
        }
        static const std::string_view kSpace = tokenizer::byteLevelChar(' ');
        const std::string_view token = std::string_view(text.text).substr(begin, end - begin);
        const auto isSpaceAt = [&](std::size_t at) { return token.substr(at, kSpace.size()) == kSpace; };
        std::size_t leading = 0;
        while (isSpaceAt(leading * kSpace.size())) {
            ++leading;
        }
        std::size_t trailing = 0;
        while ((trailing + 1) * kSpace.size() <= token.size()
               && isSpaceAt(token.size() - (trailing + 1) * kSpace.size())) {
            ++trailing;
        }
        if (m_data.trimKeepsPrefix && (m_out.ids.size() == 1 || range.begin == 0)) {
            leading = 0;
        }
        for (; leading > 0 && range.begin < range.end; --leading) {
            range.begin += tokenizer::charLength(m_input[range.begin]);
        }
        for (; trailing > 0 && range.end > range.begin; --trailing) {
            range.end = tokenizer::previousChar(m_input, range.end);
        }
        return range;
    }

    const Tokenizer::Data& m_data;
    bool m_withOffsets;
    std::string_view m_input;
    RawEncoding m_out;
    std::vector<tokenizer::PieceToken> m_tokens;
};

template <class T> void cut(std::vector<T>& values, std::size_t length, Side side)
{
    if (values.size() <= length) {
        return;
    }
    const auto excess = static_cast<std::ptrdiff_t>(values.size() - length);
    if (side == Side::Left) {
        values.erase(values.begin(), values.begin() + excess);
    } else {
        values.erase(values.end() - excess, values.end());
    }
}

template <class T> void padWith(std::vector<T>& values, std::size_t length, Side side, const T& value)
{
    if (values.size() < length) {
        values.insert(side == Side::Left ? values.begin() : values.end(), length - values.size(), value);
    }
}

void pad(Encoding& encoding, std::size_t length, Side side, TokenId id)
{
    const bool withOffsets = encoding.offsets.size() == encoding.ids.size();
    padWith(encoding.ids, length, side, id);
    padWith(encoding.attentionMask, length, side, std::uint8_t { 0 });
    if (withOffsets) {
        padWith(encoding.offsets, length, side, TextRange {});
    }
}

std::size_t roundedUp(std::size_t length, std::int64_t multiple)
{
    const auto unit = static_cast<std::size_t>(std::max<std::int64_t>(multiple, 1));
    return (length + unit - 1) / unit * unit;
}

/// Puts the template around the text.
Encoding assemble(const std::vector<TemplatePiece>& pieces, RawEncoding raw, bool withOffsets)
{
    Encoding out;
    for (const TemplatePiece& piece : pieces) {
        const auto& ids = piece.isText ? raw.ids : piece.ids;
        out.ids.insert(out.ids.end(), ids.begin(), ids.end());
        if (!withOffsets) {
            continue;
        }
        if (piece.isText) {
            out.offsets.insert(out.offsets.end(), raw.offsets.begin(), raw.offsets.end());
        } else {
            out.offsets.resize(out.ids.size());
        }
    }
    out.attentionMask.assign(out.ids.size(), 1);
    return out;
}

} // namespace

std::optional<TokenId> Tokenizer::Data::modelTokenToId(std::string_view token) const
{
    if (sentencePiece) {
        return sentencePiece->pieceToId(token);
    }
    const auto id = bpe->vocabulary().find(token);
    return id ? std::optional<TokenId>(*id) : std::nullopt;
}

std::optional<std::string> Tokenizer::Data::modelIdToToken(TokenId id) const
{
    if (id < 0) {
        return std::nullopt;
    }
    if (sentencePiece) {
        return sentencePiece->idToPiece(id);
    }
    const auto token = bpe->vocabulary().tokenOf(static_cast<std::uint64_t>(id));
    return token ? std::optional<std::string>(*token) : std::nullopt;
}

Result<Encoding> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const
{
    if (text.size() > kMaxTextBytes) {
        return fail(Errc::TooLarge,
                    fmt::format("a text of {} bytes; at most {} can be encoded", text.size(), kMaxTextBytes));
    }
    if (!tokenizer::isUtf8(text)) {
        return fail(Errc::DataInvalid, "the text is not UTF-8");
    }
    RW_TRY(RawEncoding raw, TextEncoder(*m_data, options.offsets).run(text));

    static const std::vector<TemplatePiece> kBare { { true, {} } };
    const auto& pieces = options.addSpecialTokens ? m_data->aroundText : kBare;
    if (options.maxLength > 0) {
        std::size_t around = 0;
        for (const TemplatePiece& piece : pieces) {
            around += piece.ids.size();
        }
        const auto limit = static_cast<std::size_t>(options.maxLength);
        if (limit < around) {
            return fail(Errc::FieldInvalid,
                        fmt::format("a maximum of {} tokens leaves no room for {} special ones", limit, around));
        }
        const Side side = options.truncationSide.value_or(m_data->truncationSide);
        cut(raw.ids, limit - around, side);
        cut(raw.offsets, limit - around, side);
    }
    Encoding encoding = assemble(pieces, std::move(raw), options.offsets);
    if (options.padTo > 0 || options.padToMultipleOf > 1) {
        const auto least =
            std::max(encoding.ids.size(), static_cast<std::size_t>(std::max<std::int64_t>(options.padTo, 0)));
        pad(encoding, roundedUp(least, options.padToMultipleOf), options.paddingSide.value_or(m_data->paddingSide),
            options.padId.value_or(m_data->special.pad.value_or(0)));
    }
    return encoding;
}

Result<std::vector<Encoding>> Tokenizer::encodeBatch(std::span<const std::string> texts, const EncodeOptions& options,
                                                     bool padToLongest) const
{
    std::vector<Encoding> encodings;
    encodings.reserve(texts.size());
    std::size_t longest = 0;
    for (const std::string& text : texts) {
        RW_TRY(Encoding encoding, encode(text, options));
        longest = std::max(longest, encoding.ids.size());
        encodings.push_back(std::move(encoding));
    }
    if (padToLongest) {
        for (Encoding& encoding : encodings) {
            pad(encoding, longest, options.paddingSide.value_or(m_data->paddingSide),
                options.padId.value_or(m_data->special.pad.value_or(0)));
        }
    }
    return encodings;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skipSpecial) const
{
    std::string text;
    if (m_data->sentencePiece) {
        std::vector<TokenId> run;
        const auto flush = [&] {
            text += m_data->sentencePiece->decode(run);
            run.clear();
        };
        for (const TokenId id : ids) {
            const auto* added = m_data->added.withId(id);
            if (skipSpecial && isSpecial(id)) {
                continue;
            }
            if (added != nullptr) {
                flush();
                text += added->content;
            } else {
                run.push_back(id);
            }
        }
        flush();
    } else {
        std::vector<std::string> tokens;
        tokens.reserve(ids.size());
        for (const TokenId id : ids) {
            auto token = idToToken(id);
            if (token && !(skipSpecial && isSpecial(id))) {
                tokens.push_back(std::move(*token));
            }
        }
        if (m_data->decoder) {
            // Only a regular expression over its limit can fail here; the tokens stay as they are then.
            if (const auto decoded = m_data->decoder->apply(tokens); !decoded) {
                log::warn("io", "decoding: {}", decoded.error().describe());
            }
        }
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            text += (i > 0 && !m_data->decoder) ? " " + tokens[i] : tokens[i];
        }
    }
    if (m_data->cleanUpSpaces) {
        cleanUpSpaces(text);
    }
    return text;
}

std::int64_t Tokenizer::vocabSize() const
{
    return m_data->vocabSize;
}

std::int64_t Tokenizer::modelVocabSize() const
{
    return m_data->modelVocabSize();
}

std::optional<TokenId> Tokenizer::tokenToId(std::string_view token) const
{
    if (const auto* added = m_data->added.find(token)) {
        return added->id;
    }
    return m_data->modelTokenToId(token);
}

std::optional<std::string> Tokenizer::idToToken(TokenId id) const
{
    if (const auto* added = m_data->added.withId(id)) {
        return added->content;
    }
    return m_data->modelIdToToken(id);
}

bool Tokenizer::isSpecial(TokenId id) const
{
    if (const auto* added = m_data->added.withId(id)) {
        return added->special;
    }
    return m_data->sentencePiece && m_data->sentencePiece->isControl(id);
}

const SpecialTokens& Tokenizer::specialTokens() const
{
    return m_data->special;
}

Side Tokenizer::truncationSide() const
{
    return m_data->truncationSide;
}

Side Tokenizer::paddingSide() const
{
    return m_data->paddingSide;
}

const EncodeOptions& Tokenizer::fileOptions() const
{
    return m_data->fileOptions;
}

} // namespace rankwise::io
