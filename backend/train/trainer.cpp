// From a configuration to a running loop.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/trainer.h"

#include "backend/base/file.h"
#include "backend/base/log.h"
#include "backend/base/sha256.h"
#include "backend/data/dataset_digest.h"
#include "backend/data/statistics.h"
#include "backend/io/event_file.h"
#include "backend/models/policy_registry.h"
#include "backend/models/processor.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/dataset_source.h"
#include "backend/train/diagnose.h"
#include "backend/train/localization_head.h"
#include "backend/train/run_directory.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <system_error>
#include <utility>

#include <unistd.h>

#include <ATen/core/grad_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/isfinite.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

/// Everything a run works on.
struct Assembly {
    std::shared_ptr<const data::DatasetReader> reader;
    DatasetMapping mapping;
    std::unique_ptr<models::Policy> policy;
    std::optional<models::PolicyProcessor> processor;
    std::optional<models::PolicyProcessor> brought; ///< That of the checkpoint, where it has one.
    models::Statistics statistics;                  ///< The dataset's, whoever's normalise.
    std::unique_ptr<adapters::AdaptationMethod> method;
    std::optional<LocalizationHead> localization;
    std::unique_ptr<AdamW> optimizer;
    std::unique_ptr<DatasetSource> source;
    std::vector<Warning> warnings;

    ~Assembly()
    {
        if (method && policy) {
            method->detach(*policy);
        }
    }
};

const LocalizationHead* localizationOf(const Assembly& parts)
{
    return parts.localization ? &*parts.localization : nullptr;
}

std::vector<std::string> cameraKeys(const DatasetMapping& mapping)
{
    std::vector<std::string> keys;
    for (const auto& [key, name] : mapping.cameras) {
        keys.push_back(key);
    }
    return keys;
}

AdamWConfig adamOf(const TrainConfig& config)
{
    AdamWConfig adam { .beta1 = config.optimizer.betas.at(0),
                       .beta2 = config.optimizer.betas.at(1),
                       .eps = config.optimizer.eps,
                       .weightDecay = config.optimizer.weightDecay,
                       .decayMatricesOnly = config.optimizer.decayMatricesOnly,
                       .clipNorm = config.optimizer.clipNorm,
                       .emaDecay = config.ema.decay,
                       .emaWarmup = config.ema.warmup };
    for (const GroupConfig& group : config.optimizer.groups) {
        adam.groups.push_back({ group.match, group.lrScale, group.weightDecay });
    }
    return adam;
}

/// The sizes of the image tokens are the policy's own business: one pass over one sample tells them.
Result<LocalizationHead> makeLocalization(Assembly& parts, const TrainConfig& config)
{
    const std::string& key = config.localization.feature;
    const data::Feature* feature = parts.reader->info().find(key);
    if (feature == nullptr || !feature->isNumeric()) {
        return fail(Errc::FieldMissing,
                    fmt::format("the dataset has no \"{}\"; record it with `rankwise sim record --labels`, or leave "
                                "localization.feature empty",
                                key),
                    "localization.feature");
    }
    RW_TRY(const LabelLayout layout, LabelLayout::fromNames(feature->names, key));
    RW_TRY(const data::Sample sample,
           parts.reader->sample(0,
                                data::SampleRequest::forPolicy(cameraKeys(parts.mapping), parts.mapping.stateKey,
                                                               parts.mapping.actionKey, parts.policy->chunkSize())));
    RW_TRY(models::Transition transition, transitionOf({ sample }, parts.mapping));
    RW_TRY(const models::PolicyBatch batch, parts.processor->makeBatch(std::move(transition)));
    const at::NoGradGuard noGrad;
    const FlowDraw draw = drawFlow(0, 0, 0, 1, parts.policy->chunkSize(), parts.policy->paddedActionDim());
    return LocalizationHead::create(layout, parts.policy->config().cameraNames(),
                                    parts.policy->loss(batch, draw.noise, draw.time).imageTokens,
                                    streamSeed(static_cast<std::uint64_t>(config.seed), RandomStream::Adapter, 0, 1));
}

