// Episodes one after the other in this process; tables.
// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/rollout.h"

#include "backend/eval/episode_runner.h"
#include "backend/sim/random.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::eval {

namespace {

/// Stream of an evaluation's scenes; recording draws its own otherwise.
constexpr std::uint64_t kSceneStream = 0x65'76'61'6c;

std::uint64_t hashOf(const std::string& text) // FNV-1a
{
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const char c : text) {
        hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3U;
    }
    return hash;
}

} // namespace

std::uint64_t rolloutSeed(std::uint64_t seed, const std::string& task, std::int64_t index)
{
    return sim::mixSeeds(sim::mixSeeds(sim::mixSeeds(seed, kSceneStream), hashOf(task)),
                         static_cast<std::uint64_t>(index));
}

std::vector<RolloutEpisode> plannedEpisodes(const RolloutOptions& options)
{
    std::vector<RolloutEpisode> episodes;
    for (const std::string& task : options.tasks.empty() ? sim::taskNames() : options.tasks) {
        for (std::int64_t i = 0; i < options.episodes; ++i) {
            episodes.push_back({ .task = task, .index = i, .seed = rolloutSeed(options.seed, task, i) });
        }
    }
    return episodes;
}

Result<RolloutReport> runRollouts(const std::string& name, const RuntimeFactory& factory, const RolloutOptions& options,
                                  const JobContext& job, const EpisodeListener& listener)
{
    RolloutReport report { .name = name, .seed = options.seed, .episodes = plannedEpisodes(options) };
    report.tasks = options.tasks.empty() ? sim::taskNames() : options.tasks;
    RW_TRY(const auto runtime, factory());
    EpisodeRunner runner(*runtime, options);
    const auto all = static_cast<std::int64_t>(report.episodes.size());
    std::int64_t done = 0;
    for (RolloutEpisode& episode : report.episodes) {
        RW_TRY(episode, runner.run(episode.task, episode.index, episode.index < options.keepEpisodes, job));
        ++done;
        if (listener) {
            listener(episode, done, all);
        }
        job.report(static_cast<double>(done) / static_cast<double>(all), episode.task);
    }
    return report;
}

SuccessCount RolloutReport::count(const std::string& task) const
{
    SuccessCount count;
    for (const RolloutEpisode& episode : episodes) {
        if (episode.task == task) {
            ++count.trials;
            count.successes += episode.success ? 1 : 0;
        }
    }
    return count;
}

SuccessCount RolloutReport::total() const
{
    SuccessCount sum;
    for (const std::string& task : tasks) {
        const SuccessCount one = count(task);
        sum.trials += one.trials;
        sum.successes += one.successes;
    }
    return sum;
}

double RolloutReport::meanRate() const
{
    double sum = 0;
    for (const std::string& task : tasks) {
        sum += count(task).rate();
    }
    return tasks.empty() ? 0.0 : sum / static_cast<double>(tasks.size());
}

namespace {

Json countJson(const SuccessCount& count)
{
    const Interval interval = wilson(count);
    return { { "successes", count.successes },
             { "trials", count.trials },
             { "rate", count.rate() },
             { "wilson_95", { interval.low, interval.high } } };
}

} // namespace

Json episodeJson(const RolloutEpisode& episode)
{
    return { { "task", episode.task },
             { "index", episode.index },
             { "seed", episode.seed },
             { "instruction", episode.instruction },
             { "success", episode.success },
             { "steps", episode.steps },
             { "chunks", episode.chunks },
             { "seconds", episode.seconds },
             { "policy_seconds", episode.policySeconds } };
}

