// Measures adapters:
//   bench_adapters steps [BATCH [REPEATS [ROW]]]  CPU seconds of a training step of a nano SmolVLA with LoRA r = 128
//   and with
//                                           LoRA-SP, bank 128, in turns, and their ratio
//   bench_adapters para                     PARA of a LoRA r = 32 on all linear layers of SmolVLA 450 M
//   bench_adapters dense                    one 2048 × 2048 update of rank 32: thin path against a dense SVD
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/adaptation_method.h"
#include "backend/adapters/peft_folder.h"
#include "backend/base/file.h"
#include "backend/compress/para.h"
#include "backend/io/policy_config.h"
#include "backend/models/policy_registry.h"
#include "backend/tensor/tensor_file.h"
#include "tests/bench/bench_support.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace {

using namespace rankwise;

using bench::cpuSeconds;
using bench::must;
using bench::wallSeconds;

constexpr std::int64_t kImage = 64;
constexpr std::int64_t kChunk = 12;
constexpr std::int64_t kTokens = 12;
constexpr std::int64_t kVocab = 64;

io::PolicyConfig nanoConfig()
{
    io::PolicyConfig config = must(io::defaultPolicyConfig("smolvla"));
    auto& smol = std::get<io::SmolVlaConfig>(config.model);
    io::VisionConfig& vision = smol.vlm.vision;
    io::TextConfig& text = smol.vlm.text;
    vision.hiddenSize = 96;
    vision.numHiddenLayers = 3;
    vision.numAttentionHeads = 3;
    vision.intermediateSize = 192;
    vision.imageSize = kImage;
    vision.patchSize = 8;
    smol.vlm.scaleFactor = 2;
    text.hiddenSize = 128;
    text.numHiddenLayers = 4;
    text.numAttentionHeads = 4;
    text.numKeyValueHeads = 2;
    text.headDim = 32;
    text.intermediateSize = 256;
    text.vocabSize = kVocab;
    smol.numVlmLayers = 4;
    smol.padLanguageTo = "max_length";
    smol.resizeImgsWithPadding = { kImage, kImage };
    smol.vlmFromFile = true;
    smol.vlmModelName = "vlm_config.json";
    config.chunkSize = kChunk;
    config.nActionSteps = kChunk;
    config.tokenizerMaxLength = kTokens;
    for (int camera = 1; camera <= 2; ++camera) {
        config.inputFeatures.push_back({ .name = fmt::format("observation.images.camera{}", camera),
                                         .type = io::FeatureType::Visual,
                                         .shape = { 3, kImage, kImage } });
    }
    config.inputFeatures.push_back({ .name = "observation.state", .type = io::FeatureType::State, .shape = { 7 } });
    config.outputFeatures.push_back({ .name = "action", .type = io::FeatureType::Action, .shape = { 7 } });
    return config;
}

/// A policy with one method, its optimiser and one batch.
class Run {
public:
    Run(const io::PolicyConfig& config, const Json& method, std::int64_t batch)
        : m_policy(must(models::createPolicy(config, 7))), m_method(must(adapters::makeMethod(method, "bench")))
    {
        must(m_method->attach(*m_policy, 1));
        for (int camera = 0; camera < 2; ++camera) {
            m_batch.images.push_back(at::rand({ batch, 3, kImage, kImage }) * 2 - 1);
            m_batch.imageMasks.push_back(at::ones({ batch }, at::TensorOptions(at::kBool)));
        }
        m_batch.tokens = at::randint(3, kVocab, { batch, kTokens }, at::TensorOptions(at::kLong));
        m_batch.tokenMask = at::ones({ batch, kTokens }, at::TensorOptions(at::kBool));
        m_batch.state = at::randn({ batch, config.maxStateDim });
        m_batch.actions = at::randn({ batch, kChunk, config.maxActionDim });
        m_noise = at::randn({ batch, kChunk, config.maxActionDim });
        m_time = at::rand({ batch }) * 0.9 + 0.05;
        for (const models::NamedParameter& parameter : m_method->trainable()) {
            m_parameters.push_back(parameter.tensor);
            m_first.push_back(at::zeros_like(parameter.tensor.detach()));
            m_second.push_back(at::zeros_like(parameter.tensor.detach()));
            m_counts.push_back(at::zeros({}, at::TensorOptions(at::kFloat)));
        }
    }

