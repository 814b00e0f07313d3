// The settings, made from the list of them: search, change at once, put back as delivered.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"
#include "widgets/bridge/setting_list.h"
#include "widgets/bridge/settings.h"

#include <QDialog>

#include <functional>
#include <vector>

class QLabel;
class QLineEdit;
class QPushButton;
class QScrollArea;
class QToolButton;
class QVBoxLayout;

namespace rankwise::common {

/// One row a setting. Not modal: the window shows each change while the dialog is open.
class SettingsDialog : public QDialog {
    Q_OBJECT

public:
    SettingsDialog(bridge::Settings& settings, bridge::CommandRegistry& commands, QWidget* parent);

    /// Brings a setting into view and gives its editor the focus.
    void showSetting(const QString& key);
    [[nodiscard]] QLineEdit& search() { return *m_search; }
    /// What changes a setting: a combo box, spin box, check box, line edit or button; nullptr for a note.
    [[nodiscard]] QWidget* editor(const QString& key) const;
    [[nodiscard]] QToolButton* resetButton(const QString& key) const;

private:
    struct Row {
        const bridge::SettingSpec* spec = nullptr;
        QWidget* box = nullptr; ///< The whole row.
        QWidget* editor = nullptr;
        QToolButton* reset = nullptr;
        QLabel* note = nullptr;
        std::function<void()> refresh; ///< Shows the value in force.
    };
    void addRow(QVBoxLayout& layout, const bridge::SettingSpec& spec);
    QWidget* makeEditor(Row& row);
    QWidget* makeFolder(Row& row);
    void filter(const QString& words);
    void refresh();
    [[nodiscard]] const Row* find(const QString& key) const;

    bridge::Settings& m_settings;
    bridge::CommandRegistry& m_commands;
    QLineEdit* m_search;
    QScrollArea* m_area;
    QLabel* m_nothing;
    std::vector<Row> m_rows;
    std::vector<QLabel*> m_headings; ///< Their object name is the group.
};

} // namespace rankwise::common
