// Figures and reports: well-formed XML, every value drawn, text escaped, base64 by RFC 4648.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/eval/figure.h"
#include "backend/eval/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace {

using namespace rankwise;
using namespace rankwise::eval;

std::size_t count(const std::string& text, const std::string& what)
{
    std::size_t n = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) {
        ++n;
    }
    return n;
}

/// Tags are balanced and attributes quoted: enough of XML to catch a broken figure.
void expectWellFormed(const std::string& xml)
{
    std::vector<std::string> open;
    for (std::size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
        const std::size_t end = xml.find('>', at);
        ASSERT_NE(end, std::string::npos);
        const std::string tag = xml.substr(at + 1, end - at - 1);
        EXPECT_EQ(std::count(tag.begin(), tag.end(), '"') % 2, 0) << tag;
        const std::string name =
            tag.substr(tag.front() == '/' ? 1 : 0, tag.find_first_of(" /", 1) - (tag.front() == '/' ? 1 : 0));
        if (tag.front() == '/') {
            ASSERT_FALSE(open.empty());
            EXPECT_EQ(open.back(), tag.substr(1));
            open.pop_back();
        } else if (tag.back() != '/') {
            open.push_back(name);
        }
    }
    EXPECT_TRUE(open.empty());
    EXPECT_EQ(xml.find("nan"), std::string::npos);
    EXPECT_EQ(xml.find("inf"), std::string::npos);
}

TEST(Figure, LineChartBreaksAtGaps)
{
    const std::string text =
        svg(LineChart { { "Loss", "step", "loss" }, { { "a & b", { 0, 1, 2, 3 }, { 1, NAN, 2, 3 } } } });
    expectWellFormed(text);
    EXPECT_EQ(count(text, "a &amp; b"), 1U);
    const std::size_t path = text.find("<path d=\"");
    EXPECT_EQ(count(text.substr(path, text.find('"', path + 9) - path), "M"), 2U);
}

TEST(Figure, HeatmapDrawsEveryCell)
{
    Heatmap map {
        { "Ranks", "step", "layer" }, { "q", "v" }, { "0", "10", "20" }, { { 1, 2, 3 }, { 4, NAN, 6 } }, "rank"
    };
    const std::string text = svg(map);
    expectWellFormed(text);
    EXPECT_EQ(count(text, "crispEdges"), 5U);
    EXPECT_NE(text.find(viridis(0)), std::string::npos);
    EXPECT_NE(text.find(viridis(1)), std::string::npos);
}

TEST(Figure, BoxPlotsShareAScale)
{
    BoxPlot plot { .frame = { "a", "", "rank", 378, 330 }, .boxes = { { "q", { 1, 2, 3, 4, 5 }, 3.0 } } };
    const std::string own = svg(plot);
    plot.high = 64;
    const std::string shared = svg(plot);
    expectWellFormed(shared);
    EXPECT_NE(own, shared);
    EXPECT_EQ(count(shared, ">60<"), 1U) << "the axis goes on to the given end";
    EXPECT_EQ(count(own, ">60<"), 0U);
}

TEST(Figure, BarsBeyondTheCutArePale)
{
    Histogram histogram { .frame = { "s", "vector", "score" }, .low = 0, .high = 4, .counts = { 4, 3, 2, 1 } };
    EXPECT_EQ(count(svg(histogram), "#b9d3e6"), 0U);
    histogram.cut = 3;
    histogram.cutName = "k = 3";
    const std::string text = svg(histogram);
    expectWellFormed(text);
    EXPECT_EQ(count(text, "#b9d3e6"), 1U);
    EXPECT_EQ(count(text, "k = 3"), 1U);
}

TEST(Figure, LabelsOfPointsDoNotCover)
{
    IntervalScatter scatter { .frame = { "s", "x", "y" } };
    scatter.points = { { "first", 100'000, 0.5, 0.4, 0.6 }, { "second", 101'000, 0.5, 0.4, 0.6 } };
    const std::string text = svg(scatter);
    expectWellFormed(text);
    const auto height = [&](const char* label) {
        const std::size_t end = text.find(std::string(">") + label + "<");
        const std::size_t at = text.rfind(" y=\"", end);
        return std::stod(text.substr(at + 4));
    };
    EXPECT_GE(std::abs(height("first") - height("second")), 12);
    EXPECT_GE(count(text, " k<"), 2U) << "ticks in thousands";
}

