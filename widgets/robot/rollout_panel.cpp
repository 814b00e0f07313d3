// SPDX-License-Identifier: Apache-2.0
#include "widgets/robot/rollout_panel.h"

#include "widgets/bridge/run_record.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/robot/joint_bars.h"

#include <QComboBox>
#include <QTabWidget>
#include <QVBoxLayout>

#include <cmath>
#include <limits>
#include <numbers>

namespace rankwise::robot_view {

using bridge::kArmJoints;
using bridge::kArmValues;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Degrees, or millimetres for the opening.
double shown(int joint, double value)
{
    return joint < static_cast<int>(kArmJoints) ? value * 180 / std::numbers::pi : value * 1000;
}

} // namespace

RolloutPanel::RolloutPanel(bridge::Workspace& workspace, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_executed(std::make_shared<common::Series>()),
      m_commanded(std::make_shared<common::Series>()), m_planned(std::make_shared<common::Series>()),
      m_plan(new common::LineChart(tr("Plan and execution"), tr("time (s)"), tr("angle (°)"), this)),
      m_ranks(new common::HeatMap(tr("Active ranks by chunk"), tr("layer"), tr("time (s)"), tr("rank"), this)),
      m_routing(new common::BarChart(tr("Routing of the present chunk"), tr("layer"), tr("share"), this)),
      m_pages(new QTabWidget), m_joint(new QComboBox)
{
    m_plan->setXIsInteger(false);
    m_plan->setCurves({ { tr("executed"), m_executed, 0, false },
                        { tr("commanded"), m_commanded, 1, true },
                        { tr("planned"), m_planned, 2, false } });
    m_ranks->setEmptyText(tr("No layer of this policy adapts its rank"));
    m_routing->setEmptyText(tr("This policy has no routing"));
    for (int joint = 0; joint < static_cast<int>(kArmValues); ++joint) {
        m_joint->addItem(jointName(joint));
    }
    m_joint->setAccessibleName(tr("Joint whose plan is shown"));
    connect(m_joint, &QComboBox::currentIndexChanged, this, &RolloutPanel::rebuildPlan);
    connect(m_ranks, &common::HeatMap::rowPicked, this, [this](int row) {
        if (m_scene && row >= 0 && static_cast<std::size_t>(row) < m_scene->layers.size()) {
            m_workspace.selectLayer(bridge::toQString(m_scene->layers[static_cast<std::size_t>(row)].path));
        }
    });
    connect(m_routing, &common::BarChart::picked, this, [this](int bar) {
        if (static_cast<std::size_t>(bar) < m_routingPaths.size()) {
            m_workspace.selectLayer(m_routingPaths[static_cast<std::size_t>(bar)]);
        }
    });
    connect(&workspace, &bridge::Workspace::layerSelected, this, [this](const QString& path) {
        int row = -1;
        for (std::size_t i = 0; m_scene && i < m_scene->layers.size(); ++i) {
            row = bridge::toQString(m_scene->layers[i].path) == path ? static_cast<int>(i) : row;
        }
        m_ranks->selectRow(row);
        showRouting();
    });
    auto* plan = new common::ChartView(*m_plan);
    plan->addTool(m_joint);
    m_pages->setDocumentMode(true);
    m_pages->addTab(plan, tr("Plan"));
    m_pages->addTab(new common::ChartView(*m_ranks), tr("Ranks"));
    m_pages->addTab(new common::ChartView(*m_routing), tr("Routing"));
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(m_pages);
}

void RolloutPanel::setScene(std::shared_ptr<const bridge::ArmScene> scene)
{
    m_scene = std::move(scene);
    clearEpisode();
}

void RolloutPanel::clearEpisode()
{
    m_moments.clear();
    m_chunks.clear();
    m_trail.clear();
    m_chunk.reset();
    m_time = -1;
    std::vector<common::HeatMap::Row> rows;
    if (m_scene) {
        for (const data::RunLayer& layer : m_scene->layers) {
            rows.push_back(
                { bridge::shortLayerName(layer.path), bridge::toQString(layer.path), bridge::groupName(layer.group) });
        }
    }
    m_ranks->reset(std::move(rows), {}, [this](int row, int column) {
        const std::vector<float>& rank = m_chunks[static_cast<std::size_t>(column)]->rank;
        return static_cast<std::size_t>(row) < rank.size() ? static_cast<double>(rank[static_cast<std::size_t>(row)])
                                                           : kNaN;
    });
    rebuildPlan();
    showRouting();
}

void RolloutPanel::setSnapshot(const std::shared_ptr<const bridge::ArmSnapshot>& snapshot)
{
    if (!m_scene || m_scene->policy.isEmpty()) {
        return;
    }
    if (snapshot->seed != m_seed || snapshot->time < m_time) {
        m_seed = snapshot->seed;
        clearEpisode();
    }
    if (snapshot->time > m_time) {
        m_time = snapshot->time;
        m_moments.push_back({ snapshot->time, snapshot->measured, snapshot->target });
        m_trail.push_back({ static_cast<float>(snapshot->gripper[0]), static_cast<float>(snapshot->gripper[1]),
                            static_cast<float>(snapshot->gripper[2]) });
        addMoment(m_moments.back());
    }
    if (snapshot->chunk && snapshot->chunk != m_chunk) {
        m_chunk = snapshot->chunk;
        addChunk();
        showPlan();
        showRouting();
    }
}

void RolloutPanel::redraw()
{
    if (m_scene && !m_scene->policy.isEmpty()) {
        m_plan->seriesGrew();
    }
}

void RolloutPanel::addMoment(const Moment& moment)
{
    const int joint = m_joint->currentIndex();
    const auto j = static_cast<std::size_t>(joint);
    m_executed->append(moment.time, shown(joint, moment.measured[j]));
    m_commanded->append(moment.time, shown(joint, moment.target[j]));
}

/// The other joint's past.
void RolloutPanel::rebuildPlan()
{
    m_executed->clear();
    m_commanded->clear();
    for (const Moment& moment : m_moments) {
        addMoment(moment);
    }
    m_plan->setYLabel(m_joint->currentIndex() < static_cast<int>(kArmJoints) ? tr("angle (°)") : tr("opening (mm)"));
    showPlan();
    m_plan->seriesGrew();
}

/// Every action of the chunk at the end of its tenth of a second, from where the chunk began.
void RolloutPanel::showPlan()
{
    m_planned->clear();
    if (!m_chunk || m_scene->controlHz <= 0) {
        return;
    }
    const int joint = m_joint->currentIndex();
    double step = static_cast<double>(m_chunk->step);
    for (const auto& action : m_chunk->actions) {
        m_planned->append(++step / m_scene->controlHz, shown(joint, action[static_cast<std::size_t>(joint)]));
    }
}

void RolloutPanel::addChunk()
{
    if (m_scene->layers.empty() || m_chunk->rank.empty()) {
        return;
    }
    m_chunks.push_back(m_chunk);
    std::vector<double> columns;
    for (const auto& chunk : m_chunks) {
        columns.push_back(static_cast<double>(chunk->step) / m_scene->controlHz);
    }
    m_ranks->grow(std::move(columns));
    m_ranks->selectColumn(static_cast<int>(m_chunks.size()) - 1);
}

void RolloutPanel::showRouting()
{
    m_routingPaths.clear();
    QStringList names;
    QStringList blocks;
    std::vector<std::vector<double>> parts;
    for (std::size_t i = 0; m_chunk && i < m_chunk->shares.size() && i < m_scene->layers.size(); ++i) {
        const std::vector<float>& shares = m_chunk->shares[i];
        if (!shares.empty()) {
            const std::string& path = m_scene->layers[i].path;
            m_routingPaths.push_back(bridge::toQString(path));
            names << bridge::shortLayerName(path);
            parts.emplace_back(shares.begin(), shares.end());
            for (auto block = static_cast<std::size_t>(blocks.size()); block < shares.size(); ++block) {
                blocks << tr("block %1").arg(block);
            }
        }
    }
    m_routing->setBars(names, blocks, std::move(parts), true);
    m_routing->setSelected(-1);
    for (std::size_t i = 0; i < m_routingPaths.size(); ++i) {
        if (m_routingPaths[i] == m_workspace.selection().layer) {
            m_routing->setSelected(static_cast<int>(i));
        }
    }
}

} // namespace rankwise::robot_view
