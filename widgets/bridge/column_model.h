// A table whose numbers come from functions: the twin of a chart, for screen readers, copying and CSV.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QAbstractTableModel>
#include <QStringList>

#include <functional>

namespace rankwise::bridge {

/// Rows and cells are asked for when needed; nothing is copied. Thread: GUI.
class ColumnModel : public QAbstractTableModel {
    Q_OBJECT

public:
    explicit ColumnModel(QObject* parent = nullptr);

    /// Takes over `headers` and a new row count. `cell` gives a number or a text; it stays until the next call.
    void reset(const QStringList& headers, int rows, std::function<QVariant(int row, int column)> cell);
    /// More rows at the end, same columns.
    void grow(int rows);
    /// Same rows and columns, other values.
    void touch();

    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    /// DisplayRole is formatted for people; EditRole is the value itself.
    [[nodiscard]] QVariant data(const QModelIndex& index, int role) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    QStringList m_headers;
    int m_rows = 0;
    std::function<QVariant(int, int)> m_cell;
};

/// All cells as RFC 4180 CSV with a header line; numbers with full precision and a point.
[[nodiscard]] QString csvText(const QAbstractItemModel& model);

} // namespace rankwise::bridge
