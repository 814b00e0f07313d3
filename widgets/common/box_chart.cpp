// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/box_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>

namespace rankwise::common {

using bridge::numberText;

BoxChart::BoxChart(QString title, QString valueTitle, QObject* parent)
    : Chart(std::move(title), parent), m_valueTitle(std::move(valueTitle)), m_referenceName(tr("step 0"))
{
}

void BoxChart::setPanels(std::vector<Panel> panels, double top)
{
    m_places.clear();
    m_panels = std::move(panels);
    m_top = top;
    std::vector<std::pair<int, int>> order;
    for (std::size_t p = 0; p < m_panels.size(); ++p) {
        for (std::size_t b = 0; b < m_panels[p].boxes.size(); ++b) {
            order.emplace_back(static_cast<int>(p), static_cast<int>(b));
        }
    }
    m_table.reset({ tr("Group"), tr("Layer"), tr("Mean"), tr("Lowest"), tr("25 %"), tr("Median"), tr("75 %"),
                    tr("Highest"), tr("Mean at %1").arg(m_referenceName) },
                  static_cast<int>(order.size()), [this, order](int row, int column) -> QVariant {
                      const auto [p, b] = order[static_cast<std::size_t>(row)];
                      const Panel& panel = m_panels[static_cast<std::size_t>(p)];
                      const Box& box = panel.boxes[static_cast<std::size_t>(b)];
                      switch (column) {
                      case 0:
                          return panel.title;
                      case 1:
                          return box.path;
                      case 2:
                          return box.mean;
                      case 8:
                          return box.reference ? QVariant(*box.reference) : QVariant();
                      default:
                          return box.quantiles[static_cast<std::size_t>(column - 3)];
                      }
                  });
    Q_EMIT changed();
}

void BoxChart::setLevels(std::vector<std::pair<double, QString>> levels)
{
    m_levels = std::move(levels);
    Q_EMIT changed();
}

void BoxChart::setShowReference(bool on)
{
    m_showReference = on;
    Q_EMIT changed();
}

void BoxChart::selectPath(const QString& path)
{
    if (m_selected != path) {
        m_selected = path;
        Q_EMIT changed();
    }
}

bool BoxChart::isEmpty() const
{
    return std::all_of(m_panels.begin(), m_panels.end(), [](const Panel& panel) { return panel.boxes.empty(); });
}

QString BoxChart::emptyText() const
{
    return tr("No per-layer ranks in this run");
}

QString BoxChart::summary() const
{
    QStringList parts { title() };
    for (const Panel& panel : m_panels) {
        double sum = 0;
        for (const Box& box : panel.boxes) {
            sum += box.mean;
        }
        if (!panel.boxes.empty()) {
            parts << tr("%1: %2 layers, mean %3")
                         .arg(panel.title)
                         .arg(panel.boxes.size())
                         .arg(numberText(sum / static_cast<double>(panel.boxes.size())));
        }
    }
    return parts.join(QStringLiteral("; "));
}

void BoxChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    m_places.clear();
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    double top = m_top;
    std::size_t boxes = 0;
    std::size_t shown = 0;
    for (const Panel& panel : m_panels) {
        for (const Box& box : panel.boxes) {
            top = std::max(top, box.quantiles[4]);
        }
        boxes += panel.boxes.size();
        shown += panel.boxes.empty() ? 0U : 1U;
    }
    // Panels get room by their number of layers, none less than a sixth.
    double left = area.left();
    std::size_t index = 0;
    double total = 0;
    std::vector<double> shares;
    for (const Panel& panel : m_panels) {
        const double share = panel.boxes.empty()
            ? 0
            : std::max(static_cast<double>(panel.boxes.size()) / static_cast<double>(boxes),
                       0.5 / static_cast<double>(shown));
        shares.push_back(share);
        total += share;
    }
    for (const Panel& panel : m_panels) {
        const double width = area.width() * shares[index] / total;
        if (!panel.boxes.empty()) {
            paintPanel(surface, QRectF(left, area.top(), width, area.height()), panel, top, theme.seriesColor(index),
                       theme);
        }
        left += width;
        ++index;
    }
    if (const Box* box = m_pointer ? boxAt(*m_pointer) : nullptr) {
        QStringList lines { box->name,
                            tr("mean %1, median %2").arg(numberText(box->mean), numberText(box->quantiles[2])),
                            tr("from %1 to %2").arg(numberText(box->quantiles[0]), numberText(box->quantiles[4])) };
        if (box->reference) {
            lines << tr("%1: %2").arg(m_referenceName, numberText(*box->reference));
        }
        double width = 0;
        const double line = surface.textSize(lines[0], 0.9).height();
        for (const QString& text : lines) {
            width = std::max(width, surface.textSize(text, 0.9).width());
        }
        const QSizeF size(width + 12, line * static_cast<double>(lines.size()) + 8);
        QPointF corner = *m_pointer + QPointF(12, 8);
        corner.setX(std::min(corner.x(), area.right() - size.width()));
        corner.setY(std::min(corner.y(), area.bottom() - size.height()));
        surface.fillRect({ corner, size }, theme.base);
        surface.strokeRect({ corner, size }, theme.border);
        for (qsizetype i = 0; i < lines.size(); ++i) {
            surface.text(corner + QPointF(6, 4 + line * static_cast<double>(i)), lines[i], theme.text,
                         Qt::AlignLeft | Qt::AlignTop, 0.9);
        }
    }
}

