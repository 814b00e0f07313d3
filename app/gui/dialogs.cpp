// SPDX-License-Identifier: Apache-2.0
#include "app/gui/dialogs.h"

#include "app/gui/main_window.h"
#include "widgets/common/settings_dialog.h"
#include "widgets/common/shortcut_sheet.h"

#include <QCoreApplication>
#include <QFileDialog>
#include <QMessageBox>

namespace rankwise::gui {

namespace {

void bringUp(QDialog& dialog)
{
    dialog.show();
    dialog.raise();
    dialog.activateWindow();
}

} // namespace

Dialogs::Dialogs(MainWindow& window) : QObject(&window), m_window(window) { }

void Dialogs::askOpen()
{
    auto* dialog =
        new QFileDialog(&m_window, tr("Open a run, dataset, checkpoint or adapter"), m_window.settings().runsFolder());
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(QFileDialog::Directory);
    connect(dialog, &QFileDialog::fileSelected, &m_window.workspace(), &bridge::Workspace::openPath);
    dialog->open();
}

void Dialogs::showShortcuts()
{
    if (m_sheet == nullptr) {
        m_sheet = new common::ShortcutSheet(m_window.commands(), &m_window);
        connect(m_sheet, &common::ShortcutSheet::message, &m_window, &MainWindow::say);
    }
    bringUp(*m_sheet);
}

void Dialogs::showSettings(const QString& key)
{
    if (m_settings == nullptr) {
        m_settings = new common::SettingsDialog(m_window.settings(), m_window.commands(), &m_window);
    }
    bringUp(*m_settings);
    m_settings->showSetting(key);
}

void Dialogs::showAbout()
{
    auto* box =
        new QMessageBox(QMessageBox::NoIcon, tr("About Rankwise"),
                        tr("Rankwise %1\n\nFine-tunes and compresses vision-language-action policies, shows where "
                           "the capacity goes, and runs them on an arm or in its simulation.\n\nApache License 2.0")
                            .arg(QCoreApplication::applicationVersion()),
                        QMessageBox::Ok, &m_window);
    box->setAttribute(Qt::WA_DeleteOnClose);
    box->open();
}

} // namespace rankwise::gui
