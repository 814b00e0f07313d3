// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/spectra_view.h"

#include "widgets/bridge/spectra_worker.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/spectra/curve_panel.h"
#include "widgets/spectra/rank_chart.h"
#include "widgets/spectra/surface_view.h"

#include <QAction>
#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QStackedWidget>
#include <QTabWidget>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>

namespace rankwise::spectra_view {

using bridge::ItemKind;
using bridge::subjectName;
using bridge::toQString;

namespace {

constexpr int kRefreshMs = 60;

QWidget* pageOf(QWidget* contents)
{
    auto* page = new QWidget;
    auto* layout = new QVBoxLayout(page);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addWidget(contents);
    return page;
}

} // namespace

SpectraView::SpectraView(bridge::Workspace& workspace, bridge::SpectraComputations& computations,
                         bridge::CommandRegistry& commands, common::ActionBinder& actions, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_computations(computations), m_commands(commands),
      m_one(workspace, computations, this), m_other(workspace, computations, this), m_pages(new QTabWidget),
      m_first(new QStackedWidget), m_emptyButton(new QPushButton), m_emptyText(new QLabel),
      m_curves(new CurvePanel(m_state)), m_ranks(new RankChart(m_state, this)), m_quantity(new QComboBox),
      m_surface(new SurfaceView(m_state)), m_layers(new LayerTable(m_state, workspace.jobs(), actions))
{
    auto* computeButton = new QPushButton(tr("Compute"));
    computeButton->setToolTip(tr("Computes the singular values in a worker process; estimates come first"));
    connect(computeButton, &QPushButton::clicked, this, &SpectraView::compute);
    m_bar = new SubjectBar(m_state, computeButton);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(4);
    layout->addWidget(m_bar);
    buildPages(actions);
    layout->addWidget(m_pages, 1);

    connect(m_bar, &SubjectBar::subjectChosen, this, &SpectraView::showSubject);
    connect(m_bar, &SubjectBar::besideChosen, this, &SpectraView::showBeside);
    connect(m_bar, &SubjectBar::stepChosen, &workspace, &bridge::Workspace::selectStep);
    connect(m_curves, &CurvePanel::picked, this, &SpectraView::select);
    connect(m_ranks, &RankChart::picked, this, &SpectraView::select);
    connect(m_surface, &SurfaceView::picked, this, &SpectraView::select);
    connect(m_layers, &LayerTable::picked, this, &SpectraView::select);
    connect(m_layers, &LayerTable::message, this, &SpectraView::message);
    m_refreshSoon.setSingleShot(true);
    m_refreshSoon.setInterval(kRefreshMs);
    connect(&m_refreshSoon, &QTimer::timeout, this, &SpectraView::refresh);
    for (SpectraSubject* subject : { &m_one, &m_other }) {
        connect(subject, &SpectraSubject::changed, this, [this] {
            if (!m_refreshSoon.isActive()) {
                m_refreshSoon.start();
            }
        });
        connect(subject, &SpectraSubject::snapshotsChanged, this, &SpectraView::fillSteps);
        connect(subject, &SpectraSubject::message, this, &SpectraView::message);
    }
    connect(&computations, &bridge::SpectraComputations::changed, this, &SpectraView::refreshStatus);
    connect(&computations, &bridge::SpectraComputations::failed, this,
            [this](const QString& subject, const QString& words) {
                Q_EMIT message(QStringLiteral("%1: %2").arg(subjectName(subject), words));
            });
    followWorkspace();
}

SpectraView::~SpectraView() = default;

void SpectraView::followWorkspace()
{
    connect(&m_workspace, &bridge::Workspace::itemAdded, this, &SpectraView::fillSubjects);
    connect(&m_workspace, &bridge::Workspace::itemClosed, this, &SpectraView::fillSubjects);
    connect(&m_workspace, &bridge::Workspace::layersSelected, &m_state, &SpectraState::setLayers);
    connect(&m_workspace, &bridge::Workspace::stepSelected, this, [this] {
        m_one.loadScores();
        m_other.loadScores();
        fillSteps();
    });
    connect(&m_workspace, &bridge::Workspace::spectraSelected, this,
            [this](const QString& subject, const QString& beside) {
                m_one.setPath(subject);
                m_other.setPath(beside);
                fillSubjects();
            });
    connect(&m_workspace, &bridge::Workspace::runSelected, this, [this](const QString& run) {
        if (m_one.kind() == ItemKind::Run && !run.isEmpty()) {
            showSubject(run);
        }
    });
    const bridge::Selection& selection = m_workspace.selection();
    m_state.setLayers(selection.layers);
    const QString before = selection.spectra;
    const QString besideBefore = selection.spectraBeside;
    m_one.setPath(before);
    m_other.setPath(besideBefore == before ? QString() : besideBefore);
    fillSubjects();
}

QWidget* SpectraView::emptyPage(common::ActionBinder& actions)
{
    auto* page = new QWidget;
    auto* layout = new QVBoxLayout(page);
    auto* headline = new QLabel(tr("No spectra yet"));
    headline->setProperty("role", QStringLiteral("title"));
    headline->setAlignment(Qt::AlignCenter);
    m_emptyText->setAlignment(Qt::AlignCenter);
    m_emptyText->setWordWrap(true);
    auto* buttons = new QHBoxLayout;
    buttons->addStretch();
    buttons->addWidget(m_emptyButton);
    buttons->addWidget(actions.button(QStringLiteral("file.open")));
    buttons->addStretch();
    layout->addStretch();
    layout->addWidget(headline);
    layout->addWidget(m_emptyText);
    layout->addLayout(buttons);
    layout->addStretch();
    connect(m_emptyButton, &QPushButton::clicked, this, [this] {
        m_commands.trigger(subject().isEmpty() ? QStringLiteral("spectra.sample") : QStringLiteral("spectra.compute"));
    });
    return page;
}

QWidget* SpectraView::ranksPage()
{
    for (const Quantity quantity : kQuantities) {
        m_quantity->addItem(quantityName(quantity, m_state.eta()), static_cast<int>(quantity));
    }
    m_quantity->setItemText(0, tr("k(η)"));
    m_quantity->setItemText(1, tr("k(η) / n"));
    m_quantity->setAccessibleName(tr("Quantity against the layers"));
    connect(m_quantity, &QComboBox::currentIndexChanged, this,
            [this] { m_ranks->setQuantity(static_cast<Quantity>(m_quantity->currentData().toInt())); });
    auto* chart = new common::ChartView(*m_ranks);
    chart->addTool(m_quantity);
    connect(chart, &common::CanvasFrame::rowActivated, this, [this](int row) {
        if (row >= 0 && static_cast<std::size_t>(row) < m_state.set().layers.size()) {
            select({ toQString(m_state.set().layers[static_cast<std::size_t>(row)].path) });
        }
    });
    return pageOf(chart);
}

void SpectraView::buildPages(common::ActionBinder& actions)
{
    m_first->addWidget(emptyPage(actions));
    m_first->addWidget(m_curves);
    m_pages->setDocumentMode(true);
    m_pages->addTab(m_first, tr("Curves"));
    m_pages->addTab(ranksPage(), tr("Ranks"));
    m_pages->addTab(pageOf(m_surface), tr("Surface"));
    m_pages->addTab(m_layers, tr("Table"));
}

void SpectraView::fillSubjects()
{
    std::vector<SubjectBar::Choice> choices;
    QStringList paths;
    for (const bridge::WorkspaceItem& item : m_workspace.items()) {
        if (bridge::hasSpectra(item.kind)) {
            const QString kind = bridge::itemKindName(item.kind);
            choices.push_back({ item.path, QStringLiteral("%1 (%2)").arg(subjectName(item.path), kind) });
            paths << item.path;
        }
    }
    if (!paths.contains(m_other.path())) {
        m_other.setPath({});
    }
    if (!paths.contains(m_one.path())) {
        m_one.setPath(paths.isEmpty() ? QString() : paths.last());
    }
    m_bar->setSubjects(choices, m_one.path(), m_other.path());
    m_workspace.selectSpectra(m_one.path(), m_other.path());
    fillSteps();
    refresh();
}

void SpectraView::showSubject(const QString& path)
{
    m_one.setPath(path);
    if (m_other.path() == path) {
        m_other.setPath({});
    }
    fillSubjects();
}

void SpectraView::showBeside(const QString& path)
{
    m_other.setPath(path == m_one.path() ? QString() : path);
    fillSubjects();
}

void SpectraView::fillSteps()
{
    std::vector<qint64> steps;
    if (const SpectraSubject::Snapshots* files = m_one.snapshots()) {
        for (const auto& [step, file] : *files) {
            steps.push_back(step);
        }
    }
    m_bar->setSteps(steps, m_workspace.selection().step);
}

bool SpectraView::complete() const
{
    return !m_one.path().isEmpty() && m_one.settled() && m_other.settled() && !m_refreshSoon.isActive();
}

void SpectraView::refresh()
{
    m_state.setSets(m_one.set(), m_other.set());
    const std::vector<Curve> there = m_state.there();
    m_first->setCurrentIndex(there.empty() ? 0 : 1);
    m_bar->setThere(there);
    // A layer to look at closely, where none is chosen: the first, so that the curves show something.
    const bridge::SpectraSet& set = m_state.set();
    if (!there.empty() && m_workspace.selection().layers.isEmpty()) {
        m_state.setLayers({ toQString(set.layers.empty() ? std::string() : set.layers.front().path) });
    }
    refreshStatus();
    m_commands.refresh();
}

QStringList SpectraView::statusOf(const SpectraSubject& subject, bool& failed) const
{
    QStringList parts;
    const QString name = subjectName(subject.path());
    const bridge::SpectraTail* tail = subject.tail();
    if (tail != nullptr && tail->expected() > 0) {
        parts << (tail->exact() == tail->expected() ? tr("%1: %2 spectra, exact").arg(name).arg(tail->exact())
                                                    : tr("%1: %2 of %3 spectra, %4 exact")
                                                          .arg(name)
                                                          .arg(tail->present())
                                                          .arg(tail->expected())
                                                          .arg(tail->exact()));
    } else if (subject.hasScores()) {
        parts << tr("%1: scores at step %2").arg(name).arg(subject.scoresStep());
    } else {
        parts << (m_computations.busy(subject.path()) ? tr("%1: a worker begins").arg(name)
                                                      : tr("%1: not computed yet").arg(name));
    }
    if (tail == nullptr || m_computations.busy(subject.path())) {
        return parts;
    }
    if (tail->state() == data::SpectraState::Stopped || m_computations.cancelled(subject.path())) {
        parts << tr("stopped; what was computed is kept, Compute goes on from there");
    } else if (!tail->problem().isEmpty()) {
        failed = true;
        parts << QStringLiteral("⚠ ") + tail->problem();
    }
    return parts + tail->set()->notes;
}

void SpectraView::refreshStatus()
{
    QStringList parts;
    bool failed = false;
    double progress = 0;
    int running = 0;
    for (const SpectraSubject* subject : { &m_one, &m_other }) {
        if (subject->path().isEmpty()) {
            continue;
        }
        parts += statusOf(*subject, failed);
        if (m_computations.busy(subject->path())) {
            ++running;
            progress += subject->tail() != nullptr ? subject->tail()->progress() : 0;
        }
    }
    parts.removeDuplicates(); // notes that both have
    m_bar->setStatus(parts, failed, running > 0 ? std::optional(progress / running) : std::nullopt);
    refreshEmptyPage();
}

void SpectraView::refreshEmptyPage()
{
    const bool busy = m_computations.busy(subject());
    const bool computed = m_one.kind() == ItemKind::Spectra;
    m_emptyButton->setEnabled(!busy && !computed);
    if (subject().isEmpty()) {
        m_emptyButton->setText(tr("Spectra of the nano policy"));
        m_emptyText->setText(tr("Open a checkpoint, an adapter or a run, or begin with the small policy that comes "
                                "along: its spectra take a few seconds."));
        return;
    }
    m_emptyButton->setText(tr("Compute spectra"));
    if (busy) {
        m_emptyText->setText(tr("A worker process is at it; the first curves are here in a moment."));
    } else if (computed) {
        m_emptyText->setText(tr("%1 has no spectra that can be read. Open the checkpoint that they are of, and compute "
                                "them again.")
                                 .arg(subjectName(subject())));
    } else {
        m_emptyText->setText(tr("The spectra of %1 are not computed yet. A worker process does it; estimates come "
                                "first, then the exact values.")
                                 .arg(subjectName(subject())));
    }
}

void SpectraView::select(const QStringList& layers)
{
    m_workspace.selectLayers(layers);
    if (layers.isEmpty()) {
        m_state.setLayers({});
    }
}

void SpectraView::compute()
{
    if (m_one.path().isEmpty()) {
        Q_EMIT message(tr("Open a checkpoint, an adapter or a run first."));
        return;
    }
    if (m_one.settled() && m_other.settled()) {
        Q_EMIT message(tr("The spectra are there, exact to the last."));
        return;
    }
    for (const SpectraSubject* subject : { &m_one, &m_other }) {
        if (subject->settled()) {
            continue;
        }
        if (subject->kind() == ItemKind::Spectra) {
            Q_EMIT message(tr("%1 holds spectra from elsewhere; open the checkpoint that they are of to go on.")
                               .arg(subjectName(subject->path())));
        } else if (m_computations.busy(subject->path())) {
            Q_EMIT message(tr("A worker is computing them already."));
        } else {
            m_computations.start(subject->path());
        }
    }
}

} // namespace rankwise::spectra_view
