// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/heat_map.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>

namespace rankwise::common {

using bridge::numberText;

HeatMap::HeatMap(QString title, QString rowTitle, QString columnTitle, QString valueTitle, QObject* parent)
    : Chart(std::move(title), parent), m_rowTitle(std::move(rowTitle)), m_columnTitle(std::move(columnTitle)),
      m_valueTitle(std::move(valueTitle))
{
}

void HeatMap::reset(std::vector<Row> rows, std::vector<double> columns, std::function<double(int, int)> value)
{
    m_rows = std::move(rows);
    m_columns = std::move(columns);
    m_value = std::move(value);
    m_row = m_row < rowCount() ? m_row : -1;
    std::erase_if(m_marked, [this](int row) { return row >= rowCount(); });
    m_column = m_column < columnCount() ? m_column : -1;
    m_hoverRow = m_hoverColumn = -1;
    m_cells.clear();
    m_dirty = true;
    const auto width = static_cast<int>(m_rows.size());
    m_table.reset({ m_columnTitle, m_rowTitle, m_valueTitle }, width * columnCount(),
                  [this, width](int row, int column) -> QVariant {
                      const int c = row / width;
                      const int r = row % width;
                      if (c >= columnCount() || r >= rowCount()) {
                          return {};
                      }
                      switch (column) {
                      case 0:
                          return m_columns[static_cast<std::size_t>(c)];
                      case 1:
                          return m_rows[static_cast<std::size_t>(r)].path;
                      default:
                          return m_value(r, c);
                      }
                  });
    Q_EMIT changed();
}

void HeatMap::grow(std::vector<double> columns)
{
    m_columns = std::move(columns);
    m_dirty = true;
    m_table.grow(rowCount() * columnCount());
    Q_EMIT changed();
}

void HeatMap::setColorMap(ColorMap map)
{
    m_map = map;
    m_dirty = true;
    Q_EMIT changed();
}

void HeatMap::setRange(double low, double high)
{
    m_low = low;
    m_high = high;
    m_dirty = true;
    Q_EMIT changed();
}

void HeatMap::selectRow(int row)
{
    if (m_row != row) {
        m_row = row;
        Q_EMIT changed();
    }
}

void HeatMap::markRows(std::vector<int> rows)
{
    if (m_marked != rows) {
        m_marked = std::move(rows);
        Q_EMIT changed();
    }
}

void HeatMap::selectColumn(int column)
{
    if (m_column != column) {
        m_column = column;
        Q_EMIT changed();
    }
}

/// Asks for the values of new columns, once.
void HeatMap::takeCells()
{
    const auto rows = static_cast<std::size_t>(rowCount());
    const std::size_t known = rows == 0 ? 0 : m_cells.size() / rows;
    if (known == 0) {
        m_cellLow = INFINITY;
        m_cellHigh = -INFINITY;
    }
    m_cells.reserve(rows * m_columns.size());
    for (auto c = static_cast<int>(known); c < columnCount(); ++c) {
        for (int r = 0; r < rowCount(); ++r) {
            const double v = m_value(r, c);
            m_cells.push_back(static_cast<float>(v));
            if (std::isfinite(v)) {
                m_cellLow = std::min(m_cellLow, v);
                m_cellHigh = std::max(m_cellHigh, v);
            }
        }
    }
}

void HeatMap::refreshImage()
{
    if (!m_dirty) {
        return;
    }
    m_dirty = false;
    takeCells();
    double low = m_low;
    double high = m_high;
    if (!(high > low)) {
        low = m_cellLow;
        high = m_cellHigh;
        if (!(low <= high)) {
            low = 0;
            high = 1;
        } else if (low == high) {
            high = low + 1;
        }
    }
    m_shownLow = low;
    m_shownHigh = high;
    // Wider than a screen is of no use: neighbouring columns are averaged, a stretch of the cells at a time.
    constexpr int kMaxWidth = 2048;
    const int width = std::min(columnCount(), kMaxWidth);
    const auto rows = static_cast<std::size_t>(rowCount());
    QImage image(width, rowCount(), QImage::Format_RGB32);
    auto* const pixels = reinterpret_cast<QRgb*>(image.bits());
    const auto stride = static_cast<std::size_t>(image.bytesPerLine()) / sizeof(QRgb);
    std::vector<double> sums(rows);
    for (int x = 0; x < width; ++x) {
        const auto from = static_cast<std::size_t>(static_cast<qint64>(x) * columnCount() / width);
        const auto to =
            std::max(from + 1, static_cast<std::size_t>(static_cast<qint64>(x + 1) * columnCount() / width));
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::size_t c = from; c < to; ++c) {
            for (std::size_t r = 0; r < rows; ++r) {
                sums[r] += static_cast<double>(m_cells[c * rows + r]);
            }
        }
        const double scale = 1 / static_cast<double>(to - from);
        for (std::size_t r = 0; r < rows; ++r) {
            pixels[r * stride + static_cast<std::size_t>(x)] = mapColor(m_map, (sums[r] * scale - low) / (high - low));
        }
    }
    m_image = image;
    QImage legend(1, 64, QImage::Format_RGB32);
    for (int y = 0; y < 64; ++y) {
        legend.setPixel(0, y, mapColor(m_map, 1.0 - y / 63.0));
    }
    m_legend = legend;
}

