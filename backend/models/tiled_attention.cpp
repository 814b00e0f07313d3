// SPDX-License-Identifier: Apache-2.0
#include "backend/models/tiled_attention.h"

#include "backend/models/wide_vectors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

namespace rankwise::models::loops {

#ifdef RW_AVX512

namespace {

constexpr int kTileRows = 6;        // queries; with kTileVectors 24 registers of sums
constexpr int kTileVectors = 4;     // of keys, or of a head's width
constexpr std::int64_t kLanes = 16; // f32 in a register
constexpr std::int64_t kTileKeys = kTileVectors * kLanes;

/// e^x for x <= 0 to about one unit in the last place; range reduction by ln 2 and a polynomial (Cephes).
RW_TARGET_INLINE __m512 exponential(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)), _MM_FROUND_TO_NEAREST_INT);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4F), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4F);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1F));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1F));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0F)));
    return _mm512_scalef_ps(p, n);
}

/// How keys, values and probabilities are laid out: a step takes one number of the common dimension, or a pair.
struct F32 {
    using Value = float;
    static constexpr std::int64_t kStep = 1;
    static constexpr std::int64_t kWord = 1; ///< Numbers in 32 bits.
    RW_TARGET_INLINE static __m512 multiplyAdd(__m512 sum, __m512i a, __m512i b)
    {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
    }
    RW_TARGET_INLINE static void store(Value* to, __m512 values) { _mm512_storeu_ps(to, values); }
    /// Words of one step of the values: v[step] of sixteen columns.
    RW_TARGET_INLINE static __m512i values(const Value* v, std::int64_t /*stride*/, bool /*second*/)
    {
        return _mm512_loadu_si512(v);
    }
};

