// SPDX-License-Identifier: Apache-2.0
#include "backend/compress/compact.h"

#include "backend/adapters/lora_sp.h"
#include "backend/base/file.h"
#include "backend/base/sha256.h"
#include "backend/data/dataset_reader.h"
#include "backend/models/policy_registry.h"
#include "backend/models/processor.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/dataset_source.h"
#include "backend/train/flow_noise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/TensorOperators.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::compress {

namespace fs = std::filesystem;

namespace {

constexpr std::array kGroups { "vision", "language", "action", "projection" };

std::string groupName(models::LayerGroup group)
{
    return kGroups.at(static_cast<std::size_t>(group));
}

/// A policy with its LoRA-SP adapter and the processors that belong to it.
struct Subject {
    std::unique_ptr<models::Policy> policy;
    std::unique_ptr<adapters::AdaptationMethod> method;
    std::optional<models::PolicyProcessor> processor;

    ~Subject()
    {
        if (method) {
            method->detach(*policy);
        }
    }
    [[nodiscard]] adapters::LoraSpMethod* bank() { return dynamic_cast<adapters::LoraSpMethod*>(method.get()); }
};

Result<void> load(Subject& subject, const fs::path& policy, const fs::path& adapter, const fs::path& pipelines,
                  const JobContext& job)
{
    RW_TRY(subject.policy, models::loadPolicy(policy, {}, job));
    RW_TRY(subject.method, adapters::methodFromFolder(adapter, *subject.policy));
    if (subject.bank() == nullptr) {
        return fail(
            Errc::Unsupported,
            fmt::format("is of the method {}; only a LoRA-SP bank has vectors to leave out", subject.method->name()),
            adapter.string());
    }
    subject.policy->weightsChanged();
    models::ProcessorOptions options;
    std::error_code error;
    if (fs::exists(policy / "tokenizer", error)) {
        options.tokenizer = policy / "tokenizer";
    }
    std::vector<Warning> warnings;
    RW_TRY(subject.processor, models::PolicyProcessor::load(pipelines, options, warnings));
    return {};
}

/// Batches of the calibration frames with their noise.
struct Calibration {
    std::vector<models::PolicyBatch> batches;
    std::vector<at::Tensor> noise;
    std::int64_t frames = 0;
};

Result<Calibration> readCalibration(const Subject& subject, const fs::path& dataset, const CompactOptions& options,
                                    const JobContext& job)
{
    std::vector<Warning> warnings;
    RW_TRY(const auto reader, data::DatasetReader::open(dataset, {}, warnings));
    RW_TRY(const train::DatasetMapping mapping,
           train::mapDataset(reader->info(), subject.policy->config(), options.rename));
    std::vector<std::string> cameras;
    for (const auto& [key, name] : mapping.cameras) {
        cameras.push_back(key);
    }
    const auto request = data::SampleRequest::forPolicy(cameras, mapping.stateKey, mapping.actionKey, 1);
    Calibration calibration;
    calibration.frames = std::min(options.frames, reader->frameCount());
    for (std::int64_t from = 0; from < calibration.frames; from += options.batch) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", dataset.string());
        }
        const std::int64_t count = std::min(options.batch, calibration.frames - from);
        std::vector<data::Sample> samples;
        for (std::int64_t i = from; i < from + count; ++i) {
            RW_TRY(data::Sample sample, reader->sample(i * reader->frameCount() / calibration.frames, request));
            samples.push_back(std::move(sample));
        }
        RW_TRY(models::Transition transition, train::transitionOf(samples, mapping));
        RW_TRY(models::PolicyBatch batch, subject.processor->makeBatch(std::move(transition)));
        batch.actions = at::Tensor();
        calibration.batches.push_back(std::move(batch));
        calibration.noise.push_back(train::drawNoise(options.seed + static_cast<std::uint64_t>(from), count,
                                                     subject.policy->chunkSize(), subject.policy->paddedActionDim()));
    }
    if (calibration.frames == 0) {
        return fail(Errc::DataInvalid, "has no frames", dataset.string());
    }
    return calibration;
}

