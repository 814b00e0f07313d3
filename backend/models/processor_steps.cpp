// The steps of lerobot's processor pipelines, by registry name.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/processor_steps.h"

#include "backend/base/json.h"
#include "backend/models/prompt.h"

#include <algorithm>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::models {

namespace {

using Made = std::unique_ptr<const ProcessorStep>;

class RenameStep : public ProcessorStep {
public:
    explicit RenameStep(std::map<std::string, std::string> names) : m_names(std::move(names)) { }

    Result<void> apply(Transition& transition) const override
    {
        std::map<std::string, at::Tensor> renamed;
        for (auto& [key, value] : transition.observation) {
            const auto name = m_names.find(key);
            renamed.insert_or_assign(name == m_names.end() ? key : name->second, value);
        }
        transition.observation = std::move(renamed);
        return {};
    }

private:
    std::map<std::string, std::string> m_names;
};

/// Gives single observations a batch dimension: vectors of state, images, a vector of action.
class BatchStep : public ProcessorStep {
public:
    Result<void> apply(Transition& transition) const override
    {
        if (transition.action.defined() && transition.action.dim() == 1) {
            transition.action = transition.action.unsqueeze(0);
        }
        for (auto& [key, value] : transition.observation) {
            const bool isState = key == kStateKey || key == "observation.environment_state";
            const bool isImage = key == "observation.image" || key.starts_with("observation.images.");
            if ((isState && value.dim() == 1) || (isImage && value.dim() == 3)) {
                value = value.unsqueeze(0);
            }
        }
        return {};
    }
};

class NewlineStep : public ProcessorStep {
public:
    Result<void> apply(Transition& transition) const override
    {
        for (std::string& task : transition.tasks) {
            task = newlinePrompt(task);
        }
        return {};
    }
};

/// Puts the normalised state into pi0.5's prompt.
class StatePromptStep : public ProcessorStep {
public:
    explicit StatePromptStep(std::int64_t padTo) : m_padTo(padTo) { }

    Result<void> apply(Transition& transition) const override
    {
        const auto found = transition.observation.find(kStateKey);
        if (found == transition.observation.end()) {
            return fail(Errc::FieldMissing, "the prompt needs the state, and the observation has none", kStateKey);
        }
        at::Tensor state = found->second.to(at::kCPU);
        if (state.dim() != 2 || state.size(0) != static_cast<std::int64_t>(transition.tasks.size())) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("{} tasks for a state of shape [{}]", transition.tasks.size(),
                                    fmt::join(state.sizes(), ", ")),
                        kStateKey);
        }
        if (m_padTo > state.size(1)) {
            state = at::constant_pad_nd(state, { 0, m_padTo - state.size(1) });
        }
        for (std::size_t i = 0; i < transition.tasks.size(); ++i) {
            transition.tasks[i] = pi05Prompt(transition.tasks[i], state.select(0, static_cast<std::int64_t>(i)));
        }
        return {};
    }

private:
    std::int64_t m_padTo;
};

struct TokenizerSettings {
    io::EncodeOptions encode;
    bool toLongest = false;
};

class TokenizerStep : public ProcessorStep {
public:
    TokenizerStep(std::optional<io::Tokenizer> tokenizer, TokenizerSettings settings)
        : m_tokenizer(std::move(tokenizer)), m_settings(settings)
    {
    }

