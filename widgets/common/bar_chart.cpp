// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/bar_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace rankwise::common {

using bridge::numberText;

BarChart::BarChart(QString title, QString xLabel, QString yLabel, QObject* parent)
    : Chart(std::move(title), parent), m_xLabel(std::move(xLabel)), m_yLabel(std::move(yLabel))
{
}

void BarChart::setBars(QStringList names, QStringList partNames, std::vector<std::vector<double>> parts,
                       bool horizontal)
{
    m_names = std::move(names);
    m_partNames = std::move(partNames);
    m_parts = std::move(parts);
    m_horizontal = horizontal;
    QStringList headers { m_xLabel };
    headers += m_partNames.isEmpty() ? QStringList { m_yLabel } : m_partNames;
    m_table.reset(headers, static_cast<int>(m_parts.size()), [this](int row, int column) -> QVariant {
        if (column == 0) {
            return row < m_names.size() ? m_names[row] : QString::number(row);
        }
        const auto& bar = m_parts[static_cast<std::size_t>(row)];
        const auto part = static_cast<std::size_t>(column - 1);
        return part < bar.size() ? QVariant(bar[part]) : QVariant();
    });
    Q_EMIT changed();
}

void BarChart::setRange(std::optional<std::pair<double, double>> range)
{
    m_range = range;
    Q_EMIT changed();
}

void BarChart::setCut(std::optional<double> index, const QString& words)
{
    m_cut = index;
    m_cutWords = words;
    Q_EMIT changed();
}

void BarChart::setSelected(int bar)
{
    if (m_selected != bar) {
        m_selected = bar;
        Q_EMIT changed();
    }
}

double BarChart::height(std::size_t bar) const
{
    return std::accumulate(m_parts[bar].begin(), m_parts[bar].end(), 0.0);
}

QString BarChart::summary() const
{
    return tr("%1: %2 bars").arg(title()).arg(m_parts.size());
}

void BarChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    m_plot = {};
    if (isEmpty()) {
        surface.text(area.center(), surface.elided(emptyText(), area.width() - 8), theme.dimText, Qt::AlignCenter);
        return;
    }
    if (m_horizontal) {
        paintLying(surface, area, theme);
    } else {
        paintStanding(surface, area, theme);
    }
    paintReading(surface, area, theme);
}

