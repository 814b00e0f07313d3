// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/line_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>

namespace rankwise::common {

using bridge::numberText;

LineChart::LineChart(QString title, QString xLabel, QString yLabel, QObject* parent)
    : Chart(std::move(title), parent), m_xLabel(std::move(xLabel)), m_yLabel(std::move(yLabel))
{
}

void LineChart::setCurves(std::vector<Curve> curves)
{
    m_curves = std::move(curves);
    resetTable();
    Q_EMIT changed();
}

void LineChart::resetTable()
{
    // Curves of one run share their x; others get their own x column.
    QStringList headers;
    std::size_t rows = 0;
    std::vector<std::pair<std::size_t, bool>> columns; // curve, x or y
    const Series* lastX = nullptr;
    for (std::size_t i = 0; i < m_curves.size(); ++i) {
        if (m_curves[i].name.isEmpty()) {
            continue;
        }
        const Series& series = *m_curves[i].series;
        const bool sameX = lastX != nullptr && lastX->size() == series.size() && lastX->firstX() == series.firstX()
            && lastX->lastX() == series.lastX();
        if (!sameX) {
            headers << (columns.empty() ? m_xLabel : QStringLiteral("%1 (%2)").arg(m_xLabel, m_curves[i].name));
            columns.emplace_back(i, true);
        }
        lastX = &series;
        headers << m_curves[i].name;
        columns.emplace_back(i, false);
        rows = std::max(rows, series.size());
    }
    m_table.reset(headers, static_cast<int>(rows), [this, columns](int row, int column) -> QVariant {
        const auto [curve, isX] = columns[static_cast<std::size_t>(column)];
        if (curve >= m_curves.size() || static_cast<std::size_t>(row) >= m_curves[curve].series->size()) {
            return {};
        }
        const Series& series = *m_curves[curve].series;
        const auto i = static_cast<std::size_t>(row);
        return isX ? series.x(i) : series.y(i);
    });
}

void LineChart::seriesGrew()
{
    std::size_t rows = 0;
    for (const Curve& curve : m_curves) {
        rows = std::max(rows, curve.series->size());
    }
    if (static_cast<int>(rows) < m_table.rowCount()) {
        resetTable();
    } else {
        m_table.grow(static_cast<int>(rows));
    }
    Q_EMIT changed();
}

void LineChart::setYLabel(const QString& label)
{
    if (m_yLabel != label) {
        m_yLabel = label;
        Q_EMIT changed();
    }
}

void LineChart::setLogarithmic(bool on)
{
    m_logarithmic = on;
    Q_EMIT changed();
}

void LineChart::setMarker(std::optional<double> x)
{
    if (m_marker != x) {
        m_marker = x;
        Q_EMIT changed();
    }
}

void LineChart::setView(std::optional<std::pair<double, double>> range)
{
    m_view = range;
    Q_EMIT changed();
}

bool LineChart::isEmpty() const
{
    return std::none_of(m_curves.begin(), m_curves.end(), [](const Curve& c) { return c.series->size() > 0; });
}

std::pair<double, double> LineChart::xRange() const
{
    if (m_view) {
        return *m_view;
    }
    double low = INFINITY;
    double high = -INFINITY;
    for (const Curve& curve : m_curves) {
        if (curve.series->size() > 0) {
            low = std::min(low, curve.series->firstX());
            high = std::max(high, curve.series->lastX());
        }
    }
    return low < high ? std::pair { low, high } : std::pair { low - 0.5, low + 0.5 };
}

Series::Extent LineChart::yRange(double xLow, double xHigh) const
{
    Series::Extent range;
    for (const Curve& curve : m_curves) {
        const std::size_t from = curve.series->lowerBound(xLow);
        range.add(curve.series->extent(from > 0 ? from - 1 : 0, curve.series->lowerBound(xHigh) + 1));
    }
    return range;
}

void LineChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    const double line = surface.lineHeight();
    const auto [xLow, xHigh] = xRange();
    Series::Extent values = yRange(xLow, xHigh);
    if (values.empty) {
        values.add(0);
    }
    auto [low, high] = roundedRange(values.low, values.high);
    const bool logScale = m_logarithmic && values.low > 0;
    if (logScale) {
        low = values.low / 1.2;
        high = values.high * 1.2;
    }
    Axis y { .low = low, .high = high, .logarithmic = logScale };
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
    paintAxes(surface, plot, m_x, y, theme, m_xLabel, m_yLabel, m_xIsInteger);

    surface.pushClip(plot);
    for (const bool faint : { true, false }) {
        for (const Curve& curve : m_curves) {
            if (curve.faint == faint) {
                paintCurve(surface, curve, m_x, y, theme);
            }
        }
    }
    if (m_marker) {
        const double p = m_x.pixel(*m_marker);
        surface.line({ p, plot.top() }, { p, plot.bottom() }, theme.accent, 2);
    }
    surface.popClip();

    // The legend: names in the order of the curves, right-aligned above the frame.
    double right = plot.right();
    const double left = plot.left() + surface.textSize(m_yLabel, 0.9).width() + 12;
    for (auto curve = m_curves.rbegin(); curve != m_curves.rend(); ++curve) {
        if (curve->name.isEmpty()) {
            continue;
        }
        const double width = surface.textSize(curve->name, 0.9).width();
        if (right - width - 22 < left) {
            break;
        }
        const QColor& color = theme.seriesColor(curve->color);
        surface.text({ right, plot.top() - 3 }, curve->name, theme.text, Qt::AlignRight | Qt::AlignBottom, 0.9);
        surface.line({ right - width - 18, plot.top() - 3 - line / 2 },
                     { right - width - 4, plot.top() - 3 - line / 2 }, color, curve->faint ? 1 : 3);
        right -= width + 28;
    }
    paintReading(surface, plot, m_x, theme);
}

