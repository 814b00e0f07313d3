// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/train_view.h"

#include "widgets/bridge/run_control.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/train/compose_panel.h"
#include "widgets/train/rank_panel.h"
#include "widgets/train/resume_dialog.h"
#include "widgets/train/score_panel.h"
#include "widgets/train/telemetry_panel.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFileInfo>
#include <QFrame>
#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QSignalBlocker>
#include <QStackedWidget>
#include <QTabWidget>
#include <QToolButton>
#include <QVBoxLayout>

namespace rankwise::train_view {

using bridge::RunTail;

namespace {

/// Why a run ended that should not have, and how to go on; empty when it trains or ended well.
QString badEnd(const RunTail& run)
{
    const bridge::RunRecord& record = run.record();
    if (!record.status || !record.run
        || (record.status->state != data::RunState::Failed && record.status->state != data::RunState::Lost)) {
        return {};
    }
    const auto& error = record.status->error;
    const QString why = error ? bridge::errorSentence(*error) : bridge::toQString(record.status->reason);
    const QString on = record.checkpoints.empty()
        ? TrainView::tr("Resume begins it anew; it has no checkpoint.")
        : TrainView::tr("Resume goes on from the checkpoint of step %1.").arg(record.checkpoints.back().step);
    return TrainView::tr("Training ended at step %1: %2 %3").arg(record.status->step).arg(why, on);
}

} // namespace

TrainView::TrainView(bridge::Workspace& workspace, bridge::Settings& settings, bridge::CommandRegistry& commands,
                     common::ActionBinder& actions, QUndoStack& undo, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_commands(commands), m_runs(new QComboBox), m_state(new QLabel),
      m_eta(new QDoubleSpinBox), m_etaApply(new QPushButton(tr("Set"))), m_etaBox(new QWidget), m_alarm(new QFrame),
      m_alarmText(new QLabel), m_pages(new QTabWidget), m_compose(new ComposePanel(workspace, settings, undo)),
      m_telemetry(new TelemetryPanel(workspace)), m_ranks(new RankPanel(workspace)),
      m_scores(new ScorePanel(workspace)), m_liveStack(new QStackedWidget)
{
    m_runs->setAccessibleName(tr("Run shown"));
    m_runs->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    m_runs->setMinimumContentsLength(15);
    m_state->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_state->setMinimumWidth(120);
    m_eta->setRange(0.01, 1.0);
    m_eta->setDecimals(3);
    m_eta->setSingleStep(0.01);
    m_eta->setAccessibleName(tr("Kept energy η"));
    m_eta->setToolTip(
        tr("Share of the score energy that a token's active directions keep; changes the running training"));
    auto* etaLayout = new QHBoxLayout(m_etaBox);
    etaLayout->setContentsMargins(0, 0, 0, 0);
    etaLayout->addWidget(new QLabel(QStringLiteral("η")));
    etaLayout->addWidget(m_eta);
    etaLayout->addWidget(m_etaApply);
    m_etaApply->setAccessibleName(tr("Send η to the worker"));
    auto* overlay = new QCheckBox(tr("Overlay"));
    overlay->setToolTip(tr("Draw all open runs over each other"));
    auto* bar = new QHBoxLayout;
    bar->setContentsMargins(6, 4, 6, 0);
    bar->addWidget(m_runs);
    bar->addWidget(m_state, 1);
    bar->addWidget(m_etaBox);
    for (const char* id : { "run.pause", "run.stop", "run.resume", "run.snapshot" }) {
        QToolButton* button = actions.button(QLatin1String(id));
        bar->addWidget(button);
        // What a run that trains can do, and what one that does not.
        (QLatin1String(id) == QLatin1String("run.resume") ? m_restButtons : m_liveButtons) << button;
    }
    bar->addWidget(overlay);

    m_alarm->setProperty("role", QStringLiteral("alarm"));
    m_alarmText->setWordWrap(true);
    auto* alarmLayout = new QHBoxLayout(m_alarm);
    alarmLayout->setContentsMargins(8, 4, 8, 4);
    alarmLayout->addWidget(m_alarmText, 1);
    m_alarm->hide();
    auto* alarmMargin = new QHBoxLayout;
    alarmMargin->setContentsMargins(6, 0, 6, 0);
    alarmMargin->addWidget(m_alarm);

    auto* empty = new QWidget;
    auto* emptyLayout = new QVBoxLayout(empty);
    auto* headline = new QLabel(tr("No run is open"));
    headline->setProperty("role", QStringLiteral("title"));
    headline->setAlignment(Qt::AlignCenter);
    auto* hint =
        new QLabel(tr("Compose one and start it, or open the folder of a run: one that is training elsewhere is "
                      "followed as well."));
    hint->setAlignment(Qt::AlignCenter);
    hint->setWordWrap(true);
    auto* composeButton = new QPushButton(tr("Compose a run"));
    auto* buttons = new QHBoxLayout;
    buttons->addStretch();
    buttons->addWidget(composeButton);
    buttons->addWidget(actions.button(QStringLiteral("file.open")));
    buttons->addStretch();
    emptyLayout->addStretch();
    emptyLayout->addWidget(headline);
    emptyLayout->addWidget(hint);
    emptyLayout->addLayout(buttons);
    emptyLayout->addStretch();
    m_liveStack->addWidget(empty);
    m_liveStack->addWidget(m_telemetry);

    m_pages->setDocumentMode(true);
    m_pages->addTab(m_liveStack, tr("Live"));
    m_pages->addTab(m_ranks, tr("Ranks"));
    m_pages->addTab(m_scores, tr("Scores and routing"));
    m_pages->addTab(m_compose, tr("Compose"));
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(4);
    layout->addLayout(bar);
    layout->addLayout(alarmMargin);
    layout->addWidget(m_pages, 1);

    connect(composeButton, &QPushButton::clicked, this, [this] { m_pages->setCurrentWidget(m_compose); });
    connect(overlay, &QCheckBox::toggled, m_telemetry, &TelemetryPanel::setOverlay);
    connect(m_etaApply, &QPushButton::clicked, this, &TrainView::applyEta);
    connect(m_runs, &QComboBox::activated, this, [this] { m_workspace.selectRun(m_runs->currentData().toString()); });
    connect(m_compose, &ComposePanel::message, this, &TrainView::message);
    connect(m_compose, &ComposePanel::started, this, [this](const QString& run) {
        m_pages->setCurrentIndex(0);
        Q_EMIT message(tr("Started %1. The worker goes on when this window closes.").arg(bridge::shownPath(run)));
    });
    connect(&workspace, &bridge::Workspace::runSelected, this, &TrainView::showRun);
    connect(&workspace, &bridge::Workspace::itemAdded, this, [this] { showRun(m_workspace.selection().run); });
    connect(&workspace, &bridge::Workspace::itemClosed, this, [this] { showRun(m_workspace.selection().run); });
    showRun(workspace.selection().run);
}

QStringList TrainView::commandIds()
{
    return { QStringLiteral("train.compose"), QStringLiteral("train.start"),    QString(),
             QStringLiteral("run.pause"),     QStringLiteral("run.stop"),       QStringLiteral("run.resume"),
             QStringLiteral("run.snapshot"),  QStringLiteral("run.checkpoint"), QString(),
             QStringLiteral("ranks.play"),    QStringLiteral("train.live"),     QStringLiteral("train.ranks"),
             QStringLiteral("train.scores") };
}

void TrainView::addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace,
                            std::function<TrainView*()> view)
{
    const QString category = tr("Train");
    const auto active = [&workspace] { return workspace.currentRun() != nullptr && workspace.currentRun()->active(); };
    const auto paused = [&workspace] {
        const RunTail* run = workspace.currentRun();
        return run != nullptr && run->record().status && run->record().status->state == data::RunState::Paused;
    };
    const auto page = [view](int index) { return [view, index] { view()->pages().setCurrentIndex(index); }; };
    const auto shell = [&workspace](const QString& verb) {
        return [&workspace, verb] {
            return QStringLiteral("rankwise gui --open %1 --do %2")
                .arg(bridge::shellWord(workspace.selection().run), verb);
        };
    };
    commands.add({ .id = QStringLiteral("train.compose"),
                   .category = category,
                   .text = tr("Compose a run"),
                   .key = QStringLiteral("Ctrl+N"),
                   .help = tr("Fill in the configuration of a new training run"),
                   .run = page(3) });
    commands.add({ .id = QStringLiteral("train.start"),
                   .category = category,
                   .text = tr("Start the composed run"),
                   .key = QStringLiteral("Ctrl+Return"),
                   .help = tr("Starts a worker process with the composed configuration"),
                   .run = [view] { view()->compose().start(); },
                   .commandLine = [view] { return view()->compose().commandLine(); } });
    commands.add(
        { .id = QStringLiteral("run.pause"),
          .category = category,
          .text = tr("Pause"),
          .key = QStringLiteral("F6"),
          .help = tr("Asks the worker of the selected run to pause, or to go on"),
          .checkable = true,
          .run = [view,
                  paused] { view()->control(paused() ? data::ControlAction::Resume : data::ControlAction::Pause); },
          .enabled = active,
          .checked = paused,
          .commandLine = shell(QStringLiteral("run.pause")) });
    commands.add({ .id = QStringLiteral("run.stop"),
                   .category = category,
                   .text = tr("Stop"),
                   .key = QStringLiteral("Ctrl+F6"),
                   .help = tr("Asks the worker to write a checkpoint and stop; the run can be resumed"),
                   .run = [view] { view()->control(data::ControlAction::Stop); },
                   .enabled = active,
                   .commandLine = shell(QStringLiteral("run.stop")) });
    commands.add({ .id = QStringLiteral("run.resume"),
                   .category = category,
                   .text = tr("Resume the run"),
                   .key = QStringLiteral("Shift+F6"),
                   .help = tr("Goes on with a stopped, failed or lost run from its newest checkpoint, or extends a "
                              "finished one; shows first what would be different"),
                   .run = [view] { view()->askToResume(); },
                   .enabled =
                       [&workspace] {
                           const RunTail* run = workspace.currentRun();
                           return run != nullptr && run->record().run && run->record().status && !run->active();
                       },
                   .commandLine =
                       [&workspace] {
                           return bridge::shellLine(QStringList { QStringLiteral("rankwise") }
                                                    + bridge::resumeArguments(workspace.selection().run, 0));
                       } });
    commands.add({ .id = QStringLiteral("run.snapshot"),
                   .category = category,
                   .text = tr("Snapshot"),
                   .key = QStringLiteral("F7"),
                   .help = tr("Asks the worker to write scores and histograms now"),
                   .run = [view] { view()->control(data::ControlAction::Snapshot); },
                   .enabled = active,
                   .commandLine = shell(QStringLiteral("run.snapshot")) });
    commands.add({ .id = QStringLiteral("run.checkpoint"),
                   .category = category,
                   .text = tr("Checkpoint"),
                   .key = QStringLiteral("Ctrl+F7"),
                   .help = tr("Asks the worker to write a checkpoint now"),
                   .run = [view] { view()->control(data::ControlAction::Checkpoint); },
                   .enabled = active,
                   .commandLine = shell(QStringLiteral("run.checkpoint")) });
    commands.add({ .id = QStringLiteral("ranks.play"),
                   .category = category,
                   .text = tr("Play the rank map as a movie"),
                   .key = QStringLiteral("Ctrl+P"),
                   .help = {},
                   .run = [view] {
                       view()->pages().setCurrentIndex(1);
                       view()->ranks().togglePlay();
                   } });
    commands.add({ .id = QStringLiteral("train.live"),
                   .category = category,
                   .text = tr("Show live curves"),
                   .key = QStringLiteral("Alt+1"),
                   .help = {},
                   .run = page(0) });
    commands.add({ .id = QStringLiteral("train.ranks"),
                   .category = category,
                   .text = tr("Show ranks"),
                   .key = QStringLiteral("Alt+2"),
                   .help = {},
                   .run = page(1) });
    commands.add({ .id = QStringLiteral("train.scores"),
                   .category = category,
                   .text = tr("Show scores and routing"),
                   .key = QStringLiteral("Alt+3"),
                   .help = {},
                   .run = page(2) });
}

void TrainView::showRun(const QString& path)
{
    {
        const QSignalBlocker blocker(m_runs);
        m_runs->clear();
        for (const RunTail* run : m_workspace.runs()) {
            m_runs->addItem(run->title(), run->path());
        }
        m_runs->setCurrentIndex(m_runs->findData(path));
        m_runs->setVisible(m_runs->count() > 0);
    }
    RunTail* run = m_workspace.run(path);
    if (run != m_run) {
        if (m_run) {
            disconnect(m_run, nullptr, this, nullptr);
        }
        m_run = run;
        if (run != nullptr) {
            connect(run, &RunTail::statusChanged, this, &TrainView::refreshStatus);
            connect(run, &RunTail::statusChanged, this, &TrainView::refreshProblems);
            connect(run, &RunTail::updated, this, &TrainView::refreshStatus);
            connect(run, &RunTail::problemChanged, this, &TrainView::refreshProblems);
        }
        m_telemetry->setRun(run);
        m_ranks->setRun(run);
        m_scores->setRun(run);
    }
    m_liveStack->setCurrentIndex(run != nullptr ? 1 : 0);
    refreshStatus();
    refreshProblems();
}

void TrainView::refreshStatus()
{
    const bool resting = m_run && m_run->record().status && !m_run->active();
    for (QWidget* button : std::as_const(m_liveButtons)) {
        button->setVisible(!resting);
    }
    for (QWidget* button : std::as_const(m_restButtons)) {
        button->setVisible(resting);
    }
    if (!m_run) {
        m_state->clear();
        m_etaBox->hide();
        m_commands.refresh();
        return;
    }
    const bridge::RunRecord& record = m_run->record();
    QString text = m_run->stateText();
    if (record.status) {
        text += tr(" · step %1 of %2").arg(record.status->step).arg(record.status->total);
        if (record.status->active() && record.status->etaSeconds >= 0) {
            text += tr(" · about %1 left").arg(bridge::durationText(record.status->etaSeconds));
        }
    }
    if (!record.steps.loss.empty()) {
        text += tr(" · loss %1").arg(bridge::numberText(record.steps.loss.back()));
    }
    m_state->setText(m_state->fontMetrics().elidedText(text, Qt::ElideRight, m_state->width()));
    if (record.status && !record.status->reason.empty()) {
        text += QStringLiteral(" · ") + bridge::toQString(record.status->reason);
    }
    m_state->setToolTip(text);
    const std::optional<double> eta = record.parameter("eta");
    m_etaBox->setVisible(eta.has_value());
    m_etaApply->setEnabled(m_run->active());
    if (eta && !m_eta->hasFocus() && m_eta->property("shown").toDouble() != *eta) {
        m_eta->setValue(*eta);
        m_eta->setProperty("shown", *eta);
    }
    m_commands.refresh();
}

void TrainView::refreshProblems()
{
    QStringList lines;
    if (m_run) {
        if (!m_run->problem().isEmpty()) {
            lines << QStringLiteral("⚠ ") + m_run->problem();
        }
        if (const QString end = badEnd(*m_run); !end.isEmpty()) {
            lines << QStringLiteral("⚠ ") + end;
        }
        for (const bridge::RunAlarm& alarm : m_run->alarms()) {
            lines << tr("⚠ Step %1: %2").arg(alarm.step).arg(alarm.text);
        }
    }
    if (const QString text = lines.join(QLatin1Char('\n')); text != m_alarmText->text()) {
        m_alarmText->setText(text);
    }
    m_alarm->setVisible(!lines.isEmpty());
}

void TrainView::control(data::ControlAction action, const QString& name, double value)
{
    if (!m_run) {
        return;
    }
    const QString what = bridge::toQString(data::controlActionName(action));
    Q_EMIT message(tr("Asked the worker: %1").arg(what));
    bridge::postControl(m_workspace.jobs(), m_run->path(), action, name, value, this,
                        [this, what](Result<std::optional<data::ControlAnswer>> answer) {
                            if (!answer) {
                                Q_EMIT message(bridge::errorSentence(answer.error()));
                            } else if (!*answer) {
                                Q_EMIT message(tr("The worker has not answered to “%1” within 10 s.").arg(what));
                            } else {
                                Q_EMIT message(
                                    (*answer)->accepted
                                        ? tr("%1: done at step %2").arg(what).arg((*answer)->step)
                                        : tr("%1 refused: %2").arg(what, bridge::toQString((*answer)->message)));
                            }
                        });
}

void TrainView::askToResume()
{
    if (!m_run || !m_run->record().status) {
        return;
    }
    auto* dialog = new ResumeDialog(m_workspace, m_run->path(), *m_run->record().status, this);
    connect(dialog, &ResumeDialog::message, this, &TrainView::message);
    connect(dialog, &ResumeDialog::resumeWanted, this, &TrainView::resumeRun);
    dialog->open();
}

void TrainView::resumeRun(const QString& run, std::int64_t steps)
{
    Q_EMIT message(tr("Starting a worker for %1").arg(bridge::shownPath(run)));
    m_workspace.jobs().start<bool>(
        tr("Resume %1").arg(QFileInfo(run).fileName()),
        [run, steps](const JobContext& job) -> Result<bool> {
            RW_TRY_VOID(bridge::resumeTraining(run, steps, job));
            return true;
        },
        this,
        [this, run](const Result<bool>& started) {
            if (started) {
                Q_EMIT message(tr("%1 trains again").arg(bridge::shownPath(run)));
            } else if (started.error().code != Errc::Cancelled) {
                Q_EMIT message(
                    tr("%1 was not resumed: %2").arg(bridge::shownPath(run), resumeFailure(started.error())));
            }
        });
}

void TrainView::applyEta()
{
    control(data::ControlAction::Set, QStringLiteral("eta"), m_eta->value());
}

} // namespace rankwise::train_view
