// Encodes RGB frames to an MP4 as datasets want it (constant rate, first frame at 0, short key frame distance), and
// copies parts of a video without encoding.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace rankwise::io {

struct VideoEncoderOptions {
    std::string encoder = "libx264"; ///< An FFmpeg encoder: libx264 or libsvtav1.
    std::string preset = "superfast";
    int crf = 23;
    int gop = 2; ///< Frames from key frame to key frame.
    /// yuv444p: colours as sharp as brightness, for pictures so small that half of it is too little; else yuv420p.
    bool fullChroma = false;
};

/// One MP4 that is being written, one thread.
/// Thread: one at a time.
class VideoEncoder {
public:
    VideoEncoder(VideoEncoder&&) noexcept;
    VideoEncoder& operator=(VideoEncoder&&) noexcept;
    ~VideoEncoder(); ///< Without finish() the file has no index.

    /// Replaces `path`. Sides must be even.
    /// Errors: Unsupported (no such encoder or preset), FieldInvalid (size), IoFailed, DiskFull.
    [[nodiscard]] static Result<VideoEncoder> create(const std::filesystem::path& path, int width, int height,
                                                     std::int64_t fps, const VideoEncoderOptions& options);

    /// [H, W, 3]. Errors: DiskFull, IoFailed.
    [[nodiscard]] Result<void> addFrame(std::span<const std::uint8_t> rgb);

    /// Writes what is left and the index, and syncs. Errors: DiskFull, IoFailed.
    [[nodiscard]] Result<void> finish();

    [[nodiscard]] std::int64_t frames() const;

private:
    struct Impl;
    explicit VideoEncoder(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

/// Whether this build of FFmpeg has the encoder.
[[nodiscard]] bool hasVideoEncoder(const std::string& name);

/// Copies `count` frames from `first` on (in decoding order) into a new MP4 that begins at 0. The first must be a key
/// frame, and the frame after the last one too, or the end.
/// Errors: DataInvalid (no key frame there), those of opening, DiskFull, IoFailed.
[[nodiscard]] Result<void> copyVideoFrames(const std::filesystem::path& source, std::int64_t first, std::int64_t count,
                                           const std::filesystem::path& target);

} // namespace rankwise::io
