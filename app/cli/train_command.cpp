// `rankwise train`: a worker that writes a run directory and prints the active ranks as they change.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/train_output.h"
#include "backend/train/trainer.h"

#include <chrono>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

constexpr const char* kGroupNames[] = { "vision", "language", "action", "projection" };

OrderedJson summaryJson(const train::TrainSummary& summary, const std::string& run)
{
    return { { "run", run },
             { "state", summary.end == train::TrainEnd::Finished ? "finished" : "stopped" },
             { "step", summary.step },
             { "resumed_from", summary.resumedFrom },
             { "final_loss", summary.finalLoss },
             { "seconds", summary.seconds },
             { "checkpoint", summary.checkpoint.string() } };
}

} // namespace

std::string rankLines(const std::vector<adapters::LayerDigest>& layers)
{
    std::map<std::pair<models::LayerGroup, std::int64_t>, std::pair<double, int>> byDepth;
    for (const auto& layer : layers) {
        auto& [sum, count] = byDepth[{ layer.group, layer.depth }];
        sum += layer.rankMean;
        ++count;
    }
    std::string text;
    for (int group = 0; group < 4; ++group) {
        std::string ranks;
        for (const auto& [key, value] : byDepth) {
            if (static_cast<int>(key.first) == group) {
                ranks += fmt::format(" {:6.1f}", value.first / value.second);
            }
        }
        if (!ranks.empty()) {
            text += fmt::format("    {:<11}{}\n", kGroupNames[group], ranks);
        }
    }
    return text;
}

std::string stepLine(const train::StepRecord& record)
{
    return fmt::format("step {:>6}/{}  loss {:8.4f}  lr {:.2e}  grad {:8.3f}  {:7.1f} samples/s  {} left", record.step,
                       record.total, record.loss, record.lr, record.gradientNorm, record.samplesPerSecond,
                       record.etaSeconds < 0 ? "?" : train::secondsText(record.etaSeconds));
}

train::RunObserver printingObserver(double secondsBetweenLines)
{
    struct State {
        std::chrono::steady_clock::time_point printed {};
        std::chrono::steady_clock::time_point ranksPrinted {};
        std::int64_t total = -1;
    };
    const auto state = std::make_shared<State>();
    train::RunObserver observer;
    observer.preflight = [](const train::PreflightReport& report) { fmt::print(stderr, "{}", report.text()); };
    observer.message = [](const std::string& text) { fmt::print(stderr, "{}\n", text); };
    observer.step = [state, secondsBetweenLines](const train::StepRecord& record) {
        const auto now = std::chrono::steady_clock::now();
        state->total = record.total;
        if (record.step == 1 || record.step == record.total
            || std::chrono::duration<double>(now - state->printed).count() >= secondsBetweenLines) {
            state->printed = now;
            fmt::print(stderr, "{}\n", stepLine(record));
        }
    };
    observer.digest = [state, secondsBetweenLines](std::int64_t step,
                                                   const std::vector<adapters::LayerDigest>& layers) {
        const auto now = std::chrono::steady_clock::now();
        const bool due = step == 0 || step == state->total
            || std::chrono::duration<double>(now - state->ranksPrinted).count() >= secondsBetweenLines;
        if (!layers.empty() && due) {
            state->ranksPrinted = now;
            fmt::print(stderr, "  active rank at step {}, mean of each layer (of {}):\n{}", step,
                       layers.front().capacity, rankLines(layers));
        }
    };
    return observer;
}

ExitCode runTrain(const Invocation& invocation, const TrainOptions& options, ConsoleJob& job)
{
    auto config = options.config.empty() ? train::readRunConfig(options.run) : train::readTrainConfig(options.config);
    if (!config) {
        return printError(invocation, config.error());
    }
    if (options.steps > 0) {
        config->steps = options.steps;
    }
    if (options.preflightOnly) {
        const auto report = train::checkRun(*config, job.context());
        if (!report) {
            return printError(invocation, report.error());
        }
        printResult(invocation, report->text(), jsonText(report->json()));
        return report->passed() ? ExitCode::Success : ExitCode::Failure;
    }
    const auto summary = train::runTraining(*config, options.run, options.resume, job.context(), printingObserver(2.0));
    if (!summary) {
        return printError(invocation, summary.error());
    }
    const bool finished = summary->end == train::TrainEnd::Finished;
    printResult(invocation,
                fmt::format("{} at step {} after {}; checkpoint {}\n", finished ? "finished" : "stopped", summary->step,
                            train::secondsText(summary->seconds), summary->checkpoint.string()),
                jsonText(summaryJson(*summary, options.run)));
    return finished || !job.context().stopped() ? ExitCode::Success : ExitCode::Interrupted;
}

} // namespace rankwise::cli
