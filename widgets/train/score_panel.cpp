// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/score_panel.h"

#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"

#include <QComboBox>
#include <QGridLayout>
#include <QHBoxLayout>
#include <QLabel>
#include <QSignalBlocker>

#include <cmath>
#include <numeric>
#include <span>

namespace rankwise::train_view {

using bridge::RunTail;

ScorePanel::ScorePanel(bridge::Workspace& workspace, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_scores(new common::BarChart(tr("Share of the squared scores, sorted"),
                                                                             tr("direction"), tr("mean share"), this)),
      m_ranks(new common::BarChart(tr("How often each rank occurs"), tr("active rank k"), tr("tokens"), this)),
      m_routing(new common::BarChart(tr("Routing shares"), tr("layer"), tr("share"), this)),
      m_kinds(new common::BarChart(tr("Routing by kind of token"), tr("kind of token"), tr("share"), this)),
      m_layer(new QComboBox), m_tokens(new QComboBox), m_note(new QLabel)
{
    const QString empty = tr("Choose a layer; snapshots of the run hold its scores");
    m_scores->setEmptyText(empty);
    m_ranks->setEmptyText(empty);
    m_routing->setEmptyText(tr("This method has no routing"));
    m_kinds->setEmptyText(tr("This run does not tell kinds of token apart"));
    m_tokens->addItem(tr("all tokens"), -1);
    for (int kind = 0; kind < bridge::kTokenKinds; ++kind) {
        m_tokens->addItem(bridge::tokenKindName(kind), kind);
    }
    m_tokens->setAccessibleName(tr("Tokens whose routing is shown"));
    m_layer->setAccessibleName(tr("Layer"));
    m_layer->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    m_layer->setMinimumContentsLength(40);
    m_note->setProperty("role", QStringLiteral("dim"));
    auto* bar = new QHBoxLayout;
    bar->addWidget(new QLabel(tr("Layer")));
    bar->addWidget(m_layer);
    bar->addWidget(m_note, 1);
    bar->addWidget(new QLabel(tr("Routing of")));
    bar->addWidget(m_tokens);
    auto* grid = new QGridLayout(this);
    grid->setContentsMargins(4, 4, 4, 4);
    grid->addLayout(bar, 0, 0, 1, 2);
    grid->addWidget(new common::ChartView(*m_scores), 1, 0);
    grid->addWidget(new common::ChartView(*m_ranks), 2, 0);
    grid->addWidget(new common::ChartView(*m_routing), 1, 1);
    grid->addWidget(new common::ChartView(*m_kinds), 2, 1);
    grid->setColumnStretch(0, 1);
    grid->setColumnStretch(1, 1);
    grid->setRowStretch(1, 1);
    grid->setRowStretch(2, 1);

    connect(m_layer, &QComboBox::activated, this,
            [this] { m_workspace.selectLayer(m_layer->currentData().toString()); });
    connect(m_tokens, &QComboBox::currentIndexChanged, this, &ScorePanel::showRouting);
    connect(m_routing, &common::BarChart::picked, this, [this](int bar_) {
        if (static_cast<std::size_t>(bar_) < m_routingPaths.size()) {
            m_workspace.selectLayer(m_routingPaths[static_cast<std::size_t>(bar_)]);
        }
    });
    connect(&workspace, &bridge::Workspace::layerSelected, this, &ScorePanel::showLayer);
    connect(&workspace, &bridge::Workspace::stepSelected, this, &ScorePanel::load);
}

void ScorePanel::setRun(RunTail* run)
{
    if (m_run == run) {
        return;
    }
    if (m_run) {
        disconnect(m_run, nullptr, this, nullptr);
    }
    m_run = run;
    m_snapshot.reset();
    m_snapshotStep = m_loadingStep = -1;
    if (run != nullptr) {
        connect(run, &RunTail::snapshotsChanged, this, &ScorePanel::load);
        connect(run, &RunTail::updated, this, [this] {
            fillLayers();
            // Lines of losses come ten times a second; routing only changes with a digest.
            if (m_run->record().digestAt(m_workspace.selection().step) != m_shownDigest) {
                showRouting();
            }
        });
    }
    fillLayers();
    load();
    showLayer();
    showRouting();
}

void ScorePanel::fillLayers()
{
    const std::size_t layers = m_run ? m_run->record().layers().size() : 0;
    if (m_layer->count() == static_cast<int>(layers)
        && (layers == 0 || m_layer->itemData(0).toString() == bridge::toQString(m_run->record().layers()[0].path))) {
        return;
    }
    const QSignalBlocker blocker(m_layer);
    m_layer->clear();
    for (std::size_t i = 0; i < layers; ++i) {
        const std::string& path = m_run->record().layers()[i].path;
        m_layer->addItem(bridge::shortLayerName(path), bridge::toQString(path));
    }
    if (m_workspace.selection().layer.isEmpty() && layers > 0) {
        m_workspace.selectLayer(m_layer->itemData(0).toString());
    }
    m_layer->setCurrentIndex(m_layer->findData(m_workspace.selection().layer));
}

void ScorePanel::load()
{
    showRouting();
    if (!m_run || m_run->record().snapshots.empty()) {
        m_note->setText(m_run ? tr("No snapshot yet") : QString());
        return;
    }
    const auto& files = m_run->record().snapshots;
    const qint64 step = m_workspace.selection().step;
    auto chosen = std::prev(files.end());
    if (step >= 0) {
        const auto after = files.upper_bound(step);
        chosen = after == files.begin() ? files.begin() : std::prev(after);
    }
    if (chosen->first == m_snapshotStep || chosen->first == m_loadingStep) {
        return;
    }
    if (m_job) {
        m_job->cancel();
    }
    m_loadingStep = chosen->first;
    m_job = m_workspace.jobs().start<bridge::Snapshot>(
        tr("Read snapshot of step %1").arg(chosen->first),
        [file = chosen->second](const JobContext& job) { return bridge::readSnapshot(file, job); }, this,
        [this, at = chosen->first](Result<bridge::Snapshot> snapshot) {
            if (m_loadingStep == at) {
                m_loadingStep = -1;
            }
            if (!snapshot) {
                if (snapshot.error().code != Errc::Cancelled) {
                    m_note->setText(bridge::errorSentence(snapshot.error()));
                }
                return;
            }
            m_snapshot = std::make_shared<const bridge::Snapshot>(std::move(*snapshot));
            m_snapshotStep = at;
            showLayer();
        });
}

void ScorePanel::showLayer()
{
    const QString path = m_workspace.selection().layer;
    const bridge::DigestPtr digest = m_run ? m_run->record().digestAt(m_workspace.selection().step) : nullptr;
    showKinds(digest.get());
    {
        const QSignalBlocker blocker(m_layer);
        m_layer->setCurrentIndex(m_layer->findData(path));
    }
    for (std::size_t i = 0; i < m_routingPaths.size(); ++i) {
        if (m_routingPaths[i] == path) {
            m_routing->setSelected(static_cast<int>(i));
        }
    }
    if (!m_snapshot) {
        m_scores->setBars({}, {}, {}, false);
        m_ranks->setBars({}, {}, {}, false);
        return;
    }
    const auto found = m_snapshot->layers.find(path.toStdString());
    if (found == m_snapshot->layers.end()) {
        m_scores->setBars({}, {}, {}, false);
        m_ranks->setBars({}, {}, {}, false);
        m_note->setText(path.isEmpty() ? tr("The layers of this run have no scores")
                                       : tr("The snapshot of step %1 has no scores of this layer").arg(m_snapshotStep));
        return;
    }
    const bridge::LayerSnapshot& layer = found->second;
    std::vector<std::vector<double>> bars;
    for (const double share : layer.sortedShares()) {
        bars.push_back({ share });
    }
    m_scores->setBars({}, {}, std::move(bars), false);
    const double mean = layer.meanRank();
    m_scores->setCut(mean - 1, tr("kept on average: %1").arg(bridge::numberText(mean)));
    bars.clear();
    QStringList names;
    for (std::size_t k = 0; k < layer.rankHistogram.size(); ++k) {
        bars.push_back({ layer.rankHistogram[k] });
        names << QString::number(k);
    }
    m_ranks->setBars(names, {}, std::move(bars), false);
    m_note->setText(tr("snapshot of step %1, %2 tokens, mean rank %3")
                        .arg(m_snapshotStep)
                        .arg(static_cast<qint64>(layer.tokens))
                        .arg(bridge::numberText(mean)));
}

void ScorePanel::showRouting()
{
    m_routingPaths.clear();
    const bridge::DigestPtr digest = m_run ? m_run->record().digestAt(m_workspace.selection().step) : nullptr;
    m_shownDigest = digest;
    const int kind = m_tokens->currentData().toInt();
    QStringList names;
    std::vector<std::vector<double>> parts;
    std::size_t experts = 0;
    const auto add = [&](const data::RunLayer& layer, std::span<const float> shares) {
        if (!shares.empty()) {
            m_routingPaths.push_back(bridge::toQString(layer.path));
            names << bridge::shortLayerName(layer.path);
            parts.emplace_back(shares.begin(), shares.end());
            experts = std::max(experts, shares.size());
        }
    };
    if (digest) {
        const bridge::LayerTable& layers = m_run->record().layersOf(*digest);
        if (kind < 0) {
            for (std::size_t i = 0; i < layers.size(); ++i) {
                add(layers[i], digest->shares.row(i));
            }
        } else {
            for (const bridge::KindRow& row : bridge::kindRows(*digest)) {
                if (row.kind == kind && row.layer < layers.size()) {
                    add(layers[row.layer], row.shares);
                }
            }
        }
    }
    QStringList expertNames;
    for (std::size_t e = 0; e < experts; ++e) {
        expertNames << tr("block %1").arg(e);
    }
    m_routing->setEmptyText(kind < 0 ? tr("This method has no routing")
                                     : tr("No layer routes %1 tokens").arg(bridge::tokenKindName(kind)));
    m_routing->setBars(names, expertNames, std::move(parts), true);
    if (digest) {
        m_routing->setTitle(
            kind < 0 ? tr("Routing shares at step %1").arg(digest->step)
                     : tr("Routing shares of %1 tokens at step %2").arg(bridge::tokenKindName(kind)).arg(digest->step));
    }
    m_routing->setSelected(-1);
    for (std::size_t i = 0; i < m_routingPaths.size(); ++i) {
        if (m_routingPaths[i] == m_workspace.selection().layer) {
            m_routing->setSelected(static_cast<int>(i));
        }
    }
    showKinds(digest.get());
}

/// The chosen layer's routing, a bar for each kind of token that it sees.
void ScorePanel::showKinds(const data::DigestColumns* digest)
{
    QStringList names;
    QStringList expertNames;
    std::vector<std::vector<double>> parts;
    if (digest != nullptr) {
        const bridge::LayerTable& layers = m_run->record().layersOf(*digest);
        for (const bridge::KindRow& row : bridge::kindRows(*digest)) {
            if (row.layer < layers.size() && bridge::toQString(layers[row.layer].path) == m_workspace.selection().layer
                && !row.shares.empty()) {
                names << tr("%1, rank %2").arg(bridge::tokenKindName(row.kind), bridge::numberText(row.rank));
                parts.emplace_back(row.shares.begin(), row.shares.end());
            }
        }
        for (std::size_t e = 0; !parts.empty() && e < parts.front().size(); ++e) {
            expertNames << tr("block %1").arg(e);
        }
        m_kinds->setTitle(
            tr("By kind of token in %1").arg(bridge::shortLayerName(m_workspace.selection().layer.toStdString())));
    }
    m_kinds->setBars(names, expertNames, std::move(parts), true);
}

} // namespace rankwise::train_view
