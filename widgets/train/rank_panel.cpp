// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/rank_panel.h"

#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"

#include <QCheckBox>
#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QPushButton>
#include <QSignalBlocker>
#include <QSlider>
#include <QSplitter>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace rankwise::train_view {

using bridge::RunTail;

namespace {

enum What { Rank, Change, Energy };
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int kMovieMs = 80;

std::array<double, 5> fiveNumbers(std::span<const float> values, double otherwise)
{
    std::array<double, 5> five {};
    for (std::size_t i = 0; i < five.size(); ++i) {
        five[i] = i < values.size() ? values[i] : otherwise;
    }
    return five;
}

} // namespace

RankPanel::RankPanel(bridge::Workspace& workspace, QWidget* parent)
    : QWidget(parent), m_workspace(workspace),
      m_map(new common::HeatMap(tr("Rank map"), tr("layer"), tr("step"), tr("rank"), this)),
      m_boxes(new common::BoxChart(tr("Active ranks"), tr("active rank"), this)), m_slider(new QSlider(Qt::Horizontal)),
      m_stepLabel(new QLabel), m_play(new QPushButton(tr("Play"))), m_what(new QComboBox),
      m_reference(new QCheckBox(tr("Step 0")))
{
    m_map->setEmptyText(tr("Per-layer ranks come with LoRA-SP and other methods that choose ranks"));
    auto* mapView = new common::ChartView(*m_map);
    auto* boxView = new common::ChartView(*m_boxes);
    m_what->addItem(tr("Active rank"), Rank);
    m_what->addItem(tr("Change since step 0"), Change);
    m_what->addItem(tr("Kept energy"), Energy);
    m_what->setAccessibleName(tr("Quantity of the map"));
    mapView->addTool(m_what);
    m_reference->setChecked(true);
    m_reference->setToolTip(tr("Grey diamonds and frames: the untrained router's ranks"));
    boxView->addTool(m_reference);
    m_slider->setAccessibleName(tr("Step shown"));
    m_slider->setEnabled(false);
    m_play->setAccessibleName(tr("Play the rank map as a movie"));
    m_stepLabel->setMinimumWidth(m_stepLabel->fontMetrics().horizontalAdvance(tr("step 0000000 of 0000000")));
    auto* bar = new QHBoxLayout;
    bar->addWidget(m_play);
    bar->addWidget(m_slider, 1);
    bar->addWidget(m_stepLabel);
    auto* top = new QWidget;
    auto* topLayout = new QVBoxLayout(top);
    topLayout->setContentsMargins(0, 0, 0, 0);
    topLayout->addWidget(mapView, 1);
    topLayout->addLayout(bar);
    auto* splitter = new QSplitter(Qt::Vertical);
    splitter->setObjectName(QStringLiteral("train.rank.splitter"));
    splitter->addWidget(top);
    splitter->addWidget(boxView);
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    splitter->setChildrenCollapsible(false);
    splitter->setSizes({ 300, 220 });
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addWidget(splitter);

    connect(m_what, &QComboBox::currentIndexChanged, this, [this] {
        m_map->setColorMap(m_what->currentData().toInt() == Change ? common::ColorMap::Diverging
                                                                   : common::ColorMap::Viridis);
        m_digests = 0;
        takeNew();
    });
    connect(m_reference, &QCheckBox::toggled, m_boxes, &common::BoxChart::setShowReference);
    connect(m_slider, &QSlider::valueChanged, this, [this](int index) {
        if (m_run && index >= 0 && static_cast<std::size_t>(index) < m_run->record().digests.size()) {
            m_followEnd = index == m_slider->maximum();
            m_workspace.selectStep(m_run->record().digests[static_cast<std::size_t>(index)]->step);
        }
    });
    connect(m_play, &QPushButton::clicked, this, &RankPanel::togglePlay);
    m_movie.setInterval(kMovieMs);
    connect(&m_movie, &QTimer::timeout, this, [this] {
        if (m_slider->value() >= m_slider->maximum()) {
            togglePlay();
        } else {
            m_slider->setValue(m_slider->value() + 1);
        }
    });
    connect(m_map, &common::HeatMap::columnPicked, m_slider, &QSlider::setValue);
    connect(m_map, &common::HeatMap::rowPicked, this, &RankPanel::selectLayerRow);
    connect(m_boxes, &common::BoxChart::picked, &workspace, &bridge::Workspace::selectLayer);
    connect(mapView, &common::CanvasFrame::rowActivated, this, [this](int row) {
        if (m_map->rowCount() > 0) {
            selectLayerRow(row % m_map->rowCount());
            m_slider->setValue(row / m_map->rowCount());
        }
    });
    connect(&workspace, &bridge::Workspace::stepSelected, this, &RankPanel::showStep);
    connect(&workspace, &bridge::Workspace::layerSelected, this, [this](const QString& layer) {
        m_boxes->selectPath(layer);
        int row = -1;
        if (m_run) {
            const bridge::LayerTable& layers = m_run->record().layers();
            for (std::size_t i = 0; i < layers.size(); ++i) {
                row = bridge::toQString(layers[i].path) == layer ? static_cast<int>(i) : row;
            }
        }
        m_map->selectRow(row);
    });
    connect(&workspace, &bridge::Workspace::layersSelected, this, &RankPanel::markLayers);
}

