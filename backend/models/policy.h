// The interface of every vision-language-action policy: what training, evaluation, analysis and serving know.
//
// Notation: B batch, C cameras, T chunk (actions), A action width (padded to the model's), L language tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/models/linear.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::io {
struct PolicyConfig;
}

namespace rankwise::models {

class Taps;

/// One batch after the preprocessor: what the network itself consumes.
struct PolicyBatch {
    std::vector<at::Tensor> images;     ///< C tensors [B, 3, H, W], f32 in [-1, 1], in the configuration's order.
    std::vector<at::Tensor> imageMasks; ///< C tensors [B] bool: false for a missing camera.
    at::Tensor tokens;                  ///< [B, L] int64.
    at::Tensor tokenMask;               ///< [B, L] bool.
    at::Tensor state;                   ///< [B, state width], normalised and padded.
    at::Tensor actions;                 ///< [B, T, A], normalised and padded; undefined when sampling.
    at::Tensor actionIsPad;             ///< [B, T] bool; may be undefined.
    at::Tensor labels;                  ///< [B, N] f32 targets of an auxiliary loss; undefined without one.
};

struct LossOutput {
    at::Tensor loss;      ///< Scalar, the policy's own reduction; carries the gradient.
    at::Tensor perSample; ///< [B], detached.
    /// By camera: its tokens [B, S, D] as the language model takes them, before scaling; undefined for a camera that
    /// no sample has. Carry gradients, for auxiliary losses on what the vision tower sees. May be empty.
    std::vector<at::Tensor> imageTokens;
};

/// A named parameter or buffer of the checkpoint. `tensor` shares storage with the model's.
struct NamedParameter {
    std::string name; ///< As in the checkpoint, e.g. "model.state_proj.weight".
    at::Tensor tensor;
    bool trainableByConfig = true; ///< What the configuration of the checkpoint leaves trainable.
    bool wide = false;             ///< f32 also where the rest is bf16 (Precision::Mixed).
};

/// Thread: one thread at a time uses a policy.
class Policy {
public:
    virtual ~Policy() = default;

    [[nodiscard]] virtual std::string_view type() const = 0; ///< "smolvla", "pi0", ...
    /// The configuration it was made from, as config.json will hold it.
    [[nodiscard]] virtual const io::PolicyConfig& config() const = 0;
    [[nodiscard]] virtual std::int64_t chunkSize() const = 0;
    [[nodiscard]] virtual std::int64_t actionSteps() const = 0;     ///< n_action_steps: how many of a chunk are run.
    [[nodiscard]] virtual std::int64_t actionDim() const = 0;       ///< Robot's width.
    [[nodiscard]] virtual std::int64_t paddedActionDim() const = 0; ///< Network's width.

    /// All tensors under the checkpoint's names, in the checkpoint's order.
    [[nodiscard]] virtual std::vector<NamedParameter> parameters() const = 0;
    /// Every linear layer; references stay valid as long as the policy.
    [[nodiscard]] virtual std::vector<std::reference_wrapper<Linear>> linears() = 0;

    /// Training loss at given noise [R·B, T, A] and flow time [R·B]: R draws of each sample, the r-th in rows
    /// r·B … r·B + B - 1. The observation is encoded once for all of them.
    [[nodiscard]] virtual LossOutput loss(const PolicyBatch& batch, const at::Tensor& noise,
                                          const at::Tensor& time) = 0;
    /// Actions [B, T, action dim], normalised, from noise [B, T, A]; `steps` <= 0 takes the configuration's.
    [[nodiscard]] virtual at::Tensor sampleActions(const PolicyBatch& batch, const at::Tensor& noise,
                                                   std::int64_t steps = 0) = 0;

    /// Records intermediate activations of the calls that follow; nullptr stops it. `taps` must outlive them.
    virtual void setTaps(Taps* taps) = 0;

    /// Tells the policy that weights changed from outside (optimiser step, merge): drops fused or cast copies.
    virtual void weightsChanged() = 0;
};

} // namespace rankwise::models
