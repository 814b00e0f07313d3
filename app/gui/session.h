// Named sessions on disk: what was open, selected and where everything stood, with a mark beside it that says which
// living window has it, or that the last one ended badly.
//
//     NAME.json     {"format": "rankwise_session", "version": 1, "workspace": {…}, …}
//     NAME.running  "<pid> <start of the process in ticks>" of the window that has it
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <QJsonObject>
#include <QString>
#include <QStringList>

namespace rankwise::gui {

/// What is wrong with a name for a session; empty when nothing is.
[[nodiscard]] QString sessionNameProblem(const QString& name);

/// The folder of the sessions. A value without state of its own; thread: any.
class SessionStore {
public:
    explicit SessionStore(QString folder);

    /// Marks the session as that of this process. True: the window that had it before ended badly.
    /// Errors: AlreadyExists (a living window has it), IoFailed, DiskFull.
    [[nodiscard]] Result<bool> claim(const QString& name) const;
    /// claim() of a name that no session has. Errors: AlreadyExists, IoFailed, DiskFull.
    [[nodiscard]] Result<bool> claimNew(const QString& name) const;
    /// Takes the mark away: a clean end.
    void release(const QString& name) const;
    /// Whether this process has it.
    [[nodiscard]] bool holds(const QString& name) const;

    struct Taken {
        QJsonObject state; ///< Empty for a session that is new.
        bool endedBadly = false;
    };
    /// claim() and load(); after an error nothing is claimed. Errors: those of the two, but FileNotFound.
    [[nodiscard]] Result<Taken> take(const QString& name) const;

    /// Errors: FileNotFound, JsonInvalid, Unsupported (of a newer version), IoFailed, TooLarge.
    [[nodiscard]] Result<QJsonObject> load(const QString& name) const;
    /// Errors: IoFailed, DiskFull.
    [[nodiscard]] Result<bool> save(const QString& name, const QJsonObject& state) const;
    /// Of a session that is claimed here. Errors: AlreadyExists, FileNotFound, IoFailed.
    [[nodiscard]] Result<bool> rename(const QString& from, const QString& to) const;
    /// Errors: AlreadyExists (a living window has it), IoFailed.
    [[nodiscard]] Result<bool> remove(const QString& name) const;

    /// Names of all sessions, sorted.
    [[nodiscard]] QStringList names() const;
    [[nodiscard]] bool exists(const QString& name) const;
    /// The file of a session.
    [[nodiscard]] QString file(const QString& name) const;

private:
    [[nodiscard]] QString mark(const QString& name) const;

    QString m_folder;
};

} // namespace rankwise::gui
