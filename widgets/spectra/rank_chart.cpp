// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/rank_chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>

namespace rankwise::spectra_view {

using bridge::numberText;
using bridge::toQString;

RankChart::RankChart(SpectraState& state, QObject* parent)
    : Chart(quantityName(Quantity::Rank, state.eta()), parent), m_state(state), m_layout(state)
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
    m_layout.setLayers();
    fillTable();
    setTitle(tr("%1 of each layer").arg(quantityName(m_quantity, m_state.eta())));
    Q_EMIT changed();
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
            const int there = m_state.otherIndex(i);
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
    const auto add = [&](const RankMark& mark) {
        const QString path = toQString(m_state.set().layers[mark.layer].path);
        if (!layers.contains(path)) {
            layers << path;
        }
    };
    if (m_brush) {
        for (const RankMark& mark : m_layout.marks()) {
            if (!mark.other && m_brush->contains(mark.at)) {
                add(mark);
            }
        }
    } else if (const RankMark* mark = m_layout.markAt(at)) {
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
