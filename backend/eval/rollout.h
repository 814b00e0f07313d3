// Policies in simulation: episodes with paired seeds, success tables, exact comparisons. This file runs them one after
// the other in the caller's process; rollout_processes.h spreads them over several.
//
// Episode n of a task has the same scene, instruction and noise for every policy that is evaluated with the same seed,
// whatever the number of processes; so two reports of one seed can be compared episode by episode.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/eval/statistics.h"
#include "backend/serve/policy_runtime.h"
#include "backend/sim/environment.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace rankwise::eval {

struct RolloutOptions {
    // Changes results:
    std::vector<std::string> tasks; ///< Empty: all.
    std::int64_t episodes = 20;     ///< Of each task.
    std::uint64_t seed = 0;         ///< Scenes never are those that recording with the same seed made.
    std::int64_t actionSteps = 0;   ///< Actions run of each chunk; 0: the policy's n_action_steps.
    std::int64_t flowSteps = 0;     ///< 0: the policy's.
    int timeLimit = 0;              ///< Steps; 0: the task's.
    sim::EnvironmentOptions environment;
    /// Camera of the scene -> name in the policy; others are "observation.images.<camera>".
    std::map<std::string, std::string> cameras;

    // Changes what is kept:
    std::int64_t keepEpisodes = 0; ///< Frames of the first episodes of each task are kept, for strips and videos.
};

/// One step of a kept episode: what the policy's robot did, seen before the action.
struct RolloutFrame {
    sim::StateVector state {};
    sim::Action action {};
    std::vector<sim::Image> images; ///< By camera of the scene.
};

struct RolloutEpisode {
    std::string task;
    std::string instruction;
    std::int64_t index = 0; ///< Of its task, from 0.
    std::uint64_t seed = 0; ///< Of Environment::reset().
    bool success = false;
    int steps = 0;                    ///< Until success or the time limit.
    std::int64_t chunks = 0;          ///< Times the policy was asked.
    double seconds = 0;               ///< Wall time.
    double policySeconds = 0;         ///< Of it in the policy.
    std::vector<RolloutFrame> frames; ///< Empty unless kept.
};

struct RolloutReport {
    std::string name; ///< Of the policy, for tables.
    std::uint64_t seed = 0;
    std::vector<RolloutEpisode> episodes; ///< By task in the order of the options, then by index.
    std::vector<std::string> tasks;

    [[nodiscard]] SuccessCount count(const std::string& task) const;
    [[nodiscard]] SuccessCount total() const;
    /// Mean of the tasks' rates; 0 without tasks.
    [[nodiscard]] double meanRate() const;
    [[nodiscard]] Json json() const; ///< Counts, Wilson intervals and every episode, without frames.
};

/// All that json() says of one episode, and back. Errors: FieldMissing, FieldInvalid.
[[nodiscard]] Json episodeJson(const RolloutEpisode& episode);
[[nodiscard]] Result<RolloutEpisode> episodeFromJson(const Json& json, const std::string& file);

/// The episodes of an evaluation in their order, not run yet: task, index and seed.
[[nodiscard]] std::vector<RolloutEpisode> plannedEpisodes(const RolloutOptions& options);

/// Makes the policy.
using RuntimeFactory = std::function<Result<std::unique_ptr<serve::PolicyRuntime>>()>;

/// Called after each episode, from the caller's thread.
using EpisodeListener = std::function<void(const RolloutEpisode& episode, std::int64_t done, std::int64_t all)>;

/// Errors: those of the factory and of Environment::create(), FieldMissing (a camera of the policy that the scene has
/// not), ShapeMismatch (a policy of another action width), NotFinite, DeviceFailed, Cancelled.
[[nodiscard]] Result<RolloutReport> runRollouts(const std::string& name, const RuntimeFactory& factory,
                                                const RolloutOptions& options, const JobContext& job,
                                                const EpisodeListener& listener = {});

/// Scene seed of an episode: a function of the options' seed, the task and the index.
[[nodiscard]] std::uint64_t rolloutSeed(std::uint64_t seed, const std::string& task, std::int64_t index);

/// Two policies on the same episodes.
struct Comparison {
    std::string first;
    std::string second;
    struct Row {
        std::string task; ///< "all" in the last row.
        PairedCounts counts;
        double p = 1;         ///< Exact McNemar.
        double pAdjusted = 1; ///< Holm over the tasks; the row "all" is not corrected.
    };
    std::vector<Row> rows;
};

/// Errors: FieldInvalid (other seeds, tasks or episodes).
[[nodiscard]] Result<Comparison> comparePaired(const RolloutReport& first, const RolloutReport& second);

/// Table cells: one row a policy, one column a task with "17/20 = 85 % [64, 95]", then the total and the mean.
[[nodiscard]] std::vector<std::vector<std::string>> successTable(const std::vector<RolloutReport>& reports);
/// Table cells of a comparison, with counts and p values.
[[nodiscard]] std::vector<std::vector<std::string>> comparisonTable(const Comparison& comparison);

} // namespace rankwise::eval
