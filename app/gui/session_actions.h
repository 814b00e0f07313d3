// The commands, the menu and the dialogs of named sessions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/sessions.h"
#include "widgets/bridge/commands.h"
#include "widgets/common/palette.h"

#include <QDialog>
#include <QObject>

#include <functional>

class QLabel;
class QListWidget;
class QMenu;
class QPushButton;

namespace rankwise::gui {

/// Thread: GUI.
class SessionActions : public QObject {
    Q_OBJECT

public:
    SessionActions(Sessions& sessions, QWidget& window);

    void addCommands(bridge::CommandRegistry& commands);
    /// Sessions to go to, and what can be done with them.
    void fillMenu(QMenu& menu) const;
    [[nodiscard]] common::PaletteSource paletteSource();

    void askSaveAs();
    void askNew();
    void askRename(const QString& name);
    void askDelete(const QString& name);
    void showDialog();

private:
    /// Asks for a name; `done` gets it.
    void ask(const QString& title, const QString& label, const QString& proposal,
             std::function<void(const QString&)> done);

    Sessions& m_sessions;
    QWidget& m_window;
    bridge::CommandRegistry* m_commands = nullptr;
};

/// All sessions in a list, with what can be done with each. Not modal.
class SessionsDialog : public QDialog {
    Q_OBJECT

public:
    SessionsDialog(Sessions& sessions, SessionActions& actions, QWidget* parent);
    [[nodiscard]] QListWidget& list() { return *m_list; }

private:
    void refill();
    void refreshButtons();
    [[nodiscard]] QString current() const;

    Sessions& m_sessions;
    QListWidget* m_list;
    QPushButton* m_open;
    QPushButton* m_rename;
    QPushButton* m_delete;
};

} // namespace rankwise::gui
