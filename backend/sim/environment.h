// The practice arm: a MuJoCo scene of a six-axis arm with a two-finger gripper, a front and a wrist camera and one
// of the registered tasks, stepped at 10 Hz. SceneDescription is what never changes, EpisodeState what does.
//
// State  [7]: joint angles q1…q6 rad, total opening of the fingers m (0…0.07).
// Action [7]: joint targets rad for the end of the next step, target of the total opening m.
// World frame: x forward from the arm's base, y left, z up, the table's top at z = 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/sim/geometry.h"
#include "backend/sim/image.h"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct mjModel_;
struct mjData_;

namespace rankwise::sim {

class Task;

inline constexpr int kControlHz = 10; ///< Rate of step(); also the fps of recorded datasets.
inline constexpr int kPhysicsStepsPerAction = 50;
inline constexpr int kPhysicsStepsPerWatch = 10; ///< Of step()'s watcher: 20 ms.
inline constexpr double kOpeningMax = 0.07;      ///< Total opening of the fingers, m.
inline constexpr std::size_t kJointCount = 6;
inline constexpr std::size_t kActionSize = 7;

using Action = std::array<double, kActionSize>;
using StateVector = std::array<float, kActionSize>;

/// The arms with scenes in resources/scenes. Names on the command line: "piper", "generic".
enum class ArmKind : std::uint8_t {
    Piper,   ///< AgileX PiPER.
    Generic, ///< Another six-axis arm with other lengths, axes and colours; used to pre-train.
};
[[nodiscard]] std::string_view armName(ArmKind arm);
/// Errors: FieldInvalid.
[[nodiscard]] Result<ArmKind> armFromName(std::string_view name);

/// Where the front camera stands.
enum class CameraSet : std::uint8_t {
    A,          ///< Before the arm, on its plane of symmetry.
    B,          ///< Before the arm, to its right.
    SeedParity, ///< A for even seeds of reset(), B for odd ones.
};

/// How much each reset() varies, as factors of moderate ranges; 0 switches one off, 2 doubles it.
struct Randomization {
    double poses = 1.0;  ///< Objects within their start ranges, joints ±0.08 rad, opening 0…70 mm.
    double colors = 1.0; ///< Hue ±4 %, saturation ±15 %, value ±15 % of each object; table value and tint ±10 %.
    double light = 1.0;  ///< Ambient and diffuse ±20 %, direction of the lamp ±0.4 rad.
    double camera = 0.0; ///< Cameras moved by ±10 mm and turned by ±0.02 rad.
};

struct EnvironmentOptions {
    ArmKind arm = ArmKind::Piper;
    CameraSet frontCamera = CameraSet::A;
    Randomization randomization;
    bool realTime = false; ///< step() returns 100 ms after the one before.
};

/// What stays the same over all episodes of an environment.
struct SceneDescription {
    ArmKind arm = ArmKind::Piper;
    std::string task;
    std::array<std::array<double, 2>, kJointCount> jointLimits {}; ///< rad.
    std::array<double, kJointCount> home {};                       ///< rad.
    std::vector<std::string> stateNames;                           ///< "joint_1.pos" … "joint_6.pos", "gripper.pos".
    std::vector<std::string> cameraNames;                          ///< "front", "wrist".
    std::vector<std::string> objectNames;                          ///< In the order of SceneLabels::objects.
    std::vector<std::string> instructions;                         ///< Sentences that ask for the task; at least three.
    int target = 0;                                                ///< Index of the object that the instruction names.
    int goal = -1;                                                 ///< Index of the object it goes to, or -1.
    int timeLimit = 100;                                           ///< Steps that a policy gets.
    int expertTimeLimit = 130;                                     ///< Steps that the scripted expert gets.
};

/// Everything of an episode that changes. Opaque, copyable, of the environment that made it.
struct EpisodeState {
    std::vector<double> physics; ///< MuJoCo's integration state.
    std::uint64_t seed = 0;
    int step = 0;
    int successStreak = 0;
    bool succeeded = false;
};

/// Where one thing is seen by one camera.
struct ImagePoint {
    double u = 0;        ///< 0 at the left edge, 1 at the right.
    double v = 0;        ///< 0 at the top edge, 1 at the bottom.
    double depth = 0;    ///< Distance along the optical axis, m; negative behind the camera.
    bool inside = false; ///< In front of the camera and within the image (it may still be hidden by something).
};

struct PointLabel {
    Vec3 position {};               ///< World frame, m.
    std::vector<ImagePoint> images; ///< By camera, in the order of SceneDescription::cameraNames; images are square.
};

/// Privileged knowledge for auxiliary losses: where everything is.
struct SceneLabels {
    std::vector<PointLabel> objects; ///< By object.
    PointLabel gripper;              ///< The point between the fingertips (TCP).
    int target = 0;                  ///< As in SceneDescription.
    int goal = -1;
};

/// What a policy sees.
struct Observation {
    StateVector state {};
    std::vector<Image> images; ///< By camera, in the order of SceneDescription::cameraNames.
};

/// One simulated arm with its scene.
///
/// The same seed and the same actions give the same states and images to the last bit, in any process of the same
/// machine and build. Thread: any, one at a time. Different environments are independent.
class Environment {
public:
    /// `task` is a name of taskNames(). The first reset() has been done with seed 0.
    /// Errors: FieldInvalid (unknown task), FileNotFound (no scene), DataInvalid (MuJoCo refuses the scene).
    [[nodiscard]] static Result<std::unique_ptr<Environment>> create(std::string_view task,
                                                                     const EnvironmentOptions& options = {});
    ~Environment();
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;

