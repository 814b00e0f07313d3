// meta/info.json as types.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_info.h"

#include "backend/base/checked_math.h"
#include "backend/base/json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

struct TypeRow {
    FeatureType type;
    std::string_view name;
    std::size_t bytes;
};

constexpr std::array<TypeRow, 16> kTypes { {
    { FeatureType::Bool, "bool", 1 },
    { FeatureType::UInt8, "uint8", 1 },
    { FeatureType::Int8, "int8", 1 },
    { FeatureType::UInt16, "uint16", 2 },
    { FeatureType::Int16, "int16", 2 },
    { FeatureType::UInt32, "uint32", 4 },
    { FeatureType::Int32, "int32", 4 },
    { FeatureType::UInt64, "uint64", 8 },
    { FeatureType::Int64, "int64", 8 },
    { FeatureType::Float16, "float16", 2 },
    { FeatureType::Float32, "float32", 4 },
    { FeatureType::Float64, "float64", 8 },
    { FeatureType::String, "string", 0 },
    { FeatureType::Image, "image", 0 },
    { FeatureType::Video, "video", 0 },
    { FeatureType::Language, "language", 0 },
} };

/// Most elements of one step of a feature; more is a damaged file.
constexpr std::uint64_t kMaxWidth = 1u << 24;
constexpr std::int64_t kMaxCount = std::int64_t { 1 } << 40;

} // namespace

std::string_view featureTypeName(FeatureType type)
{
    return kTypes[static_cast<std::size_t>(type)].name;
}

std::optional<FeatureType> featureTypeFromName(std::string_view name)
{
    for (const TypeRow& row : kTypes) {
        if (row.name == name) {
            return row.type;
        }
    }
    return std::nullopt;
}

std::size_t elementSize(FeatureType type)
{
    return kTypes[static_cast<std::size_t>(type)].bytes;
}

std::int64_t Feature::width() const
{
    std::int64_t count = 1;
    for (const std::int64_t dim : shape) {
        count *= dim;
    }
    return count;
}

std::string_view datasetVersionName(DatasetVersion version)
{
    return version == DatasetVersion::V21 ? "v2.1" : "v3.0";
}

const Feature* DatasetInfo::find(std::string_view key) const
{
    const auto found = std::find_if(features.begin(), features.end(), [&](const Feature& f) { return f.key == key; });
    return found == features.end() ? nullptr : &*found;
}

std::vector<std::string> DatasetInfo::keysOf(FeatureType type) const
{
    std::vector<std::string> keys;
    for (const Feature& feature : features) {
        if (feature.type == type) {
            keys.push_back(feature.key);
        }
    }
    return keys;
}

std::vector<std::string> DatasetInfo::cameraKeys() const
{
    std::vector<std::string> keys;
    for (const Feature& feature : features) {
        if (feature.isCamera()) {
            keys.push_back(feature.key);
        }
    }
    return keys;
}

const std::vector<Feature>& defaultFeatures()
{
    static const std::vector<Feature> features = [] {
        std::vector<Feature> list;
        const std::array<std::pair<const char*, FeatureType>, 5> columns { { { "timestamp", FeatureType::Float32 },
                                                                             { "frame_index", FeatureType::Int64 },
                                                                             { "episode_index", FeatureType::Int64 },
                                                                             { "index", FeatureType::Int64 },
                                                                             { "task_index", FeatureType::Int64 } } };
        for (const auto& [key, type] : columns) {
            list.push_back(
                { .key = key, .type = type, .shape = { 1 }, .names = {}, .namesJson = "null", .infoJson = {} });
        }
        return list;
    }();
    return features;
}

const VideoSpan* EpisodeInfo::video(std::string_view key) const
{
    const auto found =
        std::find_if(videos.begin(), videos.end(), [&](const VideoSpan& span) { return span.key == key; });
    return found == videos.end() ? nullptr : &*found;
}

// ---------------------------------------------------------------------------------------------- templates

