// Encodes RGB frames to MP4 and copies parts of videos, through FFmpeg's libraries.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/video_encoder.h"

#include "backend/base/file.h"
#include "backend/io/video_ffmpeg.h"

#include <array>
#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace rankwise::io {

namespace fs = std::filesystem;
using namespace ffmpeg;

namespace {

Result<void> syncFile(const fs::path& path)
{
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failErrno(errno, "open", path);
    }
    const int status = ::fsync(fd);
    const int error = errno;
    ::close(fd);
    return status == 0 ? Result<void> {} : failErrno(error, "sync", path);
}

/// An MP4 muxer with one stream, its file open.
Result<Output> openOutput(const fs::path& path)
{
    AVFormatContext* raw = nullptr;
    int status = avformat_alloc_output_context2(&raw, nullptr, "mp4", path.c_str());
    Output output(raw);
    if (status < 0) {
        return failFfmpeg(status, Errc::Unsupported, "make an MP4", path.string());
    }
    status = avio_open(&raw->pb, ("file:" + path.string()).c_str(), AVIO_FLAG_WRITE);
    if (status < 0) {
        return failFfmpeg(status, Errc::IoFailed, "create", path.string());
    }
    raw->flags |= AVFMT_FLAG_BITEXACT; // the same frames give the same bytes
    return output;
}

/// What the file layer refused, which the muxer does not always pass on.
Result<void> ioState(const Output& output, int status, const fs::path& path)
{
    if (output->pb != nullptr && output->pb->error < 0) {
        return failFfmpeg(output->pb->error, Errc::IoFailed, "write", path.string());
    }
    if (status < 0) {
        return failFfmpeg(status, Errc::IoFailed, "write", path.string());
    }
    return {};
}

Result<void> finishOutput(Output& output, const fs::path& path)
{
    const int status = av_write_trailer(output.get());
    RW_TRY_VOID(ioState(output, status, path));
    const int closed = avio_closep(&output->pb);
    if (closed < 0) {
        return failFfmpeg(closed, Errc::IoFailed, "close", path.string());
    }
    return syncFile(path);
}

} // namespace

struct VideoEncoder::Impl {
    fs::path path;
    Output output;
    CodecContext codec;
    Scaler scaler;
    Frame frame { av_frame_alloc() };
    Packet packet { av_packet_alloc() };
    AVStream* stream = nullptr;
    std::int64_t count = 0;
    bool finished = false;

    Result<void> configure(int width, int height, std::int64_t fps, const VideoEncoderOptions& options);
    Result<void> drain();
};

VideoEncoder::VideoEncoder(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }
VideoEncoder::VideoEncoder(VideoEncoder&&) noexcept = default;
VideoEncoder& VideoEncoder::operator=(VideoEncoder&&) noexcept = default;
VideoEncoder::~VideoEncoder() = default;

bool hasVideoEncoder(const std::string& name)
{
    return avcodec_find_encoder_by_name(name.c_str()) != nullptr;
}

Result<void> VideoEncoder::Impl::configure(int width, int height, std::int64_t fps, const VideoEncoderOptions& options)
{
    const AVCodec* encoder = avcodec_find_encoder_by_name(options.encoder.c_str());
    if (encoder == nullptr) {
        return fail(Errc::Unsupported,
                    fmt::format("FFmpeg has no encoder \"{}\"; install one or choose another codec", options.encoder),
                    path.string());
    }
    codec.reset(avcodec_alloc_context3(encoder));
    codec->width = width;
    codec->height = height;
    codec->pix_fmt = options.fullChroma ? AV_PIX_FMT_YUV444P : AV_PIX_FMT_YUV420P;
    codec->time_base = { 1, static_cast<int>(fps) };
    codec->framerate = { static_cast<int>(fps), 1 };
    codec->gop_size = options.gop;
    codec->max_b_frames = 0;
    codec->thread_count = 1; // each camera has a thread of its own
    codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
    av_opt_set(codec->priv_data, "preset", options.preset.c_str(), 0);
    av_opt_set_int(codec->priv_data, "crf", options.crf, 0);
    if (options.encoder == "libx264") {
        av_opt_set(codec->priv_data, "x264-params", "scenecut=0:rc-lookahead=0:mbtree=0:sync-lookahead=0", 0);
    } else if (options.encoder == "libsvtav1") {
        av_opt_set(codec->priv_data, "svtav1-params", "lp=1", 0);
    }
    if (const int status = avcodec_open2(codec.get(), encoder, nullptr); status < 0) {
        return failFfmpeg(status, Errc::Unsupported,
                          fmt::format("start the encoder {} with preset \"{}\"", options.encoder, options.preset),
                          path.string());
    }
    return {};
}

