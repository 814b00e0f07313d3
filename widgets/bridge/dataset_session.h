// One open dataset: its reader, its episodes as a table with quality flags, and the columns of one episode.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/dataset_reader.h"
#include "widgets/bridge/job_runner.h"

#include <QAbstractTableModel>
#include <QString>
#include <QVector>

#include <memory>
#include <vector>

namespace rankwise::bridge {

using DatasetPtr = std::shared_ptr<const data::DatasetReader>;

/// What a look at the numbers of an episode found. Estimates: thresholds are those of qualityOf().
struct EpisodeQuality {
    double staticTailSeconds = 0; ///< Nothing moved at the end.
    int jumps = 0;                ///< Steps of the state above ten times the episode's typical step.
    double firstJumpSeconds = -1;
    int unevenSteps = 0; ///< Time stamps off the frame rate by more than a tenth of a frame.
    int notFinite = 0;   ///< Frames whose state or action has a NaN or an infinity.
    int success = -1;    ///< 1 or 0 where the dataset says so, else -1.
};

/// A dataset as opened.
struct OpenedDataset {
    DatasetPtr reader;
    std::vector<Warning> warnings;
    std::string stateKey; ///< "observation.state" or the first that looks like it; may be empty.
    std::string actionKey;
};

/// What can be shown at once; the quality of the episodes is looked at afterwards, a stretch at a time.
/// Errors: those of DatasetReader::open(), Cancelled. Thread: any.
[[nodiscard]] Result<OpenedDataset> openDataset(const std::filesystem::path& root, const JobContext& job);

/// The quality of one episode. Thread: any.
[[nodiscard]] EpisodeQuality qualityOf(const OpenedDataset& dataset, const data::EpisodeInfo& episode);

/// Qualities of the episodes from position `first` on.
struct QualityStretch {
    std::size_t first = 0;
    std::vector<EpisodeQuality> quality;
};
/// Looks at episodes from `first` on for about a fifth of a second, at one at least. Errors: Cancelled. Thread: any.
[[nodiscard]] Result<QualityStretch> nextQuality(const OpenedDataset& dataset, std::size_t first,
                                                 const JobContext& job);

/// Values of a numeric column over an episode, [length][width].
[[nodiscard]] std::vector<std::vector<double>> episodeColumn(const data::DatasetReader& reader,
                                                             const data::EpisodeInfo& episode, const std::string& key);

/// Number `k` of a numeric column over all frames.
[[nodiscard]] std::vector<double> columnValues(const data::Column& column, std::size_t k);

/// Episodes as rows: number, seconds, task, success, remarks. Cells are made when they are asked for, so that the
/// number of episodes does not matter. Thread: GUI.
class EpisodeModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Number, Seconds, Task, Success, Remarks, ColumnCount };

    explicit EpisodeModel(QObject* parent = nullptr);
    void setDataset(std::shared_ptr<const OpenedDataset> dataset);
    void setQuality(const QualityStretch& stretch);
    /// Episodes whose quality is known.
    [[nodiscard]] std::size_t judged() const { return m_quality.size(); }
    /// The quality of an episode by its row; nullptr while it has not been looked at.
    [[nodiscard]] const EpisodeQuality* quality(int row) const;

    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    [[nodiscard]] QString remarks(const EpisodeQuality& quality) const;

    std::shared_ptr<const OpenedDataset> m_dataset;
    std::vector<EpisodeQuality> m_quality; ///< Of the first episodes.
};

} // namespace rankwise::bridge
