// Which linear layers an adaptation method takes: one rule for all methods, PEFT's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/module_pattern.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::adapters {

/// The fields of a configuration that choose layers; names and meaning as in PEFT's adapter_config.json.
///
///     target_modules        list of path endings, or one expression for the whole path, or "all-linear" (every
///                           linear layer but dead ends such as LM heads), or "default" (the policy's own pattern)
///     exclude_modules       list of path endings, or one expression for the whole path
///     layers_to_transform   layer numbers; only with a list of path endings
///     layers_pattern        name of the layer stack whose number counts
///     modules_to_save       modules trained whole: never adapted
struct TargetOptions {
    enum class Kind : std::uint8_t { AllLinear, PolicyDefault, Endings, Expression };
    Kind kind = Kind::AllLinear;
    std::vector<std::string> endings;
    std::string expression;
    std::vector<std::string> excludeEndings;
    std::string excludeExpression;
    std::vector<std::int64_t> layers;
    std::vector<std::string> layersPatterns;
    std::vector<std::string> modulesToSave;
};

/// Reads the fields above from `reader`'s object. Errors are kept in the reader.
void readTargetOptions(FieldReader& reader, TargetOptions& options);

/// Writes the fields that are set, as readTargetOptions() reads them.
void writeTargetOptions(const TargetOptions& options, Json& json);

/// The expression that lerobot uses for `policyType` when none is given; nothing for unknown types.
[[nodiscard]] std::optional<std::string> defaultTargetExpression(std::string_view policyType);

/// TargetOptions with its expressions compiled.
class TargetMatcher {
public:
    /// `policyType` resolves Kind::PolicyDefault. Errors: FieldInvalid, Unsupported (no default known).
    [[nodiscard]] static Result<TargetMatcher> make(const TargetOptions& options, std::string_view policyType = {});

    /// Whether a linear layer of this path is adapted. `deadEnd` matters for AllLinear only.
    [[nodiscard]] Result<bool> matches(std::string_view path, bool deadEnd = false) const;

private:
    TargetOptions m_options;
    std::optional<ModulePattern> m_expression;
    std::optional<ModulePattern> m_exclude;
    std::vector<ModulePattern> m_saved;
    std::vector<ModulePattern> m_layers;
};

/// The layers of `policy` that `options` choose, in the policy's order.
///
/// Errors: FieldInvalid when none matches; the message names the pattern and the nearest names that exist.
[[nodiscard]] Result<std::vector<std::reference_wrapper<models::Linear>>> selectTargets(models::Policy& policy,
                                                                                        const TargetOptions& options);

/// PEFT's target_modules that choose exactly `chosen` out of `all`: the list of endings or expression given if it
/// does, else full paths, else (where one path ends with another) one expression.
[[nodiscard]] Json peftTargets(const TargetOptions& options, const std::vector<std::string>& chosen,
                               const std::vector<std::string>& all);

/// Up to `count` candidates nearest to `name` by edit distance, nearest first.
[[nodiscard]] std::vector<std::string> nearMisses(std::string_view name, const std::vector<std::string>& candidates,
                                                  std::size_t count);

} // namespace rankwise::adapters
