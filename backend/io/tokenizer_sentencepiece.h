// A SentencePiece .model through the library. Internal to the tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/io/tokenizer.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace rankwise::io::tokenizer {

class SentencePieceModel {
public:
    /// Errors: HeaderInvalid (not a SentencePiece model).
    [[nodiscard]] static Result<SentencePieceModel> parse(std::string_view bytes, const std::string& subject);

    /// Appends the pieces of `text`; `ranges`, unless null, gets their bytes in it, moved by `shift`.
    /// Errors: DataInvalid.
    [[nodiscard]] Result<void> encode(std::string_view text, std::size_t shift, std::vector<TokenId>& ids,
                                      std::vector<TextRange>* ranges) const;
    [[nodiscard]] std::string decode(std::span<const TokenId> ids) const;

    [[nodiscard]] std::int64_t size() const;
    [[nodiscard]] std::optional<TokenId> pieceToId(std::string_view piece) const;
    [[nodiscard]] std::optional<std::string> idToPiece(TokenId id) const;
    [[nodiscard]] bool isControl(TokenId id) const;
    [[nodiscard]] SpecialTokens specialTokens() const;

private:
    std::shared_ptr<const sentencepiece::SentencePieceProcessor> m_processor;
};

} // namespace rankwise::io::tokenizer