/// Sampled actions of each batch. `share` of the progress goes from `from` on.
Result<std::vector<at::Tensor>> sample(Subject& subject, const Calibration& calibration, double from,
                                       const JobContext& job)
{
    const at::NoGradGuard noGrad;
    std::vector<at::Tensor> actions;
    for (std::size_t i = 0; i < calibration.batches.size(); ++i) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", "calibration");
        }
        actions.push_back(subject.policy->sampleActions(calibration.batches[i], calibration.noise[i]).to(at::kDouble));
        job.report(from + 0.5 * static_cast<double>(i + 1) / static_cast<double>(calibration.batches.size()),
                   "calibration");
    }
    return actions;
}

/// The recorded token whose k is the median, of the layer whose mean rank is the median of its group.
Json typicalScores(Subject& subject)
{
    Json list = Json::array();
    const auto& layers = subject.bank()->attachment().layers();
    for (int group = 0; group < static_cast<int>(kGroups.size()); ++group) {
        std::vector<std::pair<double, std::size_t>> candidates;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            const auto& layer = static_cast<const adapters::LoraSpLayer&>(*layers[i].adapter);
            if (static_cast<int>(layers[i].linear->group) == group && layer.lastRecord().k.defined()) {
                candidates.emplace_back(layer.lastRecord().k.to(at::kDouble).mean().item<double>(), i);
            }
        }
        if (candidates.empty()) {
            continue;
        }
        std::ranges::sort(candidates);
        const auto& entry = layers[candidates[candidates.size() / 2].second];
        const auto& layer = static_cast<const adapters::LoraSpLayer&>(*entry.adapter);
        const auto& record = layer.lastRecord();
        const at::Tensor order = record.k.argsort(true, 0, false);
        const auto token = order[order.numel() / 2].item<std::int64_t>();
        const at::Tensor scores = record.scores[token].to(at::kDouble).contiguous();
        list.push_back({ { "path", entry.linear->path },
                         { "group", groupName(entry.linear->group) },
                         { "k", record.k[token].item<std::int64_t>() },
                         { "eta", layer.eta },
                         { "scores",
                           std::vector<double>(scores.const_data_ptr<double>(),
                                               scores.const_data_ptr<double>() + scores.numel()) } });
    }
    return list;
}

void recordScores(Subject& subject, bool record)
{
    for (adapters::LoraSpLayer* layer : subject.bank()->layers()) {
        layer->record = record;
    }
}

std::int64_t numbersOf(Subject& subject)
{
    std::int64_t count = 0;
    for (const adapters::LoraSpLayer* layer : subject.bank()->layers()) {
        count += layer->down.numel() + layer->up.numel() + layer->router1.numel()
            + (layer->directRouter() ? 0 : layer->router2.numel());
    }
    return count;
}

Json differenceJson(const std::vector<at::Tensor>& before, const std::vector<at::Tensor>& after)
{
    double squares = 0;
    double size = 0;
    double largest = 0;
    std::int64_t count = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
        const at::Tensor gap = before[i] - after[i];
        squares += gap.square().sum().item<double>();
        size += before[i].square().sum().item<double>();
        largest = std::max(largest, gap.abs().max().item<double>());
        count += gap.numel();
    }
    const auto n = static_cast<double>(std::max<std::int64_t>(count, 1));
    return { { "rms_difference", std::sqrt(squares / n) },
             { "largest_difference", largest },
             { "rms", std::sqrt(size / n) } };
}

Result<void> copyPipelines(const fs::path& from, const fs::path& to)
{
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(from, error)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with("policy_") || name == "config.json" || name == "vlm_config.json") {
            fs::copy_file(entry.path(), to / name, error);
        }
        if (error) {
            break;
        }
    }
    return error ? Result<void>(failErrno(error.value(), "copy the processor files to", to)) : Result<void> {};
}

} // namespace

