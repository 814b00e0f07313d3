// SPDX-License-Identifier: Apache-2.0
#include "backend/models/certify_runners.h"
#include "backend/models/processor.h"
#include "backend/models/taps.h"

#include "backend/io/policy_config.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

using tensor::TensorMap;

/// Gradients far below the largest one are sums that cancel: they may differ by this part of the largest norm.
constexpr double kGradientNoise = 1e-6;

/// What the processors make of raw inputs; language arrives as tokens.
Result<PolicyBatch> makeBatch(const io::PolicyConfig& config, const TensorMap& inputs)
{
    RW_TRY(const PolicyProcessor processor, PolicyProcessor::create(config, {}, std::nullopt));
    Transition transition;
    for (const auto& [name, value] : inputs) {
        if (name.starts_with("observation.") && !name.ends_with(".uint8")) {
            transition.observation.emplace(name, value);
        }
    }
    const auto find = [&](const char* name) {
        const auto found = inputs.find(name);
        return found == inputs.end() ? at::Tensor() : found->second;
    };
    transition.action = find("action");
    transition.actionIsPad = find("action_is_pad");
    return processor.batch(transition);
}

/// Reference gradients: some whole, and norm, sum and product with the value of every parameter.
class GradientJudge {
public:
    GradientJudge(const Json& caseJson, const TensorMap& outputs, double tolerance)
        : m_outputs(outputs), m_tolerance(tolerance)
    {
        if (const auto stats = caseJson.find("gradient_stats"); stats != caseJson.end()) {
            for (const auto& [name, row] : stats->at("rows").items()) {
                m_stats.emplace(name, row.get<std::vector<double>>());
                m_largest = std::max(m_largest, m_stats.at(name).at(0));
            }
        }
    }

    /// `label` goes before the names. Only parameters that require a gradient are judged.
    void judge(CertifyReport& report, const std::string& label, const std::vector<NamedParameter>& parameters) const
    {
        for (const NamedParameter& parameter : parameters) {
            if (!parameter.tensor.requires_grad()) {
                continue;
            }
            const at::Tensor& gradient = parameter.tensor.grad();
            const auto stats = m_stats.find(parameter.name);
            if (stats == m_stats.end()) {
                const double norm = gradient.defined() ? gradient.norm().item<double>() : 0.0;
                compareNumber(report, label + "no gradient " + parameter.name, norm, 0, 0);
                continue;
            }
            const at::Tensor ours = gradient.defined()
                ? gradient.to(at::kDouble)
                : at::zeros_like(parameter.tensor, at::TensorOptions(at::kDouble));
            const at::Tensor value = parameter.tensor.detach().to(at::kDouble);
            const double norm = stats->second.at(0);
            const double noise = kGradientNoise * m_largest;
            const double scale = norm * m_tolerance + noise;
            compareNumber(report, label + "norm " + parameter.name, ours.norm().item<double>(), norm, 0, scale);
            compareNumber(report, label + "sum " + parameter.name, ours.sum().item<double>(), stats->second.at(1), 0,
                          scale * std::sqrt(static_cast<double>(ours.numel())));
            compareNumber(report, label + "dot " + parameter.name, (ours * value).sum().item<double>(),
                          stats->second.at(2), 0, scale * value.norm().item<double>());
            if (const auto whole = m_outputs.find("grad." + parameter.name); whole != m_outputs.end()) {
                compareTensors(report, label + "grad." + parameter.name, ours, whole->second, m_tolerance);
            }
        }
    }

private:
    const TensorMap& m_outputs;
    double m_tolerance;
    double m_largest = 0;
    std::map<std::string, std::vector<double>> m_stats;
};

void clearGradients(const std::vector<NamedParameter>& parameters)
{
    for (const NamedParameter& parameter : parameters) {
        at::Tensor tensor = parameter.tensor;
        tensor.mutable_grad() = at::Tensor();
    }
}

/// One case: the same network run in the ways that must agree.
class SmolVlaCase {
public:
    SmolVlaCase(Policy& policy, const Json& caseJson, TensorMap inputs, TensorMap outputs, PolicyBatch batch)
        : m_policy(policy), m_inputs(std::move(inputs)), m_outputs(std::move(outputs)),
          m_tolerance(caseJson.at("tolerance").at("relative_to_peak").get<double>()),
          m_batch(std::move(batch)), m_gradients(caseJson, m_outputs, m_tolerance)
    {
        for (const Json& name : caseJson.value("trainable_by_config", Json::array())) {
            m_trainable.insert(name.get<std::string>());
        }
    }