/// A fresh adapter and optimiser on the policy as it is.
Result<void> attachMethod(Assembly& parts, const TrainConfig& config)
{
    if (parts.method) {
        parts.optimizer.reset();
        parts.method->detach(*parts.policy);
        parts.method.reset();
        parts.policy->weightsChanged();
    }
    RW_TRY(auto method, adapters::makeMethod(config.method, "method"));
    RW_TRY_VOID(method->attach(*parts.policy,
                               streamSeed(static_cast<std::uint64_t>(config.seed), RandomStream::Adapter, 0, 0)));
    parts.method = std::move(method);
    std::vector<models::NamedParameter> trainable = parts.method->trainable();
    if (!config.localization.feature.empty()) {
        RW_TRY(parts.localization, makeLocalization(parts, config));
        const auto own = parts.localization->parameters();
        trainable.insert(trainable.end(), own.begin(), own.end());
    }
    RW_TRY(parts.optimizer, AdamW::create(std::move(trainable), adamOf(config)));
    parts.policy->weightsChanged();
    return {};
}

Result<std::unique_ptr<models::Policy>> makePolicy(const TrainConfig& config, const JobContext& job,
                                                   std::vector<Warning>& warnings)
{
    if (config.policy.init == "checkpoint") {
        return models::loadPolicy(fs::path(config.policy.path), {}, job);
    }
    RW_TRY(const io::PolicyConfig policy, io::readPolicyConfig(config.policy.path, warnings));
    return models::createPolicy(policy, static_cast<std::uint64_t>(config.policy.seed));
}

/// Statistics with every deviation, and every range, at least `floor`.
models::Statistics floored(models::Statistics statistics, double floor)
{
    for (auto& [feature, values] : statistics) {
        const auto widen = [&](const char* low, const char* high) {
            const auto a = values.find(low);
            const auto b = values.find(high);
            if (a != values.end() && b != values.end()) {
                const at::Tensor lack = at::clamp_min(at::Tensor(b->second.sub(a->second)).neg().add(floor), 0.0);
                a->second = a->second.sub(lack, 0.5);
                b->second = b->second.add(lack, 0.5);
            }
        };
        if (const auto std = values.find("std"); std != values.end()) {
            std->second = at::clamp_min(std->second, floor);
        }
        widen("min", "max");
        widen("q01", "q99");
        widen("q10", "q90");
    }
    return statistics;
}

/// The checkpoint's tokenizer, or the one that the configuration names.
Result<std::optional<io::Tokenizer>> findTokenizer(const TrainConfig& config,
                                                   const std::optional<models::PolicyProcessor>& brought,
                                                   std::vector<Warning>& warnings)
{
    if (brought && brought->tokenizer() != nullptr && config.policy.tokenizer.empty()) {
        return std::optional(*brought->tokenizer());
    }
    std::vector<fs::path> places;
    if (!config.policy.tokenizer.empty()) {
        places.emplace_back(config.policy.tokenizer);
    } else {
        places = { fs::path(config.policy.path) / "tokenizer", fs::path(config.policy.path) };
    }
    std::optional<Error> last;
    for (const fs::path& place : places) {
        auto tokenizer = io::Tokenizer::load(place, warnings);
        if (tokenizer) {
            return std::optional(std::move(*tokenizer));
        }
        last = tokenizer.error();
        if (last->code != Errc::FileNotFound) {
            break;
        }
    }
    return fail(last->code, "no tokenizer: " + last->message + "; name one with policy.tokenizer", last->subject);
}

/// What the configuration asks for, with the names of the dataset's actions.
models::RelativeActions relativeActions(const Assembly& parts, const TrainConfig& config)
{
    models::RelativeActions relative;
    if (config.policy.relativeActions == "on") {
        relative = { .enabled = true, .excludedJoints = { "gripper" }, .actionNames = {} };
    } else if (config.policy.relativeActions == "checkpoint") {
        if (parts.brought) {
            relative = parts.brought->relativeActions();
        } else if (const io::PiConfig* pi = parts.policy->config().pi()) {
            relative = { .enabled = pi->useRelativeActions,
                         .excludedJoints = pi->relativeExcludeJoints,
                         .actionNames = pi->actionFeatureNames };
        }
    }
    const std::vector<std::string>& names = parts.reader->info().find(parts.mapping.actionKey)->names;
    if (!names.empty()) {
        relative.actionNames = names;
    }
    return relative;
}

