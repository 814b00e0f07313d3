// Pipelines from checkpoint folders, from a configuration, and back into files.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/models/processor.h"
#include "backend/models/processor_data.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::models {

namespace fs = std::filesystem;

namespace {

constexpr const char* kPreprocessor = "policy_preprocessor";
constexpr const char* kPostprocessor = "policy_postprocessor";
constexpr const char* kPaligemma = "google/paligemma-3b-pt-224";

/// policy_preprocessor_step_5_normalizer_processor.safetensors
std::string stateFileName(const io::ProcessorPipeline& pipeline, std::size_t step)
{
    return fmt::format("{}_step_{}_{}.safetensors", pipeline.name, step, pipeline.steps[step].registryName);
}

/// A folder with a tokenizer, or a file of one by its name: a checkpoint may name its configuration file instead.
bool holdsTokenizer(const fs::path& path)
{
    std::error_code ignored;
    const bool named = path.extension() == ".model" || path.filename().string().starts_with("tokenizer");
    return (named && fs::is_regular_file(path, ignored)) || fs::exists(path / "tokenizer.json", ignored)
        || fs::exists(path / "tokenizer.model", ignored);
}

/// The tokenizer that a checkpoint names, wherever it is. Errors: FileNotFound with the places looked at.
Result<fs::path> locateTokenizer(const std::string& name, const fs::path& folder, const ProcessorOptions& options)
{
    std::vector<fs::path> places;
    if (!options.tokenizer.empty()) {
        places.push_back(options.tokenizer);
    } else {
        const fs::path relative(name);
        const bool inside = !name.empty() && relative.is_relative()
            && std::none_of(relative.begin(), relative.end(), [](const fs::path& part) { return part == ".."; });
        if (inside) {
            places.push_back(folder / relative);
        }
        places.push_back(folder / "tokenizer");
        places.push_back(folder);
        if (relative.is_absolute()) {
            places.push_back(relative);
        }
        if (options.findTokenizer) {
            if (fs::path found = options.findTokenizer(name); !found.empty()) {
                places.push_back(std::move(found));
            }
        }
    }
    std::vector<std::string> names;
    for (const fs::path& place : places) {
        if (holdsTokenizer(place)) {
            return place;
        }
        names.push_back(place.string());
    }
    return fail(Errc::FileNotFound,
                fmt::format("no tokenizer \"{}\": looked at {}; give its folder", name, fmt::join(names, ", ")), name);
}

/// Builds the steps of both pipelines into `data`.
Result<void> buildSteps(PolicyProcessorData& data, StepSources& sources)
{
    for (const bool post : { false, true }) {
        sources.isPostprocessor = post;
        const io::ProcessorPipeline& pipeline = post ? data.post : data.pre;
        auto& steps = post ? data.postSteps : data.preSteps;
        for (const io::ProcessorStep& description : pipeline.steps) {
            RW_TRY(auto step, makeProcessorStep(description, sources));
            steps.push_back(std::move(step));
        }
    }
    data.relative = sources.relative;
    return {};
}

void warnWithoutStatistics(const PolicyProcessorData& data, const std::string& file, std::vector<Warning>& warnings)
{
    const Normalizer* normalizer = data.normalizer();
    if (normalizer == nullptr) {
        return;
    }
    const auto missing = normalizer->featuresWithoutStatistics();
    if (!missing.empty()) {
        warnings.push_back(
            { fmt::format("no statistics for {}: values pass unchanged, as from a base model; train with "
                          "a data set's statistics before its actions mean anything",
                          fmt::join(missing, ", ")),
              file });
    }
}

OrderedJson featuresJson(const std::vector<const std::vector<io::PolicyFeature>*>& lists)
{
    OrderedJson features = OrderedJson::object();
    for (const auto* list : lists) {
        for (const io::PolicyFeature& feature : *list) {
            features[feature.name] = { { "type", io::featureTypeName(feature.type) }, { "shape", feature.shape } };
        }
    }
    return features;
}

/// Step lists as lerobot's factory makes them. The steps of relative actions stand only where they do something:
/// releases that do not know them can then read the files.
class PipelineMaker {
public:
    PipelineMaker(const io::PolicyConfig& config, const ProcessorOptions& options)
        : m_config(config), m_options(options)
    {
    }

