// A policy ready to act: weights, adapter and processors behind one call, and the queue of actions of an episode.
//
// Notation: B observations at once, T actions of a chunk, A action width of the robot.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"
#include "backend/models/policy_registry.h"
#include "backend/models/processor.h"

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::serve {

struct RuntimeOptions {
    /// A checkpoint folder, or the checkpoint of a fine-tune run (a folder with adapter_config.json), whose base is
    /// then found by its base_model_name_or_path.
    std::filesystem::path policy;
    std::filesystem::path adapter; ///< On top of `policy`; empty: none, or what `policy` itself is.
    std::filesystem::path
        processor; ///< Folder of the pipelines; empty: the adapter's where it has them, else the policy's.
    std::filesystem::path tokenizer; ///< Empty: the processor's folder, the policy's.
    models::PolicyOptions model;
    bool merge = true; ///< Put the update into the weights where the method allows it; changes only speed and rounding.
};

/// One loaded policy. Thread: one at a time.
class PolicyRuntime {
public:
    /// Errors: those of loading policy, adapter and processor; FileNotFound (no base for an adapter).
    [[nodiscard]] static Result<std::unique_ptr<PolicyRuntime>>
    load(const RuntimeOptions& options, std::vector<Warning>& warnings, const JobContext& job = {});
    /// From parts; `method` may be null and is attached already.
    PolicyRuntime(std::unique_ptr<models::Policy> policy, models::PolicyProcessor processor,
                  std::unique_ptr<adapters::AdaptationMethod> method = nullptr);
    ~PolicyRuntime();
    PolicyRuntime(const PolicyRuntime&) = delete;
    PolicyRuntime& operator=(const PolicyRuntime&) = delete;

    /// Chunk of actions in robot units, f32 [B, T, A], from raw observations and noise [B, T, padded width].
    /// `flowSteps` <= 0 takes the configuration's. Errors: those of the processor.
    [[nodiscard]] Result<at::Tensor> act(models::Transition observation, const at::Tensor& noise,
                                         std::int64_t flowSteps = 0);
    /// Noise for act() by a seed.
    [[nodiscard]] at::Tensor noise(std::uint64_t seed, std::int64_t batch = 1) const;

    [[nodiscard]] models::Policy& policy() { return *m_policy; }
    [[nodiscard]] const models::Policy& policy() const { return *m_policy; }
    [[nodiscard]] const models::PolicyProcessor& processor() const { return m_processor; }
    [[nodiscard]] adapters::AdaptationMethod* method()
    {
        return m_method.get();
    } ///< Null when there is none or it was merged.

private:
    std::unique_ptr<models::Policy> m_policy;
    models::PolicyProcessor m_processor;
    std::unique_ptr<adapters::AdaptationMethod> m_method;
};

/// The actions of one episode: asks for a chunk when the queue is empty, runs the first `actionSteps` of it, asks
/// again.
///
/// The noise of the n-th chunk depends on the seed and n alone, so that two policies that act in the same scene draw
/// the same noise. Thread: one at a time.
class ActionQueue {
public:
    /// `actionSteps` <= 0 takes the policy's n_action_steps; more than a chunk is cut to the chunk.
    ActionQueue(PolicyRuntime& runtime, std::uint64_t seed, std::int64_t actionSteps = 0, std::int64_t flowSteps = 0);

    /// The next action [A], f32. `observe` is called only when a chunk is needed.
    [[nodiscard]] Result<std::vector<float>> next(const std::function<Result<models::Transition>()>& observe);

    [[nodiscard]] std::int64_t chunks() const { return m_chunks; } ///< Asked for so far.
    /// `listener` gets every chunk [1, T, A] whole, before its first action is returned.
    void listen(std::function<void(const at::Tensor& chunk)> listener) { m_listener = std::move(listener); }

private:
    PolicyRuntime& m_runtime;
    std::uint64_t m_seed;
    std::int64_t m_actionSteps;
    std::int64_t m_flowSteps;
    std::int64_t m_chunks = 0;
    std::deque<std::vector<float>> m_queue;
    std::function<void(const at::Tensor&)> m_listener;
};

} // namespace rankwise::serve