    /// CPU seconds of one step.
    double step()
    {
        const double start = cpuSeconds();
        m_method->beginStep({ m_step, 100 });
        at::Tensor loss = m_policy->loss(m_batch, m_noise, m_time).loss;
        if (const auto auxiliary = m_method->auxiliaryLosses(); auxiliary.contains("total")) {
            loss = loss + auxiliary.at("total");
        }
        loss.backward();
        {
            const at::NoGradGuard noGrad;
            std::vector<at::Tensor> used;
            std::vector<at::Tensor> gradients;
            std::vector<at::Tensor> first;
            std::vector<at::Tensor> second;
            std::vector<at::Tensor> counts;
            for (std::size_t i = 0; i < m_parameters.size(); ++i) {
                if (m_parameters[i].grad().defined()) {
                    used.push_back(m_parameters[i]);
                    gradients.push_back(m_parameters[i].grad());
                    first.push_back(m_first[i]);
                    second.push_back(m_second[i]);
                    counts.push_back(m_counts[i].add_(1));
                }
            }
            at::_fused_adamw_(used, gradients, first, second, {}, counts, 1e-4, 0.9, 0.95, 1e-10, 1e-8, false, false);
            for (at::Tensor& parameter : used) {
                parameter.mutable_grad() = at::Tensor();
            }
        }
        m_method->afterStep({ ++m_step, 100 });
        m_policy->weightsChanged();
        return cpuSeconds() - start;
    }

    [[nodiscard]] std::int64_t parameterCount() const
    {
        std::int64_t count = 0;
        for (const at::Tensor& parameter : m_parameters) {
            count += parameter.numel();
        }
        return count;
    }

private:
    std::unique_ptr<models::Policy> m_policy;
    std::unique_ptr<adapters::AdaptationMethod> m_method;
    models::PolicyBatch m_batch;
    at::Tensor m_noise, m_time;
    std::vector<at::Tensor> m_parameters, m_first, m_second, m_counts;
    std::int64_t m_step = 0;
};

constexpr int kStepsInTurn = 4;

void steps(std::int64_t batch, int repeats, const std::string& only)
{
    const io::PolicyConfig config = nanoConfig();
    struct Row {
        std::string name;
        Json method;
    };
    std::vector<Row> rows {
        { "LoRA r=128", { { "type", "lora" }, { "r", 128 }, { "dropout", 0.0 } } },
        { "LoRA-SP bank 128", { { "type", "lora_sp" } } },
        { "LoRA-SP, no dropout", { { "type", "lora_sp" }, { "router_dropout", 0.0 } } },
        { "LoRA-SP, 16 blocks", { { "type", "lora_sp" }, { "blocks", 16 } } },
        { "LoRA-SP, operators", { { "type", "lora_sp" }, { "fused", false } } },
    };
    if (!only.empty()) {
        std::erase_if(rows, [&](const Row& row) { return row.name != only; });
    }
    std::vector<std::unique_ptr<Run>> runs;
    std::vector<double> best(rows.size(), 1e9);
    std::vector<double> sum(rows.size(), 0);
    for (const Row& row : rows) {
        runs.push_back(std::make_unique<Run>(config, row.method, batch));
        (void)runs.back()->step();
    }
    for (int repeat = 0; repeat < repeats; ++repeat) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            (void)runs[i]->step(); // caches and allocator are another row's
            for (int step = 0; step < kStepsInTurn; ++step) {
                const double seconds = runs[i]->step();
                best[i] = std::min(best[i], seconds);
                sum[i] += seconds / kStepsInTurn;
            }
        }
    }
    fmt::print("nano policy, batch {}, {} threads, best and mean of {} turns of {} steps\n", batch,
               at::get_num_threads(), repeats, kStepsInTurn);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        fmt::print(
            "  {:22} {:9} parameters  {:8.2f} ms CPU best  {:8.2f} mean   ratio to LoRA {:.3f} best {:.3f} mean\n",
            rows[i].name, runs[i]->parameterCount(), best[i] * 1e3, sum[i] / repeats * 1e3, best[i] / best[0],
            sum[i] / sum[0]);
    }
}

