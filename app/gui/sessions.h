// The session of a window: which one it is, saving it, and going over to another one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/session.h"
#include "widgets/bridge/job_runner.h"

#include <QObject>
#include <QTimer>

#include <atomic>
#include <functional>
#include <memory>

namespace rankwise::gui {

/// Files are read and written one after the other and away from the GUI thread; the start reads in it, before there is
/// a window. Destroy after the runner: the last write is then done, and the mark can go. Thread: GUI.
class Sessions : public QObject {
    Q_OBJECT

public:
    explicit Sessions(const QString& folder, QObject* parent = nullptr);
    ~Sessions() override; ///< Takes the mark away: a clean end.

    /// `capture` gives the present state of the window.
    void connectTo(bridge::JobRunner& runner, std::function<QJsonObject()> capture);
    /// Takes up the session at the start. One that another window has, or whose file cannot be used, is left alone and
    /// its name with a number is taken instead.
    [[nodiscard]] SessionStore::Taken begin(const QString& name);

    [[nodiscard]] const QString& name() const { return m_name; }
    [[nodiscard]] bool endedBadly() const { return m_endedBadly; }
    /// Names of all sessions as of the last look, sorted.
    [[nodiscard]] const QStringList& names() const { return m_names; }
    [[nodiscard]] QString file(const QString& name) const { return m_store.file(name); }
    /// Between two names.
    [[nodiscard]] bool busy() const { return m_busy; }

    void save();
    /// save() a moment after the last call.
    void saveSoon() { m_later.start(); }
    /// The present state under another name, which this window then has.
    void saveAs(const QString& name);
    /// Saves the present session and enters another one; entered() follows, or message() when it cannot be.
    void switchTo(const QString& name);
    /// A new session without items.
    void create(const QString& name);
    void rename(const QString& from, const QString& to);
    void remove(const QString& name);
    /// Looks for sessions that other windows made.
    void refreshNames();

Q_SIGNALS:
    /// The window is to show this state now; an empty one: nothing.
    void entered(const QJsonObject& state, bool endedBadly);
    void message(const QString& text);
    void changed(); ///< Name or names.

private:
    using Work = std::function<Result<bool>(const SessionStore&)>;
    /// Runs `work` in order; `done` when it went well, else message() with `failure` and the reason. Other changes of
    /// the name are refused meanwhile when it is to be `alone`.
    void post(Work work, const QString& failure, std::function<void()> done, bool alone = false);
    void enter(const QString& name, bool fresh);
    void take(const QString& name);
    [[nodiscard]] bool mayBecome(const QString& name);

    SessionStore m_store;
    bridge::JobRunner* m_runner = nullptr;
    std::function<QJsonObject()> m_capture;
    QString m_name;
    QString m_next; ///< While it is being taken.
    std::shared_ptr<std::atomic_bool> m_nextTaken = std::make_shared<std::atomic_bool>(false);
    QStringList m_names;
    QTimer m_later;
    bool m_endedBadly = false;
    bool m_busy = false;
};

} // namespace rankwise::gui
