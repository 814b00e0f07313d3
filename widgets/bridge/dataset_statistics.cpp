// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/dataset_statistics.h"

#include "backend/data/statistics.h"
#include "widgets/bridge/snapshot.h"
#include "widgets/bridge/text.h"

#include <algorithm>
#include <cmath>
#include <system_error>

namespace rankwise::bridge {

namespace fs = std::filesystem;

namespace {

constexpr double kStill = 1e-3;       ///< Deviation below which a number hardly moves.
constexpr double kScaleFactor = 20;   ///< As in the pre-flight.
constexpr double kShift = 20;         ///< Deviations between the means.
constexpr double kStoredError = 0.02; ///< Of a deviation: more is no rounding.

/// The file in which lerobot's processors keep what they normalise by; empty when there is none.
fs::path normalizerOf(const fs::path& checkpoint)
{
    std::error_code error;
    for (fs::directory_iterator entry(checkpoint, error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (name.starts_with("policy_preprocessor") && name.ends_with("normalizer_processor.safetensors")) {
            return entry->path();
        }
    }
    return {};
}

std::optional<double> entryOf(const fs::path& file, const std::string& name, std::size_t index)
{
    if (file.empty()) {
        return std::nullopt;
    }
    const auto values = tensorValues(file, name);
    return values && index < values->size() ? std::optional((*values)[index]) : std::nullopt;
}

void compareStored(DimensionStatistics& d, const data::DatasetStatistics& stored, std::size_t index)
{
    const auto found = stored.find(d.feature);
    if (found == stored.end() || index >= found->second.mean.size() || index >= found->second.std.size()) {
        return;
    }
    d.storedMean = found->second.mean[index];
    d.storedStd = found->second.std[index];
    const double scale = std::max(d.std, 1e-9);
    d.storedDiffers = !(std::abs(*d.storedMean - d.mean) < kStoredError * scale + 1e-6)
        || !(std::abs(*d.storedStd - d.std) < kStoredError * scale + 1e-6);
}

void compareCheckpoint(DimensionStatistics& d, const fs::path& file, std::size_t index,
                       const std::vector<double>& values)
{
    const auto entry = [&](const char* what) { return entryOf(file, d.feature + "." + what, index); };
    d.checkpointMean = entry("mean");
    d.checkpointStd = entry("std");
    d.checkpointLow = entry("q01");
    d.checkpointHigh = entry("q99");
    if (!d.checkpointLow || !d.checkpointHigh) {
        d.checkpointLow = entry("min");
        d.checkpointHigh = entry("max");
    }
    if (d.checkpointLow && d.checkpointHigh && !values.empty()) {
        const auto out = std::count_if(values.begin(), values.end(),
                                       [&](double v) { return v < *d.checkpointLow || v > *d.checkpointHigh; });
        d.outside = static_cast<double>(out) / static_cast<double>(values.size());
    }
    if (d.checkpointMean && d.checkpointStd) {
        const double scale = std::max(*d.checkpointStd, 1e-8);
        const double ratio = std::max(d.std, 1e-12) / scale;
        d.scaleDiffers = ratio > kScaleFactor || (ratio < 1 / (2.5 * kScaleFactor) && !d.still)
            || std::abs(d.mean - *d.checkpointMean) / scale > kShift;
        d.hint = d.scaleDiffers ? data::unitHint(ratio) : std::string();
    }
}

void fillHistogram(DimensionStatistics& d, const std::vector<double>& values)
{
    const double width = (d.max - d.min) / static_cast<double>(DimensionStatistics::kBins);
    for (const double v : values) {
        const auto bin = width > 0 ? static_cast<std::size_t>(std::max(0.0, (v - d.min) / width)) : 0;
        d.histogram[std::min(bin, DimensionStatistics::kBins - 1)] += 1;
    }
}

} // namespace

Result<std::vector<DimensionStatistics>> datasetStatistics(const OpenedDataset& dataset, const fs::path& checkpoint,
                                                           const JobContext& job)
{
    const fs::path normalizer = checkpoint.empty() ? fs::path() : normalizerOf(checkpoint);
    std::vector<DimensionStatistics> all;
    for (const std::string& key : { dataset.stateKey, dataset.actionKey }) {
        const data::Column* column = key.empty() ? nullptr : dataset.reader->column(key);
        const auto width = column == nullptr ? 0 : static_cast<std::size_t>(column->width);
        const data::Feature* feature = dataset.reader->info().find(key);
        for (std::size_t k = 0; k < width; ++k) {
            if (job.stopped()) {
                return fail(Errc::Cancelled, "stopped");
            }
            job.report(static_cast<double>(k) / static_cast<double>(width), key);
            DimensionStatistics d;
            d.feature = key;
            d.name = feature != nullptr && k < feature->names.size() ? feature->names[k] : std::to_string(k);
            std::vector<double> values = columnValues(*column, k);
            const auto count = static_cast<std::int64_t>(values.size());
            std::erase_if(values, [](double v) { return !std::isfinite(v); });
            d.notFinite = count - static_cast<std::int64_t>(values.size());
            if (!values.empty()) {
                const data::FeatureStatistics s = data::statisticsOf(values, 1, data::QuantileRule::Exact);
                d.min = s.min[0];
                d.q01 = s.q01[0];
                d.mean = s.mean[0];
                d.std = s.std[0];
                d.q99 = s.q99[0];
                d.max = s.max[0];
                d.still = d.std < kStill;
                fillHistogram(d, values);
            }
            compareStored(d, dataset.reader->statistics(), k);
            compareCheckpoint(d, normalizer, k, values);
            all.push_back(std::move(d));
        }
    }
    return all;
}

} // namespace rankwise::bridge
