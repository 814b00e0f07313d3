// The network of SmolVLA: weights and the passes over them. The policy around it is in smolvla.cpp.
//
// Notation: B batch, P prefix tokens, T action tokens (chunk), D language width, W expert width, G key/value heads,
// d head width.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/decoder.h"
#include "backend/models/policy.h"
#include "backend/models/taps.h"
#include "backend/models/token_context.h"
#include "backend/models/vision_tower.h"

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// Images, language and state as the language model meets them.
struct SmolVlaPrefix {
    at::Tensor embeddings;        ///< [B, P, D]
    at::Tensor valid;             ///< [B, P] bool
    at::Tensor flags;             ///< [B, P] bool: true opens a block (the state).
    std::vector<TokenKind> kinds; ///< P entries.
    std::int64_t stateColumn = 0; ///< Where the state stands.
    bool allValid = false;        ///< No padding left: masks and positions are the same for every sample.
    std::vector<at::Tensor> imageTokens; ///< By camera [B, S, D] before scaling; undefined where it was left out.
};

/// Keys (rotated) and values [B, G, P, d] of one layer of the language model.
struct LayerCache {
    at::Tensor k;
    at::Tensor v;
};

/// What the action tokens need to know of the prefix: computed once for all Euler steps.
struct SmolVlaMemory {
    std::vector<LayerCache> layers; ///< Joint layers: the language model's. Cross layers: after the expert's k and v.
    RopeTable jointRope;            ///< Positions behind the prefix.
    RopeTable crossRope;            ///< Positions from 0.
    at::Tensor jointBias;           ///< [B or 1, T, P+T]
    at::Tensor crossBias;           ///< [B or 1, T, P]; undefined when every prefix token is valid.
};

/// The same memory for `draws` noises of each sample: rows b, B + b, 2B + b, … belong to sample b.
[[nodiscard]] SmolVlaMemory repeatedMemory(SmolVlaMemory memory, std::int64_t draws);

class SmolVlaNetwork {
public:
    // Sizes and switches
    std::int64_t chunk = 50;
    std::int64_t scaleFactor = 4;
    std::int64_t visionSide = 32; ///< Side of the position table, in patches.
    std::int64_t padToken = -1;   ///< Its embedding row gets no gradient; -1: none.
    std::int64_t fakeImageToken = -1;
    std::int64_t globalImageToken = -1;
    std::int64_t prefixLength = 0;
    std::int64_t expertEvery = 1; ///< The expert acts at language layers that this divides.
    bool imageSpecialTokens = false;
    double minPeriod = 0.004;
    double maxPeriod = 4.0;

    // Weights
    VisionTower vision;
    Linear connector;
    at::Tensor embedding;
    std::vector<DecoderBlock> text;
    RmsNorm textNorm;
    Linear lmHead;
    std::vector<DecoderBlock> expert;
    std::vector<bool> joint; ///< Per language layer: joint attention, else cross-attention.
    RmsNorm expertNorm;
    Linear stateProj;
    Linear actionIn;
    Linear actionOut;
    Linear timeIn;
    Linear timeOut;

    /// Every linear layer in the checkpoint's order.
    [[nodiscard]] std::vector<std::reference_wrapper<Linear>> linears();
    /// The last language layer whose keys and values the expert reads.
    [[nodiscard]] std::size_t lastReadLayer() const;
    [[nodiscard]] bool hasExpert(std::size_t layer) const { return layer % static_cast<std::size_t>(expertEvery) == 0; }

    /// `taps` (may be null) makes it keep padded tokens; without, those that no sample needs are left out.
    /// Gradients flow where weights train, except that a frozen vision tower records nothing.
    [[nodiscard]] SmolVlaPrefix embedPrefix(const PolicyBatch& batch, Taps* taps) const;

    /// Keys and values of all language layers that the expert reads (with `taps`: of all). `tapPrefix` is "train." or
    /// "prefill.".
    [[nodiscard]] std::vector<LayerCache> readPrefix(const SmolVlaPrefix& prefix, Taps* taps,
                                                     const char* tapPrefix) const;

    /// What readPrefix() gave, prepared for the expert.
    [[nodiscard]] SmolVlaMemory remember(const SmolVlaPrefix& prefix, std::vector<LayerCache> layers) const;

    /// Velocity [B, T, A] at x_t [B, T, A] and times [B].
    [[nodiscard]] at::Tensor velocity(const at::Tensor& noisy, const at::Tensor& time, const SmolVlaMemory& memory,
                                      Taps* taps) const;

private:
    [[nodiscard]] bool contextTrains() const;
    [[nodiscard]] std::vector<at::Tensor> encodeImages(const std::vector<at::Tensor>& images,
                                                       const std::vector<at::Tensor>& masks, Taps* taps) const;
    /// Runs `x` through the language layers behind `past` (null: nothing) and returns keys and values of both.
    [[nodiscard]] std::vector<LayerCache> runText(at::Tensor x, const RopeTable& rope, const at::Tensor& bias,
                                                  const std::vector<LayerCache>* past, Taps* taps,
                                                  const char* tapPrefix) const;
    [[nodiscard]] at::Tensor embedActions(const at::Tensor& noisy, const at::Tensor& time) const;
};

} // namespace rankwise::models
