// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/jobs_model.h"

#include "widgets/bridge/run_control.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"

#include <QDateTime>

#include <algorithm>

namespace rankwise::bridge {

namespace {
constexpr int kMaxFinished = 50;
/// Jobs shorter than this leave no row behind.
constexpr double kShortJobSeconds = 0.3;

double nowSeconds()
{
    return static_cast<double>(QDateTime::currentMSecsSinceEpoch()) / 1000;
}
} // namespace

JobsModel::JobsModel(Workspace& workspace, QObject* parent) : QAbstractTableModel(parent), m_workspace(workspace)
{
    connect(&workspace.jobs(), &JobRunner::jobStarted, this, &JobsModel::addJob);
    connect(&workspace, &Workspace::itemAdded, this, [this](const WorkspaceItem& item) {
        if (RunTail* run = m_workspace.run(item.path)) {
            addRun(run);
        }
    });
    for (RunTail* run : workspace.runs()) {
        addRun(run);
    }
    m_tick.setInterval(500);
    connect(&m_tick, &QTimer::timeout, this, [this] {
        for (int row = 0; row < m_rows.size(); ++row) {
            if (m_rows[row].job) {
                refreshJob(m_rows[row].job);
            }
        }
    });
}

int JobsModel::rowCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : static_cast<int>(m_rows.size());
}

int JobsModel::columnCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : ColumnCount;
}

QVariant JobsModel::data(const QModelIndex& index, int role) const
{
    if (!checkIndex(index, CheckIndexOption::IndexIsValid)) {
        return {};
    }
    const Row& row = m_rows[index.row()];
    switch (role) {
    case FractionRole:
        return row.fraction;
    case CanPauseRole:
        return row.active && row.run;
    case CanCancelRole:
        return row.active;
    case PausedRole:
        return row.paused;
    case RunPathRole:
        return row.run ? row.run->path() : QString();
    case FailedRole:
        return row.failed;
    case BeganRole:
        return row.began;
    case EndedRole:
        return row.finished;
    case Qt::ToolTipRole:
        return row.state;
    case Qt::AccessibleTextRole:
        // The first cell speaks for the row.
        return index.column() == Title
            ? tr("%1, %2 %, %3").arg(row.title).arg(100 * row.fraction, 0, 'f', 0).arg(row.state)
            : this->data(index, Qt::DisplayRole);
    case Qt::DisplayRole:
        break;
    default:
        return {};
    }
    switch (index.column()) {
    case Title:
        return row.title;
    case Progress: {
        const QString percent = QStringLiteral("%1 %").arg(100 * row.fraction, 0, 'f', 0);
        return row.step.isEmpty() ? percent : QStringLiteral("%1 · %2").arg(percent, row.step);
    }
    case Rate:
        return row.rate > 0 ? tr("%1 steps/s").arg(numberText(row.rate)) : QString();
    case Remaining:
        return row.active ? (row.eta >= 0 ? tr("about %1").arg(durationText(row.eta)) : QStringLiteral("—"))
                          : durationText(row.elapsed);
    case State:
        return row.state;
    default:
        return {};
    }
}

QVariant JobsModel::headerData(int section, Qt::Orientation orientation, int role) const
{
    if (role != Qt::DisplayRole || orientation != Qt::Horizontal) {
        return {};
    }
    switch (section) {
    case Title:
        return tr("Job");
    case Progress:
        return tr("Progress");
    case Rate:
        return tr("Rate");
    case Remaining:
        return tr("Remaining / took");
    case State:
        return tr("State");
    default:
        return {};
    }
}

void JobsModel::addJob(Job* job)
{
    beginInsertRows({}, 0, 0);
    m_rows.prepend(Row { .job = job, .title = job->title(), .state = tr("running"), .began = nowSeconds() });
    endInsertRows();
    m_tick.start();
    connect(job, &Job::progressed, this, [this, job] { refreshJob(job); });
    connect(job, &Job::finished, this, [this, job] { refreshJob(job); });
    refreshJob(job);
}

void JobsModel::addRun(RunTail* run)
{
    beginInsertRows({}, 0, 0);
    m_rows.prepend(Row { .run = run, .title = run->title(), .state = run->stateText() });
    endInsertRows();
    connect(run, &RunTail::statusChanged, this, [this, run] { refreshRun(run); });
    connect(run, &QObject::destroyed, this, [this] {
        for (int i = static_cast<int>(m_rows.size()) - 1; i >= 0; --i) {
            if (!m_rows[i].job && !m_rows[i].run && m_rows[i].elapsed < 0) {
                beginRemoveRows({}, i, i);
                m_rows.removeAt(i);
                endRemoveRows();
            }
        }
    });
    m_rows.front().elapsed = -1;
    refreshRun(run);
}

void JobsModel::update(int row)
{
    Q_EMIT dataChanged(index(row, 0), index(row, ColumnCount - 1));
    countActive();
}

void JobsModel::countActive()
{
    const int active = activeCount();
    if (active != m_active) {
        m_active = active;
        Q_EMIT activeCountChanged(active);
    }
    if (active == 0) {
        m_tick.stop();
    }
}

