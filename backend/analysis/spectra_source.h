// Where spectra come from: the linear layers of a checkpoint, an adapter on it, or two checkpoints, each layer opened
// when it is its turn. Files stay mapped; nothing of the size of a model is in memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/analysis/singular_values.h"
#include "backend/base/result.h"
#include "backend/data/spectra_folder.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace rankwise::analysis {

struct SourceOptions {
    std::filesystem::path subject; ///< A checkpoint, an adapter folder, or a run of ours (its newest checkpoint).
    std::filesystem::path base;    ///< The weights under an adapter, or W of a fully fine-tuned W'. May be empty: an
                                   ///< adapter's own base is taken where its folder is there.
};

/// The matrices to look at. Immutable; thread: any.
///
/// A linear layer is a tensor "<path>.weight" of two dimensions that is no embedding; groups and depths follow from the
/// names that SmolVLA, pi0, pi0.5 and OpenVLA use. ΔW is
///   - of LoRA, rank-stabilised LoRA and AdaLoRA: scale · B · A, in its factors;
///   - of DoRA: the merged weight minus W;
///   - of LoRA-SP, whose update depends on the token: c · U diag(s) V at equal gates, s = map(W2 · 1/m), the middle of
///     what its router can choose (without the two-stage router: s = 1);
///   - of full fine-tuning: W' - W.
class SpectraSource {
public:
    /// Errors: those of reading; FileNotFound (no weights), Unsupported (other adapters), DataInvalid (no linear layer;
    /// no layer in common with the base), ShapeMismatch.
    [[nodiscard]] static Result<SpectraSource> open(const SourceOptions& options);

    /// Layers by group, depth and path.
    [[nodiscard]] const data::SpectraHeader& header() const;

    /// The matrix of a layer that has this kind. Errors: those of TensorFile::tensor(), ShapeMismatch.
    [[nodiscard]] Result<MatrixParts> matrix(std::size_t layer, data::SpectrumKind kind) const;

private:
    struct State;
    SpectraSource() = default;
    std::shared_ptr<const State> m_state;
};

/// Part of the model (models::LayerGroup) and depth of a layer, by its path.
struct LayerPlace {
    std::int64_t group = 3;
    std::int64_t depth = -1;
};
[[nodiscard]] LayerPlace placeOf(const std::string& path);

} // namespace rankwise::analysis
