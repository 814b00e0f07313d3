// A policy on the practice arm: a process of its own runs it and streams what happens (backend/sim/rollout_stream.h);
// here it is an ArmSource like any other.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/rollout_stream.h"
#include "widgets/bridge/arm_source.h"

#include <QProcess>
#include <QString>
#include <QStringList>

#include <memory>

namespace rankwise::bridge {

/// What to roll out. Paths as `rankwise rollout` takes them.
struct RolloutSetup {
    QString policy;  ///< Policy folder, or an adapter folder that names its base.
    QString adapter; ///< Adapter folder or run directory; may be empty.
    QString task;
    QString arm = QStringLiteral("piper");
    qint64 seed = 0;    ///< Of the evaluation whose episodes these are.
    qint64 episode = 0; ///< The first one.
    int imageSize = 160;
    bool paused = false;
    double speed = 1;
};

/// The process ends with this object, and when this program ends in any way: its input closes then.
class RolloutArm : public ArmSource {
    Q_OBJECT

public:
    explicit RolloutArm(const RolloutSetup& setup, QObject* parent = nullptr);
    ~RolloutArm() override;

    /// Words of the `rankwise` command line.
    [[nodiscard]] static QStringList arguments(const RolloutSetup& setup);
    /// The shell line that counts what is shown: the first `episodes` episodes.
    [[nodiscard]] static QString evalCommand(const RolloutSetup& setup, qint64 episodes);

    [[nodiscard]] const RolloutSetup& setup() const { return m_setup; }
    [[nodiscard]] qint64 processId() const { return m_process->processId(); }
    [[nodiscard]] std::shared_ptr<const ArmScene> scene() const override { return m_scene; }
    [[nodiscard]] std::shared_ptr<const ArmSnapshot> latest() const override { return m_latest; }
    void hold() override; ///< Takes effect after the present action, at most a tenth of a second.
    void runExpert() override { }
    void jog(const std::array<double, kArmValues>&) override { }
    void resume() override;
    void stepOnce() override;
    void resetScene(std::uint64_t episode) override;
    void show(const std::array<double, kArmValues>&) override { }

private:
    void read();
    void take(sim::StreamMessage message);
    void request(sim::StreamRequest::Kind kind, std::int64_t index = 0);
    void end(const QString& reason);

    RolloutSetup m_setup;
    QProcess* m_process;
    sim::MessageSplitter m_splitter;
    std::shared_ptr<const ArmScene> m_scene;
    std::shared_ptr<const ArmSnapshot> m_latest;
    ArmSnapshot m_now; ///< What the next state message is put onto.
    QByteArray m_said; ///< End of the process's standard error.
    bool m_over = false;
};

} // namespace rankwise::bridge
