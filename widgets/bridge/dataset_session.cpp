// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/dataset_session.h"

#include "widgets/bridge/text.h"

#include <algorithm>
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

EpisodeQuality qualityOf(const data::DatasetReader& reader, const data::EpisodeInfo& episode,
                         const std::string& stateKey)
{
    EpisodeQuality quality;
    const double fps = static_cast<double>(std::max<std::int64_t>(1, reader.info().fps));
    quality.success = successOf(reader, episode);
    const auto times = episodeColumn(reader, episode, "timestamp");
    for (std::size_t t = 1; t < times.size(); ++t) {
        quality.unevenSteps += std::abs((times[t][0] - times[t - 1][0]) * fps - 1) > 0.1 ? 1 : 0;
    }
    const auto states = episodeColumn(reader, episode, stateKey);
    if (states.size() < 3) {
        return quality;
    }
    std::vector<double> steps;
    for (std::size_t t = 1; t < states.size(); ++t) {
        double largest = 0;
        for (std::size_t k = 0; k < states[t].size(); ++k) {
            largest = std::max(largest, std::abs(states[t][k] - states[t - 1][k]));
        }
        steps.push_back(largest);
    }
    std::size_t still = 0;
    while (still < steps.size() && steps[steps.size() - 1 - still] < kStillMotion) {
        ++still;
    }
    quality.staticTailSeconds = static_cast<double>(still) / fps;
    std::vector<double> moving;
    std::copy_if(steps.begin(), steps.end(), std::back_inserter(moving), [](double s) { return s >= kStillMotion; });
    if (moving.size() >= 5) {
        const auto middle = moving.begin() + static_cast<std::ptrdiff_t>(moving.size() / 2);
        std::nth_element(moving.begin(), middle, moving.end());
        for (std::size_t t = 0; t < steps.size(); ++t) {
            if (steps[t] > kJumpFactor * *middle) {
                quality.firstJumpSeconds =
                    quality.jumps == 0 ? static_cast<double>(t + 1) / fps : quality.firstJumpSeconds;
                ++quality.jumps;
            }
        }
    }
    return quality;
}

Result<OpenedDataset> openDataset(const std::filesystem::path& root, const JobContext& job)
{
    OpenedDataset opened;
    job.report(0, "tables");
    RW_TRY(opened.reader, data::DatasetReader::open(root, {}, opened.warnings));
    opened.stateKey = firstKey(opened.reader->info(), "observation.state", "state");
    opened.actionKey = firstKey(opened.reader->info(), "action", "action");
    const auto& episodes = opened.reader->episodes();
    for (std::size_t i = 0; i < episodes.size(); ++i) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", root.string());
        }
        job.report(static_cast<double>(i) / static_cast<double>(episodes.size()), "quality");
        opened.quality.push_back(qualityOf(*opened.reader, episodes[i], opened.stateKey));
    }
    return opened;
}

EpisodeModel::EpisodeModel(QObject* parent) : QAbstractTableModel(parent) { }

void EpisodeModel::setDataset(std::shared_ptr<const OpenedDataset> dataset)
{
    beginResetModel();
    m_dataset = std::move(dataset);
    endResetModel();
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
    if (quality.staticTailSeconds >= 1) {
        words << tr("still for the last %1 s").arg(quality.staticTailSeconds, 0, 'f', 1);
    }
    if (quality.jumps > 0) {
        words << tr("%1 jumps, the first at %2 s").arg(quality.jumps).arg(quality.firstJumpSeconds, 0, 'f', 1);
    }
    if (quality.unevenSteps > 0) {
        words << tr("%1 uneven time steps").arg(quality.unevenSteps);
    }
    return words.join(QStringLiteral("; "));
}

QVariant EpisodeModel::data(const QModelIndex& index, int role) const
{
    if (!checkIndex(index, CheckIndexOption::IndexIsValid)
        || (role != Qt::DisplayRole && role != Qt::ToolTipRole && role != Qt::EditRole)) {
        return {};
    }
    const auto i = static_cast<std::size_t>(index.row());
    const rankwise::data::EpisodeInfo& episode = m_dataset->reader->episodes()[i];
    const EpisodeQuality& quality = m_dataset->quality[i];
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
        return quality.success < 0 ? QString() : quality.success == 1 ? tr("✓ yes") : tr("✗ no");
    case Remarks:
        return remarks(quality);
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
