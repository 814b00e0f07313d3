// The sampler and the loader: every frame once an epoch, the same order for any number of threads, resumable.
// SPDX-License-Identifier: Apache-2.0
#include "dataset_fixture.h"

#include "backend/data/loader.h"

#include <chrono>
#include <set>
#include <thread>

#include <fmt/format.h>

#include <QTemporaryDir>

using namespace rankwise;
using namespace rankwise::data;
using namespace rankwise::test;
namespace fs = std::filesystem;

class TestLoading : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase();
    void everyFrameOnceAnEpoch_data();
    void everyFrameOnceAnEpoch();
    void permutationsDiffer();
    void weightsAreKept();
    void sameOrderForAnyThreads();
    void resumesAnywhere();
    void endsAfterLastEpoch();
    void stopsAtOnce();
    void errorsReachTheCaller();
    void refusesWrongOptions();
    void cacheIsBounded();
    void sequentialReadingDoesNotSeek();
    void windowsAreClamped();

private:
    QTemporaryDir m_folder;
    std::shared_ptr<const DatasetReader> m_reader;
    SampleRequest m_request =
        SampleRequest::forPolicy({ "observation.images.front" }, "observation.state", "action", 4);
};

void TestLoading::initTestCase()
{
    const fs::path root = fs::path(m_folder.path().toStdString()) / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    RW_VERIFY(writer);
    RW_VERIFY(recordEpisode(**writer, 17, "a"));
    RW_VERIFY(recordEpisode(**writer, 9, "b"));
    RW_VERIFY(recordEpisode(**writer, 24, "a"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, {}, warnings);
    RW_VERIFY(reader);
    m_reader = *reader;
}

void TestLoading::everyFrameOnceAnEpoch_data()
{
    QTest::addColumn<bool>("shuffle");
    QTest::addColumn<QList<int>>("episodes");
    QTest::addColumn<int>("size");
    QTest::newRow("in order") << false << QList<int> {} << 50;
    QTest::newRow("shuffled") << true << QList<int> {} << 50;
    QTest::newRow("two episodes") << true << QList<int> { 2, 0 } << 41;
    QTest::newRow("one episode") << true << QList<int> { 1 } << 9;
}

void TestLoading::everyFrameOnceAnEpoch()
{
    QFETCH(bool, shuffle);
    QFETCH(QList<int>, episodes);
    QFETCH(int, size);
    SamplerOptions options { .shuffle = shuffle, .episodes = { episodes.begin(), episodes.end() }, .weight = {} };
    const auto sampler = Sampler::create(*m_reader, options);
    RW_VERIFY(sampler);
    QCOMPARE(sampler->size(), size);
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
        std::set<std::int64_t> seen;
        bool ordered = true;
        std::int64_t last = -1;
        for (std::int64_t position = 0; position < sampler->size(); ++position) {
            const std::int64_t frame = sampler->at(9, epoch, position);
            ordered = ordered && frame > last;
            last = frame;
            seen.insert(frame);
            if (!episodes.empty()) {
                QVERIFY(episodes.contains(static_cast<int>(m_reader->episodeOf(frame).index)));
            }
        }
        QCOMPARE(static_cast<int>(seen.size()), size);
        QCOMPARE(ordered, !shuffle);
    }
}

void TestLoading::permutationsDiffer()
{
    const auto sampler = Sampler::create(*m_reader, {});
    RW_VERIFY(sampler);
    const auto order = [&](std::uint64_t seed, std::int64_t epoch) {
        std::vector<std::int64_t> frames;
        for (std::int64_t i = 0; i < sampler->size(); ++i) {
            frames.push_back(sampler->at(seed, epoch, i));
        }
        return frames;
    };
    QCOMPARE(order(1, 0), order(1, 0));
    QVERIFY(order(1, 0) != order(2, 0));
    QVERIFY(order(1, 0) != order(1, 1));
    // No frame prefers a place: over many epochs each comes first about equally often.
    std::vector<int> first(50, 0);
    for (std::int64_t epoch = 0; epoch < 5000; ++epoch) {
        ++first[static_cast<std::size_t>(sampler->at(3, epoch, 0))];
    }
    QVERIFY(*std::min_element(first.begin(), first.end()) > 55);
    QVERIFY(*std::max_element(first.begin(), first.end()) < 160);
}

