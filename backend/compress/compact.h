// Compaction of a LoRA-SP bank: runs a calibration set through the adapted policy, leaves out the vectors that no token
// needed, and measures what that changes.
//
// The calibration set is sampled as on the robot: whole chunks from noise, so that the action expert is seen at every
// denoising time. What is left out, and the new energy targets, are those of LoraSpMethod::saveCompact().
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace rankwise::compress {

struct CompactOptions {
    double leastShare = 0.02;  ///< A vector stays if one token of the calibration gave it this share of its energy.
    std::int64_t frames = 128; ///< Of the dataset, evenly spread over it; all where it has fewer.
    std::int64_t batch = 16;   ///< Changes only speed and memory.
    std::uint64_t seed = 0;    ///< Of the noise.
    std::map<std::string, std::string> rename; ///< Dataset's keys to the policy's, as in a training configuration.
};

/// Compacts the LoRA-SP folder `adapter` of `policy` into the new folder `output`: the adapter's two files, its
/// pipelines where it has them, and compaction_report.json, the receipt that is also returned:
///
///     {"format": "rankwise_compaction", "version": 1, "input": {file: sha256}, "policy", "dataset", "frames", "seed",
///      "least_share", "parameters_before", "parameters_after", "vectors_before", "vectors_after",
///      "actions": {"rms_difference", "largest_difference", "rms"},          normalised actions, before and after
///      "layers": [{"path", "group", "depth", "vectors_before", "vectors_after", "eta_before", "eta_after",
///                  "rank_mean", "tokens"}],
///      "scores": [{"path", "group", "k", "eta", "scores"}]}                 one typical token of each module group
///
/// Errors: Unsupported (no LoRA-SP adapter), those of loading policy, adapter and dataset; FieldMissing (a dataset
///         without the policy's inputs), FieldInvalid (options), AlreadyExists (output), IoFailed, DiskFull, Cancelled.
[[nodiscard]] Result<Json> compactAdapter(const std::filesystem::path& policy, const std::filesystem::path& adapter,
                                          const std::filesystem::path& dataset, const std::filesystem::path& output,
                                          const CompactOptions& options, const JobContext& job = {});

} // namespace rankwise::compress
