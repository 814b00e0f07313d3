// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rankwise::common {

void Series::Extent::add(double value)
{
    if (!std::isfinite(value)) {
        return;
    }
    low = empty ? value : std::min(low, value);
    high = empty ? value : std::max(high, value);
    empty = false;
}

void Series::Extent::add(const Extent& other)
{
    if (!other.empty) {
        add(other.low);
        add(other.high);
    }
}

void Series::append(double x, double y)
{
    m_x.push_back(x);
    m_y.push_back(y);
    std::size_t index = m_y.size() - 1;
    for (std::size_t level = 0; index > 0 || level == 0; ++level) {
        index /= kFactor;
        if (level == m_levels.size()) {
            if (level > 0 && m_levels[level - 1].size() <= 1) {
                break;
            }
            m_levels.emplace_back();
            // A new top level starts with what the level below holds already.
            if (level > 0) {
                for (const Extent& below : m_levels[level - 1]) {
                    if (m_levels[level].empty()) {
                        m_levels[level].emplace_back();
                    }
                    m_levels[level].back().add(below);
                }
            }
        }
        std::vector<Extent>& row = m_levels[level];
        if (index >= row.size()) {
            row.resize(index + 1);
        }
        row[index].add(y);
    }
}

void Series::clear()
{
    m_x.clear();
    m_y.clear();
    m_levels.clear();
}

void Series::cutAbove(double last)
{
    const auto keep = static_cast<std::size_t>(std::upper_bound(m_x.begin(), m_x.end(), last) - m_x.begin());
    if (keep == m_x.size()) {
        return;
    }
    std::vector<double> x(m_x.begin(), m_x.begin() + static_cast<std::ptrdiff_t>(keep));
    std::vector<double> y(m_y.begin(), m_y.begin() + static_cast<std::ptrdiff_t>(keep));
    clear();
    for (std::size_t i = 0; i < keep; ++i) {
        append(x[i], y[i]);
    }
}

Series::Extent Series::extent(std::size_t from, std::size_t to) const
{
    Extent result;
    to = std::min(to, m_y.size());
    while (from < to) {
        // The largest block that starts here and ends inside.
        std::size_t level = 0;
        std::size_t width = 1;
        while (level < m_levels.size() && from % (width * kFactor) == 0 && from + width * kFactor <= to
               && from / (width * kFactor) < m_levels[level].size()) {
            width *= kFactor;
            ++level;
        }
        if (level == 0) {
            result.add(m_y[from]);
        } else {
            result.add(m_levels[level - 1][from / width]);
        }
        from += width;
    }
    return result;
}

std::size_t Series::lowerBound(double value) const
{
    return static_cast<std::size_t>(std::lower_bound(m_x.begin(), m_x.end(), value) - m_x.begin());
}

std::size_t Series::nearest(double value) const
{
    const std::size_t after = lowerBound(value);
    if (after == 0) {
        return 0;
    }
    if (after == m_x.size() || value - m_x[after - 1] <= m_x[after] - value) {
        return after - 1;
    }
    return after;
}

std::vector<std::pair<double, double>> Series::decimated(double xLow, double xHigh, int columns) const
{
    std::vector<std::pair<double, double>> points;
    if (m_x.empty() || columns < 1 || !(xHigh > xLow)) {
        if (!m_x.empty()) {
            points.emplace_back(m_x[0], m_y[0]);
        }
        return points;
    }
    // One point beyond each edge, so that the curve leaves the picture where it should.
    std::size_t from = lowerBound(xLow);
    from = from > 0 ? from - 1 : 0;
    const std::size_t to = std::min(m_x.size(), lowerBound(xHigh) + 1);
    if (to - from <= static_cast<std::size_t>(columns) * 2) {
        for (std::size_t i = from; i < to; ++i) {
            points.emplace_back(m_x[i], m_y[i]);
        }
        return points;
    }
    const double width = (xHigh - xLow) / columns;
    points.reserve(static_cast<std::size_t>(columns) * 2 + 4);
    std::size_t begin = from;
    for (int c = 0; c < columns && begin < to; ++c) {
        const double edge = xLow + (c + 1) * width;
        const std::size_t end = c + 1 == columns ? to : std::min(to, std::max(begin, lowerBound(edge)));
        if (end == begin) {
            continue;
        }
        const Extent range = extent(begin, end);
        const double middle = std::clamp(0.5 * (m_x[begin] + m_x[end - 1]), xLow, xHigh);
        if (range.empty) {
            points.emplace_back(middle, std::numeric_limits<double>::quiet_NaN());
        } else {
            // The order within a column follows the points, so that slopes look right.
            const bool rising = m_y[begin] <= m_y[end - 1];
            points.emplace_back(middle, rising ? range.low : range.high);
            if (range.high > range.low) {
                points.emplace_back(middle, rising ? range.high : range.low);
            }
        }
        begin = end;
    }
    return points;
}

} // namespace rankwise::common
