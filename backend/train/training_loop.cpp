// The training loop.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/training_loop.h"

#include "backend/base/log.h"
#include "backend/base/worker_thread.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/autocast.h"
#include "backend/train/diagnose.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start)
{
    return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr std::array<std::string_view, 4> kGroupNames { "vision", "language", "action", "projection" };

data::RunDigest digestColumns(std::int64_t step, const std::vector<adapters::LayerDigest>& layers)
{
    data::RunDigest digest { .step = step };
    for (const adapters::LayerDigest& layer : layers) {
        digest.rank.push_back(layer.rankMean);
        digest.quantiles.push_back(layer.rankQuantiles);
        digest.energy.push_back(layer.energy);
        digest.tokens.push_back(layer.tokens);
        digest.shares.push_back(layer.expertShares);
        std::vector<std::vector<double>>& kinds = digest.kinds.emplace_back();
        for (const adapters::KindDigest& kind : layer.kinds) {
            std::vector<double>& row = kinds.emplace_back();
            row = { static_cast<double>(kind.kind), static_cast<double>(kind.tokens), kind.rankMean };
            row.insert(row.end(), kind.expertShares.begin(), kind.expertShares.end());
        }
    }
    return digest;
}

std::vector<data::RunLayer> layerTable(const std::vector<adapters::LayerDigest>& layers)
{
    std::vector<data::RunLayer> table;
    table.reserve(layers.size());
    for (const adapters::LayerDigest& layer : layers) {
        table.push_back({ layer.path, static_cast<std::int64_t>(layer.group), layer.depth, layer.capacity });
    }
    return table;
}

Json numberOrNull(double value)
{
    return std::isfinite(value) ? Json(value) : Json(nullptr);
}

/// State of one run of the loop.
class Loop {
public:
    Loop(const LoopParts& parts, const TrainConfig& config, TrainerState start, const JobContext& job)
        : m_parts(parts), m_config(config), m_schedule(config.scheduleOf()), m_state(std::move(start)), m_job(job)
    {
        m_summary.step = m_state.step;
        m_state.position = m_parts.batches.position();
        findGroups();
    }

    Result<TrainSummary> run()
    {
        if (m_parts.run != nullptr) {
            m_parts.run->setProgress(m_state.step, -1);
            RW_TRY_VOID(m_parts.run->setState(data::RunState::Running));
        }
        if (m_state.step == 0) {
            RW_TRY_VOID(lookAtStart());
        }
        m_lastRecord = Clock::now();
        while (m_state.step < m_config.steps) {
            RW_TRY(const bool stop, answerRequests());
            if (stop || m_state.step == m_parts.stopAfter) {
                return end(TrainEnd::Stopped);
            }
            const Result<void> stepped = step();
            if (!stepped && stepped.error().code == Errc::Cancelled && m_job.stopped()) {
                return end(TrainEnd::Stopped);
            }
            RW_TRY_VOID(stepped);
            RW_TRY_VOID(writeWhatIsDue());
            m_job.report(static_cast<double>(m_state.step) / static_cast<double>(m_config.steps), "training");
        }
        return end(TrainEnd::Finished);
    }

    [[nodiscard]] std::int64_t stepsDone() const { return m_state.step; }

private:
    [[nodiscard]] adapters::TrainProgress progress() const { return { m_state.step, m_config.steps }; }

    /// Which part of the policy each trained parameter belongs to, by the layer whose path its name holds.
    void findGroups()
    {
        const auto linears = m_parts.policy.linears();
        for (const models::NamedParameter& parameter : m_parts.optimizer.parameters()) {
            for (const models::Linear& linear : linears) {
                if (parameter.name.find(linear.path + ".") != std::string::npos) {
                    m_groups[parameter.name] = linear.group;
                    break;
                }
            }
        }
    }

    Result<models::PolicyBatch> nextBatch()
    {
        if (m_pending) {
            models::PolicyBatch batch = std::move(*m_pending);
            m_pending.reset();
            m_nextPosition = m_parts.batches.position();
            return batch;
        }
        const auto start = Clock::now();
        auto batch = m_parts.batches.next(m_job);
        m_loadSeconds += secondsSince(start);
        if (batch) {
            m_nextPosition = m_parts.batches.position();
        }
        return batch;
    }

    [[nodiscard]] FlowDraw draw(std::int64_t pass, std::int64_t batch) const
    {
        if (m_parts.draw) {
            return m_parts.draw(m_state.step, pass, batch);
        }
        return drawFlow(static_cast<std::uint64_t>(m_config.seed), m_state.step, pass, batch * m_config.noiseDraws,
                        m_parts.policy.chunkSize(), m_parts.policy.paddedActionDim());
    }

    /// What the untrained adapter does, on the first batch: without it no later map says what training changed.
    Result<void> lookAtStart()
    {
        if (m_parts.run == nullptr && !m_parts.observer.digest) {
            return {};
        }
        auto first = m_parts.batches.next(m_job);
        if (!first) {
            return tl::unexpected<Error>(std::move(first).error());
        }
        m_pending = std::move(*first);
        {
            const at::NoGradGuard noGrad;
            const AutocastScope autocast(m_config.precision == "bf16_autocast");
            const std::int64_t size = m_pending->actions.size(0);
            const FlowDraw flow = draw(0, size);
            seedDropout(static_cast<std::uint64_t>(m_config.seed), m_state.step, 0);
            m_parts.method.beginStep(progress());
            (void)m_parts.policy.loss(*m_pending, flow.noise, flow.time);
        }
        return writeSnapshot();
    }

    Result<void> step()
    {
        const bool logged = (m_state.step + 1) % m_config.logEvery == 0 || m_state.step + 1 == m_config.steps;
        StepRecord record { .step = m_state.step + 1, .total = m_config.steps };
        models::PolicyBatch batch;
        FlowDraw flow;
        m_parts.optimizer.zeroGradients();
        for (std::int64_t pass = 0; pass < m_config.accumulation; ++pass) {
            auto loaded = nextBatch();
            if (!loaded) {
                m_parts.optimizer.zeroGradients();
                return tl::unexpected<Error>(std::move(loaded).error());
            }
            batch = std::move(*loaded);
            const auto start = Clock::now();
            flow = draw(pass, batch.actions.size(0));
            m_samples += batch.actions.size(0);
            const PassResult result = backwardPass(m_parts, batch, flow, m_config, progress(), pass);
            const auto share = 1.0 / static_cast<double>(m_config.accumulation);
            record.loss += share * result.loss;
            record.totalLoss += share * result.totalLoss;
            for (const auto& [name, value] : result.auxiliary) {
                record.auxiliary[name] += share * value;
            }
            m_computeSeconds += secondsSince(start);
            if (!std::isfinite(result.totalLoss)) {
                m_parts.optimizer.finishGradients();
                return tl::unexpected<Error>(
                    explainNonFinite(m_parts.policy, m_parts.optimizer, batch, flow, m_state.step + 1));
            }
        }
        const auto start = Clock::now();
        m_parts.optimizer.finishGradients();
        if (m_parts.reduceGradients) {
            RW_TRY_VOID(m_parts.reduceGradients(m_parts.optimizer));
        }
        m_parts.method.afterBackward(progress());
        record.gradientNorm = m_parts.optimizer.gradientNorm();
        if (!std::isfinite(record.gradientNorm)) {
            return tl::unexpected<Error>(
                explainNonFinite(m_parts.policy, m_parts.optimizer, batch, flow, m_state.step + 1));
        }
        const bool digested = (m_state.step + 1) % m_config.digestInterval() == 0;
        std::map<std::string, double> groupNorms;
        if (logged && digested) {
            groupNorms = gradientNormsByGroup();
        }
        record.lr = m_schedule.rate(m_state.step, m_config.steps);
        m_parts.optimizer.step(record.lr, record.gradientNorm);
        ++m_state.step;
        m_state.position = m_nextPosition;
        m_parts.method.afterStep(progress());
        m_parts.policy.weightsChanged();
        m_summary.step = m_state.step;
        m_summary.finalLoss = record.loss;
        m_computeSeconds += secondsSince(start);
        return logged ? writeRecord(record, groupNorms) : Result<void>();
    }

    std::map<std::string, double> gradientNormsByGroup() const
    {
        std::map<std::string, double> norms;
        for (std::size_t i = 0; i < kGroupNames.size(); ++i) {
            const auto group = static_cast<models::LayerGroup>(i);
            norms[std::string(kGroupNames[i])] = m_parts.optimizer.gradientNorm([&](const std::string& name) {
                const auto found = m_groups.find(name);
                return found != m_groups.end() && found->second == group;
            });
        }
        return norms;
    }

    Result<void> writeRecord(StepRecord& record, const std::map<std::string, double>& groupNorms)
    {
        const double elapsed = secondsSince(m_lastRecord);
        const auto steps = static_cast<double>(m_state.step - m_lastRecordStep);
        record.samplesPerSecond = static_cast<double>(m_samples) / std::max(elapsed, 1e-9);
        record.loadSeconds = std::exchange(m_loadSeconds, 0.0);
        record.computeSeconds = std::exchange(m_computeSeconds, 0.0);
        const double perStep = elapsed / std::max(steps, 1.0);
        m_secondsPerStep = m_secondsPerStep > 0 ? 0.9 * m_secondsPerStep + 0.1 * perStep : perStep;
        record.etaSeconds = m_secondsPerStep * static_cast<double>(m_config.steps - m_state.step);
        m_samples = 0;
        m_lastRecord = Clock::now();
        m_lastRecordStep = m_state.step;
        if (m_parts.observer.step) {
            m_parts.observer.step(record);
        }
        if (m_parts.run != nullptr) {
            m_parts.run->setProgress(m_state.step, record.etaSeconds);
            Json fields { { "loss", numberOrNull(record.loss) },
                          { "aux", record.auxiliary },
                          { "total", numberOrNull(record.totalLoss) },
                          { "lr", record.lr },
                          { "grad_norm", record.gradientNorm },
                          { "clipped",
                            m_config.optimizer.clipNorm > 0
                                && record.gradientNorm + 1e-6 > m_config.optimizer.clipNorm },
                          { "samples_per_s", record.samplesPerSecond },
                          { "load_s", record.loadSeconds },
                          { "compute_s", record.computeSeconds } };
            for (const auto& [name, norm] : groupNorms) {
                fields["grad_norm_" + name] = norm;
            }
            RW_TRY_VOID(m_parts.run->event("step", record.step, fields));
        }
        if (m_parts.board) {
            std::map<std::string, double> scalars { { "train/loss", record.loss },
                                                    { "train/total_loss", record.totalLoss },
                                                    { "train/lr", record.lr },
                                                    { "train/grad_norm", record.gradientNorm },
                                                    { "train/samples_per_s", record.samplesPerSecond } };
            for (const auto& [name, value] : record.auxiliary) {
                scalars["aux/" + name] = value;
            }
            RW_TRY_VOID(m_parts.board(record.step, scalars));
        }
        return {};
    }

    Result<void> writeWhatIsDue()
    {
        const bool last = m_state.step == m_config.steps;
        if (m_state.step % m_config.snapshotInterval() == 0 || last) {
            RW_TRY_VOID(writeSnapshot());
        } else if (m_state.step % m_config.digestInterval() == 0) {
            RW_TRY_VOID(writeDigest(m_parts.method.takeDigest()));
        }
        if (m_state.step % m_config.checkpointEvery == 0 || last) {
            RW_TRY_VOID(checkpoint());
        }
        return {};
    }

    Result<void> writeDigest(const std::vector<adapters::LayerDigest>& layers)
    {
        if (layers.empty()) {
            return {};
        }
        if (m_parts.observer.digest) {
            m_parts.observer.digest(m_state.step, layers);
        }
        if (m_parts.run != nullptr) {
            RW_TRY_VOID(m_parts.run->digest(digestColumns(m_state.step, layers), layerTable(layers)));
        }
        if (m_parts.board) {
            std::map<std::string, double> scalars;
            std::array<std::pair<double, double>, kGroupNames.size()> sums {};
            for (const adapters::LayerDigest& layer : layers) {
                auto& [sum, count] = sums.at(static_cast<std::size_t>(layer.group));
                sum += layer.rankMean;
                count += 1;
            }
            for (std::size_t i = 0; i < sums.size(); ++i) {
                if (sums[i].second > 0) {
                    scalars["rank/" + std::string(kGroupNames[i])] = sums[i].first / sums[i].second;
                }
            }
            RW_TRY_VOID(m_parts.board(m_state.step, scalars));
        }
        return {};
    }

    /// A digest, and the snapshot file of the present step.
    Result<void> writeSnapshot()
    {
        if (m_snapshotStep == m_state.step) {
            return {};
        }
        std::map<std::string, at::Tensor> tensors = m_parts.method.snapshot();
        const std::vector<adapters::LayerDigest> layers = m_parts.method.takeDigest();
        RW_TRY_VOID(writeDigest(layers));
        m_snapshotStep = m_state.step;
        if (m_parts.run == nullptr) {
            return {};
        }
        Json table = Json::array();
        std::vector<double> rank;
        std::vector<double> energy;
        for (const adapters::LayerDigest& layer : layers) {
            rank.push_back(layer.rankMean);
            energy.push_back(layer.energy);
            table.push_back({ { "path", layer.path },
                              { "group", static_cast<int>(layer.group) },
                              { "depth", layer.depth },
                              { "capacity", layer.capacity } });
        }
        if (!rank.empty()) {
            tensors["digest.rank_mean"] = at::tensor(rank).to(at::kFloat);
            tensors["digest.energy"] = at::tensor(energy).to(at::kFloat);
        }
        const std::filesystem::path path = m_parts.run->paths().snapshot(m_state.step);
        RW_TRY_VOID(tensor::saveTensors(path, tensors,
                                        { { "step", std::to_string(m_state.step) }, { "layers", table.dump() } }));
        return m_parts.run->event("snapshot", m_state.step, { { "path", "snapshots/" + path.filename().string() } });
    }

    Result<void> checkpoint()
    {
        if (m_parts.run == nullptr || m_checkpointStep == m_state.step) {
            return {};
        }
        // Not under the job's stop: the checkpoint that a stop asks for must be written.
        RW_TRY(m_summary.checkpoint,
               writeCheckpoint(m_parts.run->paths(), m_parts.method, m_parts.optimizer, m_state, m_parts.baseModel,
                               m_config.keepCheckpoints, m_parts.checkpointExtras, {}));
        m_checkpointStep = m_state.step;
        RW_TRY_VOID(m_parts.run->event("checkpoint", m_state.step,
                                       { { "path", "checkpoints/" + m_summary.checkpoint.filename().string() } }));
        return m_parts.run->sync();
    }

    /// True when the run shall stop.
    Result<bool> answerRequests()
    {
        if (m_job.stopped()) {
            return true;
        }
        if (m_parts.run == nullptr) {
            return false;
        }
        bool paused = false;
        for (;;) {
            RW_TRY(const auto requests, data::takeRequests(m_parts.run->paths()));
            for (const data::ControlRequest& request : requests) {
                const bool wasPaused = paused;
                data::ControlAnswer answer { .accepted = true, .step = m_state.step, .time = data::unixSeconds() };
                bool stop = false;
                if (request.time > 0 && request.time < m_started) {
                    answer.accepted = false;
                    answer.message = "was posted before this worker started";
                } else {
                    RW_TRY(stop, obey(request, answer, paused));
                }
                RW_TRY_VOID(data::answerRequest(m_parts.run->paths(), request.id, answer));
                if (stop) {
                    m_reason = "stopped by request";
                    return true;
                }
                if (paused != wasPaused) {
                    RW_TRY_VOID(m_parts.run->setState(paused ? data::RunState::Paused : data::RunState::Running));
                    RW_TRY_VOID(m_parts.run->event(paused ? "pause" : "resume", m_state.step, Json::object()));
                }
            }
            if (!paused) {
                return false;
            }
            if (!waitFor(m_job.stop, std::chrono::milliseconds(50))) {
                return true;
            }
            m_lastRecord = Clock::now(); // a pause is no slow step
        }
    }

    Result<bool> obey(const data::ControlRequest& request, data::ControlAnswer& answer, bool& paused)
    {
        switch (request.action) {
        case data::ControlAction::Stop:
            return true;
        case data::ControlAction::Pause:
            paused = true;
            break;
        case data::ControlAction::Resume:
            answer.message = paused ? "" : "was not paused";
            paused = false;
            break;
        case data::ControlAction::Snapshot: {
            RW_TRY_VOID(writeSnapshot());
            answer.message = "snapshots/" + m_parts.run->paths().snapshot(m_state.step).filename().string();
            break;
        }
        case data::ControlAction::Checkpoint: {
            RW_TRY_VOID(checkpoint());
            answer.message = "checkpoints/" + m_parts.run->paths().checkpoint(m_state.step).filename().string();
            break;
        }
        case data::ControlAction::Set: {
            const auto set = m_parts.method.set(request.name, request.value);
            if (!set) {
                answer.accepted = false;
                answer.message = set.error().message;
                break;
            }
            m_state.settings[request.name] = request.value;
            RW_TRY_VOID(
                m_parts.run->event("set", m_state.step, { { "name", request.name }, { "value", request.value } }));
            break;
        }
        }
        return false;
    }

    Result<TrainSummary> end(TrainEnd how)
    {
        m_summary.end = how;
        m_summary.seconds = secondsSince(m_begin);
        if (m_parts.run != nullptr) {
            RW_TRY_VOID(checkpoint());
            const auto state = how == TrainEnd::Finished ? data::RunState::Finished : data::RunState::Stopped;
            const std::string reason = how == TrainEnd::Finished ? "all steps are done"
                : m_reason.empty()                               ? "stopped"
                                                                 : m_reason;
            RW_TRY_VOID(m_parts.run->event("stop", m_state.step,
                                           { { "reason", reason }, { "state", data::runStateName(state) } }));
            RW_TRY_VOID(m_parts.run->sync());
            m_parts.run->setProgress(m_state.step, how == TrainEnd::Finished ? 0 : -1);
            RW_TRY_VOID(m_parts.run->setState(state, reason));
        }
        return m_summary;
    }

    const LoopParts& m_parts;
    const TrainConfig& m_config;
    Schedule m_schedule;
    TrainerState m_state;
    const JobContext& m_job;
    TrainSummary m_summary;

    std::optional<models::PolicyBatch> m_pending; ///< Read for the look at step 0, trained on at step 1.
    Json m_nextPosition = Json::object();
    std::map<std::string, models::LayerGroup> m_groups;
    std::string m_reason;
    std::int64_t m_snapshotStep = -1;
    std::int64_t m_checkpointStep = -1;

    Clock::time_point m_begin = Clock::now();
    double m_started = data::unixSeconds();
    Clock::time_point m_lastRecord = Clock::now();
    std::int64_t m_lastRecordStep = m_state.step;
    std::int64_t m_samples = 0;
    double m_loadSeconds = 0;
    double m_computeSeconds = 0;
    double m_secondsPerStep = 0;
};

} // namespace

