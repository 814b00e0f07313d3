// Measures SmolVLA: sampling one chunk, and training steps. CPU seconds are what counts; the machine may be shared.
//
//   bench_smolvla make FOLDER SIZE PRECISION BATCH CAMERAS   a random checkpoint and inputs (SIZE nano, medium, full)
//   bench_smolvla sample FOLDER PRECISION REPEATS            best CPU seconds of one sampleActions(); writes
//                                                            ours.safetensors
//   bench_smolvla train FOLDER WHAT STEPS                    CPU seconds a step; WHAT is config (what the checkpoint
//                                                            leaves trainable), all, or lora (r = 32 on every linear
//                                                            layer; writes the untrained adapter to FOLDER/adapter)
//
// run_model_bench.sh runs the peer beside it.
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/adaptation_method.h"
#include "backend/base/file.h"
#include "backend/io/policy_config.h"
#include "backend/models/policy_registry.h"
#include "backend/tensor/tensor_file.h"
#include "tests/bench/bench_support.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

namespace {

using namespace rankwise;

using bench::cpuSeconds;
using bench::must;

models::Precision precisionOf(const std::string& name)
{
    return name == "bf16" ? models::Precision::Mixed : models::Precision::F32;
}

struct Sizes {
    std::int64_t visionWidth, visionLayers, visionHeads, visionMlp, image, patch, scale;
    std::int64_t width, layers, heads, kvHeads, headDim, mlp, vocab, chunk, tokens, words;
};

io::PolicyConfig configOf(const Sizes& sizes, std::int64_t cameras)
{
    io::PolicyConfig config = must(io::defaultPolicyConfig("smolvla"));
    auto& smol = std::get<io::SmolVlaConfig>(config.model);
    io::VisionConfig& vision = smol.vlm.vision;
    io::TextConfig& text = smol.vlm.text;
    vision.hiddenSize = sizes.visionWidth;
    vision.numHiddenLayers = sizes.visionLayers;
    vision.numAttentionHeads = sizes.visionHeads;
    vision.intermediateSize = sizes.visionMlp;
    vision.imageSize = sizes.image;
    vision.patchSize = sizes.patch;
    smol.vlm.scaleFactor = sizes.scale;
    text.hiddenSize = sizes.width;
    text.numHiddenLayers = sizes.layers;
    text.numAttentionHeads = sizes.heads;
    text.numKeyValueHeads = sizes.kvHeads;
    text.headDim = sizes.headDim;
    text.intermediateSize = sizes.mlp;
    text.vocabSize = sizes.vocab;
    smol.numVlmLayers = sizes.layers;
    smol.padLanguageTo = "max_length";
    smol.resizeImgsWithPadding = { sizes.image, sizes.image };
    smol.vlmFromFile = true;
    smol.vlmModelName = "vlm_config.json";
    config.chunkSize = sizes.chunk;
    config.nActionSteps = sizes.chunk;
    config.tokenizerMaxLength = sizes.tokens;
    for (std::int64_t camera = 0; camera < cameras; ++camera) {
        config.inputFeatures.push_back({ .name = fmt::format("observation.images.camera{}", camera + 1),
                                         .type = io::FeatureType::Visual,
                                         .shape = { 3, sizes.image, sizes.image } });
    }
    config.inputFeatures.push_back({ .name = "observation.state", .type = io::FeatureType::State, .shape = { 7 } });
    config.outputFeatures.push_back({ .name = "action", .type = io::FeatureType::Action, .shape = { 7 } });
    return config;
}

Sizes sizesOf(const std::string& name)
{
    if (name == "nano") {
        return { 96, 3, 3, 192, 64, 8, 2, 128, 4, 4, 2, 32, 256, 64, 12, 12, 7 };
    }
    if (name == "medium") {
        return { 192, 6, 6, 512, 128, 16, 2, 256, 6, 8, 4, 32, 640, 4096, 50, 48, 9 };
    }
    return { 768, 12, 12, 3072, 512, 16, 4, 960, 16, 15, 5, 64, 2560, 49'280, 50, 48, 9 };
}

void make(const std::string& folder, const std::string& size, models::Precision precision, std::int64_t batch,
          std::int64_t cameras)
{
    const Sizes sizes = sizesOf(size);
    const io::PolicyConfig config = configOf(sizes, cameras);
    const auto policy = must(models::createPolicy(config, 7));
    const at::NoGradGuard noGrad;
    for (const models::NamedParameter& parameter : policy->parameters()) {
        if (parameter.name == "model.action_out_proj.weight") {
            parameter.tensor.mul_(10.0); // so that actions depend visibly on the network
        }
    }
    must(createFolders(folder));
    must(models::savePolicy(*policy, folder, precision));
    tensor::NamedTensors inputs;
    for (std::int64_t camera = 0; camera < cameras; ++camera) {
        inputs.emplace_back(fmt::format("image.{}", camera), at::rand({ batch, 3, sizes.image, sizes.image }) * 2 - 1);
    }
    at::Tensor mask = at::zeros({ batch, sizes.tokens }, at::TensorOptions(at::kBool));
    mask.narrow(1, 0, sizes.words).fill_(true);
    inputs.emplace_back("tokens", at::randint(3, sizes.vocab, { batch, sizes.tokens }, at::TensorOptions(at::kLong)));
    inputs.emplace_back("token_mask", mask);
    inputs.emplace_back("state", at::randn({ batch, config.maxStateDim }));
    inputs.emplace_back("actions", at::randn({ batch, sizes.chunk, config.maxActionDim }));
    inputs.emplace_back("noise", at::randn({ batch, sizes.chunk, config.maxActionDim }));
    inputs.emplace_back("time", at::rand({ batch }) * 0.9 + 0.05);
    must(tensor::saveTensors(folder + "/inputs.safetensors", inputs));
}

models::PolicyBatch batchOf(const tensor::TensorMap& inputs)
{
    models::PolicyBatch batch;
    for (std::size_t camera = 0; inputs.contains(fmt::format("image.{}", camera)); ++camera) {
        batch.images.push_back(inputs.at(fmt::format("image.{}", camera)));
        batch.imageMasks.push_back(at::ones({ batch.images.back().size(0) }, at::TensorOptions(at::kBool)));
    }
    batch.tokens = inputs.at("tokens");
    batch.tokenMask = inputs.at("token_mask");
    batch.state = inputs.at("state");
    batch.actions = inputs.at("actions");
    return batch;
}

void sample(const std::string& folder, models::Precision precision, int repeats)
{
    const double loadStart = cpuSeconds();
    const auto policy = must(models::loadPolicy(folder, { .precision = precision }));
    const double load = cpuSeconds() - loadStart;
    const tensor::TensorMap inputs = must(tensor::loadTensors(folder + "/inputs.safetensors"));
    const models::PolicyBatch batch = batchOf(inputs);
    at::Tensor actions;
    double best = 1e9;
    for (int i = 0; i < repeats; ++i) {
        const double start = cpuSeconds();
        actions = policy->sampleActions(batch, inputs.at("noise"));
        best = std::min(best, cpuSeconds() - start);
    }
    must(tensor::saveTensors(folder + "/ours.safetensors", tensor::NamedTensors { { "actions", actions } }));
    fmt::print("{{\"load_cpu_s\": {:.3f}, \"cpu_s\": {:.4f}, \"max_rss_mb\": {:.0f}}}\n", load, best, bench::peakMb());
}

void train(const std::string& folder, const std::string& what, int steps)
{
    const auto policy = must(models::loadPolicy(folder, {}));
    const tensor::TensorMap inputs = must(tensor::loadTensors(folder + "/inputs.safetensors"));
    const models::PolicyBatch batch = batchOf(inputs);
    std::vector<at::Tensor> parameters;
    std::vector<at::Tensor> first;
    std::vector<at::Tensor> second;
    std::vector<at::Tensor> counts;
    std::unique_ptr<adapters::AdaptationMethod> method;
    if (what == "lora") {
        method = must(adapters::makeMethod(Json { { "type", "lora" }, { "r", 32 }, { "dropout", 0.0 } }, "bench"));
        must(method->attach(*policy, 1));
        must(createFolders(folder + "/adapter"));
        must(method->save(folder + "/adapter", folder));
        for (const models::NamedParameter& parameter : method->trainable()) {
            parameters.push_back(parameter.tensor);
        }
    }
    for (const models::NamedParameter& parameter : policy->parameters()) {
        if ((what == "all" && parameter.name.find("lm_head") == std::string::npos)
            || (what == "config" && parameter.trainableByConfig)) {
            parameter.tensor.requires_grad_(true);
            parameters.push_back(parameter.tensor);
        }
    }
    double best = 1e9;
    double firstLoss = 0;
    double lastLoss = 0;
    std::vector<double> phases(3, 1e9);
    for (int step = 0; step < steps; ++step) {
        const double start = cpuSeconds();
        const at::Tensor loss = policy->loss(batch, inputs.at("noise"), inputs.at("time")).loss;
        const double forward = cpuSeconds();
        loss.backward();
        const double backward = cpuSeconds();
        const at::NoGradGuard noGrad;
        std::vector<at::Tensor> used;
        std::vector<at::Tensor> gradients;
        for (const at::Tensor& parameter : parameters) {
            if (parameter.grad().defined()) {
                used.push_back(parameter);
                gradients.push_back(parameter.grad());
            }
        }
        if (first.empty()) {
            for (const at::Tensor& parameter : used) {
                first.push_back(at::zeros_like(parameter));
                second.push_back(at::zeros_like(parameter));
                counts.push_back(at::zeros({}, at::TensorOptions(at::kFloat)));
            }
        }
        for (at::Tensor& count : counts) {
            count.add_(1);
        }
        at::_fused_adamw_(used, gradients, first, second, {}, counts, 1e-4, 0.9, 0.95, 1e-10, 1e-8, false, false);
        for (at::Tensor& parameter : used) {
            parameter.mutable_grad() = at::Tensor();
        }
        const double end = cpuSeconds();
        best = std::min(best, end - start);
        phases[0] = std::min(phases[0], forward - start);
        phases[1] = std::min(phases[1], backward - forward);
        phases[2] = std::min(phases[2], end - backward);
        lastLoss = loss.item<double>();
        firstLoss = step == 0 ? lastLoss : firstLoss;
    }
    if (method) {
        method->detach(*policy);
    }
    fmt::print("{{\"cpu_s\": {:.5f}, \"forward\": {:.5f}, \"backward\": {:.5f}, \"optimizer\": {:.5f}, \"first_loss\": "
               "{:.6f}, "
               "\"last_loss\": {:.6f}}}\n",
               best, phases[0], phases[1], phases[2], firstLoss, lastLoss);
}

} // namespace

int main(int argc, char** argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    at::set_num_threads(
        std::max(1, std::atoi(std::getenv("OMP_NUM_THREADS") != nullptr ? std::getenv("OMP_NUM_THREADS") : "1")));
    if (arguments.size() == 6 && arguments[0] == "make") {
        make(arguments[1], arguments[2], precisionOf(arguments[3]), std::stoll(arguments[4]), std::stoll(arguments[5]));
    } else if (arguments.size() == 4 && arguments[0] == "sample") {
        sample(arguments[1], precisionOf(arguments[2]), std::stoi(arguments[3]));
    } else if (arguments.size() == 4 && arguments[0] == "train") {
        train(arguments[1], arguments[2], std::stoi(arguments[3]));
    } else {
        fmt::print(stderr, "usage: see the first lines of bench_smolvla.cpp\n");
        return 2;
    }
    return 0;
}
