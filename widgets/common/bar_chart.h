// Bars: histograms with a cut line, and stacked shares with named parts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"

#include <optional>
#include <utility>
#include <vector>

namespace rankwise::common {

/// Thread: GUI.
class BarChart : public Chart {
    Q_OBJECT

public:
    BarChart(QString title, QString xLabel, QString yLabel, QObject* parent = nullptr);

    /// One bar a category; `parts[i][j]` is the height of part j of bar i. One part: a plain histogram.
    /// `horizontal`: bars lie, with their names at the left.
    void setBars(QStringList names, QStringList partNames, std::vector<std::vector<double>> parts, bool horizontal);
    /// Values where the first bar begins and the last one ends; the axis of standing bars shows them instead of the
    /// bars' numbers. Nothing: numbers.
    void setRange(std::optional<std::pair<double, double>> range);
    /// A line after bar `index` with its words: "kept | cut at k".
    void setCut(std::optional<double> index, const QString& words = {});
    void setSelected(int bar);
    void setEmptyText(const QString& text) { m_emptyText = text; }

    void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override { return m_parts.empty(); }
    [[nodiscard]] QString emptyText() const override
    {
        return m_emptyText.isEmpty() ? Chart::emptyText() : m_emptyText;
    }
    [[nodiscard]] QString summary() const override;
    void hover(const QPointF& at) override;
    void leave() override;
    void press(const QPointF& at) override;

Q_SIGNALS:
    void picked(int bar);

private:
    [[nodiscard]] double height(std::size_t bar) const;
    [[nodiscard]] int barAt(const QPointF& at) const;
    void paintStanding(PlotSurface& surface, const QRectF& area, const Theme& theme);
    void paintLying(PlotSurface& surface, const QRectF& area, const Theme& theme);
    void paintLegend(PlotSurface& surface, const QPointF& right, double room, const Theme& theme) const;
    void paintReading(PlotSurface& surface, const QRectF& area, const Theme& theme) const;

    QString m_xLabel, m_yLabel, m_emptyText;
    QStringList m_names, m_partNames;
    std::vector<std::vector<double>> m_parts;
    bool m_horizontal = false;
    std::optional<std::pair<double, double>> m_range;
    std::optional<double> m_cut;
    QString m_cutWords;
    int m_selected = -1;
    std::optional<QPointF> m_pointer;
    QRectF m_plot;
};

} // namespace rankwise::common
