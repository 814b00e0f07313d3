// Asks a training worker for something through its control folder, and starts workers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/data/run_directory.h"
#include "widgets/bridge/job_runner.h"

#include <QObject>
#include <QString>
#include <QStringList>

#include <functional>

namespace rankwise::bridge {

/// Posts a request and calls `done` with the worker's answer, an empty answer when none came within ten seconds.
void postControl(JobRunner& jobs, const QString& run, data::ControlAction action, const QString& name, double value,
                 QObject* receiver, std::function<void(Result<std::optional<data::ControlAnswer>>)> done);

/// The `rankwise` program beside this one; empty when it is not there.
[[nodiscard]] QString commandProgram();

/// Starts a worker that outlives this process: its own session, output to `<run>.log` beside the run directory.
/// Returns its process id. Errors: FileNotFound (no program), IoFailed.
[[nodiscard]] Result<qint64> startDetached(const QStringList& arguments, const QString& logFile);

/// Writes `config` to `<runs folder>/<name>.json` and starts `rankwise train` on it; returns the run directory.
/// The folder is made. `pid` takes the worker's process id. Thread: any.
/// Errors: AlreadyExists, IoFailed, DiskFull, FileNotFound.
[[nodiscard]] Result<QString> startTraining(const QString& runsFolder, const QString& name, const Json& config,
                                            qint64* pid = nullptr);

/// The command line of startTraining().
[[nodiscard]] QStringList trainArguments(const QString& runsFolder, const QString& name, bool resume = false);

/// Runs `rankwise train --preflight` on `config`: the report as PreflightReport::json(), also when it refuses the run.
/// Thread: any but the GUI's. Errors: what the program gives as its reason; FileNotFound (no program); IoFailed;
/// Cancelled, within a tenth of a second.
[[nodiscard]] Result<Json> checkTraining(const Json& config, const JobContext& job);

/// The command line of a worker that goes on with `run` by what the run directory itself says; `steps` in all, 0: as
/// many as it was to have.
[[nodiscard]] QStringList resumeArguments(const QString& run, std::int64_t steps);

/// Starts such a worker and waits until it trains. Thread: any but the GUI's. Errors: those of awaitWorker().
[[nodiscard]] Result<void> resumeTraining(const QString& run, std::int64_t steps, const JobContext& job);

/// Waits until process `pid` trains in `run`, or has ended without doing so. The worker stays when this is cancelled.
/// Errors: what the worker gave as its reason; AlreadyExists (another worker was first); IoFailed (it ended without a
/// reason; the last line that it printed to its log); Cancelled.
[[nodiscard]] Result<void> awaitWorker(const QString& run, qint64 pid, const JobContext& job);

/// Where the output of a run's workers goes.
[[nodiscard]] QString workerLog(const QString& run);

} // namespace rankwise::bridge
