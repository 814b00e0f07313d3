// Formulas of statistics.h; binomial and hypergeometric terms in logarithms.
// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include <fmt/format.h>

namespace rankwise::eval {

namespace {

/// Outcomes whose probabilities differ by rounding alone count as equally likely, as in the usual implementations.
constexpr double kTie = 1.0 + 1e-7;

double logFactorial(std::int64_t n)
{
    return std::lgamma(static_cast<double>(n) + 1.0);
}

double logChoose(std::int64_t n, std::int64_t k)
{
    return logFactorial(n) - logFactorial(k) - logFactorial(n - k);
}

/// P(X = k) for n fair coins.
double halfMass(std::int64_t n, std::int64_t k)
{
    return std::exp(logChoose(n, k) - static_cast<double>(n) * std::numbers::ln2);
}

double zOf(double level)
{
    return normalQuantile(0.5 + level / 2.0);
}

Interval clamped(double low, double high)
{
    return { std::max(0.0, low), std::min(1.0, high) };
}

/// Continued fraction of the incomplete beta function (Lentz).
double betaFraction(double a, double b, double x)
{
    constexpr double kTiny = 1e-300;
    double c = 1.0;
    double d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (std::abs(d) < kTiny ? kTiny : d);
    double h = d;
    for (int m = 1; m <= 10'000; ++m) {
        const double n = m;
        const auto advance = [&](double term) {
            d = 1.0 + term * d;
            d = 1.0 / (std::abs(d) < kTiny ? kTiny : d);
            c = 1.0 + term / c;
            c = std::abs(c) < kTiny ? kTiny : c;
            const double factor = d * c;
            h *= factor;
            return factor;
        };
        advance(n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n)));
        const double factor = advance(-(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0)));
        if (std::abs(factor - 1.0) < 1e-16) {
            break;
        }
    }
    return h;
}

void checkCount(const SuccessCount& count)
{
    RW_CHECK(count.trials >= 0 && count.successes >= 0 && count.successes <= count.trials,
             fmt::format("{}/{}", count.successes, count.trials));
}

} // namespace

double normalQuantile(double p)
{
    RW_CHECK(p > 0 && p < 1);
    // Start from a rational approximation of the tail (Abramowitz & Stegun 26.2.23), then Newton on erfc.
    const double tail = std::min(p, 1.0 - p);
    const double t = std::sqrt(-2.0 * std::log(tail));
    double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    for (int i = 0; i < 8; ++i) {
        const double error = 0.5 * std::erfc(x / std::numbers::sqrt2) - tail;
        const double density = std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
        x += error / density;
    }
    return p < 0.5 ? -x : x;
}

double incompleteBeta(double a, double b, double x)
{
    if (x <= 0) {
        return 0;
    }
    if (x >= 1) {
        return 1;
    }
    const double front =
        std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
    return x < (a + 1.0) / (a + b + 2.0) ? front * betaFraction(a, b, x) / a
                                         : 1.0 - front * betaFraction(b, a, 1.0 - x) / b;
}

double betaQuantile(double a, double b, double p)
{
    double low = 0;
    double high = 1;
    for (int i = 0; i < 2000 && high - low > 0; ++i) {
        // Near 0 the quantile may be far below any absolute step: go by ratios there.
        const double middle = low > 0 && high / low > 4 ? std::sqrt(low * high)
            : low == 0 && high < 1e-3                   ? high / 16
                                                        : 0.5 * (low + high);
        if (middle <= low || middle >= high) {
            break;
        }
        (incompleteBeta(a, b, middle) < p ? low : high) = middle;
        if (high < 1e-300) {
            return 0;
        }
    }
    return 0.5 * (low + high);
}

Interval wilson(const SuccessCount& count, double level)
{
    checkCount(count);
    if (count.trials == 0) {
        return {};
    }
    const auto n = static_cast<double>(count.trials);
    const double z = zOf(level);
    const double p = count.rate();
    const double center = (p + z * z / (2 * n)) / (1 + z * z / n);
    const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return { count.successes == 0 ? 0.0 : std::max(0.0, center - half),
             count.successes == count.trials ? 1.0 : std::min(1.0, center + half) };
}

Interval wilsonContinuity(const SuccessCount& count, double level)
{
    checkCount(count);
    if (count.trials == 0) {
        return {};
    }
    const auto n = static_cast<double>(count.trials);
    const double z = zOf(level);
    const double p = count.rate();
    const double scale = 2 * (n + z * z);
    const double low = (2 * n * p + z * z - 1 - z * std::sqrt(z * z - 2 - 1 / n + 4 * p * (n * (1 - p) + 1))) / scale;
    const double high = (2 * n * p + z * z + 1 + z * std::sqrt(z * z + 2 - 1 / n + 4 * p * (n * (1 - p) - 1))) / scale;
    return { count.successes == 0 ? 0.0 : std::max(0.0, low),
             count.successes == count.trials ? 1.0 : std::min(1.0, high) };
}

Interval clopperPearson(const SuccessCount& count, double level)
{
    checkCount(count);
    const double tail = (1 - level) / 2;
    const auto s = static_cast<double>(count.successes);
    const auto n = static_cast<double>(count.trials);
    return { count.successes == 0 ? 0.0 : betaQuantile(s, n - s + 1, tail),
             count.successes == count.trials ? 1.0 : betaQuantile(s + 1, n - s, 1 - tail) };
}

