// The practice arm: the simulation in real time, on a thread of its own, as an ArmSource.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/arm_source.h"

#include <memory>

namespace rankwise {
class WorkerThread;
}

namespace rankwise::bridge {

/// The loop runs at 100 Hz: five physics steps of 2 ms a tick; cameras are rendered ten times a second between ticks.
class PracticeArm : public ArmSource {
    Q_OBJECT

public:
    static constexpr int kLoopHz = 100;

    /// Starts at once; connected() follows when the scene is loaded. `imageSize`: pixels of a side, 0 for no cameras.
    /// `arm`: "piper" or "generic".
    PracticeArm(const QString& task, std::uint64_t seed, int imageSize = 160,
                const QString& arm = QStringLiteral("piper"), QObject* parent = nullptr);
    ~PracticeArm() override;

    [[nodiscard]] static QStringList tasks();

    [[nodiscard]] std::shared_ptr<const ArmScene> scene() const override { return m_scene; }
    [[nodiscard]] std::shared_ptr<const ArmSnapshot> latest() const override;
    void hold() override;
    void runExpert() override;
    void jog(const std::array<double, kArmValues>& target) override;
    void resetScene(std::uint64_t seed) override;
    void show(const std::array<double, kArmValues>& state) override;

private:
    struct Shared;
    class Loop;

    std::shared_ptr<Shared> m_shared;
    std::shared_ptr<const ArmScene> m_scene;
    std::unique_ptr<WorkerThread> m_thread; ///< Last: joined first.
};

} // namespace rankwise::bridge
