// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/environment.h"

#include "backend/base/log.h"
#include "backend/base/resources.h"
#include "backend/sim/appearance.h"
#include "backend/sim/arm_profile.h"
#include "backend/sim/renderer.h"
#include "backend/sim/task.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include <mujoco/mujoco.h>

namespace rankwise::sim {
namespace {

constexpr std::uint64_t kPoseStream = 100;
constexpr std::uint64_t kInstructionStream = 104;
constexpr int kFeedForwardPeriod = 5;     // physics steps
constexpr double kStartJointRange = 0.08; // rad
constexpr int kStartAttempts = 50;
constexpr int kMinImage = 8;
constexpr int kMaxImage = 2048;

struct ModelDeleter {
    void operator()(mjModel* model) const { mj_deleteModel(model); }
};
struct DataDeleter {
    void operator()(mjData* data) const { mj_deleteData(data); }
};
using ModelPtr = std::unique_ptr<mjModel, ModelDeleter>;
using DataPtr = std::unique_ptr<mjData, DataDeleter>;

/// MuJoCo's own handler prints and writes a file into the working folder.
void installWarningHandler()
{
    static const bool once = [] {
        mju_user_warning = [](const char* text) { log::debug("sim", "MuJoCo: {}", text); };
        return true;
    }();
    (void)once;
}

Result<ModelPtr> loadScene(const ArmProfile& arm, const Task& task)
{
    const std::string file = std::string(arm.name) + "_" + std::string(task.scene()) + ".xml";
    RW_TRY(const std::filesystem::path path, resourcePath(std::filesystem::path("scenes") / file));
    char message[1000] = "";
    ModelPtr model(mj_loadXML(path.c_str(), nullptr, message, sizeof message));
    if (!model) {
        return fail(Errc::DataInvalid, std::string("MuJoCo refuses the scene: ") + message, path.string());
    }
    return model;
}

template <class Values> bool allFinite(const Values& values)
{
    return std::all_of(values.begin(), values.end(), [](auto v) { return std::isfinite(v); });
}

} // namespace

struct Environment::Impl {
    EnvironmentOptions options;
    SceneDescription description;
    const Task* task = nullptr;
    ModelPtr pristine; ///< As loaded.
    ModelPtr model;    ///< With the episode's looks.
    DataPtr data;
    std::unique_ptr<Renderer> renderer;

    std::array<int, kJointCount> qposOf {};
    std::array<int, kJointCount> dofOf {};
    std::array<int, kJointCount> driveOf {};
    std::array<int, 2> fingerQpos {};
    std::array<int, 2> fingerDof {};
    int fingerDrive = -1;
    std::array<int, 3> cameraIds {}; ///< front_a, front_b, wrist
    int overviewId = -1;
    int tcpSite = -1;
    int flangeSite = -1;
    std::vector<int> labelSites;

    EpisodeState episode; ///< Without the physics, which is in `data`.
    std::string instruction;
    std::optional<std::chrono::steady_clock::time_point> nextTick;

    [[nodiscard]] int id(mjtObj type, const std::string& name) const
    {
        const int found = mj_name2id(model.get(), type, name.c_str());
        RW_CHECK(found >= 0, "the scene has no " + name);
        return found;
    }

