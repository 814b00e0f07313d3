// The picture of a LineChart.
// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/line_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tuple>
#include <vector>

namespace rankwise::common {

using bridge::numberText;

namespace {

constexpr double kMark = 4;           ///< Half the size of a curve's mark.
constexpr double kMarkDistance = 120; ///< Pixels between the marks of a curve.

/// A shape of its own for each colour, so that curves are told apart without colours.
void paintMark(PlotSurface& surface, const QPointF& at, std::size_t shape, const QColor& color)
{
    const auto polygon = [&](int corners, double turn, double radius) {
        std::vector<QPointF> points;
        for (int i = 0; i < corners; ++i) {
            const double angle = turn + 2 * std::numbers::pi * i / corners;
            points.emplace_back(at.x() + radius * std::sin(angle), at.y() - radius * std::cos(angle));
        }
        surface.fillPolygon(points, color);
    };
    switch (shape % 8) {
    case 0:
        polygon(8, 0, kMark * 0.9);
        break;
    case 1:
        surface.fillRect(QRectF(at - QPointF(3, 3), QSizeF(6, 6)), color);
        break;
    case 2:
        polygon(3, 0, kMark * 1.2);
        break;
    case 3:
        polygon(4, 0, kMark * 1.2);
        break;
    case 4:
        polygon(3, std::numbers::pi, kMark * 1.2);
        break;
    case 5:
        surface.line(at - QPointF(kMark, 0), at + QPointF(kMark, 0), color, 2);
        surface.line(at - QPointF(0, kMark), at + QPointF(0, kMark), color, 2);
        break;
    case 6:
        surface.line(at - QPointF(kMark, kMark), at + QPointF(kMark, kMark), color, 2);
        surface.line(at - QPointF(kMark, -kMark), at + QPointF(kMark, -kMark), color, 2);
        break;
    default:
        surface.strokeRect(QRectF(at - QPointF(3, 3), QSizeF(6, 6)), color, 1.5);
        break;
    }
}

} // namespace

Axis LineChart::yAxis(double xLow, double xHigh) const
{
    Series::Extent values = yRange(xLow, xHigh);
    if (values.empty) {
        values.add(0);
    }
    auto [low, high] = roundedRange(values.low, values.high);
    const bool logScale = m_logarithmic && values.high > 0;
    if (logScale) {
        low = (values.low > 0 ? values.low : leastPositive(xLow, xHigh)) / 1.2;
        high = values.high * 1.2;
    }
    if (m_yView && (!logScale || m_yView->first > 0)) {
        std::tie(low, high) = *m_yView;
    }
    return { .low = low, .high = high, .logarithmic = logScale };
}

void LineChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    const double line = surface.lineHeight();
    const auto [xLow, xHigh] = xRange();
    Axis y = yAxis(xLow, xHigh);
    double labels = 0;
    for (const double v : y.ticks(tickCount(surface, area.height() - 2 * line - 10))) {
        labels = std::max(labels, surface.textSize(numberText(v), 0.9).width());
    }
    const QRectF plot = area.adjusted(labels + 12, line + 4, -12, -line - 6);
    if (plot.width() < 20 || plot.height() < 10) {
        return;
    }
    m_x = { .low = xLow, .high = xHigh, .from = plot.left(), .to = plot.right() };
    y.from = plot.bottom();
    y.to = plot.top();
    m_y = y;
    paintAxes(surface, plot, m_x, y, theme, m_xLabel, m_yLabel, m_xIsInteger);
    surface.pushClip(plot);
    paintCurves(surface, y, theme);
    if (m_marker) {
        const double p = m_x.pixel(*m_marker);
        surface.line({ p, plot.top() }, { p, plot.bottom() }, theme.accent, 2);
    }
    if (m_box) {
        QColor veil = theme.accent;
        veil.setAlphaF(0.2F);
        surface.fillRect(*m_box & plot, veil);
        surface.strokeRect(*m_box & plot, theme.accent, 1);
    }
    surface.popClip();
    paintLegend(surface, plot, theme);
    paintReading(surface, plot, theme);
}

void LineChart::paintCurves(PlotSurface& surface, const Axis& y, const Theme& theme) const
{
    const auto named =
        std::count_if(m_curves.begin(), m_curves.end(), [](const Curve& c) { return !c.name.isEmpty(); });
    constexpr double kBroad = 3.2;
    const auto layerOf = [](const Curve& curve) { return curve.faint ? 0 : (curve.broad ? 1 : 2); };
    for (const int layer : { 0, 1, 2 }) {
        for (std::size_t i = 0; i < m_curves.size(); ++i) {
            const Curve& curve = m_curves[i];
            if (layerOf(curve) != layer) {
                continue;
            }
            QColor color = theme.seriesColor(curve.color);
            color.setAlphaF(curve.faint ? 0.55F : 1.0F);
            const double width =
                curve.faint ? std::max(1.0, theme.lineWidth * 0.7) : theme.lineWidth * (curve.broad ? kBroad : 1);
            const Series* own = smoothed(i);
            QColor raw = color;
            raw.setAlphaF(own != nullptr ? 0.28F : static_cast<float>(color.alphaF()));
            paintCurve(surface, *curve.series, raw, own != nullptr ? 1 : width, y);
            if (own != nullptr) {
                paintCurve(surface, *own, color, width, y);
            }
            if (named > 1 && !curve.name.isEmpty()) {
                paintMarks(surface, i, y, theme);
            }
        }
    }
}

