// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/run_tail.h"

#include "backend/base/log.h"
#include "backend/base/worker_thread.h"
#include "widgets/bridge/text.h"

#include <nlohmann/json.hpp>

#include <QFileInfo>

#include <chrono>
#include <system_error>

namespace rankwise::bridge {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kPollBytes = 8u << 20; ///< A slice of work between two looks at the stop token.
constexpr std::size_t kBatchSteps = 20'000;    ///< Rows that the window takes at once within a frame.
constexpr std::chrono::milliseconds kActiveInterval { 100 };
constexpr std::chrono::milliseconds kIdleInterval { 700 };
constexpr std::chrono::milliseconds kListInterval { 500 };
constexpr std::chrono::milliseconds kDeliverInterval { 50 };

/// The reading side: belongs to the worker thread.
class RunReader {
public:
    explicit RunReader(fs::path root) : m_paths { std::move(root) }, m_events(m_paths.events()) { }

    /// One round. Returns updates in order; the last one has caughtUp set when nothing more is to read now.
    std::vector<std::shared_ptr<RunUpdate>> round()
    {
        std::vector<std::shared_ptr<RunUpdate>> updates { std::make_shared<RunUpdate>() };
        std::string problem = lookAtRun(*updates.front());
        auto rows = m_events.poll(kPollBytes);
        if (rows) {
            updates.front()->rows = std::move(rows->front());
            for (std::size_t i = 1; i < rows->size(); ++i) {
                updates.push_back(std::make_shared<RunUpdate>());
                updates.back()->rows = std::move((*rows)[i]);
            }
        } else if (problem.empty()) {
            problem = rows.error().describe();
        }
        RunUpdate& last = *updates.back();
        const std::uint64_t before = m_seen;
        m_seen = m_events.offset();
        last.caughtUp = m_seen == before;
        last.skippedLines = m_events.skippedLines();
        last.tornBytes = m_events.tornBytes();
        if (last.caughtUp || Clock::now() - m_lastList > kListInterval) {
            lookAtStatus(last, problem);
        }
        if (problem != m_problem) {
            m_problem = problem;
            last.problem = problem;
        }
        return updates;
    }

    [[nodiscard]] bool active() const { return m_active; }

private:
    /// run.json is written once; a changed one is another run in the same place.
    std::string lookAtRun(RunUpdate& update)
    {
        std::error_code error;
        const auto stamp = fs::last_write_time(m_paths.run(), error);
        if (error) {
            return "The run directory has vanished or is not complete yet; what was read is kept.";
        }
        if (m_run && stamp == m_runStamp) {
            return m_runProblem;
        }
        auto run = data::readRunJson(m_paths);
        if (!run) {
            m_runProblem = run.error().code == Errc::Unsupported
                ? "A newer version wrote this run: " + run.error().message
                : run.error().describe();
            m_runStamp = stamp;
            return m_runProblem;
        }
        auto next = std::make_shared<const Json>(std::move(*run));
        if (m_run && *m_run != *next) {
            update.restart = true;
            m_events = data::RunRowTail(m_paths.events());
            m_seen = 0;
            m_snapshotCount = m_checkpointCount = 0;
        }
        m_runProblem.clear();
        m_runStamp = stamp;
        m_run = next;
        update.run = next;
        return {};
    }

    void lookAtStatus(RunUpdate& update, std::string& problem)
    {
        m_lastList = Clock::now();
        auto status = data::readRunStatus(m_paths);
        if (status) {
            m_active = status->active();
            if (!m_run) {
                // No run.json yet: the worker is still looking at what it was given, or has refused it.
                problem = status->active() ? std::string()
                    : status->error        ? "The run did not start: " + status->error->describe()
                                           : problem;
            }
            update.status = std::move(*status);
        } else {
            m_active = false;
            if (problem.empty() && status.error().code != Errc::FileNotFound) {
                problem = status.error().describe();
            }
        }
        auto snapshots = data::listSnapshots(m_paths);
        if (snapshots.size() > m_snapshotCount) {
            m_snapshotCount = snapshots.size();
            update.snapshots = std::move(snapshots);
        }
        auto checkpoints = data::listCheckpoints(m_paths);
        if (checkpoints.size() != m_checkpointCount) {
            m_checkpointCount = checkpoints.size();
            update.checkpoints = std::move(checkpoints);
        }
    }

