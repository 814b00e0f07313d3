// Rollouts of a small random policy in simulation: paired, repeatable, independent of the number of threads; tables.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/resources.h"
#include "backend/eval/rollout.h"
#include "backend/models/policy_registry.h"

#include <mutex>
#include <set>

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
using namespace rankwise::eval;

namespace {

/// The nano policy from random weights, with statistics of the arm's usual range.
Result<std::unique_ptr<serve::PolicyRuntime>> randomRuntime(std::uint64_t seed)
{
    RW_TRY(const std::filesystem::path folder, resourcePath("nano"));
    std::vector<Warning> warnings;
    RW_TRY(const io::PolicyConfig config, io::readPolicyConfig(folder, warnings));
    RW_TRY(auto policy, models::createPolicy(config, seed));
    RW_TRY(auto tokenizer, io::Tokenizer::load(folder / "tokenizer", warnings));
    models::Statistics statistics;
    for (const char* feature : { models::kStateKey, models::kActionKey }) {
        statistics[feature] = { { "mean", at::zeros({ 7 }) }, { "std", at::full({ 7 }, 0.3) } };
    }
    RW_TRY(auto processor, models::PolicyProcessor::create(config, statistics, std::move(tokenizer)));
    return std::make_unique<serve::PolicyRuntime>(std::move(policy), std::move(processor));
}

RolloutOptions fewEpisodes()
{
    RolloutOptions options;
    options.tasks = { "press_button", "open_pot" };
    options.episodes = 2;
    options.seed = 11;
    options.timeLimit = 12;
    options.flowSteps = 2;
    return options;
}

TEST(ActionQueue, runsTheFirstActionsOfEachChunk)
{
    auto runtime = randomRuntime(1);
    ASSERT_TRUE(runtime) << runtime.error().describe();
    const auto observe = [&]() -> Result<models::Transition> {
        models::Transition transition;
        transition.observation[models::kStateKey] = at::zeros({ 1, 7 });
        for (const char* camera : { "observation.images.front", "observation.images.wrist" }) {
            transition.observation[camera] = at::zeros({ 1, 64, 64, 3 }, at::TensorOptions().dtype(at::kByte));
        }
        transition.tasks = { "press the button" };
        return transition;
    };
    int asked = 0;
    const auto counting = [&] {
        ++asked;
        return observe();
    };
    serve::ActionQueue queue(**runtime, 5, 3, 2);
    std::vector<std::vector<float>> actions;
    for (int i = 0; i < 7; ++i) {
        const auto action = queue.next(counting);
        ASSERT_TRUE(action) << action.error().describe();
        ASSERT_EQ(action->size(), 7U);
        actions.push_back(*action);
    }
    EXPECT_EQ(asked, 3) << "at actions 0, 3 and 6";
    EXPECT_EQ(queue.chunks(), 3);
    serve::ActionQueue again(**runtime, 5, 3, 2);
    for (const auto& action : actions) {
        EXPECT_EQ(*again.next(observe), action) << "the same seed draws the same noise";
    }
    serve::ActionQueue other(**runtime, 6, 3, 2);
    EXPECT_NE(*other.next(observe), actions[0]);
}

TEST(Rollout, isRepeatableAndIndependentOfThreads)
{
    RolloutOptions options = fewEpisodes();
    options.keepEpisodes = 1;
    std::set<std::string> heard;
    const auto one = runRollouts(
        "one", [] { return randomRuntime(1); }, options, {},
        [&](const RolloutEpisode& episode, std::int64_t, std::int64_t all) {
            heard.insert(episode.task);
            EXPECT_EQ(all, 4);
        });
    ASSERT_TRUE(one) << one.error().describe();
    EXPECT_EQ(heard.size(), 2U);
    options.threads = 2;
    const auto two = runRollouts("two", [] { return randomRuntime(1); }, options, {});
    ASSERT_TRUE(two) << two.error().describe();
    ASSERT_EQ(one->episodes.size(), 4U);
    ASSERT_EQ(two->episodes.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i) {
        const RolloutEpisode& a = one->episodes[i];
        const RolloutEpisode& b = two->episodes[i];
        EXPECT_EQ(a.seed, b.seed);
        EXPECT_EQ(a.success, b.success);
        EXPECT_EQ(a.steps, b.steps);
        EXPECT_EQ(a.instruction, b.instruction);
        ASSERT_EQ(a.frames.size(), b.frames.size());
        EXPECT_EQ(a.frames.empty(), a.index != 0);
        for (std::size_t f = 0; f < a.frames.size(); ++f) {
            EXPECT_EQ(a.frames[f].state, b.frames[f].state) << "episode " << i << " step " << f;
            EXPECT_EQ(a.frames[f].images, b.frames[f].images);
        }
    }
    // Keeping frames changes nothing.
    options.keepEpisodes = 0;
    const auto bare = runRollouts("bare", [] { return randomRuntime(1); }, options, {});
    ASSERT_TRUE(bare);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(bare->episodes[i].steps, one->episodes[i].steps);
        EXPECT_EQ(bare->episodes[i].chunks, one->episodes[i].chunks);
    }
}

