// Making policies: from a checkpoint folder, from a configuration and weights, or with random weights; and saving
// them as lerobot lays checkpoints out. A policy type is a file of its own and one line in policy_registry.cpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::io {
struct PolicyConfig;
}

namespace rankwise::models {

/// Dtypes of the weights in memory or on disk.
enum class Precision : std::uint8_t {
    F32,    ///< Everything f32.
    Mixed,  ///< As lerobot builds the policy from a BF16 backbone: bf16, with heads and what the reference adds in f32.
    Stored, ///< Loading: as in the file. Saving: as in memory.
};

struct PolicyOptions {
    Precision precision = Precision::F32;
    std::string device = "cpu"; ///< As torch spells it: "cpu", "cuda:0".
};

/// Reads `folder`: config.json, vlm_config.json where the type needs one, model.safetensors.
///
/// Names are strict, after the legacy layouts are understood (`_orig_mod.`, no `model.` prefix, normalisation
/// buffers inside the weights, which are left to the processors). Weights of the file's own dtype stay mapped.
/// Errors: those of the readers, Unsupported (type), TensorNotFound and ShapeMismatch (all names in the message),
/// DataInvalid (unexpected tensors), Cancelled. Memory: the weights once.
[[nodiscard]] Result<std::unique_ptr<Policy>> loadPolicy(const std::filesystem::path& folder,
                                                         const PolicyOptions& options = {}, const JobContext& job = {});
[[nodiscard]] Result<std::unique_ptr<Policy>> loadPolicy(const io::PolicyConfig& config,
                                                         const std::filesystem::path& weights,
                                                         const PolicyOptions& options = {}, const JobContext& job = {});

/// Random weights for training from scratch; the same seed gives the same weights on every machine.
/// Linear layers N(0, (gain/√in)²) with gain 0.8, halved where they end a residual branch and 0.1 for the
/// action output; embeddings N(0, 1/width); norms 1, biases 0.
[[nodiscard]] Result<std::unique_ptr<Policy>> createPolicy(const io::PolicyConfig& config, std::uint64_t seed,
                                                           const PolicyOptions& options = {});

/// Writes config.json (and vlm_config.json) and model.safetensors into an existing folder.
/// Errors: IoFailed, DiskFull, Cancelled.
[[nodiscard]] Result<void> savePolicy(const Policy& policy, const std::filesystem::path& folder,
                                      Precision precision = Precision::Stored, const JobContext& job = {});

struct WeightInfo {
    std::string name;
    std::vector<std::int64_t> shape;
    bool wide = false; ///< f32 also with Precision::Mixed.
    bool trainableByConfig = true;
};

/// The tensors that a checkpoint of this configuration holds, in its order, without making them.
/// Errors: those of createPolicy().
[[nodiscard]] Result<std::vector<WeightInfo>> describeWeights(const io::PolicyConfig& config);

/// Names of the policy types that can be made, sorted.
[[nodiscard]] std::vector<std::string> policyTypes();

} // namespace rankwise::models