void LineChart::paintCurve(PlotSurface& surface, const Curve& curve, const Axis& x, const Axis& y,
                           const Theme& theme) const
{
    QColor color = theme.seriesColor(curve.color);
    if (curve.faint) {
        color.setAlphaF(0.55F);
    }
    const double width = curve.faint ? std::max(1.0, theme.lineWidth * 0.7) : theme.lineWidth;
    std::vector<QPointF> points;
    const auto flush = [&] {
        if (points.size() == 1) {
            surface.fillRect(QRectF(points[0] - QPointF(1.5, 1.5), QSizeF(3, 3)), color);
        } else if (!points.empty()) {
            surface.polyline(points, color, width);
        }
        points.clear();
    };
    for (const auto& [px, py] : curve.series->decimated(x.low, x.high, std::max(1, static_cast<int>(x.to - x.from)))) {
        if (std::isfinite(py) && (!y.logarithmic || py > 0)) {
            points.emplace_back(x.pixel(px), y.pixel(py));
        } else {
            flush();
        }
    }
    flush();
}

void LineChart::paintReading(PlotSurface& surface, const QRectF& plot, const Axis& x, const Theme& theme) const
{
    if (!m_pointer || !plot.contains(*m_pointer)) {
        return;
    }
    const double at = x.value(m_pointer->x());
    QStringList lines;
    double shown = at;
    for (const Curve& curve : m_curves) {
        if (curve.series->size() > 0 && !curve.name.isEmpty()) {
            const std::size_t i = curve.series->nearest(at);
            shown = curve.series->x(i);
            lines << QStringLiteral("%1  %2").arg(curve.name, numberText(curve.series->y(i)));
        }
    }
    lines.prepend(QStringLiteral("%1 %2").arg(m_xLabel, numberText(shown)));
    const double px = x.pixel(shown);
    surface.line({ px, plot.top() }, { px, plot.bottom() }, theme.dimText, 1);
    double width = 0;
    for (const QString& text : lines) {
        width = std::max(width, surface.textSize(text, 0.9).width());
    }
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    const QSizeF size(width + 12, line * static_cast<double>(lines.size()) + 8);
    QPointF corner(px + 8, std::min(m_pointer->y(), plot.bottom() - size.height()));
    if (corner.x() + size.width() > plot.right()) {
        corner.setX(px - 8 - size.width());
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

QString LineChart::summary() const
{
    QStringList parts { title() };
    for (const Curve& curve : m_curves) {
        if (curve.series->size() > 0 && !curve.name.isEmpty()) {
            parts << tr("%1: %2 points, last %3")
                         .arg(curve.name)
                         .arg(curve.series->size())
                         .arg(numberText(curve.series->y(curve.series->size() - 1)));
        }
    }
    return parts.join(QStringLiteral("; "));
}

void LineChart::hover(const QPointF& at)
{
    m_pointer = at;
    Q_EMIT changed();
}

void LineChart::leave()
{
    m_pointer.reset();
    Q_EMIT changed();
}

void LineChart::press(const QPointF& at)
{
    m_pressed = at;
    m_pressedView = xRange();
    m_dragging = false;
}

void LineChart::drag(const QPointF& at)
{
    const double shift = at.x() - m_pressed.x();
    if (!m_dragging && std::abs(shift) < 4) {
        return;
    }
    m_dragging = true;
    const double perPixel = (m_pressedView.second - m_pressedView.first) / std::max(1.0, m_x.to - m_x.from);
    setView(std::pair { m_pressedView.first - shift * perPixel, m_pressedView.second - shift * perPixel });
}

void LineChart::release(const QPointF& at)
{
    if (!m_dragging && !isEmpty()) {
        Q_EMIT clicked(m_x.value(at.x()));
    }
    m_dragging = false;
}

void LineChart::wheel(const QPointF& at, double steps)
{
    const auto [low, high] = xRange();
    const double pivot = std::clamp(m_x.value(at.x()), low, high);
    const double factor = std::pow(0.8, steps);
    setView(std::pair { pivot - (pivot - low) * factor, pivot + (high - pivot) * factor });
}

void LineChart::doubleClick(const QPointF&)
{
    setView(std::nullopt);
}

bool LineChart::key(int key)
{
    const auto [low, high] = xRange();
    const double width = high - low;
    switch (key) {
    case Qt::Key_Plus:
        setView(std::pair { low + width * 0.1, high - width * 0.1 });
        return true;
    case Qt::Key_Minus:
        setView(std::pair { low - width * 0.125, high + width * 0.125 });
        return true;
    case Qt::Key_Left:
        setView(std::pair { low - width * 0.1, high - width * 0.1 });
        return true;
    case Qt::Key_Right:
        setView(std::pair { low + width * 0.1, high + width * 0.1 });
        return true;
    case Qt::Key_0:
    case Qt::Key_Home:
        setView(std::nullopt);
        return true;
    case Qt::Key_L:
        setLogarithmic(!m_logarithmic);
        return true;
    default:
        return false;
    }
}

} // namespace rankwise::common
