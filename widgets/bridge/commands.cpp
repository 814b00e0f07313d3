// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/commands.h"

#include "backend/base/log.h"

namespace rankwise::bridge {

CommandRegistry::CommandRegistry(QObject* parent) : QObject(parent) { }

void CommandRegistry::add(Command command)
{
    const QString id = command.id;
    if (const auto found = m_index.constFind(id); found != m_index.constEnd()) {
        m_commands[*found] = std::move(command);
    } else {
        m_index.insert(id, m_commands.size());
        m_commands.push_back(std::move(command));
    }
    Q_EMIT added(id);
}

void CommandRegistry::setText(const QString& id, const QString& text)
{
    if (const auto found = m_index.constFind(id); found != m_index.constEnd() && m_commands[*found].text != text) {
        m_commands[*found].text = text;
        Q_EMIT added(id);
    }
}

const Command* CommandRegistry::find(const QString& id) const
{
    const auto found = m_index.constFind(id);
    return found == m_index.constEnd() ? nullptr : &m_commands[*found];
}

QString CommandRegistry::key(const QString& id) const
{
    if (const auto own = m_keys.constFind(id); own != m_keys.constEnd()) {
        return *own;
    }
    const Command* command = find(id);
    return command == nullptr ? QString() : command->key;
}

void CommandRegistry::setKey(const QString& id, const QString& newKey)
{
    if (!newKey.isEmpty()) {
        for (const Command& other : m_commands) {
            if (other.id != id && key(other.id) == newKey) {
                m_keys.insert(other.id, QString());
            }
        }
    }
    const Command* command = find(id);
    if (command != nullptr && command->key == newKey) {
        m_keys.remove(id);
    } else {
        m_keys.insert(id, newKey);
    }
    Q_EMIT keysChanged();
}

void CommandRegistry::resetKeys()
{
    m_keys.clear();
    Q_EMIT keysChanged();
}

void CommandRegistry::setUserKeys(const QHash<QString, QString>& keys)
{
    m_keys = keys;
    Q_EMIT keysChanged();
}

bool CommandRegistry::isEnabled(const QString& id) const
{
    const Command* command = find(id);
    return command != nullptr && (!command->enabled || command->enabled());
}

bool CommandRegistry::isChecked(const QString& id) const
{
    const Command* command = find(id);
    return command != nullptr && command->checked && command->checked();
}

bool CommandRegistry::trigger(const QString& id)
{
    if (!isEnabled(id)) {
        return false;
    }
    const auto run = find(id)->run; // A copy: the action may change the list.
    log::debug("gui", "action {}", id.toStdString());
    ++m_running;
    run();
    --m_running;
    Q_EMIT triggered(id);
    Q_EMIT stateChanged();
    return true;
}

QString CommandRegistry::commandLine(const QString& id) const
{
    const Command* command = find(id);
    if (command == nullptr) {
        return {};
    }
    const QString own = command->commandLine ? command->commandLine() : QString();
    return own.isEmpty() ? QStringLiteral("rankwise gui --do ") + id : own;
}

} // namespace rankwise::bridge
