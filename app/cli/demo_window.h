// The workbench beside a demo.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

namespace rankwise::cli {

/// Starts the workbench in a session of its own, following these runs, which need not be there yet. It lives on by
/// itself: closing it does not stop the demo, and the end of the demo does not close it.
/// False where there is no display or no workbench; the demo is whole without one.
bool openDemoWindow(const std::vector<std::filesystem::path>& runs);

} // namespace rankwise::cli
