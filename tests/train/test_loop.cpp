// The training loop on the smallest parts: what it writes, exact resume, requests, NaN, full disk.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/base/worker_thread.h"
#include "backend/data/run_directory.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/checkpoint.h"
#include "backend/train/run_directory.h"
#include "backend/train/training_loop.h"

#include "small_parts.h"
#include "small_run.h"
#include "temporary_folder.h"

#include <csignal>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include <gtest/gtest.h>

using namespace rankwise;
using namespace rankwise::train;
using namespace rankwise::test;

namespace {

void expectEqualStates(const std::filesystem::path& a, const std::filesystem::path& b)
{
    const auto left = tensor::loadTensors(a / "trainer.safetensors");
    const auto right = tensor::loadTensors(b / "trainer.safetensors");
    ASSERT_TRUE(left) << left.error().describe();
    ASSERT_TRUE(right) << right.error().describe();
    ASSERT_EQ(left->size(), right->size());
    for (const auto& [name, value] : *left) {
        EXPECT_TRUE(at::equal(value, right->at(name))) << name;
    }
    const auto adapter = tensor::loadTensors(a / "adapter_model.safetensors");
    const auto other = tensor::loadTensors(b / "adapter_model.safetensors");
    ASSERT_TRUE(adapter && other);
    for (const auto& [name, value] : *adapter) {
        EXPECT_TRUE(at::equal(value, other->at(name))) << name;
    }
    const Json first = readJsonFile(a / "trainer.json").value();
    const Json second = readJsonFile(b / "trainer.json").value();
    EXPECT_EQ(first, second);
}

TrainConfig smallConfig(std::int64_t steps)
{
    TrainConfig config;
    config.steps = steps;
    config.optimizer.lr = 1e-2;
    config.optimizer.clipNorm = 1.0;
    config.schedule = { "cosine", 5, 40, 1e-4 };
    config.checkpointEvery = 10;
    config.digestEvery = 5;
    config.snapshotEvery = 10;
    config.ema.decay = 0.9;
    return config;
}

TEST(Loop, writesTheRunDirectory)
{
    const TemporaryFolder folder;
    SmallRun run(smallConfig(20), folder.path());
    std::vector<StepRecord> records;
    run.observer.step = [&](const StepRecord& record) { records.push_back(record); };
    const auto summary = run.train();
    ASSERT_TRUE(summary) << summary.error().describe();
    EXPECT_EQ(summary->end, TrainEnd::Finished);
    EXPECT_EQ(summary->step, 20);
    ASSERT_EQ(records.size(), 20U);
    EXPECT_DOUBLE_EQ(records[0].lr, smallConfig(20).scheduleOf().rate(0, 20));
    EXPECT_NEAR(records[3].totalLoss, records[3].loss + 0.0009 * records[3].auxiliary.at("size"), 1e-5);

    const data::RunPaths paths { folder.path() };
    data::EventTail tail(paths.events());
    data::RunHistory history;
    history.add(tail.poll().value());
    EXPECT_EQ(tail.skippedLines(), 0U);
    ASSERT_EQ(history.steps.size(), 20U);
    EXPECT_NEAR(history.steps[7].loss, records[7].loss, 1e-12);
    EXPECT_NEAR(history.steps[7].aux.at("size"), records[7].auxiliary.at("size"), 1e-9);
    std::vector<std::int64_t> digestSteps;
    for (const auto& digest : history.digests) {
        digestSteps.push_back(digest.step);
    }
    EXPECT_EQ(digestSteps, (std::vector<std::int64_t> { 0, 5, 10, 15, 20 })) << "step 0 always";
    const auto snapshots = data::listSnapshots(paths);
    ASSERT_EQ(snapshots.size(), 3U);
    const auto zero = tensor::TensorFile::open(snapshots.at(0));
    ASSERT_TRUE(zero) << zero.error().describe();
    EXPECT_TRUE(zero->contains("net.first.scores"));
    EXPECT_NEAR(zero->tensor("digest.rank_mean")->item<double>(), 9.0, 1e-5);
    const auto checkpoints = data::listCheckpoints(paths);
    ASSERT_EQ(checkpoints.size(), 2U);
    for (const auto& checkpoint : checkpoints) {
        EXPECT_TRUE(data::verifyCheckpoint(checkpoint.folder));
    }
    EXPECT_EQ(data::readRunStatus(paths)->state, data::RunState::Finished);

    const auto adapter = tensor::loadTensors(checkpoints[1].folder / "adapter_model.safetensors").value();
    EXPECT_TRUE(adapter.at("net.first.weight").allclose(run.optimizer->averagedWeights().at("net.first.weight"), 0, 0))
        << "the average is what gets saved";
    EXPECT_FALSE(at::equal(adapter.at("net.first.weight"), run.policy.first.weight.detach()));
}

TEST(Loop, stoppedAndResumedEqualsUninterrupted)
{
    const TemporaryFolder folder;
    SmallRun whole(smallConfig(40), folder.path() / "whole");
    ASSERT_TRUE(whole.train());

    for (const std::int64_t at : { 1, 17, 30 }) {
        const auto path = folder.path() / ("parts" + std::to_string(at));
        {
            SmallRun first(smallConfig(40), path);
            std::stop_source stop;
            first.job.stop = stop.get_token();
            first.observer.step = [&](const StepRecord& record) {
                if (record.step == at) {
                    stop.request_stop();
                }
            };
            const auto summary = first.train();
            ASSERT_TRUE(summary) << summary.error().describe();
            EXPECT_EQ(summary->end, TrainEnd::Stopped);
            EXPECT_EQ(summary->step, at);
            EXPECT_EQ(data::readRunStatus({ path })->state, data::RunState::Stopped);
        }
        SmallRun second(smallConfig(40), path, true);
        const auto summary = second.train();
        ASSERT_TRUE(summary) << summary.error().describe();
        EXPECT_EQ(summary->step, 40);
        expectEqualStates(data::RunPaths { folder.path() / "whole" }.checkpoint(40),
                          data::RunPaths { path }.checkpoint(40));
        data::EventTail tail(data::RunPaths { path }.events());
        data::RunHistory history;
        history.add(tail.poll().value());
        EXPECT_EQ(history.steps.size(), 40U);
    }
}

TEST(Loop, learnsABatchByHeart)
{
    TrainConfig config = smallConfig(300);
    config.schedule = { "constant", 0, 0, 0 };
    config.ema.decay = 0;
    SmallRun run(config, {});
    struct Fixed : BatchSource {
        Result<models::PolicyBatch> next(const JobContext& job) override { return SmallBatches().next(job); }
        [[nodiscard]] Json position() const override { return Json::object(); }
        Result<void> seek(const Json&) override { return {}; }
    } fixed;
    std::vector<double> losses;
    TrainObserver observer;
    observer.step = [&](const StepRecord& record) { losses.push_back(record.loss); };
    const LoopParts parts { .policy = run.policy,
                            .method = run.method,
                            .optimizer = *run.optimizer,
                            .batches = fixed,
                            .observer = observer,
                            .draw = [](std::int64_t, std::int64_t, std::int64_t batch) {
                                return drawFlow(1, 0, 0, batch, kChunk, kWidth);
                            } };
    ASSERT_TRUE(runLoop(parts, config, {}, {}));
    EXPECT_LT(losses.back(), 0.2 * losses.front());
}

TEST(Loop, accumulationEqualsOneLargeStepWithinRounding)
{
    // Two batches of 8 with the noise of two passes, against their mean gradient: same weights after one step.
    TrainConfig config = smallConfig(1);
    config.accumulation = 2;
    config.ema.decay = 0;
    SmallRun run(config, {});
    ASSERT_TRUE(run.train());
    SmallRun other(smallConfig(1), {});
    other.method.eta = run.method.eta;
    const LoopParts parts = other.parts();
    for (std::int64_t pass = 0; pass < 2; ++pass) {
        const auto batch = other.batches.next({}).value();
        (void)backwardPass(parts, batch, drawFlow(1000, 0, pass, 8, kChunk, kWidth), config, { 0, 1 }, pass);
    }
    other.optimizer->finishGradients();
    other.optimizer->step(config.scheduleOf().rate(0, 1), other.optimizer->gradientNorm());
    EXPECT_TRUE(at::equal(run.policy.first.weight.detach(), other.policy.first.weight.detach()));
}

TEST(Loop, answersRequests)
{
    const TemporaryFolder folder;
    TrainConfig config = smallConfig(100'000);
    config.checkpointEvery = 100'000;
    SmallRun run(config, folder.path());
    run.batches.delayMs = 1;
    const data::RunPaths paths { folder.path() };
    Result<TrainSummary> summary = fail(Errc::Internal, "did not run");
    {
        WorkerThread trainer("trainer", [&](const std::stop_token&) { summary = run.train(); });
        const auto ask = [&](data::ControlAction action, const std::string& name = {}, double value = 0) {
            const auto answer = data::waitForAnswer(paths, data::postRequest(paths, action, name, value).value(), 20);
            EXPECT_TRUE(answer && *answer) << data::controlActionName(action);
            return answer && *answer ? **answer : data::ControlAnswer {};
        };
        while (!data::readRunStatus(paths) || data::readRunStatus(paths)->state != data::RunState::Running) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        EXPECT_TRUE(ask(data::ControlAction::Pause).accepted);
        EXPECT_EQ(data::readRunStatus(paths)->state, data::RunState::Paused);
        const std::int64_t paused = ask(data::ControlAction::Set, "eta", 0.5).step;
        EXPECT_FALSE(ask(data::ControlAction::Set, "eta", 7).accepted);
        EXPECT_FALSE(ask(data::ControlAction::Set, "alpha", 0.5).accepted);
        const auto snapshot = ask(data::ControlAction::Snapshot);
        EXPECT_EQ(snapshot.step, paused) << "a paused run stands still";
        EXPECT_TRUE(std::filesystem::exists(paths.root / snapshot.message)) << snapshot.message;
        const auto checkpoint = ask(data::ControlAction::Checkpoint);
        EXPECT_TRUE(data::verifyCheckpoint(paths.root / checkpoint.message)) << checkpoint.message;
        EXPECT_TRUE(ask(data::ControlAction::Resume).accepted);
        EXPECT_TRUE(ask(data::ControlAction::Stop).accepted);
    }
    ASSERT_TRUE(summary) << summary.error().describe();
    EXPECT_EQ(summary->end, TrainEnd::Stopped);
    EXPECT_EQ(run.method.eta, 0.5);
    EXPECT_FALSE(summary->checkpoint.empty());
    EXPECT_EQ(data::readRunStatus(paths)->reason, "stopped by request");

    run.run.reset(); // the lock
    SmallRun resumed(config, folder.path(), true);
    EXPECT_EQ(resumed.method.eta, 0.5) << "what was set stays set after a resume";
}

TEST(Loop, anOldRequestIsRefusedNotObeyed)
{
    const TemporaryFolder folder;
    const data::RunPaths paths { folder.path() };
    SmallRun run(smallConfig(3), folder.path());
    const std::string id = "0000000001.000000-1-0000";
    ASSERT_TRUE(writeFileAtomically(paths.control() / (id + ".request.json"), R"({"action": "stop", "time": 1})"));
    const auto summary = run.train();
    ASSERT_TRUE(summary) << summary.error().describe();
    EXPECT_EQ(summary->end, TrainEnd::Finished);
    EXPECT_FALSE(data::findAnswer(paths, id).value()->accepted);
}

TEST(Loop, notANumberStopsTheRunAndNamesItsOrigin)
{
    {
        const TemporaryFolder folder;
        SmallRun run(smallConfig(20), folder.path());
        run.batches.poisoned = 12;
        const auto summary = run.train();
        ASSERT_FALSE(summary);
        EXPECT_EQ(summary.error().code, Errc::NotFinite);
        EXPECT_EQ(summary.error().subject, "observation.state");
        const auto status = data::readRunStatus({ folder.path() }).value();
        EXPECT_EQ(status.state, data::RunState::Failed);
        EXPECT_EQ(status.error->code, Errc::NotFinite);
        const auto checkpoints = data::listCheckpoints({ folder.path() });
        ASSERT_EQ(checkpoints.size(), 1U) << "the last good one";
        EXPECT_EQ(checkpoints[0].step, 10);
    }
    {
        SmallRun run(smallConfig(20), {});
        run.observer.step = [&](const StepRecord& record) {
            if (record.step == 4) {
                const at::NoGradGuard noGrad;
                run.policy.second.weight.fill_(3e38); // its output overflows, nothing before it does
            }
        };
        const auto summary = run.train();
        ASSERT_FALSE(summary);
        EXPECT_EQ(summary.error().subject, "net.second") << summary.error().describe();
        EXPECT_NE(summary.error().message.find("step 5"), std::string::npos);
        EXPECT_EQ(run.policy.second.adapter, nullptr) << "the search leaves no trace";
    }
    {
        SmallRun run(smallConfig(20), {});
        run.observer.step = [&](const StepRecord& record) {
            if (record.step == 2) {
                const at::NoGradGuard noGrad;
                run.policy.first.weight.select(0, 3).fill_(std::numeric_limits<float>::infinity());
            }
        };
        const auto summary = run.train();
        ASSERT_FALSE(summary);
        EXPECT_EQ(summary.error().subject, "net.first.weight");
    }
}

TEST(Loop, aFullDiskEndsTheRunWithWhatWasWritten)
{
    const TemporaryFolder folder;
    TrainConfig config = smallConfig(2000);
    config.checkpointEvery = 10;
    config.keepCheckpoints = 2;
    SmallRun run(config, folder.path());
    rlimit before {};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limited { 40'000, before.rlim_max };
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
    const auto summary = run.train();
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, SIG_DFL);
    ASSERT_FALSE(summary);
    EXPECT_TRUE(summary.error().code == Errc::IoFailed || summary.error().code == Errc::DiskFull)
        << summary.error().describe();
    const data::RunPaths paths { folder.path() };
    EXPECT_EQ(data::readRunStatus(paths)->state, data::RunState::Failed);
    data::EventTail tail(paths.events());
    EXPECT_GT(tail.poll().value().size(), 20U);
    EXPECT_EQ(tail.tornBytes(), 0U);
    const auto checkpoints = data::listCheckpoints(paths);
    ASSERT_EQ(checkpoints.size(), 2U) << "the newest two";
    EXPECT_TRUE(data::verifyCheckpoint(checkpoints[1].folder));
    run.run.reset();
    SmallRun resumed(config, folder.path(), true);
    EXPECT_EQ(resumed.start.step, checkpoints[1].step);
}

TEST(Loop, aDamagedCheckpointIsPassedOver)
{
    const TemporaryFolder folder;
    {
        SmallRun run(smallConfig(30), folder.path());
        ASSERT_TRUE(run.train());
    }
    const data::RunPaths paths { folder.path() };
    std::string bytes = readFile(paths.checkpoint(30) / "trainer.safetensors").value();
    bytes[bytes.size() - 3] = static_cast<char>(bytes[bytes.size() - 3] ^ 1);
    ASSERT_TRUE(writeFileAtomically(paths.checkpoint(30) / "trainer.safetensors", bytes));
    std::vector<Warning> warnings;
    const auto newest = data::newestCheckpoint(paths, warnings, {});
    ASSERT_TRUE(newest && *newest);
    EXPECT_EQ((*newest)->step, 20);
    EXPECT_EQ(warnings.size(), 1U);
}

/// The real thing: a child process is killed with SIGKILL at an unforeseeable moment, and resumed.
TEST(Loop, killedAndResumedEqualsUninterrupted)
{
    const TemporaryFolder folder;
    const auto whole = folder.path() / "whole";
    const auto killed = folder.path() / "killed";
    ASSERT_EQ(runChild({ "small", whole.string(), "200" }), 0);

    const pid_t child = startChild({ "small", killed.string(), "200" });
    const data::RunPaths paths { killed };
    for (int i = 0; i < 2000 && data::listCheckpoints(paths).size() < 10; ++i) { // 100 steps and some
        ::usleep(5000);
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it was over before the kill";
    EXPECT_EQ(data::readRunStatus(paths)->state, data::RunState::Lost);
    ASSERT_EQ(runChild({ "small", killed.string(), "200", "resume" }), 0);
    EXPECT_EQ(data::readRunStatus(paths)->state, data::RunState::Finished);
    expectEqualStates(data::RunPaths { whole }.checkpoint(200), paths.checkpoint(200));
    data::EventTail tail(paths.events());
    data::RunHistory history;
    history.add(tail.poll().value());
    EXPECT_EQ(history.steps.size(), 200U);
    EXPECT_EQ(tail.skippedLines(), 0U);
}

} // namespace
