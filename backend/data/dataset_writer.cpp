// Records a LeRobotDataset v3.0, crash-proof.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_writer.h"

#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/base/log.h"
#include "backend/data/camera_recorder.h"
#include "backend/data/dataset_files.h"
#include "backend/data/dataset_recovery.h"
#include "backend/data/level_counts.h"
#include "backend/io/parquet.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <arrow/table.h>
#include <arrow/type.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

/// Rows of one file of the episode table; it is written anew for each of its rows.
constexpr std::int64_t kRowsPerEpisodeFile = 100;
/// An episode is not begun with less space than this.
constexpr std::uint64_t kReserveBytes = 1u << 20;

Result<io::VideoEncoderOptions> encoderOptions(const VideoOptions& video)
{
    io::VideoEncoderOptions options;
    options.gop = video.gop;
    options.fullChroma = video.fullChroma;
    if (video.fullChroma && video.codec != VideoCodec::H264) {
        return fail(Errc::FieldInvalid, "full chroma is for H264; the encoder of AV1 has half of it only", "video");
    }
    if (video.codec == VideoCodec::H264) {
        options.encoder = "libx264";
        // No deblocking and no arithmetic coding: half the time to write and to read, at a higher fidelity and twice
        // the bytes of lerobot's medium preset with CRF 30 (640 × 480, key frame distance 2).
        options.preset = video.preset.empty() ? "ultrafast" : video.preset;
        options.crf = video.quality < 0 ? 26 : video.quality;
    } else {
        options.encoder = "libsvtav1";
        options.preset = video.preset.empty() ? "12" : video.preset;
        options.crf = video.quality < 0 ? 30 : video.quality;
    }
    if (video.gop < 1 || options.crf > 63) {
        return fail(Errc::FieldInvalid, "the key frame distance must be at least 1 and the quality at most 63",
                    "video");
    }
    if (!io::hasVideoEncoder(options.encoder)) {
        return fail(Errc::Unsupported, fmt::format("FFmpeg has no encoder \"{}\"", options.encoder), "video");
    }
    return options;
}

Result<void> checkFeature(const Feature& feature, const std::set<std::string>& before)
{
    if (feature.key.empty() || feature.key.find('/') != std::string::npos || feature.key.starts_with('.')) {
        return fail(Errc::FieldInvalid, "a feature name must not be empty, contain '/' or begin with '.'", feature.key);
    }
    if (before.contains(feature.key)) {
        return fail(Errc::FieldInvalid, "this feature is there already; the default columns are added by themselves",
                    feature.key);
    }
    if (feature.type == FeatureType::Language) {
        return fail(Errc::Unsupported, "language annotations are not recorded", feature.key);
    }
    if (feature.shape.empty() || feature.shape.size() > 5
        || std::any_of(feature.shape.begin(), feature.shape.end(),
                       [](std::int64_t d) { return d < 1 || d > (1 << 24); })
        || feature.width() > (std::int64_t { 1 } << 30)) {
        return fail(Errc::FieldInvalid, "the shape must have one to five dimensions of at least 1", feature.key);
    }
    if (!feature.isCamera()) {
        return {};
    }
    const PictureShape shape = pictureShape(feature);
    const bool video = feature.type == FeatureType::Video;
    if (feature.shape.size() != 3 || (shape.channels != 3 && (video || shape.channels != 1))) {
        return fail(Errc::FieldInvalid, "a camera has the shape [height, width, 3]; an image column may have 1 channel",
                    feature.key);
    }
    if (feature.shape[2] != shape.channels) {
        return fail(Errc::FieldInvalid, "pictures are recorded as [height, width, channels]", feature.key);
    }
    if (video && (shape.height % 2 != 0 || shape.width % 2 != 0)) {
        return fail(Errc::FieldInvalid,
                    fmt::format("{} × {} pixels: both sides of a video must be even", shape.width, shape.height),
                    feature.key);
    }
    return {};
}

void describeVideo(Feature& feature, std::int64_t fps, const io::VideoEncoderOptions& options, VideoCodec codec)
{
    const PictureShape shape = pictureShape(feature);
    OrderedJson info;
    info["video.height"] = shape.height;
    info["video.width"] = shape.width;
    info["video.codec"] = codec == VideoCodec::H264 ? "h264" : "av1";
    info["video.pix_fmt"] = options.fullChroma ? "yuv444p" : "yuv420p";
    info["video.is_depth_map"] = false;
    info["video.fps"] = fps;
    info["video.channels"] = 3;
    info["has_audio"] = false;
    info["video.g"] = options.gop;
    info["video.crf"] = options.crf;
    info["video.preset"] = options.preset;
    feature.infoJson = info.dump();
}

