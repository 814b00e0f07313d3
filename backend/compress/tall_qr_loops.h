// The loops of tall_qr.cpp, which includes this text once for each instruction set, inside of a namespace of its own.
// SPDX-License-Identifier: Apache-2.0
// No include guard: see above.

using Vector [[gnu::vector_size(32)]] = double;

[[gnu::always_inline]] inline Vector load(const double* from)
{
    Vector value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

[[gnu::always_inline]] inline void store(double* to, Vector value)
{
    std::memcpy(to, &value, sizeof value);
}

/// gram [width, width] = aᵀ a for a [rows, width], width a multiple of 4; the upper triangle in blocks of 4 columns.
inline void gramOf(const double* a, std::int64_t rows, std::int64_t width, double* gram)
{
    std::fill_n(gram, width * width, 0.0);
    // Tiles of 4 × 8 accumulate over all rows of a chunk in registers; a chunk stays in the first-level cache.
    constexpr std::int64_t kChunk = 64;
    for (std::int64_t from = 0; from < rows; from += kChunk) {
        const std::int64_t to = std::min(rows, from + kChunk);
        for (std::int64_t j = 0; j < width; j += 4) {
            for (std::int64_t l = j; l < width; l += 8) {
                const bool two = l + 4 < width;
                Vector sums[4][2] {};
                for (std::int64_t i = from; i < to; ++i) {
                    const double* row = a + i * width;
                    const Vector first = load(row + l);
                    const Vector second = two ? load(row + l + 4) : Vector {};
                    for (int q = 0; q < 4; ++q) {
                        sums[q][0] += first * row[j + q];
                        sums[q][1] += second * row[j + q];
                    }
                }
                for (int q = 0; q < 4; ++q) {
                    double* target = gram + (j + q) * width + l;
                    store(target, load(target) + sums[q][0]);
                    if (two) {
                        store(target + 4, load(target + 4) + sums[q][1]);
                    }
                }
            }
        }
    }
}

/// out [rows, k] = a [rows, n] · w [n, k], k a multiple of 4.
inline void product(const double* a, std::int64_t rows, std::int64_t n, const double* w, std::int64_t k, double* out)
{
    for (std::int64_t i = 0; i < rows; i += 4) {
        const std::int64_t count = std::min<std::int64_t>(4, rows - i);
        for (std::int64_t l = 0; l < k; l += 8) {
            const bool two = l + 4 < k;
            Vector sums[4][2] {};
            for (std::int64_t j = 0; j < n; ++j) {
                const Vector first = load(w + j * k + l);
                const Vector second = two ? load(w + j * k + l + 4) : Vector {};
                for (int q = 0; q < 4; ++q) {
                    const double value = a[(i + std::min<std::int64_t>(q, count - 1)) * n + j];
                    sums[q][0] += first * value;
                    sums[q][1] += second * value;
                }
            }
            for (std::int64_t q = 0; q < count; ++q) {
                store(out + (i + q) * k + l, sums[q][0]);
                if (two) {
                    store(out + (i + q) * k + l + 4, sums[q][1]);
                }
            }
        }
    }
}
