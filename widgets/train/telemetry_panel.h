// Live curves of a run: losses, learning rate, gradient norm, speed, and where the time of a step goes. Other open
// runs can be laid over it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/line_chart.h"

#include <QPointer>
#include <QWidget>

#include <functional>
#include <map>
#include <vector>

class QSlider;

namespace rankwise::common {
class ChartView;
}

namespace rankwise::train_view {

class TelemetryPanel : public QWidget {
    Q_OBJECT

public:
    explicit TelemetryPanel(bridge::Workspace& workspace, QWidget* parent = nullptr);

    void setRun(bridge::RunTail* run);
    void setOverlay(bool on);
    [[nodiscard]] QSlider* smoothing() const { return m_smoothing; }
    /// In the order losses, learning rate, gradient norm, speed, time of a step.
    [[nodiscard]] common::LineChart& chart(std::size_t index) const { return *m_plots[index].chart; }

private:
    using Column = std::function<const std::vector<double>*(const bridge::StepColumns&)>;
    struct Line {
        QPointer<bridge::RunTail> run;
        Column column;
        std::shared_ptr<common::Series> series;
        std::size_t taken = 0;
        std::uint64_t epoch = 0;
    };
    struct Plot {
        common::LineChart* chart = nullptr;
        std::vector<Line> lines;
    };
    void addSmoothing(common::ChartView& view);
    void rebuild();
    void addLine(Plot& plot, std::vector<common::LineChart::Curve>& curves, bridge::RunTail* run, const QString& name,
                 std::size_t color, bool faint, Column column);
    void takeNew();
    void watch(bridge::RunTail* run);

    bridge::Workspace& m_workspace;
    QPointer<bridge::RunTail> m_run;
    QSlider* m_smoothing;
    bool m_overlay = false;
    std::size_t m_auxCount = 0;
    std::vector<Plot> m_plots; ///< Loss, learning rate, gradient norm, speed, time of a step.
    QVector<QMetaObject::Connection> m_connections;
};

} // namespace rankwise::train_view
