// Mixed precision: matrix products in bf16 with f32 weights, gradients and everything else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rankwise::train {

/// Torch's autocast to bf16 on the CPU while alive; does nothing when not `enabled`. Thread: the one that made it.
class AutocastScope {
public:
    explicit AutocastScope(bool enabled);
    ~AutocastScope();
    AutocastScope(const AutocastScope&) = delete;
    AutocastScope& operator=(const AutocastScope&) = delete;

private:
    bool m_enabled;
    bool m_before = false;
};

} // namespace rankwise::train
