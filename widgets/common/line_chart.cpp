// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/line_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace rankwise::common {

using bridge::numberText;

LineChart::LineChart(QString title, QString xLabel, QString yLabel, QObject* parent)
    : Chart(std::move(title), parent), m_xLabel(std::move(xLabel)), m_yLabel(std::move(yLabel))
{
}

void LineChart::setCurves(std::vector<Curve> curves)
{
    m_curves = std::move(curves);
    m_averages.clear();
    average();
    resetTable();
    Q_EMIT changed();
}

void LineChart::resetTable()
{
    // Curves of one run share their x; others get their own x column.
    QStringList headers;
    std::size_t rows = 0;
    enum class Part { X, Y, Mean };
    std::vector<std::pair<std::size_t, Part>> columns;
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
            columns.emplace_back(i, Part::X);
        }
        lastX = &series;
        headers << m_curves[i].name;
        columns.emplace_back(i, Part::Y);
        if (!m_averages.empty()) {
            headers << tr("%1, smoothed").arg(m_curves[i].name);
            columns.emplace_back(i, Part::Mean);
        }
        rows = std::max(rows, series.size());
    }
    m_table.reset(headers, static_cast<int>(rows), [this, columns](int row, int column) -> QVariant {
        const auto [curve, part] = columns[static_cast<std::size_t>(column)];
        if (curve >= m_curves.size() || static_cast<std::size_t>(row) >= m_curves[curve].series->size()) {
            return {};
        }
        const Series& series = *m_curves[curve].series;
        const auto i = static_cast<std::size_t>(row);
        if (part == Part::Mean) {
            return smoothed(curve) != nullptr && i < smoothed(curve)->size() ? smoothed(curve)->y(i) : QVariant();
        }
        return part == Part::X ? series.x(i) : series.y(i);
    });
}

void LineChart::seriesGrew()
{
    average();
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
    if (m_logarithmic != on) {
        m_logarithmic = on;
        m_yView.reset();
        Q_EMIT logarithmicChanged(on);
        Q_EMIT changed();
    }
}

void LineChart::setSmoothing(double weight)
{
    weight = std::clamp(weight, 0.0, 0.999);
    if (m_smoothing != weight) {
        m_smoothing = weight;
        m_averages.clear();
        average();
        resetTable();
        Q_EMIT changed();
    }
}

const Series* LineChart::smoothed(std::size_t curve) const
{
    return curve < m_averages.size() ? m_averages[curve].series.get() : nullptr;
}

/// Carries the averages on over the points that came since.
void LineChart::average()
{
    if (m_smoothing <= 0) {
        return;
    }
    m_averages.resize(m_curves.size());
    for (std::size_t i = 0; i < m_curves.size(); ++i) {
        const Series& raw = *m_curves[i].series;
        Average& own = m_averages[i];
        if (own.series == nullptr || own.taken > raw.size()) {
            own = { std::make_shared<Series>() };
        }
        for (; own.taken < raw.size(); ++own.taken) {
            const double y = raw.y(own.taken);
            if (std::isfinite(y)) { // a gap stays one and leaves the average as it is
                own.sum = m_smoothing * own.sum + (1 - m_smoothing) * y;
                own.weight = m_smoothing * own.weight + (1 - m_smoothing);
            }
            own.series->append(raw.x(own.taken), std::isfinite(y) ? own.sum / own.weight : y);
        }
    }
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
    if (m_view != range) {
        m_view = range;
        Q_EMIT viewChanged();
        Q_EMIT changed();
    }
}

void LineChart::setYView(std::optional<std::pair<double, double>> range)
{
    if (m_yView != range) {
        m_yView = range;
        Q_EMIT changed();
    }
}

