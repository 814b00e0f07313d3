// SPDX-License-Identifier: Apache-2.0
#include "backend/models/kernel_loops.h"

#include <algorithm>
#include <bit>
#include <cmath>

// One body for every instruction set: the best version is chosen when the program starts.
#if defined(__x86_64__) && !defined(__clang__) && __GNUC__ >= 12
#define RW_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define RW_CLONES
#endif
#define RW_INLINE inline __attribute__((always_inline))

namespace rankwise::models::loops {

namespace {

RW_INLINE float fromBf16(std::uint16_t bits)
{
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

/// Rounds to nearest even; a NaN stays one.
RW_INLINE std::uint16_t toBf16(float value)
{
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
    const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    return static_cast<std::uint16_t>(nan ? 0x7FC0U : rounded);
}

/// e^x to about one unit in the last place, without branches; range reduction by ln 2 and a polynomial (Cephes).
RW_INLINE float exponential(float x)
{
    x = std::min(std::max(x, -87.0F), 88.0F);
    const float shifted = x * 1.44269504F + 12582912.0F; // 1.5·2^23 rounds to an integer
    const float n = shifted - 12582912.0F;
    const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
    float p = 1.9875691500e-4F;
    p = p * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    const float mantissa = p * r * r + r + 1.0F;
    const auto exponent = static_cast<std::int32_t>(n) + 127;
    return mantissa * std::bit_cast<float>(exponent << 23);
}

RW_INLINE float sigmoid(float x)
{
    return 1.0F / (1.0F + exponential(-x));
}

constexpr float kGeluScale = 0.7978845608F; // sqrt(2/pi)
constexpr float kGeluCubic = 0.044715F;

/// tanh-GELU: x · sigmoid(2u), u = sqrt(2/pi)(x + 0.044715 x³), since (1 + tanh u)/2 = sigmoid(2u).
RW_INLINE float geluGate(float x)
{
    return sigmoid(2.0F * kGeluScale * (x + kGeluCubic * x * x * x));
}

RW_INLINE float squareSum(const float* x, std::int64_t width)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) {
        sum += x[i] * x[i];
    }
    return sum;
}

RW_INLINE float inverseRms(float sum, std::int64_t width, float eps)
{
    return 1.0F / std::sqrt(sum / static_cast<float>(width) + eps);
}

} // namespace

RW_CLONES void normF32(const Norm& norm)
{
    const std::int64_t width = norm.width;
    for (std::int64_t row = 0; row < norm.rows; ++row) {
        const float* x = norm.x + row * width;
        float* out = norm.out + row * width;
        const float scale = inverseRms(squareSum(x, width), width, norm.eps);
        if (norm.scale != nullptr) {
            norm.scale[row] = scale;
        }
        const float* weight = norm.weight;
        const float offset = norm.offset;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            out[i] = x[i] * scale * (offset + weight[i]);
        }
    }
}

RW_CLONES void normBackwardF32(const NormBackward& norm)
{
    const std::int64_t width = norm.width;
    const float* weight = norm.weight;
    const float offset = norm.offset;
    for (std::int64_t row = 0; row < norm.rows; ++row) {
        const float* x = norm.x + row * width;
        const float* dy = norm.dy + row * width;
        float* dx = norm.dx + row * width;
        const float scale = norm.scale[row];
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t i = 0; i < width; ++i) {
            dot += dy[i] * (offset + weight[i]) * x[i];
        }
        const float pull = dot * scale * scale * scale / static_cast<float>(width);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            dx[i] = dy[i] * (offset + weight[i]) * scale - x[i] * pull;
        }
        if (norm.dw != nullptr) {
            float* dw = norm.dw;
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                dw[i] += dy[i] * x[i] * scale;
            }
        }
    }
}

RW_CLONES void normF32WeightBf16(const float* x, const void* weight, float* out, std::int64_t rows, std::int64_t width,
                                 float eps)
{
    const auto* w = static_cast<const std::uint16_t*>(weight);
    for (std::int64_t row = 0; row < rows; ++row, x += width, out += width) {
        const float scale = inverseRms(squareSum(x, width), width, eps);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            out[i] = x[i] * scale * fromBf16(w[i]);
        }
    }
}

