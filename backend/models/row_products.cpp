// SPDX-License-Identifier: Apache-2.0
#include "backend/models/row_products.h"

#include "backend/models/wide_vectors.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <vector>

namespace rankwise::models::loops {

#ifdef RW_AVX512

namespace {

constexpr int kTileRows = 6;        // with kTileColumns 24 sums: of the 32 registers 8 are left for rows of x and W
constexpr int kTileColumns = 4;     // rows of W
constexpr std::int64_t kGroup = 16; // output features that are stored together
constexpr std::int64_t kBlockRows = 240;        // of x, at most
constexpr std::int64_t kBlockBytes = 640 << 10; // of x, so that it stays in the second cache
constexpr std::int64_t kDepthBytes = 4096;      // of a row: ten of them nearly fill the first cache

/// One vector register's worth of a row.
struct F32 {
    using Value = float;
    using Vector = __m512;
    static constexpr std::int64_t kCount = 16;
    RW_TARGET_INLINE static Vector load(const Value* from) { return _mm512_loadu_ps(from); }
    RW_TARGET_INLINE static Vector loadFirst(const Value* from, std::int64_t count)
    {
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << count) - 1U), from);
    }
    RW_TARGET_INLINE static __m512 multiplyAdd(__m512 sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
    RW_TARGET_INLINE static float value(Value stored) { return stored; }
    RW_TARGET_INLINE static void storeFirst(Value* to, __mmask16 mask, __m512 values)
    {
        _mm512_mask_storeu_ps(to, mask, values);
    }
};

struct Bf16 {
    using Value = std::uint16_t;
    using Vector = __m512bh;
    static constexpr std::int64_t kCount = 32;
    RW_TARGET_INLINE static Vector load(const Value* from)
    {
        return reinterpret_cast<Vector>(_mm512_loadu_si512(from));
    }
    RW_TARGET_INLINE static Vector loadFirst(const Value* from, std::int64_t count)
    {
        return reinterpret_cast<Vector>(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ULL << count) - 1ULL), from));
    }
    RW_TARGET_INLINE static __m512 multiplyAdd(__m512 sum, Vector a, Vector b) { return _mm512_dpbf16_ps(sum, a, b); }
    RW_TARGET_INLINE static float value(Value stored)
    {
        return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(std::uint32_t { stored } << 16U))));
    }
    RW_TARGET_INLINE static void storeFirst(Value* to, __mmask16 mask, __m512 values)
    {
        _mm256_mask_storeu_epi16(to, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
    }
};

RW_TARGET_INLINE __m256 halfSums(__m512 value)
{
    return _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
}

/// The sums of the lanes of four registers.
RW_TARGET_INLINE __m128 laneSums(__m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m256 ab = _mm256_hadd_ps(halfSums(a), halfSums(b));
    const __m256 cd = _mm256_hadd_ps(halfSums(c), halfSums(d));
    const __m256 all = _mm256_hadd_ps(ab, cd);
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// A few rows of x and of W over a stretch of their common dimension.
template <class E> struct Stretch {
    const typename E::Value* x;
    std::int64_t xStride;
    const typename E::Value* w;
    std::int64_t wStride;
    std::int64_t depth;
    float* sums;       ///< [R][kGroup]
    bool add;          ///< To what is there.
    const char* fetch; ///< What is needed soon: a cache line with each step up to fetchSteps.
    std::int64_t fetchSteps;
};

template <class E, int R, int C>
RW_TARGET_INLINE void step(const Stretch<E>& at, std::int64_t k, __m512 (&sum)[std::size_t { R }][std::size_t { C }])
{
    typename E::Vector columns[std::size_t { C }];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
        columns[c] = E::load(at.w + c * at.wStride + k);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        const typename E::Vector row = E::load(at.x + r * at.xStride + k);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            sum[r][c] = E::multiplyAdd(sum[r][c], row, columns[c]);
        }
    }
}