    io::ProcessorPipeline preprocessor(bool withState) const
    {
        io::ProcessorPipeline pipeline { .name = kPreprocessor, .steps = {} };
        const auto add = [&](const char* name, const OrderedJson& config) {
            pipeline.steps.push_back({ .registryName = name, .config = config.dump(), .stateFile = {} });
        };
        OrderedJson renames = OrderedJson::object();
        for (const auto& [from, to] : m_options.renameMap) {
            renames[from] = to;
        }
        add("rename_observations_processor", { { "rename_map", renames } });
        add("to_batch_processor", OrderedJson::object());
        if (m_config.type == "pi05") {
            addRelative(pipeline);
            addNormalizer(pipeline, withState);
            add("pi05_prepare_state_tokenizer_processor_step", OrderedJson::object());
            add("tokenizer_processor", tokenizerJson());
            add("device_processor", deviceJson(m_options.device));
        } else {
            add(m_config.type == "pi0" ? "pi0_new_line_processor" : "smolvla_new_line_processor",
                OrderedJson::object());
            add("tokenizer_processor", tokenizerJson());
            add("device_processor", deviceJson(m_options.device));
            addRelative(pipeline);
            addNormalizer(pipeline, withState);
        }
        return pipeline;
    }

    io::ProcessorPipeline postprocessor(bool withState) const
    {
        io::ProcessorPipeline pipeline { .name = kPostprocessor, .steps = {} };
        pipeline.steps.push_back({ .registryName = "unnormalizer_processor",
                                   .config = normalizerJson({ &m_config.outputFeatures }).dump(),
                                   .stateFile = {} });
        if (withState) {
            pipeline.steps.back().stateFile = stateFileName(pipeline, 0);
        }
        if (usesRelativeActions()) {
            pipeline.steps.push_back({ .registryName = "absolute_actions_processor",
                                       .config = OrderedJson({ { "enabled", true } }).dump(),
                                       .stateFile = {} });
        }
        pipeline.steps.push_back(
            { .registryName = "device_processor", .config = deviceJson("cpu").dump(), .stateFile = {} });
        return pipeline;
    }

private:
    bool usesRelativeActions() const
    {
        return m_options.relative ? m_options.relative->enabled
                                  : m_config.pi() != nullptr && m_config.pi()->useRelativeActions;
    }

    void addRelative(io::ProcessorPipeline& pipeline) const
    {
        if (!usesRelativeActions()) {
            return;
        }
        std::vector<std::string> names = m_options.actionNames;
        std::vector<std::string> excluded;
        if (const io::PiConfig* pi = m_config.pi()) {
            excluded = pi->relativeExcludeJoints;
            names = pi->actionFeatureNames.empty() ? names : pi->actionFeatureNames;
        }
        if (m_options.relative) {
            excluded = m_options.relative->excludedJoints;
            names = m_options.relative->actionNames;
        }
        OrderedJson config { { "enabled", true }, { "exclude_joints", excluded }, { "action_names", nullptr } };
        if (!names.empty()) {
            config["action_names"] = names;
        }
        pipeline.steps.push_back(
            { .registryName = "relative_actions_processor", .config = config.dump(), .stateFile = {} });
    }

    void addNormalizer(io::ProcessorPipeline& pipeline, bool withState) const
    {
        pipeline.steps.push_back(
            { .registryName = "normalizer_processor",
              .config = normalizerJson({ &m_config.inputFeatures, &m_config.outputFeatures }).dump(),
              .stateFile = {} });
        if (withState) {
            pipeline.steps.back().stateFile = stateFileName(pipeline, pipeline.steps.size() - 1);
        }
    }

    OrderedJson normalizerJson(const std::vector<const std::vector<io::PolicyFeature>*>& features) const
    {
        OrderedJson mapping = OrderedJson::object();
        for (const auto& [type, mode] : m_config.normalizationMapping) {
            mapping[std::string(io::featureTypeName(type))] = io::normalizationModeName(mode);
        }
        OrderedJson config = OrderedJson::object();
        config["eps"] = 1e-8;
        config["features"] = featuresJson(features);
        config["norm_map"] = mapping;
        return config;
    }

    OrderedJson tokenizerJson() const
    {
        const io::SmolVlaConfig* smolvla = m_config.smolvla();
        return { { "max_length", m_config.tokenizerMaxLength },
                 { "task_key", "task" },
                 { "padding_side", "right" },
                 { "padding", smolvla != nullptr ? smolvla->padLanguageTo : "max_length" },
                 { "truncation", true },
                 { "tokenizer_name", smolvla != nullptr ? smolvla->vlmModelName : kPaligemma } };
    }

    static OrderedJson deviceJson(const std::string& device)
    {
        return { { "device", device.substr(0, device.find(':')) }, { "float_dtype", nullptr } };
    }

