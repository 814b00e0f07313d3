// SPDX-License-Identifier: Apache-2.0
#include "widgets/demo/demo_view.h"

#include "backend/eval/statistics.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDesktopServices>
#include <QDir>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QProgressBar>
#include <QSignalBlocker>
#include <QSplitter>
#include <QStackedWidget>
#include <QTableView>
#include <QToolButton>
#include <QUrl>
#include <QVBoxLayout>

#include <algorithm>
#include <csignal>

namespace rankwise::demo_view {

using bridge::toQString;

namespace {

constexpr int kProgressSteps = 1000;

QString partText(const data::DemoPart& part)
{
    return part.run.empty() ? toQString(part.name) : QObject::tr("fine-tuning by %1").arg(toQString(part.name));
}

QString partState(const data::DemoPart& part)
{
    return part.fraction >= 1 ? QObject::tr("done ✓")
        : part.fraction > 0   ? QObject::tr("%1 %").arg(100 * part.fraction, 0, 'f', 0)
                              : QObject::tr("to do");
}

QStringList demoArguments(const QString& folder, bool quick)
{
    QStringList words { QStringLiteral("demo"), QStringLiteral("--headless"), QStringLiteral("--out"), folder };
    if (quick) {
        words << QStringLiteral("--quick");
    }
    return words;
}

QString demoFolder(const bridge::Settings& settings, bool quick)
{
    return QDir(settings.runsFolder()).filePath(quick ? QStringLiteral("demo-quick") : QStringLiteral("demo"));
}

} // namespace

DemoView::DemoView(bridge::Workspace& workspace, bridge::Settings& settings, bridge::CommandRegistry& commands,
                   common::ActionBinder& actions, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_settings(settings), m_commands(commands),
      m_success(tr("Success in simulation"), tr("success (%)"), 0, 100), m_stack(new QStackedWidget),
      m_headline(new QLabel), m_doing(new QLabel), m_problem(new QLabel), m_progress(new QProgressBar),
      m_follow(new QCheckBox(tr("Follow along"))), m_task(new QComboBox), m_table(new QTableView)
{
    m_success.setEmptyText(tr("Rollouts come after training: rates with 95 % Wilson intervals"));
    m_stack->addWidget(buildEmpty(actions));
    m_stack->addWidget(buildBody(actions));
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(m_stack);
    connect(&workspace, &bridge::Workspace::demoSelected, this, &DemoView::show);
    connect(m_task, &QComboBox::currentIndexChanged, this, &DemoView::refreshSuccess);
    show(workspace.selection().demo);
}

DemoView::~DemoView() = default;

QWidget* DemoView::buildEmpty(common::ActionBinder& actions)
{
    auto* page = new QWidget;
    auto* headline = new QLabel(tr("The main job, from nothing"));
    headline->setProperty("role", QStringLiteral("title"));
    headline->setAlignment(Qt::AlignCenter);
    auto* hint = new QLabel(tr("Records demonstrations in simulation, fine-tunes the small policy that comes along by "
                               "several methods, compresses, and rolls everything out on the practice arm. Whole: some "
                               "ten minutes on two cores; quick: one task in a minute or two."));
    hint->setAlignment(Qt::AlignCenter);
    hint->setWordWrap(true);
    auto* buttons = new QHBoxLayout;
    buttons->addStretch();
    for (const char* id : { "demo.start", "demo.quick", "file.open" }) {
        buttons->addWidget(actions.button(QLatin1String(id), page));
    }
    buttons->addStretch();
    auto* layout = new QVBoxLayout(page);
    layout->addStretch();
    layout->addWidget(headline);
    layout->addWidget(hint);
    layout->addLayout(buttons);
    layout->addStretch();
    return page;
}

QWidget* DemoView::buildBody(common::ActionBinder& actions)
{
    m_headline->setProperty("role", QStringLiteral("title"));
    m_headline->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_doing->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_doing->setAccessibleName(tr("What the demo does now"));
    m_problem->setProperty("role", QStringLiteral("alarm"));
    m_problem->setWordWrap(true);
    m_problem->hide();
    m_progress->setRange(0, kProgressSteps);
    m_progress->setTextVisible(false);
    m_progress->setAccessibleName(tr("Share of the demo that is done"));
    m_follow->setChecked(true);
    m_follow->setToolTip(tr("Shows the ranks while they train, and comes back here for the rollouts"));
    auto* bar = new QHBoxLayout;
    bar->addWidget(m_headline, 1);
    bar->addWidget(m_follow);
    for (const char* id : { "demo.stop", "demo.go_on", "demo.rollout", "demo.report" }) {
        bar->addWidget(actions.button(QLatin1String(id)));
    }

    m_table->setModel(&m_parts);
    m_table->setAccessibleName(tr("Parts of the demo"));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setSelectionMode(QAbstractItemView::SingleSelection);
    m_table->setAlternatingRowColors(true);
    m_table->setToolTip(tr("Enter or a double click on a run shows it in Train"));
    m_table->verticalHeader()->hide();
    m_table->horizontalHeader()->setStretchLastSection(false);
    connect(m_table, &QTableView::activated, this, [this](const QModelIndex& index) {
        const auto row = static_cast<std::size_t>(index.row());
        if (m_tail && row < m_shownParts.size() && !m_shownParts[row].run.empty()) {
            m_workspace.selectRun(QDir(m_tail->folder()).filePath(toQString(m_shownParts[row].run)));
            m_commands.trigger(QStringLiteral("train.ranks"));
        }
    });
    auto* chart = new common::ChartView(m_success);
    m_task->setAccessibleName(tr("Task whose success is shown"));
    chart->addTool(m_task);
    auto* splitter = new QSplitter;
    splitter->setObjectName(QStringLiteral("demo.splitter"));
    splitter->addWidget(m_table);
    splitter->addWidget(chart);
    splitter->setStretchFactor(1, 1);
    splitter->setSizes({ 340, 620 });
    splitter->setChildrenCollapsible(false);

    auto* page = new QWidget;
    auto* layout = new QVBoxLayout(page);
    layout->setContentsMargins(6, 4, 6, 4);
    layout->addLayout(bar);
    layout->addWidget(m_progress);
    layout->addWidget(m_doing);
    layout->addWidget(m_problem);
    layout->addWidget(splitter, 1);
    return page;
}

QStringList DemoView::commandIds()
{
    return { QStringLiteral("demo.start"), QStringLiteral("demo.quick"),   QStringLiteral("demo.go_on"),
             QStringLiteral("demo.stop"),  QStringLiteral("demo.rollout"), QStringLiteral("demo.report") };
}

void DemoView::addCommands(bridge::CommandRegistry& commands, bridge::Settings& settings,
                           std::function<DemoView*(bool show)> view)
{
    const QString category = tr("Demo");
    const auto shell = [&settings](bool quick) {
        return [&settings, quick] {
            return QStringLiteral("rankwise ") + bridge::shellLine(demoArguments(demoFolder(settings, quick), quick));
        };
    };
    const auto running = [view] {
        const DemoView* demo = view(false);
        return demo != nullptr && demo->active();
    };
    commands.add({ .id = QStringLiteral("demo.start"),
                   .category = category,
                   .text = tr("Run the demo"),
                   .key = {},
                   .help = tr("Records, fine-tunes, compresses and rolls out, about ten minutes on two cores"),
                   .run = [view] { view(true)->start(false); },
                   .enabled = [running] { return !running(); },
                   .commandLine = shell(false) });
    commands.add({ .id = QStringLiteral("demo.quick"),
                   .category = category,
                   .text = tr("Run the quick demo"),
                   .key = {},
                   .help = tr("One task, fewer steps: a minute or two"),
                   .run = [view] { view(true)->start(true); },
                   .enabled = [running] { return !running(); },
                   .commandLine = shell(true) });
    commands.add({ .id = QStringLiteral("demo.go_on"),
                   .category = category,
                   .text = tr("Go on with the demo"),
                   .key = {},
                   .help = tr("Takes a stopped demo up where it was"),
                   .run = [view] { view(true)->goOn(); },
                   .enabled = [view] { return view(false) != nullptr && view(false)->canGoOn(); } });
    commands.add({ .id = QStringLiteral("demo.stop"),
                   .category = category,
                   .text = tr("Stop the demo"),
                   .key = {},
                   .help = tr("Keeps what is done; it can go on from there"),
                   .run = [view] { view(true)->stop(); },
                   .enabled = running });
    commands.add({ .id = QStringLiteral("demo.rollout"),
                   .category = category,
                   .text = tr("Roll out the adapted policy"),
                   .key = {},
                   .help = tr("On the practice arm; nothing outside this machine moves"),
                   .run = [view] { view(true)->rollOutAdapted(); },
                   .enabled = [view] { return view(false) != nullptr && !view(false)->adaptedRun().isEmpty(); } });
    commands.add({ .id = QStringLiteral("demo.report"),
                   .category = category,
                   .text = tr("Open the report"),
                   .key = {},
                   .help = tr("report.html of the demo, in the browser"),
                   .run = [view] { view(true)->openReport(); },
                   .enabled =
                       [view] {
                           const DemoView* demo = view(false);
                           return demo != nullptr && demo->tail() != nullptr && !demo->tail()->report().isEmpty();
                       } });
}

void DemoView::show(const QString& folder)
{
    if (folder == (m_tail ? m_tail->folder() : QString())) {
        return;
    }
    m_followed.clear();
    if (m_job) { // it goes on, but nobody follows it here
        m_workspace.jobs().end(*m_job, bridge::Job::State::Done);
        m_job.clear();
    }
    m_tail = folder.isEmpty() ? nullptr : std::make_unique<bridge::DemoTail>(folder);
    if (m_tail) {
        connect(m_tail.get(), &bridge::DemoTail::updated, this, &DemoView::refresh);
    }
    refresh();
}

bool DemoView::active() const
{
    return m_tail && m_tail->status() && m_tail->status()->worker.active();
}

bool DemoView::canGoOn() const
{
    return m_tail && m_tail->status() && !m_tail->status()->worker.active()
        && m_tail->status()->worker.state != data::RunState::Finished;
}

QString DemoView::adaptedRun() const
{
    for (const data::DemoPart& part : m_shownParts) {
        if (!part.run.empty() && part.fraction >= 1) {
            return QDir(m_tail->folder()).filePath(toQString(part.run));
        }
    }
    return {};
}

void DemoView::refresh()
{
    m_stack->setCurrentIndex(m_tail ? 1 : 0);
    m_shownParts.clear();
    if (!m_tail) {
        m_commands.refresh();
        return;
    }
    m_headline->setText(tr("Demo in %1").arg(bridge::shownPath(m_tail->folder())));
    const auto& status = m_tail->status();
    if (status) {
        const data::RunStatus& worker = status->worker;
        m_shownParts = status->parts;
        m_progress->setValue(
            worker.state == data::RunState::Finished
                ? kProgressSteps
                : static_cast<int>(worker.step * kProgressSteps / std::max<std::int64_t>(1, worker.total)));
        QString text = toQString(data::runStateName(worker.state));
        if (worker.active()) {
            text += tr(" · %1 · about %2 left").arg(toQString(status->doing), bridge::durationText(worker.etaSeconds));
        } else if (!worker.reason.empty()) {
            text += QStringLiteral(" · ") + toQString(worker.reason);
        }
        m_doing->setText(text);
        m_doing->setToolTip(text);
    }
    m_problem->setText(m_tail->problem());
    m_problem->setVisible(!m_tail->problem().isEmpty() && !(status && status->worker.active()));
    const auto rows = static_cast<int>(m_shownParts.size());
    if (rows == m_parts.rowCount()) {
        m_parts.touch();
    } else {
        m_parts.reset({ tr("Part"), tr("State") }, rows, [this](int row, int column) -> QVariant {
            const data::DemoPart& part = m_shownParts[static_cast<std::size_t>(row)];
            return column == 0 ? partText(part) : partState(part);
        });
        m_table->horizontalHeader()->setSectionResizeMode(0, QHeaderView::Stretch);
        m_table->horizontalHeader()->setSectionResizeMode(1, QHeaderView::ResizeToContents);
    }
    refreshJob();
    refreshRuns();
    refreshTasks();
    refreshSuccess();
    followAlong();
    m_commands.refresh();
}

/// A demo that runs is a job, whoever started it.
void DemoView::refreshJob()
{
    bridge::JobRunner& jobs = m_workspace.jobs();
    if (active() && !m_job) {
        m_job = jobs.announce(tr("Demo in %1").arg(bridge::shownPath(m_tail->folder())));
        connect(m_job, &bridge::Job::cancelRequested, this, &DemoView::stop);
    }
    if (!m_job || !m_tail->status()) {
        return;
    }
    const data::RunStatus& worker = m_tail->status()->worker;
    if (worker.active()) {
        jobs.report(*m_job,
                    static_cast<double>(worker.step) / static_cast<double>(std::max<std::int64_t>(1, worker.total)),
                    toQString(m_tail->status()->doing));
        return;
    }
    using State = bridge::Job::State;
    jobs.end(*m_job,
             worker.state == data::RunState::Finished      ? State::Done
                 : worker.state == data::RunState::Stopped ? State::Cancelled
                                                           : State::Failed,
             toQString(worker.reason));
    m_job.clear();
}

/// Opens each run of the demo when it has begun.
void DemoView::refreshRuns()
{
    const QString selected = m_workspace.selection().run;
    QString first;
    QString inWork;
    for (const data::DemoPart& part : m_shownParts) {
        if (part.run.empty() || part.fraction <= 0) {
            continue;
        }
        const QString run = QDir(m_tail->folder()).filePath(toQString(part.run));
        if (m_workspace.run(run) == nullptr && !m_opened.contains(run)) {
            m_opened << run; // once: who closes it wants it closed
            m_workspace.addItem({ bridge::ItemKind::Run, run, tr("run of the demo") });
            first = first.isEmpty() ? run : first;
        }
        inWork = inWork.isEmpty() && part.fraction < 1 ? run : inWork;
    }
    // The first one that trains is looked at; of a demo that is over the first, unless another was looked at already.
    if (!first.isEmpty()) {
        m_workspace.selectRun(active() && !inWork.isEmpty() ? inWork : selected.isEmpty() ? first : selected);
    }
}

/// From this tab to the ranks when training begins, and back when it is over; each once. The check box turns it off.
void DemoView::followAlong()
{
    const QString part = m_tail->currentPart();
    if (!m_follow->isChecked() || !active() || part.isEmpty() || part == m_followed) {
        return;
    }
    const auto trains = [this](const QString& name) {
        const auto found = std::ranges::find(m_shownParts, name.toStdString(), &data::DemoPart::name);
        return found != m_shownParts.end() && !found->run.empty();
    };
    const bool before = trains(m_followed);
    const bool now = trains(part);
    m_followed = part;
    if (now && !before && isVisible()) {
        m_commands.trigger(QStringLiteral("train.ranks"));
    } else if (!now && before) {
        m_commands.trigger(QStringLiteral("view.demo"));
    }
}

void DemoView::refreshTasks()
{
    QStringList tasks;
    for (const data::DemoTally& tally : m_tail->status() ? m_tail->status()->tallies : std::vector<data::DemoTally>()) {
        if (const QString task = toQString(tally.task); !tasks.contains(task)) {
            tasks << task;
        }
    }
    if (tasks.size() + 1 == m_task->count()) {
        return;
    }
    const QString chosen = m_task->currentData().toString();
    const QSignalBlocker blocker(m_task);
    m_task->clear();
    m_task->addItem(tr("all tasks"));
    for (const QString& task : tasks) {
        m_task->addItem(task, task);
    }
    m_task->setCurrentIndex(std::max(0, m_task->findData(chosen)));
}

void DemoView::refreshSuccess()
{
    const std::string task = m_task->currentData().toString().toStdString();
    std::vector<std::pair<std::string, eval::SuccessCount>> counts;
    for (const data::DemoTally& tally :
         m_tail && m_tail->status() ? m_tail->status()->tallies : std::vector<data::DemoTally>()) {
        if (!task.empty() && tally.task != task) {
            continue;
        }
        auto found = std::ranges::find(counts, tally.policy, &std::pair<std::string, eval::SuccessCount>::first);
        if (found == counts.end()) {
            counts.emplace_back(tally.policy, eval::SuccessCount {});
            found = std::prev(counts.end());
        }
        found->second.successes += tally.successes;
        found->second.trials += tally.trials;
    }
    std::vector<common::IntervalChart::Row> rows;
    for (const auto& [policy, count] : counts) {
        const eval::Interval interval = eval::wilson(count);
        rows.push_back({ .name = toQString(policy),
                         .value = 100 * count.rate(),
                         .low = 100 * interval.low,
                         .high = 100 * interval.high,
                         .words = QStringLiteral("%1/%2").arg(count.successes).arg(count.trials),
                         .series = static_cast<int>(rows.size()) });
    }
    if (rows != m_success.rows()) {
        m_success.setRows(std::move(rows));
    }
}

void DemoView::start(bool quick)
{
    begin(demoFolder(m_settings, quick), quick);
}

void DemoView::goOn()
{
    if (canGoOn()) {
        begin(m_tail->folder(), m_tail->status()->quick);
    }
}

void DemoView::begin(const QString& folder, bool quick)
{
    m_workspace.jobs().start<qint64>(
        {},
        [folder, quick](const JobContext&) -> Result<qint64> {
            QDir().mkpath(folder);
            return bridge::startDetached(demoArguments(folder, quick), folder + QStringLiteral(".log"));
        },
        this,
        [this, folder](Result<qint64> started) {
            if (!started) {
                Q_EMIT message(bridge::errorSentence(started.error()));
                return;
            }
            Q_EMIT message(tr("Started. The demo goes on when this window closes."));
            m_workspace.addItem({ bridge::ItemKind::Demo, folder, tr("demo") });
        });
}

void DemoView::stop()
{
    if (active()) {
        ::kill(static_cast<pid_t>(m_tail->status()->worker.pid), SIGINT);
        Q_EMIT message(tr("Asked the demo to stop; it keeps what is done."));
    }
}

void DemoView::openReport()
{
    if (m_tail && !m_tail->report().isEmpty()) {
        QDesktopServices::openUrl(QUrl::fromLocalFile(m_tail->report()));
    }
}

void DemoView::rollOutAdapted()
{
    if (const QString run = adaptedRun(); !run.isEmpty()) {
        m_workspace.selectRun(run);
        m_commands.trigger(QStringLiteral("robot.rollout"));
    }
}

} // namespace rankwise::demo_view