void LineChart::paintCurve(PlotSurface& surface, const Series& series, const QColor& color, double width,
                           const Axis& y) const
{
    std::vector<QPointF> points;
    const auto flush = [&] {
        if (points.size() == 1) {
            surface.fillRect(QRectF(points[0] - QPointF(1.5, 1.5), QSizeF(3, 3)), color);
        } else if (!points.empty()) {
            surface.polyline(points, color, width);
        }
        points.clear();
    };
    const int columns = std::max(1, static_cast<int>(m_x.to - m_x.from));
    for (const auto& [px, py] : series.decimated(m_x.low, m_x.high, columns)) {
        if (std::isfinite(py) && (!y.logarithmic || py > 0)) {
            points.emplace_back(m_x.pixel(px), y.pixel(py));
        } else {
            flush();
        }
    }
    flush();
}

/// Marks at even distances, each curve's a little further right, so that curves on one another stay visible.
void LineChart::paintMarks(PlotSurface& surface, std::size_t curve, const Axis& y, const Theme& theme) const
{
    const Series& series = smoothed(curve) != nullptr ? *smoothed(curve) : *m_curves[curve].series;
    if (series.size() == 0) {
        return;
    }
    const double first = m_x.from + kMarkDistance * (0.3 + 0.17 * static_cast<double>(curve % 6));
    for (double px = first; px < m_x.to; px += kMarkDistance) {
        const std::size_t i = series.nearest(m_x.value(px));
        const double value = series.y(i);
        const double at = m_x.pixel(series.x(i));
        if (std::abs(at - px) < kMarkDistance / 4 && std::isfinite(value) && (!y.logarithmic || value > 0)) {
            paintMark(surface, { at, y.pixel(value) }, m_curves[curve].color, theme.seriesColor(m_curves[curve].color));
        }
    }
}

/// Names in the order of the curves, right-aligned above the frame; those without room are counted.
void LineChart::paintLegend(PlotSurface& surface, const QRectF& plot, const Theme& theme) const
{
    struct Entry {
        const Curve* curve;
        QString name;
        double width;
    };
    constexpr double kSign = 22; // line and mark before the name
    const double left = plot.left() + surface.textSize(m_yLabel, 0.9).width() + 12;
    const double more = surface.textSize(QStringLiteral("+99"), 0.9).width() + 8;
    std::vector<Entry> entries;
    std::size_t named = 0;
    double used = 0;
    for (const Curve& curve : m_curves) {
        if (curve.name.isEmpty()) {
            continue;
        }
        ++named;
        const QString name = surface.elided(curve.name, std::max(40.0, (plot.right() - left) * 0.4), 0.9);
        const double width = surface.textSize(name, 0.9).width();
        if (entries.size() + 1 == named && used + width + kSign + more <= plot.right() - left) {
            entries.push_back({ &curve, name, width });
            used += width + kSign + 6;
        }
    }
    double right = plot.right();
    const double middle = plot.top() - 3 - surface.lineHeight() / 2;
    if (entries.size() < named) {
        const QString rest = QStringLiteral("+%1").arg(named - entries.size());
        surface.text({ right, plot.top() - 3 }, rest, theme.dimText, Qt::AlignRight | Qt::AlignBottom, 0.9);
        right -= more;
    }
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        const QColor& color = theme.seriesColor(entry->curve->color);
        surface.text({ right, plot.top() - 3 }, entry->name, theme.text, Qt::AlignRight | Qt::AlignBottom, 0.9);
        const double x = right - entry->width;
        surface.line({ x - 18, middle }, { x - 4, middle }, color, entry->curve->faint ? 1 : 2.5);
        if (named > 1) {
            paintMark(surface, { x - 11, middle }, entry->curve->color, color);
        }
        right = x - kSign - 6;
    }
}

void LineChart::paintReading(PlotSurface& surface, const QRectF& plot, const Theme& theme) const
{
    const QStringList lines = reading();
    if (lines.isEmpty() || *m_crosshair < m_x.low || *m_crosshair > m_x.high) {
        return;
    }
    double px = m_x.pixel(*m_crosshair);
    for (const Curve& curve : m_curves) { // the place of a point, not of the pointer
        if (!curve.name.isEmpty() && curve.series->size() > 0) {
            px = m_x.pixel(curve.series->x(curve.series->nearest(*m_crosshair)));
            break;
        }
    }
    surface.pushClip(plot);
    surface.line({ px, plot.top() }, { px, plot.bottom() }, theme.dimText, 1);
    surface.popClip();
    double width = 0;
    for (const QString& text : lines) {
        width = std::max(width, surface.textSize(text, 0.9).width());
    }
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    const QSizeF size(width + 12, line * static_cast<double>(lines.size()) + 8);
    QPointF corner(px + 8, std::clamp(m_readingY, plot.top(), std::max(plot.top(), plot.bottom() - size.height())));
    if (corner.x() + size.width() > plot.right()) {
        corner.setX(std::max(plot.left(), px - 8 - size.width()));
    }
    QColor back = theme.base;
    back.setAlphaF(0.92F);
    surface.fillRect({ corner, size }, back);
    surface.strokeRect({ corner, size }, theme.border);
    for (qsizetype i = 0; i < lines.size(); ++i) {
        surface.text(corner + QPointF(6, 4 + line * static_cast<double>(i)), lines[i], theme.text,
                     Qt::AlignLeft | Qt::AlignTop, 0.9);
    }
}

} // namespace rankwise::common
