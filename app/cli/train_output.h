// How training shows on a terminal; used by `train` and `demo`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/train/trainer.h"

#include <string>
#include <vector>

namespace rankwise::cli {

/// One line a module group: the mean active rank of each layer, in the order of depth.
[[nodiscard]] std::string rankLines(const std::vector<adapters::LayerDigest>& layers);
[[nodiscard]] std::string stepLine(const train::StepRecord& record);

/// Prints the pre-flight card, a step line at most every `secondsBetweenLines`, messages and rank digests to standard
/// error.
[[nodiscard]] train::RunObserver printingObserver(double secondsBetweenLines);

} // namespace rankwise::cli
