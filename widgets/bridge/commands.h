// Every action of the window: a stable name, words, a key, and the command line that does the same headless.
// Menus, tool buttons, the palette and the shortcut sheet are made from this one list.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QHash>
#include <QObject>
#include <QString>
#include <QStringList>
#include <QVector>

#include <functional>

namespace rankwise::bridge {

/// One action. Thread: GUI.
struct Command {
    QString id;       ///< e.g. "run.pause"; stable: settings, sessions and `--do` store it.
    QString category; ///< Menu and palette group, translated.
    QString text;     ///< What it does, translated; also its accessible name.
    QString key;      ///< Default shortcut in portable form ("Ctrl+K"); empty: none.
    QString help;     ///< One sentence, translated; may be empty.
    bool checkable = false;
    std::function<void()> run;
    std::function<bool()> enabled = {};        ///< Empty: always.
    std::function<bool()> checked = {};        ///< For checkable ones.
    std::function<QString()> commandLine = {}; ///< Empty: `rankwise gui --do ID`.
};

/// The list of actions.
class CommandRegistry : public QObject {
    Q_OBJECT

public:
    explicit CommandRegistry(QObject* parent = nullptr);

    /// Adds an action. Ids are unique: a second one of the same id replaces the first.
    void add(Command command);
    /// Other words for an action, e.g. with what "Undo" would undo.
    void setText(const QString& id, const QString& text);
    [[nodiscard]] const QVector<Command>& commands() const { return m_commands; }
    [[nodiscard]] const Command* find(const QString& id) const;

    /// The key in force: the user's, else the default.
    [[nodiscard]] QString key(const QString& id) const;
    /// Gives an action another key; another action that had it loses it. An empty key takes it away.
    void setKey(const QString& id, const QString& key);
    void resetKeys();
    [[nodiscard]] const QHash<QString, QString>& userKeys() const { return m_keys; }
    void setUserKeys(const QHash<QString, QString>& keys);

    [[nodiscard]] bool isEnabled(const QString& id) const;
    [[nodiscard]] bool isChecked(const QString& id) const;
    /// Whether an action runs now: its view comes to the front then, and not when only its command line is asked for.
    [[nodiscard]] bool running() const { return m_running > 0; }
    /// Runs it; false when unknown or not enabled.
    bool trigger(const QString& id);
    /// The shell line that does the same without hands.
    [[nodiscard]] QString commandLine(const QString& id) const;

    /// Asks everything made from the list to look again at enabled() and checked().
    void refresh() { Q_EMIT stateChanged(); }

Q_SIGNALS:
    void added(const QString& id); ///< Also when it was replaced or got other words.
    void keysChanged();
    void stateChanged();
    void triggered(const QString& id);

private:
    QVector<Command> m_commands;
    QHash<QString, qsizetype> m_index;
    QHash<QString, QString> m_keys;
    int m_running = 0;
};

} // namespace rankwise::bridge
