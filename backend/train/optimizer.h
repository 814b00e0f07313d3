// AdamW over named parameters, with what fine-tuning needs around it: an f32 copy of half-precision weights,
// parameter groups, clipping by the global norm, gradient accumulation, and an average of the weights (EMA).
//
// The step is torch's AdamW (decoupled weight decay, Loshchilov & Hutter 2019), through its fused kernel.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/models/policy.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::train {

/// Overrides for the parameters whose name matches; the first match counts.
struct ParameterGroup {
    std::string match;         ///< ECMAScript regular expression, searched anywhere in the name.
    double lrScale = 1.0;      ///< Factor on the schedule's rate, >= 0.
    double weightDecay = -1.0; ///< Negative: that of AdamWConfig.
};

struct AdamWConfig {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double eps = 1e-8;
    double weightDecay = 1e-10;
    bool decayMatricesOnly = false; ///< No decay for biases, norms and other tensors of fewer than two dimensions.
    double clipNorm = 10.0;         ///< Largest global gradient norm; 0 does not clip.
    double emaDecay = 0.0;          ///< 0: no average. The average follows as ema·d + weight·(1 − d).
    bool emaWarmup = true;          ///< d = min(emaDecay, (1 + n) / (10 + n)) at step n, so that short runs do not lag.
    std::vector<ParameterGroup> groups;
};

/// Thread: one at a time.
class AdamW {
public:
    /// Takes over `parameters`, whose order and names are kept. Each must be floating point; requires_grad is set.
    /// Errors: FieldInvalid (two parameters of one name, not floating point, a group's expression), FieldMissing
    /// (none).
    [[nodiscard]] static Result<std::unique_ptr<AdamW>> create(std::vector<models::NamedParameter> parameters,
                                                               const AdamWConfig& config);

    /// To be called after each backward pass: half-precision gradients are added up in the master's dtype.
    void collectGradients();
    /// To be called after the last backward pass of a step. Each parameter's grad() then is the sum of all passes.
    void finishGradients();
    /// Sees the summed gradients before clipping (averaging over processes); parameters without one are left out.
    void forEachGradient(const std::function<void(const std::string& name, at::Tensor& gradient)>& visit);

    /// Global L2 norm over all collected gradients, as torch: the norm of the norms. 0 when there are none.
    [[nodiscard]] double gradientNorm() const;
    /// Names of parameters whose collected gradient holds NaN or infinity, in order.
    [[nodiscard]] std::vector<std::string> nonFiniteGradients() const;
    /// Norm of the gradients (or of the weights) of the parameters for which `pick` holds.
    [[nodiscard]] double gradientNorm(const std::function<bool(const std::string& name)>& pick) const;
    [[nodiscard]] double weightNorm(const std::function<bool(const std::string& name)>& pick) const;

    /// Scales the gradients to clipNorm (factor clip / (norm + 1e-6), at most 1), steps, and forgets them.
    /// Parameters without a gradient are left alone and their step count does not advance, as in torch.
    void step(double lr, double norm);
    /// Forgets the collected gradients.
    void zeroGradients();

    [[nodiscard]] const std::vector<models::NamedParameter>& parameters() const { return m_parameters; }
    /// The averaged weights by name, in the parameter's own dtype; empty without EMA.
    [[nodiscard]] std::map<std::string, at::Tensor> averagedWeights() const;
    /// Puts the averaged weights into the parameters while alive. Does nothing without EMA.
    class AveragedScope {
    public:
        explicit AveragedScope(AdamW& optimizer);
        ~AveragedScope();
        AveragedScope(const AveragedScope&) = delete;
        AveragedScope& operator=(const AveragedScope&) = delete;

    private:
        AdamW& m_optimizer;
    };

    /// Everything that resume needs, by "<what>.<parameter name>" with what in {master, exp_avg, exp_avg_sq, step,
    /// ema}. The tensors are the live ones, except `step`.
    [[nodiscard]] std::map<std::string, at::Tensor> state() const;
    /// Puts state() back, and the master's values into the parameters.
    /// Errors: TensorNotFound, ShapeMismatch. Nothing has changed after an error.
    [[nodiscard]] Result<void> restore(const std::map<std::string, at::Tensor>& state);

    [[nodiscard]] std::int64_t elementCount() const; ///< Trained numbers.

private:
    struct Slot {
        at::Tensor master;   ///< The parameter itself when it is f32 or f64, else an f32 copy.
        at::Tensor gradient; ///< Undefined until there is one; grad() itself where the dtypes agree.
        at::Tensor average;  ///< m
        at::Tensor square;   ///< v
        at::Tensor steps;    ///< f32 scalar, as the fused kernel wants it.
        at::Tensor ema;
        double lrScale = 1.0;
        double weightDecay = 0.0;
    };

    AdamW() = default;
    void publish(); ///< Master -> parameter where they differ.
    void updateAverage();

    AdamWConfig m_config;
    std::vector<models::NamedParameter> m_parameters;
    std::vector<Slot> m_slots;
    std::int64_t m_emaSteps = 0;
};

} // namespace rankwise::train
