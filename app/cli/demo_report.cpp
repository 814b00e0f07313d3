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
#include <cmath>
#include <functional>
#include <map>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::array kGroups { "vision", "language", "action", "projection" };
constexpr int kWide = 760;
constexpr int kNarrow = 378; ///< Two beside each other.

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

void addRankMap(eval::Report& report, const data::RunHistory& history)
{
    const auto& layers = history.tables.at(history.digests.back().table);
    const RankRows rows = rowsByLayer(layers);
    eval::Heatmap map { .frame = { "Active rank of LoRA-SP while it trains", "optimiser step", "", kWide,
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
}

eval::BoxPlot rankBoxes(const data::RunDigest& digest, const std::vector<data::RunLayer>& layers, std::int64_t group,
                        double highest)
{
    eval::BoxPlot plot { .frame = { fmt::format("{}, step {}", kGroups.at(static_cast<std::size_t>(group)),
                                                digest.step),
                                    "", "active rank", kNarrow, 330 },
                         .high = highest };
    for (std::size_t i = 0; i < layers.size(); ++i) {
        if (layers[i].group != group || digest.quantiles[i].size() < 5 || digest.tokens[i] == 0) {
            continue;
        }
        eval::Box box { .label = shortPath(layers[i].path), .reference = digest.rank[i] };
        std::copy_n(digest.quantiles[i].begin(), 5, box.quantiles.begin());
        plot.boxes.push_back(box);
    }
    plot.referenceName = "mean";
    return plot;
}

/// Box plots per module group; the step-0 map on the left, the last on the right, on one scale.
void addRankBoxes(eval::Report& report, const data::RunHistory& history)
{
    const data::RunDigest& first = history.digests.front();
    const data::RunDigest& last = history.digests.back();
    const auto& layers = history.tables.at(last.table);
    const auto highest = static_cast<double>(layers.front().capacity);
    for (std::int64_t group = 0; group < 4; ++group) {
        const eval::BoxPlot before = rankBoxes(first, history.tables.at(first.table), group, highest);
        const eval::BoxPlot after = rankBoxes(last, layers, group, highest);
        if (!after.boxes.empty()) {
            report.figures({ svg(before), svg(after) },
                           fmt::format("Over the tokens, minimum, quartiles and maximum of each matrix of the {} part. "
                                       "Left: the untrained router, after its first batch. Right: the tokens since the "
                                       "digest before step {}.",
                                       kGroups.at(static_cast<std::size_t>(group)), last.step));
        }
    }
}

/// Change of the mean rank by group, since only the change is evidence.
void addRankTable(eval::Report& report, const data::RunHistory& history)
{
    const data::RunDigest& first = history.digests.front();
    const data::RunDigest& last = history.digests.back();
    const auto& layers = history.tables.at(last.table);
    std::vector<std::vector<std::string>> table { { "part", "matrices", fmt::format("mean rank, step {}", first.step),
                                                    fmt::format("step {}", last.step), "change", "kept energy" } };
    for (std::int64_t group = 0; group < 4; ++group) {
        double before = 0;
        double after = 0;
        double energy = 0;
        double count = 0;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            if (layers[i].group == group && last.tokens[i] > 0) {
                before += first.rank[i];
                after += last.rank[i];
                energy += last.energy[i];
                ++count;
            }
        }
        if (count > 0) {
            table.push_back({ kGroups.at(static_cast<std::size_t>(group)), fmt::format("{:.0f}", count),
                              fmt::format("{:.1f}", before / count), fmt::format("{:.1f}", after / count),
                              fmt::format("{:+.1f}", (after - before) / count),
                              fmt::format("{:.1f} %", 100 * energy / count) });
        }
    }
    report.table(table);
}

/// Scores of one typical token of each part, from the largest on, with the cut.
Result<void> addScores(eval::Report& report, const DemoRecord& record)
{
    if (record.compacted.empty()) {
        return {};
    }
    RW_TRY(const Json receipt, readJsonFile(record.compacted / "compaction_report.json"));
    std::vector<std::string> figures;
    std::string caption;
    for (const Json& one : receipt.at("scores")) {
        std::vector<double> scores = one.at("scores").get<std::vector<double>>();
        for (double& score : scores) {
            score = std::abs(score);
        }
        std::ranges::sort(scores, std::greater<> {});
        const auto k = one.at("k").get<std::int64_t>();
        figures.push_back(
            svg(eval::Histogram { .frame = { one.at("group").get<std::string>(), "vector, from the largest score on",
                                             "score |s|", kNarrow, 240 },
                                  .low = 0,
                                  .high = static_cast<double>(scores.size()),
                                  .counts = scores,
                                  .cut = static_cast<double>(k),
                                  .cutName = fmt::format("k = {}", k) }));
        caption += fmt::format("{}{}: {}", caption.empty() ? "" : "; ", one.at("group").get<std::string>(),
                               shortPath(one.at("path").get<std::string>()));
    }
    if (!figures.empty()) {
        report.figures(figures,
                       fmt::format("Scores of one token, the one whose k is the median, sorted; left of the "
                                   "line is kept: the fewest vectors with the share η = {:g} of Σ s². {}.",
                                   receipt.at("scores").at(0).at("eta").get<double>(), caption));
    }
    return {};
}

eval::Series smoothed(const std::string& name, const data::RunHistory& history,
                      const std::function<double(const data::RunStep&)>& value)
{
    eval::Series series { .name = name };
    for (std::size_t i = 0; i < history.steps.size(); ++i) {
        const std::size_t from = i < 9 ? 0 : i - 9; // mean of the last ten: single batches are noisy
        double sum = 0;
        for (std::size_t k = from; k <= i; ++k) {
            sum += value(history.steps[k]);
        }
        series.x.push_back(static_cast<double>(history.steps[i].step));
        series.y.push_back(sum / static_cast<double>(i - from + 1));
    }
    return series;
}

double meanOfLast(const data::RunHistory& history, std::size_t count)
{
    const std::size_t from = history.steps.size() - std::min(count, history.steps.size());
    double sum = 0;
    for (std::size_t i = from; i < history.steps.size(); ++i) {
        sum += history.steps[i].loss;
    }
    return sum / static_cast<double>(history.steps.size() - from);
}

Result<void> addTraining(eval::Report& report, const DemoRecord& record)
{
    report.heading("Training");
    eval::LineChart loss { .frame = { "Loss of the policy", "optimiser step", "flow-matching loss", kWide } };
    eval::LineChart gradients { .frame = { "Gradient norm", "optimiser step", "norm before clipping", kWide, 260 },
                                .yLog = true };
    std::vector<std::vector<std::string>> table { { "method", "learning rate", "steps", "first loss",
                                                    "last loss (mean of 20)", "trained numbers", "seconds" } };
    for (const DemoMethod& method : record.plan.methods) {
        const fs::path run = record.out / "runs" / method.name;
        RW_TRY(const data::RunHistory history, historyOf(run));
        RW_TRY(const Json description, data::readRunJson({ run }));
        if (history.steps.empty()) {
            return fail(Errc::DataInvalid, "the run has no steps", run.string());
        }
        table.push_back({ method.name, fmt::format("{:g}", method.learningRate),
                          std::to_string(history.steps.back().step), fmt::format("{:.3f}", history.steps.front().loss),
                          fmt::format("{:.3f}", meanOfLast(history, 20)),
                          std::to_string(description.value("/trained/numbers"_json_pointer, std::int64_t { 0 })),
                          fmt::format("{:.0f}", history.steps.back().time - history.steps.front().time) });
        loss.series.push_back(smoothed(method.name, history, [](const data::RunStep& step) { return step.loss; }));
        gradients.series.push_back(
            smoothed(method.name, history, [](const data::RunStep& step) { return step.gradNorm; }));
    }
    report.table(table);
    report.figure(svg(loss), "Running mean of ten steps; from events.jsonl of each run.");
    report.figure(svg(gradients), "Running mean of ten steps.");
    if (record.plan.find("lora_sp") != nullptr) {
        RW_TRY(const data::RunHistory history, historyOf(record.out / "runs" / "lora_sp"));
        if (!history.digests.empty()) {
            eval::LineChart auxiliary { .frame = { "Auxiliary losses of LoRA-SP", "optimiser step", "unweighted", kWide,
                                                   260 } };
            for (const auto& [name, first] : history.steps.front().aux) {
                if (name != "total") {
                    auxiliary.series.push_back(smoothed(name, history, [&key = name](const data::RunStep& step) {
                        const auto found = step.aux.find(key);
                        return found == step.aux.end() ? std::nan("") : found->second;
                    }));
                }
            }
            report.figure(svg(auxiliary),
                          "Spectral: the energy share that is cut off, mean over tokens and layers; "
                          "balance and z as in the paper.");
            report.heading("Where the rank goes");
            addRankTable(report, history);
            addRankMap(report, history);
            addRankBoxes(report, history);
            RW_TRY_VOID(addScores(report, record));
        }
    }
    return {};
}

Result<std::uint64_t> adapterParameters(const fs::path& folder)
{
    RW_TRY(const data::Inspection inspection,
           data::inspectPath(folder, { .values = data::ValueScan::None, .listTensors = false }));
    return inspection.total.parameters;
}

/// Energy that PARA keeps over its budget, from the singular values that a receipt lists.
Result<void> addEnergyCurves(eval::Report& report, const DemoRecord& record)
{
    const auto folderOf = [&](const std::string& prefix) -> const fs::path* {
        const auto found =
            std::ranges::find_if(record.adapters, [&](const auto& entry) { return entry.first.starts_with(prefix); });
        return found == record.adapters.end() ? nullptr : &found->second;
    };
    const fs::path* folder = folderOf("para-");
    if (folder == nullptr) {
        return {};
    }
    RW_TRY(const Json receipt, readJsonFile(*folder / "compression_report.json"));
    std::map<std::string, std::vector<double>> energies;
    for (const auto& [path, module] : receipt.at("modules").items()) {
        for (const double sigma : module.at("sigma").get<std::vector<double>>()) {
            energies["all"].push_back(sigma * sigma);
            energies[module.at("group").get<std::string>()].push_back(sigma * sigma);
        }
    }
    eval::LineChart chart { .frame = { "Energy of the LoRA update by rank", "share of the ranks kept", "share of Σ σ²",
                                       kWide } };
    for (auto& [name, values] : energies) {
        std::ranges::sort(values, std::greater<> {});
        double all = 0;
        for (const double value : values) {
            all += value;
        }
        eval::Series series { .name = name };
        double sum = 0;
        for (std::size_t i = 0; i <= values.size(); ++i) {
            series.x.push_back(static_cast<double>(i) / static_cast<double>(values.size()));
            series.y.push_back(all > 0 ? sum / all : 0);
            sum += i < values.size() ? values[i] : 0;
        }
        chart.series.push_back(std::move(series));
    }
    report.figure(svg(chart),
                  "Singular values of all modules pooled, the largest first, as PARA takes them; `all` is "
                  "the pool that its budgets cut.");
    return {};
}

Result<void> addSizes(eval::Report& report, const DemoRecord& record)
{
    report.heading("Success against size");
    eval::IntervalScatter scatter { .frame = { "Success of the adapters", "parameters of the adapter", "success rate",
                                               kWide } };
    std::vector<std::vector<std::string>> table { { "adapter", "parameters", "success", "what it is" } };
    for (std::size_t i = 0; i < record.adapters.size() && i < record.reports.size(); ++i) {
        const auto& [name, folder] = record.adapters[i];
        if (folder.empty() || name == "full") {
            continue; // no adapter
        }
        RW_TRY(const std::uint64_t parameters, adapterParameters(folder));
        const eval::SuccessCount count = record.reports[i].total();
        const eval::Interval interval = eval::wilson(count);
        scatter.points.push_back({ name, static_cast<double>(parameters), count.rate(), interval.low, interval.high });
        std::string what = record.plan.find(name) != nullptr ? "as trained" : "";
        if (name.starts_with("para-")) {
            RW_TRY(const Json receipt, readJsonFile(folder / "compression_report.json"));
            what =
                fmt::format("PARA: {} of {} ranks, {:.1f} % of the energy", receipt.at("rank_total").get<int>(),
                            receipt.at("rank_total_before").get<int>(), 100 * receipt.at("kept_energy").get<double>());
        } else if (folder == record.compacted) {
            RW_TRY(const Json receipt, readJsonFile(folder / "compaction_report.json"));
            what = compactText(receipt);
        }
        table.push_back({ name, std::to_string(parameters), eval::successText(count), what });
    }
    report.table(table);
    report.figure(svg(scatter), "Wilson 95 % intervals over all tasks.");
    return addEnergyCurves(report, record);
}

const eval::RolloutEpisode* episodeOf(const eval::RolloutReport& report, const std::string& task, std::int64_t index)
{
    const auto found = std::ranges::find_if(report.episodes, [&](const eval::RolloutEpisode& episode) {
        return episode.task == task && episode.index == index;
    });
    return found == report.episodes.end() ? nullptr : &*found;
}

/// The first filmed episode that the base fails and the first method solves, else one that the method solves, else the
/// very first.
std::pair<std::string, std::int64_t> shownEpisode(const DemoRecord& record)
{
    std::pair<std::string, std::int64_t> best { record.plan.tasks.front(), 0 };
    int bestRank = 0;
    for (std::int64_t index = 0; index < std::min(record.plan.videosShown, record.plan.rollouts); ++index) {
        for (const std::string& task : record.plan.tasks) {
            const auto* base = episodeOf(record.reports.at(0), task, index);
            const auto* adapted = episodeOf(record.reports.at(1), task, index);
            const int rank = adapted == nullptr || !adapted->success ? 0 : base != nullptr && !base->success ? 2 : 1;
            if (rank > bestRank) {
                bestRank = rank;
                best = { task, index };
            }
        }
    }
    return best;
}

Result<void> addVideos(eval::Report& report, const DemoRecord& record)
{
    report.heading("Rollouts");
    const auto [task, index] = shownEpisode(record);
    for (std::size_t i = 0; i < 2 && i < record.reports.size(); ++i) {
        const eval::RolloutReport& policy = record.reports[i];
        const eval::RolloutEpisode* episode = episodeOf(policy, task, index);
        RW_CHECK(episode != nullptr);
        RW_TRY(const std::string bytes, readFile(record.video(policy.name, task, index)));
        report.media(std::as_bytes(std::span(bytes)), "video/mp4",
                     fmt::format("{}: \"{}\", {} after {} steps; front and wrist camera", policy.name,
                                 episode->instruction, episode->success ? "success" : "no success", episode->steps));
    }
    report.paragraph(
        "The same scene and the same noise. More videos, of every task and policy, are in the folder videos.");
    return {};
}

Result<void> addOutcome(eval::Report& report, const DemoRecord& record)
{
    report.heading("Success before and after");
    report.table(eval::successTable(record.reports));
    eval::IntervalChart chart { .frame = { "Success over all tasks", "success rate", "", kWide, 300 } };
    for (const auto& policy : record.reports) {
        const eval::SuccessCount count = policy.total();
        const eval::Interval interval = eval::wilson(count);
        chart.bars.push_back({ policy.name, count.rate(), interval.low, interval.high,
                               fmt::format("{}/{}", count.successes, count.trials) });
    }
    report.figure(svg(chart), "Bars are rates, lines Wilson 95 % intervals.");
    for (std::size_t i = 1; i < record.reports.size(); ++i) {
        // Methods against the base; what was made smaller against what it was made from.
        const std::string& name = record.reports[i].name;
        const std::string against = record.plan.find(name) != nullptr ? "base"
            : name.starts_with("para-")                               ? "lora"
                                                                      : "lora_sp";
        const auto other = std::ranges::find(record.reports, against, &eval::RolloutReport::name);
        if (other == record.reports.end()) {
            continue;
        }
        RW_TRY(const eval::Comparison comparison, eval::comparePaired(*other, record.reports[i]));
        report.paragraph(fmt::format("{} against {}, exact McNemar test on the same episodes:", comparison.first,
                                     comparison.second));
        report.table(eval::comparisonTable(comparison));
    }
    return {};
}

} // namespace

Result<void> writeDemoReport(const DemoRecord& record, const fs::path& file)
{
    eval::Report report("Rankwise: the main job on the practice arm");
    report.paragraph(fmt::format("{} demonstrations of each of {} tasks by scripted experts, a small SmolVLA policy "
                                 "fine-tuned on them in {} steps "
                                 "of {} samples, and {} rollouts of each task and policy in the same simulation. All "
                                 "policies were rolled out in "
                                 "the same scenes with the same noise.",
                                 record.plan.episodes, record.plan.tasks.size(), record.plan.steps, record.plan.batch,
                                 record.plan.rollouts));
    RW_TRY_VOID(addOutcome(report, record));
    RW_TRY_VOID(addTraining(report, record));
    RW_TRY_VOID(addSizes(report, record));
    RW_TRY_VOID(addVideos(report, record));
    report.heading("The same by hand");
    report.paragraph("In the folder of this report:");
    report.commands(record.commands);
    return report.write(file);
}

} // namespace rankwise::cli
