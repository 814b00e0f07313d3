// Singular values of weight matrices, without their vectors: exact, estimated, and of low-rank updates.
//
// Notation: M [m, n], σ its min(m, n) singular values, falling.
//
// Exact values come from the eigenvalues of the Gram matrix of the shorter side in double precision,
// σ_i = √λ_i(M Mᵀ) or √λ_i(Mᵀ M), or, where both sides are short or M itself is in double, from an SVD in double. The
// Gram matrix squares the condition number: an eigenvalue is off by about 2⁻⁵² λ_1, so a value σ_i by 2⁻⁵³ σ_1² / σ_i
// and never by more than √(n · 2⁻⁵²) σ_1, about 5e-7 σ_1 for n = 1000. An SVD in single precision, which is what other
// tools show, is off by 2e-6 to 5e-6 σ_1 everywhere. Measured on the 303 matrices of a SmolVLA-shaped checkpoint of
// random weights: 8e-13 σ_1 against 5e-6 σ_1, in half of the CPU time (tests/bench/run_spectra_bench.sh).
//
// Sources: stochastic Lanczos quadrature, Ubaru, Chen, Saad 2017, SIAM J. Matrix Anal. 38(4); randomised range finder,
// Halko, Martinsson, Tropp 2011, SIAM Review 53(2), algorithm 4.4.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::analysis {

/// M = weight - minus + scale · b · a, kept in its parts: rows and columns are put together block by block. Any part
/// may be undefined (absent), but not all.
struct MatrixParts {
    at::Tensor weight; ///< [m, n], any floating type
    at::Tensor minus;  ///< [m, n], any floating type
    at::Tensor a;      ///< [r, n]
    at::Tensor b;      ///< [m, r]
    double scale = 1;

    [[nodiscard]] std::int64_t rows() const;
    [[nodiscard]] std::int64_t columns() const;
    [[nodiscard]] bool lowRank() const { return !weight.defined() && !minus.defined(); }
};

struct SingularValues {
    std::vector<double> sigma; ///< Falling.
    double error = 0;          ///< Largest |Δσ| / σ_1: a bound, or for estimates the expected size.
};

/// All min(m, n) values.
///
/// A matrix that is only scale · b · a is never formed: thin QR of both factors and the SVD of the small core, all in
/// double; the other values are 0.
/// Errors: ShapeMismatch, NotFinite, Cancelled. Thread: any; takes no gradient. Memory: the square of the shorter side
/// in double, and a block.
[[nodiscard]] Result<SingularValues> singularValues(const MatrixParts& matrix, const JobContext& job = {});

struct EstimateOptions {
    std::int64_t probes = 4; ///< Random starting vectors.
    std::int64_t steps = 14; ///< Lanczos steps, and products with M and Mᵀ, of each.
    std::uint64_t seed = 1;
};

/// An estimate of all values from a few products with M: stochastic Lanczos quadrature gives the density of σ², whose
/// quantiles are the values. ‖M‖_F is exact. Where the spectrum is low-rank or short the exact values come instead
/// (error 0).
/// Errors and thread as singularValues(). Memory: M in single precision.
[[nodiscard]] Result<SingularValues>
estimateSingularValues(const MatrixParts& matrix, const EstimateOptions& options = {}, const JobContext& job = {});

/// Leading singular values and vectors by a randomised range finder.
struct RandomizedSvd {
    at::Tensor u;     ///< [m, q]
    at::Tensor sigma; ///< [q]
    at::Tensor vt;    ///< [q, n]
};
/// `omega` [n, q] is the test matrix; `iterations` power iterations, orthonormalised after every product. In the type
/// of `matrix`. Errors: ShapeMismatch.
[[nodiscard]] Result<RandomizedSvd> randomizedSvd(const at::Tensor& matrix, const at::Tensor& omega,
                                                  std::int64_t iterations);

} // namespace rankwise::analysis
