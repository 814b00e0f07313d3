// `rankwise demo`: the main job on the practice arm. Records demonstrations, fine-tunes by several methods, compresses
// the LoRA adapter, rolls everything out with paired seeds and writes the report. Each stage leaves its result on disk;
// an interrupted demo goes on where it stopped.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/demo_report.h"
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "app/cli/train_output.h"
#include "backend/base/file.h"
#include "backend/base/resources.h"
#include "backend/compress/para.h"
#include "backend/data/dataset_info.h"
#include "backend/sim/record.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

/// How much of everything; changing results is a new demo.
struct DemoPlan {
    std::vector<std::string> tasks;
    std::int64_t episodes = 30; ///< Demonstrations of each task.
    std::int64_t steps = 300;
    std::int64_t batch = 32;
    std::int64_t rollouts = 12; ///< Of each task and policy.
    std::vector<std::string> methods { "lora_sp", "lora", "full" };
    std::vector<double> budgets { 0.5, 0.25, 0.1 };
    std::int64_t imageSize = 64;
};

DemoPlan planOf(const DemoOptions& options)
{
    if (options.quick) {
        return { .tasks = { "press_button" },
                 .episodes = 20,
                 .steps = 60,
                 .batch = 16,
                 .rollouts = 8,
                 .methods = { "lora_sp", "lora" },
                 .budgets = { 0.25 } };
    }
    return { .tasks = sim::taskNames() };
}

Json methodJson(const std::string& name)
{
    if (name == "lora_sp") {
        return { { "type", "lora_sp" }, { "mode", "paper" }, { "bank", 32 }, { "blocks", 4 }, { "eta", 0.9 } };
    }
    if (name == "lora") {
        return { { "type", "lora" }, { "r", 16 }, { "lora_alpha", 32 } };
    }
    return { { "type", name } };
}

Json planJson(const DemoPlan& plan, const DemoOptions& options)
{
    return { { "tasks", plan.tasks },     { "episodes", plan.episodes }, { "steps", plan.steps },
             { "batch", plan.batch },     { "rollouts", plan.rollouts }, { "methods", plan.methods },
             { "budgets", plan.budgets }, { "seed", options.seed },      { "image_size", plan.imageSize } };
}

class Demo {
public:
    Demo(const DemoOptions& options, ConsoleJob& job, int threads)
        : m_options(options), m_plan(planOf(options)), m_job(job), m_threads(threads), m_out(fs::absolute(options.out))
    {
    }

    Result<fs::path> run()
    {
        m_begin = std::chrono::steady_clock::now();
        RW_TRY_VOID(prepare());
        RW_TRY_VOID(record());
        for (const std::string& method : m_plan.methods) {
            RW_TRY_VOID(train(method));
        }
        for (const double budget : m_plan.budgets) {
            RW_TRY_VOID(compress(budget));
        }
        RW_TRY_VOID(evaluate());
        return report();
    }

private:
    fs::path runFolder(const std::string& method) const { return m_out / "runs" / method; }
    static std::string budgetName(double budget) { return fmt::format("para-{:g}", budget); }
    fs::path datasetFolder() const { return m_out / "dataset"; }

