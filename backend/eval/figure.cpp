// SVG drawing for figure.h.
// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/figure.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace rankwise::eval {

namespace {

constexpr const char* kInk = "#222";
constexpr const char* kGrid = "#ddd";
constexpr const char* kBeyond = "#b9d3e6"; ///< Bars beyond a cut.
/// Okabe and Ito's palette for colour-blind eyes; each series also has its own dash pattern.
constexpr std::array kSeriesColors { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" };
constexpr std::array kDashes { "", "6 3", "2 3", "8 3 2 3", "1 2", "10 4", "4 2 1 2" };

std::string number(double value)
{
    const double size = std::abs(value);
    if (value == 0) {
        return "0";
    }
    if (size < 1e-3 || size >= 1e12) {
        return fmt::format("{:.2g}", value);
    }
    if (size >= 1e4) {
        return size >= 1e9 ? fmt::format("{:.4g} G", value / 1e9)
            : size >= 1e6  ? fmt::format("{:.4g} M", value / 1e6)
                           : fmt::format("{:.4g} k", value / 1e3);
    }
    return fmt::format("{:.4g}", value);
}

/// log10 of 1, 2 and 5 times the powers of ten inside of [low, high], of the powers alone where they are enough.
std::vector<double> logTicks(double low, double high)
{
    std::vector<double> ticks;
    const bool wide = high - low > 3;
    for (double power = std::floor(low); power <= high; ++power) {
        for (const double factor : { 1.0, 2.0, 5.0 }) {
            const double tick = power + std::log10(factor);
            if (tick >= low - 1e-9 && tick <= high + 1e-9 && (factor == 1.0 || !wide)) {
                ticks.push_back(tick);
            }
        }
    }
    return ticks.size() >= 2 ? ticks : niceTicks(low, high, 6);
}

/// Margins, scales and the text of one figure.
class Canvas {
public:
    Canvas(const FigureFrame& frame, double left, double bottom, double right = 16)
        : m_frame(frame), m_left(left), m_right(frame.width - right), m_top(34), m_bottom(frame.height - bottom)
    {
        m_out = fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" height="{}" )"
                            R"(role="img" aria-label="{}" font-family="sans-serif" font-size="12" fill="{}">)",
                            frame.width, frame.height, frame.width, frame.height, escaped(frame.title), kInk);
        text(frame.width / 2.0, 18, frame.title, "middle", "font-size=\"14\" font-weight=\"bold\"");
        if (!frame.xTitle.empty()) {
            text((m_left + m_right) / 2, frame.height - 8, frame.xTitle, "middle");
        }
        if (!frame.yTitle.empty()) {
            const double y = (m_top + m_bottom) / 2;
            m_out += fmt::format(
                R"svg(<text x="14" y="{:.1f}" text-anchor="middle" transform="rotate(-90 14 {:.1f})">{}</text>)svg", y,
                y, escaped(frame.yTitle));
        }
    }

    void rangeX(double low, double high) { m_x = widened(low, high); }
    void rangeY(double low, double high) { m_y = widened(low, high); }
    [[nodiscard]] double px(double x) const { return m_left + (x - m_x[0]) / (m_x[1] - m_x[0]) * (m_right - m_left); }
    [[nodiscard]] double py(double y) const { return m_bottom - (y - m_y[0]) / (m_y[1] - m_y[0]) * (m_bottom - m_top); }
    [[nodiscard]] double left() const { return m_left; }
    [[nodiscard]] double right() const { return m_right; }
    [[nodiscard]] double top() const { return m_top; }
    [[nodiscard]] double bottom() const { return m_bottom; }

    void text(double x, double y, std::string_view words, const char* anchor, const char* more = "")
    {
        m_out += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" {}>{}</text>)", x, y, anchor, more,
                             escaped(words));
    }
    void line(double x1, double y1, double x2, double y2, const char* color, double width = 1, const char* dash = "")
    {
        m_out += fmt::format(
            R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}" stroke-dasharray="{}"/>)",
            x1, y1, x2, y2, color, width, dash);
    }
    void rect(double x, double y, double width, double height, std::string_view fill, const char* more = "")
    {
        m_out += fmt::format(R"(<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}" {}/>)", x, y,
                             std::max(width, 0.0), std::max(height, 0.0), fill, more);
    }
    void raw(std::string_view more) { m_out += more; }

    void axisX()
    {
        for (const double tick : niceTicks(m_x[0], m_x[1], 8)) {
            line(px(tick), m_bottom, px(tick), m_bottom + 4, kInk);
            text(px(tick), m_bottom + 17, number(tick), "middle");
        }
        line(m_left, m_bottom, m_right, m_bottom, kInk);
    }
    void axisY(bool log = false)
    {
        for (const double tick : log ? logTicks(m_y[0], m_y[1]) : niceTicks(m_y[0], m_y[1], 6)) {
            line(m_left, py(tick), m_right, py(tick), kGrid);
            text(m_left - 6, py(tick) + 4, number(log ? std::pow(10, tick) : tick), "end");
        }
        line(m_left, m_top, m_left, m_bottom, kInk);
    }
    [[nodiscard]] std::string finish() { return m_out + "</svg>"; }

