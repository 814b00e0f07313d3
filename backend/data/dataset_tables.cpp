// The tables of a dataset, read and checked against themselves.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_tables.h"

#include "backend/base/checked_math.h"
#include "backend/base/file.h"
#include "backend/data/arrow_columns.h"
#include "backend/io/parquet.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

/// lerobot's tolerance between the time of a row and of a video frame.
constexpr double kToleranceSeconds = 1e-4;

template <class T> std::span<const T> valuesOf(const Column& column)
{
    return { reinterpret_cast<const T*>(column.bytes.data()), column.bytes.size() / sizeof(T) };
}

/// Lines of a JSON-lines file. Errors: FileNotFound, JsonInvalid with the line's number.
Result<std::vector<Json>> readJsonLines(const fs::path& path)
{
    RW_TRY(const std::string text, readFile(path, 1u << 30));
    std::vector<Json> lines;
    std::size_t at = 0;
    for (int number = 1; at < text.size(); ++number) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view line = std::string_view(text).substr(at, end - at);
        at = end + 1;
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
            continue;
        }
        RW_TRY(Json json, parseJson(line, fmt::format("{}: line {}", path.string(), number)));
        lines.push_back(std::move(json));
    }
    return lines;
}

} // namespace

PictureShape pictureShape(const Feature& feature)
{
    PictureShape shape;
    if (feature.shape.size() == 2) {
        return { feature.shape[0], feature.shape[1], 1 };
    }
    if (feature.shape.size() != 3) {
        return shape;
    }
    const bool channelsFirst = feature.names.size() == 3 ? feature.names[0].starts_with("channel")
                                                         : (feature.shape[0] <= 4 && feature.shape[2] > 4);
    return channelsFirst ? PictureShape { feature.shape[1], feature.shape[2], feature.shape[0] }
                         : PictureShape { feature.shape[0], feature.shape[1], feature.shape[2] };
}

std::vector<fs::path> chunkFiles(const fs::path& folder, std::string_view ending)
{
    std::vector<fs::path> files;
    std::error_code error;
    for (const auto& chunk : fs::directory_iterator(folder, error)) {
        if (!chunk.is_directory(error)) {
            continue;
        }
        for (const auto& entry : fs::directory_iterator(chunk.path(), error)) {
            const std::string name = entry.path().filename().string();
            if (entry.is_regular_file(error) && name.ends_with(ending)) {
                files.push_back(entry.path());
            }
        }
    }
    std::sort(files.begin(), files.end());
    return files;
}

// ---------------------------------------------------------------------------------------------- tasks

Result<std::vector<std::string>> readTaskTable(const fs::path& root, std::vector<Warning>& warnings)
{
    const fs::path path = root / "meta" / "tasks.parquet";
    const std::string subject = path.string();
    std::error_code error;
    if (!fs::exists(path, error)) {
        return std::vector<std::string> {};
    }
    RW_TRY(const io::ParquetFile file, io::ParquetFile::open(path));
    RW_TRY(const auto table, file.read());
    const bool named = table->GetColumnByName("task") != nullptr;
    RW_TRY(const auto texts, textsOf(*table, named ? "task" : "__index_level_0__", subject));
    RW_TRY(const auto indices, integersOf(*table, "task_index", subject));
    std::vector<std::string> tasks(texts.size());
    std::vector<bool> seen(texts.size(), false);
    bool ordered = true;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        const std::int64_t index = indices[i];
        if (index < 0 || index >= static_cast<std::int64_t>(tasks.size()) || seen[static_cast<std::size_t>(index)]) {
            return fail(Errc::DataInvalid, fmt::format("task_index {} is out of range or occurs twice", index),
                        subject);
        }
        ordered = ordered && index == static_cast<std::int64_t>(i);
        seen[static_cast<std::size_t>(index)] = true;
        tasks[static_cast<std::size_t>(index)] = texts[i];
    }
    if (!ordered) {
        warnings.push_back({ "rows are not in the order of task_index; lerobot would mix the tasks up", subject });
    }
    bool indexed = false;
    if (const auto metadata = file.schema()->metadata(); metadata != nullptr) {
        if (const auto text = metadata->Get("pandas"); text.ok()) {
            const auto pandas = nlohmann::json::parse(*text, nullptr, false);
            const auto columns = pandas.is_object() ? pandas.find("index_columns") : pandas.end();
            if (pandas.is_object() && columns != pandas.end() && columns->is_array()) {
                indexed = std::any_of(columns->begin(), columns->end(), [&](const auto& name) {
                    return name.is_string()
                        && name.template get<std::string>() == (named ? "task" : "__index_level_0__");
                });
            }
        }
    }
    if (!indexed && !tasks.empty()) {
        warnings.push_back(
            { "does not declare the task as pandas index; lerobot would take numbers for the task texts", subject });
    }
    return tasks;
}

