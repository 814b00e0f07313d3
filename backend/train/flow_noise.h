// The random numbers of training, each step's drawn from a stream of its own: what step n draws depends on the seed
// and n alone. So a resumed run draws what an uninterrupted one would, two methods trained with one seed see the
// same noise, and no generator's state has to be saved.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace rankwise::train {

/// What a stream of random numbers is for. Changing a value changes every run.
enum class RandomStream : std::uint64_t { Noise = 1, Time = 2, Dropout = 3, Adapter = 4, Sampling = 5 };

/// Seed of one stream at one backward pass.
[[nodiscard]] std::uint64_t streamSeed(std::uint64_t seed, RandomStream stream, std::int64_t step, std::int64_t pass);

/// Noise and flow time of one backward pass.
struct FlowDraw {
    at::Tensor noise; ///< [B, T, A] f32, N(0, 1)
    at::Tensor time;  ///< [B] f32, 0.001 + 0.999·u^(2/3): Beta(1.5, 1) of the references
};

[[nodiscard]] FlowDraw drawFlow(std::uint64_t seed, std::int64_t step, std::int64_t pass, std::int64_t batch,
                                std::int64_t chunk, std::int64_t width);

/// Standard normal [B, T, A] f32 of one seed, for sampling actions.
[[nodiscard]] at::Tensor drawNoise(std::uint64_t seed, std::int64_t batch, std::int64_t chunk, std::int64_t width);

/// Seeds torch's default generator of the CPU (dropout).
void seedDropout(std::uint64_t seed, std::int64_t step, std::int64_t pass);

} // namespace rankwise::train
