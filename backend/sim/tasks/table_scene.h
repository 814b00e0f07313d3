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

/// Draws all three, in the same order for both tasks: the same seed gives the same table.
inline void placeTable(SceneView& scene, Random& random, double scale)
{
    scene.place("button", draw(random, { 0.27, 0.39, -0.20, -0.10, 0 }, scale));
    scene.place("cube", draw(random, { 0.26, 0.38, -0.04, 0.05, 0.6 }, scale));
    scene.place("plate", draw(random, { 0.28, 0.38, 0.11, 0.20, 0 }, scale));
}

}  // namespace rankwise::sim
