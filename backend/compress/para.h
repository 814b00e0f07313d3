// PARA: one global threshold on the singular values of all updates of a trained LoRA adapter decides the rank of each
// module, without data and without training.
//
// Notation: B [out, r], A [r, in], s scale; s·B·A = U diag(σ̃) Vᵀ with K = min(r, out, in) values.
// Source: PARA, arXiv 2604.27796. Where the paper is silent: values are pooled with |s| multiplied in; equal to 12
// significant digits is a tie, ordered by module name and index; values at the rounding of double are zero.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::compress {

/// One adapted module as it comes in.
struct ParaModule {
    std::string path;
    at::Tensor a; ///< [r, in]
    at::Tensor b; ///< [out, r]
    double scale = 1;
    std::string group; ///< For ParaPolicy::Kind::Groups.
};

/// The update of one module, decomposed in double precision.
struct ParaSpectrum {
    std::string path;
    std::string group;
    at::Tensor u;              ///< [out, K] f64, orthonormal columns, largest entry of each positive.
    at::Tensor v;              ///< [in, K] f64
    std::vector<double> sigma; ///< [K] singular values of B·A, falling; without the scale.
    double scale = 1;
    std::int64_t rank = 0; ///< r
    std::int64_t cost = 0; ///< out + in: parameters of one rank.
    double floor = 0;      ///< Values σ̃ up to here are rounding.

    [[nodiscard]] double scaled(std::size_t index) const; ///< σ̃
};

/// Decomposes every update by thin QR of both factors and the SVD of the r × r core.
///
/// Errors: ShapeMismatch, NotFinite (with the module's name), Cancelled. Thread: any; runs its own threads, one module
/// each, as many as the machine has.
[[nodiscard]] Result<std::vector<ParaSpectrum>> decomposeUpdates(const std::vector<ParaModule>& modules,
                                                                 const JobContext& job = {});

/// How much to keep.
struct ParaPolicy {
    enum class Kind : std::uint8_t {
        Gamma,         ///< share of Σ r, in (0, 1]
        Energy,        ///< shortest prefix of the pool with this share of Σ σ̃², in (0, 1]
        Threshold,     ///< every σ̃ at least this
        RankTotal,     ///< this many values
        Params,        ///< as many leading values as fit this number of parameters
        ParamsOptimal, ///< the same in the order of σ̃² per parameter
        Bytes,         ///< Params with the size of one stored number
        Groups,        ///< a pool and a share for each group
        Local,         ///< this share of each module's rank (the paper's ablation)
    };
    Kind kind = Kind::Gamma;
    double value = 0.25;
    std::map<std::string, double> groups; ///< For Groups: name → γ. Every group of the pool must be there.
    std::int64_t minimumRank = 0;         ///< Every module keeps this many (above the floor).
    std::int64_t bytesPerNumber = 4;      ///< For Bytes.
};

struct ParaChoice {
    std::map<std::string, std::int64_t> ranks; ///< By path; 0: the module goes.
    std::int64_t totalRank = 0;
    std::optional<double> tau; ///< Smallest kept σ̃; nothing when nothing is kept.
    std::int64_t tiesCut = 0;  ///< Values equal to tau that were left out.
    std::int64_t parameters = 0;
    double keptEnergy = 1;          ///< Share of Σ σ̃².
    double relativeError = 0;       ///< Frobenius, over all modules.
    std::optional<double> gapAtCut; ///< Relative distance of the first value left out; nothing at the ends.
    std::vector<std::string> removed;
};

/// Errors: FieldInvalid (a value outside of its range, a group without a share).
[[nodiscard]] Result<ParaChoice> chooseRanks(const std::vector<ParaSpectrum>& spectra, const ParaPolicy& policy);

/// Where the scale goes.
enum class ParaLayout : std::uint8_t {
    Baked,     ///< Into the factors; alpha = r for each module, so that every loader gets scale 1.
    KeptScale, ///< alpha = s·r for each module.
    Padded,    ///< Baked, and zero vectors up to one rank for all: for loaders without rank patterns.
};

/// Factors of the leading `rank` values in double: B̂ [out, rank], Â [rank, in].
struct ParaFactors {
    at::Tensor b, a;
};
[[nodiscard]] ParaFactors paraFactors(const ParaSpectrum& spectrum, std::int64_t rank, ParaLayout layout);

/// The truncated update s·U diag(σ) Vᵀ in double, [out, in].
[[nodiscard]] at::Tensor truncatedUpdate(const ParaSpectrum& spectrum, std::int64_t rank);

struct ParaOptions {
    ParaPolicy policy;
    ParaLayout layout = ParaLayout::Baked;
    at::ScalarType type = at::kFloat;           ///< Of the factors written.
    std::vector<std::string> linearPaths;       ///< All linear layers of the policy, where known: keeps the written
                                                ///< target_modules from choosing more than the kept ones.
    std::map<std::string, std::string> groupOf; ///< Path → group; paths that are absent get defaultGroup().
    std::filesystem::path initialAdapter;       ///< For adapters whose initialisation changed the base (PiSSA, OLoRA):
                                                ///< the folder saved before training.
};

/// "vision", "expert", "vlm" or "proj", from the names that SmolVLA, pi0 and pi0.5 use.
[[nodiscard]] std::string defaultGroup(const std::string& path);

/// Compresses the PEFT folder `input` into the new folder `output`: adapter_config.json, adapter_model.safetensors and
/// compression_report.json, the receipt that is also returned.
///
/// LoRA, rank-stabilised LoRA and AdaLoRA; biases, modules_to_save are carried over.
/// Errors: those of readPeftFolder(), decomposeUpdates() and chooseRanks(); Unsupported (DoRA, convolutions,
///         embeddings, token rows, a changed base without `initialAdapter`); DataInvalid (nothing would be left);
///         AlreadyExists (output), IoFailed, DiskFull, Cancelled.
[[nodiscard]] Result<Json> compressAdapter(const std::filesystem::path& input, const std::filesystem::path& output,
                                           const ParaOptions& options, const JobContext& job = {});

} // namespace rankwise::compress
