// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/spectra_state.h"

#include "widgets/bridge/text.h"

#include <QCoreApplication>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

namespace rankwise::spectra_view {

namespace {
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::array kAllCurves { Curve::Base, Curve::Delta, Curve::Merged, Curve::Scores };
} // namespace

QString quantityName(Quantity quantity, double eta)
{
    const auto say = [](const char* text) { return QCoreApplication::translate("SpectraState", text); };
    switch (quantity) {
    case Quantity::Rank:
        return say("k(η = %1)").arg(bridge::numberText(eta));
    case Quantity::RankShare:
        return say("k(η = %1) / n").arg(bridge::numberText(eta));
    case Quantity::EffectiveRank:
        return say("effective rank");
    case Quantity::StableRank:
        return say("stable rank");
    case Quantity::Norm:
        return say("Frobenius norm");
    case Quantity::Change:
        return say("‖ΔW‖ / ‖W‖");
    case Quantity::PowerLaw:
        return say("power law α");
    }
    return {};
}

double quantityOf(const bridge::SpectraSet& set, std::size_t layer, Curve curve, Quantity quantity, double eta)
{
    const bridge::SpectrumPtr& spectrum = set.at(layer, curve);
    if (!spectrum) {
        return kNaN;
    }
    switch (quantity) {
    case Quantity::Rank:
        return static_cast<double>(spectrum->rank(eta));
    case Quantity::RankShare:
        return spectrum->sigma.empty()
            ? kNaN
            : static_cast<double>(spectrum->rank(eta)) / static_cast<double>(spectrum->sigma.size());
    case Quantity::EffectiveRank:
        return spectrum->measures.effectiveRank;
    case Quantity::StableRank:
        return spectrum->measures.stableRank;
    case Quantity::Norm:
        return curve == Curve::Scores ? kNaN : spectrum->measures.frobenius;
    case Quantity::Change:
        return curve == Curve::Delta ? set.change(layer).value_or(kNaN) : kNaN;
    case Quantity::PowerLaw:
        return spectrum->power ? spectrum->power->alpha : kNaN;
    }
    return kNaN;
}

SpectraState::SpectraState(QObject* parent) : QObject(parent), m_set(std::make_shared<bridge::SpectraSet>()) { }

void SpectraState::setSets(bridge::SpectraSetPtr set, bridge::SpectraSetPtr other)
{
    if (m_set == set && m_other == other) {
        return;
    }
    m_set = set ? std::move(set) : std::make_shared<bridge::SpectraSet>();
    m_other = std::move(other);
    m_otherIndex.clear();
    if (m_other) {
        std::unordered_map<std::string, int> places;
        for (std::size_t i = 0; i < m_other->layers.size(); ++i) {
            places.emplace(m_other->layers[i].path, static_cast<int>(i));
        }
        for (const data::SpectraLayer& layer : m_set->layers) {
            const auto place = places.find(layer.path);
            m_otherIndex.push_back(place == places.end() ? -1 : place->second);
        }
    }
    Q_EMIT setsChanged();
}

void SpectraState::setEta(double eta)
{
    if (m_eta != eta) {
        m_eta = eta;
        Q_EMIT etaChanged();
    }
}

void SpectraState::setShown(Curve curve, bool on)
{
    if (on != m_shown.contains(curve)) {
        if (on) {
            m_shown.insert(curve);
        } else {
            m_shown.erase(curve);
        }
        Q_EMIT shownChanged();
    }
}

void SpectraState::setLayers(const QStringList& layers)
{
    if (m_layers == layers) {
        return;
    }
    m_layers = layers;
    m_selected.clear();
    for (const QString& layer : layers) {
        m_selected.insert(layer.toStdString());
    }
    Q_EMIT layersChanged();
}

std::vector<Curve> SpectraState::there() const
{
    std::vector<Curve> curves;
    for (const Curve curve : kAllCurves) {
        if (m_set->has(curve) || (m_other && m_other->has(curve))) {
            curves.push_back(curve);
        }
    }
    return curves;
}

std::vector<Curve> SpectraState::curves() const
{
    std::vector<Curve> curves = there();
    std::erase_if(curves, [this](Curve curve) { return !shown(curve); });
    return curves;
}

bool SpectraState::isSelected(const std::string& path) const
{
    return m_selected.contains(path);
}

std::size_t colorOf(Curve curve)
{
    return static_cast<std::size_t>(curve);
}

QString shortName(const data::SpectraLayer& layer)
{
    return bridge::shortLayerName(layer.path);
}

} // namespace rankwise::spectra_view
