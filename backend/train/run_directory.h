// The writing side of the run directory (layout: backend/data/run_directory.h): events, status with heartbeat, and
// answers to requests. One writer a run, guarded by a lock on events.jsonl that ends with the process. Torch-free.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/base/worker_thread.h"
#include "backend/data/run_directory.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::train {

/// Thread: the training loop's; the heartbeat has its own inside.
class RunWriter {
public:
    /// Opens `folder` for a new run (creating it) or, with `resume`, for going on with one that is there.
    ///
    /// A start that was refused before it wrote run.json counts as no run: its events are cleared. A torn end of
    /// events.jsonl is cut off, and leftovers of interrupted writes are removed.
    /// Errors: AlreadyExists (a run is there and `resume` is false, or another worker is at it), FileNotFound (`resume`
    /// and no run), those of readRunJson(), IoFailed, DiskFull.
    [[nodiscard]] static Result<std::unique_ptr<RunWriter>> open(const std::filesystem::path& folder, bool resume,
                                                                 std::int64_t totalSteps);
    /// Stops the heartbeat. A run that was not finished by finish() reads as lost once the process is gone.
    ~RunWriter();
    RunWriter(const RunWriter&) = delete;
    RunWriter& operator=(const RunWriter&) = delete;

    [[nodiscard]] const data::RunPaths& paths() const { return m_paths; }

    /// run.json; the version and format fields are added. Errors: AlreadyExists (it is written once), IoFailed,
    /// DiskFull.
    [[nodiscard]] Result<void> writeRun(Json run);

    /// Appends one line. `fields` is an object without "event", "step", "time". After an error the file ends with
    /// the last whole line. Errors: DiskFull, IoFailed.
    [[nodiscard]] Result<void> event(std::string_view kind, std::int64_t step, const Json& fields);
    /// Appends a digest, and a layer table before it when the layers are not those of the last one.
    [[nodiscard]] Result<void> digest(const data::RunDigest& digest, const std::vector<data::RunLayer>& layers);
    /// Makes what was appended durable. Errors: DiskFull, IoFailed.
    [[nodiscard]] Result<void> sync();

    /// What the next heartbeat says. Cheap.
    void setProgress(std::int64_t step, double etaSeconds);
    /// Changes the state and writes status.json at once. Errors: IoFailed, DiskFull.
    [[nodiscard]] Result<void> setState(data::RunState state, std::string reason = {},
                                        std::optional<Error> error = std::nullopt);

private:
    RunWriter() = default;
    [[nodiscard]] Result<void> append(std::string line);
    [[nodiscard]] Result<void> writeStatus();

    data::RunPaths m_paths;
    int m_events = -1;
    std::uint64_t m_size = 0; ///< Of events.jsonl, whole lines.
    std::mutex m_mutex;       ///< Guards m_status and the writing of status.json.
    data::RunStatus m_status;
    std::int64_t m_table = 0;
    std::vector<data::RunLayer> m_layers;
    WorkerThread m_heartbeat;
};

} // namespace rankwise::train
