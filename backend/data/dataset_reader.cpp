// Reads a LeRobotDataset.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_reader.h"

#include "backend/data/arrow_columns.h"
#include "backend/data/dataset_tables.h"
#include "backend/data/dataset_verify.h"
#include "backend/data/frame_source.h"
#include "backend/data/image_column.h"
#include "backend/io/video_still.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

namespace rankwise::data {

namespace {

/// lerobot's tolerance between the time of a row and of its video frame.
constexpr double kToleranceSeconds = 1e-4;

template <class T, class Convert>
void convertAll(const std::vector<std::byte>& bytes, std::vector<double>& out, const Convert& convert)
{
    const std::size_t count = bytes.size() / sizeof(T);
    out.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        T value {};
        std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
        out.push_back(convert(value));
    }
}

} // namespace

std::vector<double> ColumnWindow::doubles() const
{
    std::vector<double> out;
    const auto plain = [](auto value) { return static_cast<double>(value); };
    switch (type) {
    case FeatureType::Bool:
    case FeatureType::UInt8:
        convertAll<std::uint8_t>(bytes, out, plain);
        break;
    case FeatureType::Int8:
        convertAll<std::int8_t>(bytes, out, plain);
        break;
    case FeatureType::UInt16:
        convertAll<std::uint16_t>(bytes, out, plain);
        break;
    case FeatureType::Int16:
        convertAll<std::int16_t>(bytes, out, plain);
        break;
    case FeatureType::UInt32:
        convertAll<std::uint32_t>(bytes, out, plain);
        break;
    case FeatureType::Int32:
        convertAll<std::int32_t>(bytes, out, plain);
        break;
    case FeatureType::UInt64:
        convertAll<std::uint64_t>(bytes, out, plain);
        break;
    case FeatureType::Int64:
        convertAll<std::int64_t>(bytes, out, plain);
        break;
    case FeatureType::Float16:
        convertAll<std::uint16_t>(bytes, out,
                                  [](std::uint16_t half) { return static_cast<double>(halfToFloat(half)); });
        break;
    case FeatureType::Float32:
        convertAll<float>(bytes, out, plain);
        break;
    case FeatureType::Float64:
        convertAll<double>(bytes, out, plain);
        break;
    default:
        break;
    }
    return out;
}

std::vector<float> ColumnWindow::floats() const
{
    if (type == FeatureType::Float32) {
        const auto values = as<float>();
        return { values.begin(), values.end() };
    }
    const std::vector<double> values = doubles();
    std::vector<float> out(values.size());
    std::transform(values.begin(), values.end(), out.begin(), [](double v) { return static_cast<float>(v); });
    return out;
}

// ---------------------------------------------------------------------------------------------- requests

SampleRequest SampleRequest::forPolicy(std::vector<std::string> cameraKeys, std::string stateKey, std::string actionKey,
                                       std::int64_t chunk)
{
    SampleRequest request;
    if (!stateKey.empty()) {
        request.columns.push_back({ std::move(stateKey), { 0 } });
    }
    if (!actionKey.empty()) {
        request.columns.push_back({ std::move(actionKey), chunkOffsets(chunk) });
    }
    for (std::string& key : cameraKeys) {
        request.cameras.push_back({ std::move(key), { 0 } });
    }
    return request;
}

std::vector<std::int64_t> SampleRequest::chunkOffsets(std::int64_t steps)
{
    std::vector<std::int64_t> offsets;
    for (std::int64_t i = 0; i < steps; ++i) {
        offsets.push_back(i);
    }
    return offsets;
}

Result<std::vector<std::int64_t>> SampleRequest::offsetsFromSeconds(std::span<const double> seconds, std::int64_t fps,
                                                                    double tolerance)
{
    std::vector<std::int64_t> offsets;
    for (const double t : seconds) {
        const double frames = t * static_cast<double>(fps);
        if (!(std::abs(frames) < 1e9)
            || std::abs(frames - std::nearbyint(frames)) / static_cast<double>(fps) > tolerance) {
            return fail(Errc::FieldInvalid, fmt::format("{} s is no multiple of a frame at {} frames a second", t, fps),
                        "offsets");
        }
        offsets.push_back(std::llround(frames));
    }
    return offsets;
}

// ---------------------------------------------------------------------------------------------- reader

struct DatasetReader::Impl {
    Impl(DatasetTables t, const OpenOptions& options)
        : tables(std::move(t)), cache(options.frameCacheBytes), decoders(options.openVideos), images(tables.files)
    {
        const auto keys = tables.info.cameraKeys();
        for (std::size_t i = 0; i < keys.size(); ++i) {
            cameras.emplace(keys[i], Camera { *tables.info.find(keys[i]), static_cast<std::uint64_t>(i), 0 });
        }
        for (auto& [key, camera] : cameras) {
            const auto videos = tables.info.keysOf(FeatureType::Video);
            camera.video = static_cast<std::size_t>(std::find(videos.begin(), videos.end(), key) - videos.begin());
        }
        if (const auto it = tables.columns.find("timestamp"); it != tables.columns.end()) {
            times = { reinterpret_cast<const float*>(it->second.bytes.data()),
                      it->second.bytes.size() / sizeof(float) };
        }
        frames = tables.info.totalFrames;
    }

