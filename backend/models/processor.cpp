// Running the pipelines, and turning their results into a network's batch.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/processor.h"

#include "backend/models/processor_data.h"
#include "backend/models/prompt.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::models {

namespace {

/// The last dimension filled with zeros up to `width`.
Result<at::Tensor> paddedTo(const at::Tensor& values, std::int64_t width, const char* what)
{
    const std::int64_t missing = width - values.size(-1);
    if (missing < 0) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("the network takes {} values, the data have {}", width, values.size(-1)), what);
    }
    return missing == 0 ? values : at::constant_pad_nd(values, { 0, missing });
}

std::vector<std::string> cameraKeys(const io::PolicyConfig& config)
{
    std::vector<std::string> keys = config.cameraNames();
    for (std::int64_t i = 0; i < config.emptyCameras; ++i) {
        std::string key = fmt::format("observation.images.empty_camera_{}", i);
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
            keys.push_back(std::move(key));
        }
    }
    return keys;
}

Result<at::Tensor> networkImage(const io::PolicyConfig& config, const at::Tensor& image)
{
    if (const io::SmolVlaConfig* smolvla = config.smolvla()) {
        const auto& [width, height] = smolvla->resizeImgsWithPadding;
        return smolvla->resizeImages ? resizeWithPad(image, height, width, PadPlacement::LeftTop) : signedImage(image);
    }
    const auto& [height, width] = config.pi()->imageResolution;
    return resizeWithPad(image, height, width, PadPlacement::Centered);
}

/// [q01, q99] and which dimensions they apply to.
struct ActionBounds {
    at::Tensor low, high;
    at::Tensor mask;     ///< Dimensions that are scaled at all.
    at::Tensor constant; ///< Dimensions that never move in the data.
};

ActionBounds boundsOf(const io::ActionStatistics& statistics, const at::Tensor& like)
{
    const auto vector = [&](const std::vector<double>& values) {
        return at::tensor(values, at::TensorOptions(at::kDouble)).to(like.device());
    };
    std::vector<double> mask(statistics.q01.size(), 1.0);
    for (std::size_t i = 0; i < std::min(mask.size(), statistics.mask.size()); ++i) {
        mask[i] = statistics.mask[i] ? 1.0 : 0.0;
    }
    const bool hasRange = statistics.min.size() == mask.size() && statistics.max.size() == mask.size();
    const at::Tensor lowest = vector(hasRange ? statistics.min : statistics.q01);
    const at::Tensor highest = vector(hasRange ? statistics.max : statistics.q99);
    return { vector(statistics.q01), vector(statistics.q99), vector(mask) > 0.5, lowest == highest };
}

Result<const io::ActionStatistics*> openVlaStatistics(const PolicyProcessorData& data, const at::Tensor& actions)
{
    const io::ActionStatistics* found = nullptr;
    const auto& all = data.openVlaActions;
    if (const auto named = all.find(data.unnormKey); named != all.end()) {
        found = &named->second;
    } else if (data.unnormKey.empty() && all.size() == 1) {
        found = &all.begin()->second;
    }
    if (found == nullptr) {
        std::vector<std::string> names;
        for (const auto& [name, statistics] : all) {
            names.push_back(name);
        }
        return fail(Errc::FieldMissing,
                    fmt::format("name the data set whose statistics the actions have (\"{}\" is not one of: {})",
                                data.unnormKey, fmt::join(names, ", ")),
                    "unnorm_key");
    }
    if (found->q01.size() != found->q99.size() || actions.size(-1) != static_cast<std::int64_t>(found->q01.size())) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("actions of width {} and statistics of width {}", actions.size(-1), found->q01.size()),
                    kActionKey);
    }
    return found;
}

