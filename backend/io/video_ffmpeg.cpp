// Owners of FFmpeg's objects and its errors as ours.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/video_ffmpeg.h"

#include <array>
#include <mutex>

#include <fmt/format.h>

namespace rankwise::io::ffmpeg {

std::string errorText(int error)
{
    std::array<char, AV_ERROR_MAX_STRING_SIZE> text {};
    av_strerror(error, text.data(), text.size());
    return text.data();
}

tl::unexpected<Error> failFfmpeg(int error, Errc code, std::string_view action, const std::string& subject)
{
    const int system = AVUNERROR(error);
    switch (system) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOENT:
    case EIO:
    case EACCES:
    case EROFS:
        return failErrno(system, action, subject);
    default:
        return fail(code, fmt::format("cannot {}: {}", action, errorText(error)), subject);
    }
}

void quiet()
{
    static std::once_flag once;
    std::call_once(once, [] { av_log_set_level(AV_LOG_QUIET); });
}

Result<void> convertFrame(const AVFrame& frame, Scaler& scaler, bool gray, std::uint8_t* target,
                          const std::string& subject)
{
    const AVPixelFormat wanted = gray ? AV_PIX_FMT_GRAY8 : AV_PIX_FMT_RGB24;
    const auto format = static_cast<AVPixelFormat>(frame.format);
    // The cached context is kept while size and format stay the same.
    SwsContext* context = sws_getCachedContext(scaler.release(), frame.width, frame.height, format, frame.width,
                                               frame.height, wanted, SWS_BILINEAR, nullptr, nullptr, nullptr);
    scaler.reset(context);
    if (context == nullptr) {
        const char* name = av_get_pix_fmt_name(format);
        return fail(Errc::Unsupported,
                    fmt::format("pixels of format {} cannot be converted", name != nullptr ? name : "unknown"),
                    subject);
    }
    const int* coefficients =
        sws_getCoefficients(frame.colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : frame.colorspace);
    const int sourceRange = frame.color_range == AVCOL_RANGE_JPEG ? 1 : 0;
    sws_setColorspaceDetails(context, coefficients, sourceRange, coefficients, gray ? 1 : 0, 0, 1 << 16, 1 << 16);
    std::array<std::uint8_t*, 4> planes { target, nullptr, nullptr, nullptr };
    const std::array<int, 4> strides { frame.width * (gray ? 1 : 3), 0, 0, 0 };
    const int rows = sws_scale(context, frame.data, frame.linesize, 0, frame.height, planes.data(), strides.data());
    if (rows != frame.height) {
        return fail(Errc::Unsupported, "the pixels cannot be converted", subject);
    }
    return {};
}

} // namespace rankwise::io::ffmpeg
