// The workbench beside a demo.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace rankwise::cli {

/// Starts the workbench in a session of its own, following the demo of this folder. It lives on by itself: closing it
/// does not stop the demo, and the end of the demo does not close it.
/// False where there is no display or no workbench; the demo is whole without one.
bool openDemoWindow(const std::filesystem::path& demo);

} // namespace rankwise::cli
