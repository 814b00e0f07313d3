// One function for each kind of thing; the kind is found by names first, then by content.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/inspection.h"

#include "backend/base/file.h"
#include "backend/data/run_directory.h"
#include "backend/io/adapter_config.h"
#include "backend/io/checkpoint.h"
#include "backend/io/event_file.h"
#include "backend/io/policy_config.h"
#include "backend/io/tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

bool isFile(const fs::path& path)
{
    std::error_code error;
    return fs::is_regular_file(path, error);
}

bool isFolder(const fs::path& path)
{
    std::error_code error;
    return fs::is_directory(path, error);
}

void addPart(Inspection& inspection, std::string role, const fs::path& path)
{
    std::error_code error;
    const auto bytes = fs::is_regular_file(path, error) ? fs::file_size(path, error) : 0;
    inspection.parts.push_back({ std::move(role), path, error ? 0 : bytes });
}

void add(TensorTotal& total, const InspectedTensor& tensor)
{
    ++total.tensors;
    total.parameters += tensor.parameters;
    total.bytes += tensor.bytes;
}

/// Totals, groups and the list of a checkpoint's tensors; NaN and infinity become problems.
Result<void> addTensors(Inspection& inspection, const io::Checkpoint& checkpoint, const InspectionOptions& options,
                        const JobContext& job)
{
    std::map<std::string, io::NonFiniteCount> bad;
    if (options.values == ValueScan::All
        || (options.values == ValueScan::Small && checkpoint.byteCount() <= kSmallCheckpointBytes)) {
        RW_TRY(bad, io::scanNonFinite(checkpoint, job));
        inspection.valuesScanned = true;
    }
    const auto groupOf = moduleGroups(checkpoint.names());
    std::map<std::string, TensorTotal> groups;
    for (const std::string& name : checkpoint.names()) {
        RW_TRY(io::TensorInfo info, checkpoint.info(name));
        InspectedTensor tensor;
        tensor.name = name;
        tensor.dtype = io::dtypeName(info.dtype);
        tensor.parameters = info.elementCount();
        tensor.bytes = info.byteCount();
        tensor.shape = std::move(info.shape);
        if (const auto found = bad.find(name); found != bad.end()) {
            tensor.nan = found->second.nan;
            tensor.infinite = found->second.infinite;
        }
        add(inspection.total, tensor);
        add(inspection.dtypes[tensor.dtype], tensor);
        add(groups[groupOf.at(name)], tensor);
        if (options.listTensors) {
            inspection.tensors.push_back(std::move(tensor));
        }
    }
    inspection.groups.assign(groups.begin(), groups.end());
    std::size_t shown = 0;
    for (const auto& [name, count] : bad) {
        if (++shown <= 20) {
            inspection.problems.push_back(
                { fmt::format("holds {} NaN and {} infinite values", count.nan, count.infinite),
                  io::displayName(name) });
        }
    }
    if (shown > 20) {
        inspection.problems.push_back({ fmt::format("{} more tensors hold NaN or infinite values", shown - 20), {} });
    }
    return {};
}

OrderedJson metadataJson(const io::Checkpoint& checkpoint)
{
    OrderedJson json = OrderedJson::object();
    for (const auto& [key, value] : checkpoint.metadata()) {
        json[key] = value;
    }
    return json;
}

Result<Inspection> inspectTensors(const fs::path& path, const InspectionOptions& options, const JobContext& job)
{
    Inspection inspection;
    RW_TRY(const io::Checkpoint checkpoint, io::Checkpoint::open(path, inspection.problems));
    const bool sharded = checkpoint.files().size() != 1 || path.extension() == ".json";
    inspection.kind = sharded ? InspectionKind::ShardedTensors : InspectionKind::Tensors;
    if (path.extension() == ".json") {
        addPart(inspection, "index", path);
    }
    for (const fs::path& file : checkpoint.files()) {
        addPart(inspection, sharded ? "shard" : "weights", file);
    }
    RW_TRY_VOID(addTensors(inspection, checkpoint, options, job));
    OrderedJson summary = OrderedJson::object();
    summary["metadata"] = metadataJson(checkpoint);
    summary["aliases"] = checkpoint.aliases();
    inspection.summary = summary.dump();
    return inspection;
}

