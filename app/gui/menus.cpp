// SPDX-License-Identifier: Apache-2.0
#include "app/gui/menus.h"

#include "app/gui/docks.h"
#include "app/gui/main_window.h"
#include "app/gui/session_actions.h"
#include "app/gui/shell_commands.h"
#include "app/gui/view_tabs.h"
#include "widgets/bridge/text.h"
#include "widgets/common/palette.h"

#include <QLabel>
#include <QMenu>
#include <QMenuBar>
#include <QPushButton>
#include <QStatusBar>

namespace rankwise::gui {

namespace {

QString id(const char* text)
{
    return QString::fromLatin1(text);
}

QMenu* addMenu(MainWindow& window, const QString& title, const QStringList& ids)
{
    QMenu* made = window.menuBar()->addMenu(title);
    window.actions().fillMenu(*made, ids);
    return made;
}

void fillRecent(MainWindow& window, QMenu& menu)
{
    menu.clear();
    int number = 0;
    const QStringList recent = window.settings().recent();
    for (const QString& entry : recent) {
        const QString path = entry.section(QLatin1Char('\n'), 1);
        const QString mnemonic = ++number < 10 ? QStringLiteral("&%1  ").arg(number) : QString();
        QString shown = bridge::shownPath(path);
        shown.replace(QLatin1Char('&'), QLatin1String("&&"));
        QAction* action =
            menu.addAction(QStringLiteral("%1%2  (%3)").arg(mnemonic, shown, entry.section(QLatin1Char('\n'), 0, 0)),
                           &window, [&window, path] { window.workspace().openPath(path); });
        action->setStatusTip(path);
    }
    if (recent.isEmpty()) {
        menu.addAction(MainWindow::tr("Nothing was opened yet"))->setEnabled(false);
    }
    menu.addSeparator();
    menu.addAction(window.actions().action(QStringLiteral("file.clear_recent")));
}

void fillSessions(MainWindow& window, QMenu& menu)
{
    window.sessionActions().fillMenu(menu);
    menu.addSeparator();
    window.actions().fillMenu(menu,
                              { id("session.new"), id("session.save_as"), id("session.rename"), id("session.manage") });
}

void addFileMenu(MainWindow& window)
{
    QMenu* file = addMenu(window, MainWindow::tr("&File"), { id("file.open") });
    QMenu* recent = file->addMenu(MainWindow::tr("Open &recent"));
    QObject::connect(recent, &QMenu::aboutToShow, recent, [&window, recent] { fillRecent(window, *recent); });
    QMenu* sessions = file->addMenu(MainWindow::tr("&Sessions"));
    sessions->setObjectName(QStringLiteral("menu.sessions"));
    QObject::connect(sessions, &QMenu::aboutToShow, sessions, [&window, sessions] {
        fillSessions(window, *sessions);
        window.session().refreshNames();
    });
    QObject::connect(&window.session(), &Sessions::changed, sessions, [&window, sessions] {
        if (sessions->isVisible()) {
            fillSessions(window, *sessions);
        }
    });
    window.actions().fillMenu(*file, { id("file.close"), id("file.save_session"), id(""), id("file.quit") });
}

} // namespace

void addMenus(MainWindow& window)
{
    addFileMenu(window);
    addMenu(window, MainWindow::tr("&Edit"), { id("edit.undo"), id("edit.redo") });
    QStringList view { id("palette.open"), id("") };
    for (const ViewEntry& entry : window.tabs().entries()) {
        view << QStringLiteral("view.") + entry.id;
    }
    view << id("") << window.docks().commandIds() << id("layout.reset") << id("") << id("zoom.in") << id("zoom.out")
         << id("zoom.reset");
    addMenu(window, MainWindow::tr("&View"), view);
    for (const ViewEntry& entry : window.tabs().entries()) {
        addMenu(window, entry.menu, entry.commandIds);
    }
    addMenu(window, MainWindow::tr("&Jobs"), { id("jobs.pause"), id("jobs.stop"), id("jobs.log"), id("jobs.clear") });
    addMenu(window, MainWindow::tr("Setti&ngs"), settingCommandIds());
    addMenu(window, MainWindow::tr("&Help"), { id("help.keys"), id("help.about") });
    auto* find = new QPushButton(MainWindow::tr("Find anything  Ctrl+K"));
    find->setFlat(true);
    find->setFocusPolicy(Qt::NoFocus);
    QObject::connect(find, &QPushButton::clicked, &window, [&window] { window.palettePopup().openPalette(); });
    window.menuBar()->setCornerWidget(find);
}

void addStatusBar(MainWindow& window)
{
    auto* jobs = new QLabel(MainWindow::tr("no jobs"));
    QObject::connect(&window.docks().jobs(), &bridge::JobsModel::activeCountChanged, jobs, [jobs](int count) {
        jobs->setText(count == 0 ? MainWindow::tr("no jobs") : MainWindow::tr("%n running", nullptr, count));
    });
    auto* session = new QLabel;
    const auto name = [&window, session] {
        session->setText(MainWindow::tr("session: %1").arg(window.session().name()));
    };
    QObject::connect(&window.session(), &Sessions::changed, session, name);
    name();
    auto* network = new QLabel(MainWindow::tr("network: off"));
    network->setToolTip(MainWindow::tr("Nothing leaves this machine, and no socket is open."));
    window.statusBar()->addPermanentWidget(session);
    window.statusBar()->addPermanentWidget(jobs);
    window.statusBar()->addPermanentWidget(network);
    window.statusBar()->setSizeGripEnabled(false);
}

} // namespace rankwise::gui
