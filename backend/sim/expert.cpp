// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/expert.h"

#include "backend/sim/arm_kinematics.h"
#include "backend/sim/arm_profile.h"
#include "backend/sim/task.h"

#include <algorithm>
#include <cmath>

#include <mujoco/mujoco.h>

namespace rankwise::sim {
namespace {

constexpr double kJointStep = 0.25;       // rad in one step
constexpr double kSideTilt = 0.7;         // rad; from here on the arm comes from the side
constexpr double kSolvedPosition = 0.002; // m
constexpr double kSolvedRotation = 0.02;  // rad

double badness(const ArmKinematics::Solution& solution)
{
    return solution.positionError + 0.3 * solution.rotationError;
}

} // namespace

Expert::Expert(const Environment& environment) : m_kinematics(std::make_unique<ArmKinematics>(environment.model())) { }

Expert::~Expert() = default;

Action Expert::act(const Environment& environment)
{
    const ArmProfile& arm = armProfile(environment.options().arm);
    const SceneView scene(environment.model(), environment.data());
    JointAngles q {};
    for (std::size_t j = 0; j < kJointCount; ++j) {
        q[j] = scene.jointPosition(("joint_" + std::to_string(j + 1)).c_str());
    }
    const Pose tcp = environment.gripperPose();
    const Waypoint waypoint = environment.task().plan(scene, tcp);
    m_phase = waypoint.phase;
    m_distance = norm(waypoint.position - tcp.position);

    // The posture is found anew from a canonical one, so that the goal does not depend on the way there.
    const double azimuth = scene.azimuth(waypoint.position);
    const Pose goal { waypoint.position, gripperRotation(azimuth, waypoint.tilt, waypoint.roll) };
    JointAngles seed = waypoint.tilt > kSideTilt ? arm.fromTheSide : arm.fromAbove;
    seed[0] = std::clamp(arm.azimuthSign * azimuth, m_kinematics->limits()[0][0], m_kinematics->limits()[0][1]);
    seed[5] = std::clamp(arm.rollSign * waypoint.roll, m_kinematics->limits()[5][0], m_kinematics->limits()[5][1]);
    ArmKinematics::Solution solution = m_kinematics->solve(goal, seed);
    if (solution.positionError > kSolvedPosition || solution.rotationError > kSolvedRotation) {
        const ArmKinematics::Solution other = m_kinematics->solve(goal, q);
        if (badness(other) < badness(solution)) {
            solution = other;
        }
    }

    // In joint space: a straight line of the gripper would pass the singularity of the wrist between grasps.
    const auto columns = m_kinematics->jacobian(q);
    Vec3 motion {};
    double longest = 1e-9;
    for (std::size_t j = 0; j < kJointCount; ++j) {
        const double delta = solution.q[j] - q[j];
        longest = std::max(longest, std::abs(delta));
        for (std::size_t i = 0; i < 3; ++i) {
            motion[i] += columns[j][i] * delta;
        }
    }
    const double share = std::min({ 1.0, waypoint.stepLimit / std::max(norm(motion), 1e-9), kJointStep / longest });
    Action action {};
    for (std::size_t j = 0; j < kJointCount; ++j) {
        action[j] = q[j] + share * (solution.q[j] - q[j]);
    }
    action[kJointCount] = waypoint.opening;
    return action;
}

DisturbanceProcess::DisturbanceProcess(const Disturbance& disturbance, std::uint64_t seed)
    : m_disturbance(disturbance), m_random(mixSeeds(seed, 200)), m_active(m_random.unit() < disturbance.share)
{
}

Action DisturbanceProcess::disturbed(const Action& action, double distance)
{
    if (!m_active) {
        return action;
    }
    const double rho = m_disturbance.correlation;
    const double scale =
        m_disturbance.floor + (1 - m_disturbance.floor) * std::min(1.0, distance / std::max(m_disturbance.reach, 1e-9));
    Action result = action;
    for (std::size_t j = 0; j < kJointCount; ++j) {
        const double sigma = j + 1 == kJointCount ? m_disturbance.sigmaWrist : m_disturbance.sigma;
        m_noise[j] = rho * m_noise[j] + std::sqrt(1 - rho * rho) * sigma * m_random.normal();
        result[j] += scale * m_noise[j];
    }
    return result;
}

} // namespace rankwise::sim
