// Random numbers of one adaptation method: their own stream, so that dropout neither depends on nor disturbs other
// random numbers, and a state that a checkpoint can hold.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// Thread: one at a time.
class AdapterRandom {
public:
    explicit AdapterRandom(std::uint64_t seed);
    ~AdapterRandom();
    AdapterRandom(const AdapterRandom&) = delete;
    AdapterRandom& operator=(const AdapterRandom&) = delete;

    /// x with each entry zeroed with probability p and the others divided by 1 - p. Follows x to its device.
    [[nodiscard]] at::Tensor dropout(const at::Tensor& x, double p);
    /// Uniform in [-bound, bound), on the CPU, then cast to `type`. Shape [rows, columns].
    [[nodiscard]] at::Tensor uniform(std::int64_t rows, std::int64_t columns, double bound, at::ScalarType type);
    /// Normal with mean 0.
    [[nodiscard]] at::Tensor normal(std::int64_t rows, std::int64_t columns, double deviation, at::ScalarType type);

    /// 64 random bits, for kernels with a generator of their own.
    [[nodiscard]] std::uint64_t draw();

    /// Bytes, on the CPU.
    [[nodiscard]] at::Tensor state() const;
    /// Errors: DataInvalid (not a state of this machine's generator).
    [[nodiscard]] Result<void> restore(const at::Tensor& state);

private:
    struct Generators;
    std::unique_ptr<Generators> m_generators;
    std::uint64_t m_seed;
};

} // namespace rankwise::adapters
