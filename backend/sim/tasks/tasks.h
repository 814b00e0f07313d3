// The tasks' constructors, for the registry alone, and the moves that their experts share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/arm_kinematics.h"
#include "backend/sim/task.h"

#include <memory>

namespace rankwise::sim {

[[nodiscard]] std::unique_ptr<Task> makeOpenPot();
[[nodiscard]] std::unique_ptr<Task> makePourBlock();
[[nodiscard]] std::unique_ptr<Task> makePressButton();
[[nodiscard]] std::unique_ptr<Task> makePickPlace();

[[nodiscard]] inline double horizontalDistance(const Vec3& a, const Vec3& b)
{
    return std::hypot(a[0] - b[0], a[1] - b[1]);
}

/// Roll that sets the fingers on the nearest pair of faces of a square object.
[[nodiscard]] double rollOntoFaces(double azimuth, const Mat3& worldFromObject);

/// How far the gripper is turned from a waypoint, rad.
[[nodiscard]] double turnError(const SceneView& scene, const Pose& tcp, const Waypoint& waypoint);

/// Hover, descend, close: the next waypoint towards a grasp from above at `grasp.position`, which has the grasp's tilt
/// and roll. Closes when there; keeps closing in a wider neighborhood once the fingers are no longer open.
[[nodiscard]] Waypoint graspFromAbove(const SceneView& scene, const Pose& tcp, Waypoint grasp);

} // namespace rankwise::sim
