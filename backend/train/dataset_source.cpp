// Dataset to batches.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/dataset_source.h"

#include "backend/data/statistics.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

namespace {

/// [T, D] of every sample, stacked [B, T, D] f32.
at::Tensor stackedColumns(const std::vector<data::Sample>& samples, const std::string& key)
{
    const data::ColumnWindow& first = samples.front().columns.find(key)->second;
    at::Tensor stacked = at::empty({ static_cast<std::int64_t>(samples.size()), first.steps, first.width },
                                   at::TensorOptions().dtype(at::kFloat));
    auto* out = stacked.data_ptr<float>();
    for (const data::Sample& sample : samples) {
        const std::vector<float> values = sample.columns.find(key)->second.floats();
        RW_CHECK(static_cast<std::int64_t>(values.size()) == first.steps * first.width, key);
        out = std::copy(values.begin(), values.end(), out);
    }
    return stacked;
}

/// [B, T] bool.
at::Tensor stackedMask(const std::vector<data::Sample>& samples, const std::string& key)
{
    const std::int64_t steps = samples.front().columns.find(key)->second.steps;
    at::Tensor mask =
        at::empty({ static_cast<std::int64_t>(samples.size()), steps }, at::TensorOptions().dtype(at::kBool));
    auto* out = mask.data_ptr<bool>();
    for (const data::Sample& sample : samples) {
        for (const std::uint8_t pad : sample.columns.find(key)->second.isPad) {
            *out++ = pad != 0;
        }
    }
    return mask;
}

/// [B, H, W, C] uint8.
Result<at::Tensor> stackedImages(const std::vector<data::Sample>& samples, const std::string& key)
{
    const data::Image& first = *samples.front().cameras.find(key)->second.frames.front();
    at::Tensor stacked =
        at::empty({ static_cast<std::int64_t>(samples.size()), first.height, first.width, first.channels },
                  at::TensorOptions().dtype(at::kByte));
    auto* out = stacked.data_ptr<std::uint8_t>();
    for (const data::Sample& sample : samples) {
        const data::Image& image = *sample.cameras.find(key)->second.frames.front();
        if (image.height != first.height || image.width != first.width || image.channels != first.channels) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("frame {} has {}x{} pixels where another of the batch has {}x{}", sample.index,
                                    image.width, image.height, first.width, first.height),
                        key);
        }
        out = std::copy(image.pixels.begin(), image.pixels.end(), out);
    }
    return stacked;
}

at::Tensor vectorOf(const std::vector<double>& values)
{
    return at::tensor(values).to(at::kFloat);
}

std::map<std::string, at::Tensor> statisticTensors(const data::FeatureStatistics& values)
{
    return { { "mean", vectorOf(values.mean) }, { "std", vectorOf(values.std) }, { "min", vectorOf(values.min) },
             { "max", vectorOf(values.max) },   { "q01", vectorOf(values.q01) }, { "q10", vectorOf(values.q10) },
             { "q50", vectorOf(values.q50) },   { "q90", vectorOf(values.q90) }, { "q99", vectorOf(values.q99) } };
}

/// All numbers of a column, row by row.
std::vector<double> columnNumbers(const data::DatasetReader& reader, const std::string& key)
{
    const data::Column& column = *reader.column(key);
    data::ColumnWindow window;
    window.type = column.type;
    window.bytes.assign(column.bytes.begin(), column.bytes.end());
    return window.doubles();
}

/// Statistics of action[t + k] - mask · state[t] over all t and k of the episodes.
data::FeatureStatistics relativeStatistics(const data::DatasetReader& reader, const DatasetMapping& mapping,
                                           const models::RelativeActions& relative, std::int64_t chunk)
{
    const std::int64_t width = reader.column(mapping.actionKey)->width;
    const std::int64_t stateWidth = reader.column(mapping.stateKey)->width;
    const std::vector<double> actions = columnNumbers(reader, mapping.actionKey);
    const std::vector<double> states = columnNumbers(reader, mapping.stateKey);
    const at::Tensor mask = relative.mask(width, at::TensorOptions().dtype(at::kDouble)).contiguous();
    std::vector<double> values;
    values.reserve(static_cast<std::size_t>(reader.frameCount() * chunk * width));
    for (const data::EpisodeInfo& episode : reader.episodes()) {
        for (std::int64_t t = episode.fromIndex; t < episode.toIndex; ++t) {
            const double* state = states.data() + t * stateWidth;
            for (std::int64_t row = t; row < std::min(t + chunk, episode.toIndex); ++row) {
                for (std::int64_t i = 0; i < width; ++i) {
                    values.push_back(actions[static_cast<std::size_t>(row * width + i)]
                                     - mask.const_data_ptr<double>()[i] * state[i]);
                }
            }
        }
    }
    return data::statisticsOf(values, width, data::QuantileRule::Histogram);
}

} // namespace

