// Deterministic recordings, and what the test program does as a child process.
// SPDX-License-Identifier: Apache-2.0
#include "dataset_fixture.h"

#include "backend/base/file.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>

namespace rankwise::test {

using namespace rankwise::data;

std::vector<std::uint8_t> pictureOf(std::int64_t index, int camera, std::int64_t height, std::int64_t width)
{
    // A smooth ramp and a block whose place tells the index: survives the codec.
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width * 3));
    const std::int64_t left = (index * 5 + camera * 9) % (width - 8);
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            auto* p = pixels.data() + (y * width + x) * 3;
            const bool block = x >= left && x < left + 8 && y >= height / 3 && y < height * 2 / 3;
            p[0] = static_cast<std::uint8_t>(block ? 220 : 40 + (x + index) % 60);
            p[1] = static_cast<std::uint8_t>(block ? 60 : 70 + y % 50);
            p[2] = static_cast<std::uint8_t>(camera == 0 ? 60 : 140);
        }
    }
    return pixels;
}

std::vector<float> stateOf(std::int64_t index)
{
    std::vector<float> values;
    for (int i = 0; i < 7; ++i) {
        values.push_back(std::sin(static_cast<float>(index) * 0.1f + static_cast<float>(i)));
    }
    return values;
}

DatasetSpec smallSpec()
{
    DatasetSpec spec;
    spec.fps = 30;
    spec.robotType = "piper";
    const std::vector<std::string> joints {
        "joint_1", "joint_2", "joint_3", "joint_4", "joint_5", "joint_6", "gripper"
    };
    spec.features = { vectorFeature("observation.state", FeatureType::Float32, joints),
                      vectorFeature("action", FeatureType::Float32, joints),
                      scalarFeature("next.done", FeatureType::Bool),
                      scalarFeature("observation.counter", FeatureType::Int64),
                      cameraFeature("observation.images.front", FeatureType::Video, kHeight, kWidth),
                      cameraFeature("observation.images.wrist", FeatureType::Video, kHeight, kWidth) };
    return spec;
}

Result<EpisodeReceipt> recordEpisode(DatasetWriter& writer, std::int64_t length, const std::string& task)
{
    RW_TRY_VOID(writer.beginEpisode());
    const std::int64_t first = writer.info().totalFrames;
    for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t index = first + i;
        const auto state = stateOf(index);
        const auto action = stateOf(index + 1);
        const auto front = pictureOf(index, 0, kHeight, kWidth);
        const auto wrist = pictureOf(index, 1, kHeight, kWidth);
        FrameView frame;
        frame.floats("observation.state", state).floats("action", action).boolean("next.done", i + 1 == length);
        frame.integer("observation.counter", index * 1'000'003 - (std::int64_t { 1 } << 40));
        frame.image("observation.images.front", front).image("observation.images.wrist", wrist);
        if (auto added = writer.addFrame(frame); !added) {
            writer.discardEpisode();
            return tl::unexpected<Error>(added.error());
        }
    }
    return writer.finishEpisode(task);
}

