// The description of a LeRobotDataset: meta/info.json as types, and one row of the episode table.
// Formats: v3.0 (lerobot 0.4 and newer) and v2.1 (lerobot 0.3).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::data {

/// What one element of a feature is. Image: encoded picture in the Parquet file; Video: frame of an MP4;
/// Language: annotation lists, which are skipped.
enum class FeatureType : std::uint8_t {
    Bool,
    UInt8,
    Int8,
    UInt16,
    Int16,
    UInt32,
    Int32,
    UInt64,
    Int64,
    Float16,
    Float32,
    Float64,
    String,
    Image,
    Video,
    Language,
};

/// Name in info.json ("float32", "video", …). Stable.
[[nodiscard]] std::string_view featureTypeName(FeatureType type);
[[nodiscard]] std::optional<FeatureType> featureTypeFromName(std::string_view name);

/// Bytes of one element of a numeric type or Bool; 0 for the others.
[[nodiscard]] std::size_t elementSize(FeatureType type);

/// One entry of `features`.
struct Feature {
    std::string key; ///< e.g. "observation.images.front"; never contains '/'.
    FeatureType type = FeatureType::Float32;
    std::vector<std::int64_t> shape; ///< [1] is a scalar column; pictures are [height, width, channels].
    std::vector<std::string> names;  ///< One a dimension element, flattened in order; may be empty.
    std::string namesJson;           ///< `names` as it stands in the file; "null" when there are none.
    std::string infoJson;            ///< The optional `info` object; empty when absent.

    [[nodiscard]] bool isCamera() const { return type == FeatureType::Image || type == FeatureType::Video; }
    [[nodiscard]] bool isNumeric() const { return elementSize(type) > 0; }
    /// Number of elements. Checked for overflow when the description was read.
    [[nodiscard]] std::int64_t width() const;
};

enum class DatasetVersion : std::uint8_t { V21, V30 };
[[nodiscard]] std::string_view datasetVersionName(DatasetVersion version); ///< "v2.1", "v3.0"

/// Greatest frame rate taken for a real one.
inline constexpr std::int64_t kMaxFps = 1'000'000;

/// meta/info.json.
struct DatasetInfo {
    DatasetVersion version = DatasetVersion::V30;
    std::int64_t fps = 30; ///< Frames a second, 1 … kMaxFps.
    std::string robotType; ///< Empty: null in the file.
    std::int64_t totalEpisodes = 0;
    std::int64_t totalFrames = 0;
    std::int64_t totalTasks = 0;
    std::int64_t chunksSize = 1000; ///< Files (v3.0) or episodes (v2.1) in a chunk folder.
    double dataFilesSizeMb = 100;
    double videoFilesSizeMb = 200;
    std::string dataPath;          ///< Template, checked: relative, inside the dataset, known fields only.
    std::string videoPath;         ///< Template; empty when the dataset has no videos.
    std::vector<Feature> features; ///< In the file's order, default columns included.

    [[nodiscard]] const Feature* find(std::string_view key) const;
    [[nodiscard]] std::vector<std::string> keysOf(FeatureType type) const;
    /// Keys of video and image features in the file's order.
    [[nodiscard]] std::vector<std::string> cameraKeys() const;
};

/// The five columns that every dataset has: timestamp, frame_index, episode_index, index, task_index.
[[nodiscard]] const std::vector<Feature>& defaultFeatures();

/// Errors: FileNotFound, JsonInvalid, FieldMissing, FieldInvalid, ShapeOverflow, DtypeUnknown, Unsupported (version),
/// TooLarge. `subject` of each names the file and the field.
[[nodiscard]] Result<DatasetInfo> readDatasetInfo(const std::filesystem::path& root, std::vector<Warning>& warnings);

/// The text of info.json with every key that any reader wants.
[[nodiscard]] std::string datasetInfoText(const DatasetInfo& info);

/// Fills `{name}` and `{name:0Nd}`. Errors: FieldInvalid (unknown field, attribute access, absolute path, "..").
[[nodiscard]] Result<std::string> fillTemplate(std::string_view pattern,
                                               const std::map<std::string, std::int64_t>& numbers,
                                               std::string_view videoKey, const std::string& subject);

/// Where the frames of one episode lie in one camera's video.
struct VideoSpan {
    std::string key;
    std::string path;            ///< Relative to the dataset.
    std::int64_t firstFrame = 0; ///< Frames before this episode in the file.
    double fromTimestamp = 0;    ///< Seconds, firstFrame / fps.
    double toTimestamp = 0;
    std::int64_t chunkIndex = 0;
    std::int64_t fileIndex = 0;
};

/// One episode.
struct EpisodeInfo {
    std::int64_t index = 0;
    std::int64_t length = 0;    ///< Frames.
    std::int64_t fromIndex = 0; ///< Global index of the first frame.
    std::int64_t toIndex = 0;   ///< One past the last.
    std::vector<std::string> tasks;
    std::string dataPath; ///< Relative to the dataset.
    std::int64_t dataChunk = 0;
    std::int64_t dataFile = 0;
    std::vector<VideoSpan> videos;            ///< In the order of the video features.
    std::map<std::string, std::string> extra; ///< Other columns of the episode's row, as JSON values.

    [[nodiscard]] const VideoSpan* video(std::string_view key) const;
};

} // namespace rankwise::data