Result<DatasetMapping> mapDataset(const data::DatasetInfo& info, const io::PolicyConfig& policy,
                                  const std::map<std::string, std::string>& rename)
{
    // Policy's name -> dataset's key.
    std::map<std::string, std::string> keys;
    for (const data::Feature& feature : info.features) {
        const auto renamed = rename.find(feature.key);
        keys[renamed == rename.end() ? feature.key : renamed->second] = feature.key;
    }
    for (const auto& [from, to] : rename) {
        if (info.find(from) == nullptr) {
            return fail(Errc::FieldMissing, fmt::format("dataset.rename maps \"{}\", which the dataset lacks", from),
                        from);
        }
    }
    const auto numericKey = [&](const char* name, std::int64_t width) -> Result<std::string> {
        const auto found = keys.find(name);
        const data::Feature* feature = found == keys.end() ? nullptr : info.find(found->second);
        if (feature == nullptr || !feature->isNumeric()) {
            std::vector<std::string> there;
            for (const data::Feature& candidate : info.features) {
                if (candidate.isNumeric()) {
                    there.push_back(candidate.key);
                }
            }
            return fail(Errc::FieldMissing,
                        fmt::format("the policy needs \"{}\"; the dataset has {}. Map one with dataset.rename", name,
                                    fmt::join(there, ", ")),
                        name);
        }
        if (width > 0 && feature->width() != width) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("has {} numbers in the dataset and {} in the policy's config.json",
                                    feature->width(), width),
                        found->second);
        }
        return found->second;
    };
    DatasetMapping mapping;
    RW_TRY(mapping.actionKey, numericKey(models::kActionKey, policy.actionDim()));
    if (policy.stateDim() > 0) {
        RW_TRY(mapping.stateKey, numericKey(models::kStateKey, policy.stateDim()));
    }
    std::set<std::string> used;
    for (const std::string& camera : policy.cameraNames()) {
        const auto found = keys.find(camera);
        const data::Feature* feature = found == keys.end() ? nullptr : info.find(found->second);
        if (feature == nullptr || !feature->isCamera()) {
            mapping.missingCameras.push_back(camera);
            continue;
        }
        mapping.cameras.emplace_back(found->second, camera);
        used.insert(found->second);
    }
    for (const std::string& camera : info.cameraKeys()) {
        if (!used.contains(camera)) {
            mapping.unusedCameras.push_back(camera);
        }
    }
    if (mapping.cameras.empty() && !policy.cameraNames().empty()) {
        return fail(Errc::FieldMissing,
                    fmt::format("the policy sees {}; the dataset has {}. Map them with dataset.rename",
                                fmt::join(policy.cameraNames(), ", "), fmt::join(info.cameraKeys(), ", ")),
                    "cameras");
    }
    return mapping;
}

Result<models::Statistics> datasetStatistics(const data::DatasetReader& reader, const DatasetMapping& mapping,
                                             const models::RelativeActions& relative, std::int64_t chunk,
                                             const JobContext& job)
{
    data::DatasetStatistics stored = reader.statistics();
    const auto complete = [&](const std::string& key) {
        const auto found = stored.find(key);
        return key.empty() || (found != stored.end() && found->second.hasQuantiles() && !found->second.mean.empty());
    };
    if (!complete(mapping.stateKey) || !complete(mapping.actionKey)) {
        RW_TRY(stored, data::computeStatistics(reader, { .rule = data::QuantileRule::Exact, .cameras = false }, job));
    }
    models::Statistics statistics;
    for (const auto& [key, name] :
         { std::pair { mapping.stateKey, models::kStateKey }, std::pair { mapping.actionKey, models::kActionKey } }) {
        const auto found = stored.find(key);
        if (key.empty() || found == stored.end()) {
            continue;
        }
        statistics[name] = statisticTensors(found->second);
    }
    if (relative.enabled) {
        if (mapping.stateKey.empty()) {
            return fail(Errc::FieldMissing, "relative actions need a state", models::kStateKey);
        }
        statistics[models::kActionKey] = statisticTensors(relativeStatistics(reader, mapping, relative, chunk));
    }
    return statistics;
}

