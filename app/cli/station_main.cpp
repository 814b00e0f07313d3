// rankwise-station: datasets and simulation. Private; started by rankwise. Links no LibTorch.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/console.h"
#include "app/cli/inspect_command.h"
#include "backend/data/dataset_commands.h"
#include "backend/io/video_encoder.h"
#include "backend/sim/record.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace {

using namespace rankwise;
using namespace rankwise::cli;

ExitCode printCommandOutput(const Invocation& invocation, const Result<data::CommandOutput>& output)
{
    if (!output) {
        return printError(invocation, output.error());
    }
    printResult(invocation, output->text, output->json);
    return output->ok ? ExitCode::Success : ExitCode::Failure;
}

ExitCode runDataset(const Invocation& invocation, const DatasetOptions& options, const JobContext& job)
{
    if (options.action == "info") {
        return printCommandOutput(
            invocation, data::datasetInfoCommand({ .path = options.path, .episodes = options.episodes }, job));
    }
    if (options.action == "check") {
        return printCommandOutput(
            invocation,
            data::datasetCheckCommand({ .path = options.path, .deep = !options.shallow, .repair = options.repair },
                                      job));
    }
    if (options.action == "stats") {
        return printCommandOutput(
            invocation,
            data::datasetStatsCommand({ .path = options.path, .cameras = !options.shallow, .write = options.write },
                                      job));
    }
    return printCommandOutput(
        invocation,
        data::datasetConvertCommand({ .path = options.path, .out = options.out, .to = options.version }, job));
}

OrderedJson summaryJson(const sim::RecordSummary& summary)
{
    OrderedJson tasks = OrderedJson::array();
    for (const auto& task : summary.generated.tasks) {
        tasks.push_back({ { "task", task.task },
                          { "kept", task.kept },
                          { "discarded", task.discarded },
                          { "frames", task.frames } });
    }
    return { { "dataset", summary.dataset.string() },  { "episodes", summary.generated.episodes },
             { "frames", summary.generated.frames },   { "discarded", summary.generated.discarded },
             { "seconds", summary.generated.seconds }, { "tasks", tasks } };
}

ExitCode runRecord(const Invocation& invocation, const SimRecordOptions& options, ConsoleJob& job)
{
    const auto arm = sim::armFromName(options.arm);
    if (!arm) {
        return printError(invocation, arm.error());
    }
    sim::RecordOptions record;
    record.generator.tasks = options.tasks;
    record.generator.episodes = static_cast<int>(options.episodes);
    record.generator.seed = options.seed;
    record.generator.width = record.generator.height = static_cast<int>(options.imageSize);
    record.generator.disturbance.share = options.disturbance;
    record.generator.disturb = options.disturbance > 0;
    record.generator.environment.arm = *arm;
    record.generator.environment.frontCamera = options.frontCamera == "B" ? sim::CameraSet::B
        : options.frontCamera == "both"                                   ? sim::CameraSet::SeedParity
                                                                          : sim::CameraSet::A;
    record.generator.threads = static_cast<int>(invocation.threads);
    record.generator.labels = options.labels;
    record.video.fullChroma = options.chroma == "full";
    record.video.quality = static_cast<int>(options.crf);
    record.out = options.out;
    record.resume = options.resume;
    const auto summary = sim::recordEpisodes(record, job.context());
    job.clearLine();
    if (!summary) {
        return printError(invocation, summary.error());
    }
    std::string text;
    for (const auto& task : summary->generated.tasks) {
        text += fmt::format("{:<14} {} episodes, {} frames, {} attempts discarded\n", task.task, task.kept, task.frames,
                            task.discarded);
    }
    text += fmt::format("{} written in {:.1f} s\n", summary->dataset.string(), summary->generated.seconds);
    printResult(invocation, text, jsonText(summaryJson(*summary)));
    return ExitCode::Success;
}

/// What `doctor` asks this program for.
ExitCode runProbe()
{
    OrderedJson findings = OrderedJson::array();
    for (const auto& [name, encoder] : { std::pair("H.264 video", "libx264"), std::pair("AV1 video", "libsvtav1") }) {
        const bool there = io::hasVideoEncoder(encoder);
        findings.push_back({ { "part", name },
                             { "state", there ? "ok" : "missing" },
                             { "detail", there ? fmt::format("encoder {}", encoder) : "no encoder" },
                             { "remedy", there ? "" : fmt::format("install an FFmpeg built with {}", encoder) } });
    }
    const auto renderer = sim::checkRendering();
    findings.push_back(
        { { "part", "simulation" },
          { "state", renderer ? "ok" : "broken" },
          { "detail",
            fmt::format("MuJoCo {}, {}", sim::mujocoVersion(), renderer ? *renderer : renderer.error().message) },
          { "remedy", renderer ? "" : "install libegl1, libegl-mesa0 and libgl1-mesa-dri" } });
    fmt::print("{}", jsonText(findings));
    return ExitCode::Success;
}

ExitCode run(const Invocation& invocation)
{
    if (std::holds_alternative<ProbeOptions>(invocation.command)) {
        return runProbe();
    }
    if (const auto logging = configureLogging(invocation); !logging) {
        return printError(invocation, logging.error());
    }
    if (const auto* inspect = std::get_if<InspectOptions>(&invocation.command)) {
        return runInspect(invocation, *inspect, data::inspectDataset);
    }
    ConsoleJob job(invocation);
    if (const auto* dataset = std::get_if<DatasetOptions>(&invocation.command)) {
        return runDataset(invocation, *dataset, job.context());
    }
    if (const auto* record = std::get_if<SimRecordOptions>(&invocation.command)) {
        return runRecord(invocation, *record, job);
    }
    return printError(invocation, { Errc::UsageInvalid, "this command is not for rankwise-station; start rankwise" });
}

} // namespace

int main(int argc, char** argv)
{
    const auto parsed = parseCommandLine(argc, argv);
    if (const auto* code = std::get_if<ExitCode>(&parsed)) {
        return static_cast<int>(*code);
    }
    const auto& invocation = std::get<Invocation>(parsed);
    return static_cast<int>(guarded(invocation, [&] { return run(invocation); }));
}