// ---------------------------------------------------------------------------------------------- episodes

namespace {

/// The columns of one file of the episode table.
class EpisodeFileReader {
public:
    EpisodeFileReader(const DatasetInfo& info, const arrow::Table& table, std::string subject,
                      std::vector<Warning>& warnings)
        : m_info(info), m_table(table), m_subject(std::move(subject)), m_warnings(warnings)
    {
    }

    Result<std::vector<EpisodeInfo>> read()
    {
        const auto column = [&](const char* name) { return integersOf(m_table, name, m_subject); };
        RW_TRY(const auto index, column("episode_index"));
        RW_TRY(const auto length, column("length"));
        RW_TRY(const auto from, column("dataset_from_index"));
        RW_TRY(const auto to, column("dataset_to_index"));
        RW_TRY(const auto chunk, column("data/chunk_index"));
        RW_TRY(const auto file, column("data/file_index"));
        RW_TRY(auto tasks, textListsOf(m_table, "tasks", m_subject));
        std::vector<EpisodeInfo> episodes(index.size());
        for (std::size_t i = 0; i < episodes.size(); ++i) {
            EpisodeInfo& episode = episodes[i];
            episode.index = index[i];
            episode.length = length[i];
            episode.fromIndex = from[i];
            episode.toIndex = to[i];
            episode.tasks = std::move(tasks[i]);
            episode.dataChunk = chunk[i];
            episode.dataFile = file[i];
            RW_TRY(episode.dataPath,
                   fillTemplate(m_info.dataPath, { { "chunk_index", chunk[i] }, { "file_index", file[i] } }, "",
                                m_subject));
        }
        for (const std::string& key : m_info.keysOf(FeatureType::Video)) {
            RW_TRY_VOID(readVideo(key, episodes));
        }
        readExtra(episodes);
        return episodes;
    }

private:
    Result<void> readVideo(const std::string& key, std::vector<EpisodeInfo>& episodes)
    {
        const std::string prefix = "videos/" + key + "/";
        RW_TRY(const auto chunk, integersOf(m_table, prefix + "chunk_index", m_subject));
        RW_TRY(const auto file, integersOf(m_table, prefix + "file_index", m_subject));
        RW_TRY(const auto from, doublesOf(m_table, prefix + "from_timestamp", m_subject));
        RW_TRY(const auto to, doublesOf(m_table, prefix + "to_timestamp", m_subject));
        const auto fps = static_cast<double>(m_info.fps);
        for (std::size_t i = 0; i < episodes.size(); ++i) {
            VideoSpan span { .key = key,
                             .path = {},
                             .firstFrame = 0,
                             .fromTimestamp = from[i],
                             .toTimestamp = to[i],
                             .chunkIndex = chunk[i],
                             .fileIndex = file[i] };
            const std::string where = fmt::format("{}: episode {}, {}", m_subject, episodes[i].index, key);
            if (chunk[i] < 0 || file[i] < 0) {
                return fail(Errc::DataInvalid, "a negative chunk or file index", where);
            }
            RW_TRY(
                span.path,
                fillTemplate(m_info.videoPath, { { "chunk_index", chunk[i] }, { "file_index", file[i] } }, key, where));
            if (!(from[i] >= 0 && from[i] * fps < 1e15)) {
                return fail(Errc::DataInvalid, fmt::format("from_timestamp {} is no time in a video", from[i]), where);
            }
            span.firstFrame = std::llround(from[i] * fps);
            const double offset = std::abs(from[i] - static_cast<double>(span.firstFrame) / fps);
            if (offset > 0.25 / fps) {
                return fail(
                    Errc::DataInvalid,
                    fmt::format("from_timestamp {} lies between two frames at {} frames a second", from[i], m_info.fps),
                    where);
            }
            if (offset > kToleranceSeconds) {
                m_warnings.push_back({ fmt::format("from_timestamp {} is {:.2g} s off its frame; the frame is used, "
                                                   "lerobot may refuse it",
                                                   from[i], offset),
                                       where });
                span.fromTimestamp = static_cast<double>(span.firstFrame) / fps;
            }
            episodes[i].videos.push_back(std::move(span));
        }
        return {};
    }

