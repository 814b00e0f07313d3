// Statistics of dataset columns.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace {

constexpr std::array<double, 5> kQuantiles { 0.01, 0.10, 0.50, 0.90, 0.99 };
constexpr std::size_t kBins = 5000;

std::array<std::vector<double>*, 5> quantilesOf(FeatureStatistics& s)
{
    return { &s.q01, &s.q10, &s.q50, &s.q90, &s.q99 };
}
std::array<const std::vector<double>*, 5> quantilesOf(const FeatureStatistics& s)
{
    return { &s.q01, &s.q10, &s.q50, &s.q90, &s.q99 };
}

/// Order statistics with linear interpolation (numpy's default). Reorders `values`.
std::array<double, 5> exactQuantiles(std::span<double> values)
{
    std::array<double, 5> result {};
    std::size_t sortedTo = 0; // everything before is no greater than what follows
    for (std::size_t i = 0; i < kQuantiles.size(); ++i) {
        const double position = kQuantiles[i] * static_cast<double>(values.size() - 1);
        const auto low = static_cast<std::size_t>(position);
        const double fraction = position - static_cast<double>(low);
        const auto at = values.begin() + static_cast<std::ptrdiff_t>(low);
        std::nth_element(values.begin() + static_cast<std::ptrdiff_t>(std::min(sortedTo, low)), at, values.end());
        const double below = *at;
        double above = below;
        if (fraction > 0 && low + 1 < values.size()) {
            above = *std::min_element(at + 1, values.end());
        }
        result[i] = below + (above - below) * fraction;
        sortedTo = low;
    }
    return result;
}

/// A value and how often it occurs, ascending.
struct Level {
    double value;
    double count;
};

/// The quantiles of lerobot's histogram: 5000 equal bins over [min - 1e-10, max + 1e-10], linear inside a bin.
std::array<double, 5> histogramQuantiles(std::span<const Level> levels, double min, double max, double total)
{
    const double low = min - 1e-10;
    const double step = ((max + 1e-10) - low) / static_cast<double>(kBins);
    const auto edge = [&](std::size_t i) { return i == kBins ? max + 1e-10 : low + step * static_cast<double>(i); };
    std::vector<double> bins(kBins, 0.0);
    for (const Level& level : levels) {
        auto bin = step > 0 ? static_cast<std::int64_t>((level.value - low) / step) : 0;
        bin = std::clamp<std::int64_t>(bin, 0, static_cast<std::int64_t>(kBins) - 1);
        // The quotient may be off by one bin through rounding: the edges decide.
        while (bin > 0 && level.value < edge(static_cast<std::size_t>(bin))) {
            --bin;
        }
        while (bin + 1 < static_cast<std::int64_t>(kBins) && level.value >= edge(static_cast<std::size_t>(bin) + 1)) {
            ++bin;
        }
        bins[static_cast<std::size_t>(bin)] += level.count;
    }
    std::array<double, 5> result {};
    for (std::size_t i = 0; i < kQuantiles.size(); ++i) {
        const double target = kQuantiles[i] * total;
        double before = 0;
        std::size_t bin = 0;
        while (bin < kBins && before + bins[bin] < target) {
            before += bins[bin++];
        }
        if (bin == 0) {
            result[i] = edge(0);
        } else if (bin >= kBins) {
            result[i] = edge(kBins);
        } else if (bins[bin] == 0) {
            result[i] = edge(bin);
        } else {
            result[i] = edge(bin) + (target - before) / bins[bin] * (edge(bin + 1) - edge(bin));
        }
    }
    return result;
}

void appendMoments(FeatureStatistics& s, double min, double max, double mean, double variance,
                   const std::array<double, 5>& quantiles)
{
    s.min.push_back(min);
    s.max.push_back(max);
    s.mean.push_back(mean);
    s.std.push_back(std::sqrt(std::max(0.0, variance)));
    const auto targets = quantilesOf(s);
    for (std::size_t i = 0; i < targets.size(); ++i) {
        targets[i]->push_back(quantiles[i]);
    }
}

} // namespace

