// Whole runs: the nano policy from random weights on a recorded dataset, each method, pre-flight, kill and resume.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/resources.h"
#include "backend/data/run_directory.h"
#include "backend/io/policy_config.h"
#include "backend/io/tokenizer.h"
#include "backend/models/processor.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/dataset_source.h"
#include "backend/train/trainer.h"

#include "golden_cases.h"
#include "small_run.h"
#include "temporary_folder.h"
#include "whole_run.h"

#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
using namespace rankwise::train;
using namespace rankwise::test;

namespace {

void expectSameCheckpoint(const std::filesystem::path& a, const std::filesystem::path& b)
{
    for (const char* file : { "trainer.safetensors", "adapter_model.safetensors" }) {
        const auto left = tensor::loadTensors(a / file);
        const auto right = tensor::loadTensors(b / file);
        ASSERT_TRUE(left) << left.error().describe();
        ASSERT_TRUE(right) << right.error().describe();
        ASSERT_EQ(left->size(), right->size());
        for (const auto& [name, value] : *left) {
            EXPECT_TRUE(at::equal(value, right->at(name))) << file << " " << name;
        }
    }
    EXPECT_EQ(readJsonFile(a / "trainer.json").value(), readJsonFile(b / "trainer.json").value());
}

/// Configuration and tokenizer of the nano policy, and nothing else.
void copyPolicyWithoutWeights(const std::filesystem::path& folder)
{
    const std::filesystem::path nano = resourcePath("nano").value();
    for (const char* file : { "config.json", "vlm_config.json" }) {
        std::filesystem::copy_file(nano / file, folder / file);
    }
    std::filesystem::copy(nano / "tokenizer", folder / "tokenizer");
}

TEST(Run, everyMethodTrainsAndSaves)
{
    for (const char* method : { "lora_sp", "lora", "full" }) {
        const TemporaryFolder folder;
        TrainConfig config = wholeConfig(6);
        config.method["type"] = method;
        PreflightReport seen;
        std::vector<double> losses;
        std::size_t layers = 0;
        RunObserver observer;
        observer.preflight = [&](const PreflightReport& report) { seen = report; };
        observer.step = [&](const StepRecord& record) { losses.push_back(record.loss); };
        observer.digest = [&](std::int64_t, const std::vector<adapters::LayerDigest>& digest) {
            layers = digest.size();
        };
        const auto summary = runTraining(config, folder.path() / "run", false, {}, observer);
        ASSERT_TRUE(summary) << method << ": " << summary.error().describe();
        EXPECT_EQ(losses.size(), 6U);
        EXPECT_TRUE(seen.passed()) << seen.text();
        EXPECT_GT(seen.trainedNumbers, 0);
        EXPECT_GT(seen.secondsPerStep, 0);
        const data::RunPaths paths { folder.path() / "run" };
        const Json run = data::readRunJson(paths).value();
        EXPECT_EQ(run["hashes"]["dataset"].get<std::string>().size(), 64U);
        EXPECT_EQ(run["method"]["type"], method);
        EXPECT_EQ(run["preflight"]["passed"], true);
        EXPECT_TRUE(std::filesystem::exists(paths.root / "base/model.safetensors"));
        EXPECT_TRUE(data::verifyCheckpoint(summary->checkpoint));
        for (const char* file : { "adapter_config.json", "adapter_model.safetensors", "trainer.safetensors",
                                  "trainer.json", "manifest.json", "config.json", "policy_preprocessor.json" }) {
            EXPECT_TRUE(std::filesystem::exists(summary->checkpoint / file)) << method << " " << file;
        }
        EXPECT_EQ(data::listSnapshots(paths).begin()->first, 0);
        EXPECT_FALSE(std::filesystem::is_empty(paths.tensorboard()));
        if (std::string_view(method) == "lora_sp") {
            EXPECT_EQ(static_cast<std::int64_t>(layers), seen.adaptedLayers);
            EXPECT_GT(layers, 10U);
        }
    }
}

/// Train 40 equals train some, kill -9, resume, to the last bit; with loader threads and dropout of the clock.
TEST(Run, killedAndResumedEqualsUninterrupted)
{
    const TemporaryFolder folder;
    const auto whole = folder.path() / "whole";
    const auto killed = folder.path() / "killed";
    ASSERT_EQ(runChild({ "whole", whole.string(), "30" }), 0);
    const pid_t child = startChild({ "whole", killed.string(), "30" });
    const data::RunPaths paths { killed };
    for (int i = 0; i < 12'000 && data::listCheckpoints(paths).size() < 3; ++i) {
        ::usleep(5000);
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it was over before the kill";
    ASSERT_EQ(runChild({ "whole", killed.string(), "30", "resume" }), 0);
    // The base of a run from random weights is written by each run into its own folder.
    const auto a = data::RunPaths { whole }.checkpoint(30);
    expectSameCheckpoint(a, paths.checkpoint(30));
    data::EventTail tail(paths.events());
    data::RunHistory history;
    history.add(tail.poll().value());
    EXPECT_EQ(history.steps.size(), 30U);
}

TEST(Run, redChecksStopItWithTheRemedy)
{
    const auto refused = [](const TrainConfig& config, Errc code, const char* mention) {
        const TemporaryFolder folder;
        const auto summary = runTraining(config, folder.path() / "run", false, {});
        ASSERT_FALSE(summary) << mention;
        EXPECT_EQ(summary.error().code, code) << summary.error().describe();
        EXPECT_NE(summary.error().describe().find(mention), std::string::npos) << summary.error().describe();
        EXPECT_FALSE(std::filesystem::exists(folder.path() / "run/run.json"));
        EXPECT_EQ(data::readRunStatus({ folder.path() / "run" })->state, data::RunState::Failed);
    };
    TrainConfig config = wholeConfig(4);
    config.dataset.rename = { { "observation.images.front", "observation.images.left" } };
    refused(config, Errc::FieldMissing, "dataset.rename");
    config = wholeConfig(4);
    config.dataset.rename["nowhere"] = "observation.images.front";
    refused(config, Errc::FieldMissing, "nowhere");
    config = wholeConfig(4);
    config.dataset.path += "_none";
    refused(config, Errc::FileNotFound, "_none");
    config = wholeConfig(4);
    const TemporaryFolder bare;
    copyPolicyWithoutWeights(bare.path());
    config.policy.path = bare.path().string();
    config.dataset.statistics = "checkpoint";
    refused(config, Errc::FieldInvalid, "dataset.statistics");
    config = wholeConfig(4);
    config.method["type"] = "lorra";
    refused(config, Errc::Unsupported, "lora");
    config = wholeConfig(4);
    config.method = { { "type", "lora" }, { "target_modules", { "no_such_layer" } } };
    refused(config, Errc::FieldInvalid, "no_such_layer");
    config = wholeConfig(4);
    config.preflight.memoryFraction = 1e-6;
    refused(config, Errc::TooLarge, "batch_size");
    config = wholeConfig(4);
    config.dataset.taskWeights = { { "dance", 1 } };
    refused(config, Errc::FieldInvalid, "dance");
    config = wholeConfig(4);
    config.preflight.overfitSteps = 3;
    config.optimizer.lr = 1e-12;
    refused(config, Errc::DataInvalid, "learning rate");
}

/// A checkpoint whose statistics are in other units than the dataset: its processor is made as if it were in degrees.
TEST(Run, otherUnitsAreRefusedOrNoted)
{
    const TemporaryFolder folder;
    copyPolicyWithoutWeights(folder.path());
    TrainConfig config = wholeConfig(4);
    config.policy.path = folder.path().string();
    std::vector<Warning> warnings;
    const auto policy = io::readPolicyConfig(folder.path(), warnings).value();
    const auto reader = data::DatasetReader::open(config.dataset.path, {}, warnings).value();
    const auto mapping = mapDataset(reader->info(), policy, config.dataset.rename).value();
    models::Statistics statistics = datasetStatistics(*reader, mapping, {}, 1, {}).value();
    for (const double factor : { 1.0, 57.29578 }) {
        models::Statistics scaled = statistics;
        for (auto& [feature, values] : scaled) {
            for (auto& [name, value] : values) {
                value = value.mul(factor);
            }
        }
        const auto processor = models::PolicyProcessor::create(
            policy, scaled, io::Tokenizer::load(folder.path() / "tokenizer", warnings).value());
        ASSERT_TRUE(processor) << processor.error().describe();
        ASSERT_TRUE(processor->save(folder.path()));
        for (const char* whose : { "checkpoint", "dataset" }) {
            config.dataset.statistics = whose;
            const auto report = checkRun(config, {});
            ASSERT_TRUE(report) << report.error().describe();
            const bool wrong = factor != 1.0;
            EXPECT_EQ(report->passed(), !wrong || std::string_view(whose) == "dataset") << report->text();
            EXPECT_EQ(report->text().find("radians in the dataset, degrees in the checkpoint") != std::string::npos,
                      wrong)
                << report->text();
        }
    }
}

TEST(Run, overfitCheckLeavesNoTrace)
{
    const TemporaryFolder folder;
    TrainConfig config = wholeConfig(4);
    config.method = { { "type", "full" } };
    ASSERT_TRUE(runTraining(config, folder.path() / "a", false, {}));
    config.preflight.overfitSteps = 25;
    std::string text;
    RunObserver observer;
    observer.preflight = [&](const PreflightReport& report) { text = report.text(); };
    const auto second = runTraining(config, folder.path() / "b", false, {}, observer);
    ASSERT_TRUE(second) << second.error().describe();
    EXPECT_NE(text.find("overfit"), std::string::npos) << text;
    const auto a =
        tensor::loadTensors(data::RunPaths { folder.path() / "a" }.checkpoint(4) / "trainer.safetensors").value();
    const auto b =
        tensor::loadTensors(data::RunPaths { folder.path() / "b" }.checkpoint(4) / "trainer.safetensors").value();
    for (const auto& [name, value] : a) {
        EXPECT_TRUE(at::equal(value, b.at(name))) << name;
    }
}

TEST(Run, resumeAsksForTheSameConfiguration)
{
    const TemporaryFolder folder;
    TrainConfig config = wholeConfig(4);
    ASSERT_TRUE(runTraining(config, folder.path() / "run", false, {}));
    EXPECT_EQ(runTraining(config, folder.path() / "run", false, {}).error().code, Errc::AlreadyExists);
    const auto own = readRunConfig(folder.path() / "run");
    ASSERT_TRUE(own) << own.error().describe();
    EXPECT_EQ(trainConfigJson(*own), trainConfigJson(config));
    config.optimizer.lr *= 2;
    const auto other = runTraining(config, folder.path() / "run", true, {});
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, Errc::FieldInvalid);
    EXPECT_NE(other.error().message.find("optimizer.lr"), std::string::npos);
    config = wholeConfig(6);
    const auto longer = runTraining(config, folder.path() / "run", true, {});
    ASSERT_TRUE(longer) << longer.error().describe();
    EXPECT_EQ(longer->resumedFrom, 4);
    EXPECT_EQ(longer->step, 6);
}

TEST(Run, autocastTrainsCloseToF32)
{
    const TemporaryFolder folder;
    std::vector<double> losses[2];
    for (const bool half : { false, true }) {
        TrainConfig config = wholeConfig(3);
        config.precision = half ? "bf16_autocast" : "f32";
        RunObserver observer;
        observer.step = [&](const StepRecord& record) { losses[half ? 1 : 0].push_back(record.loss); };
        const auto summary = runTraining(config, folder.path() / (half ? "half" : "full"), false, {}, observer);
        ASSERT_TRUE(summary) << summary.error().describe();
    }
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(losses[1][i], losses[0][i], 0.03 * losses[0][i]);
        EXPECT_NE(losses[1][i], losses[0][i]) << "bf16 must make some difference";
    }
}

} // namespace