    void readExtra(std::vector<EpisodeInfo>& episodes) const
    {
        static const std::set<std::string> known {
            "episode_index",   "length", "dataset_from_index", "dataset_to_index", "data/chunk_index",
            "data/file_index", "tasks"
        };
        for (int c = 0; c < m_table.num_columns(); ++c) {
            const std::string& name = m_table.field(c)->name();
            if (known.contains(name) || name.starts_with("videos/") || name.starts_with("meta/")) {
                continue;
            }
            for (std::size_t i = 0; i < episodes.size(); ++i) {
                episodes[i].extra[name] = cellJson(*m_table.column(c), static_cast<std::int64_t>(i));
            }
        }
    }

    const DatasetInfo& m_info;
    const arrow::Table& m_table;
    std::string m_subject;
    std::vector<Warning>& m_warnings;
};

} // namespace

Result<std::vector<EpisodeInfo>> readEpisodeTable(const fs::path& root, const DatasetInfo& info,
                                                  std::vector<EpisodeRow>& rows, std::vector<Warning>& warnings)
{
    std::vector<EpisodeInfo> episodes;
    for (const fs::path& path : chunkFiles(root / "meta" / "episodes", ".parquet")) {
        RW_TRY(const io::ParquetFile file, io::ParquetFile::open(path));
        RW_TRY(const auto table, file.read([](const std::string& name) { return !name.starts_with("stats/"); }));
        RW_TRY(auto part, EpisodeFileReader(info, *table, path.string(), warnings).read());
        for (std::size_t i = 0; i < part.size(); ++i) {
            EpisodeInfo& episode = part[i];
            const auto expected = static_cast<std::int64_t>(episodes.size());
            if (episode.index != expected) {
                return fail(
                    Errc::DataInvalid,
                    fmt::format("row {} is episode {}, and must be episode {}", expected, episode.index, expected),
                    path.string());
            }
            const std::int64_t begin = episodes.empty() ? 0 : episodes.back().toIndex;
            if (episode.fromIndex != begin || episode.toIndex <= episode.fromIndex) {
                return fail(Errc::DataInvalid,
                            fmt::format("episode {} covers frames {} to {}, and must begin at {}", episode.index,
                                        episode.fromIndex, episode.toIndex, begin),
                            path.string());
            }
            if (episode.length != episode.toIndex - episode.fromIndex) {
                warnings.push_back(
                    { fmt::format("episode {}: length {} differs from its frames {} to {}; the frames count",
                                  episode.index, episode.length, episode.fromIndex, episode.toIndex),
                      path.string() });
                episode.length = episode.toIndex - episode.fromIndex;
            }
            rows.push_back({ path, static_cast<std::int64_t>(i) });
            episodes.push_back(std::move(episode));
        }
    }
    return episodes;
}

// ---------------------------------------------------------------------------------------------- statistics

