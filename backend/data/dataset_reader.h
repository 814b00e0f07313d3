// Reads a LeRobotDataset (v3.0 and v2.1): columns, windows around a frame with padding masks, pictures from
// video or from the Parquet files, tasks, episodes and statistics.
//
// Letters of shapes: T steps of a window, D elements of a feature, H W C of a picture.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_info.h"
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

/// How much is looked at before a dataset counts as open.
enum class Verify : std::uint8_t {
    Tables, ///< info.json, episode and task tables, every numeric column; videos must exist.
    Files,  ///< … and the index of every video against the episode table, and the structure of embedded pictures.
    Frames, ///< … and every frame of every camera is decoded.
};

struct OpenOptions {
    // Changes results:
    Verify verify = Verify::Files;
    // Changes only speed:
    std::size_t frameCacheBytes = std::size_t { 256 } << 20; ///< Decoded pictures kept, over all cameras and threads.
    int openVideos = 16;                                     ///< Decoders kept open.
};

/// One decoded picture, rows top to bottom. Immutable and shared.
struct Image {
    std::int32_t height = 0;
    std::int32_t width = 0;
    std::int32_t channels = 3;
    std::vector<std::uint8_t> pixels; ///< [H, W, C], RGB or gray.
};
using ImagePtr = std::shared_ptr<const Image>;

/// Rows of a numeric or text column.
struct ColumnWindow {
    FeatureType type = FeatureType::Float32;
    std::int64_t steps = 0;          ///< T
    std::int64_t width = 0;          ///< D, elements a step
    std::vector<std::byte> bytes;    ///< [T, D] of `type`; Bool is one byte an element. Empty for String.
    std::vector<std::string> texts;  ///< [T], for String.
    std::vector<std::uint8_t> isPad; ///< [T], 1 where the step lies outside the episode and repeats its edge.

    /// The values as float (numeric types and Bool), [T, D].
    [[nodiscard]] std::vector<float> floats() const;
    [[nodiscard]] std::vector<double> doubles() const;
    /// The bytes as T, which must be the type of the column.
    template <class T> [[nodiscard]] std::span<const T> as() const
    {
        return { reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T) };
    }
};

struct ImageWindow {
    std::vector<ImagePtr> frames;    ///< [T]
    std::vector<std::uint8_t> isPad; ///< [T]
};

/// Which steps of which features a sample holds. Offsets are frames relative to the sample's own; they are clamped
/// to the episode, and the mask says which were.
struct SampleRequest {
    struct Window {
        std::string key;
        std::vector<std::int64_t> offsets { 0 };
    };
    std::vector<Window> columns;
    std::vector<Window> cameras;

    /// What a chunked policy trains on: the state now, `chunk` actions from now on, one frame of each camera.
    /// An empty key leaves that part out.
    [[nodiscard]] static SampleRequest forPolicy(std::vector<std::string> cameraKeys, std::string stateKey,
                                                 std::string actionKey, std::int64_t chunk);
    /// Offsets 0 … steps-1.
    [[nodiscard]] static std::vector<std::int64_t> chunkOffsets(std::int64_t steps);
    /// Seconds to frames. Errors: FieldInvalid when one is not a multiple of 1/fps within `tolerance` seconds.
    [[nodiscard]] static Result<std::vector<std::int64_t>>
    offsetsFromSeconds(std::span<const double> seconds, std::int64_t fps, double tolerance = 1e-4);
};

struct Sample {
    std::int64_t index = 0; ///< Global frame index.
    std::int64_t episodeIndex = 0;
    std::int64_t frameIndex = 0;
    std::int64_t taskIndex = 0;
    float timestamp = 0; ///< Seconds since the episode's start.
    std::string task;
    std::map<std::string, ColumnWindow, std::less<>> columns;
    std::map<std::string, ImageWindow, std::less<>> cameras;
};

/// A whole column in memory, row-major.
struct Column {
    FeatureType type = FeatureType::Float32;
    std::int64_t width = 1;
    std::vector<std::byte> bytes;   ///< [frames, D]
    std::vector<std::string> texts; ///< [frames], for String.
};

/// An open dataset. Every const function may be called from any thread at the same time.
/// Memory: all numeric and text columns, and the frame cache.
class DatasetReader {
public:
    ~DatasetReader();
    DatasetReader(const DatasetReader&) = delete;
    DatasetReader& operator=(const DatasetReader&) = delete;

    /// Opens the folder that holds meta/info.json. Trouble that does not make frames wrong goes into `warnings`.
    /// Errors: FileNotFound, those of readDatasetInfo(), DataInvalid (tables or frames contradict each other),
    /// ShapeMismatch, NotFinite, HeaderInvalid (a Parquet or MP4 file that is none), FileTruncated, IoFailed.
    [[nodiscard]] static Result<std::shared_ptr<const DatasetReader>>
    open(const std::filesystem::path& root, const OpenOptions& options, std::vector<Warning>& warnings);

    [[nodiscard]] const std::filesystem::path& root() const;
    [[nodiscard]] const DatasetInfo& info() const;
    [[nodiscard]] std::int64_t frameCount() const;
    [[nodiscard]] const std::vector<EpisodeInfo>& episodes() const;
    /// Task texts; the position is the task_index.
    [[nodiscard]] const std::vector<std::string>& tasks() const;
    /// meta/stats.json (v2.1: aggregated over the episodes). Empty when absent.
    [[nodiscard]] const DatasetStatistics& statistics() const;
    /// The stored statistics of an episode; empty when absent. Errors: those of reading a Parquet file.
    [[nodiscard]] Result<DatasetStatistics> episodeStatistics(std::int64_t episode) const;

    /// Column of a numeric or text feature; nullptr for cameras, language and unknown keys.
    [[nodiscard]] const Column* column(std::string_view key) const;
    [[nodiscard]] const EpisodeInfo& episodeOf(std::int64_t index) const;

    /// Errors: FieldInvalid (index or key that is not there), and those of image().
    [[nodiscard]] Result<Sample> sample(std::int64_t index, const SampleRequest& request) const;

    /// One picture of a camera at a global frame index.
    /// Errors: FieldInvalid, DataInvalid (no frame at that time, picture broken), FileTruncated, IoFailed, Unsupported.
    [[nodiscard]] Result<ImagePtr> image(std::string_view key, std::int64_t index) const;

    /// The stored bytes of an image feature (PNG, JPEG …). Errors: as image().
    [[nodiscard]] Result<std::vector<std::byte>> encodedImage(std::string_view key, std::int64_t index) const;

    struct CacheCounters {
        std::uint64_t hits = 0;
        std::uint64_t decoded = 0;
        std::uint64_t seeks = 0;
        std::size_t bytes = 0;
    };
    [[nodiscard]] CacheCounters cacheCounters() const;

private:
    struct Impl;
    explicit DatasetReader(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

} // namespace rankwise::data
