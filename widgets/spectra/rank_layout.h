// Where the marks of the chart of ranks lie: a panel for each part of the model, layers by depth, projections of one
// depth and curves of one layer side by side. Pure geometry: RankChart draws it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"
#include "widgets/spectra/spectra_state.h"

#include <QPointF>
#include <QRectF>

#include <optional>
#include <vector>

namespace rankwise::spectra_view {

/// Layers of one part of the model.
struct RankPanel {
    std::int64_t group = 0;
    std::vector<std::size_t> layers; ///< Of the first subject.
    std::int64_t lastDepth = -1;     ///< -1: the layers stand outside of stacks.
    QRectF plot;
    double firstX = 0, lastX = 1;

    [[nodiscard]] common::Axis x() const
    {
        return { .low = firstX, .high = lastX, .from = plot.left(), .to = plot.right() };
    }
};

/// One number of one layer.
struct RankMark {
    QPointF at;
    std::size_t layer = 0;
    Curve curve = Curve::Base;
    bool other = false; ///< Of the second subject.
    bool estimate = false;
    double value = 0;
};

class RankLayout {
public:
    explicit RankLayout(const SpectraState& state) : m_state(state) { }

    /// Takes over the layers; marks follow with place().
    void setLayers();
    /// Lays panels and marks into `area`, whose texts have the size of `surface`.
    void place(common::PlotSurface& surface, const QRectF& area, Quantity quantity);

    [[nodiscard]] const std::vector<RankPanel>& panels() const { return m_panels; }
    [[nodiscard]] const std::vector<RankMark>& marks() const { return m_marks; }
    [[nodiscard]] const common::Axis& y() const { return m_y; }
    /// The mark under a point; nullptr: none near.
    [[nodiscard]] const RankMark* markAt(const QPointF& at) const;
    /// Where the mark of a layer and curve of the first subject lies; nothing when it was not placed.
    [[nodiscard]] std::optional<QPointF> placeOf(const QString& path, Curve curve) const;

private:
    [[nodiscard]] double largest(Quantity quantity) const;
    [[nodiscard]] double xOf(const RankPanel& panel, std::size_t layer) const;
    void placePanels(const QRectF& plots);
    void placeMarks(const RankPanel& panel, Quantity quantity);
    void placeMark(const QPointF& at, std::size_t layer, Curve curve, bool other, Quantity quantity);

    const SpectraState& m_state;
    std::vector<RankPanel> m_panels;
    std::vector<RankMark> m_marks;
    common::Axis m_y;
};

} // namespace rankwise::spectra_view
