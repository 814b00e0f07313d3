// Finding added tokens in a text. The order of the rules is that of AddedVocabulary of huggingface/tokenizers 0.22.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_added.h"

#include <algorithm>

namespace rankwise::io::tokenizer {

void StringMatcher::add(std::string_view text, std::size_t value)
{
    if (text.empty()) {
        return;
    }
    std::uint32_t node = 0;
    for (const char c : text) {
        const std::uint64_t key = std::uint64_t { node } << 8 | static_cast<unsigned char>(c);
        const auto [edge, isNew] = m_edges.try_emplace(key, static_cast<std::uint32_t>(m_nodes.size()));
        if (isNew) {
            m_nodes.push_back(kNoValue);
        }
        node = edge->second;
    }
    if (m_nodes[node] == kNoValue) {
        m_nodes[node] = value;
    }
    m_first[static_cast<unsigned char>(text[0])] = true;
}

std::optional<StringMatcher::Match> StringMatcher::findFrom(std::string_view text, std::size_t position) const
{
    for (; position < text.size(); ++position) {
        if (!m_first[static_cast<unsigned char>(text[position])]) {
            continue;
        }
        std::optional<Match> longest;
        std::uint32_t node = 0;
        for (std::size_t end = position; end < text.size(); ++end) {
            const auto edge = m_edges.find(std::uint64_t { node } << 8 | static_cast<unsigned char>(text[end]));
            if (edge == m_edges.end()) {
                break;
            }
            node = edge->second;
            if (m_nodes[node] != kNoValue) {
                longest = Match { position, end + 1, m_nodes[node] };
            }
        }
        if (longest) {
            return longest;
        }
    }
    return std::nullopt;
}

bool AddedTokens::add(AddedToken token)
{
    if (const auto known = m_byContent.find(token.content); known != m_byContent.end()) {
        m_tokens[known->second].special = m_tokens[known->second].special || token.special;
        return false;
    }
    m_byContent.emplace(token.content, m_tokens.size());
    m_byId.insert_or_assign(token.id, m_tokens.size());
    m_largest = std::max(m_largest, token.id);
    m_tokens.push_back(std::move(token));
    return true;
}

const AddedToken* AddedTokens::find(std::string_view content) const
{
    const auto found = m_byContent.find(std::string(content));
    return found == m_byContent.end() ? nullptr : &m_tokens[found->second];
}

const AddedToken* AddedTokens::withId(TokenId id) const
{
    const auto found = m_byId.find(id);
    return found == m_byId.end() ? nullptr : &m_tokens[found->second];
}

TokenId AddedTokens::nextId(TokenId low) const
{
    return std::max(m_largest + 1, low);
}

void AddedTokens::index(const AddedToken& token, std::string_view pattern)
{
    (token.normalized ? m_normalized : m_raw).add(pattern, m_byContent.at(token.content));
}

void AddedTokens::split(std::string_view text, bool normalized, std::vector<Segment>& segments) const
{
    const StringMatcher& matcher = normalized ? m_normalized : m_raw;
    std::size_t done = 0;
    std::size_t position = 0;
    while (const auto match = matcher.findFrom(text, position)) {
        position = match->end;
        const AddedToken& token = m_tokens[match->value];
        std::size_t begin = match->begin;
        std::size_t end = match->end;
        if (token.singleWord) {
            const bool wordBefore = begin > 0 && isWordChar(codePointAt(text, previousChar(text, begin)));
            const bool wordAfter = end < text.size() && isWordChar(codePointAt(text, end));
            if (wordBefore || wordAfter) {
                continue;
            }
        }
        while (token.stripLeft && begin > done) {
            const std::size_t previous = previousChar(text, begin);
            if (!isSpace(codePointAt(text, previous))) {
                break;
            }
            begin = std::max(previous, done);
        }
        while (token.stripRight && end < text.size() && isSpace(codePointAt(text, end))) {
            end += charLength(text[end]);
        }
        begin = std::max(begin, done);
        if (end <= done) {
            continue; // Inside the white space that an earlier token took.
        }
        if (begin > done) {
            segments.push_back({ done, begin });
        }
        segments.push_back({ begin, end, token.id });
        done = end;
    }
    if (done < text.size()) {
        segments.push_back({ done, text.size() });
    }
}

} // namespace rankwise::io::tokenizer