Result<void> makeProcessor(Assembly& parts, const TrainConfig& config, const JobContext& job)
{
    models::ProcessorOptions options;
    options.tokenizer = config.policy.tokenizer;
    std::error_code error;
    if (fs::exists(fs::path(config.policy.path) / "policy_preprocessor.json", error)) {
        RW_TRY(parts.brought, models::PolicyProcessor::load(config.policy.path, options, parts.warnings));
    }
    if (config.dataset.statistics == "checkpoint") {
        if (!parts.brought) {
            return fail(Errc::FieldInvalid,
                        "the checkpoint brings no statistics; set dataset.statistics to \"dataset\"",
                        config.policy.path);
        }
        parts.processor = parts.brought;
        RW_TRY(parts.statistics,
               datasetStatistics(*parts.reader, parts.mapping, parts.brought->relativeActions(),
                                 parts.policy->chunkSize(), job));
        return {};
    }
    options.relative = relativeActions(parts, config);
    RW_TRY(parts.statistics,
           datasetStatistics(*parts.reader, parts.mapping, *options.relative, parts.policy->chunkSize(), job));
    RW_TRY(std::optional<io::Tokenizer> tokenizer, findTokenizer(config, parts.brought, parts.warnings));
    RW_TRY(parts.processor,
           models::PolicyProcessor::create(parts.policy->config(), floored(parts.statistics, config.dataset.stdFloor),
                                           std::move(tokenizer), options));
    return {};
}

Result<void> assemble(Assembly& parts, const TrainConfig& config, const JobContext& job)
{
    job.report(0, "opening the dataset");
    data::OpenOptions options;
    options.frameCacheBytes = static_cast<std::size_t>(config.dataset.cacheMegabytes) << 20U;
    RW_TRY(parts.reader, data::DatasetReader::open(config.dataset.path, options, parts.warnings));
    job.report(0, "loading the policy");
    RW_TRY(parts.policy, makePolicy(config, job, parts.warnings));
    RW_TRY(parts.mapping, mapDataset(parts.reader->info(), parts.policy->config(), config.dataset.rename));
    parts.mapping.labelsKey = config.localization.feature;
    RW_TRY_VOID(makeProcessor(parts, config, job));
    RW_TRY_VOID(attachMethod(parts, config));
    RW_TRY(parts.source,
           DatasetSource::create(parts.reader, *parts.processor, parts.mapping, config, parts.policy->chunkSize()));
    return {};
}

void checkDataset(PreflightReport& report, const Assembly& parts, const TrainConfig& config)
{
    const data::DatasetInfo& info = parts.reader->info();
    const double epochs = static_cast<double>(config.steps * config.batchSize * config.accumulation)
        / static_cast<double>(std::max<std::int64_t>(parts.reader->frameCount(), 1));
    report.add("dataset", CheckLevel::Ok,
               fmt::format("{} episodes, {} frames at {} fps, {} tasks; the run sees each frame {:.1f} times",
                           info.totalEpisodes, parts.reader->frameCount(), info.fps, parts.reader->tasks().size(),
                           epochs));
    for (const Warning& warning : parts.warnings) {
        report.add("warning", CheckLevel::Note,
                   warning.subject.empty() ? warning.message : warning.subject + ": " + warning.message);
    }
}

void checkCameras(PreflightReport& report, const Assembly& parts)
{
    std::vector<std::string> pairs;
    for (const auto& [key, name] : parts.mapping.cameras) {
        pairs.push_back(key == name ? name : key + " as " + name);
    }
    const bool missing = !parts.mapping.missingCameras.empty();
    std::string text = fmt::format("{}", fmt::join(pairs, ", "));
    if (missing) {
        text += fmt::format("; not in the dataset and left empty: {}", fmt::join(parts.mapping.missingCameras, ", "));
    }
    if (!parts.mapping.unusedCameras.empty()) {
        text += fmt::format("; of the dataset and not used: {}", fmt::join(parts.mapping.unusedCameras, ", "));
    }
    report.add("cameras", missing ? CheckLevel::Note : CheckLevel::Ok, std::move(text));
}

