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
}

void Series::append(std::span<const double> x, std::span<const double> y)
{
    const std::size_t count = std::min(x.size(), y.size());
    m_x.insert(m_x.end(), x.begin(), x.begin() + static_cast<std::ptrdiff_t>(count));
    m_y.insert(m_y.end(), y.begin(), y.begin() + static_cast<std::ptrdiff_t>(count));
}

/// Brings the pyramid up to the points: blocks that the new ones touch are made anew from what is below them.
void Series::coverAll() const
{
    if (m_covered == m_y.size()) {
        return;
    }
    std::size_t width = 1; // of a block, in points
    std::size_t below = m_y.size();
    for (std::size_t level = 0; level == 0 || below > 1; ++level) {
        width *= kFactor;
        const std::size_t count = (below + kFactor - 1) / kFactor;
        if (level == m_levels.size()) {
            m_levels.emplace_back();
        }
        std::vector<Extent>& row = m_levels[level];
        // A level that was not there, or covers less, is made from its own end on.
        std::size_t block = std::min(m_covered / width, row.empty() ? 0 : row.size() - 1);
        row.resize(count);
        for (; block < count; ++block) {
            Extent extent;
            const std::size_t end = std::min(below, (block + 1) * kFactor);
            for (std::size_t i = block * kFactor; i < end; ++i) {
                if (level == 0) {
                    extent.add(m_y[i]);
                } else {
                    extent.add(m_levels[level - 1][i]);
                }
            }
            row[block] = extent;
        }
        below = count;
    }
    m_covered = m_y.size();
}

void Series::clear()
{
    m_x.clear();
    m_y.clear();
    m_levels.clear();
    m_covered = 0;
}

void Series::cutAbove(double last)
{
    const auto keep = static_cast<std::size_t>(std::upper_bound(m_x.begin(), m_x.end(), last) - m_x.begin());
    if (keep < m_x.size()) {
        m_x.resize(keep);
        m_y.resize(keep);
        m_levels.clear();
        m_covered = 0;
    }
}

Series::Extent Series::extent(std::size_t from, std::size_t to) const
{
    coverAll();
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
