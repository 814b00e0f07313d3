// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/rank_layout.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace rankwise::spectra_view {

namespace {
constexpr double kReach = 9; ///< Pixels around a mark that count as on it.
constexpr double kGap = 14;  ///< Between two panels.
} // namespace

void RankLayout::setLayers()
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
}

double RankLayout::xOf(const RankPanel& panel, std::size_t layer) const
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

double RankLayout::largest(Quantity quantity) const
{
    double top = 0;
    const auto take = [&](double value) { top = std::isfinite(value) ? std::max(top, value) : top; };
    const std::vector<Curve> curves = m_state.curves();
    for (std::size_t i = 0; i < m_state.set().layers.size(); ++i) {
        const int there = m_state.otherIndex(i);
        for (const Curve curve : curves) {
            take(quantityOf(m_state.set(), i, curve, quantity, m_state.eta()));
            if (there >= 0) {
                take(quantityOf(*m_state.other(), static_cast<std::size_t>(there), curve, quantity, m_state.eta()));
            }
        }
    }
    return top;
}

void RankLayout::place(common::PlotSurface& surface, const QRectF& area, Quantity quantity)
{
    constexpr double kHeadroom = 1.08;
    const double line = surface.textSize(QStringLiteral("0"), 0.9).height();
    const double top = largest(quantity);
    m_y = { .low = 0, .high = top > 0 ? top * kHeadroom : 1 };
    double labels = 0;
    for (const double v : m_y.ticks(5)) {
        labels = std::max(labels, surface.textSize(bridge::numberText(v), 0.9).width());
    }
    const QRectF plots = area.adjusted(labels + 12, 2 * line + 8, -10, -2 * line - 6);
    m_y.from = plots.bottom();
    m_y.to = plots.top();
    placePanels(plots);
    m_marks.clear();
    for (const RankPanel& panel : m_panels) {
        placeMarks(panel, quantity);
    }
}

void RankLayout::placePanels(const QRectF& plots)
{
    double weight = 0;
    for (RankPanel& panel : m_panels) {
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
    double left = plots.left();
    const double room = plots.width() - kGap * (static_cast<double>(m_panels.size()) - 1);
    for (RankPanel& panel : m_panels) {
        const double width = room * std::sqrt(panel.lastX - panel.firstX) / weight;
        panel.plot = QRectF(left, plots.top(), width, plots.height());
        left += width + kGap;
    }
}

void RankLayout::placeMarks(const RankPanel& panel, Quantity quantity)
{
    const common::Axis x = panel.x();
    const std::vector<Curve> curves = m_state.curves();
    const double unit = (x.to - x.from) / std::max(1.0, panel.lastX - panel.firstX);
    std::map<double, int> atDepth;
    std::map<double, int> counts;
    for (const std::size_t layer : panel.layers) {
        ++counts[xOf(panel, layer)];
    }
    for (const std::size_t layer : panel.layers) {
        const double depth = xOf(panel, layer);
        const double count = counts[depth];
        const double shift = (static_cast<double>(atDepth[depth]++) + 0.5) / count - 0.5;
        for (std::size_t c = 0; c < curves.size(); ++c) {
            const double inner =
                curves.size() > 1 ? (static_cast<double>(c) / static_cast<double>(curves.size() - 1) - 0.5) : 0;
            const double pixel = x.pixel(depth) + unit * 0.8 * (shift + 0.4 * inner / count);
            for (const bool other : { true, false }) {
                placeMark({ pixel, 0 }, layer, curves[c], other, quantity);
            }
        }
    }
}

void RankLayout::placeMark(const QPointF& at, std::size_t layer, Curve curve, bool other, Quantity quantity)
{
    const int index = other ? m_state.otherIndex(layer) : static_cast<int>(layer);
    if (index < 0) {
        return;
    }
    const bridge::SpectraSet& set = other ? *m_state.other() : m_state.set();
    const auto place = static_cast<std::size_t>(index);
    const double value = quantityOf(set, place, curve, quantity, m_state.eta());
    if (std::isfinite(value)) {
        m_marks.push_back({ .at = { at.x(), m_y.pixel(value) },
                            .layer = layer,
                            .curve = curve,
                            .other = other,
                            .estimate = set.at(place, curve)->pass == data::SpectrumPass::Coarse,
                            .value = value });
    }
}

const RankMark* RankLayout::markAt(const QPointF& at) const
{
    const RankMark* best = nullptr;
    double nearest = kReach;
    for (const RankMark& mark : m_marks) {
        const double distance = std::hypot(mark.at.x() - at.x(), mark.at.y() - at.y());
        if (distance < nearest || (best != nullptr && best->other && !mark.other && distance <= nearest)) {
            nearest = distance;
            best = &mark;
        }
    }
    return best;
}

std::optional<QPointF> RankLayout::placeOf(const QString& path, Curve curve) const
{
    const int layer = m_state.set().indexOf(path);
    for (const RankMark& mark : m_marks) {
        if (static_cast<int>(mark.layer) == layer && mark.curve == curve && !mark.other) {
            return mark.at;
        }
    }
    return std::nullopt;
}

} // namespace rankwise::spectra_view