Result<VideoEncoder> VideoEncoder::create(const fs::path& path, int width, int height, std::int64_t fps,
                                          const VideoEncoderOptions& options)
{
    quiet();
    if (options.encoder == "libsvtav1") {
        ::setenv("SVT_LOG", "1", 0); // the library prints its settings otherwise
    }
    if (width <= 0 || height <= 0 || width > kMaxSide || height > kMaxSide || width % 2 != 0 || height % 2 != 0) {
        return fail(Errc::FieldInvalid,
                    fmt::format("{} × {} pixels: both sides of a video must be even", width, height), path.string());
    }
    if (fps < 1 || fps > 1'000'000) {
        return fail(Errc::FieldInvalid, fmt::format("{} frames a second", fps), path.string());
    }
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    RW_TRY_VOID(impl->configure(width, height, fps, options));
    RW_TRY(impl->output, openOutput(path));
    impl->stream = avformat_new_stream(impl->output.get(), nullptr);
    avcodec_parameters_from_context(impl->stream->codecpar, impl->codec.get());
    impl->stream->time_base = impl->codec->time_base;
    impl->stream->avg_frame_rate = impl->codec->framerate;
    AVDictionary* muxer = nullptr;
    av_dict_set(&muxer, "movflags", "+faststart", 0);
    const int status = avformat_write_header(impl->output.get(), &muxer);
    av_dict_free(&muxer);
    RW_TRY_VOID(ioState(impl->output, status, path));
    impl->scaler.reset(sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, impl->codec->pix_fmt,
                                      SWS_BILINEAR, nullptr, nullptr, nullptr));
    impl->frame->width = width;
    impl->frame->height = height;
    impl->frame->format = impl->codec->pix_fmt;
    if (impl->scaler == nullptr || av_frame_get_buffer(impl->frame.get(), 0) < 0) {
        return fail(Errc::TooLarge, "no memory for a frame", path.string());
    }
    return VideoEncoder(std::move(impl));
}

Result<void> VideoEncoder::Impl::drain()
{
    for (;;) {
        const int status = avcodec_receive_packet(codec.get(), packet.get());
        if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) {
            return {};
        }
        if (status < 0) {
            return failFfmpeg(status, Errc::IoFailed, "encode", path.string());
        }
        packet->stream_index = stream->index;
        packet->duration = 1;
        av_packet_rescale_ts(packet.get(), codec->time_base, stream->time_base);
        const int written = av_interleaved_write_frame(output.get(), packet.get());
        RW_TRY_VOID(ioState(output, written, path));
    }
}

Result<void> VideoEncoder::addFrame(std::span<const std::uint8_t> rgb)
{
    Impl& m = *m_impl;
    const std::size_t stride = static_cast<std::size_t>(m.codec->width) * 3;
    RW_CHECK(rgb.size() == stride * static_cast<std::size_t>(m.codec->height));
    if (av_frame_make_writable(m.frame.get()) < 0) {
        return fail(Errc::TooLarge, "no memory for a frame", m.path.string());
    }
    const std::array<const std::uint8_t*, 4> planes { rgb.data(), nullptr, nullptr, nullptr };
    const std::array<int, 4> strides { static_cast<int>(stride), 0, 0, 0 };
    sws_scale(m.scaler.get(), planes.data(), strides.data(), 0, m.codec->height, m.frame->data, m.frame->linesize);
    m.frame->pts = m.count++;
    const int status = avcodec_send_frame(m.codec.get(), m.frame.get());
    if (status < 0) {
        return failFfmpeg(status, Errc::IoFailed, "encode", m.path.string());
    }
    return m.drain();
}

Result<void> VideoEncoder::finish()
{
    Impl& m = *m_impl;
    RW_CHECK(!m.finished);
    m.finished = true;
    avcodec_send_frame(m.codec.get(), nullptr);
    RW_TRY_VOID(m.drain());
    return finishOutput(m.output, m.path);
}

