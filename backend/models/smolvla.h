// SmolVLA: a vision-language model's first layers, and a narrower action expert that reads their keys and values.
//
// Source: Shukor et al. 2025, arXiv:2506.01844, as huggingface/lerobot runs it (policies/smolvla, 0.4 to 0.6). The
// loss is that of 0.6: true action width, padded steps left out. Where ours differs: prefix and suffix run one after
// the other also in training (the prefix never sees the suffix), and padded tokens are dropped where all samples agree.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/io/policy_config.h"
#include "backend/models/policy.h"
#include "backend/models/weight_table.h"

#include <memory>

namespace rankwise::models {

/// A SmolVLA of the configuration's sizes, with weights from `fill`.
/// Errors: FieldInvalid (sizes that do not fit together), Unsupported (adapt_to_pi_aloha), and those of `fill`.
[[nodiscard]] Result<std::unique_ptr<Policy>> makeSmolVla(const io::PolicyConfig& config, const WeightFill& fill);

} // namespace rankwise::models