    void say(const std::string& text) const
    {
        m_job.clearLine();
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - m_begin).count();
        fmt::print(stderr, "[{:4.0f} s] {}\n", seconds, text);
    }

    /// An unfinished demo of the same plan goes on; a finished one, or one of another plan, starts over.
    Result<void> prepare()
    {
        RW_TRY(m_base, resourcePath("nano"));
        RW_TRY_VOID(createFolders(m_out));
        const fs::path state = m_out / "demo.json";
        const Json plan = planJson(m_plan, m_options);
        if (const auto earlier = readJsonFile(state); earlier && !m_options.fresh
            && earlier->value("plan", Json()) == plan && !earlier->value("finished", false)) {
            say("going on with the unfinished demo in " + m_out.string());
            return {};
        }
        for (const char* name :
             { "dataset", "runs", "para", "configs", "videos", "results.json", "report.html", "demo.json" }) {
            std::error_code error;
            fs::remove_all(m_out / name, error);
            if (error) {
                return failErrno(error.value(), "remove what an earlier demo left", m_out / name);
            }
        }
        return saveState(false);
    }

    Result<void> saveState(bool finished)
    {
        return writeFileAtomically(
            m_out / "demo.json", jsonText(Json { { "plan", planJson(m_plan, m_options) }, { "finished", finished } }));
    }

    Result<void> record()
    {
        std::vector<Warning> warnings;
        const auto wanted = m_plan.episodes * static_cast<std::int64_t>(m_plan.tasks.size());
        if (const auto info = data::readDatasetInfo(datasetFolder(), warnings); info && info->totalEpisodes == wanted) {
            return {};
        }
        std::error_code error;
        fs::remove_all(datasetFolder(), error);
        say(fmt::format("recording {} demonstrations of each of {} tasks by the scripted experts", m_plan.episodes,
                        m_plan.tasks.size()));
        sim::RecordOptions options;
        options.generator.tasks = m_plan.tasks;
        options.generator.episodes = static_cast<int>(m_plan.episodes);
        options.generator.seed = m_options.seed;
        options.generator.width = options.generator.height = static_cast<int>(m_plan.imageSize);
        options.out = datasetFolder();
        RW_TRY(const auto summary, sim::recordEpisodes(options, m_job.context()));
        say(fmt::format("{} episodes, {} frames, {} attempts discarded", summary.generated.episodes,
                        summary.generated.frames, summary.generated.discarded));
        return {};
    }

    Result<void> train(const std::string& method)
    {
        const fs::path run = runFolder(method);
        if (const auto status = data::readRunStatus({ run }); status && status->state == data::RunState::Finished) {
            return {};
        }
        const Json config { { "policy", { { "path", m_base.string() } } },
                            { "dataset", { { "path", datasetFolder().string() }, { "std_floor", 0.002 } } },
                            { "method", methodJson(method) },
                            { "steps", m_plan.steps },
                            { "batch_size", m_plan.batch },
                            { "optimizer", { { "preset", "nano" }, { "lr", method == "full" ? 5e-4 : 2e-3 } } },
                            { "schedule",
                              { { "type", "cosine" }, { "warmup_steps", 20 }, { "decay_steps", m_plan.steps } } },
                            { "ema", { { "decay", 0.98 } } },
                            { "digest_every", std::max<std::int64_t>(1, m_plan.steps / 30) },
                            { "checkpoint_every", std::max<std::int64_t>(1, m_plan.steps / 3) } };
        const fs::path file = m_out / "configs" / (method + ".json");
        RW_TRY_VOID(createFolders(file.parent_path()));
        RW_TRY_VOID(writeFileAtomically(file, jsonText(config)));
        RW_TRY(const auto parsed, train::readTrainConfig(file));
        say(fmt::format("fine-tuning by {}, {} steps of {} samples", method, m_plan.steps, m_plan.batch));
        at::set_num_threads(m_threads);
        RW_TRY_VOID(createFolders(run.parent_path()));
        const bool resume = data::isRunDirectory(run);
        if (std::error_code error; !resume && fs::remove_all(run, error) == static_cast<std::uintmax_t>(-1)) {
            return failErrno(error.value(), "remove the run that never began", run);
        }
        RW_TRY(const auto summary, train::runTraining(parsed, run, resume, m_job.context(), printingObserver(5.0)));
        if (summary.end != train::TrainEnd::Finished) {
            return fail(Errc::Cancelled, "stopped; the same command goes on from here", run.string());
        }
        return {};
    }

    Result<void> compress(double budget)
    {
        const fs::path out = m_out / "para" / budgetName(budget);
        if (fs::exists(out)) {
            return {};
        }
        RW_TRY_VOID(createFolders(out.parent_path()));
        RW_TRY(const fs::path adapter, adapterFolder(runFolder("lora")));
        RW_TRY(const Json receipt,
               compress::compressAdapter(adapter, out, { .policy = { .value = budget } }, m_job.context()));
        RW_TRY_VOID(copyPipelines(adapter, out));
        say(fmt::format("PARA keeps {:g} of the LoRA adapter's rank", budget));
        return {};
    }

    Result<void> evaluate()
    {
        struct Entry {
            std::string name;
            fs::path adapter;
        };
        std::vector<Entry> entries { { "base", {} } };
        for (const std::string& method : m_plan.methods) {
            RW_TRY(const fs::path adapter, adapterFolder(runFolder(method)));
            entries.push_back({ method, adapter });
        }
        for (const double budget : m_plan.budgets) {
            entries.push_back({ budgetName(budget), m_out / "para" / budgetName(budget) });
        }
        eval::RolloutOptions options;
        options.tasks = m_plan.tasks;
        options.episodes = m_plan.rollouts;
        options.seed = m_options.seed;
        options.threads = m_threads;
        options.keepEpisodes = 1;
        at::set_num_threads(1);
        for (const Entry& entry : entries) {
            RW_TRY(auto report,
                   eval::runRollouts(entry.name, runtimeFactory(m_base, entry.adapter), options, m_job.context(),
                                     [&](const eval::RolloutEpisode& episode, std::int64_t done, std::int64_t all) {
                                         m_job.context().report(static_cast<double>(done) / static_cast<double>(all),
                                                                entry.name + ", " + episode.task);
                                     }));
            say(fmt::format("{:<10} {}", entry.name, eval::successText(report.total())));
            m_reports.push_back(std::move(report));
        }
        OrderedJson list = OrderedJson::array();
        for (const auto& report : m_reports) {
            list.push_back(OrderedJson(report.json()));
        }
        return writeFileAtomically(m_out / "results.json", jsonText(OrderedJson { { "policies", list } }));
    }

    Result<fs::path> report()
    {
        DemoRecord record { .out = m_out, .methods = m_plan.methods, .reports = m_reports };
        for (const double budget : m_plan.budgets) {
            record.compressed.push_back({ budgetName(budget), m_out / "para" / budgetName(budget) });
        }
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
            "rankwise sim record --task {} --episodes {} --seed {} --image-size {} --out dataset", tasks,
            m_plan.episodes, m_options.seed, m_plan.imageSize) };
        std::string compared = "--adapter none";
        for (const std::string& method : m_plan.methods) {
            lines.push_back(fmt::format("rankwise train configs/{0}.json --run runs/{0}", method));
            compared += " --adapter runs/" + method;
        }
        for (const double budget : m_plan.budgets) {
            lines.push_back(fmt::format("rankwise para runs/lora/checkpoints/{} --gamma {:g} --out para/{}",
                                        data::stepName(m_plan.steps), budget, budgetName(budget)));
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
    std::vector<eval::RolloutReport> m_reports;
    std::chrono::steady_clock::time_point m_begin;
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
