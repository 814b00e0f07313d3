// The files of a v3.0 dataset as lerobot reads them.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_files.h"

#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/io/parquet.h"

#include <algorithm>
#include <cstring>

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/buffer.h>
#include <arrow/builder.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

/// Rows and picture bytes of a row group at most: bounds what is in memory at once.
constexpr std::int64_t kGroupRows = 8192;
constexpr std::size_t kGroupBytes = std::size_t { 32 } << 20;

std::shared_ptr<arrow::DataType> arrowType(FeatureType type)
{
    switch (type) {
    case FeatureType::Bool:
        return arrow::boolean();
    case FeatureType::UInt8:
        return arrow::uint8();
    case FeatureType::Int8:
        return arrow::int8();
    case FeatureType::UInt16:
        return arrow::uint16();
    case FeatureType::Int16:
        return arrow::int16();
    case FeatureType::UInt32:
        return arrow::uint32();
    case FeatureType::Int32:
        return arrow::int32();
    case FeatureType::UInt64:
        return arrow::uint64();
    case FeatureType::Int64:
        return arrow::int64();
    case FeatureType::Float16:
        return arrow::float16();
    case FeatureType::Float32:
        return arrow::float32();
    case FeatureType::Float64:
        return arrow::float64();
    case FeatureType::Image:
        return arrow::struct_({ arrow::field("bytes", arrow::binary()), arrow::field("path", arrow::utf8()) });
    default:
        return arrow::utf8();
    }
}

bool isScalar(const Feature& feature)
{
    return feature.shape.size() <= 1 && feature.width() == 1;
}

std::shared_ptr<arrow::DataType> fieldType(const Feature& feature)
{
    const auto element = arrowType(feature.type);
    if (!feature.isNumeric() || isScalar(feature)) {
        return element;
    }
    if (feature.shape.size() == 1) {
        return arrow::fixed_size_list(element, static_cast<std::int32_t>(feature.shape[0]));
    }
    auto type = element;
    for (std::size_t i = 0; i < feature.shape.size(); ++i) {
        type = arrow::list(type);
    }
    return type;
}

/// What `datasets` needs where it infers the features from the file.
Json huggingfaceFeature(const Feature& feature)
{
    if (feature.type == FeatureType::Image) {
        return { { "_type", "Image" } };
    }
    const std::string dtype(featureTypeName(feature.type));
    const Json value { { "dtype", dtype }, { "_type", "Value" } };
    if (!feature.isNumeric() || isScalar(feature)) {
        return value;
    }
    if (feature.shape.size() == 1) {
        return { { "feature", value }, { "length", feature.shape[0] }, { "_type", "Sequence" } };
    }
    return { { "shape", feature.shape },
             { "dtype", dtype },
             { "_type", fmt::format("Array{}D", feature.shape.size()) } };
}

std::shared_ptr<arrow::Array> plainArray(FeatureType type, std::span<const std::byte> bytes)
{
    if (type == FeatureType::Bool) {
        arrow::BooleanBuilder builder;
        for (const std::byte b : bytes) {
            if (!builder.Append(b != std::byte { 0 }).ok()) {
                return nullptr;
            }
        }
        return builder.Finish().ValueOr(nullptr);
    }
    const auto length = static_cast<std::int64_t>(bytes.size() / elementSize(type));
    auto buffer = std::make_shared<arrow::Buffer>(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                  static_cast<std::int64_t>(bytes.size()));
    return arrow::MakeArray(arrow::ArrayData::Make(arrowType(type), length, { nullptr, buffer }, 0));
}

/// Rows of a numeric column, shared memory with the column.
Result<std::shared_ptr<arrow::Array>> numericArray(const Feature& feature, const Column& column, std::int64_t begin,
                                                   std::int64_t end)
{
    const std::size_t rowBytes = elementSize(feature.type) * static_cast<std::size_t>(column.width);
    auto array = plainArray(
        feature.type,
        std::span(column.bytes)
            .subspan(static_cast<std::size_t>(begin) * rowBytes, static_cast<std::size_t>(end - begin) * rowBytes));
    if (array != nullptr && !isScalar(feature)) {
        if (feature.shape.size() == 1) {
            array = arrow::FixedSizeListArray::FromArrays(array, static_cast<std::int32_t>(feature.shape[0]))
                        .ValueOr(nullptr);
        } else {
            // Innermost dimension first; every list of one level has the same length.
            for (auto dim = feature.shape.rbegin(); array != nullptr && dim != feature.shape.rend(); ++dim) {
                arrow::Int32Builder offsets;
                bool fits = array->length() <= std::numeric_limits<std::int32_t>::max();
                for (std::int64_t at = 0; fits && at <= array->length(); at += *dim) {
                    fits = offsets.Append(static_cast<std::int32_t>(at)).ok();
                }
                const auto finished = offsets.Finish().ValueOr(nullptr);
                array = fits && finished != nullptr ? arrow::ListArray::FromArrays(*finished, *array).ValueOr(nullptr)
                                                    : nullptr;
            }
        }
    }
    if (array == nullptr) {
        return fail(Errc::TooLarge, "no memory for a column", feature.key);
    }
    return array;
}

