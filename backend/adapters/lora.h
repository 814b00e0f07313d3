// Low-rank adaptation of linear layers, plain and rank-stabilised.
//
//     y = W x + b + s · B (A x̃),   s = alpha / r, or alpha / √r (rslora); x̃ is x after dropout
//
// Sources: Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732. Arithmetic and file as PEFT's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/adapters/adapter_random.h"
#include "backend/base/json.h"
#include "backend/models/linear.h"

#include <memory>

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// One adapted layer. Thread: one forward pass at a time.
class LoraLayer final : public models::LinearAdapter {
public:
    /// `random` serves dropout, which acts in forward passes with gradients enabled.
    LoraLayer(at::Tensor a, at::Tensor b, double scaling, double dropoutProbability,
              std::shared_ptr<AdapterRandom> random);

    [[nodiscard]] at::Tensor forward(const models::Linear& base, const at::Tensor& x) override;

    at::Tensor down;  ///< A [r, in]
    at::Tensor up;    ///< B [out, r]
    double scale = 1; ///< s
    double alpha = 1; ///< In the file.

private:
    double m_dropout;
    std::shared_ptr<AdapterRandom> m_random;
};

/// Options, with PEFT's names as alternatives:
///     r (16), alpha or lora_alpha (2r), rslora or use_rslora (false), dropout or lora_dropout (0),
///     init or init_lora_weights: "default" (A uniform in ±1/√in) or "gaussian" (A ~ N(0, 1/r²)); B = 0,
///     rank_pattern, alpha_pattern (objects; keys are read in sorted order), param_dtype ("float32"), and the fields of
///     TargetOptions.
[[nodiscard]] std::unique_ptr<AdaptationMethod> makeLora(FieldReader& reader);

} // namespace rankwise::adapters