std::int64_t VideoEncoder::frames() const
{
    return m_impl->count;
}

namespace {

struct PacketCopy {
    AVFormatContext* input;
    AVStream* from;
    Output& output;
    AVStream* to;
    const fs::path& target;
};

/// Copies packets number first … first+count-1, shifted so that the earliest shown frame is at 0.
Result<void> copyPackets(const PacketCopy& copy, std::int64_t first, std::int64_t count, std::int64_t startPts)
{
    Packet packet(av_packet_alloc());
    std::int64_t number = 0;
    while (number < first + count) {
        const int status = av_read_frame(copy.input, packet.get());
        if (status < 0) {
            return failFfmpeg(status, Errc::DataInvalid, fmt::format("read frame {}", number), copy.input->url);
        }
        const bool ours = packet->stream_index == copy.from->index;
        if (ours && number++ >= first) {
            packet->pts -= startPts;
            packet->dts -= startPts;
            packet->pos = -1;
            packet->stream_index = copy.to->index;
            av_packet_rescale_ts(packet.get(), copy.from->time_base, copy.to->time_base);
            const int written = av_interleaved_write_frame(copy.output.get(), packet.get());
            RW_TRY_VOID(ioState(copy.output, written, copy.target));
        }
        av_packet_unref(packet.get());
    }
    return {};
}

/// The showing time of packet `first`, and that it is a key frame.
Result<std::int64_t> ptsOfPacket(AVFormatContext* input, const AVStream* stream, std::int64_t first)
{
    Packet packet(av_packet_alloc());
    std::int64_t number = 0;
    for (;;) {
        const int status = av_read_frame(input, packet.get());
        if (status < 0) {
            return failFfmpeg(status, Errc::DataInvalid, fmt::format("read frame {}", first), input->url);
        }
        if (packet->stream_index == stream->index && number++ == first) {
            if ((packet->flags & AV_PKT_FLAG_KEY) == 0) {
                return fail(Errc::DataInvalid, fmt::format("frame {} is no key frame", first), input->url);
            }
            const std::int64_t pts = packet->pts;
            av_packet_unref(packet.get());
            return pts;
        }
        av_packet_unref(packet.get());
    }
}

} // namespace

Result<void> copyVideoFrames(const fs::path& source, std::int64_t first, std::int64_t count, const fs::path& target)
{
    quiet();
    AVFormatContext* raw = nullptr;
    int status = avformat_open_input(&raw, ("file:" + source.string()).c_str(), av_find_input_format("mov"), nullptr);
    if (status < 0) {
        return failFfmpeg(status, Errc::HeaderInvalid, "open as MP4", source.string());
    }
    Input input(raw);
    const int index = av_find_best_stream(raw, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
    if (index < 0) {
        return fail(Errc::HeaderInvalid, "holds no video stream", source.string());
    }
    AVStream* from = raw->streams[index];
    RW_TRY(const std::int64_t startPts, ptsOfPacket(raw, from, first));
    status = av_seek_frame(raw, index, std::numeric_limits<std::int64_t>::min() / 2, AVSEEK_FLAG_BACKWARD);
    if (status < 0) {
        status = av_seek_frame(raw, index, 0, AVSEEK_FLAG_BACKWARD);
    }
    if (status < 0) {
        return failFfmpeg(status, Errc::DataInvalid, "seek", source.string());
    }
    RW_TRY(Output output, openOutput(target));
    AVStream* to = avformat_new_stream(output.get(), nullptr);
    avcodec_parameters_copy(to->codecpar, from->codecpar);
    to->codecpar->codec_tag = 0;
    to->time_base = from->time_base;
    to->avg_frame_rate = from->avg_frame_rate;
    AVDictionary* muxer = nullptr;
    av_dict_set(&muxer, "movflags", "+faststart", 0);
    const int header = avformat_write_header(output.get(), &muxer);
    av_dict_free(&muxer);
    RW_TRY_VOID(ioState(output, header, target));
    RW_TRY_VOID(copyPackets({ raw, from, output, to, target }, first, count, startPts));
    return finishOutput(output, target);
}

} // namespace rankwise::io
