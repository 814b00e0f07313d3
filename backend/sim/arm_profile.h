// What the simulation knows of each arm beyond its MJCF: names and postures.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/environment.h"

namespace rankwise::sim {

struct ArmProfile {
    ArmKind kind;
    std::string_view name; ///< On the command line and in the scenes' file names.
    std::array<double, kJointCount> home;
    double azimuthSign; ///< Of joint 1.
    double rollSign;    ///< Of joint 6.
    /// Postures from which the inverse kinematics starts, with the arm straight ahead.
    std::array<double, kJointCount> fromAbove;
    std::array<double, kJointCount> fromTheSide;
};

[[nodiscard]] const ArmProfile& armProfile(ArmKind arm);

} // namespace rankwise::sim
