// Lift the lid off the pot.
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/tasks/tasks.h"

#include <algorithm>

namespace rankwise::sim {
namespace {

constexpr double kLidRest = 0.064;       // m, center of the lid's disc on the pot
constexpr double kGraspAboveLid = 0.026; // m
constexpr double kLiftedBy = 0.050;      // m

class OpenPot final : public Task {
public:
    std::string_view name() const override { return "open_pot"; }
    std::string_view scene() const override { return "pot"; }
    std::vector<std::string> instructions() const override
    {
        return { "open the pot", "lift the lid off the pot", "take the lid off" };
    }
    std::vector<std::string> objects() const override { return { "lid", "pot" }; }
    int target() const override { return 0; }
    int goal() const override { return -1; }

    void place(SceneView& scene, Random& random, double scale) const override
    {
        PlanarPose pose = draw(random, { 0.28, 0.38, -0.09, 0.09, 0.5 }, scale);
        scene.place("lid", pose);
        scene.place("pot", pose);
    }

    bool achieved(const SceneView& scene) const override
    {
        return scene.bodyPose("lid").position[2] > kLidRest + kLiftedBy;
    }

    Waypoint plan(const SceneView& scene, const Pose& tcp) const override
    {
        const Pose lid = scene.bodyPose("lid");
        const Vec3 grip = lid.position + kGraspAboveLid * column(lid.rotation, 2);
        Waypoint waypoint { "grasp", grip };
        waypoint.roll = rollOntoFaces(scene.azimuth(grip), lid.rotation);
        const bool held = scene.held("lid") && norm(tcp.position - grip) < 0.03;
        if (held && std::abs(scene.openingSpeed()) < 0.04) {
            const Vec3 pot = scene.bodyPose("pot").position;
            waypoint.phase = "lift";
            waypoint.position = { pot[0], pot[1], kLidRest + kGraspAboveLid + 0.10 };
            waypoint.opening = 0;
            return waypoint;
        }
        return graspFromAbove(scene, tcp, waypoint);
    }
};

} // namespace

std::unique_ptr<Task> makeOpenPot()
{
    return std::make_unique<OpenPot>();
}

} // namespace rankwise::sim
