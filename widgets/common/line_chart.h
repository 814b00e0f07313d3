// Curves over a common x: live telemetry, spectra. Wheel, drag and box zoom, a crosshair that reads all curves,
// logarithmic y, smoothing; all by keyboard too: usage() lists it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"
#include "widgets/common/series.h"

#include <QString>
#include <QStringList>

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
        bool broad = false;    ///< Wide, and under the others: a curve that may coincide with it stays visible.
    };

    LineChart(QString title, QString xLabel, QString yLabel, QObject* parent = nullptr);

    void setCurves(std::vector<Curve> curves);
    [[nodiscard]] const std::vector<Curve>& curves() const { return m_curves; }
    /// Points were added to the curves' series.
    void seriesGrew();
    void setYLabel(const QString& label);
    /// Points that are not above 0 are left out while it is on.
    void setLogarithmic(bool on);
    [[nodiscard]] bool logarithmic() const { return m_logarithmic; }
    /// Exponential moving average with this weight of the past, in [0, 0.999], without the pull of its start. The
    /// raw curve stays behind it, faint. 0: none.
    void setSmoothing(double weight);
    [[nodiscard]] double smoothing() const { return m_smoothing; }
    /// What smoothing makes of a curve; nullptr without smoothing.
    [[nodiscard]] const Series* smoothed(std::size_t curve) const;
    void setXIsInteger(bool on) { m_xIsInteger = on; }
    /// A vertical line, e.g. the selected step; nothing hides it.
    void setMarker(std::optional<double> x);
    /// x range shown; nothing: all.
    [[nodiscard]] std::optional<std::pair<double, double>> view() const { return m_view; }
    void setView(std::optional<std::pair<double, double>> range);
    /// y range shown; nothing: what fits the curves.
    [[nodiscard]] std::optional<std::pair<double, double>> yView() const { return m_yView; }
    void setYView(std::optional<std::pair<double, double>> range);
    /// x that the crosshair reads at, from the pointer or the keys "," and "."; nothing: there is none.
    [[nodiscard]] std::optional<double> crosshair() const { return m_crosshair; }
    void setCrosshair(std::optional<double> x);
    /// Every curve's name and value at the crosshair, as shown beside it.
    [[nodiscard]] QStringList reading() const;

    void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override;
    [[nodiscard]] QString summary() const override;
    void hover(const QPointF& at) override;
    void leave() override;
    void press(const QPointF& at) override;
    void pressBox(const QPointF& at) override;
    void drag(const QPointF& at) override;
    void release(const QPointF& at) override;
    void wheel(const QPointF& at, double steps) override;
    void wheelUpright(const QPointF& at, double steps) override;
    void doubleClick(const QPointF& at) override;
    bool key(int key) override;
    [[nodiscard]] QStringList usage() const override;

Q_SIGNALS:
    void viewChanged(); ///< view() has another value.
    void crosshairChanged();
    void logarithmicChanged(bool on);
    void clicked(double x); ///< A click without dragging.

private:
    /// The moving average of one curve, carried on as the curve grows.
    struct Average {
        std::shared_ptr<Series> series;
        std::size_t taken = 0;
        double sum = 0;
        double weight = 0; ///< Of what was taken so far: 1 - smoothing^count.
    };
    [[nodiscard]] std::pair<double, double> xRange() const;
    [[nodiscard]] Series::Extent yRange(double xLow, double xHigh) const;
    [[nodiscard]] double leastPositive(double xLow, double xHigh) const;
    [[nodiscard]] Axis yAxis(double xLow, double xHigh) const;
    void paintCurves(PlotSurface& surface, const Axis& y, const Theme& theme) const;
    void paintCurve(PlotSurface& surface, const Series& series, const QColor& color, double width, const Axis& y) const;
    void paintMarks(PlotSurface& surface, std::size_t curve, const Axis& y, const Theme& theme) const;
    void paintLegend(PlotSurface& surface, const QRectF& plot, const Theme& theme) const;
    void paintReading(PlotSurface& surface, const QRectF& plot, const Theme& theme) const;
    void average();
    void zoomTo(const QRectF& box);
    void stepCrosshair(int by);
    void resetTable();

    QString m_xLabel;
    QString m_yLabel;
    std::vector<Curve> m_curves;
    std::vector<Average> m_averages; ///< By curve; empty without smoothing.
    std::optional<std::pair<double, double>> m_view;
    std::optional<std::pair<double, double>> m_yView;
    std::optional<double> m_marker;
    std::optional<double> m_crosshair;
    double m_readingY = 0; ///< Where the reading stands, pixels.
    QPointF m_pressed;
    std::pair<double, double> m_pressedView;
    std::pair<double, double> m_pressedYView;
    std::optional<QRectF> m_box; ///< Drawn while a box is dragged.
    bool m_dragging = false;
    bool m_logarithmic = false;
    bool m_xIsInteger = true;
    double m_smoothing = 0;
    Axis m_x, m_y; ///< Of the last paint.
};

} // namespace rankwise::common
