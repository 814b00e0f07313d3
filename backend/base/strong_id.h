// Identifiers as types that do not convert into each other or into integers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace rankwise {

/// `struct EpisodeTag; using EpisodeIndex = StrongId<EpisodeTag>;` The value is 0-based.
template <class Tag, class Value = std::int64_t> struct StrongId {
    Value value {};

    constexpr StrongId() = default;
    explicit constexpr StrongId(Value v) : value(v) { }

    friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;
};

using LayerIndex = StrongId<struct LayerIndexTag>;      ///< Position of a layer in its stack.
using EpisodeIndex = StrongId<struct EpisodeIndexTag>;  ///< `episode_index` of a dataset.
using TensorId = StrongId<struct TensorIdTag>;          ///< Position of a tensor in a checkpoint's name order.

}  // namespace rankwise

template <class Tag, class Value> struct std::hash<rankwise::StrongId<Tag, Value>> {
    std::size_t operator()(const rankwise::StrongId<Tag, Value>& id) const noexcept
    {
        return std::hash<Value> {}(id.value);
    }
};