RW_CLONES void normBf16(const void* input, const void* weight, void* output, std::int64_t rows, std::int64_t width,
                        float eps)
{
    const auto* x = static_cast<const std::uint16_t*>(input);
    const auto* w = static_cast<const std::uint16_t*>(weight);
    auto* out = static_cast<std::uint16_t*>(output);
    for (std::int64_t row = 0; row < rows; ++row, x += width, out += width) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < width; ++i) {
            const float value = fromBf16(x[i]);
            sum += value * value;
        }
        const float scale = inverseRms(sum, width, eps);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            out[i] = toBf16(fromBf16(toBf16(fromBf16(x[i]) * scale)) * fromBf16(w[i]));
        }
    }
}

RW_CLONES void splitHeadsF32(const Heads& heads, const float* rows, float* out)
{
    const std::int64_t half = heads.headDim / 2;
    for (std::int64_t b = 0; b < heads.batch; ++b) {
        for (std::int64_t h = 0; h < heads.heads; ++h) {
            for (std::int64_t s = 0; s < heads.tokens; ++s, out += heads.headDim) {
                const float* in = rows + b * heads.batchStride + s * heads.rowStride + h * heads.headDim;
                if (heads.cos == nullptr) {
                    std::copy_n(in, heads.headDim, out);
                    continue;
                }
                const float* cos = heads.cos + b * heads.tableStride + s * half;
                const float* sin = heads.sin + b * heads.tableStride + s * half;
                float* target = out;
#pragma omp simd
                for (std::int64_t i = 0; i < half; ++i) {
                    target[i] = in[i] * cos[i] - in[half + i] * sin[i];
                    target[half + i] = in[half + i] * cos[i] + in[i] * sin[i];
                }
            }
        }
    }
}

RW_CLONES void splitHeadsBf16(const Heads& heads, const void* input, void* output)
{
    const auto* rows = static_cast<const std::uint16_t*>(input);
    auto* out = static_cast<std::uint16_t*>(output);
    const std::int64_t half = heads.headDim / 2;
    for (std::int64_t b = 0; b < heads.batch; ++b) {
        for (std::int64_t h = 0; h < heads.heads; ++h) {
            for (std::int64_t s = 0; s < heads.tokens; ++s, out += heads.headDim) {
                const std::uint16_t* in = rows + b * heads.batchStride + s * heads.rowStride + h * heads.headDim;
                if (heads.cos == nullptr) {
                    std::copy_n(in, heads.headDim, out);
                    continue;
                }
                const float* cos = heads.cos + b * heads.tableStride + s * half;
                const float* sin = heads.sin + b * heads.tableStride + s * half;
                std::uint16_t* target = out;
#pragma omp simd
                for (std::int64_t i = 0; i < half; ++i) {
                    const float first = fromBf16(in[i]);
                    const float second = fromBf16(in[half + i]);
                    target[i] = toBf16(first * cos[i] - second * sin[i]);
                    target[half + i] = toBf16(second * cos[i] + first * sin[i]);
                }
            }
        }
    }
}

RW_CLONES void joinHeadsF32(const Heads& heads, const float* in, float* rows)
{
    const std::int64_t half = heads.headDim / 2;
    for (std::int64_t b = 0; b < heads.batch; ++b) {
        for (std::int64_t h = 0; h < heads.heads; ++h) {
            for (std::int64_t s = 0; s < heads.tokens; ++s, in += heads.headDim) {
                float* out = rows + b * heads.batchStride + s * heads.rowStride + h * heads.headDim;
                if (heads.cos == nullptr) {
                    std::copy_n(in, heads.headDim, out);
                    continue;
                }
                const float* cos = heads.cos + b * heads.tableStride + s * half;
                const float* sin = heads.sin + b * heads.tableStride + s * half;
                const float* source = in;
#pragma omp simd
                for (std::int64_t i = 0; i < half; ++i) {
                    out[i] = source[i] * cos[i] + source[half + i] * sin[i];
                    out[half + i] = source[half + i] * cos[i] - source[i] * sin[i];
                }
            }
        }
    }
}

RW_CLONES void gatedF32(const Gated& gated, const float* gate, const float* up, float* out)
{
    const std::int64_t width = gated.width;
    for (std::int64_t row = 0; row < gated.rows; ++row) {
        const float* g = gate + row * gated.gateStride;
        const float* u = up + row * gated.upStride;
        float* o = out + row * width;
        if (gated.gelu) {
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                o[i] = g[i] * geluGate(g[i]) * u[i];
            }
        } else {
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                o[i] = g[i] * sigmoid(g[i]) * u[i];
            }
        }
    }
}

