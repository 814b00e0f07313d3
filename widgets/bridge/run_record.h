// What the window knows of one run, as columns that grow: fed by RunTail, read by models and charts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_rows.h"

#include <QString>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace rankwise::bridge {

using data::StepColumns;
using DigestPtr = data::DigestColumnsPtr;
using LayerTable = std::vector<data::RunLayer>;

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
    [[nodiscard]] const LayerTable& layersOf(const data::DigestColumns& digest) const;
    /// Layers of the newest digest, or of the only table.
    [[nodiscard]] const LayerTable& layers() const;
    /// The digest of the last step that is not after `step`; nullptr before the first. A negative step: the newest.
    [[nodiscard]] DigestPtr digestAt(std::int64_t step) const;
    [[nodiscard]] DigestPtr firstDigest() const { return digests.empty() ? nullptr : digests.front(); }
    /// Registry name of the method, e.g. "lora_sp"; empty when unknown.
    [[nodiscard]] std::string method() const;
    /// Folder of the policy that is fine-tuned; empty when unknown.
    [[nodiscard]] QString basePolicy() const;
    /// The current value of a parameter that can change while training ("eta"): the last one set, else run.json's.
    [[nodiscard]] std::optional<double> parameter(const std::string& name) const;
};

inline constexpr int kTokenKinds = 5; ///< Those of models::TokenKind.

/// What one layer did with one kind of token.
struct KindRow {
    std::size_t layer = 0;
    int kind = 0;
    double tokens = 0;
    double rank = 0; ///< Mean active rank.
    std::span<const float> shares;
};
/// Rows of a digest by layer, then kind; they point into it. Rows that cannot be are left out.
[[nodiscard]] std::vector<KindRow> kindRows(const data::DigestColumns& digest);
/// "image", "language", "state", "action", "other".
[[nodiscard]] QString tokenKindName(int kind);

/// "vision 3 q_proj" of a long path: what tells layers of a model apart.
[[nodiscard]] QString shortLayerName(const std::string& path);
/// Name of a module group: vision, language, action, projection.
[[nodiscard]] QString groupName(std::int64_t group);

} // namespace rankwise::bridge
