// Estimates with their intervals, one row each: a dot and a whisker on a common axis (a forest plot).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/chart.h"

#include <vector>

namespace rankwise::common {

/// Thread: GUI.
class IntervalChart : public Chart {
    Q_OBJECT

public:
    struct Row {
        QString name;
        double value = 0;
        double low = 0; ///< low <= value <= high, all in the unit of the axis.
        double high = 0;
        QString words; ///< At the right end of the row, e.g. "17/24".
        int series = 0; ///< Colour; the name tells it as well.

        [[nodiscard]] bool operator==(const Row&) const = default;
    };

    /// `low` and `high` are the ends of the axis.
    IntervalChart(QString title, QString xLabel, double low, double high, QObject* parent = nullptr);

    void setRows(std::vector<Row> rows);
    [[nodiscard]] const std::vector<Row>& rows() const { return m_rows; }
    void setEmptyText(const QString& text) { m_emptyText = text; }

    void paint(PlotSurface& surface, const QRectF& area, const Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override { return m_rows.empty(); }
    [[nodiscard]] QString emptyText() const override
    {
        return m_emptyText.isEmpty() ? Chart::emptyText() : m_emptyText;
    }
    [[nodiscard]] QString summary() const override;

private:
    void paintRow(PlotSurface& surface, const Row& row, const Axis& x, double y, const Theme& theme) const;

    QString m_xLabel, m_emptyText;
    double m_low, m_high;
    std::vector<Row> m_rows;
};

} // namespace rankwise::common
