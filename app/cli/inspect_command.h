// `rankwise inspect` and `rankwise hub`.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/cli/command_line.h"

namespace rankwise::cli {

[[nodiscard]] ExitCode runInspect(const Invocation& invocation, const InspectOptions& options);
[[nodiscard]] ExitCode runHub(const Invocation& invocation);

} // namespace rankwise::cli
