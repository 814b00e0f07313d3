// Byte-pair encoding with tables that probe in one or two cache lines, and a small memory of recent pieces.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <queue>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io::tokenizer {

namespace {

constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t kLowCharacters = 0x3100; ///< Up to and including kana.
constexpr std::size_t kShortPiece = 48;        ///< Symbols up to which a linear search beats a heap.
constexpr std::uint64_t kMaxTokens = 16'000'000;

std::uint64_t hashOf(std::string_view text)
{
    return std::hash<std::string_view> {}(text);
}

std::uint64_t pairOf(std::uint32_t left, std::uint32_t right)
{
    return std::uint64_t { left } << 32 | right;
}

std::uint64_t mixed(std::uint64_t pair)
{
    pair *= 0x9E3779B97F4A7C15ull;
    return pair ^ pair >> 29;
}

/// What one thread remembers of one model: the tokens of recent short pieces, one piece a slot.
struct PieceMemory {
    static constexpr std::size_t kSlots = 1 << 14;
    static constexpr std::size_t kMaxBytes = 31;
    static constexpr std::size_t kMaxTokens = 8;

    struct Slot {
        std::array<char, kMaxBytes> text;
        std::uint8_t length = 0; ///< 0: empty.
        std::uint8_t count = 0;
        std::array<std::uint8_t, kMaxTokens> lengths;
        std::array<std::uint32_t, kMaxTokens> ids;
    };

    std::uint64_t serial = 0;
    std::uint64_t lastUse = 0;
    std::vector<Slot> slots;
};

/// The calling thread's memory for the model `serial`; the least recently used of four is given away.
PieceMemory& memoryOf(std::uint64_t serial)
{
    thread_local std::array<PieceMemory, 4> memories;
    thread_local std::uint64_t clock = 0;
    PieceMemory* oldest = &memories[0];
    for (PieceMemory& memory : memories) {
        if (memory.serial == serial) {
            memory.lastUse = ++clock;
            return memory;
        }
        if (memory.lastUse < oldest->lastUse) {
            oldest = &memory;
        }
    }
    oldest->serial = serial;
    oldest->lastUse = ++clock;
    oldest->slots.assign(PieceMemory::kSlots, {});
    return *oldest;
}

} // namespace

void TokenTable::reserve(std::size_t count, std::size_t bytes)
{
    m_entries.reserve(count);
    m_text.reserve(bytes);
    rehash(std::bit_ceil(std::max<std::size_t>(16, count * 2)));
}

void TokenTable::rehash(std::size_t slots)
{
    m_slots.assign(slots, 0);
    for (std::size_t i = 0; i < m_entries.size(); ++i) {
        std::size_t slot = hashOf(textOf(m_entries[i])) & (slots - 1);
        while (m_slots[slot] != 0) {
            slot = (slot + 1) & (slots - 1);
        }
        m_slots[slot] = static_cast<std::uint32_t>(i + 1);
    }
}

void TokenTable::insert(std::string_view token, std::uint32_t id)
{
    if (m_slots.size() < (m_entries.size() + 1) * 2) {
        rehash(std::max<std::size_t>(16, m_slots.size() * 2));
    }
    std::size_t slot = hashOf(token) & (m_slots.size() - 1);
    while (m_slots[slot] != 0 && textOf(m_entries[m_slots[slot] - 1]) != token) {
        slot = (slot + 1) & (m_slots.size() - 1);
    }
    if (m_slots[slot] == 0) {
        m_entries.push_back({ m_text.size(), static_cast<std::uint32_t>(token.size()), id });
        m_text.append(token);
        m_slots[slot] = static_cast<std::uint32_t>(m_entries.size());
    } else {
        m_entries[m_slots[slot] - 1].id = id;
    }
    const std::uint32_t entry = m_slots[slot];
    if (id < 4 * m_entries.capacity() + 1024) {
        if (m_byId.size() <= id) {
            m_byId.resize(std::max<std::size_t>(id + std::size_t { 1 }, m_byId.size() * 2), 0);
        }
        m_byId[id] = entry;
    } else {
        m_farIds[id] = entry;
    }
}