    void findNames()
    {
        for (std::size_t j = 0; j < kJointCount; ++j) {
            const std::string number = std::to_string(j + 1);
            const int joint = id(mjOBJ_JOINT, "joint_" + number);
            qposOf[j] = model->jnt_qposadr[joint];
            dofOf[j] = model->jnt_dofadr[joint];
            driveOf[j] = id(mjOBJ_ACTUATOR, "drive_" + number);
            description.jointLimits[j] = { model->jnt_range[2 * joint], model->jnt_range[2 * joint + 1] };
            description.stateNames.push_back("joint_" + number + ".pos");
        }
        description.stateNames.emplace_back("gripper.pos");
        const std::array<std::string, 2> fingers { "finger_left", "finger_right" };
        for (std::size_t f = 0; f < 2; ++f) {
            const int joint = id(mjOBJ_JOINT, fingers[f]);
            fingerQpos[f] = model->jnt_qposadr[joint];
            fingerDof[f] = model->jnt_dofadr[joint];
        }
        fingerDrive = id(mjOBJ_ACTUATOR, "drive_gripper");
        cameraIds = { id(mjOBJ_CAMERA, "front_a"), id(mjOBJ_CAMERA, "front_b"), id(mjOBJ_CAMERA, "wrist") };
        overviewId = id(mjOBJ_CAMERA, "overview");
        tcpSite = id(mjOBJ_SITE, "tcp");
        flangeSite = id(mjOBJ_SITE, "flange");
        description.cameraNames = { "front", "wrist" };
        description.objectNames = task->objects();
        for (const std::string& object : description.objectNames) {
            labelSites.push_back(id(mjOBJ_SITE, object));
        }
        description.instructions = task->instructions();
        description.target = task->target();
        description.goal = task->goal();
        description.task = task->name();
        description.arm = options.arm;
        description.home = armProfile(options.arm).home;
    }

    [[nodiscard]] bool frontIsB() const
    {
        return options.frontCamera == CameraSet::B
            || (options.frontCamera == CameraSet::SeedParity && (episode.seed & 1u) != 0);
    }

    /// By name, or -1.
    [[nodiscard]] int cameraId(std::string_view name) const
    {
        if (name == "front") {
            return cameraIds[frontIsB() ? 1 : 0];
        }
        if (name == "wrist") {
            return cameraIds[2];
        }
        return name == "overview" ? overviewId : -1;
    }

    void setTargets(const std::array<double, kJointCount>& joints, double opening)
    {
        for (std::size_t j = 0; j < kJointCount; ++j) {
            data->ctrl[driveOf[j]] =
                std::clamp(joints[j], description.jointLimits[j][0], description.jointLimits[j][1]);
        }
        data->ctrl[fingerDrive] = std::clamp(opening, 0.0, kOpeningMax) / 2;
    }

    void setArm(const std::array<double, kJointCount>& joints, double opening)
    {
        for (std::size_t j = 0; j < kJointCount; ++j) {
            data->qpos[qposOf[j]] = joints[j];
            data->qvel[dofOf[j]] = 0;
        }
        for (std::size_t f = 0; f < 2; ++f) {
            data->qpos[fingerQpos[f]] = opening / 2;
            data->qvel[fingerDof[f]] = 0;
        }
        setTargets(joints, opening);
    }

    /// Positions, contacts and forces of the present state; leaves the solver's warm start alone.
    void refresh()
    {
        mj_step1(model.get(), data.get());
        mj_fwdActuation(model.get(), data.get());
    }

    /// Contacts are those of the last refresh().
    [[nodiscard]] bool gripperTouchesSomething() const
    {
        const int hand = id(mjOBJ_BODY, "gripper");
        const auto ofHand = [&](int geom) {
            const int body = model->geom_bodyid[geom];
            return body == hand || model->body_parentid[body] == hand;
        };
        return std::any_of(data->contact, data->contact + data->ncon, [&](const mjContact& contact) {
            return ofHand(contact.geom[0]) || ofHand(contact.geom[1]);
        });
    }

    void setLooks(std::uint64_t seed)
    {
        applyAppearance(*pristine, options.randomization, seed, *model);
        Random random(mixSeeds(seed, kInstructionStream));
        instruction = description.instructions[static_cast<std::size_t>(
            random.index(static_cast<int>(description.instructions.size())))];
    }

