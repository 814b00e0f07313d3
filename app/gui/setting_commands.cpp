// Commands made from the list of settings: a choice gives one for each value ("theme.dark"), a switch one that turns it
// ("settings.software_charts"), and each of the others one that shows it in the dialog ("settings.zoom").
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/dialogs.h"
#include "app/gui/main_window.h"
#include "app/gui/shell_commands.h"
#include "widgets/bridge/setting_list.h"

namespace rankwise::gui {

using bridge::SettingKind;
using bridge::SettingSpec;

namespace {

void addChoices(MainWindow& window, const SettingSpec& spec)
{
    for (const bridge::SettingChoice& choice : spec.choices) {
        window.commands().add(
            { .id = spec.key + QLatin1Char('.') + choice.value,
              .category = MainWindow::tr("Settings"),
              .text = QStringLiteral("%1: %2").arg(spec.text, choice.text),
              .key = {},
              .help = spec.help,
              .checkable = true,
              .run = [&window, &spec, value = choice.value] { window.settings().setValue(spec.key, value); },
              .enabled = {},
              .checked = [&window, &spec,
                          value = choice.value] { return window.settings().value(spec.key).toString() == value; },
              .commandLine =
                  [&spec, value = choice.value] { return spec.commandLine ? spec.commandLine(value) : QString(); } });
    }
}

void addToggle(MainWindow& window, const SettingSpec& spec)
{
    window.commands().add({ .id = QStringLiteral("settings.") + spec.key,
                            .category = MainWindow::tr("Settings"),
                            .text = spec.text,
                            .key = {},
                            .help = spec.help,
                            .checkable = true,
                            .run =
                                [&window, &spec] {
                                    bridge::Settings& settings = window.settings();
                                    settings.setValue(spec.key, !settings.value(spec.key).toBool());
                                },
                            .enabled = {},
                            .checked = [&window, &spec] { return window.settings().value(spec.key).toBool(); } });
}

} // namespace

void addSettingCommands(MainWindow& window)
{
    window.commands().add({ .id = QStringLiteral("settings.show"),
                            .category = MainWindow::tr("Settings"),
                            .text = MainWindow::tr("Settings…"),
                            .key = QStringLiteral("Ctrl+,"),
                            .help = MainWindow::tr("Everything that can be set, to search and to put back"),
                            .run = [&window] { window.dialogs().showSettings({}); } });
    for (const SettingSpec& spec : bridge::settingList()) {
        if (spec.kind == SettingKind::Choice) {
            addChoices(window, spec);
        }
        if (spec.kind == SettingKind::Toggle) {
            addToggle(window, spec);
        } else {
            window.commands().add({ .id = QStringLiteral("settings.") + spec.key,
                                    .category = MainWindow::tr("Settings"),
                                    .text = spec.text + QStringLiteral("…"),
                                    .key = {},
                                    .help = spec.help,
                                    .run = [&window, &spec] { window.dialogs().showSettings(spec.key); } });
        }
    }
}

QStringList settingCommandIds()
{
    QStringList ids { QStringLiteral("settings.show"), QString() };
    for (const SettingSpec& spec : bridge::settingList()) {
        if (spec.kind == SettingKind::Choice) {
            for (const bridge::SettingChoice& choice : spec.choices) {
                ids << spec.key + QLatin1Char('.') + choice.value;
            }
            ids << QString();
        } else if (spec.kind == SettingKind::Toggle || spec.kind == SettingKind::Folder) {
            ids << QStringLiteral("settings.") + spec.key;
        }
    }
    return ids;
}

} // namespace rankwise::gui
