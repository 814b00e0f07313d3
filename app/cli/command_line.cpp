// All CLI11 is here: its header costs 8 s, so one file includes it.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/command_line.h"

#include <algorithm>
#include <iostream>

#include <CLI/CLI.hpp>

namespace rankwise::cli {

namespace {

constexpr const char* kIntroduction =
    "Rankwise fine-tunes and compresses vision-language-action policies, shows where the capacity goes,\n"
    "and runs them on an AgileX PiPER arm or in its simulation.";

constexpr const char* kFooter = R"(First steps:
  rankwise demo --out DIR                      the whole loop on the practice arm, with a report
  rankwise inspect PATH                        what a checkpoint, adapter, dataset or run is, and what is wrong with it
  rankwise sim record --task press_button --episodes 50 --seed 7 --out DATASET
  rankwise train CONFIG.json --run DIR         fine-tune; resume with --resume
  rankwise eval --policy DIR --task press_button --episodes 50
  rankwise certify CASE                        compare our numbers with a reference, output by output

Exit codes: 0 success, 1 failed with a typed error, 2 wrong command line, 70 a bug of ours, 130 interrupted.
With --json every command prints one JSON object on standard output; messages go to standard error.)";

/// Collects what the subcommands declare and which one was chosen.
class Declaration {
public:
    explicit Declaration(CLI::App& app) : m_app(app)
    {
        app.set_version_flag("--version", "rankwise " RANKWISE_VERSION);
        app.footer(kFooter);
        app.require_subcommand(1);
        app.fallthrough();
        app.add_flag("--json", m_invocation.json, "Print one JSON object for machines");
        app.add_option("--log", m_invocation.logLevels, "Log levels, e.g. info or warn,io=debug")
            ->capture_default_str();
        app.add_option("--log-file", m_invocation.logFile, "Also write the log to this file (rotated at 5 MB)");
        app.add_option("--threads", m_invocation.threads, "Threads for tensor work; 0 chooses")
            ->check(CLI::Range(0, 1024))
            ->capture_default_str();
        app.add_option("--nice", m_invocation.nice, "How far other processes go first; 19 is the most")
            ->check(CLI::Range(0, 19))
            ->capture_default_str();
    }

    /// Declares a command; `options` ends up in the invocation when it is chosen.
    template <class Options>
    CLI::App* add(CLI::App& parent, const std::string& name, const std::string& help, Host host,
                  std::shared_ptr<Options> options)
    {
        CLI::App* command = parent.add_subcommand(name, help);
        command->callback([this, host, options] {
            m_invocation.host = host;
            m_invocation.command = *options;
        });
        return command;
    }