    CertifyReport run()
    {
        for (std::size_t i = 0; i < m_batch.images.size(); ++i) {
            compare(fmt::format("prepared.image.{}", i), m_batch.images[i]);
            compare(fmt::format("prepared.image_mask.{}", i), m_batch.imageMasks[i]);
        }
        compare("prepared.state", m_batch.state);
        compare("prepared.action", m_batch.actions);
        trainWithTaps();
        trainWithoutTaps("without taps: ", [](const NamedParameter&) { return true; });
        trainWithoutTaps("as configured: ",
                         [](const NamedParameter& parameter) { return parameter.trainableByConfig; });
        compareTrainable();
        sample();
        for (const auto& [name, theirs] : m_outputs) {
            if (!m_seen.contains(name) && !name.starts_with("grad.")) {
                compareTensors(m_report, name, {}, theirs, 0); // a recorded output that nothing here computes
            }
        }
        return std::move(m_report);
    }

private:
    const at::Tensor& input(const std::string& name) const { return m_inputs.at(name); }

    void compare(const std::string& name, const at::Tensor& ours, const std::string& label = {},
                 const at::Tensor& rows = {})
    {
        const auto theirs = m_outputs.find(name);
        if (theirs == m_outputs.end()) {
            return;
        }
        m_seen.insert(name);
        const bool exact = !at::isFloatingType(theirs->second.scalar_type());
        compareTensors(m_report, label + name, ours, theirs->second, exact ? 0.0 : m_tolerance, 0, rows);
    }

    void train(const std::function<bool(const NamedParameter&)>& trains)
    {
        const std::vector<NamedParameter> parameters = m_policy.parameters();
        clearGradients(parameters);
        for (const NamedParameter& parameter : parameters) {
            parameter.tensor.requires_grad_(trains(parameter));
        }
        m_loss = m_policy.loss(m_batch, input("noise"), input("time"));
        m_loss.loss.backward();
    }

    void compareTaps(const Taps& taps)
    {
        const auto pad = taps.tensors().find("prefix.pad_mask");
        const at::Tensor valid = pad == taps.tensors().end() ? at::Tensor() : pad->second;
        for (const auto& [name, theirs] : m_outputs) {
            const auto ours = taps.tensors().find(name);
            if (ours == taps.tensors().end()) {
                continue;
            }
            const bool prefixRows = name.starts_with("train.vlm.");
            const bool prefixKeys = name.starts_with("prefill.keys") || name.starts_with("prefill.values");
            if (prefixKeys) {
                m_seen.insert(name);
                compareTensors(m_report, name, ours->second.transpose(1, 2), theirs.transpose(1, 2), m_tolerance, 0,
                               valid);
            } else {
                compare(name, ours->second, {}, prefixRows ? valid : at::Tensor());
            }
        }
    }

    void trainWithTaps()
    {
        Taps taps;
        m_policy.setTaps(&taps);
        train([](const NamedParameter&) { return true; });
        m_policy.setTaps(nullptr);
        compareTaps(taps);
        m_gradients.judge(m_report, "", m_policy.parameters());
    }

    void trainWithoutTaps(const std::string& label, const std::function<bool(const NamedParameter&)>& trains)
    {
        train(trains);
        compare("train.loss", m_loss.loss, label);
        compare("train.loss_per_sample", m_loss.perSample, label);
        m_gradients.judge(m_report, label, m_policy.parameters());
        clearGradients(m_policy.parameters());
    }

    void compareTrainable()
    {
        if (m_trainable.empty()) {
            return;
        }
        std::string difference;
        for (const NamedParameter& parameter : m_policy.parameters()) {
            if (parameter.trainableByConfig != m_trainable.contains(parameter.name)) {
                difference += (difference.empty() ? "" : ", ") + parameter.name;
            }
        }
        compareText(m_report, "trainable_by_config", difference);
    }

    void sample()
    {
        Taps taps;
        m_policy.setTaps(&taps);
        const at::Tensor actions = m_policy.sampleActions(m_batch, input("sample_noise"));
        m_policy.setTaps(nullptr);
        compareTaps(taps);
        compare("sample.actions", actions);
        for (const char* what : { "x", "velocity", "time" }) {
            std::vector<at::Tensor> steps;
            for (std::size_t i = 0; taps.tensors().contains(fmt::format("sample.{}.{}", what, i)); ++i) {
                steps.push_back(taps.tensors().at(fmt::format("sample.{}.{}", what, i)));
            }
            compare(fmt::format("sample.{}", what), at::stack(steps));
        }
        compare("sample.actions", m_policy.sampleActions(m_batch, input("sample_noise")), "without taps: ");
    }