private:
    static std::array<double, 2> widened(double low, double high)
    {
        if (!(high > low)) {
            const double half = low == 0 ? 0.5 : std::abs(low) * 0.05;
            return { low - half, low + half };
        }
        return { low, high };
    }

    FigureFrame m_frame;
    std::string m_out;
    double m_left, m_right, m_top, m_bottom;
    std::array<double, 2> m_x { 0, 1 };
    std::array<double, 2> m_y { 0, 1 };
};

struct Extent {
    double low = std::numeric_limits<double>::infinity();
    double high = -std::numeric_limits<double>::infinity();
    void add(double value)
    {
        if (std::isfinite(value)) {
            low = std::min(low, value);
            high = std::max(high, value);
        }
    }
    [[nodiscard]] bool empty() const { return low > high; }
};

std::string noData(const FigureFrame& frame)
{
    Canvas canvas(frame, 60, 46);
    canvas.text(frame.width / 2.0, frame.height / 2.0, "no values", "middle");
    return canvas.finish();
}

/// Every label, or every n-th where they would overlap.
std::size_t labelStride(std::size_t count, double pixels, double pixelsEach)
{
    return std::max<std::size_t>(1,
                                 static_cast<std::size_t>(std::ceil(static_cast<double>(count) * pixelsEach / pixels)));
}

double widestLabel(const std::vector<std::string>& labels)
{
    std::size_t longest = 0;
    for (const auto& label : labels) {
        longest = std::max(longest, label.size());
    }
    return static_cast<double>(longest) * 6.2;
}

} // namespace

std::string escaped(std::string_view text)
{
    std::string out;
    for (const char c : text) {
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        default:
            out += c;
        }
    }
    return out;
}

std::string viridis(double t)
{
    // Nine anchors of matplotlib's viridis (CC0), linear between them.
    constexpr std::array<std::array<double, 3>, 9> anchors { { { 68, 1, 84 },
                                                               { 72, 40, 120 },
                                                               { 62, 74, 137 },
                                                               { 49, 104, 142 },
                                                               { 38, 130, 142 },
                                                               { 31, 158, 137 },
                                                               { 53, 183, 121 },
                                                               { 109, 205, 89 },
                                                               { 253, 231, 37 } } };
    const double position = std::clamp(t, 0.0, 1.0) * (anchors.size() - 1);
    const auto low = std::min(static_cast<std::size_t>(position), anchors.size() - 2);
    const double part = position - static_cast<double>(low);
    std::array<int, 3> rgb {};
    for (std::size_t c = 0; c < 3; ++c) {
        rgb[c] = static_cast<int>(std::lround(anchors[low][c] * (1 - part) + anchors[low + 1][c] * part));
    }
    return fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]);
}

std::vector<double> niceTicks(double low, double high, int count)
{
    if (!(high > low) || count < 1) {
        return { low };
    }
    const double rough = (high - low) / count;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double ratio = rough / power;
    const double step = power * (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10);
    std::vector<double> ticks;
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9; ++k) {
        ticks.push_back(k * step);
    }
    return ticks;
}