    data::RunPaths m_paths;
    data::RunRowTail m_events;
    std::uint64_t m_seen = 0;
    std::shared_ptr<const Json> m_run;
    fs::file_time_type m_runStamp {};
    std::string m_runProblem;
    std::string m_problem;
    std::size_t m_snapshotCount = 0;
    std::size_t m_checkpointCount = 0;
    Clock::time_point m_lastList {};
    bool m_active = false;
};

/// Puts `next` behind the last of `updates`, into it where the order allows and a batch does not become too large.
void queue(std::shared_ptr<RunUpdate> next, std::vector<std::shared_ptr<RunUpdate>>& updates)
{
    const bool apart = updates.empty() || next->restart || next->run || next->rows.cutAbove
        || updates.back()->rows.steps.size() + next->rows.steps.size() > kBatchSteps;
    if (apart) {
        updates.push_back(std::move(next));
        return;
    }
    RunUpdate& last = *updates.back();
    last.rows.append(std::move(next->rows));
    const auto newer = [](auto& own, auto& other) {
        if (other) {
            own = std::move(other);
        }
    };
    newer(last.status, next->status);
    newer(last.snapshots, next->snapshots);
    newer(last.checkpoints, next->checkpoints);
    newer(last.problem, next->problem);
    last.skippedLines = next->skippedLines;
    last.tornBytes = next->tornBytes;
    last.caughtUp = last.caughtUp || next->caughtUp;
}

} // namespace

RunTail::RunTail(QString path, QObject* parent) : QObject(parent), m_path(std::move(path))
{
    m_worker = std::make_unique<WorkerThread>("run-tail", [this, root = toPath(m_path)](const std::stop_token& stop) {
        RunReader reader(root);
        std::vector<std::shared_ptr<RunUpdate>> pending;
        auto lastDelivery = Clock::time_point {};
        while (!stop.stop_requested()) {
            auto updates = reader.round();
            const bool caughtUp = updates.back()->caughtUp;
            for (auto& update : updates) {
                queue(std::move(update), pending);
            }
            // While catching up the window gets what is there twenty times a second, not every slice.
            if (caughtUp || Clock::now() - lastDelivery > kDeliverInterval) {
                lastDelivery = Clock::now();
                for (const auto& ready : pending) { // one event each: frames come in between
                    QMetaObject::invokeMethod(
                        this, [this, ready] { apply(*ready); }, Qt::QueuedConnection);
                }
                pending.clear();
            }
            if (caughtUp && !waitFor(stop, reader.active() ? kActiveInterval : kIdleInterval)) {
                return;
            }
        }
    });
}

RunTail::~RunTail()
{
    m_worker->requestStop();
    m_worker->join();
}

QString RunTail::title() const
{
    return QFileInfo(m_path).fileName();
}

data::RunPaths RunTail::paths() const
{
    return { toPath(m_path) };
}

QString RunTail::stateText() const
{
    return m_record.status ? toQString(data::runStateName(m_record.status->state)) : tr("unknown");
}

void RunTail::apply(const RunUpdate& update)
{
    bool rows = !update.rows.empty();
    if (update.restart) {
        const std::uint64_t epoch = m_record.epoch + 1;
        m_record = {};
        m_record.epoch = epoch;
        rows = true;
    }
    if (const auto last = update.rows.cutAbove) {
        m_record.steps.cutAbove(*last);
        std::erase_if(m_record.digests, [&](const DigestPtr& digest) { return digest->step > *last; });
        ++m_record.epoch;
    }
    m_record.steps.append(update.rows.steps);
    m_record.digests.insert(m_record.digests.end(), update.rows.digests.begin(), update.rows.digests.end());
    for (const auto& [number, table] : update.rows.tables) {
        m_record.tables[number] = table;
    }
    m_record.events.insert(m_record.events.end(), update.rows.others.begin(), update.rows.others.end());
    m_record.skippedLines = update.skippedLines;
    m_record.tornBytes = update.tornBytes;
    if (update.run) {
        m_record.run = update.run;
        rows = true;
    }
    const bool becameCaughtUp = update.caughtUp && !m_caughtUp;
    m_caughtUp = m_caughtUp || update.caughtUp;
    if (rows || becameCaughtUp) {
        Q_EMIT updated();
    }
    if (update.snapshots) {
        m_record.snapshots = *update.snapshots;
        Q_EMIT snapshotsChanged();
    }
    if (update.checkpoints) {
        m_record.checkpoints = *update.checkpoints;
    }
    if (update.status) {
        m_record.status = update.status;
        Q_EMIT statusChanged();
    }
    bool problems = false;
    if (update.problem) {
        m_problem = toQString(*update.problem);
        problems = true;
        if (!m_problem.isEmpty()) {
            log::warn("run", "{}: {}", m_path.toStdString(), *update.problem);
        }
    }
    if ((rows || becameCaughtUp || update.status) && m_caughtUp) {
        std::vector<RunAlarm> alarms = m_watch.look(m_record);
        problems = problems || alarms != m_alarms;
        m_alarms = std::move(alarms);
    }
    if (problems) {
        Q_EMIT problemChanged();
    }
}

} // namespace rankwise::bridge