FeatureStatistics statisticsOf(std::span<const double> values, std::int64_t width, QuantileRule rule)
{
    FeatureStatistics result;
    RW_CHECK(width > 0 && values.size() % static_cast<std::size_t>(width) == 0);
    const auto columns = static_cast<std::size_t>(width);
    const std::size_t rows = values.size() / columns;
    if (rows == 0) {
        return result;
    }
    std::size_t least = rows;
    std::vector<double> column;
    for (std::size_t d = 0; d < columns; ++d) {
        column.clear();
        for (std::size_t r = 0; r < rows; ++r) {
            const double value = values[r * columns + d];
            if (std::isfinite(value)) {
                column.push_back(value);
            }
        }
        least = std::min(least, column.size());
        if (column.empty()) {
            const double nan = std::numeric_limits<double>::quiet_NaN();
            appendMoments(result, nan, nan, nan, nan, { nan, nan, nan, nan, nan });
            continue;
        }
        // Two passes: large offsets (time stamps, counters) must not eat the variance.
        const auto count = static_cast<double>(column.size());
        double sum = 0;
        for (const double v : column) {
            sum += v;
        }
        const double mean = sum / count;
        double squares = 0;
        for (const double v : column) {
            squares += (v - mean) * (v - mean);
        }
        const auto [min, max] = std::minmax_element(column.begin(), column.end());
        const double low = *min;
        const double high = *max;
        std::array<double, 5> quantiles {};
        if (column.size() == 1) {
            quantiles.fill(mean);
        } else if (rule == QuantileRule::Exact) {
            quantiles = exactQuantiles(column);
        } else {
            std::vector<Level> levels;
            levels.reserve(column.size());
            for (const double v : column) {
                levels.push_back({ v, 1.0 });
            }
            quantiles = histogramQuantiles(levels, low, high, count);
        }
        appendMoments(result, low, high, mean, squares / count, quantiles);
    }
    result.count = static_cast<std::int64_t>(least);
    return result;
}

// ---------------------------------------------------------------------------------------------- pictures

std::int64_t pictureStride(std::int64_t height, std::int64_t width)
{
    if (std::max(height, width) < 300) {
        return 1;
    }
    return std::max(height, width) / 150;
}

