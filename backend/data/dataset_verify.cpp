// Looks at the pictures of an open dataset.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_verify.h"

#include "backend/data/dataset_tables.h"
#include "backend/io/video_decoder.h"
#include "backend/io/video_still.h"

#include <cmath>
#include <map>

#include <fmt/format.h>

namespace rankwise::data {

namespace {

/// Image columns larger than this are looked at in part when a dataset is opened; a check looks at all of them.
constexpr std::size_t kStillBytesAtOpen = std::size_t { 1 } << 30;

struct VideoUse {
    const Feature* feature = nullptr;
    std::int64_t frames = 0; ///< Frames that the episode table places in the file.
    std::int64_t episode = 0;
};

Result<void> verifyVideo(const DatasetReader& reader, const std::string& path, const VideoUse& use,
                         std::vector<Warning>& warnings)
{
    const std::string subject = (reader.root() / path).string();
    RW_TRY(const io::VideoDecoder decoder, io::VideoDecoder::open(reader.root() / path));
    const io::VideoSummary& video = decoder.summary();
    if (video.frames < use.frames) {
        return fail(Errc::DataInvalid,
                    fmt::format("holds {} frames, and the episode table needs {}", video.frames, use.frames), subject);
    }
    const PictureShape shape = pictureShape(*use.feature);
    if (video.width != shape.width || video.height != shape.height) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("is {} × {} pixels, and \"{}\" is declared {} × {}", video.width, video.height,
                                use.feature->key, shape.width, shape.height),
                    subject);
    }
    const auto fps = static_cast<double>(reader.info().fps);
    if (video.frames > 1 && std::abs(video.framesPerSecond - fps) > 0.01 * fps) {
        return fail(Errc::DataInvalid,
                    fmt::format("runs at {:.3f} frames a second, and info.json says {}", video.framesPerSecond,
                                reader.info().fps),
                    subject);
    }
    if (!video.constantRate) {
        warnings.push_back({ "the frames are not equally spaced in time", subject });
    }
    if (std::abs(video.firstTimestamp) > 1e-4) {
        warnings.push_back({ fmt::format("begins at {:.4f} s instead of 0", video.firstTimestamp), subject });
    }
    return {};
}

Result<void> verifyStills(const DatasetReader& reader, const std::string& key)
{
    std::size_t bytes = 0;
    std::int64_t step = 1;
    for (std::int64_t row = 0; row < reader.frameCount(); row += step) {
        RW_TRY(const auto picture, reader.encodedImage(key, row));
        RW_TRY_VOID(io::checkStill(picture, fmt::format("{}: {}, frame {}", reader.root().string(), key, row)));
        bytes += picture.size();
        step = bytes > kStillBytesAtOpen ? 997 : 1;
    }
    return {};
}

} // namespace

Result<void> verifyFiles(const DatasetReader& reader, std::vector<Warning>& warnings)
{
    std::map<std::string, VideoUse> uses;
    for (const EpisodeInfo& episode : reader.episodes()) {
        for (const VideoSpan& span : episode.videos) {
            VideoUse& use = uses[span.path];
            use.feature = reader.info().find(span.key);
            use.frames = std::max(use.frames, span.firstFrame + episode.length);
        }
    }
    for (const auto& [path, use] : uses) {
        RW_TRY_VOID(verifyVideo(reader, path, use, warnings));
    }
    for (const std::string& key : reader.info().keysOf(FeatureType::Image)) {
        if (reader.frameCount() == 0) {
            continue;
        }
        // A declared column that no file holds was told already.
        const auto first = reader.encodedImage(key, 0);
        if (!first && first.error().code == Errc::FieldInvalid) {
            warnings.push_back({ "the declared image column is missing", key });
            continue;
        }
        RW_TRY_VOID(verifyStills(reader, key));
    }
    return {};
}

Result<void> verifyFrames(const DatasetReader& reader, const JobContext& job)
{
    const auto keys = reader.info().cameraKeys();
    std::int64_t done = 0;
    const auto total = std::max<std::int64_t>(1, reader.frameCount() * static_cast<std::int64_t>(keys.size()));
    for (const EpisodeInfo& episode : reader.episodes()) {
        for (const std::string& key : keys) {
            const Feature& feature = *reader.info().find(key);
            const PictureShape shape = pictureShape(feature);
            for (std::int64_t row = episode.fromIndex; row < episode.toIndex; ++row) {
                if (job.stopped()) {
                    return fail(Errc::Cancelled, "stopped", reader.root().string());
                }
                auto image = reader.image(key, row);
                if (!image) {
                    Error error = image.error();
                    error.message = fmt::format("frame {} of camera \"{}\": {}", row, key, error.message);
                    return tl::unexpected<Error>(std::move(error));
                }
                if ((*image)->height != shape.height || (*image)->width != shape.width) {
                    return fail(Errc::ShapeMismatch,
                                fmt::format("frame {} is {} × {} pixels, and {} × {} are declared", row,
                                            (*image)->width, (*image)->height, shape.width, shape.height),
                                key);
                }
            }
            done += episode.length;
            job.report(static_cast<double>(done) / static_cast<double>(total), "decode");
        }
    }
    return {};
}

} // namespace rankwise::data
