// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/tasks/tasks.h"

#include <algorithm>
#include <numbers>

namespace rankwise::sim {
namespace {

constexpr double kHover = 0.06;         // m above the grasp
constexpr double kOpenEnough = 0.055;   // m, before the fingers go down around something
constexpr double kFunnelRadius = 0.008; // m
constexpr double kSlope = 4;
constexpr double kTurnTolerance = 0.12; // rad
constexpr double kTurnSlope = 0.4;      // m/rad
constexpr double kOpeningSlope = 6;

} // namespace

double rollOntoFaces(double azimuth, const Mat3& worldFromObject)
{
    const double yaw = std::atan2(worldFromObject[3], worldFromObject[0]);
    return std::remainder(azimuth - yaw, std::numbers::pi / 2);
}

double turnError(const SceneView& scene, const Pose& tcp, const Waypoint& waypoint)
{
    return rotationAngle(tcp.rotation, gripperRotation(scene.azimuth(waypoint.position), waypoint.tilt, waypoint.roll));
}

Waypoint graspFromAbove(const SceneView& scene, const Pose& tcp, Waypoint grasp)
{
    const double opening = scene.opening();
    const double away = norm(tcp.position - grasp.position);
    if (away < (opening > kOpenEnough ? 0.006 : 0.014)) {
        grasp.phase = "close";
        grasp.opening = 0;
        return grasp;
    }
    grasp.opening = kOpeningMax;
    const double above = tcp.position[2] - grasp.position[2];
    const double aside = horizontalDistance(tcp.position, grasp.position);
    // A funnel: as far up as the gripper is beside, turned or not open yet.
    double height = kSlope * (aside - kFunnelRadius);
    height = std::max(height, kTurnSlope * (turnError(scene, tcp, grasp) - kTurnTolerance));
    height = std::max(height, kOpeningSlope * (kOpenEnough - opening));
    height = std::clamp(height, 0.0, kHover);
    grasp.phase = height > 0 ? "hover" : "descend";
    if (aside > 0.05 && above < 0.02) {
        // Low and beside it: straight up first, not across what stands there.
        grasp.position[0] = tcp.position[0];
        grasp.position[1] = tcp.position[1];
    }
    grasp.position[2] += height;
    return grasp;
}

} // namespace rankwise::sim
