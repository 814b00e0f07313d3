// What is checked before the first step, so that a run that cannot work does not start, and the reader of the report
// knows what will be trained, how long it takes and what it needs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace rankwise::train {

/// Written by name; names never change.
enum class CheckLevel : std::uint8_t {
    Ok,
    Note, ///< Worth knowing; the run starts.
    Red,  ///< The run does not start.
};

[[nodiscard]] std::string_view checkLevelName(CheckLevel level);

struct PreflightCheck {
    std::string name; ///< "dataset", "cameras", "normalisation", "modules", "memory", ...
    CheckLevel level = CheckLevel::Ok;
    std::string text;              ///< What was found, and the remedy where one is needed.
    Errc code = Errc::DataInvalid; ///< Of a red check.
};

struct PreflightReport {
    std::vector<PreflightCheck> checks;
    std::int64_t adaptedLayers = 0;
    std::int64_t linearLayers = 0;
    std::int64_t trainedNumbers = 0;
    std::int64_t policyNumbers = 0;
    std::int64_t memoryBytes = 0; ///< Estimate of the run's peak.
    double secondsPerStep = 0;    ///< Measured on one batch.
    double secondsTotal = 0;
    double firstLoss = 0;

    void add(std::string name, CheckLevel level, std::string text, Errc code = Errc::DataInvalid);
    [[nodiscard]] bool passed() const;
    /// The first red check as an error, for a report that has not passed.
    [[nodiscard]] Error error() const;
    [[nodiscard]] Json json() const;
    /// Lines for a terminal.
    [[nodiscard]] std::string text() const;
};

/// Memory that new allocations can take without swapping, in bytes; 0 when unknown.
[[nodiscard]] std::int64_t availableMemory();
/// Resident memory of this process, now and at its peak, in bytes.
[[nodiscard]] std::int64_t residentMemory();
[[nodiscard]] std::int64_t peakMemory();
/// "1.4 GB", "3 min 20 s".
[[nodiscard]] std::string bytesText(std::int64_t bytes);
[[nodiscard]] std::string secondsText(double seconds);

} // namespace rankwise::train
