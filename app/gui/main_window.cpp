// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"

#include "app/gui/side_panels.h"
#include "backend/base/log.h"
#include "widgets/bridge/jobs_model.h"
#include "widgets/bridge/log_model.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/jobs_panel.h"
#include "widgets/common/log_panel.h"
#include "widgets/common/palette.h"
#include "widgets/common/shortcut_sheet.h"
#include "widgets/common/theme.h"
#include "widgets/datasets/datasets_view.h"
#include "widgets/robot/robot_view.h"
#include "widgets/spectra/spectra_view.h"
#include "widgets/train/train_view.h"

#include <QApplication>
#include <QCloseEvent>
#include <QDockWidget>
#include <QDragEnterEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QJsonArray>
#include <QLabel>
#include <QMenuBar>
#include <QMessageBox>
#include <QMimeData>
#include <QPushButton>
#include <QStatusBar>
#include <QTabWidget>
#include <QUndoStack>
#include <QUrl>
#include <QVBoxLayout>

#include <algorithm>
#include <utility>

namespace rankwise::gui {

namespace {
constexpr int kAutosaveMs = 1500;
constexpr int kMessageMs = 12'000;
} // namespace

MainWindow::MainWindow(const Options& options)
    : m_options(options), m_settings(options.settingsFile), m_session(m_settings.dataFolder(), options.session),
      m_undo(new QUndoStack(this)), m_log(new bridge::LogModel(this)), m_jobs(new bridge::JobsModel(m_workspace, this)),
      m_palette(nullptr), m_tabs(new QTabWidget)
{
    setWindowTitle(tr("Rankwise"));
    setObjectName(QStringLiteral("workbench"));
    setAcceptDrops(true);
    setDockNestingEnabled(true);
    resize(options.size);
    m_session.begin();

    auto* central = new QWidget;
    auto* layout = new QVBoxLayout(central);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    layout->addWidget(m_tabs, 1);
    setCentralWidget(central);

    m_commands.setUserKeys(m_settings.keys());
    addCommands();
    m_actions = new common::ActionBinder(m_commands, this);
    connect(m_actions, &common::ActionBinder::message, this, &MainWindow::say);
    addTabs();
    addDocks();
    addMenus();
    addStatusBar();
    m_palette = new common::Palette(this);
    connect(m_palette, &common::Palette::message, this, &MainWindow::say);
    m_palette->setSource([this] {
        QVector<common::PaletteEntry> entries;
        for (const bridge::Command& command : m_commands.commands()) {
            entries.push_back({ command.text, command.category, m_commands.key(command.id),
                                m_commands.commandLine(command.id), [this, id = command.id] { m_commands.trigger(id); },
                                m_commands.isEnabled(command.id) });
        }
        for (const bridge::RunTail* run : m_workspace.runs()) {
            entries.push_back({ run->title(),
                                tr("Run"),
                                {},
                                QStringLiteral("rankwise gui --open ") + bridge::shellWord(run->path()),
                                [this, path = run->path()] {
                                    m_workspace.selectRun(path);
                                    showView(QStringLiteral("train"));
                                } });
        }
        if (const bridge::RunTail* run = m_workspace.currentRun()) {
            for (const data::RunLayer& layer : run->record().layers()) {
                const QString path = bridge::toQString(layer.path);
                entries.push_back({ path, tr("Layer"), {}, {}, [this, path] { m_workspace.selectLayer(path); } });
            }
        }
        if (spectra_view::SpectraView* spectra = spectraView(false)) {
            for (const data::SpectraLayer& layer : spectra->state().set().layers) {
                const QString path = bridge::toQString(layer.path);
                const bool known =
                    std::any_of(entries.cbegin(), entries.cend(), [&](const auto& entry) { return entry.text == path; });
                if (!known) {
                    entries.push_back({ path, tr("Layer"), {}, {}, [this, path] { m_workspace.selectLayer(path); } });
                }
            }
        }
        if (!m_workspace.selection().dataset.isEmpty()) {
            const bridge::EpisodeModel& episodes = datasetsView()->episodes();
            for (int row = 0; row < episodes.rowCount(); ++row) {
                const qint64 number = episodes.index(row, bridge::EpisodeModel::Number).data().toLongLong();
                const QString task = episodes.index(row, bridge::EpisodeModel::Task).data().toString();
                entries.push_back({ tr("%1: %2").arg(number).arg(task), tr("Episode"), {}, {}, [this, number] {
                                       showView(QStringLiteral("datasets"));
                                       m_workspace.selectEpisode(number);
                                   } });
            }
        }
        return entries;
    });

    connect(&m_commands, &bridge::CommandRegistry::keysChanged, this,
            [this] { m_settings.setKeys(m_commands.userKeys()); });
    connect(&m_settings, &bridge::Settings::changed, this, &MainWindow::applySettings);
    connect(&m_workspace, &bridge::Workspace::openFailed, this, [this](const QString& path, const QString& reason) {
        say(tr("Cannot open %1: %2").arg(QFileInfo(path).fileName(), reason));
        log::warn("gui", "cannot open {}: {}", path.toStdString(), reason.toStdString());
    });
    connect(&m_workspace, &bridge::Workspace::itemAdded, this, [this](const bridge::WorkspaceItem& item) {
        m_settings.addRecent(bridge::itemKindName(item.kind), item.path);
        say(tr("Opened %1").arg(bridge::shownPath(item.path)));
    });
    connect(m_jobs, &bridge::JobsModel::controlFailed, this, &MainWindow::say);
    m_autosave.setSingleShot(true);
    m_autosave.setInterval(kAutosaveMs);
    connect(&m_autosave, &QTimer::timeout, this, &MainWindow::saveSession);
    connect(&m_workspace, &bridge::Workspace::changed, &m_autosave, qOverload<>(&QTimer::start));
    connect(m_tabs, &QTabWidget::currentChanged, &m_autosave, qOverload<>(&QTimer::start));

    m_defaultState = saveState();
    applySettings();
    if (options.restore) {
        restoreSession();
    }
    for (const QString& path : options.follow) {
        followRun(QFileInfo(path).absoluteFilePath());
    }
    if (!options.follow.isEmpty()) {
        m_workspace.selectRun(QFileInfo(options.follow.front()).absoluteFilePath());
        showView(QStringLiteral("train"));
        trainView()->pages().setCurrentIndex(0);
    }
    for (const QString& path : options.open) {
        m_workspace.openPath(path);
    }
}

bool MainWindow::settled()
{
    constexpr double kArmSeconds = 2.5; ///< Until there is something to see.
    if (m_workspace.jobs().runningJobs() > 0 || m_computations.anyOfOurs()) {
        return false;
    }
    for (const bridge::RunTail* run : m_workspace.runs()) {
        if (!run->caughtUp()) {
            return false;
        }
    }
    const robot_view::RobotView* robot = robotView(false);
    if (robot == nullptr || robot->arm() == nullptr) {
        return true;
    }
    const auto moment = robot->arm()->latest();
    return moment != nullptr && (moment->time > kArmSeconds || moment->ended);
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

MainWindow::~MainWindow()
{
    // Views hold references to the members; they go first.
    for (Tab& tab : m_tabList) {
        delete tab.view;
        tab.view = nullptr;
    }
    const auto docks = findChildren<QDockWidget*>();
    for (QDockWidget* dock : docks) {
        delete dock;
    }
}

void MainWindow::say(const QString& text)
{
    m_lastMessage = text;
    statusBar()->showMessage(text, kMessageMs);
}

train_view::TrainView* MainWindow::trainView()
{
    return qobject_cast<train_view::TrainView*>(view(QStringLiteral("train")));
}

robot_view::RobotView* MainWindow::robotView(bool make)
{
    for (const Tab& tab : m_tabList) {
        if (tab.id == QLatin1String("robot") && (make || tab.view != nullptr)) {
            return qobject_cast<robot_view::RobotView*>(view(tab.id));
        }
    }
    return nullptr;
}

spectra_view::SpectraView* MainWindow::spectraView(bool make)
{
    for (const Tab& tab : m_tabList) {
        if (tab.id == QLatin1String("spectra") && (make || tab.view != nullptr)) {
            return qobject_cast<spectra_view::SpectraView*>(view(tab.id));
        }
    }
    return nullptr;
}

datasets_view::DatasetsView* MainWindow::datasetsView()
{
    return qobject_cast<datasets_view::DatasetsView*>(view(QStringLiteral("datasets")));
}

void MainWindow::addTabs()
{
    m_tabList.push_back({ QStringLiteral("robot"), tr("Robot"), QStringLiteral("Ctrl+1"), [this]() -> QWidget* {
                             auto* view = new robot_view::RobotView(m_workspace, *m_actions);
                             connect(view, &robot_view::RobotView::message, this, &MainWindow::say);
                             connect(view, &robot_view::RobotView::armChanged, &m_commands,
                                     &bridge::CommandRegistry::refresh);
                             return view;
                         } });
    m_tabList.push_back({ QStringLiteral("datasets"), tr("Datasets"), QStringLiteral("Ctrl+2"), [this]() -> QWidget* {
                             auto* view = new datasets_view::DatasetsView(m_workspace, m_settings, *m_actions);
                             connect(view, &datasets_view::DatasetsView::message, this, &MainWindow::say);
                             return view;
                         } });
    m_tabList.push_back({ QStringLiteral("train"), tr("Train"), QStringLiteral("Ctrl+3"), [this]() -> QWidget* {
                             auto* view =
                                 new train_view::TrainView(m_workspace, m_settings, m_commands, *m_actions, *m_undo);
                             connect(view, &train_view::TrainView::message, this, &MainWindow::say);
                             return view;
                         } });
    m_tabList.push_back({ QStringLiteral("spectra"), tr("Spectra"), QStringLiteral("Ctrl+4"), [this]() -> QWidget* {
                             auto* view =
                                 new spectra_view::SpectraView(m_workspace, m_computations, m_commands, *m_actions);
                             connect(view, &spectra_view::SpectraView::message, this, &MainWindow::say);
                             return view;
                         } });
    m_tabs->setDocumentMode(true);
    m_tabs->setAccessibleName(tr("Workspaces"));
    for (Tab& tab : m_tabList) {
        tab.page = new QWidget;
        auto* layout = new QVBoxLayout(tab.page);
        layout->setContentsMargins(0, 0, 0, 0);
        m_tabs->addTab(tab.page, tab.title);
        m_commands.add({ .id = QStringLiteral("view.") + tab.id,
                         .category = tr("View"),
                         .text = tr("Go to %1").arg(tab.title),
                         .key = tab.key,
                         .help = {},
                         .run = [this, id = tab.id] { showView(id); } });
    }
    connect(m_tabs, &QTabWidget::currentChanged, this, [this](int index) {
        if (index >= 0) {
            view(m_tabList[static_cast<std::size_t>(index)].id);
        }
    });
}

QWidget* MainWindow::view(const QString& id)
{
    for (Tab& tab : m_tabList) {
        if (tab.id == id) {
            if (tab.view == nullptr) {
                tab.view = tab.make();
                tab.page->layout()->addWidget(tab.view);
                const auto frames = tab.view->findChildren<common::CanvasFrame*>();
                for (common::CanvasFrame* frame : frames) {
                    connect(frame, &common::CanvasFrame::message, this, &MainWindow::say);
                }
            }
            return tab.view;
        }
    }
    return nullptr;
}

QStringList MainWindow::viewIds() const
{
    QStringList ids;
    for (const Tab& tab : m_tabList) {
        ids << tab.id;
    }
    return ids;
}

void MainWindow::showView(const QString& id)
{
    for (std::size_t i = 0; i < m_tabList.size(); ++i) {
        if (m_tabList[i].id == id) {
            view(id);
            m_tabs->setCurrentIndex(static_cast<int>(i));
        }
    }
}

void MainWindow::addDocks()
{
    const auto add = [this](const QString& id, const QString& title, QWidget* widget, Qt::DockWidgetArea area) {
        auto* dock = new QDockWidget(title, this);
        dock->setObjectName(QStringLiteral("dock.") + id);
        dock->setWidget(widget);
        addDockWidget(area, dock);
        m_commands.add({ .id = QStringLiteral("dock.") + id,
                         .category = tr("View"),
                         .text = tr("Dock: %1").arg(title),
                         .key = {},
                         .help = tr("Shows or hides the dock"),
                         .checkable = true,
                         .run = [dock] { dock->setVisible(!dock->isVisible()); },
                         .checked = [dock] { return dock->isVisible(); } });
        connect(dock, &QDockWidget::visibilityChanged, &m_commands, &bridge::CommandRegistry::refresh);
        return dock;
    };
    auto* tree = new WorkspaceTree(m_workspace);
    connect(tree, &WorkspaceTree::picked, this, [this](bridge::ItemKind kind) {
        if (kind == bridge::ItemKind::Run) {
            showView(QStringLiteral("train"));
        } else if (kind == bridge::ItemKind::Dataset) {
            showView(QStringLiteral("datasets"));
        } else if (kind == bridge::ItemKind::Checkpoint || kind == bridge::ItemKind::Adapter
                   || kind == bridge::ItemKind::Spectra) {
            showView(QStringLiteral("spectra"));
        }
    });
    auto* workspace = add(QStringLiteral("workspace"), tr("Workspace"), tree, Qt::LeftDockWidgetArea);
    auto* inspector =
        add(QStringLiteral("inspector"), tr("Inspector"), new Inspector(m_workspace), Qt::LeftDockWidgetArea);
    auto* jobs = add(QStringLiteral("jobs"), tr("Jobs"), new common::JobsPanel(*m_jobs), Qt::BottomDockWidgetArea);
    auto* log = add(QStringLiteral("log"), tr("Log"), new common::LogPanel(*m_log), Qt::BottomDockWidgetArea);
    tabifyDockWidget(jobs, log);
    jobs->raise();
    setCorner(Qt::BottomLeftCorner, Qt::LeftDockWidgetArea);
    resizeDocks({ workspace, inspector }, { 230, 230 }, Qt::Horizontal);
    resizeDocks({ workspace, inspector }, { 220, 460 }, Qt::Vertical);
    resizeDocks({ jobs }, { 96 }, Qt::Vertical);
}

void MainWindow::addCommands()
{
    const QString file = tr("File");
    const QString viewCategory = tr("View");
    const auto add = [this](const char* id, const QString& category, const QString& text, const char* key,
                            const QString& help, std::function<void()> run) {
        m_commands.add({ .id = QLatin1String(id),
                         .category = category,
                         .text = text,
                         .key = QLatin1String(key),
                         .help = help,
                         .run = std::move(run) });
    };
    add("file.open", file, tr("Open…"), "Ctrl+O", tr("Open a run, dataset, checkpoint or adapter folder"),
        [this] { openDialog(); });
    m_commands.add({ .id = QStringLiteral("file.close"),
                     .category = file,
                     .text = tr("Close the selected run"),
                     .key = QStringLiteral("Ctrl+W"),
                     .help = tr("Stops following it; the worker goes on"),
                     .run = [this] { m_workspace.closeItem(m_workspace.selection().run); },
                     .enabled = [this] { return m_workspace.currentRun() != nullptr; } });
    add("file.save_session", file, tr("Save session"), "Ctrl+S", tr("Sessions are saved by themselves as well"),
        [this] {
            saveSession();
            say(tr("Saved session “%1”").arg(m_session.name()));
        });
    add("file.quit", file, tr("Quit"), "Ctrl+Q", tr("Training goes on; everything comes back with the session"),
        [this] { close(); });
    add("edit.undo", tr("Edit"), tr("Undo"), "Ctrl+Z",
        tr("Edits of data, layout and plans; robot motion cannot be undone"), [this] { m_undo->undo(); });
    add("edit.redo", tr("Edit"), tr("Redo"), "Ctrl+Shift+Z", {}, [this] { m_undo->redo(); });
    add("palette.open", viewCategory, tr("Find anything"), "Ctrl+K", tr("Actions, layers, runs, episodes and settings"),
        [this] { m_palette->openPalette(); });
    for (const char* theme : { "system", "dark", "light", "contrast" }) {
        const QString name = QLatin1String(theme);
        m_commands.add({ .id = QStringLiteral("theme.") + name,
                         .category = tr("Settings"),
                         .text = name == QLatin1String("system") ? tr("Theme: as the system")
                             : name == QLatin1String("contrast") ? tr("Theme: high contrast")
                                                                 : tr("Theme: %1").arg(name),
                         .key = {},
                         .help = {},
                         .checkable = true,
                         .run = [this, name] { setTheme(name); },
                         .checked = [name] { return common::ThemeSwitch::instance().choice() == name; },
                         .commandLine = [name] { return QStringLiteral("rankwise gui --theme ") + name; } });
    }
    add("zoom.in", viewCategory, tr("Larger text"), "Ctrl+=", {}, [this] { zoomBy(1.1); });
    add("zoom.out", viewCategory, tr("Smaller text"), "Ctrl+-", {}, [this] { zoomBy(1 / 1.1); });
    add("zoom.reset", viewCategory, tr("Normal text size"), "Ctrl+0", {}, [this] { m_settings.setZoom(1); });
    add("layout.reset", viewCategory, tr("Reset layout"), "", tr("Puts all docks where they were delivered"),
        [this] { restoreState(m_defaultState); });
    m_commands.add({ .id = QStringLiteral("settings.software_charts"),
                     .category = tr("Settings"),
                     .text = tr("Draw charts without OpenGL"),
                     .key = {},
                     .help = tr("For displays whose OpenGL is slow or broken"),
                     .checkable = true,
                     .run = [this] { m_settings.setSoftwareCharts(!m_settings.softwareCharts()); },
                     .checked = [this] { return m_settings.softwareCharts(); } });
    add("settings.runs_folder", tr("Settings"), tr("Choose the folder of new runs…"), "", {}, [this] {
        auto* dialog = new QFileDialog(this, tr("Folder of new runs"), m_settings.runsFolder());
        dialog->setAttribute(Qt::WA_DeleteOnClose);
        dialog->setFileMode(QFileDialog::Directory);
        connect(dialog, &QFileDialog::fileSelected, this,
                [this](const QString& folder) { m_settings.setRunsFolder(folder); });
        dialog->open();
    });
    add("help.keys", tr("Help"), tr("Actions and keys"), "F1", tr("Every action with its key and command line"),
        [this] { showShortcuts(); });
    add("help.about", tr("Help"), tr("About Rankwise"), "", {}, [this] { showAbout(); });
    train_view::TrainView::addCommands(m_commands, m_workspace, [this] {
        showView(QStringLiteral("train"));
        return trainView();
    });
    datasets_view::DatasetsView::addCommands(m_commands, m_workspace, m_settings, [this] {
        showView(QStringLiteral("datasets"));
        return datasetsView();
    });
    robot_view::RobotView::addCommands(m_commands, [this](bool show) -> robot_view::RobotView* {
        if (show) {
            showView(QStringLiteral("robot"));
        }
        return robotView(show);
    });
    spectra_view::SpectraView::addCommands(m_commands, m_workspace, m_computations,
                                           [this](bool show) -> spectra_view::SpectraView* {
                                               if (show) {
                                                   showView(QStringLiteral("spectra"));
                                               }
                                               return spectraView(show);
                                           });
    connect(m_undo, &QUndoStack::canUndoChanged, &m_commands, &bridge::CommandRegistry::refresh);
}

void MainWindow::addMenus()
{
    const auto menu = [this](const QString& title, const QStringList& ids) {
        QMenu* made = menuBar()->addMenu(title);
        m_actions->fillMenu(*made, ids);
        return made;
    };
    const auto id = [](const char* text) { return QString::fromLatin1(text); };
    QMenu* file = menu(tr("&File"), { id("file.open") });
    QMenu* recent = file->addMenu(tr("Open recent"));
    connect(recent, &QMenu::aboutToShow, this, [this, recent] { fillRecent(recent); });
    QMenu* sessions = file->addMenu(tr("Sessions"));
    connect(sessions, &QMenu::aboutToShow, this, [this, sessions] { fillSessions(sessions); });
    m_actions->fillMenu(*file, { id("file.close"), id("file.save_session"), id(""), id("file.quit") });
    menu(tr("&Edit"), { id("edit.undo"), id("edit.redo") });
    QStringList viewIdsList { id("palette.open"), id("") };
    for (const Tab& tab : m_tabList) {
        viewIdsList << QStringLiteral("view.") + tab.id;
    }
    viewIdsList << id("") << id("dock.workspace") << id("dock.inspector") << id("dock.jobs") << id("dock.log")
                << id("layout.reset") << id("") << id("zoom.in") << id("zoom.out") << id("zoom.reset");
    menu(tr("&View"), viewIdsList);
    menu(tr("&Train"), train_view::TrainView::commandIds());
    menu(tr("&Datasets"), datasets_view::DatasetsView::commandIds());
    menu(tr("S&pectra"), spectra_view::SpectraView::commandIds());
    menu(tr("&Robot"), robot_view::RobotView::commandIds());
    menu(tr("&Settings"),
         { id("theme.system"), id("theme.dark"), id("theme.light"), id("theme.contrast"), id(""),
           id("settings.software_charts"), id("settings.runs_folder") });
    menu(tr("&Help"), { id("help.keys"), id("help.about") });
    auto* find = new QPushButton(tr("Find anything  Ctrl+K"));
    find->setFlat(true);
    find->setFocusPolicy(Qt::NoFocus);
    connect(find, &QPushButton::clicked, this, [this] { m_palette->openPalette(); });
    menuBar()->setCornerWidget(find);
}

void MainWindow::addStatusBar()
{
    m_jobsBadge = new QLabel(tr("no jobs"));
    connect(m_jobs, &bridge::JobsModel::activeCountChanged, this,
            [this](int count) { m_jobsBadge->setText(count == 0 ? tr("no jobs") : tr("%n running", nullptr, count)); });
    auto* network = new QLabel(tr("network: off"));
    network->setToolTip(tr("Nothing leaves this machine, and no socket is open."));
    statusBar()->addPermanentWidget(m_jobsBadge);
    statusBar()->addPermanentWidget(network);
    statusBar()->setSizeGripEnabled(false);
}

void MainWindow::fillRecent(QMenu* menu)
{
    menu->clear();
    for (const QString& entry : m_settings.recent()) {
        const QString path = entry.section(QLatin1Char('\n'), 1);
        menu->addAction(QStringLiteral("%1  (%2)").arg(path, entry.section(QLatin1Char('\n'), 0, 0)), this,
                        [this, path] { m_workspace.openPath(path); });
    }
    menu->addSeparator();
    menu->addAction(tr("Clear the list"), &m_settings, &bridge::Settings::clearRecent);
}

void MainWindow::fillSessions(QMenu* menu)
{
    menu->clear();
    QAction* current = menu->addAction(tr("%1 (this window)").arg(m_session.name()));
    current->setEnabled(false);
    menu->addSeparator();
    for (const QString& name : m_session.names()) {
        if (name != m_session.name()) {
            menu->addAction(tr("Copy as command: rankwise gui --session %1").arg(name), this,
                            [this, name] { say(tr("rankwise gui --session %1").arg(bridge::shellWord(name))); });
        }
    }
}

void MainWindow::openDialog()
{
    auto* dialog = new QFileDialog(this, tr("Open a run, dataset, checkpoint or adapter"), m_settings.runsFolder());
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(QFileDialog::Directory);
    connect(dialog, &QFileDialog::fileSelected, &m_workspace, &bridge::Workspace::openPath);
    dialog->open();
}

QJsonObject MainWindow::sessionState()
{
    QJsonObject state { { QStringLiteral("workspace"), m_workspace.save() },
                        { QStringLiteral("geometry"), QString::fromLatin1(saveGeometry().toBase64()) },
                        { QStringLiteral("docks"), QString::fromLatin1(saveState().toBase64()) } };
    if (m_tabs->currentIndex() >= 0) {
        state.insert(QStringLiteral("tab"), m_tabList[static_cast<std::size_t>(m_tabs->currentIndex())].id);
    }
    QJsonObject pages;
    for (const Tab& tab : m_tabList) {
        if (tab.view != nullptr) {
            if (const auto* inner = tab.view->findChild<QTabWidget*>()) {
                pages.insert(tab.id, inner->currentIndex());
            }
        }
    }
    state.insert(QStringLiteral("pages"), pages);
    return state;
}

void MainWindow::saveSession()
{
    if (const auto saved = m_session.save(sessionState()); !saved) {
        say(tr("The session cannot be saved: %1").arg(bridge::errorSentence(saved.error())));
        log::warn("gui", "session: {}", saved.error().describe());
    }
}

void MainWindow::restoreSession()
{
    const auto loaded = m_session.load();
    if (!loaded) {
        if (loaded.error().code != Errc::FileNotFound) {
            say(tr("The session cannot be read: %1").arg(bridge::errorSentence(loaded.error())));
        }
        return;
    }
    const auto bytes = [&](const char* key) {
        return QByteArray::fromBase64(loaded->value(QLatin1String(key)).toString().toLatin1());
    };
    if (m_options.screenshots.isEmpty()) {
        restoreGeometry(bytes("geometry"));
        restoreState(bytes("docks"));
    }
    m_workspace.restore(loaded->value(QStringLiteral("workspace")).toObject());
    showView(loaded->value(QStringLiteral("tab")).toString());
    const QJsonObject pages = loaded->value(QStringLiteral("pages")).toObject();
    for (auto page = pages.begin(); page != pages.end(); ++page) {
        QWidget* restored = view(page.key());
        if (auto* inner = restored != nullptr ? restored->findChild<QTabWidget*>() : nullptr) {
            inner->setCurrentIndex(page.value().toInt());
        }
    }
    if (m_session.endedBadly()) {
        showRecoveryCard();
    }
}

void MainWindow::showRecoveryCard()
{
    m_card = new QFrame;
    m_card->setObjectName(QStringLiteral("recovery"));
    m_card->setProperty("role", QStringLiteral("alarm"));
    auto* text =
        new QLabel(tr("This window ended unexpectedly last time. Its session is back as it was; training runs were "
                      "not touched."));
    text->setWordWrap(true);
    auto* fresh = new QPushButton(tr("Start empty instead"));
    auto* fine = new QPushButton(tr("Go on"));
    auto* layout = new QHBoxLayout(m_card);
    layout->setContentsMargins(8, 4, 8, 4);
    layout->addWidget(text, 1);
    layout->addWidget(fresh);
    layout->addWidget(fine);
    qobject_cast<QVBoxLayout*>(centralWidget()->layout())->insertWidget(0, m_card);
    connect(fine, &QPushButton::clicked, m_card, &QWidget::hide);
    connect(fresh, &QPushButton::clicked, this, [this] {
        const QVector<bridge::WorkspaceItem> items = m_workspace.items();
        for (const bridge::WorkspaceItem& item : items) {
            m_workspace.closeItem(item.path);
        }
        restoreState(m_defaultState);
        m_card->hide();
    });
}

void MainWindow::applySettings()
{
    auto& theme = common::ThemeSwitch::instance();
    const QString wanted = m_options.themes.isEmpty() ? m_settings.theme() : m_options.themes.front();
    theme.apply(wanted, m_settings.zoom());
    common::ChartView::setSoftware(m_settings.softwareCharts());
    m_commands.refresh();
}

void MainWindow::setTheme(const QString& name)
{
    m_options.themes.clear();
    m_settings.setTheme(name);
}

void MainWindow::zoomBy(double factor)
{
    m_settings.setZoom(m_settings.zoom() * factor);
}

void MainWindow::showShortcuts()
{
    auto* sheet = new common::ShortcutSheet(m_commands, this);
    connect(sheet, &common::ShortcutSheet::message, this, &MainWindow::say);
    sheet->open();
}

void MainWindow::showAbout()
{
    auto* box =
        new QMessageBox(QMessageBox::NoIcon, tr("About Rankwise"),
                        tr("Rankwise %1\n\nFine-tunes and compresses vision-language-action policies, shows where "
                           "the capacity goes, and runs them on an arm or in its simulation.\n\nApache License 2.0")
                            .arg(QCoreApplication::applicationVersion()),
                        QMessageBox::Ok, this);
    box->setAttribute(Qt::WA_DeleteOnClose);
    box->open();
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

void MainWindow::dropEvent(QDropEvent* event)
{
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