Result<std::shared_ptr<arrow::Array>> textArray(const Feature& feature, const Column& column, std::int64_t begin,
                                                std::int64_t end)
{
    arrow::StringBuilder builder;
    for (std::int64_t row = begin; row < end; ++row) {
        if (!builder.Append(column.texts[static_cast<std::size_t>(row)]).ok()) {
            return fail(Errc::TooLarge, "no memory for a column", feature.key);
        }
    }
    auto array = builder.Finish();
    if (!array.ok()) {
        return fail(Errc::TooLarge, "no memory for a column", feature.key);
    }
    return std::shared_ptr<arrow::Array>(*array);
}

} // namespace

std::shared_ptr<arrow::Schema> dataSchema(const DatasetInfo& info)
{
    std::vector<std::shared_ptr<arrow::Field>> fields;
    Json features = Json::object();
    for (const Feature& feature : info.features) {
        if (feature.type == FeatureType::Video || feature.type == FeatureType::Language) {
            continue;
        }
        fields.push_back(arrow::field(feature.key, fieldType(feature)));
        features[feature.key] = huggingfaceFeature(feature);
    }
    const Json metadata { { "info", { { "features", std::move(features) } } } };
    return arrow::schema(std::move(fields), arrow::key_value_metadata({ "huggingface" }, { metadata.dump() }));
}

namespace {

/// Cuts the rows of one data file into row groups.
class DataFileWriter {
public:
    DataFileWriter(const DatasetInfo& info, const ColumnSource& columns, const PictureSource& pictures)
        : m_info(info), m_columns(columns), m_pictures(pictures), m_schema(dataSchema(info))
    {
    }

    Result<void> write(const fs::path& path, std::int64_t begin, std::int64_t end)
    {
        RW_TRY(io::ParquetWriter writer, io::ParquetWriter::create(path, m_schema));
        while (begin < end) {
            RW_TRY(const std::int64_t stop, collectPictures(begin, std::min(end, begin + kGroupRows)));
            RW_TRY(const auto table, group(begin, stop));
            RW_TRY_VOID(writer.write(*table));
            begin = stop;
        }
        return writer.finish();
    }

private:
    /// Fills the builders with pictures from `begin` on until the group is full; returns where it ends.
    Result<std::int64_t> collectPictures(std::int64_t begin, std::int64_t end)
    {
        std::vector<std::string> keys = m_info.keysOf(FeatureType::Image);
        m_bytes.clear();
        m_bytes.resize(keys.size());
        std::size_t size = 0;
        std::int64_t row = begin;
        for (; row < end && (size < kGroupBytes || row == begin); ++row) {
            for (std::size_t k = 0; k < keys.size(); ++k) {
                RW_TRY(auto bytes, m_pictures(keys[k], row));
                size += bytes.size();
                m_bytes[k].push_back(std::move(bytes));
            }
        }
        return row;
    }

    Result<std::shared_ptr<arrow::Array>> pictureArray(std::size_t camera, std::int64_t firstFrame)
    {
        auto bytes = std::make_shared<arrow::BinaryBuilder>();
        auto names = std::make_shared<arrow::StringBuilder>();
        arrow::StructBuilder builder(arrowType(FeatureType::Image), arrow::default_memory_pool(), { bytes, names });
        bool ok = true;
        for (const auto& picture : m_bytes[camera]) {
            ok = ok && builder.Append().ok()
                && bytes
                       ->Append(reinterpret_cast<const char*>(picture.data()),
                                static_cast<std::int32_t>(picture.size()))
                       .ok()
                && names->Append(fmt::format("frame-{:06d}.png", firstFrame++)).ok();
        }
        auto array = builder.Finish();
        if (!ok || !array.ok()) {
            return fail(Errc::TooLarge, "no memory for pictures", "data");
        }
        return std::shared_ptr<arrow::Array>(*array);
    }

