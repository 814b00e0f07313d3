// The spectra as a surface: layer × index / n × σ / σ_1, in 3D. The second subject stands beside the first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/column_model.h"
#include "widgets/common/canvas_frame.h"
#include "widgets/spectra/spectra_scene.h"
#include "widgets/spectra/spectra_state.h"

#include <QPointF>

#include <memory>

class QComboBox;

namespace rankwise::common {
class VtkView;
}

namespace rankwise::spectra_view {

class SurfaceView : public common::CanvasFrame {
    Q_OBJECT

public:
    explicit SurfaceView(SpectraState& state, QWidget* parent = nullptr);
    ~SurfaceView() override;

    /// nullptr without OpenGL; the table is there all the same.
    [[nodiscard]] common::VtkView* canvas() const { return m_view; }
    /// Curve drawn now; nothing while there is none.
    [[nodiscard]] std::optional<Curve> curve() const;
    /// The layer whose ridge comes nearest to a point of the canvas; empty when none is near.
    [[nodiscard]] QString layerAt(const QPointF& at) const;

    static constexpr int kSamples = SpectraScene::kSamples;

Q_SIGNALS:
    void picked(const QStringList& layers);

protected:
    void paintPicture(QPainter& painter, const QSizeF& size) override;
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    SurfaceView(std::unique_ptr<bridge::ColumnModel> table, SpectraState& state, QWidget* parent);
    void scheduleBuild();
    void build();
    void buildScene();
    void fillTable();
    void fillChoice();
    void showSelection();
    void goHome();

    std::unique_ptr<bridge::ColumnModel> m_numbers;
    SpectraState& m_state;
    common::VtkView* m_view = nullptr;
    QComboBox* m_which;
    QComboBox* m_scale;
    std::unique_ptr<SpectraScene> m_scene;
    bool m_scheduled = false;
    bool m_sceneIsOld = true; ///< It is built when it is seen.
    int m_home = -1;          ///< Subjects that the camera was placed for.
};

} // namespace rankwise::spectra_view
