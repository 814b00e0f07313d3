// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/dataset_session.h"

#include "widgets/bridge/text.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace rankwise::bridge {

namespace {

constexpr double kJumpFactor = 10;
constexpr double kStillMotion = 1e-4; ///< Largest change of a step that counts as standing still (rad or m).

double element(const data::Column& column, std::size_t index)
{
    const std::size_t size = data::elementSize(column.type);
    const std::byte* at = column.bytes.data() + index * size;
    const auto as = [at](auto value) {
        std::memcpy(&value, at, sizeof value);
        return static_cast<double>(value);
    };
    switch (column.type) {
    case data::FeatureType::Float32:
        return as(float {});
    case data::FeatureType::Float64:
        return as(double {});
    case data::FeatureType::Int64:
        return as(std::int64_t {});
    case data::FeatureType::UInt64:
        return as(std::uint64_t {});
    case data::FeatureType::Int32:
        return as(std::int32_t {});
    case data::FeatureType::UInt32:
        return as(std::uint32_t {});
    case data::FeatureType::Int16:
        return as(std::int16_t {});
    case data::FeatureType::UInt16:
        return as(std::uint16_t {});
    case data::FeatureType::Int8:
        return as(std::int8_t {});
    case data::FeatureType::UInt8:
    case data::FeatureType::Bool:
        return as(std::uint8_t {});
    default:
        return 0;
    }
}

std::string firstKey(const data::DatasetInfo& info, const std::string& preferred, const std::string& word)
{
    if (info.find(preferred) != nullptr) {
        return preferred;
    }
    for (const data::Feature& feature : info.features) {
        if (feature.isNumeric() && feature.width() > 1 && feature.key.find(word) != std::string::npos) {
            return feature.key;
        }
    }
    return {};
}

int successOf(const data::DatasetReader& reader, const data::EpisodeInfo& episode)
{
    const data::Column* column = reader.column("next.success");
    if (column == nullptr || data::elementSize(column->type) == 0 || episode.length <= 0) {
        return -1;
    }
    for (std::int64_t i = episode.fromIndex; i < episode.toIndex; ++i) {
        if (element(*column, static_cast<std::size_t>(i * column->width)) != 0) {
            return 1;
        }
    }
    return 0;
}

} // namespace

