// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/record.h"

#include "backend/sim/task.h"

#include <algorithm>
#include <array>

namespace rankwise::sim {
namespace {

constexpr const char* kStateKey = "observation.state";
constexpr const char* kActionKey = "action";
constexpr const char* kSuccessKey = "next.success";

std::string cameraKey(const std::string& camera)
{
    return "observation.images." + camera;
}

constexpr const char* kGripper = "gripper";
constexpr std::array kLabelNumbers { "u", "v", "depth", "inside" };

/// Objects of all tasks, each once, in the order of the registry; the gripper last.
std::vector<std::string> labelPoints()
{
    std::vector<std::string> points;
    for (const std::string& name : taskNames()) {
        for (std::string& object : findTask(name)->objects()) {
            if (std::ranges::find(points, object) == points.end()) {
                points.push_back(std::move(object));
            }
        }
    }
    points.emplace_back(kGripper);
    return points;
}

/// Puts SceneLabels into the layout of labelNames().
class LabelWriter {
public:
    LabelWriter(const std::vector<std::string>& sceneCameras, const std::vector<std::string>& cameras)
        : m_points(labelPoints())
    {
        for (const std::string& camera : cameras) {
            m_cameras.push_back(
                static_cast<std::size_t>(std::ranges::find(sceneCameras, camera) - sceneCameras.begin()));
        }
        m_values.resize(m_cameras.size() * m_points.size() * kLabelNumbers.size());
    }