/// Texts that the tokenizer would cut.
void checkTasks(PreflightReport& report, const Assembly& parts)
{
    const io::Tokenizer* tokenizer = parts.processor->tokenizer();
    const std::int64_t limit = parts.policy->config().tokenizerMaxLength;
    if (tokenizer == nullptr) {
        return;
    }
    std::vector<std::string> cut;
    for (const std::string& task : parts.reader->tasks()) {
        const auto encoded = tokenizer->encode(task + "\n");
        if (encoded && static_cast<std::int64_t>(encoded->ids.size()) > limit) {
            cut.push_back(task.size() > 60 ? task.substr(0, 57) + "..." : task);
        }
    }
    if (!cut.empty()) {
        report.add("tasks", CheckLevel::Note,
                   fmt::format("{} of {} task texts are longer than {} tokens and will be cut: {}", cut.size(),
                               parts.reader->tasks().size(), limit, fmt::join(cut, "; ")));
    }
}

/// Dataset against checkpoint, feature by feature.
void checkNormalisation(PreflightReport& report, const Assembly& parts, const TrainConfig& config)
{
    const bool fromCheckpoint = config.dataset.statistics == "checkpoint";
    bool clean = true;
    for (const auto& [feature, values] : parts.statistics) {
        const at::Tensor mean = values.at("mean").to(at::kDouble).flatten();
        const at::Tensor std = values.at("std").to(at::kDouble).flatten();
        if (!at::isfinite(mean).all().item<bool>() || !at::isfinite(std).all().item<bool>()) {
            report.add("normalisation", CheckLevel::Red,
                       feature + " has statistics that are not finite; rewrite them with `rankwise dataset stats`",
                       Errc::NotFinite);
            return;
        }
        std::vector<std::int64_t> still;
        for (std::int64_t i = 0; i < std.numel(); ++i) {
            if (std[i].item<double>() < config.dataset.stdFloor) {
                still.push_back(i);
            }
        }
        if (!still.empty()) {
            clean = false;
            report.add("normalisation", CheckLevel::Note,
                       fmt::format("{}: number {} hardly moves in the dataset; its deviation is taken as {}", feature,
                                   fmt::join(still, ", "), config.dataset.stdFloor));
        }
        if (!parts.brought || !parts.brought->statistics().contains(feature)
            || !parts.brought->statistics().at(feature).contains("std")) {
            continue;
        }
        const at::Tensor theirMean = parts.brought->statistics().at(feature).at("mean").to(at::kDouble).flatten();
        const at::Tensor theirStd = parts.brought->statistics().at(feature).at("std").to(at::kDouble).flatten();
        if (theirMean.numel() != mean.numel()) {
            report.add("normalisation", fromCheckpoint ? CheckLevel::Red : CheckLevel::Note,
                       fmt::format("{} has {} numbers in the dataset and {} in the checkpoint's statistics", feature,
                                   mean.numel(), theirMean.numel()),
                       Errc::ShapeMismatch);
            clean = false;
            continue;
        }
        for (std::int64_t i = 0; i < mean.numel(); ++i) {
            const double scale = std::max(theirStd[i].item<double>(), 1e-8);
            const double ratio = std::max(std[i].item<double>(), 1e-12) / scale;
            const double shift = std::abs(mean[i].item<double>() - theirMean[i].item<double>()) / scale;
            if (ratio > 20 || (ratio < 0.02 && std[i].item<double>() > config.dataset.stdFloor) || shift > 20) {
                report.add(
                    "normalisation", fromCheckpoint ? CheckLevel::Red : CheckLevel::Note,
                    fmt::format("{}[{}]: deviation {:.4g} in the dataset and {:.4g} in the checkpoint, means {:.1f} "
                                "deviations apart{}; {}",
                                feature, i, std[i].item<double>(), theirStd[i].item<double>(), shift,
                                data::unitHint(ratio),
                                fromCheckpoint ? "use dataset.statistics \"dataset\", or convert the units"
                                               : "the dataset's statistics are used"));
                clean = false;
                break;
            }
        }
    }
    if (clean) {
        report.add("normalisation", CheckLevel::Ok,
                   fmt::format("by the statistics of the {}", fromCheckpoint ? "checkpoint" : "dataset"));
    }
}

