// What the tokens of the activations that are flowing through a layer stack are, for adapters and
// statistics that need to know: which rows are padding, which are image, language, state or action.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// Values are written to snapshots and never change.
enum class TokenKind : std::uint8_t { Image = 0, Language = 1, State = 2, Action = 3, Other = 4 };

/// Describes a [B, S, D] activation. Shapes: B batch, S tokens.
struct TokenContext {
    at::Tensor valid;             ///< [B, S] bool; undefined when every row is real.
    std::vector<TokenKind> kinds; ///< S entries, or empty when all are `Other`.
};

/// Makes `context` the current one of this thread until destroyed; scopes nest. `context` must outlive the scope.
class TokenScope {
public:
    explicit TokenScope(const TokenContext& context);
    ~TokenScope();
    TokenScope(const TokenScope&) = delete;
    TokenScope& operator=(const TokenScope&) = delete;

private:
    const TokenContext* m_outer;
};

/// The innermost scope's context, or nullptr outside of any. Thread: the calling one.
[[nodiscard]] const TokenContext* currentTokens();

} // namespace rankwise::models
