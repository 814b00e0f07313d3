// SPDX-License-Identifier: Apache-2.0
#include "widgets/datasets/statistics_panel.h"

#include "backend/base/resources.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"

#include <QComboBox>
#include <QCoreApplication>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QItemSelectionModel>
#include <QLabel>
#include <QSignalBlocker>
#include <QSplitter>
#include <QTableView>
#include <QVBoxLayout>

#include <algorithm>

namespace rankwise::datasets_view {

using bridge::DimensionStatistics;

QString remarkOn(const DimensionStatistics& d)
{
    const auto say = [](const char* text) { return QCoreApplication::translate("StatisticsPanel", text); };
    QStringList words;
    if (d.notFinite > 0) {
        words << say("%1 frames are not finite").arg(d.notFinite);
    }
    if (d.still) {
        words << say("hardly moves");
    }
    if (d.storedDiffers) {
        words << say("stats.json says %1 ± %2: rewrite it (rankwise dataset stats)")
                     .arg(bridge::numberText(*d.storedMean), bridge::numberText(*d.storedStd));
    }
    if (d.scaleDiffers) {
        words << say("another scale than the checkpoint's") + bridge::toQString(d.hint);
    }
    constexpr double kMuchOutside = 0.05; // 2 % are outside of the quantiles by their meaning
    if (d.outside > kMuchOutside) {
        words << say("%1 % of the frames outside of the checkpoint's range").arg(100 * d.outside, 0, 'f', 0);
    }
    return words.isEmpty() ? QString() : QStringLiteral("⚠ ") + words.join(QStringLiteral("; "));
}

StatisticsPanel::StatisticsPanel(bridge::Workspace& workspace, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_checkpoints(new QComboBox), m_note(new QLabel),
      m_table(new QTableView), m_histogram(new common::BarChart(tr("Histogram"), tr("value"), tr("frames"), this))
{
    m_checkpoints->setAccessibleName(tr("Checkpoint whose normalisation is shown beside the dataset's"));
    m_checkpoints->setToolTip(m_checkpoints->accessibleName());
    m_checkpoints->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    m_checkpoints->setMinimumContentsLength(18);
    m_note->setProperty("role", QStringLiteral("dim"));
    m_note->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_table->setModel(&m_model);
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setSelectionMode(QAbstractItemView::SingleSelection);
    m_table->setAlternatingRowColors(true);
    m_table->setWordWrap(false);
    m_table->verticalHeader()->hide();
    m_table->verticalHeader()->setDefaultSectionSize(m_table->fontMetrics().height() + 6);
    m_table->horizontalHeader()->setStretchLastSection(true);
    m_table->horizontalHeader()->setDefaultSectionSize(
        m_table->fontMetrics().horizontalAdvance(QStringLiteral("−0.00000  ")));
    m_table->setAccessibleName(tr("Statistics of states and actions"));
    m_histogram->setEmptyText(tr("Choose a number in the table"));
    auto* bar = new QHBoxLayout;
    bar->addWidget(new QLabel(tr("Beside")));
    bar->addWidget(m_checkpoints);
    bar->addWidget(m_note, 1);
    auto* splitter = new QSplitter(Qt::Vertical);
    splitter->setObjectName(QStringLiteral("datasets.statistics.splitter"));
    splitter->addWidget(m_table);
    splitter->addWidget(new common::ChartView(*m_histogram));
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    splitter->setChildrenCollapsible(false);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 4, 0, 0);
    layout->addLayout(bar);
    layout->addWidget(splitter, 1);

    fillCheckpoints();
    showRows();
    connect(&workspace, &bridge::Workspace::itemAdded, this, &StatisticsPanel::fillCheckpoints);
    connect(&workspace, &bridge::Workspace::itemClosed, this, &StatisticsPanel::fillCheckpoints);
    connect(m_checkpoints, &QComboBox::currentIndexChanged, this, &StatisticsPanel::compute);
    connect(m_table->selectionModel(), &QItemSelectionModel::currentRowChanged, this,
            [this](const QModelIndex& index) { showHistogram(index.row()); });
}

void StatisticsPanel::fillCheckpoints()
{
    const QSignalBlocker blocker(m_checkpoints);
    const QString chosen = m_checkpoints->currentData().toString();
    m_checkpoints->clear();
    m_checkpoints->addItem(tr("no checkpoint"), QString());
    const auto add = [this](const QString& path) {
        if (!path.isEmpty() && m_checkpoints->findData(path) < 0) {
            m_checkpoints->addItem(QFileInfo(path).fileName(), path);
        }
    };
    for (const bridge::WorkspaceItem& item : m_workspace.items()) {
        if (item.kind == bridge::ItemKind::Checkpoint) {
            add(item.path);
        }
    }
    for (const bridge::RunTail* run : m_workspace.runs()) {
        add(run->record().basePolicy());
    }
    if (const auto nano = resourcePath("nano")) {
        add(bridge::pathText(*nano));
    }
    m_checkpoints->setCurrentIndex(std::max(0, m_checkpoints->findData(chosen)));
}

void StatisticsPanel::setDataset(std::shared_ptr<const bridge::OpenedDataset> dataset)
{
    m_dataset = std::move(dataset);
    m_dimensions.clear();
    showRows();
    m_stale = true;
    if (isVisible()) {
        compute();
    }
}

void StatisticsPanel::showEvent(QShowEvent* event)
{
    QWidget::showEvent(event);
    if (m_stale) {
        fillCheckpoints(); // a run may have told of its policy since
        compute();
    }
}

void StatisticsPanel::compute()
{
    if (m_job) {
        m_job->cancel();
    }
    if (!m_dataset) {
        return;
    }
    m_stale = false;
    m_note->setText(tr("Computing…"));
    m_job = m_workspace.jobs().start<std::vector<DimensionStatistics>>(
        tr("Statistics of the dataset"),
        [dataset = m_dataset, checkpoint = bridge::toPath(m_checkpoints->currentData().toString())](
            const JobContext& job) { return bridge::datasetStatistics(*dataset, checkpoint, job); },
        this,
        [this, dataset = m_dataset](Result<std::vector<DimensionStatistics>> found) {
            if (dataset != m_dataset || !found) {
                if (!found && found.error().code != Errc::Cancelled) {
                    m_note->setText(bridge::errorSentence(found.error()));
                }
                return;
            }
            const int row = std::max(0, m_table->currentIndex().row());
            m_dimensions = std::move(*found);
            showRows();
            m_table->selectRow(row);
        });
}

void StatisticsPanel::showRows()
{
    QStringList headers { tr("Feature"), tr("Number"),    tr("Min"),  tr("1 %"),
                          tr("Mean"),    tr("Deviation"), tr("99 %"), tr("Max") };
    const bool compared = std::any_of(m_dimensions.begin(), m_dimensions.end(),
                                      [](const DimensionStatistics& d) { return d.checkpointMean.has_value(); });
    if (compared) {
        headers << tr("Its mean") << tr("Its dev.") << tr("Outside, %");
    }
    headers << tr("Remarks");
    m_model.reset(headers, static_cast<int>(m_dimensions.size()), [this, compared](int row, int column) -> QVariant {
        const DimensionStatistics& d = m_dimensions[static_cast<std::size_t>(row)];
        const auto known = [](const std::optional<double>& value) { return value ? QVariant(*value) : QVariant(); };
        switch (column) {
        case 0:
            return bridge::toQString(d.feature);
        case 1:
            return bridge::toQString(d.name);
        case 2:
            return d.min;
        case 3:
            return d.q01;
        case 4:
            return d.mean;
        case 5:
            return d.std;
        case 6:
            return d.q99;
        case 7:
            return d.max;
        case 8:
            return compared ? known(d.checkpointMean) : QVariant(remarkOn(d));
        case 9:
            return known(d.checkpointStd);
        case 10:
            return 100 * d.outside;
        default:
            return remarkOn(d);
        }
    });
    m_table->setColumnWidth(0, m_table->fontMetrics().horizontalAdvance(QStringLiteral("observation.state  ")));
    for (int column = 1; column < static_cast<int>(headers.size()) - 1; ++column) {
        const QString widest = column == 1 ? QStringLiteral("gripper.pos  ") : headers[column] + QStringLiteral("   ");
        m_table->setColumnWidth(column,
                                std::max(m_table->fontMetrics().horizontalAdvance(widest) + 8,
                                         m_table->fontMetrics().horizontalAdvance(QStringLiteral("-0.00012345"))));
    }
    const auto remarks = std::count_if(m_dimensions.begin(), m_dimensions.end(),
                                       [](const DimensionStatistics& d) { return !remarkOn(d).isEmpty(); });
    m_note->setText(m_dimensions.empty() ? QString()
                        : remarks == 0   ? tr("All frames · nothing remarkable")
                                         : tr("All frames · ⚠ %n remarkable", nullptr, static_cast<int>(remarks)));
    m_note->setToolTip(tr("Exact, over all frames; the last column says what is remarkable."));
    showHistogram(m_table->currentIndex().row());
}

void StatisticsPanel::showHistogram(int row)
{
    if (row < 0 || static_cast<std::size_t>(row) >= m_dimensions.size()) {
        m_histogram->setBars({}, {}, {}, false);
        m_histogram->setTitle(tr("Histogram"));
        return;
    }
    const DimensionStatistics& d = m_dimensions[static_cast<std::size_t>(row)];
    QStringList names;
    std::vector<std::vector<double>> bars;
    const double width = (d.max - d.min) / static_cast<double>(DimensionStatistics::kBins);
    for (std::size_t i = 0; i < DimensionStatistics::kBins; ++i) {
        names << bridge::numberText(d.min + width * (static_cast<double>(i) + 0.5));
        bars.push_back({ d.histogram[i] });
    }
    m_histogram->setBars(names, {}, std::move(bars), false);
    m_histogram->setRange(std::pair(d.min, d.max));
    m_histogram->setTitle(tr("%1 · %2").arg(bridge::toQString(d.feature), bridge::toQString(d.name)));
}

} // namespace rankwise::datasets_view