std::string namesJsonOf(const std::vector<std::string>& names)
{
    return names.empty() ? "null" : Json(names).dump();
}

/// Chunk and file numbers of the next file of a kind.
struct FilePlace {
    std::int64_t chunk = 0;
    std::int64_t file = 0;

    /// File names have three digits: a fourth would break the order in which they are read.
    [[nodiscard]] FilePlace next(std::int64_t chunksSize) const
    {
        const std::int64_t limit = std::min<std::int64_t>(chunksSize, 1000);
        return file + 1 < limit ? FilePlace { chunk, file + 1 } : FilePlace { chunk + 1, 0 };
    }
    auto operator<=>(const FilePlace&) const = default;
};

Result<void> syncFolder(const fs::path& folder)
{
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return failErrno(errno, "open for syncing", folder);
    }
    ::fsync(fd);
    ::close(fd);
    return {};
}

} // namespace

Feature vectorFeature(std::string key, FeatureType type, std::vector<std::string> names)
{
    Feature feature {
        .key = std::move(key), .type = type, .shape = {}, .names = std::move(names), .namesJson = {}, .infoJson = {}
    };
    feature.shape = { static_cast<std::int64_t>(feature.names.size()) };
    feature.namesJson = namesJsonOf(feature.names);
    return feature;
}

Feature scalarFeature(std::string key, FeatureType type)
{
    return { .key = std::move(key), .type = type, .shape = { 1 }, .names = {}, .namesJson = "null", .infoJson = {} };
}

Feature cameraFeature(std::string key, FeatureType type, std::int64_t height, std::int64_t width, std::int64_t channels)
{
    Feature feature { .key = std::move(key),
                      .type = type,
                      .shape = { height, width, channels },
                      .names = { "height", "width", "channels" },
                      .namesJson = {},
                      .infoJson = {} };
    feature.namesJson = namesJsonOf(feature.names);
    return feature;
}

// ---------------------------------------------------------------------------------------------- writer

struct DatasetWriter::Impl {
    fs::path root;
    WriterLock lock;
    DatasetInfo info;
    io::VideoEncoderOptions encoder;
    std::vector<Feature> episodeColumns;

    // Of the finished episodes.
    std::vector<std::string> tasks;
    DatasetStatistics statistics;
    LevelCounts levels;
    bool levelsExact = true; ///< False: earlier episodes were recorded by something else.
    FilePlace nextData;
    std::map<std::string, FilePlace> nextVideo;
    FilePlace tablePlace;
    bool tableBegun = false;
    std::shared_ptr<arrow::Table> table;          ///< Rows of the file that is being filled.
    std::shared_ptr<arrow::Schema> foreignSchema; ///< Of rows that were there before.

    // Of the episode in progress.
    bool open = false;
    bool spoiled = false; ///< An addFrame() failed: only discardEpisode() is left.
    std::int64_t frames = 0;
    std::map<std::string, Column, std::less<>> columns;
    std::map<std::string, std::unique_ptr<CameraRecorder>, std::less<>> cameras;
    std::vector<std::string> frameTasks; ///< Instruction of each frame; empty: the episode's.
    bool closed = false;

    [[nodiscard]] fs::path scratch() const { return root / kScratchFolder; }
    [[nodiscard]] fs::path episodeScratch() const { return scratch() / "episode"; }

    Result<void> checkSpace() const;
    Result<void> appendFrame(const FrameView& frame);
    void appendDefaults();
    void resetEpisode();
    Result<DatasetStatistics> episodeStatistics(std::map<std::string, ChannelHistogram>& histograms) const;
    Result<void> resolveTasks(std::string_view task, EpisodeInfo& episode, std::vector<std::string>& newTasks);
    Result<EpisodeReceipt> publish(std::string_view task, const std::map<std::string, std::string>& extra);
    Result<std::uint64_t> moveIntoPlace(EpisodeInfo& episode, std::vector<fs::path>& moved);
    Result<void> writeEpisodeRow(const EpisodeInfo& episode, const DatasetStatistics& episodeStats);
    Result<void> settle(const EpisodeInfo& episode, const DatasetStatistics& episodeStats,
                        const std::map<std::string, ChannelHistogram>& histograms);
    Result<void> adopt(RecoveredDataset recovered);
    Result<void> completeLevels();
};

