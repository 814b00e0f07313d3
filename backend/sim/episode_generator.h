// Expert episodes in memory, without files and video: for pre-training on as many as one likes, and the source of
// recordEpisodes().
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/sim/environment.h"
#include "backend/sim/expert.h"

#include <functional>
#include <string>
#include <vector>

namespace rankwise::sim {

struct GeneratorOptions {
    std::vector<std::string> tasks; ///< Empty: all.
    int episodes = 50;              ///< Successful episodes of each task.
    std::uint64_t seed = 0;         ///< Changes everything.
    int width = 96;                 ///< Pixels of the images; 0: no images.
    int height = 96;
    std::vector<std::string> cameras; ///< Empty: all of the scene, in its order.
    bool disturb = true;
    Disturbance disturbance;
    bool labels = false; ///< Fill EpisodeFrame::labels.
    EnvironmentOptions environment;
    int settleSteps = 0; ///< Frames that go on after success.
    /// Episodes at the front that are acted again without images (a tenth of the time) and not handed out: to go on where
    /// an earlier call with the same options ended.
    std::int64_t skip = 0;
    /// Changes speed only: episodes and their order stay the same. 0: one with images, else one a processor; threads
    /// share the one rasterizer that software rendering has in a process, so that more of them gain nothing there.
    int threads = 0;
};

/// The state before an action, and the action.
struct EpisodeFrame {
    StateVector state {};
    Action action {};
    std::vector<Image> images; ///< By camera of the options.
    SceneLabels labels;        ///< When asked for; its images are by camera of the scene.
    bool success = false;      ///< The task is done after this action.
};

struct Episode {
    std::string task;
    std::string instruction;
    std::uint64_t seed = 0; ///< Of Environment::reset().
    std::int64_t index = 0; ///< Over all kept episodes, from 0.
    bool disturbed = false;
    std::vector<EpisodeFrame> frames;
};

struct TaskCount {
    std::string task;
    std::int64_t kept = 0;
    std::int64_t discarded = 0; ///< Attempts in which the expert ran out of time.
    std::int64_t frames = 0;    ///< Of kept episodes.
};

struct GeneratorSummary {
    std::vector<TaskCount> tasks;
    std::int64_t episodes = 0;
    std::int64_t frames = 0;
    std::int64_t discarded = 0;
    double seconds = 0;
};

/// Receives the episodes in order of their index, one call at a time, from the calling thread.
using EpisodeSink = std::function<Result<void>(Episode&& episode)>;

/// Seed of attempt `attempt` of a task: what Environment::reset() gets.
[[nodiscard]] std::uint64_t attemptSeed(std::uint64_t seed, std::string_view task, std::int64_t attempt);

/// Whether generateEpisodes() would take them. Errors: FieldInvalid with the field. Thread: any.
[[nodiscard]] Result<void> checkOptions(const GeneratorOptions& options);

/// One attempt; success is that of the last frame. `environment` is reset with `seed`.
/// Errors: NotFinite, DeviceFailed.
[[nodiscard]] Result<Episode> rollExpert(Environment& environment, Expert& expert, std::uint64_t seed,
                                         const GeneratorOptions& options);

/// Episodes of the tasks in turn (task 1, task 2, …, task 1, …); failed attempts are dropped and counted.
/// Memory: about two episodes a thread.
/// Errors: those of checkOptions(), Environment::create() and rollExpert(), Cancelled, what `sink` returns,
///         DataInvalid when an expert fails 20 attempts in a row.
[[nodiscard]] Result<GeneratorSummary> generateEpisodes(const GeneratorOptions& options, const JobContext& job,
                                                        const EpisodeSink& sink);

} // namespace rankwise::sim
