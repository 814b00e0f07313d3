// The command line of the workbench.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QSize>
#include <QString>
#include <QStringList>

#include <variant>

namespace rankwise::gui {

struct Options {
    QString session = QStringLiteral("default");
    QStringList open;     ///< Paths to open.
    QStringList follow;   ///< Run directories to follow that need not be there yet.
    QString layer;        ///< To select after start, by its module path.
    qint64 episode = -1;  ///< To select after start.
    QStringList actions;  ///< Commands to run after start, by id.
    QString screenshots;  ///< Folder; the window renders every view there and ends.
    QStringList themes;   ///< For screenshots, or the first one for this window.
    QString settingsFile; ///< Instead of the user's.
    QSize size { 1280, 800 };
    bool restore = true; ///< Take up the session where it was left.
    bool timing = false; ///< Print the time to the first painted window and end.
};

/// Parses; an exit code instead when help or an error was printed.
[[nodiscard]] std::variant<Options, int> parseOptions(const QStringList& arguments);

} // namespace rankwise::gui
