// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/episode_generator.h"

#include "backend/base/worker_thread.h"
#include "backend/sim/random.h"
#include "backend/sim/task.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace rankwise::sim {
namespace {

constexpr int kMaxFailuresInARow = 20;

/// What is known of one task's attempts. Guarded by Generator's mutex.
struct TaskProgress {
    std::string name;
    std::int64_t nextAttempt = 0; ///< To be started.
    std::int64_t nextJudged = 0;  ///< Attempts below are judged, in order.
    std::int64_t failuresInARow = 0;
    std::map<std::int64_t, std::optional<Episode>> finished; ///< Not judged yet; nothing: failed.
    std::deque<Episode> ready;                               ///< Successes that wait for their turn.
    TaskCount count;

    /// Episodes that are kept, or will be if no running attempt fails.
    [[nodiscard]] std::int64_t expected() const
    {
        return count.kept + static_cast<std::int64_t>(ready.size()) + nextAttempt - nextJudged;
    }
};

/// Workers run attempts ahead; the caller's thread takes the successes in a fixed order. An attempt is only started
/// when it is needed should all running ones succeed, so the kept episodes are the same for any number of threads.
class Generator {
public:
    Generator(const GeneratorOptions& options, int threads) : m_options(options), m_lookAhead(threads + 1)
    {
        for (const std::string& name : options.tasks) {
            TaskProgress progress;
            progress.name = name;
            progress.count.task = name;
            m_tasks.push_back(std::move(progress));
        }
        for (int i = 0; i < threads; ++i) {
            m_workers.emplace_back("sim-" + std::to_string(i), [this](const std::stop_token& stop) { work(stop); });
        }
    }

    ~Generator()
    {
        for (WorkerThread& worker : m_workers) {
            worker.requestStop();
        }
        m_changed.notify_all();
    }
    Generator(const Generator&) = delete;
    Generator& operator=(const Generator&) = delete;

    Result<GeneratorSummary> run(const JobContext& job, const EpisodeSink& sink)
    {
        const auto start = std::chrono::steady_clock::now();
        GeneratorSummary summary;
        const std::int64_t total = static_cast<std::int64_t>(m_tasks.size()) * m_options.episodes;
        while (summary.episodes < total) {
            TaskProgress& task = m_tasks[static_cast<std::size_t>(summary.episodes) % m_tasks.size()];
            RW_TRY(Episode episode, take(task, job));
            episode.index = summary.episodes++;
            summary.frames += static_cast<std::int64_t>(episode.frames.size());
            if (episode.index >= m_options.skip) {
                RW_TRY_VOID(sink(std::move(episode)));
            }
            job.report(static_cast<double>(summary.episodes) / static_cast<double>(total), task.name);
        }
        const std::scoped_lock lock(m_mutex);
        for (const TaskProgress& task : m_tasks) {
            summary.tasks.push_back(task.count);
            summary.discarded += task.count.discarded;
        }
        summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return summary;
    }

private:
    Result<Episode> take(TaskProgress& task, const JobContext& job)
    {
        std::unique_lock lock(m_mutex);
        while (task.ready.empty()) {
            if (m_error) {
                return tl::unexpected<Error>(*m_error);
            }
            if (job.stopped()) {
                return fail(Errc::Cancelled, "stopped while recording " + task.name);
            }
            m_changed.wait_for(lock, std::chrono::milliseconds(50));
        }
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while recording " + task.name);
        }
        Episode episode = std::move(task.ready.front());
        task.ready.pop_front();
        ++task.count.kept;
        task.count.frames += static_cast<std::int64_t>(episode.frames.size());
        lock.unlock();
        m_changed.notify_all();
        return episode;
    }

    /// The task that most needs another attempt, or nullptr.
    TaskProgress* neededTask()
    {
        TaskProgress* best = nullptr;
        for (TaskProgress& task : m_tasks) {
            const bool needed = task.expected() < m_options.episodes && task.expected() - task.count.kept < m_lookAhead;
            if (needed && (best == nullptr || task.expected() < best->expected())) {
                best = &task;
            }
        }
        return best;
    }

    void judge(TaskProgress& task)
    {
        for (auto it = task.finished.find(task.nextJudged); it != task.finished.end();
             it = task.finished.find(task.nextJudged)) {
            if (it->second) {
                task.ready.push_back(std::move(*it->second));
                task.failuresInARow = 0;
            } else {
                ++task.count.discarded;
                if (++task.failuresInARow >= kMaxFailuresInARow && !m_error) {
                    m_error = Error { Errc::DataInvalid,
                                      "the expert failed 20 attempts in a row; lessen disturbance or randomization",
                                      task.name };
                }
            }
            task.finished.erase(it);
            ++task.nextJudged;
        }
    }

    void work(const std::stop_token& stop)
    {
        std::map<std::string, Player> players;
        std::unique_lock lock(m_mutex);
        while (!stop.stop_requested() && !m_error) {
            TaskProgress* task = neededTask();
            if (task == nullptr) {
                m_changed.wait_for(lock, std::chrono::milliseconds(50));
                continue;
            }
            const std::int64_t attempt = task->nextAttempt++;
            lock.unlock();
            Result<Episode> episode = fail(Errc::Internal, "not run");
            try {
                episode = play(players, task->name, attempt);
            } catch (const std::exception& error) {
                episode = fail(Errc::Internal, error.what(), task->name);
            }
            lock.lock();
            if (!episode) {
                if (!m_error) {
                    m_error = episode.error();
                }
            } else if (!episode->frames.empty() && episode->frames.back().success) {
                task->finished.emplace(attempt, std::move(*episode));
            } else {
                task->finished.emplace(attempt, std::nullopt);
            }
            judge(*task);
            m_changed.notify_all();
        }
        m_changed.notify_all();
    }