namespace {

struct TemplateField {
    std::string_view name;
    int width = 0;
};

/// "{name}" or "{name:0Nd}" from just behind the brace; advances `at` behind the closing one.
Result<TemplateField> parseField(std::string_view pattern, std::size_t& at, const std::string& subject)
{
    const std::size_t close = pattern.find('}', at);
    if (close == std::string_view::npos) {
        return fail(Errc::FieldInvalid, "a path template with an open brace", subject);
    }
    std::string_view inside = pattern.substr(at, close - at);
    at = close + 1;
    TemplateField field;
    const std::size_t colon = inside.find(':');
    field.name = inside.substr(0, colon);
    if (colon == std::string_view::npos) {
        return field;
    }
    std::string_view format = inside.substr(colon + 1);
    if (!format.empty() && format.front() == '0') {
        format.remove_prefix(1);
    }
    if (!format.empty() && format.back() == 'd') {
        format.remove_suffix(1);
    }
    if (format.size() > 2 || !std::all_of(format.begin(), format.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        return fail(Errc::FieldInvalid, fmt::format("a path template with the format \"{}\"", inside), subject);
    }
    for (const char c : format) {
        field.width = field.width * 10 + (c - '0');
    }
    return field;
}

/// Relative, no "..", no empty or hidden tricks: a path that stays inside the dataset.
Result<void> checkInside(std::string_view path, const std::string& subject)
{
    if (path.empty() || path.front() == '/' || path.find('\\') != std::string_view::npos
        || path.find('\0') != std::string_view::npos) {
        return fail(Errc::FieldInvalid, fmt::format("the path \"{}\" is not relative to the dataset", path), subject);
    }
    std::size_t begin = 0;
    while (begin <= path.size()) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        if (path.substr(begin, end - begin) == "..") {
            return fail(Errc::FieldInvalid, fmt::format("the path \"{}\" leaves the dataset", path), subject);
        }
        begin = end + 1;
    }
    return {};
}

} // namespace

Result<std::string> fillTemplate(std::string_view pattern, const std::map<std::string, std::int64_t>& numbers,
                                 std::string_view videoKey, const std::string& subject)
{
    std::string path;
    std::size_t at = 0;
    while (at < pattern.size()) {
        const char c = pattern[at++];
        if (c == '}') {
            return fail(Errc::FieldInvalid, "a path template with a stray brace", subject);
        }
        if (c != '{') {
            path += c;
            continue;
        }
        RW_TRY(const TemplateField field, parseField(pattern, at, subject));
        if (field.name == "video_key" && !videoKey.empty()) {
            path += videoKey;
            continue;
        }
        const auto number = numbers.find(std::string(field.name));
        if (number == numbers.end()) {
            return fail(Errc::FieldInvalid, fmt::format("a path template with the unknown field \"{}\"", field.name),
                        subject);
        }
        path += fmt::format("{:0{}d}", number->second, std::max(field.width, 1));
    }
    RW_TRY_VOID(checkInside(path, subject));
    return path;
}

// ---------------------------------------------------------------------------------------------- reading

namespace {

void collectNames(const OrderedJson& json, std::vector<std::string>& names)
{
    if (json.is_string()) {
        names.push_back(json.get<std::string>());
    } else if (json.is_array() || json.is_object()) {
        for (const auto& item : json) {
            collectNames(item, names);
        }
    }
}

class InfoReader {
public:
    InfoReader(const OrderedJson& json, std::string file) : m_json(json), m_file(std::move(file)) { }

