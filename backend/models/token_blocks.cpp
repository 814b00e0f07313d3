// SPDX-License-Identifier: Apache-2.0
#include "backend/models/token_blocks.h"

#include <limits>

#include <ATen/ops/cumsum.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

at::Tensor blockMask(const at::Tensor& valid, const at::Tensor& flags)
{
    const at::Tensor block = at::cumsum(flags.to(at::kLong), 1); // [B, S]
    const at::Tensor ordered = block.unsqueeze(1).le(block.unsqueeze(2));
    return ordered.logical_and(valid.unsqueeze(1).logical_and(valid.unsqueeze(2)));
}

at::Tensor positionIds(const at::Tensor& valid)
{
    return at::cumsum(valid.to(at::kLong), 1) - 1;
}

at::Tensor additiveMask(const at::Tensor& mask)
{
    at::Tensor bias = at::zeros(mask.sizes(), mask.options().dtype(at::kFloat));
    return bias.masked_fill_(mask.logical_not(), static_cast<double>(std::numeric_limits<float>::lowest()));
}

} // namespace rankwise::models
