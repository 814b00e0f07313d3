// Normalisation of states, actions and images by data-set statistics, as lerobot's (un)normaliser steps do it.
//
// Source: lerobot 0.6 processor/normalize_processor.py. No clipping; the small eps only where noted.
//   MEAN_STD      (x - mean) / (std + eps)                        back: x * std + mean
//   MIN_MAX       2 (x - min) / range - 1, range 0 becomes eps    back: (x + 1) / 2 * range + min
//   QUANTILES     the same with q01 and q99                       back: (x + 1) * range / 2 + q01
//   QUANTILE10    the same with q10 and q90
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/io/policy_config.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// By feature name, then by statistic: "mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99", "count".
/// Vectors of the feature's width; for images [C, 1, 1].
using Statistics = std::map<std::string, std::map<std::string, at::Tensor>>;

/// The keys "<feature>.<statistic>" of a state file, as nested maps, and back.
[[nodiscard]] Statistics nestedStatistics(const std::map<std::string, at::Tensor>& flat);
[[nodiscard]] std::map<std::string, at::Tensor> flatStatistics(const Statistics& statistics);

/// Statistics that lerobot before September 2025 kept among the weights (normalize_inputs.buffer_observation_state.mean
/// and its variants), under the names of `features`. Empty where there are none.
[[nodiscard]] Statistics legacyStatistics(const std::map<std::string, at::Tensor>& weights,
                                          const std::vector<io::PolicyFeature>& features);
/// Whether a tensor of that name is such a statistic and no weight.
[[nodiscard]] bool isLegacyStatistic(std::string_view name);

/// Immutable. Thread: any.
class Normalizer {
public:
    Normalizer() = default;
    Normalizer(std::vector<io::PolicyFeature> features, std::map<io::FeatureType, io::NormalizationMode> mapping,
               Statistics statistics, double eps = 1e-8);

    /// `values` [..., width], normalised in its own floating dtype (integers: f32). A feature that this normaliser
    /// does not list, one of mode IDENTITY and one without any statistics come back unchanged.
    /// Errors: DataInvalid (a statistic that the mode needs is missing), ShapeMismatch (statistics of another width).
    [[nodiscard]] Result<at::Tensor> normalize(std::string_view feature, const at::Tensor& values) const;
    [[nodiscard]] Result<at::Tensor> unnormalize(std::string_view feature, const at::Tensor& values) const;

    /// Features that the mapping wants normalised and that have no statistics, in the order of the features.
    [[nodiscard]] std::vector<std::string> featuresWithoutStatistics() const;

    [[nodiscard]] const std::vector<io::PolicyFeature>& features() const { return m_features; }
    [[nodiscard]] const std::map<io::FeatureType, io::NormalizationMode>& mapping() const { return m_mapping; }
    [[nodiscard]] const Statistics& statistics() const { return m_statistics; }
    [[nodiscard]] double eps() const { return m_eps; }

private:
    [[nodiscard]] Result<at::Tensor> apply(std::string_view feature, const at::Tensor& values, bool inverse) const;
    [[nodiscard]] io::NormalizationMode modeOf(const io::PolicyFeature& feature) const;

    std::vector<io::PolicyFeature> m_features;
    std::map<io::FeatureType, io::NormalizationMode> m_mapping;
    Statistics m_statistics;
    double m_eps = 1e-8;
};

} // namespace rankwise::models
