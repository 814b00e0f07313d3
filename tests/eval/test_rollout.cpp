// Rollouts of a small policy in simulation: paired, repeatable, independent of the number of processes, which may die;
// tables. This program is its own worker: see main.cpp.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/resources.h"
#include "backend/data/run_directory.h"
#include "backend/eval/rollout_processes.h"
#include "backend/models/policy_registry.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <set>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

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

/// The worker that main.cpp makes of this program.
std::vector<std::string> worker(std::vector<std::string> arguments = { "--rollout-worker" })
{
    arguments.insert(arguments.begin(), std::filesystem::read_symlink("/proc/self/exe").string());
    return arguments;
}

RolloutPolicy nano()
{
    return { .policy = resourcePath("nano").value(), .adapter = {} };
}

Result<std::unique_ptr<serve::PolicyRuntime>> nanoRuntime()
{
    std::vector<Warning> warnings;
    return serve::PolicyRuntime::load({ .policy = nano().policy }, warnings);
}

void expectSame(const RolloutReport& one, const RolloutReport& two)
{
    ASSERT_EQ(one.episodes.size(), two.episodes.size());
    EXPECT_EQ(one.tasks, two.tasks);
    for (std::size_t i = 0; i < one.episodes.size(); ++i) {
        const RolloutEpisode& a = one.episodes[i];
        const RolloutEpisode& b = two.episodes[i];
        EXPECT_EQ(a.task, b.task);
        EXPECT_EQ(a.index, b.index);
        EXPECT_EQ(a.seed, b.seed);
        EXPECT_EQ(a.success, b.success);
        EXPECT_EQ(a.steps, b.steps);
        EXPECT_EQ(a.chunks, b.chunks);
        EXPECT_EQ(a.instruction, b.instruction);
        ASSERT_EQ(a.frames.size(), b.frames.size());
        for (std::size_t f = 0; f < a.frames.size(); ++f) {
            EXPECT_EQ(a.frames[f].state, b.frames[f].state) << "episode " << i << " step " << f;
            EXPECT_EQ(a.frames[f].action, b.frames[f].action) << "episode " << i << " step " << f;
            EXPECT_EQ(a.frames[f].images, b.frames[f].images) << "episode " << i << " step " << f;
        }
    }
}

TEST(Rollout, isTheSameOnAnyNumberOfProcesses)
{
    RolloutOptions options = fewEpisodes();
    options.keepEpisodes = 1;
    std::set<std::string> heard;
    const auto here = runRollouts("here", nanoRuntime, options, {},
                                  [&](const RolloutEpisode& episode, std::int64_t, std::int64_t all) {
                                      heard.insert(episode.task);
                                      EXPECT_EQ(all, 4);
                                  });
    ASSERT_TRUE(here) << here.error().describe();
    EXPECT_EQ(heard.size(), 2U);
    EXPECT_FALSE(here->episodes[0].frames.empty());
    EXPECT_TRUE(here->episodes[1].frames.empty());
    std::int64_t ended = 0;
    for (const int count : { 1, 3 }) {
        RolloutProcesses processes(worker(), count);
        ended = 0;
        const auto there = processes.run("there", nano(), options, {},
                                         [&](const RolloutEpisode&, std::int64_t done, std::int64_t all) {
                                             EXPECT_EQ(done, ++ended);
                                             EXPECT_EQ(all, 4);
                                         });
        ASSERT_TRUE(there) << there.error().describe();
        EXPECT_EQ(ended, 4);
        EXPECT_EQ(processes.processIds().size(), static_cast<std::size_t>(count));
        expectSame(*here, *there);
    }
    // Keeping frames changes nothing.
    options.keepEpisodes = 0;
    const auto bare = runRollouts("bare", nanoRuntime, options, {});
    ASSERT_TRUE(bare);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(bare->episodes[i].steps, here->episodes[i].steps);
        EXPECT_EQ(bare->episodes[i].chunks, here->episodes[i].chunks);
    }
}

TEST(Rollout, theSimulationRunsWithoutAFolderToo)
{
    const auto report = runRollouts("random", [] { return randomRuntime(1); }, fewEpisodes(), {});
    ASSERT_TRUE(report) << report.error().describe();
    EXPECT_EQ(report->episodes.size(), 4U);
    EXPECT_GT(report->episodes[0].steps, 0);
}

TEST(RolloutProcesses, aWorkerThatDiesCostsNothing)
{
    const RolloutOptions options = fewEpisodes();
    const auto here = runRollouts("here", nanoRuntime, options, {});
    ASSERT_TRUE(here) << here.error().describe();
    const std::filesystem::path marker =
        std::filesystem::temp_directory_path() / ("rankwise-crash-" + std::to_string(::getpid()));
    std::filesystem::remove(marker);
    RolloutProcesses processes(worker({ "--rollout-worker-crashing", marker.string() }), 2);
    const auto there = processes.run("there", nano(), options, {});
    ASSERT_TRUE(there) << there.error().describe();
    EXPECT_TRUE(std::filesystem::remove(marker)) << "no worker died";
    expectSame(*here, *there);
}

