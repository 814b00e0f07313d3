// SPDX-License-Identifier: Apache-2.0
#include "backend/compress/tall_qr.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace rankwise::compress {

namespace {

namespace baseline {
#include "backend/compress/tall_qr_loops.h"
}

// As in adapters/lora_sp_kernel.cpp: only what is defined between the pragmas gets the wider instruction set.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RW_HAS_WIDE 1
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace wide {
#include "backend/compress/tall_qr_loops.h"
}
#pragma GCC pop_options

bool wideWorks()
{
    static const bool works = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return works;
}
#endif

void gramOf(const double* a, std::int64_t rows, std::int64_t width, double* gram)
{
#ifdef RW_HAS_WIDE
    if (wideWorks()) {
        wide::gramOf(a, rows, width, gram);
        return;
    }
#endif
    baseline::gramOf(a, rows, width, gram);
}

void product(const double* a, std::int64_t rows, std::int64_t n, const double* w, std::int64_t k, double* out)
{
#ifdef RW_HAS_WIDE
    if (wideWorks()) {
        wide::product(a, rows, n, w, k, out);
        return;
    }
#endif
    baseline::product(a, rows, n, w, k, out);
}

std::int64_t padded(std::int64_t count)
{
    return (count + 3) / 4 * 4;
}

std::size_t at(std::int64_t index)
{
    return static_cast<std::size_t>(index);
}

/// Upper R with Rᵀ R = gram (upper triangle used) and R's inverse, both [n, n] in rows of `width`. False when a pivot
/// is not well above rounding.
bool choleskyAndInverse(const std::vector<double>& gram, std::int64_t n, std::int64_t width, double leastPivot,
                        std::vector<double>& r, std::vector<double>& inverse)
{
    r.assign(at(width * width), 0);
    inverse.assign(at(width * width), 0);
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = i; j < n; ++j) {
            double sum = gram[at(i * width + j)];
            for (std::int64_t k = 0; k < i; ++k) {
                sum -= r[at(k * width + i)] * r[at(k * width + j)];
            }
            if (i == j) {
                if (!(sum > leastPivot)) {
                    return false;
                }
                r[at(i * width + i)] = std::sqrt(sum);
            } else {
                r[at(i * width + j)] = sum / r[at(i * width + i)];
            }
        }
    }
    for (std::int64_t j = 0; j < n; ++j) {
        inverse[at(j * width + j)] = 1 / r[at(j * width + j)];
        for (std::int64_t i = j - 1; i >= 0; --i) {
            double sum = 0;
            for (std::int64_t k = i + 1; k <= j; ++k) {
                sum += r[at(i * width + k)] * inverse[at(k * width + j)];
            }
            inverse[at(i * width + j)] = -sum / r[at(i * width + i)];
        }
    }
    return true;
}

} // namespace

bool tallQr(const double* a, std::int64_t rows, std::int64_t columns, TallQr& result)
{
    const std::int64_t width = padded(columns);
    std::vector<double> padding;
    if (width != columns) {
        padding.assign(at(rows * width), 0);
        for (std::int64_t i = 0; i < rows; ++i) {
            std::copy_n(a + i * columns, columns, padding.data() + i * width);
        }
        a = padding.data();
    }
    std::vector<double> gram(at(width * width));
    gramOf(a, rows, width, gram.data());
    // Norms of the columns, taken out of the Gram matrix, so that columns of very different size do no harm.
    std::vector<double> norms(at(columns));
    for (std::int64_t j = 0; j < columns; ++j) {
        norms[at(j)] = std::sqrt(gram[at(j * width + j)]);
        if (!(norms[at(j)] > 1e-120) || !(norms[at(j)] < 1e120)) {
            return false;
        }
    }
    for (std::int64_t i = 0; i < columns; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            gram[at(i * width + j)] /= norms[at(i)] * norms[at(j)];
        }
    }
    std::vector<double> r1;
    std::vector<double> inverse;
    if (!choleskyAndInverse(gram, columns, width, 1e-9, r1, inverse)) {
        return false;
    }
    for (std::int64_t i = 0; i < columns; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            inverse[at(i * width + j)] /= norms[at(i)];
            r1[at(i * width + j)] *= norms[at(j)];
        }
    }
    std::vector<double> basis(at(rows * width));
    product(a, rows, width, inverse.data(), width, basis.data());
    gramOf(basis.data(), rows, width, gram.data());
    for (std::int64_t i = 0; i < columns; ++i) {
        for (std::int64_t j = i; j < columns; ++j) {
            if (!(std::abs(gram[at(i * width + j)] - (i == j ? 1 : 0)) < 1e-4)) {
                return false;
            }
        }
    }
    std::vector<double> r2;
    std::vector<double> finish;
    if (!choleskyAndInverse(gram, columns, width, 0.5, r2, finish)) {
        return false;
    }
    result.rows = rows;
    result.columns = columns;
    result.r.assign(at(columns * columns), 0);
    result.finish.assign(at(columns * columns), 0);
    for (std::int64_t i = 0; i < columns; ++i) {
        for (std::int64_t j = i; j < columns; ++j) {
            double sum = 0;
            for (std::int64_t k = i; k <= j; ++k) {
                sum += r2[at(i * width + k)] * r1[at(k * width + j)];
            }
            result.r[at(i * columns + j)] = sum;
            result.finish[at(i * columns + j)] = finish[at(i * width + j)];
        }
    }
    if (width == columns) {
        result.basis = std::move(basis);
    } else {
        result.basis.resize(at(rows * columns));
        for (std::int64_t i = 0; i < rows; ++i) {
            std::copy_n(basis.data() + i * width, columns, result.basis.data() + i * columns);
        }
    }
    return true;
}

void tallProduct(const double* a, std::int64_t rows, std::int64_t n, const double* w, std::int64_t k, double* out)
{
    const std::int64_t width = padded(k);
    if (width == k) {
        product(a, rows, n, w, k, out);
        return;
    }
    std::vector<double> wide(at(n * width));
    std::vector<double> target(at(rows * width));
    for (std::int64_t j = 0; j < n; ++j) {
        std::copy_n(w + j * k, k, wide.data() + j * width);
    }
    product(a, rows, n, wide.data(), width, target.data());
    for (std::int64_t i = 0; i < rows; ++i) {
        std::copy_n(target.data() + i * width, k, out + i * k);
    }
}

} // namespace rankwise::compress