struct Bf16 {
    using Value = std::uint16_t;
    static constexpr std::int64_t kStep = 2;
    static constexpr std::int64_t kWord = 2;
    RW_TARGET_INLINE static __m512 multiplyAdd(__m512 sum, __m512i a, __m512i b)
    {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
    RW_TARGET_INLINE static void store(Value* to, __m512 values)
    {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
    }
    RW_TARGET_INLINE static __m512i wide(const Value* from)
    {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
    RW_TARGET_INLINE static __m512i values(const Value* v, std::int64_t stride, bool second)
    {
        const __m512i upper = second ? wide(v + stride) : _mm512_setzero_si512();
        return _mm512_or_si512(wide(v), _mm512_slli_epi32(upper, 16));
    }
};

RW_TARGET_INLINE __m512i repeated(const void* word)
{
    std::int32_t bits = 0;
    std::memcpy(&bits, word, sizeof bits);
    return _mm512_set1_epi32(bits);
}

/// One head: its keys and values in the order in which the products read them.
template <class E> class Head {
public:
    using Value = typename E::Value;

    RW_TARGET Head(std::int64_t tokens, std::int64_t width)
        : m_tokens(tokens), m_width(width), m_padded((tokens + kTileKeys - 1) / kTileKeys * kTileKeys),
          m_keys(static_cast<std::size_t>(width / E::kStep * m_padded)),
          m_values(static_cast<std::size_t>((tokens + E::kStep - 1) / E::kStep * width)),
          m_scores(static_cast<std::size_t>(kTileRows * m_padded)),
          m_probabilities(static_cast<std::size_t>(kTileRows * m_padded))
    {
    }

    /// Takes the keys and values at `k` and `v`, tokens `stride` elements apart.
    RW_TARGET void load(const Value* k, const Value* v, std::int64_t stride)
    {
        const std::int64_t words = m_width / E::kWord;
        for (std::int64_t token = 0; token < m_tokens; token += kLanes) {
            const std::int64_t count = std::min(kLanes, m_tokens - token);
            for (std::int64_t word = 0; word < words; ++word) {
                std::array<std::int32_t, std::size_t { kLanes }> column {};
                for (std::int64_t lane = 0; lane < count; ++lane) {
                    std::memcpy(&column[static_cast<std::size_t>(lane)], k + (token + lane) * stride + word * E::kWord,
                                sizeof(std::int32_t));
                }
                std::memcpy(m_keys.data() + token / kTileKeys * kTileKeys * words + word * kTileKeys
                                + token % kTileKeys,
                            column.data(), sizeof column);
            }
        }
        std::int32_t* target = m_values.data();
        for (std::int64_t token = 0; token < m_tokens; token += E::kStep) {
            for (std::int64_t column = 0; column < m_width; column += kLanes, target += kLanes) {
                _mm512_storeu_si512(target, E::values(v + token * stride + column, stride, token + 1 < m_tokens));
            }
        }
    }

    /// Attended rows of R queries at `q`; `out` rows are `outStride` apart.
    template <int R> RW_TARGET void attend(const Value* q, std::int64_t stride, Value* out, std::int64_t outStride)
    {
        for (std::int64_t key = 0; key < m_padded; key += kTileKeys) {
            scores<R>(q, stride, key);
        }
        std::array<float, std::size_t { R }> inverse {};
        for (int r = 0; r < R; ++r) {
            inverse[static_cast<std::size_t>(r)] = softmax(r);
        }
        switch (m_width / kLanes) {
        case 1:
            return mix<R, 1>(out, outStride, inverse.data());
        case 2:
            return mix<R, 2>(out, outStride, inverse.data());
        case 3:
            return mix<R, 3>(out, outStride, inverse.data());
        default:
            return mix<R, 4>(out, outStride, inverse.data());
        }
    }

private:
    template <int R> RW_TARGET void scores(const Value* q, std::int64_t stride, std::int64_t key)
    {
        __m512 sum[std::size_t { R }][std::size_t { kTileVectors }];
        for (auto& row : sum) {
            for (__m512& value : row) {
                value = _mm512_setzero_ps();
            }
        }
        const std::int32_t* keys = m_keys.data() + key * (m_width / E::kWord);
        for (std::int64_t i = 0; i < m_width; i += E::kStep, keys += kTileKeys) {
            __m512i columns[std::size_t { kTileVectors }];
#pragma GCC unroll 8
            for (int c = 0; c < kTileVectors; ++c) {
                columns[c] = _mm512_loadu_si512(keys + c * kLanes);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const __m512i row = repeated(q + r * stride + i);
#pragma GCC unroll 8
                for (int c = 0; c < kTileVectors; ++c) {
                    sum[r][c] = E::multiplyAdd(sum[r][c], row, columns[c]);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
            for (int c = 0; c < kTileVectors; ++c) {
                _mm512_storeu_ps(m_scores.data() + r * m_padded + key + c * kLanes, sum[r][c]);
            }
        }
    }

    /// Which of the sixteen keys from `key` on are there.
    RW_TARGET_INLINE __mmask16 usedLanes(std::int64_t key) const
    {
        return static_cast<__mmask16>(m_tokens - key >= kLanes ? 0xFFFFU : (1U << (m_tokens - key)) - 1U);
    }

    /// Turns scores of query `r` into e^(scale · (score - largest)) and returns one over their sum.
    RW_TARGET float softmax(std::int64_t r)
    {
        const float* scores = m_scores.data() + r * m_padded;
        auto* probabilities = reinterpret_cast<Value*>(m_probabilities.data()) + r * m_padded;
        const __m512 lowest = _mm512_set1_ps(-3.0e38F);
        __m512 peak = lowest;
        for (std::int64_t key = 0; key < m_tokens; key += kLanes) {
            peak = _mm512_max_ps(peak, _mm512_mask_loadu_ps(lowest, usedLanes(key), scores + key));
        }
        const __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(peak));
        const __m512 scale = _mm512_set1_ps(1.0F / std::sqrt(static_cast<float>(m_width)));
        __m512 sum = _mm512_setzero_ps();
        for (std::int64_t key = 0; key < m_padded; key += kLanes) {
            const __mmask16 used = key < m_tokens ? usedLanes(key) : static_cast<__mmask16>(0);
            const __m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + key), largest), scale);
            const __m512 p = _mm512_maskz_mov_ps(used, exponential(_mm512_min_ps(_mm512_setzero_ps(), x)));
            sum = _mm512_add_ps(sum, p);
            E::store(probabilities + key, p);
        }
        return 1.0F / _mm512_reduce_add_ps(sum);
    }