OrderedJson featuresJson(const std::vector<io::PolicyFeature>& features)
{
    OrderedJson json = OrderedJson::object();
    for (const io::PolicyFeature& feature : features) {
        json[feature.name] = { { "type", std::string(io::featureTypeName(feature.type)) }, { "shape", feature.shape } };
    }
    return json;
}

OrderedJson policySummary(const io::PolicyConfig& config)
{
    OrderedJson json = OrderedJson::object();
    json["type"] = config.type;
    if (const io::OpenVlaConfig* openvla = config.openvla()) {
        json["action_bins"] = openvla->nActionBins;
        json["image_sizes"] = openvla->imageSizes;
        json["vocab_size"] = openvla->text.vocabSize;
        OrderedJson datasets = OrderedJson::array();
        for (const auto& [name, statistics] : openvla->normStats) {
            datasets.push_back(name);
        }
        json["norm_stats"] = std::move(datasets);
        return json;
    }
    json["chunk_size"] = config.chunkSize;
    json["n_action_steps"] = config.nActionSteps;
    json["max_state_dim"] = config.maxStateDim;
    json["max_action_dim"] = config.maxActionDim;
    json["inputs"] = featuresJson(config.inputFeatures);
    json["outputs"] = featuresJson(config.outputFeatures);
    OrderedJson mapping = OrderedJson::object();
    for (const auto& [type, mode] : config.normalizationMapping) {
        mapping[std::string(io::featureTypeName(type))] = std::string(io::normalizationModeName(mode));
    }
    json["normalization"] = std::move(mapping);
    if (const io::SmolVlaConfig* smolvla = config.smolvla()) {
        json["vlm_layers"] = smolvla->numVlmLayers;
        json["vlm_width"] = smolvla->vlm.text.hiddenSize;
        json["expert_width"] = smolvla->expertHiddenSize();
        json["flow_steps"] = smolvla->numSteps;
    } else if (const io::PiConfig* pi = config.pi()) {
        json["vlm_width"] = pi->sizes.text.hiddenSize;
        json["expert_width"] = pi->sizes.expert.hiddenSize;
        json["flow_steps"] = pi->numInferenceSteps;
    }
    return json;
}

bool isNormalizer(const std::string& registryName)
{
    return registryName == "normalizer_processor" || registryName == "unnormalizer_processor";
}

/// The processors beside a policy: their state files must be there and readable.
Result<void> addProcessors(Inspection& inspection, const fs::path& folder, OrderedJson& summary)
{
    for (const char* role : { "preprocessor", "postprocessor" }) {
        const fs::path file = folder / fmt::format("policy_{}.json", role);
        if (!isFile(file)) {
            continue;
        }
        addPart(inspection, role, file);
        RW_TRY(const auto pipeline, io::readProcessorPipeline(file, inspection.problems));
        OrderedJson steps = OrderedJson::array();
        for (const io::ProcessorStep& step : pipeline.steps) {
            steps.push_back(step.registryName);
            if (step.stateFile.empty()) {
                if (isNormalizer(step.registryName)) {
                    inspection.problems.push_back(
                        { "the step " + step.registryName + " has no statistics: states and actions pass unchanged",
                          file.string() });
                }
                continue;
            }
            const fs::path state = folder / step.stateFile;
            if (!isFile(state)) {
                return fail(Errc::FileNotFound,
                            fmt::format("the step {} needs the state file {}, which is missing", step.registryName,
                                        step.stateFile),
                            file.string());
            }
            RW_TRY(const auto checkpoint, io::Checkpoint::open(state, inspection.problems));
            addPart(inspection, "statistics", state);
            if (checkpoint.names().empty()) {
                inspection.problems.push_back({ "holds no statistics", state.string() });
            }
        }
        summary[role] = std::move(steps);
    }
    return {};
}