    [[nodiscard]] CLI::App& app() { return m_app; }
    [[nodiscard]] const Invocation& invocation() const { return m_invocation; }

private:
    CLI::App& m_app;
    Invocation m_invocation;
};

void declareLooking(Declaration& d)
{
    auto inspect = std::make_shared<InspectOptions>();
    auto* command = d.add(d.app(), "inspect", "What a file or folder is: parts, parameters, dtypes, bytes, problems",
                          Host::Front, inspect);
    command->add_option("path", inspect->path, "Checkpoint, adapter, dataset, tokenizer, run or index")->required();
    auto* scan =
        command->add_flag("--scan", inspect->scan,
                          "Look for NaN and infinity in all values; by default only in checkpoints up to 64 MiB");
    command->add_flag("--no-scan", inspect->noScan, "Do not look at values at all")->excludes(scan);
    command->add_flag("--tensors", inspect->allTensors, "List every tensor");

    d.add(d.app(), "doctor", "What this machine has and lacks", Host::Front, std::make_shared<DoctorOptions>());
    d.add(d.app(), "hub", "Models and datasets in the local Hugging Face cache", Host::Front,
          std::make_shared<HubOptions>());

    auto certify = std::make_shared<CertifyOptions>();
    command = d.add(d.app(), "certify", "Run golden case folders and compare every output with the reference",
                    Host::Engine, certify);
    command->add_option("cases", certify->cases, "Case folders or files")->required();
    command->add_option("--tolerance-scale", certify->toleranceScale, "Multiplies every tolerance; 0 shows residuals")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
}

void declareData(Declaration& d)
{
    CLI::App* dataset = d.app().add_subcommand("dataset", "Look at, check and convert robot datasets (LeRobotDataset)");
    dataset->require_subcommand(1);
    const auto add = [&](const std::string& action, const std::string& help) {
        auto options = std::make_shared<DatasetOptions>();
        options->action = action;
        CLI::App* command = d.add(*dataset, action, help, Host::Station, options);
        command->add_option("path", options->path, "Dataset folder")->required();
        if (action == "info") {
            command->add_flag("--episodes", options->episodes, "A line for each episode");
        } else if (action == "check") {
            command->add_flag("--shallow", options->shallow, "Do not decode the pictures");
            command->add_flag("--repair", options->repair, "Remove what a crash left, then check");
        } else if (action == "stats") {
            command->add_flag("--shallow", options->shallow, "Leave the cameras out");
            command->add_flag("--write", options->write, "Replace meta/stats.json");
        } else if (action == "convert") {
            command->add_option("--out", options->out, "Folder to create")->required();
            command->add_option("--to", options->version, "Target version")
                ->check(CLI::IsMember({ "v2.1", "v3.0" }))
                ->capture_default_str();
        }
    };
    add("info", "Features, episodes, tasks, cameras, sizes");
    add("check", "Everything that would fail while loading or training, with the remedy");
    add("stats", "Exact statistics over all frames");
    add("convert", "Write as another version of the format");

    CLI::App* sim = d.app().add_subcommand("sim", "The simulated arm");
    sim->require_subcommand(1);
    auto record = std::make_shared<SimRecordOptions>();
    CLI::App* command = d.add(*sim, "record", "Record demonstrations of the scripted experts", Host::Station, record);
    command->add_option("--task", record->tasks, "open_pot, pour_block, press_button, pick_place; may repeat")
        ->required()
        ->delimiter(',');
    command->add_option("--episodes", record->episodes, "Episodes of each task")
        ->check(CLI::Range(std::int64_t(1), std::int64_t(1'000'000)))
        ->capture_default_str();
    command->add_option("--seed", record->seed, "First seed")->capture_default_str();
    command->add_option("--out", record->out, "Dataset folder to create")->required();
    command->add_option("--arm", record->arm, "piper, or generic (the other arm of the pre-training)")
        ->check(CLI::IsMember({ "piper", "generic" }))
        ->capture_default_str();
    command->add_option("--front-camera", record->frontCamera, "A: before the arm, B: to its right, both: by turns")
        ->check(CLI::IsMember({ "A", "B", "both" }))
        ->capture_default_str();
    command->add_option("--image-size", record->imageSize, "Pixels of a side")
        ->check(CLI::Range(std::int64_t(16), std::int64_t(1024)))
        ->capture_default_str();
    command->add_option("--disturbance", record->disturbance, "Share of episodes with disturbed execution")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command->add_flag("--resume", record->resume, "Go on with what an earlier call with the same options left there");
    command->add_flag(
        "--labels", record->labels,
        "Also record where every object is in each picture, for an auxiliary loss (localization.feature)");
    command
        ->add_option("--chroma", record->chroma, "Colours of the videos: half (yuv420p) or full (yuv444p) resolution")
        ->check(CLI::IsMember({ "half", "full" }))
        ->capture_default_str();
    command->add_option("--crf", record->crf, "Quality of the videos, lower is better; -1: 26")
        ->check(CLI::Range(std::int64_t(-1), std::int64_t(51)))
        ->capture_default_str();
}

void declareTraining(Declaration& d)
{
    auto train = std::make_shared<TrainOptions>();
    CLI::App* command = d.add(d.app(), "train", "Fine-tune a policy; writes a run directory", Host::Engine, train);
    command->add_option("config", train->config,
                        "Training configuration (JSON); with --resume that of the run by default");
    command->add_option("--run", train->run, "Run directory")->required();
    command->add_flag("--resume", train->resume, "Go on from the last checkpoint of the run");
    command
        ->add_option("--steps", train->steps,
                     "Optimiser steps of the run instead of the configuration's; with --resume more of them extend it")
        ->check(CLI::Range(std::int64_t(1), std::int64_t(1'000'000'000)));
    command->add_flag("--preflight", train->preflightOnly, "Check everything and stop before step 1");

    auto eval = std::make_shared<EvalOptions>();
    command =
        d.add(d.app(), "eval", "Roll a policy out in simulation; success with Wilson intervals", Host::Engine, eval);
    command->add_option("--policy", eval->policy, "Policy folder")->required();
    command->add_option("--adapter", eval->adapters,
                        "Adapter folder or run directory, or `none` for the bare policy; repeat to compare in pairs");
    command->add_option("--task", eval->tasks, "Tasks; may repeat")->required()->delimiter(',');
    command->add_option("--episodes", eval->episodes, "Rollouts a task")
        ->check(CLI::Range(std::int64_t(1), std::int64_t(1'000'000)))
        ->capture_default_str();
    command->add_option("--seed", eval->seed, "First scene seed")->capture_default_str();
    command->add_option("--arm", eval->arm, "piper or generic")
        ->check(CLI::IsMember({ "piper", "generic" }))
        ->capture_default_str();
    command->add_option("--front-camera", eval->frontCamera, "A: before the arm, B: to its right, both: by turns")
        ->check(CLI::IsMember({ "A", "B", "both" }))
        ->capture_default_str();
    command->add_option("--action-steps", eval->actionSteps, "Actions run of each chunk; 0: the policy's")
        ->check(CLI::Range(std::int64_t(0), std::int64_t(10'000)))
        ->capture_default_str();
    command->add_option("--processes", eval->processes, "Rollouts side by side; 0 takes the cores")
        ->check(CLI::Range(std::int64_t(0), std::int64_t(256)))
        ->capture_default_str();
    command->add_option("--out", eval->out, "Folder for results");
    command->add_flag("--video", eval->video, "Write a video of each rollout (needs --out)");

    auto rollout = std::make_shared<RolloutCommandOptions>();
    command = d.add(d.app(), "rollout", "Roll a policy out in real time as a stream of messages, for a window",
                    Host::Engine, rollout);
    command->add_option("--policy", rollout->policy, "Policy folder")->required();
    command->add_option("--adapter", rollout->adapter, "Adapter folder or run directory");
    command->add_option("--task", rollout->task, "Task")->required();
    command->add_option("--arm", rollout->arm, "piper or generic")
        ->check(CLI::IsMember({ "piper", "generic" }))
        ->capture_default_str();
    command->add_option("--seed", rollout->seed, "As of eval: its episodes of this seed are the ones shown")
        ->capture_default_str();
    command->add_option("--episode", rollout->episode, "Index of the first episode")
        ->check(CLI::Range(std::int64_t(0), std::int64_t(1'000'000)))
        ->capture_default_str();
    command->add_option("--action-steps", rollout->actionSteps, "Actions run of each chunk; 0: the policy's")
        ->check(CLI::Range(std::int64_t(0), std::int64_t(10'000)))
        ->capture_default_str();
    command->add_option("--image-size", rollout->imageSize, "Pixels of a side of the pictures told; 0: none")
        ->check(CLI::Range(std::int64_t(0), std::int64_t(1024)))
        ->capture_default_str();
    command->add_option("--speed", rollout->speed, "Simulated seconds a second; 0: as fast as it goes")
        ->check(CLI::Range(0.0, 100.0))
        ->capture_default_str();
    command->add_flag("--paused", rollout->paused, "Wait for the first request");

    auto para = std::make_shared<ParaOptions>();
    command = d.add(d.app(), "para", "Compress a LoRA adapter by post-hoc rank allocation (PARA)", Host::Engine, para);
    command->add_option("adapter", para->adapter, "Adapter folder or run directory")->required();
    auto* budget = command->add_option_group("budget", "Exactly one of");
    budget->add_option("--gamma", para->gamma, "Share of the rank budget to keep")->check(CLI::Range(0.0, 1.0));
    budget->add_option("--energy", para->energy, "Share of the energy to keep")->check(CLI::Range(0.0, 1.0));
    budget->add_option("--tau", para->tau, "Singular-value threshold")->check(CLI::NonNegativeNumber);
    budget->add_option("--bytes", para->bytes, "Target size of the tensors")->check(CLI::PositiveNumber);
    budget->require_option(1);
    command->add_option("--out", para->out, "Folder to create")->required();

    auto compact = std::make_shared<CompactCommandOptions>();
    command = d.add(d.app(), "compact", "Leave out the vectors of a LoRA-SP bank that no token of a dataset needs",
                    Host::Engine, compact);
    command->add_option("adapter", compact->adapter, "LoRA-SP adapter folder or run directory")->required();
    command->add_option("--policy", compact->policy, "Policy folder that it adapts")->required();
    command->add_option("--dataset", compact->dataset, "Frames to look at")->required();
    command->add_option("--share", compact->share, "A vector stays if one token gives it this share of its energy")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command->add_option("--frames", compact->frames, "How many frames, evenly spread")
        ->check(CLI::Range(std::int64_t(1), std::int64_t(1'000'000)))
        ->capture_default_str();
    command->add_option("--out", compact->out, "Folder to create")->required();

    auto spectra = std::make_shared<SpectraOptions>();
    command = d.add(d.app(), "spectra", "Singular values of every linear layer, their energy and ranks", Host::Engine,
                    spectra);
    command->add_option("subject", spectra->subject, "Checkpoint, adapter folder or run directory")->required();
    command->add_option("--base", spectra->base, "Weights under the adapter, or before full fine-tuning");
    command->add_option("--against", spectra->against, "A second checkpoint or adapter to put beside it");
    command->add_option("--eta", spectra->eta, "Share of the energy that k(eta) values hold")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command->add_option("--out", spectra->out,
                        "Folder to fill from coarse to fine, going on from what it has; the second one goes into its "
                        "`against`");
    auto* coarse = command->add_flag("--coarse", spectra->coarseOnly, "Estimates only");
    command->add_flag("--exact", spectra->exactOnly, "Exact values at once, without the estimates")->excludes(coarse);

    auto exported = std::make_shared<ExportOptions>();
    command = d.add(d.app(), "export", "Write a policy with its adapter merged in as a checkpoint of its own",
                    Host::Engine, exported);
    command->add_option("--policy", exported->policy, "Policy folder, or a run of full fine-tuning")->required();
    command->add_option("--adapter", exported->adapter, "Adapter folder or run directory");
    command->add_option("--out", exported->out, "Folder to create")->required();
    command->add_option("--precision", exported->precision, "f32, or bf16 with heads in f32")
        ->check(CLI::IsMember({ "f32", "bf16" }))
        ->capture_default_str();

    auto demo = std::make_shared<DemoOptions>();
    command = d.add(d.app(), "demo", "The main job on the practice arm, with a report", Host::Engine, demo);
    command->add_option("--out", demo->out, "Folder for everything it makes")->capture_default_str();
    command->add_option("--seed", demo->seed, "Seed of the demos")->capture_default_str();
    command->add_flag("--quick", demo->quick, "Fewer demos, steps and rollouts: under two minutes");
    command->add_flag("--headless", demo->headless, "Do not open a window");
    command->add_flag("--fresh", demo->fresh, "Start over instead of going on where an earlier run stopped");
}

} // namespace

namespace {

/// Nothing but `rankwise` asks what there is; another word is no command.
ExitCode withoutCommand(const CLI::App& app, int argc, const char* const* argv)
{
    const auto* word = std::find_if(argv + 1, argv + argc, [](const char* text) { return text[0] != '-'; });
    if (word == argv + argc) {
        std::cerr << app.help();
        return ExitCode::Usage;
    }
    std::cerr << "error: there is no command \"" << *word << "\"; the commands are";
    for (const CLI::App* command : app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); })) {
        std::cerr << ' ' << command->get_name();
    }
    std::cerr << '\n';
    return ExitCode::Usage;
}

} // namespace

std::variant<Invocation, ExitCode> parseCommandLine(int argc, const char* const* argv)
{
    CLI::App app(kIntroduction, "rankwise");
    Declaration declaration(app);
    declareLooking(declaration);
    declareData(declaration);
    declareTraining(declaration);
    auto gui = std::make_shared<GuiOptions>();
    CLI::App* window = declaration.add(app, "gui", "Open the workbench window", Host::Workbench, gui);
    window->add_option("arguments", gui->arguments, "Passed to the window");
    window->prefix_command();
    declaration.add(app, "probe", "", Host::Front, std::make_shared<ProbeOptions>())->group("");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) && app.get_subcommands().empty()) {
            return withoutCommand(app, argc, argv);
        }
        return app.exit(error, std::cout, std::cerr) == 0 ? ExitCode::Success : ExitCode::Usage;
    }
    Invocation invocation = declaration.invocation();
    if (auto* options = std::get_if<GuiOptions>(&invocation.command)) {
        options->arguments = window->remaining();
    }
    return invocation;
}

} // namespace rankwise::cli
