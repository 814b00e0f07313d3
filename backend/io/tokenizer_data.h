// What a loaded tokenizer holds. Internal to the tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/io/tokenizer.h"
#include "backend/io/tokenizer_added.h"
#include "backend/io/tokenizer_bpe.h"
#include "backend/io/tokenizer_sentencepiece.h"
#include "backend/io/tokenizer_steps.h"

#include <memory>
#include <optional>
#include <vector>

namespace rankwise::io {

/// One element of the template around a text: the text itself, or fixed ids.
struct TemplatePiece {
    bool isText = false;
    std::vector<TokenId> ids;
};

struct Tokenizer::Data {
    // Exactly one of the two models is there.
    std::optional<tokenizer::BpeModel> bpe;
    std::optional<tokenizer::SentencePieceModel> sentencePiece;

    tokenizer::AddedTokens added;
    std::unique_ptr<const tokenizer::Normalizer> normalizer;
    std::unique_ptr<const tokenizer::PreTokenizer> preTokenizer;
    std::unique_ptr<const tokenizer::Decoder> decoder;
    std::vector<TemplatePiece> aroundText { { true, {} } };

    bool trimOffsets = false;     ///< Offsets leave out the spaces at the ends of byte-level tokens.
    bool trimKeepsPrefix = false; ///< Except one at the very start, which was added.
    bool cleanUpSpaces = false;   ///< Decoding removes spaces before punctuation.
    SpecialTokens special;
    Side truncationSide = Side::Right;
    Side paddingSide = Side::Right;
    EncodeOptions fileOptions;
    std::int64_t vocabSize = 0;

    [[nodiscard]] std::int64_t modelVocabSize() const
    {
        return bpe ? static_cast<std::int64_t>(bpe->vocabulary().size()) : sentencePiece->size();
    }
    [[nodiscard]] std::optional<TokenId> modelTokenToId(std::string_view token) const;
    [[nodiscard]] std::optional<std::string> modelIdToToken(TokenId id) const;
};

} // namespace rankwise::io
