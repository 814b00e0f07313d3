// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"

#include "app/gui/close_item.h"
#include "app/gui/dialogs.h"
#include "app/gui/docks.h"
#include "app/gui/menus.h"
#include "app/gui/notice_bar.h"
#include "app/gui/palette_sources.h"
#include "app/gui/session_actions.h"
#include "app/gui/shell_commands.h"
#include "app/gui/side_panels.h"
#include "backend/base/log.h"
#include "backend/data/demo_status.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/palette.h"
#include "widgets/common/theme.h"

#include <QApplication>
#include <QCloseEvent>
#include <QDragEnterEvent>
#include <QFileInfo>
#include <QFrame>
#include <QMimeData>
#include <QStatusBar>
#include <QUndoStack>
#include <QUrl>
#include <QVBoxLayout>

#include <algorithm>
#include <utility>

namespace rankwise::gui {

namespace {
constexpr int kMessageMs = 12'000;
constexpr int kFirstViewMs = 100;     ///< By then the window is painted, on a machine that is not busy.
constexpr double kLongJobSeconds = 5; ///< A job of less is not missed.
} // namespace

MainWindow::MainWindow(const Options& options)
    : m_options(options), m_settings(options.settingsFile), m_sessions(m_settings.sessionsFolder()),
      m_undo(new QUndoStack(this)), m_layout(new LayoutHistory(*this, *m_undo, this)),
      m_tabs(new ViewTabs(viewEntries())), m_notices(new NoticeBar),
      m_sessionActions(new SessionActions(m_sessions, *this)), m_dialogs(new Dialogs(*this))
{
    setWindowTitle(tr("Rankwise"));
    setObjectName(QStringLiteral("workbench"));
    setAcceptDrops(true);
    setDockNestingEnabled(true);
    resize(options.size);
    m_settings.writeWith(m_workspace.jobs());
    m_sessions.connectTo(m_workspace.jobs(), [this] { return sessionState(); });
    connect(&m_sessions, &Sessions::message, this, &MainWindow::say);
    build();
    connectParts();
    const SessionStore::Taken taken = m_sessions.begin(options.session);
    if (m_sessions.name() != options.session) {
        m_notices->add(QStringLiteral("session"), m_lastMessage, { { tr("Close") } });
    }
    addStatusBar(*this);
    m_defaultState = saveState();
    applySettings();
    if (options.restore && !taken.state.isEmpty()) {
        if (options.screenshots.isEmpty()) {
            restoreGeometry(
                QByteArray::fromBase64(taken.state.value(QStringLiteral("geometry")).toString().toLatin1()));
        }
        enterSession(taken.state, taken.endedBadly);
    }
    openGiven();
}

/// The parts and where they are.
void MainWindow::build()
{
    auto* central = new QWidget;
    auto* layout = new QVBoxLayout(central);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    layout->addWidget(m_notices);
    layout->addWidget(m_tabs, 1);
    setCentralWidget(central);

    m_commands.setUserKeys(m_settings.keys());
    m_actions = new common::ActionBinder(m_commands, this);
    m_tabs->setContext(
        std::make_unique<ViewContext>(ViewContext { m_workspace, m_settings, m_computations, m_commands, *m_actions,
                                                    *m_undo, [this](const QString& text) { say(text); },
                                                    [this](const QString& id, bool show) {
                                                        if (show) {
                                                            showView(id);
                                                        }
                                                        return m_tabs->find(id);
                                                    },
                                                    [this](const QString& id) { return view(id); } }));
    addShellCommands(*this);
    m_sessionActions->addCommands(m_commands);
    addSettingCommands(*this);
    m_tabs->addCommands();
    m_docks = new Docks(*this, m_workspace, m_commands, *m_layout);
    addMenus(*this);
    m_palette = new common::Palette(this);
    m_palette->setSources([this] { return paletteSources(*this); });
}

void MainWindow::connectParts()
{
    connect(m_actions, &common::ActionBinder::message, this, &MainWindow::say);
    connect(m_palette, &common::Palette::message, this, &MainWindow::say);
    connect(&m_docks->tree(), &WorkspaceTree::picked, m_tabs, &ViewTabs::showKind);
    connect(&m_docks->tree(), &WorkspaceTree::closeAsked, this, &MainWindow::closeItem);
    connect(&m_docks->jobs(), &bridge::JobsModel::controlFailed, this, &MainWindow::say);
    connect(&m_docks->jobs(), &bridge::JobsModel::ended, this, &MainWindow::tellEnd);
    connect(&m_commands, &bridge::CommandRegistry::keysChanged, this,
            [this] { m_settings.setKeys(m_commands.userKeys()); });
    connect(&m_settings, &bridge::Settings::changed, this, [this](const QString& key) {
        if (key == QLatin1String("theme")) {
            m_options.themes.clear(); // What the user picks goes before what the command line said.
        }
        if (key == QLatin1String("recent")) {
            m_commands.refresh();
        } else {
            applySettings();
        }
    });
    connect(&m_workspace, &bridge::Workspace::openFailed, this, [this](const QString& path, const QString& reason) {
        say(tr("Cannot open %1: %2").arg(QFileInfo(path).fileName(), reason));
        log::warn("gui", "cannot open {}: {}", path.toStdString(), reason.toStdString());
    });
    connect(&m_workspace, &bridge::Workspace::itemAdded, this, [this](const bridge::WorkspaceItem& item) {
        m_settings.addRecent(bridge::itemKindName(item.kind), item.path);
        say(tr("Opened %1").arg(bridge::shownPath(item.path)));
    });
    connect(&m_workspace, &bridge::Workspace::changed, &m_sessions, &Sessions::saveSoon);
    connect(&m_workspace, &bridge::Workspace::changed, &m_commands, &bridge::CommandRegistry::refresh);
    connect(m_tabs, &QTabWidget::currentChanged, &m_sessions, &Sessions::saveSoon);
    // The first tab was current before anybody could hear of it; the window does not wait for its view.
    QTimer::singleShot(kFirstViewMs, m_tabs, [this] { m_tabs->make(m_tabs->currentId()); });
    connect(&m_sessions, &Sessions::entered, this, &MainWindow::enterSession);
}

/// What the command line named.
void MainWindow::openGiven()
{
    QStringList runs;
    for (const QString& given : m_options.follow) {
        const QString path = QFileInfo(given).absoluteFilePath();
        if (data::isDemoFolder(bridge::toPath(path))) {
            m_workspace.addItem({ bridge::ItemKind::Demo, path, tr("followed") });
            showView(QStringLiteral("demo"));
        } else {
            followRun(path);
            runs << path;
        }
    }
    if (!runs.isEmpty()) {
        m_workspace.selectRun(runs.front());
        m_commands.trigger(QStringLiteral("train.live"));
    }
    for (const QString& path : m_options.open) {
        m_workspace.openPath(path);
    }
}

MainWindow::~MainWindow()
{
    // Views and docks hold references to the members; they go first, and no action looks at them any more.
    m_commands.disconnect();
    m_tabs->clear();
    m_docks->clear();
}

bool MainWindow::settled()
{
    const auto runs = m_workspace.runs();
    return m_workspace.jobs().runningJobs() == 0 && !m_computations.anyOfOurs()
        && std::all_of(runs.begin(), runs.end(), [](const bridge::RunTail* run) { return run->caughtUp(); })
        && m_tabs->settled();
}

/// A followed run shows itself when it begins, unless another one is being watched that trains.
void MainWindow::followRun(const QString& path)
{
    m_workspace.addItem({ bridge::ItemKind::Run, path, tr("followed") });
    const bridge::RunTail* tail = m_workspace.run(path);
    connect(tail, &bridge::RunTail::statusChanged, this, [this, tail, wasActive = false]() mutable {
        const bool begins = tail->active() && !std::exchange(wasActive, tail->active());
        const bridge::RunTail* current = m_workspace.currentRun();
        if (begins && tail != current && (current == nullptr || !current->active())) {
            m_workspace.selectRun(tail->path());
        }
    });
}

void MainWindow::say(const QString& text)
{
    m_lastMessage = text;
    statusBar()->showMessage(text, kMessageMs);
}

QJsonObject MainWindow::sessionState()
{
    QJsonObject state = m_tabs->save();
    state.insert(QStringLiteral("workspace"), m_workspace.save());
    state.insert(QStringLiteral("geometry"), QString::fromLatin1(saveGeometry().toBase64()));
    state.insert(QStringLiteral("docks"), QString::fromLatin1(saveState().toBase64()));
    return state;
}

/// Shows another session in this window, or an empty one.
void MainWindow::enterSession(const QJsonObject& state, bool endedBadly)
{
    m_notices->remove(QStringLiteral("recovery"));
    m_workspace.closeAll();
    m_undo->clear(); // Its steps belong to the session before.
    if (m_options.screenshots.isEmpty()) {
        m_layout->restore(QByteArray::fromBase64(state.value(QStringLiteral("docks")).toString().toLatin1()));
    }
    m_workspace.restore(state.value(QStringLiteral("workspace")).toObject());
    m_tabs->restore(state);
    if (endedBadly) {
        showRecovery();
    }
}

void MainWindow::showRecovery()
{
    m_notices->add(QStringLiteral("recovery"),
                   tr("This window ended unexpectedly last time. Its session is back as it was; training runs were "
                      "not touched."),
                   { { tr("Start empty instead"),
                       [this] {
                           m_workspace.closeAll();
                           m_undo->clear();
                           m_layout->restore(m_defaultState);
                       } },
                     { tr("Go on") } },
                   QStringLiteral("alarm"));
}

/// Whoever looked elsewhere meanwhile finds what ended.
void MainWindow::tellEnd(const bridge::JobEnd& end)
{
    if (end.seconds < kLongJobSeconds) {
        return;
    }
    const QString text = tr("%1: %2, after %3").arg(end.title, end.state, bridge::durationText(end.seconds));
    say(text);
    if (isActiveWindow()) {
        return;
    }
    QApplication::alert(this);
    m_notices->remove(QStringLiteral("end.%1").arg(m_ends - 1)); // the jobs dock has them all; the view needs its room
    m_notices->add(QStringLiteral("end.%1").arg(++m_ends), text,
                   { { tr("Show jobs"), [this] { m_docks->raise(QStringLiteral("jobs")); } }, { tr("Close") } },
                   end.failed ? QStringLiteral("alarm") : QString());
}

void MainWindow::applySettings()
{
    const QString wanted = m_options.themes.isEmpty() ? m_settings.theme() : m_options.themes.front();
    common::ThemeSwitch::instance().apply(wanted, m_settings.zoom());
    common::ChartView::setSoftware(m_settings.softwareCharts());
    m_commands.refresh();
}

QString MainWindow::itemInView() const
{
    const bridge::Selection& selection = m_workspace.selection();
    const auto& kinds = m_tabs->entries()[static_cast<std::size_t>(std::max(0, m_tabs->currentIndex()))].kinds;
    QString other;
    for (const bridge::WorkspaceItem& item : m_workspace.items()) {
        if (item.path == selection.run || item.path == selection.dataset || item.path == selection.spectra) {
            if (kinds.contains(item.kind)) {
                return item.path;
            }
            other = item.path;
        }
    }
    return other;
}

void MainWindow::closeItem(const QString& path)
{
    const auto& items = m_workspace.items();
    const auto found = std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.path == path; });
    if (found != items.end()) {
        const bridge::WorkspaceItem item = *found;
        m_layout->settle();
        m_undo->push(new CloseItem(m_workspace, item));
        say(tr("Closed %1").arg(bridge::shownPath(path)));
    }
}

