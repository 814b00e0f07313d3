// `rankwise eval`: rollouts with paired seeds, intervals and exact comparisons.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "backend/base/file.h"
#include "backend/base/log.h"
#include "backend/io/video_encoder.h"

#include <algorithm>
#include <filesystem>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace fs = std::filesystem;

eval::RuntimeFactory runtimeFactory(const fs::path& policy, const fs::path& adapter)
{
    return [policy, adapter]() -> Result<std::unique_ptr<serve::PolicyRuntime>> {
        std::vector<Warning> warnings;
        RW_TRY(auto runtime, serve::PolicyRuntime::load({ .policy = policy, .adapter = adapter }, warnings));
        for (const Warning& warning : warnings) {
            log::warn("eval", "{}: {}", warning.subject, warning.message);
        }
        return runtime;
    };
}

eval::RolloutProcesses rolloutWorkers(std::int64_t processes)
{
    std::error_code error;
    const fs::path self = fs::read_symlink("/proc/self/exe", error);
    const std::int64_t count = processes > 0 ? processes : std::max(1U, std::thread::hardware_concurrency());
    return { { self.string(), kRolloutWorker }, static_cast<int>(count) };
}

Result<void> copyPipelines(const fs::path& from, const fs::path& to)
{
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(from, error)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with("policy_") || name == "config.json" || name == "vlm_config.json") {
            fs::copy_file(entry.path(), to / name, fs::copy_options::skip_existing, error);
        }
        if (error) {
            break;
        }
    }
    return error ? Result<void>(failErrno(error.value(), "copy the processor files to", to)) : Result<void> {};
}

std::string tableText(const std::vector<std::vector<std::string>>& rows)
{
    std::vector<std::size_t> widths;
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t c = 0; c < row.size(); ++c) {
            widths[c] = std::max(widths[c], row[c].size());
        }
    }
    std::string text;
    for (const auto& row : rows) {
        for (std::size_t c = 0; c < row.size(); ++c) {
            text += fmt::format("{:<{}}{}", row[c], widths[c], c + 1 < row.size() ? "  " : "\n");
        }
    }
    return text;
}

Result<void> writeRolloutVideo(const eval::RolloutEpisode& episode, const fs::path& path)
{
    if (episode.frames.empty() || episode.frames.front().images.empty()) {
        return fail(Errc::DataInvalid, "the episode kept no frames", path.string());
    }
    const auto& first = episode.frames.front().images;
    int width = 0;
    for (const sim::Image& image : first) {
        width += image.width;
    }
    const int height = first.front().height;
    RW_TRY(auto encoder, io::VideoEncoder::create(path, width, height, sim::kControlHz, { .crf = 26, .gop = 10 }));
    std::vector<std::uint8_t> row(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
    for (const eval::RolloutFrame& frame : episode.frames) {
        std::size_t left = 0;
        for (const sim::Image& image : frame.images) { // cameras side by side
            const auto lineBytes = static_cast<std::size_t>(image.width) * 3;
            for (int y = 0; y < height; ++y) {
                std::copy_n(image.rgb.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(y) * lineBytes),
                            lineBytes,
                            row.begin()
                                + static_cast<std::ptrdiff_t>(
                                    static_cast<std::size_t>(y) * static_cast<std::size_t>(width) * 3 + left));
            }
            left += lineBytes;
        }
        RW_TRY_VOID(encoder.addFrame(row));
    }
    return encoder.finish();
}

