// The loops under kernels.cpp: plain pointers, no LibTorch, so that the compiler sees simple code and the file can be
// built for several instruction sets. Everything is row-major; bf16 arguments are 16-bit patterns behind void.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rankwise::models::loops {

/// out = x · scale · (offset + weight), scale = 1/sqrt(mean(x²) + eps) of each row; `scale` [rows] may be null.
struct Norm {
    const float* x;
    const float* weight;
    float* out;
    float* scale;
    std::int64_t rows;
    std::int64_t width;
    float eps;
    float offset;
};
void normF32(const Norm& norm);

struct NormBackward {
    const float* x;
    const float* weight;
    const float* scale;
    const float* dy;
    float* dx;
    float* dw; ///< [width], added to; null when not wanted.
    std::int64_t rows;
    std::int64_t width;
    float offset;
};
void normBackwardF32(const NormBackward& norm);

void normF32WeightBf16(const float* x, const void* weight, float* out, std::int64_t rows, std::int64_t width,
                       float eps);
void normBf16(const void* x, const void* weight, void* out, std::int64_t rows, std::int64_t width, float eps);

/// The [B, S, H·d] side of a split into heads; cos and sin [B or 1, S, d/2], null for no rotation.
struct Heads {
    std::int64_t batch;
    std::int64_t tokens;
    std::int64_t heads;
    std::int64_t headDim;
    std::int64_t rowStride;
    std::int64_t batchStride;
    const float* cos = nullptr;
    const float* sin = nullptr;
    std::int64_t tableStride = 0; ///< Between two samples of the table; 0 when all share it.
};
void splitHeadsF32(const Heads& heads, const float* rows, float* out);
void splitHeadsBf16(const Heads& heads, const void* rows, void* out);
/// The transpose of splitHeadsF32: rotates back and lays the heads side by side.
void joinHeadsF32(const Heads& heads, const float* in, float* rows);

/// act(gate) · up over rows of `width`; act is SiLU or tanh-GELU.
struct Gated {
    std::int64_t rows;
    std::int64_t width;
    std::int64_t gateStride;
    std::int64_t upStride;
    bool gelu;
};
void gatedF32(const Gated& gated, const float* gate, const float* up, float* out);
void gatedBf16(const Gated& gated, const void* gate, const void* up, void* out);
void gatedBackwardF32(const Gated& gated, const float* gate, const float* up, const float* dy, float* dGate,
                      float* dUp);

/// Tanh-GELU of `count` numbers.
void geluF32(const float* x, float* out, std::int64_t count);
void geluBackwardF32(const float* x, const float* dy, float* dx, std::int64_t count);
void geluBf16(const void* x, void* out, std::int64_t count);

/// softmax(scale · s + bias) of rows of `width`; row r takes the bias row r % biasRows of sample r / rowsOfSample.
struct Softmax {
    std::int64_t rows;
    std::int64_t width;
    float scale;
    const float* bias = nullptr; ///< [samples or 1, biasRows, width]
    std::int64_t biasStride = 0; ///< Between two samples' biases; 0 when all share one.
    std::int64_t biasRows = 1;
    std::int64_t rowsOfSample = 1;
};
/// In place.
void softmaxF32(const Softmax& softmax, float* scores);
/// Turns the gradient of the probabilities into that of the unscaled scores, in place.
void softmaxBackwardF32(const Softmax& softmax, const float* probabilities, float* gradient);

} // namespace rankwise::models::loops
