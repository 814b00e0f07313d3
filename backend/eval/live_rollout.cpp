// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/live_rollout.h"

#include "backend/base/worker_thread.h"
#include "backend/eval/episode_runner.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include <ATen/core/Tensor.h>

namespace rankwise::eval {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr std::chrono::milliseconds kIdle { 15 };
constexpr double kTick = 0.002 * sim::kPhysicsStepsPerWatch; ///< Simulated seconds between two states.
constexpr double kLate = 0.005;
constexpr double kHopeless = 0.1; ///< So far behind, the clock is set anew.

/// Keeps ticks at their times, and counts those that were not.
class Pace {
public:
    explicit Pace(double speed) : m_period(speed > 0 ? kTick / speed : 0), m_second(Clock::now()) { }

    void restart() { m_due = Clock::now(); }

    void tick()
    {
        ++m_ticks;
        const auto now = Clock::now();
        if (const double elapsed = Seconds(now - m_second).count(); elapsed >= 1) {
            hz = m_ticks / elapsed;
            m_ticks = 0;
            m_second = now;
        }
        if (m_period <= 0) {
            return;
        }
        m_due += std::chrono::duration_cast<Clock::duration>(Seconds(m_period));
        const double lateness = Seconds(now - m_due).count();
        if (lateness > kLate) {
            ++late;
            worst = std::max(worst, lateness);
        }
        if (lateness > kHopeless) {
            m_due = now;
        }
        std::this_thread::sleep_until(m_due);
    }

    double hz = 0;
    std::uint64_t late = 0;
    double worst = 0;

private:
    double m_period;
    Clock::time_point m_due = Clock::now();
    Clock::time_point m_second;
    int m_ticks = 0;
};

class Live {
public:
    Live(serve::PolicyRuntime& runtime, const LiveOptions& options, const LiveChannel& channel)
        : m_runtime(runtime), m_options(options), m_channel(channel), m_pace(options.speed), m_paused(options.paused)
    {
    }

    Result<void> run(const JobContext& job)
    {
        RW_TRY_VOID(open());
        RW_TRY_VOID(begin(m_options.index));
        while (m_open && !job.stopped()) {
            RW_TRY_VOID(obey());
            if (m_open && (m_done || (m_paused && m_single == 0))) {
                m_pace.restart();
                waitFor(job.stop, kIdle);
                continue;
            }
            m_single = std::max(0, m_single - 1);
            if (m_open) {
                RW_TRY_VOID(act());
            }
        }
        return {};
    }

private:
    void send(const sim::StreamMessage& message) { m_open = m_open && m_channel.send(message); }

    Result<void> open()
    {
        if (m_options.rollout.tasks.size() != 1) {
            return fail(Errc::FieldInvalid, "names other than one task", "tasks");
        }
        RW_TRY(m_environment, sim::Environment::create(m_options.rollout.tasks[0], m_options.rollout.environment));
        RW_TRY(m_plan, planCameras(m_runtime.policy().config(), m_environment->description(), m_options.rollout));
        m_shapes = std::make_unique<sim::SceneShapes>(*m_environment);

        const sim::SceneDescription& scene = m_environment->description();
        sim::StreamScene message;
        message.title = scene.task;
        message.arm = sim::armName(scene.arm);
        message.policy = m_options.name;
        std::ranges::copy(scene.jointLimits, message.limits.begin());
        message.limits.back() = { 0, sim::kOpeningMax };
        if (m_options.imageSize > 0) {
            message.cameras = scene.cameraNames;
        }
        const std::int64_t chunk = m_runtime.policy().chunkSize();
        message.actionSteps = m_options.rollout.actionSteps > 0 ? std::min(m_options.rollout.actionSteps, chunk)
                                                                : m_runtime.policy().actionSteps();
        message.shapes = m_shapes->shapes();
        if (adapters::AdaptationMethod* const method = m_runtime.method()) {
            for (const adapters::LayerDigest& layer : method->takeDigest()) {
                message.layers.push_back(
                    { layer.path, static_cast<std::int64_t>(layer.group), layer.depth, layer.capacity });
            }
        }
        send(message);
        return {};
    }

    Result<void> begin(std::int64_t index)
    {
        const sim::SceneDescription& scene = m_environment->description();
        m_index = index;
        m_environment->reset(rolloutSeed(m_options.rollout.seed, scene.task, index));
        m_queue = std::make_unique<serve::ActionQueue>(m_runtime, episodeNoiseSeed(m_environment->seed()),
                                                       m_options.rollout.actionSteps, m_options.rollout.flowSteps);
        m_queue->listen([this](const at::Tensor& chunk) { m_chunk = chunk; });
        m_limit = m_options.rollout.timeLimit > 0 ? m_options.rollout.timeLimit : scene.timeLimit;
        m_step = 0;
        m_ticks = 0;
        m_done = false;
        m_began = Clock::now();
        const sim::StateVector state = m_environment->state();
        std::ranges::copy(state, m_target.begin());
        send(sim::StreamEpisode { index, m_environment->seed(), m_environment->instruction(), m_limit });
        RW_TRY_VOID(sendImages());
        sendState();
        m_pace.restart();
        return {};
    }

