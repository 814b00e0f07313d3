// Computations of spectra as this window knows them: those it starts, and those that it finds running for what is open,
// whoever started them. A worker outlives the window, as a training run does.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/settings.h"
#include "widgets/bridge/spectra_tail.h"
#include "widgets/bridge/workspace.h"

#include <QObject>
#include <QPointer>
#include <QString>

#include <atomic>
#include <map>
#include <memory>
#include <optional>

namespace rankwise::bridge {

/// Whether spectra can be of an item of this kind.
[[nodiscard]] bool hasSpectra(ItemKind kind);

/// Each computation is a job of the workspace while it runs; cancelling that job ends the worker within 200 ms, and
/// what it computed stays. Thread: GUI; files are looked at in jobs without a title.
class SpectraComputations : public QObject {
    Q_OBJECT

public:
    SpectraComputations(Workspace& workspace, const Settings& settings, QObject* parent = nullptr);
    ~SpectraComputations() override;

    /// Has the spectra of an open item computed, going on from what is there. Nothing happens while busy().
    void start(const QString& subject);
    [[nodiscard]] bool busy(const QString& subject) const;
    /// Whether one that was started here is not at its end.
    [[nodiscard]] bool anyOfOurs() const;
    /// Whether the last computation was cancelled here.
    [[nodiscard]] bool cancelled(const QString& subject) const;

    /// Finds the spectra of an open item; located() follows.
    void locate(const QString& subject);
    /// Their folder; empty while it was not located.
    [[nodiscard]] QString folder(const QString& subject) const;

Q_SIGNALS:
    /// Whoever wants to go on following keeps `tail`. Again when the weights changed and have another folder.
    void located(const QString& subject, const std::shared_ptr<rankwise::bridge::SpectraTail>& tail);
    void changed(const QString& subject); ///< busy() or cancelled() changed.
    void failed(const QString& subject, const QString& message);

private:
    struct Computation {
        QString folder;
        std::weak_ptr<SpectraTail> tail;
        std::shared_ptr<SpectraTail> held; ///< While there is a job.
        QPointer<Job> job;
        std::shared_ptr<std::atomic<bool>> launching; ///< Until the worker has the folder; true: cancelled.
        bool ours = false;                            ///< The job was started here.
        std::optional<data::SpectraHeader> worker;    ///< That the job is of.
        double since = 0;                             ///< Start of the last computation that was launched here,
        double ended = 0;                             ///< and of the last one that was cancelled here.
    };
    void probe(const WorkspaceItem& item);
    std::shared_ptr<SpectraTail> follow(const QString& subject, const QString& folder);
    void update(const QString& subject);
    void announce(const QString& subject, Computation& computation);
    void cancel(const QString& subject);
    void end(const QString& subject, Job::State state, const QString& failure = {});
    [[nodiscard]] ItemKind kindOf(const QString& subject) const;

    Workspace& m_workspace;
    const Settings& m_settings;
    std::map<QString, Computation> m_computations; ///< By subject.
};

} // namespace rankwise::bridge
