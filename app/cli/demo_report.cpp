// Every number here is read back from the files of the demo or comes from its rollouts.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/demo_report.h"

#include "app/cli/rollout_output.h"
#include "backend/base/file.h"
#include "backend/data/inspection.h"
#include "backend/data/run_directory.h"
#include "backend/eval/figure.h"
#include "backend/eval/report.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::array kGroups { "vision", "language", "action", "projection" };

Result<data::RunHistory> historyOf(const fs::path& run)
{
    data::EventTail tail(data::RunPaths { run }.events());
    data::RunHistory history;
    for (;;) {
        RW_TRY(const auto events, tail.poll());
        if (events.empty()) {
            return history;
        }
        history.add(events);
    }
}

/// "layers.3.self_attn.q_proj" out of a long module path.
std::string shortPath(const std::string& path)
{
    const std::size_t layers = path.find("layers.");
    if (layers != std::string::npos) {
        return path.substr(layers + 7);
    }
    const std::size_t dot = path.rfind('.');
    return dot == std::string::npos ? path : path.substr(dot + 1);
}

/// Rows of the rank map: one a layer of the stack for a group, the mean over its matrices.
struct RankRows {
    std::vector<std::string> labels;
    std::vector<std::vector<std::size_t>> members; ///< Indices into the layer table.
};

RankRows rowsByLayer(const std::vector<data::RunLayer>& layers)
{
    RankRows rows;
    std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> rowOf;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const auto key = std::pair(layers[i].group, layers[i].depth);
        if (!rowOf.contains(key)) {
            rowOf[key] = rows.labels.size();
            const std::string group =
                kGroups.at(static_cast<std::size_t>(std::clamp<std::int64_t>(layers[i].group, 0, 3)));
            rows.labels.push_back(layers[i].depth < 0 ? group : fmt::format("{} {}", group, layers[i].depth));
            rows.members.emplace_back();
        }
        rows.members[rowOf[key]].push_back(i);
    }
    return rows;
}

void addRankFigures(eval::Report& report, const data::RunHistory& history)
{
    const data::RunDigest& last = history.digests.back();
    const auto& layers = history.tables.at(last.table);
    const RankRows rows = rowsByLayer(layers);
    eval::Heatmap map { .frame = { "Active rank of LoRA-SP while it trains", "optimiser step", "", 760,
                                   80 + 24 * static_cast<int>(rows.labels.size()) },
                        .rows = rows.labels,
                        .valueTitle = "active rank" };
    map.values.resize(rows.labels.size());
    for (const data::RunDigest& digest : history.digests) {
        map.columns.push_back(std::to_string(digest.step));
        for (std::size_t r = 0; r < rows.labels.size(); ++r) {
            double sum = 0;
            for (const std::size_t member : rows.members[r]) {
                sum += digest.rank[member];
            }
            map.values[r].push_back(sum / static_cast<double>(rows.members[r].size()));
        }
    }
    report.figure(
        svg(map),
        fmt::format("Mean over the tokens and the matrices of each layer, out of {} vectors, at the energy target η. "
                    "The first column is the untrained router: only the change from it is evidence.",
                    layers.front().capacity));
    const data::RunDigest& first = history.digests.front();
    for (std::int64_t group = 0; group < 4; ++group) {
        eval::BoxPlot plot { .frame = { fmt::format("Active rank, {} layers",
                                                    kGroups.at(static_cast<std::size_t>(group))),
                                        "", "active rank", 760, 330 },
                             .referenceName = fmt::format("mean at step {}", first.step) };
        for (std::size_t i = 0; i < layers.size(); ++i) {
            if (layers[i].group != group || last.quantiles[i].size() < 5 || last.tokens[i] == 0) {
                continue;
            }
            eval::Box box { .label = shortPath(layers[i].path), .reference = first.rank[i] };
            std::copy_n(last.quantiles[i].begin(), 5, box.quantiles.begin());
            plot.boxes.push_back(box);
        }
        if (!plot.boxes.empty()) {
            report.figure(
                svg(plot),
                fmt::format(
                    "Over the tokens since the digest before step {}: minimum, quartiles, maximum of each matrix.",
                    last.step));
        }
    }
}

Result<void> addTraining(eval::Report& report, const DemoRecord& record)
{
    report.heading("Training");
    eval::LineChart loss { .frame = { "Loss of the policy", "optimiser step", "flow-matching loss" } };
    std::vector<std::vector<std::string>> table { { "method", "steps", "first loss", "last loss (mean of 20)",
                                                    "trained numbers", "seconds" } };
    for (const std::string& method : record.methods) {
        const fs::path run = record.out / "runs" / method;
        RW_TRY(const data::RunHistory history, historyOf(run));
        RW_TRY(const Json description, data::readRunJson({ run }));
        if (history.steps.empty()) {
            return fail(Errc::DataInvalid, "the run has no steps", run.string());
        }
        eval::Series series { .name = method };
        for (std::size_t i = 0; i < history.steps.size(); ++i) {
            const std::size_t from = i < 9 ? 0 : i - 9; // mean of the last ten: single batches are noisy
            double sum = 0;
            for (std::size_t k = from; k <= i; ++k) {
                sum += history.steps[k].loss;
            }
            series.x.push_back(static_cast<double>(history.steps[i].step));
            series.y.push_back(sum / static_cast<double>(i - from + 1));
        }
        const std::size_t tailFrom = history.steps.size() - std::min<std::size_t>(20, history.steps.size());
        double tailSum = 0;
        for (std::size_t i = tailFrom; i < history.steps.size(); ++i) {
            tailSum += history.steps[i].loss;
        }
        table.push_back({ method, std::to_string(history.steps.back().step),
                          fmt::format("{:.3f}", history.steps.front().loss),
                          fmt::format("{:.3f}", tailSum / static_cast<double>(history.steps.size() - tailFrom)),
                          std::to_string(description.value("/trained/numbers"_json_pointer, std::int64_t { 0 })),
                          fmt::format("{:.0f}", history.steps.back().time - history.steps.front().time) });
        loss.series.push_back(std::move(series));
    }
    report.table(table);
    report.figure(svg(loss), "Running mean of ten steps; from events.jsonl of each run.");
    if (std::find(record.methods.begin(), record.methods.end(), "lora_sp") != record.methods.end()) {
        RW_TRY(const data::RunHistory history, historyOf(record.out / "runs" / "lora_sp"));
        if (!history.digests.empty()) {
            report.heading("Where the rank goes");
            addRankFigures(report, history);
        }
    }
    return {};
}