Result<Inspection> inspectPolicy(const fs::path& folder, const InspectionOptions& options, const JobContext& job)
{
    Inspection inspection;
    RW_TRY(const io::PolicyConfig config, io::readPolicyConfig(folder, inspection.problems));
    addPart(inspection, "config", folder / "config.json");
    if (isFile(folder / "vlm_config.json")) {
        addPart(inspection, "vlm_config", folder / "vlm_config.json");
    }
    OrderedJson summary = policySummary(config);
    RW_TRY_VOID(addProcessors(inspection, folder, summary));
    const fs::path weights = io::findWeights(folder);
    if (weights.empty()) {
        inspection.kind = InspectionKind::PolicyConfig;
    } else {
        inspection.kind = InspectionKind::Policy;
        RW_TRY(const io::Checkpoint checkpoint, io::Checkpoint::open(weights, inspection.problems));
        for (const fs::path& file : checkpoint.files()) {
            addPart(inspection, checkpoint.files().size() == 1 ? "weights" : "shard", file);
        }
        RW_TRY_VOID(addTensors(inspection, checkpoint, options, job));
    }
    inspection.summary = summary.dump();
    return inspection;
}

Result<Inspection> inspectPolicyConfig(const fs::path& file)
{
    Inspection inspection;
    inspection.kind = InspectionKind::PolicyConfig;
    RW_TRY(const io::PolicyConfig config, io::readPolicyConfig(file, inspection.problems));
    addPart(inspection, "config", file);
    inspection.summary = policySummary(config).dump();
    return inspection;
}

OrderedJson selectionJson(const io::ModuleSelection& selection)
{
    switch (selection.kind) {
    case io::ModuleSelection::Kind::List:
        return selection.names;
    case io::ModuleSelection::Kind::Pattern:
        return selection.pattern;
    case io::ModuleSelection::Kind::AllLinear:
        return "all-linear";
    case io::ModuleSelection::Kind::None:
        break;
    }
    return nullptr;
}

OrderedJson adapterSummary(const io::AdapterFolder& adapter)
{
    const io::AdapterConfig& config = adapter.config;
    OrderedJson json = OrderedJson::object();
    json["peft_type"] = config.peftType;
    json["base_model"] = config.baseModel;
    json["r"] = config.type == io::PeftType::AdaLora ? config.adalora.initR : config.r;
    json["lora_alpha"] = config.loraAlpha;
    json["use_rslora"] = config.useRslora;
    json["use_dora"] = config.useDora;
    json["target_modules"] = selectionJson(config.targetModules);
    json["modules_to_save"] = config.modulesToSave;
    OrderedJson modules = OrderedJson::array();
    for (const io::AdapterModule& module : adapter.modules) {
        modules.push_back({ { "path", module.path },
                            { "rank", module.rank },
                            { "alpha", module.alpha },
                            { "in", module.inFeatures },
                            { "out", module.outFeatures },
                            { "targeted", module.targeted } });
    }
    json["modules"] = std::move(modules);
    json["unknown_keys"] = config.unknownKeys;
    return json;
}

Result<Inspection> inspectAdapter(const fs::path& folder, const InspectionOptions& options, const JobContext& job)
{
    Inspection inspection;
    inspection.kind = InspectionKind::Adapter;
    std::vector<Warning> again; // the weights are opened twice, their warnings are wanted once
    RW_TRY(const io::AdapterFolder adapter, io::readAdapterFolder(folder, inspection.problems));
    addPart(inspection, "config", folder / "adapter_config.json");
    addPart(inspection, "weights", folder / "adapter_model.safetensors");
    OrderedJson summary = adapterSummary(adapter);
    if (isFile(folder / "config.json")) {
        RW_TRY(const io::PolicyConfig config, io::readPolicyConfig(folder, inspection.problems));
        addPart(inspection, "policy_config", folder / "config.json");
        summary["policy"] = policySummary(config);
        RW_TRY_VOID(addProcessors(inspection, folder, summary));
    }
    RW_TRY(const io::Checkpoint checkpoint, io::Checkpoint::open(folder / "adapter_model.safetensors", again));
    RW_TRY_VOID(addTensors(inspection, checkpoint, options, job));
    inspection.summary = summary.dump();
    return inspection;
}

Result<Inspection> inspectAdapterConfig(const fs::path& file)
{
    Inspection inspection;
    inspection.kind = InspectionKind::Adapter;
    io::AdapterFolder adapter;
    RW_TRY(adapter.config, io::readAdapterConfig(file, inspection.problems));
    addPart(inspection, "config", file);
    inspection.summary = adapterSummary(adapter).dump();
    return inspection;
}

