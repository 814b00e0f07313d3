// Still pictures inside datasets, through FFmpeg's PNG and JPEG codecs.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/video_still.h"

#include "backend/io/video_ffmpeg.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

namespace rankwise::io {

using namespace ffmpeg;

namespace {

constexpr std::array<unsigned char, 8> kPngSignature { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n' };

std::uint32_t bigEndian(std::span<const std::byte> bytes, std::size_t at)
{
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        value = (value << 8) | std::to_integer<std::uint32_t>(bytes[at + i]);
    }
    return value;
}

bool isPng(std::span<const std::byte> bytes)
{
    return bytes.size() >= 8 && std::memcmp(bytes.data(), kPngSignature.data(), 8) == 0;
}
bool isJpeg(std::span<const std::byte> bytes)
{
    return bytes.size() >= 3 && bytes[0] == std::byte { 0xFF } && bytes[1] == std::byte { 0xD8 }
    && bytes[2] == std::byte { 0xFF };
}

Result<void> checkPng(std::span<const std::byte> bytes, const std::string& subject)
{
    std::size_t at = 8;
    bool data = false;
    while (bytes.size() - at >= 12) {
        const std::uint32_t length = bigEndian(bytes, at);
        const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at + 4, 4);
        if (length > bytes.size() - at - 12) {
            break;
        }
        data = data || type == "IDAT";
        if (type == "IEND") {
            return data ? Result<void> {} : fail(Errc::DataInvalid, "the PNG holds no pixels", subject);
        }
        at += 12 + static_cast<std::size_t>(length);
    }
    return fail(Errc::DataInvalid, "the PNG is cut off", subject, static_cast<std::int64_t>(at));
}

} // namespace

Result<void> checkStill(std::span<const std::byte> bytes, const std::string& subject)
{
    if (isPng(bytes)) {
        return checkPng(bytes, subject);
    }
    if (isJpeg(bytes)) {
        // Some writers pad behind the end marker.
        const std::size_t tail = std::min<std::size_t>(bytes.size(), 64);
        for (std::size_t i = bytes.size() - tail; i + 1 < bytes.size(); ++i) {
            if (bytes[i] == std::byte { 0xFF } && bytes[i + 1] == std::byte { 0xD9 }) {
                return {};
            }
        }
        return fail(Errc::DataInvalid, "the JPEG is cut off", subject);
    }
    return fail(bytes.size() < 8 ? Errc::DataInvalid : Errc::Unsupported, "is neither a PNG nor a JPEG picture",
                subject);
}

Result<Pixels> decodeStill(std::span<const std::byte> bytes, bool gray, const std::string& subject)
{
    quiet();
    RW_TRY_VOID(checkStill(bytes, subject));
    if (bytes.size() > (std::size_t { 1 } << 30)) {
        return fail(Errc::TooLarge, "the picture is larger than 1 GiB", subject);
    }
    const AVCodec* codec = avcodec_find_decoder(isPng(bytes) ? AV_CODEC_ID_PNG : AV_CODEC_ID_MJPEG);
    if (codec == nullptr) {
        return fail(Errc::Unsupported, "no decoder for this picture", subject);
    }
    CodecContext context(avcodec_alloc_context3(codec));
    context->thread_count = 1;
    context->err_recognition = AV_EF_EXPLODE | AV_EF_CRCCHECK;
    context->max_pixels = static_cast<std::int64_t>(kMaxSide) * kMaxSide;
    Packet packet(av_packet_alloc());
    Frame frame(av_frame_alloc());
    if (avcodec_open2(context.get(), codec, nullptr) < 0
        || av_new_packet(packet.get(), static_cast<int>(bytes.size())) < 0) {
        return fail(Errc::TooLarge, "no memory for the picture", subject);
    }
    std::memcpy(packet->data, bytes.data(), bytes.size());
    int status = avcodec_send_packet(context.get(), packet.get());
    if (status >= 0) {
        status = avcodec_send_packet(context.get(), nullptr);
    }
    if (status >= 0) {
        status = avcodec_receive_frame(context.get(), frame.get());
    }
    if (status < 0) {
        return fail(Errc::DataInvalid, fmt::format("the picture does not decode: {}", errorText(status)), subject);
    }
    if (frame->width <= 0 || frame->height <= 0 || frame->width > kMaxSide || frame->height > kMaxSide) {
        return fail(Errc::TooLarge, "a picture of no usable size", subject);
    }
    Pixels pixels { .height = frame->height, .width = frame->width, .channels = gray ? 1 : 3, .values = {} };
    pixels.values.resize(static_cast<std::size_t>(pixels.height) * static_cast<std::size_t>(pixels.width)
                         * static_cast<std::size_t>(pixels.channels));
    Scaler scaler;
    RW_TRY_VOID(convertFrame(*frame, scaler, gray, pixels.values.data(), subject));
    return pixels;
}

Result<std::vector<std::byte>> encodePng(std::span<const std::uint8_t> pixels, int height, int width, int channels)
{
    quiet();
    RW_CHECK(channels == 1 || channels == 3);
    const std::size_t stride = static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
    RW_CHECK(height > 0 && width > 0 && pixels.size() == stride * static_cast<std::size_t>(height));
    const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (codec == nullptr) {
        return fail(Errc::Unsupported, "FFmpeg was built without its PNG encoder", "PNG");
    }
    CodecContext context(avcodec_alloc_context3(codec));
    context->width = width;
    context->height = height;
    context->pix_fmt = channels == 3 ? AV_PIX_FMT_RGB24 : AV_PIX_FMT_GRAY8;
    context->time_base = { 1, 1 };
    context->thread_count = 1;
    context->compression_level = 1;
    av_opt_set(context->priv_data, "pred", "sub", 0);
    if (const int status = avcodec_open2(context.get(), codec, nullptr); status < 0) {
        return failFfmpeg(status, Errc::Unsupported, "start the PNG encoder", "PNG");
    }
    Frame frame(av_frame_alloc());
    frame->width = width;
    frame->height = height;
    frame->format = context->pix_fmt;
    if (av_frame_get_buffer(frame.get(), 0) < 0) {
        return fail(Errc::TooLarge, "no memory for the picture", "PNG");
    }
    for (int y = 0; y < height; ++y) {
        std::memcpy(frame->data[0] + static_cast<std::ptrdiff_t>(y) * frame->linesize[0],
                    pixels.data() + static_cast<std::size_t>(y) * stride, stride);
    }
    Packet packet(av_packet_alloc());
    int status = avcodec_send_frame(context.get(), frame.get());
    if (status >= 0) {
        status = avcodec_receive_packet(context.get(), packet.get());
    }
    if (status < 0) {
        return failFfmpeg(status, Errc::Unsupported, "encode as PNG", "PNG");
    }
    const auto* first = reinterpret_cast<const std::byte*>(packet->data);
    return std::vector<std::byte>(first, first + packet->size);
}

} // namespace rankwise::io
