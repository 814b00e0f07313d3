// Regular expressions of tokenizer.json (Oniguruma's Ruby syntax) on PCRE2, with a bound on the work of a match.
// Internal to the tokenizer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::io::tokenizer {

/// A range of the searched text and whether it matched.
struct MatchRange {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool matched = false;
};

/// A compiled expression, or a literal. Immutable; any number of threads may search.
class Pattern {
public:
    [[nodiscard]] static Pattern literal(std::string text);
    /// Errors: FieldInvalid with the compiler's message and the offset in the expression.
    [[nodiscard]] static Result<Pattern> regex(std::string_view expression);

    /// Cuts `text` into consecutive ranges, matches and what lies between them; covers it completely.
    /// Errors: TooLarge when a match exceeds its limit of steps. `ranges` is appended to.
    [[nodiscard]] Result<void> findAll(std::string_view text, std::vector<MatchRange>& ranges) const;

    /// The expression repeats a group that itself repeats without bound, e.g. "(a+)+".
    [[nodiscard]] bool mayBacktrackExponentially() const { return m_nestedRepeats; }

private:
    struct Compiled;

    std::string m_literal;
    std::shared_ptr<const Compiled> m_compiled; ///< Null for a literal and for the expression of GPT-2.
    bool m_gpt2 = false;
    bool m_nestedRepeats = false;
};

/// End of the piece that the expression of GPT-2 cuts off at `begin` < text.size().
[[nodiscard]] std::size_t gpt2PieceEnd(std::string_view text, std::size_t begin);

} // namespace rankwise::io::tokenizer
