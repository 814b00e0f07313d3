// Normalisation maths, and statistics of old checkpoints.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/normalizer.h"

#include <algorithm>
#include <array>

#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::models {

namespace {

/// The two statistics of a mode.
std::pair<const char*, const char*> statisticNames(io::NormalizationMode mode)
{
    switch (mode) {
    case io::NormalizationMode::MeanStd:
        return { "mean", "std" };
    case io::NormalizationMode::MinMax:
        return { "min", "max" };
    case io::NormalizationMode::Quantiles:
        return { "q01", "q99" };
    case io::NormalizationMode::Quantile10:
        return { "q10", "q90" };
    case io::NormalizationMode::Identity:
        break;
    }
    return { "", "" };
}

bool broadcasts(at::IntArrayRef statistic, at::IntArrayRef values)
{
    if (statistic.size() > values.size()) {
        return false;
    }
    for (std::size_t i = 0; i < statistic.size(); ++i) {
        const std::int64_t size = statistic[statistic.size() - 1 - i];
        if (size != 1 && size != values[values.size() - 1 - i]) {
            return false;
        }
    }
    return true;
}

at::Tensor scaled(const at::Tensor& x, const at::Tensor& low, const at::Tensor& high, io::NormalizationMode mode,
                  double eps, bool inverse)
{
    if (mode == io::NormalizationMode::MeanStd) {
        return inverse ? x * high + low : (x - low) / (high + eps);
    }
    const at::Tensor difference = high - low;
    const at::Tensor range = at::where(difference == 0, at::full_like(difference, eps), difference);
    if (!inverse) {
        return 2 * (x - low) / range - 1;
    }
    return mode == io::NormalizationMode::MinMax ? (x + 1) / 2 * range + low : (x + 1) * range / 2 + low;
}

constexpr std::array kLegacyPrefixes {
    "normalize_inputs.", "normalize_targets.", "unnormalize_outputs.", "normalize.",
    "unnormalize.",      "input_normalizer.",  "output_normalizer.",
};

/// What a legacy name holds: the feature with underscores, and the statistic.
struct LegacyName {
    std::string feature;
    std::string statistic;
};

/// normalize_inputs.[so100[-red]_]buffer_<feature>.<statistic>, also below "model.".
std::optional<LegacyName> parseLegacyName(std::string_view name)
{
    if (name.starts_with("model.")) {
        name.remove_prefix(6);
    }
    const auto prefix = std::find_if(kLegacyPrefixes.begin(), kLegacyPrefixes.end(),
                                     [&](std::string_view known) { return name.starts_with(known); });
    if (prefix == kLegacyPrefixes.end()) {
        return std::nullopt;
    }
    name.remove_prefix(std::string_view(*prefix).size());
    const std::size_t buffer = name.find("buffer_");
    const std::size_t dot = name.rfind('.');
    if (buffer == std::string_view::npos || dot == std::string_view::npos || dot < buffer) {
        return std::nullopt;
    }
    // The robot's tag: "so", digits, an optional word, an underscore.
    const std::string_view tag = name.substr(0, buffer);
    if (!tag.empty() && !(tag.starts_with("so") && tag.ends_with('_') && tag.find('.') == std::string_view::npos)) {
        return std::nullopt;
    }
    constexpr std::size_t kBufferLength = 7;
    return LegacyName { std::string(name.substr(buffer + kBufferLength, dot - buffer - kBufferLength)),
                        std::string(name.substr(dot + 1)) };
}

std::string withUnderscores(std::string name)
{
    std::replace(name.begin(), name.end(), '.', '_');
    return name;
}

} // namespace

Statistics nestedStatistics(const std::map<std::string, at::Tensor>& flat)
{
    Statistics nested;
    for (const auto& [key, tensor] : flat) {
        const std::size_t dot = key.rfind('.');
        if (dot != std::string::npos) {
            nested[key.substr(0, dot)][key.substr(dot + 1)] = tensor;
        }
    }
    return nested;
}