Result<void> preprocessOpenVla(const PolicyProcessorData& data, Transition& transition)
{
    if (transition.tasks.empty()) {
        return fail(Errc::FieldMissing, "the observation has no task", "task");
    }
    if (!data.openVlaTokenizer) {
        return fail(Errc::FieldMissing, "this policy was set up without a tokenizer", "tokenizer");
    }
    std::vector<std::vector<std::int64_t>> rows;
    std::size_t longest = 0;
    for (const std::string& task : transition.tasks) {
        RW_TRY(rows.emplace_back(), openVlaPromptIds(*data.openVlaTokenizer, task));
        longest = std::max(longest, rows.back().size());
    }
    const auto shape = { static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(longest) };
    const at::Tensor ids =
        at::full(shape, std::get<io::OpenVlaConfig>(data.config.model).padTokenId, at::TensorOptions(at::kLong));
    const at::Tensor mask = at::zeros(shape, at::TensorOptions(at::kBool));
    for (std::size_t row = 0; row < rows.size(); ++row) {
        const std::size_t begin = row * longest;
        std::copy(rows[row].begin(), rows[row].end(), ids.data_ptr<std::int64_t>() + begin);
        std::fill_n(mask.data_ptr<bool>() + begin, rows[row].size(), true);
    }
    transition.observation[kTokensKey] = ids.to(data.device);
    transition.observation[kTokenMaskKey] = mask.to(data.device);
    if (!transition.action.defined()) {
        return {};
    }
    // Bounds of the 1st and 99th percentile, clipped; a dimension that never moves is 0.
    RW_TRY(const io::ActionStatistics* statistics, openVlaStatistics(data, transition.action));
    const ActionBounds bounds = boundsOf(*statistics, transition.action);
    const at::Tensor x = transition.action.to(at::kDouble);
    at::Tensor scaled = (2 * (x - bounds.low) / (bounds.high - bounds.low + 1e-8) - 1).clamp(-1, 1);
    scaled = at::where(bounds.mask, scaled, x);
    transition.action =
        at::where(bounds.constant, at::full_like(scaled, 0.0), scaled).to(transition.action.scalar_type());
    return {};
}

Result<void> addImages(const io::PolicyConfig& config, const Transition& transition, PolicyBatch& batch)
{
    std::int64_t missing = 0;
    const std::vector<std::string> keys = cameraKeys(config);
    for (const std::string& key : keys) {
        const auto found = transition.observation.find(key);
        if (found == transition.observation.end()) {
            ++missing;
            continue;
        }
        auto image = networkImage(config, found->second);
        if (!image) {
            return fail(image.error().code, image.error().message, key);
        }
        const auto mask = transition.observation.find(key + "_padding_mask");
        batch.imageMasks.push_back(
            mask != transition.observation.end()
                ? mask->second.to(image->device(), at::kBool).reshape({ image->size(0) })
                : at::ones({ image->size(0) }, at::TensorOptions(image->device()).dtype(at::kBool)));
        batch.images.push_back(std::move(*image));
    }
    if (batch.images.empty()) {
        return fail(Errc::FieldMissing,
                    fmt::format("the observation has none of the policy's cameras ({})", fmt::join(keys, ", ")),
                    "observation.images");
    }
    // SmolVLA drops cameras beyond empty_cameras; pi fills in every one.
    const std::int64_t filled = config.smolvla() != nullptr ? std::min(missing, config.emptyCameras) : missing;
    for (std::int64_t i = 0; i < filled; ++i) {
        batch.images.push_back(at::full_like(batch.images.front(), -1.0));
        batch.imageMasks.push_back(at::full_like(batch.imageMasks.front(), false));
    }
    return {};
}

Result<void> addOpenVlaImage(const PolicyProcessorData& data, const Transition& transition, PolicyBatch& batch)
{
    std::vector<std::string> keys = data.config.cameraNames();
    for (const auto& [key, value] : transition.observation) {
        if (key.starts_with("observation.image") && !key.ends_with("_padding_mask")) {
            keys.push_back(key);
        }
    }
    const auto key = std::find_if(keys.begin(), keys.end(),
                                  [&](const std::string& name) { return transition.observation.contains(name); });
    if (key == keys.end()) {
        return fail(Errc::FieldMissing, "the observation has no camera image", "observation.images");
    }
    RW_TRY(const at::Tensor pixels, openVlaPixels(transition.observation.at(*key), data.openVlaImages));
    batch.images.push_back(pixels.to(data.device)); // [B, 3 · towers, size, size]
    batch.imageMasks.push_back(at::ones({ pixels.size(0) }, at::TensorOptions(data.device).dtype(at::kBool)));
    return {};
}

} // namespace