void HeatMap::paintLegend(PlotSurface& surface, const QRectF& bar, const Theme& theme) const
{
    surface.image(bar, m_legend);
    surface.strokeRect(bar, theme.border);
    surface.text({ bar.right() + 4, bar.top() }, numberText(m_shownHigh), theme.dimText, Qt::AlignLeft | Qt::AlignTop,
                 0.9);
    surface.text({ bar.right() + 4, bar.bottom() }, numberText(m_shownLow), theme.dimText,
                 Qt::AlignLeft | Qt::AlignBottom, 0.9);
}

void HeatMap::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    refreshImage();
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    // Row labels where they fit, group names always.
    const double rowHeight = (area.height() - 2 * line - 10) / rowCount();
    const bool labels = rowHeight >= line * 0.8;
    double left = 0;
    for (const Row& row : m_rows) {
        const QString& text = labels ? row.name : row.group;
        left = std::max(left, std::min(surface.textSize(text, labels ? 0.85 : 0.9).width(), area.width() * 0.3));
    }
    const double legendWidth = std::max(surface.textSize(numberText(m_shownHigh), 0.9).width(),
                                        surface.textSize(numberText(m_shownLow), 0.9).width());
    const QRectF plot = area.adjusted(left + 14, line + 4, -legendWidth - 30, -line - 6);
    m_plot = plot;
    if (plot.width() < 10 || plot.height() < 10) {
        return;
    }
    surface.image(plot, m_image);
    surface.strokeRect(plot, theme.border);
    surface.text({ plot.left(), plot.top() - 2 }, QStringLiteral("%1 × %2").arg(m_rowTitle, m_columnTitle),
                 theme.dimText, Qt::AlignLeft | Qt::AlignBottom, 0.9);
    surface.text({ area.right() - 4, plot.top() - 2 }, m_valueTitle, theme.dimText, Qt::AlignRight | Qt::AlignBottom,
                 0.9);
    const double height = plot.height() / rowCount();
    QString group;
    double freeBelow = plot.top();
    for (int r = 0; r < rowCount(); ++r) {
        const Row& row = m_rows[static_cast<std::size_t>(r)];
        const double y = plot.top() + height * r;
        if (labels) {
            surface.text({ plot.left() - 5, y + height / 2 }, surface.elided(row.name, left, 0.85),
                         r == m_row ? theme.accent : theme.dimText, Qt::AlignRight | Qt::AlignVCenter, 0.85);
        }
        if (row.group != group) {
            group = row.group;
            if (r > 0) {
                surface.line({ plot.left() - 6, y }, { plot.right(), y }, theme.text, 1);
            }
            int next = r + 1;
            while (next < rowCount() && m_rows[static_cast<std::size_t>(next)].group == group) {
                ++next;
            }
            const bool room = height * (next - r) >= line || next == rowCount();
            if (!labels && room && y >= freeBelow) { // a thin group must not take the place of the next one's name
                surface.text({ plot.left() - 5, y }, group, theme.dimText, Qt::AlignRight | Qt::AlignTop, 0.9);
                freeBelow = y + line;
            }
        }
    }
    // Columns are drawn at equal widths; labels show their numbers.
    const double width = plot.width() / columnCount();
    double free = plot.left() - 100;
    const double titleWidth = surface.textSize(m_columnTitle, 0.9).width() + 8;
    const int every = std::max(1, columnCount() / 8);
    for (int c = 0; c < columnCount(); c += every) {
        const QString text = numberText(m_columns[static_cast<std::size_t>(c)]);
        const double x = plot.left() + width * (c + 0.5);
        const double half = surface.textSize(text, 0.9).width() / 2;
        if (x - half > free && x + half < plot.right() - titleWidth) {
            surface.text({ x, plot.bottom() + 3 }, text, theme.dimText, Qt::AlignHCenter | Qt::AlignTop, 0.9);
            free = x + half + 8;
        }
    }
    surface.text({ plot.right(), plot.bottom() + 3 }, m_columnTitle, theme.dimText, Qt::AlignRight | Qt::AlignTop, 0.9);
    paintLegend(surface, QRectF(plot.right() + 10, plot.top(), 10, plot.height()), theme);
    for (const int row : m_marked) {
        surface.strokeRect({ plot.left(), plot.top() + height * row, plot.width(), std::max(2.0, height) },
                           theme.accent, 1);
    }
    if (m_row >= 0) {
        surface.strokeRect({ plot.left(), plot.top() + height * m_row, plot.width(), std::max(2.0, height) },
                           theme.accent, 2);
    }
    if (m_column >= 0) {
        surface.strokeRect({ plot.left() + width * m_column, plot.top(), std::max(2.0, width), plot.height() },
                           theme.text, 2);
    }
    if (m_hoverRow >= 0 && m_hoverColumn >= 0) {
        const QString text = QStringLiteral("%1, %2 %3: %4")
                                 .arg(m_rows[static_cast<std::size_t>(m_hoverRow)].name, m_columnTitle,
                                      numberText(m_columns[static_cast<std::size_t>(m_hoverColumn)]),
                                      numberText(m_value(m_hoverRow, m_hoverColumn)));
        const QSizeF size = surface.textSize(text, 0.9) + QSizeF(12, 6);
        QPointF corner(plot.left() + width * m_hoverColumn + 10, plot.top() + height * m_hoverRow - size.height() - 4);
        corner.setX(std::clamp(corner.x(), area.left(), std::max(area.left(), area.right() - size.width())));
        corner.setY(std::max(corner.y(), area.top()));
        surface.fillRect({ corner, size }, theme.base);
        surface.strokeRect({ corner, size }, theme.border);
        surface.text(corner + QPointF(6, 3), text, theme.text, Qt::AlignLeft | Qt::AlignTop, 0.9);
    }
}

