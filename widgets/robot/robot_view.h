// The Robot tab with the practice arm: 3D, cameras, joints, and what drives it: hands, the scripted expert, a policy.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/arm_source.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/rollout_arm.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"

#include <QElapsedTimer>
#include <QTimer>
#include <QWidget>

#include <functional>
#include <memory>

class QCheckBox;
class QComboBox;
class QFrame;
class QLabel;
class QSpinBox;
class QStackedWidget;

namespace rankwise::robot_view {

class JointBars;
class RolloutPanel;
class SceneView;

class RobotView : public QWidget {
    Q_OBJECT

public:
    RobotView(bridge::Workspace& workspace, common::ActionBinder& actions, QWidget* parent = nullptr);
    ~RobotView() override;

    void connectPracticeArm();
    /// A policy takes the arm: the one that is chosen in the list.
    void rollOut();
    void rollOut(const bridge::RolloutSetup& setup);
    void disconnectArm();
    /// The policy goes on, or runs one action.
    void resume();
    void stepOnce();
    /// What rollOut() would roll out; an empty policy when nothing is chosen.
    [[nodiscard]] bridge::RolloutSetup chosenSetup() const;
    void hold();
    void runExpert();
    void newScene();
    [[nodiscard]] bool connected() const { return m_arm != nullptr; }
    [[nodiscard]] bool rollingOut() const { return m_rolling; }
    /// Episodes of this rollout that ended, and how many of them succeeded.
    [[nodiscard]] int episodesEnded() const { return m_ended; }
    [[nodiscard]] int episodesSucceeded() const { return m_succeeded; }
    [[nodiscard]] QComboBox* policyChoice() const { return m_policy; }
    [[nodiscard]] QComboBox* taskChoice() const { return m_task; }
    [[nodiscard]] RolloutPanel& rollout() { return *m_rollout; }
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
    void take(std::unique_ptr<bridge::ArmSource> arm, const QString& greeting);
    void buildStopCard();
    void stopped(const bridge::ArmSnapshot& snapshot);
    void fillPolicies();
    void showPages();
    void refresh();
    void showNumbers(const std::shared_ptr<const bridge::ArmSnapshot>& snapshot);
    [[nodiscard]] QString tallyText() const;
    void tellEnd(const bridge::ArmSnapshot& snapshot);
    void showCameras(const bridge::ArmSnapshot& snapshot);

    std::unique_ptr<bridge::ArmSource> m_arm;
    QStackedWidget* m_stack;
    SceneView* m_scene;
    JointBars* m_joints;
    RolloutPanel* m_rollout;
    bridge::Workspace& m_workspace;
    QComboBox* m_task;
    QComboBox* m_armKind;
    QComboBox* m_policy;
    QSpinBox* m_seed;
    QLabel* m_strip;
    QLabel* m_instruction;
    QCheckBox* m_follow;
    QFrame* m_stopCard;
    QLabel* m_stopText;
    std::function<void()> m_startAgain; ///< What took the arm last.
    std::array<QLabel*, 2> m_cameras {};
    std::array<QLabel*, 2> m_cameraNames {};
    QTimer m_frames;
    std::uint64_t m_sequence = 0;
    std::uint64_t m_imageSequence = 0;
    bool m_wasSuccess = false;
    QElapsedTimer m_sinceNumbers;
    bool m_stale = false; ///< Numbers are older than the picture.
    bool m_rolling = false;
    bool m_wasEnded = false;
    int m_ended = 0;
    int m_succeeded = 0;
};

} // namespace rankwise::robot_view
