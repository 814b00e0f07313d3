// Records a LeRobotDataset v3.0 so that a crash costs at most the episode in progress: frames go to a scratch
// folder, and a finished episode is synced, renamed into place and only then counted.
//
// One data file and one video a camera for each episode; the episode table packs 100 rows a file. Order of
// publishing: videos, data, tasks, episode table, statistics, info.json; every state between two of these opens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
#include "backend/data/frame_view.h"
#include "backend/data/statistics.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::data {

enum class VideoCodec : std::uint8_t { H264, Av1 };

struct VideoOptions {
    VideoCodec codec = VideoCodec::H264;
    std::string preset;      ///< Empty: a fast one of the codec.
    int quality = -1;        ///< CRF; -1: the codec's default here (H264 26, Av1 30).
    int gop = 2;             ///< Frames from key frame to key frame; 2 keeps random access cheap.
    bool fullChroma = false; ///< yuv444p instead of yuv420p; H264 only.
};

/// What a new dataset holds. The default columns are added.
struct DatasetSpec {
    std::int64_t fps = 30;
    std::string robotType;
    std::vector<Feature> features; ///< Without the default columns. Camera shapes are [height, width, channels].
    VideoOptions video;
    /// Further columns of the episode table (scalars of Bool, Int64, Float64 or String), set by finishEpisode().
    std::vector<Feature> episodeColumns;
};

/// Makes a Feature. For cameras the names are height, width, channels.
[[nodiscard]] Feature vectorFeature(std::string key, FeatureType type, std::vector<std::string> names);
[[nodiscard]] Feature scalarFeature(std::string key, FeatureType type);
[[nodiscard]] Feature cameraFeature(std::string key, FeatureType type, std::int64_t height, std::int64_t width,
                                    std::int64_t channels = 3);

/// What finishEpisode() reports.
struct EpisodeReceipt {
    std::int64_t episodeIndex = 0;
    std::int64_t length = 0;
    std::uint64_t bytes = 0; ///< On disk, videos and data.
};

/// What was found and done when a dataset was opened for appending.
struct RecoveryReport {
    std::int64_t episodes = 0;        ///< Whole episodes in the dataset.
    std::int64_t droppedEpisodes = 0; ///< Unfinished ones removed.
    std::vector<std::string> actions; ///< One sentence each, in order.
};

/// Thread: one at a time; encoding runs in threads of its own, one a video camera.
/// Memory: constant, about 8 pictures a camera and the numeric columns of the episode in progress.
class DatasetWriter {
public:
    /// Discards the episode in progress; finished ones are on disk already.
    ~DatasetWriter();
    DatasetWriter(const DatasetWriter&) = delete;
    DatasetWriter& operator=(const DatasetWriter&) = delete;

    /// Errors: AlreadyExists (the folder holds something), FieldInvalid (features), Unsupported (no such encoder),
    /// IoFailed, DiskFull.
    [[nodiscard]] static Result<std::unique_ptr<DatasetWriter>> create(const std::filesystem::path& root,
                                                                       const DatasetSpec& spec);

    /// Repairs what a crash left, then continues after the last whole episode.
    /// Errors: those of reading the tables, Unsupported (v2.1), AlreadyExists (another writer is at work).
    [[nodiscard]] static Result<std::unique_ptr<DatasetWriter>>
    openForAppend(const std::filesystem::path& root, const VideoOptions& video, RecoveryReport* report = nullptr);

    /// Errors: DiskFull, IoFailed. An episode in progress is a bug of the caller.
    [[nodiscard]] Result<void> beginEpisode();

    /// Every feature must be given once. After an error the episode can only be discarded.
    /// Errors: FieldMissing, FieldInvalid, ShapeMismatch, DiskFull, IoFailed.
    [[nodiscard]] Result<void> addFrame(const FrameView& frame);

    /// Publishes the episode: when this returns, it survives a crash. `task` is the instruction of frames without one.
    /// `extra` are JSON values of the episode columns. An episode without frames is an error (FieldInvalid).
    /// Errors: DiskFull, IoFailed: the episode is gone then, and what was written before is whole.
    [[nodiscard]] Result<EpisodeReceipt> finishEpisode(std::string_view task,
                                                       const std::map<std::string, std::string>& extra = {});

    void discardEpisode();

    /// Writes exact statistics of the whole dataset. The writer takes nothing after that.
    [[nodiscard]] Result<void> close();

    [[nodiscard]] const DatasetInfo& info() const;
    [[nodiscard]] bool episodeOpen() const;
    [[nodiscard]] std::int64_t framesInEpisode() const;

private:
    struct Impl;
    explicit DatasetWriter(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

/// The recovery scan alone. Errors: as DatasetWriter::openForAppend().
[[nodiscard]] Result<RecoveryReport> recoverDataset(const std::filesystem::path& root);

} // namespace rankwise::data