    /// Rows of probabilities times values, V registers wide.
    template <int R, int V> RW_TARGET void mix(Value* out, std::int64_t outStride, const float* inverse) const
    {
        __m512 sum[std::size_t { R }][std::size_t { V }];
        for (auto& row : sum) {
            for (__m512& value : row) {
                value = _mm512_setzero_ps();
            }
        }
        const std::int32_t* values = m_values.data();
        const auto* probabilities = reinterpret_cast<const Value*>(m_probabilities.data());
        for (std::int64_t key = 0; key < m_tokens; key += E::kStep, values += m_width) {
            __m512i columns[std::size_t { V }];
#pragma GCC unroll 8
            for (int c = 0; c < V; ++c) {
                columns[c] = _mm512_loadu_si512(values + c * kLanes);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const __m512i row = repeated(probabilities + r * m_padded + key);
#pragma GCC unroll 8
                for (int c = 0; c < V; ++c) {
                    sum[r][c] = E::multiplyAdd(sum[r][c], row, columns[c]);
                }
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const __m512 scale = _mm512_set1_ps(inverse[r]);
#pragma GCC unroll 8
            for (int c = 0; c < V; ++c) {
                E::store(out + r * outStride + c * kLanes, _mm512_mul_ps(sum[r][c], scale));
            }
        }
    }

    std::int64_t m_tokens;
    std::int64_t m_width;
    std::int64_t m_padded;                     ///< Tokens, rounded up to whole tiles.
    std::vector<std::int32_t> m_keys;          ///< [padded / kTileKeys, d / step, kTileKeys] words
    std::vector<std::int32_t> m_values;        ///< [tokens / step, d] words
    std::vector<float> m_scores;               ///< [queries, padded]
    std::vector<std::int32_t> m_probabilities; ///< [queries, padded] of Value
};

template <class E> RW_TARGET void run(const TiledAttention& attention, std::int64_t first, std::int64_t last)
{
    using Value = typename E::Value;
    const std::int64_t width = attention.headDim;
    const std::int64_t tokens = attention.tokens;
    const std::int64_t outStride = attention.heads * width;
    const std::int64_t tiles = (tokens + kTileRows - 1) / kTileRows;
    Head<E> head(tokens, width);
    for (std::int64_t index = first; index < last; ++index) {
        const std::int64_t image = index / attention.heads;
        const std::int64_t column = index % attention.heads * width;
        const std::int64_t start = image * attention.imageStride + column;
        head.load(static_cast<const Value*>(attention.k) + start, static_cast<const Value*>(attention.v) + start,
                  attention.tokenStride);
        const Value* q = static_cast<const Value*>(attention.q) + start;
        Value* out = static_cast<Value*>(attention.out) + image * tokens * outStride + column;
        for (std::int64_t t = 0; t < tiles; ++t) {
            const std::int64_t rows = tokens / tiles + (t < tokens % tiles ? 1 : 0);
            constexpr std::array kAttend { &Head<E>::template attend<1>, &Head<E>::template attend<2>,
                                           &Head<E>::template attend<3>, &Head<E>::template attend<4>,
                                           &Head<E>::template attend<5>, &Head<E>::template attend<6> };
            (head.*kAttend[static_cast<std::size_t>(rows - 1)])(q, attention.tokenStride, out, outStride);
            q += rows * attention.tokenStride;
            out += rows * outStride;
        }
    }
}

} // namespace

bool hasTiledAttention(Element element, std::int64_t headDim)
{
    return headDim >= kLanes && headDim <= kTileVectors * kLanes && headDim % kLanes == 0 && hasRowProducts(element);
}

void tiledAttention(const TiledAttention& attention, std::int64_t first, std::int64_t last)
{
    if (attention.element == Element::F32) {
        run<F32>(attention, first, last);
    } else {
        run<Bf16>(attention, first, last);
    }
}

#else

bool hasTiledAttention(Element /*element*/, std::int64_t /*headDim*/)
{
    return false;
}

void tiledAttention(const TiledAttention& /*attention*/, std::int64_t /*first*/, std::int64_t /*last*/) { }

#endif

} // namespace rankwise::models::loops
