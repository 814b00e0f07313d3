// Loading and acting.
// SPDX-License-Identifier: Apache-2.0
#include "backend/serve/policy_runtime.h"

#include "backend/base/json.h"
#include "backend/train/flow_noise.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include <c10/core/InferenceMode.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::serve {

namespace fs = std::filesystem;

namespace {

bool isFile(const fs::path& path)
{
    std::error_code error;
    return fs::is_regular_file(path, error);
}

/// Folders of a policy: its weights, and the adapter on it (may be empty).
struct Folders {
    fs::path base;
    fs::path adapter;
};

Result<Folders> findFolders(const RuntimeOptions& options)
{
    if (!options.adapter.empty() || !isFile(options.policy / "adapter_config.json")) {
        return Folders { options.policy, options.adapter };
    }
    const fs::path file = options.policy / "adapter_config.json";
    RW_TRY(const Json config, readJsonFile(file));
    std::string base;
    FieldReader reader(config, file.string());
    reader.require("base_model_name_or_path", base);
    RW_TRY_VOID(reader.result());
    // As written, and, for a folder that was moved as a whole, seen from the adapter.
    for (const fs::path& place : { fs::path(base), options.policy / base, options.policy.parent_path() / base }) {
        if (isFile(place / "config.json")) {
            return Folders { place, options.policy };
        }
    }
    return fail(
        Errc::FileNotFound,
        fmt::format("the adapter's base \"{}\" is not there; name the base as the policy and this folder as the "
                    "adapter",
                    base),
        options.policy.string());
}

fs::path tokenizerBeside(const fs::path& folder)
{
    for (const fs::path& place : { folder / "tokenizer", folder }) {
        if (isFile(place / "tokenizer.json") || isFile(place / "tokenizer.model")) {
            return place;
        }
    }
    return {};
}

} // namespace

PolicyRuntime::PolicyRuntime(std::unique_ptr<models::Policy> policy, models::PolicyProcessor processor,
                             std::unique_ptr<adapters::AdaptationMethod> method)
    : m_policy(std::move(policy)), m_processor(std::move(processor)), m_method(std::move(method))
{
}

PolicyRuntime::~PolicyRuntime()
{
    if (m_method) {
        m_method->detach(*m_policy);
    }
}

Result<std::unique_ptr<PolicyRuntime>> PolicyRuntime::load(const RuntimeOptions& options,
                                                           std::vector<Warning>& warnings, const JobContext& job)
{
    RW_TRY(const Folders folders, findFolders(options));
    RW_TRY(auto policy, models::loadPolicy(folders.base, options.model, job));
    std::unique_ptr<adapters::AdaptationMethod> method;
    if (!folders.adapter.empty()) {
        RW_TRY(method, adapters::methodFromFolder(folders.adapter, *policy));
        if (options.merge) {
            const auto merged = method->merge(*policy);
            if (merged) {
                method.reset();
            } else if (merged.error().code != Errc::Unsupported) {
                return tl::unexpected<Error>(merged.error());
            }
        }
        policy->weightsChanged();
    }
    fs::path pipelines = options.processor;
    if (pipelines.empty()) {
        pipelines = isFile(folders.adapter / "policy_preprocessor.json") ? folders.adapter : folders.base;
    }
    models::ProcessorOptions processorOptions;
    processorOptions.device = options.model.device;
    for (const fs::path& place : { options.tokenizer, tokenizerBeside(pipelines), tokenizerBeside(folders.base) }) {
        if (!place.empty()) {
            processorOptions.tokenizer = place;
            break;
        }
    }
    RW_TRY(auto processor, models::PolicyProcessor::load(pipelines, processorOptions, warnings));
    return std::make_unique<PolicyRuntime>(std::move(policy), std::move(processor), std::move(method));
}

at::Tensor PolicyRuntime::noise(std::uint64_t seed, std::int64_t batch) const
{
    return train::drawNoise(seed, batch, m_policy->chunkSize(), m_policy->paddedActionDim());
}

Result<at::Tensor> PolicyRuntime::act(models::Transition observation, const at::Tensor& noise, std::int64_t flowSteps)
{
    const c10::InferenceMode inference;
    RW_TRY(const models::Transition ready, m_processor.preprocess(std::move(observation)));
    RW_TRY(const models::PolicyBatch batch, m_processor.batch(ready));
    const at::Tensor actions = m_policy->sampleActions(batch, noise, flowSteps);
    RW_TRY(const at::Tensor units, m_processor.postprocess(actions, ready.referenceState));
    return units.to(at::kFloat).contiguous();
}

ActionQueue::ActionQueue(PolicyRuntime& runtime, std::uint64_t seed, std::int64_t actionSteps, std::int64_t flowSteps)
    : m_runtime(runtime), m_seed(seed),
      m_actionSteps(
          std::min(actionSteps > 0 ? actionSteps : runtime.policy().actionSteps(), runtime.policy().chunkSize())),
      m_flowSteps(flowSteps)
{
}

Result<std::vector<float>> ActionQueue::next(const std::function<Result<models::Transition>()>& observe)
{
    if (m_queue.empty()) {
        RW_TRY(models::Transition observation, observe());
        const std::uint64_t seed = train::streamSeed(m_seed, train::RandomStream::Sampling, m_chunks, 0);
        RW_TRY(const at::Tensor chunk, m_runtime.act(std::move(observation), m_runtime.noise(seed), m_flowSteps));
        if (chunk.dim() != 3 || chunk.size(0) != 1) {
            return fail(Errc::ShapeMismatch, "one observation must give one chunk of actions", "policy");
        }
        const auto* values = chunk.const_data_ptr<float>();
        const std::int64_t steps = std::min(m_actionSteps, chunk.size(1));
        for (std::int64_t step = 0; step < steps; ++step, values += chunk.size(2)) {
            m_queue.emplace_back(values, values + chunk.size(2));
        }
        ++m_chunks;
        if (m_listener) {
            m_listener(chunk);
        }
    }
    std::vector<float> action = std::move(m_queue.front());
    m_queue.pop_front();
    return action;
}

} // namespace rankwise::serve