    struct Player {
        std::unique_ptr<Environment> environment;
        std::unique_ptr<Expert> expert;
    };

    Result<Episode> play(std::map<std::string, Player>& players, const std::string& task, std::int64_t attempt) const
    {
        Player& player = players[task];
        if (!player.environment) {
            RW_TRY(player.environment, Environment::create(task, m_options.environment));
            player.expert = std::make_unique<Expert>(*player.environment);
        }
        GeneratorOptions options = m_options;
        if (attempt < skippedOf(task)) { // its episode, if it is one, is no later one
            options.width = 0;
            options.labels = false;
        }
        return rollExpert(*player.environment, *player.expert, attemptSeed(m_options.seed, task, attempt), options);
    }

    /// How many of the skipped episodes are of `task`; the tasks take turns.
    std::int64_t skippedOf(const std::string& task) const
    {
        const auto count = static_cast<std::int64_t>(m_options.tasks.size());
        const auto place = std::ranges::find(m_options.tasks, task) - m_options.tasks.begin();
        return m_options.skip / count + (place < m_options.skip % count ? 1 : 0);
    }

    const GeneratorOptions& m_options;
    const std::int64_t m_lookAhead;
    std::mutex m_mutex;
    std::condition_variable m_changed;
    std::vector<TaskProgress> m_tasks;
    std::optional<Error> m_error;
    std::vector<WorkerThread> m_workers; ///< Last: joined before what they use goes.
};

} // namespace

std::uint64_t attemptSeed(std::uint64_t seed, std::string_view task, std::int64_t attempt)
{
    std::uint64_t name = 0xcbf29ce484222325u; // FNV-1a
    for (const char c : task) {
        name = (name ^ static_cast<std::uint8_t>(c)) * 0x100000001b3u;
    }
    return mixSeeds(mixSeeds(seed, name), static_cast<std::uint64_t>(attempt));
}

Result<Episode> rollExpert(Environment& environment, Expert& expert, std::uint64_t seed,
                           const GeneratorOptions& options)
{
    environment.reset(seed);
    Disturbance disturbance = options.disturbance;
    if (!options.disturb) {
        disturbance.share = 0;
    }
    DisturbanceProcess process(disturbance, seed);
    Episode episode;
    episode.task = environment.description().task;
    episode.instruction = environment.instruction();
    episode.seed = seed;
    episode.disturbed = process.active();
    const std::vector<std::string>& cameras =
        options.cameras.empty() ? environment.description().cameraNames : options.cameras;
    int after = 0;
    while (environment.stepCount() < environment.description().expertTimeLimit) {
        EpisodeFrame frame;
        frame.state = environment.state();
        frame.action = expert.act(environment);
        if (options.width > 0) {
            for (const std::string& camera : cameras) {
                RW_TRY(Image image, environment.render(camera, options.width, options.height));
                frame.images.push_back(std::move(image));
            }
        }
        if (options.labels) {
            frame.labels = environment.labels();
        }
        RW_TRY_VOID(environment.step(process.disturbed(frame.action, expert.distance())));
        frame.success = environment.success();
        episode.frames.push_back(std::move(frame));
        if (environment.success() && after++ >= options.settleSteps) {
            break;
        }
    }
    return episode;
}

Result<void> checkOptions(const GeneratorOptions& options)
{
    if (options.episodes < 1) {
        return fail(Errc::FieldInvalid, "at least one episode is needed", "episodes");
    }
    if (options.skip < 0) {
        return fail(Errc::FieldInvalid, "a number of episodes is not negative", "skip");
    }
    if (options.settleSteps < 0) {
        return fail(Errc::FieldInvalid, "a number of steps is not negative", "settleSteps");
    }
    const Disturbance& d = options.disturbance;
    for (const double value : { d.share, d.sigma, d.sigmaWrist, d.floor, d.reach }) {
        if (!(value >= 0 && value <= 10)) {
            return fail(Errc::FieldInvalid, "the numbers of a disturbance go from 0 to 10", "disturbance");
        }
    }
    if (!(d.correlation >= 0 && d.correlation < 1)) {
        return fail(Errc::FieldInvalid, "a correlation goes from 0 to below 1", "disturbance");
    }
    for (std::size_t i = 0; i < options.tasks.size(); ++i) {
        if (std::count(options.tasks.begin(), options.tasks.end(), options.tasks[i]) > 1) {
            return fail(Errc::FieldInvalid, "a task named twice", options.tasks[i]);
        }
        if (findTask(options.tasks[i]) == nullptr) {
            // The environment's error lists the tasks there are.
            return Environment::create(options.tasks[i], options.environment).map([](const auto&) {});
        }
    }
    return {};
}

Result<GeneratorSummary> generateEpisodes(const GeneratorOptions& options, const JobContext& job,
                                          const EpisodeSink& sink)
{
    RW_TRY_VOID(checkOptions(options));
    GeneratorOptions resolved = options;
    if (resolved.tasks.empty()) {
        resolved.tasks = taskNames();
    }
    const int processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const int natural = resolved.width > 0 ? 1 : processors;
    const int threads = std::clamp(resolved.threads == 0 ? natural : resolved.threads, 1, 256);
    Generator generator(resolved, threads);
    return generator.run(job, sink);
}

} // namespace rankwise::sim
