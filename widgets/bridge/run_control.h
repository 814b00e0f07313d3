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
/// The folder is made. Errors: AlreadyExists, IoFailed, DiskFull, FileNotFound.
[[nodiscard]] Result<QString> startTraining(const QString& runsFolder, const QString& name, const Json& config);

/// The command line of startTraining().
[[nodiscard]] QStringList trainArguments(const QString& runsFolder, const QString& name, bool resume = false);

} // namespace rankwise::bridge
