// Converts datasets between v2.1 and v3.0.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_convert.h"

#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/data/dataset_files.h"
#include "backend/data/dataset_reader.h"
#include "backend/data/dataset_tables.h"
#include "backend/data/level_counts.h"
#include "backend/io/parquet.h"
#include "backend/io/video_decoder.h"
#include "backend/io/video_encoder.h"

#include <algorithm>

#include <arrow/table.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

/// Rows of one file of a written episode table.
constexpr std::size_t kRowsPerEpisodeFile = 1000;
/// Files in a chunk folder: names have three digits.
constexpr std::int64_t kChunkFiles = 1000;

class DatasetConversion {
public:
    DatasetConversion(const DatasetReader& reader, const fs::path& out, DatasetVersion version, const JobContext& job,
                      ConvertReport& report)
        : m_reader(reader), m_out(out), m_job(job), m_report(report), m_info(reader.info())
    {
        m_info.version = version;
        m_info.chunksSize = kChunkFiles;
        const bool v3 = version == DatasetVersion::V30;
        m_info.dataPath = v3 ? "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
                             : "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet";
        m_info.videoPath = v3 ? "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
                              : "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4";
        // Language annotations and columns that no file holds cannot be carried over.
        std::erase_if(m_info.features, [&](const Feature& f) {
            return f.type == FeatureType::Language || (!f.isCamera() && reader.column(f.key) == nullptr);
        });
    }

    Result<void> run()
    {
        for (const std::string& key : m_info.cameraKeys()) {
            m_levels.cameras.emplace(key, ChannelHistogram(pictureShape(*m_info.find(key)).channels == 1 ? 1 : 3));
        }
        RW_TRY_VOID(createFolders(m_out / "meta"));
        const std::size_t count = m_reader.episodes().size();
        for (std::size_t e = 0; e < count; ++e) {
            if (m_job.stopped()) {
                return fail(Errc::Cancelled, "stopped", m_reader.root().string());
            }
            m_job.report(static_cast<double>(e) / static_cast<double>(count), "episodes");
            RW_TRY_VOID(convertEpisode(m_reader.episodes()[e]));
        }
        m_levels.episodes = static_cast<std::int64_t>(count);
        m_report.episodes = m_levels.episodes;
        m_report.frames = m_reader.frameCount();
        return m_info.version == DatasetVersion::V30 ? finishV30() : finishV21();
    }

private:
    Result<void> convertEpisode(const EpisodeInfo& source);
    Result<EpisodeInfo> place(const EpisodeInfo& source) const;
    Result<void> convertVideo(const EpisodeInfo& source, const VideoSpan& from, const fs::path& target);
    Result<void> encodeVideo(const EpisodeInfo& source, const VideoSpan& from, const fs::path& target);
    Result<DatasetStatistics> statisticsOfEpisode(const EpisodeInfo& episode);
    Result<void> addRow(const EpisodeInfo& episode, const DatasetStatistics& statistics);
    Result<void> flushRows();
    Result<void> finishV30();
    Result<void> finishV21();

    const DatasetReader& m_reader;
    const fs::path m_out;
    const JobContext& m_job;
    ConvertReport& m_report;
    DatasetInfo m_info;
    LevelCounts m_levels;
    std::vector<std::shared_ptr<arrow::Table>> m_rows;
    std::int64_t m_rowFile = 0;
    std::string m_episodeLines;
    std::string m_statisticsLines;
};

/// Where the episode's files go in the new layout: one data file and one video a camera for each.
Result<EpisodeInfo> DatasetConversion::place(const EpisodeInfo& source) const
{
    EpisodeInfo episode = source;
    episode.dataChunk = source.index / kChunkFiles;
    episode.dataFile = source.index % kChunkFiles;
    const std::map<std::string, std::int64_t> numbers = m_info.version == DatasetVersion::V30
        ? std::map<std::string, std::int64_t> { { "chunk_index", episode.dataChunk },
                                                { "file_index", episode.dataFile } }
        : std::map<std::string, std::int64_t> { { "episode_chunk", episode.dataChunk },
                                                { "episode_index", episode.index } };
    RW_TRY(episode.dataPath, fillTemplate(m_info.dataPath, numbers, "", m_out.string()));
    for (VideoSpan& span : episode.videos) {
        RW_TRY(span.path, fillTemplate(m_info.videoPath, numbers, span.key, m_out.string()));
        span.firstFrame = 0;
        span.fromTimestamp = 0;
        span.toTimestamp = static_cast<double>(episode.length) / static_cast<double>(m_info.fps);
        span.chunkIndex = episode.dataChunk;
        span.fileIndex = episode.dataFile;
    }
    return episode;
}

