// `rankwise demo`: the main job on the practice arm. Records demonstrations, fine-tunes by several methods, compresses
// the LoRA adapter, compacts the LoRA-SP bank, rolls everything out with paired seeds and writes the report. Each stage
// leaves its result on disk as it goes; an interrupted demo goes on where it stopped.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/demo_plan.h"
#include "app/cli/demo_progress.h"
#include "app/cli/demo_report.h"
#include "app/cli/demo_window.h"
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "app/cli/train_output.h"
#include "backend/base/file.h"
#include "backend/base/resources.h"
#include "backend/base/sha256.h"
#include "backend/base/worker_thread.h"
#include "backend/compress/compact.h"
#include "backend/compress/para.h"
#include "backend/data/dataset_info.h"
#include "backend/data/run_directory.h"
#include "backend/sim/record.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kCompact = "lora_sp-compact";
constexpr double kCompressSeconds = 1;
constexpr double kCompactSeconds = 6;
constexpr double kSecondsBetweenLines = 5;
constexpr double kSecondsBetweenRanks = 15;
constexpr int kBesideWindow = 10; ///< How far a window that shows the demo goes first (nice).

std::string budgetName(double budget)
{
    return fmt::format("para-{:g}", budget);
}

/// One policy that is rolled out.
struct Entry {
    std::string name;
    fs::path adapter; ///< Empty: the base.
};

class Demo {
public:
    Demo(const DemoOptions& options, ConsoleJob& job, int threads)
        : m_options(options), m_plan(demoPlan(options.quick)), m_job(job), m_threads(threads),
          m_out(fs::absolute(options.out)), m_progress(job.context())
    {
    }

    Result<fs::path> run()
    {
        m_begin = Clock::now();
        RW_TRY_VOID(prepare());
        estimate();
        m_progress.publishTo(m_out, m_options.quick);
        showLive();
        auto done = work();
        m_progress.finish(done                                       ? data::RunState::Finished
                              : done.error().code == Errc::Cancelled ? data::RunState::Stopped
                                                                     : data::RunState::Failed,
                          done ? "report written" : done.error().describe());
        return done;
    }

private:
    Result<fs::path> work()
    {
        RW_TRY_VOID(record());
        RW_TRY_VOID(trainAll());
        for (const double budget : m_plan.budgets) {
            RW_TRY_VOID(compress(budget));
        }
        RW_TRY_VOID(compact());
        RW_TRY_VOID(evaluate());
        return report();
    }

    fs::path runFolder(const std::string& method) const { return m_out / "runs" / method; }
    fs::path datasetFolder() const { return m_out / "dataset"; }
    fs::path compactFolder() const { return m_out / kCompact; }
    bool compacts() const { return m_plan.find("lora_sp") != nullptr; }

    void say(const std::string& text)
    {
        const std::scoped_lock lock(m_printing);
        m_job.clearLine();
        fmt::print(stderr, "[{:4.0f} s] {}\n", std::chrono::duration<double>(Clock::now() - m_begin).count(), text);
    }

    void showLive()
    {
        if (!m_options.headless && openDemoWindow(m_out)) {
            // Frames go first; the work takes what they leave.
            ::setpriority(PRIO_PROCESS, 0, kBesideWindow);
            say("the workbench shows it as it goes; --headless does without");
        }
    }

    /// An unfinished demo of the same plan goes on; a finished one, or one of another plan, starts over.
    Result<void> prepare()
    {
        RW_TRY(m_base, resourcePath("nano"));
        RW_TRY_VOID(createFolders(m_out));
        RW_TRY(const std::string weights, sha256OfFile(m_base / "model.safetensors"));
        m_state = { { "plan", m_plan.json() }, { "seed", m_options.seed }, { "base", weights } };
        const fs::path state = m_out / "demo.json";
        if (const auto earlier = readJsonFile(state);
            earlier && !m_options.fresh && !earlier->value("finished", false) && withoutEnd(*earlier) == m_state) {
            say("going on with the unfinished demo in " + m_out.string());
            return {};
        }
        for (const char* name : { "dataset", "runs", "para", kCompact, "configs", "rollouts", "videos", "results.json",
                                  "report.html", "status.json", "demo.json" }) {
            std::error_code error;
            fs::remove_all(m_out / name, error);
            if (error) {
                return failErrno(error.value(), "remove what an earlier demo left", m_out / name);
            }
        }
        return saveState(false);
    }

