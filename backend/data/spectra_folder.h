// Spectra on disk: a folder that one process fills from coarse to fine and any number of others follow while it grows.
//
// Layout, version 1; names and fields never change meaning.
//
//   spectra.json    written whole by each computation: {"format": "rankwise_spectra", "version": 1, "checkpoint",
//                   "base", "adapter", "weights": weightsIdentity() or "", "notes": [], "pid", "pid_start", "host",
//                   "started",
//                   "layers": [{"path", "group", "depth", "rows", "columns", "rank", "matrices": ["base", "delta",
//                   "merged"]}]}; group as models::LayerGroup, depth -1 outside of stacks, rank 0 without an adapter
//   spectra.jsonl   append-only, one JSON object a line, each with "event", "step" (lines so far) and "time":
//                     spectrum  {"layer": index, "matrix", "pass": "coarse" or "exact", "sigma": [falling],
//                                "error": share of σ_1 that a value may be off, "power": [alpha, xmin, distance, count]
//                                or null}
//                     pass      {"pass", "file"}: every spectrum of it is there
//                     stop      {"state": "finished", "stopped" or "failed", "error": null or {…}}
//                   The last line may be torn. A later line for the same layer and matrix replaces an earlier one.
//                   Exact values are written so that they read back to the bit. A computation that goes on from an
//                   earlier one of the same weights begins with its lines.
//   pass-coarse.safetensors, pass-exact.safetensors
//                   "<path>.<matrix>.singular_values" [n] f64 of a finished pass
//   spectra.lock    held by the process that fills the folder
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/file_lock.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/data/run_directory.h"
#include "backend/data/spectrum.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rankwise::data {

inline constexpr std::int64_t kSpectraVersion = 1;

/// W, ΔW and W' = W + ΔW. Written to files by name.
enum class SpectrumKind : std::uint8_t { Base, Delta, Merged };
enum class SpectrumPass : std::uint8_t { Coarse, Exact };
enum class SpectraState : std::uint8_t { Running, Finished, Stopped, Failed, Lost };

[[nodiscard]] std::string_view spectrumKindName(SpectrumKind kind);
[[nodiscard]] std::string_view spectrumPassName(SpectrumPass pass);
[[nodiscard]] std::string_view spectraStateName(SpectraState state);

/// One linear layer and what there is of it.
struct SpectraLayer {
    std::string path;
    std::int64_t group = 3; ///< models::LayerGroup
    std::int64_t depth = -1;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t rank = 0; ///< Of the adapter.
    std::vector<SpectrumKind> kinds;

    [[nodiscard]] bool operator==(const SpectraLayer&) const = default;
};

/// What the folder is of.
struct SpectraHeader {
    std::string checkpoint; ///< The weights W', or W where there is no base.
    std::string base;       ///< Of a fully fine-tuned checkpoint.
    std::string adapter;
    std::string weights;            ///< weightsIdentity() of what the spectra are of; empty: unknown.
    std::vector<std::string> notes; ///< What was left out, and why.
    std::vector<SpectraLayer> layers;
    std::int64_t pid = 0;
    std::int64_t pidStart = 0;
    std::string host;
    double started = 0; ///< Unix seconds.
};

struct SpectrumRecord {
    std::size_t layer = 0; ///< Into SpectraHeader::layers.
    SpectrumKind kind = SpectrumKind::Base;
    SpectrumPass pass = SpectrumPass::Exact;
    std::vector<double> sigma;
    double error = 0; ///< Bound or estimate of the largest |Δσ| / σ_1.
    std::optional<PowerLawFit> power;
};

/// Work that the exact values of a matrix take, against that of others.
[[nodiscard]] double spectrumCost(const SpectraLayer& layer, SpectrumKind kind);

/// One matrix of one layer.
using SpectrumKey = std::pair<std::size_t, SpectrumKind>;

