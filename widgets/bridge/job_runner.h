// The one place where a backend function is started from the window.
// QtCore only: the work itself sees no QObject.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <QElapsedTimer>
#include <QObject>
#include <QPointer>
#include <QString>
#include <QThreadPool>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

namespace rankwise::bridge {

/// One running job as the window sees it. Lives in the GUI thread.
class Job : public QObject {
    Q_OBJECT

public:
    enum class State { Running, Done, Failed, Cancelled };

    Job(QString title, QObject* parent);
    ~Job() override; ///< Asks the work to stop; does not wait for it.

    [[nodiscard]] const QString& title() const { return m_title; }
    [[nodiscard]] const QString& step() const { return m_step; }
    [[nodiscard]] double fraction() const { return m_fraction; }
    [[nodiscard]] State state() const { return m_state; }
    [[nodiscard]] const QString& failure() const { return m_failure; }
    [[nodiscard]] double elapsedSeconds() const;
    /// Estimate from the fraction done so far; negative while unknown.
    [[nodiscard]] double etaSeconds() const;
    [[nodiscard]] std::stop_token stopToken() const { return m_stop.get_token(); }

public Q_SLOTS:
    /// Asks the work to stop. finished() still follows, with Errc::Cancelled.
    void cancel();

Q_SIGNALS:
    /// Somebody asked: at most once.
    void cancelRequested();
    /// At most 30 times a second.
    void progressed(double fraction, const QString& step);
    /// Exactly once, after the result was delivered.
    void finished();

private:
    friend class JobRunner;
    void setProgress(double fraction, const QString& step);
    void finish(const std::optional<Error>& error);
    void finish(State state, const QString& failure);

    QString m_title;
    QString m_step;
    QString m_failure;
    double m_fraction = 0;
    double m_firstFraction = 0; ///< What was done when the work was first looked at,
    double m_firstSeconds = -1; ///< and when that was.
    double m_seconds = 0;
    State m_state = State::Running;
    QElapsedTimer m_clock;
    std::stop_source m_stop;
};

/// Runs backend functions on a thread pool and brings their results back.
///
/// Everything public is for the GUI thread. The work runs on a pool thread, sees only what it captured by value, and
/// never touches a QObject.
class JobRunner : public QObject {
    Q_OBJECT

public:
    explicit JobRunner(QObject* parent = nullptr);
    /// Stops every job but those announced, and waits; what was started in order is done to the last piece.
    ~JobRunner() override;

    /// Starts `work`; calls `done` with its result in the GUI thread, unless `receiver` was deleted meanwhile.
    /// An exception that escapes `work` arrives as Errc::Internal. The job deletes itself after finished(). Without a
    /// title it is not announced by jobStarted(): for work of a moment, such as decoding one frame.
    template <class T>
    Job* start(QString title, std::function<Result<T>(const JobContext&)> work, QObject* receiver,
               std::function<void(Result<T>)> done)
    {
        return begin(m_pool, std::move(title), std::move(work), receiver, std::move(done));
    }

    /// As start(), but one piece of work after the other, in the order of the calls and without a row in the jobs
    /// dock: for small files of the window, where an older state must never come after a newer one. Such work does
    /// not look at its stop token, so that what was begun is also finished when the window closes.
    template <class T>
    Job* startInOrder(std::function<Result<T>(const JobContext&)> work, QObject* receiver,
                      std::function<void(Result<T>)> done)
    {
        return begin(m_ordered, QString(), std::move(work), receiver, std::move(done));
    }

    /// A job that another process does, which outlives this one. It is shown like the others; whoever follows the
    /// process calls report() and, once, end(), and answers Job::cancelRequested(). Not among runningJobs().
    [[nodiscard]] Job* announce(const QString& title);
    void report(Job& job, double fraction, const QString& step);
    /// `failure`: the sentence for a job that failed.
    void end(Job& job, Job::State state, const QString& failure = {});

    [[nodiscard]] qsizetype runningJobs() const { return m_running; }

Q_SIGNALS:
    void jobStarted(rankwise::bridge::Job* job);

private:
    template <class T>
    Job* begin(QThreadPool& pool, QString title, std::function<Result<T>(const JobContext&)> work, QObject* receiver,
               std::function<void(Result<T>)> done)
    {
        auto result = std::make_shared<std::optional<Result<T>>>();
        QPointer<QObject> target(receiver);
        return launch(
            pool, std::move(title),
            [result, work = std::move(work)](const JobContext& context) -> std::optional<Error> {
                result->emplace(guarded<T>(work, context));
                return **result ? std::nullopt : std::optional<Error>((*result)->error());
            },
            [result, target, done = std::move(done)] {
                if (target) {
                    done(std::move(**result));
                }
            });
    }
    template <class T>
    static Result<T> guarded(const std::function<Result<T>(const JobContext&)>& work, const JobContext& context)
    {
        try {
            return work(context);
        } catch (const std::exception& error) {
            return fail(Errc::Internal, error.what());
        }
    }
    Job* launch(QThreadPool& pool, QString title, std::function<std::optional<Error>(const JobContext&)> body,
                std::function<void()> deliver);

    QThreadPool m_pool;
    QThreadPool m_ordered; ///< Of one thread.
    qsizetype m_running = 0;
};

} // namespace rankwise::bridge