    [[nodiscard]] const SceneDescription& description() const;
    [[nodiscard]] const EnvironmentOptions& options() const;

    /// Starts the episode of `seed`: poses, colours and light are drawn from it.
    void reset(std::uint64_t seed);

    /// Moves for 1/kControlHz s towards `action`, clamped to the limits. `watch` is called after every
    /// kPhysicsStepsPerWatch physics steps and may look at everything; poses are then one physics step old.
    /// Errors: NotFinite (a number of `action`, or the simulation diverged).
    [[nodiscard]] Result<void> step(const Action& action, const std::function<void()>& watch = {});

    /// As step() for `physicsSteps` of 2 ms, without counting a step or looking at success: for callers with a rate of
    /// their own. Errors: NotFinite.
    [[nodiscard]] Result<void> advance(const Action& target, int physicsSteps);

    [[nodiscard]] StateVector state() const;
    /// Joint velocities rad/s and the opening's, m/s.
    [[nodiscard]] StateVector velocity() const;
    /// Torques of the joint drives, N·m, as last applied (servo and gravity feed-forward).
    [[nodiscard]] std::array<double, kJointCount> jointTorques() const;

    /// State and an image of width × height of each camera of the description.
    /// Errors: DeviceFailed when nothing can be rendered; the message names what is missing.
    [[nodiscard]] Result<Observation> observation(int width, int height);
    /// Image of one camera: a camera of the description or "overview". Rendered at twice the size and box-filtered.
    /// Errors: FieldInvalid (camera, size outside 8…2048), DeviceFailed.
    [[nodiscard]] Result<Image> render(std::string_view camera, int width, int height);
    [[nodiscard]] SceneLabels labels() const;

    /// The task's condition has held long enough (three steps, one for a button) at some time since reset().
    [[nodiscard]] bool success() const;
    /// The task's condition holds at this instant.
    [[nodiscard]] bool conditionHolds() const;
    [[nodiscard]] int stepCount() const;
    [[nodiscard]] std::uint64_t seed() const;
    /// One of the description's instructions, chosen by the seed.
    [[nodiscard]] const std::string& instruction() const;

    [[nodiscard]] EpisodeState save() const;
    /// Errors: DataInvalid (a state of another scene).
    [[nodiscard]] Result<void> restore(const EpisodeState& state);

    /// Pose of the point between the fingertips, world frame.
    [[nodiscard]] Pose gripperPose() const;
    /// Pose of the flange (link 6), world frame.
    [[nodiscard]] Pose flangePose() const;

    /// Places the arm at once, at rest; objects stay. For tests and for start poses near the goal.
    /// Errors: NotFinite, FieldInvalid (outside the joint limits).
    [[nodiscard]] Result<void> placeArm(const std::array<double, kJointCount>& joints, double opening);

    /// For tasks and experts.
    [[nodiscard]] const mjModel_& model() const;
    [[nodiscard]] const mjData_& data() const;
    [[nodiscard]] const Task& task() const;

private:
    struct Impl;
    [[nodiscard]] Result<void> move(const Action& target, int physicsSteps, const std::function<void()>& watch);
    explicit Environment(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

/// Names of all registered tasks, in the order of the registry: "open_pot", "pour_block", "press_button", "pick_place".
[[nodiscard]] std::vector<std::string> taskNames();

/// Sentence of MuJoCo's version, e.g. "4.0.0".
[[nodiscard]] std::string mujocoVersion();
/// Renders one pixel. Errors: DeviceFailed with the missing packages. Returns the OpenGL renderer's name.
[[nodiscard]] Result<std::string> checkRendering();

} // namespace rankwise::sim