Result<Inspection> inspectPipeline(const fs::path& file)
{
    Inspection inspection;
    inspection.kind = InspectionKind::ProcessorPipeline;
    RW_TRY(const auto pipeline, io::readProcessorPipeline(file, inspection.problems));
    addPart(inspection, "config", file);
    OrderedJson steps = OrderedJson::array();
    for (const io::ProcessorStep& step : pipeline.steps) {
        steps.push_back({ { "registry_name", step.registryName }, { "state_file", step.stateFile } });
    }
    inspection.summary = OrderedJson({ { "name", pipeline.name }, { "steps", std::move(steps) } }).dump();
    return inspection;
}

Result<Inspection> inspectTokenizer(const fs::path& path)
{
    Inspection inspection;
    inspection.kind = InspectionKind::Tokenizer;
    RW_TRY(const io::Tokenizer tokenizer, io::Tokenizer::load(path, inspection.problems));
    if (isFolder(path)) {
        for (const char* name : { "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                                  "special_tokens_map.json", "added_tokens.json" }) {
            if (isFile(path / name)) {
                addPart(inspection, name, path / name);
            }
        }
    } else {
        addPart(inspection, "tokenizer", path);
    }
    const auto token = [&tokenizer](const std::optional<io::TokenId>& id) -> OrderedJson {
        return id ? OrderedJson({ { "id", *id }, { "token", tokenizer.idToToken(*id).value_or("") } }) : OrderedJson();
    };
    const io::SpecialTokens& special = tokenizer.specialTokens();
    OrderedJson summary = OrderedJson::object();
    summary["vocab_size"] = tokenizer.vocabSize();
    summary["model_vocab_size"] = tokenizer.modelVocabSize();
    summary["bos"] = token(special.bos);
    summary["eos"] = token(special.eos);
    summary["unk"] = token(special.unk);
    summary["pad"] = token(special.pad);
    inspection.summary = summary.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return inspection;
}

Result<Inspection> inspectRun(const fs::path& root)
{
    Inspection inspection;
    inspection.kind = InspectionKind::Run;
    const RunPaths paths { root };
    RW_TRY(const Json run, readRunJson(paths));
    addPart(inspection, "run", paths.run());
    OrderedJson summary = OrderedJson::object();
    if (const auto status = readRunStatus(paths)) {
        addPart(inspection, "status", paths.status());
        summary["state"] = std::string(runStateName(status->state));
        summary["step"] = status->step;
        summary["total"] = status->total;
    } else {
        inspection.problems.push_back({ "status: " + status.error().message, status.error().subject });
    }
    if (isFile(paths.events())) {
        addPart(inspection, "events", paths.events());
    }
    OrderedJson checkpoints = OrderedJson::array();
    for (const CheckpointInfo& checkpoint : listCheckpoints(paths)) {
        addPart(inspection, "checkpoint", checkpoint.folder);
        checkpoints.push_back(checkpoint.step);
    }
    summary["checkpoints"] = std::move(checkpoints);
    summary["snapshots"] = listSnapshots(paths).size();
    for (const char* key : { "seed", "method", "policy", "config" }) {
        if (run.contains(key)) {
            summary[key] = OrderedJson::parse(run.at(key).dump());
        }
    }
    inspection.summary = summary.dump();
    return inspection;
}

Result<Inspection> inspectEvents(const fs::path& file)
{
    RW_TRY(const io::EventFile events, io::readEventFile(file));
    Inspection inspection;
    inspection.kind = InspectionKind::EventFile;
    addPart(inspection, "events", file);
    std::map<std::string, std::uint64_t> tags;
    std::int64_t lastStep = 0;
    for (const io::Event& event : events.events) {
        lastStep = std::max(lastStep, event.step);
        for (const io::SummaryValue& value : event.values) {
            ++tags[io::displayName(value.tag, 200)];
        }
    }
    if (!events.problem.empty()) {
        inspection.problems.push_back({ "reading stopped early: " + events.problem, file.string() });
    }
    OrderedJson summary = OrderedJson::object();
    summary["records"] = events.events.size();
    summary["last_step"] = lastStep;
    summary["tags"] = tags;
    inspection.summary = summary.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return inspection;
}

/// The newest event file of a folder, or an empty path.
fs::path findEventFile(const fs::path& folder)
{
    fs::path newest;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        const bool isEvents = it->path().filename().string().find("tfevents") != std::string::npos;
        if (isEvents && isFile(it->path()) && it->path() > newest) {
            newest = it->path();
        }
    }
    return newest;
}

