// The registry of tasks, and what tasks read of a scene.
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/task.h"

#include "backend/sim/tasks/tasks.h"

#include <algorithm>

#include <mujoco/mujoco.h>

namespace rankwise::sim {
namespace {

const std::vector<std::unique_ptr<Task>>& registry()
{
    static const std::vector<std::unique_ptr<Task>> tasks = [] {
        std::vector<std::unique_ptr<Task>> list;
        list.push_back(makeOpenPot());
        list.push_back(makePourBlock());
        list.push_back(makePressButton());
        list.push_back(makePickPlace());
        return list;
    }();
    return tasks;
}

int idOf(const mjModel_& model, mjtObj type, const char* name)
{
    const int id = mj_name2id(&model, type, name);
    RW_CHECK(id >= 0, std::string("the scene has no ") + name);
    return id;
}

bool geomTouchesBody(const mjModel_& model, const mjData_& data, int geom, int body)
{
    for (int i = 0; i < data.ncon; ++i) {
        const mjContact& contact = data.contact[i];
        if (contact.exclude != 0) {
            continue;
        }
        if ((contact.geom[0] == geom && model.geom_bodyid[contact.geom[1]] == body)
            || (contact.geom[1] == geom && model.geom_bodyid[contact.geom[0]] == body)) {
            return true;
        }
    }
    return false;
}

} // namespace

const Task* findTask(std::string_view name)
{
    for (const auto& task : registry()) {
        if (task->name() == name) {
            return task.get();
        }
    }
    return nullptr;
}

std::vector<std::string> taskNames()
{
    std::vector<std::string> names;
    for (const auto& task : registry()) {
        names.emplace_back(task->name());
    }
    return names;
}

PlanarPose draw(Random& random, const StartRange& range, double scale)
{
    const auto within = [&](double low, double high) {
        const double half = 0.5 * (high - low) * scale;
        return 0.5 * (low + high) + random.uniform(-half, half);
    };
    PlanarPose pose;
    pose.x = within(range.x0, range.x1);
    pose.y = within(range.y0, range.y1);
    pose.yaw = within(-range.yaw, range.yaw);
    return pose;
}

Pose SceneView::bodyPose(const char* body) const
{
    const int id = idOf(m_model, mjOBJ_BODY, body);
    Pose pose;
    std::copy_n(m_data.xpos + 3 * id, 3, pose.position.begin());
    std::copy_n(m_data.xmat + 9 * id, 9, pose.rotation.begin());
    return pose;
}

double SceneView::bodySpeed(const char* body) const
{
    const int id = idOf(m_model, mjOBJ_BODY, body);
    const int joint = m_model.body_jntadr[id];
    RW_CHECK(joint >= 0 && m_model.jnt_type[joint] == mjJNT_FREE, body);
    const mjtNum* velocity = m_data.qvel + m_model.jnt_dofadr[joint];
    return norm({ velocity[0], velocity[1], velocity[2] });
}

Pose SceneView::sitePose(const char* site) const
{
    const int id = idOf(m_model, mjOBJ_SITE, site);
    Pose pose;
    std::copy_n(m_data.site_xpos + 3 * id, 3, pose.position.begin());
    std::copy_n(m_data.site_xmat + 9 * id, 9, pose.rotation.begin());
    return pose;
}

double SceneView::jointPosition(const char* joint) const
{
    return m_data.qpos[m_model.jnt_qposadr[idOf(m_model, mjOBJ_JOINT, joint)]];
}

double SceneView::opening() const
{
    return jointPosition("finger_left") + jointPosition("finger_right");
}

double SceneView::openingSpeed() const
{
    const int left = idOf(m_model, mjOBJ_JOINT, "finger_left");
    const int right = idOf(m_model, mjOBJ_JOINT, "finger_right");
    return m_data.qvel[m_model.jnt_dofadr[left]] + m_data.qvel[m_model.jnt_dofadr[right]];
}

bool SceneView::held(const char* body) const
{
    const int id = idOf(m_model, mjOBJ_BODY, body);
    return geomTouchesBody(m_model, m_data, idOf(m_model, mjOBJ_GEOM, "pad_left"), id)
        && geomTouchesBody(m_model, m_data, idOf(m_model, mjOBJ_GEOM, "pad_right"), id);
}

double SceneView::azimuth(const Vec3& point) const
{
    const mjtNum* base = m_model.body_pos + 3 * idOf(m_model, mjOBJ_BODY, "arm_base");
    return std::atan2(point[1] - base[1], point[0] - base[0]);
}

void SceneView::place(const char* body, const PlanarPose& pose)
{
    RW_CHECK(m_start != nullptr);
    const int id = idOf(m_model, mjOBJ_BODY, body);
    const int mocap = m_model.body_mocapid[id];
    mjtNum* position = nullptr;
    mjtNum* quaternion = nullptr;
    if (mocap >= 0) {
        position = m_start->mocap_pos + 3 * mocap;
        quaternion = m_start->mocap_quat + 4 * mocap;
    } else {
        const int joint = m_model.body_jntadr[id];
        RW_CHECK(joint >= 0 && m_model.jnt_type[joint] == mjJNT_FREE, body);
        position = m_start->qpos + m_model.jnt_qposadr[joint];
        quaternion = position + 3;
    }
    position[0] = pose.x;
    position[1] = pose.y;
    position[2] = m_model.body_pos[3 * id + 2];
    quaternion[0] = std::cos(pose.yaw / 2);
    quaternion[1] = 0;
    quaternion[2] = 0;
    quaternion[3] = std::sin(pose.yaw / 2);
}

} // namespace rankwise::sim