    Policy& m_policy;
    TensorMap m_inputs;
    TensorMap m_outputs;
    double m_tolerance;
    PolicyBatch m_batch;
    GradientJudge m_gradients;
    std::set<std::string> m_trainable;
    std::set<std::string> m_seen;
    LossOutput m_loss;
    CertifyReport m_report;
};

} // namespace

Result<CertifyReport> certifySmolVlaCase(const std::filesystem::path& folder, const Json& caseJson,
                                         const CertifyOptions& options, const JobContext& job)
{
    std::vector<Warning> warnings;
    RW_TRY(io::PolicyConfig config, io::readPolicyConfig(folder, warnings));
    if (config.smolvla() == nullptr) {
        return rankwise::fail(Errc::FieldInvalid, "the case's config.json is not of a smolvla", folder.string());
    }
    try {
        auto& smol = std::get<io::SmolVlaConfig>(config.model);
        smol.vlm.fakeImageTokenId = caseJson.value("fake_image_token_id", smol.vlm.fakeImageTokenId);
        smol.vlm.globalImageTokenId = caseJson.value("global_image_token_id", smol.vlm.globalImageTokenId);
        RW_TRY(const std::unique_ptr<Policy> policy,
               loadPolicy(config, folder / "weights.safetensors", options.policy, job));
        RW_TRY(TensorMap inputs, tensor::loadTensors(folder / "inputs.safetensors"));
        RW_TRY(TensorMap outputs, tensor::loadTensors(folder / "outputs.safetensors"));
        RW_TRY(PolicyBatch batch, makeBatch(config, inputs));
        return SmolVlaCase(*policy, caseJson, std::move(inputs), std::move(outputs), std::move(batch)).run();
    } catch (const nlohmann::json::exception& error) {
        return rankwise::fail(Errc::FieldInvalid, error.what(), (folder / "case.json").string());
    } catch (const std::out_of_range& error) {
        return rankwise::fail(Errc::TensorNotFound, error.what(), folder.string());
    }
}

Result<CertifyReport> certifyIdentity(const std::filesystem::path&, const Json& table, const CertifyOptions&,
                                      const JobContext&)
{
    RW_TRY(io::PolicyConfig config, io::defaultPolicyConfig("smolvla"));
    for (const char* camera : { "camera1", "camera2", "camera3" }) {
        config.inputFeatures.push_back({ .name = std::string("observation.images.") + camera,
                                         .type = io::FeatureType::Visual,
                                         .shape = { 3, 256, 256 } });
    }
    config.inputFeatures.push_back({ .name = "observation.state", .type = io::FeatureType::State, .shape = { 6 } });
    config.outputFeatures.push_back({ .name = "action", .type = io::FeatureType::Action, .shape = { 6 } });
    RW_TRY(const std::vector<WeightInfo> weights, describeWeights(config));

    CertifyReport report;
    std::set<std::string> names;
    double parameters = 0;
    double bytes = 0;
    double trainable = 0;
    try {
        const Json& rows = table.at("table");
        for (const WeightInfo& weight : weights) {
            double count = 1;
            for (const std::int64_t dim : weight.shape) {
                count *= static_cast<double>(dim);
            }
            parameters += count;
            bytes += count * (weight.wide ? 4 : 2);
            trainable += weight.trainableByConfig ? count : 0;
            names.insert(weight.name);
            const auto row = rows.find(weight.name);
            if (row == rows.end()) {
                compareText(report, weight.name, "not in the published file");
                continue;
            }
            const bool same = row->at("shape").get<std::vector<std::int64_t>>() == weight.shape
                && row->at("dtype").get<std::string>() == (weight.wide ? "F32" : "BF16");
            compareText(report, weight.name, same ? "" : "another shape or dtype: " + row->dump());
        }
        for (const auto& [name, row] : rows.items()) {
            if (!names.contains(name)) {
                compareText(report, name, "missing here");
            }
        }
        compareNumber(report, "tensors", static_cast<double>(weights.size()), table.at("tensors").get<double>(), 0);
        compareNumber(report, "parameters", parameters, table.at("parameters").get<double>(), 0);
        compareNumber(report, "tensor_bytes", bytes, table.at("tensor_bytes").get<double>(), 0);
        constexpr std::string_view kTrainable = "trainable with the defaults: ";
        for (const Json& note : table.value("notes", Json::array())) {
            const auto text = note.get<std::string>();
            if (text.starts_with(kTrainable)) {
                compareNumber(report, "trainable", trainable, std::stod(text.substr(kTrainable.size())), 0);
            }
        }
    } catch (const nlohmann::json::exception& error) {
        return rankwise::fail(Errc::FieldInvalid, error.what(), "identity table");
    }
    return report;
}

} // namespace rankwise::models
