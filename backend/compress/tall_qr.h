// QR of tall, narrow matrices in double precision, made for the factors of low-rank adapters: a few products over the
// rows instead of Householder's many passes. Plain C++; knows nothing of torch.
//
// Two rounds of Cholesky factorisation of the Gram matrix (CholeskyQR2) on columns of norm 1. The first round's basis
// is nearly orthonormal where the columns are not nearly dependent; that is checked on its own Gram matrix, and the
// second round then makes it orthonormal to rounding. Source: Yamamoto et al. 2015, ETNA 44. SPDX-License-Identifier:
// Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace rankwise::compress {

/// A = Q R with Q = basis · finish. Row-major.
struct TallQr {
    std::int64_t rows = 0, columns = 0;
    std::vector<double> basis;  ///< [rows, columns], orthonormal to 1e-4 or better.
    std::vector<double> finish; ///< [columns, columns], upper triangular, near 1.
    std::vector<double> r;      ///< [columns, columns], upper triangular.
};

/// False when the columns are too nearly dependent (or one is zero): use Householder's method then.
/// `a` [rows, columns] finite, rows >= columns.
[[nodiscard]] bool tallQr(const double* a, std::int64_t rows, std::int64_t columns, TallQr& result);

/// out [rows, k] = a [rows, n] · w [n, k].
void tallProduct(const double* a, std::int64_t rows, std::int64_t n, const double* w, std::int64_t k, double* out);

} // namespace rankwise::compress