std::vector<std::int64_t> sampledFrames(std::int64_t length)
{
    if (length <= 0) {
        return {};
    }
    const auto power = static_cast<std::int64_t>(std::pow(static_cast<double>(length), 0.75));
    const std::int64_t count = std::max(std::min<std::int64_t>(100, length), std::min<std::int64_t>(power, 10'000));
    const double step = count > 1 ? static_cast<double>(length - 1) / static_cast<double>(count - 1) : 0;
    std::vector<std::int64_t> frames(static_cast<std::size_t>(count), 0);
    for (std::size_t i = 1; i < frames.size(); ++i) {
        // Halves go to the even neighbour, as numpy rounds; the last is the last frame, as linspace has it.
        frames[i] = i + 1 == frames.size() ? length - 1
                                           : static_cast<std::int64_t>(std::nearbyint(static_cast<double>(i) * step));
    }
    return frames;
}

ChannelHistogram::ChannelHistogram(std::int64_t channels)
    : m_channels(channels), m_counts(static_cast<std::size_t>(channels) * 256, 0)
{
}

void ChannelHistogram::addPicture(std::span<const std::uint8_t> pixels, std::int64_t height, std::int64_t width)
{
    RW_CHECK(static_cast<std::int64_t>(pixels.size()) == height * width * m_channels);
    const std::int64_t stride = pictureStride(height, width);
    const auto channels = static_cast<std::size_t>(m_channels);
    for (std::int64_t y = 0; y < height; y += stride) {
        const std::uint8_t* row = pixels.data() + static_cast<std::size_t>(y * width) * channels;
        for (std::int64_t x = 0; x < width; x += stride) {
            const std::uint8_t* pixel = row + static_cast<std::size_t>(x) * channels;
            for (std::size_t c = 0; c < channels; ++c) {
                ++m_counts[c * 256 + pixel[c]];
            }
        }
    }
    ++m_frames;
}

void ChannelHistogram::merge(const ChannelHistogram& other)
{
    RW_CHECK(other.m_channels == m_channels);
    addCounts(other.m_counts, other.m_frames);
}

void ChannelHistogram::addCounts(std::span<const std::uint64_t> counts, std::int64_t frames)
{
    RW_CHECK(counts.size() == m_counts.size());
    for (std::size_t i = 0; i < counts.size(); ++i) {
        m_counts[i] += counts[i];
    }
    m_frames += frames;
}

FeatureStatistics ChannelHistogram::statistics(QuantileRule rule) const
{
    FeatureStatistics result;
    result.camera = true;
    result.count = m_frames;
    for (std::int64_t c = 0; c < m_channels; ++c) {
        const std::span<const std::uint64_t> counts(m_counts.data() + static_cast<std::size_t>(c) * 256, 256);
        std::vector<Level> levels;
        double total = 0;
        double sum = 0;
        for (std::size_t v = 0; v < 256; ++v) {
            if (counts[v] > 0) {
                levels.push_back({ static_cast<double>(v), static_cast<double>(counts[v]) });
                total += levels.back().count;
                sum += levels.back().value * levels.back().count;
            }
        }
        if (levels.empty()) {
            return {};
        }
        const double mean = sum / total;
        double squares = 0;
        for (const Level& level : levels) {
            squares += (level.value - mean) * (level.value - mean) * level.count;
        }
        std::array<double, 5> quantiles {};
        if (rule == QuantileRule::Histogram) {
            quantiles = histogramQuantiles(levels, levels.front().value, levels.back().value, total);
        } else {
            for (std::size_t i = 0; i < kQuantiles.size(); ++i) {
                const double position = kQuantiles[i] * (total - 1);
                const double low = std::floor(position);
                const auto valueAt = [&](double order) {
                    double before = 0;
                    for (const Level& level : levels) {
                        before += level.count;
                        if (order < before) {
                            return level.value;
                        }
                    }
                    return levels.back().value;
                };
                const double below = valueAt(low);
                quantiles[i] = below + (valueAt(low + 1) - below) * (position - low);
            }
        }
        for (double& q : quantiles) {
            q /= 255.0;
        }
        appendMoments(result, levels.front().value / 255.0, levels.back().value / 255.0, mean / 255.0,
                      squares / total / (255.0 * 255.0), quantiles);
    }
    return result;
}

// ---------------------------------------------------------------------------------------------- aggregation

FeatureStatistics aggregate(std::span<const FeatureStatistics> parts)
{
    FeatureStatistics result;
    std::vector<const FeatureStatistics*> used;
    for (const FeatureStatistics& part : parts) {
        if (part.count > 0 && !part.mean.empty() && (used.empty() || part.mean.size() == used.front()->mean.size())) {
            used.push_back(&part);
            result.count += part.count;
        }
    }
    if (used.empty()) {
        return result;
    }
    const std::size_t width = used.front()->mean.size();
    const auto total = static_cast<double>(result.count);
    result.camera = used.front()->camera;
    result.min = used.front()->min;
    result.max = used.front()->max;
    result.mean.assign(width, 0);
    result.std.assign(width, 0);
    bool quantiles = true;
    for (const FeatureStatistics* part : used) {
        quantiles = quantiles && part->hasQuantiles();
        for (std::size_t d = 0; d < width; ++d) {
            result.min[d] = std::min(result.min[d], part->min[d]);
            result.max[d] = std::max(result.max[d], part->max[d]);
            result.mean[d] += part->mean[d] * static_cast<double>(part->count) / total;
        }
    }
    for (const FeatureStatistics* part : used) {
        for (std::size_t d = 0; d < width; ++d) {
            const double delta = part->mean[d] - result.mean[d];
            result.std[d] += (part->std[d] * part->std[d] + delta * delta) * static_cast<double>(part->count) / total;
        }
    }
    for (double& s : result.std) {
        s = std::sqrt(s);
    }
    if (quantiles) {
        const auto targets = quantilesOf(result);
        for (std::size_t q = 0; q < targets.size(); ++q) {
            targets[q]->assign(width, 0);
            for (const FeatureStatistics* part : used) {
                for (std::size_t d = 0; d < width; ++d) {
                    (*targets[q])[d] += (*quantilesOf(*part)[q])[d] * static_cast<double>(part->count) / total;
                }
            }
        }
    }
    return result;
}

// ---------------------------------------------------------------------------------------------- JSON

namespace {

constexpr std::array<const char*, 5> kQuantileKeys { "q01", "q10", "q50", "q90", "q99" };

bool flatten(const Json& json, std::vector<double>& values, int depth, int& deepest)
{
    deepest = std::max(deepest, depth);
    if (json.is_array()) {
        return std::all_of(json.begin(), json.end(),
                           [&](const Json& item) { return flatten(item, values, depth + 1, deepest); });
    }
    if (json.is_boolean()) {
        values.push_back(json.get<bool>() ? 1 : 0);
        return true;
    }
    if (json.is_number()) {
        values.push_back(json.get<double>());
        return true;
    }
    return false;
}

/// One feature of stats.json; an empty text when it is usable, else what is wrong.
std::string readFeatureStatistics(const Json& json, FeatureStatistics& out)
{
    if (!json.is_object()) {
        return "is not an object";
    }
    int deepest = 0;
    const auto read = [&](const char* key, std::vector<double>& values) {
        const auto found = json.find(key);
        return found != json.end() && flatten(*found, values, 0, deepest) && !values.empty();
    };
    for (const auto& [key, values] :
         { std::pair { "min", &out.min }, { "max", &out.max }, { "mean", &out.mean }, { "std", &out.std } }) {
        if (!read(key, *values)) {
            return fmt::format("\"{}\" is missing or holds something else than finite numbers", key);
        }
        if (values->size() != out.min.size()) {
            return fmt::format("\"{}\" has {} entries and \"min\" has {}", key, values->size(), out.min.size());
        }
    }
    out.camera = deepest >= 3;
    const auto targets = quantilesOf(out);
    bool all = true;
    for (std::size_t q = 0; q < targets.size(); ++q) {
        all = read(kQuantileKeys[q], *targets[q]) && targets[q]->size() == out.min.size() && all;
    }
    if (!all) {
        for (std::vector<double>* values : targets) {
            values->clear();
        }
    }
    std::vector<double> count;
    if (read("count", count) && count.front() >= 0 && count.front() < 1e15) {
        out.count = static_cast<std::int64_t>(count.front());
    }
    return {};
}

Json nested(const std::vector<double>& values, bool camera)
{
    Json list = Json::array();
    for (const double v : values) {
        // JSON has no NaN: a column without a finite value has no statistics.
        Json entry = std::isfinite(v) ? Json(v) : Json();
        list.push_back(camera ? Json::array({ Json::array({ entry }) }) : entry);
    }
    return list;
}

} // namespace

DatasetStatistics statisticsFromJson(const Json& json, const std::string& subject, std::vector<Warning>& warnings)
{
    DatasetStatistics result;
    if (!json.is_object()) {
        warnings.push_back({ "the statistics are not a JSON object", subject });
        return result;
    }
    for (const auto& [key, value] : json.items()) {
        FeatureStatistics statistics;
        const std::string wrong = readFeatureStatistics(value, statistics);
        if (wrong.empty()) {
            result.emplace(key, std::move(statistics));
        } else {
            warnings.push_back(
                { "statistics of \"" + key + "\": " + wrong + "; recompute them with `rankwise dataset stats --write`",
                  subject });
        }
    }
    return result;
}

Json statisticsToJson(const DatasetStatistics& statistics)
{
    Json json = Json::object();
    for (const auto& [key, s] : statistics) {
        if (s.mean.empty()) {
            continue;
        }
        Json entry { { "min", nested(s.min, s.camera) },
                     { "max", nested(s.max, s.camera) },
                     { "mean", nested(s.mean, s.camera) },
                     { "std", nested(s.std, s.camera) },
                     { "count", Json::array({ s.count }) } };
        if (s.hasQuantiles()) {
            const auto values = quantilesOf(s);
            for (std::size_t q = 0; q < values.size(); ++q) {
                entry[kQuantileKeys[q]] = nested(*values[q], s.camera);
            }
        }
        json[key] = std::move(entry);
    }
    return json;
}

std::string unitHint(double ratio)
{
    const auto near = [&](double value) { return std::abs(std::log(ratio / value)) < std::log(2.0); };
    if (near(57.3)) {
        return " (degrees in the dataset, radians in the checkpoint?)";
    }
    if (near(1 / 57.3)) {
        return " (radians in the dataset, degrees in the checkpoint?)";
    }
    return near(1000) || near(1e-3) ? " (a factor of 1000 between units?)" : "";
}

} // namespace rankwise::data