    Result<void> apply(Transition& transition) const override
    {
        if (transition.tasks.empty()) {
            return fail(Errc::FieldMissing, "the observation has no task", "task");
        }
        if (!m_tokenizer) {
            return fail(Errc::FieldMissing, "this policy was set up without a tokenizer", "tokenizer");
        }
        RW_TRY(const auto encodings,
               m_tokenizer->encodeBatch(transition.tasks, m_settings.encode, m_settings.toLongest));
        const auto rows = static_cast<std::int64_t>(encodings.size());
        const auto length = static_cast<std::int64_t>(encodings.front().ids.size());
        const at::Tensor ids = at::empty({ rows, length }, at::TensorOptions(at::kLong));
        const at::Tensor mask = at::empty({ rows, length }, at::TensorOptions(at::kBool));
        for (std::int64_t row = 0; row < rows; ++row) {
            const io::Encoding& encoding = encodings[static_cast<std::size_t>(row)];
            if (static_cast<std::int64_t>(encoding.ids.size()) != length) {
                return fail(Errc::ShapeMismatch, "tasks of different length and no padding", "task");
            }
            std::copy(encoding.ids.begin(), encoding.ids.end(), ids.data_ptr<std::int64_t>() + row * length);
            std::copy(encoding.attentionMask.begin(), encoding.attentionMask.end(),
                      mask.data_ptr<bool>() + row * length);
        }
        const auto first = transition.observation.begin();
        const auto device = first != transition.observation.end() ? first->second.device()
            : transition.action.defined()                         ? transition.action.device()
                                                                  : at::Device(at::kCPU);
        transition.observation[kTokensKey] = ids.to(device);
        transition.observation[kTokenMaskKey] = mask.to(device);
        return {};
    }

    const io::Tokenizer* tokenizer() const override { return m_tokenizer ? &*m_tokenizer : nullptr; }

private:
    std::optional<io::Tokenizer> m_tokenizer;
    TokenizerSettings m_settings;
};

class DeviceStep : public ProcessorStep {
public:
    DeviceStep(at::Device device, std::optional<at::ScalarType> floatType)
        : m_device(device), m_floatType(floatType) { }

    Result<void> apply(Transition& transition) const override
    {
        for (auto& [key, value] : transition.observation) {
            value = moved(value);
        }
        transition.action = moved(transition.action);
        transition.actionIsPad = moved(transition.actionIsPad);
        return {};
    }

private:
    at::Tensor moved(const at::Tensor& tensor) const
    {
        if (!tensor.defined()) {
            return tensor;
        }
        return m_floatType && tensor.is_floating_point() ? tensor.to(m_device, *m_floatType) : tensor.to(m_device);
    }

    at::Device m_device;
    std::optional<at::ScalarType> m_floatType;
};

class NormalizerStep : public ProcessorStep {
public:
    NormalizerStep(Normalizer normalizer, bool inverse, std::optional<std::vector<std::string>> onlyKeys)
        : m_normalizer(std::move(normalizer)), m_inverse(inverse), m_onlyKeys(std::move(onlyKeys))
    {
    }

    Result<void> apply(Transition& transition) const override
    {
        for (const io::PolicyFeature& feature : m_normalizer.features()) {
            const auto found = transition.observation.find(feature.name);
            if (feature.type == io::FeatureType::Action || found == transition.observation.end()
                || !wants(feature.name)) {
                continue;
            }
            at::Tensor values = found->second;
            if (feature.type == io::FeatureType::Visual && values.scalar_type() == at::kByte
                && normalizesImages(feature.name)) {
                RW_TRY(values, unitImage(values));
            }
            RW_TRY(found->second, run(feature.name, values));
        }
        if (transition.action.defined()) {
            RW_TRY(transition.action, run(kActionKey, transition.action));
        }
        return {};
    }

    const Normalizer* normalizer() const override { return &m_normalizer; }

private:
    Result<at::Tensor> run(const std::string& feature, const at::Tensor& values) const
    {
        return m_inverse ? m_normalizer.unnormalize(feature, values) : m_normalizer.normalize(feature, values);
    }
    bool wants(const std::string& key) const
    {
        return !m_onlyKeys || std::find(m_onlyKeys->begin(), m_onlyKeys->end(), key) != m_onlyKeys->end();
    }
    bool normalizesImages(const std::string& feature) const
    {
        const auto mode = m_normalizer.mapping().find(io::FeatureType::Visual);
        return mode != m_normalizer.mapping().end() && mode->second != io::NormalizationMode::Identity
            && m_normalizer.statistics().contains(feature);
    }

    Normalizer m_normalizer;
    bool m_inverse;
    std::optional<std::vector<std::string>> m_onlyKeys;
};

/// Actions relative to the state before training, and absolute again after sampling. The state is taken as it comes
/// to this step, before normalisation.
class RelativeStep : public ProcessorStep {
public:
    RelativeStep(RelativeActions relative, bool inverse) : m_relative(std::move(relative)), m_inverse(inverse) { }

