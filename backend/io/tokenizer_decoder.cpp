// Decoders: how the strings of the tokens become text again.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_regex.h"
#include "backend/io/tokenizer_steps.h"

#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io::tokenizer {

namespace {

class SequenceDecoder : public Decoder {
public:
    explicit SequenceDecoder(std::vector<std::unique_ptr<const Decoder>> steps) : m_steps(std::move(steps)) { }
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        for (const auto& step : m_steps) {
            RW_TRY_VOID(step->apply(tokens));
        }
        return {};
    }

private:
    std::vector<std::unique_ptr<const Decoder>> m_steps;
};

class ByteLevelDecoder : public Decoder {
public:
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        std::string all;
        std::string bytes;
        for (const std::string& token : tokens) {
            bytes.clear();
            bool mapped = true;
            for (std::size_t i = 0; i < token.size() && mapped; i += charLength(token[i])) {
                const int byte = byteOfLevelChar(codePointAt(token, i));
                mapped = byte >= 0;
                bytes.push_back(static_cast<char>(byte));
            }
            all += mapped ? bytes : token; // A token with any other character is text already.
        }
        tokens.assign(1, lossyUtf8(all));
        return {};
    }
};

class ReplaceDecoder : public Decoder {
public:
    ReplaceDecoder(Pattern pattern, std::string content) : m_pattern(std::move(pattern)), m_content(std::move(content))
    {
    }
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        std::vector<MatchRange> ranges;
        for (std::string& token : tokens) {
            ranges.clear();
            RW_TRY_VOID(m_pattern.findAll(token, ranges));
            std::string out;
            for (const MatchRange& range : ranges) {
                if (range.matched) {
                    out += m_content;
                } else {
                    out.append(token, range.begin, range.end - range.begin);
                }
            }
            token = std::move(out);
        }
        return {};
    }

private:
    Pattern m_pattern;
    std::string m_content;
};

/// Runs of tokens like <0xE2> become the bytes they name, or one U+FFFD each when these are not UTF-8.
class ByteFallbackDecoder : public Decoder {
public:
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        std::vector<std::string> out;
        std::string bytes;
        const auto flush = [&] {
            if (isUtf8(bytes)) {
                if (!bytes.empty()) {
                    out.push_back(bytes);
                }
            } else {
                out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
            }
            bytes.clear();
        };
        for (std::string& token : tokens) {
            if (const auto byte = byteOf(token)) {
                bytes.push_back(*byte);
            } else {
                flush();
                out.push_back(std::move(token));
            }
        }
        flush();
        tokens = std::move(out);
        return {};
    }

private:
    static std::optional<char> byteOf(std::string_view token)
    {
        if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') {
            return std::nullopt;
        }
        unsigned value = 0;
        const auto parsed = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
        if (parsed.ec != std::errc() || parsed.ptr != token.data() + 5) {
            return std::nullopt;
        }
        return static_cast<char>(value);
    }
};

class FuseDecoder : public Decoder {
public:
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        std::string all;
        for (const std::string& token : tokens) {
            all += token;
        }
        tokens.assign(1, std::move(all));
        return {};
    }
};

/// Takes up to `start` and `stop` copies of one character off the ends of each token.
class StripDecoder : public Decoder {
public:
    StripDecoder(std::string content, std::int64_t start, std::int64_t stop)
        : m_content(std::move(content)), m_start(start), m_stop(stop)
    {
    }
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        for (std::string& token : tokens) {
            std::size_t begin = 0;
            std::size_t end = token.size();
            for (std::int64_t i = 0; i < m_start && token.compare(begin, m_content.size(), m_content) == 0; ++i) {
                begin += m_content.size();
            }
            const std::string_view view = token;
            for (std::int64_t i = 0; i < m_stop && end > begin && view.substr(0, end).ends_with(m_content); ++i) {
                end -= m_content.size();
            }
            token = token.substr(begin, end - begin);
        }
        return {};
    }

private:
    std::string m_content;
    std::int64_t m_start;
    std::int64_t m_stop;
};

