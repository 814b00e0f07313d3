// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/interval_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace rankwise::common {

using bridge::numberText;

namespace {

constexpr double kMostNameShare = 0.35; ///< Of the width.
constexpr double kDot = 4;              ///< Half its side, pixels.
constexpr double kSmall = 0.9;

} // namespace

IntervalChart::IntervalChart(QString title, QString xLabel, double low, double high, QObject* parent)
    : Chart(std::move(title), parent), m_xLabel(std::move(xLabel)), m_low(low), m_high(high)
{
}

void IntervalChart::setRows(std::vector<Row> rows)
{
    m_rows = std::move(rows);
    m_table.reset({ tr("Name"), m_xLabel, tr("Low"), tr("High"), tr("Count") }, static_cast<int>(m_rows.size()),
                  [this](int row, int column) -> QVariant {
                      const Row& shown = m_rows[static_cast<std::size_t>(row)];
                      const std::array<QVariant, 5> cells { shown.name, shown.value, shown.low, shown.high,
                                                            shown.words };
                      return cells[static_cast<std::size_t>(column)];
                  });
    Q_EMIT changed();
}

QString IntervalChart::summary() const
{
    QStringList parts;
    for (const Row& row : m_rows) {
        parts << tr("%1 %2 [%3, %4]").arg(row.name, numberText(row.value), numberText(row.low), numberText(row.high));
    }
    return tr("%1: %2").arg(title(), parts.join(QStringLiteral(", ")));
}

void IntervalChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), surface.elided(emptyText(), area.width() - 8), theme.dimText, Qt::AlignCenter);
        return;
    }
    double names = 0;
    double words = 0;
    for (const Row& row : m_rows) {
        names = std::max(names, surface.textSize(row.name, kSmall).width());
        words = std::max(words, surface.textSize(row.words, kSmall).width());
    }
    names = std::min(names, area.width() * kMostNameShare);
    const double line = surface.lineHeight();
    const QRectF plot = area.adjusted(names + 16, 6, -words - 16, -line - 8);
    if (plot.width() < 20 || plot.height() < 10) {
        return;
    }
    const Axis x { .low = m_low, .high = m_high, .from = plot.left(), .to = plot.right() };
    const double labelRoom = surface.textSize(m_xLabel, kSmall).width() + 8;
    for (const double v : x.ticks(5)) {
        surface.line({ x.pixel(v), plot.top() }, { x.pixel(v), plot.bottom() }, theme.grid);
        if (x.pixel(v) < plot.right() - labelRoom) {
            surface.text({ x.pixel(v), plot.bottom() + 4 }, numberText(v), theme.dimText,
                         Qt::AlignHCenter | Qt::AlignTop, kSmall);
        }
    }
    surface.text({ plot.right(), plot.bottom() + 4 }, m_xLabel, theme.dimText, Qt::AlignRight | Qt::AlignTop, kSmall);
    surface.strokeRect(plot, theme.border);
    const double pitch = std::min(plot.height() / static_cast<double>(m_rows.size()), 2.4 * line);
    for (std::size_t i = 0; i < m_rows.size(); ++i) {
        const double y = plot.top() + pitch * (static_cast<double>(i) + 0.5);
        const Row& row = m_rows[i];
        surface.text({ plot.left() - 6, y }, surface.elided(row.name, names, kSmall), theme.text,
                     Qt::AlignRight | Qt::AlignVCenter, kSmall);
        surface.text({ plot.right() + 6, y }, row.words, theme.dimText, Qt::AlignLeft | Qt::AlignVCenter, kSmall);
        paintRow(surface, row, x, y, theme);
    }
}

void IntervalChart::paintRow(PlotSurface& surface, const Row& row, const Axis& x, double y, const Theme& theme) const
{
    const QColor& color = theme.seriesColor(static_cast<std::size_t>(row.series));
    surface.line({ x.pixel(row.low), y }, { x.pixel(row.high), y }, color, 2);
    for (const double end : { row.low, row.high }) {
        surface.line({ x.pixel(end), y - kDot }, { x.pixel(end), y + kDot }, color, 2);
    }
    const double at = x.pixel(row.value);
    surface.fillRect({ at - kDot, y - kDot, 2 * kDot, 2 * kDot }, color);
}

} // namespace rankwise::common