void checkModules(PreflightReport& report, const Assembly& parts)
{
    std::map<models::LayerGroup, std::int64_t> groups;
    for (const models::Linear& linear : parts.policy->linears()) {
        ++report.linearLayers;
        if (linear.adapter) {
            ++report.adaptedLayers;
            ++groups[linear.group];
        }
    }
    std::set<std::string> seen;
    for (const models::NamedParameter& parameter : parts.policy->parameters()) {
        report.policyNumbers += parameter.tensor.numel();
        seen.insert(parameter.name);
    }
    report.trainedNumbers = parts.optimizer->elementCount();
    std::int64_t added = 0;
    for (const models::NamedParameter& parameter : parts.optimizer->parameters()) {
        added += seen.contains(parameter.name) ? 0 : parameter.tensor.numel();
    }
    const double share = 100.0 * static_cast<double>(report.trainedNumbers)
        / static_cast<double>(std::max<std::int64_t>(report.policyNumbers + added, 1));
    report.add("modules", CheckLevel::Ok,
               fmt::format(
                   "{}: {} of {} linear layers adapted (vision {}, language {}, action {}, projections {}); {} numbers "
                   "train in {} tensors, {:.2f} % of {}",
                   parts.method->name(), report.adaptedLayers, report.linearLayers, groups[models::LayerGroup::Vision],
                   groups[models::LayerGroup::Language], groups[models::LayerGroup::Action],
                   groups[models::LayerGroup::Projection], report.trainedNumbers, parts.optimizer->parameters().size(),
                   share, report.policyNumbers + added));
}

/// Gradients, moments, averages, and what a step holds for a moment.
std::int64_t trainingBytes(const Assembly& parts, const TrainConfig& config)
{
    const std::int64_t copies = 3 + (config.ema.decay > 0 ? 1 : 0);
    return copies * static_cast<std::int64_t>(sizeof(float)) * parts.optimizer->elementCount();
}

void checkMemory(PreflightReport& report, const Assembly& parts, const TrainConfig& config)
{
    const std::int64_t resident = residentMemory();
    const std::int64_t free = availableMemory();
    // What is resident holds policy and moments already; gradients and the untouched part of moments come on top.
    const std::int64_t needed = resident + trainingBytes(parts, config);
    report.memoryBytes = std::max(needed, peakMemory());
    const auto limit =
        static_cast<std::int64_t>(config.preflight.memoryFraction * static_cast<double>(free + resident));
    const std::string text =
        fmt::format("about {} of {} that are free", bytesText(report.memoryBytes), bytesText(free + resident));
    if (free > 0 && report.memoryBytes > limit) {
        report.add("memory", CheckLevel::Red,
                   text + "; lower batch_size, adapt fewer layers, or raise preflight.memory_fraction", Errc::TooLarge);
    } else {
        report.add("memory", CheckLevel::Ok, text);
    }
}

/// One forward and backward pass on the first batch, timed; the loss must be a number.
Result<void> checkFirstBatch(PreflightReport& report, Assembly& parts, const TrainConfig& config,
                             const models::PolicyBatch& batch)
{
    const LoopParts loop { .policy = *parts.policy,
                           .method = *parts.method,
                           .optimizer = *parts.optimizer,
                           .batches = *parts.source,
                           .localization = localizationOf(parts) };
    const FlowDraw draw =
        drawFlow(static_cast<std::uint64_t>(config.seed), 0, 0, batch.actions.size(0) * config.noiseDraws,
                 parts.policy->chunkSize(), parts.policy->paddedActionDim());
    const adapters::TrainProgress progress { 0, config.steps };
    const auto start = Clock::now();
    const PassResult result = backwardPass(loop, batch, draw, config, progress, 0);
    report.secondsPerStep =
        static_cast<double>(config.accumulation) * std::chrono::duration<double>(Clock::now() - start).count();
    report.secondsTotal = report.secondsPerStep * static_cast<double>(config.steps);
    report.firstLoss = result.loss;
    parts.optimizer->finishGradients();
    if (!std::isfinite(result.totalLoss) || !std::isfinite(parts.optimizer->gradientNorm())) {
        const Error error = explainNonFinite(*parts.policy, *parts.optimizer, batch, draw, 0);
        report.add("first batch", CheckLevel::Red, error.describe(), error.code);
        return {};
    }
    report.add("first batch", CheckLevel::Ok, fmt::format("loss {:.4g}", result.loss));
    report.add("time", CheckLevel::Ok,
               fmt::format("{} a step (the first one, which is the slowest), {} for {} steps",
                           secondsText(report.secondsPerStep), secondsText(report.secondsTotal), config.steps));
    return {};
}

