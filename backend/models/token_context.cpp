// SPDX-License-Identifier: Apache-2.0
#include "backend/models/token_context.h"

namespace rankwise::models {

namespace {
thread_local const TokenContext* t_current = nullptr;
}

TokenScope::TokenScope(const TokenContext& context) : m_outer(t_current)
{
    t_current = &context;
}

TokenScope::~TokenScope()
{
    t_current = m_outer;
}

const TokenContext* currentTokens()
{
    return t_current;
}

} // namespace rankwise::models
