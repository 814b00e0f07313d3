// Removal of what a crash left in a dataset.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_recovery.h"

#include "backend/base/file.h"
#include "backend/base/log.h"
#include "backend/data/dataset_files.h"
#include "backend/io/parquet.h"
#include "backend/io/video_decoder.h"

#include <algorithm>
#include <set>
#include <utility>

#include <arrow/table.h>
#include <fmt/format.h>

namespace rankwise::data {

namespace fs = std::filesystem;

Result<WriterLock> WriterLock::take(const fs::path& root)
{
    WriterLock lock;
    lock.m_scratch = root / kScratchFolder;
    RW_TRY_VOID(createFolders(lock.m_scratch));
    auto held = FileLock::take(lock.m_scratch / "lock", "another program is recording into this dataset");
    if (!held) {
        Error error = std::move(held).error();
        error.subject = error.code == Errc::AlreadyExists ? root.string() : error.subject;
        return tl::unexpected(std::move(error));
    }
    lock.m_lock = std::move(*held);
    return lock;
}

void WriterLock::removeScratch()
{
    std::error_code error;
    fs::remove_all(m_scratch, error);
    m_lock.release();
}

namespace {

class Recovery {
public:
    Recovery(const fs::path& root, RecoveryReport& report) : m_root(root), m_report(report) { }

    Result<RecoveredDataset> run()
    {
        std::vector<Warning> warnings;
        RW_TRY(m.info, readDatasetInfo(m_root, warnings));
        if (m.info.version != DatasetVersion::V30) {
            return fail(Errc::Unsupported, "only v3.0 is recorded; convert the dataset first", m_root.string());
        }
        removeScratch();
        removeTemporaries();
        RW_TRY(m.tasks, readTaskTable(m_root, warnings));
        RW_TRY(m.episodes, readEpisodeTable(m_root, m.info, m.rows, warnings));
        RW_TRY_VOID(dropBrokenTail());
        RW_TRY_VOID(trimData());
        removeUnusedVideos();
        RW_TRY_VOID(settleCounters());
        m_report.episodes = static_cast<std::int64_t>(m.episodes.size());
        return std::move(m);
    }

private:
    void act(std::string sentence)
    {
        log::info("data", "{}: {}", m_root.string(), sentence);
        m_report.actions.push_back(std::move(sentence));
    }

    void remove(const fs::path& path)
    {
        std::error_code error;
        fs::remove(path, error);
        act(fmt::format("removed {}", fs::relative(path, m_root, error).string()));
    }

    void removeScratch();
    void removeTemporaries();
    [[nodiscard]] bool isWhole(const EpisodeInfo& episode) const;
    Result<void> dropBrokenTail();
    Result<void> trimData();
    void removeUnusedVideos();
    Result<void> settleCounters();

