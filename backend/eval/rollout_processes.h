// Rollouts on several processes: each worker has a policy and a simulator of its own, so that one software rasterizer
// a process does not bound them, and so that a crash costs one episode and not the evaluation.
//
// A worker is a program of the caller's that calls serveRollouts(kRolloutChannel). It gets whole episodes to run and
// answers with their outcome; which worker runs which changes nothing in the results. Workers end when their channel
// closes, so none outlives its evaluation, however that ends; Ctrl-C is for the caller alone.
//
// The channel is private to one build of one program and carries, each way, messages of 8 bytes little-endian length
// and one MessagePack map. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/eval/rollout.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace rankwise::eval {

/// A policy as workers load it: see serve::RuntimeOptions.
struct RolloutPolicy {
    std::filesystem::path policy;
    std::filesystem::path adapter; ///< Empty: none.
};

/// File descriptor on which a worker finds its channel.
inline constexpr int kRolloutChannel = 3;

/// Keeps its workers from one run to the next. Thread: one at a time.
class RolloutProcesses {
public:
    /// `command`: the worker's program and its arguments. Workers are started when there is something to do.
    RolloutProcesses(std::vector<std::string> command, int processes);
    ~RolloutProcesses(); ///< Ends the workers.
    RolloutProcesses(const RolloutProcesses&) = delete;
    RolloutProcesses& operator=(const RolloutProcesses&) = delete;

    /// As runRollouts(). `finished`: episodes that need not be run again, e.g. of an evaluation that was stopped; those
    /// that are not of this evaluation are ignored.
    ///
    /// An episode whose worker dies is run once more by a new one. `listener` is called in the order in which episodes
    /// end.
    /// Errors: those of loading the policy and of the episodes; FileNotFound, IoFailed (no worker can be started),
    /// DeviceFailed (a worker died twice in the same episode; names it), Cancelled (the workers are ended at once).
    [[nodiscard]] Result<RolloutReport> run(const std::string& name, const RolloutPolicy& policy,
                                            const RolloutOptions& options, const JobContext& job,
                                            const EpisodeListener& listener = {},
                                            const std::vector<RolloutEpisode>& finished = {});

    /// Of the workers that run now; for tests.
    [[nodiscard]] std::vector<int> processIds() const;

private:
    struct Worker;
    struct Evaluation;

    [[nodiscard]] Result<void> start(Worker& worker);
    static void end(Worker& worker);
    [[nodiscard]] Result<void> assign(Worker& worker, Evaluation& evaluation);
    [[nodiscard]] Result<void> answered(Worker& worker, Evaluation& evaluation);
    [[nodiscard]] Result<void> lost(Worker& worker, Evaluation& evaluation);
    [[nodiscard]] Result<void> spread(Evaluation& evaluation, const JobContext& job);

    std::vector<std::string> m_command;
    std::vector<Worker> m_workers;
    std::uint64_t m_runs = 0;
};

/// A worker's main loop. Returns the exit code of the process: 0 when the channel was closed.
[[nodiscard]] int serveRollouts(int channel);

} // namespace rankwise::eval
