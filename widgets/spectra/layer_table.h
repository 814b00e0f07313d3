// The page of the Spectra tab with the numbers of all layers: ranks, norms, power laws, of one subject or two.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/spectra/spectra_state.h"

#include <QWidget>

class QTableView;

namespace rankwise::bridge {
class ColumnModel;
class JobRunner;
} // namespace rankwise::bridge
namespace rankwise::common {
class ActionBinder;
}

namespace rankwise::spectra_view {

class LayerTable : public QWidget {
    Q_OBJECT

public:
    LayerTable(SpectraState& state, bridge::JobRunner& jobs, common::ActionBinder& actions, QWidget* parent = nullptr);

    [[nodiscard]] QTableView& table() { return *m_table; }
    void copy();
    void exportDialog();

Q_SIGNALS:
    void picked(const QStringList& layers);
    void message(const QString& text);

protected:
    void changeEvent(QEvent* event) override;

private:
    /// What stands in one column behind the first three.
    struct Column {
        Curve curve = Curve::Base;
        Quantity quantity = Quantity::Rank;
        bool other = false;
    };
    [[nodiscard]] std::vector<Column> columns() const;
    [[nodiscard]] QVariant value(int row, const Column& column) const;
    void refresh();
    void layOut();
    void markRows();
    void pickRows();

    SpectraState& m_state;
    bridge::JobRunner& m_jobs;
    QTableView* m_table;
    bridge::ColumnModel* m_rows;
    QStringList m_headers;
    bool m_marking = false; ///< What is marked now was selected elsewhere.
};

} // namespace rankwise::spectra_view
