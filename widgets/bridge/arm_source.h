// An arm as the window sees it: a constant description, the latest state, and a queue of commands. What is behind it
// (the practice arm of the simulation, or an arm service) is of no concern to the view.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"
#include "backend/sim/scene_shapes.h"

#include <QObject>
#include <QString>
#include <QStringList>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace rankwise::bridge {

inline constexpr std::size_t kArmJoints = 6;
inline constexpr std::size_t kArmValues = 7; ///< Six joints (rad) and the opening of the fingers (m).

using sim::SceneShape;
using sim::ShapePose;

/// What stays the same while an arm is connected.
struct ArmScene {
    QString title;
    std::vector<SceneShape> shapes;
    std::array<std::array<double, 2>, kArmValues> limits {};
    QStringList cameras;
    QString policy;                     ///< Name of the policy that drives it; empty: none does.
    double controlHz = 0;               ///< Actions a second of the policy.
    std::int64_t actionSteps = 0;       ///< Actions that are run of each chunk.
    std::vector<data::RunLayer> layers; ///< Layers whose active ranks its chunks tell.
};

/// What the policy decided at one moment: the actions that it plans, and how its layers came to them. Immutable.
struct PolicyChunk {
    std::int64_t number = 0;
    std::int64_t step = 0; ///< Of the episode, at which its first action begins.
    double latency = 0;    ///< Seconds that it took to compute.
    std::vector<std::array<double, kArmValues>> actions;
    std::vector<std::array<float, 3>> path; ///< Of the gripper through these actions, m.
    std::vector<float> rank;                ///< Mean active rank by layer.
    std::vector<std::vector<float>> shares; ///< Routing by layer; empty without.
    std::vector<std::vector<float>> kinds;  ///< [layer, kind of token, shares …]
};

/// 8-bit RGB, rows from the top, [height, width, 3].
struct CameraImage {
    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> rgb;
};
using CameraImagePtr = std::shared_ptr<const CameraImage>;

enum class ArmMode { Hold, Expert, Jog, Replay, Policy };

/// One moment; immutable.
struct ArmSnapshot {
    std::uint64_t sequence = 0;
    double time = 0; ///< Seconds since the start of the scene.
    ArmMode mode = ArmMode::Hold;
    std::array<double, kArmValues> measured {};
    std::array<double, kArmValues> target {};
    std::array<double, kArmValues> velocity {};
    std::array<double, kArmJoints> torque {}; ///< N·m
    std::array<double, 3> gripper {};         ///< Position of the point between the fingertips, m.
    std::vector<ShapePose> poses;             ///< By shape.
    std::vector<ShapePose> ghost;             ///< Of shapes that move with the arm, at the target; others as measured.
    std::vector<CameraImagePtr> images;       ///< By camera; those of the last picture.
    std::uint64_t imageSequence = 0;
    QString phase;       ///< What the expert is doing.
    QString instruction; ///< Of the scene.
    bool succeeded = false;
    std::uint64_t seed = 0;
    std::int64_t step = 0;                    ///< Actions of the policy that were run.
    std::int64_t timeLimit = 0;               ///< Actions that an episode gets; 0: no limit.
    bool ended = false;                       ///< The policy's episode is over.
    std::shared_ptr<const PolicyChunk> chunk; ///< The one that is run now; null without a policy.
    double loopHz = 0;                        ///< Effective rate of the loop over the last second.
    std::uint64_t lateTicks = 0;
    double worstLateness = 0; ///< Seconds, since the start.
    QString error;            ///< The loop ended with this.
};

/// Thread: GUI; what is behind it has threads of its own.
class ArmSource : public QObject {
    Q_OBJECT

public:
    using QObject::QObject;

    /// Null until connected() or failed().
    [[nodiscard]] virtual std::shared_ptr<const ArmScene> scene() const = 0;
    /// The newest state; null before the first. Cheap: call it once a frame.
    [[nodiscard]] virtual std::shared_ptr<const ArmSnapshot> latest() const = 0;

    /// Keeps the present position. Never waits.
    virtual void hold() = 0;
    /// Lets the scripted expert do the task.
    virtual void runExpert() = 0;
    /// Moves towards joint values; beyond the limits is clamped.
    virtual void jog(const std::array<double, kArmValues>& target) = 0;
    /// Goes on with the policy's episode.
    virtual void resume() { }
    /// Runs one action of the policy and holds again.
    virtual void stepOnce() { }
    /// A new scene of the same task; with a policy the episode of this number.
    virtual void resetScene(std::uint64_t seed) = 0;
    /// Shows a recorded state at once (replay).
    virtual void show(const std::array<double, kArmValues>& state) = 0;

Q_SIGNALS:
    void connected();
    void failed(const QString& reason);
};

} // namespace rankwise::bridge
