// The localisation head against closed forms, and actions relative to the state: statistics and whole runs.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/resources.h"
#include "backend/models/processor.h"
#include "backend/train/dataset_source.h"
#include "backend/train/localization_head.h"
#include "backend/train/trainer.h"

#include "golden_cases.h"
#include "temporary_folder.h"
#include "whole_run.h"

#include <cmath>

#include <ATen/core/Tensor.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
using namespace rankwise::train;
using namespace rankwise::test;

namespace {

std::vector<std::string> labelNames(const std::vector<std::string>& cameras, const std::vector<std::string>& points)
{
    std::vector<std::string> names;
    for (const std::string& camera : cameras) {
        for (const std::string& point : points) {
            for (const char* number : { "u", "v", "depth", "inside" }) {
                names.push_back(camera + "." + point + "." + number);
            }
        }
    }
    return names;
}

TEST(Localization, layoutComesFromTheNames)
{
    const auto layout = LabelLayout::fromNames(labelNames({ "front", "wrist" }, { "cube", "plate", "gripper" }), "x");
    ASSERT_TRUE(layout) << layout.error().describe();
    EXPECT_EQ(layout->cameras, (std::vector<std::string> { "front", "wrist" }));
    EXPECT_EQ(layout->points, 3);
    for (const std::vector<std::string>& wrong : { std::vector<std::string> {},
                                                   { "a", "b" },
                                                   { "front.cube.v", "front.cube.u" },
                                                   { "front.cube.u", "front.cube.v", "front.cube.depth" } }) {
        const auto refused = LabelLayout::fromNames(wrong, "labels");
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Errc::FieldInvalid);
        EXPECT_EQ(refused.error().subject, "labels");
    }
}

/// With all weights of the last layer at zero every guess is its bias, and the loss is a sum by hand.
TEST(Localization, lossIsTheClosedForm)
{
    const LabelLayout layout { { "front", "wrist" }, 2 };
    const std::vector<at::Tensor> tokens { at::randn({ 3, 4, 8 }), at::randn({ 3, 4, 8 }) };
    const auto head =
        LocalizationHead::create(layout, { "observation.images.wrist", "observation.images.front" }, tokens, 5);
    ASSERT_TRUE(head) << head.error().describe();
    constexpr double kBias = 0.25;
    for (const models::NamedParameter& parameter : head->parameters()) {
        if (parameter.name.ends_with(".out.weight")) {
            parameter.tensor.zero_();
        } else if (parameter.name.ends_with(".out.bias")) {
            parameter.tensor.fill_(kBias);
        }
    }
    at::Tensor labels = at::randn({ 3, 2, 2, 4 }).abs().clamp_max(1.0);
    labels.select(3, 3).copy_(at::tensor({ 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1 }).view({ 3, 2, 2 }));
    double sum = 0;
    double error = 0;
    double count = 0;
    const at::Tensor rows = labels.view({ -1, 4 });
    for (std::int64_t row = 0; row < rows.size(0); ++row) {
        if (rows[row][3].item<float>() == 0) {
            continue;
        }
        ++count;
        for (std::int64_t i = 0; i < 3; ++i) {
            const double truth = (rows[row][i].item<double>() - 0.5) * (i < 2 ? 4.0 : 5.0);
            const double distance = std::abs(truth - kBias);
            sum += distance < 0.1 ? distance * distance / 0.2 : distance - 0.05;
            error += i < 2 ? distance / 4.0 : 0;
        }
    }
    const LocalizationLoss loss = head->loss(tokens, labels.flatten(1));
    EXPECT_NEAR(loss.loss.item<double>(), sum / (3 * count), 1e-5);
    EXPECT_NEAR(loss.imageError, error / (2 * count), 1e-6);
    // Nothing in the picture, and no camera at all, are no loss.
    labels.select(3, 3).zero_();
    EXPECT_EQ(head->loss(tokens, labels.flatten(1)).loss.item<double>(), 0);
    EXPECT_EQ(head->loss({ at::Tensor(), at::Tensor() }, labels.flatten(1)).loss.item<double>(), 0);
}

/// Points that are a linear function of the tokens are found, and the tokens get a gradient.
TEST(Localization, learnsToLocalise)
{
    at::Generator generator = at::detail::createCPUGenerator(11);
    const LabelLayout layout { { "front" }, 2 };
    const at::Tensor map = at::randn({ 4 * 8, 6 }, generator) * 0.03;
    const auto draw = [&](std::vector<at::Tensor>& tokens) {
        tokens = { at::randn({ 64, 4, 8 }, generator) };
        const at::Tensor points = (at::matmul(tokens[0].flatten(1), map) + 0.5).view({ 64, 2, 3 });
        return at::cat({ points, at::ones({ 64, 2, 1 }) }, 2).flatten(1);
    };
    std::vector<at::Tensor> tokens;
    at::Tensor labels = draw(tokens);
    const auto head = LocalizationHead::create(layout, { "observation.images.front" }, tokens, 1);
    ASSERT_TRUE(head);
    AdamWConfig adam;
    adam.weightDecay = 0;
    const auto optimizer = AdamW::create(head->parameters(), adam).value();
    const double before = head->loss(tokens, labels).imageError;
    for (int step = 0; step < 400; ++step) {
        labels = draw(tokens);
        optimizer->zeroGradients();
        head->loss(tokens, labels).loss.backward();
        optimizer->collectGradients();
        optimizer->finishGradients();
        optimizer->step(3e-3, optimizer->gradientNorm());
    }
    labels = draw(tokens);
    EXPECT_LT(head->loss(tokens, labels).imageError, before / 5);
    tokens[0].requires_grad_(true);
    head->loss(tokens, labels).loss.backward();
    EXPECT_GT(tokens[0].grad().abs().min().item<float>(), 0);
}