/// Linear layers of SmolVLA 450 M: path, out, in.
std::vector<std::tuple<std::string, std::int64_t, std::int64_t>> smolVlaLinears()
{
    std::vector<std::tuple<std::string, std::int64_t, std::int64_t>> linears;
    const std::string vlm = "model.vlm_with_expert.vlm.model.";
    const auto add = [&](const std::string& path, std::int64_t out, std::int64_t in) {
        linears.emplace_back(path, out, in);
    };
    for (int layer = 0; layer < 12; ++layer) {
        const std::string at = fmt::format("{}vision_model.encoder.layers.{}.", vlm, layer);
        for (const char* name : { "q_proj", "k_proj", "v_proj", "out_proj" }) {
            add(at + "self_attn." + name, 768, 768);
        }
        add(at + "mlp.fc1", 3072, 768);
        add(at + "mlp.fc2", 768, 3072);
    }
    for (int layer = 0; layer < 16; ++layer) {
        for (const bool expert : { false, true }) {
            const std::string at = expert ? fmt::format("model.vlm_with_expert.lm_expert.layers.{}.", layer)
                                          : fmt::format("{}text_model.layers.{}.", vlm, layer);
            const std::int64_t width = expert ? 720 : 960;
            const std::int64_t mlp = expert ? 2048 : 2560;
            const std::int64_t keys = expert && layer % 2 == 1 ? 320 : width;
            add(at + "self_attn.q_proj", 960, width);
            add(at + "self_attn.k_proj", 320, keys);
            add(at + "self_attn.v_proj", 320, keys);
            add(at + "self_attn.o_proj", width, 960);
            add(at + "mlp.gate_proj", mlp, width);
            add(at + "mlp.up_proj", mlp, width);
            add(at + "mlp.down_proj", width, mlp);
        }
    }
    add(vlm + "connector.modality_projection.proj", 960, 12'288);
    add("model.state_proj", 960, 32);
    add("model.action_in_proj", 720, 32);
    add("model.action_out_proj", 32, 720);
    add("model.action_time_mlp_in", 720, 1440);
    add("model.action_time_mlp_out", 720, 720);
    return linears;
}

void para()
{
    const std::filesystem::path root =
        std::filesystem::temp_directory_path() / fmt::format("bench-adapters-{}", ::getpid());
    must(createFolders(root / "input"));
    std::vector<adapters::PeftOutput> modules;
    std::vector<compress::ParaModule> plain;
    std::vector<std::string> paths;
    std::int64_t parameters = 0;
    for (const auto& [path, out, in] : smolVlaLinears()) {
        at::Tensor a = at::randn({ 32, in }) * 0.1;
        at::Tensor b = at::randn({ out, 32 }) * 0.1;
        parameters += 32 * (in + out);
        plain.push_back({ path, a, b, 2, "all" });
        modules.push_back({ path, std::move(a), std::move(b), 64 });
        paths.push_back(path);
    }
    adapters::PeftWriteOptions write;
    write.targetModules = paths;
    must(adapters::writePeftFolder(root / "input", modules, write));
    fmt::print("{} modules, {} parameters\n", modules.size(), parameters);
    double best = 1e9;
    double bestCpu = 1e9;
    double bestWhole = 1e9;
    double bestWholeCpu = 1e9;
    for (int repeat = 0; repeat < 5; ++repeat) {
        const double cpu = cpuSeconds();
        const double start = wallSeconds();
        const auto spectra = must(compress::decomposeUpdates(plain));
        best = std::min(best, wallSeconds() - start);
        bestCpu = std::min(bestCpu, cpuSeconds() - cpu);
        const double wholeCpu = cpuSeconds();
        const double whole = wallSeconds();
        (void)must(compress::compressAdapter(root / "input", root / fmt::format("out{}", repeat), {}));
        bestWhole = std::min(bestWhole, wallSeconds() - whole);
        bestWholeCpu = std::min(bestWholeCpu, cpuSeconds() - wholeCpu);
    }
    fmt::print(
        "decomposition {:.3f} s wall ({:.3f} s CPU); folder to folder, gamma 0.25, files synced: {:.3f} s wall "
        "({:.3f} s CPU)\n",
        best, bestCpu, bestWhole, bestWholeCpu);
    std::filesystem::remove_all(root);
}

void dense()
{
    const at::Tensor a = at::randn({ 32, 2048 });
    const at::Tensor b = at::randn({ 2048, 32 });
    const std::vector<compress::ParaModule> modules { { "m", a, b, 1, "all" } };
    double thin = 1e9;
    for (int repeat = 0; repeat < 20; ++repeat) {
        const double start = wallSeconds();
        const auto spectra = must(compress::decomposeUpdates(modules));
        thin = std::min(thin, wallSeconds() - start);
    }
    const at::Tensor update = at::mm(b, a);
    const double start = wallSeconds();
    const auto svd = at::linalg_svd(update, false);
    const double whole = wallSeconds() - start;
    fmt::print(
        "2048 x 2048, rank 32, {} threads: thin path (double) {:.2f} ms, dense SVD (float) {:.2f} s, ratio {:.0f}\n",
        at::get_num_threads(), thin * 1e3, whole, whole / thin);
}

} // namespace

int main(int argc, char** argv)
{
    const std::string what = argc > 1 ? argv[1] : "";
    const char* threads = std::getenv("OMP_NUM_THREADS");
    at::set_num_threads(std::max(1, std::atoi(threads ? threads : "1")));
    if (what == "steps") {
        steps(argc > 2 ? std::atoll(argv[2]) : 8, argc > 3 ? std::atoi(argv[3]) : 10, argc > 4 ? argv[4] : "");
    } else if (what == "para") {
        para();
    } else if (what == "dense") {
        dense();
    } else {
        fmt::print(stderr, "usage: bench_adapters steps [BATCH] [REPEATS] | para | dense\n");
        return 2;
    }
    return 0;
}
