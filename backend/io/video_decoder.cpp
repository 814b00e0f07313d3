// Frames of an MP4 by their number, through FFmpeg's libraries.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/video_decoder.h"

#include "backend/io/video_ffmpeg.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

namespace rankwise::io {

namespace fs = std::filesystem;
using namespace ffmpeg;

namespace {

/// A container cannot claim more frames than this (ten days at 100 Hz).
constexpr std::int64_t kMaxFrames = 100'000'000;

} // namespace

struct VideoDecoder::Impl {
    fs::path path;
    Input input;
    CodecContext codec;
    Packet packet { av_packet_alloc() };
    Frame frame { av_frame_alloc() };
    Scaler scaler;
    AVStream* stream = nullptr;
    VideoSummary summary;
    double timeBase = 0;      ///< Seconds of one tick.
    std::int64_t lastPts = 0; ///< Of the frame decoded last.
    bool positioned = false;  ///< Decoding can go on after lastPts.
    bool drained = false;     ///< The decoder was told that nothing more comes.
    bool inputEnded = false;
    bool sequential = false; ///< The last request continued the one before.
    std::int64_t lastSentPts = AV_NOPTS_VALUE;
    std::uint64_t seekCount = 0;

    [[nodiscard]] std::string subject() const { return path.string(); }

    Result<void> readIndex();
    Result<void> seek(std::int64_t pts);
    Result<bool> receive();
    Result<bool> decodeNext(std::int64_t targetPts);
    [[nodiscard]] bool mustSeek(std::int64_t targetPts) const;
};

/// The sample table of the container: counts, rate, key frames, and that every sample lies inside the file.
Result<void> VideoDecoder::Impl::readIndex()
{
    const int entries = avformat_index_get_entries_count(stream);
    if (entries <= 0) {
        return fail(Errc::HeaderInvalid, "the video has no frames", subject());
    }
    if (entries > kMaxFrames) {
        return fail(Errc::TooLarge, "the video claims too many frames", subject());
    }
    std::error_code error;
    const auto fileBytes = static_cast<std::int64_t>(fs::file_size(path, error));
    std::int64_t first = AV_NOPTS_VALUE;
    std::int64_t last = 0;
    std::int64_t step = -1;
    std::int64_t count = 0;
    for (int i = 0; i < entries; ++i) {
        const AVIndexEntry* entry = avformat_index_get_entry(stream, i);
        if (entry == nullptr || (entry->flags & AVINDEX_DISCARD_FRAME) != 0) {
            continue;
        }
        if (entry->pos < 0 || entry->size < 0 || entry->pos > fileBytes - entry->size) {
            return fail(Errc::FileTruncated,
                        fmt::format("frame {} of {} lies beyond the end of the file; copy the video again, or record "
                                    "the episode again",
                                    i, entries),
                        subject(), entry->pos);
        }
        if ((entry->flags & AVINDEX_KEYFRAME) != 0) {
            summary.keyFrames.push_back(count);
        }
        if (first == AV_NOPTS_VALUE) {
            first = entry->timestamp;
        } else {
            const std::int64_t delta = entry->timestamp - last;
            step = step < 0 ? delta : step;
            // A rate that is not a whole number of ticks alternates by one tick.
            summary.constantRate = summary.constantRate && delta > 0 && std::abs(delta - step) <= 1;
        }
        last = entry->timestamp;
        ++count;
    }
    if (summary.keyFrames.empty() || summary.keyFrames.front() != 0) {
        return fail(Errc::DataInvalid, "the video does not begin with a key frame", subject());
    }
    summary.frames = count;
    if (stream->avg_frame_rate.num > 0 && stream->avg_frame_rate.den > 0) {
        summary.framesPerSecond = av_q2d(stream->avg_frame_rate);
    } else if (count > 1 && last > first) {
        summary.framesPerSecond = static_cast<double>(count - 1) / (static_cast<double>(last - first) * timeBase);
    }
    summary.firstTimestamp =
        stream->start_time == AV_NOPTS_VALUE ? 0 : static_cast<double>(stream->start_time) * timeBase;
    return {};
}

VideoDecoder::VideoDecoder(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }
VideoDecoder::VideoDecoder(VideoDecoder&&) noexcept = default;
VideoDecoder& VideoDecoder::operator=(VideoDecoder&&) noexcept = default;
VideoDecoder::~VideoDecoder() = default;

Result<VideoDecoder> VideoDecoder::open(const fs::path& path)
{
    quiet();
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
        return fail(Errc::FileNotFound, "is not a file", path.string());
    }
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    AVFormatContext* input = nullptr;
    // Only the container of datasets: no playlist or network protocol can be reached through a file's contents.
    const AVInputFormat* format = av_find_input_format("mov");
    if (const int status = avformat_open_input(&input, ("file:" + path.string()).c_str(), format, nullptr);
        status < 0) {
        return failFfmpeg(status, Errc::HeaderInvalid, "open as MP4", path.string());
    }
    impl->input.reset(input);
    for (unsigned i = 0; i < input->nb_streams; ++i) {
        if (input->streams[i]->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && impl->stream == nullptr) {
            impl->stream = input->streams[i];
        } else {
            input->streams[i]->discard = AVDISCARD_ALL;
        }
    }
    if (impl->stream == nullptr) {
        return fail(Errc::HeaderInvalid, "holds no video stream", path.string());
    }
    const AVCodecParameters& parameters = *impl->stream->codecpar;
    if (parameters.width <= 0 || parameters.height <= 0) {
        return fail(Errc::HeaderInvalid, "the video has no size", path.string());
    }
    if (parameters.width > kMaxSide || parameters.height > kMaxSide) {
        return fail(Errc::TooLarge, fmt::format("{} × {} pixels are too many", parameters.width, parameters.height),
                    path.string());
    }
    impl->timeBase = av_q2d(impl->stream->time_base);
    impl->summary.width = parameters.width;
    impl->summary.height = parameters.height;
    impl->summary.codec = avcodec_get_name(parameters.codec_id);
    RW_TRY_VOID(impl->readIndex());
    // libdav1d decodes AV1 on the processor; FFmpeg's own AV1 decoder needs hardware.
    const AVCodec* codec = parameters.codec_id == AV_CODEC_ID_AV1 ? avcodec_find_decoder_by_name("libdav1d") : nullptr;
    if (codec == nullptr) {
        codec = avcodec_find_decoder(parameters.codec_id);
    }
    if (codec == nullptr) {
        return fail(Errc::Unsupported, fmt::format("no decoder for {}", impl->summary.codec), path.string());
    }
    impl->codec.reset(avcodec_alloc_context3(codec));
    avcodec_parameters_to_context(impl->codec.get(), &parameters);
    impl->codec->pkt_timebase = impl->stream->time_base;
    impl->codec->thread_count = 1; // loader threads are the parallelism; one thread adds no delay
    impl->codec->err_recognition = AV_EF_EXPLODE | AV_EF_CRCCHECK;
    if (const int status = avcodec_open2(impl->codec.get(), codec, nullptr); status < 0) {
        return failFfmpeg(status, Errc::Unsupported, "start the decoder", path.string());
    }
    return VideoDecoder(std::move(impl));
}

