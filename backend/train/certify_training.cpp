// Runners of certify_training.h.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/certify_training.h"

#include "backend/io/policy_config.h"
#include "backend/models/policy_registry.h"
#include "backend/models/processor.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/training_loop.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

namespace fs = std::filesystem;

namespace {

/// The recorded batch, again and again.
class RecordedBatch : public BatchSource {
public:
    explicit RecordedBatch(models::PolicyBatch batch) : m_batch(std::move(batch)) { }
    Result<models::PolicyBatch> next(const JobContext&) override { return m_batch; }
    [[nodiscard]] Json position() const override { return Json::object(); }
    Result<void> seek(const Json&) override { return {}; }

private:
    models::PolicyBatch m_batch;
};

/// The batch that the case's inputs are: observations already normalised and tokenised.
Result<models::PolicyBatch> recordedBatch(const io::PolicyConfig& config, const tensor::TensorMap& inputs)
{
    models::Transition transition;
    for (const auto& [name, value] : inputs) {
        if (name.starts_with("observation.")) {
            transition.observation[name] = value;
        }
    }
    transition.action = inputs.at(models::kActionKey);
    if (const auto pad = inputs.find("action_is_pad"); pad != inputs.end()) {
        transition.actionIsPad = pad->second;
    }
    RW_TRY(const auto processor, models::PolicyProcessor::create(config, {}, std::nullopt));
    return processor.batch(transition);
}

/// What a case asks for, as a run's configuration.
Result<TrainConfig> configOf(const Json& caseJson, const std::string& file)
{
    TrainConfig config;
    std::int64_t total = 0;
    std::string scheduler;
    FieldReader reader(caseJson, file);
    reader.require("steps", config.steps, 1, 100'000);
    reader.require("total_steps", total, 1);
    const Json* optimizer = reader.requireObject("optimizer");
    const Json* schedule = reader.requireObject("scheduler");
    RW_TRY_VOID(reader.result());
    FieldReader adam(*optimizer, file, "optimizer.");
    adam.require("lr", config.optimizer.lr, 0);
    adam.require("betas", config.optimizer.betas);
    adam.require("eps", config.optimizer.eps, 0);
    adam.require("weight_decay", config.optimizer.weightDecay, 0);
    adam.require("grad_clip_norm", config.optimizer.clipNorm, 0);
    if (config.optimizer.betas.size() != 2) {
        adam.reject("betas", "must be two numbers");
    }
    FieldReader rate(*schedule, file, "scheduler.");
    rate.require("type", scheduler);
    rate.require("warmup_steps", config.schedule.warmupSteps, 0);
    rate.require("decay_steps", config.schedule.decaySteps, 1);
    rate.require("decay_lr", config.schedule.decayLr, 0);
    reader.merge(adam);
    reader.merge(rate);
    RW_TRY_VOID(reader.result());
    RW_TRY(const ScheduleKind kind, scheduleFromName(scheduler));
    config.schedule.type = scheduleName(kind);
    config.method = { { "type", "full" }, { "trainable", "config" } };
    return config;
}

/// One number a step.
struct Series {
    std::vector<double> loss, rate, norm;
};

void compareSeries(models::CertifyReport& report, const std::string& name, const std::vector<double>& ours,
                   const tensor::TensorMap& outputs, double relative)
{
    const auto found = outputs.find(name);
    if (found == outputs.end()) {
        return;
    }
    const at::Tensor theirs = found->second.to(at::kDouble);
    for (std::int64_t i = 0; i < theirs.numel(); ++i) {
        const double value = i < static_cast<std::int64_t>(ours.size()) ? ours[static_cast<std::size_t>(i)]
                                                                        : std::numeric_limits<double>::quiet_NaN();
        models::compareNumber(report, fmt::format("{}[{}]", name, i), value, theirs[i].item<double>(), relative);
    }
}

void compareFinal(models::CertifyReport& report, const AdamW& optimizer, const tensor::TensorMap& before,
                  const Json& caseJson, const tensor::TensorMap& outputs, double relative)
{
    const std::map<std::string, at::Tensor> state = optimizer.state();
    constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kKinds {
        { { "final.", "master." }, { "exp_avg.", "exp_avg." }, { "exp_avg_sq.", "exp_avg_sq." } }
    };
    for (const auto& [name, theirs] : outputs) {
        for (const auto& [recorded, own] : kKinds) {
            if (name.starts_with(recorded)) {
                const auto found = state.find(std::string(own) + name.substr(recorded.size()));
                models::compareTensors(report, name, found == state.end() ? at::Tensor() : found->second, theirs,
                                       relative);
            }
        }
    }
    const auto trained = caseJson.find("trained");
    if (trained == caseJson.end()) {
        return;
    }
    for (const auto& [name, row] : trained->at("rows").items()) {
        const auto found = state.find("master." + name);
        const auto start = before.find(name);
        if (found == state.end() || start == before.end()) {
            // Parameters that the reference leaves unchanged may be frozen here.
            const bool unchanged = row.at(1).get<double>() == 0.0;
            models::compareNumber(report, "trained " + name, unchanged ? 0.0 : std::numeric_limits<double>::quiet_NaN(),
                                  0.0, 0.0);
            continue;
        }
        const at::Tensor value = found->second.to(at::kDouble);
        models::compareNumber(report, "norm after " + name, value.norm().item<double>(), row.at(0), relative);
        models::compareNumber(report, "norm of change " + name,
                              value.sub(start->second.to(at::kDouble)).norm().item<double>(), row.at(1), relative);
    }
}

Result<models::CertifyReport> certifyTraining(const fs::path& folder, const Json& caseJson,
                                              const models::CertifyOptions& options, const JobContext& job)
{
    const std::string file = (folder / "case.json").string();
    RW_TRY(const TrainConfig config, configOf(caseJson, file));
    const std::int64_t total = caseJson.at("total_steps").get<std::int64_t>();
    std::vector<Warning> warnings;
    RW_TRY(const io::PolicyConfig policyConfig, io::readPolicyConfig(folder, warnings));
    RW_TRY(const auto policy, models::loadPolicy(policyConfig, folder / "weights.safetensors", options.policy, job));
    RW_TRY(const tensor::TensorMap inputs, tensor::loadTensors(folder / "inputs.safetensors"));
    RW_TRY(const tensor::TensorMap outputs, tensor::loadTensors(folder / "outputs.safetensors"));
    for (const char* name : { "noise", "time", "action" }) {
        if (!inputs.contains(name)) {
            return fail(Errc::TensorNotFound, "a training case needs this input", name);
        }
    }
    tensor::TensorMap before;
    for (const models::NamedParameter& parameter : policy->parameters()) {
        before[parameter.name] = parameter.tensor.detach().clone();
    }

    RW_TRY(const auto method, adapters::makeMethod(config.method, file));
    RW_TRY_VOID(method->attach(*policy, 0));
    RW_TRY(const auto optimizer,
           AdamW::create(method->trainable(),
                         { .beta1 = config.optimizer.betas[0],
                           .beta2 = config.optimizer.betas[1],
                           .eps = config.optimizer.eps,
                           .weightDecay = config.optimizer.weightDecay,
                           .clipNorm = config.optimizer.clipNorm }));
    RW_TRY(models::PolicyBatch batch, recordedBatch(policyConfig, inputs));
    RecordedBatch batches(std::move(batch));
    Series series;
    TrainConfig whole = config;
    whole.steps = total; // the schedule sees the planned length
    const LoopParts parts { .policy = *policy,
                            .method = *method,
                            .optimizer = *optimizer,
                            .batches = batches,
                            .observer = { .step =
                                              [&](const StepRecord& record) {
                                                  series.loss.push_back(record.loss);
                                                  series.rate.push_back(record.lr);
                                                  series.norm.push_back(record.gradientNorm);
                                              } },
                            .stopAfter = config.steps,
                            .draw = [&](std::int64_t step, std::int64_t, std::int64_t) {
                                return FlowDraw { inputs.at("noise")[step], inputs.at("time")[step] };
                            } };
    RW_TRY_VOID(runLoop(parts, whole, {}, job));

    double lossTolerance = 0;
    double rateTolerance = 0;
    double tensorTolerance = 0;
    FieldReader tolerance(caseJson.at("tolerance"), file, "tolerance.");
    tolerance.require("loss_rtol", lossTolerance, 0);
    tolerance.require("lr_rtol", rateTolerance, 0);
    tolerance.require("relative_to_peak", tensorTolerance, 0);
    RW_TRY_VOID(tolerance.result());
    models::CertifyReport report;
    compareSeries(report, "loss", series.loss, outputs, lossTolerance);
    compareSeries(report, "lr", series.rate, outputs, rateTolerance);
    compareSeries(report, "grad_norm", series.norm, outputs, lossTolerance);
    if (const auto after = outputs.find("lr_after"); after != outputs.end()) {
        models::compareNumber(report, "lr_after", whole.scheduleOf().rate(config.steps, total),
                              after->second.item<double>(), rateTolerance);
    }
    compareFinal(report, *optimizer, before, caseJson, outputs, tensorTolerance);
    return report;
}

Result<models::CertifyReport> certifySchedules(const fs::path& file, const Json& table, const models::CertifyOptions&,
                                               const JobContext&)
{
    models::CertifyReport report;
    FieldReader reader(table, file.string());
    const Json* rows = reader.find("rows");
    RW_TRY_VOID(reader.result());
    if (rows == nullptr || !rows->is_array()) {
        return fail(Errc::FieldMissing, "field \"rows\" is missing; a list is expected", file.string());
    }
    for (std::size_t i = 0; i < rows->size(); ++i) {
        const Json& row = rows->at(i);
        Schedule schedule;
        std::int64_t total = 0;
        FieldReader item(row, file.string(), fmt::format("rows[{}].", i));
        item.require("peak_lr", schedule.peakLr, 0);
        item.require("decay_lr", schedule.decayLr, 0);
        item.require("warmup_steps", schedule.warmupSteps, 0);
        item.require("decay_steps", schedule.decaySteps, 1);
        item.require("total_steps", total, 1);
        RW_TRY_VOID(item.result());
        for (const Json& point : row.at("rates")) {
            const auto step = point.at(0).get<std::int64_t>();
            models::compareNumber(report, fmt::format("row {} step {}", i, step), schedule.rate(step, total),
                                  point.at(1).get<double>(), 1e-9, 1e-15 * schedule.peakLr);
        }
    }
    return report;
}

} // namespace

void registerTrainingCertification()
{
    models::registerCertifyRunner("training", "smolvla", certifyTraining);
    models::registerCertifyRunner("schedules", "", certifySchedules);
}

} // namespace rankwise::train