Result<void> DatasetConversion::convertEpisode(const EpisodeInfo& source)
{
    RW_TRY(const EpisodeInfo episode, place(source));
    const fs::path data = m_out / episode.dataPath;
    RW_TRY_VOID(createFolders(data.parent_path()));
    RW_TRY_VOID(writeDataFile(
        data, m_info, [&](const std::string& key) { return m_reader.column(key); }, source.fromIndex, source.toIndex,
        [&](const std::string& key, std::int64_t row) { return m_reader.encodedImage(key, row); }));
    for (std::size_t v = 0; v < episode.videos.size(); ++v) {
        const fs::path target = m_out / episode.videos[v].path;
        RW_TRY_VOID(createFolders(target.parent_path()));
        RW_TRY_VOID(convertVideo(source, source.videos[v], target));
    }
    RW_TRY(const DatasetStatistics statistics, statisticsOfEpisode(source));
    if (m_info.version == DatasetVersion::V30) {
        return addRow(episode, statistics);
    }
    const Json line { { "episode_index", episode.index }, { "tasks", episode.tasks }, { "length", episode.length } };
    m_episodeLines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    DatasetStatistics plain = statistics;
    for (auto& [key, s] : plain) {
        s.q01.clear(); // v2.1 knows no quantiles
    }
    const Json statisticsLine { { "episode_index", episode.index }, { "stats", statisticsToJson(plain) } };
    m_statisticsLines += statisticsLine.dump() + "\n";
    return {};
}

Result<void> DatasetConversion::convertVideo(const EpisodeInfo& source, const VideoSpan& from, const fs::path& target)
{
    const fs::path path = m_reader.root() / from.path;
    io::VideoSummary summary;
    {
        RW_TRY(const io::VideoDecoder decoder, io::VideoDecoder::open(path));
        summary = decoder.summary();
    }
    if (from.firstFrame == 0 && summary.frames == source.length) {
        std::error_code error;
        fs::copy_file(path, target, fs::copy_options::overwrite_existing, error);
        if (error) {
            return failErrno(error.value(), "copy the video", target);
        }
        ++m_report.videosCopied;
        return {};
    }
    const auto isKey = [&](std::int64_t frame) {
        return frame == summary.frames || std::binary_search(summary.keyFrames.begin(), summary.keyFrames.end(), frame);
    };
    if (isKey(from.firstFrame) && isKey(from.firstFrame + source.length)) {
        ++m_report.videosCopied;
        return io::copyVideoFrames(path, from.firstFrame, source.length, target);
    }
    ++m_report.videosEncoded;
    return encodeVideo(source, from, target);
}

Result<void> DatasetConversion::encodeVideo(const EpisodeInfo& source, const VideoSpan& from, const fs::path& target)
{
    const PictureShape shape = pictureShape(*m_info.find(from.key));
    io::VideoEncoderOptions options;
    options.crf = 15; // a second generation: lose little
    RW_TRY(io::VideoEncoder encoder,
           io::VideoEncoder::create(target, static_cast<int>(shape.width), static_cast<int>(shape.height), m_info.fps,
                                    options));
    for (std::int64_t row = source.fromIndex; row < source.toIndex; ++row) {
        RW_TRY(const ImagePtr image, m_reader.image(from.key, row));
        RW_TRY_VOID(encoder.addFrame(image->pixels));
    }
    m_report.warnings.push_back(
        { fmt::format("camera \"{}\" of episode {} did not begin at a key frame and was encoded again", from.key,
                      source.index),
          target.string() });
    return encoder.finish();
}

