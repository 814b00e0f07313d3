// Figures as SVG text for reports: line charts, heatmaps, box plots, bars with intervals, histograms.
// Every axis has a title with its unit; colours are told apart without relying on hue alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::eval {

/// Labels of a figure. Sizes in CSS pixels.
struct FigureFrame {
    std::string title;
    std::string xTitle;
    std::string yTitle;
    int width = 720;
    int height = 320;
};

struct Series {
    std::string name;
    std::vector<double> x;
    std::vector<double> y; ///< As long as x; values that are not finite break the line.
};

/// Lines over a common axis. `yFromZero` keeps 0 in the range, `yLog` draws log10 (values <= 0 are left out).
struct LineChart {
    FigureFrame frame;
    std::vector<Series> series;
    bool yFromZero = true;
    bool yLog = false;
};

/// values[row][column]; rows are drawn top to bottom, columns over `columns`. NaN cells stay empty.
struct Heatmap {
    FigureFrame frame;
    std::vector<std::string> rows;
    std::vector<std::string> columns;
    std::vector<std::vector<double>> values;
    std::string valueTitle;
    std::optional<double> low, high; ///< Range of the colours; from the values when empty.
};

/// Five-number summary of one box: minimum, quartiles, maximum.
struct Box {
    std::string label;
    std::array<double, 5> quantiles {};
    std::optional<double> reference; ///< A mark for comparison, e.g. the value at step 0.
};

struct BoxPlot {
    FigureFrame frame;
    std::vector<Box> boxes;
    std::string referenceName;
    std::optional<double> high; ///< Upper end of the axis, to compare plots; from the values when empty.
};

/// A value with an interval and the text beside it, e.g. "18/20".
struct IntervalBar {
    std::string label;
    double value = 0;
    double low = 0;
    double high = 0;
    std::string note;
};

struct IntervalChart {
    FigureFrame frame;
    std::vector<IntervalBar> bars;
    double maximum = 1;
};

/// A point with an interval in y, e.g. success against size.
struct IntervalPoint {
    std::string label;
    double x = 0;
    double y = 0;
    double low = 0;
    double high = 0;
};

struct IntervalScatter {
    FigureFrame frame;
    std::vector<IntervalPoint> points;
};

struct Histogram {
    FigureFrame frame;
    double low = 0;
    double high = 1;
    std::vector<double> counts;
    std::optional<double> cut; ///< A vertical line, named `cutName`; bars beyond it are pale.
    std::string cutName;
};

[[nodiscard]] std::string svg(const LineChart& chart);
[[nodiscard]] std::string svg(const Heatmap& map);
[[nodiscard]] std::string svg(const BoxPlot& plot);
[[nodiscard]] std::string svg(const IntervalChart& chart);
[[nodiscard]] std::string svg(const IntervalScatter& chart);
[[nodiscard]] std::string svg(const Histogram& histogram);

/// `text` with & < > " replaced for XML and HTML.
[[nodiscard]] std::string escaped(std::string_view text);

/// Colour of `t` in [0, 1] on the viridis map, as "#rrggbb".
[[nodiscard]] std::string viridis(double t);

/// At most `count` round tick positions that cover [low, high].
[[nodiscard]] std::vector<double> niceTicks(double low, double high, int count);

} // namespace rankwise::eval