PassResult backwardPass(const LoopParts& parts, const models::PolicyBatch& batch, const FlowDraw& draw,
                        const TrainConfig& config, const adapters::TrainProgress& progress, std::int64_t pass)
{
    PassResult result;
    at::Tensor total;
    seedDropout(static_cast<std::uint64_t>(config.seed), progress.step, pass);
    {
        const AutocastScope autocast(config.precision == "bf16_autocast");
        parts.method.beginStep(progress);
        const models::LossOutput output = parts.policy.loss(batch, draw.noise, draw.time);
        total = output.loss;
        result.loss = output.loss.item<double>();
        if (parts.localization != nullptr && batch.labels.defined()) {
            const LocalizationLoss own = parts.localization->loss(output.imageTokens, batch.labels);
            total = total.add(own.loss, config.localization.weight);
            result.auxiliary["localization"] = own.loss.item<double>();
            result.auxiliary["localization_error"] = own.imageError;
        }
        for (const auto& [name, value] : parts.method.auxiliaryLosses()) {
            if (name == "total") {
                total = total.add(value);
            } else {
                result.auxiliary[name] = value.item<double>();
            }
        }
    }
    result.totalLoss = total.item<double>();
    if (config.accumulation > 1) {
        total = total.div(static_cast<double>(config.accumulation));
    }
    total.backward();
    parts.optimizer.collectGradients();
    return result;
}

Result<TrainSummary> runLoop(const LoopParts& parts, const TrainConfig& config, TrainerState start,
                             const JobContext& job)
{
    Loop loop(parts, config, std::move(start), job);
    auto summary = [&]() -> Result<TrainSummary> {
        try {
            return loop.run();
        } catch (const std::exception& exception) { // c10::Error, bad_alloc, a failed RW_CHECK
            return fail(Errc::Internal, exception.what(), "training loop");
        }
    }();
    if (!summary && parts.run != nullptr) {
        const Error& error = summary.error();
        log::error("train", "{}", error.describe());
        const auto written = parts.run->event(
            "stop", loop.stepsDone(),
            { { "reason", error.describe() }, { "state", data::runStateName(data::RunState::Failed) } });
        const auto state = parts.run->setState(data::RunState::Failed, error.describe(), error);
        if (!written || !state) {
            log::error("train", "the end could not be recorded in {}", parts.run->paths().root.string());
        }
    }
    return summary;
}

} // namespace rankwise::train