    static Json withoutEnd(Json state)
    {
        state.erase("finished");
        return state;
    }

    Result<void> saveState(bool finished)
    {
        Json state = m_state;
        state["finished"] = finished;
        return writeFileAtomically(m_out / "demo.json", jsonText(state));
    }

    std::int64_t demonstrations() const { return m_plan.episodes * static_cast<std::int64_t>(m_plan.tasks.size()); }

    std::int64_t recordedEpisodes() const
    {
        std::vector<Warning> warnings;
        const auto info = data::readDatasetInfo(datasetFolder(), warnings);
        return info ? info->totalEpisodes : 0;
    }

    /// The parts that this start has to do; so the time left is right after an interruption too.
    void estimate()
    {
        const double cores = std::max(1, m_threads);
        m_progress.expect("recording",
                          m_plan.episodeSeconds * static_cast<double>(demonstrations() - recordedEpisodes()));
        for (const DemoMethod& method : m_plan.methods) {
            const auto status = data::readRunStatus({ runFolder(method.name) });
            const std::int64_t done = status ? status->step : 0;
            m_progress.expect(method.name,
                              method.stepSeconds * static_cast<double>(m_plan.steps - done)
                                  / std::min(cores, static_cast<double>(m_plan.methods.size())),
                              "runs/" + method.name);
        }
        for (const double budget : m_plan.budgets) {
            m_progress.expect(budgetName(budget), kCompressSeconds);
        }
        if (compacts()) {
            m_progress.expect(kCompact, kCompactSeconds);
        }
        const double one =
            m_plan.rolloutSeconds * static_cast<double>(m_plan.rollouts) * static_cast<double>(m_plan.tasks.size());
        for (const std::string& name : entryNames()) {
            m_progress.expect("rollouts of " + name, one / cores);
        }
    }

    std::vector<std::string> entryNames() const
    {
        std::vector<std::string> names { "base" };
        for (const DemoMethod& method : m_plan.methods) {
            names.push_back(method.name);
        }
        if (compacts()) {
            names.emplace_back(kCompact);
        }
        for (const double budget : m_plan.budgets) {
            names.push_back(budgetName(budget));
        }
        return names;
    }

    sim::RecordOptions recordOptions() const
    {
        sim::RecordOptions options;
        options.generator.tasks = m_plan.tasks;
        options.generator.episodes = static_cast<int>(m_plan.episodes);
        options.generator.seed = m_options.seed;
        options.generator.width = options.generator.height = static_cast<int>(m_plan.imageSize);
        options.video.fullChroma = true; // half of a 64 pixel picture's colours is too little to find a button by
        options.out = datasetFolder();
        options.resume = true;
        return options;
    }

