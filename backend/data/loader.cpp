// A seeded, resumable sampler and threads that read batches ahead.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/loader.h"

#include "backend/base/worker_thread.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>

#include <fmt/format.h>

namespace rankwise::data {

namespace {

/// SplitMix64's finaliser: a bijection of 64 bits whose output passes for random.
constexpr std::uint64_t mix(std::uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

constexpr std::uint64_t keyOf(std::uint64_t seed, std::int64_t epoch)
{
    return mix(mix(seed) ^ mix(static_cast<std::uint64_t>(epoch) + 0x5851F42D4C957F2Du));
}

/// A permutation of [0, size) by a Feistel network of eight rounds over the next even number of bits; positions that
/// fall outside walk on along their cycle. No table: any position of any epoch costs the same.
std::int64_t permute(std::int64_t position, std::int64_t size, std::uint64_t key)
{
    int half = 1;
    while ((std::int64_t { 1 } << (2 * half)) < size) {
        ++half;
    }
    const std::uint64_t mask = (std::uint64_t { 1 } << half) - 1;
    auto value = static_cast<std::uint64_t>(position);
    do {
        std::uint64_t left = value >> half;
        std::uint64_t right = value & mask;
        for (std::uint64_t round = 0; round < 8; ++round) {
            const std::uint64_t next = left ^ (mix(right ^ mix(key + round)) & mask);
            left = right;
            right = next;
        }
        value = (left << half) | right;
    } while (value >= static_cast<std::uint64_t>(size));
    return static_cast<std::int64_t>(value);
}

} // namespace

Result<Sampler> Sampler::create(const DatasetReader& reader, const SamplerOptions& options)
{
    std::vector<std::int64_t> chosen = options.episodes;
    if (chosen.empty()) {
        for (const EpisodeInfo& episode : reader.episodes()) {
            chosen.push_back(episode.index);
        }
    }
    Sampler sampler;
    sampler.m_shuffle = options.shuffle;
    const Column* tasks = reader.column("task_index");
    const auto taskOf = [&](std::int64_t row) {
        return reinterpret_cast<const std::int64_t*>(tasks->bytes.data())[row];
    };
    double total = 0;
    const auto addRange = [&](std::int64_t from, std::int64_t to, double weight) {
        sampler.m_ranges.push_back({ sampler.m_size, from });
        sampler.m_size += to - from;
        if (options.weight) {
            total += weight * static_cast<double>(to - from);
            sampler.m_weights.push_back(weight);
            sampler.m_cumulative.push_back(total);
        }
    };
    for (const std::int64_t index : chosen) {
        if (index < 0 || index >= static_cast<std::int64_t>(reader.episodes().size())) {
            return fail(Errc::FieldInvalid, fmt::format("there is no episode {}", index), reader.root().string());
        }
        const EpisodeInfo& episode = reader.episodes()[static_cast<std::size_t>(index)];
        if (!options.weight) {
            addRange(episode.fromIndex, episode.toIndex, 1);
            continue;
        }
        // An episode may change its task: one range for each stretch of a task.
        for (std::int64_t from = episode.fromIndex; from < episode.toIndex;) {
            std::int64_t to = from + 1;
            while (to < episode.toIndex && taskOf(to) == taskOf(from)) {
                ++to;
            }
            const double weight = options.weight(episode, taskOf(from));
            if (!(weight >= 0) || !std::isfinite(weight)) {
                return fail(Errc::FieldInvalid, fmt::format("the weight of episode {} is {}", index, weight),
                            reader.root().string());
            }
            if (weight > 0) {
                addRange(from, to, weight);
            }
            from = to;
        }
    }
    if (sampler.m_size == 0) {
        return fail(Errc::FieldInvalid, "no frame is left to train on", reader.root().string());
    }
    return sampler;
}

std::int64_t Sampler::frameAt(std::int64_t ordinal) const
{
    const auto after = std::upper_bound(m_ranges.begin(), m_ranges.end(), ordinal,
                                        [](std::int64_t o, const Range& range) { return o < range.begin; });
    const Range& range = *std::prev(after);
    return range.from + (ordinal - range.begin);
}

std::int64_t Sampler::at(std::uint64_t seed, std::int64_t epoch, std::int64_t position) const
{
    RW_CHECK(position >= 0 && position < m_size);
    if (m_weights.empty()) {
        return frameAt(m_shuffle ? permute(position, m_size, keyOf(seed, epoch)) : position);
    }
    // A draw by weight, a function of the position alone.
    const std::uint64_t bits = mix(keyOf(seed, epoch) ^ mix(static_cast<std::uint64_t>(position)));
    const double point = static_cast<double>(bits >> 11) * 0x1p-53 * m_cumulative.back();
    const auto found = std::upper_bound(m_cumulative.begin(), m_cumulative.end(), point);
    const auto i = static_cast<std::size_t>(
        std::min<std::ptrdiff_t>(found - m_cumulative.begin(), static_cast<std::ptrdiff_t>(m_cumulative.size()) - 1));
    const double before = i == 0 ? 0 : m_cumulative[i - 1];
    const std::int64_t length = (i + 1 < m_ranges.size() ? m_ranges[i + 1].begin : m_size) - m_ranges[i].begin;
    const auto step = std::min(static_cast<std::int64_t>((point - before) / m_weights[i]), length - 1);
    return m_ranges[i].from + std::max<std::int64_t>(step, 0);
}

// ---------------------------------------------------------------------------------------------- loader

struct DataLoader::Impl {
    std::shared_ptr<const DatasetReader> reader;
    SampleRequest request;
    LoaderOptions options;
    Sampler sampler;