DatasetStatistics readStatisticsFile(const fs::path& root, std::vector<Warning>& warnings)
{
    const fs::path path = root / "meta" / "stats.json";
    auto text = readFile(path, 256u << 20);
    if (!text) {
        return {};
    }
    auto json = parseJson(*text, path.string());
    if (!json) {
        // Python writes NaN and Infinity, which JSON does not know: null in their place, outside of texts.
        std::string repaired;
        bool inText = false;
        for (std::size_t i = 0; i < text->size(); ++i) {
            const std::string_view rest = std::string_view(*text).substr(i);
            if (!inText && (rest.starts_with("NaN") || rest.starts_with("Infinity") || rest.starts_with("-Infinity"))) {
                i += std::size_t { rest.starts_with("NaN") ? 2u : rest.starts_with("-") ? 8u : 7u };
                repaired += "null";
                continue;
            }
            if ((*text)[i] == '\\' && inText && i + 1 < text->size()) {
                repaired += (*text)[i++];
            } else if ((*text)[i] == '"') {
                inText = !inText;
            }
            repaired += (*text)[i];
        }
        json = parseJson(repaired, path.string());
    }
    if (!json) {
        warnings.push_back({ "the statistics are not readable: " + json.error().message, path.string() });
        return {};
    }
    return statisticsFromJson(*json, path.string(), warnings);
}

Result<DatasetStatistics> readEpisodeRowStatistics(const EpisodeRow& row, const DatasetInfo& info)
{
    RW_TRY(const io::ParquetFile file, io::ParquetFile::open(row.file));
    RW_TRY(const auto table, file.read([](const std::string& name) { return name.starts_with("stats/"); }));
    DatasetStatistics result;
    for (const Feature& feature : info.features) {
        FeatureStatistics s;
        const auto read = [&](const char* name, std::vector<double>& values) {
            const auto array = table->GetColumnByName("stats/" + feature.key + "/" + name);
            int depth = 0;
            if (array != nullptr) {
                values = cellNumbers(*array, row.row, depth);
                s.camera = s.camera || depth >= 3;
            }
        };
        read("min", s.min);
        read("max", s.max);
        read("mean", s.mean);
        read("std", s.std);
        read("q01", s.q01);
        read("q10", s.q10);
        read("q50", s.q50);
        read("q90", s.q90);
        read("q99", s.q99);
        std::vector<double> count;
        read("count", count);
        s.count = count.empty() ? 0 : static_cast<std::int64_t>(count.front());
        if (!s.mean.empty()) {
            result.emplace(feature.key, std::move(s));
        }
    }
    return result;
}

// ---------------------------------------------------------------------------------------------- everything

namespace {

class TablesReader {
public:
    TablesReader(const fs::path& root, std::vector<Warning>& warnings) : m_warnings(warnings) { m.root = root; }

    Result<DatasetTables> read()
    {
        RW_TRY(m.info, readDatasetInfo(m.root, m_warnings));
        const bool v3 = m.info.version == DatasetVersion::V30;
        RW_TRY_VOID(v3 ? readV30() : readV21());
        RW_TRY_VOID(checkRows());
        checkFinite();
        checkStatistics();
        return std::move(m);
    }

private:
    Result<void> readV30();
    Result<void> readV21();
    Result<void> readV21Episodes();
    Result<void> readV21Statistics();
    Result<void> readDataFile(const fs::path& path);
    Result<void> checkCounters();
    Result<void> checkVideosExist();
    Result<void> checkRows();
    Result<void> checkEpisodeRows(const EpisodeInfo& episode);
    void checkFinite();
    void checkStatistics();
    [[nodiscard]] std::string infoFile() const { return (m.root / "meta" / "info.json").string(); }

