// The SentencePiece library behind our types.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer_sentencepiece.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

namespace rankwise::io::tokenizer {

Result<SentencePieceModel> SentencePieceModel::parse(std::string_view bytes, const std::string& subject)
{
    auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
    const auto status = processor->LoadFromSerializedProto(bytes);
    if (!status.ok() || processor->GetPieceSize() <= 0) {
        return fail(Errc::HeaderInvalid, fmt::format("not a SentencePiece model: {}", status.ToString()), subject);
    }
    SentencePieceModel model;
    model.m_processor = std::move(processor);
    return model;
}

Result<void> SentencePieceModel::encode(std::string_view text, std::size_t shift, std::vector<TokenId>& ids,
                                        std::vector<TextRange>* ranges) const
{
    if (ranges == nullptr) {
        std::vector<int> pieces;
        if (const auto status = m_processor->Encode(text, &pieces); !status.ok()) {
            return fail(Errc::DataInvalid, fmt::format("SentencePiece cannot encode: {}", status.ToString()));
        }
        ids.insert(ids.end(), pieces.begin(), pieces.end());
        return {};
    }
    const auto encoded = m_processor->EncodeAsImmutableProto(text);
    for (std::size_t i = 0; i < encoded.pieces_size(); ++i) {
        const auto piece = encoded.pieces(static_cast<int>(i));
        ids.push_back(static_cast<TokenId>(piece.id()));
        ranges->push_back({ shift + piece.begin(), shift + piece.end() });
    }
    return {};
}

std::string SentencePieceModel::decode(std::span<const TokenId> ids) const
{
    std::vector<int> pieces;
    pieces.reserve(ids.size());
    for (const TokenId id : ids) {
        if (id >= 0 && id < size()) {
            pieces.push_back(static_cast<int>(id));
        }
    }
    std::string text;
    return m_processor->Decode(pieces, &text).ok() ? text : std::string();
}

std::int64_t SentencePieceModel::size() const
{
    return m_processor->GetPieceSize();
}

std::optional<TokenId> SentencePieceModel::pieceToId(std::string_view piece) const
{
    const int id = m_processor->PieceToId(piece);
    // An unknown piece gets the unknown token's id.
    if (id < 0 || id >= m_processor->GetPieceSize() || m_processor->IdToPiece(id) != piece) {
        return std::nullopt;
    }
    return id;
}

std::optional<std::string> SentencePieceModel::idToPiece(TokenId id) const
{
    if (id < 0 || id >= size()) {
        return std::nullopt;
    }
    return m_processor->IdToPiece(static_cast<int>(id));
}

bool SentencePieceModel::isControl(TokenId id) const
{
    return id >= 0 && id < size() && m_processor->IsControl(static_cast<int>(id));
}

SpecialTokens SentencePieceModel::specialTokens() const
{
    const auto role = [&](int id) {
        return id >= 0 && id < m_processor->GetPieceSize() ? std::optional<TokenId>(id) : std::nullopt;
    };
    return { .bos = role(m_processor->bos_id()),
             .eos = role(m_processor->eos_id()),
             .unk = role(m_processor->unk_id()),
             .pad = role(m_processor->pad_id()) };
}

} // namespace rankwise::io::tokenizer
