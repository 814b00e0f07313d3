// Named sessions: what was open, selected and where everything stood. Written often and atomically, with a mark that
// tells the next start whether this one ended well.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <QJsonObject>
#include <QString>
#include <QStringList>

namespace rankwise::gui {

/// Files of one session under `<data folder>/sessions`. Thread: GUI.
class SessionStore {
public:
    SessionStore(QString dataFolder, QString name);
    ~SessionStore(); ///< Removes the mark: a clean end.
    SessionStore(const SessionStore&) = delete;
    SessionStore& operator=(const SessionStore&) = delete;

    /// Claims the session. A mark of a dead process means that the window ended badly; a living one makes this
    /// window take a name of its own.
    void begin();
    [[nodiscard]] bool endedBadly() const { return m_endedBadly; }
    [[nodiscard]] const QString& name() const { return m_name; }

    [[nodiscard]] Result<QJsonObject> load() const;
    [[nodiscard]] Result<void> save(const QJsonObject& session) const;
    /// Names of all sessions, sorted.
    [[nodiscard]] QStringList names() const;
    /// The file of a session.
    [[nodiscard]] QString file(const QString& name) const;

private:
    [[nodiscard]] QString mark() const;

    QString m_folder;
    QString m_name;
    bool m_claimed = false;
    bool m_endedBadly = false;
};

} // namespace rankwise::gui
