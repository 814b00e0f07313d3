// Added tokens: strings that are cut out of a text before the model sees it. Internal to the tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/io/tokenizer_text.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rankwise::io::tokenizer {

struct AddedToken {
    std::string content;
    TokenId id = 0;
    bool singleWord = false; ///< Only between characters that are not of words.
    bool stripLeft = false;  ///< Takes the white space before it.
    bool stripRight = false; ///< Takes the white space after it.
    bool normalized = false; ///< Looked for after normalization, else in the input itself.
    bool special = false;
};

/// A stretch of text: an added token, or text for the model.
struct Segment {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::optional<TokenId> id {};
};

/// Finds the longest of a set of strings at the leftmost place.
class StringMatcher {
public:
    void add(std::string_view text, std::size_t value);
    [[nodiscard]] bool empty() const { return m_nodes.size() <= 1; }

    struct Match {
        std::size_t begin;
        std::size_t end;
        std::size_t value;
    };
    [[nodiscard]] std::optional<Match> findFrom(std::string_view text, std::size_t position) const;

private:
    static constexpr std::size_t kNoValue = ~std::size_t { 0 };

    std::vector<std::size_t> m_nodes { kNoValue };            ///< Value that ends at each node; node 0 is the root.
    std::unordered_map<std::uint64_t, std::uint32_t> m_edges; ///< (node, byte) to node.
    std::array<bool, 256> m_first {};                         ///< Bytes that start some string.
};

class AddedTokens {
public:
    /// Adds a token under its `id`; one with the same content stays as it was, but becomes special if this one is.
    /// Returns whether it is new.
    bool add(AddedToken token);

    /// The token with this content, or nullptr.
    [[nodiscard]] const AddedToken* find(std::string_view content) const;
    [[nodiscard]] const AddedToken* withId(TokenId id) const;
    [[nodiscard]] const std::vector<AddedToken>& all() const { return m_tokens; }
    /// The id after the largest one, at least `low`.
    [[nodiscard]] TokenId nextId(TokenId low) const;

    /// Makes the token findable: by `pattern`, which is its content after normalization if it is `normalized`.
    void index(const AddedToken& token, std::string_view pattern);

    /// Cuts `text` at the tokens that are looked for in the input (`normalized` false) or after normalization.
    void split(std::string_view text, bool normalized, std::vector<Segment>& segments) const;
    [[nodiscard]] bool anyNormalized() const { return !m_normalized.empty(); }

private:
    std::vector<AddedToken> m_tokens;
    std::unordered_map<std::string, std::size_t> m_byContent;
    std::unordered_map<TokenId, std::size_t> m_byId;
    StringMatcher m_raw;
    StringMatcher m_normalized;
    TokenId m_largest = -1;
};

} // namespace rankwise::io::tokenizer
