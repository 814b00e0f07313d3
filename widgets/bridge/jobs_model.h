// Running and recent jobs as a table: functions started by JobRunner, and training runs that are followed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"
#include "widgets/bridge/workspace.h"

#include <QAbstractTableModel>
#include <QTimer>
#include <QVector>

namespace rankwise::bridge {

class RunTail;

/// How a job ended.
struct JobEnd {
    QString title;
    QString state; ///< "done", "failed: …", as in the table.
    double seconds = 0;
    bool failed = false;
};

/// Columns: what, progress, rate, remaining, state. Thread: GUI.
class JobsModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Title, Progress, Rate, Remaining, State, ColumnCount };
    enum Role {
        FractionRole = Qt::UserRole,
        CanPauseRole,
        CanCancelRole,
        PausedRole,
        RunPathRole,
        FailedRole,
        BeganRole,
        EndedRole
    };
    // BeganRole, EndedRole: Unix seconds; 0 while it runs.

    explicit JobsModel(Workspace& workspace, QObject* parent = nullptr);

    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

    /// Stops the job, or asks the run's worker to stop at the next step.
    void cancel(int row);
    /// Asks the run's worker to pause, or to go on.
    void togglePause(int row);
    /// Removes finished rows, failed ones too.
    void clearFinished();
    [[nodiscard]] int activeCount() const;

Q_SIGNALS:
    void activeCountChanged(int count);
    void controlFailed(const QString& message);
    void ended(const rankwise::bridge::JobEnd& end);

private:
    struct Row {
        QPointer<Job> job;
        QPointer<RunTail> run;
        QString title;
        QString step;
        double fraction = 0;
        double elapsed = 0;
        double eta = -1;
        double rate = 0; ///< Steps a second, runs only.
        QString state;
        double began = 0; ///< Unix seconds.
        double finished = 0;
        bool active = true;
        bool paused = false;
        bool failed = false;
        bool stopping = false;
        bool wasActive = false; ///< Of a run: seen to train.
    };
    void addJob(Job* job);
    void addRun(RunTail* run);
    void refreshJob(Job* job);
    void refreshRun(RunTail* run);
    void update(int row);
    void countActive();
    void finishRow(int row);
    void dropOldest();
    void report(Result<std::optional<data::ControlAnswer>> answer);

    Workspace& m_workspace;
    QVector<Row> m_rows;
    QTimer m_tick;
    int m_active = 0;
};

} // namespace rankwise::bridge
