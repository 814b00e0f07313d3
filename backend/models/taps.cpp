// SPDX-License-Identifier: Apache-2.0
#include "backend/models/taps.h"

namespace rankwise::models {

void Taps::put(std::string name, const at::Tensor& value)
{
    if (value.defined()) {
        m_tensors.try_emplace(std::move(name), value.detach());
    }
}

void Taps::replace(std::string name, const at::Tensor& value)
{
    if (value.defined()) {
        m_tensors.insert_or_assign(std::move(name), value.detach());
    }
}

} // namespace rankwise::models
