// SPDX-License-Identifier: Apache-2.0
#include "app/gui/sessions.h"

#include "backend/base/log.h"
#include "widgets/bridge/text.h"

#include <utility>

namespace rankwise::gui {

namespace {
constexpr int kSaveMs = 1500;
constexpr int kMaxAttempts = 100;

QString refusal(const QString& name, const Error& error)
{
    return error.code == Errc::AlreadyExists ? Sessions::tr("The session “%1” is open in another window.").arg(name)
                                             : Sessions::tr("The session “%1” cannot be read and stays as it is: %2")
                                                   .arg(name, bridge::errorSentence(error));
}
} // namespace

Sessions::Sessions(const QString& folder, QObject* parent) : QObject(parent), m_store(folder)
{
    m_later.setSingleShot(true);
    m_later.setInterval(kSaveMs);
    connect(&m_later, &QTimer::timeout, this, &Sessions::save);
}

Sessions::~Sessions()
{
    m_store.release(m_name);
    if (*m_nextTaken) {
        m_store.release(m_next);
    }
}

void Sessions::connectTo(bridge::JobRunner& runner, std::function<QJsonObject()> capture)
{
    m_runner = &runner;
    m_capture = std::move(capture);
}

SessionStore::Taken Sessions::begin(const QString& name)
{
    m_names = m_store.names();
    QString trouble;
    for (int attempt = 1; attempt < kMaxAttempts; ++attempt) {
        m_name = attempt == 1 ? name : QStringLiteral("%1-%2").arg(name).arg(attempt);
        auto taken = m_store.take(m_name);
        if (taken) {
            m_endedBadly = taken->endedBadly;
            if (!trouble.isEmpty()) {
                Q_EMIT message(tr("%1 This window is the session “%2”.").arg(trouble, m_name));
            }
            return std::move(*taken);
        }
        log::warn("gui", "session: {}", taken.error().describe());
        trouble = refusal(m_name, taken.error());
    }
    Q_EMIT message(trouble);
    return {};
}

void Sessions::post(Work work, const QString& failure, std::function<void()> done, bool alone)
{
    m_busy = m_busy || alone;
    m_runner->startInOrder<bool>(
        [store = m_store, work = std::move(work)](const JobContext&) {
            auto result = work(store);
            if (!result) {
                log::warn("gui", "session: {}", result.error().describe());
            }
            return result;
        },
        this,
        [this, failure, alone, done = std::move(done)](const Result<bool>& result) {
            m_busy = m_busy && !alone;
            if (!result) {
                Q_EMIT message(failure.arg(bridge::errorSentence(result.error())));
            } else if (done) {
                done();
            }
        });
}

void Sessions::save()
{
    m_later.stop();
    // What this window does not have it does not write: a rename that is under way saves once more when it is done.
    post(
        [name = m_name, state = m_capture()](const SessionStore& store) -> Result<bool> {
            return store.holds(name) ? store.save(name, state) : Result<bool>(true);
        },
        tr("The session cannot be saved: %1"),
        [this, name = m_name] {
            if (!m_names.contains(name)) {
                refreshNames();
            }
        });
}

bool Sessions::mayBecome(const QString& name)
{
    if (const QString problem = sessionNameProblem(name); !problem.isEmpty()) {
        Q_EMIT message(tr("“%1” is no name for a session: %2.").arg(name, problem));
        return false;
    }
    if (m_busy) {
        Q_EMIT message(tr("Another session is being opened."));
        return false;
    }
    return true;
}

void Sessions::saveAs(const QString& name)
{
    if (name == m_name) {
        save();
        return;
    }
    if (!mayBecome(name)) {
        return;
    }
    save();
    post(
        [name, state = m_capture()](const SessionStore& store) -> Result<bool> {
            RW_TRY_VOID(store.claimNew(name));
            return store.save(name, state);
        },
        tr("The session cannot be saved as “%1”: %2").arg(name),
        [this, name] {
            enter(name, false);
            Q_EMIT message(tr("This window is now the session “%1”").arg(name));
        },
        true);
}

/// The name is taken over; the session before keeps what it was.
void Sessions::enter(const QString& name, bool fresh)
{
    const QString before = std::exchange(m_name, name);
    m_later.stop();
    post(
        [before](const SessionStore& store) -> Result<bool> {
            store.release(before);
            return true;
        },
        QStringLiteral("%1"), {});
    if (fresh) {
        Q_EMIT entered({}, false);
        save();
    }
    refreshNames();
    Q_EMIT changed();
}

void Sessions::create(const QString& name)
{
    if (!mayBecome(name)) {
        return;
    }
    save();
    post([name](const SessionStore& store) { return store.claimNew(name); },
         tr("The session “%1” cannot be made: %2").arg(name), [this, name] { enter(name, true); }, true);
}

void Sessions::switchTo(const QString& name)
{
    if (name == m_name) {
        Q_EMIT message(tr("This window is the session “%1”").arg(name));
    } else if (mayBecome(name)) {
        save();
        take(name);
    }
}

void Sessions::take(const QString& name)
{
    m_busy = true;
    m_next = name;
    m_runner->startInOrder<SessionStore::Taken>(
        [store = m_store, name, taken = m_nextTaken](const JobContext&) {
            auto result = store.take(name);
            *taken = result.has_value();
            return result;
        },
        this,
        [this, name](Result<SessionStore::Taken> taken) {
            *m_nextTaken = false;
            m_busy = false;
            if (!taken) {
                Q_EMIT message(refusal(name, taken.error()));
                return;
            }
            save(); // What happened in the session before since it was asked for.
            m_endedBadly = taken->endedBadly;
            enter(name, false);
            Q_EMIT entered(taken->state, taken->endedBadly);
            m_later.stop();
            Q_EMIT message(tr("Session “%1”").arg(name));
        });
}

void Sessions::rename(const QString& from, const QString& to)
{
    if (from == to || !mayBecome(to)) {
        return;
    }
    const bool own = from == m_name;
    if (own) {
        save();
    }
    post(
        [from, to, own](const SessionStore& store) -> Result<bool> {
            if (own) {
                return store.rename(from, to);
            }
            RW_TRY_VOID(store.claim(from));
            auto renamed = store.rename(from, to);
            store.release(renamed ? to : from);
            return renamed;
        },
        tr("The session “%1” cannot be renamed: %2").arg(from),
        [this, from, to, own] {
            if (own) {
                m_name = to;
                save(); // What changed since was not written under the name before.
            }
            refreshNames();
            Q_EMIT message(tr("The session “%1” is now called “%2”").arg(from, to));
        },
        own);
}

void Sessions::remove(const QString& name)
{
    if (name == m_name) {
        Q_EMIT message(tr("This window is the session “%1”; go to another one first.").arg(name));
        return;
    }
    post([name](const SessionStore& store) { return store.remove(name); },
         tr("The session “%1” cannot be deleted: %2").arg(name),
         [this, name] {
             refreshNames();
             Q_EMIT message(tr("The session “%1” is deleted").arg(name));
         });
}

void Sessions::refreshNames()
{
    m_runner->startInOrder<QStringList>(
        [store = m_store](const JobContext&) -> Result<QStringList> { return store.names(); }, this,
        [this](const Result<QStringList>& names) {
            m_names = names ? *names : m_names;
            Q_EMIT changed();
        });
}

} // namespace rankwise::gui
