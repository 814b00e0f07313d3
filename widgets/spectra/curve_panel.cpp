// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/curve_panel.h"

#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"

#include <QCheckBox>
#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QSignalBlocker>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

namespace rankwise::spectra_view {

using bridge::numberText;
using bridge::toQString;
using common::LineChart;

namespace {

constexpr qsizetype kMostBeside = 12; ///< Further selected layers drawn faintly.
constexpr std::size_t kNeutral = 7;   ///< Colour of what is no curve of its own.

std::shared_ptr<common::Series> seriesOf(const std::vector<double>& values, bool fromZero)
{
    auto series = std::make_shared<common::Series>();
    if (fromZero) {
        series->append(0, 0);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        series->append(static_cast<double>(i + 1), values[i]);
    }
    return series;
}

/// A straight line between two points; x must not fall.
std::shared_ptr<common::Series> segment(double x1, double y1, double x2, double y2)
{
    auto series = std::make_shared<common::Series>();
    series->append(x1, y1);
    series->append(x2, y2);
    return series;
}

/// What the fit of the tail says of σ_i. Of `count` eigenvalues from xmin on, count · (λ / xmin)^(1 - α) are λ or
/// larger.
std::shared_ptr<common::Series> powerLawSeries(const data::PowerLawFit& fit)
{
    auto series = std::make_shared<common::Series>();
    for (std::int64_t i = 1; i <= fit.count; ++i) {
        const double share = static_cast<double>(i) / static_cast<double>(fit.count);
        series->append(static_cast<double>(i), std::sqrt(fit.xmin * std::pow(share, 1 / (1 - fit.alpha))));
    }
    return series;
}

QString powerLawText(const QString& name, const data::PowerLawFit& fit)
{
    return CurvePanel::tr("%1 %2 (%n largest)", nullptr, static_cast<int>(fit.count)).arg(name, numberText(fit.alpha));
}

/// Values that a logarithmic axis can show: rounding below 1e-14 of the largest is left out.
std::vector<double> positive(const std::vector<double>& sigma)
{
    std::vector<double> kept;
    for (const double value : sigma) {
        if (value > sigma.front() * 1e-14 && value > 0) {
            kept.push_back(value);
        }
    }
    return kept;
}

} // namespace

CurvePanel::CurvePanel(SpectraState& state, QWidget* parent)
    : QWidget(parent), m_state(state), m_values(new LineChart(tr("Singular values"), tr("index i"), tr("σ_i"), this)),
      m_energy(new LineChart(tr("Cumulative energy"), tr("k"), tr("E(k)"), this)), m_layer(new QComboBox),
      m_note(new QLabel)
{
    m_values->setLogarithmic(true);
    m_layer->setAccessibleName(tr("Layer looked at"));
    m_layer->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    m_layer->setMinimumContentsLength(26);
    m_note->setProperty("role", QStringLiteral("dim"));
    m_note->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    auto* bar = new QHBoxLayout;
    bar->addWidget(new QLabel(tr("Layer")));
    bar->addWidget(m_layer);
    auto* logarithmic = new QCheckBox(tr("logarithmic"));
    logarithmic->setChecked(true);
    logarithmic->setToolTip(tr("Logarithmic axis of the singular values"));
    logarithmic->setAccessibleName(tr("Logarithmic axis of the singular values"));
    auto* fits = new QCheckBox(tr("power law"));
    fits->setChecked(m_fits);
    fits->setToolTip(tr("The power law that fits the tail of the eigenvalues σ² best"));
    fits->setAccessibleName(tr("Show the power laws"));
    auto* valuesView = new common::ChartView(*m_values);
    bar->addWidget(fits);
    bar->addWidget(logarithmic);
    bar->addStretch();
    auto* charts = new QHBoxLayout;
    charts->addWidget(valuesView, 1);
    charts->addWidget(new common::ChartView(*m_energy), 1);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addLayout(bar);
    layout->addWidget(m_note);
    layout->addLayout(charts, 1);
    connect(logarithmic, &QCheckBox::toggled, m_values, &LineChart::setLogarithmic);
    connect(fits, &QCheckBox::toggled, this, [this](bool on) {
        m_fits = on;
        showCurves();
    });
    connect(m_layer, &QComboBox::activated, this, [this] { Q_EMIT picked({ m_layer->currentData().toString() }); });
    connect(&state, &SpectraState::setsChanged, this, [this] {
        fillLayers();
        showCurves();
    });
    connect(&state, &SpectraState::layersChanged, this, [this] {
        fillLayers();
        showCurves();
    });
    connect(&state, &SpectraState::shownChanged, this, &CurvePanel::showCurves);
    connect(&state, &SpectraState::etaChanged, this, &CurvePanel::showCurves);
    fillLayers();
    showCurves();
}

void CurvePanel::fillLayers()
{
    const auto& layers = m_state.set().layers;
    const QSignalBlocker blocker(m_layer);
    if (m_layer->count() != static_cast<int>(layers.size())
        || (!layers.empty() && m_layer->itemData(0).toString() != toQString(layers.front().path))) {
        m_layer->clear();
        for (const data::SpectraLayer& layer : layers) {
            m_layer->addItem(shortName(layer), toQString(layer.path));
            m_layer->setItemData(m_layer->count() - 1, toQString(layer.path), Qt::ToolTipRole);
        }
    }
    m_layer->setEnabled(!layers.empty());
    m_layer->setCurrentIndex(m_layer->findData(m_state.layer()));
}

void CurvePanel::addSubject(const bridge::SpectraSet& set, const QString& path, bool other,
                            std::vector<LineChart::Curve>& values, std::vector<LineChart::Curve>& energy,
                            QStringList& notes) const
{
    const int index = set.indexOf(path);
    if (index < 0) {
        return;
    }
    const bool two = m_state.other() != nullptr; // names for six curves fit only when they are short
    QStringList effective;
    QStringList stable;
    QStringList laws;
    std::vector<Curve> curves = m_state.curves();
    std::ranges::reverse(curves); // the legend begins with the last one
    for (const Curve curve : curves) {
        const bridge::SpectrumPtr& spectrum = set.at(static_cast<std::size_t>(index), curve);
        if (!spectrum || spectrum->sigma.empty()) {
            continue;
        }
        const QString name = bridge::curveName(curve) + (other ? QStringLiteral("₂") : QString());
        const std::size_t color = colorOf(curve) + (other ? bridge::kCurveKinds : 0);
        const bool estimate = spectrum->pass == data::SpectrumPass::Coarse;
        values.push_back({ .name = estimate ? tr("%1 estimate").arg(name) : name,
                           .series = seriesOf(positive(spectrum->sigma), false),
                           .color = color,
                           .faint = estimate,
                           .broad = curve == Curve::Base });
        if (spectrum->power && !other) {
            laws.prepend(powerLawText(name, *spectrum->power));
            if (m_fits && spectrum->power->alpha > 1) {
                values.push_back({ .name = {}, .series = powerLawSeries(*spectrum->power), .color = kNeutral });
            }
        }
        if (!(spectrum->measures.frobenius > 0)) {
            continue; // no energy to share out
        }
        const std::int64_t k = spectrum->rank(m_state.eta());
        const auto last = static_cast<std::size_t>(std::max<std::int64_t>(k, 1) - 1);
        energy.push_back({ .name = QString(),
                           .series = segment(static_cast<double>(k), 0, static_cast<double>(k), spectrum->energy[last]),
                           .color = color });
        energy.push_back({ .name = two ? tr("%1: %2").arg(name).arg(k)
                                       : tr("%1: k = %2/%3").arg(name).arg(k).arg(spectrum->sigma.size()),
                           .series = seriesOf(spectrum->energy, true),
                           .color = color,
                           .faint = estimate,
                           .broad = curve == Curve::Base });
        if (!other) {
            effective.prepend(QStringLiteral("%1 %2").arg(name, numberText(spectrum->measures.effectiveRank)));
            stable.prepend(QStringLiteral("%1 %2").arg(name, numberText(spectrum->measures.stableRank)));
        }
    }
    if (!effective.isEmpty()) {
        notes << tr("effective rank: %1").arg(effective.join(QStringLiteral(", ")))
              << tr("stable rank: %1").arg(stable.join(QStringLiteral(", ")));
    }
    if (!laws.isEmpty()) {
        notes << tr("power law α: %1").arg(laws.join(QStringLiteral(", ")));
    }
}

void CurvePanel::showCurves()
{
    std::vector<LineChart::Curve> values;
    std::vector<LineChart::Curve> energy;
    QStringList notes;
    const QString path = m_state.layer();
    const bridge::SpectraSet& set = m_state.set();
    // What else is selected, faintly, of the first curve there is. The last curves stand first in the legend.
    const std::vector<Curve> curves = m_state.curves();
    for (qsizetype i = 1; i < std::min(m_state.layers().size(), kMostBeside + 1) && !curves.empty(); ++i) {
        const int beside = set.indexOf(m_state.layers()[i]);
        if (beside < 0 || !set.at(static_cast<std::size_t>(beside), curves.front())) {
            continue;
        }
        const bridge::SpectrumPtr& spectrum = set.at(static_cast<std::size_t>(beside), curves.front());
        const QString name = shortName(set.layers[static_cast<std::size_t>(beside)]);
        values.push_back(
            { .name = name, .series = seriesOf(positive(spectrum->sigma), false), .color = kNeutral, .faint = true });
        energy.push_back(
            { .name = name, .series = seriesOf(spectrum->energy, true), .color = kNeutral, .faint = true });
    }
    double widest = 0;
    for (const bridge::SpectraSet* from : { &set, m_state.other() }) {
        const int at = from != nullptr ? from->indexOf(path) : -1;
        for (std::size_t c = 0; at >= 0 && c < bridge::kCurveKinds; ++c) {
            const bridge::SpectrumPtr& spectrum = from->spectra[static_cast<std::size_t>(at)][c];
            widest = std::max(widest, spectrum ? static_cast<double>(spectrum->sigma.size()) : 0.0);
        }
    }
    if (widest > 0) {
        const double eta = m_state.eta();
        energy.push_back({ .name = tr("η = %1").arg(numberText(eta)),
                           .series = segment(0, eta, widest, eta),
                           .color = kNeutral,
                           .faint = true });
    }
    if (m_state.other() != nullptr) {
        addSubject(*m_state.other(), path, true, values, energy, notes);
    }
    addSubject(set, path, false, values, energy, notes);
    const int index = set.indexOf(path);
    const QString name = index >= 0 ? shortName(set.layers[static_cast<std::size_t>(index)]) : QString();
    m_values->setTitle(name.isEmpty() ? tr("Singular values") : tr("Singular values of %1").arg(name));
    m_energy->setTitle(name.isEmpty() ? tr("Cumulative energy") : tr("Cumulative energy of %1").arg(name));
    m_values->setCurves(std::move(values));
    m_energy->setCurves(std::move(energy));
    QString text = notes.join(QStringLiteral("  ·  "));
    if (m_state.other() != nullptr) {
        text += tr("  ·  ₂: %1").arg(m_state.other()->title);
    }
    if (m_state.layers().size() > 1) {
        text += tr("  ·  %n more selected", nullptr, static_cast<int>(m_state.layers().size() - 1));
    }
    m_noteText = text;
    m_note->setToolTip(text);
    elideNote();
}

void CurvePanel::elideNote()
{
    m_note->setText(m_note->fontMetrics().elidedText(m_noteText, Qt::ElideRight, m_note->width()));
}

void CurvePanel::resizeEvent(QResizeEvent* event)
{
    QWidget::resizeEvent(event);
    elideNote();
}

} // namespace rankwise::spectra_view
