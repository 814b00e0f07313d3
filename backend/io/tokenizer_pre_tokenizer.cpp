// Pre-tokenizers: how a text is cut into the pieces that the model merges within.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_regex.h"
#include "backend/io/tokenizer_steps.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io::tokenizer {

namespace {

/// What happens to the matches when a text is cut at them.
enum class Behavior : std::uint8_t { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

/// Joins the ranges as `behavior` says and drops what is removed. Ranges are consecutive.
void joinRanges(std::vector<MatchRange>& ranges, Behavior behavior)
{
    if (behavior == Behavior::Isolated) {
        return;
    }
    if (behavior == Behavior::Removed) {
        std::erase_if(ranges, [](const MatchRange& range) { return range.matched; });
        return;
    }
    const bool backward = behavior == Behavior::MergedWithNext;
    if (backward) {
        std::reverse(ranges.begin(), ranges.end());
    }
    std::vector<MatchRange> joined;
    bool previous = false;
    for (const MatchRange& range : ranges) {
        const bool join = behavior == Behavior::Contiguous ? range.matched == previous : range.matched && !previous;
        if (join && !joined.empty()) {
            joined.back().begin = std::min(joined.back().begin, range.begin);
            joined.back().end = std::max(joined.back().end, range.end);
        } else {
            joined.push_back(range);
        }
        previous = range.matched;
    }
    if (backward) {
        std::reverse(joined.begin(), joined.end());
    }
    ranges = std::move(joined);
}

/// Cuts every piece by `find(view, ranges)`.
template <class Find> Result<void> splitPieces(PieceText& text, Behavior behavior, const Find& find)
{
    std::vector<TextRange> pieces;
    pieces.reserve(text.pieces.size() * 2);
    std::vector<MatchRange> ranges;
    const std::string_view all = text.buffer.text;
    for (const TextRange& piece : text.pieces) {
        ranges.clear();
        RW_TRY_VOID(find(all.substr(piece.begin, piece.end - piece.begin), ranges));
        joinRanges(ranges, behavior);
        for (const MatchRange& range : ranges) {
            if (range.end > range.begin) {
                pieces.push_back({ piece.begin + range.begin, piece.begin + range.end });
            }
        }
    }
    text.pieces = std::move(pieces);
    return {};
}

/// Rewrites every piece into a new buffer by `rewrite(piece, writer)`.
template <class Rewrite> void rewritePieces(PieceText& text, const Rewrite& rewrite)
{
    TrackedWriter writer(text.buffer);
    for (TextRange& piece : text.pieces) {
        const std::size_t begin = writer.size();
        rewrite(piece, writer);
        piece = { begin, writer.size() };
    }
    text.buffer = writer.take();
    std::erase_if(text.pieces, [](const TextRange& piece) { return piece.begin == piece.end; });
}

/// The first character of a piece, as a range, to give inserted text its origin.
TextRange firstChar(const PieceText& text, const TextRange& piece)
{
    return { piece.begin, piece.begin + charLength(text.buffer.text[piece.begin]) };
}

class SequencePreTokenizer : public PreTokenizer {
public:
    explicit SequencePreTokenizer(std::vector<std::unique_ptr<const PreTokenizer>> steps)
        : m_steps(std::move(steps)) { }
    Result<void> apply(PieceText& text) const override
    {
        for (const auto& step : m_steps) {
            RW_TRY_VOID(step->apply(text));
        }
        return {};
    }

private:
    std::vector<std::unique_ptr<const PreTokenizer>> m_steps;
};

class SplitPreTokenizer : public PreTokenizer {
public:
    SplitPreTokenizer(Pattern pattern, Behavior behavior, bool invert)
        : m_pattern(std::move(pattern)), m_behavior(behavior), m_invert(invert)
    {
    }
    Result<void> apply(PieceText& text) const override
    {
        return splitPieces(text, m_behavior,
                           [&](std::string_view view, std::vector<MatchRange>& ranges) -> Result<void> {
                               RW_TRY_VOID(m_pattern.findAll(view, ranges));
                               if (m_invert) {
                                   for (MatchRange& range : ranges) {
                                       range.matched = !range.matched;
                                   }
                               }
                               return {};
                           });
    }

private:
    Pattern m_pattern;
    Behavior m_behavior;
    bool m_invert;
};

/// Cuts at the characters that a predicate names.
class CharSplitPreTokenizer : public PreTokenizer {
public:
    using Predicate = std::function<bool(std::uint32_t)>;

