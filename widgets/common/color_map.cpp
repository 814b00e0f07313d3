// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/color_map.h"

#include <QCoreApplication>

#include <algorithm>
#include <array>
#include <cmath>

namespace rankwise::common {

namespace {

using Stops = std::array<QRgb, 9>;

constexpr Stops kViridis { 0xff440154, 0xff482878, 0xff3e4a89, 0xff31688e, 0xff26828e,
                           0xff1f9e89, 0xff35b779, 0xff90d743, 0xfffde725 };
constexpr Stops kCividis { 0xff00204d, 0xff00306f, 0xff2a406c, 0xff48526b, 0xff666970,
                           0xff848279, 0xffa69d75, 0xffcbba69, 0xffffea46 };
constexpr Stops kDiverging { 0xff1a5fb4, 0xff4a86cf, 0xff86aedd, 0xffb9cbe0, 0xffd9d9d9,
                             0xffe9c7a4, 0xffe6a566, 0xffd07f2c, 0xffa65200 };

int mix(int a, int b, double f)
{
    return static_cast<int>(std::lround(a + (b - a) * f));
}

} // namespace

QRgb mapColor(ColorMap map, double t)
{
    if (!std::isfinite(t)) {
        return qRgb(128, 128, 128);
    }
    const Stops& stops = map == ColorMap::Viridis ? kViridis : map == ColorMap::Cividis ? kCividis : kDiverging;
    const double x = std::clamp(t, 0.0, 1.0) * (static_cast<double>(stops.size()) - 1);
    const auto i = std::min(static_cast<std::size_t>(x), stops.size() - 2);
    const double f = x - static_cast<double>(i);
    return qRgb(mix(qRed(stops[i]), qRed(stops[i + 1]), f), mix(qGreen(stops[i]), qGreen(stops[i + 1]), f),
                mix(qBlue(stops[i]), qBlue(stops[i + 1]), f));
}

QString colorMapName(ColorMap map)
{
    switch (map) {
    case ColorMap::Viridis:
        return QStringLiteral("viridis");
    case ColorMap::Cividis:
        return QStringLiteral("cividis");
    case ColorMap::Diverging:
        return QStringLiteral("diverging");
    }
    return {};
}

} // namespace rankwise::common