    Result<void> apply(Transition& transition) const override
    {
        if (!m_inverse) {
            const auto found = transition.observation.find(kStateKey);
            transition.referenceState = found == transition.observation.end() ? at::Tensor() : found->second;
        }
        if (!m_relative.enabled || !transition.action.defined()) {
            return {};
        }
        if (!transition.referenceState.defined()) {
            return fail(Errc::FieldMissing, "relative actions need the state they are relative to", kStateKey);
        }
        RW_TRY(transition.action, m_relative.shifted(transition.action, transition.referenceState, m_inverse ? 1 : -1));
        return {};
    }

private:
    RelativeActions m_relative;
    bool m_inverse;
};

/// Reads one step's configuration.
class StepBuilder {
public:
    StepBuilder(const io::ProcessorStep& description, const Json& config, const OrderedJson& ordered,
                StepSources& sources)
        : m_description(description), m_ordered(ordered), m_sources(sources),
          m_reader(config, sources.file, description.registryName + ".config.")
    {
    }

    Result<Made> build();

private:
    Result<Made> rename();
    Result<Made> tokenizer();
    Result<Made> device();
    Result<Made> normalizer(bool inverse);
    Result<Made> relative(bool inverse);
    std::vector<io::PolicyFeature> readFeatures();
    std::map<io::FeatureType, io::NormalizationMode> readMapping();

    const io::ProcessorStep& m_description;
    const OrderedJson& m_ordered;
    StepSources& m_sources;
    FieldReader m_reader;
};

Result<Made> StepBuilder::build()
{
    const std::string& name = m_description.registryName;
    if (name == "rename_observations_processor") {
        return rename();
    }
    if (name == "to_batch_processor") {
        return Made(std::make_unique<BatchStep>());
    }
    if (name == "smolvla_new_line_processor" || name == "pi0_new_line_processor") {
        return Made(std::make_unique<NewlineStep>());
    }
    if (name == "tokenizer_processor") {
        return tokenizer();
    }
    if (name == "device_processor") {
        return device();
    }
    if (name == "normalizer_processor") {
        return normalizer(false);
    }
    if (name == "unnormalizer_processor") {
        return normalizer(true);
    }
    if (name == "relative_actions_processor") {
        return relative(false);
    }
    if (name == "absolute_actions_processor") {
        return relative(true);
    }
    if (name == "pi05_prepare_state_tokenizer_processor_step") {
        return Made(std::make_unique<StatePromptStep>(m_sources.options.padPromptState ? m_sources.maxStateDim : 0));
    }
    return fail(Errc::Unsupported, fmt::format("the processor step \"{}\" is not known", name), m_sources.file);
}

Result<Made> StepBuilder::rename()
{
    std::map<std::string, std::string> names;
    if (const Json* map = m_reader.find("rename_map"); map != nullptr) {
        if (!map->is_object()) {
            m_reader.reject("rename_map", "must be an object");
        } else {
            for (const auto& item : map->items()) {
                if (!item.value().is_string()) {
                    m_reader.reject("rename_map", "must map names to names");
                } else {
                    names[item.key()] = item.value().get<std::string>();
                }
            }
        }
    }
    RW_TRY_VOID(m_reader.result());
    return std::make_unique<RenameStep>(std::move(names));
}

