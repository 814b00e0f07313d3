// The command line of every program here: what can be asked, with its options, ranges and help.
// Declared once; the light front parses it, answers what it can, and starts a private program for the rest,
// which parses the same words again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace rankwise::cli {

/// Exit codes of every command; stable.
enum class ExitCode : int {
    Success = 0,
    Failure = 1,      ///< A typed error: bad input, a failed check, a refused file.
    Usage = 2,        ///< The command line does not parse.
    Internal = 70,    ///< A bug of ours.
    Interrupted = 130 ///< Stopped by Ctrl-C; what was finished is kept.
};

/// Which program carries a command out.
enum class Host : std::uint8_t {
    Front,     ///< rankwise itself: no LibTorch.
    Station,   ///< rankwise-station: datasets and simulation, no LibTorch.
    Engine,    ///< rankwise-engine: LibTorch.
    Workbench, ///< The window.
};

struct InspectOptions {
    std::string path;
    bool scan = false; ///< Look for NaN and infinity also in large checkpoints.
    bool noScan = false;
    bool allTensors = false;
};
struct DoctorOptions { };
struct HubOptions { };
struct CertifyOptions {
    std::vector<std::string> cases;
    double toleranceScale = 1.0;
};
struct DatasetOptions {
    std::string action; ///< info, check, stats or convert
    std::string path;
    std::string out;
    std::string version = "v3.0";
    bool episodes = false; ///< info: a line an episode.
    bool shallow = false;  ///< check, stats: leave the pictures out.
    bool repair = false;   ///< check: remove what a crash left, first.
    bool write = false;    ///< stats: replace meta/stats.json.
};
struct SimRecordOptions {
    std::vector<std::string> tasks;
    std::int64_t episodes = 50;
    std::uint64_t seed = 7;
    std::string out;
    std::string arm = "piper"; ///< "piper" or "generic".
    std::string frontCamera = "A";
    std::int64_t imageSize = 64;
    double disturbance = 0.7;
    bool resume = false;
    bool labels = false;
    std::string chroma = "half"; ///< "half" or "full".
    std::int64_t crf = -1;
};
struct TrainOptions {
    std::string config;
    std::string run;
    bool resume = false;
    std::int64_t steps = 0; ///< 0: those of the configuration.
    bool preflightOnly = false;
};
struct EvalOptions {
    std::string policy;
    std::vector<std::string> adapters;
    std::vector<std::string> tasks;
    std::int64_t episodes = 50;
    std::uint64_t seed = 1000;
    std::string arm = "piper"; ///< "piper" or "generic".
    std::string out;
    std::int64_t processes = 0;
    std::string frontCamera = "A";
    std::int64_t actionSteps = 0;
    bool video = false;
};
struct RolloutCommandOptions {
    std::string policy;
    std::string adapter;
    std::string task;
    std::string arm = "piper";
    std::uint64_t seed = 0;
    std::int64_t episode = 0;
    std::int64_t actionSteps = 0;
    std::int64_t imageSize = 160;
    double speed = 1;
    bool paused = false;
};
struct ParaOptions {
    std::string adapter;
    std::optional<double> gamma, energy, tau;
    std::optional<std::int64_t> bytes;
    std::string out;
};
struct CompactCommandOptions {
    std::string adapter;
    std::string policy;
    std::string dataset;
    std::string out;
    double share = 0.02;
    std::int64_t frames = 128;
};
struct SpectraOptions {
    std::string subject;
    std::string base;
    std::string against;
    double eta = 0.9;
    std::string out;
    bool coarseOnly = false;
    bool exactOnly = false;
};
struct ExportOptions {
    std::string policy;
    std::string adapter;
    std::string out;
    std::string precision = "f32";
};
struct DemoOptions {
    std::string out = "rankwise-demo";
    std::uint64_t seed = 7;
    bool quick = false;
    bool headless = false;
    bool fresh = false;
};
struct GuiOptions {
    std::vector<std::string> arguments;
};
/// Private: prints what a program can do, for `doctor`.
struct ProbeOptions { };

using Command =
    std::variant<InspectOptions, DoctorOptions, HubOptions, CertifyOptions, DatasetOptions, SimRecordOptions,
                 TrainOptions, EvalOptions, RolloutCommandOptions, ParaOptions, CompactCommandOptions, SpectraOptions,
                 ExportOptions, DemoOptions, GuiOptions, ProbeOptions>;

struct Invocation {
    Host host = Host::Front;
    Command command;
    bool json = false;
    std::string logLevels = "warn";
    std::string logFile;
    std::int64_t threads = 0; ///< 0: every core.
    int nice = 0;             ///< 0 to 19: how far other processes go first.
};

/// Parses. Prints help, the version or the usage error itself and returns the exit code then.
[[nodiscard]] std::variant<Invocation, ExitCode> parseCommandLine(int argc, const char* const* argv);

} // namespace rankwise::cli
