// What is wrong with a run's numbers: ranks that do not move, experts that get nothing, numbers that are not finite, a
// loader that keeps the computing waiting.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/run_record.h"

#include <QString>

#include <cstdint>
#include <optional>
#include <vector>

namespace rankwise::bridge {

/// Kinds of alarm. Each is raised once a run and cleared when it no longer holds.
struct RunAlarm {
    enum class Kind { StuckRanks, DeadExpert, NotFinite, StarvingLoader };
    Kind kind = Kind::StuckRanks;
    std::int64_t step = 0; ///< At which it was raised.
    QString text;

    bool operator==(const RunAlarm&) const = default;
};

/// Looks at a record as it grows, each row once: what a look costs does not depend on the length of the run.
/// Thread: one at a time.
class AlarmWatch {
public:
    [[nodiscard]] std::vector<RunAlarm> look(const RunRecord& record);
    /// Rows of steps looked at so far.
    [[nodiscard]] std::size_t rowsSeen() const { return m_rows; }

private:
    std::uint64_t m_epoch = 0;
    std::size_t m_rows = 0;
    std::size_t m_digests = 0;
    std::optional<RunAlarm> m_notFinite;
    std::vector<RunAlarm> m_ofDigests;
    std::vector<RunAlarm> m_alarms;
};

/// All alarms of a whole record.
[[nodiscard]] std::vector<RunAlarm> findAlarms(const RunRecord& record);

} // namespace rankwise::bridge
