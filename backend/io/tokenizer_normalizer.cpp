// Normalizers: what happens to a text before it is cut.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_regex.h"
#include "backend/io/tokenizer_steps.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <utf8proc.h>

namespace rankwise::io::tokenizer {

namespace {

class SequenceNormalizer : public Normalizer {
public:
    explicit SequenceNormalizer(std::vector<std::unique_ptr<const Normalizer>> steps) : m_steps(std::move(steps)) { }
    Result<void> apply(TrackedText& text) const override
    {
        for (const auto& step : m_steps) {
            RW_TRY_VOID(step->apply(text));
        }
        return {};
    }

private:
    std::vector<std::unique_ptr<const Normalizer>> m_steps;
};

class PrependNormalizer : public Normalizer {
public:
    explicit PrependNormalizer(std::string prefix) : m_prefix(std::move(prefix)) { }
    Result<void> apply(TrackedText& text) const override
    {
        text.prepend(m_prefix);
        return {};
    }

private:
    std::string m_prefix;
};

class ReplaceNormalizer : public Normalizer {
public:
    ReplaceNormalizer(Pattern pattern, std::string content)
        : m_pattern(std::move(pattern)), m_content(std::move(content))
    {
    }
    Result<void> apply(TrackedText& text) const override
    {
        std::vector<MatchRange> ranges;
        RW_TRY_VOID(m_pattern.findAll(text.text, ranges));
        TrackedWriter writer(text);
        for (const MatchRange& range : ranges) {
            if (range.matched) {
                // The replacement stands for the last character it replaces.
                const std::size_t last = range.end > range.begin ? previousChar(text.text, range.end) : range.end;
                writer.replace(last, range.end, m_content);
            } else {
                writer.copy(range.begin, range.end);
            }
        }
        text = writer.take();
        return {};
    }

private:
    Pattern m_pattern;
    std::string m_content;
};

/// One of the four Unicode normalization forms.
class UnicodeNormalizer : public Normalizer {
public:
    explicit UnicodeNormalizer(int options) : m_options(static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE)) { }
    Result<void> apply(TrackedText& text) const override
    {
        const bool ascii = std::all_of(text.text.begin(), text.text.end(),
                                       [](char c) { return static_cast<unsigned char>(c) < 0x80; });
        if (ascii) {
            return {};
        }
        if (!text.tracked) {
            RW_TRY(text.text, mapped(text.text));
            return {};
        }
        TrackedWriter writer(text);
        for (std::size_t begin = 0; begin < text.text.size();) {
            const std::size_t end = stretchEnd(text.text, begin);
            RW_TRY_VOID(writeStretch(text.text, begin, end, writer));
            begin = end;
        }
        text = writer.take();
        return {};
    }

private:
    Result<std::string> mapped(std::string_view text) const
    {
        utf8proc_uint8_t* bytes = nullptr;
        const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &bytes, m_options);
        const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(bytes, &std::free);
        if (length < 0) {
            return fail(Errc::DataInvalid, "the text cannot be brought into a Unicode normalization form");
        }
        return std::string(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
    }

    /// Each character gives the origin of what it alone becomes; the whole stretch does where its characters interact.
    Result<void> writeStretch(const std::string& text, std::size_t begin, std::size_t end, TrackedWriter& writer) const
    {
        const std::string_view stretch = std::string_view(text).substr(begin, end - begin);
        RW_TRY(const std::string whole, mapped(stretch));
        std::vector<std::string> parts;
        std::string joined;
        for (std::size_t i = begin; i < end; i += charLength(text[i])) {
            RW_TRY(parts.emplace_back(), mapped(std::string_view(text).substr(i, charLength(text[i]))));
            joined += parts.back();
        }
        if (joined != whole) {
            writer.replace(begin, end, whole);
            return {};
        }
        for (const std::string& part : parts) {
            const std::size_t length = charLength(text[begin]);
            writer.replace(begin, begin + length, part);
            begin += length;
        }
        return {};
    }

    /// End of the characters from `begin` that no composition joins to what follows.
    static std::size_t stretchEnd(std::string_view text, std::size_t begin)
    {
        std::size_t end = begin + charLength(text[begin]);
        while (end < text.size()) {
            const std::uint32_t c = codePointAt(text, end);
            const bool hangulTail = c >= 0x1160 && c <= 0x11FF;
            const auto* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
            const bool mark = property->category == UTF8PROC_CATEGORY_MN || property->category == UTF8PROC_CATEGORY_MC
                || property->combining_class != 0;
            if (!hangulTail && !mark) {
                break;
            }
            end += charLength(text[end]);
        }
        return end;
    }