    [[nodiscard]] const std::vector<float>& values(const SceneLabels& labels, const std::vector<std::string>& objects)
    {
        auto out = m_values.begin();
        for (const std::size_t camera : m_cameras) {
            for (const std::string& point : m_points) {
                const auto object = std::ranges::find(objects, point);
                const PointLabel* label = point == kGripper ? &labels.gripper
                    : object == objects.end()               ? nullptr
                                              : &labels.objects[static_cast<std::size_t>(object - objects.begin())];
                const ImagePoint seen =
                    label != nullptr && label->images[camera].inside ? label->images[camera] : ImagePoint {};
                for (const double number : { seen.u, seen.v, seen.depth, seen.inside ? 1.0 : 0.0 }) {
                    *out++ = static_cast<float>(number);
                }
            }
        }
        return m_values;
    }

private:
    std::vector<std::string> m_points;
    std::vector<std::size_t> m_cameras; ///< Of the scene.
    std::vector<float> m_values;
};

data::DatasetSpec datasetSpec(const RecordOptions& options, const std::vector<std::string>& stateNames,
                              const std::vector<std::string>& cameras)
{
    data::DatasetSpec spec;
    spec.fps = kControlHz;
    spec.robotType = std::string(armName(options.generator.environment.arm)) + "_sim";
    spec.features.push_back(data::vectorFeature(kStateKey, data::FeatureType::Float32, stateNames));
    spec.features.push_back(data::vectorFeature(kActionKey, data::FeatureType::Float32, stateNames));
    for (const std::string& camera : cameras) {
        spec.features.push_back(data::cameraFeature(cameraKey(camera), data::FeatureType::Video,
                                                    options.generator.height, options.generator.width));
    }
    spec.features.push_back(data::scalarFeature(kSuccessKey, data::FeatureType::Bool));
    if (options.generator.labels) {
        spec.features.push_back(data::vectorFeature(kLabelsKey, data::FeatureType::Float32, labelNames(cameras)));
    }
    spec.video = options.video;
    return spec;
}

Result<void> writeEpisode(data::DatasetWriter& writer, const Episode& episode, const std::vector<std::string>& keys,
                          LabelWriter* labels)
{
    const std::vector<std::string> objects = findTask(episode.task)->objects();
    RW_TRY_VOID(writer.beginEpisode());
    for (const EpisodeFrame& frame : episode.frames) {
        data::FrameView view;
        view.floats(kStateKey, frame.state);
        view.doubles(kActionKey, frame.action);
        for (std::size_t i = 0; i < keys.size(); ++i) {
            view.image(keys[i], frame.images[i].rgb);
        }
        view.boolean(kSuccessKey, frame.success);
        if (labels != nullptr) {
            view.floats(kLabelsKey, labels->values(frame.labels, objects));
        }
        RW_TRY_VOID(writer.addFrame(view));
    }
    RW_TRY(const data::EpisodeReceipt receipt, writer.finishEpisode(episode.instruction));
    (void)receipt;
    return {};
}

} // namespace

std::vector<std::string> labelNames(const std::vector<std::string>& cameras)
{
    std::vector<std::string> names;
    for (const std::string& camera : cameras) {
        for (const std::string& point : labelPoints()) {
            for (const char* number : kLabelNumbers) {
                names.push_back(camera + "." + point + "." + number);
            }
        }
    }
    return names;
}

namespace {

/// A new dataset, or the one that is there with `skip` whole episodes.
Result<std::unique_ptr<data::DatasetWriter>> openWriter(const RecordOptions& options, const data::DatasetSpec& spec,
                                                        std::int64_t& skip)
{
    std::error_code error;
    if (!options.resume || !std::filesystem::exists(options.out / "meta" / "info.json", error)) {
        return data::DatasetWriter::create(options.out, spec);
    }
    RW_TRY(auto writer, data::DatasetWriter::openForAppend(options.out, spec.video));
    const data::DatasetInfo& info = writer->info();
    const auto tasks = options.generator.tasks.empty() ? taskNames().size() : options.generator.tasks.size();
    const std::int64_t wanted = static_cast<std::int64_t>(tasks) * options.generator.episodes;
    const bool same = info.fps == spec.fps && info.robotType == spec.robotType && info.totalEpisodes <= wanted
        && std::ranges::all_of(spec.features, [&](const data::Feature& feature) {
                          const data::Feature* there = info.find(feature.key);
                          return there != nullptr && there->type == feature.type && there->shape == feature.shape;
                      });
    if (!same) {
        return fail(Errc::FieldInvalid, "was recorded with other options; name another folder", options.out.string());
    }
    skip = info.totalEpisodes;
    return writer;
}

} // namespace

Result<RecordSummary> recordEpisodes(const RecordOptions& options, const JobContext& job)
{
    RW_TRY_VOID(checkOptions(options.generator));
    if (options.generator.width < 1) {
        return fail(Errc::FieldInvalid, "a dataset needs images; give their width and height", "width");
    }
    if (options.generator.width % 2 != 0 || options.generator.height % 2 != 0) {
        return fail(Errc::FieldInvalid, "video frames have even sizes", "width");
    }
    const std::string first = options.generator.tasks.empty() ? taskNames().front() : options.generator.tasks.front();
    RW_TRY(const auto environment, Environment::create(first, options.generator.environment));
    const std::vector<std::string>& cameras =
        options.generator.cameras.empty() ? environment->description().cameraNames : options.generator.cameras;
    // Refuses an unknown camera or a machine that cannot render before anything is on disk.
    std::vector<std::string> keys;
    for (const std::string& camera : cameras) {
        RW_TRY(const Image probe, environment->render(camera, options.generator.width, options.generator.height));
        keys.push_back(cameraKey(camera));
    }
    GeneratorOptions generator = options.generator;
    RW_TRY(const auto writer,
           openWriter(options, datasetSpec(options, environment->description().stateNames, cameras), generator.skip));

    LabelWriter labels(environment->description().cameraNames, cameras);
    RecordSummary summary;
    summary.dataset = options.out;
    auto generated = generateEpisodes(generator, job, [&](Episode&& episode) {
        return writeEpisode(*writer, episode, keys, options.generator.labels ? &labels : nullptr);
    });
    if (writer->episodeOpen()) {
        writer->discardEpisode();
    }
    const auto closed = writer->close();
    if (!generated) {
        return tl::unexpected<Error>(generated.error());
    }
    RW_TRY_VOID(closed);
    summary.generated = std::move(*generated);
    return summary;
}

} // namespace rankwise::sim
