// The menu bar and the status bar.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rankwise::gui {

class MainWindow;

void addMenus(MainWindow& window);
void addStatusBar(MainWindow& window);

} // namespace rankwise::gui