Result<std::uint64_t> adapterParameters(const fs::path& folder)
{
    RW_TRY(const data::Inspection inspection, data::inspectPath(folder, { .values = data::ValueScan::None, .listTensors = false }));
    return inspection.total.parameters;
}

Result<void> addSizes(eval::Report& report, const DemoRecord& record)
{
    if (record.compressed.empty()) {
        return {};
    }
    report.heading("Success against size");
    eval::IntervalScatter scatter { .frame = { "Success of the LoRA adapter after PARA", "parameters of the adapter",
                                               "success rate" } };
    std::vector<std::vector<std::string>> table { { "adapter", "parameters", "success" } };
    std::vector<std::pair<std::string, fs::path>> adapters = record.compressed;
    RW_TRY(const fs::path whole, adapterFolder(record.out / "runs" / "lora"));
    adapters.insert(adapters.begin(), { "lora", whole });
    for (const auto& [name, folder] : adapters) {
        const auto found = std::find_if(record.reports.begin(), record.reports.end(),
                                        [&, &n = name](const auto& r) { return r.name == n; });
        if (found == record.reports.end()) {
            continue;
        }
        RW_TRY(const std::uint64_t parameters, adapterParameters(folder));
        const eval::SuccessCount count = found->total();
        const eval::Interval interval = eval::wilson(count);
        scatter.points.push_back({ name, static_cast<double>(parameters), count.rate(), interval.low, interval.high });
        table.push_back({ name, std::to_string(parameters), eval::successText(count) });
    }
    report.table(table);
    report.figure(svg(scatter), "Wilson 95 % intervals over all tasks.");
    return {};
}

Result<void> addVideos(eval::Report& report, const DemoRecord& record)
{
    report.heading("Rollouts");
    int shown = 0;
    for (auto policy = record.reports.rbegin(); policy != record.reports.rend() && shown < 2; ++policy) {
        if (policy->name != "base" && policy->name != record.methods.front()) {
            continue;
        }
        for (const auto& episode : policy->episodes) {
            if (episode.frames.empty()) {
                continue;
            }
            const fs::path file = record.out / "videos" / fmt::format("{}-{}.mp4", policy->name, episode.task);
            RW_TRY_VOID(createFolders(file.parent_path()));
            RW_TRY_VOID(writeRolloutVideo(episode, file));
            RW_TRY(const std::string bytes, readFile(file));
            report.media(std::as_bytes(std::span(bytes)), "video/mp4",
                         fmt::format("{}: \"{}\", {} after {} steps; front and wrist camera", policy->name,
                                     episode.instruction, episode.success ? "success" : "no success", episode.steps));
            ++shown;
            break;
        }
    }
    return {};
}

} // namespace

Result<void> writeDemoReport(const DemoRecord& record, const fs::path& file)
{
    eval::Report report("Rankwise: the main job on the practice arm");
    report.paragraph("Demonstrations of scripted experts, a small SmolVLA policy fine-tuned on them, and rollouts in "
                     "the same simulation. "
                     "All policies were rolled out in the same scenes with the same noise.");
    report.heading("Success before and after");
    report.table(eval::successTable(record.reports));
    eval::IntervalChart chart { .frame = { "Success over all tasks", "success rate", "", 760, 300 } };
    for (const auto& policy : record.reports) {
        const eval::SuccessCount count = policy.total();
        const eval::Interval interval = eval::wilson(count);
        chart.bars.push_back({ policy.name, count.rate(), interval.low, interval.high,
                               fmt::format("{}/{}", count.successes, count.trials) });
    }
    report.figure(svg(chart), "Bars are rates, lines Wilson 95 % intervals.");
    for (std::size_t i = 1; i <= record.methods.size() && i < record.reports.size(); ++i) {
        RW_TRY(const eval::Comparison comparison, eval::comparePaired(record.reports.front(), record.reports[i]));
        report.paragraph(fmt::format("{} against {}, exact McNemar test on the same episodes:", comparison.first,
                                     comparison.second));
        report.table(eval::comparisonTable(comparison));
    }
    RW_TRY_VOID(addTraining(report, record));
    RW_TRY_VOID(addSizes(report, record));
    RW_TRY_VOID(addVideos(report, record));
    report.heading("The same by hand");
    report.paragraph("In the folder of this report:");
    report.commands(record.commands);
    return report.write(file);
}

} // namespace rankwise::cli