    CharSplitPreTokenizer(Predicate matches, Behavior behavior)
        : m_matches(std::move(matches)), m_behavior(behavior) { }
    Result<void> apply(PieceText& text) const override
    {
        return splitPieces(text, m_behavior,
                           [&](std::string_view view, std::vector<MatchRange>& ranges) -> Result<void> {
                               std::size_t done = 0;
                               for (std::size_t i = 0; i < view.size();) {
                                   const std::size_t length = charLength(view[i]);
                                   if (m_matches(codePointAt(view, i))) {
                                       if (i > done) {
                                           ranges.push_back({ done, i, false });
                                       }
                                       ranges.push_back({ i, i + length, true });
                                       done = i + length;
                                   }
                                   i += length;
                               }
                               if (done < view.size()) {
                                   ranges.push_back({ done, view.size(), false });
                               }
                               return {};
                           });
    }

private:
    Predicate m_matches;
    Behavior m_behavior;
};

/// Cuts as GPT-2 does and writes every byte as the printable character that stands for it.
class ByteLevelPreTokenizer : public PreTokenizer {
public:
    ByteLevelPreTokenizer(bool addPrefixSpace, bool useRegex) : m_addPrefixSpace(addPrefixSpace), m_useRegex(useRegex)
    {
    }
    Result<void> apply(PieceText& text) const override
    {
        if (m_addPrefixSpace) {
            rewritePieces(text, [&](const TextRange& piece, TrackedWriter& writer) {
                if (text.buffer.text[piece.begin] != ' ') {
                    const TextRange first = firstChar(text, piece);
                    writer.replace(first.begin, first.end, " ");
                }
                writer.copy(piece.begin, piece.end);
            });
        }
        if (m_useRegex) {
            RW_TRY_VOID(splitPieces(text, Behavior::Isolated,
                                    [](std::string_view view, std::vector<MatchRange>& ranges) -> Result<void> {
                                        for (std::size_t begin = 0; begin < view.size();) {
                                            const std::size_t end = gpt2PieceEnd(view, begin);
                                            ranges.push_back({ begin, end, true });
                                            begin = end;
                                        }
                                        return {};
                                    }));
        }
        rewritePieces(text, [&](const TextRange& piece, TrackedWriter& writer) {
            for (std::size_t i = piece.begin; i < piece.end; ++i) {
                writer.replace(i, i + 1, byteLevelChar(static_cast<std::uint8_t>(text.buffer.text[i])));
            }
        });
        return {};
    }

private:
    bool m_addPrefixSpace;
    bool m_useRegex;
};

/// Spaces become a visible character, which starts each word.
class MetaspacePreTokenizer : public PreTokenizer {
public:
    enum class Prepend : std::uint8_t { Always, First, Never };