    Result<void> record()
    {
        const fs::path mark = m_out / "configs" / "recorded.json";
        if (fs::exists(mark)) {
            m_progress.reached("recording", 1, "recorded");
            return {};
        }
        const std::int64_t there = recordedEpisodes();
        if (std::error_code error; !fs::exists(datasetFolder() / "meta" / "info.json", error)) {
            fs::remove_all(datasetFolder(), error); // what a recorder left that died before it was one
        }
        say(fmt::format("recording {} demonstrations of each of {} tasks by the scripted experts{}", m_plan.episodes,
                        m_plan.tasks.size(), there > 0 ? fmt::format("; {} are there", there) : ""));
        RW_TRY(const auto summary, sim::recordEpisodes(recordOptions(), m_progress.context("recording")));
        RW_TRY_VOID(createFolders(mark.parent_path()));
        RW_TRY_VOID(writeFileAtomically(mark,
                                        jsonText(Json { { "episodes", summary.generated.episodes },
                                                        { "frames", summary.generated.frames },
                                                        { "discarded", summary.generated.discarded } })));
        m_progress.reached("recording", 1, "recorded");
        say(fmt::format("{} episodes, {} frames, {} attempts discarded", summary.generated.episodes,
                        summary.generated.frames, summary.generated.discarded));
        return {};
    }

    Json trainConfig(const DemoMethod& method) const
    {
        return { { "policy", { { "path", m_base.string() } } },
                 { "dataset", { { "path", datasetFolder().string() }, { "std_floor", 0.002 } } },
                 { "method", method.options },
                 { "steps", m_plan.steps },
                 { "batch_size", m_plan.batch },
                 { "noise_draws", m_plan.noiseDraws },
                 { "optimizer", { { "preset", "nano" }, { "lr", method.learningRate } } },
                 { "schedule",
                   { { "type", "cosine" }, { "warmup_steps", m_plan.warmupSteps }, { "decay_steps", m_plan.steps } } },
                 { "ema", { { "decay", m_plan.ema } } },
                 { "digest_every", std::max<std::int64_t>(1, m_plan.steps / 30) },
                 { "checkpoint_every", std::max<std::int64_t>(1, m_plan.steps / 6) },
                 { "keep_checkpoints", 2 } };
    }

    /// Lines of one run, told apart by its name.
    train::RunObserver observer(const std::string& name)
    {
        struct Times {
            Clock::time_point line {}, ranks {};
        };
        const auto times = std::make_shared<Times>();
        const auto due = [](Clock::time_point& last, double pause) {
            const auto now = Clock::now();
            if (std::chrono::duration<double>(now - last).count() < pause) {
                return false;
            }
            last = now;
            return true;
        };
        train::RunObserver observer;
        observer.message = [this, name](const std::string& text) { say(name + ": " + text); };
        observer.step = [this, name, times, due](const train::StepRecord& record) {
            const double done = static_cast<double>(record.step) / static_cast<double>(record.total);
            m_progress.reached(name, done, name);
            if (record.step == record.total || due(times->line, kSecondsBetweenLines)) {
                say(fmt::format("{:<8} {}", name, stepLine(record)));
            }
        };
        observer.digest = [this, name, times, due](std::int64_t step,
                                                   const std::vector<adapters::LayerDigest>& layers) {
            if (!layers.empty() && (step == 0 || step == m_plan.steps || due(times->ranks, kSecondsBetweenRanks))) {
                say(fmt::format("{}: active rank at step {}, mean of each layer (of {}):\n{}", name, step,
                                layers.front().capacity, rankLines(layers)));
            }
        };
        return observer;
    }

    int runsAtOnce() const { return std::clamp(m_threads, 1, static_cast<int>(m_plan.methods.size())); }
    int threadsOfRun() const { return std::max(1, m_threads / runsAtOnce()); }

    /// One run a core: steps this small gain little from more threads.
    Result<void> trainAll()
    {
        std::atomic<std::size_t> next { 0 };
        std::mutex mutex;
        std::optional<Error> error;
        at::set_num_threads(threadsOfRun());
        {
            std::vector<WorkerThread> workers;
            for (int i = 0; i < runsAtOnce(); ++i) {
                workers.emplace_back(fmt::format("train {}", i), [&](const std::stop_token&) {
                    at::set_num_threads(threadsOfRun()); // a setting of each thread
                    for (std::size_t m = next++; m < m_plan.methods.size(); m = next++) {
                        Result<void> trained = fail(Errc::Internal, "ended by an exception", m_plan.methods[m].name);
                        try {
                            trained = train(m_plan.methods[m]);
                        } catch (const std::exception& exception) {
                            trained = fail(Errc::Internal, exception.what(), m_plan.methods[m].name);
                        }
                        const std::scoped_lock lock(mutex);
                        if (!trained && !error) {
                            error = trained.error();
                        }
                        if (error) {
                            return;
                        }
                    }
                });
            }
            for (WorkerThread& worker : workers) {
                worker.join();
            }
        }
        return error ? Result<void>(tl::unexpected<Error>(*error)) : Result<void> {};
    }

