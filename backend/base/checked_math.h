// Arithmetic on sizes that come from files: overflow is an answer, not a wrap.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace rankwise {

/// a + b, or nothing when it does not fit.
template <std::integral T> [[nodiscard]] constexpr std::optional<T> checkedAdd(T a, T b)
{
    T sum {};
    return __builtin_add_overflow(a, b, &sum) ? std::nullopt : std::optional<T>(sum);
}

/// a · b, or nothing when it does not fit.
template <std::integral T> [[nodiscard]] constexpr std::optional<T> checkedMul(T a, T b)
{
    T product {};
    return __builtin_mul_overflow(a, b, &product) ? std::nullopt : std::optional<T>(product);
}

/// Number of elements of a shape (1 for a scalar); nothing for a negative
/// dimension or an overflow, also when a later dimension is 0.
[[nodiscard]] constexpr std::optional<std::uint64_t> elementCount(std::span<const std::int64_t> shape)
{
    std::uint64_t count = 1;
    for (const std::int64_t dim : shape) {
        if (dim < 0) {
            return std::nullopt;
        }
    }
    bool empty = false;
    for (const std::int64_t dim : shape) {
        if (dim == 0) {
            empty = true;
            continue;
        }
        const auto next = checkedMul(count, static_cast<std::uint64_t>(dim));
        if (!next) {
            return std::nullopt;
        }
        count = *next;
    }
    return empty ? 0 : count;
}

/// `value` as another integer type, or nothing when it does not fit.
template <std::integral To, std::integral From> [[nodiscard]] constexpr std::optional<To> checkedCast(From value)
{
    return std::in_range<To>(value) ? std::optional<To>(static_cast<To>(value)) : std::nullopt;
}

}  // namespace rankwise
