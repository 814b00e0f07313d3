// Threads that each run whole episodes; tables.
// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/rollout.h"

#include "backend/base/worker_thread.h"
#include "backend/sim/random.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/Parallel.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::eval {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start)
{
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Streams of an evaluation's seeds; recording draws its scenes otherwise.
constexpr std::uint64_t kSceneStream = 0x65'76'61'6c;
constexpr std::uint64_t kNoiseStream = 0x6e'6f'69'73;

std::uint64_t hashOf(const std::string& text) // FNV-1a
{
    std::uint64_t hash = 0xcbf29ce484222325U;
    for (const char c : text) {
        hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3U;
    }
    return hash;
}

/// Which camera of the scene each of the policy's cameras is.
struct CameraPlan {
    struct View {
        std::size_t scene; ///< Index in the scene's cameras.
        std::string name;  ///< In the policy.
    };
    std::vector<View> views;
    int width = 64;
    int height = 64;
};

Result<CameraPlan> planCameras(const io::PolicyConfig& policy, const sim::SceneDescription& scene,
                               const RolloutOptions& options)
{
    CameraPlan plan;
    for (std::size_t i = 0; i < scene.cameraNames.size(); ++i) {
        const auto renamed = options.cameras.find(scene.cameraNames[i]);
        const std::string name =
            renamed == options.cameras.end() ? "observation.images." + scene.cameraNames[i] : renamed->second;
        const io::PolicyFeature* feature = policy.findFeature(name);
        if (feature == nullptr || feature->type != io::FeatureType::Visual) {
            continue;
        }
        if (feature->shape.size() == 3) {
            plan.height = std::max(plan.height, static_cast<int>(feature->shape[1]));
            plan.width = std::max(plan.width, static_cast<int>(feature->shape[2]));
        }
        plan.views.push_back({ i, name });
    }
    if (plan.views.empty() && !policy.cameraNames().empty()) {
        return fail(Errc::FieldMissing,
                    fmt::format("the policy sees {}; the scene has {}. Map them", fmt::join(policy.cameraNames(), ", "),
                                fmt::join(scene.cameraNames, ", ")),
                    "cameras");
    }
    return plan;
}

models::Transition transitionOf(const sim::Observation& seen, const CameraPlan& plan, const std::string& instruction)
{
    models::Transition transition;
    at::Tensor state =
        at::empty({ 1, static_cast<std::int64_t>(seen.state.size()) }, at::TensorOptions().dtype(at::kFloat));
    std::ranges::copy(seen.state, state.data_ptr<float>());
    transition.observation[models::kStateKey] = state;
    for (const CameraPlan::View& view : plan.views) {
        const sim::Image& image = seen.images.at(view.scene);
        at::Tensor pixels = at::empty({ 1, image.height, image.width, 3 }, at::TensorOptions().dtype(at::kByte));
        std::ranges::copy(image.rgb, pixels.data_ptr<std::uint8_t>());
        transition.observation[view.name] = pixels;
    }
    transition.tasks = { instruction };
    return transition;
}

/// Runs episodes in one environment after the other.
class Roller {
public:
    Roller(serve::PolicyRuntime& runtime, const RolloutOptions& options) : m_runtime(runtime), m_options(options) { }

    Result<RolloutEpisode> run(const std::string& task, std::int64_t index, const JobContext& job)
    {
        RW_TRY_VOID(open(task));
        const auto start = Clock::now();
        RolloutEpisode episode { .task = task, .index = index, .seed = rolloutSeed(m_options.seed, task, index) };
        m_environment->reset(episode.seed);
        episode.instruction = m_environment->instruction();
        serve::ActionQueue queue(m_runtime, sim::mixSeeds(episode.seed, kNoiseStream), m_options.actionSteps,
                                 m_options.flowSteps);
        const int limit = m_options.timeLimit > 0 ? m_options.timeLimit : m_environment->description().timeLimit;
        const bool kept = index < m_options.keepEpisodes;
        while (episode.steps < limit && !m_environment->success()) {
            if (job.stopped()) {
                return fail(Errc::Cancelled, "stopped", task);
            }
            std::optional<sim::Observation> seen;
            if (kept) {
                RW_TRY(seen, m_environment->observation(m_plan.width, m_plan.height));
            }
            RW_TRY(const std::vector<float> values, ask(queue, seen, episode));
            sim::Action action {};
            std::copy(values.begin(), values.end(), action.begin());
            if (kept) {
                episode.frames.push_back({ seen->state, action, std::move(seen->images) });
            }
            RW_TRY_VOID(m_environment->step(action));
            ++episode.steps;
        }
        episode.success = m_environment->success();
        episode.chunks = queue.chunks();
        episode.seconds = secondsSince(start);
        return episode;
    }

private:
    Result<void> open(const std::string& task)
    {
        if (m_environment && m_environment->description().task == task) {
            return {};
        }
        RW_TRY(m_environment, sim::Environment::create(task, m_options.environment));
        RW_TRY(m_plan, planCameras(m_runtime.policy().config(), m_environment->description(), m_options));
        return {};
    }

    Result<std::vector<float>> ask(serve::ActionQueue& queue, const std::optional<sim::Observation>& seen,
                                   RolloutEpisode& episode)
    {
        const auto start = Clock::now();
        double rendering = 0;
        auto values = queue.next([&]() -> Result<models::Transition> {
            if (seen) {
                return transitionOf(*seen, m_plan, episode.instruction);
            }
            const auto begin = Clock::now();
            RW_TRY(const sim::Observation now, m_environment->observation(m_plan.width, m_plan.height));
            rendering = secondsSince(begin);
            return transitionOf(now, m_plan, episode.instruction);
        });
        episode.policySeconds += secondsSince(start) - rendering;
        if (values && values->size() != sim::kActionSize) {
            return fail(Errc::ShapeMismatch,
                        fmt::format("the policy gives {} numbers an action, the arm takes {}", values->size(),
                                    sim::kActionSize),
                        "action");
        }
        return values;
    }

    serve::PolicyRuntime& m_runtime;
    const RolloutOptions& m_options;
    std::unique_ptr<sim::Environment> m_environment;
    CameraPlan m_plan;
};

/// What the threads share.
struct Board {
    std::mutex mutex; ///< Guards everything below but `next`.
    std::atomic<std::size_t> next { 0 };
    std::atomic<bool> stop { false };
    std::vector<RolloutEpisode> episodes;
    std::int64_t done = 0;
    std::optional<Error> error;
};

void work(Board& board, const RuntimeFactory& factory, const RolloutOptions& options, const JobContext& job,
          const EpisodeListener& listener)
{
    const auto failed = [&](Error error) {
        const std::lock_guard lock(board.mutex);
        if (!board.error) {
            board.error = std::move(error);
        }
        board.stop = true;
    };
    try {
        auto runtime = factory();
        if (!runtime) {
            failed(runtime.error());
            return;
        }
        Roller roller(**runtime, options);
        for (std::size_t i = board.next++; i < board.episodes.size() && !board.stop; i = board.next++) {
            auto episode = roller.run(board.episodes[i].task, board.episodes[i].index, job);
            if (!episode) {
                failed(episode.error());
                return;
            }
            const std::lock_guard lock(board.mutex);
            board.episodes[i] = std::move(*episode);
            ++board.done;
            const auto all = static_cast<std::int64_t>(board.episodes.size());
            if (listener) {
                listener(board.episodes[i], board.done, all);
            }
            job.report(static_cast<double>(board.done) / static_cast<double>(all), board.episodes[i].task);
        }
    } catch (const std::exception& exception) {
        failed({ Errc::Internal, exception.what(), "rollout" });
    }
}

} // namespace