TEST(Rollout, seedsAreDistinctAndNotThoseOfRecording)
{
    std::set<std::uint64_t> seeds;
    for (const std::uint64_t seed : { 0U, 1U, 7U }) {
        for (const std::string& task : sim::taskNames()) {
            for (std::int64_t i = 0; i < 50; ++i) {
                seeds.insert(rolloutSeed(seed, task, i));
            }
        }
    }
    EXPECT_EQ(seeds.size(), 3U * sim::taskNames().size() * 50U);
}

TEST(Rollout, stopsWhenAsked)
{
    std::stop_source stop;
    stop.request_stop();
    JobContext job;
    job.stop = stop.get_token();
    const auto report = runRollouts(
        "x", [] { return randomRuntime(1); }, fewEpisodes(), job);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::Cancelled);
}

TEST(Rollout, refusesAPolicyThatDoesNotFit)
{
    RolloutOptions options = fewEpisodes();
    options.cameras = { { "front", "observation.images.a" }, { "wrist", "observation.images.b" } };
    const auto report = runRollouts("x", [] { return randomRuntime(1); }, options, {});
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::FieldMissing);
    options = fewEpisodes();
    options.tasks = { "dance" };
    EXPECT_EQ(runRollouts("x", [] { return randomRuntime(1); }, options, {}).error().code, Errc::FieldInvalid);
}

RolloutReport made(const std::string& name, const std::vector<bool>& press, const std::vector<bool>& pot)
{
    RolloutReport report { .name = name, .seed = 3, .tasks = { "press_button", "open_pot" } };
    for (const auto& [task, outcomes] : { std::pair { "press_button", press }, std::pair { "open_pot", pot } }) {
        for (std::size_t i = 0; i < outcomes.size(); ++i) {
            RolloutEpisode episode { .task = task, .index = static_cast<std::int64_t>(i) };
            episode.seed = rolloutSeed(3, task, episode.index);
            episode.success = outcomes[i];
            report.episodes.push_back(episode);
        }
    }
    return report;
}

TEST(Rollout, comparesEpisodeByEpisode)
{
    const RolloutReport base = made("base", { false, false, false, false, false, true, false, false }, { true, false });
    const RolloutReport tuned = made("tuned", { true, true, true, true, true, true, true, false }, { true, true });
    EXPECT_EQ(base.total().successes, 2);
    EXPECT_DOUBLE_EQ(base.meanRate(), 0.5 * (1.0 / 8 + 0.5));
    const auto comparison = comparePaired(base, tuned);
    ASSERT_TRUE(comparison) << comparison.error().describe();
    ASSERT_EQ(comparison->rows.size(), 3U);
    EXPECT_EQ(comparison->rows[0].counts.onlySecond, 6);
    EXPECT_EQ(comparison->rows[0].counts.both, 1);
    EXPECT_EQ(comparison->rows[0].counts.neither, 1);
    EXPECT_DOUBLE_EQ(comparison->rows[0].p, 2.0 / 64);
    EXPECT_DOUBLE_EQ(comparison->rows[0].pAdjusted, 4.0 / 64);
    EXPECT_EQ(comparison->rows[2].task, "all");
    EXPECT_DOUBLE_EQ(comparison->rows[2].p, 2.0 / 128);
    const auto table = successTable({ base, tuned });
    ASSERT_EQ(table.size(), 3U);
    EXPECT_EQ(table[2][1], successText({ 7, 8 }));
    EXPECT_EQ(comparisonTable(*comparison).size(), 4U);
    const Json json = tuned.json();
    EXPECT_EQ(json["tasks"]["press_button"]["successes"], 7);
    EXPECT_EQ(json["episodes"].size(), 10U);

    RolloutReport other = tuned;
    other.episodes.back().seed += 1;
    EXPECT_EQ(comparePaired(base, other).error().code, Errc::FieldInvalid) << "not the same scenes";
}

} // namespace
