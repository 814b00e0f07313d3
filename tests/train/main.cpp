// Runs the tests, or, called as `--child small|whole FOLDER STEPS [resume]`, one training for the kill tests.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/trainer.h"

#include "small_run.h"
#include "whole_run.h"

#include <cstdio>
#include <stdexcept>
#include <string_view>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

using namespace rankwise;
using namespace rankwise::test;

namespace rankwise::test {

namespace {

void must(const Result<void>& result)
{
    if (!result) {
        throw std::runtime_error(result.error().describe());
    }
}

} // namespace

SmallRun::SmallRun(train::TrainConfig c, const std::filesystem::path& folder, bool resume) : config(std::move(c))
{
    (void)method.attach(policy, 0);
    train::AdamWConfig adam { .weightDecay = config.optimizer.weightDecay,
                              .clipNorm = config.optimizer.clipNorm,
                              .emaDecay = config.ema.decay };
    optimizer = train::AdamW::create(method.trainable(), adam).value();
    if (folder.empty()) {
        return;
    }
    run = train::RunWriter::open(folder, resume, config.steps).value();
    std::int64_t from = -1;
    if (resume) {
        std::vector<Warning> warnings;
        if (const auto newest = data::newestCheckpoint(run->paths(), warnings, {}).value()) {
            start = train::restoreCheckpoint(newest->folder, method, *optimizer).value();
            must(batches.seek(start.position));
            from = start.step;
        }
    } else {
        must(run->writeRun({ { "config", train::trainConfigJson(config) } }));
    }
    must(run->event("start", start.step, { { "resumed_from", resume ? Json(from) : Json(nullptr) } }));
}

train::LoopParts SmallRun::parts()
{
    return { .policy = policy,
             .method = method,
             .optimizer = *optimizer,
             .batches = batches,
             .run = run.get(),
             .baseModel = "base",
             .observer = observer };
}

Result<train::TrainSummary> SmallRun::train()
{
    return train::runLoop(parts(), config, start, job);
}

pid_t startChild(const std::vector<std::string>& arguments)
{
    std::vector<std::string> all { "/proc/self/exe", "--child" };
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : all) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        ::execv("/proc/self/exe", argv.data());
        ::_exit(127);
    }
    return child;
}

int runChild(const std::vector<std::string>& arguments)
{
    int status = 0;
    ::waitpid(startChild(arguments), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

} // namespace rankwise::test

namespace {

int trainSmall(const std::filesystem::path& folder, std::int64_t steps, bool resume)
{
    train::TrainConfig config;
    config.steps = steps;
    config.optimizer.lr = 1e-2;
    config.schedule = { "cosine", 20, steps, 1e-4 };
    config.checkpointEvery = 10;
    config.ema.decay = 0.95;
    SmallRun run(config, folder, resume);
    run.batches.delayMs = 2;
    const auto summary = run.train();
    if (!summary) {
        std::fprintf(stderr, "%s\n", summary.error().describe().c_str());
        return 1;
    }
    return summary->step == steps ? 0 : 2;
}

} // namespace

namespace {

int trainWhole(const std::filesystem::path& folder, std::int64_t steps, bool resume)
{
    const auto summary = train::runTraining(wholeConfig(steps), folder, resume, {});
    if (!summary) {
        std::fprintf(stderr, "%s\n", summary.error().describe().c_str());
        return 1;
    }
    return summary->step == steps ? 0 : 2;
}

} // namespace

int main(int argc, char** argv)
{
    if (argc >= 5 && std::string_view(argv[1]) == "--child" && std::string_view(argv[2]) == "small") {
        return trainSmall(argv[3], std::stoll(argv[4]), argc > 5);
    }
    if (argc >= 5 && std::string_view(argv[1]) == "--child" && std::string_view(argv[2]) == "whole") {
        return trainWhole(argv[3], std::stoll(argv[4]), argc > 5);
    }
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