RW_CLONES void gatedBf16(const Gated& gated, const void* gate, const void* up, void* out)
{
    const std::int64_t width = gated.width;
    for (std::int64_t row = 0; row < gated.rows; ++row) {
        const std::uint16_t* g = static_cast<const std::uint16_t*>(gate) + row * gated.gateStride;
        const std::uint16_t* u = static_cast<const std::uint16_t*>(up) + row * gated.upStride;
        std::uint16_t* o = static_cast<std::uint16_t*>(out) + row * width;
        const bool gelu = gated.gelu;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            const float x = fromBf16(g[i]);
            const float argument = gelu ? 2.0F * kGeluScale * (x + kGeluCubic * x * x * x) : x;
            o[i] = toBf16(fromBf16(toBf16(x * sigmoid(argument))) * fromBf16(u[i]));
        }
    }
}

RW_CLONES void gatedBackwardF32(const Gated& gated, const float* gate, const float* up, const float* dy, float* dGate,
                                float* dUp)
{
    const std::int64_t width = gated.width;
    for (std::int64_t row = 0; row < gated.rows; ++row) {
        const float* g = gate + row * gated.gateStride;
        const float* u = up + row * gated.upStride;
        const float* d = dy + row * width;
        float* dg = dGate + row * width;
        float* du = dUp + row * width;
        if (gated.gelu) {
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                const float x = g[i];
                const float s = geluGate(x);
                const float slope = 2.0F * kGeluScale * (1.0F + 3.0F * kGeluCubic * x * x);
                du[i] = d[i] * x * s;
                dg[i] = d[i] * u[i] * (s + x * s * (1.0F - s) * slope);
            }
        } else {
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                const float x = g[i];
                const float s = sigmoid(x);
                du[i] = d[i] * x * s;
                dg[i] = d[i] * u[i] * (s + x * s * (1.0F - s));
            }
        }
    }
}

RW_CLONES void geluF32(const float* x, float* out, std::int64_t count)
{
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        out[i] = x[i] * geluGate(x[i]);
    }
}

RW_CLONES void geluBackwardF32(const float* x, const float* dy, float* dx, std::int64_t count)
{
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const float s = geluGate(x[i]);
        const float slope = 2.0F * kGeluScale * (1.0F + 3.0F * kGeluCubic * x[i] * x[i]);
        dx[i] = dy[i] * (s + x[i] * s * (1.0F - s) * slope);
    }
}

RW_CLONES void geluBf16(const void* input, void* output, std::int64_t count)
{
    const auto* x = static_cast<const std::uint16_t*>(input);
    auto* out = static_cast<std::uint16_t*>(output);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const float value = fromBf16(x[i]);
        out[i] = toBf16(value * geluGate(value));
    }
}

RW_CLONES void softmaxF32(const Softmax& softmax, float* scores)
{
    const std::int64_t width = softmax.width;
    const float scale = softmax.scale;
    for (std::int64_t row = 0; row < softmax.rows; ++row, scores += width) {
        float* s = scores;
        if (softmax.bias != nullptr) {
            const float* bias =
                softmax.bias + row / softmax.rowsOfSample * softmax.biasStride + row % softmax.biasRows * width;
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                s[i] = s[i] * scale + bias[i];
            }
        } else {
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                s[i] *= scale;
            }
        }
        float peak = s[0];
#pragma omp simd reduction(max : peak)
        for (std::int64_t i = 0; i < width; ++i) {
            peak = std::max(peak, s[i]);
        }
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < width; ++i) {
            const float x = s[i] - peak;
            s[i] = x < -87.0F ? 0.0F : exponential(x); // masked entries become exact zeros
            sum += s[i];
        }
        const float inverse = 1.0F / sum;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            s[i] *= inverse;
        }
    }
}

RW_CLONES void softmaxBackwardF32(const Softmax& softmax, const float* probabilities, float* gradient)
{
    const std::int64_t width = softmax.width;
    const float scale = softmax.scale;
    for (std::int64_t row = 0; row < softmax.rows; ++row, probabilities += width, gradient += width) {
        const float* p = probabilities;
        float* d = gradient;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (std::int64_t i = 0; i < width; ++i) {
            dot += p[i] * d[i];
        }
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            d[i] = p[i] * (d[i] - dot) * scale;
        }
    }
}

} // namespace rankwise::models::loops
