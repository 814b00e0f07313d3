// Where the private programs lie, and starting them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/cli/command_line.h"
#include "backend/base/result.h"

#include <filesystem>
#include <string>
#include <vector>

namespace rankwise::cli {

/// Folder of the running program, links resolved.
[[nodiscard]] std::filesystem::path programFolder();

/// libexec/rankwise/rankwise-engine, libexec/rankwise/rankwise-station, or bin/rankwise-workbench, beside this program.
[[nodiscard]] std::filesystem::path programPath(Host host);

/// Replaces this process by the program of `host`, with the same arguments. Sets OMP_WAIT_POLICY=PASSIVE first when
/// unset: libgomp reads it when it is loaded, and its active waiting costs up to 20 times the work on busy cores.
/// Returns only on failure. Errors: FileNotFound with the remedy.
[[nodiscard]] Error execProgram(Host host, const std::vector<std::string>& arguments);

/// Runs `program` with `arguments` and returns its standard output. Errors: FileNotFound, IoFailed (exit status).
[[nodiscard]] Result<std::string> captureProgram(Host host, const std::vector<std::string>& arguments);

} // namespace rankwise::cli
