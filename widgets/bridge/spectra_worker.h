// Has spectra computed by a worker process: the window itself never links LibTorch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/job_runner.h"

#include <QString>
#include <QStringList>

#include <functional>

namespace rankwise::bridge {

struct SpectraRequest {
    QString subject; ///< Checkpoint, adapter folder or run directory.
    QString base;    ///< May be empty.
    QString folder;  ///< Filled from coarse to fine.
};

/// The command line that does the same, without the program's name.
[[nodiscard]] QStringList spectraArguments(const SpectraRequest& request);

/// Where the spectra of `subject` are kept below `dataFolder`: another place once its weights (or the base's) change.
[[nodiscard]] QString spectraFolder(const QString& dataFolder, const QString& subject, const QString& base = {});

/// Starts the worker as a job that shows its progress. Cancelling ends the worker within 200 ms; what it computed
/// stays in the folder, as it does when this window is killed. `done` gets the folder.
/// Errors: FileNotFound (no program), IoFailed (what the worker said), Cancelled.
Job* startSpectra(JobRunner& jobs, const SpectraRequest& request, QObject* receiver,
                  std::function<void(Result<QString>)> done);

} // namespace rankwise::bridge
