// What a task is: its scene, its random start, its condition of success and its expert's next waypoint.
// A task is one file of tasks/ and one line of the registry in task.cpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/environment.h"
#include "backend/sim/random.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::sim {

/// Uniform start of one object: x in m, y in m, yaw in rad, about the middle of the ranges.
struct StartRange {
    double x0, x1, y0, y1, yaw = 0;
};
struct PlanarPose {
    double x = 0, y = 0, yaw = 0;
};
/// Draws three numbers; `scale` 1 is the range as it stands.
[[nodiscard]] PlanarPose draw(Random& random, const StartRange& range, double scale);

/// Reads and, before the start, places the things of a scene by name. Names are those of the MJCF.
class SceneView {
public:
    SceneView(const mjModel_& model, const mjData_& data) : m_model(model), m_data(data) { }
    /// A view that can place things.
    SceneView(const mjModel_& model, mjData_& data) : m_model(model), m_data(data), m_start(&data) { }

    [[nodiscard]] Pose bodyPose(const char* body) const;
    /// Linear speed of the body's center of mass, m/s.
    [[nodiscard]] double bodySpeed(const char* body) const;
    [[nodiscard]] Pose sitePose(const char* site) const;
    [[nodiscard]] double jointPosition(const char* joint) const;
    /// Total opening, m, and its rate, m/s.
    [[nodiscard]] double opening() const;
    [[nodiscard]] double openingSpeed() const;
    /// Both fingers touch `body`.
    [[nodiscard]] bool held(const char* body) const;

    /// Azimuth of a point seen from the axis of the arm's first joint, rad.
    [[nodiscard]] double azimuth(const Vec3& point) const;

    /// Puts a body with a free joint, or a movable fixture (a mocap body), upright at x, y with a yaw, at the height of
    /// the MJCF.
    void place(const char* body, const PlanarPose& pose);

private:
    const mjModel_& m_model;
    const mjData_& m_data;
    mjData_* m_start = nullptr;
};

/// Where the expert wants the gripper now.
struct Waypoint {
    std::string_view phase;       ///< A literal.
    Vec3 position {};             ///< TCP, world frame, m.
    double tilt = 0.3;            ///< Angle of the approach from straight down, outwards in the plane of the arm, rad.
    double roll = 0.0;            ///< Turn about the approach axis, rad; 0 has the fingers open sideways.
    double opening = kOpeningMax; ///< Target of the total opening, m.
    double stepLimit = 0.032;     ///< Longest way of the TCP in one step, m.
};

class Task {
public:
    virtual ~Task() = default;

    [[nodiscard]] virtual std::string_view name() const = 0;
    /// Middle part of the scene's file name: "<arm>_<scene>.xml".
    [[nodiscard]] virtual std::string_view scene() const = 0;
    [[nodiscard]] virtual std::vector<std::string> instructions() const = 0;
    /// Bodies that are labelled at the site of their name, and which of them is the target and the goal (-1: none).
    [[nodiscard]] virtual std::vector<std::string> objects() const = 0;
    [[nodiscard]] virtual int target() const = 0;
    [[nodiscard]] virtual int goal() const = 0;
    /// Steps that achieved() must hold in a row.
    [[nodiscard]] virtual int holdSteps() const { return 3; }

    /// Draws the start of the objects; `scale` shrinks (0: centers) or widens the ranges.
    virtual void place(SceneView& scene, Random& random, double scale) const = 0;
    /// The condition of success, at this instant.
    [[nodiscard]] virtual bool achieved(const SceneView& scene) const = 0;
    /// The expert's next waypoint. `tcp` is the pose of the point between the fingertips.
    [[nodiscard]] virtual Waypoint plan(const SceneView& scene, const Pose& tcp) const = 0;
};

/// The task of that name, which lives as long as the program, or nullptr.
[[nodiscard]] const Task* findTask(std::string_view name);

} // namespace rankwise::sim