    MetaspacePreTokenizer(std::string replacement, Prepend prepend, bool split)
        : m_replacement(std::move(replacement)), m_pattern(Pattern::literal(m_replacement)), m_prepend(prepend),
          m_split(split)
    {
    }
    Result<void> apply(PieceText& text) const override
    {
        bool first = text.startsInput;
        rewritePieces(text, [&](const TextRange& piece, TrackedWriter& writer) {
            const std::string_view view(text.buffer.text.data() + piece.begin, piece.end - piece.begin);
            const bool wanted =
                m_prepend == Prepend::Always || (m_prepend == Prepend::First && first && piece.begin == 0);
            if (wanted && view.front() != ' ' && !view.starts_with(m_replacement)) {
                const TextRange start = firstChar(text, piece);
                writer.replace(start.begin, start.end, m_replacement);
            }
            std::size_t done = piece.begin;
            for (std::size_t i = piece.begin; i < piece.end; ++i) {
                if (text.buffer.text[i] == ' ') {
                    writer.copy(done, i);
                    writer.replace(i, i + 1, m_replacement);
                    done = i + 1;
                }
            }
            writer.copy(done, piece.end);
            first = false;
        });
        if (m_split) {
            return splitPieces(text, Behavior::MergedWithNext,
                               [&](std::string_view view, std::vector<MatchRange>& ranges) {
                                   return m_pattern.findAll(view, ranges);
                               });
        }
        return {};
    }

private:
    std::string m_replacement;
    Pattern m_pattern;
    Prepend m_prepend;
    bool m_split;
};

/// Runs of word characters, and runs of what is neither word nor white space, which is dropped.
class WhitespacePreTokenizer : public PreTokenizer {
public:
    Result<void> apply(PieceText& text) const override
    {
        return splitPieces(text, Behavior::Isolated,
                           [](std::string_view view, std::vector<MatchRange>& ranges) -> Result<void> {
                               Kind previous = Kind::Space;
                               for (std::size_t i = 0; i < view.size();) {
                                   const Kind kind = kindOf(codePointAt(view, i));
                                   const std::size_t next = i + charLength(view[i]);
                                   if (kind != Kind::Space && kind == previous) {
                                       ranges.back().end = next;
                                   } else if (kind != Kind::Space) {
                                       ranges.push_back({ i, next, true });
                                   }
                                   previous = kind;
                                   i = next;
                               }
                               return {};
                           });
    }

private:
    enum class Kind : std::uint8_t { Space, Word, Other };

