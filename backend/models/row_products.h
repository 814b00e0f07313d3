// y = x Wᵀ + b on processors with AVX-512: rows of x meet rows of W along their common dimension, in which both are
// dense, so nothing is packed and no copy of the weights is kept. As fast as the arithmetic units for any number of
// rows, where the BLAS behind at::linear loses a third at the 50 to 100 rows of action and language tokens.
//
// Plain arrays, no torch. Notation: M rows, K common dimension, N output features.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rankwise::models::loops {

enum class Element : std::uint8_t { F32, Bf16 };

/// Whether this processor has the instructions; without, rowProduct() must not be called.
[[nodiscard]] bool hasRowProducts(Element element);

struct RowProduct {
    Element element = Element::F32; ///< Of x, weight, bias and out. Sums are f32.
    const void* x = nullptr;        ///< [M, K], rows `xStride` elements apart.
    const void* weight = nullptr;   ///< [N, K], rows K elements apart.
    const void* bias = nullptr;     ///< [N], or null.
    void* out = nullptr;            ///< [M, N], rows N elements apart.
    std::int64_t rows = 0;
    std::int64_t depth = 0; ///< K
    std::int64_t features = 0;
    std::int64_t xStride = 0;
};

/// Computes the output features `first` to `last` - 1; several threads may share a product. A sum's order depends on K
/// alone, so the result is the same for every split and every M.
void rowProduct(const RowProduct& product, std::int64_t first, std::int64_t last);

} // namespace rankwise::models::loops