    utf8proc_option_t m_options;
};

/// Rewrites character by character.
template <class Map> class CharNormalizer : public Normalizer {
public:
    explicit CharNormalizer(Map map) : m_map(std::move(map)) { }
    Result<void> apply(TrackedText& text) const override
    {
        TrackedWriter writer(text);
        std::string mapped;
        for (std::size_t i = 0; i < text.text.size();) {
            const std::size_t length = charLength(text.text[i]);
            mapped.clear();
            m_map(codePointAt(text.text, i), mapped);
            writer.replace(i, i + length, mapped);
            i += length;
        }
        text = writer.take();
        return {};
    }

private:
    Map m_map;
};

template <class Map> std::unique_ptr<const Normalizer> charNormalizer(Map map)
{
    return std::make_unique<CharNormalizer<Map>>(std::move(map));
}

void appendLower(std::uint32_t c, std::string& out)
{
    if (c == 0x130) {
        out += "i\xCC\x87"; // The only capital whose lower case is two characters.
    } else {
        appendCodePoint(out, static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
}

void appendUnlessMark(std::uint32_t c, std::string& out)
{
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
    if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC && category != UTF8PROC_CATEGORY_ME) {
        appendCodePoint(out, c);
    }
}

class StripNormalizer : public Normalizer {
public:
    StripNormalizer(bool left, bool right) : m_left(left), m_right(right) { }
    Result<void> apply(TrackedText& text) const override
    {
        std::size_t begin = 0;
        std::size_t end = text.text.size();
        while (m_left && begin < end && isSpace(codePointAt(text.text, begin))) {
            begin += charLength(text.text[begin]);
        }
        while (m_right && end > begin) {
            const std::size_t last = previousChar(text.text, end);
            if (!isSpace(codePointAt(text.text, last))) {
                break;
            }
            end = last;
        }
        TrackedWriter writer(text);
        writer.copy(begin, end);
        text = writer.take();
        return {};
    }

private:
    bool m_left;
    bool m_right;
};

/// Each byte becomes the printable character that stands for it.
class ByteLevelNormalizer : public Normalizer {
public:
    Result<void> apply(TrackedText& text) const override
    {
        TrackedWriter writer(text);
        for (std::size_t i = 0; i < text.text.size(); ++i) {
            writer.replace(i, i + 1, byteLevelChar(static_cast<std::uint8_t>(text.text[i])));
        }
        text = writer.take();
        return {};
    }
};

Result<std::unique_ptr<const Normalizer>> makeSequence(const Json& object, const StepSource& source)
{
    RW_TRY(const auto list, stepList(object, "normalizers", source));
    std::vector<std::unique_ptr<const Normalizer>> steps;
    for (std::size_t i = 0; i < list.size(); ++i) {
        RW_TRY(auto step, makeNormalizer(*list[i], elementSource(source, "normalizers", i)));
        steps.push_back(std::move(step));
    }
    return std::make_unique<SequenceNormalizer>(std::move(steps));
}

} // namespace

Result<std::unique_ptr<const Normalizer>> makeNormalizer(const Json& object, const StepSource& source)
{
    using Made = std::unique_ptr<const Normalizer>;
    RW_TRY(const std::string type, stepType(object, source));
    FieldReader reader(object, source.file, source.path + ".");
    if (type == "Sequence") {
        return makeSequence(object, source);
    }
    if (type == "Prepend") {
        std::string prefix;
        reader.require("prepend", prefix);
        RW_TRY_VOID(reader.result());
        return Made(std::make_unique<PrependNormalizer>(std::move(prefix)));
    }
    if (type == "Replace") {
        std::string content;
        reader.require("content", content);
        RW_TRY_VOID(reader.result());
        RW_TRY(Pattern pattern, makePattern(object, source));
        return Made(std::make_unique<ReplaceNormalizer>(std::move(pattern), std::move(content)));
    }
    if (type == "Strip") {
        bool left = true;
        bool right = true;
        reader.require("strip_left", left);
        reader.require("strip_right", right);
        RW_TRY_VOID(reader.result());
        return Made(std::make_unique<StripNormalizer>(left, right));
    }
    if (type == "NFC") {
        return Made(std::make_unique<UnicodeNormalizer>(UTF8PROC_COMPOSE));
    }
    if (type == "NFD") {
        return Made(std::make_unique<UnicodeNormalizer>(UTF8PROC_DECOMPOSE));
    }
    if (type == "NFKC") {
        return Made(std::make_unique<UnicodeNormalizer>(UTF8PROC_COMPOSE | UTF8PROC_COMPAT));
    }
    if (type == "NFKD") {
        return Made(std::make_unique<UnicodeNormalizer>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT));
    }
    if (type == "Lowercase") {
        return charNormalizer(appendLower);
    }
    if (type == "StripAccents") {
        return charNormalizer(appendUnlessMark);
    }
    if (type == "ByteLevel") {
        return Made(std::make_unique<ByteLevelNormalizer>());
    }
    return fail(Errc::Unsupported, fmt::format("{}: the normalizer \"{}\" is not supported", source.path, type),
                source.file);
}

} // namespace rankwise::io::tokenizer
