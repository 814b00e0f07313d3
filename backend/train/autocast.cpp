// The one file that pays for ATen/autocast_mode.h.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/autocast.h"

#include <ATen/autocast_mode.h>

namespace rankwise::train {

AutocastScope::AutocastScope(bool enabled) : m_enabled(enabled)
{
    if (m_enabled) {
        m_before = at::autocast::is_autocast_enabled(at::kCPU);
        at::autocast::set_autocast_enabled(at::kCPU, true);
        at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
        at::autocast::increment_nesting();
    }
}

AutocastScope::~AutocastScope()
{
    if (m_enabled) {
        if (at::autocast::decrement_nesting() == 0) {
            at::autocast::clear_cache();
        }
        at::autocast::set_autocast_enabled(at::kCPU, m_before);
    }
}

} // namespace rankwise::train
