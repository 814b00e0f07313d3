// Dear ImGui in a QOpenGLWidget: the fast canvas of live charts. Draws one chart over its whole area, repaints only
// when the chart or the theme changed, and tells when OpenGL is not there.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"

#include <QOpenGLWidget>
#include <QPointer>

#include <memory>

struct ImGuiContext;

namespace rankwise::common {

/// Sets the OpenGL version that ImGui and VTK need. Before the first window; see also openGlWorks().
void setDefaultGlFormat();
/// Whether a context of that version can be made on this display; asks once and remembers.
[[nodiscard]] bool openGlWorks();

/// Thread: GUI.
class ImGuiView : public QOpenGLWidget {
    Q_OBJECT

public:
    explicit ImGuiView(Chart& chart, QWidget* parent = nullptr);
    ~ImGuiView() override;

    /// Seconds that the last paint took in the GUI thread, and how many paints there were.
    [[nodiscard]] double paintSeconds() const { return m_paintSeconds; }
    [[nodiscard]] std::uint64_t paintCount() const { return m_paintCount; }

Q_SIGNALS:
    /// The context was lost or never came: draw by other means.
    void glFailed();

protected:
    void initializeGL() override;
    void paintGL() override;
    void changeEvent(QEvent* event) override;

private:
    class Surface;
    void releaseGl();
    void buildFonts();

    QPointer<Chart> m_chart;
    ImGuiContext* m_context = nullptr;
    std::unique_ptr<Surface> m_surface;
    QByteArray m_fontFile;
    double m_fontPixels = 0;
    double m_paintSeconds = 0;
    std::uint64_t m_paintCount = 0;
    bool m_ready = false;
};

} // namespace rankwise::common