Result<DatasetStatistics> DatasetConversion::statisticsOfEpisode(const EpisodeInfo& episode)
{
    RW_TRY(DatasetStatistics statistics,
           computeEpisodeStatistics(m_reader, episode.index, { .rule = QuantileRule::Histogram, .cameras = false },
                                    m_job));
    for (auto& [key, total] : m_levels.cameras) {
        ChannelHistogram histogram(total.channels());
        for (const std::int64_t frame : sampledFrames(episode.length)) {
            RW_TRY(const ImagePtr image, m_reader.image(key, episode.fromIndex + frame));
            histogram.addPicture(image->pixels, image->height, image->width);
        }
        total.merge(histogram);
        statistics[key] = histogram.statistics(QuantileRule::Histogram);
    }
    return statistics;
}

Result<void> DatasetConversion::addRow(const EpisodeInfo& episode, const DatasetStatistics& statistics)
{
    RW_TRY(auto row,
           episodeRow(m_info, episode, statistics, m_rowFile / kChunkFiles, m_rowFile % kChunkFiles, {},
                      m_rows.empty() ? nullptr : m_rows.front()->schema()));
    m_rows.push_back(std::move(row));
    return m_rows.size() >= kRowsPerEpisodeFile ? flushRows() : Result<void> {};
}

Result<void> DatasetConversion::flushRows()
{
    if (m_rows.empty()) {
        return {};
    }
    const auto joined = arrow::ConcatenateTables(m_rows);
    const auto combined = joined.ok() ? (*joined)->CombineChunks() : joined;
    if (!combined.ok()) {
        return fail(Errc::Internal, combined.status().message(), "episode table");
    }
    const fs::path path = episodeTablePath(m_out, m_rowFile / kChunkFiles, m_rowFile % kChunkFiles);
    RW_TRY_VOID(createFolders(path.parent_path()));
    m_rows.clear();
    ++m_rowFile;
    return io::writeParquetAtomically(path, **combined);
}

Result<void> DatasetConversion::finishV30()
{
    RW_TRY_VOID(flushRows());
    RW_TRY_VOID(writeTaskTable(m_out, m_reader.tasks()));
    RW_TRY(DatasetStatistics statistics,
           computeStatistics(m_reader, { .rule = QuantileRule::Exact, .cameras = false }, m_job));
    for (const auto& [key, histogram] : m_levels.cameras) {
        statistics[key] = histogram.statistics(QuantileRule::Exact);
    }
    if (!m_levels.cameras.empty()) {
        RW_TRY_VOID(writeLevelCounts(m_out, m_levels));
    }
    RW_TRY_VOID(writeStatisticsFile(m_out, statistics));
    return writeFileAtomically(m_out / "meta" / "info.json", datasetInfoText(m_info));
}

Result<void> DatasetConversion::finishV21()
{
    std::string tasks;
    for (std::size_t i = 0; i < m_reader.tasks().size(); ++i) {
        const Json line { { "task_index", i }, { "task", m_reader.tasks()[i] } };
        tasks += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }
    RW_TRY_VOID(writeFileAtomically(m_out / "meta" / "tasks.jsonl", tasks));
    RW_TRY_VOID(writeFileAtomically(m_out / "meta" / "episodes.jsonl", m_episodeLines));
    RW_TRY_VOID(writeFileAtomically(m_out / "meta" / "episodes_stats.jsonl", m_statisticsLines));
    return writeFileAtomically(m_out / "meta" / "info.json", datasetInfoText(m_info));
}

} // namespace

Result<ConvertReport> convertDataset(const fs::path& root, const fs::path& out, DatasetVersion version,
                                     const JobContext& job)
{
    std::error_code error;
    if (fs::exists(out, error)) {
        return fail(Errc::AlreadyExists, "the target exists; choose another", out.string());
    }
    ConvertReport report;
    RW_TRY(const auto reader, DatasetReader::open(root, {}, report.warnings));
    report.from = reader->info().version;
    report.to = version;
    if (report.from == version) {
        return fail(Errc::Unsupported, fmt::format("the dataset is {} already", datasetVersionName(version)),
                    root.string());
    }
    if (out.has_parent_path()) {
        RW_TRY_VOID(createFolders(out.parent_path()));
    }
    RW_TRY(AtomicFolder folder, AtomicFolder::create(out));
    RW_TRY_VOID(DatasetConversion(*reader, folder.path(), version, job, report).run());
    RW_TRY_VOID(folder.commit());
    return report;
}

} // namespace rankwise::data
