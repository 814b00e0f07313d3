// One camera of the episode that is being recorded: a thread that encodes its frames to a scratch file and counts the
// levels of every frame, so that the statistics can take lerobot's sample of frames once the length is known; for the
// sources of backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/base/worker_thread.h"
#include "backend/data/dataset_info.h"
#include "backend/data/dataset_tables.h"
#include "backend/data/statistics.h"
#include "backend/io/video_encoder.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace rankwise::data {

/// A file of bytes that is appended to and read back; unlinked when the object goes.
class SpoolFile {
public:
    SpoolFile() = default;
    SpoolFile(SpoolFile&& other) noexcept;
    SpoolFile& operator=(SpoolFile&& other) noexcept;
    ~SpoolFile();

    [[nodiscard]] static Result<SpoolFile> create(const std::filesystem::path& path);
    [[nodiscard]] Result<void> append(std::span<const std::byte> bytes);
    [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> bytes) const;
    [[nodiscard]] std::uint64_t size() const { return m_size; }

private:
    int m_fd = -1;
    std::uint64_t m_size = 0;
    std::filesystem::path m_path;
};

/// Thread: push() and finish() from one thread.
class CameraRecorder {
public:
    /// Video features go to `<scratch>/<key>.mp4`; of image features PNG bytes are spooled.
    [[nodiscard]] static Result<std::unique_ptr<CameraRecorder>> start(const std::filesystem::path& scratch,
                                                                       const Feature& feature, std::int64_t fps,
                                                                       const io::VideoEncoderOptions& options);
    ~CameraRecorder(); ///< Stops without finishing.
    CameraRecorder(const CameraRecorder&) = delete;
    CameraRecorder& operator=(const CameraRecorder&) = delete;

    /// Copies one frame into the queue; waits while it is full. Errors: those of encoding earlier frames.
    [[nodiscard]] Result<void> push(std::span<const std::uint8_t> pixels);

    /// Encodes what is queued and ends the file. Errors: DiskFull, IoFailed.
    [[nodiscard]] Result<void> finish();

    /// After finish(): the levels of lerobot's sample of frames.
    [[nodiscard]] Result<ChannelHistogram> histogram() const;
    /// After finish(): the PNG bytes of frame `i` of an image feature.
    [[nodiscard]] Result<std::vector<std::byte>> picture(std::int64_t i) const;

    [[nodiscard]] const Feature& feature() const { return m_feature; }
    [[nodiscard]] const std::filesystem::path& videoFile() const { return m_videoFile; }
    [[nodiscard]] std::int64_t frames() const { return m_frames; }

private:
    CameraRecorder(const Feature& feature, PictureShape shape) : m_feature(feature), m_shape(shape) { }
    void work(const std::stop_token& stop);
    Result<void> consume(std::span<const std::uint8_t> pixels);

    using Buffer = std::vector<std::uint8_t>;

    Feature m_feature;
    PictureShape m_shape;
    std::filesystem::path m_videoFile;
    std::optional<io::VideoEncoder> m_encoder;
    SpoolFile m_levels;                   ///< channels × 256 uint32 a frame.
    SpoolFile m_pictures;                 ///< PNG bytes, one after the other.
    std::vector<std::uint64_t> m_offsets; ///< Where each PNG begins.
    std::vector<std::uint32_t> m_counts;
    std::int64_t m_frames = 0;

    std::mutex m_mutex;
    std::condition_variable_any m_changed;
    std::deque<Buffer> m_queue;
    std::vector<Buffer> m_free;
    bool m_ending = false;
    std::optional<Error> m_error;
    WorkerThread m_thread; ///< Last: stops before the rest goes.
};

} // namespace rankwise::data