std::uint64_t rolloutSeed(std::uint64_t seed, const std::string& task, std::int64_t index)
{
    return sim::mixSeeds(sim::mixSeeds(sim::mixSeeds(seed, kSceneStream), hashOf(task)),
                         static_cast<std::uint64_t>(index));
}

Result<RolloutReport> runRollouts(const std::string& name, const RuntimeFactory& factory, const RolloutOptions& options,
                                  const JobContext& job, const EpisodeListener& listener)
{
    RolloutReport report { .name = name, .seed = options.seed };
    report.tasks = options.tasks.empty() ? sim::taskNames() : options.tasks;
    Board board;
    for (const std::string& task : report.tasks) {
        for (std::int64_t i = 0; i < options.episodes; ++i) {
            board.episodes.push_back({ .task = task, .index = i });
        }
    }
    const int threads = std::clamp(options.threads, 1, std::max(1, static_cast<int>(board.episodes.size())));
    if (threads == 1) {
        work(board, factory, options, job, listener);
    } else {
        std::vector<WorkerThread> workers;
        for (int i = 0; i < threads; ++i) {
            workers.emplace_back(fmt::format("rollout {}", i), [&](const std::stop_token&) {
                at::set_num_threads(1); // of this thread: the episodes are what runs side by side
                work(board, factory, options, job, listener);
            });
        }
        for (WorkerThread& worker : workers) {
            worker.join();
        }
    }
    if (board.error) {
        return tl::unexpected<Error>(*board.error);
    }
    report.episodes = std::move(board.episodes);
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

Json RolloutReport::json() const
{
    Json byTask = Json::object();
    for (const std::string& task : tasks) {
        byTask[task] = countJson(count(task));
    }
    Json list = Json::array();
    for (const RolloutEpisode& episode : episodes) {
        list.push_back({ { "task", episode.task },
                         { "index", episode.index },
                         { "seed", episode.seed },
                         { "instruction", episode.instruction },
                         { "success", episode.success },
                         { "steps", episode.steps },
                         { "chunks", episode.chunks },
                         { "seconds", episode.seconds },
                         { "policy_seconds", episode.policySeconds } });
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