void RankPanel::markLayers()
{
    std::vector<int> rows;
    const QStringList& chosen = m_workspace.selection().layers;
    if (m_run && chosen.size() > 1) {
        const bridge::LayerTable& layers = m_run->record().layers();
        for (std::size_t i = 0; i < layers.size(); ++i) {
            if (chosen.contains(bridge::toQString(layers[i].path))) {
                rows.push_back(static_cast<int>(i));
            }
        }
    }
    m_map->markRows(std::move(rows));
}

void RankPanel::selectLayerRow(int row)
{
    const bridge::LayerTable& layers = m_run ? m_run->record().layers() : bridge::LayerTable();
    if (m_run && row >= 0 && static_cast<std::size_t>(row) < layers.size()) {
        m_workspace.selectLayer(bridge::toQString(layers[static_cast<std::size_t>(row)].path));
    }
}

void RankPanel::togglePlay()
{
    if (m_movie.isActive()) {
        m_movie.stop();
    } else if (m_slider->maximum() > 0) {
        if (m_slider->value() >= m_slider->maximum()) {
            m_slider->setValue(0);
        }
        m_movie.start();
    }
    m_play->setText(m_movie.isActive() ? tr("Pause") : tr("Play"));
}

void RankPanel::setRun(RunTail* run)
{
    if (m_run == run) {
        return;
    }
    if (m_run) {
        disconnect(m_run, nullptr, this, nullptr);
    }
    m_run = run;
    m_digests = 0;
    m_table = -1;
    m_followEnd = true;
    if (run != nullptr) {
        connect(run, &RunTail::updated, this, &RankPanel::takeNew);
    }
    takeNew();
}

double RankPanel::cell(int row, int column) const
{
    if (!m_run) {
        return kNaN;
    }
    const auto& digests = m_run->record().digests;
    if (static_cast<std::size_t>(column) >= digests.size()) {
        return kNaN;
    }
    const auto at = [row](const std::vector<float>& values) {
        return static_cast<std::size_t>(row) < values.size()
            ? static_cast<double>(values[static_cast<std::size_t>(row)])
            : kNaN;
    };
    const data::DigestColumns& digest = *digests[static_cast<std::size_t>(column)];
    switch (m_what->currentData().toInt()) {
    case Energy:
        return at(digest.energy);
    case Change:
        return at(digest.rank) - at(digests.front()->rank);
    default:
        return at(digest.rank);
    }
}

