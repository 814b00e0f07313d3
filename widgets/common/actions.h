// QActions, menus and tool buttons made from the list of commands.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"

#include <QHash>
#include <QObject>

class QAction;
class QMenu;
class QToolButton;
class QWidget;

namespace rankwise::common {

/// One QAction a command, with its key, kept up to date. The right button on a tool button copies the command line.
class ActionBinder : public QObject {
    Q_OBJECT

public:
    /// Keys work in all of `window`.
    ActionBinder(bridge::CommandRegistry& registry, QWidget* window);

    [[nodiscard]] QAction* action(const QString& id) const;
    void fillMenu(QMenu& menu, const QStringList& ids) const; ///< An empty id is a separator.
    [[nodiscard]] QToolButton* button(const QString& id, QWidget* parent = nullptr) const;
    /// Copies the shell line of a command.
    void copyCommandLine(const QString& id) const;

Q_SIGNALS:
    void message(const QString& text) const;

private:
    void add(const QString& id);
    void refreshKeys();
    void refreshState();

    bridge::CommandRegistry& m_registry;
    QWidget* m_window;
    QHash<QString, QAction*> m_actions;
};

} // namespace rankwise::common
