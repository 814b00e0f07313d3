// SPDX-License-Identifier: Apache-2.0
#include "widgets/robot/joint_bars.h"

#include <QCoreApplication>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace rankwise::robot_view {

namespace {

constexpr int kRows = static_cast<int>(bridge::kArmValues);
constexpr double kDegree = 180 / std::numbers::pi;

double shownValue(int joint, double value)
{
    return joint < static_cast<int>(bridge::kArmJoints) ? value * kDegree : value * 1000;
}

} // namespace

QString jointName(int joint)
{
    return joint < static_cast<int>(bridge::kArmJoints) ? QStringLiteral("J%1").arg(joint + 1)
                                                        : QCoreApplication::translate("JointBars", "opening");
}

QString jointText(int joint, double value)
{
    const bool angle = joint < static_cast<int>(bridge::kArmJoints);
    const double shown = std::round(shownValue(joint, value) * 10) / 10 + 0.0; // never "-0.0"
    return QStringLiteral("%1 %2").arg(shown, 0, 'f', 1).arg(angle ? QStringLiteral("°") : QStringLiteral("mm"));
}

JointBars::JointBars(QObject* parent) : Chart(tr("Joints"), parent)
{
    m_table.reset({ tr("Joint"), tr("Measured (°, mm)"), tr("Commanded (°, mm)"), tr("Velocity (°/s, mm/s)"),
                    tr("Torque (N·m)"), tr("Lowest"), tr("Highest") },
                  kRows, [this](int row, int column) -> QVariant {
                      const auto j = static_cast<std::size_t>(row);
                      if (column == 0) {
                          return jointName(row);
                      }
                      if (isEmpty()) {
                          return {};
                      }
                      switch (column) {
                      case 1:
                          return shownValue(row, m_snapshot->measured[j]);
                      case 2:
                          return shownValue(row, m_snapshot->target[j]);
                      case 3:
                          return shownValue(row, m_snapshot->velocity[j]);
                      case 4:
                          return j < bridge::kArmJoints ? QVariant(m_snapshot->torque[j]) : QVariant();
                      case 5:
                          return shownValue(row, m_scene->limits[j][0]);
                      default:
                          return shownValue(row, m_scene->limits[j][1]);
                      }
                  });
}

void JointBars::setScene(std::shared_ptr<const bridge::ArmScene> scene)
{
    m_scene = std::move(scene);
    m_snapshot.reset();
    m_table.touch();
    Q_EMIT changed();
}

void JointBars::setSnapshot(std::shared_ptr<const bridge::ArmSnapshot> snapshot)
{
    m_snapshot = std::move(snapshot);
    m_table.touch();
    Q_EMIT changed();
}

QString JointBars::summary() const
{
    if (isEmpty()) {
        return emptyText();
    }
    QStringList parts;
    for (int j = 0; j < kRows; ++j) {
        parts << jointName(j) + QLatin1Char(' ') + jointText(j, m_snapshot->measured[static_cast<std::size_t>(j)]);
    }
    return parts.join(QStringLiteral(", "));
}

