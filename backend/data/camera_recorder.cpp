// One camera of the episode that is being recorded.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/camera_recorder.h"

#include "backend/base/file.h"
#include "backend/io/video_still.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {
/// Frames that may wait for the encoder.
constexpr std::size_t kQueueFrames = 8;
} // namespace

SpoolFile::SpoolFile(SpoolFile&& other) noexcept
    : m_fd(std::exchange(other.m_fd, -1)), m_size(other.m_size), m_path(std::move(other.m_path))
{
}

SpoolFile& SpoolFile::operator=(SpoolFile&& other) noexcept
{
    std::swap(m_fd, other.m_fd);
    std::swap(m_size, other.m_size);
    std::swap(m_path, other.m_path);
    return *this;
}

SpoolFile::~SpoolFile()
{
    if (m_fd >= 0) {
        ::close(m_fd);
        ::unlink(m_path.c_str());
    }
}

Result<SpoolFile> SpoolFile::create(const fs::path& path)
{
    SpoolFile file;
    file.m_fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file.m_fd < 0) {
        return failErrno(errno, "create", path);
    }
    file.m_path = path;
    return file;
}

Result<void> SpoolFile::append(std::span<const std::byte> bytes)
{
    while (!bytes.empty()) {
        const ssize_t n = ::pwrite(m_fd, bytes.data(), bytes.size(), static_cast<off_t>(m_size));
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return failErrno(errno, "write", m_path);
        }
        m_size += static_cast<std::uint64_t>(n);
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<void> SpoolFile::read(std::uint64_t offset, std::span<std::byte> bytes) const
{
    while (!bytes.empty()) {
        const ssize_t n = ::pread(m_fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? failErrno(errno, "read", m_path)
                         : Result<void>(fail(Errc::FileTruncated, "the scratch file was shortened", m_path.string()));
        }
        offset += static_cast<std::uint64_t>(n);
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

// ---------------------------------------------------------------------------------------------- recorder

Result<std::unique_ptr<CameraRecorder>> CameraRecorder::start(const fs::path& scratch, const Feature& feature,
                                                              std::int64_t fps, const io::VideoEncoderOptions& options)
{
    const PictureShape shape = pictureShape(feature);
    std::unique_ptr<CameraRecorder> recorder(new CameraRecorder(feature, shape));
    if (feature.type == FeatureType::Video) {
        recorder->m_videoFile = scratch / (feature.key + ".mp4");
        RW_TRY(io::VideoEncoder encoder,
               io::VideoEncoder::create(recorder->m_videoFile, static_cast<int>(shape.width),
                                        static_cast<int>(shape.height), fps, options));
        recorder->m_encoder = std::move(encoder);
    } else {
        RW_TRY(recorder->m_pictures, SpoolFile::create(scratch / (feature.key + ".pictures")));
    }
    RW_TRY(recorder->m_levels, SpoolFile::create(scratch / (feature.key + ".levels")));
    recorder->m_counts.resize(static_cast<std::size_t>(shape.channels) * 256);
    CameraRecorder* self = recorder.get();
    recorder->m_thread = WorkerThread("rw-encode", [self](const std::stop_token& stop) { self->work(stop); });
    return recorder;
}

CameraRecorder::~CameraRecorder()
{
    m_thread.requestStop();
    m_thread.join();
    if (m_encoder) {
        m_encoder.reset();
    }
}

Result<void> CameraRecorder::push(std::span<const std::uint8_t> pixels)
{
    std::unique_lock lock(m_mutex);
    m_changed.wait(lock, [&] { return m_error || m_queue.size() < kQueueFrames; });
    if (m_error) {
        return tl::unexpected<Error>(*m_error);
    }
    Buffer buffer;
    if (!m_free.empty()) {
        buffer = std::move(m_free.back());
        m_free.pop_back();
    }
    lock.unlock();
    buffer.assign(pixels.begin(), pixels.end());
    lock.lock();
    m_queue.push_back(std::move(buffer));
    ++m_frames;
    m_changed.notify_all();
    return {};
}

Result<void> CameraRecorder::finish()
{
    {
        const std::lock_guard lock(m_mutex);
        m_ending = true;
        m_changed.notify_all();
    }
    m_thread.join();
    if (m_error) {
        return tl::unexpected<Error>(*m_error);
    }
    if (m_encoder) {
        RW_TRY_VOID(m_encoder->finish());
        RW_CHECK(m_encoder->frames() == m_frames);
        m_encoder.reset();
    }
    return {};
}

void CameraRecorder::work(const std::stop_token& stop)
{
    std::unique_lock lock(m_mutex);
    for (;;) {
        const bool more = m_changed.wait(lock, stop, [&] { return m_ending || !m_queue.empty(); });
        if (!more || m_queue.empty()) {
            return;
        }
        Buffer buffer = std::move(m_queue.front());
        m_queue.pop_front();
        m_changed.notify_all();
        lock.unlock();
        Result<void> consumed;
        try {
            consumed = consume(buffer);
        } catch (const std::exception& exception) {
            consumed = fail(Errc::Internal, exception.what(), m_feature.key);
        }
        lock.lock();
        if (!consumed) {
            m_error = consumed.error();
            m_changed.notify_all();
            return;
        }
        m_free.push_back(std::move(buffer));
    }
}

Result<void> CameraRecorder::consume(std::span<const std::uint8_t> pixels)
{
    const auto channels = static_cast<std::size_t>(m_shape.channels);
    const auto stride = static_cast<std::size_t>(pictureStride(m_shape.height, m_shape.width));
    const auto height = static_cast<std::size_t>(m_shape.height);
    const auto width = static_cast<std::size_t>(m_shape.width);
    std::fill(m_counts.begin(), m_counts.end(), 0u);
    for (std::size_t y = 0; y < height; y += stride) {
        const std::uint8_t* row = pixels.data() + y * width * channels;
        for (std::size_t x = 0; x < width; x += stride) {
            for (std::size_t c = 0; c < channels; ++c) {
                ++m_counts[c * 256 + row[x * channels + c]];
            }
        }
    }
    RW_TRY_VOID(m_levels.append(std::as_bytes(std::span(m_counts))));
    if (m_encoder) {
        return m_encoder->addFrame(pixels);
    }
    RW_TRY(const auto png,
           io::encodePng(pixels, static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels)));
    m_offsets.push_back(m_pictures.size());
    return m_pictures.append(png);
}

Result<ChannelHistogram> CameraRecorder::histogram() const
{
    ChannelHistogram result(m_shape.channels);
    std::vector<std::uint32_t> counts(m_counts.size());
    std::vector<std::uint64_t> sums(m_counts.size(), 0);
    const auto sampled = sampledFrames(m_frames);
    for (const std::int64_t frame : sampled) {
        RW_TRY_VOID(m_levels.read(static_cast<std::uint64_t>(frame) * counts.size() * sizeof(std::uint32_t),
                                  std::as_writable_bytes(std::span(counts))));
        for (std::size_t i = 0; i < counts.size(); ++i) {
            sums[i] += counts[i];
        }
    }
    result.addCounts(sums, static_cast<std::int64_t>(sampled.size()));
    return result;
}

Result<std::vector<std::byte>> CameraRecorder::picture(std::int64_t i) const
{
    const auto at = static_cast<std::size_t>(i);
    RW_CHECK(at < m_offsets.size());
    const std::uint64_t end = at + 1 < m_offsets.size() ? m_offsets[at + 1] : m_pictures.size();
    std::vector<std::byte> bytes(end - m_offsets[at]);
    RW_TRY_VOID(m_pictures.read(m_offsets[at], bytes));
    return bytes;
}

} // namespace rankwise::data
