// A number of every layer against its depth, one panel for each part of the model: k(η), effective rank, and so on.
// W, ΔW and W′ side by side; a second subject as hollow marks. A click selects a layer, dragging brushes a region.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"
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
    [[nodiscard]] std::optional<QPointF> placeOf(const QString& path, Curve curve) const;

Q_SIGNALS:
    void picked(const QStringList& layers); ///< Empty: nothing.

private:
    struct Panel {
        std::int64_t group = 0;
        std::vector<std::size_t> layers; ///< Of the first subject.
        std::int64_t lastDepth = -1;     ///< -1: the layers stand outside of stacks.
        QRectF plot;
        double firstX = 0, lastX = 1;
    };
    struct Mark {
        QPointF at;
        std::size_t layer = 0;
        Curve curve = Curve::Base;
        bool other = false;
        bool estimate = false;
        double value = 0;
    };
    void refresh();
    void fillTable();
    void layOut(common::PlotSurface& surface, const QRectF& area);
    void paintPanel(common::PlotSurface& surface, const Panel& panel, const common::Theme& theme, bool first);
    void placeMarks(const Panel& panel);
    void paintMark(common::PlotSurface& surface, const Mark& mark, const common::Theme& theme) const;
    void paintReading(common::PlotSurface& surface, const QRectF& area, const common::Theme& theme) const;
    [[nodiscard]] double xOf(const Panel& panel, std::size_t layer) const;
    [[nodiscard]] const Mark* markAt(const QPointF& at) const;
    [[nodiscard]] int otherIndex(std::size_t layer) const;

    SpectraState& m_state;
    Quantity m_quantity = Quantity::Rank;
    std::vector<Panel> m_panels;
    std::vector<Mark> m_marks; ///< Of the last paint.
    std::vector<int> m_otherIndex;
    common::Axis m_y;
    std::optional<QPointF> m_pointer;
    QPointF m_pressed;
    std::optional<QRectF> m_brush;
};

} // namespace rankwise::spectra_view
