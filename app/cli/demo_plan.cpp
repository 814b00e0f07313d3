// SPDX-License-Identifier: Apache-2.0
#include "app/cli/demo_plan.h"

#include "backend/sim/environment.h"

#include <algorithm>

namespace rankwise::cli {

namespace {

// In the whole demo the methods end at the same loss (0.208, 0.214 and 0.215 after 600 steps), so the comparison is one
// of methods and not of rates. A run of few steps needs higher ones.
constexpr double kLoraSpRate = 3e-3;
constexpr double kLoraRate = 2e-3;
constexpr double kQuickRate = 4e-3;

DemoMethod loraSp(double learningRate)
{
    return { .name = "lora_sp",
             .options = { { "type", "lora_sp" }, { "mode", "paper" }, { "bank", 64 }, { "blocks", 4 }, { "eta", 0.9 } },
             .learningRate = learningRate,
             .stepSeconds = 0.5 };
}

DemoMethod lora(double learningRate)
{
    return { .name = "lora",
             .options = { { "type", "lora" }, { "r", 32 }, { "lora_alpha", 64 } },
             .learningRate = learningRate,
             .stepSeconds = 0.35 };
}

DemoMethod full()
{
    return { .name = "full", .options = { { "type", "full" } }, .learningRate = 1e-3, .stepSeconds = 0.4 };
}

} // namespace

DemoPlan demoPlan(bool quick)
{
    if (quick) {
        return { .tasks = { "press_button" },
                 .episodes = 40,
                 .methods = { loraSp(kQuickRate), lora(kQuickRate) },
                 .steps = 200,
                 .batch = 24,
                 .noiseDraws = 2,
                 .budgets = { 0.25 },
                 .compactFrames = 48,
                 .rollouts = 16 };
    }
    return { .tasks = sim::taskNames(),
             .episodes = 120,
             .methods = { loraSp(kLoraSpRate), lora(kLoraRate), full() },
             .steps = 600,
             .noiseDraws = 4,
             .budgets = { 0.5, 0.25, 0.1 },
             .rollouts = 24 };
}

const DemoMethod* DemoPlan::find(const std::string& method) const
{
    const auto found = std::ranges::find(methods, method, &DemoMethod::name);
    return found == methods.end() ? nullptr : &*found;
}

Json DemoPlan::json() const
{
    Json list = Json::array();
    for (const DemoMethod& method : methods) {
        list.push_back({ { "name", method.name }, { "options", method.options }, { "lr", method.learningRate } });
    }
    return { { "tasks", tasks },
             { "image_size", imageSize },
             { "episodes", episodes },
             { "methods", std::move(list) },
             { "steps", steps },
             { "batch", batch },
             { "noise_draws", noiseDraws },
             { "warmup_steps", warmupSteps },
             { "ema", ema },
             { "budgets", budgets },
             { "compact_share", compactShare },
             { "compact_frames", compactFrames },
             { "rollouts", rollouts },
             { "videos_shown", videosShown } };
}

} // namespace rankwise::cli
