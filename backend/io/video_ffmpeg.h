// Owners of FFmpeg's objects and its errors as ours; for the sources of backend/io only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/file.h"
#include "backend/base/result.h"

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wpedantic"
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}
#pragma GCC diagnostic pop

namespace rankwise::io::ffmpeg {

struct Deleter {
    void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
    void operator()(AVFrame* p) const { av_frame_free(&p); }
    void operator()(AVPacket* p) const { av_packet_free(&p); }
    void operator()(SwsContext* p) const { sws_freeContext(p); }
};
struct InputDeleter {
    void operator()(AVFormatContext* p) const { avformat_close_input(&p); }
};
struct OutputDeleter {
    void operator()(AVFormatContext* p) const
    {
        if (p->pb != nullptr) {
            avio_closep(&p->pb);
        }
        avformat_free_context(p);
    }
};
using CodecContext = std::unique_ptr<AVCodecContext, Deleter>;
using Frame = std::unique_ptr<AVFrame, Deleter>;
using Packet = std::unique_ptr<AVPacket, Deleter>;
using Scaler = std::unique_ptr<SwsContext, Deleter>;
using Input = std::unique_ptr<AVFormatContext, InputDeleter>;
using Output = std::unique_ptr<AVFormatContext, OutputDeleter>;

/// FFmpeg's text for one of its error numbers.
[[nodiscard]] std::string errorText(int error);

/// FFmpeg's error numbers that stand for errno values become DiskFull, FileNotFound or IoFailed; others get `code`.
[[nodiscard]] tl::unexpected<Error> failFfmpeg(int error, Errc code, std::string_view action,
                                               const std::string& subject);

/// Silences FFmpeg's own output once; our errors carry its texts.
void quiet();

/// Converts `frame` to tightly packed RGB or gray with `scaler`, which is made or reused.
/// Errors: Unsupported (a pixel format that cannot be converted).
[[nodiscard]] Result<void> convertFrame(const AVFrame& frame, Scaler& scaler, bool gray, std::uint8_t* target,
                                        const std::string& subject);

/// Largest side of a picture, so that a header cannot ask for gigabytes.
inline constexpr int kMaxSide = 16384;

} // namespace rankwise::io::ffmpeg
