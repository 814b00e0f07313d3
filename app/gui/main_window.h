// The window. Puts the parts together and does nothing by itself: views and their entries, docks, commands, menus,
// sessions, undo and notices have files of their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/layout_history.h"
#include "app/gui/options.h"
#include "app/gui/sessions.h"
#include "app/gui/view_tabs.h"
#include "widgets/bridge/commands.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/spectra_computations.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"

#include <QMainWindow>

class QUndoStack;

namespace rankwise::bridge {
struct JobEnd;
}
namespace rankwise::common {
class Palette;
}
namespace rankwise::datasets_view {
class DatasetsView;
}
namespace rankwise::demo_view {
class DemoView;
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

class Dialogs;
class Docks;
class NoticeBar;
class SessionActions;

class MainWindow : public QMainWindow {
    Q_OBJECT

public:
    explicit MainWindow(const Options& options);
    ~MainWindow() override;

    [[nodiscard]] bridge::Workspace& workspace() { return m_workspace; }
    [[nodiscard]] bridge::CommandRegistry& commands() { return m_commands; }
    [[nodiscard]] bridge::Settings& settings() { return m_settings; }
    [[nodiscard]] common::ActionBinder& actions() { return *m_actions; }
    [[nodiscard]] common::Palette& palettePopup() { return *m_palette; }
    [[nodiscard]] QUndoStack& undoStack() { return *m_undo; }
    [[nodiscard]] LayoutHistory& layoutHistory() { return *m_layout; }
    [[nodiscard]] ViewTabs& tabs() { return *m_tabs; }
    [[nodiscard]] Docks& docks() { return *m_docks; }
    [[nodiscard]] NoticeBar& notices() { return *m_notices; }
    [[nodiscard]] Sessions& session() { return m_sessions; }
    [[nodiscard]] SessionActions& sessionActions() { return *m_sessionActions; }
    [[nodiscard]] Dialogs& dialogs() { return *m_dialogs; }

    /// The view of a tab by its id ("train", "robot", …), made when first asked for; nullptr without such a tab.
    QWidget* view(const QString& id) { return m_tabs->make(id); }
    [[nodiscard]] QStringList viewIds() const { return m_tabs->ids(); }
    void showView(const QString& id) { m_tabs->showView(id); }
    /// These are defined beside the entries of their views. nullptr while the view was not made, unless `make`.
    [[nodiscard]] train_view::TrainView* trainView();
    [[nodiscard]] datasets_view::DatasetsView* datasetsView();
    [[nodiscard]] demo_view::DemoView* demoView();
    [[nodiscard]] spectra_view::SpectraView* spectraView(bool make);
    [[nodiscard]] robot_view::RobotView* robotView(bool make);

    /// Everything that was opened is there, and an arm that was asked for moves.
    [[nodiscard]] bool settled();

    void saveSession() { m_sessions.save(); }
    /// The last message of the status bar, for tests and screen readers.
    [[nodiscard]] QString lastMessage() const { return m_lastMessage; }
    void say(const QString& text);

    /// Closes an open item; can be undone.
    void closeItem(const QString& path);
    /// The item that the present tab looks at; empty without one.
    [[nodiscard]] QString itemInView() const;
    /// Puts the docks where they were delivered.
    void resetLayout() { restoreState(m_defaultState); }

Q_SIGNALS:
    void firstPaint();

protected:
    void closeEvent(QCloseEvent* event) override;
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dragLeaveEvent(QDragLeaveEvent* event) override;
    void dropEvent(QDropEvent* event) override;
    bool event(QEvent* event) override;

private:
    template <class View> [[nodiscard]] View* viewAs(const QString& id, bool make)
    {
        return qobject_cast<View*>(make ? m_tabs->make(id) : m_tabs->find(id));
    }
    void build();
    void connectParts();
    void openGiven();
    void followRun(const QString& path);
    [[nodiscard]] QJsonObject sessionState();
    void enterSession(const QJsonObject& state, bool endedBadly);
    void showRecovery();
    void tellEnd(const bridge::JobEnd& end);
    void applySettings();

    Options m_options;
    bridge::Settings m_settings;
    Sessions m_sessions; ///< Outlives the workspace, whose runner writes the last state.
    bridge::Workspace m_workspace;
    bridge::SpectraComputations m_computations { m_workspace, m_settings };
    bridge::CommandRegistry m_commands;
    QUndoStack* m_undo;
    LayoutHistory* m_layout;
    ViewTabs* m_tabs;
    NoticeBar* m_notices;
    SessionActions* m_sessionActions;
    Dialogs* m_dialogs;
    common::ActionBinder* m_actions = nullptr;
    Docks* m_docks = nullptr;
    common::Palette* m_palette = nullptr;
    QString m_lastMessage;
    QByteArray m_defaultState;
    int m_ends = 0; ///< Jobs told of, for the names of notices.
    bool m_painted = false;
};

} // namespace rankwise::gui