std::optional<std::uint32_t> TokenTable::find(std::string_view token) const
{
    if (m_slots.empty()) {
        return std::nullopt;
    }
    std::size_t slot = hashOf(token) & (m_slots.size() - 1);
    while (m_slots[slot] != 0) {
        const Entry& entry = m_entries[m_slots[slot] - 1];
        if (textOf(entry) == token) {
            return entry.id;
        }
        slot = (slot + 1) & (m_slots.size() - 1);
    }
    return std::nullopt;
}

std::optional<std::string_view> TokenTable::tokenOf(std::uint64_t id) const
{
    if (id < m_byId.size() && m_byId[id] != 0) {
        return textOf(m_entries[m_byId[id] - 1]);
    }
    if (const auto far = m_farIds.find(id); far != m_farIds.end()) {
        return textOf(m_entries[far->second - 1]);
    }
    return std::nullopt;
}

/// Working arrays of mergeShort(), kept by each thread.
struct BpeModel::Scratch {
    std::array<const Merge*, kShortPiece> merges;
};

Result<BpeModel> BpeModel::fromJson(const Json& object, const StepSource& source)
{
    static std::atomic<std::uint64_t> serial { 0 };
    BpeModel model;
    model.m_serial = ++serial;

    FieldReader reader(object, source.file, source.path + ".");
    std::string unknown;
    double dropout = 0;
    reader.optional("dropout", dropout, 0, 1);
    reader.optional("continuing_subword_prefix", model.m_continuingPrefix);
    reader.optional("end_of_word_suffix", model.m_endSuffix);
    reader.optional("fuse_unk", model.m_fuseUnknown);
    reader.optional("byte_fallback", model.m_byteFallback);
    reader.optional("ignore_merges", model.m_ignoreMerges);
    if (reader.find("unk_token") != nullptr) {
        reader.require("unk_token", unknown);
        model.m_unknown = unknown;
    }
    const Json* vocabulary = reader.requireObject("vocab");
    const Json* merges = reader.find("merges");
    if (merges == nullptr || !merges->is_array()) {
        reader.reject("merges", "must be an array", merges == nullptr ? Errc::FieldMissing : Errc::FieldInvalid);
    }
    RW_TRY_VOID(reader.result());
    if (dropout > 0) {
        source.warnings.push_back({ "the merges' dropout is for training tokenizers and is not applied", source.file });
    }
    if (vocabulary->size() > kMaxTokens || merges->size() > kMaxTokens) {
        return fail(Errc::TooLarge, fmt::format("a vocabulary of more than {} tokens", kMaxTokens), source.file);
    }

    std::size_t bytes = 0;
    for (const auto& item : vocabulary->items()) {
        bytes += item.key().size();
    }
    model.m_vocabulary.reserve(vocabulary->size(), bytes);
    for (const auto& item : vocabulary->items()) {
        const Json& id = item.value();
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= std::numeric_limits<std::uint32_t>::max()) {
            return fail(Errc::FieldInvalid,
                        fmt::format("{}.vocab: the id of \"{}\" must be an integer from 0 to 2^32 - 2", source.path,
                                    item.key()),
                        source.file);
        }
        const auto value = id.get<std::uint32_t>();
        if (const auto other = model.m_vocabulary.tokenOf(value)) {
            source.warnings.push_back({ fmt::format("{}.vocab: \"{}\" and \"{}\" have the same id {}", source.path,
                                                    *other, item.key(), value),
                                        source.file });
        }
        model.m_vocabulary.insert(item.key(), value);
    }
    RW_TRY_VOID(model.readMerges(*merges, source));
    if (model.m_unknown && !model.m_vocabulary.find(*model.m_unknown)) {
        source.warnings.push_back(
            { fmt::format("{}.unk_token \"{}\" is not in the vocabulary", source.path, *model.m_unknown),
              source.file });
    }
    model.indexCharacters();
    return model;
}