void BarChart::paintStanding(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    const double line = surface.lineHeight();
    double top = 0;
    for (std::size_t i = 0; i < m_parts.size(); ++i) {
        top = std::max(top, height(i));
    }
    Axis y { .low = 0, .high = top > 0 ? top * 1.05 : 1 };
    double labels = 0;
    for (const double v : y.ticks(4)) {
        labels = std::max(labels, surface.textSize(numberText(v), 0.9).width());
    }
    m_plot = area.adjusted(labels + 12, line + 4, -12, -line - 6);
    if (m_plot.width() < 10 || m_plot.height() < 10) {
        return;
    }
    y.from = m_plot.bottom();
    y.to = m_plot.top();
    const auto count = static_cast<double>(m_parts.size());
    const Axis x { .low = -0.5, .high = count - 0.5, .from = m_plot.left(), .to = m_plot.right() };
    if (m_range && m_range->first < m_range->second) {
        const Axis values {
            .low = m_range->first, .high = m_range->second, .from = m_plot.left(), .to = m_plot.right()
        };
        paintAxes(surface, m_plot, values, y, theme, m_xLabel, m_yLabel);
    } else {
        paintAxes(surface, m_plot, x, y, theme, m_xLabel, m_yLabel, true);
    }
    const double pitch = m_plot.width() / count;
    const double gap = pitch > 4 ? 1 : 0;
    for (std::size_t i = 0; i < m_parts.size(); ++i) {
        double base = 0;
        const double left = x.pixel(static_cast<double>(i) - 0.5);
        for (std::size_t j = 0; j < m_parts[i].size(); ++j) {
            const double next = base + m_parts[i][j];
            QColor color = theme.seriesColor(j);
            if (m_cut && static_cast<double>(i) > *m_cut + 0.5) {
                color = theme.border; // What is cut off is grey and beyond the line.
            }
            surface.fillRect(
                QRectF(QPointF(left + gap / 2, y.pixel(next)), QPointF(left + pitch - gap / 2, y.pixel(base))), color);
            base = next;
        }
    }
    if (m_cut) {
        const double px = x.pixel(*m_cut + 0.5);
        surface.line({ px, m_plot.top() }, { px, m_plot.bottom() }, theme.bad, 2);
        const bool rightSide = px < m_plot.center().x();
        surface.text({ rightSide ? px + 5 : px - 5, m_plot.top() + 3 }, m_cutWords, theme.text,
                     (rightSide ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignTop, 0.9);
    }
    paintLegend(surface, { m_plot.right(), m_plot.top() - 3 },
                m_plot.width() - surface.textSize(m_yLabel, 0.9).width() - 12, theme);
}

void BarChart::paintLying(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    const double line = surface.textSize(QStringLiteral("0"), 0.85).height();
    double left = 0;
    const double pitchGuess = (area.height() - 2.4 * line) / static_cast<double>(m_parts.size());
    const bool names = pitchGuess >= line * 0.8;
    if (names) {
        for (const QString& name : m_names) {
            left = std::max(left, std::min(surface.textSize(name, 0.85).width(), area.width() * 0.35));
        }
    }
    m_plot = area.adjusted(left + 12, line + 6, -14, -line - 6);
    if (m_plot.width() < 10 || m_plot.height() < 10) {
        return;
    }
    double widest = 0;
    for (std::size_t i = 0; i < m_parts.size(); ++i) {
        widest = std::max(widest, height(i));
    }
    const bool shares = widest > 0.5 && widest < 1.0001;
    const Axis x {
        .low = 0, .high = shares ? 1 : std::max(widest, 1e-12), .from = m_plot.left(), .to = m_plot.right()
    };
    for (const double v : x.ticks(5)) {
        surface.line({ x.pixel(v), m_plot.top() }, { x.pixel(v), m_plot.bottom() }, theme.grid);
        if (x.pixel(v) < m_plot.right() - surface.textSize(m_yLabel, 0.85).width() - 20 || v == 0) {
            surface.text({ x.pixel(v), m_plot.bottom() + 3 }, numberText(v), theme.dimText,
                         Qt::AlignHCenter | Qt::AlignTop, 0.85);
        }
    }
    surface.text({ m_plot.right(), m_plot.bottom() + 3 }, m_yLabel, theme.dimText, Qt::AlignRight | Qt::AlignTop, 0.85);
    surface.strokeRect(m_plot, theme.border);
    const double pitch = m_plot.height() / static_cast<double>(m_parts.size());
    const double gap = pitch > 4 ? 1 : 0;
    for (std::size_t i = 0; i < m_parts.size(); ++i) {
        const double top = m_plot.top() + pitch * static_cast<double>(i);
        double base = 0;
        for (std::size_t j = 0; j < m_parts[i].size(); ++j) {
            const double next = base + m_parts[i][j];
            const QRectF part(QPointF(x.pixel(base), top + gap / 2), QPointF(x.pixel(next), top + pitch - gap / 2));
            surface.fillRect(part, theme.seriesColor(j));
            if (gap > 0 && part.width() > 2) {
                surface.line(part.topRight(), part.bottomRight(), theme.base, 1);
            }
            base = next;
        }
        if (static_cast<int>(i) == m_selected) {
            surface.strokeRect({ m_plot.left(), top, m_plot.width(), std::max(2.0, pitch) }, theme.accent, 2);
        }
        if (names && static_cast<qsizetype>(i) < m_names.size()) {
            surface.text({ m_plot.left() - 5, top + pitch / 2 },
                         surface.elided(m_names[static_cast<qsizetype>(i)], left, 0.85),
                         static_cast<int>(i) == m_selected ? theme.accent : theme.dimText,
                         Qt::AlignRight | Qt::AlignVCenter, 0.85);
        }
    }
    paintLegend(surface, { m_plot.right(), m_plot.top() - 3 }, m_plot.width(), theme);
}

void BarChart::paintLegend(PlotSurface& surface, const QPointF& right, double room, const Theme& theme) const
{
    double x = right.x();
    if (m_partNames.size() < 2) {
        return;
    }
    for (qsizetype j = m_partNames.size() - 1; j >= 0; --j) {
        const double width = surface.textSize(m_partNames[j], 0.85).width();
        if (right.x() - x + width + 16 > room) {
            break;
        }
        const double line = surface.textSize(m_partNames[j], 0.85).height();
        surface.text({ x, right.y() }, m_partNames[j], theme.text, Qt::AlignRight | Qt::AlignBottom, 0.85);
        surface.fillRect({ x - width - 12, right.y() - line / 2 - 4, 8, 8 },
                         theme.seriesColor(static_cast<std::size_t>(j)));
        x -= width + 22;
    }
}

int BarChart::barAt(const QPointF& at) const
{
    if (isEmpty() || !m_plot.contains(at)) {
        return -1;
    }
    const double f =
        m_horizontal ? (at.y() - m_plot.top()) / m_plot.height() : (at.x() - m_plot.left()) / m_plot.width();
    return std::clamp(static_cast<int>(f * static_cast<double>(m_parts.size())), 0,
                      static_cast<int>(m_parts.size()) - 1);
}

void BarChart::paintReading(PlotSurface& surface, const QRectF& area, const Theme& theme) const
{
    const int bar = m_pointer ? barAt(*m_pointer) : -1;
    if (bar < 0) {
        return;
    }
    const auto& parts = m_parts[static_cast<std::size_t>(bar)];
    QStringList values;
    for (std::size_t j = 0; j < parts.size() && j < 6; ++j) {
        const QString name = static_cast<qsizetype>(j) < m_partNames.size()
            ? m_partNames[static_cast<qsizetype>(j)] + QLatin1Char(' ')
            : QString();
        values << name + numberText(parts[j]);
    }
    const QString text = QStringLiteral("%1: %2").arg(bar < m_names.size() ? m_names[bar] : QString::number(bar),
                                                      values.join(QStringLiteral(", ")));
    const QSizeF size = surface.textSize(text, 0.9) + QSizeF(12, 6);
    QPointF corner = *m_pointer + QPointF(10, -size.height() - 4);
    corner.setX(std::clamp(corner.x(), area.left(), std::max(area.left(), area.right() - size.width())));
    corner.setY(std::max(corner.y(), area.top()));
    surface.fillRect({ corner, size }, theme.base);
    surface.strokeRect({ corner, size }, theme.border);
    surface.text(corner + QPointF(6, 3), text, theme.text, Qt::AlignLeft | Qt::AlignTop, 0.9);
}

void BarChart::hover(const QPointF& at)
{
    m_pointer = at;
    Q_EMIT changed();
}

void BarChart::leave()
{
    m_pointer.reset();
    Q_EMIT changed();
}

void BarChart::press(const QPointF& at)
{
    if (const int bar = barAt(at); bar >= 0) {
        Q_EMIT picked(bar);
    }
}

} // namespace rankwise::common