    Result<void> train(const DemoMethod& method)
    {
        const fs::path run = runFolder(method.name);
        if (const auto status = data::readRunStatus({ run }); status && status->state == data::RunState::Finished) {
            m_progress.reached(method.name, 1, method.name);
            return {};
        }
        const fs::path file = m_out / "configs" / (method.name + ".json");
        RW_TRY_VOID(createFolders(file.parent_path()));
        RW_TRY_VOID(writeFileAtomically(file, jsonText(trainConfig(method))));
        RW_TRY(const auto parsed, train::readTrainConfig(file));
        say(fmt::format("fine-tuning by {}, {} steps of {} samples", method.name, m_plan.steps, m_plan.batch));
        RW_TRY_VOID(createFolders(run.parent_path()));
        const bool resume = data::isRunDirectory(run);
        if (std::error_code error; !resume && fs::remove_all(run, error) == static_cast<std::uintmax_t>(-1)) {
            return failErrno(error.value(), "remove the run that never began", run);
        }
        const JobContext job { .stop = m_job.context().stop, .progress = {} };
        RW_TRY(const auto summary, train::runTraining(parsed, run, resume, job, observer(method.name)));
        if (summary.end != train::TrainEnd::Finished) {
            return fail(Errc::Cancelled, "stopped; the same command goes on from here", run.string());
        }
        return {};
    }

    Result<void> compress(double budget)
    {
        const fs::path out = m_out / "para" / budgetName(budget);
        if (m_plan.find("lora") == nullptr || fs::exists(out)) {
            m_progress.reached(budgetName(budget), 1, "compressed");
            return {};
        }
        RW_TRY_VOID(createFolders(out.parent_path()));
        RW_TRY(const fs::path adapter, data::newestCheckpointOr(runFolder("lora")));
        // Beside its place until it is whole.
        const fs::path making = m_out / "para" / ("making-" + budgetName(budget));
        std::error_code error;
        fs::remove_all(making, error);
        RW_TRY(const Json receipt,
               compress::compressAdapter(adapter, making, { .policy = { .value = budget } },
                                         { .stop = m_job.context().stop, .progress = {} }));
        RW_TRY_VOID(copyPipelines(adapter, making));
        fs::rename(making, out, error);
        if (error) {
            return failErrno(error.value(), "put the compressed adapter at", out);
        }
        m_progress.reached(budgetName(budget), 1, "compressed");
        say(fmt::format("PARA keeps {:g} of the LoRA adapter's rank: {} parameters, {:.1f} % of the energy", budget,
                        receipt.at("parameters").get<std::int64_t>(), 100 * receipt.at("kept_energy").get<double>()));
        return {};
    }

    Result<void> compact()
    {
        if (!compacts() || fs::exists(compactFolder())) {
            m_progress.reached(kCompact, 1, "compacted");
            return {};
        }
        RW_TRY(const fs::path adapter, data::newestCheckpointOr(runFolder("lora_sp")));
        RW_TRY(const Json receipt,
               compress::compactAdapter(m_base, adapter, datasetFolder(), compactFolder(),
                                        { .leastShare = m_plan.compactShare, .frames = m_plan.compactFrames },
                                        m_progress.context(kCompact)));
        m_progress.reached(kCompact, 1, "compacted");
        say("LoRA-SP compacted: " + compactText(receipt));
        return {};
    }

