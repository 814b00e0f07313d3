// A chart in the window: title, canvas (OpenGL where there is one), table twin, export.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/canvas_frame.h"
#include "widgets/common/chart.h"

namespace rankwise::common {

class ImGuiView;

/// Shows `chart`, which it does not own. The canvas takes keyboard focus and passes mouse and keys to the chart.
class ChartView : public CanvasFrame {
    Q_OBJECT

public:
    explicit ChartView(Chart& chart, QWidget* parent = nullptr);

    [[nodiscard]] Chart& chart() const { return *m_chart; }
    /// The OpenGL canvas; nullptr while the chart is painted without OpenGL.
    [[nodiscard]] ImGuiView* glCanvas() const { return m_gl; }
    /// All chart views paint without OpenGL from now on (or with it again, where there is one).
    static void setSoftware(bool on);

protected:
    void paintPicture(QPainter& painter, const QSizeF& size) override;
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    void makeCanvas();

    Chart* m_chart;
    QWidget* m_canvas = nullptr;
    ImGuiView* m_gl = nullptr;
};

} // namespace rankwise::common
