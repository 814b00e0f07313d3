// What a policy plans and how it came to it, on the arm's clock: the planned chunk against what was executed, the
// active ranks of its layers chunk by chunk, and the routing of the present chunk.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/arm_source.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/bar_chart.h"
#include "widgets/common/heat_map.h"
#include "widgets/common/line_chart.h"

#include <QWidget>

#include <memory>
#include <vector>

class QComboBox;
class QLabel;
class QTabWidget;

namespace rankwise::robot_view {

class RolloutPanel : public QWidget {
    Q_OBJECT

public:
    explicit RolloutPanel(bridge::Workspace& workspace, QWidget* parent = nullptr);

    void setScene(std::shared_ptr<const bridge::ArmScene> scene);
    /// Takes over the moment; redraw() shows it.
    void setSnapshot(const std::shared_ptr<const bridge::ArmSnapshot>& snapshot);
    void redraw();

    [[nodiscard]] common::LineChart& plan() { return *m_plan; }
    [[nodiscard]] common::HeatMap& ranks() { return *m_ranks; }
    [[nodiscard]] common::BarChart& routing() { return *m_routing; }
    [[nodiscard]] QTabWidget& pages() { return *m_pages; }
    [[nodiscard]] QComboBox* jointChoice() const { return m_joint; }
    /// Gripper positions since the episode began, for the scene.
    [[nodiscard]] const std::vector<std::array<float, 3>>& trail() const { return m_trail; }

private:
    struct Moment {
        double time = 0;
        std::array<double, bridge::kArmValues> measured {};
        std::array<double, bridge::kArmValues> target {};
    };
    void clearEpisode();
    void rebuildPlan();
    void addMoment(const Moment& moment);
    void showPlan();
    void addChunk();
    void showRouting();

    bridge::Workspace& m_workspace;
    std::shared_ptr<const bridge::ArmScene> m_scene;
    std::shared_ptr<const bridge::PolicyChunk> m_chunk;
    std::vector<Moment> m_moments;
    std::vector<std::shared_ptr<const bridge::PolicyChunk>> m_chunks;
    std::vector<std::array<float, 3>> m_trail;
    std::shared_ptr<common::Series> m_executed, m_commanded, m_planned;
    common::LineChart* m_plan;
    common::HeatMap* m_ranks;
    common::BarChart* m_routing;
    QTabWidget* m_pages;
    QComboBox* m_joint;
    std::vector<QString> m_routingPaths;
    std::uint64_t m_seed = 0;
    double m_time = -1;
};

} // namespace rankwise::robot_view
