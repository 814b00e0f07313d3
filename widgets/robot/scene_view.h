// The arm and its surroundings in 3D: measured solid, commanded as a ghost.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/arm_source.h"
#include "widgets/bridge/column_model.h"
#include "widgets/common/canvas_frame.h"

#include <array>
#include <memory>
#include <vector>

namespace rankwise::common {
class VtkView;
}

namespace rankwise::robot_view {

class SceneView : public common::CanvasFrame {
    Q_OBJECT

public:
    explicit SceneView(QWidget* parent = nullptr);
    ~SceneView() override;

    void setScene(std::shared_ptr<const bridge::ArmScene> scene);
    void setSnapshot(std::shared_ptr<const bridge::ArmSnapshot> snapshot);
    void setGhostVisible(bool on);
    /// Lines through points of the world: where the gripper is planned to go, and where it went. Empty: none.
    void setPaths(const std::vector<std::array<float, 3>>& planned, const std::vector<std::array<float, 3>>& executed);
    /// nullptr without OpenGL; the table is there all the same.
    [[nodiscard]] common::VtkView* canvas() const { return m_view; }

protected:
    void paintPicture(QPainter& painter, const QSizeF& size) override;

private:
    struct Actors;
    void doWithoutGl();
    SceneView(std::unique_ptr<bridge::ColumnModel> table, QWidget* parent);
    std::unique_ptr<bridge::ColumnModel> m_numbers;
    common::VtkView* m_view = nullptr;
    std::unique_ptr<Actors> m_actors;
    std::shared_ptr<const bridge::ArmScene> m_scene;
    std::shared_ptr<const bridge::ArmSnapshot> m_snapshot;
    bool m_ghost = true;
};

} // namespace rankwise::robot_view
