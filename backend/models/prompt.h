// The texts that the policies' language models read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::io {
class Tokenizer;
}

namespace rankwise::models {

/// SmolVLA and pi0: the task with a newline at its end, added only where there is none.
[[nodiscard]] std::string newlinePrompt(std::string_view task);

/// The bin of a normalised value among 256 over [-1, 1): -1 below, 255 above; NaN counts as above.
/// Edges are exact binary fractions, so values are compared as they are, in f64.
[[nodiscard]] int stateBin(double value);

/// pi0.5: "Task: <task>, State: <bins>;\nAction: ". `state` [D] on the CPU, normalised.
/// The task loses white space at its ends; underscores and newlines inside become spaces.
[[nodiscard]] std::string pi05Prompt(std::string_view task, const at::Tensor& state);

/// OpenVLA: "In: What action should the robot take to <task in lower case>?\nOut:".
[[nodiscard]] std::string openVlaPrompt(std::string_view task);

/// Ids of openVlaPrompt() with the empty-piece token at the end, which the reference appends where it is missing.
/// Errors: those of io::Tokenizer::encode().
[[nodiscard]] Result<std::vector<std::int64_t>> openVlaPromptIds(const io::Tokenizer& tokenizer, std::string_view task);

/// Text in lower case and without white space at its ends, as Python's str.lower() and str.strip() do it.
[[nodiscard]] std::string lowerCase(std::string_view text);
[[nodiscard]] std::string_view stripped(std::string_view text);

} // namespace rankwise::models
