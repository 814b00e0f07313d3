// Values over rows and columns as colours, with a selected row and column: the rank map layer × step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"
#include "widgets/common/color_map.h"

#include <QImage>
#include <QStringList>

#include <functional>
#include <vector>

namespace rankwise::common {

/// Rows top to bottom. Thread: GUI.
class HeatMap : public Chart {
    Q_OBJECT

public:
    HeatMap(QString title, QString rowTitle, QString columnTitle, QString valueTitle, QObject* parent = nullptr);

    struct Row {
        QString name;  ///< Short, drawn.
        QString path;  ///< Whole name, in the table.
        QString group; ///< Rows of a group stand together under its name.
    };
    /// Everything new. `value(row, column)` may give NaN. `columns` are numbers along x, growing.
    void reset(std::vector<Row> rows, std::vector<double> columns, std::function<double(int row, int column)> value);
    /// More columns at the end; the values of those before stay what they were.
    void grow(std::vector<double> columns);
    void setColorMap(ColorMap map);
    [[nodiscard]] ColorMap colorMap() const { return m_map; }
    /// Range of the colours; low ≥ high: that of the values.
    void setRange(double low, double high);

    void selectRow(int row);
    /// Further rows that are selected together with it, drawn with a thinner frame.
    void markRows(std::vector<int> rows);
    [[nodiscard]] const std::vector<int>& markedRows() const { return m_marked; }
    void selectColumn(int column);
    [[nodiscard]] int selectedRow() const { return m_row; }
    [[nodiscard]] int selectedColumn() const { return m_column; }
    [[nodiscard]] int rowCount() const { return static_cast<int>(m_rows.size()); }
    [[nodiscard]] int columnCount() const { return static_cast<int>(m_columns.size()); }

    void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override { return m_rows.empty() || m_columns.empty(); }
    void setEmptyText(const QString& text) { m_emptyText = text; }
    [[nodiscard]] QString emptyText() const override
    {
        return m_emptyText.isEmpty() ? Chart::emptyText() : m_emptyText;
    }
    [[nodiscard]] QString summary() const override;
    void hover(const QPointF& at) override;
    void leave() override;
    void press(const QPointF& at) override;
    void drag(const QPointF& at) override;
    bool key(int key) override;
    [[nodiscard]] QStringList usage() const override;

Q_SIGNALS:
    void rowPicked(int row);
    void columnPicked(int column);

private:
    [[nodiscard]] std::pair<int, int> cellAt(const QPointF& at) const; ///< row, column; -1 outside.
    void paintLegend(PlotSurface& surface, const QRectF& bar, const Theme& theme) const;
    void takeCells();
    void refreshImage();

    QString m_rowTitle, m_columnTitle, m_valueTitle, m_emptyText;
    std::vector<Row> m_rows;
    std::vector<double> m_columns;
    std::function<double(int, int)> m_value;
    ColorMap m_map = ColorMap::Viridis;
    double m_low = 0, m_high = 0;           ///< As set.
    double m_shownLow = 0, m_shownHigh = 1; ///< In force.
    std::vector<float> m_cells;             ///< Values by column, of those that were asked for already.
    double m_cellLow = 0, m_cellHigh = 0;   ///< Of the finite ones; low > high: none.
    QImage m_image;
    QImage m_legend;
    bool m_dirty = true;
    int m_row = -1, m_column = -1;
    std::vector<int> m_marked;
    int m_hoverRow = -1, m_hoverColumn = -1;
    QRectF m_plot;
};

} // namespace rankwise::common
