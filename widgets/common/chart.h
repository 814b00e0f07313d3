// A canvas with numbers: draws itself on any surface, has a table with the same numbers, and answers the mouse.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/column_model.h"
#include "widgets/common/plot_surface.h"
#include "widgets/common/theme.h"

#include <QObject>
#include <QString>
#include <QStringList>

#include <vector>

namespace rankwise::common {

/// Base of all charts. Thread: GUI.
class Chart : public QObject {
    Q_OBJECT

public:
    explicit Chart(QString title, QObject* parent = nullptr);

    [[nodiscard]] const QString& title() const { return m_title; }
    void setTitle(const QString& title);

    /// Draws everything into `area`. Must not change the chart's data.
    virtual void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) = 0;
    /// The same numbers; owned by the chart.
    [[nodiscard]] bridge::ColumnModel* table() { return &m_table; }
    /// What a screen reader says of the picture: kind, range, last values.
    [[nodiscard]] virtual QString summary() const { return m_title; }
    /// Nothing to draw yet; the view then shows emptyText().
    [[nodiscard]] virtual bool isEmpty() const = 0;
    [[nodiscard]] virtual QString emptyText() const { return tr("No data yet"); }

    // The mouse, in the coordinates of the last paint().
    virtual void hover(const QPointF&) { }
    virtual void leave() { }
    virtual void press(const QPointF&) { }
    virtual void pressBox(const QPointF& at) { press(at); } ///< With Shift or Ctrl.
    virtual void drag(const QPointF&) { }
    virtual void release(const QPointF&) { }
    virtual void wheel(const QPointF&, double steps) { (void)steps; }
    virtual void wheelUpright(const QPointF& at, double steps) { wheel(at, steps); } ///< With Shift.
    virtual void doubleClick(const QPointF&) { }
    /// A key that the view has focus for; true when used.
    virtual bool key(int key)
    {
        (void)key;
        return false;
    }

    /// What mouse and keys do here, a line each; may be empty.
    [[nodiscard]] virtual QStringList usage() const { return {}; }

Q_SIGNALS:
    void changed(); ///< Draw again.
    void titleChanged();

protected:
    bridge::ColumnModel m_table;

private:
    QString m_title;
};

/// A linear or logarithmic axis from values to pixels.
struct Axis {
    double low = 0;
    double high = 1;
    double from = 0; ///< Pixel of `low`.
    double to = 1;   ///< Pixel of `high`.
    bool logarithmic = false;

    [[nodiscard]] double pixel(double value) const;
    [[nodiscard]] double value(double pixel) const;
    /// Round values to label, about `count` of them.
    [[nodiscard]] std::vector<double> ticks(int count) const;
};

/// Marks that have room on an upright axis of this many pixels.
[[nodiscard]] int tickCount(const PlotSurface& surface, double height);

/// Frame, grid and labels of a plot; returns nothing but changes nothing else.
void paintAxes(PlotSurface& surface, const QRectF& plot, const Axis& x, const Axis& y, const Theme& theme,
               const QString& xLabel, const QString& yLabel, bool xIsInteger = false);

/// Round numbers just outside of a range, so that curves do not touch the frame.
[[nodiscard]] std::pair<double, double> roundedRange(double low, double high);

} // namespace rankwise::common