    struct Camera {
        const Feature& feature;
        std::uint64_t ordinal;
        std::size_t video; ///< Position among the video features.
    };

    DatasetTables tables;
    FrameCache cache;
    DecoderPool decoders;
    ImageColumnReader images;
    std::map<std::string, Camera, std::less<>> cameras;
    std::span<const float> times;
    std::int64_t frames = 0;

    [[nodiscard]] const EpisodeInfo& episodeOf(std::int64_t index) const
    {
        const auto& episodes = tables.episodes;
        const auto after = std::upper_bound(episodes.begin(), episodes.end(), index,
                                            [](std::int64_t i, const EpisodeInfo& e) { return i < e.toIndex; });
        RW_CHECK(after != episodes.end());
        return *after;
    }
    [[nodiscard]] Result<void> checkIndex(std::int64_t index) const
    {
        if (index < 0 || index >= frames) {
            return fail(Errc::FieldInvalid, fmt::format("frame {} of {}", index, frames), tables.root.string());
        }
        return {};
    }
    Result<io::Pixels> decode(const Camera& camera, std::int64_t index);
    Result<ImagePtr> image(const Camera& camera, std::int64_t index);
    Result<ColumnWindow> window(const Column& column, const EpisodeInfo& episode, std::int64_t index,
                                const std::vector<std::int64_t>& offsets) const;
};

Result<io::Pixels> DatasetReader::Impl::decode(const Camera& camera, std::int64_t index)
{
    const bool gray = pictureShape(camera.feature).channels == 1;
    if (camera.feature.type == FeatureType::Image) {
        RW_TRY(const auto bytes, images.bytes(camera.feature.key, index));
        return io::decodeStill(bytes, gray, fmt::format("{}: frame {}", camera.feature.key, index));
    }
    if (camera.feature.infoJson.find("\"is_depth_map\":true") != std::string::npos) {
        return fail(Errc::Unsupported, "depth videos are not decoded", camera.feature.key);
    }
    const VideoSpan& span = episodeOf(index).videos[camera.video];
    const double seconds = span.fromTimestamp + static_cast<double>(times[static_cast<std::size_t>(index)]);
    return decoders.frameAt(tables.root / span.path, seconds, static_cast<double>(tables.info.fps), kToleranceSeconds,
                            gray);
}

Result<ImagePtr> DatasetReader::Impl::image(const Camera& camera, std::int64_t index)
{
    const FrameCache::Key key = (camera.ordinal << 48) | static_cast<std::uint64_t>(index);
    if (ImagePtr cached = cache.find(key); cached != nullptr) {
        return cached;
    }
    RW_TRY(io::Pixels pixels, decode(camera, index));
    auto picture = std::make_shared<Image>();
    picture->height = pixels.height;
    picture->width = pixels.width;
    picture->channels = pixels.channels;
    picture->pixels = std::move(pixels.values);
    ImagePtr result = std::move(picture);
    cache.insert(key, result);
    return result;
}

Result<ColumnWindow> DatasetReader::Impl::window(const Column& column, const EpisodeInfo& episode, std::int64_t index,
                                                 const std::vector<std::int64_t>& offsets) const
{
    ColumnWindow window;
    window.type = column.type;
    window.width = column.width;
    window.steps = static_cast<std::int64_t>(offsets.size());
    const std::size_t rowBytes = elementSize(column.type) * static_cast<std::size_t>(column.width);
    window.bytes.resize(rowBytes * offsets.size());
    for (std::size_t t = 0; t < offsets.size(); ++t) {
        const std::int64_t wanted = index + offsets[t];
        const std::int64_t row = std::clamp(wanted, episode.fromIndex, episode.toIndex - 1);
        window.isPad.push_back(row == wanted ? 0 : 1);
        if (column.type == FeatureType::String) {
            window.texts.push_back(column.texts[static_cast<std::size_t>(row)]);
        } else {
            std::memcpy(window.bytes.data() + t * rowBytes,
                        column.bytes.data() + static_cast<std::size_t>(row) * rowBytes, rowBytes);
        }
    }
    return window;
}

DatasetReader::DatasetReader(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }
DatasetReader::~DatasetReader() = default;

Result<std::shared_ptr<const DatasetReader>>
DatasetReader::open(const std::filesystem::path& root, const OpenOptions& options, std::vector<Warning>& warnings)
{
    RW_TRY(DatasetTables tables, readTables(root, warnings));
    auto impl = std::make_unique<Impl>(std::move(tables), options);
    std::shared_ptr<const DatasetReader> reader(new DatasetReader(std::move(impl)));
    if (options.verify != Verify::Tables) {
        RW_TRY_VOID(verifyFiles(*reader, warnings));
    }
    if (options.verify == Verify::Frames) {
        RW_TRY_VOID(verifyFrames(*reader, {}));
    }
    return reader;
}

