// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/record.h"

#include "backend/data/dataset_writer.h"

#include <algorithm>

namespace rankwise::sim {
namespace {

constexpr const char* kStateKey = "observation.state";
constexpr const char* kActionKey = "action";
constexpr const char* kSuccessKey = "next.success";

std::string cameraKey(const std::string& camera)
{
    return "observation.images." + camera;
}

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
    return spec;
}

Result<void> writeEpisode(data::DatasetWriter& writer, const Episode& episode, const std::vector<std::string>& keys)
{
    RW_TRY_VOID(writer.beginEpisode());
    for (const EpisodeFrame& frame : episode.frames) {
        data::FrameView view;
        view.floats(kStateKey, frame.state);
        view.doubles(kActionKey, frame.action);
        for (std::size_t i = 0; i < keys.size(); ++i) {
            view.image(keys[i], frame.images[i].rgb);
        }
        view.boolean(kSuccessKey, frame.success);
        RW_TRY_VOID(writer.addFrame(view));
    }
    RW_TRY(const data::EpisodeReceipt receipt, writer.finishEpisode(episode.instruction));
    (void)receipt;
    return {};
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
    RW_TRY(
        const auto writer,
        data::DatasetWriter::create(options.out, datasetSpec(options, environment->description().stateNames, cameras)));

    RecordSummary summary;
    summary.dataset = options.out;
    auto generated = generateEpisodes(options.generator, job,
                                      [&](Episode&& episode) { return writeEpisode(*writer, episode, keys); });
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
