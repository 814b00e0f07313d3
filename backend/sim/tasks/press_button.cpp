// Press the red button. Cube and plate of pick_place are there too: only the instruction tells the tasks apart.
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/tasks/table_scene.h"
#include "backend/sim/tasks/tasks.h"

#include <algorithm>

namespace rankwise::sim {
namespace {

constexpr double kCapTop = 0.043;        // m, of the cap at rest
constexpr double kFingertip = 0.015;     // m beyond the TCP
constexpr double kPressDepth = 0.016;    // m that the fingertip is sent below the cap's top
constexpr double kHover = 0.05;          // m above the cap, fingertip
constexpr double kPressedTravel = 0.007; // m
constexpr double kClosedEnough = 0.015;  // m

class PressButton final : public Task {
public:
    std::string_view name() const override { return "press_button"; }
    std::string_view scene() const override { return "table"; }
    std::vector<std::string> instructions() const override
    {
        return { "press the button", "push the red button", "press the red button" };
    }
    std::vector<std::string> objects() const override { return tableObjects(); }
    int target() const override { return kTableButton; }
    int goal() const override { return -1; }
    int holdSteps() const override { return 1; }
    void place(SceneView& scene, Random& random, double scale) const override { placeTable(scene, random, scale); }
    bool achieved(const SceneView& scene) const override { return scene.jointPosition("cap") > kPressedTravel; }

    Waypoint plan(const SceneView& scene, const Pose& tcp) const override
    {
        const Vec3 cap = scene.bodyPose("button").position;
        const Vec3 tip = tcp.position + kFingertip * column(tcp.rotation, 2);
        const double aside = horizontalDistance(tip, cap);
        // A funnel: as far up as the fingertip is beside the cap or the fingers are not closed yet.
        const double up =
            std::clamp(std::max(4 * (aside - 0.010), 6 * (scene.opening() - kClosedEnough)), 0.0, kHover + kPressDepth);

        Waypoint waypoint { up > 0 ? "hover" : "press" };
        waypoint.opening = 0;
        const double tipHeight = kCapTop - kPressDepth + up;
        const Vec3 approach = column(gripperRotation(scene.azimuth(cap), waypoint.tilt, 0), 2);
        waypoint.position = Vec3 { cap[0], cap[1], tipHeight } - kFingertip * approach;
        return waypoint;
    }
};

} // namespace

std::unique_ptr<Task> makePressButton()
{
    return std::make_unique<PressButton>();
}

} // namespace rankwise::sim
