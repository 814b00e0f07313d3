// The Demo tab: what the main job has done and does now, and how the policies that came of it do at the tasks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/column_model.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/demo_tail.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"
#include "widgets/common/interval_chart.h"

#include <QPointer>
#include <QWidget>

#include <functional>
#include <memory>
#include <vector>

class QCheckBox;
class QComboBox;
class QLabel;
class QProgressBar;
class QStackedWidget;
class QTableView;

namespace rankwise::demo_view {

class DemoView : public QWidget {
    Q_OBJECT

public:
    DemoView(bridge::Workspace& workspace, bridge::Settings& settings, bridge::CommandRegistry& commands,
             common::ActionBinder& actions, QWidget* parent = nullptr);
    ~DemoView() override;

    /// Follows the demo of `folder` from now on; empty: none.
    void show(const QString& folder);
    [[nodiscard]] const bridge::DemoTail* tail() const { return m_tail.get(); }
    [[nodiscard]] common::IntervalChart& success() { return m_success; }
    [[nodiscard]] QComboBox* taskChoice() const { return m_task; }

    /// Starts a demo, or goes on with an unfinished one, and follows it.
    void start(bool quick);
    /// Takes the followed one up where it stopped.
    void goOn();
    [[nodiscard]] bool canGoOn() const;
    void stop();
    void openReport();
    /// The first policy that was adapted drives the practice arm.
    void rollOutAdapted();
    /// Run directory of the first adapted policy that is ready; empty: none is.
    [[nodiscard]] QString adaptedRun() const;

    [[nodiscard]] static QStringList commandIds();
    static void addCommands(bridge::CommandRegistry& commands, bridge::Settings& settings,
                            std::function<DemoView*(bool show)> view);

Q_SIGNALS:
    void message(const QString& text);

private:
    QWidget* buildEmpty(common::ActionBinder& actions);
    QWidget* buildBody(common::ActionBinder& actions);
    void begin(const QString& folder, bool quick);
    void refresh();
    void refreshJob();
    void refreshRuns();
    void followAlong();
    void refreshSuccess();
    void refreshTasks();
    [[nodiscard]] bool active() const;

    bridge::Workspace& m_workspace;
    bridge::Settings& m_settings;
    bridge::CommandRegistry& m_commands;
    std::unique_ptr<bridge::DemoTail> m_tail;
    common::IntervalChart m_success;
    bridge::ColumnModel m_parts;
    std::vector<data::DemoPart> m_shownParts;
    QStackedWidget* m_stack;
    QLabel* m_headline;
    QLabel* m_doing;
    QLabel* m_problem;
    QProgressBar* m_progress;
    QCheckBox* m_follow;
    QComboBox* m_task;
    QTableView* m_table;
    QPointer<bridge::Job> m_job; ///< Its row in the jobs dock, while it runs.
    QStringList m_opened;        ///< Runs that were opened for the demo.
    QString m_followed;          ///< Part whose view was shown last.
};

} // namespace rankwise::demo_view
