// Formulas of schedule.h, in double as in the references.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::train {

namespace {

/// 1 / (w + 1) at step 0, 1 at step w.
double warmupFactor(std::int64_t step, std::int64_t warmup)
{
    const double start = 1.0 / static_cast<double>(warmup + 1);
    if (step <= 0) {
        return start;
    }
    const double left = 1.0 - static_cast<double>(step) / static_cast<double>(warmup);
    return (start - 1.0) * left + 1.0;
}

/// 1 at progress 0, `floor` at progress 1.
double cosineFactor(double progress, double floor)
{
    const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    return (1.0 - floor) * cosine + floor;
}

double lerobotFactor(const Schedule& schedule, std::int64_t step, std::int64_t totalSteps)
{
    std::int64_t warmup = schedule.warmupSteps;
    std::int64_t decay = schedule.decaySteps;
    if (totalSteps < decay) {
        const double scale = static_cast<double>(totalSteps) / static_cast<double>(decay);
        warmup = static_cast<std::int64_t>(static_cast<double>(warmup) * scale);
        decay = std::max<std::int64_t>(totalSteps, 1);
    }
    if (step < warmup) {
        return warmupFactor(step, warmup);
    }
    const double progress = static_cast<double>(std::min(step, decay)) / static_cast<double>(decay);
    return cosineFactor(progress, schedule.decayLr / schedule.peakLr);
}

double openpiFactor(const Schedule& schedule, std::int64_t step)
{
    if (step < schedule.warmupSteps) {
        return warmupFactor(step, schedule.warmupSteps);
    }
    const auto length = static_cast<double>(std::max<std::int64_t>(schedule.decaySteps - schedule.warmupSteps, 1));
    const double progress = std::min(1.0, static_cast<double>(step - schedule.warmupSteps) / length);
    return cosineFactor(progress, schedule.decayLr / schedule.peakLr);
}

} // namespace

std::string_view scheduleName(ScheduleKind kind)
{
    switch (kind) {
    case ScheduleKind::Constant:
        return "constant";
    case ScheduleKind::CosineLerobot:
        return "cosine";
    case ScheduleKind::CosineOpenpi:
        return "cosine_openpi";
    }
    RW_CHECK(false, "schedule kind");
}

std::vector<std::string> scheduleNames()
{
    return { "constant", "cosine", "cosine_openpi" };
}

Result<ScheduleKind> scheduleFromName(std::string_view name)
{
    for (const auto kind : { ScheduleKind::Constant, ScheduleKind::CosineLerobot, ScheduleKind::CosineOpenpi }) {
        if (name == scheduleName(kind)) {
            return kind;
        }
    }
    if (name == "cosine_decay_with_warmup") {
        return ScheduleKind::CosineLerobot;
    }
    return fail(Errc::Unsupported,
                fmt::format("no schedule is called \"{}\"; there are {}", name, fmt::join(scheduleNames(), ", ")));
}

double Schedule::rate(std::int64_t step, std::int64_t totalSteps) const
{
    switch (kind) {
    case ScheduleKind::Constant:
        return peakLr * (step < warmupSteps ? warmupFactor(step, warmupSteps) : 1.0);
    case ScheduleKind::CosineLerobot:
        return peakLr * lerobotFactor(*this, step, totalSteps);
    case ScheduleKind::CosineOpenpi:
        return peakLr * openpiFactor(*this, step);
    }
    RW_CHECK(false, "schedule kind");
}

} // namespace rankwise::train
