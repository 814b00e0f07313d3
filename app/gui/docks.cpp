// SPDX-License-Identifier: Apache-2.0
#include "app/gui/docks.h"

#include "app/gui/side_panels.h"
#include "widgets/common/jobs_panel.h"
#include "widgets/common/log_panel.h"

#include <QDockWidget>
#include <QTableView>

#include <utility>

namespace rankwise::gui {

Docks::Docks(QMainWindow& window, bridge::Workspace& workspace, bridge::CommandRegistry& commands,
             LayoutHistory& history)
    : QObject(&window), m_window(window), m_commands(commands), m_history(history), m_log(new bridge::LogModel(this)),
      m_jobs(new bridge::JobsModel(workspace, this)), m_tree(new WorkspaceTree(workspace)),
      m_jobsPanel(new common::JobsPanel(*m_jobs)), m_logPanel(new common::LogPanel(*m_log))
{
    add(QStringLiteral("workspace"), tr("Workspace"), m_tree, Qt::LeftDockWidgetArea);
    add(QStringLiteral("inspector"), tr("Inspector"), new Inspector(workspace), Qt::LeftDockWidgetArea);
    add(QStringLiteral("jobs"), tr("Jobs"), m_jobsPanel, Qt::BottomDockWidgetArea);
    add(QStringLiteral("log"), tr("Log"), m_logPanel, Qt::BottomDockWidgetArea);
    arrange();
    addJobCommands();
    connect(m_jobsPanel, &common::JobsPanel::logAsked, this, &Docks::showLog);
}

QDockWidget* Docks::add(const QString& id, const QString& title, QWidget* widget, Qt::DockWidgetArea area)
{
    const QString name = QStringLiteral("dock.") + id;
    auto* dock = new QDockWidget(title, &m_window);
    dock->setObjectName(name);
    dock->setWidget(widget);
    m_window.addDockWidget(area, dock);
    m_history.follow(*dock);
    m_docks.insert(id, dock);
    m_ids << name;
    m_commands.add({ .id = name,
                     .category = tr("View"),
                     .text = tr("Dock: %1").arg(title),
                     .key = {},
                     .help = tr("Shows or hides the dock"),
                     .checkable = true,
                     .run =
                         [this, dock, title] {
                             const bool show = dock->isHidden();
                             m_history.change(show ? tr("Show %1").arg(title) : tr("Hide %1").arg(title),
                                              [dock, show] { dock->setVisible(show); });
                             if (show) {
                                 dock->raise();
                             }
                         },
                     .enabled = {},
                     .checked = [dock] { return !dock->isHidden(); } });
    connect(dock, &QDockWidget::visibilityChanged, &m_commands, &bridge::CommandRegistry::refresh);
    return dock;
}

void Docks::arrange()
{
    const auto dock = [this](const char* id) { return m_docks.value(QLatin1String(id)); };
    m_window.tabifyDockWidget(dock("jobs"), dock("log"));
    dock("jobs")->raise();
    m_window.setCorner(Qt::BottomLeftCorner, Qt::LeftDockWidgetArea);
    m_window.resizeDocks({ dock("workspace"), dock("inspector") }, { 230, 230 }, Qt::Horizontal);
    m_window.resizeDocks({ dock("workspace"), dock("inspector") }, { 220, 460 }, Qt::Vertical);
    m_window.resizeDocks({ dock("jobs") }, { 96 }, Qt::Vertical);
}

void Docks::addJobCommands()
{
    const auto add = [this](const char* id, const QString& text, const QString& help, std::function<void()> run,
                            std::function<bool()> enabled) {
        m_commands.add({ .id = QLatin1String(id),
                         .category = tr("Jobs"),
                         .text = text,
                         .key = {},
                         .help = help,
                         .run = std::move(run),
                         .enabled = std::move(enabled) });
    };
    const auto can = [this](int role) {
        return [this, role] { return m_jobsPanel->table().currentIndex().data(role).toBool(); };
    };
    add(
        "jobs.pause", tr("Pause the selected job"), tr("Or lets it go on"), [this] { m_jobsPanel->pauseCurrent(); },
        can(bridge::JobsModel::CanPauseRole));
    add(
        "jobs.stop", tr("Stop the selected job"), tr("Work ends within a moment; a run writes a checkpoint first"),
        [this] { m_jobsPanel->stopCurrent(); }, can(bridge::JobsModel::CanCancelRole));
    add(
        "jobs.log", tr("Log lines of the selected job"), tr("What was logged while it ran"),
        [this] { m_jobsPanel->showLogOfCurrent(); }, can(bridge::JobsModel::BeganRole));
    add(
        "jobs.clear", tr("Clear finished jobs"), {}, [this] { m_jobs->clearFinished(); },
        [this] { return m_jobs->rowCount() > 0; });
    connect(m_jobs, &QAbstractItemModel::rowsInserted, &m_commands, &bridge::CommandRegistry::refresh);
    connect(m_jobs, &QAbstractItemModel::rowsRemoved, &m_commands, &bridge::CommandRegistry::refresh);
    connect(m_jobs, &bridge::JobsModel::activeCountChanged, &m_commands, &bridge::CommandRegistry::refresh);
}

void Docks::raise(const QString& id)
{
    if (QDockWidget* dock = m_docks.value(id)) {
        dock->show();
        dock->raise();
    }
}

void Docks::showLog(const QString& title, double from, double to)
{
    raise(QStringLiteral("log"));
    m_logPanel->showSpan(title, from, to);
}

void Docks::clear()
{
    for (QDockWidget* dock : std::as_const(m_docks)) {
        delete dock;
    }
    m_docks.clear();
    m_ids.clear();
}

} // namespace rankwise::gui
