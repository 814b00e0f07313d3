// A regular expression from a file that is matched against module paths, with bounds on its cost.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace rankwise::io {

/// Compiled by PCRE2, which reads what Python's `re` writes in such patterns. Copies share the code. Thread: any.
class PathPattern {
public:
    /// Errors: FieldInvalid (does not compile), TooLarge (longer than 64 KiB).
    [[nodiscard]] static Result<PathPattern> compile(std::string_view expression, const std::string& subject);

    /// The whole path matches, as Python's re.fullmatch.
    /// Errors: TooLarge (the expression takes too many steps on this path).
    [[nodiscard]] Result<bool> matches(std::string_view path) const;

    /// The number that the first group captured, matching from the start of the path as Python's re.match.
    /// Errors: TooLarge.
    [[nodiscard]] Result<std::optional<std::int64_t>> capturedNumber(std::string_view path) const;

private:
    struct Code;
    std::shared_ptr<const Code> m_code;
};

} // namespace rankwise::io
