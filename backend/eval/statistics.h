// Statistics of success counts: intervals, exact tests for paired and unpaired differences, corrections for several
// comparisons. Torch-free.
//
// Sources: Wilson 1927; Clopper & Pearson 1934; Agresti & Coull 1998; Newcombe 1998 (methods 3, 4 and 10); McNemar 1947
// with the exact binomial p; Lancaster 1961 (mid-p); Fisher 1935; Holm 1979; Benjamini & Hochberg 1995.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace rankwise::eval {

struct Interval {
    double low = 0;
    double high = 1;
};

/// Successes of independent trials, 0 <= successes <= trials.
struct SuccessCount {
    std::int64_t successes = 0;
    std::int64_t trials = 0;

    [[nodiscard]] double rate() const
    {
        return trials > 0 ? static_cast<double>(successes) / static_cast<double>(trials) : 0.0;
    }
};

/// Score interval. `level` in (0, 1). No trials: [0, 1].
[[nodiscard]] Interval wilson(const SuccessCount& count, double level = 0.95);
/// With Newcombe's continuity correction (method 4).
[[nodiscard]] Interval wilsonContinuity(const SuccessCount& count, double level = 0.95);
/// The exact interval: never covers less than `level`, and usually more.
[[nodiscard]] Interval clopperPearson(const SuccessCount& count, double level = 0.95);
[[nodiscard]] Interval agrestiCoull(const SuccessCount& count, double level = 0.95);
/// Equal tails of the Beta(s + 1/2, n − s + 1/2) posterior.
[[nodiscard]] Interval jeffreys(const SuccessCount& count, double level = 0.95);

/// Two-sided exact binomial test of rate 1/2: the probability of all outcomes not more likely than the observed one.
[[nodiscard]] double binomialTestHalf(const SuccessCount& count);

/// Outcomes of two policies on the same trials (same scenes, same noise).
struct PairedCounts {
    std::int64_t both = 0;
    std::int64_t onlyFirst = 0;
    std::int64_t onlySecond = 0;
    std::int64_t neither = 0;

    [[nodiscard]] std::int64_t trials() const { return both + onlyFirst + onlySecond + neither; }
    [[nodiscard]] SuccessCount first() const { return { both + onlyFirst, trials() }; }
    [[nodiscard]] SuccessCount second() const { return { both + onlySecond, trials() }; }
};

/// Exact two-sided McNemar test on the discordant pairs; 1 when there are none.
[[nodiscard]] double mcnemarExact(const PairedCounts& counts);
/// Less conservative: half the weight on the observed outcome.
[[nodiscard]] double mcnemarMidP(const PairedCounts& counts);
/// The chi-square approximation with Edwards' correction, for comparison.
[[nodiscard]] double mcnemarChiSquare(const PairedCounts& counts);

/// Two-sided Fisher test of two independent samples: tables not more likely than the observed one.
[[nodiscard]] double fisherExact(const SuccessCount& first, const SuccessCount& second);
/// Sample odds ratio of first against second; infinite when a failure count is 0, NaN for 0/0.
[[nodiscard]] double oddsRatio(const SuccessCount& first, const SuccessCount& second);
/// first − second of two independent samples (Newcombe's hybrid score, method 10).
[[nodiscard]] Interval newcombeDifference(const SuccessCount& first, const SuccessCount& second, double level = 0.95);
/// Effect size 2·asin√p₁ − 2·asin√p₂.
[[nodiscard]] double cohensH(const SuccessCount& first, const SuccessCount& second);

/// Adjusted p values in the order given.
[[nodiscard]] std::vector<double> holm(const std::vector<double>& p);
[[nodiscard]] std::vector<double> bonferroni(const std::vector<double>& p);
[[nodiscard]] std::vector<double> benjaminiHochberg(const std::vector<double>& p);

/// Quantile of the standard normal, `p` in (0, 1).
[[nodiscard]] double normalQuantile(double p);
/// Regularised incomplete beta I_x(a, b); a, b > 0.
[[nodiscard]] double incompleteBeta(double a, double b, double x);
/// The x with incompleteBeta(a, b, x) = p.
[[nodiscard]] double betaQuantile(double a, double b, double p);

/// "17/20 = 85 % [64, 95]": count, rate and Wilson interval in percent.
[[nodiscard]] std::string successText(const SuccessCount& count);

} // namespace rankwise::eval
