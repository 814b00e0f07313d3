// `rankwise dataset info|check|convert|stats`.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_commands.h"

#include "backend/data/dataset_files.h"
#include "backend/data/dataset_reader.h"
#include "backend/data/dataset_writer.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace {

std::string bytesText(std::uint64_t bytes)
{
    const auto value = static_cast<double>(bytes);
    return bytes >= (1u << 30) ? fmt::format("{:.2f} GiB", value / (1u << 30))
        : bytes >= (1u << 20)  ? fmt::format("{:.1f} MiB", value / (1u << 20))
                               : fmt::format("{:.1f} KiB", value / 1024);
}

OrderedJson problemsJson(const std::vector<Warning>& problems)
{
    OrderedJson list = OrderedJson::array();
    for (const Warning& warning : problems) {
        list.push_back({ { "message", warning.message }, { "subject", warning.subject } });
    }
    return list;
}

std::string problemsText(const std::vector<Warning>& problems)
{
    std::string text;
    for (const Warning& warning : problems) {
        text += fmt::format("  warning  {}: {}\n", warning.subject, warning.message);
    }
    return text;
}

std::string shapeText(const Feature& feature)
{
    return fmt::format("[{}]", fmt::join(feature.shape, ", "));
}

OrderedJson featuresJson(const DatasetInfo& info)
{
    OrderedJson features = OrderedJson::object();
    for (const Feature& feature : info.features) {
        features[feature.key] = { { "dtype", featureTypeName(feature.type) },
                                  { "shape", feature.shape },
                                  { "names", feature.names } };
    }
    return features;
}

OrderedJson episodesJson(const DatasetReader& reader)
{
    OrderedJson list = OrderedJson::array();
    for (const EpisodeInfo& episode : reader.episodes()) {
        OrderedJson extra = OrderedJson::object();
        for (const auto& [key, value] : episode.extra) {
            extra[key] = OrderedJson::parse(value, nullptr, false);
        }
        list.push_back({ { "episode", episode.index },
                         { "frames", episode.length },
                         { "from", episode.fromIndex },
                         { "to", episode.toIndex },
                         { "tasks", episode.tasks },
                         { "extra", std::move(extra) } });
    }
    return list;
}

/// Largest difference of two statistics of one feature, over minimum, maximum, mean and standard deviation.
double largestDifference(const FeatureStatistics& a, const FeatureStatistics& b)
{
    double largest = 0;
    const auto compare = [&](const std::vector<double>& x, const std::vector<double>& y) {
        if (x.size() != y.size()) {
            largest = std::numeric_limits<double>::infinity();
            return;
        }
        for (std::size_t i = 0; i < x.size(); ++i) {
            largest = std::max(largest, std::abs(x[i] - y[i]));
        }
    };
    compare(a.min, b.min);
    compare(a.max, b.max);
    compare(a.mean, b.mean);
    compare(a.std, b.std);
    return largest;
}

} // namespace

Result<CommandOutput> datasetInfoCommand(const DatasetInfoOptions& options, const JobContext& job)
{
    std::vector<Warning> problems;
    job.report(0, "tables");
    RW_TRY(const auto reader, DatasetReader::open(options.path, { .verify = Verify::Tables }, problems));
    const DatasetInfo& info = reader->info();
    const double seconds = static_cast<double>(reader->frameCount()) / static_cast<double>(info.fps);
    OrderedJson json;
    json["path"] = options.path.string();
    json["version"] = datasetVersionName(info.version);
    json["robot_type"] = info.robotType;
    json["fps"] = info.fps;
    json["episodes"] = reader->episodes().size();
    json["frames"] = reader->frameCount();
    json["seconds"] = seconds;
    json["tasks"] = reader->tasks();
    json["cameras"] = info.cameraKeys();
    json["features"] = featuresJson(info);
    json["problems"] = problemsJson(problems);
    CommandOutput output;
    output.text =
        fmt::format("{}\n  LeRobotDataset {}, {} episodes, {} frames, {:.1f} s at {} frames a second{}\n",
                    options.path.string(), datasetVersionName(info.version), reader->episodes().size(),
                    reader->frameCount(), seconds, info.fps, info.robotType.empty() ? "" : ", robot " + info.robotType);
    output.text += "  features\n";
    for (const Feature& feature : info.features) {
        output.text +=
            fmt::format("    {:<36} {:<8} {}\n", feature.key, featureTypeName(feature.type), shapeText(feature));
    }
    output.text += "  tasks\n";
    for (std::size_t i = 0; i < reader->tasks().size(); ++i) {
        output.text += fmt::format("    {:>3}  {}\n", i, reader->tasks()[i]);
    }
    if (options.episodes) {
        json["episode_list"] = episodesJson(*reader);
        output.text += "  episodes\n";
        for (const EpisodeInfo& episode : reader->episodes()) {
            output.text += fmt::format("    {:>5}  {:>6} frames  {}\n", episode.index, episode.length,
                                       fmt::join(episode.tasks, "; "));
        }
    }
    output.text += problemsText(problems);
    output.json = jsonText(json);
    return output;
}