namespace {

std::string differs(const DatasetReader& reader, std::int64_t index, bool pictures)
{
    SampleRequest request = SampleRequest::forPolicy({}, "observation.state", "action", 1);
    request.columns.push_back({ "observation.counter", { 0 } });
    const auto sample = reader.sample(index, request);
    if (!sample) {
        return sample.error().describe();
    }
    if (sample->columns.at("observation.state").floats() != stateOf(index)
        || sample->columns.at("action").floats() != stateOf(index + 1)) {
        return fmt::format("state or action of frame {} differ", index);
    }
    if (sample->columns.at("observation.counter").as<std::int64_t>()[0]
        != index * 1'000'003 - (std::int64_t { 1 } << 40)) {
        return fmt::format("counter of frame {} differs", index);
    }
    for (int camera = 0; pictures && camera < 2; ++camera) {
        const auto image = reader.image(camera == 0 ? "observation.images.front" : "observation.images.wrist", index);
        if (!image) {
            return image.error().describe();
        }
        const auto expected = pictureOf(index, camera, kHeight, kWidth);
        double squares = 0;
        for (std::size_t i = 0; i < expected.size(); ++i) {
            const double d = static_cast<double>(expected[i]) - static_cast<double>((*image)->pixels[i]);
            squares += d * d;
        }
        // A neighbouring frame is off by 35 and more.
        const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
        if (rms > 14) {
            return fmt::format("picture {} of camera {} is off by {:.1f} levels", index, camera, rms);
        }
    }
    return {};
}

/// Records episodes until it is killed. A byte goes to standard output for each one that is safe.
int recordForever(const std::filesystem::path& folder)
{
    RecoveryReport report;
    auto writer = DatasetWriter::openForAppend(folder, {}, &report);
    if (!writer) {
        std::fprintf(stderr, "%s\n", writer.error().describe().c_str());
        return 2;
    }
    for (int i = 0;; ++i) {
        const auto receipt = recordEpisode(**writer, 6 + i % 5, i % 2 == 0 ? "press the button" : "öffne den Topf");
        if (!receipt) {
            std::fprintf(stderr, "%s\n", receipt.error().describe().c_str());
            return 3;
        }
        if (::write(STDOUT_FILENO, "e", 1) != 1) {
            return 4;
        }
    }
}

/// Fills a small file system of its own. 77: the system does not permit one.
int fillDisk(const std::filesystem::path& folder)
{
    const uid_t user = ::getuid();
    if (user != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        return 77;
    }
    if (user == 0 && ::unshare(CLONE_NEWNS) != 0) {
        return 77;
    }
    ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (::mount("none", folder.c_str(), "tmpfs", 0, "size=3m") != 0) {
        return 77;
    }
    const auto root = folder / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    if (!writer) {
        return 2;
    }
    std::int64_t episodes = 0;
    Errc code = Errc::Internal;
    for (int i = 0; i < 1000; ++i) {
        const auto receipt = recordEpisode(**writer, 40, "press the button");
        if (!receipt) {
            code = receipt.error().code;
            break;
        }
        ++episodes;
        // Bulk beside the dataset: the disk is full in the middle of an episode, not between two.
        std::vector<std::byte> ballast(100'000, std::byte { 7 });
        std::ignore = writeFileAtomically(folder / fmt::format("ballast-{}", i), ballast);
    }
    writer->reset();
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    if (!reader) {
        std::fprintf(stderr, "%s\n", reader.error().describe().c_str());
        return 3;
    }
    const std::string difference = differsFromRecording(**reader, true);
    if (!difference.empty() || static_cast<std::int64_t>((*reader)->episodes().size()) < episodes) {
        std::fprintf(stderr, "%s; %ld episodes\n", difference.c_str(), static_cast<long>(episodes));
        return 4;
    }
    return code == Errc::DiskFull && episodes > 0 ? 0 : 5;
}

/// A dataset for lerobot to look at: video and image cameras, two tasks, one episode that changes its task.
int recordSample(const std::filesystem::path& folder)
{
    DatasetSpec spec = smallSpec();
    spec.features.push_back(cameraFeature("observation.images.thumb", FeatureType::Image, 24, 32));
    spec.episodeColumns = { scalarFeature("seed", FeatureType::Int64), scalarFeature("success", FeatureType::Bool) };
    auto writer = DatasetWriter::create(folder, spec);
    if (!writer) {
        std::fprintf(stderr, "%s\n", writer.error().describe().c_str());
        return 2;
    }
    for (int e = 0; e < 4; ++e) {
        const std::int64_t length = 11 + 7 * e;
        const std::int64_t first = (*writer)->info().totalFrames;
        if (!(*writer)->beginEpisode()) {
            return 3;
        }
        for (std::int64_t i = 0; i < length; ++i) {
            const auto state = stateOf(first + i);
            const auto action = stateOf(first + i + 1);
            const auto front = pictureOf(first + i, 0, kHeight, kWidth);
            const auto wrist = pictureOf(first + i, 1, kHeight, kWidth);
            const auto thumb = pictureOf(first + i, 0, 24, 32);
            FrameView frame;
            frame.floats("observation.state", state).floats("action", action).boolean("next.done", i + 1 == length);
            frame.integer("observation.counter", (first + i) * 1'000'003 - (std::int64_t { 1 } << 40));
            frame.image("observation.images.front", front).image("observation.images.wrist", wrist);
            frame.image("observation.images.thumb", thumb);
            if (e == 2 && i >= length / 2) {
                frame.task("lege den Würfel in die Schüssel");
            }
            if (const auto added = (*writer)->addFrame(frame); !added) {
                std::fprintf(stderr, "%s\n", added.error().describe().c_str());
                return 4;
            }
        }
        const auto receipt =
            (*writer)->finishEpisode("pick up the red cube", { { "seed", std::to_string(e) }, { "success", "true" } });
        if (!receipt) {
            std::fprintf(stderr, "%s\n", receipt.error().describe().c_str());
            return 5;
        }
    }
    return (*writer)->close() ? 0 : 6;
}

} // namespace

std::string differsFromRecording(const DatasetReader& reader, bool pictures)
{
    for (std::int64_t index = 0; index < reader.frameCount(); ++index) {
        if (std::string difference = differs(reader, index, pictures); !difference.empty()) {
            return difference;
        }
    }
    return {};
}

int runChild(const std::string& mode, const std::filesystem::path& folder)
{
    if (mode == "--record") {
        return recordForever(folder);
    }
    if (mode == "--fill") {
        return fillDisk(folder);
    }
    if (mode == "--create") {
        return DatasetWriter::create(folder, smallSpec()) ? 0 : 2;
    }
    return mode == "--sample" ? recordSample(folder) : 1;
}

} // namespace rankwise::test

int main(int argc, char** argv)
{
    using namespace rankwise::test;
    if (argc == 3 && std::string_view(argv[1]).starts_with("--")) {
        return runChild(argv[1], argv[2]);
    }
    const QCoreApplication app(argc, argv);
    int failures = testGolden(argc, argv);
    failures += testRecording(argc, argv);
    failures += testLoading(argc, argv);
    return failures == 0 ? 0 : 1;
}
