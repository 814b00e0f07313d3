// Put the cube on the plate. The button of press_button is there too.
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/tasks/table_scene.h"
#include "backend/sim/tasks/tasks.h"

#include <algorithm>

namespace rankwise::sim {
namespace {

constexpr double kGraspAboveCenter = 0.008; // m
constexpr double kPlaceHeight = 0.036;      // m, TCP when the cube stands on the plate is 0.032
constexpr double kCarryHeight = 0.110;      // m, TCP

class PickPlace final : public Task {
public:
    std::string_view name() const override { return "pick_place"; }
    std::string_view scene() const override { return "table"; }
    std::vector<std::string> instructions() const override
    {
        return { "put the cube on the plate", "place the green cube on the plate",
                 "pick up the cube and put it on the plate" };
    }
    std::vector<std::string> objects() const override { return tableObjects(); }
    int target() const override { return kTableCube; }
    int goal() const override { return kTablePlate; }
    void place(SceneView& scene, Random& random, double scale) const override { placeTable(scene, random, scale); }

    bool achieved(const SceneView& scene) const override
    {
        const Vec3 cube = scene.bodyPose("cube").position;
        return horizontalDistance(cube, scene.bodyPose("plate").position) < 0.050 && cube[2] < 0.034
            && scene.opening() > 0.042 && scene.bodySpeed("cube") < 0.05;
    }

    Waypoint plan(const SceneView& scene, const Pose& tcp) const override
    {
        const Pose cube = scene.bodyPose("cube");
        const Vec3 plate = scene.bodyPose("plate").position;
        const double toPlate = horizontalDistance(cube.position, plate);
        const bool held = scene.held("cube") && norm(tcp.position - cube.position) < 0.04;
        if (held && std::abs(scene.openingSpeed()) < 0.04) {
            return carry(scene, tcp, cube.position, plate);
        }
        if (!held && toPlate < 0.045 && cube.position[2] < 0.034) {
            Waypoint waypoint { "retreat", tcp.position };
            waypoint.position[2] = std::max(tcp.position[2], kCarryHeight);
            waypoint.roll = rollOf(scene, tcp);
            return waypoint;
        }
        Waypoint grasp { "grasp", cube.position + Vec3 { 0, 0, kGraspAboveCenter } };
        grasp.roll = rollOntoFaces(scene.azimuth(cube.position), cube.rotation);
        return graspFromAbove(scene, tcp, grasp);
    }

private:
    /// The roll that the gripper has now, as seen by a waypoint at its place.
    static double rollOf(const SceneView& scene, const Pose& tcp)
    {
        const Mat3 unrolled = gripperRotation(scene.azimuth(tcp.position), Waypoint {}.tilt, 0);
        const Mat3 turn = transposed(unrolled) * tcp.rotation;
        return std::clamp(std::atan2(turn[3], turn[0]), -1.2, 1.2);
    }

    /// Up, across, down, open; how high depends on how far the plate still is.
    static Waypoint carry(const SceneView& scene, const Pose& tcp, const Vec3& cube, const Vec3& plate)
    {
        const double aside = horizontalDistance(cube, plate);
        const double needed = std::min(kPlaceHeight + 2.5 * std::max(0.0, aside - 0.015), 0.095);
        Waypoint waypoint { "carry", plate + (tcp.position - cube) };
        waypoint.roll = 0;
        waypoint.opening = 0;
        if (aside < 0.03 && tcp.position[2] < kPlaceHeight + 0.006) {
            waypoint.phase = "release";
            waypoint.position = tcp.position;
            waypoint.roll = rollOf(scene, tcp);
            waypoint.opening = kOpeningMax;
        } else if (tcp.position[2] < needed - 0.025) {
            waypoint.phase = "lift";
            waypoint.position = { tcp.position[0], tcp.position[1], kCarryHeight };
            waypoint.roll = rollOf(scene, tcp);
        } else if (aside < std::min(0.010 + 0.2 * std::max(0.0, tcp.position[2] - kPlaceHeight), 0.02)) {
            waypoint.phase = "lower";
            waypoint.position[2] = kPlaceHeight;
        } else {
            waypoint.position[2] = kCarryHeight;
        }
        return waypoint;
    }
};

} // namespace

std::unique_ptr<Task> makePickPlace()
{
    return std::make_unique<PickPlace>();
}

} // namespace rankwise::sim