    DatasetTables m;
    std::vector<Warning>& m_warnings;
    std::int64_t m_rows = 0;
};

Result<void> TablesReader::readV30()
{
    RW_TRY(m.tasks, readTaskTable(m.root, m_warnings));
    std::error_code error;
    if (m.info.totalEpisodes > 0 && !fs::exists(m.root / "meta" / "tasks.parquet", error)) {
        return fail(Errc::FileNotFound, "the table of tasks is missing", (m.root / "meta" / "tasks.parquet").string());
    }
    RW_TRY(m.episodes, readEpisodeTable(m.root, m.info, m.episodeRows, m_warnings));
    const auto files = chunkFiles(m.root / "data", ".parquet");
    if (files.empty() && m.info.totalFrames > 0) {
        return fail(Errc::FileNotFound, "no data file, although info.json counts frames", (m.root / "data").string());
    }
    for (const fs::path& path : files) {
        RW_TRY_VOID(readDataFile(path));
    }
    m.statistics = readStatisticsFile(m.root, m_warnings);
    RW_TRY_VOID(checkCounters());
    return checkVideosExist();
}

Result<void> TablesReader::readV21Episodes()
{
    const fs::path path = m.root / "meta" / "episodes.jsonl";
    RW_TRY(const auto lines, readJsonLines(path));
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const std::string subject = fmt::format("{}: episode {}", path.string(), i);
        if (!lines[i].is_object()) {
            return fail(Errc::JsonInvalid, "must be a JSON object", subject);
        }
        EpisodeInfo episode;
        FieldReader reader(lines[i], subject);
        const auto begin = m.episodes.empty() ? 0 : m.episodes.back().toIndex;
        reader.require("episode_index", episode.index, 0, std::int64_t { 1 } << 40);
        reader.require("length", episode.length, 1, std::int64_t { 1 } << 40);
        reader.optional("tasks", episode.tasks);
        RW_TRY_VOID(reader.result());
        if (episode.index != static_cast<std::int64_t>(i)) {
            return fail(Errc::DataInvalid, fmt::format("line {} is episode {}", i, episode.index), subject);
        }
        episode.fromIndex = begin;
        episode.toIndex = begin + episode.length;
        const std::map<std::string, std::int64_t> numbers { { "episode_chunk", episode.index / m.info.chunksSize },
                                                            { "episode_index", episode.index } };
        episode.dataChunk = episode.index / m.info.chunksSize;
        RW_TRY(episode.dataPath, fillTemplate(m.info.dataPath, numbers, "", subject));
        for (const std::string& key : m.info.keysOf(FeatureType::Video)) {
            VideoSpan span { .key = key,
                             .path = {},
                             .firstFrame = 0,
                             .fromTimestamp = 0,
                             .toTimestamp = static_cast<double>(episode.length) / static_cast<double>(m.info.fps),
                             .chunkIndex = episode.dataChunk,
                             .fileIndex = episode.index };
            RW_TRY(span.path, fillTemplate(m.info.videoPath, numbers, key, subject));
            episode.videos.push_back(std::move(span));
        }
        m.episodes.push_back(std::move(episode));
    }
    return {};
}

Result<void> TablesReader::readV21Statistics()
{
    const fs::path path = m.root / "meta" / "episodes_stats.jsonl";
    std::error_code error;
    if (!fs::exists(path, error)) {
        m.statistics = readStatisticsFile(m.root, m_warnings);
        return {};
    }
    RW_TRY(const auto lines, readJsonLines(path));
    m.episodeStatistics.resize(m.episodes.size());
    std::map<std::string, std::vector<FeatureStatistics>> parts;
    for (const Json& line : lines) {
        const auto index = line.is_object() ? line.find("episode_index") : line.end();
        if (!line.is_object() || index == line.end() || !index->is_number_integer() || !line.contains("stats")) {
            m_warnings.push_back({ "a line is no statistics of an episode", path.string() });
            continue;
        }
        const auto episode = index->get<std::int64_t>();
        if (episode < 0 || episode >= static_cast<std::int64_t>(m.episodes.size())) {
            m_warnings.push_back({ fmt::format("statistics of the unknown episode {}", episode), path.string() });
            continue;
        }
        auto statistics =
            statisticsFromJson(line["stats"], fmt::format("{}: episode {}", path.string(), episode), m_warnings);
        for (const auto& [key, s] : statistics) {
            parts[key].push_back(s);
        }
        m.episodeStatistics[static_cast<std::size_t>(episode)] = std::move(statistics);
    }
    for (const auto& [key, list] : parts) {
        m.statistics.emplace(key, aggregate(list));
    }
    return {};
}