/// As step() for the `count` elements that are left.
template <class E, int R, int C>
RW_TARGET_INLINE void lastStep(const Stretch<E>& at, std::int64_t k, std::int64_t count,
                               __m512 (&sum)[std::size_t { R }][std::size_t { C }])
{
    typename E::Vector columns[std::size_t { C }];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
        columns[c] = E::loadFirst(at.w + c * at.wStride + k, count);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        const typename E::Vector row = E::loadFirst(at.x + r * at.xStride + k, count);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            sum[r][c] = E::multiplyAdd(sum[r][c], row, columns[c]);
        }
    }
}

/// sums[r][c] (+)= x row r · W row c.
template <class E, int R, int C> RW_TARGET void tile(const Stretch<E>& given)
{
    const Stretch<E> at = given;
    __m512 sum[std::size_t { R }][std::size_t { C }];
    for (auto& row : sum) {
        for (__m512& value : row) {
            value = _mm512_setzero_ps();
        }
    }
    const std::int64_t whole = at.depth / E::kCount * E::kCount;
    const std::int64_t fetching = std::min(at.fetchSteps * E::kCount, whole);
    std::int64_t k = 0;
    for (const char* fetch = at.fetch; k < fetching; k += E::kCount, fetch += 64) {
        _mm_prefetch(fetch, _MM_HINT_T1);
        step<E, R, C>(at, k, sum);
    }
    for (; k < whole; k += E::kCount) {
        step<E, R, C>(at, k, sum);
    }
    if (k < at.depth) {
        lastStep<E, R, C>(at, k, at.depth - k, sum);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        float* target = at.sums + r * kGroup;
        if constexpr (C == kTileColumns) {
            const __m128 four = laneSums(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
            _mm_storeu_ps(target, at.add ? _mm_add_ps(_mm_loadu_ps(target), four) : four);
        } else {
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
                const float one = _mm512_reduce_add_ps(sum[r][c]);
                target[c] = at.add ? target[c] + one : one;
            }
        }
    }
}

template <class E> using Tile = void (*)(const Stretch<E>&);

template <class E, int C>
constexpr std::array<Tile<E>, kTileRows> kTiles { &tile<E, 1, C>, &tile<E, 2, C>, &tile<E, 3, C>,
                                                  &tile<E, 4, C>, &tile<E, 5, C>, &tile<E, 6, C> };

/// Rows of x that go through all columns together, in tiles of nearly equal height.
template <class E> struct Block {
    using Value = typename E::Value;

    const RowProduct& product;
    const Value* x = nullptr; ///< First row.
    std::int64_t stride = 0;
    std::int64_t begin = 0;
    std::int64_t rows = 0;
    std::array<float, std::size_t { kBlockRows * kGroup }> sums; ///< [rows][kGroup]

    /// Output features column … column + C - 1, to column `at` of the sums.
    template <int C> RW_TARGET void panel(std::int64_t column, std::int64_t at, std::int64_t last)
    {
        constexpr auto kSize = static_cast<std::int64_t>(sizeof(Value));
        const std::int64_t depth = product.depth;
        const Value* w = static_cast<const Value*>(product.weight) + column * depth;
        const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
        const std::int64_t stretches = (depth * kSize + kDepthBytes - 1) / kDepthBytes;
        const std::int64_t length = ((depth - 1) / stretches / E::kCount + 1) * E::kCount;
        // The next panel is fetched while this one is worked on, a share with each tile.
        const std::int64_t nextBytes = std::min<std::int64_t>(C, last - column - C) * depth * kSize;
        const std::int64_t share = nextBytes / (stretches * tiles * 64) + 1; // cache lines
        const char* next = reinterpret_cast<const char*>(w + C * depth);
        const char* const nextEnd = next + nextBytes;
        for (std::int64_t k = 0; k < depth; k += length) {
            std::int64_t row = 0;
            for (std::int64_t t = 0; t < tiles; ++t) {
                const std::int64_t height = rows / tiles + (t < rows % tiles ? 1 : 0);
                kTiles<E, C>[static_cast<std::size_t>(height - 1)]({ .x = x + row * stride + k,
                                                                     .xStride = stride,
                                                                     .w = w + k,
                                                                     .wStride = depth,
                                                                     .depth = std::min(length, depth - k),
                                                                     .sums = sums.data() + row * kGroup + at,
                                                                     .add = k > 0,
                                                                     .fetch = next,
                                                                     .fetchSteps = next < nextEnd ? share : 0 });
                row += height;
                next += share * 64;
            }
        }
    }

    /// Adds the bias to `count` columns of the sums and stores them: whole cache lines where there are enough columns.
    RW_TARGET void store(std::int64_t column, std::int64_t count)
    {
        Value* out = static_cast<Value*>(product.out) + begin * product.features + column;
        std::array<float, std::size_t { kGroup }> bias {};
        for (std::int64_t c = 0; product.bias != nullptr && c < count; ++c) {
            bias[static_cast<std::size_t>(c)] = E::value(static_cast<const Value*>(product.bias)[column + c]);
        }
        const auto mask = static_cast<__mmask16>((1U << count) - 1U);
        const __m512 add = _mm512_loadu_ps(bias.data());
        for (std::int64_t row = 0; row < rows; ++row, out += product.features) {
            E::storeFirst(out, mask, _mm512_add_ps(_mm512_loadu_ps(sums.data() + row * kGroup), add));
        }
    }

    RW_TARGET void run(std::int64_t first, std::int64_t last)
    {
        for (std::int64_t column = first; column < last; column += kGroup) {
            const std::int64_t count = std::min(kGroup, last - column);
            std::int64_t done = 0;
            for (; done + kTileColumns <= count; done += kTileColumns) {
                panel<kTileColumns>(column + done, done, last);
            }
            for (; done < count; ++done) {
                panel<1>(column + done, done, last);
            }
            store(column, count);
        }
    }
};

