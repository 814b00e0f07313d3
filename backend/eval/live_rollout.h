// A policy on the practice arm in real time, told step by step: what `rankwise rollout` streams to a window.
//
// The episode of an index is the one that runRollouts() runs with the same seed: same scene, same noise, same actions.
// Simulated time waits while the policy computes a chunk; how long that took is told with the chunk.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/eval/rollout.h"
#include "backend/serve/policy_runtime.h"
#include "backend/sim/rollout_stream.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace rankwise::eval {

struct LiveOptions {
    RolloutOptions rollout; ///< Its first task, seed, action steps, flow steps, time limit, arm and cameras count.
    std::int64_t index = 0; ///< Of the first episode.
    std::string name;       ///< Of the policy, for people.
    int imageSize = 160;    ///< Of the pictures that are told, pixels a side; 0: none. The policy sees its own.
    bool paused = false;    ///< Waits for the first request.
    double speed = 1;       ///< Simulated seconds a second of the wall; 0: as fast as it goes.
};

struct LiveChannel {
    /// Called in order, from the calling thread of run(); false ends the run.
    std::function<bool(const sim::StreamMessage&)> send;
    /// What came since the last call, without waiting.
    std::function<std::vector<sim::StreamRequest>()> requests;
};

/// Until a request to stop, a false from `send`, or `job` is stopped (which is no error).
/// Errors: FieldInvalid (task), those of the scene, the cameras and the policy.
[[nodiscard]] Result<void> runLive(serve::PolicyRuntime& runtime, const LiveOptions& options,
                                   const LiveChannel& channel, const JobContext& job);

} // namespace rankwise::eval
