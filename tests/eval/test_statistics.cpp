// Intervals and exact tests against recorded values of scipy and statsmodels, and against closed forms.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/json.h"
#include "backend/eval/statistics.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
using namespace rankwise::eval;

namespace {

Json golden()
{
    const char* given = std::getenv("RANKWISE_GOLDEN_DIR");
    const std::filesystem::path root = given != nullptr && *given != '\0' ? given : RANKWISE_TEST_DATA "/golden";
    auto json = readJsonFile(root / "adapters/stats/statistics.json");
    EXPECT_TRUE(json) << json.error().describe();
    return json ? *json : Json();
}

void expectInterval(const Interval& found, const Json& expected, const std::string& what)
{
    EXPECT_NEAR(found.low, expected[0].get<double>(), 1e-9) << what;
    EXPECT_NEAR(found.high, expected[1].get<double>(), 1e-9) << what;
}

TEST(Statistics, intervalsEqualTheRecordedOnes)
{
    const Json rows = golden()["binomial"];
    ASSERT_FALSE(rows.empty());
    for (const Json& row : rows) {
        const SuccessCount count { row["successes"], row["trials"] };
        const double level = row["level"];
        const std::string what = row.dump().substr(0, 60);
        expectInterval(wilson(count, level), row["wilson"], "wilson " + what);
        expectInterval(wilsonContinuity(count, level), row["wilson_continuity"], "continuity " + what);
        expectInterval(clopperPearson(count, level), row["clopper_pearson"], "exact " + what);
        expectInterval(agrestiCoull(count, level), row["agresti_coull"], "agresti " + what);
        expectInterval(jeffreys(count, level), row["jeffreys"], "jeffreys " + what);
        const double p = row["two_sided_p_vs_half"];
        EXPECT_NEAR(binomialTestHalf(count), p, 1e-9 * p) << what;
    }
}

TEST(Statistics, pairedTestsEqualTheRecordedOnes)
{
    const Json rows = golden()["mcnemar"];
    ASSERT_FALSE(rows.empty());
    for (const Json& row : rows) {
        const PairedCounts counts {
            .both = 3, .onlyFirst = row["only_first"], .onlySecond = row["only_second"], .neither = 4
        };
        EXPECT_NEAR(mcnemarExact(counts), row["p_exact"].get<double>(), 1e-10) << row;
        EXPECT_NEAR(mcnemarMidP(counts), row["mid_p"].get<double>(), 1e-10) << row;
        if (row["p_chi2_corrected"].is_number()) {
            EXPECT_NEAR(mcnemarChiSquare(counts), row["p_chi2_corrected"].get<double>(), 1e-10) << row;
        }
    }
}

TEST(Statistics, unpairedTestsEqualTheRecordedOnes)
{
    const Json rows = golden()["two_samples"];
    ASSERT_FALSE(rows.empty());
    for (const Json& row : rows) {
        const SuccessCount a { row["first"][0], row["first"][1] };
        const SuccessCount b { row["second"][0], row["second"][1] };
        EXPECT_NEAR(fisherExact(a, b), row["fisher_two_sided_p"].get<double>(), 1e-10) << row;
        if (row["odds_ratio"].is_number()) {
            EXPECT_NEAR(oddsRatio(a, b), row["odds_ratio"].get<double>(), 1e-9) << row;
        }
        expectInterval(newcombeDifference(a, b), row["newcombe_difference_95"], row.dump());
        EXPECT_NEAR(cohensH(a, b), row["cohens_h"].get<double>(), 1e-12) << row;
    }
}

TEST(Statistics, correctionsEqualTheRecordedOnes)
{
    const Json rows = golden()["corrections"];
    ASSERT_FALSE(rows.empty());
    for (const Json& row : rows) {
        const std::vector<double> p = row["p"];
        const auto compare = [&](const std::vector<double>& found, const char* key) {
            ASSERT_EQ(found.size(), row[key].size());
            for (std::size_t i = 0; i < found.size(); ++i) {
                EXPECT_NEAR(found[i], row[key][i].get<double>(), 1e-12) << key << row;
            }
        };
        compare(holm(p), "holm");
        compare(bonferroni(p), "bonferroni");
        compare(benjaminiHochberg(p), "fdr_bh");
    }
}

TEST(Statistics, closedForms)
{
    // Nothing of n: the exact upper end is 1 − (α/2)^(1/n); everything of n: the mirror image.
    for (const std::int64_t n : { 1, 5, 20, 200 }) {
        const double end = std::pow(0.025, 1.0 / static_cast<double>(n));
        EXPECT_NEAR(clopperPearson({ 0, n }).high, 1 - end, 1e-12);
        EXPECT_NEAR(clopperPearson({ n, n }).low, end, 1e-12);
        EXPECT_NEAR(wilson({ 0, n }).high, 3.841458820694124 / (static_cast<double>(n) + 3.841458820694124), 1e-12);
        EXPECT_EQ(wilson({ n, n }).high, 1.0);
    }
    EXPECT_NEAR(normalQuantile(0.975), 1.959963984540054, 1e-14);
    EXPECT_NEAR(normalQuantile(1e-10), -6.361340902404056, 1e-12);
    EXPECT_NEAR(normalQuantile(0.5), 0, 1e-15);
    EXPECT_NEAR(incompleteBeta(2, 3, 0.4), 0.5248, 1e-14); // 1 − Σ of the binomial terms of 4
    EXPECT_NEAR(betaQuantile(1, 1, 0.3), 0.3, 1e-14);
    EXPECT_DOUBLE_EQ(mcnemarExact({ .both = 10, .onlyFirst = 5, .onlySecond = 0, .neither = 5 }), 2.0 / 32);
    EXPECT_DOUBLE_EQ(mcnemarExact({ .both = 7 }), 1.0);
    EXPECT_NEAR(fisherExact({ 0, 5 }, { 5, 5 }), 2.0 / 252, 1e-14);
    // Comparisons of success counts as published for this method: 55 and 36 of 60, 55 and 46, 50 and 36.
    EXPECT_NEAR(fisherExact({ 55, 60 }, { 36, 60 }), 8e-5, 0.5e-5);
    EXPECT_NEAR(fisherExact({ 55, 60 }, { 46, 60 }), 0.043, 0.0005);
    EXPECT_NEAR(fisherExact({ 50, 60 }, { 36, 60 }), 0.008, 0.0005);
    EXPECT_EQ(wilson({ 0, 0 }).low, 0.0);
    EXPECT_EQ(wilson({ 0, 0 }).high, 1.0);
}

TEST(Statistics, exactIntervalsCover)
{
    // The chance that the 95 % interval holds the true rate, summed over all outcomes: never below 95 % for
    // Clopper-Pearson, near it on average for Wilson.
    const std::int64_t n = 20;
    double wilsonMean = 0;
    int rates = 0;
    for (double rate = 0.05; rate < 0.96; rate += 0.05) {
        double exact = 0;
        double score = 0;
        for (std::int64_t k = 0; k <= n; ++k) {
            const double mass =
                std::exp(std::lgamma(21.0) - std::lgamma(static_cast<double>(k) + 1)
                         - std::lgamma(static_cast<double>(n - k) + 1) + static_cast<double>(k) * std::log(rate)
                         + static_cast<double>(n - k) * std::log1p(-rate));
            const Interval a = clopperPearson({ k, n });
            const Interval b = wilson({ k, n });
            exact += a.low <= rate && rate <= a.high ? mass : 0;
            score += b.low <= rate && rate <= b.high ? mass : 0;
        }
        EXPECT_GE(exact, 0.95) << rate;
        wilsonMean += score;
        ++rates;
    }
    EXPECT_NEAR(wilsonMean / rates, 0.95, 0.012);
}

TEST(Statistics, textShowsCountsAndInterval)
{
    EXPECT_EQ(successText({ 13, 15 }), "13/15 = 87 % [62, 96]");
    EXPECT_EQ(successText({ 0, 0 }), "0/0 = 0 % [0, 100]");
}

} // namespace
