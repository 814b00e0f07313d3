// Take the cup from the side and tip the block that is in it into the bowl.
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/tasks/tasks.h"

#include <algorithm>

namespace rankwise::sim {
namespace {

constexpr double kGraspHeight = 0.055;  // m above the cup's foot
constexpr double kGraspTilt = 1.10;     // rad from straight down
constexpr double kPourTilt = 1.50;      // rad
constexpr double kPourRoll = -2.04;     // rad; the mouth goes to the arm's left
constexpr double kPourHeight = 0.145;   // m, TCP
constexpr double kMouthAhead = 0.055;   // m from the TCP to where the block falls
constexpr double kLiftHeight = 0.155;   // m, TCP
constexpr double kFunnelRadius = 0.005; // m
constexpr double kSlope = 5;
constexpr double kTurnTolerance = 0.10; // rad
constexpr double kTurnSlope = 0.5;      // m/rad
constexpr double kOpenEnough = 0.062;   // m
constexpr double kOpeningSlope = 8;
constexpr double kBack = 0.08; // m behind the grasp, along the approach

class PourBlock final : public Task {
public:
    std::string_view name() const override { return "pour_block"; }
    std::string_view scene() const override { return "cup"; }
    std::vector<std::string> instructions() const override
    {
        return { "pour the block into the bowl", "tip the cup over the bowl", "pour the block" };
    }
    std::vector<std::string> objects() const override { return { "cup", "bowl", "block" }; }
    int target() const override { return 0; }
    int goal() const override { return 1; }

    void place(SceneView& scene, Random& random, double scale) const override
    {
        const PlanarPose cup = draw(random, { 0.40, 0.48, -0.15, -0.06, 0.4 }, scale);
        scene.place("cup", cup);
        scene.place("block", cup);
        scene.place("bowl", draw(random, { 0.39, 0.46, 0.05, 0.14, 0 }, scale));
    }

    bool achieved(const SceneView& scene) const override
    {
        const Vec3 block = scene.bodyPose("block").position;
        return horizontalDistance(block, scene.bodyPose("bowl").position) < 0.060 && block[2] < 0.040;
    }

    Waypoint plan(const SceneView& scene, const Pose& tcp) const override
    {
        const Pose cup = scene.bodyPose("cup");
        const Vec3 grip = cup.position + kGraspHeight * column(cup.rotation, 2);
        const bool held = scene.held("cup") && norm(tcp.position - grip) < 0.035;
        if (held && std::abs(scene.openingSpeed()) < 0.04) {
            return pour(scene, tcp, column(cup.rotation, 2));
        }
        return grasp(scene, tcp, grip);
    }

private:
    /// Comes in along the approach only, so that the fingers never sweep sideways into the cup.
    static Waypoint grasp(const SceneView& scene, const Pose& tcp, const Vec3& grip)
    {
        Waypoint waypoint { "advance", grip, kGraspTilt };
        const double opening = scene.opening();
        const Vec3 offset = tcp.position - grip;
        if (norm(offset) < (opening > kOpenEnough ? 0.007 : 0.015)) {
            waypoint.phase = "close";
            waypoint.opening = 0;
            return waypoint;
        }
        const Vec3 approach = column(gripperRotation(scene.azimuth(grip), kGraspTilt, 0), 2);
        const double behind = -dot(offset, approach);
        const double aside = norm(offset + behind * approach);
        const double turned = turnError(scene, tcp, waypoint);
        // A funnel that lies along the approach: as far back as the gripper is beside it, turned or not open yet.
        double back = kSlope * (aside - kFunnelRadius);
        back = std::max(back, kTurnSlope * (turned - kTurnTolerance));
        back = std::max(back, kOpeningSlope * (kOpenEnough - opening));
        back = std::clamp(back, 0.0, kBack);
        waypoint.position = grip - back * approach;
        if (back > 0) {
            waypoint.phase = "behind";
        }
        // Beside the cup or over it: up first, then back, so that nothing sweeps into it.
        const bool clear = behind > 0.045 || aside < 0.02;
        if (!clear || (aside > 0.065 && tcp.position[2] < waypoint.position[2] + 0.03)) {
            waypoint.phase = "above";
            waypoint.position[2] += 0.05;
        }
        return waypoint;
    }

    static Waypoint pour(const SceneView& scene, const Pose& tcp, const Vec3& cupAxis)
    {
        const Vec3 bowl = scene.bodyPose("bowl").position;
        const Vec3 axisInGripper = transposed(tcp.rotation) * cupAxis;
        Waypoint waypoint { "carry", { bowl[0], bowl[1] - kMouthAhead, kPourHeight }, kPourTilt, 0, 0 };
        for (int i = 0; i < 3; ++i) {
            // The direction of the mouth depends on the azimuth of the place, and the place on that direction.
            const Vec3 mouth = gripperRotation(scene.azimuth(waypoint.position), kPourTilt, kPourRoll) * axisInGripper;
            waypoint.position[0] = bowl[0] - kMouthAhead * mouth[0];
            waypoint.position[1] = bowl[1] - kMouthAhead * mouth[1];
        }
        const double away = norm(tcp.position - waypoint.position);
        const bool tipping = cupAxis[2] < 0.8;
        if (away < (tipping ? 0.06 : 0.014)) {
            waypoint.phase = "tip";
            waypoint.roll = kPourRoll;
        } else if (!tipping && tcp.position[2] < 0.115 && horizontalDistance(tcp.position, waypoint.position) > 0.04) {
            waypoint.phase = "lift";
            waypoint.position = { tcp.position[0], tcp.position[1], kLiftHeight };
            waypoint.tilt = kGraspTilt;
        }
        return waypoint;
    }
};

} // namespace

std::unique_ptr<Task> makePourBlock()
{
    return std::make_unique<PourBlock>();
}

} // namespace rankwise::sim
