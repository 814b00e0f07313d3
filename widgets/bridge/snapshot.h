// Reads the snapshot files of a run: per-layer histograms of ranks, shares of score energy and routing.
// Tensors are named "<layer path>.<what>"; sums are over the valid tokens since the statistics were reset.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace rankwise::bridge {

/// Every number of one layer of a snapshot, as double. R is the size of the bank, m the number of blocks or experts.
struct LayerSnapshot {
    std::vector<double> rankHistogram; ///< [R+1] tokens with active rank 0 … R
    std::vector<double> kept;          ///< [R] tokens that kept a direction
    std::vector<double> share;         ///< [R] summed share of a direction in the squared scores
    std::vector<double> gates;         ///< [m] summed gates
    double tokens = 0;
    double sampled = 0; ///< Tokens that `kept` and `share` are of; a run may take every eighth.

    [[nodiscard]] double meanRank() const;
    /// Mean shares, largest first.
    [[nodiscard]] std::vector<double> sortedShares() const;
};

/// Layers of a snapshot by path. Also reads "<path>.singular_values" and "<path>.base_singular_values" where a spectrum
/// was stored.
struct Snapshot {
    std::map<std::string, LayerSnapshot> layers;
    std::map<std::string, std::map<std::string, std::vector<double>>> spectra; ///< By path, then by name.
};

/// Errors: FileNotFound, those of parseSafetensorsHeader(), Cancelled. Thread: any.
[[nodiscard]] Result<Snapshot> readSnapshot(const std::filesystem::path& file, const JobContext& job);

/// All elements of a tensor as double. Errors: Unsupported (a type without numbers), TensorNotFound.
/// Bytes may be unaligned.
[[nodiscard]] Result<std::vector<double>> tensorValues(const std::filesystem::path& file, const std::string& name);

} // namespace rankwise::bridge