Result<void> BpeModel::readMerges(const Json& merges, const StepSource& source)
{
    m_merges.assign(std::bit_ceil(std::max<std::size_t>(16, merges.size() * 2)), { 0, kNoRank, 0 });
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        const Json& merge = merges[rank];
        if (merge.is_string()) {
            const std::string_view text = merge.get_ref<const std::string&>();
            const std::size_t space = text.find(' ');
            if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
                RW_TRY_VOID(addMerge(text.substr(0, space), text.substr(space + 1), rank, source));
                continue;
            }
        } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            RW_TRY_VOID(
                addMerge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), rank, source));
            continue;
        }
        return fail(Errc::FieldInvalid,
                    fmt::format("{}.merges[{}] must be a pair of tokens, or two tokens with a space between",
                                source.path, rank),
                    source.file);
    }
    return {};
}

Result<void> BpeModel::addMerge(std::string_view left, std::string_view right, std::size_t rank,
                                const StepSource& source)
{
    const auto idOf = [&](std::string_view token) -> Result<std::uint32_t> {
        if (const auto id = m_vocabulary.find(token)) {
            return *id;
        }
        return fail(Errc::DataInvalid,
                    fmt::format("{}.merges[{}]: \"{}\" is not in the vocabulary", source.path, rank, token),
                    source.file);
    };
    RW_TRY(const std::uint32_t leftId, idOf(left));
    RW_TRY(const std::uint32_t rightId, idOf(right));
    if (right.size() < m_continuingPrefix.size()) {
        return fail(Errc::DataInvalid,
                    fmt::format("{}.merges[{}]: \"{}\" lacks the continuing prefix", source.path, rank, right),
                    source.file);
    }
    std::string joined(left);
    joined += right.substr(m_continuingPrefix.size());
    RW_TRY(const std::uint32_t id, idOf(joined));

    const std::uint64_t pair = pairOf(leftId, rightId);
    std::size_t slot = mixed(pair) & (m_merges.size() - 1);
    while (m_merges[slot].rank != kNoRank && m_merges[slot].pair != pair) {
        slot = (slot + 1) & (m_merges.size() - 1);
    }
    m_merges[slot] = { pair, static_cast<std::uint32_t>(rank), id };
    return {};
}

void BpeModel::indexCharacters()
{
    m_lowCharacters.assign(kLowCharacters, -1);
    std::string text;
    for (std::uint32_t c = 0; c < kLowCharacters; ++c) {
        text.clear();
        appendCodePoint(text, c);
        if (const auto id = m_vocabulary.find(text); id && *id <= std::uint32_t { INT32_MAX }) {
            m_lowCharacters[c] = static_cast<std::int32_t>(*id);
        }
    }
    for (unsigned byte = 0; byte < 256; ++byte) {
        m_byteTokens[byte] = m_vocabulary.find(fmt::format("<0x{:02X}>", byte));
    }
}

const BpeModel::Merge* BpeModel::findMerge(std::uint32_t left, std::uint32_t right) const
{
    const std::uint64_t pair = pairOf(left, right);
    std::size_t slot = mixed(pair) & (m_merges.size() - 1);
    while (m_merges[slot].rank != kNoRank) {
        if (m_merges[slot].pair == pair) {
            return &m_merges[slot];
        }
        slot = (slot + 1) & (m_merges.size() - 1);
    }
    return nullptr;
}