DatasetWriter::DatasetWriter(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }

DatasetWriter::~DatasetWriter()
{
    if (m_impl->open) {
        m_impl->resetEpisode();
    }
    if (!m_impl->closed) {
        m_impl->lock.removeScratch();
    }
}

Result<std::unique_ptr<DatasetWriter>> DatasetWriter::create(const fs::path& root, const DatasetSpec& spec)
{
    std::error_code error;
    if (fs::exists(root, error) && (!fs::is_directory(root, error) || !fs::is_empty(root, error))) {
        return fail(Errc::AlreadyExists, "the folder holds something already; append to it, or choose another",
                    root.string());
    }
    auto impl = std::make_unique<Impl>();
    RW_TRY(impl->encoder, encoderOptions(spec.video));
    if (spec.fps < 1 || spec.fps > kMaxFps) {
        return fail(Errc::FieldInvalid, fmt::format("{} frames a second", spec.fps), "fps");
    }
    std::set<std::string> keys;
    for (const Feature& feature : defaultFeatures()) {
        keys.insert(feature.key);
    }
    for (const Feature& feature : spec.features) {
        RW_TRY_VOID(checkFeature(feature, keys));
        keys.insert(feature.key);
        impl->info.features.push_back(feature);
        if (feature.namesJson.empty()) {
            impl->info.features.back().namesJson = namesJsonOf(feature.names);
        }
        if (feature.type == FeatureType::Video) {
            describeVideo(impl->info.features.back(), spec.fps, impl->encoder, spec.video.codec);
        }
    }
    for (const Feature& feature : defaultFeatures()) {
        impl->info.features.push_back(feature);
    }
    impl->root = root;
    impl->info.fps = spec.fps;
    impl->info.robotType = spec.robotType;
    impl->info.dataPath = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
    impl->info.videoPath = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4";
    impl->episodeColumns = spec.episodeColumns;
    impl->levels = readLevelCounts(root, impl->info);
    RW_TRY_VOID(createFolders(root / "meta"));
    RW_TRY(impl->lock, WriterLock::take(root));
    RW_TRY_VOID(writeFileAtomically(root / "meta" / "info.json", datasetInfoText(impl->info)));
    return std::unique_ptr<DatasetWriter>(new DatasetWriter(std::move(impl)));
}

Result<std::unique_ptr<DatasetWriter>> DatasetWriter::openForAppend(const fs::path& root, const VideoOptions& video,
                                                                    RecoveryReport* report)
{
    auto impl = std::make_unique<Impl>();
    impl->root = root;
    {
        std::vector<Warning> warnings;
        RW_TRY(const DatasetInfo info, readDatasetInfo(root, warnings));
        if (info.version != DatasetVersion::V30) {
            return fail(Errc::Unsupported, "only v3.0 is recorded; convert the dataset first", root.string());
        }
    }
    RW_TRY(impl->encoder, encoderOptions(video));
    RW_TRY(impl->lock, WriterLock::take(root));
    RecoveryReport local;
    RW_TRY(RecoveredDataset recovered, recover(root, report != nullptr ? *report : local));
    RW_TRY_VOID(impl->adopt(std::move(recovered)));
    return std::unique_ptr<DatasetWriter>(new DatasetWriter(std::move(impl)));
}

