// Looking closely at one layer: its singular values, and their cumulative energy with the cut at k(η).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/line_chart.h"
#include "widgets/spectra/spectra_state.h"

#include <QWidget>

class QComboBox;
class QLabel;

namespace rankwise::spectra_view {

class CurvePanel : public QWidget {
    Q_OBJECT

public:
    explicit CurvePanel(SpectraState& state, QWidget* parent = nullptr);

    [[nodiscard]] common::LineChart& values() { return *m_values; }
    [[nodiscard]] common::LineChart& energy() { return *m_energy; }
    [[nodiscard]] QComboBox& layers() { return *m_layer; }

Q_SIGNALS:
    void picked(const QStringList& layers);

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    void fillLayers();
    void elideNote();
    void showCurves();
    void addSubject(const bridge::SpectraSet& set, const QString& path, bool other,
                    std::vector<common::LineChart::Curve>& values, std::vector<common::LineChart::Curve>& energy,
                    QStringList& notes) const;

    SpectraState& m_state;
    common::LineChart* m_values;
    common::LineChart* m_energy;
    QComboBox* m_layer;
    QLabel* m_note;
    bool m_fits = true; ///< Draw the power laws.
    QString m_noteText; ///< Whole.
};

} // namespace rankwise::spectra_view
