// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/spectra_view.h"

#include "backend/base/file.h"
#include "backend/base/resources.h"
#include "widgets/bridge/column_model.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/spectra_worker.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/spectra/curve_panel.h"
#include "widgets/spectra/rank_chart.h"
#include "widgets/spectra/surface_view.h"

#include <QAction>
#include <QApplication>
#include <QCheckBox>
#include <QClipboard>
#include <QComboBox>
#include <QDir>
#include <QDoubleSpinBox>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QProgressBar>
#include <QPushButton>
#include <QSignalBlocker>
#include <QSlider>
#include <QStackedWidget>
#include <QTableView>
#include <QTabWidget>
#include <QTimer>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

namespace rankwise::spectra_view {

using bridge::ItemKind;
using bridge::numberText;
using bridge::toQString;

namespace {

constexpr int kEtaScale = 1000; ///< Slider steps from 0 to 1.

/// "lora_sp step-00000160" for a checkpoint of a run, else the last part of the path.
QString nameOf(const QString& path)
{
    const QFileInfo info(path);
    if (!info.fileName().startsWith(QLatin1String("step-"))) {
        return info.fileName();
    }
    const QString run = QFileInfo(QFileInfo(info.absolutePath()).absolutePath()).fileName();
    return QStringLiteral("%1 %2").arg(run, info.fileName());
}

bool hasSpectra(ItemKind kind)
{
    return kind == ItemKind::Run || kind == ItemKind::Checkpoint || kind == ItemKind::Adapter
        || kind == ItemKind::Spectra;
}

} // namespace

SpectraView::SpectraView(bridge::Workspace& workspace, bridge::Settings& settings, bridge::CommandRegistry& commands,
                         common::ActionBinder& actions, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_settings(settings), m_commands(commands), m_subject(new QComboBox),
      m_beside(new QComboBox), m_etaSlider(new QSlider(Qt::Horizontal)), m_etaBox(new QDoubleSpinBox),
      m_stepBar(new QWidget), m_stepSlider(new QSlider(Qt::Horizontal)), m_stepLabel(new QLabel), m_status(new QLabel),
      m_progress(new QProgressBar), m_pages(new QTabWidget), m_first(new QStackedWidget),
      m_emptyButton(new QPushButton), m_emptyText(new QLabel), m_curves(new CurvePanel(m_state)),
      m_ranks(new RankChart(m_state, this)), m_quantity(new QComboBox), m_surface(new SurfaceView(m_state)),
      m_table(new QTableView), m_rows(new bridge::ColumnModel(this))
{
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(4);
    buildBar(*layout);
    buildPages(actions);
    layout->addWidget(m_pages, 1);

    connect(&m_state, &SpectraState::setsChanged, this, &SpectraView::refreshTable);
    connect(&m_state, &SpectraState::shownChanged, this, &SpectraView::refreshTable);
    connect(&m_state, &SpectraState::etaChanged, this, &SpectraView::refreshTable);
    connect(m_curves, &CurvePanel::picked, this, &SpectraView::select);
    connect(m_ranks, &RankChart::picked, this, &SpectraView::select);
    connect(m_surface, &SurfaceView::picked, this, &SpectraView::select);
    connect(&workspace, &bridge::Workspace::itemAdded, this, &SpectraView::fillSubjects);
    connect(&workspace, &bridge::Workspace::itemClosed, this, &SpectraView::fillSubjects);
    connect(&workspace, &bridge::Workspace::layersSelected, this, [this](const QStringList& layers) {
        m_state.setLayers(layers);
        markRows();
    });
    connect(&workspace, &bridge::Workspace::stepSelected, this, [this] {
        loadScores(m_one);
        loadScores(m_other);
        fillSteps();
    });
    connect(&workspace, &bridge::Workspace::spectraSelected, this,
            [this](const QString& subject, const QString& beside) {
                setSide(m_one, subject);
                setSide(m_other, beside);
                fillSubjects();
            });
    connect(&workspace, &bridge::Workspace::runSelected, this, [this](const QString& run) {
        if (m_one.kind == ItemKind::Run && !run.isEmpty()) {
            showSubject(run);
        }
    });
    m_state.setLayers(workspace.selection().layers);
    const QString before = workspace.selection().spectra;
    const QString besideBefore = workspace.selection().spectraBeside;
    setSide(m_one, before);
    setSide(m_other, besideBefore == before ? QString() : besideBefore);
    fillSubjects();
    refreshTable();
}

SpectraView::~SpectraView() = default;

void SpectraView::buildBar(QVBoxLayout& layout)
{
    const auto prepare = [](QComboBox* box, const QString& name) {
        box->setAccessibleName(name);
        box->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
        box->setMinimumContentsLength(14);
    };
    prepare(m_subject, tr("Subject of the spectra"));
    prepare(m_beside, tr("Second subject, beside the first"));
    auto* computeButton = new QPushButton(tr("Compute"));
    computeButton->setToolTip(tr("Computes the singular values in a worker process; estimates come first"));
    auto* bar = new QHBoxLayout;
    bar->setContentsMargins(6, 4, 6, 0);
    bar->addWidget(m_subject);
    bar->addWidget(new QLabel(tr("beside")));
    bar->addWidget(m_beside);
    bar->addWidget(computeButton);
    for (const Curve curve : { Curve::Base, Curve::Delta, Curve::Merged, Curve::Scores }) {
        auto* box = new QCheckBox(bridge::curveName(curve));
        box->setChecked(true);
        box->setAccessibleName(tr("Show %1").arg(bridge::curveName(curve)));
        connect(box, &QCheckBox::toggled, this, [this, curve](bool on) { m_state.setShown(curve, on); });
        m_shown[curve] = box;
        bar->addWidget(box);
    }
    m_shown[Curve::Base]->setToolTip(tr("The weights before"));
    m_shown[Curve::Delta]->setToolTip(tr("What training added"));
    m_shown[Curve::Merged]->setToolTip(tr("The weights with the update"));
    m_shown[Curve::Scores]->setToolTip(tr("Sorted routing scores of a run at the chosen step"));
    m_etaSlider->setRange(1, kEtaScale);
    m_etaSlider->setValue(static_cast<int>(m_state.eta() * kEtaScale));
    m_etaSlider->setAccessibleName(tr("Share η of the energy to keep"));
    m_etaBox->setRange(0.001, 1.0);
    m_etaBox->setDecimals(3);
    m_etaBox->setSingleStep(0.01);
    m_etaBox->setValue(m_state.eta());
    m_etaBox->setAccessibleName(tr("Share η of the energy to keep, as a number"));
    bar->addWidget(new QLabel(QStringLiteral("η")));
    bar->addWidget(m_etaSlider, 1);
    bar->addWidget(m_etaBox);
    layout.addLayout(bar);

    m_status->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_status->setProperty("role", QStringLiteral("dim"));
    m_progress->setRange(0, 1000);
    m_progress->setTextVisible(false);
    m_progress->setMaximumWidth(160);
    m_progress->setAccessibleName(tr("Spectra computed"));
    auto* stepLayout = new QHBoxLayout(m_stepBar);
    stepLayout->setContentsMargins(0, 0, 0, 0);
    stepLayout->addWidget(new QLabel(tr("Step")));
    stepLayout->addWidget(m_stepSlider, 1);
    stepLayout->addWidget(m_stepLabel);
    m_stepSlider->setAccessibleName(tr("Step whose scores are shown"));
    m_stepLabel->setMinimumWidth(m_stepLabel->fontMetrics().horizontalAdvance(QStringLiteral("0000000")));
    auto* second = new QHBoxLayout;
    second->setContentsMargins(6, 0, 6, 0);
    second->addWidget(m_status, 2);
    second->addWidget(m_stepBar, 1);
    second->addWidget(m_progress);
    layout.addLayout(second);

    connect(computeButton, &QPushButton::clicked, this, &SpectraView::compute);
    connect(m_subject, &QComboBox::activated, this, [this] { showSubject(m_subject->currentData().toString()); });
    connect(m_beside, &QComboBox::activated, this, [this] { showBeside(m_beside->currentData().toString()); });
    connect(m_etaSlider, &QSlider::valueChanged, this, [this](int value) {
        const QSignalBlocker blocker(m_etaBox);
        m_etaBox->setValue(static_cast<double>(value) / kEtaScale);
        m_state.setEta(static_cast<double>(value) / kEtaScale);
    });
    connect(m_etaBox, &QDoubleSpinBox::valueChanged, this, [this](double value) {
        const QSignalBlocker blocker(m_etaSlider);
        m_etaSlider->setValue(static_cast<int>(std::lround(value * kEtaScale)));
        m_state.setEta(value);
    });
    connect(m_stepSlider, &QSlider::valueChanged, this, [this](int index) {
        const bridge::RunTail* run = m_workspace.run(m_one.path);
        if (run != nullptr && index >= 0 && index < static_cast<int>(run->record().snapshots.size())) {
            m_workspace.selectStep(std::next(run->record().snapshots.begin(), index)->first);
        }
    });
}

void SpectraView::buildPages(common::ActionBinder& actions)
{
    auto* empty = new QWidget;
    auto* emptyLayout = new QVBoxLayout(empty);
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
    emptyLayout->addStretch();
    emptyLayout->addWidget(headline);
    emptyLayout->addWidget(m_emptyText);
    emptyLayout->addLayout(buttons);
    emptyLayout->addStretch();
    m_first->addWidget(empty);
    m_first->addWidget(m_curves);
    connect(m_emptyButton, &QPushButton::clicked, this, [this] {
        m_commands.trigger(subject().isEmpty() ? QStringLiteral("spectra.sample") : QStringLiteral("spectra.compute"));
    });

    for (const Quantity quantity : kQuantities) {
        m_quantity->addItem(quantityName(quantity, m_state.eta()), static_cast<int>(quantity));
    }
    m_quantity->setItemText(0, tr("k(η)"));
    m_quantity->setItemText(1, tr("k(η) / n"));
    m_quantity->setAccessibleName(tr("Quantity against the layers"));
    connect(m_quantity, &QComboBox::currentIndexChanged, this,
            [this] { m_ranks->setQuantity(static_cast<Quantity>(m_quantity->currentData().toInt())); });
    auto* ranksView = new common::ChartView(*m_ranks);
    ranksView->addTool(m_quantity);
    connect(ranksView, &common::CanvasFrame::rowActivated, this, [this](int row) {
        if (row >= 0 && static_cast<std::size_t>(row) < m_state.set().layers.size()) {
            select({ toQString(m_state.set().layers[static_cast<std::size_t>(row)].path) });
        }
    });
    auto* ranksPage = new QWidget;
    auto* ranksLayout = new QVBoxLayout(ranksPage);
    ranksLayout->setContentsMargins(4, 4, 4, 4);
    ranksLayout->addWidget(ranksView);
    auto* surfacePage = new QWidget;
    auto* surfaceLayout = new QVBoxLayout(surfacePage);
    surfaceLayout->setContentsMargins(4, 4, 4, 4);
    surfaceLayout->addWidget(m_surface);

    m_table->setModel(m_rows);
    m_table->setAccessibleName(tr("Ranks and norms of all layers"));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setAlternatingRowColors(true);
    m_table->verticalHeader()->hide();
    m_table->setTextElideMode(Qt::ElideLeft);
    m_table->setWordWrap(false);
    connect(m_table->selectionModel(), &QItemSelectionModel::selectionChanged, this, [this] {
        QStringList layers;
        const QModelIndexList rows = m_table->selectionModel()->selectedRows();
        for (const QModelIndex& row : rows) {
            if (static_cast<std::size_t>(row.row()) < m_state.set().layers.size()) {
                layers << toQString(m_state.set().layers[static_cast<std::size_t>(row.row())].path);
            }
        }
        if (!layers.isEmpty() && !m_refreshing) {
            select(layers);
        }
    });
    auto* tablePage = new QWidget;
    auto* tableLayout = new QVBoxLayout(tablePage);
    tableLayout->setContentsMargins(4, 4, 4, 4);
    auto* tools = new QHBoxLayout;
    tools->addStretch();
    tools->addWidget(actions.button(QStringLiteral("spectra.copy_table")));
    tools->addWidget(actions.button(QStringLiteral("spectra.export_table")));
    tableLayout->addLayout(tools);
    tableLayout->addWidget(m_table, 1);

    m_pages->setDocumentMode(true);
    m_pages->addTab(m_first, tr("Curves"));
    m_pages->addTab(ranksPage, tr("Ranks"));
    m_pages->addTab(surfacePage, tr("Surface"));
    m_pages->addTab(tablePage, tr("Table"));
}

QStringList SpectraView::commandIds()
{
    return { QStringLiteral("spectra.compute"),
             QStringLiteral("spectra.sample"),
             QString(),
             QStringLiteral("spectra.curves"),
             QStringLiteral("spectra.ranks"),
             QStringLiteral("spectra.surface"),
             QStringLiteral("spectra.table"),
             QString(),
             QStringLiteral("spectra.copy_table"),
             QStringLiteral("spectra.export_table") };
}

void SpectraView::addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace,
                              bridge::Settings& settings, std::function<SpectraView*(bool show)> view)
{
    const QString category = tr("Spectra");
    const auto computable = [&workspace] {
        return std::ranges::any_of(workspace.items(), [](const auto& item) { return hasSpectra(item.kind); });
    };
    commands.add({ .id = QStringLiteral("spectra.compute"),
                   .category = category,
                   .text = tr("Compute spectra"),
                   .key = QStringLiteral("F8"),
                   .help = tr("Singular values of the shown checkpoint or adapter, in a worker process"),
                   .run = [view] { view(true)->compute(); },
                   .enabled = computable,
                   .commandLine = [view, &settings]() -> QString {
                       const SpectraView* shown = view(false);
                       const QString subject = shown != nullptr ? shown->subject() : QString();
                       if (subject.isEmpty()) {
                           return QStringLiteral("rankwise gui --do spectra.compute");
                       }
                       QStringList words { QStringLiteral("rankwise") };
                       words += bridge::spectraArguments(
                           { .subject = subject, .folder = bridge::spectraFolder(settings.dataFolder(), subject) });
                       return bridge::shellLine(words);
                   } });
    commands.add({ .id = QStringLiteral("spectra.sample"),
                   .category = category,
                   .text = tr("Spectra of the nano policy"),
                   .key = {},
                   .help = tr("Opens the small policy that comes along and computes its spectra"),
                   .run = [view, &workspace] {
                       const auto folder = resourcePath("nano");
                       if (!folder) {
                           Q_EMIT view(true)->message(bridge::errorSentence(folder.error()));
                           return;
                       }
                       const QString nano = bridge::pathText(*folder);
                       workspace.addItem({ ItemKind::Checkpoint, nano, tr("smolvla checkpoint") });
                       view(true)->showSubject(nano);
                       view(true)->compute();
                   } });
    const auto page = [&](const char* id, const QString& text, const char* key, int index) {
        commands.add({ .id = QLatin1String(id),
                       .category = category,
                       .text = text,
                       .key = QLatin1String(key),
                       .help = {},
                       .run = [view, index] { view(true)->pages().setCurrentIndex(index); } });
    };
    page("spectra.curves", tr("Show singular values and energy"), "Alt+4", 0);
    page("spectra.ranks", tr("Show ranks against layers"), "Alt+5", 1);
    page("spectra.surface", tr("Show the spectra as a surface"), "Alt+6", 2);
    page("spectra.table", tr("Show the table of ranks"), "Alt+7", 3);
    commands.add({ .id = QStringLiteral("spectra.copy_table"),
                   .category = category,
                   .text = tr("Copy the table of ranks"),
                   .key = {},
                   .help = {},
                   .run = [view] {
                       QApplication::clipboard()->setText(bridge::csvText(*view(true)->m_rows));
                       Q_EMIT view(true)->message(tr("Copied %1 rows").arg(view(true)->m_rows->rowCount()));
                   } });
    commands.add({ .id = QStringLiteral("spectra.export_table"),
                   .category = category,
                   .text = tr("Export the table of ranks…"),
                   .key = {},
                   .help = tr("As CSV"),
                   .run = [view] {
                       SpectraView* self = view(true);
                       auto* dialog = new QFileDialog(self, tr("Export the table"), QString(), tr("Numbers (*.csv)"));
                       dialog->setAcceptMode(QFileDialog::AcceptSave);
                       dialog->setDefaultSuffix(QStringLiteral("csv"));
                       dialog->setAttribute(Qt::WA_DeleteOnClose);
                       connect(dialog, &QFileDialog::fileSelected, self, [self](const QString& file) {
                           const auto written =
                               writeFileAtomically(bridge::toPath(file), bridge::csvText(*self->m_rows).toStdString());
                           Q_EMIT self->message(written ? tr("Saved %1").arg(file)
                                                        : bridge::errorSentence(written.error()));
                       });
                       dialog->open();
                   } });
}

QString SpectraView::subject() const
{
    return m_one.path;
}

QString SpectraView::beside() const
{
    return m_other.path;
}

void SpectraView::fillSubjects()
{
    const QSignalBlocker one(m_subject);
    const QSignalBlocker other(m_beside);
    m_subject->clear();
    m_beside->clear();
    m_beside->addItem(tr("nothing"), QString());
    QStringList paths;
    for (const bridge::WorkspaceItem& item : m_workspace.items()) {
        if (hasSpectra(item.kind)) {
            const QString title = QStringLiteral("%1 (%2)").arg(nameOf(item.path), bridge::itemKindName(item.kind));
            for (QComboBox* box : { m_subject, m_beside }) {
                box->addItem(title, item.path);
                box->setItemData(box->count() - 1, item.path, Qt::ToolTipRole);
            }
            paths << item.path;
        }
    }
    m_subject->setEnabled(!paths.isEmpty());
    m_beside->setEnabled(paths.size() > 1);
    if (!paths.contains(m_other.path)) {
        setSide(m_other, QString());
    }
    if (!paths.contains(m_one.path)) {
        setSide(m_one, paths.isEmpty() ? QString() : paths.last());
    }
    m_subject->setCurrentIndex(m_subject->findData(m_one.path));
    m_beside->setCurrentIndex(m_beside->findData(m_other.path));
    m_workspace.selectSpectra(m_one.path, m_other.path);
    refresh();
}

void SpectraView::showSubject(const QString& path)
{
    setSide(m_one, path);
    if (m_other.path == path) {
        setSide(m_other, QString());
    }
    fillSubjects();
}

void SpectraView::showBeside(const QString& path)
{
    setSide(m_other, path == m_one.path ? QString() : path);
    fillSubjects();
}

void SpectraView::setSide(Side& side, const QString& path)
{
    if (side.path == path) {
        return;
    }
    if (const bridge::RunTail* run = m_workspace.run(side.path)) {
        disconnect(run, nullptr, this, nullptr);
    }
    side = {};
    side.path = path;
    const auto& items = m_workspace.items();
    const auto item = std::ranges::find(items, path, &bridge::WorkspaceItem::path);
    if (path.isEmpty() || item == items.end()) {
        return;
    }
    side.kind = item->kind;
    const QString folder = side.kind == ItemKind::Spectra ? path : bridge::spectraFolder(m_settings.dataFolder(), path);
    side.tail = std::make_unique<bridge::SpectraTail>(folder);
    connect(side.tail.get(), &bridge::SpectraTail::updated, this, &SpectraView::refresh);
    if (const bridge::RunTail* run = m_workspace.run(path)) {
        connect(run, &bridge::RunTail::snapshotsChanged, this, [this] {
            loadScores(m_one);
            loadScores(m_other);
            fillSteps();
        });
        loadScores(side);
    }
    fillSteps();
}

void SpectraView::loadScores(Side& side)
{
    const bridge::RunTail* run = m_workspace.run(side.path);
    if (run == nullptr || run->record().snapshots.empty()) {
        return;
    }
    const auto& files = run->record().snapshots;
    const qint64 step = m_workspace.selection().step;
    auto chosen = std::prev(files.end());
    if (step >= 0) {
        const auto after = files.upper_bound(step);
        chosen = after == files.begin() ? files.begin() : std::prev(after);
    }
    if (chosen->first == side.scoresStep || chosen->first == side.loadingStep) {
        return;
    }
    side.loadingStep = chosen->first;
    m_workspace.jobs().start<bridge::SpectraSetPtr>(
        QString(),
        [file = chosen->second, layers = run->record().layers(),
         title = run->title()](const JobContext& job) -> Result<bridge::SpectraSetPtr> {
            RW_TRY(const bridge::Snapshot snapshot, bridge::readSnapshot(file, job));
            return bridge::spectraOfSnapshot(title, snapshot, layers);
        },
        this,
        [this, path = side.path, at = chosen->first](Result<bridge::SpectraSetPtr> set) {
            for (Side* mine : { &m_one, &m_other }) {
                if (mine->path == path && mine->loadingStep == at) {
                    mine->loadingStep = -1;
                    if (set) {
                        mine->scores = *set;
                        mine->scoresStep = at;
                    } else {
                        Q_EMIT message(bridge::errorSentence(set.error()));
                    }
                }
            }
            refresh();
        });
}

void SpectraView::fillSteps()
{
    const bridge::RunTail* run = m_workspace.run(m_one.path);
    const bool steps = run != nullptr && !run->record().snapshots.empty();
    m_stepBar->setVisible(steps);
    if (!steps) {
        return;
    }
    const auto& files = run->record().snapshots;
    const qint64 step = m_workspace.selection().step;
    const auto after = step < 0 ? files.end() : files.upper_bound(step);
    const auto index = static_cast<int>(std::distance(files.begin(), after)) - 1;
    const QSignalBlocker blocker(m_stepSlider);
    m_stepSlider->setRange(0, static_cast<int>(files.size()) - 1);
    m_stepSlider->setEnabled(files.size() > 1);
    m_stepSlider->setValue(std::max(0, index));
    m_stepLabel->setText(QString::number(std::next(files.begin(), std::max(0, index))->first));
}

bridge::SpectraSetPtr SpectraView::setOf(Side& side) const
{
    if (side.path.isEmpty()) {
        return nullptr;
    }
    const bridge::SpectraSetPtr computed = side.tail ? side.tail->set() : nullptr;
    if (!side.made || side.madeFrom != std::pair(computed, side.scores)) {
        const bridge::SpectraSetPtr both = bridge::joined(computed, side.scores);
        auto named = both ? std::make_shared<bridge::SpectraSet>(*both) : std::make_shared<bridge::SpectraSet>();
        named->title = nameOf(side.path);
        side.made = std::move(named);
        side.madeFrom = { computed, side.scores };
    }
    return side.made;
}

bool SpectraView::settled(const Side& side)
{
    return side.path.isEmpty()
        || (side.tail && side.tail->state() == data::SpectraState::Finished
            && side.tail->exact() == side.tail->expected() && side.tail->expected() > 0);
}

bool SpectraView::complete() const
{
    return !m_one.path.isEmpty() && settled(m_one) && settled(m_other);
}

void SpectraView::refresh()
{
    m_refreshing = true;
    m_state.setSets(setOf(m_one), setOf(m_other));
    const bridge::SpectraSet& set = m_state.set();
    const bool any = !m_state.curves().empty() || set.has(Curve::Base) || set.has(Curve::Delta)
        || set.has(Curve::Merged) || set.has(Curve::Scores);
    m_first->setCurrentIndex(any ? 1 : 0);
    for (const auto& [curve, box] : m_shown) {
        const bool there = set.has(curve) || (m_state.other() != nullptr && m_state.other()->has(curve));
        box->setVisible(there || (curve == Curve::Base && !any));
    }
    // A layer to look at closely, where none is chosen: the first, so that the curves show something.
    if (any && m_workspace.selection().layers.isEmpty()) {
        m_state.setLayers({ toQString(set.layers.empty() ? std::string() : set.layers.front().path) });
    }
    m_refreshing = false;
    refreshStatus();
    m_commands.refresh();
}

void SpectraView::refreshStatus()
{
    QStringList parts;
    bool failed = false;
    int present = 0;
    int exact = 0;
    int expected = 0;
    bool running = false;
    for (const Side* side : { &m_one, &m_other }) {
        if (side->path.isEmpty() || !side->tail) {
            continue;
        }
        const bridge::SpectraTail& tail = *side->tail;
        const QString name = nameOf(side->path);
        if (tail.expected() > 0) {
            const bool busy = tail.state() == data::SpectraState::Running;
            running = running || busy;
            present += tail.present();
            exact += tail.exact();
            expected += tail.expected();
            parts << (tail.exact() == tail.expected() ? tr("%1: %2 spectra, exact").arg(name).arg(tail.exact())
                                                      : tr("%1: %2 of %3 spectra, %4 exact")
                                                            .arg(name)
                                                            .arg(tail.present())
                                                            .arg(tail.expected())
                                                            .arg(tail.exact()));
        } else if (side->scores) {
            parts << tr("%1: scores at step %2").arg(name).arg(side->scoresStep);
        } else {
            parts << tr("%1: not computed yet").arg(name);
        }
        if (!tail.problem().isEmpty()) {
            failed = true;
            parts << QStringLiteral("⚠ ") + tail.problem();
        }
        parts += tail.set()->notes;
    }
    m_progress->setVisible(running);
    m_progress->setValue(expected > 0 ? (present + exact) * 500 / expected : 0);
    const QString text = parts.join(QStringLiteral("  ·  "));
    m_status->setText(text);
    m_status->setToolTip(parts.join(QLatin1Char('\n')));
    const QString role = failed ? QStringLiteral("bad") : QStringLiteral("dim");
    if (m_status->property("role").toString() != role) {
        m_status->setProperty("role", role);
        m_status->setStyleSheet(m_status->styleSheet()); // applies the theme's rule of the new role
    }
    const bool busy = m_one.job != nullptr;
    m_emptyButton->setEnabled(!busy);
    if (m_one.path.isEmpty()) {
        m_emptyButton->setText(tr("Spectra of the nano policy"));
        m_emptyText->setText(tr("Open a checkpoint, an adapter or a run, or begin with the small policy that comes "
                                "along: its spectra take a few seconds."));
    } else {
        m_emptyButton->setText(tr("Compute spectra"));
        m_emptyText->setText(busy ? tr("A worker process is at it; the first curves are here in a moment.")
                                  : tr("The spectra of %1 are not computed yet. A worker process does it; estimates "
                                       "come first, then the exact values.")
                                        .arg(nameOf(m_one.path)));
    }
}

void SpectraView::refreshTable()
{
    m_refreshing = true;
    const std::vector<Curve> curves = m_state.curves();
    struct Column {
        Curve curve;
        Quantity quantity;
        bool other;
    };
    std::vector<Column> columns;
    QStringList headers { tr("Layer"), tr("Part"), tr("Shape") };
    const bridge::SpectraSet* other = m_state.other();
    for (const Curve curve : curves) {
        for (const bool second : { false, true }) {
            if (second && other == nullptr) {
                continue;
            }
            for (const Quantity quantity : { Quantity::Rank, Quantity::EffectiveRank, Quantity::StableRank,
                                             Quantity::Norm, Quantity::Change, Quantity::PowerLaw }) {
                const bool pointless = (quantity == Quantity::Change && curve != Curve::Delta)
                    || (curve == Curve::Scores && (quantity == Quantity::Norm || quantity == Quantity::PowerLaw));
                if (pointless) {
                    continue;
                }
                columns.push_back({ curve, quantity, second });
                const QString name = quantity == Quantity::Rank ? QStringLiteral("k(η)")
                    : quantity == Quantity::EffectiveRank       ? tr("effective")
                    : quantity == Quantity::StableRank          ? tr("stable")
                    : quantity == Quantity::Norm                ? tr("norm")
                    : quantity == Quantity::Change              ? tr("ΔW/W")
                                                                : QStringLiteral("α");
                headers << QStringLiteral("%1%2 %3").arg(bridge::curveName(curve),
                                                         second ? QStringLiteral("₂") : QString(), name);
            }
        }
    }
    m_rows->reset(headers, static_cast<int>(m_state.set().layers.size()),
                  [this, columns](int row, int column) -> QVariant {
                      const bridge::SpectraSet& set = m_state.set();
                      const auto layer = static_cast<std::size_t>(row);
                      if (layer >= set.layers.size()) {
                          return {};
                      }
                      const data::SpectraLayer& info = set.layers[layer];
                      switch (column) {
                      case 0:
                          return toQString(info.path);
                      case 1:
                          return bridge::groupName(info.group);
                      case 2:
                          return QStringLiteral("%1 × %2").arg(info.rows).arg(info.columns);
                      default:
                          break;
                      }
                      const Column& what = columns[static_cast<std::size_t>(column - 3)];
                      const bridge::SpectraSet* from = what.other ? m_state.other() : &set;
                      const int index = from == nullptr ? -1 : what.other ? from->indexOf(toQString(info.path)) : row;
                      if (index < 0) {
                          return {};
                      }
                      const double value =
                          quantityOf(*from, static_cast<std::size_t>(index), what.curve, what.quantity, m_state.eta());
                      if (!std::isfinite(value)) {
                          return {};
                      }
                      return what.quantity == Quantity::Rank ? QVariant(static_cast<qint64>(value)) : QVariant(value);
                  });
    if (headers.size() != m_columns) {
        m_columns = headers.size();
        m_table->setColumnWidth(0, 330);
        m_table->setColumnWidth(1, 74);
        m_table->setColumnWidth(2, 90);
        QFont bold = m_table->horizontalHeader()->font();
        bold.setBold(true);
        for (int c = 3; c < m_rows->columnCount(); ++c) {
            m_table->setColumnWidth(c, std::max(72, QFontMetrics(bold).horizontalAdvance(headers[c]) + 22));
        }
    }
    m_refreshing = false;
    markRows();
}

void SpectraView::markRows()
{
    QItemSelection rows;
    int first = -1;
    for (const QString& layer : m_state.layers()) {
        const int row = m_state.set().indexOf(layer);
        if (row >= 0) {
            first = first < 0 ? row : first;
            rows.select(m_rows->index(row, 0), m_rows->index(row, m_rows->columnCount() - 1));
        }
    }
    const bool outer = m_refreshing;
    m_refreshing = true; // what is marked here was selected elsewhere
    auto* selection = m_table->selectionModel();
    if (first >= 0) {
        selection->setCurrentIndex(m_rows->index(first, 0), QItemSelectionModel::NoUpdate);
        m_table->scrollTo(m_rows->index(first, 0));
    }
    selection->select(rows, QItemSelectionModel::ClearAndSelect);
    m_refreshing = outer;
}

void SpectraView::select(const QStringList& layers)
{
    if (!m_refreshing) {
        m_workspace.selectLayers(layers);
        if (layers.isEmpty()) {
            m_state.setLayers({});
        }
    }
}

void SpectraView::compute()
{
    if (m_one.path.isEmpty()) {
        Q_EMIT message(tr("Open a checkpoint, an adapter or a run first."));
        return;
    }
    if (complete()) {
        Q_EMIT message(tr("The spectra are there, exact to the last."));
        return;
    }
    for (Side* side : { &m_one, &m_other }) {
        if (!settled(*side) && side->kind != ItemKind::Spectra) {
            start(*side);
        }
    }
}

void SpectraView::start(Side& side)
{
    const bool busy =
        side.job != nullptr || (side.tail && side.tail->header() && side.tail->state() == data::SpectraState::Running);
    if (busy) {
        Q_EMIT message(tr("A worker is computing them already."));
        return;
    }
    // The weights may have changed since (a run that trains): then they get a place of their own.
    const QString folder = bridge::spectraFolder(m_settings.dataFolder(), side.path);
    if (side.tail->folder() != folder) {
        side.tail = std::make_unique<bridge::SpectraTail>(folder);
        connect(side.tail.get(), &bridge::SpectraTail::updated, this, &SpectraView::refresh);
    }
    side.job = bridge::startSpectra(m_workspace.jobs(), { .subject = side.path, .folder = folder }, this,
                                    [this](Result<QString> done) {
                                        if (!done && done.error().code != Errc::Cancelled) {
                                            Q_EMIT message(bridge::errorSentence(done.error()));
                                        }
                                        refreshStatus();
                                    });
    refreshStatus();
}

} // namespace rankwise::spectra_view