namespace {

struct Contestant {
    std::string name;
    fs::path adapter;
};

Result<std::vector<Contestant>> contestants(const EvalOptions& options)
{
    if (options.adapters.empty()) {
        return std::vector<Contestant> { { fs::path(options.policy).filename().string(), {} } };
    }
    std::vector<Contestant> list;
    for (const std::string& path : options.adapters) {
        if (path == "none") {
            list.push_back({ "base", {} });
            continue;
        }
        RW_TRY(const fs::path folder, data::newestCheckpointOr(path));
        list.push_back({ fs::path(path).filename().string(), folder });
    }
    return list;
}

Result<void> writeResults(const EvalOptions& options, const std::vector<eval::RolloutReport>& reports,
                          const std::string& json)
{
    RW_TRY_VOID(createFolders(options.out));
    RW_TRY_VOID(writeFileAtomically(fs::path(options.out) / "results.json", json));
    if (options.video) {
        for (const auto& report : reports) {
            for (const auto& episode : report.episodes) {
                RW_TRY_VOID(
                    writeRolloutVideo(episode,
                                      fs::path(options.out)
                                          / fmt::format("{}-{}-{:04}-{}.mp4", report.name, episode.task, episode.index,
                                                        episode.success ? "success" : "failure")));
            }
        }
    }
    return {};
}

} // namespace

ExitCode runEval(const Invocation& invocation, const EvalOptions& options, ConsoleJob& job)
{
    if (options.video && options.out.empty()) {
        return printError(invocation, { Errc::UsageInvalid, "--video needs --out" });
    }
    const auto arm = sim::armFromName(options.arm);
    const auto list = contestants(options);
    if (!arm || !list) {
        return printError(invocation, !arm ? arm.error() : list.error());
    }
    eval::RolloutOptions rollout;
    rollout.tasks = options.tasks;
    rollout.episodes = options.episodes;
    rollout.seed = options.seed;
    rollout.environment.arm = *arm;
    rollout.environment.frontCamera = options.frontCamera == "B" ? sim::CameraSet::B
        : options.frontCamera == "both"                          ? sim::CameraSet::SeedParity
                                                                 : sim::CameraSet::A;
    rollout.actionSteps = options.actionSteps;
    rollout.keepEpisodes = options.video ? options.episodes : 0;
    eval::RolloutProcesses workers = rolloutWorkers(options.processes);
    const JobContext quiet { .stop = job.context().stop, .progress = {} }; // the listener knows of all policies

    std::vector<eval::RolloutReport> reports;
    OrderedJson comparisons = OrderedJson::array();
    std::string text;
    for (std::size_t i = 0; i < list->size(); ++i) {
        const auto& [name, adapter] = (*list)[i];
        auto report = workers.run(
            name, { .policy = options.policy, .adapter = adapter }, rollout, quiet,
            [&, &name = name](const eval::RolloutEpisode& episode, std::int64_t done, std::int64_t all) {
                job.context().report((static_cast<double>(i) + static_cast<double>(done) / static_cast<double>(all))
                                         / static_cast<double>(list->size()),
                                     name + ", " + episode.task);
            });
        job.clearLine();
        if (!report) {
            return printError(invocation, report.error());
        }
        reports.push_back(std::move(*report));
    }
    text += tableText(eval::successTable(reports));
    OrderedJson list_json = OrderedJson::array();
    for (const auto& report : reports) {
        list_json.push_back(OrderedJson(report.json()));
    }
    for (std::size_t i = 1; i < reports.size(); ++i) {
        const auto comparison = eval::comparePaired(reports.front(), reports[i]);
        if (!comparison) {
            return printError(invocation, comparison.error());
        }
        text += fmt::format("\n{} against {} (exact McNemar):\n{}", comparison->first, comparison->second,
                            tableText(eval::comparisonTable(*comparison)));
        OrderedJson rows = OrderedJson::array();
        for (const auto& row : comparison->rows) {
            rows.push_back({ { "task", row.task },
                             { "both", row.counts.both },
                             { "only_first", row.counts.onlyFirst },
                             { "only_second", row.counts.onlySecond },
                             { "neither", row.counts.neither },
                             { "p", row.p },
                             { "p_adjusted", row.pAdjusted } });
        }
        comparisons.push_back({ { "first", comparison->first }, { "second", comparison->second }, { "rows", rows } });
    }
    const std::string json = jsonText(OrderedJson { { "policies", list_json }, { "comparisons", comparisons } });
    if (!options.out.empty()) {
        if (const auto written = writeResults(options, reports, json); !written) {
            return printError(invocation, written.error());
        }
    }
    printResult(invocation, text, json);
    return ExitCode::Success;
}

} // namespace rankwise::cli
