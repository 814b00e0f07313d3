// Statistics of dataset columns: exact, and laid out as lerobot reads them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace rankwise::data {

class DatasetReader;

/// One entry an element of the feature (cameras: one a channel, in [0, 1]).
struct FeatureStatistics {
    std::vector<double> min, max, mean, std;
    std::vector<double> q01, q10, q50, q90, q99; ///< All empty where the dataset carries none (v2.1).
    std::int64_t count = 0;                      ///< Frames (cameras: sampled frames).
    bool camera = false;                         ///< Written as [channels, 1, 1].

    [[nodiscard]] bool hasQuantiles() const { return !q01.empty(); }
};

using DatasetStatistics = std::map<std::string, FeatureStatistics>;

/// How quantiles are found. Exact: order statistics with linear interpolation, as numpy.quantile.
/// Histogram: lerobot's 5000 bins between minimum and maximum, its per-episode rule.
enum class QuantileRule : std::uint8_t { Exact, Histogram };

/// Population statistics of `rows` × `width` values, row-major. With `rows` 0 everything is empty.
/// Values that are not finite are left out, and `count` says how many rows are whole.
[[nodiscard]] FeatureStatistics statisticsOf(std::span<const double> values, std::int64_t width, QuantileRule rule);

/// Counts of the 256 levels of each channel; merging them is exact.
class ChannelHistogram {
public:
    explicit ChannelHistogram(std::int64_t channels = 3);

    /// Adds one picture, HWC uint8, with lerobot's stride (see pictureStride()).
    void addPicture(std::span<const std::uint8_t> pixels, std::int64_t height, std::int64_t width);
    void merge(const ChannelHistogram& other);
    void addCounts(std::span<const std::uint64_t> counts, std::int64_t frames);

    [[nodiscard]] FeatureStatistics statistics(QuantileRule rule) const;
    [[nodiscard]] std::int64_t channels() const { return m_channels; }
    [[nodiscard]] std::int64_t frames() const { return m_frames; }
    /// [channels, 256]
    [[nodiscard]] const std::vector<std::uint64_t>& counts() const { return m_counts; }

private:
    std::int64_t m_channels;
    std::int64_t m_frames = 0;
    std::vector<std::uint64_t> m_counts;
};

/// Every how many-th row and column of a picture enters the statistics.
[[nodiscard]] std::int64_t pictureStride(std::int64_t height, std::int64_t width);

/// Frames of an episode of `length` whose pictures enter the statistics: evenly spaced, ascending.
[[nodiscard]] std::vector<std::int64_t> sampledFrames(std::int64_t length);

/// Count-weighted mean, pooled variance, and count-weighted quantiles: what lerobot 0.4 makes of episodes.
[[nodiscard]] FeatureStatistics aggregate(std::span<const FeatureStatistics> parts);

struct StatisticsOptions {
    QuantileRule rule = QuantileRule::Exact;
    bool cameras = true; ///< Decodes the sampled frames of every episode.
};

/// Statistics of the whole dataset, read in one pass a column. Memory: one column at a time.
/// Errors: those of reading, Cancelled.
[[nodiscard]] Result<DatasetStatistics> computeStatistics(const DatasetReader& reader, const StatisticsOptions& options,
                                                          const JobContext& job = {});
/// The same for one episode.
[[nodiscard]] Result<DatasetStatistics> computeEpisodeStatistics(const DatasetReader& reader, std::int64_t episode,
                                                                 const StatisticsOptions& options,
                                                                 const JobContext& job = {});

/// What a factor between a dataset's deviations and a checkpoint's suggests, in brackets; empty when nothing.
[[nodiscard]] std::string unitHint(double ratio);

/// Parses the object of stats.json. What is not usable is left out with a warning.
[[nodiscard]] DatasetStatistics statisticsFromJson(const Json& json, const std::string& subject,
                                                   std::vector<Warning>& warnings);
[[nodiscard]] Json statisticsToJson(const DatasetStatistics& statistics);

} // namespace rankwise::data