/// Takes over where the recovered dataset ends: new files of every kind.
Result<void> DatasetWriter::Impl::adopt(RecoveredDataset recovered)
{
    info = std::move(recovered.info);
    tasks = std::move(recovered.tasks);
    statistics = std::move(recovered.statistics);
    for (const EpisodeInfo& episode : recovered.episodes) {
        nextData = std::max(nextData, FilePlace { episode.dataChunk, episode.dataFile }.next(info.chunksSize));
        for (const VideoSpan& span : episode.videos) {
            FilePlace& place = nextVideo[span.key];
            place = std::max(place, FilePlace { span.chunkIndex, span.fileIndex }.next(info.chunksSize));
        }
    }
    for (const Feature& feature : info.features) {
        if (feature.type == FeatureType::Language || (feature.isCamera() && feature.shape.size() != 3)) {
            return fail(Errc::Unsupported, "this feature cannot be recorded", feature.key);
        }
    }
    if (!recovered.rows.empty()) {
        RW_TRY(const io::ParquetFile last, io::ParquetFile::open(recovered.rows.back().file));
        foreignSchema = last.schema()->RemoveMetadata();
        for (const auto& [key, value] : recovered.episodes.back().extra) {
            const auto field = foreignSchema->GetFieldByName(key);
            const auto id = field != nullptr ? field->type()->id() : arrow::Type::NA;
            if (id == arrow::Type::STRING || id == arrow::Type::BOOL || id == arrow::Type::INT64
                || id == arrow::Type::DOUBLE) {
                episodeColumns.push_back(scalarFeature(key,
                                                       id == arrow::Type::STRING      ? FeatureType::String
                                                           : id == arrow::Type::BOOL  ? FeatureType::Bool
                                                           : id == arrow::Type::INT64 ? FeatureType::Int64
                                                                                      : FeatureType::Float64));
            }
        }
        for (const fs::path& path : chunkFiles(root / "meta" / "episodes", ".parquet")) {
            FilePlace place;
            const std::string chunk = path.parent_path().filename().string();
            const std::string file = path.stem().string();
            if (std::sscanf(chunk.c_str(), "chunk-%ld", &place.chunk) == 1
                && std::sscanf(file.c_str(), "file-%ld", &place.file) == 1) {
                tablePlace = std::max(tablePlace, place.next(info.chunksSize));
            }
        }
    }
    levels = readLevelCounts(root, info);
    return completeLevels();
}

/// Episodes that were published just before a crash are not in the level counts yet: their frames are decoded.
Result<void> DatasetWriter::Impl::completeLevels()
{
    if (levels.episodes == info.totalEpisodes || info.cameraKeys().empty()) {
        levels.episodes = info.totalEpisodes;
        return {};
    }
    if (levels.episodes == 0 || levels.episodes > info.totalEpisodes || info.totalEpisodes - levels.episodes > 2) {
        // Recorded by something else: the stored statistics of the cameras are merged with the new ones.
        levelsExact = false;
        return {};
    }
    std::vector<Warning> warnings;
    RW_TRY(const auto reader, DatasetReader::open(root, { .verify = Verify::Tables }, warnings));
    for (std::int64_t e = levels.episodes; e < info.totalEpisodes; ++e) {
        const EpisodeInfo& episode = reader->episodes()[static_cast<std::size_t>(e)];
        for (auto& [key, histogram] : levels.cameras) {
            for (const std::int64_t frame : sampledFrames(episode.length)) {
                RW_TRY(const ImagePtr image, reader->image(key, episode.fromIndex + frame));
                histogram.addPicture(image->pixels, image->height, image->width);
            }
        }
    }
    levels.episodes = info.totalEpisodes;
    return writeLevelCounts(root, levels);
}

Result<void> DatasetWriter::Impl::checkSpace() const
{
    struct statvfs space { };
    if (::statvfs(root.c_str(), &space) == 0
        && static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize < kReserveBytes) {
        return fail(Errc::DiskFull, "less than 1 MiB is free; free some space and try again", root.string());
    }
    return {};
}

Result<void> DatasetWriter::beginEpisode()
{
    Impl& m = *m_impl;
    RW_CHECK(!m.open && !m.closed);
    RW_TRY_VOID(m.checkSpace());
    m.resetEpisode();
    RW_TRY_VOID(createFolders(m.episodeScratch()));
    for (const Feature& feature : m.info.features) {
        if (feature.isCamera()) {
            auto recorder = CameraRecorder::start(m.episodeScratch(), feature, m.info.fps, m.encoder);
            if (!recorder) {
                m.resetEpisode();
                return tl::unexpected<Error>(std::move(recorder).error());
            }
            m.cameras.emplace(feature.key, std::move(*recorder));
        } else if (feature.isNumeric() || feature.type == FeatureType::String) {
            Column& column = m.columns[feature.key];
            column.type = feature.type;
            column.width = feature.type == FeatureType::String ? 1 : feature.width();
        }
    }
    m.open = true;
    return {};
}

void DatasetWriter::Impl::resetEpisode()
{
    cameras.clear();
    columns.clear();
    frameTasks.clear();
    frames = 0;
    open = false;
    spoiled = false;
    std::error_code error;
    fs::remove_all(episodeScratch(), error);
}

void DatasetWriter::discardEpisode()
{
    m_impl->resetEpisode();
}