Result<Transition> PolicyProcessor::preprocess(Transition transition) const
{
    const at::NoGradGuard noGrad;
    if (const auto state = transition.observation.find(kStateKey); state != transition.observation.end()) {
        transition.referenceState = state->second;
    }
    for (const auto& step : m_data->preSteps) {
        RW_TRY_VOID(step->apply(transition));
    }
    if (m_data->config.openvla() != nullptr) {
        RW_TRY_VOID(preprocessOpenVla(*m_data, transition));
    }
    return transition;
}

Result<PolicyBatch> PolicyProcessor::batch(const Transition& transition) const
{
    const at::NoGradGuard noGrad;
    const io::PolicyConfig& config = m_data->config;
    PolicyBatch batch;
    const auto find = [&](const std::string& key) {
        const auto found = transition.observation.find(key);
        return found == transition.observation.end() ? at::Tensor() : found->second;
    };
    batch.tokens = find(kTokensKey);
    batch.tokenMask = find(kTokenMaskKey);
    if (!batch.tokens.defined() || !batch.tokenMask.defined()) {
        return fail(Errc::FieldMissing, "the observation has no tokens; run the preprocessor first", kTokensKey);
    }
    if (config.openvla() != nullptr) {
        RW_TRY_VOID(addOpenVlaImage(*m_data, transition, batch));
        batch.actions = transition.action;
        batch.actionIsPad = transition.actionIsPad;
        return batch;
    }
    RW_TRY_VOID(addImages(config, transition, batch));
    at::Tensor state = find(kStateKey);
    if (!state.defined()) {
        return fail(Errc::FieldMissing, "the observation has no state", kStateKey);
    }
    state = state.dim() > 2 ? state.select(1, -1) : state;
    RW_TRY(batch.state, paddedTo(state, config.maxStateDim, kStateKey));
    if (transition.action.defined()) {
        RW_TRY(batch.actions, paddedTo(transition.action, config.maxActionDim, kActionKey));
    }
    batch.actionIsPad = transition.actionIsPad;
    return batch;
}

Result<PolicyBatch> PolicyProcessor::makeBatch(Transition transition) const
{
    RW_TRY(const Transition processed, preprocess(std::move(transition)));
    return batch(processed);
}

Result<at::Tensor> PolicyProcessor::postprocess(const at::Tensor& actions, const at::Tensor& referenceState) const
{
    const at::NoGradGuard noGrad;
    RW_CHECK(actions.defined() && actions.dim() >= 1);
    if (m_data->config.openvla() != nullptr) {
        RW_TRY(const io::ActionStatistics* statistics, openVlaStatistics(*m_data, actions));
        const ActionBounds bounds = boundsOf(*statistics, actions);
        const at::Tensor x = actions.to(at::kDouble);
        const at::Tensor scaled = 0.5 * (x + 1) * (bounds.high - bounds.low) + bounds.low;
        return at::where(bounds.mask, scaled, x).to(at::kCPU, actions.scalar_type());
    }
    Transition transition;
    transition.action = actions;
    transition.referenceState = referenceState;
    for (const auto& step : m_data->postSteps) {
        RW_TRY_VOID(step->apply(transition));
    }
    return transition.action;
}

const io::PolicyConfig& PolicyProcessor::config() const
{
    return m_data->config;
}

const Statistics& PolicyProcessor::statistics() const
{
    static const Statistics kNone;
    const Normalizer* normalizer = m_data->normalizer();
    return normalizer != nullptr ? normalizer->statistics() : kNone;
}

const io::Tokenizer* PolicyProcessor::tokenizer() const
{
    for (const auto& step : m_data->preSteps) {
        if (step->tokenizer() != nullptr) {
            return step->tokenizer();
        }
    }
    return m_data->openVlaTokenizer ? &*m_data->openVlaTokenizer : nullptr;
}

const RelativeActions& PolicyProcessor::relativeActions() const
{
    return m_data->relative;
}

std::vector<std::string> PolicyProcessor::preprocessorSteps() const
{
    std::vector<std::string> names;
    for (const io::ProcessorStep& step : m_data->pre.steps) {
        names.push_back(step.registryName);
    }
    return names;
}

std::vector<std::string> PolicyProcessor::postprocessorSteps() const
{
    std::vector<std::string> names;
    for (const io::ProcessorStep& step : m_data->post.steps) {
        names.push_back(step.registryName);
    }
    return names;
}

} // namespace rankwise::models