    Result<std::shared_ptr<arrow::Table>> group(std::int64_t begin, std::int64_t end)
    {
        std::vector<std::shared_ptr<arrow::Array>> arrays;
        std::size_t camera = 0;
        for (const auto& field : m_schema->fields()) {
            const Feature& feature = *m_info.find(field->name());
            if (feature.type == FeatureType::Image) {
                const Column* frames = m_columns("frame_index");
                RW_CHECK(frames != nullptr && frames->type == FeatureType::Int64);
                std::int64_t first = 0;
                std::memcpy(&first, frames->bytes.data() + static_cast<std::size_t>(begin) * 8, 8);
                RW_TRY(auto array, pictureArray(camera++, first));
                arrays.push_back(std::move(array));
                continue;
            }
            const Column* column = m_columns(feature.key);
            if (column == nullptr) {
                arrays.push_back(arrow::MakeArrayOfNull(field->type(), end - begin).ValueOr(nullptr));
                if (arrays.back() == nullptr) {
                    return fail(Errc::TooLarge, "no memory for a column", feature.key);
                }
                continue;
            }
            RW_TRY(auto array,
                   feature.isNumeric() ? numericArray(feature, *column, begin, end)
                                       : textArray(feature, *column, begin, end));
            arrays.push_back(std::move(array));
        }
        return arrow::Table::Make(m_schema, std::move(arrays), end - begin);
    }

    const DatasetInfo& m_info;
    const ColumnSource& m_columns;
    const PictureSource& m_pictures;
    std::shared_ptr<arrow::Schema> m_schema;
    std::vector<std::vector<std::vector<std::byte>>> m_bytes; ///< One list of pictures a camera.
};

} // namespace

Result<void> writeDataFile(const fs::path& path, const DatasetInfo& info, const ColumnSource& columns,
                           std::int64_t begin, std::int64_t end, const PictureSource& pictures)
{
    return DataFileWriter(info, columns, pictures).write(path, begin, end);
}

Result<void> writeTaskTable(const fs::path& root, const std::vector<std::string>& tasks)
{
    arrow::Int64Builder indices;
    arrow::StringBuilder texts;
    bool ok = true;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        ok = ok && indices.Append(static_cast<std::int64_t>(i)).ok() && texts.Append(tasks[i]).ok();
    }
    const auto indexArray = indices.Finish().ValueOr(nullptr);
    const auto textArrayOf = texts.Finish().ValueOr(nullptr);
    if (!ok || indexArray == nullptr || textArrayOf == nullptr) {
        return fail(Errc::TooLarge, "no memory for the tasks", root.string());
    }
    // Without this lerobot would take row numbers for the texts.
    const Json pandas {
        { "index_columns", { "task" } },
        { "column_indexes", Json::array() },
        { "columns",
          { { { "name", "task_index" },
              { "field_name", "task_index" },
              { "pandas_type", "int64" },
              { "numpy_type", "int64" },
              { "metadata", nullptr } },
            { { "name", "task" },
              { "field_name", "task" },
              { "pandas_type", "unicode" },
              { "numpy_type", "object" },
              { "metadata", nullptr } } } },
        { "creator", { { "library", "rankwise" }, { "version", "1" } } },
        { "pandas_version", "2.2.0" },
    };
    const auto schema =
        arrow::schema({ arrow::field("task_index", arrow::int64()), arrow::field("task", arrow::utf8()) },
                      arrow::key_value_metadata({ "pandas" }, { pandas.dump() }));
    const auto table = arrow::Table::Make(schema, { indexArray, textArrayOf }, static_cast<std::int64_t>(tasks.size()));
    return io::writeParquetAtomically(root / "meta" / "tasks.parquet", *table);
}

// ---------------------------------------------------------------------------------------------- episode rows

