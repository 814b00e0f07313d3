// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/scene_shapes.h"

#include <mujoco/mujoco.h>

#include <algorithm>

namespace rankwise::sim {

namespace {

constexpr float kVisible = 0.01F; ///< Opacity above which a solid is drawn.

SceneShape::Kind kindOf(int type)
{
    switch (type) {
    case mjGEOM_SPHERE:
        return SceneShape::Kind::Sphere;
    case mjGEOM_CAPSULE:
        return SceneShape::Kind::Capsule;
    case mjGEOM_CYLINDER:
        return SceneShape::Kind::Cylinder;
    case mjGEOM_ELLIPSOID:
        return SceneShape::Kind::Ellipsoid;
    case mjGEOM_PLANE:
        return SceneShape::Kind::Plane;
    default:
        return SceneShape::Kind::Box;
    }
}

bool hangsOn(const mjModel& model, int body, int ancestor)
{
    for (; body > 0; body = model.body_parentid[body]) {
        if (body == ancestor) {
            return true;
        }
    }
    return false;
}

SceneShape shapeOf(const mjModel& model, int geom, int armRoot)
{
    SceneShape shape;
    shape.kind = kindOf(model.geom_type[geom]);
    std::copy_n(model.geom_size + 3 * geom, 3, shape.size.begin());
    std::copy_n(model.geom_rgba + 4 * geom, 4, shape.rgba.begin());
    const char* name = mj_id2name(&model, mjOBJ_GEOM, geom);
    const char* body = mj_id2name(&model, mjOBJ_BODY, model.geom_bodyid[geom]);
    shape.name = name != nullptr ? name : body != nullptr ? body : "";
    shape.arm = hangsOn(model, model.geom_bodyid[geom], armRoot);
    return shape;
}

} // namespace

SceneShapes::SceneShapes(const Environment& environment)
    : m_environment(environment), m_ghost(mj_makeData(&environment.model()), &mj_deleteData)
{
    const mjModel& model = environment.model();
    int root = -1;
    for (std::size_t j = 0; j < kJointCount; ++j) {
        const std::string name = "joint_" + std::to_string(j + 1);
        const int joint = mj_name2id(&model, mjOBJ_JOINT, name.c_str());
        RW_CHECK(joint >= 0, "the scene has no " + name);
        m_qposOf[j] = model.jnt_qposadr[joint];
        root = j == 0 ? model.jnt_bodyid[joint] : root;
    }
    m_tcp = mj_name2id(&model, mjOBJ_SITE, "tcp");
    RW_CHECK(m_tcp >= 0, "the scene has no tcp");
    for (int g = 0; g < model.ngeom; ++g) {
        if (model.geom_rgba[4 * g + 3] > kVisible) {
            m_geoms.push_back(g);
            m_shapes.push_back(shapeOf(model, g, root));
        }
    }
}

SceneShapes::~SceneShapes() = default;

std::vector<ShapePose> SceneShapes::posesOf(const mjData& data) const
{
    std::vector<ShapePose> poses(m_geoms.size());
    for (std::size_t i = 0; i < m_geoms.size(); ++i) {
        const mjtNum* const position = data.geom_xpos + 3 * m_geoms[i];
        const mjtNum* const rotation = data.geom_xmat + 9 * m_geoms[i];
        std::transform(position, position + 3, poses[i].position.begin(),
                       [](mjtNum v) { return static_cast<float>(v); });
        std::transform(rotation, rotation + 9, poses[i].rotation.begin(),
                       [](mjtNum v) { return static_cast<float>(v); });
    }
    return poses;
}

std::vector<ShapePose> SceneShapes::poses() const
{
    return posesOf(m_environment.data());
}

void SceneShapes::placeGhost(const Action& joints)
{
    for (std::size_t j = 0; j < kJointCount; ++j) {
        m_ghost->qpos[m_qposOf[j]] = joints[j];
    }
    mj_kinematics(&m_environment.model(), m_ghost.get());
}

std::vector<ShapePose> SceneShapes::ghost(const Action& joints, std::vector<ShapePose> measured)
{
    std::copy_n(m_environment.data().qpos, m_environment.model().nq, m_ghost->qpos);
    placeGhost(joints);
    const std::vector<ShapePose> commanded = posesOf(*m_ghost);
    for (std::size_t i = 0; i < m_shapes.size() && i < measured.size(); ++i) {
        if (m_shapes[i].arm) {
            measured[i] = commanded[i];
        }
    }
    return measured;
}

std::vector<std::array<float, 3>> SceneShapes::path(const std::vector<Action>& joints)
{
    std::vector<std::array<float, 3>> points;
    points.reserve(joints.size());
    std::copy_n(m_environment.data().qpos, m_environment.model().nq, m_ghost->qpos);
    for (const Action& action : joints) {
        placeGhost(action);
        const mjtNum* const at = m_ghost->site_xpos + 3 * m_tcp;
        points.push_back({ static_cast<float>(at[0]), static_cast<float>(at[1]), static_cast<float>(at[2]) });
    }
    return points;
}

} // namespace rankwise::sim
