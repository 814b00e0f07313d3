// The numbers of a run straight from events.jsonl into columns: what the window opens long runs with. Reads the lines
// of steps and digests by a scanner of their known keys, and anything else by the general parser, with equal results.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/run_directory.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace rankwise::data {

/// One column a quantity, one row an optimiser step. A number that the line lacks, or that is null, is NaN.
struct StepColumns {
    std::vector<double> step, time, loss, total, lr, gradNorm, samplesPerSecond, loadSeconds, computeSeconds;
    std::map<std::string, std::vector<double>, std::less<>> aux; ///< By name; NaN where a step has none.

    [[nodiscard]] std::size_t size() const { return step.size(); }
    void add(const RunStep& row);
    /// Appends the rows of `more`.
    void append(const StepColumns& more);
    /// Drops rows above `lastStep`, which must be at the end.
    void cutAbove(std::int64_t lastStep);
};

/// Rows of different lengths in one block.
struct RaggedRows {
    std::vector<float> values;
    std::vector<std::uint32_t> ends; ///< Of each row, in `values`.

    [[nodiscard]] std::size_t size() const { return ends.size(); }
    /// Empty beyond the last row.
    [[nodiscard]] std::span<const float> row(std::size_t index) const;
    void endRow() { ends.push_back(static_cast<std::uint32_t>(values.size())); }
};

/// Digest of one step, as columns over the layers of its table, in the five digits that were written.
struct DigestColumns {
    std::int64_t step = 0;
    std::int64_t table = 0;
    std::vector<float> rank;
    std::vector<float> energy;
    std::vector<std::int64_t> tokens;
    RaggedRows quantiles; ///< 0, 25, 50, 75, 100 % of the active rank.
    RaggedRows shares;    ///< Mean share of each block or expert; without rows where there is no routing.
    RaggedRows kinds; ///< One row a kind of token: [layer, kind, tokens, mean rank, shares …]; see run_directory.h.

    DigestColumns() = default;
    explicit DigestColumns(const RunDigest& digest);
};
using DigestColumnsPtr = std::shared_ptr<const DigestColumns>;

/// What a stretch of events without a resume says.
struct RunRows {
    std::optional<std::int64_t> cutAbove; ///< A resume: earlier rows above this step are void.
    StepColumns steps;
    std::vector<DigestColumnsPtr> digests;
    std::map<std::int64_t, std::vector<RunLayer>> tables;
    std::vector<RunEvent> others; ///< Every other event, in order.

    /// Puts the rows of `next` behind these; its cutAbove must be empty.
    void append(RunRows&& next);
    [[nodiscard]] bool empty() const
    {
        return !cutAbove && steps.size() == 0 && digests.empty() && tables.empty() && others.empty();
    }
};

/// Follows events.jsonl like EventTail, with rows instead of events. Long stretches are read by several threads.
/// Memory: one poll's bytes and rows. Thread: one at a time.
class RunRowTail {
public:
    explicit RunRowTail(std::filesystem::path file);
    ~RunRowTail();
    RunRowTail(RunRowTail&& other) noexcept;
    RunRowTail& operator=(RunRowTail&& other) noexcept;

    /// Rows of at most `maxBytes` of lines (but of one line at least), cut at each resume; never empty: the first
    /// element goes on where the last poll ended. Errors: IoFailed, TooLarge (a line longer than 64 MiB).
    [[nodiscard]] Result<std::vector<RunRows>> poll(std::uint64_t maxBytes);

    [[nodiscard]] std::uint64_t offset() const;
    [[nodiscard]] std::uint64_t skippedLines() const;
    [[nodiscard]] std::uint64_t tornBytes() const;

private:
    class Reader;
    std::unique_ptr<Reader> m_reader;
};

/// Adds one line to the last element, or a new element for a resume. `fast` tries the scanner first. False when the
/// line is no event. For tests, which compare both ways.
[[nodiscard]] bool addRunLine(std::string_view line, std::vector<RunRows>& rows, bool fast = true);

} // namespace rankwise::data
