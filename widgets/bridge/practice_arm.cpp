// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/practice_arm.h"

#include "backend/base/log.h"
#include "backend/base/worker_thread.h"
#include "backend/sim/environment.h"
#include "backend/sim/expert.h"
#include "widgets/bridge/text.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>
#include <variant>

namespace rankwise::bridge {

namespace {

using Clock = std::chrono::steady_clock;
using Values = std::array<double, kArmValues>;

constexpr int kTicksPerAction = PracticeArm::kLoopHz / sim::kControlHz;
constexpr int kPhysicsPerTick = sim::kPhysicsStepsPerAction / kTicksPerAction;
constexpr std::chrono::microseconds kTick { 1'000'000 / PracticeArm::kLoopHz };
constexpr std::chrono::milliseconds kLate { 5 };
constexpr std::chrono::milliseconds kHopeless { 200 }; ///< So far behind, the clock is set anew.
constexpr int kSuccessStreak = 3;

struct HoldCommand { };
struct ExpertCommand { };
struct JogCommand {
    Values target;
};
struct ResetCommand {
    std::uint64_t seed;
};
struct ShowCommand {
    Values state;
};
using Command = std::variant<HoldCommand, ExpertCommand, JogCommand, ResetCommand, ShowCommand>;

} // namespace

struct PracticeArm::Shared {
    mutable std::mutex mutex;
    std::deque<Command> commands;
    std::shared_ptr<const ArmSnapshot> latest;

    void push(Command command)
    {
        const std::lock_guard lock(mutex);
        commands.push_back(std::move(command));
    }
    std::deque<Command> take()
    {
        const std::lock_guard lock(mutex);
        return std::exchange(commands, {});
    }
    void publish(std::shared_ptr<const ArmSnapshot> snapshot)
    {
        const std::lock_guard lock(mutex);
        latest = std::move(snapshot);
    }
};

/// Everything of the loop's thread.
class PracticeArm::Loop {
public:
    Loop(std::unique_ptr<sim::Environment> environment, Shared& shared, int imageSize)
        : m_environment(std::move(environment)), m_expert(*m_environment), m_shapes(*m_environment), m_shared(shared),
          m_imageSize(imageSize)
    {
        m_target = measured();
        m_from = m_target;
    }

    [[nodiscard]] std::shared_ptr<const ArmScene> describe() const
    {
        const sim::SceneDescription& description = m_environment->description();
        auto scene = std::make_shared<ArmScene>();
        scene->title = toQString(description.task);
        for (std::size_t j = 0; j < kArmJoints; ++j) {
            scene->limits[j] = description.jointLimits[j];
        }
        scene->limits[kArmJoints] = { 0, sim::kOpeningMax };
        for (const std::string& camera : description.cameraNames) {
            scene->cameras << toQString(camera);
        }
        scene->shapes = m_shapes.shapes();
        return scene;
    }

    void run(const std::stop_token& stop)
    {
        auto due = Clock::now();
        auto secondStart = due;
        int ticksInSecond = 0;
        while (!stop.stop_requested()) {
            obey();
            if (const auto moved = tick(); !moved) {
                publish(toQString(moved.error().describe()));
                log::error("robot", "practice arm: {}", moved.error().describe());
                return;
            }
            ++ticksInSecond;
            const auto now = Clock::now();
            if (now - secondStart >= std::chrono::seconds(1)) {
                m_loopHz = ticksInSecond / std::chrono::duration<double>(now - secondStart).count();
                secondStart = now;
                ticksInSecond = 0;
            }
            publish({});
            due += kTick;
            const auto late = Clock::now() - due;
            if (late > kLate) {
                ++m_lateTicks;
                m_worst = std::max(m_worst, std::chrono::duration<double>(late).count());
                if (late > kHopeless) {
                    due = Clock::now(); // Too far behind to catch up.
                }
            }
            if (!waitUntil(stop, due)) {
                return;
            }
        }
    }

private:
    [[nodiscard]] Values measured() const
    {
        Values values {};
        const sim::StateVector state = m_environment->state();
        std::copy(state.begin(), state.end(), values.begin());
        return values;
    }