/// The same batch again and again.
class OneBatch : public BatchSource {
public:
    explicit OneBatch(models::PolicyBatch batch) : m_batch(std::move(batch)) { }
    Result<models::PolicyBatch> next(const JobContext& job) override
    {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped");
        }
        return m_batch;
    }
    [[nodiscard]] Json position() const override { return Json::object(); }
    Result<void> seek(const Json&) override { return {}; }

private:
    models::PolicyBatch m_batch;
};

/// A policy that cannot learn one batch by heart will learn nothing from many.
Result<void> checkOverfit(PreflightReport& report, Assembly& parts, const TrainConfig& config,
                          const models::PolicyBatch& batch, const JobContext& job)
{
    std::map<std::string, at::Tensor> before;
    for (const auto& [name, value] : parts.optimizer->state()) {
        before[name] = value.detach().clone();
    }
    OneBatch source(batch);
    TrainConfig few = config;
    few.steps = config.preflight.overfitSteps;
    few.schedule.type = "constant";
    few.schedule.warmupSteps = 0;
    few.ema.decay = 0;
    few.accumulation = 1;
    double first = 0;
    double last = 0;
    const LoopParts loop { .policy = *parts.policy,
                           .method = *parts.method,
                           .optimizer = *parts.optimizer,
                           .batches = source,
                           .localization = localizationOf(parts),
                           .observer = { .step =
                                             [&](const StepRecord& record) {
                                                 if (record.step == 1) {
                                                     first = record.loss;
                                                 }
                                                 last = record.loss;
                                             } },
                           .draw = [&](std::int64_t, std::int64_t, std::int64_t size) {
                               return drawFlow(static_cast<std::uint64_t>(config.seed), 0, 0, size * config.noiseDraws,
                                               parts.policy->chunkSize(), parts.policy->paddedActionDim());
                           } };
    const auto summary = runLoop(loop, few, {}, job);
    RW_TRY_VOID(parts.optimizer->restore(before));
    parts.policy->weightsChanged();
    if (!summary && summary.error().code != Errc::NotFinite) {
        return tl::unexpected<Error>(summary.error());
    }
    const bool learned = summary.has_value() && last < 0.9 * first;
    report.add("overfit", learned ? CheckLevel::Ok : CheckLevel::Red,
               summary
                   ? fmt::format("loss of one batch {:.4g} -> {:.4g} in {} steps{}", first, last, few.steps,
                                 learned ? "" : "; it must fall by a tenth: check the learning rate and what trains")
                   : summary.error().describe(),
               summary ? Errc::DataInvalid : summary.error().code);
    return {};
}

Result<PreflightReport> preflight(Assembly& parts, const TrainConfig& config, bool thorough, const JobContext& job)
{
    PreflightReport report;
    checkDataset(report, parts, config);
    checkCameras(report, parts);
    checkTasks(report, parts);
    checkNormalisation(report, parts, config);
    checkModules(report, parts);
    if (report.passed()) {
        job.report(0, "first batch");
        RW_TRY(const models::PolicyBatch batch, parts.source->next(job));
        RW_TRY_VOID(checkFirstBatch(report, parts, config, batch));
        checkMemory(report, parts, config);
        if (thorough && report.passed() && config.preflight.overfitSteps > 0) {
            job.report(0, "one batch by heart");
            RW_TRY_VOID(checkOverfit(report, parts, config, batch, job));
        }
        // What the passes left in adapters, statistics and the position must not reach the run.
        RW_TRY_VOID(parts.source->seek({ { "seed", config.seed }, { "epoch", 0 }, { "position", 0 } }));
        RW_TRY_VOID(attachMethod(parts, config));
    }
    return report;
}