    const fs::path m_root;
    RecoveryReport& m_report;
    RecoveredDataset m;
};

void Recovery::removeScratch()
{
    std::error_code error;
    bool frames = false;
    for (const auto& entry : fs::directory_iterator(m_root / kScratchFolder, error)) {
        if (entry.path().filename() == "lock") {
            continue;
        }
        frames = true;
        std::error_code ignored;
        fs::remove_all(entry.path(), ignored);
    }
    if (frames) {
        ++m_report.droppedEpisodes;
        act("dropped the episode that was in progress");
    }
}

/// Files that were being written aside when the process died.
void Recovery::removeTemporaries()
{
    std::vector<fs::path> found;
    for (const char* folder : { "meta", "data", "videos" }) {
        std::error_code error;
        for (auto it = fs::recursive_directory_iterator(m_root / folder, error);
             !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
            if (it->path().filename().string().find(".tmp-") != std::string::npos) {
                found.push_back(it->path());
            }
        }
    }
    for (const fs::path& path : found) {
        remove(path);
    }
}

bool Recovery::isWhole(const EpisodeInfo& episode) const
{
    const auto file = io::ParquetFile::open(m_root / episode.dataPath);
    if (!file) {
        return false;
    }
    return std::all_of(episode.videos.begin(), episode.videos.end(), [&](const VideoSpan& span) {
        const auto video = io::VideoDecoder::open(m_root / span.path);
        return video && video->summary().frames >= span.firstFrame + episode.length;
    });
}

/// Rows at the end whose files do not hold the episode. Only a crash of the machine, or a foreign recorder, makes them.
Result<void> Recovery::dropBrokenTail()
{
    std::size_t whole = m.episodes.size();
    while (whole > 0 && !isWhole(m.episodes[whole - 1])) {
        --whole;
    }
    if (whole == m.episodes.size()) {
        return {};
    }
    const auto dropped = static_cast<std::int64_t>(m.episodes.size() - whole);
    m_report.droppedEpisodes += dropped;
    act(fmt::format("dropped {} episodes at the end whose files are not whole", dropped));
    std::set<fs::path> done;
    for (std::size_t i = whole; i < m.rows.size(); ++i) {
        const EpisodeRow& row = m.rows[i];
        if (!done.insert(row.file).second) {
            continue;
        }
        if (row.row == 0) {
            remove(row.file);
            continue;
        }
        RW_TRY(const io::ParquetFile file, io::ParquetFile::open(row.file));
        RW_TRY(const auto table, file.read());
        RW_TRY_VOID(io::writeParquetAtomically(row.file, *table->Slice(0, row.row)));
        act(fmt::format("shortened {}", row.file.filename().string()));
    }
    m.episodes.resize(whole);
    m.rows.resize(whole);
    return {};
}

/// Data behind the last whole episode: files are removed, and a file that it begins in is shortened.
Result<void> Recovery::trimData()
{
    const std::int64_t frames = m.episodes.empty() ? 0 : m.episodes.back().toIndex;
    std::int64_t rows = 0;
    for (const fs::path& path : chunkFiles(m_root / "data", ".parquet")) {
        if (rows >= frames) {
            remove(path);
            continue;
        }
        RW_TRY(const io::ParquetFile file, io::ParquetFile::open(path));
        if (rows + file.rows() > frames) {
            RW_TRY(const auto table, file.read());
            RW_TRY_VOID(io::writeParquetAtomically(path, *table->Slice(0, frames - rows)));
            act(fmt::format("shortened {} to {} frames", path.filename().string(), frames - rows));
            rows = frames;
            continue;
        }
        rows += file.rows();
    }
    if (rows < frames) {
        return fail(
            Errc::DataInvalid,
            fmt::format("the episodes need {} frames, and the data holds {}; nothing was changed", frames, rows),
            (m_root / "data").string());
    }
    return {};
}

void Recovery::removeUnusedVideos()
{
    std::set<fs::path> used;
    for (const EpisodeInfo& episode : m.episodes) {
        for (const VideoSpan& span : episode.videos) {
            used.insert((m_root / span.path).lexically_normal());
        }
    }
    for (const std::string& key : m.info.keysOf(FeatureType::Video)) {
        for (const fs::path& path : chunkFiles(m_root / "videos" / key, ".mp4")) {
            if (!used.contains(path.lexically_normal())) {
                remove(path);
            }
        }
    }
}

Result<void> Recovery::settleCounters()
{
    std::vector<Warning> warnings;
    m.statistics = readStatisticsFile(m_root, warnings);
    const auto episodes = static_cast<std::int64_t>(m.episodes.size());
    const std::int64_t frames = m.episodes.empty() ? 0 : m.episodes.back().toIndex;
    const auto tasks = static_cast<std::int64_t>(m.tasks.size());
    if (m.info.totalEpisodes == episodes && m.info.totalFrames == frames && m.info.totalTasks == tasks) {
        return {};
    }
    std::map<std::string, std::vector<FeatureStatistics>> parts;
    for (const EpisodeRow& row : m.rows) {
        RW_TRY(const auto statistics, readEpisodeRowStatistics(row, m.info));
        for (const auto& [key, s] : statistics) {
            parts[key].push_back(s);
        }
    }
    m.statistics.clear();
    for (const auto& [key, list] : parts) {
        m.statistics.emplace(key, aggregate(list));
    }
    RW_TRY_VOID(writeStatisticsFile(m_root, m.statistics));
    m.info.totalEpisodes = episodes;
    m.info.totalFrames = frames;
    m.info.totalTasks = tasks;
    RW_TRY_VOID(writeFileAtomically(m_root / "meta" / "info.json", datasetInfoText(m.info)));
    act(fmt::format("set the counters to {} episodes and {} frames", episodes, frames));
    return {};
}

} // namespace

Result<RecoveredDataset> recover(const fs::path& root, RecoveryReport& report)
{
    return Recovery(root, report).run();
}

Result<RecoveryReport> recoverDataset(const fs::path& root)
{
    RecoveryReport report;
    {
        // A folder that is no dataset gets no scratch folder.
        std::vector<Warning> warnings;
        RW_TRY_VOID(readDatasetInfo(root, warnings).map([](const auto&) {}));
    }
    RW_TRY(WriterLock lock, WriterLock::take(root));
    auto recovered = recover(root, report);
    lock.removeScratch();
    if (!recovered) {
        return tl::unexpected<Error>(std::move(recovered).error());
    }
    return report;
}

} // namespace rankwise::data
