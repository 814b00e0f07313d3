// Colour maps that colour-blind eyes can read: viridis, cividis, and a diverging one with a neutral middle.
// Sources: viridis of matplotlib (CC0), cividis of Nuñez et al. 2018 (doi:10.1371/journal.pone.0199239), sampled at
// nine points and interpolated; the diverging map goes from blue over grey to orange.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QColor>
#include <QString>
#include <QStringList>

namespace rankwise::common {

enum class ColorMap { Viridis, Cividis, Diverging };

/// Colour at `t` in [0, 1]; values outside are clamped, NaN gives a mid grey.
[[nodiscard]] QRgb mapColor(ColorMap map, double t);
[[nodiscard]] QString colorMapName(ColorMap map);

} // namespace rankwise::common