Result<Inspection> inspectFolder(const fs::path& folder, const InspectionOptions& options, const JobContext& job,
                                 const DatasetInspector& dataset)
{
    if (isFile(folder / "adapter_config.json")) {
        return inspectAdapter(folder, options, job);
    }
    if (isFile(folder / "meta" / "info.json")) {
        return dataset(folder, job);
    }
    if (isFile(folder / "run.json")) {
        return inspectRun(folder);
    }
    if (isFile(folder / "config.json")) {
        return inspectPolicy(folder, options, job);
    }
    if (isFolder(folder / "pretrained_model")) {
        return inspectFolder(folder / "pretrained_model", options, job, dataset);
    }
    if (!io::findWeights(folder).empty()) {
        return inspectTensors(io::findWeights(folder), options, job);
    }
    if (isFile(folder / "tokenizer.json") || isFile(folder / "tokenizer.model")) {
        return inspectTokenizer(folder);
    }
    if (const fs::path events = findEventFile(folder); !events.empty()) {
        return inspectEvents(events);
    }
    // Says which pickle, if that is why there are no weights.
    const auto opened = io::Checkpoint::open(folder);
    if (!opened && opened.error().code == Errc::PickleRefused) {
        return tl::unexpected(opened.error());
    }
    return fail(Errc::Unsupported,
                "the folder is no checkpoint, adapter, dataset, tokenizer or run: none of config.json, "
                "adapter_config.json, meta/info.json, run.json, tokenizer.json, model.safetensors is in it",
                folder.string());
}

/// A JSON file by its top-level keys.
Result<Inspection> inspectJsonFile(const fs::path& file, const InspectionOptions& options, const JobContext& job,
                                   const DatasetInspector& dataset)
{
    if (file.filename() == "tokenizer.json") {
        return inspectTokenizer(file);
    }
    RW_TRY(const Json json, readJsonFile(file));
    const auto has = [&json](const char* key) { return json.is_object() && json.contains(key); };
    if (has("weight_map")) {
        return inspectTensors(file, options, job);
    }
    if (has("peft_type") || file.filename() == "adapter_config.json") {
        return inspectAdapterConfig(file);
    }
    if (has("steps")) {
        return inspectPipeline(file);
    }
    if (has("added_tokens") || has("pre_tokenizer") || has("post_processor")
        || (has("model") && json.at("model").is_object())) {
        return inspectTokenizer(file);
    }
    if (has("codebase_version") && file.parent_path().filename() == "meta") {
        return dataset(file.parent_path().parent_path(), job);
    }
    if (file.filename() == "run.json") {
        return inspectRun(file.parent_path());
    }
    if (has("type") || has("model_type") || file.filename() == "config.json") {
        return inspectPolicyConfig(file);
    }
    return fail(Errc::Unsupported, "is JSON, but no configuration, index or tokenizer that is known", file.string());
}

Result<Inspection> inspectFile(const fs::path& file, const InspectionOptions& options, const JobContext& job,
                               const DatasetInspector& dataset)
{
    const std::string name = file.filename().string();
    if (name.find("tfevents") != std::string::npos) {
        return inspectEvents(file);
    }
    if (file.extension() == ".json") {
        return inspectJsonFile(file, options, job, dataset);
    }
    if (file.extension() == ".model") {
        return inspectTokenizer(file);
    }
    if (file.extension() == ".parquet" || file.extension() == ".mp4") {
        return fail(Errc::Unsupported, "is one file of a dataset; inspect the dataset's folder", file.string());
    }
    return inspectTensors(file, options, job);
}

std::string humanBytes(std::uint64_t bytes)
{
    constexpr std::array kUnits { "B", "kB", "MB", "GB", "TB" };
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1000 && unit + 1 < kUnits.size()) {
        value /= 1000;
        ++unit;
    }
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits[unit]);
}

