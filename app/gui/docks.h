// The docks around the views: workspace, inspector, jobs and log.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/layout_history.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/jobs_model.h"
#include "widgets/bridge/log_model.h"
#include "widgets/bridge/workspace.h"

#include <QMainWindow>
#include <QObject>
#include <QStringList>

class QDockWidget;

namespace rankwise::common {
class JobsPanel;
class LogPanel;
} // namespace rankwise::common

namespace rankwise::gui {

class WorkspaceTree;

/// Makes the docks and their commands. Thread: GUI.
class Docks : public QObject {
    Q_OBJECT

public:
    Docks(QMainWindow& window, bridge::Workspace& workspace, bridge::CommandRegistry& commands, LayoutHistory& history);

    [[nodiscard]] bridge::JobsModel& jobs() { return *m_jobs; }
    [[nodiscard]] WorkspaceTree& tree() { return *m_tree; }
    [[nodiscard]] common::JobsPanel& jobsPanel() { return *m_jobsPanel; }
    [[nodiscard]] common::LogPanel& logPanel() { return *m_logPanel; }
    /// "dock.workspace" and so on, for the menu.
    [[nodiscard]] QStringList commandIds() const { return m_ids; }
    /// Brings a dock to the front: shown, and raised among tabs.
    void raise(const QString& id);
    void showLog(const QString& title, double from, double to);
    /// Deletes the docks, before what they refer to.
    void clear();

private:
    QDockWidget* add(const QString& id, const QString& title, QWidget* widget, Qt::DockWidgetArea area);
    void arrange();
    void addJobCommands();

    QMainWindow& m_window;
    bridge::CommandRegistry& m_commands;
    LayoutHistory& m_history;
    bridge::LogModel* m_log;
    bridge::JobsModel* m_jobs;
    WorkspaceTree* m_tree;
    common::JobsPanel* m_jobsPanel;
    common::LogPanel* m_logPanel;
    QMap<QString, QDockWidget*> m_docks;
    QStringList m_ids;
};

} // namespace rankwise::gui
