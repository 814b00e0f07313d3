// Forward and inverse kinematics of the six joints from the world to the point between the fingertips, read from a
// compiled scene, so that it serves any arm.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/geometry.h"

#include <array>
#include <cstddef>

struct mjModel_;

namespace rankwise::sim {

using JointAngles = std::array<double, 6>;

/// Turn of the gripper whose approach leans `tilt` from straight down, outwards in the vertical plane of `azimuth`,
/// and that is turned by `roll` about its approach. Columns: x, opening direction, approach.
[[nodiscard]] Mat3 gripperRotation(double azimuth, double tilt, double roll);

/// Angle between two rotations, rad.
[[nodiscard]] double rotationAngle(const Mat3& a, const Mat3& b);

class ArmKinematics {
public:
    /// Reads joints joint_1 … joint_6 and site tcp.
    explicit ArmKinematics(const mjModel_& model);

    [[nodiscard]] Pose tcpPose(const JointAngles& q) const;
    /// Column j: velocity (m) and rotation (rad) of the TCP for one radian of joint j, world frame. [6][6], by joint.
    [[nodiscard]] std::array<std::array<double, 6>, 6> jacobian(const JointAngles& q) const;

    struct Solution {
        JointAngles q {};
        double positionError = 0; ///< m
        double rotationError = 0; ///< rad
    };
    /// Damped least squares from `seed`: rotation weighs 0.3 m/rad, λ = 1e-4, steps up to 0.3 rad, inside the limits.
    [[nodiscard]] Solution solve(const Pose& worldFromTcp, const JointAngles& seed) const;

    [[nodiscard]] const std::array<std::array<double, 2>, 6>& limits() const { return m_limits; }
    /// Where the axis of joint 1 meets the table.
    [[nodiscard]] const Vec3& base() const { return m_base; }

private:
    struct Chain {
        Pose tcp;
        std::array<Vec3, 6> axes;    ///< World frame.
        std::array<Vec3, 6> anchors; ///< World frame.
    };
    [[nodiscard]] Chain chain(const JointAngles& q) const;

    std::array<Pose, 6> m_parentFromJoint; ///< Fixed part before each joint.
    std::array<Vec3, 6> m_axes;            ///< In the link's frame.
    Pose m_linkFromTcp;
    std::array<std::array<double, 2>, 6> m_limits {};
    Vec3 m_base {};
};

} // namespace rankwise::sim