    const io::PolicyConfig& m_config;
    const ProcessorOptions& m_options;
};

Result<void> checkConfig(const io::PolicyConfig& config)
{
    if (config.smolvla() == nullptr && config.pi() == nullptr && config.openvla() == nullptr) {
        return fail(Errc::Unsupported, fmt::format("no processor for the policy type \"{}\"", config.type), "type");
    }
    if (config.smolvla() != nullptr && config.smolvla()->adaptToPiAloha) {
        return fail(Errc::Unsupported, "adapt_to_pi_aloha is not supported", "adapt_to_pi_aloha");
    }
    return {};
}

/// OpenVLA has no pipeline files: prompts, images and statistics are fixed by its configuration.
Result<std::shared_ptr<PolicyProcessorData>> openVlaData(const io::PolicyConfig& config,
                                                         const ProcessorOptions& options)
{
    auto data = std::make_shared<PolicyProcessorData>();
    data->config = config;
    const auto& openvla = std::get<io::OpenVlaConfig>(config.model);
    RW_TRY(data->device, deviceNamed(options.device));
    data->unnormKey = options.unnormKey;
    data->openVlaActions = openvla.normStats;
    if (!openvla.imageSizes.empty()) {
        data->openVlaImages.size = openvla.imageSizes.front();
    }
    static const std::map<std::string, SquareFit> kFits { { "letterbox", SquareFit::Letterbox },
                                                          { "resize-crop", SquareFit::Crop } };
    if (const auto fit = kFits.find(openvla.imageResizeStrategy); fit != kFits.end()) {
        data->openVlaImages.fit = fit->second;
    }
    if (!openvla.useFusedVisionBackbone) {
        data->openVlaImages.means.resize(1);
        data->openVlaImages.stds.resize(1);
    }
    return data;
}

std::vector<double> asVector(const at::Tensor& tensor)
{
    const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
    return { values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel() };
}

/// Statistics of a new data set in OpenVLA's form; every dimension is scaled.
std::optional<io::ActionStatistics> openVlaStatistics(const Statistics& statistics)
{
    const auto action = statistics.find(kActionKey);
    if (action == statistics.end() || !action->second.contains("q01") || !action->second.contains("q99")) {
        return std::nullopt;
    }
    io::ActionStatistics result;
    const std::pair<const char*, std::vector<double>*> fields[] {
        { "q01", &result.q01 }, { "q99", &result.q99 }, { "mean", &result.mean },
        { "std", &result.std }, { "min", &result.min }, { "max", &result.max },
    };
    for (const auto& [name, values] : fields) {
        if (const auto found = action->second.find(name); found != action->second.end()) {
            *values = asVector(found->second);
        }
    }
    return result;
}

Result<std::shared_ptr<PolicyProcessorData>> loadOpenVla(const io::PolicyConfig& config, const fs::path& folder,
                                                         const ProcessorOptions& options,
                                                         std::vector<Warning>& warnings)
{
    RW_TRY(auto data, openVlaData(config, options));
    std::error_code ignored;
    if (const fs::path file = folder / "preprocessor_config.json"; fs::exists(file, ignored)) {
        RW_TRY(const std::string text, readFile(file));
        RW_TRY(data->openVlaImages, parseOpenVlaImageConfig(text, file.string()));
    }
    RW_TRY(const fs::path place, locateTokenizer("tokenizer", folder, options));
    RW_TRY(data->openVlaTokenizer, io::Tokenizer::load(place, warnings));
    return data;
}

/// Statistics that old checkpoints keep among their weights.
Result<Statistics> statisticsAmongWeights(const io::PolicyConfig& config, const fs::path& folder)
{
    const auto file = tensor::TensorFile::open(folder);
    if (!file) {
        return file.error().code == Errc::FileNotFound ? Result<Statistics>(Statistics {})
                                                       : tl::unexpected<Error>(file.error());
    }
    std::map<std::string, at::Tensor> tensors;
    for (const std::string& name : file->names()) {
        if (isLegacyStatistic(name)) {
            RW_TRY(tensors[name], file->tensor(name));
        }
    }
    std::vector<io::PolicyFeature> features = config.inputFeatures;
    features.insert(features.end(), config.outputFeatures.begin(), config.outputFeatures.end());
    return legacyStatistics(tensors, features);
}

} // namespace

