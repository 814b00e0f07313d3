// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/actions.h"

#include <QAction>
#include <QApplication>
#include <QClipboard>
#include <QKeySequence>
#include <QMenu>
#include <QToolButton>

namespace rankwise::common {

ActionBinder::ActionBinder(bridge::CommandRegistry& registry, QWidget* window)
    : QObject(window), m_registry(registry), m_window(window)
{
    for (const bridge::Command& command : registry.commands()) {
        add(command.id);
    }
    connect(&registry, &bridge::CommandRegistry::added, this, &ActionBinder::add);
    connect(&registry, &bridge::CommandRegistry::keysChanged, this, &ActionBinder::refreshKeys);
    connect(&registry, &bridge::CommandRegistry::stateChanged, this, &ActionBinder::refreshState);
}

void ActionBinder::add(const QString& id)
{
    const bridge::Command& command = *m_registry.find(id);
    QAction*& action = m_actions[id];
    if (action == nullptr) {
        action = new QAction(this);
        action->setShortcutContext(Qt::WindowShortcut);
        m_window->addAction(action);
        connect(action, &QAction::triggered, this, [this, id] {
            m_registry.trigger(id);
            refreshState();
        });
    }
    action->setText(command.text);
    action->setObjectName(id);
    action->setCheckable(command.checkable);
    action->setToolTip(command.help.isEmpty() ? command.text : command.help);
    action->setStatusTip(action->toolTip());
    action->setShortcut(QKeySequence::fromString(m_registry.key(id), QKeySequence::PortableText));
    action->setEnabled(m_registry.isEnabled(id));
    if (command.checkable) {
        action->setChecked(m_registry.isChecked(id));
    }
}

void ActionBinder::refreshKeys()
{
    for (auto entry = m_actions.begin(); entry != m_actions.end(); ++entry) {
        entry.value()->setShortcut(QKeySequence::fromString(m_registry.key(entry.key()), QKeySequence::PortableText));
    }
}

void ActionBinder::refreshState()
{
    for (auto entry = m_actions.begin(); entry != m_actions.end(); ++entry) {
        entry.value()->setEnabled(m_registry.isEnabled(entry.key()));
        if (entry.value()->isCheckable()) {
            entry.value()->setChecked(m_registry.isChecked(entry.key()));
        }
    }
}

QAction* ActionBinder::action(const QString& id) const
{
    return m_actions.value(id);
}

void ActionBinder::fillMenu(QMenu& menu, const QStringList& ids) const
{
    for (const QString& id : ids) {
        if (id.isEmpty()) {
            menu.addSeparator();
        } else if (QAction* found = action(id)) {
            menu.addAction(found);
        }
    }
}

QToolButton* ActionBinder::button(const QString& id, QWidget* parent) const
{
    auto* button = new QToolButton(parent);
    QAction* found = action(id);
    if (found == nullptr) {
        return button;
    }
    button->setDefaultAction(found);
    button->setToolButtonStyle(Qt::ToolButtonTextOnly);
    button->setAccessibleName(found->text());
    button->setObjectName(QStringLiteral("button.") + id);
    button->setContextMenuPolicy(Qt::CustomContextMenu);
    connect(button, &QWidget::customContextMenuRequested, this, [this, id, button](const QPoint& at) {
        auto* menu = new QMenu(button);
        menu->setAttribute(Qt::WA_DeleteOnClose);
        menu->addAction(tr("Copy as command"), this, [this, id] { copyCommandLine(id); });
        menu->popup(button->mapToGlobal(at));
    });
    return button;
}

void ActionBinder::copyCommandLine(const QString& id) const
{
    const QString line = m_registry.commandLine(id);
    QApplication::clipboard()->setText(line);
    Q_EMIT message(tr("Copied: %1").arg(line));
}

} // namespace rankwise::common