void LineChart::setCrosshair(std::optional<double> x)
{
    if (m_crosshair != x) {
        m_crosshair = x;
        Q_EMIT crosshairChanged();
        Q_EMIT changed();
    }
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

/// The smallest value above 0 that is drawn, for a logarithmic axis.
double LineChart::leastPositive(double xLow, double xHigh) const
{
    constexpr int kColumns = 512;
    double least = INFINITY;
    for (const Curve& curve : m_curves) {
        for (const auto& [x, y] : curve.series->decimated(xLow, xHigh, kColumns)) {
            least = y > 0 ? std::min(least, y) : least;
        }
    }
    return std::isfinite(least) ? least : 1e-9;
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

QStringList LineChart::reading() const
{
    if (!m_crosshair || isEmpty()) {
        return {};
    }
    QStringList lines;
    double shown = *m_crosshair;
    for (std::size_t c = 0; c < m_curves.size(); ++c) {
        const Curve& curve = m_curves[c];
        if (curve.series->size() == 0 || curve.name.isEmpty()) {
            continue;
        }
        const std::size_t i = curve.series->nearest(*m_crosshair);
        shown = lines.isEmpty() ? curve.series->x(i) : shown;
        QString line = QStringLiteral("%1  %2").arg(curve.name, numberText(curve.series->y(i)));
        if (const Series* own = smoothed(c); own != nullptr && i < own->size()) {
            line += tr(" (smoothed %1)").arg(numberText(own->y(i)));
        }
        lines << line;
    }
    lines.prepend(QStringLiteral("%1 %2").arg(m_xLabel, numberText(shown)));
    return lines;
}

QStringList LineChart::usage() const
{
    return { tr("Wheel, + and −: zoom in x at the pointer"),
             tr("Shift+wheel, Page Up and Page Down: zoom in y"),
             tr("Drag, arrow keys: move"),
             tr("Shift or Ctrl with drag: zoom to a box"),
             tr("Double click, 0: show all"),
             tr("Pointer, comma and full stop: read all curves at one place"),
             tr("Click, Enter: select the place everywhere"),
             tr("L: logarithmic y") };
}

void LineChart::hover(const QPointF& at)
{
    m_readingY = at.y();
    const bool inside = at.x() >= m_x.from && at.x() <= m_x.to;
    setCrosshair(inside && !isEmpty() ? std::optional(m_x.value(at.x())) : std::nullopt);
}

void LineChart::leave()
{
    setCrosshair(std::nullopt);
}

void LineChart::press(const QPointF& at)
{
    m_pressed = at;
    m_pressedView = xRange();
    m_pressedYView = m_yView.value_or(std::pair { m_y.low, m_y.high });
    m_dragging = false;
}

void LineChart::pressBox(const QPointF& at)
{
    press(at);
    m_box = QRectF(at, at);
}

void LineChart::drag(const QPointF& at)
{
    const QPointF shift = at - m_pressed;
    if (!m_dragging && std::abs(shift.x()) < 4 && std::abs(shift.y()) < 4) {
        return;
    }
    m_dragging = true;
    if (m_box) {
        m_box = QRectF(m_pressed, at).normalized();
        Q_EMIT changed();
        return;
    }
    if (m_yView) { // y follows only where somebody took it off its automatic range
        Axis pressed = m_y;
        std::tie(pressed.low, pressed.high) = m_pressedYView;
        setYView(std::pair { pressed.value(pressed.from - shift.y()), pressed.value(pressed.to - shift.y()) });
    }
    const double perPixel = (m_pressedView.second - m_pressedView.first) / std::max(1.0, m_x.to - m_x.from);
    setView(std::pair { m_pressedView.first - shift.x() * perPixel, m_pressedView.second - shift.x() * perPixel });
}

void LineChart::release(const QPointF& at)
{
    if (m_box && m_dragging) {
        zoomTo(*m_box);
    } else if (!m_dragging && !isEmpty()) {
        Q_EMIT clicked(m_x.value(at.x()));
    }
    m_dragging = false;
    if (m_box) {
        m_box.reset();
        Q_EMIT changed();
    }
}

void LineChart::zoomTo(const QRectF& box)
{
    constexpr double kLeast = 5; // pixels; less is a slip of the hand
    const Axis y = m_y;
    if (box.width() >= kLeast) {
        setView(std::pair { m_x.value(box.left()), m_x.value(box.right()) });
    }
    if (box.height() >= kLeast) {
        setYView(std::pair { y.value(box.bottom()), y.value(box.top()) });
    }
}

void LineChart::wheel(const QPointF& at, double steps)
{
    const auto [low, high] = xRange();
    const double pivot = std::clamp(m_x.value(at.x()), low, high);
    const double factor = std::pow(0.8, steps);
    setView(std::pair { pivot - (pivot - low) * factor, pivot + (high - pivot) * factor });
}

void LineChart::wheelUpright(const QPointF& at, double steps)
{
    const double factor = std::pow(0.8, steps);
    const double pivot = std::clamp(at.y(), std::min(m_y.from, m_y.to), std::max(m_y.from, m_y.to));
    // In pixels, so that a logarithmic axis zooms evenly.
    setYView(
        std::pair { m_y.value(pivot + (m_y.from - pivot) * factor), m_y.value(pivot + (m_y.to - pivot) * factor) });
}

void LineChart::doubleClick(const QPointF&)
{
    setView(std::nullopt);
    setYView(std::nullopt);
}

/// To the next or last point of the first curve that has a name.
void LineChart::stepCrosshair(int by)
{
    const auto found = std::find_if(m_curves.begin(), m_curves.end(), [](const Curve& curve) {
        return !curve.name.isEmpty() && curve.series->size() > 0;
    });
    if (found == m_curves.end()) {
        return;
    }
    const Series& series = *found->series;
    const auto [low, high] = xRange();
    if (!m_crosshair) {
        setCrosshair(series.x(series.nearest((low + high) / 2)));
        return;
    }
    // At least a pixel, so that a key held down crosses a long run.
    const auto perPixel = static_cast<std::ptrdiff_t>((series.lowerBound(high) - series.lowerBound(low))
                                                      / static_cast<std::size_t>(std::max(1.0, m_x.to - m_x.from)));
    const auto at =
        static_cast<std::ptrdiff_t>(series.nearest(*m_crosshair)) + by * std::max<std::ptrdiff_t>(1, perPixel);
    setCrosshair(series.x(
        static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(at, 0, static_cast<std::ptrdiff_t>(series.size()) - 1))));
}

bool LineChart::key(int key)
{
    const auto [low, high] = xRange();
    const double width = high - low;
    const QPointF middle((m_x.from + m_x.to) / 2, (m_y.from + m_y.to) / 2);
    const auto moveY = [this](double part) {
        const double shift = (m_y.to - m_y.from) * part;
        setYView(std::pair { m_y.value(m_y.from + shift), m_y.value(m_y.to + shift) });
    };
    switch (key) {
    case Qt::Key_Plus:
    case Qt::Key_Equal: // + without Shift
        setView(std::pair { low + width * 0.1, high - width * 0.1 });
        return true;
    case Qt::Key_Minus:
        setView(std::pair { low - width * 0.125, high + width * 0.125 });
        return true;
    case Qt::Key_PageUp:
        wheelUpright(middle, 1);
        return true;
    case Qt::Key_PageDown:
        wheelUpright(middle, -1);
        return true;
    case Qt::Key_Up:
        moveY(0.1);
        return true;
    case Qt::Key_Down:
        moveY(-0.1);
        return true;
    case Qt::Key_Left:
        setView(std::pair { low - width * 0.1, high - width * 0.1 });
        return true;
    case Qt::Key_Right:
        setView(std::pair { low + width * 0.1, high + width * 0.1 });
        return true;
    case Qt::Key_Comma:
        stepCrosshair(-1);
        return true;
    case Qt::Key_Period:
        stepCrosshair(1);
        return true;
    case Qt::Key_Return:
    case Qt::Key_Enter:
        if (m_crosshair) {
            Q_EMIT clicked(*m_crosshair);
        }
        return m_crosshair.has_value();
    case Qt::Key_0:
    case Qt::Key_Home:
        doubleClick({});
        return true;
    case Qt::Key_L:
        setLogarithmic(!m_logarithmic);
        return true;
    default:
        return false;
    }
}

} // namespace rankwise::common
