// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/appearance.h"

#include "backend/sim/random.h"

#include <algorithm>

#include <mujoco/mujoco.h>

namespace rankwise::sim {
namespace {

constexpr std::uint64_t kColorStream = 101;
constexpr std::uint64_t kLightStream = 102;
constexpr std::uint64_t kCameraStream = 103;

struct Hsv {
    double h, s, v; ///< h in turns.
};

Hsv hsvOf(const float* rgb)
{
    const double r = static_cast<double>(rgb[0]);
    const double g = static_cast<double>(rgb[1]);
    const double b = static_cast<double>(rgb[2]);
    const double high = std::max({ r, g, b });
    const double spread = high - std::min({ r, g, b });
    double hue = 0;
    if (spread > 0) {
        if (high == r) {
            hue = (g - b) / spread;
        } else if (high == g) {
            hue = (b - r) / spread + 2;
        } else {
            hue = (r - g) / spread + 4;
        }
    }
    return { hue / 6, high > 0 ? spread / high : 0, high };
}

void setHsv(const Hsv& color, float* rgb)
{
    const double turns = color.h - std::floor(color.h);
    for (int i = 0; i < 3; ++i) {
        // Distance of the hue from this channel's own, in sixths of a turn: full within one, none beyond two.
        const double own = i / 3.0;
        double apart = std::abs(turns - own);
        apart = 6 * std::min(apart, 1 - apart);
        const double share = std::clamp(2 - apart, 0.0, 1.0);
        rgb[i] = static_cast<float>(color.v * (1 - color.s * (1 - share)));
    }
}

/// The body below the world that a body hangs on: all parts of one thing share a change of color.
int rootOf(const mjModel_& model, int body)
{
    return model.body_rootid[body];
}

void varyColors(const mjModel_& pristine, double amount, Random& random, mjModel_& model)
{
    for (int root = 0; root < pristine.nbody; ++root) {
        if (rootOf(pristine, root) != root) {
            continue;
        }
        const double hue = amount * random.uniform(-0.04, 0.04);
        const double saturation = 1 + amount * random.uniform(-0.15, 0.15);
        const double value = 1 + amount * random.uniform(-0.15, 0.15);
        for (int geom = 0; geom < pristine.ngeom; ++geom) {
            if (rootOf(pristine, pristine.geom_bodyid[geom]) == root) {
                Hsv color = hsvOf(pristine.geom_rgba + 4 * geom);
                color.h += hue;
                color.s = std::clamp(color.s * saturation, 0.0, 1.0);
                color.v = std::clamp(color.v * value, 0.03, 1.0);
                setHsv(color, model.geom_rgba + 4 * geom);
            }
        }
    }
}

void varyLight(const mjModel_& pristine, double amount, Random& random, mjModel_& model)
{
    const auto factor = [&] { return static_cast<float>(std::max(0.1, 1 + amount * random.uniform(-0.2, 0.2))); };
    const float ambient = factor();
    const float diffuse = factor();
    const float lamp = factor();
    for (int i = 0; i < 3; ++i) {
        model.vis.headlight.ambient[i] = pristine.vis.headlight.ambient[i] * ambient;
        model.vis.headlight.diffuse[i] = pristine.vis.headlight.diffuse[i] * diffuse;
    }
    for (int light = 0; light < pristine.nlight; ++light) {
        for (int i = 0; i < 3; ++i) {
            model.light_diffuse[3 * light + i] = pristine.light_diffuse[3 * light + i] * lamp;
        }
        mjtNum* direction = model.light_dir + 3 * light;
        mju_copy3(direction, pristine.light_dir + 3 * light);
        direction[0] += amount * random.uniform(-0.4, 0.4);
        direction[1] += amount * random.uniform(-0.4, 0.4);
        mju_normalize3(direction);
    }
}

void varyCameras(const mjModel_& pristine, double amount, Random& random, mjModel_& model)
{
    for (int camera = 0; camera < pristine.ncam; ++camera) {
        Vec3 turn {};
        for (std::size_t i = 0; i < 3; ++i) {
            const auto at = 3 * static_cast<std::size_t>(camera) + i;
            model.cam_pos[at] = pristine.cam_pos[at] + amount * random.uniform(-0.01, 0.01);
            turn[i] = amount * random.uniform(-0.02, 0.02);
        }
        mjtNum* quaternion = model.cam_quat + 4 * camera;
        mju_copy4(quaternion, pristine.cam_quat + 4 * camera);
        mju_quatIntegrate(quaternion, turn.data(), 1.0);
    }
}

} // namespace

void applyAppearance(const mjModel_& pristine, const Randomization& randomization, std::uint64_t seed, mjModel_& model)
{
    // A stream each, so that switching one off leaves the others as they are.
    Random colors(mixSeeds(seed, kColorStream));
    Random light(mixSeeds(seed, kLightStream));
    Random camera(mixSeeds(seed, kCameraStream));
    varyColors(pristine, randomization.colors, colors, model);
    varyLight(pristine, randomization.light, light, model);
    varyCameras(pristine, randomization.camera, camera, model);
}

} // namespace rankwise::sim
