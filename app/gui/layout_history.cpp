// SPDX-License-Identifier: Apache-2.0
#include "app/gui/layout_history.h"

#include <QApplication>
#include <QDockWidget>
#include <QElapsedTimer>
#include <QEvent>
#include <QUndoCommand>
#include <QUndoStack>

#include <utility>

namespace rankwise::gui {

namespace {

constexpr int kLookMs = 300;
constexpr qint64 kOneStepMs = 1000; ///< Changes this close to each other are one step.
constexpr int kEditId = 0x4c61796f;

/// What changed, for the menu.
QString difference(const LayoutHistory::Places& before, const LayoutHistory::Places& after, const QString& moved)
{
    for (auto place = after.begin(); place != after.end(); ++place) {
        const LayoutHistory::Place& now = place.value();
        const LayoutHistory::Place was = before.value(place.key());
        if (was.hidden != now.hidden) {
            return now.hidden ? LayoutHistory::tr("Hide %1").arg(now.title)
                              : LayoutHistory::tr("Show %1").arg(now.title);
        }
        if (was.floating != now.floating) {
            return now.floating ? LayoutHistory::tr("Float %1").arg(now.title)
                                : LayoutHistory::tr("Dock %1").arg(now.title);
        }
        if (was != now && moved.isEmpty()) {
            return LayoutHistory::tr("Move %1").arg(now.title);
        }
    }
    return LayoutHistory::tr("Move %1").arg(moved);
}

} // namespace

/// One step. The first redo() does nothing: the change is made already.
class LayoutHistory::Edit : public QUndoCommand {
public:
    Edit(LayoutHistory& history, const QString& text, QByteArray before)
        : m_history(history), m_before(std::move(before)), m_after(history.m_state)
    {
        setText(text);
        m_age.start();
    }
    void undo() override { m_history.restore(m_before); }
    void redo() override
    {
        if (std::exchange(m_made, true)) {
            m_history.restore(m_after);
        }
    }
    [[nodiscard]] int id() const override { return kEditId; }
    bool mergeWith(const QUndoCommand* other) override
    {
        const auto* next = dynamic_cast<const Edit*>(other);
        if (next == nullptr || m_age.elapsed() > kOneStepMs) {
            return false;
        }
        m_after = next->m_after;
        m_age.restart();
        if (text() != next->text()) {
            setText(LayoutHistory::tr("Change layout"));
        }
        setObsolete(m_after == m_before);
        return true;
    }

private:
    LayoutHistory& m_history;
    QByteArray m_before;
    QByteArray m_after;
    QElapsedTimer m_age;
    bool m_made = false;
};

LayoutHistory::LayoutHistory(QMainWindow& window, QUndoStack& undo, QObject* parent)
    : QObject(parent), m_window(window), m_undo(undo)
{
    m_later.setSingleShot(true);
    m_later.setInterval(kLookMs);
    connect(&m_later, &QTimer::timeout, this, [this] {
        // While something is being dragged, it is nowhere yet.
        if (QApplication::mouseButtons() != Qt::NoButton) {
            m_later.start();
        } else {
            look();
        }
    });
    window.installEventFilter(this);
}

void LayoutHistory::follow(QDockWidget& dock)
{
    connect(&dock, &QDockWidget::visibilityChanged, this, &LayoutHistory::note);
    connect(&dock, &QDockWidget::topLevelChanged, this, &LayoutHistory::note);
    connect(&dock, &QDockWidget::dockLocationChanged, this, [this, &dock] {
        if (!m_applying && m_shown) {
            m_moved = dock.windowTitle();
        }
        note();
    });
    dock.installEventFilter(this);
}

void LayoutHistory::note()
{
    if (m_shown && !m_applying) {
        m_later.start();
    }
}

bool LayoutHistory::eventFilter(QObject* object, QEvent* event)
{
    if (object == &m_window && event->type() == QEvent::Show && !m_shown) {
        // The first layout of the window is nobody's step.
        QTimer::singleShot(0, this, [this] {
            m_shown = true;
            restore({});
        });
    } else if (object != &m_window && event->type() == QEvent::Resize) {
        note(); // So that a step goes back to the sizes just before it.
    }
    return QObject::eventFilter(object, event);
}

LayoutHistory::Places LayoutHistory::places() const
{
    Places places;
    const auto docks = m_window.findChildren<QDockWidget*>(QString(), Qt::FindDirectChildrenOnly);
    for (QDockWidget* dock : docks) {
        QStringList tabs;
        const auto others = m_window.tabifiedDockWidgets(dock);
        for (const QDockWidget* other : others) {
            tabs << other->objectName();
        }
        tabs.sort();
        places.insert(dock->objectName(),
                      { dock->windowTitle(), dock->isHidden(), dock->isFloating(),
                        static_cast<int>(m_window.dockWidgetArea(dock)), tabs });
    }
    return places;
}

void LayoutHistory::look()
{
    m_later.stop();
    const QByteArray before = std::exchange(m_state, m_window.saveState());
    const Places was = std::exchange(m_places, places());
    const QString moved = std::exchange(m_moved, QString());
    if (m_shown && (was != m_places || (!moved.isEmpty() && before != m_state))) {
        m_undo.push(new Edit(*this, difference(was, m_places, moved), before));
    }
}

void LayoutHistory::settle()
{
    if (m_later.isActive()) {
        look();
    }
}

void LayoutHistory::change(const QString& text, const std::function<void()>& change)
{
    settle();
    const QByteArray before = m_window.saveState();
    const Places was = places();
    m_applying = true;
    change();
    m_applying = false;
    restore({});
    if (was != m_places || before != m_state) {
        m_undo.push(new Edit(*this, text, before));
    }
}

void LayoutHistory::restore(const QByteArray& state)
{
    m_applying = true;
    if (!state.isEmpty()) {
        m_window.restoreState(state);
    }
    m_applying = false;
    m_later.stop();
    m_moved.clear();
    m_state = m_window.saveState();
    m_places = places();
}

} // namespace rankwise::gui