Result<Json> compactAdapter(const fs::path& policy, const fs::path& adapter, const fs::path& dataset,
                            const fs::path& output, const CompactOptions& options, const JobContext& job)
{
    if (!(options.leastShare >= 0 && options.leastShare <= 1)) {
        return fail(Errc::FieldInvalid, "a share goes from 0 to 1", "leastShare");
    }
    if (options.frames < 1 || options.batch < 1) {
        return fail(Errc::FieldInvalid, "at least one frame is needed", "frames");
    }
    std::error_code error;
    if (fs::exists(output, error)) {
        return fail(Errc::AlreadyExists, "is there already; name another folder", output.string());
    }
    const bool own = fs::exists(adapter / "policy_preprocessor.json", error);
    const fs::path pipelines = own ? adapter : policy;

    Subject before;
    RW_TRY_VOID(load(before, policy, adapter, pipelines, job));
    RW_TRY(const Calibration calibration, readCalibration(before, dataset, options, job));
    before.bank()->resetStatistics();
    RW_TRY(const auto actionsBefore, sample(before, calibration, 0, job));
    RW_TRY(AtomicFolder target, AtomicFolder::create(output));
    RW_TRY(const Json config, readJsonFile(adapter / "adapter_config.json"));
    RW_TRY_VOID(before.bank()->saveCompact(target.path(), config.value("base_model_name_or_path", std::string()),
                                           options.leastShare));

    Subject after;
    RW_TRY_VOID(load(after, policy, target.path(), pipelines, job));
    RW_TRY(const auto actionsAfter, sample(after, calibration, 0.5, job));

    Json layers = Json::array();
    std::int64_t vectorsBefore = 0;
    std::int64_t vectorsAfter = 0;
    const auto& wide = before.bank()->attachment().layers();
    const auto& narrow = after.bank()->attachment().layers();
    for (std::size_t i = 0; i < wide.size(); ++i) {
        const auto& old = static_cast<const adapters::LoraSpLayer&>(*wide[i].adapter);
        const auto& fresh = static_cast<const adapters::LoraSpLayer&>(*narrow[i].adapter);
        const at::Tensor counts = old.digest.ranks.to(at::kDouble);
        double ranks = 0;
        for (std::int64_t k = 0; k < counts.numel(); ++k) {
            ranks += static_cast<double>(k) * counts[k].item<double>();
        }
        vectorsBefore += old.bank();
        vectorsAfter += fresh.bank();
        layers.push_back({ { "path", wide[i].linear->path },
                           { "group", groupName(wide[i].linear->group) },
                           { "depth", wide[i].linear->depth },
                           { "vectors_before", old.bank() },
                           { "vectors_after", fresh.bank() },
                           { "eta_before", old.eta },
                           { "eta_after", fresh.eta },
                           { "rank_mean", ranks / static_cast<double>(std::max<std::int64_t>(old.digest.tokens, 1)) },
                           { "tokens", old.digest.tokens } });
    }
    // After the statistics, since it runs a batch once more.
    recordScores(before, true);
    {
        const at::NoGradGuard noGrad;
        (void)before.policy->sampleActions(calibration.batches.front(), calibration.noise.front());
    }
    const Json scores = typicalScores(before);
    recordScores(before, false);

    Json receipt { { "format", "rankwise_compaction" },
                   { "version", 1 },
                   { "policy", policy.string() },
                   { "adapter", adapter.string() },
                   { "dataset", dataset.string() },
                   { "frames", calibration.frames },
                   { "seed", options.seed },
                   { "least_share", options.leastShare },
                   { "parameters_before", numbersOf(before) },
                   { "parameters_after", numbersOf(after) },
                   { "vectors_before", vectorsBefore },
                   { "vectors_after", vectorsAfter },
                   { "actions", differenceJson(actionsBefore, actionsAfter) },
                   { "layers", std::move(layers) },
                   { "scores", scores } };
    for (const char* name : { "adapter_config.json", "adapter_model.safetensors" }) {
        RW_TRY(receipt["input"][name], sha256OfFile(adapter / name, job));
    }
    if (own) {
        RW_TRY_VOID(copyPipelines(adapter, target.path()));
    }
    RW_TRY_VOID(writeFileAtomically(target.path() / "compaction_report.json", jsonText(receipt)));
    RW_TRY_VOID(target.commit());
    return receipt;
}

} // namespace rankwise::compress
