// The loop itself: batches in, optimiser steps, and everything that is written on the way. Knows policy, method and
// batches only by their interfaces; trainer.h puts the parts together from a configuration.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"
#include "backend/train/checkpoint.h"
#include "backend/train/flow_noise.h"
#include "backend/train/localization_head.h"
#include "backend/train/optimizer.h"
#include "backend/train/run_directory.h"
#include "backend/train/train_config.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace rankwise::train {

/// Where preprocessed batches come from. Thread: the loop's.
class BatchSource {
public:
    virtual ~BatchSource() = default;

    /// Errors: those of reading and preprocessing, Cancelled.
    [[nodiscard]] virtual Result<models::PolicyBatch> next(const JobContext& job) = 0;
    /// Where the batch after the last one begins, for a checkpoint.
    [[nodiscard]] virtual Json position() const = 0;
    /// Goes on from a position(). Errors: FieldInvalid, FieldMissing.
    [[nodiscard]] virtual Result<void> seek(const Json& position) = 0;
};

/// One optimiser step, as observers see it.
struct StepRecord {
    std::int64_t step = 0; ///< Steps finished, from 1.
    std::int64_t total = 0;
    double loss = 0;                         ///< Mean over the backward passes of the step.
    double totalLoss = 0;                    ///< With the weighted auxiliary losses.
    std::map<std::string, double> auxiliary; ///< Unweighted.
    double lr = 0;
    double gradientNorm = 0; ///< Before clipping.
    double samplesPerSecond = 0;
    double loadSeconds = 0;    ///< Waiting for batches, since the last record.
    double computeSeconds = 0; ///< Since the last record.
    double etaSeconds = -1;
};

/// Called in the loop's thread; empty ones are skipped.
struct TrainObserver {
    std::function<void(const StepRecord& record)> step; ///< At every log_every-th step.
    std::function<void(std::int64_t step, const std::vector<adapters::LayerDigest>& layers)> digest;
    std::function<void(const std::string& text)> message;
};

enum class TrainEnd : std::uint8_t { Finished, Stopped };

struct TrainSummary {
    TrainEnd end = TrainEnd::Finished;
    std::int64_t step = 0; ///< Steps finished.
    std::int64_t resumedFrom = -1;
    double finalLoss = 0;             ///< Of the last step.
    double seconds = 0;               ///< Of this start.
    std::filesystem::path checkpoint; ///< The last one written; empty when none was.
};

/// What the loop works on. Everything is kept by the caller; pointers may be null where said.
struct LoopParts {
    models::Policy& policy;
    adapters::AdaptationMethod& method; ///< Attached.
    AdamW& optimizer;                   ///< Over method.trainable().
    BatchSource& batches;
    const LocalizationHead* localization = nullptr; ///< Null: no such loss. Its parameters are the optimiser's too.
    RunWriter* run = nullptr; ///< Null: nothing is written (tests, one-batch overfit).
    /// Receives the numbers of logged steps by name, for TensorBoard; may be empty.
    std::function<Result<void>(std::int64_t step, const std::map<std::string, double>& scalars)> board;
    std::string baseModel; ///< For adapter_config.json.
    std::string configDigest;
    TrainObserver observer;
    /// Adds what a checkpoint needs to be used elsewhere (processors) to its folder; may be empty.
    CheckpointExtras checkpointExtras;
    /// Ends as if stopped after this many steps; the schedule still sees config.steps. Negative: does not.
    std::int64_t stopAfter = -1;
    /// Replaces drawFlow(), for comparisons with recorded noise.
    std::function<FlowDraw(std::int64_t step, std::int64_t pass, std::int64_t batch)> draw;
    /// Averages gradients over processes, after the backward passes and before clipping.
    std::function<Result<void>(AdamW& optimizer)> reduceGradients;
};

/// Runs from step `start` (0, or that of a restored checkpoint) to config.steps.
///
/// Between two steps it answers requests and looks at `job`; a stop writes a checkpoint and ends with
/// TrainEnd::Stopped. A loss or gradient that is not finite ends the run with NotFinite and writes no checkpoint of it.
/// Errors: NotFinite (subject: the layer or tensor), those of the batch source, DiskFull, IoFailed.
[[nodiscard]] Result<TrainSummary> runLoop(const LoopParts& parts, const TrainConfig& config, TrainerState start,
                                           const JobContext& job);

/// Loss and gradients of `config.accumulation` batches are collected; the optimiser does not step. For pre-flight.
struct PassResult {
    double loss = 0;
    double totalLoss = 0;
    std::map<std::string, double> auxiliary;
};
[[nodiscard]] PassResult backwardPass(const LoopParts& parts, const models::PolicyBatch& batch, const FlowDraw& draw,
                                      const TrainConfig& config, const adapters::TrainProgress& progress,
                                      std::int64_t pass);

} // namespace rankwise::train
