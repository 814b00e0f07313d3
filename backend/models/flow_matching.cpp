// SPDX-License-Identifier: Apache-2.0
#include "backend/models/flow_matching.h"

#include "backend/base/result.h"

#include <cmath>
#include <numbers>

#include <ATen/ops/cat.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/pow.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

at::Tensor timeEmbedding(const at::Tensor& time, std::int64_t width, double minPeriod, double maxPeriod)
{
    RW_CHECK(width % 2 == 0 && time.dim() == 1);
    const at::Tensor fraction = at::linspace(0.0, 1.0, width / 2, time.options().dtype(at::kDouble));
    const at::Tensor period = at::pow(at::Scalar(maxPeriod / minPeriod), fraction) * minPeriod;
    const at::Tensor angle =
        (period.reciprocal() * 2 * std::numbers::pi).unsqueeze(0) * time.to(at::kDouble).unsqueeze(1);
    return at::cat({ angle.sin(), angle.cos() }, 1).to(at::kFloat); // [B, width]
}

at::Tensor noisyActions(const at::Tensor& actions, const at::Tensor& noise, const at::Tensor& time)
{
    const at::Tensor t = time.view({ -1, 1, 1 });
    return t * noise + (1 - t) * actions;
}

at::Tensor flowTime(const at::Tensor& uniform)
{
    return uniform.to(at::kFloat).pow(2.0 / 3.0) * 0.999 + 0.001;
}

double eulerTime(std::int64_t step, std::int64_t steps)
{
    const double dt = -1.0 / static_cast<double>(steps);
    return static_cast<double>(static_cast<float>(1.0 + static_cast<double>(step) * dt));
}

at::Tensor integrateFlow(const at::Tensor& noise, std::int64_t steps,
                         const std::function<at::Tensor(const at::Tensor& x, double time)>& velocity)
{
    RW_CHECK(steps > 0);
    at::Tensor x = noise;
    for (std::int64_t step = 0; step < steps; ++step) {
        x = x + velocity(x, eulerTime(step, steps)) * (-1.0 / static_cast<double>(steps));
    }
    return x;
}

FlowLoss flowLoss(const at::Tensor& velocity, const at::Tensor& actions, const at::Tensor& noise,
                  const at::Tensor& isPad, std::int64_t actionDim)
{
    const at::Tensor difference = noise - actions - velocity;
    FlowLoss result;
    result.elements = difference.detach().square();
    const at::Tensor used = difference.narrow(2, 0, actionDim).square();
    const auto width = static_cast<double>(actionDim);
    if (!isPad.defined()) {
        result.loss = used.mean();
        result.perSample = used.detach().mean({ 1, 2 });
        return result;
    }
    const at::Tensor kept = isPad.logical_not().to(at::kFloat); // [B, T]
    const at::Tensor masked = used * kept.unsqueeze(2);
    result.loss = masked.sum() / (kept.sum() * width).clamp_min(1.0);
    result.perSample = masked.detach().sum({ 1, 2 }) / (kept.sum(1) * width).clamp_min(1.0);
    return result;
}

} // namespace rankwise::models
