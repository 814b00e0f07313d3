// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/target_selection.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

/// A string or a list of strings.
void readStringOrList(FieldReader& reader, const char* key, std::string& text, std::vector<std::string>& list)
{
    const Json* value = reader.find(key);
    if (!value) {
        return;
    }
    if (value->is_string()) {
        text = value->get<std::string>();
        if (text.empty()) {
            reader.reject(key, "must not be empty");
        }
        return;
    }
    if (!value->is_array()) {
        reader.reject(key, "must be a string or a list of strings");
        return;
    }
    for (const Json& entry : *value) {
        if (!entry.is_string() || entry.get_ref<const std::string&>().empty()) {
            reader.reject(key, "must hold non-empty strings only");
            return;
        }
        list.push_back(entry.get<std::string>());
    }
}

std::size_t editDistance(std::string_view a, std::string_view b)
{
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substitution = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({ row[j] + 1, row[j - 1] + 1, substitution });
        }
    }
    return row[b.size()];
}

/// The last `parts` components of a dotted path.
std::string tail(std::string_view path, std::size_t parts)
{
    std::size_t from = path.size();
    while (parts > 0 && from != std::string_view::npos && from > 0) {
        from = path.rfind('.', from - 1);
        --parts;
        if (from == std::string_view::npos) {
            return std::string(path);
        }
    }
    return std::string(path.substr(from < path.size() ? from + 1 : 0));
}

std::string describeTargets(const TargetOptions& options)
{
    switch (options.kind) {
    case TargetOptions::Kind::AllLinear:
        return "\"all-linear\"";
    case TargetOptions::Kind::PolicyDefault:
        return "\"default\"";
    case TargetOptions::Kind::Expression:
        return fmt::format("\"{}\"", options.expression);
    case TargetOptions::Kind::Endings:
        break;
    }
    return fmt::format("[\"{}\"]", fmt::join(options.endings, "\", \""));
}

/// What the reader of the error probably meant.
std::string explainNoMatch(const models::Policy&, const TargetOptions& options, const std::vector<std::string>& paths,
                           std::size_t excluded)
{
    std::string text =
        fmt::format("target_modules {} match none of the {} linear layers", describeTargets(options), paths.size());
    if (excluded > 0) {
        text = fmt::format("exclude_modules, modules_to_save or layers_to_transform leave none of the {} layers that "
                           "target_modules {} match",
                           excluded, describeTargets(options));
    }
    std::set<std::string> leaves;
    for (const std::string& path : paths) {
        leaves.insert(tail(path, 1));
    }
    std::vector<std::string> wanted = options.endings;
    if (options.kind == TargetOptions::Kind::Expression) {
        wanted = { options.expression };
    }
    std::vector<std::string> near;
    for (const std::string& entry : wanted) {
        const std::size_t parts = static_cast<std::size_t>(std::ranges::count(entry, '.')) + 1;
        std::set<std::string> candidates;
        for (const std::string& path : paths) {
            candidates.insert(tail(path, parts));
        }
        for (std::string& name : nearMisses(entry, { candidates.begin(), candidates.end() }, 2)) {
            if (std::ranges::find(near, name) == near.end()) {
                near.push_back(std::move(name));
            }
        }
        if (near.size() >= 6) {
            break;
        }
    }
    if (!near.empty()) {
        text += fmt::format("; nearest: {}", fmt::join(near, ", "));
    }
    std::vector<std::string> shown(leaves.begin(), leaves.end());
    if (shown.size() > 24) {
        shown.resize(24);
        shown.emplace_back("...");
    }
    return text + fmt::format("; layer names here end in: {}", fmt::join(shown, ", "));
}

} // namespace

