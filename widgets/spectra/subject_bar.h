// The two rows above the pages of the Spectra tab: what is shown, which curves, where the energy is cut; and how far
// the computation is. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/spectra/spectra_state.h"

#include <QStringList>
#include <QWidget>

#include <map>
#include <optional>
#include <vector>

class QCheckBox;
class QComboBox;
class QDoubleSpinBox;
class QHBoxLayout;
class QLabel;
class QProgressBar;
class QSlider;

namespace rankwise::spectra_view {

class SubjectBar : public QWidget {
    Q_OBJECT

public:
    /// Curves and η go to `state` at once; the rest is told by signals. `compute` stands behind the subjects.
    SubjectBar(SpectraState& state, QWidget* compute, QWidget* parent = nullptr);

    struct Choice {
        QString path;
        QString title;
    };
    void setSubjects(const std::vector<Choice>& choices, const QString& one, const QString& other);
    /// Curves that one of the subjects has.
    void setThere(const std::vector<Curve>& curves);
    /// Steps to choose among; none hides the slider.
    void setSteps(const std::vector<qint64>& steps, qint64 shown);
    /// `progress` in [0, 1] while a computation runs.
    void setStatus(const QStringList& parts, bool failed, std::optional<double> progress);

    [[nodiscard]] QSlider& etaSlider() { return *m_etaSlider; }
    [[nodiscard]] QSlider& stepSlider() { return *m_stepSlider; }

Q_SIGNALS:
    void subjectChosen(const QString& path);
    void besideChosen(const QString& path);
    void stepChosen(qint64 step);

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    void addSubjects(QHBoxLayout& row, QWidget* compute);
    void addCurves(QHBoxLayout& row);
    void addEta(QHBoxLayout& row);
    void elideStatus();

    SpectraState& m_state;
    QComboBox* m_subject;
    QComboBox* m_beside;
    std::map<Curve, QCheckBox*> m_shown;
    QSlider* m_etaSlider;
    QDoubleSpinBox* m_etaBox;
    QWidget* m_stepBar;
    QSlider* m_stepSlider;
    QLabel* m_stepLabel;
    std::vector<qint64> m_steps;
    QLabel* m_status;
    QString m_statusText; ///< Whole.
    QProgressBar* m_progress;
};

} // namespace rankwise::spectra_view
