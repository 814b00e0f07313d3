// The solids of a scene for drawing: what they are, where they are now, where the arm was told to be, and the way that
// planned actions would take the gripper.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/environment.h"

#include <array>
#include <memory>
#include <string>
#include <vector>

struct mjData_;

namespace rankwise::sim {

/// One visible solid. Sizes as in MuJoCo: half sizes of a box, radius and half length of a capsule or cylinder.
struct SceneShape {
    enum class Kind {
        Box,
        Sphere,
        Capsule,
        Cylinder,
        Ellipsoid,
        Plane
    }; ///< Numbers travel in streams; add at the end.
    Kind kind = Kind::Box;
    std::array<double, 3> size {};
    std::array<float, 4> rgba {};
    std::string name;
    bool arm = false; ///< Moves with the arm's joints.
};

/// Position (m) and rotation (row-major) in the world frame.
struct ShapePose {
    std::array<float, 3> position {};
    std::array<float, 9> rotation { 1, 0, 0, 0, 1, 0, 0, 0, 1 };
};

/// Thread: that of the environment, which must outlive it.
class SceneShapes {
public:
    explicit SceneShapes(const Environment& environment);
    ~SceneShapes();

    [[nodiscard]] const std::vector<SceneShape>& shapes() const { return m_shapes; }
    /// By shape.
    [[nodiscard]] std::vector<ShapePose> poses() const;
    /// As `measured`, with the arm at `joints`.
    [[nodiscard]] std::vector<ShapePose> ghost(const Action& joints, std::vector<ShapePose> measured);
    /// Where the point between the fingertips is at each of the joint values, world frame, m.
    [[nodiscard]] std::vector<std::array<float, 3>> path(const std::vector<Action>& joints);

private:
    void placeGhost(const Action& joints);
    [[nodiscard]] std::vector<ShapePose> posesOf(const mjData_& data) const;

    const Environment& m_environment;
    std::unique_ptr<mjData_, void (*)(mjData_*)> m_ghost;
    std::vector<SceneShape> m_shapes;
    std::vector<int> m_geoms;
    std::array<int, kJointCount> m_qposOf {};
    int m_tcp = -1;
};

} // namespace rankwise::sim
