// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/rank_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace rankwise::spectra_view {

using bridge::numberText;
using bridge::toQString;
using common::PlotSurface;
using common::Theme;

namespace {

constexpr double kReach = 9; ///< Pixels around a mark that count as on it.

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

RankChart::RankChart(SpectraState& state, QObject* parent)
    : Chart(quantityName(Quantity::Rank, state.eta()), parent), m_state(state)
{
    connect(&state, &SpectraState::setsChanged, this, &RankChart::refresh);
    connect(&state, &SpectraState::shownChanged, this, &RankChart::refresh);
    connect(&state, &SpectraState::etaChanged, this, &RankChart::refresh);
    connect(&state, &SpectraState::layersChanged, this, &Chart::changed);
    refresh();
}

void RankChart::setQuantity(Quantity quantity)
{
    if (m_quantity != quantity) {
        m_quantity = quantity;
        refresh();
    }
}

void RankChart::refresh()
{
    m_panels.clear();
    m_marks.clear();
    const bridge::SpectraSet& set = m_state.set();
    for (std::size_t i = 0; i < set.layers.size(); ++i) {
        const std::int64_t group = std::clamp<std::int64_t>(set.layers[i].group, 0, 3);
        if (m_panels.empty() || m_panels.back().group != group) {
            m_panels.push_back({ .group = group });
        }
        m_panels.back().layers.push_back(i);
        m_panels.back().lastDepth = std::max(m_panels.back().lastDepth, set.layers[i].depth);
    }
    m_otherIndex.assign(set.layers.size(), -1);
    if (m_state.other() != nullptr) {
        for (std::size_t i = 0; i < set.layers.size(); ++i) {
            m_otherIndex[i] = m_state.other()->indexOf(toQString(set.layers[i].path));
        }
    }
    fillTable();
    setTitle(tr("%1 of each layer").arg(quantityName(m_quantity, m_state.eta())));
    Q_EMIT changed();
}

int RankChart::otherIndex(std::size_t layer) const
{
    return layer < m_otherIndex.size() ? m_otherIndex[layer] : -1;
}

void RankChart::fillTable()
{
    const std::vector<Curve> curves = m_state.curves();
    QStringList headers { tr("layer"), tr("part"), tr("depth"), tr("n") };
    const QString quantity = quantityName(m_quantity, m_state.eta());
    for (const Curve curve : curves) {
        headers << QStringLiteral("%1: %2").arg(bridge::curveName(curve), quantity);
    }
    if (m_state.other() != nullptr) {
        for (const Curve curve : curves) {
            headers << QStringLiteral("%1₂: %2").arg(bridge::curveName(curve), quantity);
        }
    }
    m_table.reset(
        headers, static_cast<int>(m_state.set().layers.size()), [this, curves](int row, int column) -> QVariant {
            const bridge::SpectraSet& set = m_state.set();
            const auto i = static_cast<std::size_t>(row);
            if (i >= set.layers.size()) {
                return {};
            }
            const data::SpectraLayer& layer = set.layers[i];
            switch (column) {
            case 0:
                return toQString(layer.path);
            case 1:
                return bridge::groupName(layer.group);
            case 2:
                return layer.depth >= 0 ? QVariant(static_cast<qint64>(layer.depth)) : QVariant();
            case 3:
                return static_cast<qint64>(std::min(layer.rows, layer.columns));
            default:
                break;
            }
            auto which = static_cast<std::size_t>(column - 4);
            const bool other = which >= curves.size();
            which = other ? which - curves.size() : which;
            const int there = otherIndex(i);
            if (which >= curves.size() || (other && (there < 0 || m_state.other() == nullptr))) {
                return {};
            }
            const double value = quantityOf(other ? *m_state.other() : set, other ? static_cast<std::size_t>(there) : i,
                                            curves[which], m_quantity, m_state.eta());
            return std::isfinite(value) ? QVariant(value) : QVariant();
        });
}

bool RankChart::isEmpty() const
{
    return m_state.curves().empty();
}

double RankChart::xOf(const Panel& panel, std::size_t layer) const
{
    const data::SpectraLayer& info = m_state.set().layers[layer];
    if (info.depth >= 0) {
        return static_cast<double>(info.depth);
    }
    if (panel.lastDepth >= 0) { // heads stand behind the stack
        return static_cast<double>(panel.lastDepth + 1);
    }
    const auto place = std::ranges::find(panel.layers, layer);
    return static_cast<double>(place - panel.layers.begin());
}

void RankChart::layOut(PlotSurface& surface, const QRectF& area)
{
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    double top = 0;
    for (std::size_t i = 0; i < m_state.set().layers.size(); ++i) {
        for (const Curve curve : m_state.curves()) {
            const double value = quantityOf(m_state.set(), i, curve, m_quantity, m_state.eta());
            top = std::isfinite(value) ? std::max(top, value) : top;
            if (otherIndex(i) >= 0) {
                const double there = quantityOf(*m_state.other(), static_cast<std::size_t>(otherIndex(i)), curve,
                                                m_quantity, m_state.eta());
                top = std::isfinite(there) ? std::max(top, there) : top;
            }
        }
    }
    top = top > 0 ? top * 1.08 : 1;
    m_y = { .low = 0, .high = top };
    double labels = 0;
    for (const double v : m_y.ticks(5)) {
        labels = std::max(labels, surface.textSize(numberText(v), 0.9).width());
    }
    const QRectF plots = area.adjusted(labels + 12, 2 * line + 8, -10, -2 * line - 6);
    double weight = 0;
    for (Panel& panel : m_panels) {
        panel.firstX = INFINITY;
        panel.lastX = -INFINITY;
        for (const std::size_t layer : panel.layers) {
            panel.firstX = std::min(panel.firstX, xOf(panel, layer));
            panel.lastX = std::max(panel.lastX, xOf(panel, layer));
        }
        panel.firstX -= 0.6;
        panel.lastX += 0.6;
        weight += std::sqrt(panel.lastX - panel.firstX);
    }
    constexpr double kGap = 14;
    double left = plots.left();
    const double room = plots.width() - kGap * (static_cast<double>(m_panels.size()) - 1);
    for (Panel& panel : m_panels) {
        const double width = room * std::sqrt(panel.lastX - panel.firstX) / weight;
        panel.plot = QRectF(left, plots.top(), width, plots.height());
        left += width + kGap;
    }
    m_y.from = plots.bottom();
    m_y.to = plots.top();
}

void RankChart::placeMarks(const Panel& panel)
{
    const common::Axis x {
        .low = panel.firstX, .high = panel.lastX, .from = panel.plot.left(), .to = panel.plot.right()
    };
    const std::vector<Curve> curves = m_state.curves();
    // Projections of one depth lie side by side, and so do the curves of one layer.
    const double unit = (x.to - x.from) / std::max(1.0, panel.lastX - panel.firstX);
    std::map<double, int> atDepth;
    std::map<double, int> counts;
    for (const std::size_t layer : panel.layers) {
        ++counts[xOf(panel, layer)];
    }
    for (const std::size_t layer : panel.layers) {
        const double depth = xOf(panel, layer);
        const int slot = atDepth[depth]++;
        const double shift = (static_cast<double>(slot) + 0.5) / static_cast<double>(counts[depth]) - 0.5;
        for (std::size_t c = 0; c < curves.size(); ++c) {
            const double inner =
                curves.size() > 1 ? (static_cast<double>(c) / static_cast<double>(curves.size() - 1) - 0.5) : 0;
            const double pixel =
                x.pixel(depth) + unit * 0.8 * (shift + 0.4 * inner / static_cast<double>(counts[depth]));
            for (const bool other : { true, false }) {
                const int there = otherIndex(layer);
                if (other && there < 0) {
                    continue;
                }
                const bridge::SpectraSet& set = other ? *m_state.other() : m_state.set();
                const std::size_t index = other ? static_cast<std::size_t>(there) : layer;
                const double value = quantityOf(set, index, curves[c], m_quantity, m_state.eta());
                if (std::isfinite(value)) {
                    m_marks.push_back({ .at = { pixel, m_y.pixel(value) },
                                        .layer = layer,
                                        .curve = curves[c],
                                        .other = other,
                                        .estimate = set.at(index, curves[c])->pass == data::SpectrumPass::Coarse,
                                        .value = value });
                }
            }
        }
    }
}

void RankChart::paintPanel(PlotSurface& surface, const Panel& panel, const Theme& theme, bool first)
{
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    const QRectF& plot = panel.plot;
    for (const double v : m_y.ticks(std::max(2, static_cast<int>(plot.height() / (2.4 * line))))) {
        const double p = m_y.pixel(v);
        surface.line({ plot.left(), p }, { plot.right(), p }, theme.grid, 1);
        if (first) {
            surface.text({ plot.left() - 5, p }, numberText(v), theme.dimText, Qt::AlignRight | Qt::AlignVCenter, 0.9);
        }
    }
    surface.strokeRect(plot, theme.border, 1);
    const QString name = bridge::groupName(panel.group);
    surface.text({ plot.center().x(), plot.top() - 3 }, surface.elided(name, plot.width() + 10, 0.9), theme.text,
                 Qt::AlignHCenter | Qt::AlignBottom, 0.9);
    const common::Axis x { .low = panel.firstX, .high = panel.lastX, .from = plot.left(), .to = plot.right() };
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

void RankChart::paintMark(PlotSurface& surface, const Mark& mark, const Theme& theme) const
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

void RankChart::paint(PlotSurface& surface, const QRectF& area, const Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    layOut(surface, area);
    if (m_panels.empty() || m_panels.front().plot.height() < 20 || m_panels.front().plot.width() < 8) {
        return;
    }
    m_marks.clear();
    for (const Panel& panel : m_panels) {
        paintPanel(surface, panel, theme, &panel == &m_panels.front());
        placeMarks(panel);
    }
    for (const bool selected : { false, true }) {
        for (const Mark& mark : m_marks) {
            if (m_state.isSelected(m_state.set().layers[mark.layer].path) == selected) {
                paintMark(surface, mark, theme);
            }
        }
    }
    // Legend above the panels: shapes with their names, the second subject's hollow.
    double x = m_panels.front().plot.left();
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
    } else if (std::ranges::any_of(m_marks, &Mark::estimate)) {
        entry(m_state.curves().front(), true, tr("hollow: estimate"));
    }
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
    const Mark* mark = m_pointer && !m_brush ? markAt(*m_pointer) : nullptr;
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

const RankChart::Mark* RankChart::markAt(const QPointF& at) const
{
    const Mark* best = nullptr;
    double nearest = kReach;
    for (const Mark& mark : m_marks) {
        const double distance = std::hypot(mark.at.x() - at.x(), mark.at.y() - at.y());
        if (distance < nearest || (best != nullptr && best->other && !mark.other && distance <= nearest)) {
            nearest = distance;
            best = &mark;
        }
    }
    return best;
}

std::optional<QPointF> RankChart::placeOf(const QString& path, Curve curve) const
{
    const int layer = m_state.set().indexOf(path);
    for (const Mark& mark : m_marks) {
        if (static_cast<int>(mark.layer) == layer && mark.curve == curve && !mark.other) {
            return mark.at;
        }
    }
    return std::nullopt;
}

QString RankChart::summary() const
{
    QStringList parts { title() };
    const bridge::SpectraSet& set = m_state.set();
    for (const Curve curve : m_state.curves()) {
        double low = INFINITY;
        double high = -INFINITY;
        for (std::size_t i = 0; i < set.layers.size(); ++i) {
            const double value = quantityOf(set, i, curve, m_quantity, m_state.eta());
            low = std::isfinite(value) ? std::min(low, value) : low;
            high = std::isfinite(value) ? std::max(high, value) : high;
        }
        if (low <= high) {
            parts << tr("%1 from %2 to %3").arg(bridge::curveName(curve), numberText(low), numberText(high));
        }
    }
    return parts.join(QStringLiteral("; "));
}

void RankChart::hover(const QPointF& at)
{
    m_pointer = at;
    Q_EMIT changed();
}

void RankChart::leave()
{
    m_pointer.reset();
    Q_EMIT changed();
}

void RankChart::press(const QPointF& at)
{
    m_pressed = at;
    m_brush.reset();
}

void RankChart::drag(const QPointF& at)
{
    if (m_brush || std::hypot(at.x() - m_pressed.x(), at.y() - m_pressed.y()) > 5) {
        m_brush = QRectF(m_pressed, at).normalized();
        Q_EMIT changed();
    }
}

void RankChart::release(const QPointF& at)
{
    QStringList layers;
    const auto add = [&](const Mark& mark) {
        const QString path = toQString(m_state.set().layers[mark.layer].path);
        if (!layers.contains(path)) {
            layers << path;
        }
    };
    if (m_brush) {
        for (const Mark& mark : m_marks) {
            if (!mark.other && m_brush->contains(mark.at)) {
                add(mark);
            }
        }
    } else if (const Mark* mark = markAt(at)) {
        add(*mark);
    }
    const bool brushed = m_brush.has_value();
    m_brush.reset();
    Q_EMIT changed();
    if (!layers.isEmpty() || brushed) {
        Q_EMIT picked(layers);
    }
}

bool RankChart::key(int key)
{
    const bridge::SpectraSet& set = m_state.set();
    if (set.layers.empty() || (key != Qt::Key_Left && key != Qt::Key_Right && key != Qt::Key_Escape)) {
        return false;
    }
    if (key == Qt::Key_Escape) {
        Q_EMIT picked({});
        return true;
    }
    const int last = static_cast<int>(set.layers.size()) - 1;
    const int now = set.indexOf(m_state.layer());
    const int next = now < 0 ? 0 : std::clamp(now + (key == Qt::Key_Right ? 1 : -1), 0, last);
    Q_EMIT picked({ toQString(set.layers[static_cast<std::size_t>(next)].path) });
    return true;
}

} // namespace rankwise::spectra_view