Result<void> DatasetWriter::addFrame(const FrameView& frame)
{
    RW_CHECK(m_impl->open && !m_impl->spoiled);
    auto added = m_impl->appendFrame(frame);
    m_impl->spoiled = !added;
    return added;
}

Result<void> DatasetWriter::Impl::appendFrame(const FrameView& frame)
{
    std::size_t given = 0;
    for (const FrameView::Value& value : frame.values()) {
        const Feature* feature = info.find(value.key);
        if (feature == nullptr) {
            return fail(Errc::FieldInvalid, "the dataset has no such feature", std::string(value.key));
        }
        if (feature->isCamera()) {
            const auto camera = cameras.find(value.key);
            if (value.kind != FrameView::Value::Kind::Pixels) {
                return fail(Errc::FieldInvalid, "a picture is needed", feature->key);
            }
            if (static_cast<std::int64_t>(value.bytes.size()) != feature->width()) {
                return fail(
                    Errc::ShapeMismatch,
                    fmt::format("{} bytes were given, and the picture has {}", value.bytes.size(), feature->width()),
                    feature->key);
            }
            if (camera->second->frames() != frames) {
                return fail(Errc::FieldInvalid, "was given twice in one frame", feature->key);
            }
            RW_TRY_VOID(camera->second->push(
                { reinterpret_cast<const std::uint8_t*>(value.bytes.data()), value.bytes.size() }));
        } else {
            Column& column = columns.find(value.key)->second;
            const std::size_t rows = feature->type == FeatureType::String
                ? column.texts.size()
                : column.bytes.size() / (elementSize(column.type) * static_cast<std::size_t>(column.width));
            if (rows != static_cast<std::size_t>(frames)) {
                return fail(Errc::FieldInvalid, "was given twice in one frame", feature->key);
            }
            RW_TRY_VOID(appendValue(*feature, value, column));
        }
        ++given;
    }
    appendDefaults();
    const std::size_t wanted = info.features.size() - defaultFeatures().size();
    if (given != wanted) {
        for (const Feature& feature : info.features) {
            const bool there = std::any_of(frame.values().begin(), frame.values().end(),
                                           [&](const auto& value) { return value.key == feature.key; });
            const auto& defaults = defaultFeatures();
            const bool added =
                std::any_of(defaults.begin(), defaults.end(), [&](const auto& d) { return d.key == feature.key; });
            if (!there && !added) {
                return fail(Errc::FieldMissing, "the frame lacks this feature", feature.key);
            }
        }
        return fail(Errc::FieldInvalid, "the default columns are added by themselves", root.string());
    }
    frameTasks.emplace_back(frame.taskText());
    ++frames;
    return {};
}

void DatasetWriter::Impl::appendDefaults()
{
    const auto put = [&](const char* key, auto value) {
        Column& column = columns.find(key)->second;
        const std::size_t at = column.bytes.size();
        column.bytes.resize(at + sizeof(value));
        std::memcpy(column.bytes.data() + at, &value, sizeof(value));
    };
    put("timestamp", static_cast<float>(static_cast<double>(frames) / static_cast<double>(info.fps)));
    put("frame_index", frames);
    put("episode_index", info.totalEpisodes);
    put("index", info.totalFrames + frames);
    put("task_index", std::int64_t { 0 });
}

// ---------------------------------------------------------------------------------------------- publishing

Result<EpisodeReceipt> DatasetWriter::finishEpisode(std::string_view task,
                                                    const std::map<std::string, std::string>& extra)
{
    Impl& m = *m_impl;
    RW_CHECK(m.open);
    if (m.frames == 0 || m.spoiled) {
        m.resetEpisode();
        return fail(Errc::FieldInvalid, "the episode has no frames, or one of them was refused; it was discarded",
                    m.root.string());
    }
    auto receipt = m.publish(task, extra);
    m.resetEpisode();
    return receipt;
}

/// task_index of every frame; texts that are new are appended to `newTasks`.
Result<void> DatasetWriter::Impl::resolveTasks(std::string_view task, EpisodeInfo& episode,
                                               std::vector<std::string>& newTasks)
{
    Column& indices = columns.find("task_index")->second;
    for (std::int64_t i = 0; i < frames; ++i) {
        const std::string& own = frameTasks[static_cast<std::size_t>(i)];
        const std::string text = own.empty() ? std::string(task) : own;
        auto found = std::find(newTasks.begin(), newTasks.end(), text);
        if (found == newTasks.end()) {
            newTasks.push_back(text);
            found = std::prev(newTasks.end());
        }
        const std::int64_t index = found - newTasks.begin();
        std::memcpy(indices.bytes.data() + static_cast<std::size_t>(i) * 8, &index, 8);
        if (std::find(episode.tasks.begin(), episode.tasks.end(), text) == episode.tasks.end()) {
            episode.tasks.push_back(text);
        }
    }
    return {};
}

