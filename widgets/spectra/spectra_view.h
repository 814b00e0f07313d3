// The Spectra tab: where the energy of weights and updates lies, for one subject or two side by side.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/spectra_tail.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"
#include "widgets/spectra/spectra_state.h"

#include <QPointer>
#include <QWidget>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <utility>

class QCheckBox;
class QComboBox;
class QDoubleSpinBox;
class QLabel;
class QProgressBar;
class QPushButton;
class QSlider;
class QStackedWidget;
class QTableView;
class QTabWidget;
class QVBoxLayout;

namespace rankwise::bridge {
class ColumnModel;
class Job;
} // namespace rankwise::bridge

namespace rankwise::spectra_view {

class CurvePanel;
class RankChart;
class SurfaceView;

class SpectraView : public QWidget {
    Q_OBJECT

public:
    SpectraView(bridge::Workspace& workspace, bridge::Settings& settings, bridge::CommandRegistry& commands,
                common::ActionBinder& actions, QWidget* parent = nullptr);
    ~SpectraView() override;

    /// `view` gives the view: made, and brought to the front, with `show`; else nullptr while it was not made.
    static void addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace, bridge::Settings& settings,
                            std::function<SpectraView*(bool show)> view);
    [[nodiscard]] static QStringList commandIds();

    [[nodiscard]] SpectraState& state() { return m_state; }
    [[nodiscard]] CurvePanel& curves() { return *m_curves; }
    [[nodiscard]] RankChart& ranks() { return *m_ranks; }
    [[nodiscard]] SurfaceView& surface() { return *m_surface; }
    [[nodiscard]] QTableView& table() { return *m_table; }
    [[nodiscard]] QTabWidget& pages() { return *m_pages; }
    [[nodiscard]] QSlider& etaSlider() { return *m_etaSlider; }
    [[nodiscard]] QSlider& stepSlider() { return *m_stepSlider; }

    /// Path of what is shown, and of what stands beside it; empty: nothing.
    [[nodiscard]] QString subject() const;
    [[nodiscard]] QString beside() const;
    void showSubject(const QString& path);
    void showBeside(const QString& path);
    /// Has the spectra of the subject (and of the second one) computed where they are not there.
    void compute();
    /// Whether the spectra of both subjects are there, exact to the last.
    [[nodiscard]] bool complete() const;

Q_SIGNALS:
    void message(const QString& text);

private:
    /// One of the two subjects.
    struct Side {
        QString path;
        bridge::ItemKind kind = bridge::ItemKind::Other;
        std::unique_ptr<bridge::SpectraTail> tail;
        QPointer<bridge::Job> job;
        bridge::SpectraSetPtr scores;                                     ///< Of a run's snapshot.
        bridge::SpectraSetPtr made;                                       ///< Both together,
        std::pair<bridge::SpectraSetPtr, bridge::SpectraSetPtr> madeFrom; ///< made from these.
        qint64 scoresStep = -1;
        qint64 loadingStep = -1;
    };
    void buildBar(QVBoxLayout& layout);
    void buildPages(common::ActionBinder& actions);
    void fillSubjects();
    void setSide(Side& side, const QString& path);
    void start(Side& side);
    void loadScores(Side& side);
    void fillSteps();
    void refresh();
    void refreshTable();
    void markRows();
    void refreshStatus();
    void select(const QStringList& layers);
    [[nodiscard]] bridge::SpectraSetPtr setOf(Side& side) const;
    [[nodiscard]] static bool settled(const Side& side);

    bridge::Workspace& m_workspace;
    bridge::Settings& m_settings;
    bridge::CommandRegistry& m_commands;
    SpectraState m_state;
    Side m_one, m_other;
    QComboBox* m_subject;
    QComboBox* m_beside;
    std::map<Curve, QCheckBox*> m_shown;
    QSlider* m_etaSlider;
    QDoubleSpinBox* m_etaBox;
    QWidget* m_stepBar;
    QSlider* m_stepSlider;
    QLabel* m_stepLabel;
    QLabel* m_status;
    QProgressBar* m_progress;
    QTabWidget* m_pages;
    QStackedWidget* m_first;
    QPushButton* m_emptyButton;
    QLabel* m_emptyText;
    CurvePanel* m_curves;
    RankChart* m_ranks;
    QComboBox* m_quantity;
    SurfaceView* m_surface;
    QTableView* m_table;
    bridge::ColumnModel* m_rows;
    qsizetype m_columns = 0; ///< That have their widths.
    bool m_refreshing = false;
};

} // namespace rankwise::spectra_view
