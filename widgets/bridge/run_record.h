// What the window knows of one run, as columns that grow: fed by RunTail, read by models and charts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"

#include <QString>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::bridge {

/// One column a quantity, one row an optimiser step.
struct StepColumns {
    std::vector<double> step, time, loss, total, lr, gradNorm, samplesPerSecond, loadSeconds, computeSeconds;
    std::map<std::string, std::vector<double>> aux; ///< By name; NaN where a step has none.

    [[nodiscard]] std::size_t size() const { return step.size(); }
    void add(const data::RunStep& row);
    /// Appends the rows of `more`.
    void append(const StepColumns& more);
    /// Drops rows above `lastStep`, which must be at the end.
    void cutAbove(std::int64_t lastStep);
};

using DigestPtr = std::shared_ptr<const data::RunDigest>;
using LayerTable = std::vector<data::RunLayer>;

/// Kinds of alarm. Each is raised once a run and cleared when it no longer holds.
struct RunAlarm {
    enum class Kind { StuckRanks, DeadExpert, NotFinite, StarvingLoader };
    Kind kind = Kind::StuckRanks;
    std::int64_t step = 0;
    QString text;
};

/// A run as read so far. The parts are immutable or only grow, so that a view may keep positions in them.
struct RunRecord {
    StepColumns steps;
    std::vector<DigestPtr> digests; ///< By step; the first is step 0 where the run has one.
    std::map<std::int64_t, LayerTable> tables;
    std::vector<data::RunEvent> events; ///< Everything else, in order.
    std::shared_ptr<const Json> run;    ///< run.json; null while absent.
    std::optional<data::RunStatus> status;
    std::map<std::int64_t, std::filesystem::path> snapshots;
    std::vector<data::CheckpointInfo> checkpoints;
    std::uint64_t skippedLines = 0;
    std::uint64_t tornBytes = 0;
    std::uint64_t epoch = 0; ///< Changes when rows were dropped (resume, or another run in the same place).

    /// Layers of the digest's table; empty when unknown.
    [[nodiscard]] const LayerTable& layersOf(const data::RunDigest& digest) const;
    /// Layers of the newest digest, or of the only table.
    [[nodiscard]] const LayerTable& layers() const;
    /// The digest of the last step that is not after `step`; nullptr before the first. A negative step: the newest.
    [[nodiscard]] DigestPtr digestAt(std::int64_t step) const;
    [[nodiscard]] DigestPtr firstDigest() const { return digests.empty() ? nullptr : digests.front(); }
    /// Registry name of the method, e.g. "lora_sp"; empty when unknown.
    [[nodiscard]] std::string method() const;
    /// The current value of a parameter that can change while training ("eta"): the last one set, else run.json's.
    [[nodiscard]] std::optional<double> parameter(const std::string& name) const;
};

/// What is wrong with the run's numbers, from rank movement, expert shares, losses and loader times.
[[nodiscard]] std::vector<RunAlarm> findAlarms(const RunRecord& record);

/// "vision 3 q_proj" of a long path: what tells layers of a model apart.
[[nodiscard]] QString shortLayerName(const std::string& path);
/// Name of a module group: vision, language, action, projection.
[[nodiscard]] QString groupName(std::int64_t group);

} // namespace rankwise::bridge
