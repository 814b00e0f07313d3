// A number of every layer against its depth, one panel for each part of the model: k(η), effective rank, and so on.
// W, ΔW and W′ side by side; a second subject as hollow marks. A click selects a layer, dragging brushes a region.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"
#include "widgets/spectra/rank_layout.h"
#include "widgets/spectra/spectra_state.h"

#include <optional>
#include <vector>

namespace rankwise::spectra_view {

/// Thread: GUI.
class RankChart : public common::Chart {
    Q_OBJECT

public:
    explicit RankChart(SpectraState& state, QObject* parent = nullptr);

    void setQuantity(Quantity quantity);
    [[nodiscard]] Quantity quantity() const { return m_quantity; }

    void paint(common::PlotSurface& surface, const QRectF& area, const common::Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override;
    [[nodiscard]] QString emptyText() const override
    {
        return tr("No spectra yet: open a checkpoint and compute them");
    }
    [[nodiscard]] QString summary() const override;
    void hover(const QPointF& at) override;
    void leave() override;
    void press(const QPointF& at) override;
    void drag(const QPointF& at) override;
    void release(const QPointF& at) override;
    bool key(int key) override;

    /// Where the mark of a layer and curve was drawn last; nothing when it was not.
    [[nodiscard]] std::optional<QPointF> placeOf(const QString& path, Curve curve) const
    {
        return m_layout.placeOf(path, curve);
    }

Q_SIGNALS:
    void picked(const QStringList& layers); ///< Empty: nothing.

private:
    void refresh();
    void fillTable();
    void paintPanel(common::PlotSurface& surface, const RankPanel& panel, const common::Theme& theme, bool first);
    void paintMark(common::PlotSurface& surface, const RankMark& mark, const common::Theme& theme) const;
    void paintLegend(common::PlotSurface& surface, const QRectF& area, const common::Theme& theme) const;
    void paintReading(common::PlotSurface& surface, const QRectF& area, const common::Theme& theme) const;

    SpectraState& m_state;
    Quantity m_quantity = Quantity::Rank;
    RankLayout m_layout; ///< Of the last paint.
    std::optional<QPointF> m_pointer;
    QPointF m_pressed;
    std::optional<QRectF> m_brush;
};

} // namespace rankwise::spectra_view
