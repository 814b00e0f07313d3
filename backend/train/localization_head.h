// A head that only training has: from each camera's image tokens it tells where things are in the picture. Its loss
// teaches the vision tower to localise, which a flow-matching loss alone does slowly; it is left behind when the
// policy is saved. Needs labels, which simulation gives away (`rankwise sim record --labels`).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/models/policy.h"

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::train {

/// How the numbers of a label feature are laid out: for each camera, for each point, u, v, depth, inside.
struct LabelLayout {
    std::vector<std::string> cameras; ///< Short names, e.g. "front", in the feature's order.
    std::int64_t points = 0;          ///< In each camera.

    /// From names "<camera>.<point>.<number>". Errors: FieldInvalid (another layout; the message shows it).
    [[nodiscard]] static Result<LabelLayout> fromNames(const std::vector<std::string>& names, const std::string& key);
};

struct LocalizationLoss {
    at::Tensor loss;       ///< Scalar with gradient: Huber loss over u, v and depth of the points in the picture.
    double imageError = 0; ///< Mean |Δu|, |Δv| as a fraction of the picture's side.
};

/// Thread: the training loop's.
class LocalizationHead {
public:
    /// `tokens` are LossOutput::imageTokens of any batch, for their sizes; `cameras` the policy's camera names.
    /// Errors: FieldInvalid (a camera of the policy without labels), ShapeMismatch (no tokens of a camera).
    [[nodiscard]] static Result<LocalizationHead> create(const LabelLayout& layout,
                                                         const std::vector<std::string>& cameras,
                                                         const std::vector<at::Tensor>& tokens, std::uint64_t seed);

    /// "localization.<camera>.<layer>.<weight or bias>"; f32.
    [[nodiscard]] std::vector<models::NamedParameter> parameters() const;

    /// `labels` [B, cameras · points · 4] f32. Cameras that a batch lacks are left out.
    [[nodiscard]] LocalizationLoss loss(const std::vector<at::Tensor>& imageTokens, const at::Tensor& labels) const;

private:
    struct Layer {
        at::Tensor weight;
        at::Tensor bias;
    };
    struct Camera {
        std::string name;
        std::int64_t labelIndex = 0; ///< Of LabelLayout::cameras.
        Layer reduce;                ///< [16, D]: what of each token matters here.
        Layer norm;                  ///< [S · 16]
        Layer hidden;                ///< [128, S · 16]
        Layer out;                   ///< [points · 3, 128]
    };

    std::int64_t m_points = 0;
    std::int64_t m_labelCameras = 0;
    std::vector<Camera> m_cameras; ///< By the policy's cameras.
};

} // namespace rankwise::train
