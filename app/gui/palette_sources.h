// What the palette of the window finds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/palette.h"

#include <vector>

namespace rankwise::gui {

class MainWindow;

/// Actions, sessions, recent items, and what the views have.
[[nodiscard]] std::vector<common::PaletteSource> paletteSources(MainWindow& window);

} // namespace rankwise::gui
