// LoRA-SP on one linear layer: a bank of rank-one updates, weighted for each token by a router and cut to the
// smallest set that holds the share eta of the scores' energy.
//
//     y = W x + b + c · U (s̄ ⊙ (V x)),   s = map(W2 · softmax(W1 x̃)),   s̄ = s where kept, else 0
//
// Notation: T tokens, R bank size, m blocks; V [R, in], U [out, R], W1 [m, in], W2 [R, m]. x̃ is x after router
// dropout and, if asked for, division by its root mean square.
//
// Source: LoRA-SP, arXiv 2603.07404 (mode Paper); the released code of the same authors (mode Reference), which keeps
// one vector less, sorts signed scores, sums over the batch, and lets a softmax over the bank feed the balance loss.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adapter_random.h"
#include "backend/adapters/lora_sp_kernel.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/models/linear.h"
#include "backend/models/token_context.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// Options of the method; JSON names in comments where they differ. `mode` sets the defaults of the others.
struct LoraSpOptions {
    enum class Mode : std::uint8_t { Paper, Reference };
    enum class SortKey : std::uint8_t { Square, Signed };
    enum class Routing : std::uint8_t { Weighted, Top1, Top2 };

    Mode mode = Mode::Paper;
    // Change the function
    std::int64_t bank = 128;             ///< R, a multiple of blocks.
    std::int64_t blocks = 4;             ///< m
    double eta = 0.9;                    ///< In (0, 1].
    double scale = 2;                    ///< c
    bool referenceSelect = false;        ///< select: "paper" | "reference"
    SortKey sortKey = SortKey::Square;   ///< sort_key: "square" | "signed"
    ScoreMap scoreMap = ScoreMap::None;  ///< score_map: "none" | "softplus" | "relu" | "abs"
    Routing routing = Routing::Weighted; ///< "weighted" | "top1" | "top2": masks the gates
    bool directRouter = false;           ///< router: "two_stage" | "direct" (W1 [R, in] alone, no softmax)
    bool rmsRouter = false;              ///< router_norm: "none" | "rms"
    // Change the training
    double w2Noise = 0;                    ///< w2_init: "block" (0) | "block+noise" (0.02)
    double routerDropout = 0.05;           ///< router_dropout
    double spectralWeight = 1e-2;          ///< weights.spectral
    double balanceWeight = 1e-3;           ///< weights.balance
    double zWeight = 1e-3;                 ///< weights.z
    bool batchRatio = false;               ///< spec_reduce: "token_mean" | "batch_ratio"
    bool referenceLosses = false;          ///< losses: "paper" | "reference" (balance and z as in the released code)
    bool lastCallOnly = false;             ///< aux_calls: "accumulate" | "last"
    at::ScalarType paramType = at::kFloat; ///< param_dtype
    // Change only the speed
    bool unionSlicing = false; ///< union_slicing: compute only vectors that some token keeps
    bool fused = true;         ///< One pass over the tokens on the CPU where the options allow it.

    /// Errors are kept in the reader.
    static LoraSpOptions read(FieldReader& reader);
    [[nodiscard]] Json json() const;
};

/// Which scores are kept. `keep` [..., R] bool, `k` [...] int64, `energy` [...] kept share of Σ s².
struct ScoreSelection {
    at::Tensor keep;
    at::Tensor k;
    at::Tensor energy;
};

/// The selection of `scores` [..., R], without gradient.
///
/// Paper: in double; smallest k with C_k >= eta·D·(1 - 1e-6), ties by lowest index, every nonzero score for
/// eta >= 1, none when all are 0 (energy 1). Reference: in the scores' type; the prefix with C_k <= eta·D, at least
/// one. Errors: NotFinite (Paper only).
[[nodiscard]] Result<ScoreSelection> selectByEnergy(const at::Tensor& scores, double eta, bool reference,
                                                    LoraSpOptions::SortKey key);

/// What one forward pass leaves for the losses. Sums over the valid tokens; entries carry gradients.
struct LoraSpCall {
    at::Tensor sums;  ///< [2 + m]: Σ (1 - E), Σ lse², Σ gates; or the reference's [spectral, z, balance].
    at::Tensor top;   ///< [m] tokens whose largest gate this is, no gradient.
    at::Tensor ratio; ///< [2] Σ kept s², Σ s²; only for batchRatio.
    std::int64_t tokens = 0;
};

inline constexpr std::int64_t kTokenKinds = 5; ///< Values of models::TokenKind.

/// Kinds of `rows` rows of an activation, repeated from sample to sample; empty where they are not known.
[[nodiscard]] std::span<const models::TokenKind> kindsOfRows(std::int64_t rows);

