// The actions of the window itself: files, undo, text size, layout, settings, help. Those of the views are in their
// entries.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QStringList>

namespace rankwise::gui {

class MainWindow;

void addShellCommands(MainWindow& window);
/// A command for each setting, from the one list of them.
void addSettingCommands(MainWindow& window);
/// Those of addSettingCommands(), for the menu; an empty one is a separator.
[[nodiscard]] QStringList settingCommandIds();

} // namespace rankwise::gui
