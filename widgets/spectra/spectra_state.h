// What the panels of the Spectra tab show: one subject, perhaps a second beside it, which curves, and where the energy
// is cut.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/spectra_tail.h"

#include <QColor>
#include <QObject>
#include <QString>
#include <QStringList>

#include <optional>
#include <set>
#include <vector>

namespace rankwise::spectra_view {

using bridge::Curve;

/// A number of each curve of a layer that can be drawn against the layers.
enum class Quantity { Rank, RankShare, EffectiveRank, StableRank, Norm, Change, PowerLaw };
inline constexpr std::array kQuantities { Quantity::Rank,       Quantity::RankShare, Quantity::EffectiveRank,
                                          Quantity::StableRank, Quantity::Norm,      Quantity::Change,
                                          Quantity::PowerLaw };
[[nodiscard]] QString quantityName(Quantity quantity, double eta);
/// NaN where there is none.
[[nodiscard]] double quantityOf(const bridge::SpectraSet& set, std::size_t layer, Curve curve, Quantity quantity,
                                double eta);

/// Shared by the panels. Thread: GUI.
class SpectraState : public QObject {
    Q_OBJECT

public:
    explicit SpectraState(QObject* parent = nullptr);

    /// `other` may be null.
    void setSets(bridge::SpectraSetPtr set, bridge::SpectraSetPtr other);
    void setEta(double eta);
    void setShown(Curve curve, bool on);
    /// Selected layers by path, the first is the one that is looked at closely.
    void setLayers(const QStringList& layers);

    [[nodiscard]] const bridge::SpectraSet& set() const { return *m_set; }
    /// The second subject; nullptr without one.
    [[nodiscard]] const bridge::SpectraSet* other() const { return m_other.get(); }
    /// Index of a layer of the first subject in the second; -1: not there.
    [[nodiscard]] int otherIndex(std::size_t layer) const
    {
        return layer < m_otherIndex.size() ? m_otherIndex[layer] : -1;
    }
    [[nodiscard]] double eta() const { return m_eta; }
    [[nodiscard]] bool shown(Curve curve) const { return m_shown.contains(curve); }
    /// Curves that some layer of either subject has,
    [[nodiscard]] std::vector<Curve> there() const;
    /// and those of them that are wanted.
    [[nodiscard]] std::vector<Curve> curves() const;
    [[nodiscard]] const QStringList& layers() const { return m_layers; }
    [[nodiscard]] QString layer() const { return m_layers.value(0); }
    [[nodiscard]] bool isSelected(const std::string& path) const;

Q_SIGNALS:
    void setsChanged();
    void etaChanged();
    void shownChanged();
    void layersChanged();

private:
    bridge::SpectraSetPtr m_set;
    bridge::SpectraSetPtr m_other;
    std::vector<int> m_otherIndex;
    double m_eta = 0.9;
    std::set<Curve> m_shown { Curve::Base, Curve::Delta, Curve::Merged, Curve::Scores };
    QStringList m_layers;
    std::set<std::string> m_selected;
};

/// Index of a curve's colour in the theme.
[[nodiscard]] std::size_t colorOf(Curve curve);
/// "self_attn.q_proj 3" and the like: enough to tell layers of one part apart.
[[nodiscard]] QString shortName(const data::SpectraLayer& layer);

} // namespace rankwise::spectra_view
