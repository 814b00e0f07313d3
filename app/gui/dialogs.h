// The dialogs of the window itself. None of them holds anything up.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QObject>
#include <QPointer>
#include <QString>

namespace rankwise::common {
class SettingsDialog;
class ShortcutSheet;
} // namespace rankwise::common

namespace rankwise::gui {

class MainWindow;

/// Opens them; one of each at a time. Thread: GUI.
class Dialogs : public QObject {
    Q_OBJECT

public:
    explicit Dialogs(MainWindow& window);

    void askOpen();
    void showShortcuts();
    /// Opens the settings; at the one of this key when there is one.
    void showSettings(const QString& key);
    void showAbout();

private:
    MainWindow& m_window;
    QPointer<common::SettingsDialog> m_settings;
    QPointer<common::ShortcutSheet> m_sheet;
};

} // namespace rankwise::gui
