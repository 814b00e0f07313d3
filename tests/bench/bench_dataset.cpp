// Writing and reading of datasets with two 640 × 480 cameras; run_dataset.sh sets it beside lerobot.
//
// usage: bench_dataset write DIR EPISODES FRAMES RAW [PRESET CRF]
//        RAW: file of raw RGB frames, front and wrist in turn
//        bench_dataset read DIR random|sequential COUNT   prints a digest of each sample's pictures with --digest
// Prints one JSON line with CPU seconds (all threads) and wall seconds.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/data/dataset_reader.h"
#include "backend/data/dataset_writer.h"
#include "backend/data/loader.h"
#include "tests/bench/bench_support.h"

#include <cstdio>
#include <cstdlib>
#include <string>

using namespace rankwise;
using namespace rankwise::data;

namespace {

constexpr std::int64_t kHeight = 480;
constexpr std::int64_t kWidth = 640;
constexpr std::size_t kPictureBytes = static_cast<std::size_t>(kHeight * kWidth * 3);

using bench::cpuSeconds;
using bench::wallSeconds;

int fail(const Error& error)
{
    std::fprintf(stderr, "%s\n", error.describe().c_str());
    return 1;
}

int write(const std::string& folder, int episodes, int frames, const std::string& rawPath, const VideoOptions& video)
{
    const auto raw = MappedFile::open(rawPath);
    if (!raw) {
        return fail(raw.error());
    }
    const auto* pixels = reinterpret_cast<const std::uint8_t*>(raw->bytes().data());
    const std::size_t pairs = raw->bytes().size() / (2 * kPictureBytes);
    DatasetSpec spec;
    spec.fps = 30;
    spec.video = video;
    const std::vector<std::string> joints {
        "joint_1", "joint_2", "joint_3", "joint_4", "joint_5", "joint_6", "gripper"
    };
    spec.features = { vectorFeature("observation.state", FeatureType::Float32, joints),
                      vectorFeature("action", FeatureType::Float32, joints),
                      cameraFeature("observation.images.front", FeatureType::Video, kHeight, kWidth),
                      cameraFeature("observation.images.wrist", FeatureType::Video, kHeight, kWidth) };
    auto writer = DatasetWriter::create(folder, spec);
    if (!writer) {
        return fail(writer.error());
    }
    const double cpu = cpuSeconds();
    const double wall = wallSeconds();
    std::size_t pair = 0;
    for (int e = 0; e < episodes; ++e) {
        if (const auto begun = (*writer)->beginEpisode(); !begun) {
            return fail(begun.error());
        }
        for (int i = 0; i < frames; ++i, ++pair) {
            const std::vector<float> state(7, static_cast<float>(i) * 0.01f);
            FrameView frame;
            frame.floats("observation.state", state).floats("action", state);
            const std::uint8_t* at = pixels + (pair % pairs) * 2 * kPictureBytes;
            frame.image("observation.images.front", { at, kPictureBytes });
            frame.image("observation.images.wrist", { at + kPictureBytes, kPictureBytes });
            if (const auto added = (*writer)->addFrame(frame); !added) {
                return fail(added.error());
            }
        }
        if (const auto receipt = (*writer)->finishEpisode("bench"); !receipt) {
            return fail(receipt.error());
        }
    }
    const double cpuUsed = cpuSeconds() - cpu;
    const double wallUsed = wallSeconds() - wall;
    if (const auto closed = (*writer)->close(); !closed) {
        return fail(closed.error());
    }
    std::printf("{\"pairs\": %d, \"cpu_s\": %.4f, \"wall_s\": %.4f, \"cpu_ms_per_pair\": %.3f, \"peak_kb\": %ld}\n",
                episodes * frames, cpuUsed, wallUsed, cpuUsed * 1000 / (episodes * frames),
                static_cast<long>(bench::peakMb() * 1e6 / 1024));
    return 0;
}

int read(const std::string& folder, bool random, int count, bool digest)
{
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(folder, { .frameCacheBytes = std::size_t { 64 } << 20 }, warnings);
    if (!reader) {
        return fail(reader.error());
    }
    LoaderOptions options;
    options.batchSize = 8;
    options.threads = 1;
    options.dropLast = false;
    options.sampler.shuffle = random;
    options.start.seed = 1;
    const SampleRequest request =
        SampleRequest::forPolicy((*reader)->info().cameraKeys(), "observation.state", "action", 50);
    auto loader = DataLoader::create(*reader, request, options);
    if (!loader) {
        return fail(loader.error());
    }
    const double cpu = cpuSeconds();
    const double wall = wallSeconds();
    int samples = 0;
    while (samples < count) {
        const auto batch = (*loader)->next();
        if (!batch) {
            return fail(batch.error());
        }
        for (const Sample& sample : batch->samples) {
            ++samples;
            for (const auto& [key, window] : sample.cameras) {
                if (digest) {
                    std::uint64_t sum = 0;
                    const auto& pixels = window.frames[0]->pixels;
                    for (std::size_t i = 0; i < pixels.size(); ++i) {
                        sum += static_cast<std::uint64_t>(pixels[i]) * (i % 8191 + 1);
                    }
                    std::printf("%ld %s %llu\n", static_cast<long>(sample.index), key.c_str(),
                                static_cast<unsigned long long>(sum));
                }
            }
        }
    }
    const double cpuUsed = cpuSeconds() - cpu;
    std::printf("{\"samples\": %d, \"cpu_s\": %.4f, \"wall_s\": %.4f, \"cpu_ms_per_sample\": %.3f, \"seeks\": %llu, "
                "\"hits\": %llu}\n",
                samples, cpuUsed, wallSeconds() - wall, cpuUsed * 1000 / samples,
                static_cast<unsigned long long>((*reader)->cacheCounters().seeks),
                static_cast<unsigned long long>((*reader)->cacheCounters().hits));
    return 0;
}

} // namespace

int main(int argc, char** argv)
{
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "write" && argc >= 6) {
        VideoOptions video;
        video.preset = argc > 6 ? argv[6] : "";
        video.quality = argc > 7 ? std::atoi(argv[7]) : -1;
        return write(argv[2], std::atoi(argv[3]), std::atoi(argv[4]), argv[5], video);
    }
    if (mode == "read" && argc >= 5) {
        return read(argv[2], std::string(argv[3]) == "random", std::atoi(argv[4]), argc > 5);
    }
    std::fprintf(stderr,
                 "usage: bench_dataset write DIR EPISODES FRAMES RAW [PRESET CRF] | read DIR random|sequential COUNT "
                 "[--digest]\n");
    return 2;
}