    Result<std::vector<Entry>> entries() const
    {
        std::vector<Entry> list { { "base", {} } };
        for (const DemoMethod& method : m_plan.methods) {
            RW_TRY(const fs::path adapter, data::newestCheckpointOr(runFolder(method.name)));
            list.push_back({ method.name, adapter });
        }
        if (compacts()) {
            list.push_back({ kCompact, compactFolder() });
        }
        for (const double budget : m_plan.budgets) {
            list.push_back({ budgetName(budget), m_out / "para" / budgetName(budget) });
        }
        return list;
    }

    fs::path videoFile(const std::string& policy, const std::string& task, std::int64_t index) const
    {
        return m_out / "videos" / fmt::format("{}-{}-{}.mp4", policy, task, index);
    }

    /// Episodes that an interrupted evaluation finished; a torn last line is none.
    static std::vector<eval::RolloutEpisode> readEpisodes(const fs::path& file)
    {
        std::vector<eval::RolloutEpisode> episodes;
        std::ifstream in(file);
        for (std::string line; std::getline(in, line);) {
            if (const auto json = parseJson(line, file.string())) {
                if (auto episode = eval::episodeFromJson(*json, file.string())) {
                    episodes.push_back(std::move(*episode));
                }
            }
        }
        return episodes;
    }

    /// Rolls one policy out; each episode is on disk before the next one counts.
    Result<eval::RolloutReport> rollOut(eval::RolloutProcesses& workers, const Entry& entry,
                                        const eval::RolloutOptions& options)
    {
        const fs::path file = m_out / "rollouts" / (entry.name + ".jsonl");
        RW_TRY_VOID(createFolders(file.parent_path()));
        const auto finished = readEpisodes(file);
        std::string text;
        for (const eval::RolloutEpisode& episode : finished) {
            text += eval::episodeJson(episode).dump() + "\n";
            m_progress.count(entry.name, episode.task, episode.success);
        }
        RW_TRY_VOID(writeFileAtomically(file, text)); // without a torn end
        std::ofstream out(file, std::ios::app);
        std::optional<Error> error;
        std::stop_source full;
        const std::stop_callback pass(m_job.context().stop, [&full] { full.request_stop(); });
        const JobContext job { .stop = full.get_token(), .progress = {} };
        const std::string part = "rollouts of " + entry.name;
        auto report = workers.run(
            entry.name, { .policy = m_base, .adapter = entry.adapter }, options, job,
            [&](const eval::RolloutEpisode& episode, std::int64_t done, std::int64_t all) {
                if (!episode.frames.empty()) {
                    if (const auto written =
                            writeRolloutVideo(episode, videoFile(entry.name, episode.task, episode.index));
                        !written && !error) {
                        error = written.error();
                    }
                }
                out << eval::episodeJson(episode).dump() << std::endl;
                if (!out && !error) {
                    error = Error { Errc::DiskFull, "an episode could not be written", file.string() };
                }
                if (error) {
                    full.request_stop();
                }
                m_progress.count(entry.name, episode.task, episode.success);
                m_progress.reached(part, static_cast<double>(done) / static_cast<double>(all),
                                   part + ", " + episode.task);
            },
            finished);
        if (error) {
            return tl::unexpected<Error>(*error);
        }
        return report;
    }