std::string withThousands(std::uint64_t value)
{
    std::string digits = std::to_string(value);
    for (std::size_t at = digits.size(); at > 3; at -= 3) {
        digits.insert(at - 3, ",");
    }
    return digits;
}

OrderedJson totalJson(const TensorTotal& total)
{
    return { { "tensors", total.tensors }, { "parameters", total.parameters }, { "bytes", total.bytes } };
}

} // namespace

std::string_view inspectionKindName(InspectionKind kind)
{
    switch (kind) {
    case InspectionKind::Tensors:
        return "tensors";
    case InspectionKind::ShardedTensors:
        return "sharded_tensors";
    case InspectionKind::Policy:
        return "policy";
    case InspectionKind::PolicyConfig:
        return "policy_config";
    case InspectionKind::Adapter:
        return "adapter";
    case InspectionKind::ProcessorPipeline:
        return "processor_pipeline";
    case InspectionKind::Tokenizer:
        return "tokenizer";
    case InspectionKind::Dataset:
        return "dataset";
    case InspectionKind::Run:
        return "run";
    case InspectionKind::EventFile:
        return "event_file";
    }
    return "unknown";
}

std::map<std::string, std::string> moduleGroups(const std::vector<std::string>& names, std::size_t maxGroups)
{
    // The module's path without the parameter's own name, cut before the first number and its list.
    const auto components = [](const std::string& name) {
        std::vector<std::string> parts;
        std::size_t begin = 0;
        for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', begin)) {
            std::string part = name.substr(begin, dot - begin);
            const bool isNumber =
                !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
            if (isNumber) {
                if (parts.size() > 1) {
                    parts.pop_back();
                }
                break;
            }
            parts.push_back(std::move(part));
            begin = dot + 1;
        }
        return parts;
    };
    const auto joined = [](const std::vector<std::string>& parts, std::size_t depth) {
        const auto end = parts.begin() + static_cast<std::ptrdiff_t>(std::min(depth, parts.size()));
        return fmt::format("{}", fmt::join(parts.begin(), end, "."));
    };
    std::vector<std::vector<std::string>> paths;
    std::size_t deepest = 1;
    for (const std::string& name : names) {
        paths.push_back(components(name));
        deepest = std::max(deepest, paths.back().size());
    }
    std::size_t depth = std::min<std::size_t>(deepest, 12);
    for (; depth > 1; --depth) {
        std::set<std::string> groups;
        for (const auto& path : paths) {
            groups.insert(joined(path, depth));
            if (groups.size() > maxGroups) {
                break;
            }
        }
        if (groups.size() <= maxGroups) {
            break;
        }
    }
    std::map<std::string, std::string> result;
    for (std::size_t i = 0; i < names.size(); ++i) {
        result.emplace(names[i], joined(paths[i], depth));
    }
    return result;
}

Result<Inspection> inspectPath(const fs::path& path, const InspectionOptions& options, const JobContext& job,
                               const DatasetInspector& dataset)
{
    if (job.stopped()) {
        return fail(Errc::Cancelled, "stopped before reading", path.string());
    }
    std::error_code error;
    if (!fs::exists(path, error)) {
        return fail(Errc::FileNotFound, "there is no such file or folder", path.string());
    }
    auto inspection =
        isFolder(path) ? inspectFolder(path, options, job, dataset) : inspectFile(path, options, job, dataset);
    if (inspection) {
        inspection->path = path;
    }
    return inspection;
}

