// Attention of many tokens without a mask on processors with AVX-512 (vision towers): six queries at a time meet all
// keys, so that scores stay in the first cache; sums and softmax are f32, probabilities are rounded to the tokens'
// type.
//
// Plain arrays, no torch. Notation: N images, S tokens, H heads, d head width.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/row_products.h"

#include <cstdint>

namespace rankwise::models::loops {

struct TiledAttention {
    Element element = Element::F32;
    const void* q = nullptr; ///< [N, S, H·d]; k and v lie the same way.
    const void* k = nullptr;
    const void* v = nullptr;
    void* out = nullptr; ///< [N, S, H·d], contiguous.
    std::int64_t images = 0;
    std::int64_t tokens = 0;
    std::int64_t heads = 0;
    std::int64_t headDim = 0;
    std::int64_t tokenStride = 0; ///< Elements between two tokens of q, k and v.
    std::int64_t imageStride = 0;
};

/// Whether the processor has the instructions and the head width fits.
[[nodiscard]] bool hasTiledAttention(Element element, std::int64_t headDim);

/// Computes the heads `first` to `last` - 1 of the N·H; several threads may share one call's worth.
void tiledAttention(const TiledAttention& attention, std::int64_t first, std::int64_t last);

} // namespace rankwise::models::loops