template <class E> RW_TARGET void run(const RowProduct& product, std::int64_t first, std::int64_t last)
{
    using Value = typename E::Value;
    const std::int64_t rowBytes = product.depth * static_cast<std::int64_t>(sizeof(Value));
    const std::int64_t fitting =
        std::clamp<std::int64_t>(kBlockBytes / std::max<std::int64_t>(rowBytes, 1), 6 * kTileRows, kBlockRows);
    const std::int64_t blocks = (product.rows + fitting - 1) / fitting;
    // Rows a multiple of 1 KiB apart would share a few sets of the first cache.
    const bool crowded = product.xStride * static_cast<std::int64_t>(sizeof(Value)) % 1024 == 0 && last - first > 64;
    const std::int64_t stride = crowded ? product.depth + E::kCount : product.xStride;
    std::vector<Value> copy(crowded ? static_cast<std::size_t>((product.rows / blocks + 1) * stride) : 0);
    auto block = std::make_unique<Block<E>>(Block<E> { .product = product, .stride = stride });
    for (std::int64_t b = 0; b < blocks; ++b) {
        block->rows = product.rows / blocks + (b < product.rows % blocks ? 1 : 0);
        block->x = static_cast<const Value*>(product.x) + block->begin * product.xStride;
        if (crowded) {
            for (std::int64_t row = 0; row < block->rows; ++row) {
                std::copy_n(block->x + row * product.xStride, product.depth, copy.data() + row * stride);
            }
            block->x = copy.data();
        }
        block->run(first, last);
        block->begin += block->rows;
    }
}

} // namespace

bool hasRowProducts(Element element)
{
    __builtin_cpu_init();
    const bool base = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0
        && __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
    return base && (element == Element::F32 || __builtin_cpu_supports("avx512bf16") != 0);
}

void rowProduct(const RowProduct& product, std::int64_t first, std::int64_t last)
{
    if (product.element == Element::F32) {
        run<F32>(product, first, last);
    } else {
        run<Bf16>(product, first, last);
    }
}

#else

bool hasRowProducts(Element /*element*/)
{
    return false;
}

void rowProduct(const RowProduct& /*product*/, std::int64_t /*first*/, std::int64_t /*last*/) { }

#endif

} // namespace rankwise::models::loops
