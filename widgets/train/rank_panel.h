// Where the capacity goes: the rank map layer × step with its scrubber, and box plots of the active ranks at the chosen
// step in panels for vision, language, action and the projections between them, with the marks of step 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/box_chart.h"
#include "widgets/common/heat_map.h"

#include <QPointer>
#include <QTimer>
#include <QWidget>

#include <vector>

class QCheckBox;
class QComboBox;
class QLabel;
class QPushButton;
class QSlider;

namespace rankwise::train_view {

class RankPanel : public QWidget {
    Q_OBJECT

public:
    explicit RankPanel(bridge::Workspace& workspace, QWidget* parent = nullptr);

    void setRun(bridge::RunTail* run);
    [[nodiscard]] common::HeatMap& map() { return *m_map; }
    [[nodiscard]] common::BoxChart& boxes() { return *m_boxes; }
    void togglePlay();
    [[nodiscard]] bool playing() const { return m_movie.isActive(); }

private:
    void takeNew();
    void showStep(qint64 step);
    void showDigest(int index);
    void fillBoxes(const data::DigestColumns& digest);
    [[nodiscard]] double cell(int row, int column) const;
    void selectLayerRow(int row);
    void markLayers();

    bridge::Workspace& m_workspace;
    QPointer<bridge::RunTail> m_run;
    common::HeatMap* m_map;
    common::BoxChart* m_boxes;
    QSlider* m_slider;
    QLabel* m_stepLabel;
    QPushButton* m_play;
    QComboBox* m_what;
    QCheckBox* m_reference;
    QTimer m_movie;
    std::uint64_t m_epoch = 0;
    std::size_t m_digests = 0;
    std::int64_t m_table = -1;
    int m_scanned = 0; ///< Columns that m_widest is of.
    double m_widest = 1;
    bool m_followEnd = true;
};

} // namespace rankwise::train_view
