// Before a run goes on: where it goes on from, how many steps it is to have, and what would be different.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"
#include "backend/train/resume_plan.h"
#include "widgets/bridge/job_runner.h"
#include "widgets/bridge/workspace.h"

#include <QDialog>
#include <QPointer>
#include <QString>
#include <QTimer>

#include <cstdint>
#include <optional>

class QLabel;
class QPushButton;
class QSpinBox;
class QTableWidget;

namespace rankwise::train_view {

/// Deletes itself when closed. Thread: GUI.
class ResumeDialog : public QDialog {
    Q_OBJECT

public:
    /// For the run in `run`, of which `status` is known. Looks at once what a resume would change.
    ResumeDialog(bridge::Workspace& workspace, QString run, const data::RunStatus& status, QWidget* parent = nullptr);

    /// What would happen; nothing while it is being looked at or when it cannot be.
    [[nodiscard]] const std::optional<train::ResumePlan>& plan() const { return m_plan; }
    [[nodiscard]] QSpinBox& steps() const { return *m_steps; }
    [[nodiscard]] QPushButton& resumeButton() const { return *m_resume; }
    [[nodiscard]] QTableWidget& differences() const { return *m_table; }
    /// What the dialog says in words.
    [[nodiscard]] QString text() const;
    /// The shell line of what the button does.
    [[nodiscard]] QString commandLine() const;

Q_SIGNALS:
    /// The user agreed; `steps` 0: as many as the run was to have.
    void resumeWanted(const QString& run, std::int64_t steps);
    void message(const QString& text);

private:
    void look();
    void showPlan(const train::ResumePlan& plan);
    [[nodiscard]] std::int64_t stepsWanted() const;

    bridge::Workspace& m_workspace;
    QString m_run;
    QPointer<bridge::Job> m_job;
    std::optional<train::ResumePlan> m_plan;
    QTimer m_delay; ///< After the last change of the number of steps.
    QLabel* m_text;
    QSpinBox* m_steps;
    QTableWidget* m_table;
    QPushButton* m_resume;
};

/// The words for a difference's name.
[[nodiscard]] QString differenceName(const std::string& what);
/// What to tell when a run cannot go on.
[[nodiscard]] QString resumeFailure(const Error& error);

} // namespace rankwise::train_view
