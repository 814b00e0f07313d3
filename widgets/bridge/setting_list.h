// Everything that can be set, in one list: the settings dialog, the palette and the commands are made from it, so that
// a new setting is one entry.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QString>
#include <QVariant>
#include <QVector>

#include <functional>

namespace rankwise::bridge {

class Settings;

/// How a setting is shown and changed.
enum class SettingKind {
    Choice,  ///< One of SettingSpec::choices.
    Percent, ///< A factor between lowest and highest, shown as per cent.
    Folder,
    Toggle,
    Note,   ///< Only told; SettingSpec::note has the words.
    Action, ///< A button that runs SettingSpec::command.
};

struct SettingChoice {
    QString value; ///< As stored and as `--theme` takes it.
    QString text;  ///< Translated.
};

/// One entry. `key` is stable: the settings file stores it.
struct SettingSpec {
    QString key; ///< "theme"; its command is "settings.theme".
    QString group;
    QString text;
    QString help = {};
    SettingKind kind = SettingKind::Toggle;
    QVariant standard = {}; ///< As delivered; invalid where there is nothing to put back.
    QVector<SettingChoice> choices = {};
    double lowest = 0;
    double highest = 1;
    double step = 0.1;
    QString command = {};
    std::function<QString(const Settings&)> note = {};
    /// Of a choice: the shell line that opens the window with it.
    std::function<QString(const QString& value)> commandLine = {};
};

/// The list, in the order of the dialog.
[[nodiscard]] const QVector<SettingSpec>& settingList();
/// nullptr when there is no such setting.
[[nodiscard]] const SettingSpec* findSetting(const QString& key);

} // namespace rankwise::bridge
