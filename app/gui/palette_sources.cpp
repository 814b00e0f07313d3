// SPDX-License-Identifier: Apache-2.0
#include "app/gui/palette_sources.h"

#include "app/gui/main_window.h"
#include "app/gui/session_actions.h"
#include "app/gui/view_tabs.h"
#include "widgets/bridge/text.h"

namespace rankwise::gui {

namespace {

common::PaletteSource actions(bridge::CommandRegistry& commands)
{
    return { commands.commands().size(), [&commands](qsizetype at) -> common::PaletteEntry {
                const bridge::Command& command = commands.commands()[at];
                const QString id = command.id;
                return { .text = command.text,
                         .category = command.category,
                         .key = commands.key(id),
                         .run = [&commands, id] { commands.trigger(id); },
                         .command = [&commands, id] { return commands.commandLine(id); },
                         .enabled = commands.isEnabled(id) };
            } };
}

common::PaletteSource recentItems(MainWindow& window)
{
    QVector<common::PaletteEntry> entries;
    const QStringList recent = window.settings().recent();
    for (const QString& entry : recent) {
        const QString path = entry.section(QLatin1Char('\n'), 1);
        entries.push_back(
            { .text = bridge::shownPath(path),
              .category = MainWindow::tr("Recent"),
              .key = {},
              .run = [&window, path] { window.workspace().openPath(path); },
              .command = [path] { return QStringLiteral("rankwise gui --open ") + bridge::shellWord(path); } });
    }
    return common::paletteSource(std::move(entries));
}

} // namespace

std::vector<common::PaletteSource> paletteSources(MainWindow& window)
{
    window.session().refreshNames(); // For the next time; what is known now is shown.
    std::vector<common::PaletteSource> sources { actions(window.commands()), window.sessionActions().paletteSource(),
                                                 recentItems(window) };
    for (common::PaletteSource& source : window.tabs().paletteSources()) {
        sources.push_back(std::move(source));
    }
    return sources;
}

} // namespace rankwise::gui