    [[nodiscard]] Values clamped(Values values) const
    {
        const auto& limits = m_environment->description().jointLimits;
        for (std::size_t j = 0; j < kArmJoints; ++j) {
            values[j] = std::clamp(values[j], limits[j][0], limits[j][1]);
        }
        values[kArmJoints] = std::clamp(values[kArmJoints], 0.0, sim::kOpeningMax);
        return values;
    }

    void obey()
    {
        for (const Command& command : m_shared.take()) {
            if (std::holds_alternative<HoldCommand>(command)) {
                m_mode = ArmMode::Hold;
                m_target = m_from = measured();
            } else if (std::holds_alternative<ExpertCommand>(command)) {
                m_mode = ArmMode::Expert;
                m_tickOfAction = 0;
            } else if (const auto* jog = std::get_if<JogCommand>(&command)) {
                m_mode = ArmMode::Jog;
                m_target = clamped(jog->target);
            } else if (const auto* reset = std::get_if<ResetCommand>(&command)) {
                m_environment->reset(reset->seed);
                m_target = m_from = measured();
                m_time = 0;
                m_streak = 0;
                m_succeeded = false;
                m_tickOfAction = 0;
                m_ticks = 0;
            } else if (const auto* shown = std::get_if<ShowCommand>(&command)) {
                m_mode = ArmMode::Replay;
                m_target = m_from = clamped(shown->state);
                std::array<double, kArmJoints> joints {};
                std::copy_n(m_target.begin(), kArmJoints, joints.begin());
                (void)m_environment->placeArm(joints, m_target[kArmJoints]);
            }
        }
    }

    Result<void> tick()
    {
        Values command = m_target;
        if (m_mode == ArmMode::Expert) {
            if (m_tickOfAction == 0) {
                m_from = m_target;
                m_target = m_expert.act(*m_environment);
            }
            // An action is the target for the end of its step: the way there is straight.
            const double f = static_cast<double>(m_tickOfAction + 1) / kTicksPerAction;
            for (std::size_t j = 0; j < kArmValues; ++j) {
                command[j] = m_from[j] + f * (m_target[j] - m_from[j]);
            }
            m_tickOfAction = (m_tickOfAction + 1) % kTicksPerAction;
        }
        if (m_mode != ArmMode::Replay) {
            RW_TRY_VOID(m_environment->advance(command, kPhysicsPerTick));
            m_time += std::chrono::duration<double>(kTick).count();
        }
        if (m_ticks % kTicksPerAction == 0) {
            m_streak = m_environment->conditionHolds() ? m_streak + 1 : 0;
            m_succeeded = m_succeeded || m_streak >= kSuccessStreak;
            if (m_succeeded && m_mode == ArmMode::Expert) {
                m_mode = ArmMode::Hold;
                m_target = m_from = measured();
            }
            renderCameras();
        }
        ++m_ticks;
        return {};
    }

    void renderCameras()
    {
        if (m_imageSize <= 0) {
            return;
        }
        std::vector<CameraImagePtr> images;
        for (const std::string& camera : m_environment->description().cameraNames) {
            auto image = m_environment->render(camera, m_imageSize, m_imageSize);
            if (!image) {
                log::warn("robot", "no camera pictures: {}", image.error().describe());
                m_imageSize = 0;
                return;
            }
            images.push_back(std::make_shared<const CameraImage>(
                CameraImage { image->width, image->height, std::move(image->rgb) }));
        }
        m_images = std::move(images);
        ++m_imageSequence;
    }