/// Tells weights from other weights without reading them: SHA-256 of the paths of `subject` (a checkpoint, an adapter
/// folder, a file, or a run: its newest checkpoint) and `base`, and of names, sizes and times of their files.
[[nodiscard]] std::string weightsIdentity(const std::filesystem::path& subject, const std::filesystem::path& base = {});

/// Whether the process that `header` names fills the folder now, on this machine.
[[nodiscard]] bool spectraWorkerLives(const SpectraHeader& header);

/// Whether `folder` has a spectra.json of our format.
[[nodiscard]] bool isSpectraFolder(const std::filesystem::path& folder);
/// Errors: those of readJsonFile(), FieldMissing, FieldInvalid, Unsupported (a newer version).
[[nodiscard]] Result<SpectraHeader> readSpectraHeader(const std::filesystem::path& folder);

/// Fills a folder, which it has for itself until finish() or its end. Thread: one at a time.
class SpectraWriter {
public:
    /// Makes `folder`, or takes over one that has spectra of an earlier time. Those of the same weights stay, others
    /// are removed. A torn description counts as others. Errors: AlreadyExists (a folder with other things in it;
    /// another writer has it), Unsupported (spectra of a newer version), IoFailed, DiskFull.
    [[nodiscard]] static Result<SpectraWriter> create(const std::filesystem::path& folder, SpectraHeader header);

    /// Errors: IoFailed, DiskFull.
    [[nodiscard]] Result<void> add(const SpectrumRecord& record);
    /// Writes the file of a pass from the newest values of every layer.
    [[nodiscard]] Result<void> endPass(SpectrumPass pass);
    /// The last line; the folder is free for another writer then.
    [[nodiscard]] Result<void> finish(SpectraState state, const std::optional<Error>& error = std::nullopt);

    /// The newest spectra: at first those that stayed.
    [[nodiscard]] const std::map<SpectrumKey, SpectrumRecord>& newest() const { return m_newest; }

private:
    SpectraWriter() = default;
    Result<void> line(const std::string& text);
    Result<void> begin();

    FileLock m_lock;
    std::filesystem::path m_folder;
    SpectraHeader m_header;
    std::ofstream m_lines;
    std::int64_t m_count = 0;
    std::map<SpectrumKey, SpectrumRecord> m_newest;
};

/// What one look at a folder found.
struct SpectraUpdate {
    std::optional<SpectraHeader> header; ///< Once; again when another computation took the folder over.
    std::vector<SpectrumRecord> records;
    std::vector<SpectrumPass> endedPasses;
    SpectraState state = SpectraState::Running;
    std::optional<Error> failure; ///< Of the computation.
    bool workerLives = false;     ///< spectraWorkerLives()
    std::uint64_t skippedLines = 0;
};

/// Follows a folder, which need not be there yet. Thread: one at a time.
class SpectraFollower {
public:
    explicit SpectraFollower(std::filesystem::path folder);

    /// What is new since the last poll. Errors: those of readSpectraHeader() but FileNotFound, those of EventTail.
    [[nodiscard]] Result<SpectraUpdate> poll(std::uint64_t maxBytes = 4u << 20);
    /// The last poll reached the present end of the lines.
    [[nodiscard]] bool caughtUp() const { return m_caughtUp; }

private:
    std::filesystem::path m_folder;
    std::optional<SpectraHeader> m_header;
    std::optional<EventTail> m_tail;
    SpectraState m_state = SpectraState::Running;
    std::optional<Error> m_failure;
    bool m_caughtUp = false;
};

/// Everything in a folder, newest values only.
struct SpectraContents {
    SpectraHeader header;
    std::map<SpectrumKey, SpectrumRecord> spectra;
    SpectraState state = SpectraState::Running;
    std::optional<Error> failure;
};
/// Errors: FileNotFound, those of SpectraFollower::poll(), Cancelled.
[[nodiscard]] Result<SpectraContents> readSpectra(const std::filesystem::path& folder, const JobContext& job = {});

} // namespace rankwise::data