TEST(Localization, missingLabelsAreRefusedWithTheRemedy)
{
    TrainConfig config = wholeConfig(2);
    config.localization.feature = "labels.points";
    const auto refused = checkRun(config, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::FieldMissing);
    EXPECT_NE(refused.error().message.find("--labels"), std::string::npos);
    const LabelLayout layout { { "front" }, 1 };
    const auto other = LocalizationHead::create(layout, { "observation.images.side" }, { at::randn({ 1, 2, 4 }) }, 1);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, Errc::FieldInvalid);
}

TEST(RelativeActions, statisticsAreOverAllChunks)
{
    const TrainConfig config = wholeConfig(1);
    std::vector<Warning> warnings;
    const auto policy = io::readPolicyConfig(config.policy.path, warnings).value();
    const auto reader = data::DatasetReader::open(config.dataset.path, {}, warnings).value();
    const auto mapping = mapDataset(reader->info(), policy, config.dataset.rename).value();
    const std::int64_t chunk = 5;
    models::RelativeActions relative { .enabled = true, .excludedJoints = { "third" }, .actionNames = {} };
    for (std::int64_t i = 0; i < policy.actionDim(); ++i) {
        relative.actionNames.push_back(i == 2 ? "the_Third_joint" : "joint");
    }
    std::vector<std::vector<double>> seen(static_cast<std::size_t>(policy.actionDim()));
    for (std::int64_t index = 0; index < reader->frameCount(); ++index) {
        const auto sample =
            reader->sample(index, data::SampleRequest::forPolicy({}, mapping.stateKey, mapping.actionKey, chunk));
        ASSERT_TRUE(sample) << sample.error().describe();
        const auto& actions = sample->columns.find(mapping.actionKey)->second;
        const auto state = sample->columns.find(mapping.stateKey)->second.floats();
        const auto values = actions.floats();
        for (std::int64_t t = 0; t < chunk; ++t) {
            for (std::size_t i = 0; i < seen.size() && actions.isPad[static_cast<std::size_t>(t)] == 0; ++i) {
                seen[i].push_back(static_cast<double>(values[static_cast<std::size_t>(t) * seen.size() + i])
                                  - (i == 2 ? 0.0 : static_cast<double>(state[i])));
            }
        }
    }
    const auto statistics = datasetStatistics(*reader, mapping, relative, chunk, {}).value().at("action");
    const auto absolute = datasetStatistics(*reader, mapping, {}, chunk, {}).value();
    for (std::size_t i = 0; i < seen.size(); ++i) {
        double mean = 0;
        double square = 0;
        for (const double value : seen[i]) {
            mean += value / static_cast<double>(seen[i].size());
        }
        for (const double value : seen[i]) {
            square += (value - mean) * (value - mean) / static_cast<double>(seen[i].size());
        }
        const auto at = static_cast<std::int64_t>(i);
        EXPECT_NEAR(statistics.at("mean")[at].item<double>(), mean, 1e-5 * (1 + std::abs(mean)));
        EXPECT_NEAR(statistics.at("std")[at].item<double>(), std::sqrt(square), 1e-5 * (1 + std::sqrt(square)));
    }
    EXPECT_FALSE(at::equal(absolute.at("action").at("mean"), statistics.at("mean")));
}

/// A run with relative actions saves the steps, and a run on its checkpoint takes them over.
TEST(RelativeActions, goWithTheCheckpoint)
{
    const TemporaryFolder folder;
    TrainConfig config = wholeConfig(2);
    config.policy.relativeActions = "on";
    config.method = { { "type", "full" } };
    const auto first = runTraining(config, folder.path() / "first", false, {}, {});
    ASSERT_TRUE(first) << first.error().describe();
    const auto stepsOf = [](const std::filesystem::path& checkpoint, const char* file) {
        std::vector<std::string> names;
        const Json pipeline = readJsonFile(checkpoint / file).value();
        for (const Json& step : pipeline.at("steps")) {
            names.push_back(step["registry_name"]);
        }
        return names;
    };
    const auto has = [](const std::vector<std::string>& names, const std::string& name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    EXPECT_TRUE(has(stepsOf(first->checkpoint, "policy_preprocessor.json"), "relative_actions_processor"));
    EXPECT_TRUE(has(stepsOf(first->checkpoint, "policy_postprocessor.json"), "absolute_actions_processor"));

    config.policy.relativeActions = "checkpoint";
    config.policy.path = (folder.path() / "first/base").string();
    config.policy.init = "checkpoint";
    config.method = { { "type", "lora" } };
    const auto second = runTraining(config, folder.path() / "second", false, {}, {});
    ASSERT_TRUE(second) << second.error().describe();
    EXPECT_TRUE(has(stepsOf(second->checkpoint, "policy_preprocessor.json"), "relative_actions_processor"));

    config.policy.relativeActions = "off";
    const auto third = runTraining(config, folder.path() / "third", false, {}, {});
    ASSERT_TRUE(third) << third.error().describe();
    EXPECT_FALSE(has(stepsOf(third->checkpoint, "policy_preprocessor.json"), "relative_actions_processor"));
}

} // namespace
