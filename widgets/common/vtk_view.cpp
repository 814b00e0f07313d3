// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/vtk_view.h"

#include "backend/base/log.h"
#include "widgets/common/theme.h"

#include <QElapsedTimer>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QOpenGLContext>
#include <QOpenGLExtraFunctions>
#include <QWheelEvent>

#include <vtkAutoInit.h>
#include <vtkCallbackCommand.h>
#include <vtkCamera.h>
#include <vtkCameraPass.h>
#include <vtkGenericOpenGLRenderWindow.h>
#include <vtkLightsPass.h>
#include <vtkNew.h>
#include <vtkOpaquePass.h>
#include <vtkOpenGLFramebufferObject.h>
#include <vtkOpenGLState.h>
#include <vtkOutputWindow.h>
#include <vtkOverlayPass.h>
#include <vtkRenderer.h>
#include <vtkRenderPassCollection.h>
#include <vtkSequencePass.h>
#include <vtkSmartPointer.h>
#include <vtkTranslucentPass.h>

#include <algorithm>
#include <cmath>
#include <numbers>

VTK_MODULE_INIT(vtkRenderingOpenGL2)
VTK_MODULE_INIT(vtkRenderingFreeType)

namespace rankwise::common {

namespace {

/// VTK's complaints go to the log instead of standard error.
class LogWindow : public vtkOutputWindow {
public:
    static LogWindow* New() { return new LogWindow; }
    void DisplayText(const char* text) override { log::debug("vtk", "{}", text != nullptr ? text : ""); }
    void DisplayErrorText(const char* text) override { log::warn("vtk", "{}", text != nullptr ? text : ""); }
    void DisplayWarningText(const char* text) override { log::debug("vtk", "{}", text != nullptr ? text : ""); }
};

void installLogWindow()
{
    static const bool kDone = [] {
        const vtkSmartPointer<LogWindow> window = vtkSmartPointer<LogWindow>::New();
        vtkOutputWindow::SetInstance(window);
        return true;
    }();
    (void)kDone;
}

/// Camera, lights, solids, glass, labels, straight into the framebuffer. VTK's own way draws glass into textures of
/// floating point numbers first, so that its order does not matter; by software that doubles the time of a frame in the
/// thread of the window.
vtkSmartPointer<vtkCameraPass> directPass()
{
    vtkNew<vtkRenderPassCollection> passes;
    passes->AddItem(vtkNew<vtkLightsPass>());
    passes->AddItem(vtkNew<vtkOpaquePass>());
    passes->AddItem(vtkNew<vtkTranslucentPass>());
    passes->AddItem(vtkNew<vtkOverlayPass>());
    vtkNew<vtkSequencePass> sequence;
    sequence->SetPasses(passes);
    auto camera = vtkSmartPointer<vtkCameraPass>::New();
    camera->SetDelegatePass(sequence);
    return camera;
}

} // namespace

struct VtkView::Impl {
    vtkNew<vtkGenericOpenGLRenderWindow> window;
    vtkNew<vtkRenderer> renderer;
    vtkNew<vtkCallbackCommand> callback;
    QPointF last;
    double focus[3] = { 0, 0, 0 };
    double distance = 1;
    double azimuth = 45;
    double elevation = 25;
    bool ready = false;
};

VtkView::VtkView(QWidget* parent) : QOpenGLWidget(parent), m_impl(std::make_unique<Impl>())
{
    installLogWindow();
    Impl& p = *m_impl;
    p.window->SetReadyForRendering(false);
    p.window->SetOwnContext(0);
    p.window->SetFrameBlitModeToNoBlit();
    p.window->SetMultiSamples(0);
    p.renderer->SetPass(directPass());
    p.window->AddRenderer(p.renderer);
    p.callback->SetClientData(this);
    p.callback->SetCallback([](vtkObject*, unsigned long id, void* self, void* answer) {
        auto* view = static_cast<VtkView*>(self);
        switch (id) {
        case vtkCommand::WindowMakeCurrentEvent:
            // QOpenGLWidget::makeCurrent() also binds its framebuffer, which must not happen while VTK draws into its
            // own.
            if (QOpenGLContext::currentContext() != view->context()) {
                view->makeCurrent();
            }
            break;
        case vtkCommand::WindowIsCurrentEvent:
            *static_cast<bool*>(answer) = QOpenGLContext::currentContext() == view->context();
            break;
        case vtkCommand::WindowSupportsOpenGLEvent:
            *static_cast<int*>(answer) = 1;
            break;
        case vtkCommand::WindowIsDirectEvent:
            *static_cast<int*>(answer) = 1;
            break;
        default:
            break;
        }
    });
    for (const auto event :
         { vtkCommand::WindowMakeCurrentEvent, vtkCommand::WindowIsCurrentEvent, vtkCommand::WindowFrameEvent,
           vtkCommand::WindowSupportsOpenGLEvent, vtkCommand::WindowIsDirectEvent }) {
        p.window->AddObserver(event, p.callback);
    }
    setFocusPolicy(Qt::StrongFocus);
    connect(&ThemeSwitch::instance(), &ThemeSwitch::changed, this, &VtkView::applyTheme);
    applyTheme();
}

VtkView::~VtkView()
{
    // ~QOpenGLWidget announces the end of the context when this part of the object is gone already.
    if (context() != nullptr) {
        disconnect(context(), nullptr, this, nullptr);
    }
    releaseGl();
    m_impl->window->RemoveAllObservers();
}

vtkRenderer* VtkView::renderer() const
{
    return m_impl->renderer;
}

void VtkView::applyTheme()
{
    const QColor& color = currentTheme().base;
    m_impl->renderer->SetBackground(color.redF(), color.greenF(), color.blueF());
    // The widget is composed with the window: an opaque picture needs alpha 1 everywhere.
    m_impl->renderer->SetBackgroundAlpha(1);
    update();
}

void VtkView::initializeGL()
{
    if (context() == nullptr || !context()->isValid()) {
        QMetaObject::invokeMethod(this, &VtkView::glFailed, Qt::QueuedConnection);
        return;
    }
    connect(context(), &QOpenGLContext::aboutToBeDestroyed, this, &VtkView::releaseGl, Qt::DirectConnection);
    Impl& p = *m_impl;
    p.window->SetReadyForRendering(true);
    p.window->OpenGLInit();
    p.window->SetMapped(1);
    p.window->SetIsCurrent(true);
    p.ready = true;
}

void VtkView::resizeGL(int width, int height)
{
    const double ratio = devicePixelRatioF();
    m_impl->window->SetSize(static_cast<int>(width * ratio), static_cast<int>(height * ratio));
}

void VtkView::releaseGl()
{
    if (!m_impl->ready) {
        return;
    }
    makeCurrent();
    m_impl->window->Finalize();
    m_impl->window->SetReadyForRendering(false);
    m_impl->ready = false;
    doneCurrent();
}

void VtkView::drawScene()
{
    Impl& p = *m_impl;
    p.window->InitializeFromCurrentContext();
    vtkOpenGLState* state = p.window->GetState();
    state->Reset();
    state->Push();
    state->vtkglDepthFunc(GL_LEQUAL);
    p.window->SetIsCurrent(true);
    p.renderer->ResetCameraClippingRange();
    p.window->Render();

    QOpenGLExtraFunctions* gl = context()->extraFunctions();
    p.window->GetDisplayFramebuffer()->Bind(GL_READ_FRAMEBUFFER);
    gl->glBindFramebuffer(GL_DRAW_FRAMEBUFFER, defaultFramebufferObject());
    gl->glDisable(GL_SCISSOR_TEST);
    const int* size = p.window->GetSize();
    gl->glBlitFramebuffer(0, 0, size[0], size[1], 0, 0, size[0], size[1], GL_COLOR_BUFFER_BIT, GL_NEAREST);
    gl->glBindFramebuffer(GL_FRAMEBUFFER, defaultFramebufferObject());
    state->Pop();
}

void VtkView::paintGL()
{
    if (!m_impl->ready) {
        return;
    }
    QElapsedTimer watch;
    watch.start();
    drawScene();
    m_paintSeconds = static_cast<double>(watch.nsecsElapsed()) * 1e-9;
    ++m_paintCount;
}

void VtkView::render()
{
    update();
}

QImage VtkView::picture(double scale)
{
    const QImage shown = grabFramebuffer();
    const QSize size = (QSizeF(this->size()) * scale).toSize();
    return shown.size() == size ? shown : shown.scaled(size, Qt::IgnoreAspectRatio, Qt::SmoothTransformation);
}

void VtkView::setHome(double x, double y, double z, double distance, double azimuth, double elevation)
{
    Impl& p = *m_impl;
    p.focus[0] = x;
    p.focus[1] = y;
    p.focus[2] = z;
    p.distance = distance;
    p.azimuth = azimuth;
    p.elevation = elevation;
    goHome();
}

void VtkView::goHome()
{
    const Impl& p = *m_impl;
    const double a = p.azimuth * std::numbers::pi / 180;
    const double e = p.elevation * std::numbers::pi / 180;
    vtkCamera* camera = p.renderer->GetActiveCamera();
    camera->SetFocalPoint(p.focus);
    camera->SetPosition(p.focus[0] + p.distance * std::cos(e) * std::cos(a),
                        p.focus[1] + p.distance * std::cos(e) * std::sin(a), p.focus[2] + p.distance * std::sin(e));
    camera->SetViewUp(0, 0, 1);
    camera->SetViewAngle(35);
    update();
    Q_EMIT cameraMoved();
}

void VtkView::mousePressEvent(QMouseEvent* event)
{
    m_impl->last = event->position();
}

void VtkView::mouseMoveEvent(QMouseEvent* event)
{
    const QPointF delta = event->position() - m_impl->last;
    m_impl->last = event->position();
    vtkCamera* camera = m_impl->renderer->GetActiveCamera();
    const bool pan = (event->buttons() & Qt::MiddleButton)
        || ((event->buttons() & Qt::LeftButton) && (event->modifiers() & Qt::ShiftModifier));
    if (pan) {
        const double scale = 2 * camera->GetDistance() * std::tan(camera->GetViewAngle() * std::numbers::pi / 360)
            / std::max(1, height());
        double right[3];
        double up[3];
        double direction[3];
        camera->GetDirectionOfProjection(direction);
        camera->OrthogonalizeViewUp();
        camera->GetViewUp(up);
        for (int i = 0; i < 3; ++i) {
            right[i] = direction[(i + 1) % 3] * up[(i + 2) % 3] - direction[(i + 2) % 3] * up[(i + 1) % 3];
        }
        double position[3];
        double focal[3];
        camera->GetPosition(position);
        camera->GetFocalPoint(focal);
        for (int i = 0; i < 3; ++i) {
            const double shift = scale * (-delta.x() * right[i] + delta.y() * up[i]);
            position[i] += shift;
            focal[i] += shift;
        }
        camera->SetPosition(position);
        camera->SetFocalPoint(focal);
    } else if (event->buttons() & Qt::LeftButton) {
        camera->Azimuth(-delta.x() * 0.4);
        // Never over the poles: the world's up stays up.
        double direction[3];
        camera->GetDirectionOfProjection(direction);
        const double elevation = std::asin(std::clamp(-direction[2], -1.0, 1.0)) * 180 / std::numbers::pi;
        camera->Elevation(std::clamp(elevation + delta.y() * 0.4, -85.0, 85.0) - elevation);
        camera->SetViewUp(0, 0, 1);
    } else {
        return;
    }
    update();
    Q_EMIT cameraMoved();
}

void VtkView::wheelEvent(QWheelEvent* event)
{
    m_impl->renderer->GetActiveCamera()->Dolly(std::pow(1.1, event->angleDelta().y() / 120.0));
    update();
    Q_EMIT cameraMoved();
    event->accept();
}

void VtkView::keyPressEvent(QKeyEvent* event)
{
    vtkCamera* camera = m_impl->renderer->GetActiveCamera();
    switch (event->key()) {
    case Qt::Key_R:
        goHome();
        return;
    case Qt::Key_Left:
        camera->Azimuth(5);
        break;
    case Qt::Key_Right:
        camera->Azimuth(-5);
        break;
    case Qt::Key_Plus:
        camera->Dolly(1.1);
        break;
    case Qt::Key_Minus:
        camera->Dolly(1 / 1.1);
        break;
    default:
        QOpenGLWidget::keyPressEvent(event);
        return;
    }
    update();
}

} // namespace rankwise::common
