// A growing curve that draws in time bounded by pixels: a pyramid of minima and maxima over its points.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace rankwise::common {

/// x must not decrease. NaN in y is a gap. The pyramid grows when it is asked for, so that what nobody draws costs
/// nothing. Memory: 16 bytes a point and 2 for the pyramid. Thread: one at a time, also for what is const.
class Series {
public:
    void append(double x, double y);
    /// As many points as both have.
    void append(std::span<const double> x, std::span<const double> y);
    void clear();
    /// Drops points with x above `last`.
    void cutAbove(double last);

    [[nodiscard]] std::size_t size() const { return m_x.size(); }
    [[nodiscard]] double x(std::size_t i) const { return m_x[i]; }
    [[nodiscard]] double y(std::size_t i) const { return m_y[i]; }
    [[nodiscard]] double firstX() const { return m_x.empty() ? 0 : m_x.front(); }
    [[nodiscard]] double lastX() const { return m_x.empty() ? 0 : m_x.back(); }

    struct Extent {
        double low = 0;
        double high = 0;
        bool empty = true;
        void add(double value);
        void add(const Extent& other);
    };
    /// Smallest and largest finite y of points [from, to).
    [[nodiscard]] Extent extent(std::size_t from, std::size_t to) const;
    /// Index of the first point with x not below `value`.
    [[nodiscard]] std::size_t lowerBound(double value) const;
    /// Index of the point nearest to `value`; size() must not be 0.
    [[nodiscard]] std::size_t nearest(double value) const;

    /// Points to draw between xLow and xHigh with at most two a column of `columns`, in order; all of them when there
    /// are fewer. Gaps are NaN points.
    [[nodiscard]] std::vector<std::pair<double, double>> decimated(double xLow, double xHigh, int columns) const;

private:
    void coverAll() const;

    static constexpr std::size_t kFactor = 16; ///< Points of a level in one of the next.
    std::vector<double> m_x;
    std::vector<double> m_y;
    mutable std::vector<std::vector<Extent>> m_levels;
    mutable std::size_t m_covered = 0; ///< Points that the pyramid holds.
};

} // namespace rankwise::common