Result<void> TablesReader::readV21()
{
    const fs::path tasksPath = m.root / "meta" / "tasks.jsonl";
    RW_TRY(const auto lines, readJsonLines(tasksPath));
    m.tasks.resize(lines.size());
    std::vector<bool> seen(lines.size(), false);
    for (const Json& line : lines) {
        if (!line.is_object()) {
            return fail(Errc::JsonInvalid, "must be JSON objects", tasksPath.string());
        }
        std::int64_t index = 0;
        std::string task;
        FieldReader reader(line, tasksPath.string());
        reader.require("task_index", index, 0, static_cast<std::int64_t>(lines.size()) - 1);
        reader.require("task", task);
        RW_TRY_VOID(reader.result());
        if (seen[static_cast<std::size_t>(index)]) {
            return fail(Errc::DataInvalid, fmt::format("task_index {} occurs twice", index), tasksPath.string());
        }
        seen[static_cast<std::size_t>(index)] = true;
        m.tasks[static_cast<std::size_t>(index)] = task;
    }
    RW_TRY_VOID(readV21Episodes());
    for (const EpisodeInfo& episode : m.episodes) {
        const std::int64_t before = m_rows;
        RW_TRY_VOID(readDataFile(m.root / episode.dataPath));
        if (m_rows - before != episode.length) {
            return fail(Errc::DataInvalid,
                        fmt::format("holds {} frames, and the episode table says {}", m_rows - before, episode.length),
                        (m.root / episode.dataPath).string());
        }
    }
    RW_TRY_VOID(readV21Statistics());
    RW_TRY_VOID(checkCounters());
    return checkVideosExist();
}

Result<void> TablesReader::readDataFile(const fs::path& path)
{
    const std::string subject = path.string();
    RW_TRY(const io::ParquetFile file, io::ParquetFile::open(path));
    for (const auto& field : file.schema()->fields()) {
        const Feature* feature = m.info.find(field->name());
        if (feature == nullptr || feature->type == FeatureType::Video) {
            return fail(
                Errc::DataInvalid,
                fmt::format("holds the column \"{}\", which info.json does not declare; lerobot does not load such "
                            "a dataset",
                            field->name()),
                subject);
        }
    }
    RW_TRY(const auto table, file.read([&](const std::string& name) {
        const Feature* feature = m.info.find(name);
        return feature != nullptr && (feature->isNumeric() || feature->type == FeatureType::String);
    }));
    const bool first = m.files.empty();
    for (const Feature& feature : m.info.features) {
        if (feature.type == FeatureType::Image) {
            const bool here = file.schema()->GetFieldIndex(feature.key) >= 0;
            const bool before = std::count(m.imageKeys.begin(), m.imageKeys.end(), feature.key) > 0;
            if (here && first) {
                m.imageKeys.push_back(feature.key);
            } else if (here != before) {
                return fail(Errc::FieldMissing, fmt::format("only some files hold the column \"{}\"", feature.key),
                            subject);
            }
            continue;
        }
        if (!feature.isNumeric() && feature.type != FeatureType::String) {
            continue;
        }
        const auto array = table->GetColumnByName(feature.key);
        const bool before = m.columns.contains(feature.key);
        if (array == nullptr || (!first && !before)) {
            if (before || array != nullptr) {
                return fail(Errc::FieldMissing, fmt::format("only some files hold the column \"{}\"", feature.key),
                            subject);
            }
            if (first) {
                m_warnings.push_back({ fmt::format("the declared column \"{}\" is missing", feature.key), subject });
            }
            continue;
        }
        Column& column = m.columns[feature.key];
        column.type = feature.type;
        column.width = feature.type == FeatureType::String ? 1 : feature.width();
        RW_TRY_VOID(appendColumn(*array, column, subject + ": " + feature.key));
    }
    DataFile entry { .path = path, .firstRow = m_rows, .rows = file.rows(), .groupRows = {} };
    for (int group = 0; group < file.rowGroups(); ++group) {
        entry.groupRows.push_back(file.rowsOfGroup(group));
    }
    m_rows += file.rows();
    m.files.push_back(std::move(entry));
    return {};
}

