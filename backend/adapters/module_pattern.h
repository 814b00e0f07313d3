// Regular expressions on module paths, as adapter configurations write them, with limits on time and memory:
// the expressions come from files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rankwise::adapters {

/// A compiled expression (PCRE2, which reads what Python's `re` writes in module patterns).
/// Copies share the compiled form. Thread: any.
class ModulePattern {
public:
    /// Errors: FieldInvalid (does not compile; the message has the offset), TooLarge (over 64 KiB).
    [[nodiscard]] static Result<ModulePattern> compile(std::string_view expression, const std::string& subject);

    /// The whole path matches (Python: re.fullmatch).
    /// Errors: TooLarge (the expression backtracks beyond the limit).
    [[nodiscard]] Result<bool> matchesWhole(std::string_view path) const;
    /// The first capture group of a match from the start of the path (Python: re.match).
    [[nodiscard]] Result<std::optional<std::string>> capture(std::string_view path) const;

private:
    struct Code;
    std::shared_ptr<const Code> m_code;
    std::string m_expression;
};

/// Key → value tables of PEFT (rank_pattern, alpha_pattern). The first key in order whose expression matches the end
/// of the path at a dot, "(.*\.)?(KEY)$", gives the value.
class PatternTable {
public:
    /// Errors: FieldInvalid with `subject` and the key.
    [[nodiscard]] static Result<PatternTable> make(std::vector<std::pair<std::string, double>> entries,
                                                   const std::string& subject);

    /// Errors: TooLarge.
    [[nodiscard]] Result<std::optional<double>> find(std::string_view path) const;
    /// The key that decides for `path`.
    [[nodiscard]] Result<std::optional<std::string>> findKey(std::string_view path) const;
    [[nodiscard]] const std::vector<std::pair<std::string, double>>& entries() const { return m_entries; }

private:
    std::vector<std::pair<std::string, double>> m_entries;
    std::vector<ModulePattern> m_patterns;
};

/// Escapes what is special in an expression, so that it matches `text` alone.
[[nodiscard]] std::string escapePattern(std::string_view text);

/// Whether `path` equals `name` or ends with "." + name: PEFT's rule for lists.
[[nodiscard]] bool endsAtDot(std::string_view path, std::string_view name);

} // namespace rankwise::adapters