std::string svg(const LineChart& chart)
{
    Extent x, y;
    const auto mapped = [&](double value) { return chart.yLog ? (value > 0 ? std::log10(value) : NAN) : value; };
    for (const Series& series : chart.series) {
        for (std::size_t i = 0; i < series.x.size(); ++i) {
            x.add(series.x[i]);
            y.add(mapped(series.y[i]));
        }
    }
    if (x.empty() || y.empty()) {
        return noData(chart.frame);
    }
    if (chart.yFromZero && !chart.yLog) {
        y.add(0);
    }
    Canvas canvas(chart.frame, 64, 46, 150);
    canvas.rangeX(x.low, x.high);
    canvas.rangeY(y.low, y.high);
    canvas.axisY(chart.yLog);
    canvas.axisX();
    for (std::size_t s = 0; s < chart.series.size(); ++s) {
        const char* color = kSeriesColors[s % kSeriesColors.size()];
        const char* dash = kDashes[s % kDashes.size()];
        std::string path;
        bool pen = false;
        for (std::size_t i = 0; i < chart.series[s].x.size(); ++i) {
            const double value = mapped(chart.series[s].y[i]);
            if (!std::isfinite(value)) {
                pen = false;
                continue;
            }
            path += fmt::format("{}{:.1f} {:.1f}", pen ? "L" : "M", canvas.px(chart.series[s].x[i]), canvas.py(value));
            pen = true;
        }
        canvas.raw(fmt::format(R"(<path d="{}" fill="none" stroke="{}" stroke-width="1.6" stroke-dasharray="{}"/>)",
                               path, color, dash));
        const double legend = canvas.top() + 8 + 18 * static_cast<double>(s);
        canvas.line(canvas.right() + 10, legend, canvas.right() + 34, legend, color, 2, dash);
        canvas.text(canvas.right() + 40, legend + 4, chart.series[s].name, "start");
    }
    return canvas.finish();
}

std::string svg(const Heatmap& map)
{
    Extent range;
    for (const auto& row : map.values) {
        for (const double value : row) {
            range.add(value);
        }
    }
    if (range.empty()) {
        return noData(map.frame);
    }
    const double low = map.low.value_or(range.low);
    const double high = std::max(map.high.value_or(range.high), low + 1e-12);
    Canvas canvas(map.frame, std::min(widestLabel(map.rows) + 34, map.frame.width * 0.45), 46, 84);
    const double cellHeight = (canvas.bottom() - canvas.top()) / static_cast<double>(map.rows.size());
    const double cellWidth = (canvas.right() - canvas.left()) / static_cast<double>(map.columns.size());
    const std::size_t rowStride = labelStride(map.rows.size(), canvas.bottom() - canvas.top(), 11);
    for (std::size_t r = 0; r < map.rows.size(); ++r) {
        const double y = canvas.top() + cellHeight * static_cast<double>(r);
        for (std::size_t c = 0; c < map.values[r].size(); ++c) {
            const double value = map.values[r][c];
            if (std::isfinite(value)) {
                canvas.rect(canvas.left() + cellWidth * static_cast<double>(c), y, cellWidth + 0.3, cellHeight + 0.3,
                            viridis((value - low) / (high - low)), "shape-rendering=\"crispEdges\"");
            }
        }
        if (r % rowStride == 0) {
            canvas.text(canvas.left() - 5, y + cellHeight / 2 + 3.5, map.rows[r], "end", "font-size=\"10\"");
        }
    }
    const std::size_t columnStride = labelStride(map.columns.size(), canvas.right() - canvas.left(), 52);
    for (std::size_t c = 0; c < map.columns.size(); c += columnStride) {
        canvas.text(canvas.left() + cellWidth * (static_cast<double>(c) + 0.5), canvas.bottom() + 16, map.columns[c],
                    "middle");
    }
    const double bar = canvas.right() + 16;
    constexpr int kBarSteps = 48;
    for (int i = 0; i < kBarSteps; ++i) {
        const double height = (canvas.bottom() - canvas.top()) / kBarSteps;
        canvas.rect(bar, canvas.bottom() - height * (i + 1), 14, height + 0.3, viridis((i + 0.5) / kBarSteps));
    }
    canvas.text(bar + 18, canvas.bottom(), number(low), "start");
    canvas.text(bar + 18, canvas.top() + 9, number(high), "start");
    const double middle = (canvas.top() + canvas.bottom()) / 2;
    canvas.raw(fmt::format(
        R"svg(<text x="{:.1f}" y="{:.1f}" text-anchor="middle" transform="rotate(-90 {:.1f} {:.1f})">{}</text>)svg",
        bar + 30, middle, bar + 30, middle, escaped(map.valueTitle)));
    return canvas.finish();
}

