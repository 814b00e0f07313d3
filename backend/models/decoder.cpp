// SPDX-License-Identifier: Apache-2.0
#include "backend/models/decoder.h"

#include "backend/base/result.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/split.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

/// y + x in y's dtype; y is a product nobody else holds, so without a graph it is added to in place.
at::Tensor addResidual(at::Tensor y, const at::Tensor& x, const Linear& from)
{
    if (!at::GradMode::is_enabled() && !from.adapter) {
        return y.add_(x);
    }
    return (y + x).to(y.scalar_type());
}

} // namespace

RmsNorm::Output RmsNorm::forward(const at::Tensor& x, const at::Tensor& condition) const
{
    switch (style) {
    case NormStyle::Llama:
        return { rmsNorm(x, weight, eps), {} };
    case NormStyle::Gemma:
        return { gemmaNorm(x, weight, eps), {} };
    case NormStyle::Adaptive:
        break;
    }
    RW_CHECK(condition.defined());
    const std::vector<at::Tensor> parts = at::split(modulation.forward(condition).unsqueeze(1), x.size(-1), -1);
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor unit = wide * (wide.square().mean(-1, true) + eps).rsqrt();
    const at::Tensor y = unit * (parts[0].to(at::kFloat) + 1) + parts[1].to(at::kFloat);
    return { y.to(x.scalar_type()), parts[2] };
}

AttentionHeads DecoderBlock::heads(const at::Tensor& h, const RopeTable& rope) const
{
    const std::vector<at::Tensor> rows = LinearGroup::forward({ &q, &k, &v }, h);
    return { splitHeads(rows[0], headDim, &rope), splitHeads(rows[1], headDim, &rope), splitHeads(rows[2], headDim) };
}

AttentionHeads DecoderBlock::keysAndValues(const at::Tensor& h, const RopeTable& rope) const
{
    const std::vector<at::Tensor> rows = LinearGroup::forward({ &k, &v }, h);
    return { {}, splitHeads(rows[0], headDim, &rope), splitHeads(rows[1], headDim) };
}

at::Tensor DecoderBlock::finish(const at::Tensor& x, const at::Tensor& attended, const at::Tensor& attentionGate,
                                const at::Tensor& condition) const
{
    at::Tensor out = o.forward(attended);
    if (attentionGate.defined()) {
        out = out * attentionGate;
    }
    const at::Tensor middle = addResidual(out, x, o);
    const RmsNorm::Output normed = postNorm.forward(middle, condition);
    const std::vector<at::Tensor> rows = LinearGroup::forward({ &gate, &up }, normed.y);
    at::Tensor mlp = down.forward(gatedProduct(rows[0], rows[1], activation));
    if (normed.gate.defined()) {
        mlp = mlp * normed.gate;
    }
    return addResidual(mlp, middle, down);
}

void DecoderBlock::pack()
{
    LinearGroup::pack({ &q, &k, &v });
    LinearGroup::pack({ &gate, &up });
}

std::int64_t expertMlpWidth(std::int64_t width)
{
    constexpr std::int64_t kMultiple = 256;
    const std::int64_t hidden = 2 * width / 3 * 4;
    return (hidden + kMultiple - 1) / kMultiple * kMultiple;
}

} // namespace rankwise::models
