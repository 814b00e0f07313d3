// The run directory: what a training worker writes and everything else reads. This file fixes the layout and is
// the reader's side, with requests to a running worker; backend/train writes. Nothing here needs LibTorch.
//
// Layout, version 1. Every file but events.jsonl is replaced whole by renaming; names and fields never change meaning.
//
//   run.json       written once: {"format": "rankwise_run", "version": 1, "config": {…}, "seed", "versions": {…},
//                  "hashes": {"base", "dataset"}, "policy": {…}, "method": {…}, "trained": {"tensors", "numbers"}, …}
//   events.jsonl   append-only, one JSON object a line, each with "event", "step" and "time" (Unix seconds):
//                    start        {"pid", "resumed_from": step or null}; -1: begun anew, no checkpoint was there
//                    step         {"loss", "aux": {name: value}, "total", "lr", "grad_norm", "clipped",
//                    "samples_per_s",
//                                  "load_s", "compute_s"}; optional "grad_norm_<group>"
//                    layer_table  {"table": n, "layers": [{"path", "group", "depth", "capacity"}]}
//                    digest       {"table": n, "rank": [mean], "quantiles": [[0, 25, 50, 75, 100 %]], "energy": [],
//                                  "tokens": [], "shares": [[]], "kinds": [[[kind, tokens, mean rank, shares …]]]}:
//                                  one entry a layer, in the table's order; "kinds" has a row for each kind of token
//                                  that the layer saw (models::TokenKind: 0 image, 1 language, 2 state, 3 action,
//                                  4 other) and is left out by methods that do not tell kinds apart. A number that
//                                  was not finite is null.
//                    snapshot, checkpoint  {"path"} relative to the directory
//                    set          {"name", "value"}: a parameter changed by request
//                    pause, resume, note {"message"}, stop {"reason", "state"}
//                  After a resume from step s, lines of earlier starts with a step above s are void.
//                  The last line may be torn; a writer that goes on cuts it off first.
//   status.json    {"version", "pid", "pid_start", "host", "state", "step", "total", "heartbeat", "started",
//                   "eta_s", "reason", "error": {…} or null}
//   control/       <id>.request.json from outside, <id>.done.json from the worker; ids sort by time
//   snapshots/     step-00000100.safetensors
//   checkpoints/   step-00000500/{adapter_config.json, adapter_model.safetensors, trainer.safetensors, trainer.json,
//                  manifest.json}; manifest.json: {"version": 1, "step", "files": {name: {"bytes", "sha256"}}}
//   tensorboard/   event files
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace rankwise::data {

inline constexpr std::int64_t kRunVersion = 1;
inline constexpr double kHeartbeatSeconds = 2.0;      ///< How often a worker renews status.json.
inline constexpr double kHeartbeatLostSeconds = 15.0; ///< A worker of another host is lost after this silence.

/// Paths of one run.
struct RunPaths {
    std::filesystem::path root;

    [[nodiscard]] std::filesystem::path run() const { return root / "run.json"; }
    [[nodiscard]] std::filesystem::path events() const { return root / "events.jsonl"; }
    [[nodiscard]] std::filesystem::path status() const { return root / "status.json"; }
    [[nodiscard]] std::filesystem::path control() const { return root / "control"; }
    [[nodiscard]] std::filesystem::path snapshots() const { return root / "snapshots"; }
    [[nodiscard]] std::filesystem::path checkpoints() const { return root / "checkpoints"; }
    [[nodiscard]] std::filesystem::path tensorboard() const { return root / "tensorboard"; }
    [[nodiscard]] std::filesystem::path snapshot(std::int64_t step) const;
    [[nodiscard]] std::filesystem::path checkpoint(std::int64_t step) const;
};

/// "step-00000100"; nine and more digits where needed.
[[nodiscard]] std::string stepName(std::int64_t step);
/// The step of such a name (an extension is ignored), or nothing.
[[nodiscard]] std::optional<std::int64_t> stepOfName(const std::string& name);

/// Whether `folder` looks like a run: it has a run.json of our format.
[[nodiscard]] bool isRunDirectory(const std::filesystem::path& folder);
/// run.json. Errors: those of readJsonFile(), FieldInvalid (another format), Unsupported (a newer version).
[[nodiscard]] Result<Json> readRunJson(const RunPaths& paths);

/// Written to status.json by name; names never change.
enum class RunState : std::uint8_t { Starting, Running, Paused, Finished, Stopped, Failed, Lost };

[[nodiscard]] std::string_view runStateName(RunState state);

struct RunStatus {
    std::int64_t pid = 0;
    std::int64_t pidStart = 0; ///< Start time of the process in clock ticks since boot: tells reused pids apart.
    std::string host;
    RunState state = RunState::Starting;
    std::int64_t step = 0;
    std::int64_t total = 0;
    double heartbeat = 0;   ///< Unix seconds.
    double started = 0;     ///< Unix seconds, of this start of the worker.
    double etaSeconds = -1; ///< Negative: unknown.
    std::string reason;     ///< Of the last stop.
    std::optional<Error> error;

    [[nodiscard]] bool active() const
    {
        return state == RunState::Starting || state == RunState::Running || state == RunState::Paused;
    }
};

[[nodiscard]] Json statusJson(const RunStatus& status);
/// status.json. An active state whose worker is gone (no such process on this host, or no heartbeat) reads as Lost.
/// Errors: those of readJsonFile(), FieldInvalid, FieldMissing, Unsupported.
[[nodiscard]] Result<RunStatus> readRunStatus(const RunPaths& paths);

/// This process, for RunStatus: pid and its start time.
[[nodiscard]] std::int64_t processStartTicks(std::int64_t pid);
[[nodiscard]] std::string hostName();
[[nodiscard]] double unixSeconds();

/// Layers that digest events refer to.
struct RunLayer {
    std::string path;
    std::int64_t group = 0; ///< models::LayerGroup
    std::int64_t depth = -1;
    std::int64_t capacity = 0;
};

/// One line of events.jsonl.
struct RunEvent {
    std::string kind; ///< "event"
    std::int64_t step = 0;
    double time = 0;
    Json fields; ///< The whole object.
};

/// One line of events.jsonl, without its newline; nothing when it is no event.
[[nodiscard]] std::optional<RunEvent> parseRunEvent(std::string_view line);

/// Follows events.jsonl from the start: each poll() returns the lines that were completed since.
///
/// A torn last line waits for its rest; a line that is not an event is counted and skipped. When the file was cut below
/// the place reached (a writer removed a torn end), reading goes on there. Memory: one poll's lines.
/// Thread: one at a time.
class EventTail {
public:
    explicit EventTail(std::filesystem::path file);

    /// At most `maxBytes` of lines. An absent file has no lines.
    /// Errors: IoFailed, TooLarge (a line longer than 64 MiB).
    [[nodiscard]] Result<std::vector<RunEvent>> poll(std::uint64_t maxBytes = 64u << 20);

    [[nodiscard]] std::uint64_t offset() const { return m_offset; }
    [[nodiscard]] std::uint64_t skippedLines() const { return m_skipped; }
    /// Bytes after the last whole line at the last poll.
    [[nodiscard]] std::uint64_t tornBytes() const { return m_torn; }

private:
    std::filesystem::path m_file;
    std::uint64_t m_offset = 0;
    std::uint64_t m_skipped = 0;
    std::uint64_t m_torn = 0;
};

/// Digest of one step, as columns over the layers of its table.
struct RunDigest {
    std::int64_t step = 0;
    std::int64_t table = 0;
    std::vector<double> rank;
    std::vector<std::vector<double>> quantiles;
    std::vector<double> energy;
    std::vector<std::int64_t> tokens;
    std::vector<std::vector<double>> shares;
    std::vector<std::vector<std::vector<double>>> kinds; ///< By layer, then by kind: [kind, tokens, rank, shares …]
};

/// One optimiser step as recorded.
struct RunStep {
    std::int64_t step = 0;
    double time = 0;
    double loss = 0;
    double total = 0; ///< loss + weighted auxiliary losses
    double lr = 0;
    double gradNorm = 0;
    double samplesPerSecond = 0;
    double loadSeconds = 0;
    double computeSeconds = 0;
    std::map<std::string, double> aux;
};

/// What the events of a run say after resumes are sorted out.
struct RunHistory {
    std::vector<RunStep> steps;
    std::vector<RunDigest> digests;
    std::map<std::int64_t, std::vector<RunLayer>> tables;
    std::vector<RunEvent> others; ///< Every other event, in order.

    /// Takes over the events of a poll, dropping what a "start" with resumed_from makes void.
    void add(const std::vector<RunEvent>& events);
};

/// A checkpoint whose manifest is there. Verified only by verifyCheckpoint().
struct CheckpointInfo {
    std::int64_t step = 0;
    std::filesystem::path folder;
};

/// Checkpoints with a manifest, by step.
[[nodiscard]] std::vector<CheckpointInfo> listCheckpoints(const RunPaths& paths);
/// The newest checkpoint where `path` is a run directory, else `path` itself. Errors: FileNotFound (none yet).
[[nodiscard]] Result<std::filesystem::path> newestCheckpointOr(const std::filesystem::path& path);
/// Snapshot files by step.
[[nodiscard]] std::map<std::int64_t, std::filesystem::path> listSnapshots(const RunPaths& paths);

/// Writes manifest.json over the regular files of `folder`. Errors: IoFailed, DiskFull.
[[nodiscard]] Result<void> writeManifest(const std::filesystem::path& folder, std::int64_t step,
                                         const JobContext& job = {});
/// Checks each file's length and SHA-256. Errors: FileNotFound, FieldInvalid, ChecksumMismatch (names the file),
/// Cancelled.
[[nodiscard]] Result<void> verifyCheckpoint(const std::filesystem::path& folder, const JobContext& job = {});

/// The newest checkpoint whose files are what its manifest says; damaged ones are skipped with a warning.
/// Nothing when there is none. Errors: Cancelled.
[[nodiscard]] Result<std::optional<CheckpointInfo>>
newestCheckpoint(const RunPaths& paths, std::vector<Warning>& warnings, const JobContext& job);

/// Errors: AlreadyExists (a worker is writing this run). A worker that starts at the same moment may still come first.
[[nodiscard]] Result<void> expectNoWorker(const RunPaths& paths);

/// What one can ask of a worker. Written by name; names never change.
enum class ControlAction : std::uint8_t { Pause, Resume, Stop, Set, Snapshot, Checkpoint };

[[nodiscard]] std::string_view controlActionName(ControlAction action);

struct ControlRequest {
    std::string id; ///< Given by postRequest().
    ControlAction action = ControlAction::Pause;
    std::string name; ///< Set: the parameter, e.g. "eta".
    double value = 0; ///< Set.
    double time = 0;  ///< Unix seconds.
};

struct ControlAnswer {
    bool accepted = false;
    std::string message;
    std::int64_t step = 0;
    double time = 0;
};

/// Puts a request into control/ and returns its id. Errors: FileNotFound (no run there), IoFailed, DiskFull.
[[nodiscard]] Result<std::string> postRequest(const RunPaths& paths, ControlAction action, const std::string& name = {},
                                              double value = 0);
/// The worker's answer, or nothing yet. Errors: those of readJsonFile(), FieldInvalid.
[[nodiscard]] Result<std::optional<ControlAnswer>> findAnswer(const RunPaths& paths, const std::string& id);
/// Waits for the answer, at most `seconds`; nothing when the worker did not answer. Errors: as findAnswer(), Cancelled.
[[nodiscard]] Result<std::optional<ControlAnswer>> waitForAnswer(const RunPaths& paths, const std::string& id,
                                                                 double seconds, const JobContext& job = {});

/// Requests in control/ by id, for the worker. A file that is no request is answered with a refusal and removed.
[[nodiscard]] Result<std::vector<ControlRequest>> takeRequests(const RunPaths& paths);
/// Writes the answer and removes the request.
[[nodiscard]] Result<void> answerRequest(const RunPaths& paths, const std::string& id, const ControlAnswer& answer);

} // namespace rankwise::data