std::vector<std::vector<double>> episodeColumn(const data::DatasetReader& reader, const data::EpisodeInfo& episode,
                                               const std::string& key)
{
    std::vector<std::vector<double>> rows;
    const data::Column* column = reader.column(key);
    if (column == nullptr || data::elementSize(column->type) == 0) {
        return rows;
    }
    const auto width = static_cast<std::size_t>(column->width);
    for (std::int64_t i = episode.fromIndex; i < episode.toIndex; ++i) {
        std::vector<double> row(width);
        for (std::size_t k = 0; k < width; ++k) {
            row[k] = element(*column, static_cast<std::size_t>(i) * width + k);
        }
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<double> columnValues(const data::Column& column, std::size_t k)
{
    const std::size_t size = data::elementSize(column.type);
    const auto width = static_cast<std::size_t>(std::max<std::int64_t>(1, column.width));
    const std::size_t rows = size == 0 || k >= width ? 0 : column.bytes.size() / size / width;
    std::vector<double> values(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        values[i] = element(column, i * width + k);
    }
    return values;
}

namespace {

/// The numeric column of a key, or nullptr.
const data::Column* numbersOf(const data::DatasetReader& reader, const std::string& key)
{
    const data::Column* column = reader.column(key);
    return column == nullptr || data::elementSize(column->type) == 0 ? nullptr : column;
}

/// Largest change of any number of the state from one frame to the next.
std::vector<double> motionOf(const data::Column& column, const data::EpisodeInfo& episode)
{
    const auto width = static_cast<std::size_t>(column.width);
    std::vector<double> motion;
    for (auto t = static_cast<std::size_t>(episode.fromIndex) + 1; t < static_cast<std::size_t>(episode.toIndex); ++t) {
        double largest = 0;
        for (std::size_t k = 0; k < width; ++k) {
            const double change = std::abs(element(column, t * width + k) - element(column, (t - 1) * width + k));
            largest = std::isfinite(change) ? std::max(largest, change) : largest;
        }
        motion.push_back(largest);
    }
    return motion;
}

int notFiniteFrames(const OpenedDataset& dataset, const data::EpisodeInfo& episode)
{
    int frames = 0;
    const data::Column* const columns[] { numbersOf(*dataset.reader, dataset.stateKey),
                                          numbersOf(*dataset.reader, dataset.actionKey) };
    for (auto t = static_cast<std::size_t>(episode.fromIndex); t < static_cast<std::size_t>(episode.toIndex); ++t) {
        bool bad = false;
        for (const data::Column* column : columns) {
            const auto width = column == nullptr ? 0 : static_cast<std::size_t>(column->width);
            for (std::size_t k = 0; k < width && !bad; ++k) {
                bad = !std::isfinite(element(*column, t * width + k));
            }
        }
        frames += bad ? 1 : 0;
    }
    return frames;
}

} // namespace

EpisodeQuality qualityOf(const OpenedDataset& dataset, const data::EpisodeInfo& episode)
{
    const data::DatasetReader& reader = *dataset.reader;
    EpisodeQuality quality;
    const double fps = static_cast<double>(std::max<std::int64_t>(1, reader.info().fps));
    quality.success = successOf(reader, episode);
    quality.notFinite = notFiniteFrames(dataset, episode);
    if (const data::Column* times = numbersOf(reader, "timestamp")) {
        for (std::int64_t t = episode.fromIndex + 1; t < episode.toIndex; ++t) {
            const auto i = static_cast<std::size_t>(t * times->width);
            const double step = element(*times, i) - element(*times, i - static_cast<std::size_t>(times->width));
            quality.unevenSteps += std::abs(step * fps - 1) > 0.1 ? 1 : 0;
        }
    }
    const data::Column* states = numbersOf(reader, dataset.stateKey);
    if (states == nullptr || episode.length < 3) {
        return quality;
    }
    const std::vector<double> motion = motionOf(*states, episode);
    std::size_t still = 0;
    while (still < motion.size() && motion[motion.size() - 1 - still] < kStillMotion) {
        ++still;
    }
    quality.staticTailSeconds = static_cast<double>(still) / fps;
    std::vector<double> moving;
    std::copy_if(motion.begin(), motion.end(), std::back_inserter(moving), [](double s) { return s >= kStillMotion; });
    if (moving.size() >= 5) {
        const auto middle = moving.begin() + static_cast<std::ptrdiff_t>(moving.size() / 2);
        std::nth_element(moving.begin(), middle, moving.end());
        for (std::size_t t = 0; t < motion.size(); ++t) {
            if (motion[t] > kJumpFactor * *middle) {
                quality.firstJumpSeconds =
                    quality.jumps == 0 ? static_cast<double>(t + 1) / fps : quality.firstJumpSeconds;
                ++quality.jumps;
            }
        }
    }
    return quality;
}

Result<QualityStretch> nextQuality(const OpenedDataset& dataset, std::size_t first, const JobContext& job)
{
    constexpr std::chrono::milliseconds kStretch { 200 };
    const auto& episodes = dataset.reader->episodes();
    const auto begun = std::chrono::steady_clock::now();
    QualityStretch stretch { .first = first };
    for (std::size_t i = first; i < episodes.size(); ++i) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped");
        }
        stretch.quality.push_back(qualityOf(dataset, episodes[i]));
        if (std::chrono::steady_clock::now() - begun > kStretch) {
            break;
        }
    }
    return stretch;
}

Result<OpenedDataset> openDataset(const std::filesystem::path& root, const JobContext& job)
{
    OpenedDataset opened;
    job.report(0, "tables");
    RW_TRY(opened.reader, data::DatasetReader::open(root, {}, opened.warnings));
    opened.stateKey = firstKey(opened.reader->info(), "observation.state", "state");
    opened.actionKey = firstKey(opened.reader->info(), "action", "action");
    return opened;
}