const VideoSummary& VideoDecoder::summary() const
{
    return m_impl->summary;
}
std::uint64_t VideoDecoder::seeks() const
{
    return m_impl->seekCount;
}

Result<void> VideoDecoder::Impl::seek(std::int64_t pts)
{
    ++seekCount;
    positioned = false;
    const int status = av_seek_frame(input.get(), stream->index, pts, AVSEEK_FLAG_BACKWARD);
    if (status < 0) {
        return failFfmpeg(status, Errc::DataInvalid, "seek", subject());
    }
    avcodec_flush_buffers(codec.get());
    drained = false;
    inputEnded = false;
    lastSentPts = AV_NOPTS_VALUE;
    return {};
}

/// Takes one frame out of the decoder if it has one; false when it needs input or is at its end.
Result<bool> VideoDecoder::Impl::receive()
{
    const int status = avcodec_receive_frame(codec.get(), frame.get());
    if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) {
        return false;
    }
    if (status < 0) {
        return failFfmpeg(status, Errc::DataInvalid, "decode", subject());
    }
    lastPts = frame->best_effort_timestamp != AV_NOPTS_VALUE ? frame->best_effort_timestamp : frame->pts;
    positioned = true;
    return true;
}

/// Decodes one frame more. Where the packet of the target was sent and the decoder still holds frames back for
/// reordering, it is drained instead of being fed frames nobody asked for, unless requests run in sequence.
Result<bool> VideoDecoder::Impl::decodeNext(std::int64_t targetPts)
{
    for (;;) {
        RW_TRY(const bool got, receive());
        if (got) {
            return true;
        }
        if (drained) {
            return false;
        }
        if (inputEnded || (!sequential && lastSentPts != AV_NOPTS_VALUE && lastSentPts >= targetPts)) {
            avcodec_send_packet(codec.get(), nullptr);
            drained = true;
            continue;
        }
        const int status = av_read_frame(input.get(), packet.get());
        if (status == AVERROR_EOF) {
            inputEnded = true;
            continue;
        }
        if (status < 0) {
            return failFfmpeg(status, Errc::DataInvalid, "read a frame", subject());
        }
        if (packet->stream_index == stream->index) {
            if (packet->pts != AV_NOPTS_VALUE) {
                lastSentPts = lastSentPts == AV_NOPTS_VALUE ? packet->pts : std::max(lastSentPts, packet->pts);
            }
            const int sent = avcodec_send_packet(codec.get(), packet.get());
            if (sent < 0 && sent != AVERROR(EAGAIN)) {
                av_packet_unref(packet.get());
                return failFfmpeg(sent, Errc::DataInvalid, "decode", subject());
            }
        }
        av_packet_unref(packet.get());
    }
}

