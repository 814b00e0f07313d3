// Curves over a common x: live telemetry, spectra. Wheel zooms in x, dragging moves, double click shows all; the
// pointer reads values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"
#include "widgets/common/series.h"

#include <QString>

#include <memory>
#include <optional>
#include <vector>

namespace rankwise::common {

/// Thread: GUI.
class LineChart : public Chart {
    Q_OBJECT

public:
    struct Curve {
        QString name; ///< Empty: a helping line, without legend, reading and column.
        std::shared_ptr<Series> series;
        std::size_t color = 0; ///< Of the theme's series colours.
        bool faint = false;    ///< An overlaid run: thinner, paler.
    };

    LineChart(QString title, QString xLabel, QString yLabel, QObject* parent = nullptr);

    void setCurves(std::vector<Curve> curves);
    [[nodiscard]] const std::vector<Curve>& curves() const { return m_curves; }
    /// Points were added to the curves' series.
    void seriesGrew();
    void setYLabel(const QString& label);
    void setLogarithmic(bool on);
    [[nodiscard]] bool logarithmic() const { return m_logarithmic; }
    void setXIsInteger(bool on) { m_xIsInteger = on; }
    /// A vertical line, e.g. the selected step; nothing hides it.
    void setMarker(std::optional<double> x);
    /// x range shown; nothing: all.
    [[nodiscard]] std::optional<std::pair<double, double>> view() const { return m_view; }
    void setView(std::optional<std::pair<double, double>> range);

    void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override;
    [[nodiscard]] QString summary() const override;
    void hover(const QPointF& at) override;
    void leave() override;
    void press(const QPointF& at) override;
    void drag(const QPointF& at) override;
    void release(const QPointF& at) override;
    void wheel(const QPointF& at, double steps) override;
    void doubleClick(const QPointF& at) override;
    bool key(int key) override;

Q_SIGNALS:
    void clicked(double x); ///< A click without dragging.

private:
    [[nodiscard]] std::pair<double, double> xRange() const;
    [[nodiscard]] Series::Extent yRange(double xLow, double xHigh) const;
    void paintCurve(PlotSurface& surface, const Curve& curve, const Axis& x, const Axis& y, const Theme& theme) const;
    void paintReading(PlotSurface& surface, const QRectF& plot, const Axis& x, const Theme& theme) const;
    void resetTable();

    QString m_xLabel;
    QString m_yLabel;
    std::vector<Curve> m_curves;
    std::optional<std::pair<double, double>> m_view;
    std::optional<double> m_marker;
    std::optional<QPointF> m_pointer;
    QPointF m_pressed;
    std::pair<double, double> m_pressedView;
    bool m_dragging = false;
    bool m_logarithmic = false;
    bool m_xIsInteger = true;
    Axis m_x; ///< Of the last paint.
};

} // namespace rankwise::common
