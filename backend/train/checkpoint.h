// Checkpoints of a run: the adapter as others read it, and all that an exact resume needs.
//
// Folder: adapter_config.json and adapter_model.safetensors (the averaged weights where the run keeps an average),
// trainer.safetensors (AdamW::state() under its own names, the method's state under "method.<name>"), trainer.json
// ({"version", "step", "position", "settings", "parameters", …}), manifest.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/data/run_directory.h"
#include "backend/train/optimizer.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace rankwise::train {

/// What a checkpoint holds besides tensors.
struct TrainerState {
    std::int64_t step = 0;                  ///< Optimiser steps finished.
    Json position = Json::object();         ///< Of the batch source.
    std::map<std::string, double> settings; ///< Parameters of the method that requests changed.
    std::string configDigest;               ///< Of the fields that change results.
    std::int64_t threads = 0;               ///< Of torch; another count may change the last bit.
};

/// Adds files to a checkpoint's folder before it appears.
using CheckpointExtras = std::function<Result<void>(const std::filesystem::path& folder)>;

/// Writes checkpoints/step-<step>, whole or not at all, and then removes the oldest ones beyond `keep` (0: keeps all).
/// `baseModel` goes into adapter_config.json. Errors: those of AdaptationMethod::save(), DiskFull, IoFailed, Cancelled.
[[nodiscard]] Result<std::filesystem::path> writeCheckpoint(const data::RunPaths& paths,
                                                            const adapters::AdaptationMethod& method, AdamW& optimizer,
                                                            const TrainerState& state, const std::string& baseModel,
                                                            std::int64_t keep, const CheckpointExtras& extras,
                                                            const JobContext& job);

/// Puts a checkpoint into the attached method and its optimiser.
/// Errors: those of the readers, FieldMissing, FieldInvalid, TensorNotFound, ShapeMismatch.
[[nodiscard]] Result<TrainerState> restoreCheckpoint(const std::filesystem::path& folder,
                                                     adapters::AdaptationMethod& method, AdamW& optimizer);

} // namespace rankwise::train