std::string_view BpeModel::decorated(std::string_view piece, std::size_t begin, std::size_t length,
                                     std::string& buffer) const
{
    const bool prefixed = begin > 0 && !m_continuingPrefix.empty();
    const bool suffixed = begin + length == piece.size() && !m_endSuffix.empty();
    const std::string_view character = piece.substr(begin, length);
    if (!prefixed && !suffixed) {
        return character;
    }
    buffer = prefixed ? m_continuingPrefix : std::string();
    buffer += character;
    buffer += suffixed ? m_endSuffix : std::string();
    return buffer;
}

std::optional<std::uint32_t> BpeModel::characterId(std::string_view character) const
{
    if (charLength(character[0]) == character.size()) {
        if (const std::uint32_t c = codePointAt(character, 0); c < kLowCharacters && m_lowCharacters[c] >= 0) {
            return static_cast<std::uint32_t>(m_lowCharacters[c]);
        }
    }
    return m_vocabulary.find(character);
}

Result<void> BpeModel::splitCharacters(std::string_view piece, std::vector<PieceToken>& symbols) const
{
    std::optional<PieceToken> unknown;
    std::string buffer;
    const auto flush = [&] {
        if (unknown) {
            symbols.push_back(*unknown);
            unknown.reset();
        }
    };
    for (std::size_t begin = 0; begin < piece.size();) {
        const std::size_t length = charLength(piece[begin]);
        const std::size_t next = begin + length;
        const std::string_view character = decorated(piece, begin, length, buffer);
        if (const auto id = characterId(character)) {
            flush();
            symbols.push_back({ *id, static_cast<std::uint32_t>(length) });
            begin = next;
            continue;
        }
        const auto byteToken = [&](char byte) { return m_byteTokens[static_cast<unsigned char>(byte)]; };
        if (m_byteFallback
            && std::all_of(character.begin(), character.end(), [&](char b) { return byteToken(b).has_value(); })) {
            // As in the reference, a pending unknown token comes after these.
            for (const char byte : character) {
                symbols.push_back({ *byteToken(byte), 1 });
            }
        } else if (m_unknown) {
            const auto id = m_vocabulary.find(*m_unknown);
            if (!id) {
                return fail(Errc::DataInvalid,
                            fmt::format("the text has a character outside the vocabulary, and so is the unknown token "
                                        "\"{}\"",
                                        *m_unknown));
            }
            if (unknown && m_fuseUnknown) {
                unknown->length += static_cast<std::uint32_t>(length);
            } else {
                flush();
                unknown = PieceToken { *id, static_cast<std::uint32_t>(length) };
            }
        }
        begin = next;
    }
    flush();
    return {};
}

void BpeModel::mergeShort(std::vector<PieceToken>& symbols, Scratch& scratch) const
{
    std::size_t count = symbols.size();
    for (std::size_t i = 0; i + 1 < count; ++i) {
        scratch.merges[i] = findMerge(symbols[i].id, symbols[i + 1].id);
    }
    while (count > 1) {
        std::size_t best = count;
        std::uint32_t rank = kNoRank;
        for (std::size_t i = 0; i + 1 < count; ++i) {
            if (scratch.merges[i] != nullptr && scratch.merges[i]->rank < rank) {
                rank = scratch.merges[i]->rank;
                best = i;
            }
        }
        if (best == count) {
            break;
        }
        symbols[best] = { scratch.merges[best]->id, symbols[best].length + symbols[best + 1].length };
        --count;
        for (std::size_t i = best + 1; i < count; ++i) {
            symbols[i] = symbols[i + 1];
        }
        for (std::size_t i = best + 1; i + 1 < count; ++i) {
            scratch.merges[i] = scratch.merges[i + 1];
        }
        if (best > 0) {
            scratch.merges[best - 1] = findMerge(symbols[best - 1].id, symbols[best].id);
        }
        if (best + 1 < count) {
            scratch.merges[best] = findMerge(symbols[best].id, symbols[best + 1].id);
        }
    }
    symbols.resize(count);
}

