// Follows one run directory: reads it on a thread of its own and keeps a RunRecord in the GUI thread up to date.
// Only reads, so any number of windows may follow a run. What was read is kept when the directory vanishes, is
// torn, or gets a newer format.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/run_alarms.h"
#include "widgets/bridge/run_record.h"

#include <QObject>
#include <QString>

#include <memory>
#include <string>

namespace rankwise {
class WorkerThread;
}

namespace rankwise::bridge {

/// What one round of reading found; immutable, made by the reading thread.
struct RunUpdate {
    bool restart = false;                  ///< Another run is in this place: drop everything first.
    data::RunRows rows;                    ///< New ones; after a resume earlier ones are dropped first.
    std::shared_ptr<const Json> run;       ///< Null: as before.
    std::optional<data::RunStatus> status; ///< Nothing: as before.
    std::optional<std::map<std::int64_t, std::filesystem::path>> snapshots; ///< Nothing: as before.
    std::optional<std::vector<data::CheckpointInfo>> checkpoints;
    std::uint64_t skippedLines = 0;
    std::uint64_t tornBytes = 0;
    std::optional<std::string> problem; ///< Empty text: everything is well again. Nothing: as before.
    bool caughtUp = false;              ///< The reader reached the present end of the events.
};

/// Thread: GUI.
class RunTail : public QObject {
    Q_OBJECT

public:
    explicit RunTail(QString path, QObject* parent = nullptr);
    ~RunTail() override; ///< Stops the reading thread; it looks at its stop token every few milliseconds of work.

    [[nodiscard]] const QString& path() const { return m_path; }
    [[nodiscard]] QString title() const;
    [[nodiscard]] const RunRecord& record() const { return m_record; }
    [[nodiscard]] data::RunPaths paths() const;
    /// Why the directory cannot be followed at present; empty when all is well.
    [[nodiscard]] const QString& problem() const { return m_problem; }
    [[nodiscard]] const std::vector<RunAlarm>& alarms() const { return m_alarms; }
    /// The whole history was read once.
    [[nodiscard]] bool caughtUp() const { return m_caughtUp; }
    /// "running", "paused", …; "unknown" without a status.
    [[nodiscard]] QString stateText() const;
    [[nodiscard]] bool active() const { return m_record.status && m_record.status->active(); }

Q_SIGNALS:
    void updated();        ///< Rows were added or dropped.
    void statusChanged();  ///< State, step or heartbeat.
    void problemChanged(); ///< problem() or alarms().
    void snapshotsChanged();

private:
    void apply(const RunUpdate& update);

    QString m_path;
    RunRecord m_record;
    QString m_problem;
    AlarmWatch m_watch;
    std::vector<RunAlarm> m_alarms;
    bool m_caughtUp = false;
    std::unique_ptr<WorkerThread> m_worker; ///< Last: joined first.
};

} // namespace rankwise::bridge
