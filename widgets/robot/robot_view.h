// The Robot tab with the practice arm: 3D, cameras, joints, and what drives it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/arm_source.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"

#include <QTimer>
#include <QWidget>

#include <functional>
#include <memory>

class QCheckBox;
class QComboBox;
class QLabel;
class QSpinBox;
class QStackedWidget;

namespace rankwise::robot_view {

class JointBars;
class SceneView;

class RobotView : public QWidget {
    Q_OBJECT

public:
    RobotView(bridge::Workspace& workspace, common::ActionBinder& actions, QWidget* parent = nullptr);
    ~RobotView() override;

    void connectPracticeArm();
    void disconnectArm();
    void hold();
    void runExpert();
    void newScene();
    [[nodiscard]] bool connected() const { return m_arm != nullptr; }
    [[nodiscard]] bridge::ArmSource* arm() const { return m_arm.get(); }
    [[nodiscard]] SceneView& scene() { return *m_scene; }
    [[nodiscard]] JointBars& joints() { return *m_joints; }
    [[nodiscard]] QString stripText() const;

    [[nodiscard]] static QStringList commandIds();
    static void addCommands(bridge::CommandRegistry& commands, std::function<RobotView*(bool show)> view);

Q_SIGNALS:
    void message(const QString& text);
    void armChanged();

protected:
    void showEvent(QShowEvent* event) override;
    void hideEvent(QHideEvent* event) override;

private:
    void refresh();
    void showCameras(const bridge::ArmSnapshot& snapshot);

    std::unique_ptr<bridge::ArmSource> m_arm;
    QStackedWidget* m_stack;
    SceneView* m_scene;
    JointBars* m_joints;
    QComboBox* m_task;
    QSpinBox* m_seed;
    QLabel* m_strip;
    QLabel* m_instruction;
    QCheckBox* m_follow;
    std::array<QLabel*, 2> m_cameras {};
    std::array<QLabel*, 2> m_cameraNames {};
    QTimer m_frames;
    std::uint64_t m_sequence = 0;
    std::uint64_t m_imageSequence = 0;
    bool m_wasSuccess = false;
};

} // namespace rankwise::robot_view
