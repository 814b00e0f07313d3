// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/episode_runner.h"

#include "backend/sim/random.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::eval {

namespace {

using Clock = std::chrono::steady_clock;

/// Stream of the noise that a policy draws; the scene has another.
constexpr std::uint64_t kNoiseStream = 0x6e'6f'69'73;

double secondsSince(Clock::time_point start)
{
    return std::chrono::duration<double>(Clock::now() - start).count();
}

} // namespace

std::uint64_t episodeNoiseSeed(std::uint64_t sceneSeed)
{
    return sim::mixSeeds(sceneSeed, kNoiseStream);
}

Result<CameraPlan> planCameras(const io::PolicyConfig& policy, const sim::SceneDescription& scene,
                               const RolloutOptions& options)
{
    CameraPlan plan;
    for (std::size_t i = 0; i < scene.cameraNames.size(); ++i) {
        const auto renamed = options.cameras.find(scene.cameraNames[i]);
        const std::string name =
            renamed == options.cameras.end() ? "observation.images." + scene.cameraNames[i] : renamed->second;
        const io::PolicyFeature* feature = policy.findFeature(name);
        if (feature == nullptr || feature->type != io::FeatureType::Visual) {
            continue;
        }
        if (feature->shape.size() == 3) {
            plan.height = std::max(plan.height, static_cast<int>(feature->shape[1]));
            plan.width = std::max(plan.width, static_cast<int>(feature->shape[2]));
        }
        plan.views.push_back({ i, name });
    }
    if (plan.views.empty() && !policy.cameraNames().empty()) {
        return fail(Errc::FieldMissing,
                    fmt::format("the policy sees {}; the scene has {}. Map them", fmt::join(policy.cameraNames(), ", "),
                                fmt::join(scene.cameraNames, ", ")),
                    "cameras");
    }
    return plan;
}

models::Transition transitionOf(const sim::Observation& seen, const CameraPlan& plan, const std::string& instruction)
{
    models::Transition transition;
    at::Tensor state =
        at::empty({ 1, static_cast<std::int64_t>(seen.state.size()) }, at::TensorOptions().dtype(at::kFloat));
    std::ranges::copy(seen.state, state.data_ptr<float>());
    transition.observation[models::kStateKey] = state;
    for (const CameraPlan::View& view : plan.views) {
        const sim::Image& image = seen.images.at(view.scene);
        at::Tensor pixels = at::empty({ 1, image.height, image.width, 3 }, at::TensorOptions().dtype(at::kByte));
        std::ranges::copy(image.rgb, pixels.data_ptr<std::uint8_t>());
        transition.observation[view.name] = pixels;
    }
    transition.tasks = { instruction };
    return transition;
}

Result<EpisodeRunner::Place*> EpisodeRunner::open(const std::string& task)
{
    const auto found = m_places.find(task);
    if (found != m_places.end()) {
        return &found->second;
    }
    Place place;
    RW_TRY(place.environment, sim::Environment::create(task, m_options.environment));
    RW_TRY(place.plan, planCameras(m_runtime.policy().config(), place.environment->description(), m_options));
    return &m_places.emplace(task, std::move(place)).first->second;
}

Result<RolloutEpisode> EpisodeRunner::run(const std::string& task, std::int64_t index, bool kept, const JobContext& job)
{
    RW_TRY(Place* const place, open(task));
    sim::Environment& environment = *place->environment;
    const auto start = Clock::now();
    RolloutEpisode episode { .task = task, .index = index, .seed = rolloutSeed(m_options.seed, task, index) };
    environment.reset(episode.seed);
    episode.instruction = environment.instruction();
    serve::ActionQueue queue(m_runtime, episodeNoiseSeed(episode.seed), m_options.actionSteps,
                             m_options.flowSteps);
    const int limit = m_options.timeLimit > 0 ? m_options.timeLimit : environment.description().timeLimit;
    while (episode.steps < limit && !environment.success()) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", task);
        }
        std::optional<sim::Observation> seen;
        if (kept) {
            RW_TRY(seen, environment.observation(place->plan.width, place->plan.height));
        }
        RW_TRY(const std::vector<float> values, ask(queue, *place, seen, episode));
        sim::Action action {};
        std::copy(values.begin(), values.end(), action.begin());
        if (kept) {
            episode.frames.push_back({ seen->state, action, std::move(seen->images) });
        }
        RW_TRY_VOID(environment.step(action));
        ++episode.steps;
    }
    episode.success = environment.success();
    episode.chunks = queue.chunks();
    episode.seconds = secondsSince(start);
    return episode;
}

Result<std::vector<float>> EpisodeRunner::ask(serve::ActionQueue& queue, Place& place,
                                              const std::optional<sim::Observation>& seen, RolloutEpisode& episode)
{
    const auto start = Clock::now();
    double rendering = 0;
    auto values = queue.next([&]() -> Result<models::Transition> {
        if (seen) {
            return transitionOf(*seen, place.plan, episode.instruction);
        }
        const auto begin = Clock::now();
        RW_TRY(const sim::Observation now, place.environment->observation(place.plan.width, place.plan.height));
        rendering = secondsSince(begin);
        return transitionOf(now, place.plan, episode.instruction);
    });
    episode.policySeconds += secondsSince(start) - rendering;
    if (values && values->size() != sim::kActionSize) {
        return fail(
            Errc::ShapeMismatch,
            fmt::format("the policy gives {} numbers an action, the arm takes {}", values->size(), sim::kActionSize),
            "action");
    }
    return values;
}

} // namespace rankwise::eval
