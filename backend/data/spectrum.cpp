// SPDX-License-Identifier: Apache-2.0
#include "backend/data/spectrum.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rankwise::data {

namespace {

constexpr double kSlack = 1e-12;

/// -Σ p ln p for p = values / total.
double entropy(std::span<const double> values, double total, bool squared)
{
    double sum = 0;
    for (const double value : values) {
        const double p = (squared ? value * value : value) / total;
        sum -= p > 0 ? p * std::log(p) : 0;
    }
    return sum;
}

} // namespace

double totalEnergy(std::span<const double> sigma)
{
    double sum = 0;
    for (std::size_t i = sigma.size(); i > 0; --i) { // smallest first
        sum += sigma[i - 1] * sigma[i - 1];
    }
    return sum;
}

std::vector<double> cumulativeEnergy(std::span<const double> sigma)
{
    const double total = totalEnergy(sigma);
    std::vector<double> energy(sigma.size(), 1.0);
    if (!(total > 0)) {
        return energy;
    }
    double sum = 0;
    for (std::size_t i = 0; i < sigma.size(); ++i) {
        sum += sigma[i] * sigma[i];
        energy[i] = std::min(1.0, sum / total);
    }
    return energy;
}

std::int64_t energyRankOf(std::span<const double> cumulative, double eta)
{
    const auto found = std::lower_bound(cumulative.begin(), cumulative.end(), eta * (1 - kSlack));
    const auto index = static_cast<std::int64_t>(found - cumulative.begin());
    return std::min(index + 1, static_cast<std::int64_t>(cumulative.size()));
}

std::int64_t energyRank(std::span<const double> sigma, double eta)
{
    return totalEnergy(sigma) > 0 ? energyRankOf(cumulativeEnergy(sigma), eta) : 0;
}

std::int64_t energyRankBelow(std::span<const double> sigma, double eta)
{
    if (!(totalEnergy(sigma) > 0)) {
        return 0;
    }
    const std::vector<double> energy = cumulativeEnergy(sigma);
    const auto found = std::upper_bound(energy.begin(), energy.end(), eta * (1 + kSlack));
    return std::max<std::int64_t>(1, found - energy.begin());
}

SpectrumMeasures measureSpectrum(std::span<const double> sigma, std::int64_t rows, std::int64_t columns)
{
    SpectrumMeasures m;
    if (sigma.empty()) {
        return m;
    }
    const double energy = totalEnergy(sigma);
    m.largest = sigma.front();
    m.frobenius = std::sqrt(energy);
    double fourth = 0;
    for (const double value : sigma) {
        m.nuclear += value;
        fourth += value * value * value * value;
    }
    const double tolerance =
        static_cast<double>(std::max(rows, columns)) * std::numeric_limits<double>::epsilon() * m.largest;
    m.numericalRank = std::ranges::count_if(sigma, [&](double value) { return value > tolerance; });
    if (!(energy > 0)) {
        return m;
    }
    m.stableRank = energy / (m.largest * m.largest);
    m.effectiveRank = std::exp(entropy(sigma, m.nuclear, false));
    const double spread = entropy(sigma, energy, true);
    m.energyEffectiveRank = std::exp(spread);
    m.participationRatio = energy * energy / fourth;
    m.normalisedEntropy = sigma.size() > 1 ? spread / std::log(static_cast<double>(sigma.size())) : 0;
    m.condition = m.largest / sigma[static_cast<std::size_t>(std::max<std::int64_t>(m.numericalRank, 1) - 1)];
    return m;
}

std::optional<PowerLawFit> fitPowerLaw(std::span<const double> sigma)
{
    // Logarithms of the eigenvalues relative to the largest, rising.
    std::vector<double> logs;
    for (std::size_t i = sigma.size(); i > 0; --i) {
        const double ratio = sigma.front() > 0 ? sigma[i - 1] / sigma.front() : 0;
        if (ratio * ratio > 1e-10) {
            logs.push_back(2 * std::log(ratio));
        }
    }
    if (logs.size() < 3 || !(logs.front() < -std::log(1.0001))) {
        return std::nullopt;
    }
    double rest = 0; // Σ of the logarithms from i on
    for (const double value : logs) {
        rest += value;
    }
    std::optional<PowerLawFit> best;
    for (std::size_t i = 0; i + 1 < logs.size(); ++i) {
        const auto n = static_cast<double>(logs.size() - i);
        const double excess = rest - n * logs[i];
        rest -= logs[i];
        if (!(excess > 0)) {
            continue;
        }
        const double alpha = 1 + n / excess;
        double distance = 0;
        for (std::size_t j = i; j < logs.size(); ++j) {
            const double model = 1 - std::exp((1 - alpha) * (logs[j] - logs[i]));
            distance = std::max(distance, std::abs(model - static_cast<double>(j - i) / n));
            if (best && distance >= best->distance) {
                break; // this tail cannot win any more
            }
        }
        if (!best || distance < best->distance) {
            best = PowerLawFit { .alpha = alpha,
                                 .xmin = std::exp(logs[i]) * sigma.front() * sigma.front(),
                                 .distance = distance,
                                 .count = static_cast<std::int64_t>(logs.size() - i) };
        }
    }
    return best;
}

double marchenkoPasturEdge(double standardDeviation, std::int64_t rows, std::int64_t columns)
{
    const auto small = static_cast<double>(std::min(rows, columns));
    const auto large = static_cast<double>(std::max(rows, columns));
    return large > 0 ? standardDeviation * (std::sqrt(large) + std::sqrt(small)) : 0;
}

} // namespace rankwise::data
