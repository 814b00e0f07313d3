// What a list of singular values says: energy, ranks, entropies, and fits to it. Plain numbers; knows nothing of torch,
// so that the window reads them while a slider moves.
//
// Notation: σ_1 ≥ … ≥ σ_n ≥ 0 the singular values, D = Σ σ², E(k) = Σ_{i≤k} σ_i² / D.
// Sources: effective rank, Roy & Vetterli 2007; power law, Clauset et al. 2009 (maximum likelihood, smallest
// Kolmogorov distance, every tail tried); Marchenko & Pastur 1967.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace rankwise::data {

/// D. All functions here take falling, non-negative values.
[[nodiscard]] double totalEnergy(std::span<const double> sigma);

/// E(1) … E(n); 1 everywhere when D is 0.
[[nodiscard]] std::vector<double> cumulativeEnergy(std::span<const double> sigma);

/// Smallest k with E(k) ≥ eta, with a relative slack of 1e-12; 0 when D is 0.
[[nodiscard]] std::int64_t energyRank(std::span<const double> sigma, double eta);
/// Largest k with E(k) ≤ eta, at least 1: the rule of LoRA-SP's released code.
[[nodiscard]] std::int64_t energyRankBelow(std::span<const double> sigma, double eta);
/// energyRank() on what cumulativeEnergy() gave. `energy` may be empty.
[[nodiscard]] std::int64_t energyRankOf(std::span<const double> cumulative, double eta);

/// Numbers that do not depend on eta. Those that need D > 0 are 0 without it.
struct SpectrumMeasures {
    double largest = 0;             ///< σ_1, the spectral norm.
    double frobenius = 0;           ///< √D
    double nuclear = 0;             ///< Σ σ
    std::int64_t numericalRank = 0; ///< Values above max(rows, columns) · 2⁻⁵² · σ_1.
    double stableRank = 0;          ///< D / σ_1²
    double effectiveRank = 0;       ///< exp of the entropy of σ / Σσ
    double energyEffectiveRank = 0; ///< exp of the entropy of σ² / D
    double participationRatio = 0;  ///< D² / Σ σ⁴
    double normalisedEntropy = 0;   ///< Entropy of σ² / D over ln n; 0 for n = 1.
    double condition = 0;           ///< σ_1 over the smallest value that counts for the numerical rank.
};

[[nodiscard]] SpectrumMeasures measureSpectrum(std::span<const double> sigma, std::int64_t rows, std::int64_t columns);

/// λ ~ λ^-alpha for the eigenvalues λ = σ² from `xmin` on.
struct PowerLawFit {
    double alpha = 0;
    double xmin = 0;
    double distance = 0;    ///< Largest |F - i/n| over the tail.
    std::int64_t count = 0; ///< Eigenvalues in the tail.
};

/// Best tail of the eigenvalues above 1e-10 of the largest; nothing for fewer than three or (nearly) equal ones.
/// Time: n²/2 exponentials.
[[nodiscard]] std::optional<PowerLawFit> fitPowerLaw(std::span<const double> sigma);

/// Where the singular values of noise with this standard deviation would end: √max(m, n) · s · (1 + √(min/max)).
[[nodiscard]] double marchenkoPasturEdge(double standardDeviation, std::int64_t rows, std::int64_t columns);

} // namespace rankwise::data