EpisodeModel::EpisodeModel(QObject* parent) : QAbstractTableModel(parent) { }

void EpisodeModel::setDataset(std::shared_ptr<const OpenedDataset> dataset)
{
    beginResetModel();
    m_dataset = std::move(dataset);
    m_quality.clear();
    endResetModel();
}

void EpisodeModel::setQuality(const QualityStretch& stretch)
{
    if (!m_dataset || stretch.first != m_quality.size() || stretch.quality.empty()) {
        return;
    }
    m_quality.insert(m_quality.end(), stretch.quality.begin(), stretch.quality.end());
    const auto row = [](std::size_t i) { return static_cast<int>(i); };
    Q_EMIT dataChanged(index(row(stretch.first), Success), index(row(m_quality.size() - 1), Remarks));
}

const EpisodeQuality* EpisodeModel::quality(int row) const
{
    const auto i = static_cast<std::size_t>(row);
    return row >= 0 && i < m_quality.size() ? &m_quality[i] : nullptr;
}

int EpisodeModel::rowCount(const QModelIndex& parent) const
{
    return parent.isValid() || !m_dataset ? 0 : static_cast<int>(m_dataset->reader->episodes().size());
}

int EpisodeModel::columnCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : ColumnCount;
}

QString EpisodeModel::remarks(const EpisodeQuality& quality) const
{
    QStringList words;
    if (quality.notFinite > 0) {
        words << tr("%1 frames with NaN or infinity").arg(quality.notFinite);
    }
    if (quality.staticTailSeconds >= 1) {
        words << tr("still for the last %1 s").arg(quality.staticTailSeconds, 0, 'f', 1);
    }
    if (quality.jumps > 0) {
        words << tr("%1 jumps, the first at %2 s").arg(quality.jumps).arg(quality.firstJumpSeconds, 0, 'f', 1);
    }
    if (quality.unevenSteps > 0) {
        words << tr("%1 uneven time steps").arg(quality.unevenSteps);
    }
    return words.isEmpty() ? QString() : QStringLiteral("⚠ ") + words.join(QStringLiteral("; "));
}

QVariant EpisodeModel::data(const QModelIndex& index, int role) const
{
    if (!checkIndex(index, CheckIndexOption::IndexIsValid)
        || (role != Qt::DisplayRole && role != Qt::ToolTipRole && role != Qt::EditRole)) {
        return {};
    }
    const auto i = static_cast<std::size_t>(index.row());
    const rankwise::data::EpisodeInfo& episode = m_dataset->reader->episodes()[i];
    const EpisodeQuality* const judgement = quality(index.row());
    switch (index.column()) {
    case Number:
        return static_cast<qlonglong>(episode.index);
    case Seconds: {
        const double seconds = static_cast<double>(episode.length) / static_cast<double>(m_dataset->reader->info().fps);
        return role == Qt::EditRole ? QVariant(seconds) : QVariant(QString::number(seconds, 'f', 1));
    }
    case Task:
        return episode.tasks.empty() ? QString() : toQString(episode.tasks.front());
    case Success:
        return judgement == nullptr || judgement->success < 0 ? QString()
            : judgement->success == 1                         ? tr("✓ yes")
                                                              : tr("✗ no");
    case Remarks:
        return judgement == nullptr ? tr("…") : remarks(*judgement);
    default:
        return {};
    }
}

QVariant EpisodeModel::headerData(int section, Qt::Orientation orientation, int role) const
{
    if (role != Qt::DisplayRole || orientation != Qt::Horizontal) {
        return {};
    }
    switch (section) {
    case Number:
        return tr("Episode");
    case Seconds:
        return tr("Seconds");
    case Task:
        return tr("Task");
    case Success:
        return tr("Success");
    case Remarks:
        return tr("Remarks");
    default:
        return {};
    }
}

} // namespace rankwise::bridge