Result<CommandOutput> datasetCheckCommand(const DatasetCheckOptions& options, const JobContext& job)
{
    RecoveryReport repair;
    if (options.repair) {
        RW_TRY(repair, recoverDataset(options.path));
    }
    RW_TRY(const DatasetReport report, checkDataset(options.path, options.deep ? Verify::Frames : Verify::Files, job));
    OrderedJson json;
    json["path"] = options.path.string();
    json["verdict"] = verdictName(report.verdict);
    json["error"] = OrderedJson();
    if (report.error) {
        json["error"] = { { "code", errcName(report.error->code) },
                          { "subject", report.error->subject },
                          { "message", report.error->message },
                          { "offset", report.error->offset } };
    }
    json["problems"] = problemsJson(report.problems);
    json["repairs"] = repair.actions;
    json["version"] = report.info ? OrderedJson(datasetVersionName(report.info->version)) : OrderedJson();
    json["episodes"] = report.episodes;
    json["frames"] = report.frames;
    json["seconds"] = report.seconds;
    json["bytes"] = report.bytes;
    json["frames_decoded"] = options.deep;
    CommandOutput output;
    output.ok = report.verdict != Verdict::Refuse;
    output.text = fmt::format("{}: {}\n", options.path.string(),
                              report.verdict == Verdict::Refuse     ? "REFUSED"
                                  : report.verdict == Verdict::Warn ? "usable, with warnings"
                                                                    : "good");
    for (const std::string& action : repair.actions) {
        output.text += "  repair   " + action + "\n";
    }
    if (report.error) {
        output.text += "  error    " + report.error->describe() + "\n";
    } else {
        output.text +=
            fmt::format("  {} episodes, {} frames, {:.1f} s, {}{}\n", report.episodes, report.frames, report.seconds,
                        bytesText(report.bytes), options.deep ? ", every frame decoded" : "");
    }
    output.text += problemsText(report.problems);
    output.json = jsonText(json);
    return output;
}

Result<CommandOutput> datasetConvertCommand(const DatasetConvertOptions& options, const JobContext& job)
{
    DatasetVersion version = DatasetVersion::V30;
    if (options.to == "v2.1" || options.to == "2.1") {
        version = DatasetVersion::V21;
    } else if (options.to != "v3.0" && options.to != "3.0") {
        return fail(Errc::UsageInvalid, fmt::format("\"{}\" is no version; v3.0 and v2.1 are", options.to), "--to");
    }
    RW_TRY(const ConvertReport report, convertDataset(options.path, options.out, version, job));
    OrderedJson json;
    json["path"] = options.path.string();
    json["out"] = options.out.string();
    json["from"] = datasetVersionName(report.from);
    json["to"] = datasetVersionName(report.to);
    json["episodes"] = report.episodes;
    json["frames"] = report.frames;
    json["videos_copied"] = report.videosCopied;
    json["videos_encoded"] = report.videosEncoded;
    json["problems"] = problemsJson(report.warnings);
    CommandOutput output;
    output.text = fmt::format("{} ({}) -> {} ({}): {} episodes, {} frames, {} videos copied, {} encoded again\n",
                              options.path.string(), datasetVersionName(report.from), options.out.string(),
                              datasetVersionName(report.to), report.episodes, report.frames, report.videosCopied,
                              report.videosEncoded);
    output.text += problemsText(report.warnings);
    output.json = jsonText(json);
    return output;
}

Result<CommandOutput> datasetStatsCommand(const DatasetStatsOptions& options, const JobContext& job)
{
    std::vector<Warning> problems;
    RW_TRY(const auto reader, DatasetReader::open(options.path, { .verify = Verify::Tables }, problems));
    RW_TRY(DatasetStatistics exact,
           computeStatistics(*reader, { .rule = QuantileRule::Exact, .cameras = options.cameras }, job));
    const DatasetStatistics& stored = reader->statistics();
    OrderedJson differences = OrderedJson::object();
    CommandOutput output;
    output.text =
        fmt::format("{}: {} frames, quantiles exact over the dataset\n", options.path.string(), reader->frameCount());
    for (const auto& [key, s] : exact) {
        const auto found = stored.find(key);
        const double difference =
            found == stored.end() ? std::numeric_limits<double>::infinity() : largestDifference(found->second, s);
        differences[key] = std::isfinite(difference) ? OrderedJson(difference) : OrderedJson();
        output.text +=
            fmt::format("  {}{}\n", key,
                        std::isfinite(difference) ? fmt::format("  (stored differs by at most {:.3g})", difference)
                                                  : "  (no stored statistics)");
        for (std::size_t i = 0; i < s.mean.size(); ++i) {
            output.text +=
                fmt::format("    {:>3}  min {:<12.6g} q01 {:<12.6g} mean {:<12.6g} std {:<12.6g} q99 {:<12.6g} max "
                            "{:<12.6g}\n",
                            i, s.min[i], s.q01[i], s.mean[i], s.std[i], s.q99[i], s.max[i]);
        }
    }
    if (options.write) {
        if (!options.cameras) {
            for (const auto& [key, s] : stored) {
                exact.try_emplace(key, s);
            }
        }
        RW_TRY_VOID(writeStatisticsFile(options.path, exact));
        output.text += "written to meta/stats.json\n";
    }
    OrderedJson json;
    json["path"] = options.path.string();
    json["frames"] = reader->frameCount();
    json["stats"] = OrderedJson::parse(statisticsToJson(exact).dump());
    json["stored_differs_by"] = std::move(differences);
    json["written"] = options.write;
    json["problems"] = problemsJson(problems);
    output.text += problemsText(problems);
    output.json = jsonText(json);
    return output;
}

} // namespace rankwise::data