    Result<DatasetInfo> read(std::vector<Warning>& warnings)
    {
        RW_TRY_VOID(readVersion());
        RW_TRY(m_info.fps, integer("fps", 1, kMaxFps, true, 0));
        RW_TRY(m_info.totalEpisodes, integer("total_episodes", 0, kMaxCount, true, 0));
        RW_TRY(m_info.totalFrames, integer("total_frames", 0, kMaxCount, true, 0));
        RW_TRY(m_info.totalTasks, integer("total_tasks", 0, kMaxCount, false, 0));
        RW_TRY(m_info.chunksSize, integer("chunks_size", 1, kMaxCount, false, 1000));
        RW_TRY(m_info.dataFilesSizeMb, positive("data_files_size_in_mb", 100));
        RW_TRY(m_info.videoFilesSizeMb, positive("video_files_size_in_mb", 200));
        RW_TRY(m_info.robotType, text("robot_type", ""));
        RW_TRY_VOID(readFeatures());
        RW_TRY_VOID(readTemplates());
        if (!m_json.contains("total_tasks")) {
            warnings.push_back({ "has no total_tasks", m_file });
        }
        return std::move(m_info);
    }

private:
    [[nodiscard]] std::string at(std::string_view field) const { return fmt::format("{}: {}", m_file, field); }

    [[nodiscard]] const OrderedJson* find(const char* key) const
    {
        const auto found = m_json.find(key);
        return found == m_json.end() || found->is_null() ? nullptr : &*found;
    }

    Result<std::int64_t> integer(const char* key, std::int64_t low, std::int64_t high, bool required,
                                 std::int64_t fallback) const
    {
        const OrderedJson* value = find(key);
        if (value == nullptr) {
            if (required) {
                return fail(Errc::FieldMissing, fmt::format("the field \"{}\" is missing", key), at(key));
            }
            return fallback;
        }
        std::int64_t number = 0;
        if (value->is_number_integer()) {
            const bool huge =
                value->is_number_unsigned() && !checkedCast<std::int64_t>(value->get<std::uint64_t>()).has_value();
            number = huge ? std::numeric_limits<std::int64_t>::max() : value->get<std::int64_t>();
        } else if (value->is_number_float() && value->get<double>() == std::floor(value->get<double>())
                   && std::abs(value->get<double>()) < 9e15) {
            number = static_cast<std::int64_t>(value->get<double>());
        } else {
            return fail(Errc::FieldInvalid, fmt::format("\"{}\" must be a whole number", key), at(key));
        }
        if (number < low) {
            return fail(Errc::FieldInvalid, fmt::format("\"{}\" is {}, and must be at least {}", key, number, low),
                        at(key));
        }
        if (number > high) {
            return fail(Errc::TooLarge, fmt::format("\"{}\" is {}, and must be at most {}", key, number, high),
                        at(key));
        }
        return number;
    }

    Result<double> positive(const char* key, double fallback) const
    {
        const OrderedJson* value = find(key);
        if (value == nullptr) {
            return fallback;
        }
        if (!value->is_number() || !(value->get<double>() > 0) || value->get<double>() > 1e9) {
            return fail(Errc::FieldInvalid, fmt::format("\"{}\" must be a positive number", key), at(key));
        }
        return value->get<double>();
    }

    Result<std::string> text(const char* key, const std::string& fallback) const
    {
        const OrderedJson* value = find(key);
        if (value == nullptr) {
            return fallback;
        }
        if (!value->is_string()) {
            return fail(Errc::FieldInvalid, fmt::format("\"{}\" must be a text", key), at(key));
        }
        return value->get<std::string>();
    }

    Result<void> readVersion()
    {
        RW_TRY(const std::string version, text("codebase_version", ""));
        if (version.empty()) {
            return fail(Errc::FieldMissing, "the field \"codebase_version\" is missing", at("codebase_version"));
        }
        if (version == "v2.1" || version == "2.1") {
            m_info.version = DatasetVersion::V21;
        } else if (version.starts_with("v3.") || version.starts_with("3.")) {
            m_info.version = DatasetVersion::V30;
        } else {
            return fail(Errc::Unsupported,
                        fmt::format("datasets of version \"{}\" are not read; v2.1 and v3.x are. Convert it with the "
                                    "lerobot release that wrote it",
                                    version),
                        at("codebase_version"));
        }
        return {};
    }