Result<Json> runJson(const TrainConfig& config, const Assembly& parts, const PreflightReport& report,
                     const JobContext& job)
{
    Json hashes = { { "base", nullptr }, { "dataset", nullptr } };
    const fs::path weights = fs::path(config.policy.path) / "model.safetensors";
    if (config.policy.init == "checkpoint" && fs::exists(weights)) {
        RW_TRY(hashes["base"], sha256OfFile(weights, job));
    }
    RW_TRY(hashes["dataset"], data::datasetDigest(config.dataset.path, job));
    return Json { { "config", trainConfigJson(config) },
                  { "config_digest", configDigest(config) },
                  { "seed", config.seed },
                  { "versions", { { "rankwise", RANKWISE_VERSION }, { "torch", TORCH_VERSION } } },
                  { "hashes", std::move(hashes) },
                  { "policy", { { "type", parts.policy->type() }, { "numbers", report.policyNumbers } } },
                  { "method", parts.method->config() },
                  { "trained",
                    { { "tensors", parts.optimizer->parameters().size() }, { "numbers", report.trainedNumbers } } },
                  { "preflight", report.json() },
                  { "threads", at::get_num_threads() },
                  { "host", data::hostName() },
                  { "created", data::unixSeconds() } };
}

/// For a run from random weights: the weights, so that its adapters have a base to go on.
Result<std::string> baseModelOf(const TrainConfig& config, const Assembly& parts, const fs::path& runFolder,
                                const JobContext& job)
{
    if (config.policy.init == "checkpoint") {
        return config.policy.path;
    }
    const fs::path target = runFolder / "base";
    std::error_code error;
    if (!fs::exists(target / "config.json", error)) {
        RW_TRY(AtomicFolder folder, AtomicFolder::create(target));
        RW_TRY_VOID(models::savePolicy(*parts.policy, folder.path(), models::Precision::Stored, job));
        RW_TRY_VOID(parts.processor->save(folder.path()));
        if (fs::is_directory(fs::path(config.policy.path) / "tokenizer", error)) {
            fs::copy(fs::path(config.policy.path) / "tokenizer", folder.path() / "tokenizer",
                     fs::copy_options::recursive, error);
            if (error) {
                return failErrno(error.value(), "copy the tokenizer to", folder.path());
            }
        }
        RW_TRY_VOID(folder.commit());
    }
    return target.string();
}

Result<TrainerState> restoreNewest(Assembly& parts, const RunWriter& run, const TrainConfig& config,
                                   std::int64_t& resumedFrom, const JobContext& job)
{
    TrainerState state;
    std::vector<Warning> warnings;
    RW_TRY(const auto newest, data::newestCheckpoint(run.paths(), warnings, job));
    for (const Warning& warning : warnings) {
        log::warn("train", "{}: {}", warning.subject, warning.message);
    }
    if (newest) {
        RW_TRY(state, restoreCheckpoint(newest->folder, *parts.method, *parts.optimizer));
        RW_TRY_VOID(parts.source->seek(state.position));
        parts.policy->weightsChanged();
        resumedFrom = state.step;
        if (state.threads != at::get_num_threads()) {
            log::warn("train", "the run had {} threads and now has {}: the last bits may differ", state.threads,
                      at::get_num_threads());
        }
        if (state.step > config.steps) {
            return fail(Errc::FieldInvalid,
                        fmt::format("the run is at step {} already, beyond the {} of the configuration", state.step,
                                    config.steps),
                        "steps");
        }
    }
    return state;
}

Result<void> agree(const TrainConfig& config, const data::RunPaths& paths)
{
    RW_TRY(const Json run, data::readRunJson(paths));
    if (!run.contains("config")) {
        return fail(Errc::FieldMissing, "run.json has no configuration", paths.run().string());
    }
    const std::string field = firstDifference(trainConfigJson(config), run.at("config"));
    if (!field.empty()) {
        return fail(
            Errc::FieldInvalid,
            fmt::format("\"{}\" differs from the run that is to go on; start a new run for another configuration",
                        field),
            paths.run().string());
    }
    return {};
}