Result<Made> StepBuilder::tokenizer()
{
    std::int64_t maxLength = 512;
    std::string taskKey = "task";
    std::string side = "right";
    std::string name;
    std::string padding = "max_length";
    bool truncation = true;
    m_reader.optional("max_length", maxLength, 1, 1 << 20);
    m_reader.optional("task_key", taskKey);
    m_reader.optional("padding_side", side);
    m_reader.optional("tokenizer_name", name);
    m_reader.optional("truncation", truncation);
    if (const Json* value = m_reader.find("padding"); value != nullptr && value->is_boolean()) {
        padding = value->get<bool>() ? "longest" : "do_not_pad";
    } else {
        m_reader.optional("padding", padding);
    }
    if (side != "left" && side != "right") {
        m_reader.reject("padding_side", "must be left or right");
    }
    if (padding != "max_length" && padding != "longest" && padding != "do_not_pad") {
        m_reader.reject("padding", "must be max_length, longest or do_not_pad");
    }
    if (taskKey != "task") {
        m_reader.reject("task_key", "only \"task\" is supported", Errc::Unsupported);
    }
    RW_TRY_VOID(m_reader.result());
    TokenizerSettings settings;
    settings.encode.maxLength = truncation ? maxLength : 0;
    settings.encode.padTo = padding == "max_length" ? maxLength : 0;
    settings.encode.paddingSide = side == "left" ? io::Side::Left : io::Side::Right;
    settings.toLongest = padding == "longest";
    RW_TRY(auto loaded, m_sources.loadTokenizer(name));
    return std::make_unique<TokenizerStep>(std::move(loaded), settings);
}

Result<Made> StepBuilder::device()
{
    std::string device = "cpu";
    std::string floatType;
    m_reader.optional("device", device);
    m_reader.optional("float_dtype", floatType);
    static const std::map<std::string, at::ScalarType> kTypes {
        { "float16", at::kHalf },      { "half", at::kHalf },      { "float32", at::kFloat }, { "float", at::kFloat },
        { "bfloat16", at::kBFloat16 }, { "float64", at::kDouble }, { "double", at::kDouble },
    };
    std::optional<at::ScalarType> type;
    if (!floatType.empty()) {
        const auto found = kTypes.find(floatType);
        if (found == kTypes.end()) {
            m_reader.reject("float_dtype", "is not a floating dtype");
        } else {
            type = found->second;
        }
    }
    RW_TRY_VOID(m_reader.result());
    // The preprocessor's device is the training machine's; results always come back to the CPU.
    RW_TRY(const at::Device target, deviceNamed(m_sources.isPostprocessor ? "cpu" : m_sources.options.device));
    return std::make_unique<DeviceStep>(target, type);
}

std::vector<io::PolicyFeature> StepBuilder::readFeatures()
{
    std::vector<io::PolicyFeature> features;
    if (const Json* given = m_reader.find("features"); given != nullptr && !given->is_object()) {
        m_reader.reject("features", "must be an object");
    } else if (given != nullptr) {
        for (const auto& item : m_ordered.at("features").items()) {
            const Json& value = given->at(item.key());
            io::PolicyFeature feature { .name = item.key() };
            if (!value.is_object()) {
                m_reader.reject("features", "must hold objects with type and shape");
                break;
            }
            FieldReader reader(value, m_sources.file, m_reader.fieldPath("features") + "." + item.key() + ".");
            std::string type;
            reader.require("type", type);
            reader.optional("shape", feature.shape, 1, std::int64_t { 1 } << 40);
            if (const auto known = io::featureTypeFromName(type)) {
                feature.type = *known;
            } else {
                reader.reject("type", fmt::format("\"{}\" is not a feature type", type));
            }
            m_reader.merge(reader);
            features.push_back(std::move(feature));
        }
    }
    const bool hasAction = std::any_of(features.begin(), features.end(),
                                       [](const io::PolicyFeature& feature) { return feature.name == kActionKey; });
    if (!hasAction) {
        features.push_back({ .name = kActionKey, .type = io::FeatureType::Action, .shape = {} });
    }
    return features;
}

std::map<io::FeatureType, io::NormalizationMode> StepBuilder::readMapping()
{
    std::map<io::FeatureType, io::NormalizationMode> mapping;
    const Json* given = m_reader.find("norm_map");
    if (given == nullptr) {
        return mapping;
    }
    if (!given->is_object()) {
        m_reader.reject("norm_map", "must be an object");
        return mapping;
    }
    for (const auto& item : given->items()) {
        const auto type = io::featureTypeFromName(item.key());
        const auto mode =
            item.value().is_string() ? io::normalizationModeFromName(item.value().get<std::string>()) : std::nullopt;
        if (!type || !mode) {
            m_reader.reject("norm_map", fmt::format("\"{}\" does not map a feature type to a mode", item.key()));
        } else {
            mapping[*type] = *mode;
        }
    }
    return mapping;
}