TEST(RolloutProcesses, anEpisodeThatKillsTwoWorkersIsNamed)
{
    RolloutProcesses processes(worker({ "--rollout-worker-crashing", "" }), 2);
    const auto report = processes.run("x", nano(), fewEpisodes(), {});
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::DeviceFailed);
    EXPECT_NE(report.error().subject.find(", episode "), std::string::npos) << report.error().describe();
    EXPECT_NE(report.error().message.find("signal 11"), std::string::npos) << report.error().describe();
    EXPECT_TRUE(processes.processIds().empty());
}

TEST(RolloutProcesses, aProgramThatIsNotThereIsNamed)
{
    RolloutProcesses processes({ "/nowhere/worker" }, 1);
    const auto report = processes.run("x", nano(), fewEpisodes(), {});
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::FileNotFound);
    EXPECT_EQ(report.error().subject, "/nowhere/worker");
}

TEST(RolloutProcesses, stopEndsTheWorkersAtOnceAndFinishedEpisodesServeAgain)
{
    RolloutOptions options = fewEpisodes();
    options.episodes = 3;
    options.timeLimit = 40;
    std::stop_source stop;
    JobContext job;
    job.stop = stop.get_token();
    std::vector<RolloutEpisode> finished;
    RolloutProcesses processes(worker(), 2);
    const auto report =
        processes.run("x", nano(), options, job, [&](const RolloutEpisode& episode, std::int64_t, std::int64_t) {
            finished.push_back(episode);
            stop.request_stop();
        });
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::Cancelled);
    EXPECT_TRUE(processes.processIds().empty());
    ASSERT_GE(finished.size(), 1U);
    ASSERT_LT(finished.size(), 6U);
    // Through the text that a caller keeps them in.
    const auto kept = episodeFromJson(parseJson(jsonText(episodeJson(finished[0])), "kept").value(), "kept");
    ASSERT_TRUE(kept) << kept.error().describe();
    std::int64_t ran = 0;
    const auto rest = processes.run("x", nano(), options, {},
                                    [&](const RolloutEpisode&, std::int64_t, std::int64_t) { ++ran; }, { *kept });
    ASSERT_TRUE(rest) << rest.error().describe();
    EXPECT_EQ(ran, 5);
    const auto whole = runRollouts("whole", nanoRuntime, options, {});
    ASSERT_TRUE(whole);
    expectSame(*whole, *rest);
}

TEST(RolloutProcesses, workersEndWithTheirCaller)
{
    // A child evaluates for ever; killed with no chance to put anything away, its workers end all the same.
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
        const std::string out = std::to_string(ends[1]);
        ::execl(self.c_str(), self.c_str(), "--evaluate-for-ever", out.c_str(), nullptr);
        ::_exit(127);
    }
    ::close(ends[1]);
    std::vector<int> workers(2);
    ASSERT_EQ(::read(ends[0], workers.data(), 2 * sizeof(int)), static_cast<ssize_t>(2 * sizeof(int)));
    ::close(ends[0]);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto alive = [](int pid) { return ::kill(pid, 0) == 0 && data::processStartTicks(pid) != 0; };
    for (int i = 0; i < 100 && (alive(workers[0]) || alive(workers[1])); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_FALSE(alive(workers[0]));
    EXPECT_FALSE(alive(workers[1]));
}

TEST(RolloutProcesses, errorsOfEpisodesReachTheCaller)
{
    RolloutOptions options = fewEpisodes();
    options.cameras = { { "front", "observation.images.a" }, { "wrist", "observation.images.b" } };
    RolloutProcesses processes(worker(), 2);
    EXPECT_EQ(processes.run("x", nano(), options, {}).error().code, Errc::FieldMissing);
    options = fewEpisodes();
    options.tasks = { "dance" };
    EXPECT_EQ(processes.run("x", nano(), options, {}).error().code, Errc::FieldInvalid);
    RolloutPolicy absent = nano();
    absent.policy = "/nowhere";
    EXPECT_EQ(processes.run("x", absent, fewEpisodes(), {}).error().code, Errc::FileNotFound);
    EXPECT_TRUE(processes.run("x", nano(), fewEpisodes(), {})) << "the same object goes on";
}

TEST(Rollout, episodesReadBack)
{
    RolloutEpisode episode {
        .task = "open_pot", .instruction = "open the pot", .index = 7, .seed = ~std::uint64_t { 0 }
    };
    episode.success = true;
    episode.steps = 31;
    episode.chunks = 4;
    episode.seconds = 0.1;
    const auto back = episodeFromJson(parseJson(jsonText(episodeJson(episode)), "x").value(), "x");
    ASSERT_TRUE(back) << back.error().describe();
    EXPECT_EQ(episodeJson(*back), episodeJson(episode));
    Json wrong = episodeJson(episode);
    wrong["seed"] = -1;
    EXPECT_EQ(episodeFromJson(wrong, "x").error().code, Errc::FieldInvalid);
    wrong = episodeJson(episode);
    wrong.erase("success");
    EXPECT_EQ(episodeFromJson(wrong, "x").error().code, Errc::FieldMissing);
    EXPECT_EQ(episodeFromJson(Json::array(), "x").error().code, Errc::FieldInvalid);
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
