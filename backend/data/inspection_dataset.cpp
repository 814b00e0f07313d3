// The part of inspection that needs the dataset reader, and with it Arrow and FFmpeg.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_check.h"
#include "backend/data/inspection.h"

#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

Result<Inspection> inspectDataset(const fs::path& root, const JobContext& job)
{
    RW_TRY(const DatasetReport report, checkDataset(root, Verify::Tables, job));
    if (report.error) {
        return tl::unexpected(*report.error);
    }
    Inspection inspection;
    inspection.kind = InspectionKind::Dataset;
    inspection.path = root;
    inspection.problems = report.problems;
    inspection.total.bytes = report.bytes;
    const fs::path info = root / "meta" / "info.json";
    std::error_code error;
    const auto bytes = fs::file_size(info, error);
    inspection.parts.push_back({ "info", info, error ? 0 : bytes });
    OrderedJson summary = OrderedJson::object();
    if (report.info) {
        const DatasetInfo& found = *report.info;
        summary["version"] = std::string(datasetVersionName(found.version));
        summary["fps"] = found.fps;
        summary["robot_type"] = found.robotType;
        summary["tasks"] = found.totalTasks;
        OrderedJson features = OrderedJson::object();
        for (const Feature& feature : found.features) {
            features[feature.key] = { { "dtype", std::string(featureTypeName(feature.type)) },
                                      { "shape", feature.shape } };
        }
        summary["features"] = std::move(features);
    }
    summary["episodes"] = report.episodes;
    summary["frames"] = report.frames;
    summary["seconds"] = report.seconds;
    inspection.summary = summary.dump();
    return inspection;
}

Result<Inspection> inspectPath(const fs::path& path, const InspectionOptions& options, const JobContext& job)
{
    return inspectPath(path, options, job, inspectDataset);
}

} // namespace rankwise::data
