// Where a NaN or infinity came from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/models/policy.h"
#include "backend/train/flow_noise.h"
#include "backend/train/optimizer.h"

namespace rankwise::train {

/// Explains why the loss or a gradient of this batch is not finite, by looking, in this order, at the batch, at the
/// weights, at each linear layer's output in the order in which they run, and at the gradients. Errors never hide:
/// the returned Error always is NotFinite, its subject the tensor or layer, its message the remedy.
[[nodiscard]] Error explainNonFinite(models::Policy& policy, const AdamW& optimizer, const models::PolicyBatch& batch,
                                     const FlowDraw& draw, std::int64_t step);

} // namespace rankwise::train
