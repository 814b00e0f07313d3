// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/resume_dialog.h"

#include "backend/data/run_directory.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"

#include <QApplication>
#include <QClipboard>
#include <QCoreApplication>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QPushButton>
#include <QSpinBox>
#include <QTableWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <limits>

namespace rankwise::train_view {

namespace {

constexpr int kLookAfterMs = 250; ///< Hashing starts when the number of steps has come to rest.

int shownSteps(std::int64_t steps)
{
    return static_cast<int>(std::min<std::int64_t>(steps, std::numeric_limits<int>::max()));
}

} // namespace

QString differenceName(const std::string& what)
{
    const auto say = [](const char* text) { return QCoreApplication::translate("ResumeDialog", text); };
    return what == "steps"        ? say("Steps of the run")
        : what == "learning_rate" ? say("Learning rate of the first step")
        : what == "base"          ? say("Base weights (SHA-256)")
        : what == "dataset"       ? say("Dataset (SHA-256 of its tables)")
        : what == "checkpoint"    ? say("Checkpoint gone on from")
        : what == "version"       ? say("Version of Rankwise")
        : what == "host"          ? say("Machine")
                                  : bridge::toQString(what);
}

QString resumeFailure(const Error& error)
{
    if (error.code == Errc::AlreadyExists) {
        return QCoreApplication::translate(
            "ResumeDialog",
            "Another worker is training in this run already; two would destroy each other's work. "
            "Stop that one first.");
    }
    return bridge::errorSentence(error);
}

ResumeDialog::ResumeDialog(bridge::Workspace& workspace, QString run, const data::RunStatus& status, QWidget* parent)
    : QDialog(parent), m_workspace(workspace), m_run(std::move(run)), m_text(new QLabel), m_steps(new QSpinBox),
      m_table(new QTableWidget(0, 3)), m_resume(new QPushButton(tr("Resume")))
{
    setAttribute(Qt::WA_DeleteOnClose);
    setWindowTitle(tr("Resume %1").arg(QFileInfo(m_run).fileName()));
    resize(560, 340);
    m_text->setWordWrap(true);
    m_text->setTextInteractionFlags(Qt::TextSelectableByMouse);
    m_steps->setRange(1, 1'000'000'000);
    m_steps->setGroupSeparatorShown(true);
    m_steps->setSuffix(tr(" steps in all"));
    m_steps->setAccessibleName(tr("Steps of the run in all"));
    // A run that is through is extended by half, the others go on to their end.
    const bool through = status.total > 0 && status.step >= status.total;
    m_steps->setValue(shownSteps(through ? status.total + std::max<std::int64_t>(1, status.total / 2) : status.total));
    m_table->setHorizontalHeaderLabels({ tr("Different"), tr("So far"), tr("Now") });
    m_table->verticalHeader()->hide();
    m_table->horizontalHeader()->setSectionResizeMode(0, QHeaderView::Stretch);
    m_table->setEditTriggers(QAbstractItemView::NoEditTriggers);
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setAccessibleName(tr("What would be different"));
    m_resume->setDefault(true);
    auto* copy = new QPushButton(tr("Copy as command"));
    auto* close = new QPushButton(tr("Cancel"));
    for (QPushButton* other : { copy, close }) {
        other->setAutoDefault(false);
    }
    auto* upTo = new QHBoxLayout;
    upTo->addWidget(new QLabel(tr("Train up to")));
    upTo->addWidget(m_steps);
    upTo->addStretch();
    auto* buttons = new QHBoxLayout;
    buttons->addWidget(copy);
    buttons->addStretch();
    buttons->addWidget(close);
    buttons->addWidget(m_resume);
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(m_text);
    layout->addLayout(upTo);
    layout->addWidget(m_table, 1);
    layout->addLayout(buttons);

    connect(m_resume, &QPushButton::clicked, this, [this] {
        if (m_plan) {
            Q_EMIT resumeWanted(m_run, stepsWanted());
            accept();
        }
    });
    connect(close, &QPushButton::clicked, this, &QDialog::reject);
    connect(copy, &QPushButton::clicked, this, [this] {
        QApplication::clipboard()->setText(commandLine());
        Q_EMIT message(tr("Copied: %1").arg(commandLine()));
    });
    m_delay.setSingleShot(true);
    m_delay.setInterval(kLookAfterMs);
    connect(&m_delay, &QTimer::timeout, this, &ResumeDialog::look);
    connect(m_steps, &QSpinBox::valueChanged, this, [this] {
        m_plan.reset();
        m_resume->setEnabled(false);
        m_delay.start();
    });
    look();
}

QString ResumeDialog::text() const
{
    return m_text->text();
}

QString ResumeDialog::commandLine() const
{
    return bridge::shellLine(QStringList { QStringLiteral("rankwise") }
                             + bridge::resumeArguments(m_run, stepsWanted()));
}

/// 0 where the run keeps its number.
std::int64_t ResumeDialog::stepsWanted() const
{
    return m_plan && m_plan->totalBefore == m_steps->value() ? 0 : m_steps->value();
}

void ResumeDialog::look()
{
    if (m_job) {
        m_job->cancel();
    }
    m_plan.reset();
    m_resume->setEnabled(false);
    m_text->setText(tr("Looking at the checkpoint, the base weights and the dataset…"));
    const int steps = m_steps->value();
    m_job = m_workspace.jobs().start<train::ResumePlan>(
        tr("Check %1 before resuming").arg(QFileInfo(m_run).fileName()),
        [root = bridge::toPath(m_run), steps, version = QCoreApplication::applicationVersion().toStdString()](
            const JobContext& job) { return train::planResume(root, steps, version, job); },
        this,
        [this, steps](Result<train::ResumePlan> plan) {
            if (steps != m_steps->value() || (!plan && plan.error().code == Errc::Cancelled)) {
                return; // another look is on its way
            }
            m_table->setRowCount(0);
            if (!plan) {
                m_text->setText(tr("⚠ This run cannot go on: %1").arg(resumeFailure(plan.error())));
                return;
            }
            showPlan(*plan);
            m_plan = std::move(*plan);
        });
}

void ResumeDialog::showPlan(const train::ResumePlan& plan)
{
    QString text = plan.checkpoint < 0
        ? tr("There is no whole checkpoint: the run begins anew at step 0, with the same seed.")
        : tr("Goes on from the checkpoint of step %1.").arg(plan.checkpoint);
    if (plan.reached > plan.from()) {
        text += QLatin1Char(' ')
            + tr("Steps %1 to %2 came after it and are done again.").arg(plan.from() + 1).arg(plan.reached);
    }
    text += QLatin1Char(' ');
    if (plan.complete()) {
        text += tr("All %1 steps are done; give a larger number to extend the run.").arg(plan.total);
    } else {
        text += tr("%1 steps are to do.").arg(plan.total - plan.from());
    }
    if (plan.differences.empty()) {
        text += QLatin1Char('\n')
            + tr("Nothing is different from the run so far: on this machine it ends with the same "
                 "bits as without the stop.");
    }
    m_text->setText(text);
    m_resume->setEnabled(!plan.complete());
    m_table->setRowCount(static_cast<int>(plan.differences.size()));
    for (int row = 0; row < m_table->rowCount(); ++row) {
        const train::ResumeDifference& difference = plan.differences[static_cast<std::size_t>(row)];
        m_table->setItem(row, 0, new QTableWidgetItem(differenceName(difference.what)));
        m_table->setItem(row, 1, new QTableWidgetItem(bridge::toQString(difference.before)));
        m_table->setItem(row, 2, new QTableWidgetItem(bridge::toQString(difference.now)));
    }
}

} // namespace rankwise::train_view
