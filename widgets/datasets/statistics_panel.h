// The statistics of a dataset's states and actions: a row a number with what is remarkable about it, its histogram,
// and a checkpoint's normalisation beside it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/column_model.h"
#include "widgets/bridge/dataset_statistics.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/bar_chart.h"

#include <QPointer>
#include <QWidget>

#include <memory>
#include <vector>

class QComboBox;
class QLabel;
class QTableView;

namespace rankwise::datasets_view {

/// Thread: GUI. Computes when it is first seen.
class StatisticsPanel : public QWidget {
    Q_OBJECT

public:
    explicit StatisticsPanel(bridge::Workspace& workspace, QWidget* parent = nullptr);

    void setDataset(std::shared_ptr<const bridge::OpenedDataset> dataset);
    [[nodiscard]] const bridge::ColumnModel& rows() const { return m_model; }
    [[nodiscard]] common::BarChart& histogram() { return *m_histogram; }
    /// Checkpoints that can be compared with; the first entry is none.
    [[nodiscard]] QComboBox& checkpoints() { return *m_checkpoints; }
    [[nodiscard]] QTableView& table() { return *m_table; }

protected:
    void showEvent(QShowEvent* event) override;

private:
    void fillCheckpoints();
    void compute();
    void showRows();
    void showHistogram(int row);

    bridge::Workspace& m_workspace;
    std::shared_ptr<const bridge::OpenedDataset> m_dataset;
    QPointer<bridge::Job> m_job;
    std::vector<bridge::DimensionStatistics> m_dimensions;
    bool m_stale = true;
    bridge::ColumnModel m_model;
    QComboBox* m_checkpoints;
    QLabel* m_note;
    QTableView* m_table;
    common::BarChart* m_histogram;
};

/// What is remarkable about one number, in words; empty when nothing.
[[nodiscard]] QString remarkOn(const bridge::DimensionStatistics& dimension);

} // namespace rankwise::datasets_view