Result<Made> StepBuilder::normalizer(bool inverse)
{
    double eps = 1e-8;
    std::vector<std::string> keys;
    m_reader.optional("eps", eps, 0, 1);
    const bool restricted = m_reader.find("normalize_observation_keys") != nullptr;
    m_reader.optional("normalize_observation_keys", keys);
    auto features = readFeatures();
    auto mapping = readMapping();
    RW_TRY_VOID(m_reader.result());
    RW_TRY(Statistics statistics, m_sources.loadStatistics(m_description.stateFile));
    return std::make_unique<NormalizerStep>(
        Normalizer(std::move(features), std::move(mapping), std::move(statistics), eps), inverse,
        restricted ? std::optional(std::move(keys)) : std::nullopt);
}

Result<Made> StepBuilder::relative(bool inverse)
{
    RelativeActions relative = inverse ? m_sources.relative : RelativeActions {};
    m_reader.optional("enabled", relative.enabled);
    if (!inverse) {
        m_reader.optional("exclude_joints", relative.excludedJoints);
        m_reader.optional("action_names", relative.actionNames);
        if (relative.actionNames.empty()) {
            relative.actionNames = m_sources.options.actionNames;
        }
        m_sources.relative = relative;
    }
    RW_TRY_VOID(m_reader.result());
    return std::make_unique<RelativeStep>(std::move(relative), inverse);
}

} // namespace

Result<at::Device> deviceNamed(const std::string& name)
{
    try {
        return at::Device(name);
    } catch (const c10::Error&) {
        return fail(Errc::FieldInvalid, fmt::format("\"{}\" is not a device; write cpu or cuda:0", name), "device");
    }
}

at::Tensor RelativeActions::mask(std::int64_t width, const at::TensorOptions& options) const
{
    std::vector<double> values(static_cast<std::size_t>(width), 1.0);
    for (std::size_t i = 0; i < std::min(values.size(), actionNames.size()); ++i) {
        const std::string name = lowerCase(actionNames[i]);
        const bool excluded = std::any_of(excludedJoints.begin(), excludedJoints.end(), [&](const std::string& joint) {
            return !joint.empty() && name.find(lowerCase(joint)) != std::string::npos;
        });
        values[i] = excluded ? 0.0 : 1.0;
    }
    return at::tensor(values, at::TensorOptions(at::kDouble))
        .to(options.device(), at::typeMetaToScalarType(options.dtype()));
}

Result<at::Tensor> RelativeActions::shifted(const at::Tensor& actions, const at::Tensor& state, double sign) const
{
    const std::int64_t width = actions.size(-1);
    if (state.dim() < 1 || state.size(-1) < width) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("actions of width {} are relative to a state of shape [{}]", width,
                                fmt::join(state.sizes(), ", ")),
                    kStateKey);
    }
    at::Tensor offset =
        state.to(actions.device(), actions.scalar_type()).narrow(-1, 0, width) * mask(width, actions.options());
    if (actions.dim() == 3 && offset.dim() == 2) {
        offset = offset.unsqueeze(-2); // [B, 1, A]
    }
    const bool sameBatch = offset.dim() <= actions.dim()
        && (offset.dim() < 2 || offset.size(0) == actions.size(actions.dim() - offset.dim()) || offset.size(0) == 1);
    if (!sameBatch) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("actions of shape [{}] and states of shape [{}]", fmt::join(actions.sizes(), ", "),
                                fmt::join(state.sizes(), ", ")),
                    kStateKey);
    }
    return actions + offset * sign;
}

Result<std::unique_ptr<const ProcessorStep>> makeProcessorStep(const io::ProcessorStep& description,
                                                               StepSources& sources)
{
    RW_TRY(const Json config, parseJson(description.config, sources.file));
    RW_TRY(const OrderedJson ordered, parseOrderedJson(description.config, sources.file));
    if (!config.is_object()) {
        return fail(Errc::FieldInvalid, fmt::format("{}.config must be an object", description.registryName),
                    sources.file);
    }
    return StepBuilder(description, config, ordered, sources).build();
}

} // namespace rankwise::models