std::string svg(const BoxPlot& plot)
{
    Extent y;
    std::vector<std::string> labels;
    for (const Box& box : plot.boxes) {
        for (const double value : box.quantiles) {
            y.add(value);
        }
        y.add(box.reference.value_or(NAN));
        labels.push_back(box.label);
    }
    if (y.empty()) {
        return noData(plot.frame);
    }
    y.add(0);
    const double label = widestLabel(labels);
    Canvas canvas(plot.frame, 60, std::min(label * 0.75 + 34, plot.frame.height * 0.5));
    canvas.rangeY(y.low, plot.high.value_or(y.high * 1.05));
    canvas.axisY();
    canvas.line(canvas.left(), canvas.bottom(), canvas.right(), canvas.bottom(), kInk);
    const double slot = (canvas.right() - canvas.left()) / static_cast<double>(plot.boxes.size());
    const std::size_t stride = labelStride(plot.boxes.size(), canvas.right() - canvas.left(), 12);
    for (std::size_t i = 0; i < plot.boxes.size(); ++i) {
        const auto& box = plot.boxes[i];
        const double x = canvas.left() + slot * (static_cast<double>(i) + 0.5);
        const double half = std::min(slot * 0.35, 14.0);
        canvas.line(x, canvas.py(box.quantiles[0]), x, canvas.py(box.quantiles[4]), kInk);
        canvas.rect(x - half, canvas.py(box.quantiles[3]), 2 * half,
                    canvas.py(box.quantiles[1]) - canvas.py(box.quantiles[3]), "#9ecae1", "stroke=\"#0072b2\"");
        canvas.line(x - half, canvas.py(box.quantiles[2]), x + half, canvas.py(box.quantiles[2]), "#0072b2", 2);
        if (box.reference) {
            canvas.raw(fmt::format(R"(<path d="M{:.1f} {:.1f}l5 5l-5 5l-5 -5z" fill="#d55e00"/>)", x,
                                   canvas.py(*box.reference) - 5));
        }
        if (i % stride == 0) {
            const double y0 = canvas.bottom() + 10;
            canvas.raw(fmt::format(
                R"svg(<text x="{:.1f}" y="{:.1f}" text-anchor="end" font-size="10" transform="rotate(-45 {:.1f} {:.1f})">{}</text>)svg",
                x + 3, y0, x + 3, y0, escaped(box.label)));
        }
    }
    if (!plot.referenceName.empty()) {
        canvas.raw(fmt::format(R"(<path d="M{:.1f} 22l5 5l-5 5l-5 -5z" fill="#d55e00"/>)", canvas.left() + 8));
        canvas.text(canvas.left() + 18, 31, plot.referenceName, "start");
    }
    return canvas.finish();
}

std::string svg(const IntervalChart& chart)
{
    if (chart.bars.empty()) {
        return noData(chart.frame);
    }
    std::vector<std::string> labels;
    for (const auto& bar : chart.bars) {
        labels.push_back(bar.label);
    }
    FigureFrame frame = chart.frame;
    frame.height = std::max(120, 90 + 30 * static_cast<int>(chart.bars.size()));
    Canvas canvas(frame, std::min(widestLabel(labels) + 34, frame.width * 0.45), 46, 70);
    canvas.rangeX(0, chart.maximum);
    canvas.axisX();
    const double slot = (canvas.bottom() - canvas.top()) / static_cast<double>(chart.bars.size());
    for (std::size_t i = 0; i < chart.bars.size(); ++i) {
        const auto& bar = chart.bars[i];
        const double y = canvas.top() + slot * (static_cast<double>(i) + 0.5);
        const double half = std::min(slot * 0.32, 9.0);
        canvas.rect(canvas.left(), y - half, canvas.px(bar.value) - canvas.left(), 2 * half, "#9ecae1");
        canvas.line(canvas.px(bar.low), y, canvas.px(bar.high), y, kInk, 1.5);
        for (const double end : { bar.low, bar.high }) {
            canvas.line(canvas.px(end), y - 5, canvas.px(end), y + 5, kInk, 1.5);
        }
        canvas.text(canvas.left() - 6, y + 4, bar.label, "end");
        canvas.text(canvas.right() + 8, y + 4, bar.note, "start");
    }
    return canvas.finish();
}

std::string svg(const IntervalScatter& chart)
{
    Extent x, y;
    for (const auto& point : chart.points) {
        x.add(point.x);
        y.add(point.low);
        y.add(point.high);
    }
    if (x.empty()) {
        return noData(chart.frame);
    }
    y.add(0);
    Canvas canvas(chart.frame, 64, 46, 130);
    x.add(0);
    canvas.rangeX(x.low, x.high * 1.05);
    canvas.rangeY(y.low, std::max(y.high, y.low + 1e-9));
    canvas.axisY();
    canvas.axisX();
    std::vector<std::array<double, 3>> labels; // left, right, middle of those that stand
    for (const auto& point : chart.points) {
        const double px = canvas.px(point.x);
        const double right = px + 9 + widestLabel({ point.label });
        double labelY = canvas.py(point.y);
        for (int step = 1; std::ranges::any_of(labels,
                                               [&](const auto& other) {
                                                   return px < other[1] && right > other[0]
                                                       && std::abs(labelY - other[2]) < 12;
                                               });
             ++step) {
            labelY = canvas.py(point.y) + (step % 2 == 1 ? 13.0 : -13.0) * ((step + 1) / 2);
        }
        labels.push_back({ px, right, labelY });
        canvas.line(px, canvas.py(point.low), px, canvas.py(point.high), "#0072b2", 1.5);
        canvas.raw(fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="#0072b2"/>)", px, canvas.py(point.y)));
        canvas.text(px + 7, labelY + 4, point.label, "start", "font-size=\"11\"");
    }
    return canvas.finish();
}

std::string svg(const Histogram& histogram)
{
    Extent y;
    for (const double count : histogram.counts) {
        y.add(count);
    }
    if (y.empty()) {
        return noData(histogram.frame);
    }
    y.add(0);
    Canvas canvas(histogram.frame, 64, 46);
    canvas.rangeX(histogram.low, histogram.high);
    canvas.rangeY(0, y.high);
    canvas.axisY();
    const double width = (canvas.right() - canvas.left()) / static_cast<double>(histogram.counts.size());
    for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
        const double top = canvas.py(histogram.counts[i]);
        const double middle = histogram.low
            + (histogram.high - histogram.low) * (static_cast<double>(i) + 0.5)
                / static_cast<double>(histogram.counts.size());
        canvas.rect(canvas.left() + width * static_cast<double>(i), top, width * 0.94, canvas.bottom() - top,
                    histogram.cut && middle > *histogram.cut ? kBeyond : kSeriesColors[0]);
    }
    canvas.axisX();
    if (histogram.cut) {
        const double x = canvas.px(*histogram.cut);
        canvas.line(x, canvas.top(), x, canvas.bottom(), "#d55e00", 2, "5 3");
        const bool rightHalf = x > (canvas.left() + canvas.right()) / 2;
        canvas.text(x + (rightHalf ? -6 : 6), canvas.top() + 12, histogram.cutName, rightHalf ? "end" : "start");
    }
    return canvas.finish();
}

} // namespace rankwise::eval