    Result<void> readFeatures()
    {
        const OrderedJson* features = find("features");
        if (features == nullptr) {
            return fail(Errc::FieldMissing, "the field \"features\" is missing", at("features"));
        }
        if (!features->is_object()) {
            return fail(Errc::FieldInvalid, "\"features\" must be an object", at("features"));
        }
        for (const auto& [key, value] : features->items()) {
            RW_TRY(Feature feature, readFeature(key, value));
            m_info.features.push_back(std::move(feature));
        }
        for (const Feature& wanted : defaultFeatures()) {
            const Feature* found = m_info.find(wanted.key);
            if (found == nullptr) {
                return fail(Errc::FieldMissing, fmt::format("the feature \"{}\" is missing", wanted.key),
                            at("features"));
            }
            if (!found->isNumeric() || found->width() != 1) {
                return fail(Errc::FieldInvalid, fmt::format("the feature \"{}\" must be one number", wanted.key),
                            at("features." + wanted.key));
            }
        }
        return {};
    }

    Result<Feature> readFeature(const std::string& key, const OrderedJson& value) const
    {
        const std::string where = at("features." + key);
        if (key.empty() || key.find('/') != std::string::npos || key == "." || key == "..") {
            return fail(Errc::FieldInvalid, "a feature name must not be empty or contain '/'", where);
        }
        if (!value.is_object()) {
            return fail(Errc::FieldInvalid, "a feature must be an object", where);
        }
        Feature feature { .key = key, .type = {}, .shape = {}, .names = {}, .namesJson = "null", .infoJson = {} };
        const auto dtype = value.find("dtype");
        if (dtype == value.end() || !dtype->is_string()) {
            return fail(Errc::FieldMissing, "a feature needs the text \"dtype\"", where);
        }
        const auto type = featureTypeFromName(dtype->get<std::string>());
        if (!type) {
            return fail(Errc::DtypeUnknown, fmt::format("the dtype \"{}\" is unknown", dtype->get<std::string>()),
                        where);
        }
        feature.type = *type;
        RW_TRY(feature.shape, readShape(value, feature, where));
        if (const auto names = value.find("names"); names != value.end()) {
            feature.namesJson = names->dump();
            collectNames(*names, feature.names);
        }
        const auto info = value.find("info") != value.end() ? value.find("info") : value.find("video_info");
        if (info != value.end() && info->is_object()) {
            feature.infoJson = info->dump();
        }
        return feature;
    }

    static Result<std::vector<std::int64_t>> readShape(const OrderedJson& value, const Feature& feature,
                                                       const std::string& where)
    {
        const auto found = value.find("shape");
        if (found == value.end() || !found->is_array()) {
            if (feature.type == FeatureType::Language || feature.type == FeatureType::String) {
                return std::vector<std::int64_t> { 1 };
            }
            return fail(Errc::FieldMissing, "a feature needs the list \"shape\"", where);
        }
        std::vector<std::int64_t> shape;
        for (const auto& dim : *found) {
            if (!dim.is_number_integer() || (dim.is_number_unsigned() && dim.get<std::uint64_t>() >> 62 != 0)
                || dim.get<std::int64_t>() < 0) {
                return fail(Errc::FieldInvalid, "a shape must be a list of whole numbers from 0 on", where);
            }
            shape.push_back(dim.get<std::int64_t>());
        }
        const auto count = elementCount(shape);
        if (!count) {
            return fail(Errc::ShapeOverflow, "the number of elements of the shape does not fit 64 bits", where);
        }
        if (*count == 0 || shape.size() > 5) {
            return fail(Errc::FieldInvalid, "a shape must have elements and at most five dimensions", where);
        }
        if (*count > (feature.isCamera() ? std::uint64_t { 1 } << 30 : kMaxWidth)) {
            return fail(Errc::TooLarge, fmt::format("{} elements in one step are too many", *count), where);
        }
        if (feature.isCamera() && shape.size() != 3 && shape.size() != 2) {
            return fail(Errc::FieldInvalid, "pictures have the shape [height, width, channels]", where);
        }
        return shape;
    }