    void publish(const QString& error)
    {
        auto snapshot = std::make_shared<ArmSnapshot>();
        snapshot->sequence = ++m_sequence;
        snapshot->time = m_time;
        snapshot->mode = m_mode;
        snapshot->measured = measured();
        snapshot->target = m_target;
        const sim::StateVector velocity = m_environment->velocity();
        std::copy(velocity.begin(), velocity.end(), snapshot->velocity.begin());
        snapshot->torque = m_environment->jointTorques();
        snapshot->gripper = m_environment->gripperPose().position;
        snapshot->poses = m_shapes.poses();
        snapshot->ghost = m_shapes.ghost(m_target, snapshot->poses);
        snapshot->images = m_images;
        snapshot->imageSequence = m_imageSequence;
        snapshot->phase = m_mode == ArmMode::Expert ? toQString(m_expert.phase()) : QString();
        snapshot->instruction = toQString(m_environment->instruction());
        snapshot->succeeded = m_succeeded;
        snapshot->seed = m_environment->seed();
        snapshot->loopHz = m_loopHz;
        snapshot->lateTicks = m_lateTicks;
        snapshot->worstLateness = m_worst;
        snapshot->error = error;
        m_shared.publish(std::move(snapshot));
    }

    std::unique_ptr<sim::Environment> m_environment;
    sim::Expert m_expert;
    sim::SceneShapes m_shapes;
    Shared& m_shared;
    int m_imageSize;
    std::vector<CameraImagePtr> m_images;
    std::uint64_t m_imageSequence = 0;
    std::uint64_t m_sequence = 0;
    ArmMode m_mode = ArmMode::Hold;
    Values m_target {};
    Values m_from {};
    double m_time = 0;
    int m_tickOfAction = 0;
    std::uint64_t m_ticks = 0;
    int m_streak = 0;
    bool m_succeeded = false;
    double m_loopHz = 0;
    std::uint64_t m_lateTicks = 0;
    double m_worst = 0;
};

PracticeArm::PracticeArm(const QString& task, std::uint64_t seed, int imageSize, const QString& arm, QObject* parent)
    : ArmSource(parent), m_shared(std::make_shared<Shared>())
{
    m_thread = std::make_unique<WorkerThread>(
        "practice-arm",
        [this, shared = m_shared, name = task.toStdString(), kind = arm.toStdString(), seed,
         imageSize](const std::stop_token& stop) {
            const auto environmentOf = [&]() -> Result<std::unique_ptr<sim::Environment>> {
                RW_TRY(const sim::ArmKind chosen, sim::armFromName(kind));
                return sim::Environment::create(name, { .arm = chosen });
            };
            auto environment = environmentOf();
            if (!environment) {
                const QString reason = errorSentence(environment.error());
                QMetaObject::invokeMethod(
                    this, [this, reason] { Q_EMIT failed(reason); }, Qt::QueuedConnection);
                return;
            }
            (*environment)->reset(seed);
            Loop loop(std::move(*environment), *shared, imageSize);
            QMetaObject::invokeMethod(
                this,
                [this, scene = loop.describe()] {
                    m_scene = scene;
                    Q_EMIT connected();
                },
                Qt::QueuedConnection);
            loop.run(stop);
        });
}

PracticeArm::~PracticeArm()
{
    m_thread->requestStop();
    m_thread->join();
}

QStringList PracticeArm::tasks()
{
    QStringList names;
    for (const std::string& name : sim::taskNames()) {
        names << toQString(name);
    }
    return names;
}

std::shared_ptr<const ArmSnapshot> PracticeArm::latest() const
{
    const std::lock_guard lock(m_shared->mutex);
    return m_shared->latest;
}

void PracticeArm::hold()
{
    m_shared->push(HoldCommand {});
}

void PracticeArm::runExpert()
{
    m_shared->push(ExpertCommand {});
}

void PracticeArm::jog(const std::array<double, kArmValues>& target)
{
    m_shared->push(JogCommand { target });
}

void PracticeArm::resetScene(std::uint64_t seed)
{
    m_shared->push(ResetCommand { seed });
}

void PracticeArm::show(const std::array<double, kArmValues>& state)
{
    m_shared->push(ShowCommand { state });
}

} // namespace rankwise::bridge
