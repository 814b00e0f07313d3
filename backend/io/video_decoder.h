// Frames of an MP4 by their number, through FFmpeg's libraries: seeks only when that is shorter than decoding on,
// and converts to RGB only what was asked for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace rankwise::io {

/// Pixels of one decoded picture, rows top to bottom, 8 bits a channel.
struct Pixels {
    std::int32_t height = 0;
    std::int32_t width = 0;
    std::int32_t channels = 3;        ///< 3: RGB, 1: gray.
    std::vector<std::uint8_t> values; ///< [H, W, C]
};

/// What the container says about its video stream; nothing is decoded for it.
struct VideoSummary {
    std::int32_t width = 0;
    std::int32_t height = 0;
    std::string codec;                   ///< "h264", "av1", "hevc", …
    double framesPerSecond = 0;          ///< Frames / duration.
    std::int64_t frames = 0;             ///< Samples in the index.
    double firstTimestamp = 0;           ///< Seconds.
    bool constantRate = true;            ///< Equal steps between all frames.
    std::vector<std::int64_t> keyFrames; ///< Frame numbers in decoding order.
};

/// A video that is open for decoding.
/// Thread: one at a time.
class VideoDecoder {
public:
    VideoDecoder(VideoDecoder&&) noexcept;
    VideoDecoder& operator=(VideoDecoder&&) noexcept;
    ~VideoDecoder();

    /// Reads the container's index and checks that every frame lies inside the file.
    /// Errors: FileNotFound, HeaderInvalid (no video that the libraries read), FileTruncated (frames beyond the end
    /// of the file), Unsupported (no decoder), TooLarge (more than 16384 pixels a side).
    [[nodiscard]] static Result<VideoDecoder> open(const std::filesystem::path& path);

    [[nodiscard]] const VideoSummary& summary() const;

    /// Which frame is shown at `seconds`, on the grid of `framesPerSecond`: the decoded frame whose time is within
    /// `tolerance` seconds. `gray` gives one channel.
    /// Errors: DataInvalid (no frame at that time, or the stream is damaged), IoFailed.
    [[nodiscard]] Result<Pixels> frameAt(double seconds, double framesPerSecond, double tolerance, bool gray = false);

    /// Seeks done so far; for tests and statistics.
    [[nodiscard]] std::uint64_t seeks() const;

private:
    struct Impl;
    explicit VideoDecoder(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

} // namespace rankwise::io
