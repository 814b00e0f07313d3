// How every number of a dataset's states and actions is spread, exactly, beside what stats.json says and what a
// checkpoint normalises by.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/dataset_session.h"

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::bridge {

/// One number of a feature over all frames. Units are the dataset's.
struct DimensionStatistics {
    static constexpr std::size_t kBins = 40;
    std::string feature;
    std::string name; ///< "J1", or its position.
    double min = 0, q01 = 0, mean = 0, std = 0, q99 = 0, max = 0;
    std::int64_t notFinite = 0;                  ///< Frames left out of the rest.
    std::array<double, kBins> histogram {};      ///< Frames between min and max.
    std::optional<double> storedMean, storedStd; ///< Of meta/stats.json.
    std::optional<double> checkpointMean, checkpointStd;
    std::optional<double> checkpointLow, checkpointHigh; ///< Its 1 % and 99 % quantiles, else minimum and maximum.
    double outside = 0;                                  ///< Share of the frames outside of those.
    bool still = false;                                  ///< Hardly moves: a normalisation would blow up its noise.
    bool storedDiffers = false;                          ///< stats.json is not of these frames.
    bool scaleDiffers = false; ///< Other units than the checkpoint's, by the pre-flight's limits.
    std::string hint;          ///< What the factor between the scales suggests.
};

/// `checkpoint` empty: without one. Errors: Cancelled. A checkpoint without statistics just adds none. Thread: any.
[[nodiscard]] Result<std::vector<DimensionStatistics>>
datasetStatistics(const OpenedDataset& dataset, const std::filesystem::path& checkpoint, const JobContext& job);

} // namespace rankwise::bridge