void BpeModel::mergeLong(std::vector<PieceToken>& symbols) const
{
    constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
    struct Link {
        std::uint32_t previous;
        std::uint32_t next;
    };
    struct Candidate {
        std::uint32_t rank;
        std::uint32_t position;
        std::uint32_t left; ///< Ids at the time of queueing: a candidate of symbols that changed is stale.
        std::uint32_t right;
        std::uint32_t merged;
        bool operator>(const Candidate& other) const
        {
            return rank != other.rank ? rank > other.rank : position > other.position;
        }
    };
    const auto count = static_cast<std::uint32_t>(symbols.size());
    std::vector<Link> links(count);
    std::vector<Candidate> initial;
    initial.reserve(count);
    const auto candidate = [&](std::uint32_t left, std::uint32_t right, auto&& add) {
        if (const Merge* merge = findMerge(symbols[left].id, symbols[right].id)) {
            add(Candidate { merge->rank, left, symbols[left].id, symbols[right].id, merge->id });
        }
    };
    for (std::uint32_t i = 0; i < count; ++i) {
        links[i] = { i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1 };
        if (i + 1 < count) {
            candidate(i, i + 1, [&](const Candidate& c) { initial.push_back(c); });
        }
    }
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue({}, std::move(initial));
    while (!queue.empty()) {
        const Candidate top = queue.top();
        queue.pop();
        const std::uint32_t right = links[top.position].next;
        if (symbols[top.position].length == 0 || right == kNone || symbols[top.position].id != top.left
            || symbols[right].id != top.right) {
            continue;
        }
        symbols[top.position] = { top.merged, symbols[top.position].length + symbols[right].length };
        symbols[right].length = 0;
        const std::uint32_t next = links[right].next;
        links[top.position].next = next;
        if (next != kNone) {
            links[next].previous = top.position;
            candidate(top.position, next, [&](const Candidate& c) { queue.push(c); });
        }
        if (const std::uint32_t previous = links[top.position].previous; previous != kNone) {
            candidate(previous, top.position, [&](const Candidate& c) { queue.push(c); });
        }
    }
    std::erase_if(symbols, [](const PieceToken& symbol) { return symbol.length == 0; });
}

Result<void> BpeModel::tokenize(std::string_view piece, std::vector<PieceToken>& out) const
{
    if (m_ignoreMerges) {
        if (const auto id = m_vocabulary.find(piece)) {
            out.push_back({ *id, static_cast<std::uint32_t>(piece.size()) });
            return {};
        }
    }
    PieceMemory::Slot* slot = nullptr;
    if (piece.size() <= PieceMemory::kMaxBytes) {
        slot = &memoryOf(m_serial).slots[hashOf(piece) & (PieceMemory::kSlots - 1)];
        if (slot->length == piece.size() && std::memcmp(slot->text.data(), piece.data(), piece.size()) == 0) {
            for (std::size_t i = 0; i < slot->count; ++i) {
                out.push_back({ slot->ids[i], slot->lengths[i] });
            }
            return {};
        }
    }
    thread_local std::vector<PieceToken> symbols;
    thread_local Scratch scratch;
    symbols.clear();
    RW_TRY_VOID(splitCharacters(piece, symbols));
    if (symbols.size() <= kShortPiece) {
        mergeShort(symbols, scratch);
    } else {
        mergeLong(symbols);
    }
    if (slot != nullptr && symbols.size() <= PieceMemory::kMaxTokens) {
        std::memcpy(slot->text.data(), piece.data(), piece.size());
        slot->length = static_cast<std::uint8_t>(piece.size());
        slot->count = static_cast<std::uint8_t>(symbols.size());
        for (std::size_t i = 0; i < symbols.size(); ++i) {
            slot->ids[i] = symbols[i].id;
            slot->lengths[i] = static_cast<std::uint8_t>(symbols[i].length);
        }
    }
    out.insert(out.end(), symbols.begin(), symbols.end());
    return {};
}

} // namespace rankwise::io::tokenizer