namespace {

/// The value of one cell, converted to whatever type its column has.
struct Cell {
    std::vector<double> numbers;
    std::vector<std::int64_t> integers; ///< Used instead of `numbers` where not empty.
    std::vector<std::string> texts;
    std::shared_ptr<arrow::DataType> type;
};

/// Appends element `i` of the cell to a builder of a number, text or nested list type; lists inside the outermost
/// hold one element each, which is how statistics of cameras are nested.
arrow::Status appendElement(arrow::ArrayBuilder& builder, const Cell& cell, std::size_t i)
{
    const double real = cell.integers.empty() ? (i < cell.numbers.size() ? cell.numbers[i] : 0.0)
                                              : static_cast<double>(cell.integers[i]);
    const std::int64_t whole = cell.integers.empty() ? static_cast<std::int64_t>(real) : cell.integers[i];
    switch (builder.type()->id()) {
    case arrow::Type::LIST: {
        auto& list = static_cast<arrow::ListBuilder&>(builder);
        ARROW_RETURN_NOT_OK(list.Append());
        return appendElement(*list.value_builder(), cell, i);
    }
    case arrow::Type::BOOL:
        return static_cast<arrow::BooleanBuilder&>(builder).Append(real != 0);
    case arrow::Type::INT32:
        return static_cast<arrow::Int32Builder&>(builder).Append(static_cast<std::int32_t>(whole));
    case arrow::Type::INT64:
        return static_cast<arrow::Int64Builder&>(builder).Append(whole);
    case arrow::Type::UINT8:
        return static_cast<arrow::UInt8Builder&>(builder).Append(static_cast<std::uint8_t>(whole));
    case arrow::Type::FLOAT:
        return static_cast<arrow::FloatBuilder&>(builder).Append(static_cast<float>(real));
    case arrow::Type::DOUBLE:
        return static_cast<arrow::DoubleBuilder&>(builder).Append(real);
    case arrow::Type::STRING:
        return static_cast<arrow::StringBuilder&>(builder).Append(cell.texts.at(i));
    default:
        return builder.AppendNull();
    }
}

arrow::Result<std::shared_ptr<arrow::Array>> cellArray(const std::shared_ptr<arrow::DataType>& type, const Cell& cell)
{
    std::unique_ptr<arrow::ArrayBuilder> builder;
    ARROW_RETURN_NOT_OK(arrow::MakeBuilder(arrow::default_memory_pool(), type, &builder));
    if (type->id() == arrow::Type::LIST) {
        auto& list = static_cast<arrow::ListBuilder&>(*builder);
        ARROW_RETURN_NOT_OK(list.Append());
        const std::size_t count = std::max({ cell.numbers.size(), cell.integers.size(), cell.texts.size() });
        for (std::size_t i = 0; i < count; ++i) {
            ARROW_RETURN_NOT_OK(appendElement(*list.value_builder(), cell, i));
        }
    } else {
        ARROW_RETURN_NOT_OK(appendElement(*builder, cell, 0));
    }
    return builder->Finish();
}

class EpisodeRowBuilder {
public:
    EpisodeRowBuilder(const DatasetInfo& info, const EpisodeInfo& episode) : m_info(info), m_episode(episode) { }

    void addAll(const DatasetStatistics& statistics, std::int64_t metaChunk, std::int64_t metaFile,
                const std::vector<Feature>& extraColumns)
    {
        whole("episode_index", m_episode.index);
        add("tasks", { .numbers = {}, .integers = {}, .texts = m_episode.tasks, .type = arrow::list(arrow::utf8()) });
        whole("length", m_episode.length);
        whole("data/chunk_index", m_episode.dataChunk);
        whole("data/file_index", m_episode.dataFile);
        whole("dataset_from_index", m_episode.fromIndex);
        whole("dataset_to_index", m_episode.toIndex);
        for (const VideoSpan& span : m_episode.videos) {
            const std::string prefix = "videos/" + span.key + "/";
            whole(prefix + "chunk_index", span.chunkIndex);
            whole(prefix + "file_index", span.fileIndex);
            real(prefix + "from_timestamp", span.fromTimestamp);
            real(prefix + "to_timestamp", span.toTimestamp);
        }
        for (const Feature& feature : m_info.features) {
            if (const auto found = statistics.find(feature.key); found != statistics.end()) {
                addStatistics(feature, found->second);
            }
        }
        for (const Feature& feature : extraColumns) {
            addExtra(feature);
        }
        whole("meta/episodes/chunk_index", metaChunk);
        whole("meta/episodes/file_index", metaFile);
    }