Result<models::Transition> transitionOf(const std::vector<data::Sample>& samples, const DatasetMapping& mapping)
{
    RW_CHECK(!samples.empty());
    models::Transition transition;
    if (!mapping.stateKey.empty()) {
        transition.observation[models::kStateKey] = stackedColumns(samples, mapping.stateKey).select(1, 0); // [B, D]
    }
    for (const auto& [key, name] : mapping.cameras) {
        RW_TRY(transition.observation[name], stackedImages(samples, key));
    }
    if (samples.front().columns.contains(mapping.actionKey)) {
        transition.action = stackedColumns(samples, mapping.actionKey);
        transition.actionIsPad = stackedMask(samples, mapping.actionKey);
    }
    for (const data::Sample& sample : samples) {
        transition.tasks.push_back(sample.task);
    }
    return transition;
}

DatasetSource::DatasetSource(std::shared_ptr<const data::DatasetReader> reader, models::PolicyProcessor processor,
                             DatasetMapping mapping)
    : m_reader(std::move(reader)), m_processor(std::move(processor)), m_mapping(std::move(mapping))
{
}

Result<std::unique_ptr<DatasetSource>> DatasetSource::create(std::shared_ptr<const data::DatasetReader> reader,
                                                             models::PolicyProcessor processor, DatasetMapping mapping,
                                                             const TrainConfig& config, std::int64_t chunk)
{
    std::unique_ptr<DatasetSource> source(
        new DatasetSource(std::move(reader), std::move(processor), std::move(mapping)));
    std::vector<std::string> cameras;
    for (const auto& [key, name] : source->m_mapping.cameras) {
        cameras.push_back(key);
    }
    source->m_request = data::SampleRequest::forPolicy(std::move(cameras), source->m_mapping.stateKey,
                                                       source->m_mapping.actionKey, chunk);
    if (!source->m_mapping.labelsKey.empty()) {
        source->m_request.columns.push_back({ .key = source->m_mapping.labelsKey });
    }
    source->m_options.batchSize = config.batchSize;
    source->m_options.threads = static_cast<int>(config.dataset.threads);
    source->m_options.sampler.episodes = config.dataset.episodes;
    if (!config.dataset.taskWeights.empty()) {
        const std::vector<std::string>& tasks = source->m_reader->tasks();
        for (const auto& [task, weight] : config.dataset.taskWeights) {
            if (std::ranges::find(tasks, task) == tasks.end()) {
                return fail(Errc::FieldInvalid,
                            fmt::format("dataset.task_weights names \"{}\"; the dataset's tasks are {}", task,
                                        fmt::join(tasks, ", ")),
                            task);
            }
        }
        source->m_options.sampler.weight = [tasks, weights = config.dataset.taskWeights](const data::EpisodeInfo&,
                                                                                         std::int64_t task) {
            const auto found = task >= 0 && task < static_cast<std::int64_t>(tasks.size())
                ? weights.find(tasks[static_cast<std::size_t>(task)])
                : weights.end();
            return found == weights.end() ? 1.0 : found->second;
        };
    }
    RW_TRY_VOID(source->openLoader({ .seed = static_cast<std::uint64_t>(config.seed) }));
    return source;
}

Result<void> DatasetSource::openLoader(const data::SamplerState& start)
{
    m_loader.reset();
    m_options.start = start;
    RW_TRY(m_loader, data::DataLoader::create(m_reader, m_request, m_options));
    m_position = start;
    return {};
}

Result<models::PolicyBatch> DatasetSource::next(const JobContext& job)
{
    RW_TRY(const data::Batch batch, m_loader->next(job.stop));
    if (batch.samples.empty()) {
        return fail(Errc::DataInvalid, "the dataset has no sample left", m_reader->root().string());
    }
    RW_TRY(models::Transition transition, transitionOf(batch.samples, m_mapping));
    RW_TRY(models::PolicyBatch made, m_processor.makeBatch(std::move(transition)));
    if (!m_mapping.labelsKey.empty()) {
        made.labels = stackedColumns(batch.samples, m_mapping.labelsKey).select(1, 0);
    }
    m_position = batch.next;
    return made;
}

Json DatasetSource::position() const
{
    return { { "seed", m_position.seed }, { "epoch", m_position.epoch }, { "position", m_position.position } };
}

Result<void> DatasetSource::seek(const Json& position)
{
    data::SamplerState start;
    std::int64_t seed = 0;
    FieldReader reader(position, "trainer.json", "position.");
    reader.require("seed", seed, 0);
    reader.require("epoch", start.epoch, 0);
    reader.require("position", start.position, 0);
    RW_TRY_VOID(reader.result());
    start.seed = static_cast<std::uint64_t>(seed);
    return openLoader(start);
}

} // namespace rankwise::train
