// One of the two things whose spectra stand side by side: a checkpoint, an adapter, a run or a folder of spectra.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/spectra_computations.h"
#include "widgets/bridge/spectra_tail.h"
#include "widgets/bridge/workspace.h"

#include <QObject>
#include <QString>

#include <filesystem>
#include <map>
#include <memory>
#include <utility>

namespace rankwise::spectra_view {

/// Follows the spectra of its path, and the routing scores of a run at the selected step. Thread: GUI.
class SpectraSubject : public QObject {
    Q_OBJECT

public:
    using Snapshots = std::map<std::int64_t, std::filesystem::path>; ///< By step.

    SpectraSubject(bridge::Workspace& workspace, bridge::SpectraComputations& computations, QObject* parent);

    void setPath(const QString& path); ///< Empty: nothing.
    [[nodiscard]] const QString& path() const { return m_path; }
    [[nodiscard]] bridge::ItemKind kind() const { return m_kind; }
    /// Empty, and nullptr, while nothing is known of its spectra.
    [[nodiscard]] const bridge::SpectraTail* tail() const { return m_tail.get(); }
    [[nodiscard]] bool hasScores() const { return m_scores != nullptr; }
    [[nodiscard]] qint64 scoresStep() const { return m_scoresStep; }
    /// Of an open run that has some; else nullptr.
    [[nodiscard]] const Snapshots* snapshots() const;
    /// Curves of both sources, under its name; nullptr without a path.
    [[nodiscard]] bridge::SpectraSetPtr set();
    /// Nothing is left to compute.
    [[nodiscard]] bool settled() const;
    /// Reads the scores of the selected step, or of the last one.
    void loadScores();

Q_SIGNALS:
    void changed();
    void snapshotsChanged();
    void message(const QString& text);

private:
    void follow(const std::shared_ptr<bridge::SpectraTail>& tail);

    bridge::Workspace& m_workspace;
    bridge::SpectraComputations& m_computations;
    QString m_path;
    bridge::ItemKind m_kind = bridge::ItemKind::Other;
    std::shared_ptr<bridge::SpectraTail> m_tail;
    bridge::SpectraSetPtr m_scores;
    bridge::SpectraSetPtr m_made;                                       ///< Both together,
    std::pair<bridge::SpectraSetPtr, bridge::SpectraSetPtr> m_madeFrom; ///< made from these.
    qint64 m_scoresStep = -1;
    qint64 m_loadingStep = -1;
};

} // namespace rankwise::spectra_view