std::map<std::string, at::Tensor> flatStatistics(const Statistics& statistics)
{
    std::map<std::string, at::Tensor> flat;
    for (const auto& [feature, values] : statistics) {
        for (const auto& [name, tensor] : values) {
            flat[feature + "." + name] = tensor;
        }
    }
    return flat;
}

Statistics legacyStatistics(const std::map<std::string, at::Tensor>& weights,
                            const std::vector<io::PolicyFeature>& features)
{
    Statistics statistics;
    for (const auto& [name, tensor] : weights) {
        const auto legacy = parseLegacyName(name);
        if (!legacy) {
            continue;
        }
        const auto feature = std::find_if(features.begin(), features.end(), [&](const io::PolicyFeature& known) {
            return withUnderscores(known.name) == legacy->feature;
        });
        std::string dotted = legacy->feature;
        std::replace(dotted.begin(), dotted.end(), '_', '.');
        statistics[feature == features.end() ? dotted : feature->name][legacy->statistic] = tensor;
    }
    return statistics;
}

bool isLegacyStatistic(std::string_view name)
{
    return parseLegacyName(name).has_value();
}

Normalizer::Normalizer(std::vector<io::PolicyFeature> features,
                       std::map<io::FeatureType, io::NormalizationMode> mapping, Statistics statistics, double eps)
    : m_features(std::move(features)), m_mapping(std::move(mapping)), m_statistics(std::move(statistics)), m_eps(eps)
{
}

io::NormalizationMode Normalizer::modeOf(const io::PolicyFeature& feature) const
{
    const auto mode = m_mapping.find(feature.type);
    return mode == m_mapping.end() ? io::NormalizationMode::Identity : mode->second;
}

Result<at::Tensor> Normalizer::normalize(std::string_view feature, const at::Tensor& values) const
{
    return apply(feature, values, false);
}

Result<at::Tensor> Normalizer::unnormalize(std::string_view feature, const at::Tensor& values) const
{
    return apply(feature, values, true);
}

Result<at::Tensor> Normalizer::apply(std::string_view feature, const at::Tensor& values, bool inverse) const
{
    const auto known = std::find_if(m_features.begin(), m_features.end(),
                                    [&](const io::PolicyFeature& candidate) { return candidate.name == feature; });
    const auto statistics = m_statistics.find(std::string(feature));
    if (known == m_features.end() || statistics == m_statistics.end()) {
        return values;
    }
    const io::NormalizationMode mode = modeOf(*known);
    if (mode == io::NormalizationMode::Identity) {
        return values;
    }
    const at::Tensor x = values.is_floating_point() ? values : values.to(at::kFloat);
    std::array<at::Tensor, 2> used;
    const auto [first, second] = statisticNames(mode);
    for (std::size_t i = 0; i < used.size(); ++i) {
        const std::string name = i == 0 ? first : second;
        const auto found = statistics->second.find(name);
        if (found == statistics->second.end()) {
            return fail(Errc::DataInvalid,
                        fmt::format("{} needs the statistic \"{}\", which the data set's statistics lack; compute them "
                                    "again, or choose another normalisation",
                                    io::normalizationModeName(mode), name),
                        std::string(feature));
        }
        if (!broadcasts(found->second.sizes(), x.sizes())) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("the statistic \"{}\" has shape [{}], the values have [{}]", name,
                                    fmt::join(found->second.sizes(), ", "), fmt::join(x.sizes(), ", ")),
                        std::string(feature));
        }
        used[i] = found->second.to(x.device(), x.scalar_type());
    }
    return scaled(x, used[0], used[1], mode, m_eps, inverse);
}

std::vector<std::string> Normalizer::featuresWithoutStatistics() const
{
    std::vector<std::string> missing;
    for (const io::PolicyFeature& feature : m_features) {
        if (modeOf(feature) != io::NormalizationMode::Identity && !m_statistics.contains(feature.name)) {
            missing.push_back(feature.name);
        }
    }
    return missing;
}

} // namespace rankwise::models