    Result<void> obey()
    {
        for (const sim::StreamRequest& request : m_channel.requests()) {
            switch (request.kind) {
            case sim::StreamRequest::Kind::Pause:
                m_paused = true;
                m_single = 0;
                break;
            case sim::StreamRequest::Kind::Go:
                m_paused = false;
                m_single = 0;
                break;
            case sim::StreamRequest::Kind::Step:
                m_paused = true;
                ++m_single;
                break;
            case sim::StreamRequest::Kind::Episode:
                RW_TRY_VOID(begin(request.index));
                continue; // told already
            case sim::StreamRequest::Kind::Stop:
                m_open = false;
                return {};
            }
            sendState();
        }
        return {};
    }

    /// One action, and everything that it needs and causes.
    Result<void> act()
    {
        m_chunk = at::Tensor();
        double rendering = 0;
        const auto start = Clock::now();
        auto values = m_queue->next([&]() -> Result<models::Transition> {
            const auto before = Clock::now();
            RW_TRY(const sim::Observation seen, m_environment->observation(m_plan.width, m_plan.height));
            rendering = Seconds(Clock::now() - before).count();
            return transitionOf(seen, m_plan, m_environment->instruction());
        });
        if (!values) {
            return tl::unexpected<Error>(std::move(values).error());
        }
        if (values->size() != sim::kActionSize) {
            return fail(Errc::ShapeMismatch, "the policy's actions are not those of the arm", "action");
        }
        if (m_chunk.defined()) {
            sendChunk(Seconds(Clock::now() - start).count() - rendering);
            m_pace.restart();
        }
        sim::Action action {};
        std::ranges::copy(*values, action.begin());
        m_target = action;
        RW_TRY_VOID(m_environment->step(action, [this] {
            ++m_ticks;
            sendState();
            m_pace.tick();
        }));
        ++m_step;
        RW_TRY_VOID(sendImages());
        if (m_environment->success() || m_step >= m_limit) {
            m_done = true;
            send(sim::StreamEnd { m_index, m_environment->success(), m_step, Seconds(Clock::now() - m_began).count() });
        }
        if (m_done || m_paused) {
            sendState();
        }
        return {};
    }

    void sendState()
    {
        sim::StreamState m;
        m.sequence = ++m_sequence;
        m.time = static_cast<double>(m_ticks) * kTick;
        m.step = m_step;
        m.paused = m_paused;
        m.done = m_done;
        m.success = m_environment->success();
        std::ranges::copy(m_environment->state(), m.measured.begin());
        std::ranges::copy(m_environment->velocity(), m.velocity.begin());
        m.target = m_target;
        m.torque = m_environment->jointTorques();
        m.gripper = m_environment->gripperPose().position;
        m.poses = m_shapes->poses();
        m.ghost = m_shapes->ghost(m_target, m.poses);
        m.hz = m_pace.hz;
        m.late = m_pace.late;
        m.worst = m_pace.worst;
        send(m);
    }

    Result<void> sendImages()
    {
        if (m_options.imageSize <= 0) {
            return {};
        }
        RW_TRY(sim::Observation seen, m_environment->observation(m_options.imageSize, m_options.imageSize));
        send(sim::StreamImages { m_step, std::move(seen.images) });
        return {};
    }

    void sendChunk(double latency)
    {
        sim::StreamChunk m;
        m.number = m_queue->chunks() - 1;
        m.step = m_step;
        m.latency = latency;
        const float* value = m_chunk.const_data_ptr<float>();
        for (std::int64_t t = 0; t < m_chunk.size(1); ++t, value += m_chunk.size(2)) {
            sim::Action& action = m.actions.emplace_back();
            std::copy_n(value, sim::kActionSize, action.begin());
        }
        m.path = m_shapes->path(m.actions);
        if (adapters::AdaptationMethod* const method = m_runtime.method()) {
            std::size_t index = 0;
            for (const adapters::LayerDigest& layer : method->takeDigest()) {
                m.rank.push_back(static_cast<float>(layer.rankMean));
                m.energy.push_back(static_cast<float>(layer.energy));
                m.shares.emplace_back(layer.expertShares.begin(), layer.expertShares.end());
                for (const adapters::KindDigest& kind : layer.kinds) {
                    std::vector<float>& row = m.kinds.emplace_back();
                    row = { static_cast<float>(index), static_cast<float>(kind.kind) };
                    row.insert(row.end(), kind.expertShares.begin(), kind.expertShares.end());
                }
                ++index;
            }
        }
        send(m);
    }

    serve::PolicyRuntime& m_runtime;
    const LiveOptions& m_options;
    const LiveChannel& m_channel;
    Pace m_pace;
    std::unique_ptr<sim::Environment> m_environment;
    std::unique_ptr<sim::SceneShapes> m_shapes;
    std::unique_ptr<serve::ActionQueue> m_queue;
    CameraPlan m_plan;
    at::Tensor m_chunk; ///< The last one asked for by act(); undefined: the queue held actions still.
    sim::Action m_target {};
    Clock::time_point m_began;
    std::int64_t m_index = 0;
    std::int64_t m_step = 0;
    std::int64_t m_limit = 0;
    std::int64_t m_ticks = 0;
    std::uint64_t m_sequence = 0;
    int m_single = 0; ///< Actions to run although it pauses.
    bool m_paused;
    bool m_done = false;
    bool m_open = true;
};

} // namespace

Result<void> runLive(serve::PolicyRuntime& runtime, const LiveOptions& options, const LiveChannel& channel,
                     const JobContext& job)
{
    return Live(runtime, options, channel).run(job);
}

} // namespace rankwise::eval