Result<TrainSummary> trainIn(RunWriter& run, const TrainConfig& config, bool resume, const JobContext& job,
                             const RunObserver& observer)
{
    if (resume) {
        RW_TRY_VOID(agree(config, run.paths()));
    }
    Assembly parts;
    RW_TRY_VOID(assemble(parts, config, job));
    RW_TRY(const PreflightReport report, preflight(parts, config, !resume, job));
    if (observer.preflight) {
        observer.preflight(report);
    }
    if (!report.passed()) {
        return tl::unexpected<Error>(report.error());
    }
    TrainerState state;
    std::int64_t resumedFrom = -1;
    if (resume) {
        RW_TRY(state, restoreNewest(parts, run, config, resumedFrom, job));
    } else {
        RW_TRY(Json json, runJson(config, parts, report, job));
        RW_TRY_VOID(run.writeRun(std::move(json)));
    }
    state.configDigest = configDigest(config);
    state.threads = at::get_num_threads();
    RW_TRY_VOID(run.event("start", state.step,
                          { { "pid", ::getpid() }, { "resumed_from", resume ? Json(resumedFrom) : Json(nullptr) } }));
    RW_TRY(const std::string base, baseModelOf(config, parts, run.paths().root, job));

    std::optional<io::EventFileWriter> board;
    if (config.tensorboard) {
        RW_TRY(board, io::EventFileWriter::create(run.paths().tensorboard()));
    }
    LoopParts loop { .policy = *parts.policy,
                     .method = *parts.method,
                     .optimizer = *parts.optimizer,
                     .batches = *parts.source,
                     .localization = localizationOf(parts),
                     .run = &run,
                     .baseModel = base,
                     .observer = observer,
                     .checkpointExtras = [&](const fs::path& folder) -> Result<void> {
                         RW_TRY_VOID(io::writePolicyConfig(parts.policy->config(), folder));
                         return parts.processor->save(folder);
                     } };
    if (board) {
        loop.board = [&](std::int64_t step, const std::map<std::string, double>& scalars) -> Result<void> {
            return board->addScalars({ scalars.begin(), scalars.end() }, step, data::unixSeconds());
        };
    }
    RW_TRY(TrainSummary summary, runLoop(loop, config, state, job));
    summary.resumedFrom = resumedFrom;
    return summary;
}

} // namespace

Result<PreflightReport> checkRun(const TrainConfig& config, const JobContext& job)
{
    try {
        Assembly parts;
        RW_TRY_VOID(assemble(parts, config, job));
        return preflight(parts, config, true, job);
    } catch (const std::exception& exception) {
        return fail(Errc::Internal, exception.what(), "pre-flight");
    }
}

Result<TrainSummary> runTraining(const TrainConfig& config, const fs::path& runFolder, bool resume,
                                 const JobContext& job, const RunObserver& observer)
{
    RW_TRY(const auto run, RunWriter::open(runFolder, resume, config.steps));
    auto summary = [&]() -> Result<TrainSummary> {
        try {
            return trainIn(*run, config, resume, job, observer);
        } catch (const std::exception& exception) {
            return fail(Errc::Internal, exception.what(), "training");
        }
    }();
    if (!summary) {
        const bool stopped = summary.error().code == Errc::Cancelled;
        const auto written = run->setState(stopped ? data::RunState::Stopped : data::RunState::Failed,
                                           summary.error().describe(), summary.error());
        if (!written) {
            log::error("train", "{}", written.error().describe());
        }
    }
    return summary;
}

Result<TrainConfig> readRunConfig(const fs::path& runFolder)
{
    const data::RunPaths paths { runFolder };
    RW_TRY(const Json run, data::readRunJson(paths));
    if (!run.contains("config")) {
        return fail(Errc::FieldMissing, "run.json has no configuration", paths.run().string());
    }
    RW_TRY(TrainConfig config, parseTrainConfig(run.at("config"), paths.run().string()));
    // run.json is written once; a run that was extended since says so in its status.
    if (const auto status = data::readRunStatus(paths)) {
        config.steps = std::max(config.steps, status->total);
    }
    return config;
}

} // namespace rankwise::train
