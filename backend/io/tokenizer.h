// Text to token ids and back, as the checkpoints' tokenizer files say.
//
// Formats: tokenizer.json of huggingface/tokenizers 0.22 with BPE models (byte-level as in GPT-2 and SmolLM2, byte
// fallback as in Gemma and Llama; merges as "a b" strings or as pairs), and SentencePiece .model files.
// tokenizer_config.json beside them gives sides, special tokens and extra added tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::io {

using TokenId = std::int64_t;

/// Where truncation cuts and padding is added.
enum class Side : std::uint8_t { Left, Right };

struct EncodeOptions {
    bool addSpecialTokens = true;          ///< Apply the post-processor's template (bos, eos).
    std::int64_t maxLength = 0;            ///< Cut to this many tokens, special ones included; 0: do not cut.
    std::optional<Side> truncationSide {}; ///< Default: the tokenizer's.
    std::int64_t padTo = 0;                ///< Pad to this many tokens; 0: do not pad.
    std::int64_t padToMultipleOf = 0;      ///< Then up to a multiple of this; 0: none.
    std::optional<Side> paddingSide {};    ///< Default: the tokenizer's.
    std::optional<TokenId> padId {};       ///< Default: the tokenizer's pad token, else 0.
    bool offsets = false;                  ///< Fill Encoding::offsets.
};

/// Byte range in the text that was encoded, [begin, end).
struct TextRange {
    std::size_t begin = 0;
    std::size_t end = 0;
    [[nodiscard]] bool operator==(const TextRange&) const = default;
};

struct Encoding {
    std::vector<TokenId> ids;
    std::vector<std::uint8_t> attentionMask; ///< 1 for tokens of the text and special ones, 0 for padding.
    std::vector<TextRange> offsets;          ///< One for each id if asked for; empty ranges for special and padding.
};

/// Tokens with a role; absent where the files name none.
struct SpecialTokens {
    std::optional<TokenId> bos {};
    std::optional<TokenId> eos {};
    std::optional<TokenId> unk {};
    std::optional<TokenId> pad {};
};

/// Immutable after load(). Copies share the tables.
///
/// Thread: any number of threads may encode and decode at once.
class Tokenizer {
public:
    /// Reads a tokenizer.json, a SentencePiece .model, or a folder that holds either (tokenizer.json is preferred;
    /// tokenizer_config.json, special_tokens_map.json and added_tokens.json of the folder apply to both).
    ///
    /// Harmless contradictions go to `warnings`: two tokens with one id, an unknown token outside the
    /// vocabulary, added-token ids that leave a hole, a regular expression that can take exponential time.
    /// Errors: FileNotFound, TooLarge, JsonInvalid, HeaderInvalid (not a SentencePiece model), FieldMissing,
    ///         FieldInvalid, DataInvalid (a merge outside the vocabulary), Unsupported (model or step type).
    [[nodiscard]] static Result<Tokenizer> load(const std::filesystem::path& fileOrFolder,
                                                std::vector<Warning>& warnings);

    /// As load(), from the text of a tokenizer.json; `subject` names it in errors.
    [[nodiscard]] static Result<Tokenizer> fromJson(std::string_view json, const std::string& subject,
                                                    std::vector<Warning>& warnings);

    /// Ids of UTF-8 `text`. Padding and truncation come from `options` alone; fileOptions() gives the file's own.
    ///
    /// Errors: DataInvalid (not UTF-8), TooLarge (over 64 MiB of text, or a regular expression over its limit of
    ///         steps), FieldInvalid (maxLength smaller than the number of special tokens).
    [[nodiscard]] Result<Encoding> encode(std::string_view text, const EncodeOptions& options = {}) const;

    /// Several texts, padded to the longest when `padToLongest`.
    [[nodiscard]] Result<std::vector<Encoding>> encodeBatch(std::span<const std::string> texts,
                                                            const EncodeOptions& options, bool padToLongest) const;

    /// Text of the ids; ids without a token are left out, bytes that are not UTF-8 become U+FFFD.
    [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skipSpecial = true) const;

    /// Number of tokens, added ones included. The largest id may be above it where the ids have holes.
    [[nodiscard]] std::int64_t vocabSize() const;
    /// Number of tokens of the model alone.
    [[nodiscard]] std::int64_t modelVocabSize() const;
    [[nodiscard]] std::optional<TokenId> tokenToId(std::string_view token) const;
    [[nodiscard]] std::optional<std::string> idToToken(TokenId id) const;
    [[nodiscard]] bool isSpecial(TokenId id) const;

    [[nodiscard]] const SpecialTokens& specialTokens() const;
    [[nodiscard]] Side truncationSide() const;
    [[nodiscard]] Side paddingSide() const;
    /// The truncation and padding that tokenizer.json itself asks for; none in the policies' files.
    [[nodiscard]] const EncodeOptions& fileOptions() const;

    struct Data; ///< What was read; for the tokenizer's own sources.

private:
    friend class TokenizerBuilder;
    explicit Tokenizer(std::shared_ptr<const Data> data) : m_data(std::move(data)) { }

    std::shared_ptr<const Data> m_data;
};

} // namespace rankwise::io
