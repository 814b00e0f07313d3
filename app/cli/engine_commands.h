// The commands that rankwise-engine carries out, one file each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/cli/console.h"

namespace rankwise::cli {

[[nodiscard]] ExitCode runCertify(const Invocation& invocation, const CertifyOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runTrain(const Invocation& invocation, const TrainOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runEval(const Invocation& invocation, const EvalOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runRollout(const Invocation& invocation, const RolloutCommandOptions& options,
                                  ConsoleJob& job);
[[nodiscard]] ExitCode runPara(const Invocation& invocation, const ParaOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runCompact(const Invocation& invocation, const CompactCommandOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runSpectra(const Invocation& invocation, const SpectraOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runExport(const Invocation& invocation, const ExportOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runDemo(const Invocation& invocation, const DemoOptions& options, ConsoleJob& job);
[[nodiscard]] ExitCode runEngineProbe();

/// Threads for tensor work: --threads, else every core.
[[nodiscard]] int tensorThreads(const Invocation& invocation);

} // namespace rankwise::cli
