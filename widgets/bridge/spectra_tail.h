// Spectra as views show them: immutable sets of curves, followed in a folder that a worker fills, or taken from the
// snapshots of a run.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/spectra_folder.h"
#include "widgets/bridge/run_record.h"
#include "widgets/bridge/snapshot.h"

#include <QObject>
#include <QString>

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace rankwise {
class WorkerThread;
}

namespace rankwise::bridge {

/// What a curve is of: W, ΔW, W' = W + ΔW, or the routing scores of a run at a step (σ² is a direction's mean share).
enum class Curve { Base, Delta, Merged, Scores };
inline constexpr std::size_t kCurveKinds = 4;
[[nodiscard]] QString curveName(Curve curve); ///< "W", "ΔW", "W′", "scores"

/// One spectrum with what follows from it. Immutable.
struct SpectrumData {
    data::SpectrumPass pass = data::SpectrumPass::Exact;
    std::vector<double> sigma;  ///< Falling.
    std::vector<double> energy; ///< E(1) … E(n)
    data::SpectrumMeasures measures;
    std::optional<data::PowerLawFit> power;
    double error = 0; ///< Share of σ_1.

    /// Smallest k with E(k) ≥ eta; 0 without energy.
    [[nodiscard]] std::int64_t rank(double eta) const;
};
using SpectrumPtr = std::shared_ptr<const SpectrumData>;
[[nodiscard]] SpectrumPtr makeSpectrum(const data::SpectraLayer& layer, const data::SpectrumRecord& record);

/// All layers of one subject. Immutable; the parts are shared between versions.
struct SpectraSet {
    QString title;
    QStringList notes;
    std::vector<data::SpectraLayer> layers; ///< By group, depth and path.
    std::vector<std::array<SpectrumPtr, kCurveKinds>> spectra;

    [[nodiscard]] int indexOf(const QString& path) const; ///< -1: no such layer.
    [[nodiscard]] const SpectrumPtr& at(std::size_t layer, Curve curve) const
    {
        return spectra[layer][static_cast<std::size_t>(curve)];
    }
    [[nodiscard]] bool has(Curve curve) const;
    /// ‖ΔW‖ / ‖W‖; nothing without both.
    [[nodiscard]] std::optional<double> change(std::size_t layer) const;
};
using SpectraSetPtr = std::shared_ptr<const SpectraSet>;

/// Score spectra, and singular values where the run stored them, of a snapshot. `layers` gives groups and depths.
[[nodiscard]] SpectraSetPtr spectraOfSnapshot(const QString& title, const Snapshot& snapshot, const LayerTable& layers);
/// The first with the curves that only the second has.
[[nodiscard]] SpectraSetPtr joined(const SpectraSetPtr& one, const SpectraSetPtr& other);

/// Follows one folder of spectra, which need not be there yet. Thread: GUI.
class SpectraTail : public QObject {
    Q_OBJECT

public:
    explicit SpectraTail(QString folder, QObject* parent = nullptr);
    ~SpectraTail() override;

    [[nodiscard]] const QString& folder() const { return m_folder; }
    /// Empty (but never null) before the first.
    [[nodiscard]] const SpectraSetPtr& set() const { return m_set; }
    [[nodiscard]] const std::optional<data::SpectraHeader>& header() const { return m_header; }
    [[nodiscard]] data::SpectraState state() const { return m_state; }
    /// Whether a worker on this machine is filling the folder now.
    [[nodiscard]] bool running() const { return m_running; }
    /// Share of the work that is done, in [0, 1].
    [[nodiscard]] double progress() const { return m_progress; }
    /// Curves there are, exact ones, and curves there will be.
    [[nodiscard]] int present() const { return m_present; }
    [[nodiscard]] int exact() const { return m_exact; }
    [[nodiscard]] int expected() const { return m_expected; }
    /// Why it cannot be read, or why the worker failed; empty when all is well.
    [[nodiscard]] const QString& problem() const { return m_problem; }

Q_SIGNALS:
    void updated(); ///< Curves came, the state changed, or a problem.

private:
    struct Update;
    void apply(const Update& update);
    void count();

    QString m_folder;
    SpectraSetPtr m_set;
    std::optional<data::SpectraHeader> m_header;
    data::SpectraState m_state = data::SpectraState::Running;
    bool m_running = false;
    double m_progress = 0;
    int m_present = 0, m_exact = 0, m_expected = 0;
    QString m_problem;
    std::unique_ptr<WorkerThread> m_worker; ///< Last: joined first.
};

} // namespace rankwise::bridge
