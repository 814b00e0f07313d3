// The report, and what the system tells about memory.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/preflight.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <utility>

#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

std::string_view checkLevelName(CheckLevel level)
{
    switch (level) {
    case CheckLevel::Ok:
        return "ok";
    case CheckLevel::Note:
        return "note";
    case CheckLevel::Red:
        return "red";
    }
    RW_CHECK(false, "check level");
}

void PreflightReport::add(std::string name, CheckLevel level, std::string text, Errc code)
{
    checks.push_back({ std::move(name), level, std::move(text), code });
}

bool PreflightReport::passed() const
{
    return std::ranges::none_of(checks, [](const PreflightCheck& check) { return check.level == CheckLevel::Red; });
}

Error PreflightReport::error() const
{
    const auto red = std::ranges::find(checks, CheckLevel::Red, &PreflightCheck::level);
    RW_CHECK(red != checks.end());
    return { red->code, "pre-flight: " + red->text, red->name };
}

Json PreflightReport::json() const
{
    Json list = Json::array();
    for (const PreflightCheck& check : checks) {
        list.push_back({ { "name", check.name }, { "level", checkLevelName(check.level) }, { "text", check.text } });
    }
    return { { "passed", passed() },
             { "checks", std::move(list) },
             { "adapted_layers", adaptedLayers },
             { "linear_layers", linearLayers },
             { "trained_numbers", trainedNumbers },
             { "policy_numbers", policyNumbers },
             { "memory_bytes", memoryBytes },
             { "seconds_per_step", secondsPerStep },
             { "seconds_total", secondsTotal },
             { "first_loss", std::isfinite(firstLoss) ? Json(firstLoss) : Json(nullptr) } };
}

std::string PreflightReport::text() const
{
    std::string lines;
    for (const PreflightCheck& check : checks) {
        lines += fmt::format("{:<4}  {:<14} {}\n", checkLevelName(check.level), check.name, check.text);
    }
    return lines;
}

std::int64_t availableMemory()
{
    std::ifstream file("/proc/meminfo");
    std::string key;
    std::int64_t kilobytes = 0;
    std::string unit;
    while (file >> key >> kilobytes) {
        std::getline(file, unit);
        if (key == "MemAvailable:") {
            return kilobytes * 1024;
        }
    }
    return 0;
}

std::int64_t residentMemory()
{
    std::ifstream file("/proc/self/statm");
    std::int64_t size = 0;
    std::int64_t resident = 0;
    return file >> size >> resident ? resident * ::sysconf(_SC_PAGESIZE) : 0;
}

std::int64_t peakMemory()
{
    rusage usage {};
    return ::getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<std::int64_t>(usage.ru_maxrss) * 1024 : 0;
}

std::string bytesText(std::int64_t bytes)
{
    constexpr std::array kUnits { "B", "kB", "MB", "GB", "TB" };
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 999.5 && unit + 1 < kUnits.size()) {
        value /= 1000;
        ++unit;
    }
    return fmt::format("{:.{}f} {}", value, value < 9.95 && unit > 0 ? 1 : 0, kUnits.at(unit));
}

std::string secondsText(double seconds)
{
    if (!std::isfinite(seconds) || seconds < 0) {
        return "unknown";
    }
    if (seconds < 60) {
        return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 1 : 0);
    }
    const auto whole = static_cast<std::int64_t>(std::llround(seconds));
    if (whole < 3600) {
        return fmt::format("{} min {:02} s", whole / 60, whole % 60);
    }
    return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

} // namespace rankwise::train
