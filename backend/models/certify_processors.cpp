// SPDX-License-Identifier: Apache-2.0
#include "backend/models/certify_runners.h"
#include "backend/models/processor.h"
#include "backend/tensor/tensor_file.h"

#include "backend/base/log.h"

#include <algorithm>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::models {

namespace {

using tensor::TensorMap;

/// What a case with processors starts from.
struct ProcessorCase {
    TensorMap inputs;
    TensorMap outputs;
    std::vector<std::string> tasks;
    double relative = 0; ///< Of the peak, or of the values (`absolute` beside it).
    double absolute = 0;
    CertifyReport report;

    void compare(const std::string& name, const at::Tensor& ours)
    {
        if (const auto theirs = outputs.find(name); theirs != outputs.end()) {
            const bool exact = !at::isFloatingType(theirs->second.scalar_type());
            compareTensors(report, name, ours, theirs->second, exact ? 0.0 : relative, exact ? 0.0 : absolute);
        }
    }

    void compareAll(const std::string& prefix, const std::map<std::string, at::Tensor>& values)
    {
        for (const auto& [name, value] : values) {
            compare(prefix + name, value);
        }
    }

    /// Recorded outputs that nothing was compared with fail.
    void failMissing()
    {
        for (const auto& [name, theirs] : outputs) {
            if (std::ranges::find(report.rows, name, &CertifyRow::name) == report.rows.end()) {
                compareTensors(report, name, {}, theirs, 0);
            }
        }
    }

    [[nodiscard]] Transition transition() const
    {
        Transition result { .tasks = tasks };
        for (const auto& [name, value] : inputs) {
            if (name.starts_with("observation.")) {
                result.observation.emplace(name, value);
            }
        }
        if (const auto action = inputs.find("action"); action != inputs.end()) {
            result.action = action->second;
        }
        return result;
    }
};

Result<ProcessorCase> readCase(const std::filesystem::path& folder, const Json& caseJson)
{
    ProcessorCase result;
    RW_TRY(result.inputs, tensor::loadTensors(folder / "inputs.safetensors"));
    RW_TRY(result.outputs, tensor::loadTensors(folder / "outputs.safetensors"));
    try {
        result.tasks = caseJson.at("tasks").get<std::vector<std::string>>();
        const Json& tolerance = caseJson.at("tolerance");
        result.relative = tolerance.value("relative_to_peak", tolerance.value("rtol", 0.0));
        result.absolute = tolerance.value("atol", 0.0);
    } catch (const nlohmann::json::exception& error) {
        return rankwise::fail(Errc::FieldInvalid, error.what(), (folder / "case.json").string());
    }
    return result;
}

Result<PolicyProcessor> loadProcessor(const std::filesystem::path& folder, const Json& caseJson)
{
    ProcessorOptions options;
    if (const auto tokenizer = caseJson.find("tokenizer"); tokenizer != caseJson.end() && tokenizer->is_string()) {
        options.tokenizer = folder / tokenizer->get<std::string>();
    }
    std::vector<Warning> warnings;
    auto processor = PolicyProcessor::load(folder, options, warnings);
    for (const Warning& warning : warnings) {
        log::debug("models", "{}: {}", warning.subject, warning.message);
    }
    return processor;
}

/// The first sample of every input, without its batch dimension.
Transition firstSample(const Transition& batched)
{
    Transition single { .tasks = { batched.tasks.front() } };
    for (const auto& [name, value] : batched.observation) {
        single.observation.emplace(name, value[0]);
    }
    return single;
}

} // namespace

Result<CertifyReport> certifyCheckpoint(const std::filesystem::path& folder, const Json& caseJson,
                                        const CertifyOptions& options, const JobContext& job)
{
    RW_TRY(ProcessorCase data, readCase(folder, caseJson));
    RW_TRY(const PolicyProcessor processor, loadProcessor(folder, caseJson));
    RW_TRY(const std::unique_ptr<Policy> policy, loadPolicy(folder, options.policy, job));
    if (!data.inputs.contains("noise")) {
        return rankwise::fail(Errc::TensorNotFound, "the case has no noise", (folder / "inputs.safetensors").string());
    }
    RW_TRY(const Transition processed, processor.preprocess(data.transition()));
    RW_TRY(const PolicyBatch batch, processor.batch(processed));
    data.compare("tokens", batch.tokens);
    data.compare("token_mask", batch.tokenMask);
    data.compare("state", processed.observation.at(kStateKey));
    const at::Tensor actions = policy->sampleActions(batch, data.inputs.at("noise"));
    data.compare("actions_normalised", actions);
    RW_TRY(const at::Tensor robot, processor.postprocess(actions, processed.referenceState));
    data.compare("actions", robot);
    data.failMissing();
    return std::move(data.report);
}

Result<CertifyReport> certifyPipeline(const std::filesystem::path& folder, const Json& caseJson, const CertifyOptions&,
                                      const JobContext&)
{
    RW_TRY(ProcessorCase data, readCase(folder, caseJson));
    RW_TRY(const PolicyProcessor processor, loadProcessor(folder, caseJson));
    const Transition raw = data.transition();
    RW_TRY(const Transition processed, processor.preprocess(raw));
    data.compareAll("", processed.observation);
    data.compare("action", processed.action);
    for (const char* what : { "chunk", "single" }) {
        if (const auto predicted = data.inputs.find(fmt::format("predicted.{}", what));
            predicted != data.inputs.end()) {
            RW_TRY(const at::Tensor actions, processor.postprocess(predicted->second, processed.referenceState));
            data.compare(fmt::format("post.{}", what), actions);
        }
    }
    bool single = false;
    for (const auto& [name, value] : data.outputs) {
        single = single || name.starts_with("unbatched.");
    }
    if (single) {
        RW_TRY(const Transition one, processor.preprocess(firstSample(raw)));
        data.compareAll("unbatched.", one.observation);
    }
    data.failMissing();
    if (const auto texts = caseJson.find("task_after_pipeline"); texts != caseJson.end() && texts->is_array()) {
        compareText(data.report, "task",
                    Json(processed.tasks) == *texts ? "" : "another text: " + Json(processed.tasks).dump());
    }
    return std::move(data.report);
}

} // namespace rankwise::models