std::pair<int, int> HeatMap::cellAt(const QPointF& at) const
{
    if (isEmpty() || !m_plot.contains(at)) {
        return { -1, -1 };
    }
    return { std::min(rowCount() - 1, static_cast<int>((at.y() - m_plot.top()) / m_plot.height() * rowCount())),
             std::min(columnCount() - 1, static_cast<int>((at.x() - m_plot.left()) / m_plot.width() * columnCount())) };
}

QString HeatMap::summary() const
{
    return tr("%1: %2 rows, %3 columns, values from %4 to %5")
        .arg(title())
        .arg(rowCount())
        .arg(columnCount())
        .arg(numberText(m_shownLow), numberText(m_shownHigh));
}

void HeatMap::hover(const QPointF& at)
{
    const auto [row, column] = cellAt(at);
    if (row != m_hoverRow || column != m_hoverColumn) {
        m_hoverRow = row;
        m_hoverColumn = column;
        Q_EMIT changed();
    }
}

void HeatMap::leave()
{
    m_hoverRow = m_hoverColumn = -1;
    Q_EMIT changed();
}

void HeatMap::press(const QPointF& at)
{
    const auto [row, column] = cellAt(at);
    if (row >= 0) {
        selectRow(row);
        selectColumn(column);
        Q_EMIT rowPicked(row);
        Q_EMIT columnPicked(column);
    }
}

void HeatMap::drag(const QPointF& at)
{
    if (isEmpty()) {
        return;
    }
    const double f = (at.x() - m_plot.left()) / std::max(1.0, m_plot.width());
    const int column = std::clamp(static_cast<int>(f * columnCount()), 0, columnCount() - 1);
    if (column != m_column) {
        selectColumn(column);
        Q_EMIT columnPicked(column);
    }
}

QStringList HeatMap::usage() const
{
    return { tr("Pointer: value of a cell"), tr("Click, up and down: select a %1").arg(m_rowTitle),
             tr("Drag, left and right, Home and End: go through the columns") };
}

bool HeatMap::key(int key)
{
    if (isEmpty()) {
        return false;
    }
    int row = m_row;
    int column = m_column;
    switch (key) {
    case Qt::Key_Up:
        row = std::max(0, row - 1);
        break;
    case Qt::Key_Down:
        row = std::min(rowCount() - 1, row + 1);
        break;
    case Qt::Key_Left:
        column = std::max(0, column - 1);
        break;
    case Qt::Key_Right:
        column = std::min(columnCount() - 1, column + 1);
        break;
    case Qt::Key_Home:
        column = 0;
        break;
    case Qt::Key_End:
        column = columnCount() - 1;
        break;
    default:
        return false;
    }
    if (row != m_row) {
        selectRow(row);
        Q_EMIT rowPicked(row);
    }
    if (column != m_column) {
        selectColumn(column);
        Q_EMIT columnPicked(column);
    }
    return true;
}

} // namespace rankwise::common