Result<DatasetStatistics>
DatasetWriter::Impl::episodeStatistics(std::map<std::string, ChannelHistogram>& histograms) const
{
    DatasetStatistics result = columnStatistics(columns, 0, frames, QuantileRule::Histogram);
    for (const auto& [key, camera] : cameras) {
        RW_TRY(ChannelHistogram histogram, camera->histogram());
        result.emplace(key, histogram.statistics(QuantileRule::Histogram));
        histograms.emplace(key, std::move(histogram));
    }
    return result;
}

/// Renames the scratch files of the episode to their final names. `moved` gets what was moved, for undoing.
Result<std::uint64_t> DatasetWriter::Impl::moveIntoPlace(EpisodeInfo& episode, std::vector<fs::path>& moved)
{
    std::uint64_t bytes = 0;
    const auto move = [&](const fs::path& from, const fs::path& to) -> Result<void> {
        std::error_code error;
        bytes += fs::file_size(from, error);
        const bool fresh = !fs::exists(to.parent_path(), error);
        RW_TRY_VOID(createFolders(to.parent_path()));
        if (::rename(from.c_str(), to.c_str()) != 0) {
            return failErrno(errno, "rename into place", to);
        }
        moved.push_back(to);
        RW_TRY_VOID(syncFolder(to.parent_path()));
        return fresh ? syncFolder(to.parent_path().parent_path()) : Result<void> {};
    };
    for (const std::string& key : info.keysOf(FeatureType::Video)) {
        const FilePlace place = nextVideo[key];
        VideoSpan span { .key = key,
                         .path = {},
                         .firstFrame = 0,
                         .fromTimestamp = 0,
                         .toTimestamp = static_cast<double>(frames) / static_cast<double>(info.fps),
                         .chunkIndex = place.chunk,
                         .fileIndex = place.file };
        RW_TRY(span.path,
               fillTemplate(info.videoPath, { { "chunk_index", place.chunk }, { "file_index", place.file } }, key,
                            root.string()));
        RW_TRY_VOID(move(cameras.at(key)->videoFile(), root / span.path));
        episode.videos.push_back(std::move(span));
    }
    episode.dataChunk = nextData.chunk;
    episode.dataFile = nextData.file;
    RW_TRY(episode.dataPath,
           fillTemplate(info.dataPath, { { "chunk_index", nextData.chunk }, { "file_index", nextData.file } }, "",
                        root.string()));
    RW_TRY_VOID(move(episodeScratch() / "data.parquet", root / episode.dataPath));
    return bytes;
}

/// Adds the episode to its file of the episode table: from here on it counts.
Result<void> DatasetWriter::Impl::writeEpisodeRow(const EpisodeInfo& episode, const DatasetStatistics& episodeStats)
{
    FilePlace place = tablePlace;
    std::shared_ptr<arrow::Table> rows = table;
    if (tableBegun && rows->num_rows() >= kRowsPerEpisodeFile) {
        place = tablePlace.next(info.chunksSize);
        rows = nullptr;
    }
    const auto schema = foreignSchema != nullptr ? foreignSchema : (table != nullptr ? table->schema() : nullptr);
    RW_TRY(auto row, episodeRow(info, episode, episodeStats, place.chunk, place.file, episodeColumns, schema));
    if (rows != nullptr) {
        const auto joined = arrow::ConcatenateTables({ rows, row });
        const auto combined = joined.ok() ? (*joined)->CombineChunks() : joined;
        if (!combined.ok()) {
            return fail(Errc::Internal, combined.status().message(), "episode table");
        }
        row = *combined;
    }
    const fs::path path = episodeTablePath(root, place.chunk, place.file);
    RW_TRY_VOID(createFolders(path.parent_path()));
    RW_TRY_VOID(io::writeParquetAtomically(path, *row));
    table = std::move(row);
    tablePlace = place;
    tableBegun = true;
    return {};
}

