// Learning-rate schedules: constant, the cosine of lerobot and the cosine of openpi, all with linear warm-up.
//
// Sources: lerobot CosineDecayWithWarmupSchedulerConfig (cosine in the absolute step, warm-up and decay scaled to
// short runs); openpi CosineDecaySchedule (optax warmup_cosine_decay: cosine from the end of the warm-up).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::train {

/// Written to run.json by name; names never change.
enum class ScheduleKind : std::uint8_t { Constant, CosineLerobot, CosineOpenpi };

/// "constant", "cosine" (lerobot's) or "cosine_openpi".
[[nodiscard]] std::string_view scheduleName(ScheduleKind kind);
[[nodiscard]] std::vector<std::string> scheduleNames();
/// Errors: Unsupported, with the names that exist. Also takes lerobot's "cosine_decay_with_warmup".
[[nodiscard]] Result<ScheduleKind> scheduleFromName(std::string_view name);

struct Schedule {
    ScheduleKind kind = ScheduleKind::CosineLerobot;
    double peakLr = 1e-4;    ///< > 0 for the cosines.
    double decayLr = 2.5e-6; ///< Rate at the end of the decay; not used by Constant.
    std::int64_t warmupSteps = 1000;
    std::int64_t decaySteps = 30'000; ///< At least 1 for the cosines; not used by Constant.

    /// Rate of the optimiser step number `step` (0-based) in a run of `totalSteps`.
    ///
    /// CosineLerobot scales both step counts by totalSteps / decaySteps when the run is shorter than the decay;
    /// a warm-up that becomes 0 so starts at the peak. After the decay the rate stays at decayLr.
    [[nodiscard]] double rate(std::int64_t step, std::int64_t totalSteps) const;
};

} // namespace rankwise::train
