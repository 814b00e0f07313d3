// Keeps a trainer fed: a seeded, resumable sampler and threads that read batches ahead.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/data/dataset_reader.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <vector>

namespace rankwise::data {

/// Where a sampler stands; all that a checkpoint needs to continue with the same samples.
struct SamplerState {
    std::uint64_t seed = 0;
    std::int64_t epoch = 0;
    std::int64_t position = 0; ///< Samples of the epoch already handed out.
};

/// Weight of every frame of an episode with that task; 0 leaves it out. Called once an episode and task.
using WeightHook = std::function<double(const EpisodeInfo& episode, std::int64_t taskIndex)>;

struct SamplerOptions {
    bool shuffle = true;
    std::vector<std::int64_t> episodes; ///< Empty: all.
    WeightHook weight; ///< Empty: every frame once an epoch. Else frames are drawn with replacement by weight.
};

/// Frame indices as a pure function of (seed, epoch, position): any platform, any thread count, any resume point.
class Sampler {
public:
    /// Errors: FieldInvalid (no frame left, an episode that is not there, a weight that is negative or not finite).
    [[nodiscard]] static Result<Sampler> create(const DatasetReader& reader, const SamplerOptions& options);

    /// Samples an epoch.
    [[nodiscard]] std::int64_t size() const { return m_size; }
    [[nodiscard]] std::int64_t at(std::uint64_t seed, std::int64_t epoch, std::int64_t position) const;

private:
    struct Range {
        std::int64_t begin; ///< Position of the range's first frame among the chosen ones.
        std::int64_t from;  ///< Global index of it.
    };
    [[nodiscard]] std::int64_t frameAt(std::int64_t ordinal) const;

    bool m_shuffle = true;
    std::int64_t m_size = 0;
    std::vector<Range> m_ranges;
    std::vector<double> m_cumulative; ///< One a range when weighted.
    std::vector<double> m_weights;
};

struct LoaderOptions {
    // Changes results:
    std::int64_t batchSize = 8;
    bool dropLast = true; ///< Leaves out the shorter batch at the end of an epoch; ignored when it is the only one.
    SamplerOptions sampler;
    SamplerState start;
    std::int64_t epochs = 0; ///< 0: without end.
    // Changes only speed:
    int threads = 1;   ///< 0: read in the caller's thread.
    int readAhead = 2; ///< Whole batches waiting at most.
};

struct Batch {
    std::vector<Sample> samples;
    SamplerState next; ///< Start from here to continue after this batch.
};

/// Batches in the same order whatever the number of threads.
/// Thread: next() from one thread at a time; stop() from any.
class DataLoader {
public:
    [[nodiscard]] static Result<std::unique_ptr<DataLoader>>
    create(std::shared_ptr<const DatasetReader> reader, SampleRequest request, const LoaderOptions& options);
    ~DataLoader(); ///< Stops and joins.
    DataLoader(const DataLoader&) = delete;
    DataLoader& operator=(const DataLoader&) = delete;

    /// The next batch; empty (no samples) after the last epoch.
    /// Errors: the first error of reading a sample of that batch; Cancelled after stop() or when `stop` is requested.
    [[nodiscard]] Result<Batch> next(const std::stop_token& stop = {});

    /// Wakes next() and lets the threads end after the sample they are reading.
    void stop();

    [[nodiscard]] std::int64_t samplesPerEpoch() const;

private:
    struct Impl;
    explicit DataLoader(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

} // namespace rankwise::data
