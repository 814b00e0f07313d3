// The Spectra tab: where the energy of weights and updates lies, for one subject or two side by side.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"
#include "widgets/bridge/spectra_computations.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"
#include "widgets/spectra/layer_table.h"
#include "widgets/spectra/spectra_state.h"
#include "widgets/spectra/spectra_subject.h"
#include "widgets/spectra/subject_bar.h"

#include <QTimer>
#include <QWidget>

#include <functional>

class QComboBox;
class QLabel;
class QPushButton;
class QStackedWidget;
class QTabWidget;

namespace rankwise::spectra_view {

class CurvePanel;
class RankChart;
class SurfaceView;

class SpectraView : public QWidget {
    Q_OBJECT

public:
    SpectraView(bridge::Workspace& workspace, bridge::SpectraComputations& computations,
                bridge::CommandRegistry& commands, common::ActionBinder& actions, QWidget* parent = nullptr);
    ~SpectraView() override;

    /// `view` gives the view: made, and brought to the front, with `show`; else nullptr while it was not made.
    static void addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace,
                            bridge::SpectraComputations& computations, std::function<SpectraView*(bool show)> view);
    [[nodiscard]] static QStringList commandIds();

    [[nodiscard]] SpectraState& state() { return m_state; }
    [[nodiscard]] CurvePanel& curves() { return *m_curves; }
    [[nodiscard]] RankChart& ranks() { return *m_ranks; }
    [[nodiscard]] SurfaceView& surface() { return *m_surface; }
    [[nodiscard]] LayerTable& layers() { return *m_layers; }
    [[nodiscard]] QTableView& table() { return m_layers->table(); }
    [[nodiscard]] QTabWidget& pages() { return *m_pages; }
    [[nodiscard]] QSlider& etaSlider() { return m_bar->etaSlider(); }
    [[nodiscard]] QSlider& stepSlider() { return m_bar->stepSlider(); }

    /// Path of what is shown, and of what stands beside it; empty: nothing.
    [[nodiscard]] const QString& subject() const { return m_one.path(); }
    [[nodiscard]] const QString& beside() const { return m_other.path(); }
    void showSubject(const QString& path);
    void showBeside(const QString& path);
    /// Has the spectra of the subject (and of the second one) computed where they are not there.
    void compute();
    /// Whether the spectra of both subjects are there and shown, exact to the last.
    [[nodiscard]] bool complete() const;

Q_SIGNALS:
    void message(const QString& text);

private:
    void buildPages(common::ActionBinder& actions);
    [[nodiscard]] QWidget* emptyPage(common::ActionBinder& actions);
    [[nodiscard]] QWidget* ranksPage();
    [[nodiscard]] QWidget* surfacePage();
    void followWorkspace();
    void fillSubjects();
    void fillSteps();
    void refresh();
    void refreshStatus();
    void refreshEmptyPage();
    /// Words for the status of one subject; `failed` when one of them is bad news.
    [[nodiscard]] QStringList statusOf(const SpectraSubject& subject, bool& failed) const;
    void select(const QStringList& layers);

    bridge::Workspace& m_workspace;
    bridge::SpectraComputations& m_computations;
    bridge::CommandRegistry& m_commands;
    SpectraState m_state;
    SpectraSubject m_one, m_other;
    SubjectBar* m_bar;
    QTabWidget* m_pages;
    QStackedWidget* m_first;
    QPushButton* m_emptyButton;
    QLabel* m_emptyText;
    CurvePanel* m_curves;
    RankChart* m_ranks;
    QComboBox* m_quantity;
    SurfaceView* m_surface;
    LayerTable* m_layers;
    QTimer m_refreshSoon; ///< Curves come many times a second while a worker computes or a folder is read.
};

} // namespace rankwise::spectra_view