OrderedJson inspectionJson(const Inspection& inspection)
{
    OrderedJson json = OrderedJson::object();
    json["kind"] = std::string(inspectionKindName(inspection.kind));
    json["path"] = inspection.path.string();
    json["parameters"] = inspection.total.parameters;
    json["tensor_count"] = inspection.total.tensors;
    json["bytes"] = inspection.total.bytes;
    OrderedJson parts = OrderedJson::array();
    for (const InspectedPart& part : inspection.parts) {
        parts.push_back({ { "role", part.role }, { "path", part.path.string() }, { "bytes", part.bytes } });
    }
    json["parts"] = std::move(parts);
    OrderedJson dtypes = OrderedJson::object();
    for (const auto& [name, total] : inspection.dtypes) {
        dtypes[name] = totalJson(total);
    }
    json["dtypes"] = std::move(dtypes);
    OrderedJson groups = OrderedJson::array();
    for (const auto& [name, total] : inspection.groups) {
        OrderedJson group = totalJson(total);
        group["name"] = name;
        groups.push_back(std::move(group));
    }
    json["groups"] = std::move(groups);
    json["summary"] = OrderedJson::parse(inspection.summary);
    OrderedJson tensors = OrderedJson::array();
    for (const InspectedTensor& tensor : inspection.tensors) {
        OrderedJson entry { { "name", tensor.name },
                            { "dtype", tensor.dtype },
                            { "shape", tensor.shape },
                            { "parameters", tensor.parameters },
                            { "bytes", tensor.bytes } };
        if (tensor.nan + tensor.infinite > 0) {
            entry["nan"] = tensor.nan;
            entry["infinite"] = tensor.infinite;
        }
        tensors.push_back(std::move(entry));
    }
    json["tensors"] = std::move(tensors);
    json["values_scanned"] = inspection.valuesScanned;
    OrderedJson problems = OrderedJson::array();
    for (const Warning& problem : inspection.problems) {
        problems.push_back({ { "message", problem.message }, { "subject", problem.subject } });
    }
    json["problems"] = std::move(problems);
    return json;
}

std::string inspectionText(const Inspection& inspection, std::size_t maxTensors)
{
    std::string text = fmt::format("{}: {}\n", inspection.path.string(), inspectionKindName(inspection.kind));
    if (inspection.total.tensors > 0) {
        text += fmt::format("{} parameters in {} tensors, {}\n", withThousands(inspection.total.parameters),
                            inspection.total.tensors, humanBytes(inspection.total.bytes));
    }
    for (const InspectedPart& part : inspection.parts) {
        text += fmt::format("  {:<14} {}  ({})\n", part.role, part.path.string(), humanBytes(part.bytes));
    }
    const auto rows = [&text](const auto& totals, std::string_view title) {
        if (totals.empty()) {
            return;
        }
        std::size_t width = title.size();
        for (const auto& [name, total] : totals) {
            width = std::max(width, std::min<std::size_t>(name.size(), 80));
        }
        text += fmt::format("\n{:<{}}  {:>8}  {:>15}  {:>10}\n", title, width, "tensors", "parameters", "bytes");
        for (const auto& [name, total] : totals) {
            text += fmt::format("{:<{}}  {:>8}  {:>15}  {:>10}\n", name.empty() ? "(top)" : io::displayName(name, 80),
                                width, total.tensors, withThousands(total.parameters), humanBytes(total.bytes));
        }
    };
    rows(inspection.dtypes, "dtype");
    rows(inspection.groups, "module");
    const OrderedJson summary = OrderedJson::parse(inspection.summary);
    if (!summary.empty()) {
        text += '\n';
        for (const auto& [key, value] : summary.items()) {
            std::string shown = value.is_string() ? value.get<std::string>()
                                                  : value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
            text += fmt::format("{:<16} {}\n", io::displayName(key, 80), io::displayName(shown, 300));
        }
    }
    if (maxTensors > 0 && !inspection.tensors.empty()) {
        text += fmt::format("\n{:<8} {:<20} tensor\n", "dtype", "shape");
        for (std::size_t i = 0; i < std::min(maxTensors, inspection.tensors.size()); ++i) {
            const InspectedTensor& tensor = inspection.tensors[i];
            text += fmt::format("{:<8} {:<20} {}\n", tensor.dtype, io::shapeText(tensor.shape),
                                io::displayName(tensor.name, 200));
        }
        if (inspection.tensors.size() > maxTensors) {
            text += fmt::format("... and {} more\n", inspection.tensors.size() - maxTensors);
        }
    }
    const bool unread = inspection.total.tensors > 0 && !inspection.valuesScanned;
    text += unread ? "\nvalues were not looked at; --scan looks for NaN and infinity in all of them\n" : "";
    text += inspection.problems.empty() ? "\nno problems found\n" : "\nproblems:\n";
    for (const Warning& problem : inspection.problems) {
        text += fmt::format("  - {}{}{}\n", problem.subject, problem.subject.empty() ? "" : ": ", problem.message);
    }
    return text;
}

} // namespace rankwise::data