void MainWindow::closeEvent(QCloseEvent* event)
{
    if (m_options.screenshots.isEmpty()) {
        saveSession();
    }
    event->accept();
}

void MainWindow::dragEnterEvent(QDragEnterEvent* event)
{
    if (event->mimeData()->hasUrls()) {
        event->acceptProposedAction();
        statusBar()->showMessage(tr("Drop runs, datasets, checkpoints or adapters to open them"));
    }
}

void MainWindow::dragLeaveEvent(QDragLeaveEvent* event)
{
    statusBar()->clearMessage();
    QMainWindow::dragLeaveEvent(event);
}

void MainWindow::dropEvent(QDropEvent* event)
{
    statusBar()->clearMessage();
    const QList<QUrl> urls = event->mimeData()->urls();
    for (const QUrl& url : urls) {
        if (url.isLocalFile()) {
            m_workspace.openPath(url.toLocalFile());
        } else {
            say(tr("%1 is not on this machine; nothing is fetched from elsewhere.").arg(url.toString()));
        }
    }
    event->acceptProposedAction();
}

bool MainWindow::event(QEvent* event)
{
    const bool result = QMainWindow::event(event);
    if (!m_painted && event->type() == QEvent::Paint) {
        m_painted = true;
        QTimer::singleShot(0, this, &MainWindow::firstPaint);
    }
    return result;
}

} // namespace rankwise::gui
