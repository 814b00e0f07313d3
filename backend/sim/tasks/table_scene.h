// The scene that press_button and pick_place share: button, cube and plate.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/task.h"

namespace rankwise::sim {

inline constexpr int kTableButton = 0;
inline constexpr int kTableCube = 1;
inline constexpr int kTablePlate = 2;

[[nodiscard]] inline std::vector<std::string> tableObjects()
{
    return { "button", "cube", "plate" };
}

/// Draws all three, in the same order for both tasks: the same seed gives the same table. The cube is drawn again while
/// the open fingers around it would stand on the button's housing or the plate.
inline void placeTable(SceneView& scene, Random& random, double scale)
{
    const PlanarPose button = draw(random, { 0.27, 0.39, -0.20, -0.10, 0 }, scale);
    const PlanarPose plate = draw(random, { 0.28, 0.38, 0.11, 0.20, 0 }, scale);
    PlanarPose cube;
    for (int attempt = 0; attempt < 100; ++attempt) {
        cube = draw(random, { 0.26, 0.38, -0.04, 0.05, 0.6 }, scale);
        const bool besideButton = std::abs(cube.x - button.x) > 0.078 || std::abs(cube.y - button.y) > 0.094;
        const bool besidePlate = std::hypot(cube.x - plate.x, cube.y - plate.y) > 0.105;
        if (besideButton && besidePlate) {
            break;
        }
    }
    scene.place("button", button);
    scene.place("plate", plate);
    scene.place("cube", cube);
}

} // namespace rankwise::sim
