// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/chart.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace rankwise::common {

Chart::Chart(QString title, QObject* parent) : QObject(parent), m_title(std::move(title)) { }

void Chart::setTitle(const QString& title)
{
    if (title != m_title) {
        m_title = title;
        Q_EMIT titleChanged();
        Q_EMIT changed();
    }
}

double Axis::pixel(double v) const
{
    double f = 0;
    if (logarithmic) {
        const double a = std::log10(std::max(low, 1e-300));
        const double b = std::log10(std::max(high, 1e-300));
        f = b > a ? (std::log10(std::max(v, 1e-300)) - a) / (b - a) : 0.5;
    } else {
        f = high > low ? (v - low) / (high - low) : 0.5;
    }
    return from + f * (to - from);
}

double Axis::value(double p) const
{
    const double f = to != from ? (p - from) / (to - from) : 0;
    if (logarithmic) {
        const double a = std::log10(std::max(low, 1e-300));
        const double b = std::log10(std::max(high, 1e-300));
        return std::pow(10.0, a + f * (b - a));
    }
    return low + f * (high - low);
}

std::vector<double> Axis::ticks(int count) const
{
    std::vector<double> marks;
    if (!(high > low) || count < 1) {
        return { low };
    }
    if (logarithmic) {
        const int first = static_cast<int>(std::ceil(std::log10(std::max(low, 1e-300)) - 1e-9));
        const int last = static_cast<int>(std::floor(std::log10(std::max(high, 1e-300)) + 1e-9));
        const int every = std::max(1, (last - first + count) / count);
        for (int e = first; e <= last; e += every) {
            marks.push_back(std::pow(10.0, e));
        }
        if (marks.size() < 2) { // less than a decade: 1, 2, 5
            marks.clear();
            for (int e = first - 1; e <= last + 1; ++e) {
                for (const double m : { 1.0, 2.0, 5.0 }) {
                    const double v = m * std::pow(10.0, e);
                    if (v >= low && v <= high) {
                        marks.push_back(v);
                    }
                }
            }
        }
        return marks;
    }
    const double raw = (high - low) / count;
    const double power = std::pow(10.0, std::floor(std::log10(raw)));
    const double unit = raw / power;
    // One mark alone says nothing about the scale: the next finer step then.
    const std::array steps { 10.0, 5.0, 2.0, 1.0, 0.5, 0.2 };
    std::size_t at = unit <= 1 ? 3 : unit <= 2 ? 2 : unit <= 5 ? 1 : 0;
    for (; marks.size() < 2 && at < steps.size(); ++at) {
        marks.clear();
        const double step = power * steps[at];
        for (double v = std::ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) {
            marks.push_back(std::abs(v) < step * 1e-9 ? 0 : v);
        }
    }
    return marks;
}

std::pair<double, double> roundedRange(double low, double high)
{
    if (!(high > low)) {
        const double pad = low == 0 ? 1 : std::abs(low) * 0.1;
        return { low - pad, low + pad };
    }
    const double pad = (high - low) * 0.05;
    return { low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad };
}

int tickCount(const PlotSurface& surface, double height)
{
    return std::max(2, static_cast<int>(height / (2.4 * surface.textSize(QStringLiteral("0"), 0.9).height())));
}

void paintAxes(PlotSurface& surface, const QRectF& plot, const Axis& x, const Axis& y, const Theme& theme,
               const QString& xLabel, const QString& yLabel, bool xIsInteger)
{
    constexpr double kScale = 0.9;
    for (const double v : y.ticks(tickCount(surface, plot.height()))) {
        const double p = y.pixel(v);
        surface.line({ plot.left(), p }, { plot.right(), p }, theme.grid, 1);
        surface.text({ plot.left() - 5, p }, bridge::numberText(v), theme.dimText, Qt::AlignRight | Qt::AlignVCenter,
                     kScale);
    }
    const double widest = surface.textSize(QStringLiteral("000 000"), kScale).width();
    double free = plot.left() - widest;
    const double labelWidth = xLabel.isEmpty() ? 0 : surface.textSize(xLabel, kScale).width() + 8;
    for (const double v : x.ticks(std::max(2, static_cast<int>(plot.width() / (1.6 * widest))))) {
        if (xIsInteger && std::abs(v - std::round(v)) > 1e-6) {
            continue;
        }
        const double p = x.pixel(v);
        surface.line({ p, plot.top() }, { p, plot.bottom() }, theme.grid, 1);
        const QString label = bridge::numberText(v);
        const double half = surface.textSize(label, kScale).width() / 2;
        if (p - half > free + 6 && p + half < plot.right() - labelWidth) {
            surface.text({ p, plot.bottom() + 3 }, label, theme.dimText, Qt::AlignHCenter | Qt::AlignTop, kScale);
            free = p + half;
        }
    }
    surface.strokeRect(plot, theme.border, 1);
    if (!xLabel.isEmpty()) {
        surface.text({ plot.right(), plot.bottom() + 3 }, xLabel, theme.dimText, Qt::AlignRight | Qt::AlignTop, kScale);
    }
    if (!yLabel.isEmpty()) {
        surface.text({ plot.left(), plot.top() - 3 }, yLabel, theme.dimText, Qt::AlignLeft | Qt::AlignBottom, kScale);
    }
}

} // namespace rankwise::common
