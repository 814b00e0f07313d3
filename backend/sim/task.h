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

/// Reads and, before the start, places the things of a scene by name. Names are those of the MJCF.
class SceneView {
public:
    SceneView(const mjModel_& model, mjData_& data) : m_model(model), m_data(&data) { }
    SceneView(const mjModel_& model, const mjData_& data) : m_model(model), m_readOnly(&data) { }

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

    /// Puts a body with a free joint, or a movable fixture (a mocap body), upright at x, y with a yaw.
    void place(const char* body, double x, double y, double yaw);

private:
    const mjModel_& m_model;
    mjData_* m_data = nullptr;
    const mjData_* m_readOnly = nullptr;
    [[nodiscard]] const mjData_& data() const { return m_data != nullptr ? *m_data : *m_readOnly; }
};

/// Where the expert wants the gripper now.
struct Waypoint {
    std::string_view phase;  ///< A literal.
    Vec3 position {};        ///< TCP, world frame, m.
    double tilt = 0.3;       ///< Angle of the approach from straight down, outwards in the plane of the arm, rad.
    double roll = 0.0;       ///< Turn about the approach axis, rad; 0 has the fingers open sideways.
    double opening = kOpeningMax;  ///< Target of the total opening, m.
    double stepLimit = 0.032;      ///< Longest way of the TCP in one step, m.
};

/// What a task needs to know of its start.
struct StartRange {
    double x0, x1, y0, y1, yaw;
};

class Task {
public:
    virtual ~Task() = default;

    [[nodiscard]] virtual std::string_view name() const = 0;
    /// Middle part of the scene's file name: "<arm>_<scene>.xml".
    [[nodiscard]] virtual std::string_view scene() const = 0;
    [[nodiscard]] virtual std::vector<std::string> instructions() const = 0;
    /// Bodies that are labelled, and which of them is the target and the goal (-1: none).
    [[nodiscard]] virtual std::vector<std::string> objects() const = 0;
    [[nodiscard]] virtual int target() const = 0;
    [[nodiscard]] virtual int goal() const = 0;
    /// Point of an object that is labelled, world frame: the body's origin unless a task says otherwise.
    [[nodiscard]] virtual Vec3 labelPoint(const SceneView& scene, int object) const;

    /// Draws the start of the objects; `scale` shrinks (0: centers) or widens the ranges.
    virtual void place(SceneView& scene, Random& random, double scale) const = 0;
    /// The condition of success, at this instant.
    [[nodiscard]] virtual bool achieved(const SceneView& scene) const = 0;
    /// The expert's next waypoint. `tcp` is the pose of the point between the fingertips.
    [[nodiscard]] virtual Waypoint plan(const SceneView& scene, const Pose& tcp) const = 0;
};

/// The task of that name, which lives as long as the program, or nullptr.
[[nodiscard]] const Task* findTask(std::string_view name);

}  // namespace rankwise::sim
