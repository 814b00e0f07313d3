// The steps before and after the model in a tokenizer.json: normalizers, pre-tokenizers, decoders.
// Each is built from its JSON object and is immutable. Internal to the tokenizer.
//
// Reference: huggingface/tokenizers 0.22, crates `normalizers`, `pre_tokenizers`, `decoders`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/io/tokenizer_text.h"

#include <memory>
#include <string>
#include <vector>

namespace rankwise::io::tokenizer {

/// Where a JSON object stands, for messages, and where warnings go.
struct StepSource {
    const std::string& file;
    std::string path;
    std::vector<Warning>& warnings;
};

class Normalizer {
public:
    virtual ~Normalizer() = default;
    /// Errors: TooLarge (a regular expression over its limit).
    [[nodiscard]] virtual Result<void> apply(TrackedText& text) const = 0;
};

/// A text with the pieces that the model will see one by one.
struct PieceText {
    TrackedText buffer;
    std::vector<TextRange> pieces; ///< Ranges of the buffer, in order, none empty.
    bool startsInput = false;      ///< The buffer starts where the input starts.
};

class PreTokenizer {
public:
    virtual ~PreTokenizer() = default;
    /// Errors: TooLarge (a regular expression over its limit).
    [[nodiscard]] virtual Result<void> apply(PieceText& text) const = 0;
};

class Decoder {
public:
    virtual ~Decoder() = default;
    /// Errors: TooLarge (a regular expression over its limit).
    [[nodiscard]] virtual Result<void> apply(std::vector<std::string>& tokens) const = 0;
};

/// Errors of all three: FieldMissing, FieldInvalid, Unsupported (an unknown `type`).
[[nodiscard]] Result<std::unique_ptr<const Normalizer>> makeNormalizer(const Json& object, const StepSource& source);
[[nodiscard]] Result<std::unique_ptr<const PreTokenizer>> makePreTokenizer(const Json& object,
                                                                           const StepSource& source);
[[nodiscard]] Result<std::unique_ptr<const Decoder>> makeDecoder(const Json& object, const StepSource& source);

/// {"String": s} or {"Regex": r} as a Pattern; a warning for a dangerous expression.
class Pattern;
[[nodiscard]] Result<Pattern> makePattern(const Json& object, const StepSource& source);

/// The field `type` of a step.
[[nodiscard]] Result<std::string> stepType(const Json& object, const StepSource& source);

/// The elements of the array field `key` of a Sequence step.
[[nodiscard]] Result<std::vector<const Json*>> stepList(const Json& object, const char* key, const StepSource& source);

/// The source of element `index` of the array field `key`.
[[nodiscard]] StepSource elementSource(const StepSource& source, const char* key, std::size_t index);

} // namespace rankwise::io::tokenizer
