// Colors, light and camera places of one episode, drawn from its seed. Private to the module.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/environment.h"

namespace rankwise::sim {

/// Sets the looks of `model` to those of `pristine`, varied. Physics is not touched.
void applyAppearance(const mjModel_& pristine, const Randomization& randomization, std::uint64_t seed, mjModel_& model);

} // namespace rankwise::sim
