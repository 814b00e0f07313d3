// VTK in a QOpenGLWidget: the 3D canvas. Draws a vtkRenderer that its user fills; renders only when asked to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QImage>
#include <QOpenGLWidget>

#include <cstdint>
#include <memory>

class vtkRenderer;

namespace rankwise::common {

/// Orbit with the left button, pan with the middle one or Shift, zoom with the wheel, R resets. Thread: GUI.
class VtkView : public QOpenGLWidget {
    Q_OBJECT

public:
    explicit VtkView(QWidget* parent = nullptr);
    ~VtkView() override;

    [[nodiscard]] vtkRenderer* renderer() const;
    /// Looks from `azimuth` and `elevation` (degrees) at a point, from `distance` away. Also what R goes back to.
    void setHome(double x, double y, double z, double distance, double azimuth, double elevation);
    /// Draws soon; many calls in one turn of the event loop draw once.
    void render();
    /// The picture at `scale` times the present size.
    [[nodiscard]] QImage picture(double scale);
    [[nodiscard]] std::uint64_t paintCount() const { return m_paintCount; }
    [[nodiscard]] double paintSeconds() const { return m_paintSeconds; }

Q_SIGNALS:
    void glFailed(); ///< No OpenGL: the table is what is left.
    void cameraMoved();

protected:
    void initializeGL() override;
    void resizeGL(int width, int height) override;
    void paintGL() override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;

private:
    void releaseGl();
    void goHome();
    void applyTheme();
    void drawScene();

    struct Impl;
    std::unique_ptr<Impl> m_impl;
    std::uint64_t m_paintCount = 0;
    double m_paintSeconds = 0;
};

} // namespace rankwise::common
