// Random numbers that are the same on every platform and standard library: SplitMix64 (Steele et al. 2014).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace rankwise::sim {

/// One stream of random numbers. Thread: one at a time.
class Random {
public:
    explicit Random(std::uint64_t seed) : m_state(seed) { }

    [[nodiscard]] std::uint64_t bits()
    {
        m_state += 0x9e3779b97f4a7c15u;
        std::uint64_t z = m_state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    /// In [0, 1), 53 bits.
    [[nodiscard]] double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
    [[nodiscard]] double uniform(double low, double high) { return low + (high - low) * unit(); }
    /// Standard normal (Box–Muller, one of the pair).
    [[nodiscard]] double normal()
    {
        const double radius = std::sqrt(-2.0 * std::log(1.0 - unit()));
        return radius * std::cos(2.0 * std::numbers::pi * unit());
    }
    /// In 0 … count-1.
    [[nodiscard]] int index(int count) { return static_cast<int>(bits() % static_cast<std::uint64_t>(count)); }

private:
    std::uint64_t m_state;
};

/// A seed of its own for each pair, so that streams of neighbouring seeds share nothing.
[[nodiscard]] inline std::uint64_t mixSeeds(std::uint64_t seed, std::uint64_t stream)
{
    Random random(seed ^ (stream * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du));
    (void)random.bits();
    return random.bits();
}

} // namespace rankwise::sim
