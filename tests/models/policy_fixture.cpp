// SPDX-License-Identifier: Apache-2.0
#include "tests/models/policy_fixture.h"

#include <ATen/core/Generator.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/TensorOperators.h>

namespace rankwise::tests {

namespace {

/// Numbers in [-1, 1) that look random and are the same everywhere.
at::Tensor spread(at::IntArrayRef shape, double salt)
{
    const at::Tensor flat = at::arange(c10::multiply_integers(shape), at::TensorOptions(at::kDouble)) + 1.0;
    const at::Tensor wave = (flat * 12.9898 + salt * 78.233).sin() * 43758.5453;
    return ((wave - wave.floor()) * 2.0 - 1.0).to(at::kFloat).view(shape);
}

} // namespace

io::PolicyConfig tinyConfig(std::int64_t layers)
{
    io::PolicyConfig config = *io::defaultPolicyConfig("smolvla");
    auto& smol = std::get<io::SmolVlaConfig>(config.model);
    io::VisionConfig& vision = smol.vlm.vision;
    vision.hiddenSize = 24;
    vision.intermediateSize = 32;
    vision.numHiddenLayers = 2;
    vision.numAttentionHeads = 3;
    vision.imageSize = 16;
    vision.patchSize = 4;
    io::TextConfig& text = smol.vlm.text;
    text.hiddenSize = 32;
    text.intermediateSize = 40;
    text.numHiddenLayers = layers;
    text.numAttentionHeads = 4;
    text.numKeyValueHeads = 2;
    text.headDim = 8;
    text.vocabSize = 50;
    smol.vlm.scaleFactor = 2;
    smol.numVlmLayers = layers;
    smol.resizeImgsWithPadding = { 16, 16 };
    smol.vlmFromFile = true;
    smol.vlmModelName = "vlm_config.json";
    config.chunkSize = 5;
    config.nActionSteps = 5;
    config.maxStateDim = 9;
    config.maxActionDim = 8;
    for (const char* camera : { "observation.images.top", "observation.images.wrist" }) {
        config.inputFeatures.push_back({ .name = camera, .type = io::FeatureType::Visual, .shape = { 3, 16, 16 } });
    }
    config.inputFeatures.push_back({ .name = "observation.state", .type = io::FeatureType::State, .shape = { 7 } });
    config.outputFeatures.push_back({ .name = "action", .type = io::FeatureType::Action, .shape = { 7 } });
    return config;
}

std::unique_ptr<models::Policy> tinyPolicy(std::uint64_t seed, const models::PolicyOptions& options)
{
    auto policy = models::createPolicy(tinyConfig(), seed, options);
    RW_CHECK(policy.has_value(), policy.error().describe());
    return std::move(*policy);
}

TinyBatch tinyBatch(const io::PolicyConfig& config, const std::vector<std::int64_t>& words)
{
    const auto size = static_cast<std::int64_t>(words.size());
    TinyBatch result;
    for (int camera = 0; camera < 2; ++camera) {
        result.batch.images.push_back(spread({ size, 3, 16, 16 }, 1.0 + camera));
        result.batch.imageMasks.push_back(at::ones({ size }, at::TensorOptions(at::kBool)));
    }
    result.batch.tokens = ((spread({ size, 6 }, 5) + 1.0) * 20.0).to(at::kLong) + 3;
    const at::Tensor counts = at::tensor(words, at::TensorOptions(at::kLong));
    result.batch.tokenMask = at::arange(6, at::TensorOptions(at::kLong)).unsqueeze(0).lt(counts.unsqueeze(1));
    result.batch.state = spread({ size, config.maxStateDim }, 6);
    result.batch.actions = spread({ size, config.chunkSize, config.maxActionDim }, 7);
    result.noise = spread({ size, config.chunkSize, config.maxActionDim }, 8);
    result.time = spread({ size }, 9) * 0.4 + 0.5;
    return result;
}

TinyBatch sampleOf(const TinyBatch& whole, std::int64_t index)
{
    TinyBatch one = whole;
    const auto cut = [index](at::Tensor& tensor) {
        if (tensor.defined()) {
            tensor = tensor.narrow(0, index, 1);
        }
    };
    for (at::Tensor& image : one.batch.images) {
        cut(image);
    }
    for (at::Tensor& mask : one.batch.imageMasks) {
        cut(mask);
    }
    cut(one.batch.tokens);
    cut(one.batch.tokenMask);
    cut(one.batch.state);
    cut(one.batch.actions);
    cut(one.batch.actionIsPad);
    cut(one.noise);
    cut(one.time);
    return one;
}

} // namespace rankwise::tests
