// The model of a tokenizer.json: byte-pair encoding of one piece of text. Internal to the tokenizer.
//
// Sennrich et al. 2016, arXiv:1508.07909: the adjacent pair with the earliest merge is joined first, the
// leftmost of equals, until no pair can be joined.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/io/tokenizer_steps.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rankwise::io::tokenizer {

/// Strings with ids, both ways. Text lies in one block; look-ups probe an open table.
class TokenTable {
public:
    void reserve(std::size_t count, std::size_t bytes);
    /// Adds or overwrites. A second string with an id that is taken keeps both strings; the id names the later one.
    void insert(std::string_view token, std::uint32_t id);

    [[nodiscard]] std::optional<std::uint32_t> find(std::string_view token) const;
    [[nodiscard]] std::optional<std::string_view> tokenOf(std::uint64_t id) const;
    [[nodiscard]] std::size_t size() const { return m_entries.size(); }

private:
    struct Entry {
        std::uint64_t begin;
        std::uint32_t length;
        std::uint32_t id;
    };

    [[nodiscard]] std::string_view textOf(const Entry& entry) const
    {
        return std::string_view(m_text).substr(entry.begin, entry.length);
    }
    void rehash(std::size_t slots);

    std::string m_text;
    std::vector<Entry> m_entries;
    std::vector<std::uint32_t> m_slots;                        ///< Entry index + 1, 0 for an empty slot.
    std::vector<std::uint32_t> m_byId;                         ///< Entry index + 1 for small ids.
    std::unordered_map<std::uint64_t, std::uint32_t> m_farIds; ///< The same for ids far beyond the count.
};

/// A token of a piece: its id and how many bytes of the piece it covers.
struct PieceToken {
    std::uint32_t id = 0;
    std::uint32_t length = 0;
};

class BpeModel {
public:
    /// Errors: FieldMissing, FieldInvalid, DataInvalid, TooLarge, Unsupported.
    [[nodiscard]] static Result<BpeModel> fromJson(const Json& object, const StepSource& source);

    /// Appends the tokens of `piece`, which is not empty.
    /// Errors: DataInvalid when an unknown character meets an unknown-token that is not in the vocabulary.
    /// Thread: any; results of short pieces are remembered by each thread.
    [[nodiscard]] Result<void> tokenize(std::string_view piece, std::vector<PieceToken>& out) const;

    [[nodiscard]] const TokenTable& vocabulary() const { return m_vocabulary; }
    [[nodiscard]] const std::optional<std::string>& unknownToken() const { return m_unknown; }

private:
    struct Merge {
        std::uint64_t pair;
        std::uint32_t rank;
        std::uint32_t id;
    };
    struct Scratch;

    [[nodiscard]] Result<void> readMerges(const Json& merges, const StepSource& source);
    [[nodiscard]] Result<void> addMerge(std::string_view left, std::string_view right, std::size_t rank,
                                        const StepSource& source);
    void indexCharacters();
    [[nodiscard]] const Merge* findMerge(std::uint32_t left, std::uint32_t right) const;
    /// The character with the prefix or suffix that its place in the piece asks for.
    [[nodiscard]] std::string_view decorated(std::string_view piece, std::size_t begin, std::size_t length,
                                             std::string& buffer) const;
    [[nodiscard]] std::optional<std::uint32_t> characterId(std::string_view character) const;
    [[nodiscard]] Result<void> splitCharacters(std::string_view piece, std::vector<PieceToken>& symbols) const;
    void mergeShort(std::vector<PieceToken>& symbols, Scratch& scratch) const;
    void mergeLong(std::vector<PieceToken>& symbols) const;

    TokenTable m_vocabulary;
    std::vector<Merge> m_merges; ///< Open table; rank kNoRank marks an empty slot.
    std::optional<std::string> m_unknown;
    std::string m_continuingPrefix;
    std::string m_endSuffix;
    bool m_fuseUnknown = false;
    bool m_byteFallback = false;
    bool m_ignoreMerges = false;
    std::vector<std::int32_t> m_lowCharacters;                     ///< Id of the character with that code point, or -1.
    std::array<std::optional<std::uint32_t>, 256> m_byteTokens {}; ///< Ids of <0x00> to <0xFF>.
    std::uint64_t m_serial = 0;                                    ///< Tells models apart in the threads' memories.
};

} // namespace rankwise::io::tokenizer