void JobsModel::refreshJob(Job* job)
{
    const auto found = std::find_if(m_rows.begin(), m_rows.end(), [&](const Row& row) { return row.job == job; });
    if (found == m_rows.end()) {
        return;
    }
    const int at = static_cast<int>(found - m_rows.begin());
    found->fraction = job->fraction();
    found->step = job->step();
    found->elapsed = job->elapsedSeconds();
    found->eta = job->etaSeconds();
    found->active = job->state() == Job::State::Running;
    switch (job->state()) {
    case Job::State::Running:
        found->state = found->stopping ? tr("stopping…") : tr("running");
        break;
    case Job::State::Done:
        found->state = tr("done");
        break;
    case Job::State::Cancelled:
        found->state = tr("cancelled");
        break;
    case Job::State::Failed:
        found->state = tr("failed: %1").arg(job->failure());
        found->failed = true;
        break;
    }
    const bool ends = !found->active && found->job;
    if (ends) {
        found->job = nullptr;
        finishRow(at);
        if (job->state() == Job::State::Done && m_rows[at].elapsed < kShortJobSeconds) {
            beginRemoveRows({}, at, at);
            m_rows.removeAt(at);
            endRemoveRows();
            countActive();
            return;
        }
    }
    update(at);
    dropOldest();
}

void JobsModel::finishRow(int row)
{
    Row& done = m_rows[row];
    done.finished = nowSeconds();
    done.stopping = false;
    Q_EMIT ended({ done.title, done.state, done.finished - done.began, done.failed });
}

/// The list stays short; what failed goes last.
void JobsModel::dropOldest()
{
    int finished = 0;
    for (const Row& row : m_rows) {
        finished += !row.active && !row.run ? 1 : 0;
    }
    for (const bool failed : { false, true }) {
        for (int i = static_cast<int>(m_rows.size()) - 1; i >= 0 && finished > kMaxFinished; --i) {
            if (!m_rows[i].active && !m_rows[i].run && m_rows[i].failed == failed) {
                beginRemoveRows({}, i, i);
                m_rows.removeAt(i);
                endRemoveRows();
                --finished;
            }
        }
    }
}

void JobsModel::refreshRun(RunTail* run)
{
    const auto found = std::find_if(m_rows.begin(), m_rows.end(), [&](const Row& row) { return row.run == run; });
    if (found == m_rows.end() || !run->record().status) {
        return;
    }
    const data::RunStatus& status = *run->record().status;
    found->active = status.active();
    found->failed = status.state == data::RunState::Failed;
    found->paused = status.state == data::RunState::Paused;
    found->state =
        run->stateText() + (status.reason.empty() ? QString() : QStringLiteral(": ") + toQString(status.reason));
    found->fraction = status.total > 0 ? static_cast<double>(status.step) / static_cast<double>(status.total) : 0;
    found->step = tr("step %1 of %2").arg(status.step).arg(status.total);
    found->eta = status.etaSeconds;
    const StepColumns& steps = run->record().steps;
    const std::size_t n = steps.size();
    const std::size_t window = std::min<std::size_t>(n, 50);
    found->rate = 0;
    if (found->active && window > 1 && steps.time[n - 1] > steps.time[n - window]) {
        found->rate = (steps.step[n - 1] - steps.step[n - window]) / (steps.time[n - 1] - steps.time[n - window]);
    }
    const int at = static_cast<int>(found - m_rows.begin());
    if (found->active && !found->wasActive) {
        found->began = nowSeconds();
        found->finished = 0;
    } else if (!found->active && found->wasActive) {
        finishRow(at);
    }
    m_rows[at].wasActive = status.active();
    update(at);
}

void JobsModel::cancel(int row)
{
    if (row < 0 || row >= m_rows.size() || !m_rows[row].active) {
        return;
    }
    if (m_rows[row].job) {
        m_rows[row].stopping = true;
        m_rows[row].job->cancel();
        refreshJob(m_rows[row].job);
    } else if (m_rows[row].run) {
        postControl(m_workspace.jobs(), m_rows[row].run->path(), data::ControlAction::Stop, {}, 0, this,
                    [this](auto answer) { report(std::move(answer)); });
    }
}

void JobsModel::togglePause(int row)
{
    if (row < 0 || row >= m_rows.size() || !m_rows[row].active || !m_rows[row].run) {
        return;
    }
    const auto action = m_rows[row].paused ? data::ControlAction::Resume : data::ControlAction::Pause;
    postControl(m_workspace.jobs(), m_rows[row].run->path(), action, {}, 0, this,
                [this](auto answer) { report(std::move(answer)); });
}

void JobsModel::report(Result<std::optional<data::ControlAnswer>> answer)
{
    if (!answer) {
        Q_EMIT controlFailed(errorSentence(answer.error()));
    } else if (!*answer) {
        Q_EMIT controlFailed(tr("The worker has not answered yet."));
    } else if (!(*answer)->accepted) {
        Q_EMIT controlFailed(tr("The worker refused: %1").arg(toQString((*answer)->message)));
    }
}

void JobsModel::clearFinished()
{
    for (int i = static_cast<int>(m_rows.size()) - 1; i >= 0; --i) {
        if (!m_rows[i].active && !m_rows[i].run) {
            beginRemoveRows({}, i, i);
            m_rows.removeAt(i);
            endRemoveRows();
        }
    }
}

int JobsModel::activeCount() const
{
    return static_cast<int>(std::count_if(m_rows.begin(), m_rows.end(), [](const Row& row) { return row.active; }));
}

} // namespace rankwise::bridge
