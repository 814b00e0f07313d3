// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/job_runner.h"

#include "backend/base/log.h"
#include "widgets/bridge/text.h"

#include <chrono>

namespace rankwise::bridge {

namespace {
constexpr std::chrono::milliseconds kProgressInterval { 34 };
}

Job::Job(QString title, QObject* parent) : QObject(parent), m_title(std::move(title))
{
    m_clock.start();
}

Job::~Job()
{
    m_stop.request_stop();
}

double Job::elapsedSeconds() const
{
    return m_state == State::Running ? static_cast<double>(m_clock.elapsed()) / 1000.0 : m_seconds;
}

double Job::etaSeconds() const
{
    constexpr double kEnoughFraction = 0.01;
    constexpr double kEnoughSeconds = 0.5;
    const double elapsed = elapsedSeconds() - std::max(0.0, m_firstSeconds);
    const double done = m_fraction - m_firstFraction;
    if (m_state != State::Running || done < kEnoughFraction || elapsed < kEnoughSeconds) {
        return -1;
    }
    return elapsed * (1 - m_fraction) / done;
}

void Job::cancel()
{
    if (m_state == State::Running && m_stop.request_stop()) {
        Q_EMIT cancelRequested();
    }
}

void Job::setProgress(double fraction, const QString& step)
{
    m_fraction = std::clamp(fraction, 0.0, 1.0);
    m_step = step;
    Q_EMIT progressed(m_fraction, m_step);
}

void Job::finish(const std::optional<Error>& error)
{
    if (!error) {
        finish(State::Done, {});
    } else if (error->code == Errc::Cancelled) {
        finish(State::Cancelled, {});
    } else {
        if (!m_title.isEmpty()) { // Work of a moment is the business of who asked for it.
            log::warn("jobs", "{}: {}", m_title.toStdString(), error->describe());
        }
        finish(State::Failed, errorSentence(*error));
    }
}

void Job::finish(State state, const QString& failure)
{
    m_seconds = static_cast<double>(m_clock.elapsed()) / 1000.0;
    m_state = state;
    m_fraction = state == State::Done ? 1 : m_fraction;
    m_failure = failure;
    Q_EMIT finished();
}

JobRunner::JobRunner(QObject* parent) : QObject(parent)
{
    m_pool.setMaxThreadCount(std::max(2, QThread::idealThreadCount()));
    m_ordered.setMaxThreadCount(1);
}

JobRunner::~JobRunner()
{
    for (Job* job : findChildren<Job*>(QString(), Qt::FindDirectChildrenOnly)) {
        job->m_stop.request_stop();
    }
    m_pool.waitForDone();
    m_ordered.waitForDone();
}

Job* JobRunner::announce(const QString& title)
{
    auto* job = new Job(title, this);
    Q_EMIT jobStarted(job);
    return job;
}

void JobRunner::report(Job& job, double fraction, const QString& step)
{
    if (job.m_firstSeconds < 0) { // it may have been at work for long
        job.m_firstSeconds = job.elapsedSeconds();
        job.m_firstFraction = fraction;
    }
    job.setProgress(fraction, step);
}

void JobRunner::end(Job& job, Job::State state, const QString& failure)
{
    job.finish(state, failure);
    job.deleteLater();
}

Job* JobRunner::launch(QThreadPool& pool, QString title, std::function<std::optional<Error>(const JobContext&)> body,
                       std::function<void()> deliver)
{
    auto* job = new Job(std::move(title), this);
    const QPointer<Job> weak(job);
    const std::stop_token stop = job->stopToken();
    ++m_running;
    // The pool drains before this object dies, so that posting to it from the pool is safe; the job may be gone.
    pool.start([this, weak, stop, body = std::move(body), deliver = std::move(deliver)]() mutable {
        auto last = std::chrono::steady_clock::time_point {};
        JobContext context { .stop = stop, .progress = [&](double fraction, std::string_view step) {
                                const auto now = std::chrono::steady_clock::now();
                                if (now - last < kProgressInterval) {
                                    return;
                                }
                                last = now;
                                QMetaObject::invokeMethod(
                                    this,
                                    [weak, fraction, text = toQString(step)] {
                                        if (weak) {
                                            weak->setProgress(fraction, text);
                                        }
                                    },
                                    Qt::QueuedConnection);
                            } };
        std::optional<Error> error = body(context);
        QMetaObject::invokeMethod(
            this,
            [this, weak, error = std::move(error), deliver = std::move(deliver)] {
                --m_running;
                deliver();
                if (weak) {
                    weak->finish(error);
                    weak->deleteLater();
                }
            },
            Qt::QueuedConnection);
    });
    if (!job->title().isEmpty()) {
        Q_EMIT jobStarted(job);
    }
    return job;
}

} // namespace rankwise::bridge
