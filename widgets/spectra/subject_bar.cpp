// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/subject_bar.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QProgressBar>
#include <QSignalBlocker>
#include <QSlider>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>

namespace rankwise::spectra_view {

namespace {
constexpr int kEtaScale = 1000;      ///< Slider steps from 0 to 1.
constexpr int kProgressScale = 1000; ///< Of the progress bar.
} // namespace

SubjectBar::SubjectBar(SpectraState& state, QWidget* compute, QWidget* parent)
    : QWidget(parent), m_state(state), m_subject(new QComboBox), m_beside(new QComboBox),
      m_etaSlider(new QSlider(Qt::Horizontal)), m_etaBox(new QDoubleSpinBox), m_stepBar(new QWidget),
      m_stepSlider(new QSlider(Qt::Horizontal)), m_stepLabel(new QLabel), m_status(new QLabel),
      m_progress(new QProgressBar)
{
    auto* first = new QHBoxLayout;
    addSubjects(*first, compute);
    addCurves(*first);
    addEta(*first);

    m_status->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_status->setProperty("role", QStringLiteral("dim"));
    m_progress->setRange(0, kProgressScale);
    m_progress->setTextVisible(false);
    m_progress->setMaximumWidth(160);
    m_progress->setAccessibleName(tr("Spectra computed"));
    m_progress->hide();
    auto* stepLayout = new QHBoxLayout(m_stepBar);
    stepLayout->setContentsMargins(0, 0, 0, 0);
    stepLayout->addWidget(new QLabel(tr("Step")));
    stepLayout->addWidget(m_stepSlider, 1);
    stepLayout->addWidget(m_stepLabel);
    m_stepSlider->setAccessibleName(tr("Step whose scores are shown"));
    m_stepLabel->setMinimumWidth(m_stepLabel->fontMetrics().horizontalAdvance(QStringLiteral("0000000")));
    m_stepBar->hide();
    auto* second = new QHBoxLayout;
    second->addWidget(m_status, 2);
    second->addWidget(m_stepBar, 1);
    second->addWidget(m_progress);

    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(6, 4, 6, 0);
    layout->setSpacing(4);
    layout->addLayout(first);
    layout->addLayout(second);

    connect(m_stepSlider, &QSlider::valueChanged, this, [this](int index) {
        if (index >= 0 && static_cast<std::size_t>(index) < m_steps.size()) {
            Q_EMIT stepChosen(m_steps[static_cast<std::size_t>(index)]);
        }
    });
}

void SubjectBar::addSubjects(QHBoxLayout& row, QWidget* compute)
{
    const auto prepare = [](QComboBox* box, const QString& name) {
        box->setAccessibleName(name);
        box->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
        box->setMinimumContentsLength(6); // they take what room there is
    };
    prepare(m_subject, tr("Subject of the spectra"));
    prepare(m_beside, tr("Second subject, beside the first"));
    row.addWidget(m_subject, 2);
    row.addWidget(new QLabel(tr("beside")));
    row.addWidget(m_beside, 2);
    row.addWidget(compute);
    connect(m_subject, &QComboBox::activated, this,
            [this] { Q_EMIT subjectChosen(m_subject->currentData().toString()); });
    connect(m_beside, &QComboBox::activated, this, [this] { Q_EMIT besideChosen(m_beside->currentData().toString()); });
}

void SubjectBar::addCurves(QHBoxLayout& row)
{
    for (const Curve curve : { Curve::Base, Curve::Delta, Curve::Merged, Curve::Scores }) {
        auto* box = new QCheckBox(bridge::curveName(curve));
        box->setChecked(true);
        box->setAccessibleName(tr("Show %1").arg(bridge::curveName(curve)));
        connect(box, &QCheckBox::toggled, this, [this, curve](bool on) { m_state.setShown(curve, on); });
        m_shown[curve] = box;
        row.addWidget(box);
    }
    m_shown[Curve::Base]->setToolTip(tr("The weights before"));
    m_shown[Curve::Delta]->setToolTip(tr("What training added"));
    m_shown[Curve::Merged]->setToolTip(tr("The weights with the update"));
    m_shown[Curve::Scores]->setToolTip(tr("Sorted routing scores of a run at the chosen step"));
}

void SubjectBar::addEta(QHBoxLayout& row)
{
    m_etaSlider->setRange(1, kEtaScale);
    m_etaSlider->setValue(static_cast<int>(m_state.eta() * kEtaScale));
    m_etaSlider->setAccessibleName(tr("Share η of the energy to keep"));
    m_etaBox->setRange(0.001, 1.0);
    m_etaBox->setDecimals(3);
    m_etaBox->setSingleStep(0.01);
    m_etaBox->setValue(m_state.eta());
    m_etaBox->setAccessibleName(tr("Share η of the energy to keep, as a number"));
    row.addWidget(new QLabel(QStringLiteral("η")));
    row.addWidget(m_etaSlider, 1);
    row.addWidget(m_etaBox);
    connect(m_etaSlider, &QSlider::valueChanged, this, [this](int value) {
        const QSignalBlocker blocker(m_etaBox);
        m_etaBox->setValue(static_cast<double>(value) / kEtaScale);
        m_state.setEta(static_cast<double>(value) / kEtaScale);
    });
    connect(m_etaBox, &QDoubleSpinBox::valueChanged, this, [this](double value) {
        const QSignalBlocker blocker(m_etaSlider);
        m_etaSlider->setValue(static_cast<int>(std::lround(value * kEtaScale)));
        m_state.setEta(value);
    });
}

void SubjectBar::setSubjects(const std::vector<Choice>& choices, const QString& one, const QString& other)
{
    const QSignalBlocker blockOne(m_subject);
    const QSignalBlocker blockOther(m_beside);
    m_subject->clear();
    m_beside->clear();
    m_beside->addItem(tr("nothing"), QString());
    for (const Choice& choice : choices) {
        for (QComboBox* box : { m_subject, m_beside }) {
            box->addItem(choice.title, choice.path);
            box->setItemData(box->count() - 1, choice.path, Qt::ToolTipRole);
        }
    }
    m_subject->setEnabled(!choices.empty());
    m_beside->setEnabled(choices.size() > 1);
    m_subject->setCurrentIndex(m_subject->findData(one));
    m_beside->setCurrentIndex(m_beside->findData(other));
    m_subject->setToolTip(one);
    m_beside->setToolTip(other);
}

void SubjectBar::setThere(const std::vector<Curve>& curves)
{
    for (const auto& [curve, box] : m_shown) {
        const bool there = std::ranges::find(curves, curve) != curves.end();
        box->setVisible(there || (curve == Curve::Base && curves.empty()));
    }
}

void SubjectBar::setSteps(const std::vector<qint64>& steps, qint64 shown)
{
    m_steps = steps;
    m_stepBar->setVisible(!steps.empty());
    if (steps.empty()) {
        return;
    }
    const auto after = shown < 0 ? steps.end() : std::ranges::upper_bound(steps, shown);
    const auto index = static_cast<int>(std::max<std::ptrdiff_t>(0, after - steps.begin() - 1));
    const QSignalBlocker blocker(m_stepSlider);
    m_stepSlider->setRange(0, static_cast<int>(steps.size()) - 1);
    m_stepSlider->setEnabled(steps.size() > 1);
    m_stepSlider->setValue(index);
    m_stepLabel->setText(QString::number(steps[static_cast<std::size_t>(index)]));
}

void SubjectBar::setStatus(const QStringList& parts, bool failed, std::optional<double> progress)
{
    m_progress->setVisible(progress.has_value());
    m_progress->setValue(static_cast<int>(std::lround(progress.value_or(0) * kProgressScale)));
    m_statusText = parts.join(QStringLiteral("  ·  "));
    m_status->setToolTip(parts.join(QLatin1Char('\n')));
    m_status->setAccessibleName(m_statusText);
    const QString role = failed ? QStringLiteral("bad") : QStringLiteral("dim");
    if (m_status->property("role").toString() != role) {
        m_status->setProperty("role", role);
        m_status->setStyleSheet(m_status->styleSheet()); // applies the theme's rule of the new role
    }
    elideStatus();
}

void SubjectBar::elideStatus()
{
    m_status->setText(m_status->fontMetrics().elidedText(m_statusText, Qt::ElideRight, m_status->width()));
}

void SubjectBar::resizeEvent(QResizeEvent* event)
{
    QWidget::resizeEvent(event);
    elideStatus();
}

} // namespace rankwise::spectra_view
