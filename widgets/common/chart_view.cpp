// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/chart_view.h"

#include "widgets/common/imgui_view.h"

#include <QKeyEvent>
#include <QLoggingCategory>
#include <QMouseEvent>
#include <QPainter>
#include <QSet>
#include <QWheelEvent>

namespace rankwise::common {

namespace {

bool& softwareCharts()
{
    static bool on = false;
    return on;
}

QSet<ChartView*>& allViews()
{
    static QSet<ChartView*> views;
    return views;
}

/// Paints a chart without OpenGL.
class PaintedCanvas : public QWidget {
public:
    explicit PaintedCanvas(Chart& chart) : m_chart(&chart)
    {
        setAttribute(Qt::WA_OpaquePaintEvent);
        connect(&chart, &Chart::changed, this, qOverload<>(&QWidget::update));
        connect(&ThemeSwitch::instance(), &ThemeSwitch::changed, this, qOverload<>(&QWidget::update));
    }

protected:
    void paintEvent(QPaintEvent*) override
    {
        QPainter painter(this);
        PainterSurface surface(painter);
        surface.fillRect(rect(), currentTheme().base);
        if (m_chart) {
            m_chart->paint(surface, rect(), currentTheme());
        }
    }

private:
    QPointer<Chart> m_chart;
};

} // namespace

ChartView::ChartView(Chart& chart, QWidget* parent) : CanvasFrame(chart.title(), chart.table(), parent), m_chart(&chart)
{
    setUsage(chart.usage());
    connect(&chart, &Chart::titleChanged, this, [this] { setTitle(m_chart->title()); });
    allViews().insert(this);
    connect(this, &QObject::destroyed, [view = this] { allViews().remove(view); });
    makeCanvas();
}

void ChartView::setSoftware(bool on)
{
    if (softwareCharts() == on) {
        return;
    }
    softwareCharts() = on;
    for (ChartView* view : std::as_const(allViews())) {
        view->makeCanvas();
    }
}

void ChartView::makeCanvas()
{
    m_gl = nullptr;
    if (!softwareCharts() && openGlWorks()) {
        m_gl = new ImGuiView(*m_chart);
        m_canvas = m_gl;
        connect(
            m_gl, &ImGuiView::glFailed, this, [] { setSoftware(true); }, Qt::QueuedConnection);
    } else {
        m_canvas = new PaintedCanvas(*m_chart);
    }
    m_canvas->setMouseTracking(true);
    m_canvas->setFocusPolicy(Qt::StrongFocus);
    m_canvas->setAccessibleName(m_chart->title());
    m_canvas->setAccessibleDescription(tr("A picture; the Table button shows the same numbers."));
    m_canvas->installEventFilter(this);
    setCanvas(m_canvas);
}

void ChartView::paintPicture(QPainter& painter, const QSizeF& size)
{
    PainterSurface surface(painter);
    surface.fillRect(QRectF(QPointF(), size), currentTheme().base);
    const double heading = surface.lineHeight() + 8;
    surface.text({ 8, 4 }, title(), currentTheme().text, Qt::AlignLeft | Qt::AlignTop, 1.1);
    m_chart->paint(surface, QRectF(0, heading, size.width(), size.height() - heading), currentTheme());
}

bool ChartView::eventFilter(QObject* object, QEvent* event)
{
    if (object != m_canvas) {
        return CanvasFrame::eventFilter(object, event);
    }
    const auto at = [event] { return static_cast<QMouseEvent*>(event)->position(); };
    switch (event->type()) {
    case QEvent::MouseMove:
        if (static_cast<QMouseEvent*>(event)->buttons() & Qt::LeftButton) {
            m_chart->drag(at());
        } else {
            m_chart->hover(at());
        }
        break;
    case QEvent::Leave:
        m_chart->leave();
        break;
    case QEvent::MouseButtonPress:
        if (static_cast<QMouseEvent*>(event)->button() == Qt::LeftButton) {
            const auto held = static_cast<QMouseEvent*>(event)->modifiers();
            const bool box = held.testFlag(Qt::ShiftModifier) || held.testFlag(Qt::ControlModifier);
            box ? m_chart->pressBox(at()) : m_chart->press(at());
        }
        break;
    case QEvent::MouseButtonRelease:
        if (static_cast<QMouseEvent*>(event)->button() == Qt::LeftButton) {
            m_chart->release(at());
        }
        break;
    case QEvent::MouseButtonDblClick:
        m_chart->doubleClick(at());
        break;
    case QEvent::Wheel: {
        const auto* wheel = static_cast<QWheelEvent*>(event);
        // Alt and some mice turn the wheel sideways.
        const double steps = (wheel->angleDelta().y() != 0 ? wheel->angleDelta().y() : wheel->angleDelta().x()) / 120.0;
        if (wheel->modifiers().testFlag(Qt::ShiftModifier)) {
            m_chart->wheelUpright(wheel->position(), steps);
        } else {
            m_chart->wheel(wheel->position(), steps);
        }
        return true;
    }
    case QEvent::KeyPress:
        if (m_chart->key(static_cast<QKeyEvent*>(event)->key())) {
            return true;
        }
        break;
    case QEvent::FocusIn:
        m_canvas->setAccessibleDescription(m_chart->summary());
        break;
    default:
        break;
    }
    return false;
}

} // namespace rankwise::common