    static Kind kindOf(std::uint32_t c) { return isWordChar(c) ? Kind::Word : isSpace(c) ? Kind::Space : Kind::Other; }
};

/// Pieces of a fixed number of characters.
class FixedLengthPreTokenizer : public PreTokenizer {
public:
    explicit FixedLengthPreTokenizer(std::int64_t length) : m_length(length) { }
    Result<void> apply(PieceText& text) const override
    {
        return splitPieces(text, Behavior::Isolated,
                           [&](std::string_view view, std::vector<MatchRange>& ranges) -> Result<void> {
                               std::size_t begin = 0;
                               std::int64_t count = 0;
                               for (std::size_t i = 0; i < view.size();) {
                                   i += charLength(view[i]);
                                   if (++count == m_length || i == view.size()) {
                                       ranges.push_back({ begin, i, true });
                                       begin = i;
                                       count = 0;
                                   }
                               }
                               return {};
                           });
    }

private:
    std::int64_t m_length;
};

using Made = std::unique_ptr<const PreTokenizer>;

Result<Behavior> readBehavior(const Json& object, const StepSource& source)
{
    std::string name;
    FieldReader reader(object, source.file, source.path + ".");
    reader.require("behavior", name);
    RW_TRY_VOID(reader.result());
    static constexpr std::pair<std::string_view, Behavior> kNames[] = {
        { "Removed", Behavior::Removed },
        { "Isolated", Behavior::Isolated },
        { "MergedWithPrevious", Behavior::MergedWithPrevious },
        { "MergedWithNext", Behavior::MergedWithNext },
        { "Contiguous", Behavior::Contiguous },
    };
    for (const auto& [known, behavior] : kNames) {
        if (name == known) {
            return behavior;
        }
    }
    return fail(Errc::FieldInvalid, fmt::format("{}.behavior \"{}\" is not known", source.path, name), source.file);
}

Result<Made> makeSequence(const Json& object, const StepSource& source)
{
    RW_TRY(const auto list, stepList(object, "pretokenizers", source));
    std::vector<Made> steps;
    for (std::size_t i = 0; i < list.size(); ++i) {
        RW_TRY(auto step, makePreTokenizer(*list[i], elementSource(source, "pretokenizers", i)));
        steps.push_back(std::move(step));
    }
    return std::make_unique<SequencePreTokenizer>(std::move(steps));
}

Result<Made> makeMetaspace(FieldReader& reader)
{
    using Prepend = MetaspacePreTokenizer::Prepend;
    std::string replacement = "\xE2\x96\x81";
    std::string scheme;
    bool addPrefixSpace = true;
    bool split = true;
    reader.require("replacement", replacement);
    reader.optional("add_prefix_space", addPrefixSpace);
    reader.optional("prepend_scheme", scheme);
    reader.optional("split", split);
    if (replacement.empty() || charLength(replacement[0]) != replacement.size()) {
        reader.reject("replacement", "must be one character");
    }
    Prepend prepend = addPrefixSpace ? Prepend::Always : Prepend::Never;
    if (scheme == "first") {
        prepend = Prepend::First;
    } else if (scheme == "never") {
        prepend = Prepend::Never;
    } else if (scheme == "always") {
        prepend = Prepend::Always;
    } else if (!scheme.empty()) {
        reader.reject("prepend_scheme", "must be always, first or never");
    }
    RW_TRY_VOID(reader.result());
    return std::make_unique<MetaspacePreTokenizer>(std::move(replacement), prepend, split);
}

Made charSplit(CharSplitPreTokenizer::Predicate predicate, Behavior behavior)
{
    return std::make_unique<CharSplitPreTokenizer>(std::move(predicate), behavior);
}

Result<Made> makeCharSplit(const std::string& type, const Json& object, const StepSource& source, FieldReader& reader)
{
    if (type == "Digits") {
        bool individual = false;
        reader.optional("individual_digits", individual);
        RW_TRY_VOID(reader.result());
        return charSplit(isNumeric, individual ? Behavior::Isolated : Behavior::Contiguous);
    }
    if (type == "Punctuation") {
        Behavior behavior = Behavior::Isolated;
        if (object.contains("behavior")) {
            RW_TRY(behavior, readBehavior(object, source));
        }
        return charSplit(isPunctuation, behavior);
    }
    if (type == "CharDelimiterSplit") {
        std::string delimiter;
        reader.require("delimiter", delimiter);
        if (delimiter.empty() || charLength(delimiter[0]) != delimiter.size()) {
            reader.reject("delimiter", "must be one character");
        }
        RW_TRY_VOID(reader.result());
        return charSplit([code = codePointAt(delimiter, 0)](std::uint32_t c) { return c == code; }, Behavior::Removed);
    }
    return charSplit(isSpace, Behavior::Removed); // WhitespaceSplit
}

} // namespace

Result<std::unique_ptr<const PreTokenizer>> makePreTokenizer(const Json& object, const StepSource& source)
{
    RW_TRY(const std::string type, stepType(object, source));
    FieldReader reader(object, source.file, source.path + ".");
    if (type == "Sequence") {
        return makeSequence(object, source);
    }
    if (type == "Split") {
        bool invert = false;
        reader.optional("invert", invert);
        RW_TRY_VOID(reader.result());
        RW_TRY(Pattern pattern, makePattern(object, source));
        RW_TRY(const Behavior behavior, readBehavior(object, source));
        return Made(std::make_unique<SplitPreTokenizer>(std::move(pattern), behavior, invert));
    }
    if (type == "ByteLevel") {
        bool addPrefixSpace = true;
        bool useRegex = true;
        reader.require("add_prefix_space", addPrefixSpace);
        reader.optional("use_regex", useRegex);
        RW_TRY_VOID(reader.result());
        return Made(std::make_unique<ByteLevelPreTokenizer>(addPrefixSpace, useRegex));
    }
    if (type == "Metaspace") {
        return makeMetaspace(reader);
    }
    if (type == "Digits" || type == "Punctuation" || type == "CharDelimiterSplit" || type == "WhitespaceSplit") {
        return makeCharSplit(type, object, source, reader);
    }
    if (type == "Whitespace") {
        return Made(std::make_unique<WhitespacePreTokenizer>());
    }
    if (type == "FixedLength") {
        std::int64_t length = 5;
        reader.optional("length", length, 1);
        RW_TRY_VOID(reader.result());
        return Made(std::make_unique<FixedLengthPreTokenizer>(length));
    }
    return fail(Errc::Unsupported, fmt::format("{}: the pre-tokenizer \"{}\" is not supported", source.path, type),
                source.file);
}

} // namespace rankwise::io::tokenizer