void readTargetOptions(FieldReader& reader, TargetOptions& options)
{
    std::string text;
    std::vector<std::string> list;
    readStringOrList(reader, "target_modules", text, list);
    if (text == "all-linear") {
        options.kind = TargetOptions::Kind::AllLinear;
    } else if (text == "default") {
        options.kind = TargetOptions::Kind::PolicyDefault;
    } else if (!text.empty()) {
        options.kind = TargetOptions::Kind::Expression;
        options.expression = text;
    } else if (const Json* value = reader.find("target_modules"); value && value->is_array()) {
        if (list.empty()) {
            reader.reject("target_modules", "must not be empty");
        }
        options.kind = TargetOptions::Kind::Endings;
        options.endings = list;
    }
    readStringOrList(reader, "exclude_modules", options.excludeExpression, options.excludeEndings);
    if (const Json* layers = reader.find("layers_to_transform"); layers && layers->is_number_integer()) {
        options.layers = { layers->get<std::int64_t>() };
    } else if (layers) {
        reader.optional("layers_to_transform", options.layers, 0, 100'000);
    }
    std::string pattern;
    readStringOrList(reader, "layers_pattern", pattern, options.layersPatterns);
    if (!pattern.empty()) {
        options.layersPatterns = { pattern };
    }
    reader.optional("modules_to_save", options.modulesToSave);
    if (!options.layers.empty() && options.kind != TargetOptions::Kind::Endings) {
        reader.reject("layers_to_transform", "needs target_modules as a list of names");
    }
}

void writeTargetOptions(const TargetOptions& options, Json& json)
{
    switch (options.kind) {
    case TargetOptions::Kind::AllLinear:
        json["target_modules"] = "all-linear";
        break;
    case TargetOptions::Kind::PolicyDefault:
        json["target_modules"] = "default";
        break;
    case TargetOptions::Kind::Expression:
        json["target_modules"] = options.expression;
        break;
    case TargetOptions::Kind::Endings:
        json["target_modules"] = options.endings;
        break;
    }
    if (!options.excludeExpression.empty()) {
        json["exclude_modules"] = options.excludeExpression;
    } else if (!options.excludeEndings.empty()) {
        json["exclude_modules"] = options.excludeEndings;
    }
    if (!options.layers.empty()) {
        json["layers_to_transform"] = options.layers;
    }
    if (!options.layersPatterns.empty()) {
        json["layers_pattern"] = options.layersPatterns;
    }
    if (!options.modulesToSave.empty()) {
        json["modules_to_save"] = options.modulesToSave;
    }
}

std::optional<std::string> defaultTargetExpression(std::string_view policyType)
{
    const std::string projections =
        "model\\.(state_proj|action_in_proj|action_out_proj|action_time_mlp_in|action_time_mlp_out)";
    if (policyType == "smolvla") {
        return "(model\\.vlm_with_expert\\.lm_expert\\..*\\.(q|v)_proj|" + projections + ")";
    }
    if (policyType == "pi0" || policyType == "pi05") {
        return "(.*\\.gemma_expert\\..*\\.self_attn\\.(q|v)_proj|" + projections + ")";
    }
    return std::nullopt;
}

Result<TargetMatcher> TargetMatcher::make(const TargetOptions& options, std::string_view policyType)
{
    TargetMatcher matcher;
    matcher.m_options = options;
    if (options.kind == TargetOptions::Kind::PolicyDefault) {
        const auto expression = defaultTargetExpression(policyType);
        if (!expression) {
            return fail(Errc::Unsupported,
                        fmt::format("no default target_modules are known for policies of type \"{}\"; name the layers "
                                    "or use \"all-linear\"",
                                    policyType),
                        "target_modules");
        }
        matcher.m_options.kind = TargetOptions::Kind::Expression;
        matcher.m_options.expression = *expression;
    }
    if (matcher.m_options.kind == TargetOptions::Kind::Expression) {
        RW_TRY(matcher.m_expression, ModulePattern::compile(matcher.m_options.expression, "target_modules"));
    }
    if (!options.excludeExpression.empty()) {
        RW_TRY(matcher.m_exclude, ModulePattern::compile(options.excludeExpression, "exclude_modules"));
    }
    for (const std::string& module : options.modulesToSave) {
        RW_TRY(ModulePattern pattern,
               ModulePattern::compile("(?:.*\\.)?(?:" + module + ")(?:\\..*)?", "modules_to_save"));
        matcher.m_saved.push_back(std::move(pattern));
    }
    if (!options.layers.empty()) {
        if (options.layersPatterns.empty()) {
            RW_TRY(ModulePattern pattern, ModulePattern::compile(".*?\\.[^.]*\\.(\\d+)\\.", "layers_pattern"));
            matcher.m_layers.push_back(std::move(pattern));
        }
        for (const std::string& name : options.layersPatterns) {
            RW_TRY(ModulePattern pattern, ModulePattern::compile(".*\\." + name + "\\.(\\d+)\\.", "layers_pattern"));
            matcher.m_layers.push_back(std::move(pattern));
        }
    }
    return matcher;
}

Result<bool> TargetMatcher::matches(std::string_view path, bool deadEnd) const
{
    if (m_exclude) {
        RW_TRY(const bool excluded, m_exclude->matchesWhole(path));
        if (excluded) {
            return false;
        }
    }
    const auto endsPath = [&](const std::string& name) { return endsAtDot(path, name); };
    if (std::ranges::any_of(m_options.excludeEndings, endsPath)) {
        return false;
    }
    for (const ModulePattern& saved : m_saved) {
        RW_TRY(const bool hit, saved.matchesWhole(path));
        if (hit) {
            return false;
        }
    }
    if (m_options.kind == TargetOptions::Kind::AllLinear) {
        return !deadEnd;
    }
    if (m_expression) {
        return m_expression->matchesWhole(path);
    }
    if (std::ranges::find(m_options.endings, path) != m_options.endings.end()) {
        return true; // a full path is not subject to layers_to_transform
    }
    if (!std::ranges::any_of(m_options.endings, endsPath)) {
        return false;
    }
    if (m_options.layers.empty()) {
        return true;
    }
    for (const ModulePattern& layer : m_layers) {
        RW_TRY(const std::optional<std::string> number, layer.capture(path));
        if (number) {
            std::int64_t index = -1;
            std::from_chars(number->data(), number->data() + number->size(), index);
            return std::ranges::find(m_options.layers, index) != m_options.layers.end();
        }
    }
    return false;
}

Result<std::vector<std::reference_wrapper<models::Linear>>> selectTargets(models::Policy& policy,
                                                                          const TargetOptions& options)
{
    RW_TRY(const TargetMatcher matcher, TargetMatcher::make(options, policy.type()));
    TargetOptions bare = options;
    bare.excludeEndings.clear();
    bare.excludeExpression.clear();
    bare.layers.clear();
    bare.modulesToSave.clear();
    std::vector<std::reference_wrapper<models::Linear>> chosen;
    std::vector<std::string> paths;
    for (const std::reference_wrapper<models::Linear> linear : policy.linears()) {
        RW_TRY(const bool hit, matcher.matches(linear.get().path, linear.get().deadEnd));
        paths.push_back(linear.get().path);
        if (hit) {
            chosen.push_back(linear);
        }
    }
    if (!chosen.empty()) {
        return chosen;
    }
    RW_TRY(const TargetMatcher bareMatcher, TargetMatcher::make(bare, policy.type()));
    std::size_t excluded = 0;
    for (const std::string& path : paths) {
        RW_TRY(const bool hit, bareMatcher.matches(path));
        excluded += hit ? 1 : 0;
    }
    return fail(Errc::FieldInvalid, explainNoMatch(policy, options, paths, excluded), "target_modules");
}

Json peftTargets(const TargetOptions& options, const std::vector<std::string>& chosen,
                 const std::vector<std::string>& all)
{
    const std::set<std::string> wanted(chosen.begin(), chosen.end());
    const auto choosesExactly = [&](const TargetOptions& candidate) {
        const auto matcher = TargetMatcher::make(candidate);
        return matcher && std::ranges::all_of(all, [&](const std::string& path) {
                   const auto hit = matcher->matches(path);
                   return hit && *hit == wanted.contains(path);
               });
    };
    TargetOptions plain;
    plain.kind = options.kind;
    plain.endings = options.endings;
    plain.expression = options.expression;
    if (options.kind == TargetOptions::Kind::Endings && choosesExactly(plain)) {
        return options.endings;
    }
    if (options.kind == TargetOptions::Kind::Expression && choosesExactly(plain)) {
        return options.expression;
    }
    plain.kind = TargetOptions::Kind::Endings;
    plain.endings = chosen;
    if (choosesExactly(plain)) {
        return chosen;
    }
    std::string expression;
    for (const std::string& path : chosen) {
        expression += (expression.empty() ? "(?:" : "|(?:") + escapePattern(path) + ")";
    }
    return expression;
}

std::vector<std::string> nearMisses(std::string_view name, const std::vector<std::string>& candidates,
                                    std::size_t count)
{
    std::vector<std::pair<std::size_t, std::string>> ranked;
    const std::string_view shortened = name.substr(0, 200);
    for (const std::string& candidate : candidates) {
        ranked.emplace_back(editDistance(shortened, candidate), candidate);
    }
    std::ranges::sort(ranked);
    std::vector<std::string> nearest;
    for (auto& [distance, candidate] : ranked) {
        if (nearest.size() == count) {
            break;
        }
        nearest.push_back(std::move(candidate));
    }
    return nearest;
}

} // namespace rankwise::adapters
