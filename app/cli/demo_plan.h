// What `rankwise demo` does, in numbers: everything that one would tune is in demo_plan.cpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace rankwise::cli {

/// One way to fine-tune, with the learning rate that suits it.
struct DemoMethod {
    std::string name;
    Json options; ///< "method" of the training configuration.
    double learningRate = 1e-3;
    double stepSeconds = 0.3; ///< CPU time of one step, for the time left; changes nothing else.
};

struct DemoPlan {
    std::vector<std::string> tasks;
    std::int64_t imageSize = 64;

    std::int64_t episodes = 0; ///< Demonstrations of each task.

    std::vector<DemoMethod>
        methods; ///< The first is shown against the base; "lora" is compressed, "lora_sp" compacted.
    std::int64_t steps = 0;
    std::int64_t batch = 32;
    std::int64_t noiseDraws = 1;
    std::int64_t warmupSteps = 20;
    double ema = 0.98;

    std::vector<double> budgets; ///< PARA's γ.
    double compactShare = 0.045;
    std::int64_t compactFrames = 128;

    std::int64_t rollouts = 0; ///< Of each task and policy.

    std::int64_t videosShown = 4; ///< Filmed episodes of a task by the two policies that the report shows.

    // CPU seconds, for the time left.
    double episodeSeconds = 0.15; ///< One recorded demonstration.
    double rolloutSeconds = 0.4;  ///< One rollout.

    [[nodiscard]] const DemoMethod* find(const std::string& method) const;
    /// Everything that changes results.
    [[nodiscard]] Json json() const;
};

[[nodiscard]] DemoPlan demoPlan(bool quick);

} // namespace rankwise::cli
