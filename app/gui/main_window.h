// The window: tabs, docks, menus and the session. Puts the parts together; every view is a widget of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/options.h"
#include "app/gui/session.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/spectra_computations.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"

#include <QMainWindow>
#include <QTimer>

#include <functional>
#include <memory>
#include <vector>

class QFrame;
class QLabel;
class QMenu;
class QTabWidget;
class QUndoStack;

namespace rankwise::bridge {
class JobsModel;
class LogModel;
} // namespace rankwise::bridge
namespace rankwise::common {
class Palette;
}
namespace rankwise::datasets_view {
class DatasetsView;
}
namespace rankwise::robot_view {
class RobotView;
}
namespace rankwise::spectra_view {
class SpectraView;
}
namespace rankwise::train_view {
class TrainView;
}

namespace rankwise::gui {

class MainWindow : public QMainWindow {
    Q_OBJECT

public:
    explicit MainWindow(const Options& options);
    ~MainWindow() override;

    [[nodiscard]] bridge::Workspace& workspace() { return m_workspace; }
    [[nodiscard]] bridge::CommandRegistry& commands() { return m_commands; }
    [[nodiscard]] bridge::Settings& settings() { return m_settings; }
    [[nodiscard]] common::Palette& palettePopup() { return *m_palette; }
    [[nodiscard]] QUndoStack& undoStack() { return *m_undo; }
    [[nodiscard]] QTabWidget& tabs() { return *m_tabs; }
    [[nodiscard]] SessionStore& session() { return m_session; }
    [[nodiscard]] train_view::TrainView* trainView();
    [[nodiscard]] datasets_view::DatasetsView* datasetsView();
    /// nullptr while the view was not made, unless `make`.
    [[nodiscard]] spectra_view::SpectraView* spectraView(bool make);
    [[nodiscard]] robot_view::RobotView* robotView(bool make);
    /// The view of a tab by its id ("train", "robot", …), made when first asked for; nullptr without such a tab.
    QWidget* view(const QString& id);
    [[nodiscard]] QStringList viewIds() const;
    void showView(const QString& id);

    /// Everything that was opened is there, and an arm that was asked for moves.
    [[nodiscard]] bool settled();

    void saveSession();
    /// The last message of the status bar, for tests and screen readers.
    [[nodiscard]] QString lastMessage() const { return m_lastMessage; }
    void say(const QString& text);

Q_SIGNALS:
    void firstPaint();

protected:
    void closeEvent(QCloseEvent* event) override;
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dropEvent(QDropEvent* event) override;
    bool event(QEvent* event) override;

private:
    struct Tab {
        QString id;
        QString title;
        QString key;
        std::function<QWidget*()> make;
        QWidget* page = nullptr; ///< In the tab widget, empty until the view is made.
        QWidget* view = nullptr;
    };
    void addTabs();
    void addDocks();
    void addCommands();
    void addMenus();
    void addStatusBar();
    void fillRecent(QMenu* menu);
    void fillSessions(QMenu* menu);
    void openDialog();
    void followRun(const QString& path);
    void restoreSession();
    void showRecoveryCard();
    void applySettings();
    void zoomBy(double factor);
    void showShortcuts();
    void showAbout();
    void setTheme(const QString& name);
    [[nodiscard]] QJsonObject sessionState();

    Options m_options;
    bridge::Settings m_settings;
    SessionStore m_session;
    bridge::Workspace m_workspace;
    bridge::SpectraComputations m_computations { m_workspace, m_settings };
    bridge::CommandRegistry m_commands;
    QUndoStack* m_undo;
    common::ActionBinder* m_actions = nullptr;
    bridge::LogModel* m_log;
    bridge::JobsModel* m_jobs;
    common::Palette* m_palette;
    QTabWidget* m_tabs;
    std::vector<Tab> m_tabList;
    QFrame* m_card = nullptr;
    QLabel* m_jobsBadge = nullptr;
    QTimer m_autosave;
    QString m_lastMessage;
    QByteArray m_defaultState;
    bool m_painted = false;
    bool m_saved = false;
};

} // namespace rankwise::gui