    Result<void> readTemplates()
    {
        const bool v3 = m_info.version == DatasetVersion::V30;
        RW_TRY(m_info.dataPath,
               text("data_path",
                    v3 ? "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
                       : "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"));
        RW_TRY(m_info.videoPath,
               text("video_path",
                    v3 ? "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
                       : "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"));
        const std::map<std::string, std::int64_t> numbers = v3
            ? std::map<std::string, std::int64_t> { { "chunk_index", 0 }, { "file_index", 0 } }
            : std::map<std::string, std::int64_t> { { "episode_chunk", 0 }, { "episode_index", 0 } };
        RW_TRY_VOID(fillTemplate(m_info.dataPath, numbers, "", at("data_path")));
        if (!m_info.keysOf(FeatureType::Video).empty()) {
            RW_TRY_VOID(fillTemplate(m_info.videoPath, numbers, "camera", at("video_path")));
        }
        return {};
    }

    const OrderedJson& m_json;
    std::string m_file;
    DatasetInfo m_info;
};

OrderedJson featureToJson(const Feature& feature)
{
    OrderedJson json;
    json["dtype"] = featureTypeName(feature.type);
    json["shape"] = feature.shape;
    json["names"] = OrderedJson::parse(feature.namesJson.empty() ? "null" : feature.namesJson, nullptr, false);
    if (!feature.infoJson.empty()) {
        json["info"] = OrderedJson::parse(feature.infoJson, nullptr, false);
    }
    return json;
}

OrderedJson wholeOrReal(double value)
{
    return value == std::floor(value) ? OrderedJson(static_cast<std::int64_t>(value)) : OrderedJson(value);
}

} // namespace

Result<DatasetInfo> readDatasetInfo(const fs::path& root, std::vector<Warning>& warnings)
{
    const fs::path path = root / "meta" / "info.json";
    RW_TRY(const OrderedJson json, readOrderedJsonFile(path, { .maxDepth = 64, .maxBytes = 16u << 20 }));
    if (!json.is_object()) {
        return fail(Errc::JsonInvalid, "must be a JSON object", path.string());
    }
    return InfoReader(json, path.string()).read(warnings);
}

std::string datasetInfoText(const DatasetInfo& info)
{
    const bool v3 = info.version == DatasetVersion::V30;
    OrderedJson json;
    json["codebase_version"] = datasetVersionName(info.version);
    json["robot_type"] = info.robotType.empty() ? OrderedJson() : OrderedJson(info.robotType);
    json["total_episodes"] = info.totalEpisodes;
    json["total_frames"] = info.totalFrames;
    json["total_tasks"] = info.totalTasks;
    if (!v3) {
        const auto cameras = static_cast<std::int64_t>(info.keysOf(FeatureType::Video).size());
        json["total_videos"] = info.totalEpisodes * cameras;
        json["total_chunks"] = (info.totalEpisodes + info.chunksSize - 1) / info.chunksSize;
    }
    json["chunks_size"] = info.chunksSize;
    if (v3) {
        json["data_files_size_in_mb"] = wholeOrReal(info.dataFilesSizeMb);
        json["video_files_size_in_mb"] = wholeOrReal(info.videoFilesSizeMb);
    }
    json["fps"] = info.fps;
    json["splits"] = { { "train", fmt::format("0:{}", info.totalEpisodes) } };
    json["data_path"] = info.dataPath;
    json["video_path"] = info.keysOf(FeatureType::Video).empty() ? OrderedJson() : OrderedJson(info.videoPath);
    OrderedJson features = OrderedJson::object();
    for (const Feature& feature : info.features) {
        features[feature.key] = featureToJson(feature);
    }
    json["features"] = std::move(features);
    return jsonText(json);
}

} // namespace rankwise::data
