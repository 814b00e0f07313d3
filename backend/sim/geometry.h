// Small vectors and rotations of the simulation. Metres and radians, right-handed, rotations row-major;
// `aFromB` maps coordinates of frame B to frame A.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

namespace rankwise::sim {

using Vec3 = std::array<double, 3>;
using Mat3 = std::array<double, 9>; ///< Row-major.

struct Pose {
    Vec3 position {};
    Mat3 rotation { 1, 0, 0, 0, 1, 0, 0, 0, 1 };
};

[[nodiscard]] inline Vec3 operator+(const Vec3& a, const Vec3& b)
{
    return { a[0] + b[0], a[1] + b[1], a[2] + b[2] };
}
[[nodiscard]] inline Vec3 operator-(const Vec3& a, const Vec3& b)
{
    return { a[0] - b[0], a[1] - b[1], a[2] - b[2] };
}
[[nodiscard]] inline Vec3 operator*(double s, const Vec3& a)
{
    return { s * a[0], s * a[1], s * a[2] };
}
[[nodiscard]] inline double dot(const Vec3& a, const Vec3& b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
[[nodiscard]] inline Vec3 cross(const Vec3& a, const Vec3& b)
{
    return { a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0] };
}
[[nodiscard]] inline double norm(const Vec3& a)
{
    return std::sqrt(dot(a, a));
}
[[nodiscard]] inline Vec3 operator*(const Mat3& r, const Vec3& v)
{
    return { r[0] * v[0] + r[1] * v[1] + r[2] * v[2], r[3] * v[0] + r[4] * v[1] + r[5] * v[2],
             r[6] * v[0] + r[7] * v[1] + r[8] * v[2] };
}
[[nodiscard]] inline Mat3 operator*(const Mat3& a, const Mat3& b)
{
    Mat3 c {};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
        }
    }
    return c;
}
[[nodiscard]] inline Mat3 transposed(const Mat3& r)
{
    return { r[0], r[3], r[6], r[1], r[4], r[7], r[2], r[5], r[8] };
}
[[nodiscard]] inline Vec3 column(const Mat3& r, std::size_t j)
{
    return { r[j], r[3 + j], r[6 + j] };
}
/// Rotation by `angle` about the unit vector `axis` (Rodrigues).
[[nodiscard]] inline Mat3 axisRotation(const Vec3& axis, double angle)
{
    const double c = std::cos(angle);
    const double s = std::sin(angle);
    const auto [x, y, z] = axis;
    return { c + x * x * (1 - c),     x * y * (1 - c) - z * s, x * z * (1 - c) + y * s,
             y * x * (1 - c) + z * s, c + y * y * (1 - c),     y * z * (1 - c) - x * s,
             z * x * (1 - c) - y * s, z * y * (1 - c) + x * s, c + z * z * (1 - c) };
}

} // namespace rankwise::sim