Result<RolloutEpisode> episodeFromJson(const Json& json, const std::string& file)
{
    RolloutEpisode episode;
    if (!json.is_object()) {
        return fail(Errc::FieldInvalid, "an episode is an object", file);
    }
    FieldReader reader(json, file);
    std::int64_t steps = 0;
    reader.require("task", episode.task);
    reader.require("index", episode.index, 0);
    reader.require("instruction", episode.instruction);
    reader.require("success", episode.success);
    reader.require("steps", steps, 0, 1'000'000'000);
    reader.require("chunks", episode.chunks, 0);
    reader.require("seconds", episode.seconds);
    reader.require("policy_seconds", episode.policySeconds);
    const Json* seed = reader.find("seed"); // of all 64 bits, which the reader's numbers have not
    if (seed == nullptr || !seed->is_number_unsigned()) {
        reader.reject("seed", "must be a number that is not negative");
    } else {
        episode.seed = seed->get<std::uint64_t>();
    }
    RW_TRY_VOID(reader.result());
    episode.steps = static_cast<int>(steps);
    return episode;
}

Json RolloutReport::json() const
{
    Json byTask = Json::object();
    for (const std::string& task : tasks) {
        byTask[task] = countJson(count(task));
    }
    Json list = Json::array();
    for (const RolloutEpisode& episode : episodes) {
        list.push_back(episodeJson(episode));
    }
    return { { "name", name },
             { "seed", seed },
             { "tasks", std::move(byTask) },
             { "all", countJson(total()) },
             { "mean_rate", meanRate() },
             { "episodes", std::move(list) } };
}

Result<Comparison> comparePaired(const RolloutReport& first, const RolloutReport& second)
{
    const bool paired = first.tasks == second.tasks
        && std::ranges::equal(first.episodes, second.episodes, [](const RolloutEpisode& a, const RolloutEpisode& b) {
                            return a.task == b.task && a.index == b.index && a.seed == b.seed;
                        });
    if (!paired) {
        return fail(Errc::FieldInvalid, "the two evaluations do not have the same episodes; use one seed for both",
                    first.name + ", " + second.name);
    }
    Comparison comparison { .first = first.name, .second = second.name };
    PairedCounts all;
    std::vector<double> p;
    for (const std::string& task : first.tasks) {
        PairedCounts counts;
        for (std::size_t i = 0; i < first.episodes.size(); ++i) {
            if (first.episodes[i].task != task) {
                continue;
            }
            const bool a = first.episodes[i].success;
            const bool b = second.episodes[i].success;
            for (PairedCounts* sum : { &counts, &all }) {
                (a && b ? sum->both : a ? sum->onlyFirst : b ? sum->onlySecond : sum->neither) += 1;
            }
        }
        p.push_back(mcnemarExact(counts));
        comparison.rows.push_back({ task, counts, p.back() });
    }
    const std::vector<double> adjusted = holm(p);
    for (std::size_t i = 0; i < adjusted.size(); ++i) {
        comparison.rows[i].pAdjusted = adjusted[i];
    }
    comparison.rows.push_back({ "all", all, mcnemarExact(all), mcnemarExact(all) });
    return comparison;
}

std::vector<std::vector<std::string>> successTable(const std::vector<RolloutReport>& reports)
{
    std::vector<std::vector<std::string>> rows { { "policy" } };
    if (reports.empty()) {
        return rows;
    }
    rows[0].insert(rows[0].end(), reports.front().tasks.begin(), reports.front().tasks.end());
    rows[0].insert(rows[0].end(), { "all", "mean of tasks" });
    for (const RolloutReport& report : reports) {
        std::vector<std::string> row { report.name };
        for (const std::string& task : reports.front().tasks) {
            row.push_back(successText(report.count(task)));
        }
        row.push_back(successText(report.total()));
        row.push_back(fmt::format("{:.0f} %", 100 * report.meanRate()));
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<std::vector<std::string>> comparisonTable(const Comparison& comparison)
{
    std::vector<std::vector<std::string>> rows { { "task", comparison.first, comparison.second,
                                                   "only " + comparison.first, "only " + comparison.second,
                                                   "p (exact McNemar)", "p (Holm)" } };
    for (const Comparison::Row& row : comparison.rows) {
        rows.push_back({ row.task, successText(row.counts.first()), successText(row.counts.second()),
                         std::to_string(row.counts.onlyFirst), std::to_string(row.counts.onlySecond),
                         fmt::format("{:.3g}", row.p), fmt::format("{:.3g}", row.pAdjusted) });
    }
    return rows;
}

} // namespace rankwise::eval
