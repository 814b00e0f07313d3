// Flow matching as SmolVLA, pi0 and pi0.5 share it: t = 1 is noise, t = 0 is data, the network predicts
// v = noise - action, and actions come from Euler steps of -1/N.
//
// Sources: Lipman et al. 2023, arXiv:2210.02747; Black et al. 2024, arXiv:2410.24164, with time running backwards.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// Sine and cosine features of times [B]: [B, width] f32, computed in f64.
///
/// width/2 periods spread geometrically over [minPeriod, maxPeriod]; sines first. `width` is even.
[[nodiscard]] at::Tensor timeEmbedding(const at::Tensor& time, std::int64_t width, double minPeriod, double maxPeriod);

/// t·noise + (1-t)·actions for times [B] and tensors [B, T, A].
[[nodiscard]] at::Tensor noisyActions(const at::Tensor& actions, const at::Tensor& noise, const at::Tensor& time);

/// Flow time from a uniform u in [0, 1): 0.001 + 0.999·u^(2/3), that is 0.001 + 0.999·Beta(1.5, 1).
[[nodiscard]] at::Tensor flowTime(const at::Tensor& uniform);

/// Time of Euler step `step` of `steps`, rounded to f32 as the reference does: 1 - step/steps.
[[nodiscard]] double eulerTime(std::int64_t step, std::int64_t steps);

/// Integrates from t = 1 to 0: x <- x - v(x, t)/steps, `steps` times. `velocity` gets x and t.
[[nodiscard]] at::Tensor integrateFlow(const at::Tensor& noise, std::int64_t steps,
                                       const std::function<at::Tensor(const at::Tensor& x, double time)>& velocity);

struct FlowLoss {
    at::Tensor elements;  ///< [B, T, A] squared errors, uncut.
    at::Tensor loss;      ///< Mean over the counted entries of the first `actionDim` columns.
    at::Tensor perSample; ///< [B], detached; 0 for a sample whose steps are all padding.
};

/// (velocity - (noise - actions))², cut to `actionDim` columns, without the steps that `isPad` [B, T] marks (may be
/// undefined). The mean's denominator is counted steps · actionDim.
[[nodiscard]] FlowLoss flowLoss(const at::Tensor& velocity, const at::Tensor& actions, const at::Tensor& noise,
                                const at::Tensor& isPad, std::int64_t actionDim);

} // namespace rankwise::models
