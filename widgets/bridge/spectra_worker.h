// The worker process that computes spectra: how it is started and ended. The window itself never links LibTorch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/data/spectra_folder.h"

#include <QString>
#include <QStringList>

#include <atomic>

namespace rankwise::bridge {

struct SpectraRequest {
    QString subject; ///< Checkpoint, adapter folder or run directory.
    QString base;    ///< May be empty.
    QString folder;  ///< Filled from coarse to fine; empty: not known yet.
};

/// Between asking a worker to stop and ending it.
inline constexpr int kPoliteMs = 120;

/// The command line that does the same, without the program's name.
[[nodiscard]] QStringList spectraArguments(const SpectraRequest& request);

/// Where the spectra of `subject` are kept below `dataFolder`: another place once its weights (or the base's) change.
/// Reads names and times of files: for a job.
[[nodiscard]] QString spectraFolder(const QString& dataFolder, const QString& subject, const QString& base = {});

/// What a subject is called: the last part of its path, with the run where that is a checkpoint of one.
[[nodiscard]] QString subjectName(const QString& path);

/// Starts a worker that outlives this process, and returns the description that it wrote into the folder; that of
/// another worker, from this or another window, when one is at it. What it says goes to `<folder>.log`.
///
/// Takes a second: for a job. When the job is stopped the worker goes on; when `cancelled` it is ended.
/// Errors: FileNotFound (no program), IoFailed, DataInvalid (what the worker said), Cancelled.
[[nodiscard]] Result<data::SpectraHeader> launchSpectra(const SpectraRequest& request, const JobContext& job,
                                                        const std::atomic<bool>& cancelled);

/// Sends `signal` to the worker that `header` names if it lives on this machine; returns whether it did.
bool signalSpectraWorker(const data::SpectraHeader& header, int signal);

} // namespace rankwise::bridge