Result<void> TablesReader::checkCounters()
{
    const auto episodes = static_cast<std::int64_t>(m.episodes.size());
    const std::int64_t frames = m.episodes.empty() ? 0 : m.episodes.back().toIndex;
    if (m.info.totalEpisodes > episodes) {
        return fail(Errc::DataInvalid,
                    fmt::format("total_episodes is {}, and the episode table holds {}", m.info.totalEpisodes, episodes),
                    infoFile());
    }
    if (frames > m_rows) {
        return fail(Errc::DataInvalid,
                    fmt::format("the last episode ends at frame {}, and the data holds {} frames", frames, m_rows),
                    (m.root / "meta").string());
    }
    if (m.info.totalFrames > m_rows) {
        return fail(Errc::DataInvalid,
                    fmt::format("total_frames is {}, and the data holds {} frames", m.info.totalFrames, m_rows),
                    infoFile());
    }
    if (m.info.totalEpisodes != episodes || m.info.totalFrames != frames) {
        m_warnings.push_back(
            { fmt::format("counts {} episodes and {} frames, and the tables hold {} and {}; the tables count",
                          m.info.totalEpisodes, m.info.totalFrames, episodes, frames),
              infoFile() });
        m.info.totalEpisodes = episodes;
        m.info.totalFrames = frames;
    }
    if (m_rows > frames) {
        m_warnings.push_back(
            { fmt::format("{} frames at the end of the data belong to no episode; `rankwise dataset check "
                          "--repair` removes what a crash left",
                          m_rows - frames),
              (m.root / "data").string() });
    }
    m.info.totalTasks = static_cast<std::int64_t>(m.tasks.size());
    return {};
}

Result<void> TablesReader::checkVideosExist()
{
    std::set<std::string> seen;
    std::error_code error;
    for (const EpisodeInfo& episode : m.episodes) {
        for (const VideoSpan& span : episode.videos) {
            if (seen.insert(span.path).second && !fs::is_regular_file(m.root / span.path, error)) {
                return fail(Errc::FileNotFound,
                            fmt::format("the video of camera \"{}\", episode {}, is missing", span.key, episode.index),
                            (m.root / span.path).string());
            }
        }
    }
    return {};
}

Result<void> TablesReader::checkRows()
{
    if (m.episodes.empty()) {
        return {};
    }
    for (const Feature& feature : defaultFeatures()) {
        if (!m.columns.contains(feature.key)) {
            return fail(Errc::FieldMissing, fmt::format("the column \"{}\" is missing", feature.key),
                        (m.root / "data").string());
        }
    }
    // Whatever type they were declared with, the checks read them as these.
    for (const char* key : { "index", "episode_index", "frame_index", "task_index" }) {
        if (m.columns[key].type != FeatureType::Int64) {
            return fail(Errc::FieldInvalid, fmt::format("the feature \"{}\" must be int64", key), infoFile());
        }
    }
    if (m.columns["timestamp"].type != FeatureType::Float32) {
        return fail(Errc::FieldInvalid, "the feature \"timestamp\" must be float32", infoFile());
    }
    for (const EpisodeInfo& episode : m.episodes) {
        RW_TRY_VOID(checkEpisodeRows(episode));
    }
    return {};
}