/// What follows from the episode table: counts, statistics, info.json.
Result<void> DatasetWriter::Impl::settle(const EpisodeInfo& episode, const DatasetStatistics& episodeStats,
                                         const std::map<std::string, ChannelHistogram>& histograms)
{
    ++info.totalEpisodes;
    info.totalFrames += episode.length;
    info.totalTasks = static_cast<std::int64_t>(tasks.size());
    nextData = nextData.next(info.chunksSize);
    for (const VideoSpan& span : episode.videos) {
        nextVideo[span.key] = nextVideo[span.key].next(info.chunksSize);
    }
    for (const auto& [key, s] : episodeStats) {
        FeatureStatistics& total = statistics[key];
        total = aggregate(std::vector<FeatureStatistics> { total, s });
    }
    if (levelsExact) {
        levels.episodes = info.totalEpisodes;
        for (const auto& [key, histogram] : histograms) {
            levels.cameras.at(key).merge(histogram);
            statistics[key] = levels.cameras.at(key).statistics(QuantileRule::Exact);
        }
        if (!levels.cameras.empty()) {
            RW_TRY_VOID(writeLevelCounts(root, levels));
        }
    }
    RW_TRY_VOID(writeStatisticsFile(root, statistics));
    return writeFileAtomically(root / "meta" / "info.json", datasetInfoText(info));
}

Result<EpisodeReceipt> DatasetWriter::Impl::publish(std::string_view task,
                                                    const std::map<std::string, std::string>& extra)
{
    for (auto& [key, camera] : cameras) {
        RW_TRY_VOID(camera->finish());
    }
    EpisodeInfo episode;
    episode.index = info.totalEpisodes;
    episode.length = frames;
    episode.fromIndex = info.totalFrames;
    episode.toIndex = info.totalFrames + frames;
    episode.extra = extra;
    std::vector<std::string> allTasks = tasks;
    RW_TRY_VOID(resolveTasks(task, episode, allTasks));
    std::map<std::string, ChannelHistogram> histograms;
    RW_TRY(const DatasetStatistics episodeStats, episodeStatistics(histograms));
    const auto columnOf = [&](const std::string& key) -> const Column* {
        const auto found = columns.find(key);
        return found == columns.end() ? nullptr : &found->second;
    };
    RW_TRY_VOID(writeDataFile(episodeScratch() / "data.parquet", info, columnOf, 0, frames,
                              [&](const std::string& key, std::int64_t row) { return cameras.at(key)->picture(row); }));
    std::vector<fs::path> moved;
    const auto place = [&]() -> Result<std::uint64_t> {
        RW_TRY(const std::uint64_t bytes, moveIntoPlace(episode, moved));
        if (allTasks.size() != tasks.size()) {
            RW_TRY_VOID(writeTaskTable(root, allTasks));
            tasks = allTasks;
        }
        RW_TRY_VOID(writeEpisodeRow(episode, episodeStats));
        return bytes;
    };
    const auto bytes = place();
    if (!bytes) {
        for (auto path = moved.rbegin(); path != moved.rend(); ++path) {
            ::unlink(path->c_str());
        }
        return tl::unexpected<Error>(bytes.error());
    }
    RW_TRY_VOID(settle(episode, episodeStats, histograms));
    return EpisodeReceipt { .episodeIndex = episode.index, .length = episode.length, .bytes = *bytes };
}

Result<void> DatasetWriter::close()
{
    Impl& m = *m_impl;
    RW_CHECK(!m.closed);
    m.resetEpisode();
    m.closed = true;
    const auto finish = [&]() -> Result<void> {
        if (m.info.totalEpisodes == 0) {
            return {};
        }
        std::vector<Warning> warnings;
        RW_TRY(const auto reader, DatasetReader::open(m.root, { .verify = Verify::Tables }, warnings));
        RW_TRY(const auto exact, computeStatistics(*reader, { .rule = QuantileRule::Exact, .cameras = false }));
        for (const auto& [key, s] : exact) {
            m.statistics[key] = s;
        }
        return writeStatisticsFile(m.root, m.statistics);
    };
    auto finished = finish();
    m.lock.removeScratch();
    return finished;
}

const DatasetInfo& DatasetWriter::info() const
{
    return m_impl->info;
}
bool DatasetWriter::episodeOpen() const
{
    return m_impl->open;
}
std::int64_t DatasetWriter::framesInEpisode() const
{
    return m_impl->frames;
}

} // namespace rankwise::data
