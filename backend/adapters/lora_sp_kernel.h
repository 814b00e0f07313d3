// The per-token middle of LoRA-SP on the CPU: router, gates, scores, selection, masked product, loss terms and their
// gradients, one pass over the tokens forwards and one backwards. Plain C++ on row-major arrays; knows nothing of
// torch.
//
// Notation: T tokens, D input width, R bank size, m blocks; X [T, D], W1 [m, D], W2 [R, m], z = V x.
//     x̃ = dropout(x), logits = W1 x̃, gates = softmax(logits), s = map(W2 gates), keep by the paper's rule
// Rule: smallest k with C_k >= eta·Σs²·(1 - 1e-6) on s², ties by lowest index; eta >= 1 keeps every nonzero score;
// all scores 0 keep none and have E = 1.
// Determinism: sums run over fixed groups of tokens and dropout is a function of seed and place, so results do not
// depend on the number of threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rankwise::adapters {

/// How raw scores W2·g become scores; values are written to files and never change.
enum class ScoreMap : std::uint8_t { None = 0, Relu = 1, Softplus = 2, Abs = 3 };

/// Relative slack of the threshold for eta < 1.
inline constexpr double kEnergySlack = 1e-6;

/// Which scores of a token are kept: |s| > level, or |s| == level and index <= last.
template <class Real> struct Cut {
    Real level = 0;
    std::int32_t last = -1;
    std::int32_t count = 0; ///< k
    double kept = 0;        ///< Σ s² of the kept
    double total = 0;       ///< Σ s²
};

/// Cut of one token by the paper rule, from its scores s [R]. All values finite.
template <class Real> [[nodiscard]] Cut<Real> selectScores(const Real* scores, std::int64_t bank, double eta);

/// Sums over the valid tokens, added to what is there. Arrays may not alias.
struct SelectSums {
    double energy = 0;     ///< Σ E
    double missing = 0;    ///< Σ (1 - E): the spectral loss before the mean
    double squaredLse = 0; ///< Σ lse(logits)²: the z loss before the mean
    std::int64_t tokens = 0;
    std::int64_t sampled = 0;       ///< Tokens that count in the sums for each vector.
    double* gates = nullptr;        ///< [m] Σ gates
    double* top = nullptr;          ///< [m] tokens whose largest gate this is
    std::int64_t* ranks = nullptr;  ///< [R+1] histogram of k
    std::int64_t* kept = nullptr;   ///< [R] times kept
    double* share = nullptr;        ///< [R] Σ s²/D
    double* largestShare = nullptr; ///< [R] max s²/D
};

/// Inverted dropout of the router's input: entry (t, i) is a function of seed, t, i and the width alone. The
/// probability is rounded to a multiple of 2^-16.
struct RouterDropout {
    double probability = 0;
    std::uint64_t seed = 0;
};

/// What both passes read.
template <class Real> struct SelectShape {
    std::int64_t tokens = 0, width = 0, bank = 0, blocks = 0;
    const Real* input = nullptr;         ///< X [T, D]
    const Real* w1 = nullptr;            ///< [m, D]
    const Real* w2 = nullptr;            ///< [R, m]
    const Real* projected = nullptr;     ///< z [T, R], or null for z = 1
    const std::uint8_t* valid = nullptr; ///< [T], or null: all
    RouterDropout dropout;
    ScoreMap map = ScoreMap::None;
    int threads = 1;
};

template <class Real> struct SelectForward : SelectShape<Real> {
    double eta = 1;
    std::int64_t stride = 1; ///< The sums for each vector take every stride-th token.

    Real* gates = nullptr;     ///< out [T, m]
    Real* lse = nullptr;       ///< out [T] log Σ exp(logits)
    Cut<Real>* cuts = nullptr; ///< out [T]
    Real* masked = nullptr;    ///< out [T, R]: z ⊙ s where kept, else 0
};

/// Non-finite scores keep everything and give NaN in `masked` and in the sums.
template <class Real> void selectForward(const SelectForward<Real>& job, SelectSums& sums);

template <class Real> struct SelectBackward : SelectShape<Real> {
    const Real* gates = nullptr;     ///< [T, m] of the forward pass
    const Real* lse = nullptr;       ///< [T] of the forward pass
    const Cut<Real>* cuts = nullptr; ///< [T] of the forward pass

    const Real* maskedGrad = nullptr; ///< [T, R] gradient at `masked`, or null
    double missingGrad = 0;           ///< Gradient at the sums.
    double squaredLseGrad = 0;
    const double* gatesGrad = nullptr; ///< [m]; null: zero

    Real* logitsGrad = nullptr;    ///< out [T, m]
    Real* projectedGrad = nullptr; ///< out [T, R]; null when `projected` or `maskedGrad` is
    Real* inputGrad = nullptr;     ///< out [T, D] gradient at X, or null
    double* w1Grad = nullptr;      ///< out [m, D]
    double* w2Grad = nullptr;      ///< out [R, m]
};

template <class Real> void selectBackward(const SelectBackward<Real>& job);

/// What dropout multiplies the entries of token `t` by: 0 or 1 / (1 - p). For `width` entries.
template <class Real>
void dropoutFactors(const RouterDropout& dropout, std::int64_t t, std::int64_t width, Real* factors);

} // namespace rankwise::adapters