Result<void> TablesReader::checkEpisodeRows(const EpisodeInfo& episode)
{
    const auto index = valuesOf<std::int64_t>(m.columns["index"]);
    const auto episodes = valuesOf<std::int64_t>(m.columns["episode_index"]);
    const auto frames = valuesOf<std::int64_t>(m.columns["frame_index"]);
    const auto tasks = valuesOf<std::int64_t>(m.columns["task_index"]);
    const auto times = valuesOf<float>(m.columns["timestamp"]);
    const std::string subject = fmt::format("{}: episode {}", (m.root / "data").string(), episode.index);
    const double step = 1.0 / static_cast<double>(m.info.fps);
    bool framesOdd = false;
    bool indexOdd = false;
    for (std::int64_t row = episode.fromIndex; row < episode.toIndex; ++row) {
        const auto i = static_cast<std::size_t>(row);
        if (episodes[i] != episode.index) {
            return fail(Errc::DataInvalid, fmt::format("row {} belongs to episode {}", row, episodes[i]), subject);
        }
        if (index[i] != row) {
            if (m.info.version == DatasetVersion::V30) {
                return fail(Errc::DataInvalid,
                            fmt::format("row {} has the index {}; rows must stand in order", row, index[i]), subject);
            }
            indexOdd = true;
        }
        if (tasks[i] < 0 || tasks[i] >= static_cast<std::int64_t>(m.tasks.size())) {
            return fail(
                Errc::DataInvalid,
                fmt::format("row {} has the task_index {}, and there are {} tasks", row, tasks[i], m.tasks.size()),
                subject);
        }
        framesOdd = framesOdd || frames[i] != row - episode.fromIndex;
        if (!std::isfinite(times[i])) {
            return fail(Errc::NotFinite, fmt::format("row {} has no finite timestamp", row), subject);
        }
        if (row > episode.fromIndex) {
            const double delta = static_cast<double>(times[i]) - static_cast<double>(times[i - 1]);
            const double rounding = 2.4e-7 * std::abs(static_cast<double>(times[i]));
            if (std::abs(delta - step) > kToleranceSeconds + rounding) {
                return fail(Errc::DataInvalid,
                            fmt::format("rows {} and {} are {:.6f} s apart, and {} frames a second make {:.6f} s",
                                        row - 1, row, delta, m.info.fps, step),
                            subject);
            }
        }
    }
    if (framesOdd) {
        m_warnings.push_back({ "frame_index does not count from 0", subject });
    }
    if (indexOdd) {
        m_warnings.push_back({ "the column \"index\" is not the position of the row", subject });
    }
    return {};
}

void TablesReader::checkFinite()
{
    for (const auto& [key, column] : m.columns) {
        std::int64_t bad = 0;
        std::int64_t first = -1;
        const auto scan = [&](const auto values) {
            for (std::size_t i = 0; i < values.size(); ++i) {
                if (!std::isfinite(values[i])) {
                    first = bad++ == 0 ? static_cast<std::int64_t>(i) / column.width : first;
                }
            }
        };
        if (column.type == FeatureType::Float32) {
            scan(valuesOf<float>(column));
        } else if (column.type == FeatureType::Float64) {
            scan(valuesOf<double>(column));
        }
        if (bad > 0) {
            m_warnings.push_back({ fmt::format("column \"{}\" holds {} values that are not finite, the first in row {}",
                                               key, bad, first),
                                   (m.root / "data").string() });
        }
    }
}

void TablesReader::checkStatistics()
{
    for (const auto& [key, s] : m.statistics) {
        const Feature* feature = m.info.find(key);
        if (feature == nullptr) {
            continue;
        }
        const std::int64_t wanted = feature->isCamera() ? pictureShape(*feature).channels : feature->width();
        if (static_cast<std::int64_t>(s.mean.size()) != wanted) {
            m_warnings.push_back({ fmt::format("statistics of \"{}\" have {} entries, and the feature has {}", key,
                                               s.mean.size(), wanted),
                                   (m.root / "meta").string() });
        }
    }
}

} // namespace

Result<DatasetTables> readTables(const fs::path& root, std::vector<Warning>& warnings)
{
    return TablesReader(root, warnings).read();
}

} // namespace rankwise::data