Interval agrestiCoull(const SuccessCount& count, double level)
{
    checkCount(count);
    const double z = zOf(level);
    const double n = static_cast<double>(count.trials) + z * z;
    const double p = (static_cast<double>(count.successes) + z * z / 2) / n;
    const double half = z * std::sqrt(p * (1 - p) / n);
    return clamped(p - half, p + half);
}

Interval jeffreys(const SuccessCount& count, double level)
{
    checkCount(count);
    const double tail = (1 - level) / 2;
    const double a = static_cast<double>(count.successes) + 0.5;
    const double b = static_cast<double>(count.trials - count.successes) + 0.5;
    return { betaQuantile(a, b, tail), betaQuantile(a, b, 1 - tail) };
}

double binomialTestHalf(const SuccessCount& count)
{
    checkCount(count);
    const std::int64_t fewer = std::min(count.successes, count.trials - count.successes);
    if (2 * fewer == count.trials) {
        return 1.0;
    }
    double sum = 0;
    for (std::int64_t k = 0; k <= fewer; ++k) {
        sum += halfMass(count.trials, k);
    }
    return std::min(1.0, 2 * sum);
}

double mcnemarExact(const PairedCounts& counts)
{
    return binomialTestHalf({ counts.onlyFirst, counts.onlyFirst + counts.onlySecond });
}

double mcnemarMidP(const PairedCounts& counts)
{
    const std::int64_t n = counts.onlyFirst + counts.onlySecond;
    const std::int64_t fewer = std::min(counts.onlyFirst, counts.onlySecond);
    if (n == 0) {
        return 1.0;
    }
    double sum = -0.5 * halfMass(n, fewer);
    for (std::int64_t k = 0; k <= fewer; ++k) {
        sum += halfMass(n, k);
    }
    return std::min(1.0, 2 * sum);
}

double mcnemarChiSquare(const PairedCounts& counts)
{
    const auto n = static_cast<double>(counts.onlyFirst + counts.onlySecond);
    if (n == 0) {
        return 1.0;
    }
    const double difference = std::abs(static_cast<double>(counts.onlyFirst - counts.onlySecond)) - 1.0;
    return std::erfc(std::sqrt(difference * difference / n / 2.0));
}

double fisherExact(const SuccessCount& first, const SuccessCount& second)
{
    checkCount(first);
    checkCount(second);
    const std::int64_t successes = first.successes + second.successes;
    const std::int64_t trials = first.trials + second.trials;
    const auto logMass = [&](std::int64_t k) {
        return logChoose(first.trials, k) + logChoose(second.trials, successes - k) - logChoose(trials, successes);
    };
    const std::int64_t lowest = std::max<std::int64_t>(0, successes - second.trials);
    const std::int64_t highest = std::min(first.trials, successes);
    const double observed = std::exp(logMass(first.successes));
    double sum = 0;
    for (std::int64_t k = lowest; k <= highest; ++k) {
        if (const double mass = std::exp(logMass(k)); mass <= observed * kTie) {
            sum += mass;
        }
    }
    return std::min(1.0, sum);
}

double oddsRatio(const SuccessCount& first, const SuccessCount& second)
{
    const auto a = static_cast<double>(first.successes);
    const auto b = static_cast<double>(first.trials - first.successes);
    const auto c = static_cast<double>(second.successes);
    const auto d = static_cast<double>(second.trials - second.successes);
    if (b * c == 0) {
        return a * d == 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    }
    return a * d / (b * c);
}

Interval newcombeDifference(const SuccessCount& first, const SuccessCount& second, double level)
{
    const Interval a = wilson(first, level);
    const Interval b = wilson(second, level);
    const double p = first.rate();
    const double q = second.rate();
    const double difference = p - q;
    return { difference - std::hypot(p - a.low, b.high - q), difference + std::hypot(a.high - p, q - b.low) };
}

double cohensH(const SuccessCount& first, const SuccessCount& second)
{
    return 2 * std::asin(std::sqrt(first.rate())) - 2 * std::asin(std::sqrt(second.rate()));
}

namespace {

std::vector<std::size_t> ascending(const std::vector<double>& p)
{
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), std::size_t { 0 });
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return p[i]; });
    return order;
}

} // namespace

std::vector<double> holm(const std::vector<double>& p)
{
    std::vector<double> adjusted(p.size());
    double largest = 0;
    const std::vector<std::size_t> order = ascending(p);
    for (std::size_t i = 0; i < order.size(); ++i) {
        largest = std::max(largest, std::min(1.0, static_cast<double>(p.size() - i) * p[order[i]]));
        adjusted[order[i]] = largest;
    }
    return adjusted;
}

std::vector<double> bonferroni(const std::vector<double>& p)
{
    std::vector<double> adjusted;
    for (const double value : p) {
        adjusted.push_back(std::min(1.0, static_cast<double>(p.size()) * value));
    }
    return adjusted;
}

std::vector<double> benjaminiHochberg(const std::vector<double>& p)
{
    std::vector<double> adjusted(p.size());
    double least = 1;
    const std::vector<std::size_t> order = ascending(p);
    for (std::size_t i = order.size(); i-- > 0;) {
        least = std::min(least, static_cast<double>(p.size()) / static_cast<double>(i + 1) * p[order[i]]);
        adjusted[order[i]] = least;
    }
    return adjusted;
}

std::string successText(const SuccessCount& count)
{
    const Interval interval = wilson(count);
    return fmt::format("{}/{} = {:.0f} % [{:.0f}, {:.0f}]", count.successes, count.trials, 100 * count.rate(),
                       100 * interval.low, 100 * interval.high);
}

} // namespace rankwise::eval