    Result<std::shared_ptr<arrow::Table>> table(std::shared_ptr<arrow::Schema> schema) const
    {
        if (schema == nullptr) {
            std::vector<std::shared_ptr<arrow::Field>> fields;
            for (const std::string& name : m_order) {
                fields.push_back(arrow::field(name, m_cells.at(name).type));
            }
            schema = arrow::schema(std::move(fields));
        }
        std::vector<std::shared_ptr<arrow::Array>> arrays;
        for (const auto& field : schema->fields()) {
            const auto cell = m_cells.find(field->name());
            auto array = cell != m_cells.end() ? cellArray(field->type(), cell->second)
                                               : arrow::MakeArrayOfNull(field->type(), 1);
            if (!array.ok()) {
                return fail(
                    Errc::DataInvalid,
                    fmt::format("the column \"{}\" cannot hold the value: {}", field->name(), array.status().message()),
                    "episode table");
            }
            arrays.push_back(*array);
        }
        return arrow::Table::Make(schema, std::move(arrays), 1);
    }

private:
    void add(const std::string& name, Cell cell)
    {
        m_order.push_back(name);
        m_cells.emplace(name, std::move(cell));
    }
    void whole(const std::string& name, std::int64_t value)
    {
        add(name, { .numbers = {}, .integers = { value }, .texts = {}, .type = arrow::int64() });
    }
    void real(const std::string& name, double value)
    {
        add(name, { .numbers = { value }, .integers = {}, .texts = {}, .type = arrow::float64() });
    }

    void addStatistics(const Feature& feature, const FeatureStatistics& s)
    {
        auto type = arrow::list(arrow::float64());
        if (s.camera) {
            type = arrow::list(arrow::list(type));
        }
        const std::string prefix = "stats/" + feature.key + "/";
        const auto put = [&](const char* name, const std::vector<double>& values) {
            if (!values.empty()) {
                add(prefix + name, { .numbers = values, .integers = {}, .texts = {}, .type = type });
            }
        };
        put("min", s.min);
        put("max", s.max);
        put("mean", s.mean);
        put("std", s.std);
        add(prefix + "count",
            { .numbers = {}, .integers = { s.count }, .texts = {}, .type = arrow::list(arrow::int64()) });
        put("q01", s.q01);
        put("q10", s.q10);
        put("q50", s.q50);
        put("q90", s.q90);
        put("q99", s.q99);
    }

    void addExtra(const Feature& feature)
    {
        const auto found = m_episode.extra.find(feature.key);
        const Json value = found == m_episode.extra.end() ? Json() : Json::parse(found->second, nullptr, false);
        Cell cell;
        cell.type = arrowType(feature.type);
        if (value.is_string()) {
            cell.texts.push_back(value.get<std::string>());
        } else if (value.is_boolean()) {
            cell.integers.push_back(value.get<bool>() ? 1 : 0);
        } else if (value.is_number_integer()) {
            cell.integers.push_back(value.get<std::int64_t>());
        } else if (value.is_number()) {
            cell.numbers.push_back(value.get<double>());
        } else if (feature.type == FeatureType::String) {
            cell.texts.emplace_back();
        }
        if (feature.type == FeatureType::String && cell.texts.empty()) {
            cell.texts.push_back(value.dump());
        }
        add(feature.key, std::move(cell));
    }

    const DatasetInfo& m_info;
    const EpisodeInfo& m_episode;
    std::vector<std::string> m_order;
    std::map<std::string, Cell> m_cells;
};

} // namespace

Result<std::shared_ptr<arrow::Table>> episodeRow(const DatasetInfo& info, const EpisodeInfo& episode,
                                                 const DatasetStatistics& statistics, std::int64_t metaChunk,
                                                 std::int64_t metaFile, const std::vector<Feature>& extraColumns,
                                                 const std::shared_ptr<arrow::Schema>& schema)
{
    EpisodeRowBuilder builder(info, episode);
    builder.addAll(statistics, metaChunk, metaFile, extraColumns);
    return builder.table(schema);
}

fs::path episodeTablePath(const fs::path& root, std::int64_t chunk, std::int64_t file)
{
    return root / "meta" / "episodes" / fmt::format("chunk-{:03d}", chunk) / fmt::format("file-{:03d}.parquet", file);
}

DatasetStatistics columnStatistics(const std::map<std::string, Column, std::less<>>& columns, std::int64_t begin,
                                   std::int64_t end, QuantileRule rule)
{
    DatasetStatistics result;
    for (const auto& [key, column] : columns) {
        if (elementSize(column.type) == 0) {
            continue;
        }
        const std::size_t rowBytes = elementSize(column.type) * static_cast<std::size_t>(column.width);
        ColumnWindow window;
        window.type = column.type;
        window.bytes.assign(
            column.bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(begin) * rowBytes),
            column.bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(end) * rowBytes));
        result.emplace(key, statisticsOf(window.doubles(), column.width, rule));
    }
    return result;
}

Result<void> writeStatisticsFile(const fs::path& root, const DatasetStatistics& statistics)
{
    return writeFileAtomically(root / "meta" / "stats.json", jsonText(statisticsToJson(statistics)));
}

} // namespace rankwise::data
