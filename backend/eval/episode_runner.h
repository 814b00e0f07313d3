// One policy acting in one environment after the other, an episode at a time. Private to the module: what a process
// of an evaluation runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/eval/rollout.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace rankwise::eval {

/// Which camera of the scene each of the policy's cameras is.
struct CameraPlan {
    struct View {
        std::size_t scene; ///< Index in the scene's cameras.
        std::string name;  ///< In the policy.
    };
    std::vector<View> views;
    int width = 64;
    int height = 64;
};

/// Errors: FieldMissing (no camera of the scene is one that the policy sees).
[[nodiscard]] Result<CameraPlan> planCameras(const io::PolicyConfig& policy, const sim::SceneDescription& scene,
                                             const RolloutOptions& options);
/// What was seen, as the policy's processor takes it.
[[nodiscard]] models::Transition transitionOf(const sim::Observation& seen, const CameraPlan& plan,
                                              const std::string& instruction);
/// Seed of an episode's ActionQueue, from that of its scene.
[[nodiscard]] std::uint64_t episodeNoiseSeed(std::uint64_t sceneSeed);

/// Keeps the environment of each task that it met. Thread: one at a time.
class EpisodeRunner {
public:
    EpisodeRunner(serve::PolicyRuntime& runtime, RolloutOptions options)
        : m_runtime(runtime), m_options(std::move(options))
    {
    }

    /// Frames are kept when `kept`. Errors: those of runRollouts().
    [[nodiscard]] Result<RolloutEpisode> run(const std::string& task, std::int64_t index, bool kept,
                                             const JobContext& job);

private:
    struct Place {
        std::unique_ptr<sim::Environment> environment;
        CameraPlan plan;
    };

    [[nodiscard]] Result<Place*> open(const std::string& task);
    [[nodiscard]] Result<std::vector<float>> ask(serve::ActionQueue& queue, Place& place,
                                                 const std::optional<sim::Observation>& seen, RolloutEpisode& episode);

    serve::PolicyRuntime& m_runtime;
    RolloutOptions m_options;
    std::map<std::string, Place> m_places;
};

} // namespace rankwise::eval
