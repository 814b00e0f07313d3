// Scripted experts: from any state of a scene, the next action towards the task's success.
// The action depends on the state alone, so that an expert can drive an episode, correct a policy's episode as it
// goes (DAgger), and be imitated by a policy that sees one observation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/sim/environment.h"
#include "backend/sim/random.h"

#include <memory>
#include <string_view>

namespace rankwise::sim {

class ArmKinematics;

/// The expert of one environment's task and arm. Thread: one at a time.
class Expert {
public:
    explicit Expert(const Environment& environment);
    ~Expert();

    /// The action for the present state of `environment`, which must have the task and arm of the constructor.
    [[nodiscard]] Action act(const Environment& environment);

    /// What the last act() was doing, e.g. "hover", "descend", "close"; for logs and tests.
    [[nodiscard]] std::string_view phase() const { return m_phase; }
    /// Distance of the TCP from the waypoint of the last act(), m.
    [[nodiscard]] double distance() const { return m_distance; }

private:
    std::unique_ptr<ArmKinematics> m_kinematics;
    std::string_view m_phase = "start";
    double m_distance = 0;
};

/// Noise that pushes an episode off the expert's path, so that its corrections are in the data
/// (DART: Laskey et al. 2017). Added to the executed command; what is recorded is the expert's clean action.
struct Disturbance {
    double share = 0.7;       ///< Of episodes that are disturbed.
    double sigma = 0.02;      ///< Stationary deviation of joints 1–5, rad.
    double sigmaWrist = 0.03; ///< Of joint 6, rad.
    double correlation = 0.7; ///< ρ of the AR(1) process, a step.
    double floor = 0.15;      ///< Factor at the waypoint; grows to 1 at `reach` from it.
    double reach = 0.06;      ///< m.
};

/// The disturbance of one episode. Deterministic by its seed.
class DisturbanceProcess {
public:
    DisturbanceProcess(const Disturbance& disturbance, std::uint64_t seed);
    /// `action` with the noise of the next step; `distance` is Expert::distance().
    [[nodiscard]] Action disturbed(const Action& action, double distance);
    [[nodiscard]] bool active() const { return m_active; }

private:
    Disturbance m_disturbance;
    Random m_random;
    bool m_active;
    std::array<double, kJointCount> m_noise {};
};

} // namespace rankwise::sim