void JointBars::paint(common::PlotSurface& surface, const QRectF& area, const common::Theme& theme)
{
    if (isEmpty()) {
        surface.text(area.center(), emptyText(), theme.dimText, Qt::AlignCenter);
        return;
    }
    const double left = surface.textSize(jointName(kRows - 1), 0.9).width() + 12;
    const double right = surface.textSize(QStringLiteral("−000.0 °"), 0.9).width() + 10;
    m_bars = area.adjusted(left, 4, -right, -4);
    const double pitch = m_bars.height() / kRows;
    const double line = surface.textSize(QStringLiteral("0"), 0.8).height();
    for (int row = 0; row < kRows; ++row) {
        const auto j = static_cast<std::size_t>(row);
        const double top = m_bars.top() + pitch * row;
        const double low = m_scene->limits[j][0];
        const double high = m_scene->limits[j][1];
        const auto x = [&](double value) {
            return m_bars.left() + std::clamp((value - low) / (high - low), 0.0, 1.0) * m_bars.width();
        };
        const double barTop = top + pitch * 0.25;
        const double barHeight = std::min(pitch * 0.36, 14.0);
        surface.fillRect({ m_bars.left(), barTop, m_bars.width(), barHeight }, theme.grid);
        const double zero = x(std::clamp(0.0, low, high));
        const double now = x(m_snapshot->measured[j]);
        const double share = (m_snapshot->measured[j] - low) / (high - low);
        const bool nearLimit = row < static_cast<int>(bridge::kArmJoints) && (share < 0.03 || share > 0.97);
        surface.fillRect(QRectF(QPointF(std::min(zero, now), barTop), QPointF(std::max(zero, now), barTop + barHeight)),
                         nearLimit ? theme.warning : theme.seriesColor(0));
        surface.fillRect({ now - 1.5, barTop - 2, 3, barHeight + 4 }, theme.text);
        // The command: a triangle below the bar.
        const double target = x(m_snapshot->target[j]);
        const std::array<QPointF, 3> mark { QPointF(target, barTop + barHeight),
                                            QPointF(target + 5, barTop + barHeight + 7),
                                            QPointF(target - 5, barTop + barHeight + 7) };
        surface.fillPolygon(mark, theme.seriesColor(1));
        if (row == m_joint) {
            surface.strokeRect({ area.left() + 2, top + 1, area.width() - 4, pitch - 2 }, theme.accent, 1);
        }
        surface.text({ m_bars.left() - 8, barTop + barHeight / 2 }, jointName(row), theme.text,
                     Qt::AlignRight | Qt::AlignVCenter, 0.9);
        surface.text({ area.right() - 6, barTop + barHeight / 2 }, jointText(row, m_snapshot->measured[j]), theme.text,
                     Qt::AlignRight | Qt::AlignVCenter, 0.9);
        if (pitch > barHeight + line + 14 && row < static_cast<int>(bridge::kArmJoints)) {
            surface.text({ m_bars.left(), barTop + barHeight + 5 },
                         tr("%1 °/s · %2 N·m")
                             .arg(std::round(m_snapshot->velocity[j] * kDegree) + 0.0, 0, 'f', 0)
                             .arg(std::round(m_snapshot->torque[j] * 10) / 10 + 0.0, 0, 'f', 1),
                         theme.dimText, Qt::AlignLeft | Qt::AlignTop, 0.8);
        }
    }
}

double JointBars::valueAt(int joint, double x) const
{
    const auto& limits = m_scene->limits[static_cast<std::size_t>(joint)];
    return limits[0]
        + std::clamp((x - m_bars.left()) / std::max(1.0, m_bars.width()), 0.0, 1.0) * (limits[1] - limits[0]);
}

void JointBars::press(const QPointF& at)
{
    if (isEmpty() || m_bars.height() <= 0) {
        return;
    }
    m_joint = std::clamp(static_cast<int>((at.y() - m_bars.top()) / m_bars.height() * kRows), 0, kRows - 1);
    Q_EMIT changed();
}

void JointBars::drag(const QPointF& at)
{
    if (!isEmpty()) {
        Q_EMIT jogged(m_joint, valueAt(m_joint, at.x()));
    }
}

bool JointBars::key(int key)
{
    if (isEmpty()) {
        return false;
    }
    const double step = m_joint < static_cast<int>(bridge::kArmJoints) ? 2 / kDegree : 0.002;
    const double target = m_snapshot->target[static_cast<std::size_t>(m_joint)];
    switch (key) {
    case Qt::Key_Up:
        m_joint = std::max(0, m_joint - 1);
        break;
    case Qt::Key_Down:
        m_joint = std::min(kRows - 1, m_joint + 1);
        break;
    case Qt::Key_Left:
        Q_EMIT jogged(m_joint, target - step);
        break;
    case Qt::Key_Right:
        Q_EMIT jogged(m_joint, target + step);
        break;
    default:
        return false;
    }
    Q_EMIT changed();
    return true;
}

} // namespace rankwise::robot_view