    [[nodiscard]] PointLabel label(const mjtNum* position) const
    {
        PointLabel point;
        std::copy_n(position, 3, point.position.begin());
        for (const std::string& name : description.cameraNames) {
            const int camera = cameraId(name);
            Mat3 worldFromCamera {};
            std::copy_n(data->cam_xmat + 9 * camera, 9, worldFromCamera.begin());
            Vec3 origin {};
            std::copy_n(data->cam_xpos + 3 * camera, 3, origin.begin());
            const Vec3 x = transposed(worldFromCamera) * (point.position - origin);
            ImagePoint image;
            image.depth = -x[2];
            const double half = std::tan(model->cam_fovy[camera] * mjPI / 360);
            const double depth = std::max(image.depth, 1e-6);
            image.u = 0.5 + 0.5 * x[0] / (depth * half);
            image.v = 0.5 - 0.5 * x[1] / (depth * half);
            image.inside = image.depth > 0 && image.u >= 0 && image.u <= 1 && image.v >= 0 && image.v <= 1;
            point.images.push_back(image);
        }
        return point;
    }

    [[nodiscard]] Pose sitePose(int site) const
    {
        Pose pose;
        std::copy_n(data->site_xpos + 3 * site, 3, pose.position.begin());
        std::copy_n(data->site_xmat + 9 * site, 9, pose.rotation.begin());
        return pose;
    }
};

Environment::Environment(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }

Environment::~Environment() = default;

Result<std::unique_ptr<Environment>> Environment::create(std::string_view taskName, const EnvironmentOptions& options)
{
    installWarningHandler();
    const Task* task = findTask(taskName);
    if (task == nullptr) {
        std::string known;
        for (const std::string& name : taskNames()) {
            known += (known.empty() ? "" : ", ") + name;
        }
        return fail(Errc::FieldInvalid, "no such task; there are " + known, std::string(taskName));
    }
    const Randomization& random = options.randomization;
    for (const double amount : { random.poses, random.colors, random.light, random.camera }) {
        if (!(amount >= 0 && amount <= 10)) {
            return fail(Errc::FieldInvalid, "a randomization is a factor from 0 to 10", "randomization");
        }
    }
    auto impl = std::make_unique<Impl>();
    impl->options = options;
    impl->task = task;
    RW_TRY(impl->pristine, loadScene(armProfile(options.arm), *task));
    impl->model.reset(mj_copyModel(nullptr, impl->pristine.get()));
    RW_CHECK(impl->model != nullptr);
    impl->data.reset(mj_makeData(impl->model.get()));
    RW_CHECK(impl->data != nullptr);
    impl->findNames();
    std::unique_ptr<Environment> environment(new Environment(std::move(impl)));
    environment->reset(0);
    return environment;
}

const SceneDescription& Environment::description() const
{
    return m_impl->description;
}

const EnvironmentOptions& Environment::options() const
{
    return m_impl->options;
}

void Environment::reset(std::uint64_t seed)
{
    Impl& s = *m_impl;
    mj_resetData(s.model.get(), s.data.get());
    s.episode = EpisodeState {};
    s.episode.seed = seed;
    s.nextTick.reset();
    s.setLooks(seed);

    Random random(mixSeeds(seed, kPoseStream));
    const double scale = s.options.randomization.poses;
    SceneView scene(*s.model, *s.data);
    s.task->place(scene, random, scale);
    for (int attempt = 0; attempt < kStartAttempts; ++attempt) {
        std::array<double, kJointCount> joints = s.description.home;
        for (std::size_t j = 0; j < kJointCount; ++j) {
            joints[j] = std::clamp(joints[j] + scale * random.uniform(-kStartJointRange, kStartJointRange),
                                   s.description.jointLimits[j][0], s.description.jointLimits[j][1]);
        }
        const double opening = kOpeningMax * std::clamp(0.5 + scale * (random.unit() - 0.5), 0.0, 1.0);
        s.setArm(joints, opening);
        s.refresh();
        if (!s.gripperTouchesSomething()) {
            break;
        }
    }
}

Result<void> Environment::advance(const Action& target, int physicsSteps)
{
    return move(target, physicsSteps, {});
}

Result<void> Environment::move(const Action& target, int physicsSteps, const std::function<void()>& watch)
{
    Impl& s = *m_impl;
    if (!allFinite(target)) {
        return fail(Errc::NotFinite, "an action holds a number that is not finite", s.description.task);
    }
    std::array<double, kJointCount> joints {};
    std::copy_n(target.begin(), kJointCount, joints.begin());
    s.setTargets(joints, target[kJointCount]);
    for (int i = 0; i < physicsSteps; ++i) {
        if (i % kFeedForwardPeriod == 0) {
            // What the drives' gravity compensation adds.
            for (const int dof : s.dofOf) {
                s.data->qfrc_applied[dof] = s.data->qfrc_bias[dof];
            }
        }
        mj_step(s.model.get(), s.data.get());
        if (watch && (i + 1) % kPhysicsStepsPerWatch == 0) {
            watch();
        }
    }
    s.refresh();
    for (const int warning : { mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC }) {
        if (s.data->warning[warning].number > 0) {
            return fail(Errc::NotFinite, "the simulation diverged; reset the environment", s.description.task);
        }
    }
    return {};
}

Result<void> Environment::step(const Action& action, const std::function<void()>& watch)
{
    Impl& s = *m_impl;
    RW_TRY_VOID(move(action, kPhysicsStepsPerAction, watch));
    ++s.episode.step;
    s.episode.successStreak = conditionHolds() ? s.episode.successStreak + 1 : 0;
    s.episode.succeeded = s.episode.succeeded || s.episode.successStreak >= s.task->holdSteps();
    if (s.options.realTime) {
        const auto now = std::chrono::steady_clock::now();
        const auto period = std::chrono::milliseconds(1000 / kControlHz);
        const auto due = s.nextTick.value_or(now + period);
        std::this_thread::sleep_until(due);
        s.nextTick = std::max(due, now) + period;
    }
    return {};
}

StateVector Environment::state() const
{
    StateVector values {};
    for (std::size_t j = 0; j < kJointCount; ++j) {
        values[j] = static_cast<float>(m_impl->data->qpos[m_impl->qposOf[j]]);
    }
    values[kJointCount] =
        static_cast<float>(m_impl->data->qpos[m_impl->fingerQpos[0]] + m_impl->data->qpos[m_impl->fingerQpos[1]]);
    return values;
}

StateVector Environment::velocity() const
{
    StateVector values {};
    for (std::size_t j = 0; j < kJointCount; ++j) {
        values[j] = static_cast<float>(m_impl->data->qvel[m_impl->dofOf[j]]);
    }
    values[kJointCount] =
        static_cast<float>(m_impl->data->qvel[m_impl->fingerDof[0]] + m_impl->data->qvel[m_impl->fingerDof[1]]);
    return values;
}

std::array<double, kJointCount> Environment::jointTorques() const
{
    std::array<double, kJointCount> torques {};
    for (std::size_t j = 0; j < kJointCount; ++j) {
        const int dof = m_impl->dofOf[j];
        torques[j] = m_impl->data->qfrc_actuator[dof] + m_impl->data->qfrc_applied[dof];
    }
    return torques;
}

Result<Image> Environment::render(std::string_view camera, int width, int height)
{
    Impl& s = *m_impl;
    const int id = s.cameraId(camera);
    if (id < 0) {
        return fail(Errc::FieldInvalid, "no such camera; there are front, wrist and overview", std::string(camera));
    }
    if (width < kMinImage || height < kMinImage || width > kMaxImage || height > kMaxImage) {
        return fail(Errc::FieldInvalid, "image sizes go from 8 to 2048 pixels", std::string(camera));
    }
    if (!s.renderer) {
        RW_TRY(s.renderer, Renderer::create(*s.model));
    }
    return s.renderer->render(*s.model, *s.data, id, width, height);
}

Result<Observation> Environment::observation(int width, int height)
{
    Observation observation;
    observation.state = state();
    for (const std::string& camera : m_impl->description.cameraNames) {
        RW_TRY(Image image, render(camera, width, height));
        observation.images.push_back(std::move(image));
    }
    return observation;
}

SceneLabels Environment::labels() const
{
    const Impl& s = *m_impl;
    SceneLabels labels;
    for (const int site : s.labelSites) {
        labels.objects.push_back(s.label(s.data->site_xpos + 3 * site));
    }
    labels.gripper = s.label(s.data->site_xpos + 3 * s.tcpSite);
    labels.target = s.description.target;
    labels.goal = s.description.goal;
    return labels;
}

bool Environment::success() const
{
    return m_impl->episode.succeeded;
}

bool Environment::conditionHolds() const
{
    return m_impl->task->achieved(SceneView(*m_impl->model, std::as_const(*m_impl->data)));
}

int Environment::stepCount() const
{
    return m_impl->episode.step;
}

std::uint64_t Environment::seed() const
{
    return m_impl->episode.seed;
}

const std::string& Environment::instruction() const
{
    return m_impl->instruction;
}

EpisodeState Environment::save() const
{
    EpisodeState state = m_impl->episode;
    state.physics.resize(static_cast<std::size_t>(mj_stateSize(m_impl->model.get(), mjSTATE_INTEGRATION)));
    mj_getState(m_impl->model.get(), m_impl->data.get(), state.physics.data(), mjSTATE_INTEGRATION);
    return state;
}

Result<void> Environment::restore(const EpisodeState& state)
{
    Impl& s = *m_impl;
    if (state.physics.size() != static_cast<std::size_t>(mj_stateSize(s.model.get(), mjSTATE_INTEGRATION))
        || !allFinite(state.physics)) {
        return fail(Errc::DataInvalid, "a state of another scene", s.description.task);
    }
    mj_resetData(s.model.get(), s.data.get());
    s.episode = state;
    s.episode.physics.clear();
    s.nextTick.reset();
    s.setLooks(state.seed);
    mj_setState(s.model.get(), s.data.get(), state.physics.data(), mjSTATE_INTEGRATION);
    s.refresh();
    return {};
}

Pose Environment::gripperPose() const
{
    return m_impl->sitePose(m_impl->tcpSite);
}

Pose Environment::flangePose() const
{
    return m_impl->sitePose(m_impl->flangeSite);
}

Result<void> Environment::placeArm(const std::array<double, kJointCount>& joints, double opening)
{
    Impl& s = *m_impl;
    if (!allFinite(joints) || !std::isfinite(opening)) {
        return fail(Errc::NotFinite, "a posture holds a number that is not finite", s.description.task);
    }
    for (std::size_t j = 0; j < kJointCount; ++j) {
        if (joints[j] < s.description.jointLimits[j][0] || joints[j] > s.description.jointLimits[j][1]) {
            return fail(Errc::FieldInvalid, "outside the limits of the joint", s.description.stateNames[j]);
        }
    }
    if (opening < 0 || opening > kOpeningMax) {
        return fail(Errc::FieldInvalid, "the opening goes from 0 to 0.07 m", s.description.stateNames[kJointCount]);
    }
    s.setArm(joints, opening);
    s.refresh();
    return {};
}

const mjModel_& Environment::model() const
{
    return *m_impl->model;
}

const mjData_& Environment::data() const
{
    return *m_impl->data;
}

const Task& Environment::task() const
{
    return *m_impl->task;
}

std::string mujocoVersion()
{
    return mj_versionString();
}

Result<std::string> checkRendering()
{
    RW_TRY(const auto environment, Environment::create(taskNames().front()));
    RW_TRY(const auto renderer, Renderer::create(environment->model()));
    return renderer->deviceName();
}

} // namespace rankwise::sim
