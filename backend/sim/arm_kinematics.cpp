// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/arm_kinematics.h"

#include "backend/base/result.h"

#include <algorithm>
#include <numbers>
#include <string>

#include <mujoco/mujoco.h>

namespace rankwise::sim {
namespace {

constexpr double kRotationWeight = 0.3;
constexpr double kDamping = 1e-4;
constexpr double kMaxIterationStep = 0.3;
constexpr int kMaxIterations = 60;

Pose poseOf(const mjtNum* position, const mjtNum* quaternion)
{
    Pose pose;
    std::copy_n(position, 3, pose.position.begin());
    mju_quat2Mat(pose.rotation.data(), quaternion);
    return pose;
}

Pose compose(const Pose& aFromB, const Pose& bFromC)
{
    return { aFromB.position + aFromB.rotation * bFromC.position, aFromB.rotation * bFromC.rotation };
}

/// Rotation vector of `r`, rad.
Vec3 rotationVector(const Mat3& r)
{
    mjtNum quaternion[4];
    mju_mat2Quat(quaternion, r.data());
    Vec3 v {};
    mju_quat2Vel(v.data(), quaternion, 1.0);
    return v;
}

/// Solves the symmetric positive definite a·x = b, [6, 6], by Cholesky.
std::array<double, 6> solveSymmetric(std::array<std::array<double, 6>, 6> a, std::array<double, 6> b)
{
    for (std::size_t j = 0; j < 6; ++j) {
        for (std::size_t k = 0; k < j; ++k) {
            for (std::size_t i = j; i < 6; ++i) {
                a[i][j] -= a[i][k] * a[j][k];
            }
        }
        const double root = std::sqrt(a[j][j]);
        for (std::size_t i = j; i < 6; ++i) {
            a[i][j] /= root;
        }
    }
    for (std::size_t i = 0; i < 6; ++i) {
        for (std::size_t k = 0; k < i; ++k) {
            b[i] -= a[i][k] * b[k];
        }
        b[i] /= a[i][i];
    }
    for (std::size_t i = 6; i-- > 0;) {
        for (std::size_t k = i + 1; k < 6; ++k) {
            b[i] -= a[k][i] * b[k];
        }
        b[i] /= a[i][i];
    }
    return b;
}

} // namespace

Mat3 gripperRotation(double azimuth, double tilt, double roll)
{
    return axisRotation({ 0, 0, 1 }, azimuth) * axisRotation({ 0, 1, 0 }, std::numbers::pi - tilt)
        * axisRotation({ 0, 0, 1 }, roll);
}

double rotationAngle(const Mat3& a, const Mat3& b)
{
    double trace = 0;
    for (std::size_t i = 0; i < 9; ++i) {
        trace += a[i] * b[i];
    }
    return std::acos(std::clamp((trace - 1) / 2, -1.0, 1.0));
}

ArmKinematics::ArmKinematics(const mjModel_& model)
{
    int previous = 0;
    for (std::size_t j = 0; j < 6; ++j) {
        const std::string name = "joint_" + std::to_string(j + 1);
        const int joint = mj_name2id(&model, mjOBJ_JOINT, name.c_str());
        RW_CHECK(joint >= 0, name);
        const int body = model.jnt_bodyid[joint];
        Pose parentFromJoint;
        for (int b = body; b != previous; b = model.body_parentid[b]) {
            RW_CHECK(b != 0, name);
            parentFromJoint = compose(poseOf(model.body_pos + 3 * b, model.body_quat + 4 * b), parentFromJoint);
        }
        m_parentFromJoint[j] = parentFromJoint;
        std::copy_n(model.jnt_axis + 3 * joint, 3, m_axes[j].begin());
        m_limits[j] = { model.jnt_range[2 * joint], model.jnt_range[2 * joint + 1] };
        previous = body;
    }
    const int site = mj_name2id(&model, mjOBJ_SITE, "tcp");
    RW_CHECK(site >= 0 && model.site_bodyid[site] == previous);
    m_linkFromTcp = poseOf(model.site_pos + 3 * site, model.site_quat + 4 * site);
    m_base = m_parentFromJoint[0].position;
    m_base[2] = 0;
}

ArmKinematics::Chain ArmKinematics::chain(const JointAngles& q) const
{
    Chain result;
    Pose pose;
    for (std::size_t j = 0; j < 6; ++j) {
        pose = compose(pose, m_parentFromJoint[j]);
        result.anchors[j] = pose.position;
        result.axes[j] = pose.rotation * m_axes[j];
        pose.rotation = pose.rotation * axisRotation(m_axes[j], q[j]);
    }
    result.tcp = compose(pose, m_linkFromTcp);
    return result;
}

Pose ArmKinematics::tcpPose(const JointAngles& q) const
{
    return chain(q).tcp;
}

std::array<std::array<double, 6>, 6> ArmKinematics::jacobian(const JointAngles& q) const
{
    const Chain links = chain(q);
    std::array<std::array<double, 6>, 6> columns {};
    for (std::size_t j = 0; j < 6; ++j) {
        const Vec3 velocity = cross(links.axes[j], links.tcp.position - links.anchors[j]);
        for (std::size_t i = 0; i < 3; ++i) {
            columns[j][i] = velocity[i];
            columns[j][3 + i] = links.axes[j][i];
        }
    }
    return columns;
}

ArmKinematics::Solution ArmKinematics::solve(const Pose& worldFromTcp, const JointAngles& seed) const
{
    Solution solution { seed };
    for (int iteration = 0;; ++iteration) {
        const Pose now = tcpPose(solution.q);
        const Vec3 position = worldFromTcp.position - now.position;
        const Vec3 rotation = rotationVector(worldFromTcp.rotation * transposed(now.rotation));
        solution.positionError = norm(position);
        solution.rotationError = norm(rotation);
        if (iteration == kMaxIterations || (solution.positionError < 1e-5 && solution.rotationError < 1e-4)) {
            return solution;
        }
        auto columns = jacobian(solution.q);
        std::array<double, 6> error {};
        for (std::size_t i = 0; i < 3; ++i) {
            error[i] = position[i];
            error[3 + i] = kRotationWeight * rotation[i];
        }
        for (auto& column : columns) {
            for (std::size_t i = 3; i < 6; ++i) {
                column[i] *= kRotationWeight;
            }
        }
        std::array<std::array<double, 6>, 6> normal {};
        std::array<double, 6> gradient {};
        for (std::size_t a = 0; a < 6; ++a) {
            for (std::size_t b = 0; b < 6; ++b) {
                for (std::size_t i = 0; i < 6; ++i) {
                    normal[a][b] += columns[a][i] * columns[b][i];
                }
            }
            normal[a][a] += kDamping;
            for (std::size_t i = 0; i < 6; ++i) {
                gradient[a] += columns[a][i] * error[i];
            }
        }
        const auto delta = solveSymmetric(normal, gradient);
        double longest = 0;
        for (const double d : delta) {
            longest = std::max(longest, std::abs(d));
        }
        const double scale = longest > kMaxIterationStep ? kMaxIterationStep / longest : 1.0;
        for (std::size_t j = 0; j < 6; ++j) {
            solution.q[j] = std::clamp(solution.q[j] + scale * delta[j], m_limits[j][0], m_limits[j][1]);
        }
    }
}

} // namespace rankwise::sim
