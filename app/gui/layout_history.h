// Puts what the user does to the docks on the undo stack: shown, hidden, moved, floated, put back. Sizes and raised
// tabs are no steps of their own; they come back with the step they belong to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QByteArray>
#include <QMainWindow>
#include <QMap>
#include <QObject>
#include <QString>
#include <QTimer>

#include <functional>

class QDockWidget;
class QUndoStack;

namespace rankwise::gui {

/// Compares the arrangement a moment after each change; what happens within a moment is one step. Thread: GUI.
class LayoutHistory : public QObject {
    Q_OBJECT

public:
    LayoutHistory(QMainWindow& window, QUndoStack& undo, QObject* parent = nullptr);

    void follow(QDockWidget& dock);
    /// Makes a change that is a step by itself, such as a command.
    void change(const QString& text, const std::function<void()>& change);
    /// Brings back an arrangement, as a session has it; not a step.
    void restore(const QByteArray& state);
    /// Something is waiting to become a step, perhaps.
    [[nodiscard]] bool pending() const { return m_later.isActive(); }
    /// Puts what is waiting on the stack now.
    void settle();

    /// Where a dock is, without its size.
    struct Place {
        QString title;
        bool hidden = false;
        bool floating = false;
        int area = 0;
        QStringList tabs; ///< Docks in the same tabs, sorted.

        bool operator==(const Place&) const = default;
    };
    using Places = QMap<QString, Place>;

protected:
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    class Edit;
    void look();
    void note();
    [[nodiscard]] Places places() const;

    QMainWindow& m_window;
    QUndoStack& m_undo;
    QTimer m_later;
    QByteArray m_state; ///< As of the last look.
    Places m_places;
    QString m_moved; ///< Title of a dock that was put somewhere since.
    bool m_shown = false;
    bool m_applying = false;
};

} // namespace rankwise::gui