const std::filesystem::path& DatasetReader::root() const
{
    return m_impl->tables.root;
}
const DatasetInfo& DatasetReader::info() const
{
    return m_impl->tables.info;
}
std::int64_t DatasetReader::frameCount() const
{
    return m_impl->frames;
}
const std::vector<EpisodeInfo>& DatasetReader::episodes() const
{
    return m_impl->tables.episodes;
}
const std::vector<std::string>& DatasetReader::tasks() const
{
    return m_impl->tables.tasks;
}
const DatasetStatistics& DatasetReader::statistics() const
{
    return m_impl->tables.statistics;
}

Result<DatasetStatistics> DatasetReader::episodeStatistics(std::int64_t episode) const
{
    const DatasetTables& tables = m_impl->tables;
    if (episode < 0 || episode >= static_cast<std::int64_t>(tables.episodes.size())) {
        return fail(Errc::FieldInvalid, fmt::format("there is no episode {}", episode), tables.root.string());
    }
    const auto i = static_cast<std::size_t>(episode);
    if (tables.info.version == DatasetVersion::V21) {
        return i < tables.episodeStatistics.size() ? tables.episodeStatistics[i] : DatasetStatistics {};
    }
    return readEpisodeRowStatistics(tables.episodeRows[i], tables.info);
}

const Column* DatasetReader::column(std::string_view key) const
{
    const auto found = m_impl->tables.columns.find(key);
    return found == m_impl->tables.columns.end() ? nullptr : &found->second;
}

const EpisodeInfo& DatasetReader::episodeOf(std::int64_t index) const
{
    return m_impl->episodeOf(index);
}

Result<ImagePtr> DatasetReader::image(std::string_view key, std::int64_t index) const
{
    RW_TRY_VOID(m_impl->checkIndex(index));
    const auto camera = m_impl->cameras.find(key);
    if (camera == m_impl->cameras.end()) {
        return fail(Errc::FieldInvalid, "the dataset has no such camera", std::string(key));
    }
    return m_impl->image(camera->second, index);
}

Result<std::vector<std::byte>> DatasetReader::encodedImage(std::string_view key, std::int64_t index) const
{
    RW_TRY_VOID(m_impl->checkIndex(index));
    const auto& keys = m_impl->tables.imageKeys;
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
        return fail(Errc::FieldInvalid, "the dataset has no such image column", std::string(key));
    }
    return m_impl->images.bytes(std::string(key), index);
}

Result<Sample> DatasetReader::sample(std::int64_t index, const SampleRequest& request) const
{
    RW_TRY_VOID(m_impl->checkIndex(index));
    const EpisodeInfo& episode = m_impl->episodeOf(index);
    const DatasetTables& tables = m_impl->tables;
    const auto taskIndices = tables.columns.find("task_index");
    Sample sample;
    sample.index = index;
    sample.episodeIndex = episode.index;
    sample.frameIndex = index - episode.fromIndex;
    std::memcpy(&sample.taskIndex, taskIndices->second.bytes.data() + static_cast<std::size_t>(index) * 8, 8);
    sample.timestamp = m_impl->times[static_cast<std::size_t>(index)];
    sample.task = tables.tasks[static_cast<std::size_t>(sample.taskIndex)];
    for (const SampleRequest::Window& wanted : request.columns) {
        const auto found = tables.columns.find(wanted.key);
        if (found == tables.columns.end()) {
            return fail(Errc::FieldInvalid, "the dataset has no such column", wanted.key);
        }
        RW_TRY(auto window, m_impl->window(found->second, episode, index, wanted.offsets));
        sample.columns.emplace(wanted.key, std::move(window));
    }
    for (const SampleRequest::Window& wanted : request.cameras) {
        const auto camera = m_impl->cameras.find(wanted.key);
        if (camera == m_impl->cameras.end()) {
            return fail(Errc::FieldInvalid, "the dataset has no such camera", wanted.key);
        }
        ImageWindow window;
        for (const std::int64_t offset : wanted.offsets) {
            const std::int64_t row = std::clamp(index + offset, episode.fromIndex, episode.toIndex - 1);
            RW_TRY(ImagePtr image, m_impl->image(camera->second, row));
            window.frames.push_back(std::move(image));
            window.isPad.push_back(row == index + offset ? 0 : 1);
        }
        sample.cameras.emplace(wanted.key, std::move(window));
    }
    return sample;
}

DatasetReader::CacheCounters DatasetReader::cacheCounters() const
{
    return { .hits = m_impl->cache.hits(),
             .decoded = m_impl->decoders.decoded(),
             .seeks = m_impl->decoders.seeks(),
             .bytes = m_impl->cache.bytes() };
}

} // namespace rankwise::data