void TestLoading::weightsAreKept()
{
    SamplerOptions options;
    options.weight = [](const EpisodeInfo& episode, std::int64_t) {
        return episode.index == 1 ? 10.0 : episode.index == 0 ? 1.0 : 0.0;
    };
    const auto sampler = Sampler::create(*m_reader, options);
    RW_VERIFY(sampler);
    std::vector<std::int64_t> counts(3, 0);
    std::int64_t total = 0;
    for (std::int64_t epoch = 0; epoch < 400; ++epoch) {
        for (std::int64_t i = 0; i < sampler->size(); ++i) {
            ++counts[static_cast<std::size_t>(m_reader->episodeOf(sampler->at(5, epoch, i)).index)];
            ++total;
        }
    }
    QCOMPARE(counts[2], 0);
    // 9 frames of weight 10 against 17 of weight 1.
    const double share = static_cast<double>(counts[1]) / static_cast<double>(total);
    QVERIFY2(std::abs(share - 90.0 / 107.0) < 0.02, fmt::format("{}", share).c_str());
    options.weight = [](const EpisodeInfo&, std::int64_t) { return -1.0; };
    QVERIFY(!Sampler::create(*m_reader, options));
    options.weight = [](const EpisodeInfo&, std::int64_t) { return 0.0; };
    QVERIFY(!Sampler::create(*m_reader, options));
}

namespace {

/// Frames, actions and pictures of the next batches as one value to compare.
std::vector<std::vector<double>> take(DataLoader& loader, int batches)
{
    std::vector<std::vector<double>> rows;
    for (int i = 0; i < batches; ++i) {
        const auto batch = loader.next();
        if (!batch) {
            return {};
        }
        for (const Sample& sample : batch->samples) {
            std::vector<double> row { static_cast<double>(sample.index) };
            const auto actions = sample.columns.at("action").doubles();
            row.insert(row.end(), actions.begin(), actions.end());
            const auto& pixels = sample.cameras.at("observation.images.front").frames[0]->pixels;
            row.insert(row.end(), pixels.begin(), pixels.end());
            rows.push_back(std::move(row));
        }
    }
    return rows;
}

} // namespace

void TestLoading::sameOrderForAnyThreads()
{
    std::vector<std::vector<double>> expected;
    for (const int threads : { 0, 1, 2, 5 }) {
        LoaderOptions options;
        options.batchSize = 4;
        options.threads = threads;
        options.start.seed = 77;
        auto loader = DataLoader::create(m_reader, m_request, options);
        RW_VERIFY(loader);
        const auto rows = take(**loader, 30);
        QCOMPARE(rows.size(), 120u);
        if (expected.empty()) {
            expected = rows;
        }
        QVERIFY2(rows == expected, fmt::format("{} threads", threads).c_str());
    }
}

void TestLoading::resumesAnywhere()
{
    LoaderOptions options;
    options.batchSize = 6;
    options.threads = 2;
    options.start.seed = 5;
    auto loader = DataLoader::create(m_reader, m_request, options);
    RW_VERIFY(loader);
    for (int i = 0; i < 20; ++i) {
        const auto batch = (*loader)->next();
        RW_VERIFY(batch);
        LoaderOptions again = options;
        again.start = batch->next;
        auto resumed = DataLoader::create(m_reader, m_request, again);
        RW_VERIFY(resumed);
        auto ahead = DataLoader::create(m_reader, m_request, options);
        RW_VERIFY(ahead);
        std::ignore = take(**ahead, i + 1);
        const auto a = (*resumed)->next();
        const auto b = (*ahead)->next();
        RW_VERIFY(a);
        RW_VERIFY(b);
        QCOMPARE(a->samples.size(), b->samples.size());
        for (std::size_t k = 0; k < a->samples.size(); ++k) {
            QCOMPARE(a->samples[k].index, b->samples[k].index);
        }
    }
}

void TestLoading::endsAfterLastEpoch()
{
    for (const bool dropLast : { true, false }) {
        for (const int threads : { 0, 2 }) {
            LoaderOptions options;
            options.batchSize = 8;
            options.dropLast = dropLast;
            options.epochs = 2;
            options.threads = threads;
            auto loader = DataLoader::create(m_reader, m_request, options);
            RW_VERIFY(loader);
            std::int64_t samples = 0;
            for (;;) {
                const auto batch = (*loader)->next();
                RW_VERIFY(batch);
                if (batch->samples.empty()) {
                    break;
                }
                samples += static_cast<std::int64_t>(batch->samples.size());
            }
            QCOMPARE(samples, dropLast ? 96 : 100);
        }
    }
}

