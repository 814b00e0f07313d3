// The joints of an arm as bars between their limits: measured, commanded, velocity and torque. Dragging a bar, or the
// arrow keys, jogs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/arm_source.h"
#include "widgets/common/chart.h"

#include <memory>

namespace rankwise::robot_view {

class JointBars : public common::Chart {
    Q_OBJECT

public:
    explicit JointBars(QObject* parent = nullptr);

    void setScene(std::shared_ptr<const bridge::ArmScene> scene);
    void setSnapshot(std::shared_ptr<const bridge::ArmSnapshot> snapshot);

    void paint(common::PlotSurface& surface, const QRectF& area, const common::Theme& theme) override;
    [[nodiscard]] bool isEmpty() const override { return !m_scene || !m_snapshot; }
    [[nodiscard]] QString emptyText() const override { return tr("No arm is connected"); }
    [[nodiscard]] QString summary() const override;
    void press(const QPointF& at) override;
    void drag(const QPointF& at) override;
    bool key(int key) override;

Q_SIGNALS:
    void jogged(int joint, double value); ///< rad, or m for the opening.

private:
    [[nodiscard]] double valueAt(int joint, double x) const;

    std::shared_ptr<const bridge::ArmScene> m_scene;
    std::shared_ptr<const bridge::ArmSnapshot> m_snapshot;
    QRectF m_bars;
    int m_joint = 0;
};

/// "J1" … "J6", "opening".
[[nodiscard]] QString jointName(int joint);
/// Degrees, or millimetres for the opening, with the unit.
[[nodiscard]] QString jointText(int joint, double value);

} // namespace rankwise::robot_view