void RankPanel::takeNew()
{
    if (!m_run || m_run->record().digests.empty()) {
        m_map->reset({}, {}, {});
        m_boxes->setPanels({}, 0);
        m_slider->setEnabled(false);
        m_stepLabel->clear();
        m_digests = 0;
        return;
    }
    const bridge::RunRecord& record = m_run->record();
    if (record.digests.size() == m_digests && m_epoch == record.epoch) {
        return;
    }
    std::vector<double> columns;
    columns.reserve(record.digests.size());
    for (const bridge::DigestPtr& digest : record.digests) {
        columns.push_back(static_cast<double>(digest->step));
    }
    const std::int64_t table = record.digests.back()->table;
    if (m_digests == 0 || m_epoch != record.epoch || m_table != table) {
        std::vector<common::HeatMap::Row> rows;
        for (const data::RunLayer& layer : record.layers()) {
            rows.push_back(
                { bridge::shortLayerName(layer.path), bridge::toQString(layer.path), bridge::groupName(layer.group) });
        }
        m_scanned = 0;
        m_widest = 1;
        m_map->reset(std::move(rows), std::move(columns), [this](int row, int column) { return cell(row, column); });
    } else {
        m_map->grow(std::move(columns));
    }
    if (m_what->currentData().toInt() == Change) {
        for (; m_scanned < m_map->columnCount(); ++m_scanned) {
            for (int r = 0; r < m_map->rowCount(); ++r) {
                const double value = std::abs(cell(r, m_scanned));
                m_widest = std::isfinite(value) ? std::max(m_widest, value) : m_widest;
            }
        }
        m_map->setRange(-m_widest, m_widest);
    } else {
        m_map->setRange(0, 0);
    }
    m_digests = record.digests.size();
    m_epoch = record.epoch;
    m_table = table;
    const int last = static_cast<int>(m_digests) - 1;
    const bool follow = m_followEnd && !m_movie.isActive();
    {
        const QSignalBlocker blocker(m_slider);
        m_slider->setRange(0, last);
        m_slider->setEnabled(last > 0);
    }
    const qint64 chosen = m_workspace.selection().step;
    if (follow || chosen < 0) {
        const QSignalBlocker blocker(m_slider);
        m_slider->setValue(last);
        showDigest(last);
    } else {
        showStep(chosen);
    }
    const QString layer = m_workspace.selection().layer;
    m_boxes->selectPath(layer);
    markLayers();
}

void RankPanel::showStep(qint64 step)
{
    if (!m_run || m_run->record().digests.empty() || step < 0) {
        return;
    }
    const auto& digests = m_run->record().digests;
    const auto after = std::upper_bound(digests.begin(), digests.end(), step,
                                        [](qint64 s, const bridge::DigestPtr& digest) { return s < digest->step; });
    const int index = std::max(0, static_cast<int>(after - digests.begin()) - 1);
    {
        const QSignalBlocker blocker(m_slider);
        m_slider->setValue(index);
    }
    showDigest(index);
}

void RankPanel::showDigest(int index)
{
    const auto& digests = m_run->record().digests;
    const data::DigestColumns& digest = *digests[static_cast<std::size_t>(index)];
    m_map->selectColumn(index);
    m_stepLabel->setText(tr("step %1 of %2").arg(digest.step).arg(digests.back()->step));
    fillBoxes(digest);
}

void RankPanel::fillBoxes(const data::DigestColumns& digest)
{
    const bridge::RunRecord& record = m_run->record();
    const bridge::LayerTable& layers = record.layersOf(digest);
    const bridge::DigestPtr first = record.firstDigest();
    const bool hasReference = first && first->table == digest.table && first->step < digest.step;
    std::vector<common::BoxChart::Panel> panels {
        { tr("Vision"), {} }, { tr("Language"), {} }, { tr("Action"), {} }, { tr("Projection"), {} }
    };
    double top = 0;
    for (std::size_t i = 0; i < layers.size() && i < digest.rank.size(); ++i) {
        common::BoxChart::Panel& panel =
            panels[static_cast<std::size_t>(std::clamp<std::int64_t>(layers[i].group, 0, 3))];
        common::BoxChart::Box box;
        box.name = bridge::shortLayerName(layers[i].path);
        box.path = bridge::toQString(layers[i].path);
        box.mean = digest.rank[i];
        box.quantiles = fiveNumbers(digest.quantiles.row(i), box.mean);
        if (hasReference && i < first->rank.size()) {
            box.reference = first->rank[i];
            if (i < first->quantiles.size()) {
                box.referenceQuantiles = fiveNumbers(first->quantiles.row(i), first->rank[i]);
            }
        }
        top = std::max(top, static_cast<double>(layers[i].capacity));
        panel.boxes.push_back(std::move(box));
    }
    // With a capacity of 128 the published bounds of the mean are of interest.
    std::vector<std::pair<double, QString>> levels;
    if (top == 128) {
        levels = { { 28, QStringLiteral("28") }, { 115, QStringLiteral("115") } };
    }
    m_boxes->setLevels(std::move(levels));
    m_boxes->setPanels(std::move(panels), top);
    m_boxes->setTitle(hasReference ? tr("Active ranks at step %1 · box 25–75 %, × mean, grey ◇ step 0").arg(digest.step)
                                   : tr("Active ranks at step %1 · box 25–75 %, × mean").arg(digest.step));
}

} // namespace rankwise::train_view
