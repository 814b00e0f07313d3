// The 3D scene of the surface of spectra: one ridge a layer, its height σ / σ_1. A second subject stands beside the
// first. SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/common/theme.h"
#include "widgets/spectra/spectra_state.h"

#include <QPointF>

#include <memory>
#include <vector>

class vtkRenderer;

namespace rankwise::spectra_view {

/// How a scene is drawn.
struct SceneStyle {
    bool logarithmic = false; ///< Height over four decades.
    int fontSize = 12;        ///< Of its labels.
    const common::Theme& theme;
};

/// Builds into a renderer that lives longer. Thread: GUI.
class SpectraScene {
public:
    static constexpr int kSamples = 41; ///< Along the index.
    /// σ / σ_1 at the even place `sample` of kSamples along i / n.
    [[nodiscard]] static double share(const bridge::SpectrumData& spectrum, int sample);

    explicit SpectraScene(vtkRenderer& renderer);
    ~SpectraScene();

    void showNothing(const QString& words, const SceneStyle& style);
    void show(const SpectraState& state, Curve curve, const SceneStyle& style);
    void showSelection(const SpectraState& state, const QColor& color);
    /// Subjects that are shown.
    [[nodiscard]] int subjects() const;
    /// A place to look at and a distance that show everything.
    struct Home {
        double x = 0, y = 0, z = 0, distance = 0;
    };
    [[nodiscard]] Home home() const;
    /// The layer whose ridge comes nearest to `at`, in the coordinates of the renderer's window; empty when none is
    /// within `reach`.
    [[nodiscard]] QString layerAt(const QPointF& at, double reach) const;

private:
    struct Parts;
    struct Ridge;
    void addSubject(const bridge::SpectraSet& set, Curve curve, double left, bool named, const SceneStyle& style,
                    std::vector<Ridge>& ridges);
    void addParts(const bridge::SpectraSet& set, const std::vector<Ridge>& ridges, double left,
                  const SceneStyle& style);
    void addAxes(double right, const SceneStyle& style);

    vtkRenderer& m_renderer;
    std::unique_ptr<Parts> m_parts;
};

} // namespace rankwise::spectra_view