/// Running statistics of one layer over valid tokens, on the CPU. Tensors are replaced by reset().
struct LoraSpStatistics {
    at::Tensor ranks;        ///< [R+1] int64 histogram of k
    at::Tensor kept;         ///< [R] int64 times kept
    at::Tensor share;        ///< [R] f64 Σ s²/D
    at::Tensor largestShare; ///< [R] f64
    at::Tensor gates;        ///< [m] f64 Σ gates
    at::Tensor kinds;        ///< [kTokenKinds, 2 + m] f64 tokens, Σ k, Σ gates, of those whose kind is known
    double energy = 0;       ///< Σ E
    std::int64_t tokens = 0;
    std::int64_t sampled = 0; ///< Tokens in kept, share, largestShare: in training without pruning every eighth.

    void reset(std::int64_t bank, std::int64_t blocks);
    void add(const LoraSpStatistics& other);
};

/// Thread: one forward pass at a time.
class LoraSpLayer final : public models::LinearAdapter {
public:
    /// Fresh parameters: V and W1 uniform in ±1/√in, U = 0, W2 the block indicator. `random` is shared by the layers
    /// of one method and used by dropout.
    LoraSpLayer(const models::Linear& base, const LoraSpOptions& options, std::shared_ptr<AdapterRandom> random);

    [[nodiscard]] at::Tensor forward(const models::Linear& base, const at::Tensor& x) override;

    /// Scores [T, R], gates [T, m] and router logits of rows x [T, in], as forward() computes them without dropout.
    struct Scores {
        at::Tensor logits, gates, scores;
    };
    [[nodiscard]] Scores scores(const at::Tensor& rows) const;

    /// Forgets the calls of the last step. Only forward passes with gradients enabled are remembered.
    void beginStep() { m_calls.clear(); }
    [[nodiscard]] const std::vector<LoraSpCall>& calls() const { return m_calls; }

    /// Scores, gates and selection of the last call that recorded them (record = true), detached.
    struct Record {
        at::Tensor scores, gates, keep, k, energy;
    };
    bool record = false;
    [[nodiscard]] const Record& lastRecord() const { return m_record; }

    [[nodiscard]] std::int64_t bank() const { return up.size(1); }
    [[nodiscard]] std::int64_t blocks() const { return directRouter() ? bank() : router1.size(0); }
    [[nodiscard]] bool directRouter() const { return !router2.defined(); }

    /// Vectors still in use; empty: all. Sorted.
    [[nodiscard]] const std::vector<std::int64_t>& alive() const { return m_alive; }
    /// Errors: FieldInvalid (out of range, not sorted, or empty).
    [[nodiscard]] Result<void> setAlive(std::vector<std::int64_t> indices);
    [[nodiscard]] std::int64_t aliveCount() const;

    at::Tensor down;    ///< V [R, in]
    at::Tensor up;      ///< U [out, R]
    at::Tensor router1; ///< W1 [m, in]; [R, in] for the direct router
    at::Tensor router2; ///< W2 [R, m]; undefined for the direct router
    double eta = 0.9;   ///< Of this layer; the method's set("eta") changes all.
    double scale = 2;

    bool trackWindow = false; ///< Whether `window` is kept.
    LoraSpStatistics window;  ///< Since the last pruning check.
    LoraSpStatistics digest;  ///< Since the last digest.

private:
    [[nodiscard]] at::Tensor routerInput(const at::Tensor& rows) const;
    [[nodiscard]] at::Tensor fusedProduct(const at::Tensor& rows, const at::Tensor& valid, at::Tensor& used);
    [[nodiscard]] at::Tensor composedProduct(const at::Tensor& rows, const at::Tensor& valid, at::Tensor& used);
    [[nodiscard]] at::Tensor composed(const at::Tensor& logits, const at::Tensor& valid, at::Tensor& used);
    [[nodiscard]] at::Tensor composedScores(const at::Tensor& logits, at::Tensor& gates) const;
    [[nodiscard]] bool canFuse(const at::Tensor& rows) const;
    void recordLosses(const at::Tensor& logits, const at::Tensor& gates, const at::Tensor& scores,
                      const ScoreSelection& selection, const at::Tensor& valid);
    [[nodiscard]] at::Tensor kindSums(const at::Tensor& gates, const at::Tensor& k, const at::Tensor& valid) const;
    void recordStatistics(const at::Tensor& gates, const at::Tensor& scores, const ScoreSelection& selection,
                          const at::Tensor& valid);
    void addStatistics(const LoraSpStatistics& call);
    [[nodiscard]] std::int64_t statisticsStride() const;

    LoraSpOptions m_options;
    std::shared_ptr<AdapterRandom> m_random;
    std::vector<LoraSpCall> m_calls;
    std::vector<std::int64_t> m_alive;
    at::Tensor m_aliveIndex;
    Record m_record;
};

/// Means over the layers of the spectral, balance and z losses of their last calls, and their weighted sum as
/// "total"; empty when no layer was called.
[[nodiscard]] std::map<std::string, at::Tensor> loraSpLosses(std::span<LoraSpLayer* const> layers,
                                                             const LoraSpOptions& options);

} // namespace rankwise::adapters