    Result<void> evaluate()
    {
        RW_TRY(const std::vector<Entry> list, entries());
        RW_TRY_VOID(createFolders(m_out / "videos"));
        eval::RolloutOptions options;
        options.tasks = m_plan.tasks;
        options.episodes = m_plan.rollouts;
        options.seed = m_options.seed;
        eval::RolloutProcesses workers = rolloutWorkers(m_threads);
        for (const Entry& entry : list) {
            // The two that the report shows side by side have more to choose from.
            const bool shown = entry.name == "base" || entry.name == m_plan.methods.front().name;
            options.keepEpisodes = shown ? m_plan.videosShown : 1;
            RW_TRY(auto report, rollOut(workers, entry, options));
            m_progress.reached("rollouts of " + entry.name, 1, "rollouts of " + entry.name);
            say(fmt::format("{:<15} {}", entry.name, eval::successText(report.total())));
            m_reports.push_back(std::move(report));
        }
        OrderedJson policies = OrderedJson::array();
        for (const auto& report : m_reports) {
            policies.push_back(OrderedJson(report.json()));
        }
        return writeFileAtomically(m_out / "results.json", jsonText(OrderedJson { { "policies", policies } }));
    }

    Result<fs::path> report()
    {
        DemoRecord record { .out = m_out, .plan = m_plan, .reports = m_reports };
        RW_TRY(const std::vector<Entry> list, entries());
        for (const Entry& entry : list) {
            record.adapters.emplace_back(entry.name, entry.adapter);
        }
        if (compacts()) {
            record.compacted = compactFolder();
        }
        record.video = [this](const std::string& policy, const std::string& task, std::int64_t index) {
            return videoFile(policy, task, index);
        };
        record.commands = commands();
        const fs::path file = m_out / "report.html";
        RW_TRY_VOID(writeDemoReport(record, file));
        RW_TRY_VOID(saveState(true));
        return file;
    }

    std::vector<std::string> commands() const
    {
        std::string tasks;
        for (const std::string& task : m_plan.tasks) {
            tasks += (tasks.empty() ? "" : ",") + task;
        }
        std::vector<std::string> lines { fmt::format(
            "rankwise sim record --task {} --episodes {} --seed {} --image-size {} --chroma full --out dataset", tasks,
            m_plan.episodes, m_options.seed, m_plan.imageSize) };
        std::string compared = "--adapter none";
        for (const DemoMethod& method : m_plan.methods) {
            lines.push_back(fmt::format("rankwise train configs/{0}.json --run runs/{0} --threads {1}", method.name,
                                        threadsOfRun()));
            compared += " --adapter runs/" + method.name;
        }
        for (const double budget : m_plan.budgets) {
            lines.push_back(fmt::format("rankwise para runs/lora/checkpoints/{} --gamma {:g} --out para/{}",
                                        data::stepName(m_plan.steps), budget, budgetName(budget)));
        }
        if (compacts()) {
            lines.push_back(
                fmt::format("rankwise compact runs/lora_sp --policy {} --dataset dataset --share {:g} --frames {} "
                            "--out {}",
                            m_base.string(), m_plan.compactShare, m_plan.compactFrames, kCompact));
            compared += fmt::format(" --adapter {}", kCompact);
        }
        for (const double budget : m_plan.budgets) {
            compared += " --adapter para/" + budgetName(budget);
        }
        lines.push_back(fmt::format("rankwise eval --policy {} {} --task {} --episodes {} --seed {}", m_base.string(),
                                    compared, tasks, m_plan.rollouts, m_options.seed));
        return lines;
    }

    DemoOptions m_options;
    DemoPlan m_plan;
    ConsoleJob& m_job;
    int m_threads;
    fs::path m_out;
    fs::path m_base;
    Json m_state;
    DemoProgress m_progress;
    std::mutex m_printing;
    std::vector<eval::RolloutReport> m_reports;
    Clock::time_point m_begin;
};

} // namespace

ExitCode runDemo(const Invocation& invocation, const DemoOptions& options, ConsoleJob& job)
{
    Demo demo(options, job, tensorThreads(invocation));
    const auto report = demo.run();
    job.clearLine();
    if (!report) {
        return printError(invocation, report.error());
    }
    printResult(invocation, fmt::format("report: {}\n", report->string()),
                jsonText(OrderedJson { { "report", report->string() } }));
    return ExitCode::Success;
}

} // namespace rankwise::cli
