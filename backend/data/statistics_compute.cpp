// Statistics of whole datasets and episodes, read through a DatasetReader.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_reader.h"
#include "backend/data/dataset_tables.h"
#include "backend/data/statistics.h"

#include <cstring>

namespace rankwise::data {

namespace {

Result<DatasetStatistics> compute(const DatasetReader& reader, std::size_t firstEpisode, std::size_t endEpisode,
                                  const StatisticsOptions& options, const JobContext& job)
{
    DatasetStatistics result;
    const auto& episodes = reader.episodes();
    if (firstEpisode >= endEpisode) {
        return result;
    }
    const std::int64_t begin = episodes[firstEpisode].fromIndex;
    const std::int64_t end = episodes[endEpisode - 1].toIndex;
    for (const Feature& feature : reader.info().features) {
        const Column* column = reader.column(feature.key);
        if (column == nullptr || elementSize(column->type) == 0) {
            continue;
        }
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", reader.root().string());
        }
        const std::size_t rowBytes = elementSize(column->type) * static_cast<std::size_t>(column->width);
        ColumnWindow window;
        window.type = column->type;
        const auto first =
            column->bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(begin) * rowBytes);
        window.bytes.assign(first,
                            first + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(end - begin) * rowBytes));
        result.emplace(feature.key, statisticsOf(window.doubles(), column->width, options.rule));
    }
    if (!options.cameras) {
        return result;
    }
    const auto cameras = reader.info().cameraKeys();
    double done = 0;
    const double total = static_cast<double>(cameras.size() * (endEpisode - firstEpisode));
    for (const std::string& key : cameras) {
        ChannelHistogram histogram(pictureShape(*reader.info().find(key)).channels == 1 ? 1 : 3);
        for (std::size_t e = firstEpisode; e < endEpisode; ++e) {
            for (const std::int64_t frame : sampledFrames(episodes[e].length)) {
                if (job.stopped()) {
                    return fail(Errc::Cancelled, "stopped", reader.root().string());
                }
                RW_TRY(const ImagePtr image, reader.image(key, episodes[e].fromIndex + frame));
                histogram.addPicture(image->pixels, image->height, image->width);
            }
            job.report(++done / total, "statistics of " + key);
        }
        result.emplace(key, histogram.statistics(options.rule));
    }
    return result;
}

} // namespace

Result<DatasetStatistics> computeStatistics(const DatasetReader& reader, const StatisticsOptions& options,
                                            const JobContext& job)
{
    return compute(reader, 0, reader.episodes().size(), options, job);
}

Result<DatasetStatistics> computeEpisodeStatistics(const DatasetReader& reader, std::int64_t episode,
                                                   const StatisticsOptions& options, const JobContext& job)
{
    if (episode < 0 || episode >= static_cast<std::int64_t>(reader.episodes().size())) {
        return fail(Errc::FieldInvalid, "there is no such episode", reader.root().string());
    }
    const auto e = static_cast<std::size_t>(episode);
    return compute(reader, e, e + 1, options, job);
}

} // namespace rankwise::data
