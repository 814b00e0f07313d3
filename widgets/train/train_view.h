// The Train tab: compose a run, start it, follow it, steer it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"

#include <QPointer>
#include <QVector>
#include <QWidget>

#include <functional>

class QComboBox;
class QDoubleSpinBox;
class QFrame;
class QLabel;
class QPushButton;
class QStackedWidget;
class QTabWidget;
class QUndoStack;

namespace rankwise::bridge {
class RunTail;
}

namespace rankwise::train_view {

class ComposePanel;
class RankPanel;
class ScorePanel;
class TelemetryPanel;

class TrainView : public QWidget {
    Q_OBJECT

public:
    TrainView(bridge::Workspace& workspace, bridge::Settings& settings, bridge::CommandRegistry& commands,
              common::ActionBinder& actions, QUndoStack& undo, QWidget* parent = nullptr);

    [[nodiscard]] ComposePanel& compose() { return *m_compose; }
    [[nodiscard]] TelemetryPanel& telemetry() { return *m_telemetry; }
    [[nodiscard]] RankPanel& ranks() { return *m_ranks; }
    [[nodiscard]] ScorePanel& scores() { return *m_scores; }
    [[nodiscard]] QTabWidget& pages() { return *m_pages; }
    [[nodiscard]] QDoubleSpinBox& eta() { return *m_eta; }
    /// The commands of this tab, for a menu; empty entries are separators.
    [[nodiscard]] static QStringList commandIds();
    /// Adds the commands of this tab to the list.
    static void addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace,
                            std::function<TrainView*()> view);

    /// Sends a request to the worker of the selected run; the answer goes to message().
    void control(rankwise::data::ControlAction action, const QString& name = {}, double value = 0);
    void applyEta();
    /// Shows what going on with the selected run would change, and asks.
    void askToResume();
    /// Starts a worker that goes on with `run` up to `steps` in all; 0: as many as it was to have.
    void resumeRun(const QString& run, std::int64_t steps);

Q_SIGNALS:
    void message(const QString& text);

private:
    void showRun(const QString& path);
    void refreshStatus();
    void refreshProblems();

    bridge::Workspace& m_workspace;
    bridge::CommandRegistry& m_commands;
    QPointer<bridge::RunTail> m_run;
    QComboBox* m_runs;
    QLabel* m_state;
    QDoubleSpinBox* m_eta;
    QPushButton* m_etaApply;
    QWidget* m_etaBox;
    QVector<QWidget*> m_liveButtons, m_restButtons;
    QFrame* m_alarm;
    QLabel* m_alarmText;
    QTabWidget* m_pages;
    ComposePanel* m_compose;
    TelemetryPanel* m_telemetry;
    RankPanel* m_ranks;
    ScorePanel* m_scores;
    QStackedWidget* m_liveStack;
};

} // namespace rankwise::train_view