void BoxChart::paintPanel(PlotSurface& surface, const QRectF& area, const Panel& panel, double top, const QColor& color,
                          const Theme& theme)
{
    const double line = surface.lineHeight();
    Axis y { .low = 0, .high = top * 1.05 };
    double labels = 0;
    for (const double v : y.ticks(4)) {
        labels = std::max(labels, surface.textSize(numberText(v), 0.9).width());
    }
    const QRectF plot = area.adjusted(labels + 12, line + 4, -6, -line - 6);
    if (plot.width() < 10 || plot.height() < 10) {
        return;
    }
    y.from = plot.bottom();
    y.to = plot.top();
    const auto count = static_cast<double>(panel.boxes.size());
    const Axis x { .low = -0.5, .high = count - 0.5, .from = plot.left(), .to = plot.right() };
    for (const double v : y.ticks(std::max(2, static_cast<int>(plot.height() / (2.4 * line))))) {
        surface.line({ plot.left(), y.pixel(v) }, { plot.right(), y.pixel(v) }, theme.grid, 1);
        surface.text({ plot.left() - 5, y.pixel(v) }, numberText(v), theme.dimText, Qt::AlignRight | Qt::AlignVCenter,
                     0.9);
    }
    surface.strokeRect(plot, theme.border);
    const QString whole = QStringLiteral("%1 · %2").arg(panel.title, m_valueTitle);
    surface.text({ plot.left(), plot.top() - 3 },
                 surface.textSize(whole, 0.9).width() <= plot.width() ? whole
                                                                      : surface.elided(panel.title, plot.width(), 0.9),
                 theme.text, Qt::AlignLeft | Qt::AlignBottom, 0.9);
    for (const auto& [value, name] : m_levels) {
        if (value > 0 && value < y.high) {
            const double py = y.pixel(value);
            for (double px = plot.left(); px < plot.right(); px += 10) {
                surface.line({ px, py }, { std::min(px + 6, plot.right()), py }, theme.dimText, 1);
            }
            surface.text({ plot.right() - 3, py }, name, theme.dimText, Qt::AlignRight | Qt::AlignBottom, 0.8);
        }
    }
    const double pitch = plot.width() / count;
    const double half = std::clamp(pitch * 0.35, 0.5, 14.0);
    double free = plot.left();
    for (std::size_t i = 0; i < panel.boxes.size(); ++i) {
        const Box& box = panel.boxes[i];
        const double center = x.pixel(static_cast<double>(i));
        const bool selected = !m_selected.isEmpty() && box.path == m_selected;
        if (selected) {
            QColor back = theme.accent;
            back.setAlphaF(0.25F);
            surface.fillRect({ center - pitch / 2, plot.top(), pitch, plot.height() }, back);
        }
        paintBox(surface, box, center, half, y, selected ? theme.accent : color, theme);
        m_places.push_back({ { center - pitch / 2, plot.top(), pitch, plot.height() }, &box });
        const QString number = QString::number(i);
        const double width = surface.textSize(number, 0.8).width();
        if (center - width / 2 >= free
            && center + width / 2 < plot.right() - surface.textSize(tr("layer"), 0.8).width() - 8) {
            surface.text({ center, plot.bottom() + 3 }, number, theme.dimText, Qt::AlignHCenter | Qt::AlignTop, 0.8);
            free = center + width / 2 + 10;
        }
    }
    surface.text({ plot.right(), plot.bottom() + 3 }, tr("layer"), theme.dimText, Qt::AlignRight | Qt::AlignTop, 0.8);
}

void BoxChart::paintBox(PlotSurface& surface, const Box& box, double center, double half, const Axis& y,
                        const QColor& color, const Theme& theme) const
{
    const auto& q = box.quantiles;
    if (m_showReference && box.reference) {
        // Step 0: a hollow box in grey behind, its mean as a short bar to both sides.
        if (box.referenceQuantiles) {
            const auto& r = *box.referenceQuantiles;
            surface.strokeRect(
                QRectF(QPointF(center - half - 1, y.pixel(r[3])), QPointF(center + half + 1, y.pixel(r[1])))
                    .normalized(),
                theme.dimText);
        }
        const double py = y.pixel(*box.reference);
        const std::array<QPointF, 4> diamond { QPointF(center, py - 4), QPointF(center + 4, py),
                                               QPointF(center, py + 4), QPointF(center - 4, py) };
        surface.fillPolygon(diamond, theme.dimText);
    }
    surface.line({ center, y.pixel(q[0]) }, { center, y.pixel(q[4]) }, color, 1);
    QColor fill = color;
    fill.setAlphaF(0.35F);
    const QRectF body =
        QRectF(QPointF(center - half, y.pixel(q[3])), QPointF(center + half, y.pixel(q[1]))).normalized();
    surface.fillRect(body, fill);
    surface.strokeRect(body, color, 1);
    surface.line({ center - half, y.pixel(q[2]) }, { center + half, y.pixel(q[2]) }, theme.text, 2);
    const double py = y.pixel(box.mean);
    const double arm = std::min(3.0, half);
    surface.line({ center - arm, py - arm }, { center + arm, py + arm }, theme.text, 1.2);
    surface.line({ center - arm, py + arm }, { center + arm, py - arm }, theme.text, 1.2);
}

const BoxChart::Box* BoxChart::boxAt(const QPointF& at) const
{
    for (const Place& place : m_places) {
        if (place.rect.contains(at)) {
            return place.box;
        }
    }
    return nullptr;
}

void BoxChart::hover(const QPointF& at)
{
    m_pointer = at;
    Q_EMIT changed();
}

void BoxChart::leave()
{
    m_pointer.reset();
    Q_EMIT changed();
}

void BoxChart::press(const QPointF& at)
{
    if (const Box* box = boxAt(at)) {
        Q_EMIT picked(box->path);
    }
}

} // namespace rankwise::common
