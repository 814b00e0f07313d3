// `rankwise inspect` and `rankwise hub`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/cli/command_line.h"
#include "backend/data/inspection.h"

namespace rankwise::cli {

/// `dataset` looks at what turns out to be a dataset.
[[nodiscard]] ExitCode runInspect(const Invocation& invocation, const InspectOptions& options,
                                  const data::DatasetInspector& dataset);
[[nodiscard]] ExitCode runHub(const Invocation& invocation);

} // namespace rankwise::cli