Result<PolicyProcessor> PolicyProcessor::load(const fs::path& folder, const ProcessorOptions& options,
                                              std::vector<Warning>& warnings)
{
    RW_TRY(io::PolicyConfig config, io::readPolicyConfig(folder, warnings));
    RW_TRY_VOID(checkConfig(config));
    if (config.openvla() != nullptr) {
        RW_TRY(auto data, loadOpenVla(config, folder, options, warnings));
        return PolicyProcessor(std::move(data));
    }
    const auto loadTokenizer = [&](const std::string& name) -> Result<std::optional<io::Tokenizer>> {
        RW_TRY(const fs::path place, locateTokenizer(name, folder, options));
        RW_TRY(io::Tokenizer tokenizer, io::Tokenizer::load(place, warnings));
        return tokenizer;
    };
    const fs::path preFile = folder / (std::string(kPreprocessor) + ".json");
    const fs::path postFile = folder / (std::string(kPostprocessor) + ".json");
    std::error_code ignored;
    if (!fs::exists(preFile, ignored) && !fs::exists(postFile, ignored)) {
        RW_TRY(const Statistics statistics, statisticsAmongWeights(config, folder));
        const bool newline = config.type != "pi05";
        RW_TRY(auto tokenizer,
               loadTokenizer(newline && config.smolvla() != nullptr ? config.smolvla()->vlmModelName : kPaligemma));
        RW_TRY(PolicyProcessor processor, create(config, statistics, std::move(tokenizer), options));
        warnings.push_back(
            { "no processor files: the pipelines were made from config.json and the statistics among the "
              "weights",
              folder.string() });
        warnWithoutStatistics(*processor.m_data, folder.string(), warnings);
        return processor;
    }
    auto data = std::make_shared<PolicyProcessorData>();
    RW_TRY(data->device, deviceNamed(options.device));
    RW_TRY(data->pre, io::readProcessorPipeline(preFile, warnings));
    RW_TRY(data->post, io::readProcessorPipeline(postFile, warnings));
    StepSources sources { .file = preFile.string(),
                          .loadStatistics = [&](const std::string& stateFile) -> Result<Statistics> {
                              if (stateFile.empty()) {
                                  return Statistics {};
                              }
                              RW_TRY(auto flat, tensor::loadTensors(folder / stateFile));
                              for (auto& [name, values] : flat) {
                                  values = values.to(at::kFloat).clone();
                              }
                              return nestedStatistics(flat);
                          },
                          .loadTokenizer = loadTokenizer,
                          .options = options,
                          .maxStateDim = config.maxStateDim,
                          .isPostprocessor = false,
                          .relative = {} };
    data->config = std::move(config);
    RW_TRY_VOID(buildSteps(*data, sources));
    warnWithoutStatistics(*data, preFile.string(), warnings);
    return PolicyProcessor(std::move(data));
}

Result<PolicyProcessor> PolicyProcessor::create(const io::PolicyConfig& config, const Statistics& statistics,
                                                std::optional<io::Tokenizer> tokenizer, const ProcessorOptions& options)
{
    RW_TRY_VOID(checkConfig(config));
    if (config.openvla() != nullptr) {
        RW_TRY(auto data, openVlaData(config, options));
        data->openVlaTokenizer = std::move(tokenizer);
        if (auto own = openVlaStatistics(statistics)) {
            data->openVlaActions = { { options.unnormKey, std::move(*own) } };
        }
        return PolicyProcessor(std::move(data));
    }
    auto data = std::make_shared<PolicyProcessorData>();
    data->config = config;
    RW_TRY(data->device, deviceNamed(options.device));
    const PipelineMaker maker(config, options);
    data->pre = maker.preprocessor(!statistics.empty());
    data->post = maker.postprocessor(!statistics.empty());
    StepSources sources { .file = "(made from the configuration)",
                          .loadStatistics = [&](const std::string&) -> Result<Statistics> { return statistics; },
                          .loadTokenizer = [&](const std::string&) -> Result<std::optional<io::Tokenizer>> {
                              return tokenizer;
                          },
                          .options = options,
                          .maxStateDim = config.maxStateDim,
                          .isPostprocessor = false,
                          .relative = {} };
    RW_TRY_VOID(buildSteps(*data, sources));
    return PolicyProcessor(std::move(data));
}

Result<void> PolicyProcessor::save(const fs::path& folder) const
{
    if (m_data->config.openvla() != nullptr) {
        return {};
    }
    for (const bool post : { false, true }) {
        const io::ProcessorPipeline& pipeline = post ? m_data->post : m_data->pre;
        const auto& steps = post ? m_data->postSteps : m_data->preSteps;
        for (std::size_t i = 0; i < steps.size(); ++i) {
            const std::string& file = pipeline.steps[i].stateFile;
            if (file.empty() || steps[i]->normalizer() == nullptr) {
                continue;
            }
            auto flat = flatStatistics(steps[i]->normalizer()->statistics());
            for (auto& [name, values] : flat) {
                values = values.to(at::kFloat);
            }
            RW_TRY_VOID(tensor::saveTensors(folder / file, tensor::TensorMap(flat.begin(), flat.end())));
        }
        const fs::path path = folder / (std::string(post ? kPostprocessor : kPreprocessor) + ".json");
        RW_TRY_VOID(writeFileAtomically(path, jsonText(io::processorPipelineJson(pipeline))));
    }
    return {};
}

} // namespace rankwise::models
