// Full fine-tuning: the policy's own weights train; what stays frozen is an option.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/base/json.h"

#include <memory>

namespace rankwise::adapters {

/// Options:
///     trainable       "all" (default) or "config" (what the checkpoint's configuration leaves trainable)
///     freeze          groups that stay frozen: "vision", "language", "action", "projection"
///     freeze_modules  module names (endings at a dot, or whole path prefixes) that stay frozen
/// Weights of dead ends (LM heads) never train: no gradient reaches them.
/// Saved as peft_type "FULL": the trained tensors under their names in the checkpoint.
[[nodiscard]] std::unique_ptr<AdaptationMethod> makeFull(FieldReader& reader);

} // namespace rankwise::adapters