/// Going on is shorter than seeking unless a key frame lies between.
bool VideoDecoder::Impl::mustSeek(std::int64_t targetPts) const
{
    if (!positioned || targetPts <= lastPts || (drained && !inputEnded)) {
        return true;
    }
    if (drained) {
        return true;
    }
    const int current = av_index_search_timestamp(stream, lastPts, AVSEEK_FLAG_BACKWARD | AVSEEK_FLAG_ANY);
    const int key = av_index_search_timestamp(stream, targetPts, AVSEEK_FLAG_BACKWARD);
    // One frame on is always read, not sought: it is the next packet.
    return key >= 0 && current >= 0 && key > current + 2;
}

Result<Pixels> VideoDecoder::frameAt(double seconds, double framesPerSecond, double tolerance, bool gray)
{
    Impl& m = *m_impl;
    if (!(seconds > -1 && seconds < 1e9)) {
        return fail(Errc::DataInvalid, fmt::format("{} s is no time in a video", seconds), m.subject());
    }
    const auto target = static_cast<std::int64_t>(std::llround(seconds / m.timeBase));
    const double half = 0.5 / framesPerSecond;
    const auto slack = std::max<std::int64_t>(1, static_cast<std::int64_t>(half / m.timeBase));
    const bool follows = m.positioned && target > m.lastPts && target - m.lastPts <= 3 * slack;
    const bool again = m.positioned && std::abs(target - m.lastPts) < slack && m.frame->width > 0;
    if (!again) {
        m.sequential = follows;
        if (m.mustSeek(target)) {
            RW_TRY_VOID(m.seek(target));
        }
        bool retried = false;
        for (;;) {
            auto got = m.decodeNext(target);
            if (!got) {
                m.positioned = false;
                return tl::unexpected<Error>(std::move(got).error());
            }
            if (!*got) {
                m.positioned = false;
                return fail(Errc::DataInvalid, fmt::format("no frame at {:.6f} s", seconds), m.subject());
            }
            if (m.lastPts > target + slack && !retried) {
                // The key frame's decoding time lies before the target and its showing time after it.
                retried = true;
                RW_TRY_VOID(m.seek(target - 64 * slack));
                continue;
            }
            if (m.lastPts > target - slack) {
                break;
            }
        }
    }
    const double shown = static_cast<double>(m.lastPts) * m.timeBase;
    if (std::abs(shown - seconds) > tolerance) {
        return fail(Errc::DataInvalid,
                    fmt::format("the frame nearest to {:.6f} s is shown at {:.6f} s; times of table and video disagree",
                                seconds, shown),
                    m.subject());
    }
    if (m.frame->width <= 0 || m.frame->height <= 0 || m.frame->width > kMaxSide || m.frame->height > kMaxSide) {
        return fail(Errc::DataInvalid, "a frame of no usable size", m.subject());
    }
    Pixels pixels { .height = m.frame->height, .width = m.frame->width, .channels = gray ? 1 : 3, .values = {} };
    pixels.values.resize(static_cast<std::size_t>(pixels.height) * static_cast<std::size_t>(pixels.width)
                         * static_cast<std::size_t>(pixels.channels));
    RW_TRY_VOID(convertFrame(*m.frame, m.scaler, gray, pixels.values.data(), m.subject()));
    return pixels;
}

} // namespace rankwise::io