void TestLoading::stopsAtOnce()
{
    LoaderOptions options;
    options.threads = 3;
    auto loader = DataLoader::create(m_reader, m_request, options);
    RW_VERIFY(loader);
    RW_VERIFY((*loader)->next());
    std::thread stopper([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        (*loader)->stop();
    });
    for (;;) {
        const auto batch = (*loader)->next();
        if (!batch) {
            QCOMPARE(batch.error().code, Errc::Cancelled);
            break;
        }
    }
    stopper.join();
    // A stop token that was requested before ends the wait as well.
    auto other = DataLoader::create(m_reader, m_request, options);
    RW_VERIFY(other);
    std::stop_source source;
    source.request_stop();
    for (;;) {
        const auto batch = (*other)->next(source.get_token());
        if (!batch) {
            QCOMPARE(batch.error().code, Errc::Cancelled);
            break;
        }
    }
}

void TestLoading::errorsReachTheCaller()
{
    // The video vanishes after the dataset was opened.
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "copy";
    fs::copy(m_reader->root(), root, fs::copy_options::recursive);
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, {}, warnings);
    RW_VERIFY(reader);
    fs::remove_all(root / "videos");
    LoaderOptions options;
    options.threads = 2;
    auto loader = DataLoader::create(*reader, m_request, options);
    RW_VERIFY(loader);
    const auto batch = (*loader)->next();
    QVERIFY(!batch);
    QCOMPARE(batch.error().code, Errc::FileNotFound);
}

void TestLoading::refusesWrongOptions()
{
    LoaderOptions options;
    options.batchSize = 0;
    QVERIFY(!DataLoader::create(m_reader, m_request, options));
    options.batchSize = 4;
    QVERIFY(!DataLoader::create(m_reader, SampleRequest::forPolicy({}, "nothing", "action", 4), options));
    QVERIFY(!DataLoader::create(m_reader, SampleRequest::forPolicy({ "nothing" }, "", "action", 4), options));
    options.sampler.episodes = { 3 };
    QVERIFY(!DataLoader::create(m_reader, m_request, options));
    options.sampler.episodes = {};
    options.start.position = 51;
    QVERIFY(!DataLoader::create(m_reader, m_request, options));
    const double half = 0.5 / 30;
    QVERIFY(!SampleRequest::offsetsFromSeconds(std::span(&half, 1), 30));
    QVERIFY(!m_reader->sample(50, {}));
    QVERIFY(!m_reader->sample(-1, {}));
    QVERIFY(!m_reader->image("action", 0));
}

void TestLoading::cacheIsBounded()
{
    std::vector<Warning> warnings;
    const std::size_t limit = 5 * static_cast<std::size_t>(kHeight * kWidth * 3);
    const auto reader = DatasetReader::open(m_reader->root(), { .frameCacheBytes = limit }, warnings);
    RW_VERIFY(reader);
    for (std::int64_t i = 0; i < 50; ++i) {
        RW_VERIFY((*reader)->image("observation.images.front", i));
        QVERIFY((*reader)->cacheCounters().bytes <= limit);
    }
    RW_VERIFY((*reader)->image("observation.images.front", 49));
    QVERIFY((*reader)->cacheCounters().hits > 0);
}

void TestLoading::sequentialReadingDoesNotSeek()
{
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(m_reader->root(), {}, warnings);
    RW_VERIFY(reader);
    for (std::int64_t i = 0; i < 50; ++i) {
        RW_VERIFY((*reader)->image("observation.images.front", i));
    }
    // One file an episode: at most one seek each.
    QVERIFY2((*reader)->cacheCounters().seeks <= 6, fmt::format("{} seeks", (*reader)->cacheCounters().seeks).c_str());
}

void TestLoading::windowsAreClamped()
{
    SampleRequest request;
    request.columns = { { "observation.counter", { -2, -1, 0, 1, 30 } } };
    request.cameras = { { "observation.images.front", { -1, 0 } } };
    const auto sample = m_reader->sample(17, request); // first frame of episode 1
    RW_VERIFY(sample);
    const auto values = sample->columns.at("observation.counter").as<std::int64_t>();
    const auto counter = [](std::int64_t index) { return index * 1'000'003 - (std::int64_t { 1 } << 40); };
    QCOMPARE(std::vector<std::int64_t>(values.begin(), values.end()),
             (std::vector<std::int64_t> { counter(17), counter(17), counter(17), counter(18), counter(25) }));
    QCOMPARE(sample->columns.at("observation.counter").isPad, (std::vector<std::uint8_t> { 1, 1, 0, 0, 1 }));
    QCOMPARE(sample->cameras.at("observation.images.front").isPad, (std::vector<std::uint8_t> { 1, 0 }));
    QCOMPARE(sample->task, std::string("b"));
}

namespace rankwise::test {

int testLoading(int argc, char** argv)
{
    TestLoading test;
    return QTest::qExec(&test, argc, argv);
}

} // namespace rankwise::test

#include "loading.moc"
