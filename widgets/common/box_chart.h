// Box plots in panels: quantiles per layer with mean and median, reference marks (step 0) and level lines.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"

#include <array>
#include <optional>
#include <vector>

namespace rankwise::common {

/// Thread: GUI.
class BoxChart : public Chart {
    Q_OBJECT

public:
    struct Box {
        QString name;                       ///< Short, drawn below where it fits.
        QString path;                       ///< Whole name.
        std::array<double, 5> quantiles {}; ///< 0, 25, 50, 75, 100 %.
        double mean = 0;
        std::optional<double> reference; ///< Mean at step 0.
        std::optional<std::array<double, 5>> referenceQuantiles;
    };
    struct Panel {
        QString title;
        std::vector<Box> boxes;
    };

    BoxChart(QString title, QString valueTitle, QObject* parent = nullptr);

    /// `top`: upper end of the common y axis (the capacity); 0: from the data.
    void setPanels(std::vector<Panel> panels, double top);
    /// Dashed level lines with their names, e.g. 28 and 115.
    void setLevels(std::vector<std::pair<double, QString>> levels);
    void setReferenceName(const QString& name) { m_referenceName = name; }
    void setShowReference(bool on);
    /// Highlights the box of this path.
    void selectPath(const QString& path);

    void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override;
    [[nodiscard]] QString summary() const override;
    [[nodiscard]] QString emptyText() const override;
    void hover(const QPointF& at) override;
    void leave() override;
    void press(const QPointF& at) override;

Q_SIGNALS:
    void picked(const QString& path);

private:
    void paintPanel(PlotSurface& surface, const QRectF& area, const Panel& panel, double top, const QColor& color,
                    const Theme& theme);
    void paintBox(PlotSurface& surface, const Box& box, double center, double half, const Axis& y, const QColor& color,
                  const Theme& theme) const;
    [[nodiscard]] const Box* boxAt(const QPointF& at) const;

    struct Place {
        QRectF rect;
        const Box* box;
    };
    QString m_valueTitle;
    QString m_referenceName;
    std::vector<Panel> m_panels;
    std::vector<std::pair<double, QString>> m_levels;
    std::vector<Place> m_places; ///< Of the last paint.
    QString m_selected;
    std::optional<QPointF> m_pointer;
    double m_top = 0;
    bool m_showReference = true;
};

} // namespace rankwise::common
