// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/setting_list.h"

#include "widgets/bridge/settings.h"
#include "widgets/bridge/text.h"

#include <QDir>

#include <algorithm>

namespace rankwise::bridge {

namespace {

QVector<SettingSpec> makeList()
{
    const auto tr = [](const char* text) { return Settings::tr(text); };
    return {
        { .key = QStringLiteral("theme"),
          .group = tr("Look"),
          .text = tr("Theme"),
          .help = tr("Colours of the window and of everything drawn in it"),
          .kind = SettingKind::Choice,
          .standard = QStringLiteral("system"),
          .choices = { { QStringLiteral("system"), tr("as the system") },
                       { QStringLiteral("dark"), tr("dark") },
                       { QStringLiteral("light"), tr("light") },
                       { QStringLiteral("contrast"), tr("high contrast") } },
          .commandLine = [](const QString& value) { return QStringLiteral("rankwise gui --theme ") + value; } },
        { .key = QStringLiteral("zoom"),
          .group = tr("Look"),
          .text = tr("Text size"),
          .help = tr("Against the text of the system; Ctrl+= and Ctrl+- change it by a step"),
          .kind = SettingKind::Percent,
          .standard = 1.0,
          .lowest = 0.5,
          .highest = 3.0,
          .step = 0.1 },
        { .key = QStringLiteral("software_charts"),
          .group = tr("Look"),
          .text = tr("Draw charts without OpenGL"),
          .help = tr("For displays whose OpenGL is slow or broken"),
          .kind = SettingKind::Toggle,
          .standard = false },
        { .key = QStringLiteral("runs_folder"),
          .group = tr("Files"),
          .text = tr("Folder of new runs"),
          .help = tr("Where runs that are started here are written; made when it is not there"),
          .kind = SettingKind::Folder,
          .standard = QDir::home().filePath(QStringLiteral("rankwise/runs")) },
        { .key = QStringLiteral("sessions_folder"),
          .group = tr("Files"),
          .text = tr("Where sessions lie"),
          .help = tr("One file a session, beside the settings"),
          .kind = SettingKind::Note,
          .note = [](const Settings& settings) { return shownPath(settings.sessionsFolder()); } },
        { .key = QStringLiteral("clear_recent"),
          .group = tr("Files"),
          .text = tr("Recent items"),
          .help = tr("What was opened lately, as in File, Open recent"),
          .kind = SettingKind::Action,
          .command = QStringLiteral("file.clear_recent"),
          .note = [](const Settings& settings) { return Settings::tr("%1 items").arg(settings.recent().size()); } },
        { .key = QStringLiteral("keys"),
          .group = tr("Keys"),
          .text = tr("Keys of the actions"),
          .help = tr("Every action with its key; give it another one there"),
          .kind = SettingKind::Action,
          .command = QStringLiteral("help.keys") },
    };
}

} // namespace

const QVector<SettingSpec>& settingList()
{
    static const QVector<SettingSpec> list = makeList();
    return list;
}

const SettingSpec* findSetting(const QString& key)
{
    const auto& list = settingList();
    const auto found = std::find_if(list.begin(), list.end(), [&](const SettingSpec& spec) { return spec.key == key; });
    return found == list.end() ? nullptr : &*found;
}

} // namespace rankwise::bridge