    struct Plan {
        std::vector<std::int64_t> frames;
        SamplerState next;
    };

    std::mutex mutex;
    std::condition_variable_any ready; ///< A batch was finished, or the loader stops.
    std::condition_variable_any room;  ///< A batch was taken, or the loader stops.
    SamplerState state;
    std::int64_t planned = 0; ///< Batches handed to threads.
    std::int64_t taken = 0;   ///< Batches handed to the caller.
    bool finished = false;    ///< Nothing more to plan.
    bool stopping = false;
    std::map<std::int64_t, Result<Batch>> done;
    std::vector<WorkerThread> threads;

    Impl(std::shared_ptr<const DatasetReader> r, SampleRequest q, const LoaderOptions& o, Sampler s)
        : reader(std::move(r)), request(std::move(q)), options(o), sampler(std::move(s)), state(o.start)
    {
    }

    std::optional<Plan> plan();
    Result<Batch> read(const Plan& plan, const std::stop_token& stop) const;
    void work(const std::stop_token& stop);
    void requestStop();
};

/// The frames of the next batch; nothing after the last epoch. The caller holds the mutex.
std::optional<DataLoader::Impl::Plan> DataLoader::Impl::plan()
{
    const std::int64_t size = sampler.size();
    const std::int64_t left = size - state.position;
    const bool tooShort = left < options.batchSize && options.dropLast && size >= options.batchSize;
    if (left <= 0 || tooShort) {
        ++state.epoch;
        state.position = 0;
    }
    if (options.epochs > 0 && state.epoch >= options.epochs) {
        finished = true;
        return std::nullopt;
    }
    Plan plan;
    const std::int64_t count = std::min(options.batchSize, size - state.position);
    for (std::int64_t i = 0; i < count; ++i) {
        plan.frames.push_back(sampler.at(state.seed, state.epoch, state.position + i));
    }
    state.position += count;
    plan.next = state;
    return plan;
}

Result<Batch> DataLoader::Impl::read(const Plan& plan, const std::stop_token& stop) const
{
    Batch batch;
    batch.next = plan.next;
    for (const std::int64_t frame : plan.frames) {
        if (stop.stop_requested()) {
            return fail(Errc::Cancelled, "stopped", reader->root().string());
        }
        RW_TRY(Sample sample, reader->sample(frame, request));
        batch.samples.push_back(std::move(sample));
    }
    return batch;
}

void DataLoader::Impl::work(const std::stop_token& stop)
{
    std::unique_lock lock(mutex);
    while (!stopping && !finished) {
        const bool free = room.wait(lock, stop, [&] {
            return stopping || finished
                || planned - taken < options.readAhead + static_cast<std::int64_t>(threads.size());
        });
        if (!free || stopping || finished) {
            return;
        }
        const auto next = plan();
        if (!next) {
            ready.notify_all();
            room.notify_all();
            return;
        }
        const std::int64_t number = planned++;
        lock.unlock();
        Result<Batch> batch = fail(Errc::Internal, "not read");
        try {
            batch = read(*next, stop);
        } catch (const std::exception& exception) {
            batch = fail(Errc::Internal, exception.what(), reader->root().string());
        }
        lock.lock();
        done.emplace(number, std::move(batch));
        ready.notify_all();
    }
}

void DataLoader::Impl::requestStop()
{
    const std::lock_guard lock(mutex);
    stopping = true;
    for (WorkerThread& thread : threads) {
        thread.requestStop();
    }
    ready.notify_all();
    room.notify_all();
}

DataLoader::DataLoader(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }

DataLoader::~DataLoader()
{
    m_impl->requestStop();
    for (WorkerThread& thread : m_impl->threads) {
        thread.join();
    }
}

Result<std::unique_ptr<DataLoader>> DataLoader::create(std::shared_ptr<const DatasetReader> reader,
                                                       SampleRequest request, const LoaderOptions& options)
{
    RW_CHECK(reader != nullptr);
    const std::string subject = reader->root().string();
    if (options.batchSize < 1 || options.threads < 0 || options.readAhead < 1) {
        return fail(Errc::FieldInvalid, "batch size and read-ahead must be at least 1, threads at least 0", subject);
    }
    if (options.start.epoch < 0 || options.start.position < 0) {
        return fail(Errc::FieldInvalid, "the sampler's state is negative", subject);
    }
    for (const SampleRequest::Window& window : request.columns) {
        if (reader->column(window.key) == nullptr) {
            return fail(Errc::FieldInvalid, "the dataset has no such column", window.key);
        }
    }
    for (const SampleRequest::Window& window : request.cameras) {
        const Feature* feature = reader->info().find(window.key);
        if (feature == nullptr || !feature->isCamera()) {
            return fail(Errc::FieldInvalid, "the dataset has no such camera", window.key);
        }
    }
    RW_TRY(Sampler sampler, Sampler::create(*reader, options.sampler));
    if (options.start.position > sampler.size()) {
        return fail(Errc::FieldInvalid, "the sampler's position lies behind the last frame; another dataset?", subject);
    }
    auto impl = std::make_unique<Impl>(std::move(reader), std::move(request), options, std::move(sampler));
    std::unique_ptr<DataLoader> loader(new DataLoader(std::move(impl)));
    Impl* shared = loader->m_impl.get();
    const std::lock_guard lock(shared->mutex);
    for (int i = 0; i < options.threads; ++i) {
        shared->threads.emplace_back(fmt::format("rw-load-{}", i),
                                     [shared](const std::stop_token& stop) { shared->work(stop); });
    }
    return loader;
}

Result<Batch> DataLoader::next(const std::stop_token& stop)
{
    Impl& m = *m_impl;
    std::unique_lock lock(m.mutex);
    if (m.stopping) {
        return fail(Errc::Cancelled, "the loader was stopped", m.reader->root().string());
    }
    if (m.threads.empty()) {
        const auto plan = m.plan();
        lock.unlock();
        return plan ? m.read(*plan, stop) : Result<Batch>(Batch {});
    }
    const std::int64_t number = m.taken;
    const bool woken = m.ready.wait(
        lock, stop, [&] { return m.stopping || m.done.contains(number) || (m.finished && number >= m.planned); });
    if (!woken || m.stopping) {
        return fail(Errc::Cancelled, "stopped", m.reader->root().string());
    }
    const auto found = m.done.find(number);
    if (found == m.done.end()) {
        return Batch {};
    }
    Result<Batch> batch = std::move(found->second);
    m.done.erase(found);
    ++m.taken;
    m.room.notify_all();
    return batch;
}

void DataLoader::stop()
{
    m_impl->requestStop();
}

std::int64_t DataLoader::samplesPerEpoch() const
{
    return m_impl->sampler.size();
}

} // namespace rankwise::data