TEST(Figure, LogarithmicTicksAreRound)
{
    const std::string text =
        svg(LineChart { { "g", "step", "norm" }, { { "a", { 0, 1 }, { 0.38, 4.2 } } }, true, true });
    expectWellFormed(text);
    EXPECT_EQ(count(text, ">0.5<"), 1U);
    EXPECT_EQ(count(text, ">2<"), 1U);
    EXPECT_EQ(text.find("3.98"), std::string::npos);
}

TEST(Figure, EmptyDataSaysSo)
{
    for (const std::string& text : { svg(LineChart {}), svg(Heatmap {}), svg(BoxPlot {}), svg(IntervalChart {}),
                                     svg(IntervalScatter {}), svg(Histogram {}) }) {
        expectWellFormed(text);
        EXPECT_NE(text.find("no values"), std::string::npos);
    }
}

TEST(Figure, OthersAreWellFormed)
{
    expectWellFormed(svg(BoxPlot {
        { "Rank", "layer", "rank" }, { { "q", { 1, 2, 3, 4, 5 }, 2.5 }, { "v", { 0, 0, 0, 0, 0 }, {} } }, "step 0" }));
    expectWellFormed(svg(IntervalChart { { "Success", "share", "" }, { { "base", 0.1, 0.02, 0.3, "2/20" } } }));
    expectWellFormed(svg(IntervalScatter { { "Size", "bytes", "success" }, { { "x", 10, 0.5, 0.4, 0.6 } } }));
    expectWellFormed(svg(Histogram { { "Scores", "score", "count" }, 0, 1, { 1, 5, 2 }, 0.4, "cut" }));
}

TEST(Figure, TicksAreRoundAndCover)
{
    EXPECT_EQ(niceTicks(0, 10, 5), (std::vector<double> { 0, 2, 4, 6, 8, 10 }));
    const auto ticks = niceTicks(-0.3, 0.3, 6);
    EXPECT_NEAR(ticks.front(), -0.3, 1e-9);
    EXPECT_NEAR(ticks[3], 0.0, 1e-12);
}

TEST(Report, FiguresStandBesideEachOther)
{
    Report report("x");
    report.figures({ "<svg><g/></svg>", "<svg><g/></svg>" }, "left & right");
    const std::string html = report.html();
    EXPECT_EQ(count(html, "<svg>"), 2U);
    EXPECT_EQ(count(html, "<figure>"), 1U);
    EXPECT_EQ(count(html, "left &amp; right"), 1U);
}

TEST(Report, Base64)
{
    const auto encode = [](std::string_view text) { return base64(std::as_bytes(std::span(text))); };
    EXPECT_EQ(encode(""), "");
    EXPECT_EQ(encode("f"), "Zg==");
    EXPECT_EQ(encode("fo"), "Zm8=");
    EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

TEST(Report, IsSelfContained)
{
    Report report("A <title>");
    report.heading("Success & ranks");
    report.table({ { "task", "success" }, { "press", "18/20" } });
    report.figure(svg(Histogram { { "h", "x", "y" }, 0, 1, { 1 } }), "caption");
    report.commands({ "rankwise demo --out <DIR>" });
    const std::string page = report.html();
    EXPECT_NE(page.find("A &lt;title&gt;"), std::string::npos);
    EXPECT_NE(page.find("<td class=\"n\">18/20</td>"), std::string::npos);
    EXPECT_NE(page.find("&lt;DIR&gt;"), std::string::npos);
    EXPECT_EQ(page.find("src=\"http"), std::string::npos);
    const auto path = std::filesystem::temp_directory_path() / "rankwise_report_test.html";
    ASSERT_TRUE(report.write(path).has_value());
    EXPECT_EQ(readFile(path).value(), page);
    std::filesystem::remove(path);
}

} // namespace