class MetaspaceDecoder : public Decoder {
public:
    MetaspaceDecoder(std::string replacement, bool dropFirst)
        : m_replacement(std::move(replacement)), m_dropFirst(dropFirst)
    {
    }
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            std::string out;
            for (std::size_t at = 0; at < tokens[i].size();) {
                if (tokens[i].compare(at, m_replacement.size(), m_replacement) == 0) {
                    if (i > 0 || !m_dropFirst) {
                        out.push_back(' ');
                    }
                    at += m_replacement.size();
                } else {
                    out.push_back(tokens[i][at++]);
                }
            }
            tokens[i] = std::move(out);
        }
        return {};
    }

private:
    std::string m_replacement;
    bool m_dropFirst;
};

/// The end-of-word suffix becomes a space, except at the end.
class SuffixDecoder : public Decoder {
public:
    explicit SuffixDecoder(std::string suffix) : m_suffix(std::move(suffix)) { }
    Result<void> apply(std::vector<std::string>& tokens) const override
    {
        for (std::size_t i = 0; i < tokens.size() && !m_suffix.empty(); ++i) {
            const std::string_view space = i + 1 == tokens.size() ? "" : " ";
            for (std::size_t at = tokens[i].find(m_suffix); at != std::string::npos;
                 at = tokens[i].find(m_suffix, at + space.size())) {
                tokens[i].replace(at, m_suffix.size(), space);
            }
        }
        return {};
    }

private:
    std::string m_suffix;
};

using Made = std::unique_ptr<const Decoder>;

Result<Made> makeSequence(const Json& object, const StepSource& source)
{
    RW_TRY(const auto list, stepList(object, "decoders", source));
    std::vector<Made> steps;
    for (std::size_t i = 0; i < list.size(); ++i) {
        RW_TRY(auto step, makeDecoder(*list[i], elementSource(source, "decoders", i)));
        steps.push_back(std::move(step));
    }
    return std::make_unique<SequenceDecoder>(std::move(steps));
}

} // namespace

Result<std::unique_ptr<const Decoder>> makeDecoder(const Json& object, const StepSource& source)
{
    RW_TRY(const std::string type, stepType(object, source));
    FieldReader reader(object, source.file, source.path + ".");
    if (type == "Sequence") {
        return makeSequence(object, source);
    }
    if (type == "ByteLevel") {
        return Made(std::make_unique<ByteLevelDecoder>());
    }
    if (type == "ByteFallback") {
        return Made(std::make_unique<ByteFallbackDecoder>());
    }
    if (type == "Fuse") {
        return Made(std::make_unique<FuseDecoder>());
    }
    if (type == "Replace") {
        std::string content;
        reader.require("content", content);
        RW_TRY_VOID(reader.result());
        RW_TRY(Pattern pattern, makePattern(object, source));
        return Made(std::make_unique<ReplaceDecoder>(std::move(pattern), std::move(content)));
    }
    if (type == "Strip") {
        std::string content;
        std::int64_t start = 0;
        std::int64_t stop = 0;
        reader.require("content", content);
        reader.require("start", start, 0);
        reader.require("stop", stop, 0);
        if (content.empty() || charLength(content[0]) != content.size()) {
            reader.reject("content", "must be one character");
        }
        RW_TRY_VOID(reader.result());
        return Made(std::make_unique<StripDecoder>(std::move(content), start, stop));
    }
    if (type == "Metaspace") {
        std::string replacement;
        std::string scheme;
        bool addPrefixSpace = true;
        reader.require("replacement", replacement);
        reader.optional("prepend_scheme", scheme);
        reader.optional("add_prefix_space", addPrefixSpace);
        if (replacement.empty() || charLength(replacement[0]) != replacement.size()) {
            reader.reject("replacement", "must be one character");
        }
        RW_TRY_VOID(reader.result());
        const bool never = scheme.empty() ? !addPrefixSpace : scheme == "never";
        return Made(std::make_unique<MetaspaceDecoder>(std::move(replacement), !never));
    }
    if (type == "BPEDecoder") {
        std::string suffix = "</w>";
        reader.optional("suffix", suffix);
        RW_TRY_VOID(reader.result());
        return Made(std::make_unique<SuffixDecoder>(std::move(suffix)));
    }
    return fail(Errc::Unsupported, fmt::format("{}: the decoder \"{}\" is not supported", source.path, type),
                source.file);
}

} // namespace rankwise::io::tokenizer
