// TensorBoard event files: scalars out, scalars and what else is in them back in.
//
// Format: TFRecord framing (u64 length, masked CRC-32C of it, payload, masked CRC-32C of it; little-endian) around
// tensorboard.Event protocol buffers. Source: tensorboard/compat/proto/{event,summary}.proto.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rankwise::io {

/// CRC-32C (Castagnoli) of `bytes`.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes);
/// As TFRecord stores it: rotated right by 15 bits, plus 0xA282EAD8.
[[nodiscard]] std::uint32_t maskedCrc32c(std::span<const std::byte> bytes);

/// Appends scalars to a new event file. A record is written by one call, so that a killed program leaves at most one
/// torn record at the end, which readers ignore; a full disk leaves none.
///
/// Thread: one at a time.
class EventFileWriter {
public:
    /// Creates `folder`/events.out.tfevents.<unix seconds>.<host>.<pid>.<n> and its first record. A resumed run starts
    /// a new file in the same folder. `folder` is made if needed.
    /// Errors: FileNotFound (a parent that is no folder), IoFailed, DiskFull.
    [[nodiscard]] static Result<EventFileWriter> create(const std::filesystem::path& folder);

    EventFileWriter(EventFileWriter&& other) noexcept;
    EventFileWriter& operator=(EventFileWriter&& other) noexcept;
    ~EventFileWriter(); ///< Closes; what was added is in the file.

    /// One scalar, stored as float32. `wallTime` is in unix seconds. Errors: IoFailed, DiskFull.
    [[nodiscard]] Result<void> addScalar(std::string_view tag, double value, std::int64_t step, double wallTime);
    /// Several scalars of one step in one record.
    [[nodiscard]] Result<void> addScalars(const std::vector<std::pair<std::string, double>>& scalars, std::int64_t step,
                                          double wallTime);
    /// Waits until the data are on the disk. Errors: IoFailed, DiskFull.
    [[nodiscard]] Result<void> sync();

    [[nodiscard]] const std::filesystem::path& path() const { return m_path; }

private:
    EventFileWriter() = default;
    [[nodiscard]] Result<void> append(std::string_view payload);

    int m_fd = -1;
    std::uint64_t m_size = 0; ///< End of the last whole record.
    std::filesystem::path m_path;
};

/// What one summary value holds.
enum class SummaryKind : std::uint8_t { None, SimpleValue, Tensor, Histogram, Image, Audio };

struct HistogramSummary {
    double min = 0, max = 0, num = 0, sum = 0, sumSquares = 0;
    std::vector<double> limits;  ///< Right edge of each bucket.
    std::vector<double> buckets; ///< Counts.
};

struct SummaryValue {
    std::string tag;
    std::string plugin; ///< metadata.plugin_data.plugin_name; empty where absent.
    SummaryKind kind = SummaryKind::None;
    float simpleValue = 0;
    std::int64_t tensorDtype = 0; ///< TensorFlow's DataType.
    std::vector<double> tensorValues;
    std::vector<std::string> tensorTexts;
    HistogramSummary histogram;
    std::int64_t imageWidth = 0;
    std::int64_t imageHeight = 0;
    std::uint64_t imageBytes = 0;

    /// The value of a scalar, in either of the forms that TensorBoard knows.
    [[nodiscard]] std::optional<double> scalar() const;
};

/// One record. `kind` is the name of the member that is set: "file_version", "summary", "graph_def", "session_log",
/// ...; empty when none is.
struct Event {
    double wallTime = 0;
    std::int64_t step = 0;
    std::string kind;
    std::string fileVersion;
    std::vector<SummaryValue> values;
};

struct EventFile {
    std::vector<Event> events;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> records; ///< Offset and payload length of each.
    std::uint64_t validBytes = 0;                                 ///< End of the last good record.
    std::string problem; ///< Why reading stopped before the end; empty: all was read.
};

/// Reads records up to the first torn or damaged one, as TensorBoard does. Thread: any. Memory: the events.
[[nodiscard]] EventFile parseEventFile(std::span<const std::byte> file);

/// Maps and parses. Errors: FileNotFound, IoFailed, HeaderInvalid (the first record's checksum does not match: the file
/// is none of TensorBoard's).
[[nodiscard]] Result<EventFile> readEventFile(const std::filesystem::path& path);

} // namespace rankwise::io
