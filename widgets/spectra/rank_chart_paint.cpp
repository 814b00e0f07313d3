// How the chart of ranks is drawn.
// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/rank_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>

namespace rankwise::spectra_view {

using bridge::numberText;
using common::PlotSurface;
using common::Theme;

namespace {

/// A mark of its own shape for each curve, so that colour is never alone.
void drawShape(PlotSurface& surface, const QPointF& at, Curve curve, double size, const QColor& color, bool hollow,
               double width)
{
    const double s = size;
    std::vector<QPointF> outline;
    switch (curve) {
    case Curve::Base:
        outline = { { -s, -s }, { s, -s }, { s, s }, { -s, s } };
        break;
    case Curve::Delta:
        outline = { { 0, -1.25 * s }, { 1.2 * s, s }, { -1.2 * s, s } };
        break;
    case Curve::Merged:
        outline = { { 0, -1.35 * s }, { 1.35 * s, 0 }, { 0, 1.35 * s }, { -1.35 * s, 0 } };
        break;
    case Curve::Scores:
        for (int i = 0; i < 8; ++i) {
            const double a = (i + 0.5) * 3.14159265 / 4;
            outline.emplace_back(1.1 * s * std::cos(a), 1.1 * s * std::sin(a));
        }
        break;
    }
    for (QPointF& point : outline) {
        point += at;
    }
    if (!hollow) {
        surface.fillPolygon(outline, color);
        return;
    }
    outline.push_back(outline.front());
    surface.polyline(outline, color, width);
}

} // namespace

void RankChart::paintPanel(PlotSurface& surface, const RankPanel& panel, const Theme& theme, bool first)
{
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    const QRectF& plot = panel.plot;
    for (const double v : m_layout.y().ticks(std::max(2, static_cast<int>(plot.height() / (2.4 * line))))) {
        const double p = m_layout.y().pixel(v);
        surface.line({ plot.left(), p }, { plot.right(), p }, theme.grid, 1);
        if (first) {
            surface.text({ plot.left() - 5, p }, numberText(v), theme.dimText, Qt::AlignRight | Qt::AlignVCenter, 0.9);
        }
    }
    surface.strokeRect(plot, theme.border, 1);
    const QString name = bridge::groupName(panel.group);
    surface.text({ plot.center().x(), plot.top() - 3 }, surface.elided(name, plot.width() + 10, 0.9), theme.text,
                 Qt::AlignHCenter | Qt::AlignBottom, 0.9);
    const common::Axis x = panel.x();
    const double below = plot.bottom() + 3;
    if (panel.lastDepth < 0) {
        const int count = static_cast<int>(panel.layers.size());
        surface.text({ plot.center().x(), below },
                     surface.elided(tr("%n layers", nullptr, count), plot.width() + 10, 0.9), theme.dimText,
                     Qt::AlignHCenter | Qt::AlignTop, 0.9);
        return;
    }
    const double widest = surface.textSize(QStringLiteral("000"), 0.9).width();
    const int most = std::max(2, static_cast<int>(plot.width() / (1.5 * widest)));
    for (const double v : x.ticks(most)) {
        if (std::abs(v - std::round(v)) < 1e-6 && v <= static_cast<double>(panel.lastDepth) + 0.1) {
            surface.text({ x.pixel(v), below }, numberText(v), theme.dimText, Qt::AlignHCenter | Qt::AlignTop, 0.9);
        }
    }
    if (panel.lastX > static_cast<double>(panel.lastDepth) + 1) {
        surface.text({ std::min(x.pixel(static_cast<double>(panel.lastDepth + 1)), plot.right() - widest / 2), below },
                     tr("head"), theme.dimText, Qt::AlignHCenter | Qt::AlignTop, 0.9);
    }
    surface.text({ plot.center().x(), below + line }, tr("depth"), theme.dimText, Qt::AlignHCenter | Qt::AlignTop, 0.9);
}

void RankChart::paintMark(PlotSurface& surface, const RankMark& mark, const Theme& theme) const
{
    const data::SpectraLayer& layer = m_state.set().layers[mark.layer];
    const bool selected = m_state.isSelected(layer.path);
    QColor color = theme.seriesColor(colorOf(mark.curve));
    if (!m_state.layers().isEmpty() && !selected) {
        color.setAlphaF(0.7F);
    }
    drawShape(surface, mark.at, mark.curve, mark.other ? 4.8 : 3.5, color, mark.other || mark.estimate, 1.4);
    if (selected && !mark.other) {
        surface.strokeRect({ mark.at.x() - 7, mark.at.y() - 7, 14, 14 }, theme.accent, 2);
    }
}

/// Above the panels: shapes with their names, the second subject's hollow.
void RankChart::paintLegend(PlotSurface& surface, const QRectF& area, const Theme& theme) const
{
    double x = m_layout.panels().front().plot.left();
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    const double y = area.top() + 2 + line / 2;
    const auto entry = [&](Curve curve, bool hollow, const QString& words) {
        drawShape(surface, { x + 5, y }, curve, hollow ? 4.6 : 4, theme.seriesColor(colorOf(curve)), hollow, 1.4);
        surface.text({ x + 14, y }, words, theme.text, Qt::AlignLeft | Qt::AlignVCenter, 0.9);
        x += 26 + surface.textSize(words, 0.9).width();
    };
    for (const Curve curve : m_state.curves()) {
        entry(curve, false, bridge::curveName(curve));
    }
    if (m_state.other() != nullptr) {
        entry(m_state.curves().front(), true, surface.elided(tr("hollow: %1").arg(m_state.other()->title), 260, 0.9));
    } else if (std::ranges::any_of(m_layout.marks(), &RankMark::estimate)) {
        entry(m_state.curves().front(), true, tr("hollow: estimate"));
    }
}

void RankChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    m_layout.place(surface, area, m_quantity);
    const std::vector<RankPanel>& panels = m_layout.panels();
    if (panels.empty() || panels.front().plot.height() < 20 || panels.front().plot.width() < 8) {
        return;
    }
    for (const RankPanel& panel : panels) {
        paintPanel(surface, panel, theme, &panel == &panels.front());
    }
    for (const bool selected : { false, true }) {
        for (const RankMark& mark : m_layout.marks()) {
            if (m_state.isSelected(m_state.set().layers[mark.layer].path) == selected) {
                paintMark(surface, mark, theme);
            }
        }
    }
    paintLegend(surface, area, theme);
    if (m_brush) {
        QColor fill = theme.accent;
        fill.setAlphaF(0.15F);
        surface.fillRect(*m_brush, fill);
        surface.strokeRect(*m_brush, theme.accent, 1);
    }
    paintReading(surface, area, theme);
}

void RankChart::paintReading(PlotSurface& surface, const QRectF& area, const Theme& theme) const
{
    const RankMark* mark = m_pointer && !m_brush ? m_layout.markAt(*m_pointer) : nullptr;
    if (mark == nullptr) {
        return;
    }
    const data::SpectraLayer& layer = m_state.set().layers[mark->layer];
    const QString text = QStringLiteral("%1  %2: %3%4")
                             .arg(shortName(layer), bridge::curveName(mark->curve), numberText(mark->value),
                                  mark->estimate ? tr(" (estimate)") : QString());
    const QSizeF size = surface.textSize(text, 0.9) + QSizeF(12, 6);
    QPointF corner = mark->at + QPointF(10, -size.height() - 6);
    corner.setX(std::clamp(corner.x(), area.left(), std::max(area.left(), area.right() - size.width())));
    corner.setY(std::max(corner.y(), area.top()));
    surface.fillRect({ corner, size }, theme.base);
    surface.strokeRect({ corner, size }, theme.border);
    surface.text(corner + QPointF(6, 3), text, theme.text, Qt::AlignLeft | Qt::AlignTop, 0.9);
}

} // namespace rankwise::spectra_view
