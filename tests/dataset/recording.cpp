// Recording: what is written is read back, crashes and full disks cost the episode in progress alone.
// SPDX-License-Identifier: Apache-2.0
#include "dataset_fixture.h"

#include "backend/base/file.h"
#include "backend/data/dataset_check.h"
#include "backend/data/dataset_commands.h"
#include "backend/data/statistics.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <random>
#include <set>
#include <thread>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <QTemporaryDir>

using namespace rankwise;
using namespace rankwise::data;
using namespace rankwise::test;
namespace fs = std::filesystem;

namespace {

/// The program itself as a child; `output` gets the reading end of its standard output.
pid_t startChild(const char* mode, const fs::path& folder, int& output)
{
    int ends[2] {};
    if (::pipe(ends) != 0) {
        return -1;
    }
    const std::string path = folder.string();
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        ::execl("/proc/self/exe", "tst_dataset", mode, path.c_str(), nullptr);
        ::_exit(127);
    }
    ::close(ends[1]);
    output = ends[0];
    return child;
}

int statusOf(pid_t child)
{
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
}

} // namespace

class TestRecording : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void readsBackWhatWasWritten();
    void everyTypeRoundTrips_data();
    void everyTypeRoundTrips();
    void imageColumnsAreLossless();
    void statisticsFollowTheRules();
    void longEpisodesSampleFrames();
    void refusesWrongFrames_data();
    void refusesWrongFrames();
    void refusesWrongSpecs_data();
    void refusesWrongSpecs();
    void appendsAfterReopening();
    void appendsToForeignDataset();
    void discardsEpisodes();
    void oneWriterAtATime();
    void filesRollOverToNextChunk();
    void killedAtAnyMoment();
    void recoversEveryStageOfPublishing();
    void fileSizeLimitStopsCleanly();
    void fullDiskStopsCleanly();
    void memoryStaysConstant();
    void av1IsSelectable();
    void commandsAnswer();
};

void TestRecording::readsBackWhatWasWritten()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    RW_VERIFY(writer);
    RW_VERIFY(recordEpisode(**writer, 25, "press the button"));
    RW_VERIFY(recordEpisode(**writer, 1, "öffne den Topf"));
    RW_VERIFY(recordEpisode(**writer, 40, "press the button"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    QVERIFY2(warnings.empty(), warnings.empty() ? "" : warnings.front().message.c_str());
    QCOMPARE((*reader)->frameCount(), 66);
    QCOMPARE((*reader)->episodes().size(), 3u);
    QCOMPARE((*reader)->tasks(), (std::vector<std::string> { "press the button", "öffne den Topf" }));
    QCOMPARE((*reader)->episodes()[1].tasks, (std::vector<std::string> { "öffne den Topf" }));
    const std::string difference = differsFromRecording(**reader, true);
    QVERIFY2(difference.empty(), difference.c_str());
    const auto sample = (*reader)->sample(
        65, SampleRequest::forPolicy({ "observation.images.front" }, "observation.state", "action", 5));
    RW_VERIFY(sample);
    QCOMPARE(sample->frameIndex, 39);
    QCOMPARE(sample->timestamp, static_cast<float>(39.0 / 30.0));
    QCOMPARE(sample->columns.at("action").isPad, (std::vector<std::uint8_t> { 0, 1, 1, 1, 1 }));
    QVERIFY(!fs::exists(root / ".recording"));
}

void TestRecording::everyTypeRoundTrips_data()
{
    QTest::addColumn<int>("type");
    QTest::addColumn<QList<int>>("shape");
    for (const FeatureType type :
         { FeatureType::Bool, FeatureType::UInt8, FeatureType::Int8, FeatureType::UInt16, FeatureType::Int16,
           FeatureType::UInt32, FeatureType::Int32, FeatureType::UInt64, FeatureType::Int64, FeatureType::Float16,
           FeatureType::Float32, FeatureType::Float64 }) {
        for (const QList<int>& shape :
             { QList<int> { 1 }, QList<int> { 5 }, QList<int> { 2, 3 }, QList<int> { 2, 3, 2 } }) {
            QTest::addRow("%s %lld dimensions of %d", featureTypeName(type).data(),
                          static_cast<long long>(shape.size()), shape[0])
                << static_cast<int>(type) << shape;
        }
    }
}

void TestRecording::everyTypeRoundTrips()
{
    QFETCH(int, type);
    QFETCH(QList<int>, shape);
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec;
    spec.fps = 10;
    Feature feature = scalarFeature("value", static_cast<FeatureType>(type));
    feature.shape.assign(shape.begin(), shape.end());
    spec.features = { feature, scalarFeature("note", FeatureType::String) };
    std::vector<double> expected;
    auto writer = DatasetWriter::create(root, spec);
    RW_VERIFY(writer);
    for (int e = 0; e < 2; ++e) {
        RW_VERIFY((*writer)->beginEpisode());
        for (int i = 0; i < 4; ++i) {
            std::vector<double> values;
            for (std::int64_t k = 0; k < feature.width(); ++k) {
                values.push_back(feature.type == FeatureType::Bool ? static_cast<double>((i + k) % 2)
                                                                   : static_cast<double>(e * 50 + i * 7 + k));
            }
            expected.insert(expected.end(), values.begin(), values.end());
            FrameView frame;
            const std::string note = fmt::format("Bild {} ä", i);
            RW_VERIFY((*writer)->addFrame(frame.doubles("value", values).text("note", note)));
        }
        RW_VERIFY((*writer)->finishEpisode("task"));
    }
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, {}, warnings);
    RW_VERIFY(reader);
    const Column* column = (*reader)->column("value");
    QVERIFY(column != nullptr);
    ColumnWindow all;
    all.type = column->type;
    all.bytes = column->bytes;
    QCOMPARE(all.doubles(), expected);
    QCOMPARE((*reader)->column("note")->texts[6], std::string("Bild 2 ä"));
    const FeatureStatistics& s = (*reader)->statistics().at("value");
    QCOMPARE(static_cast<std::int64_t>(s.mean.size()), feature.width());
    QCOMPARE(s.max[0], feature.type == FeatureType::Bool ? 1.0 : 71.0);
}

void TestRecording::imageColumnsAreLossless()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec;
    spec.features = { cameraFeature("observation.images.a", FeatureType::Image, 23, 31),
                      cameraFeature("depth", FeatureType::Image, 17, 9, 1) };
    auto writer = DatasetWriter::create(root, spec);
    RW_VERIFY(writer);
    RW_VERIFY((*writer)->beginEpisode());
    std::mt19937 random(3);
    std::vector<std::vector<std::uint8_t>> colors;
    std::vector<std::vector<std::uint8_t>> grays;
    for (int i = 0; i < 9; ++i) {
        colors.emplace_back(23 * 31 * 3);
        grays.emplace_back(17 * 9);
        for (auto* picture : { &colors.back(), &grays.back() }) {
            std::generate(picture->begin(), picture->end(), [&] { return static_cast<std::uint8_t>(random()); });
        }
        FrameView frame;
        RW_VERIFY((*writer)->addFrame(frame.image("observation.images.a", colors.back()).image("depth", grays.back())));
    }
    RW_VERIFY((*writer)->finishEpisode("look"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    for (int i = 0; i < 9; ++i) {
        const auto color = (*reader)->image("observation.images.a", i);
        const auto gray = (*reader)->image("depth", i);
        RW_VERIFY(color);
        RW_VERIFY(gray);
        QVERIFY((*color)->pixels == colors[static_cast<std::size_t>(i)]);
        QVERIFY((*gray)->pixels == grays[static_cast<std::size_t>(i)]);
    }
}

void TestRecording::statisticsFollowTheRules()
{
    // Quantiles of 0 … 100 are the numbers themselves, and the population deviation is known.
    std::vector<double> values;
    for (int i = 100; i >= 0; --i) {
        values.push_back(i);
    }
    const FeatureStatistics exact = statisticsOf(values, 1, QuantileRule::Exact);
    QCOMPARE(exact.q01[0], 1.0);
    QCOMPARE(exact.q10[0], 10.0);
    QCOMPARE(exact.q50[0], 50.0);
    QCOMPARE(exact.q99[0], 99.0);
    QCOMPARE(exact.mean[0], 50.0);
    QVERIFY(std::abs(exact.std[0] - std::sqrt(850.0)) < 1e-12);
    const FeatureStatistics histogram = statisticsOf(values, 1, QuantileRule::Histogram);
    QVERIFY(std::abs(histogram.q50[0] - 50) <= 0.52);
    // A large offset keeps its variance.
    for (double& v : values) {
        v += 1e12;
    }
    QVERIFY(std::abs(statisticsOf(values, 1, QuantileRule::Exact).std[0] - std::sqrt(850.0)) < 1e-3);
    // Exact over the dataset: not the mean of the episodes' quantiles.
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec;
    spec.features = { scalarFeature("value", FeatureType::Float64) };
    auto writer = DatasetWriter::create(root, spec);
    RW_VERIFY(writer);
    std::vector<double> all;
    for (int e = 0; e < 3; ++e) {
        RW_VERIFY((*writer)->beginEpisode());
        for (int i = 0; i < 50; ++i) {
            const double value = e * e * 100 + std::sin(i * 12.9898) * 43.0;
            all.push_back(value);
            FrameView frame;
            RW_VERIFY((*writer)->addFrame(frame.number("value", value)));
        }
        RW_VERIFY((*writer)->finishEpisode("t"));
    }
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, {}, warnings);
    RW_VERIFY(reader);
    std::sort(all.begin(), all.end());
    const auto quantile = [&](double q) {
        const double at = q * 149;
        const auto low = static_cast<std::size_t>(at);
        return all[low] + (all[std::min<std::size_t>(low + 1, 149)] - all[low]) * (at - static_cast<double>(low));
    };
    const FeatureStatistics& s = (*reader)->statistics().at("value");
    QVERIFY(std::abs(s.q01[0] - quantile(0.01)) < 1e-9);
    QVERIFY(std::abs(s.q50[0] - quantile(0.5)) < 1e-9);
    QVERIFY(std::abs(s.q99[0] - quantile(0.99)) < 1e-9);
    QCOMPARE(s.count, 150);
}

void TestRecording::longEpisodesSampleFrames()
{
    QCOMPARE(sampledFrames(1), (std::vector<std::int64_t> { 0 }));
    QCOMPARE(sampledFrames(77).size(), 77u);
    QCOMPARE(sampledFrames(300).size(), 100u);
    QCOMPARE(sampledFrames(1000).size(), 177u);
    QCOMPARE(sampledFrames(5000).size(), 594u);
    QCOMPARE(sampledFrames(300).front(), 0);
    QCOMPARE(sampledFrames(300).back(), 299);
    QCOMPARE(sampledFrames(300)[1], 3); // 3.0202
    QCOMPARE(pictureStride(480, 640), 4);
    QCOMPARE(pictureStride(299, 200), 1);
    // 130 frames whose level is their number: only the sampled ones enter.
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec;
    spec.features = { cameraFeature("observation.images.a", FeatureType::Image, 8, 8) };
    auto writer = DatasetWriter::create(root, spec);
    RW_VERIFY(writer);
    RW_VERIFY((*writer)->beginEpisode());
    for (int i = 0; i < 130; ++i) {
        const std::vector<std::uint8_t> pixels(8 * 8 * 3, static_cast<std::uint8_t>(i));
        FrameView frame;
        RW_VERIFY((*writer)->addFrame(frame.image("observation.images.a", pixels)));
    }
    RW_VERIFY((*writer)->finishEpisode("t"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, {}, warnings);
    RW_VERIFY(reader);
    double sum = 0;
    for (const std::int64_t frame : sampledFrames(130)) {
        sum += static_cast<double>(frame);
    }
    const FeatureStatistics& s = (*reader)->statistics().at("observation.images.a");
    QCOMPARE(s.count, 100);
    QVERIFY(std::abs(s.mean[0] - sum / 100 / 255) < 1e-9);
    QVERIFY(s.camera);
}

void TestRecording::refusesWrongFrames_data()
{
    QTest::addColumn<int>("kind");
    QTest::addColumn<int>("code");
    QTest::newRow("feature missing") << 0 << static_cast<int>(Errc::FieldMissing);
    QTest::newRow("feature unknown") << 1 << static_cast<int>(Errc::FieldInvalid);
    QTest::newRow("too few values") << 2 << static_cast<int>(Errc::ShapeMismatch);
    QTest::newRow("picture of another size") << 3 << static_cast<int>(Errc::ShapeMismatch);
    QTest::newRow("given twice") << 4 << static_cast<int>(Errc::FieldInvalid);
    QTest::newRow("text for a number") << 5 << static_cast<int>(Errc::FieldInvalid);
    QTest::newRow("fraction for a whole number") << 6 << static_cast<int>(Errc::FieldInvalid);
    QTest::newRow("default column") << 7 << static_cast<int>(Errc::FieldInvalid);
}

void TestRecording::refusesWrongFrames()
{
    QFETCH(int, kind);
    QFETCH(int, code);
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    RW_VERIFY(writer);
    RW_VERIFY((*writer)->beginEpisode());
    const auto state = stateOf(0);
    const auto picture = pictureOf(0, 0, kHeight, kWidth);
    FrameView frame;
    frame.floats("action", state).boolean("next.done", false);
    frame.image("observation.images.wrist", picture);
    frame.image("observation.images.front", kind == 3 ? std::span(picture).first(100) : std::span(picture));
    if (kind != 0) {
        frame.floats("observation.state", kind == 2 ? std::span(state).first(6) : std::span(state));
    }
    switch (kind) {
    case 5:
        frame.text("observation.counter", "x");
        break;
    case 6:
        frame.number("observation.counter", 0.5);
        break;
    default:
        frame.integer("observation.counter", 1);
    }
    if (kind == 1) {
        frame.number("nothing", 1);
    } else if (kind == 4) {
        frame.floats("action", state);
    } else if (kind == 7) {
        frame.integer("index", 3);
    }
    const auto added = (*writer)->addFrame(frame);
    QVERIFY(!added);
    QCOMPARE(static_cast<int>(added.error().code), code);
    (*writer)->discardEpisode();
    RW_VERIFY(recordEpisode(**writer, 3, "t"));
}

void TestRecording::refusesWrongSpecs_data()
{
    QTest::addColumn<int>("kind");
    QTest::newRow("slash in the name") << 0;
    QTest::newRow("default column") << 1;
    QTest::newRow("twice") << 2;
    QTest::newRow("odd video") << 3;
    QTest::newRow("no frame rate") << 4;
    QTest::newRow("empty shape") << 5;
    QTest::newRow("folder in use") << 6;
}

void TestRecording::refusesWrongSpecs()
{
    QFETCH(int, kind);
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec = smallSpec();
    switch (kind) {
    case 0:
        spec.features[0].key = "a/b";
        break;
    case 1:
        spec.features[0].key = "timestamp";
        break;
    case 2:
        spec.features[0].key = "action";
        break;
    case 3:
        spec.features[4] = cameraFeature("observation.images.front", FeatureType::Video, 47, 64);
        break;
    case 4:
        spec.fps = 0;
        break;
    case 5:
        spec.features[0].shape.clear();
        break;
    default:
        fs::create_directories(root / "something");
    }
    const auto writer = DatasetWriter::create(root, spec);
    QVERIFY(!writer);
    QCOMPARE(writer.error().code, kind == 6 ? Errc::AlreadyExists : Errc::FieldInvalid);
    QVERIFY(!fs::exists(root / "meta"));
}

void TestRecording::appendsAfterReopening()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec = smallSpec();
    spec.episodeColumns = { scalarFeature("seed", FeatureType::Int64), scalarFeature("note", FeatureType::String) };
    {
        auto writer = DatasetWriter::create(root, spec);
        RW_VERIFY(writer);
        RW_VERIFY(recordEpisode(**writer, 8, "a"));
        RW_VERIFY((*writer)->beginEpisode());
        const auto picture = pictureOf(8, 0, kHeight, kWidth);
        const auto wrist = pictureOf(8, 1, kHeight, kWidth);
        const auto state = stateOf(8);
        const auto action = stateOf(9);
        FrameView frame;
        frame.floats("observation.state", state).floats("action", action).boolean("next.done", true);
        frame.integer("observation.counter", 8 * 1'000'003 - (std::int64_t { 1 } << 40));
        frame.image("observation.images.front", picture).image("observation.images.wrist", wrist);
        RW_VERIFY((*writer)->addFrame(frame));
        RW_VERIFY((*writer)->finishEpisode("a", { { "seed", "41" }, { "note", "\"gut\"" } }));
        RW_VERIFY((*writer)->close());
    }
    RecoveryReport report;
    auto writer = DatasetWriter::openForAppend(root, {}, &report);
    RW_VERIFY(writer);
    QVERIFY(report.actions.empty());
    QCOMPARE(report.episodes, 2);
    RW_VERIFY(recordEpisode(**writer, 5, "b"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    QVERIFY2(warnings.empty(), warnings.empty() ? "" : warnings.front().message.c_str());
    QCOMPARE((*reader)->frameCount(), 14);
    QCOMPARE((*reader)->episodes()[1].extra.at("seed"), std::string("41"));
    QCOMPARE((*reader)->episodes()[1].extra.at("note"), std::string("\"gut\""));
    const std::string difference = differsFromRecording(**reader, true);
    QVERIFY2(difference.empty(), difference.c_str());
    // Camera statistics go on exactly: all 14 frames are counted.
    QCOMPARE((*reader)->statistics().at("observation.images.front").count, 14);
}

void TestRecording::appendsToForeignDataset()
{
    const QTemporaryDir folder;
    int cases = 0;
    for (const auto& entry : fs::directory_iterator(goldenDatasets())) {
        const std::string name = entry.path().filename().string();
        std::vector<Warning> warnings;
        if (!entry.is_directory() || name == "malformed" || !readDatasetInfo(entry.path(), warnings)
            || readDatasetInfo(entry.path(), warnings)->version != DatasetVersion::V30) {
            continue;
        }
        ++cases;
        const fs::path root = fs::path(folder.path().toStdString()) / name;
        fs::copy(entry.path(), root, fs::copy_options::recursive);
        const auto before = DatasetReader::open(root, {}, warnings);
        RW_VERIFY(before);
        auto writer = DatasetWriter::openForAppend(root, {});
        RW_VERIFY(writer);
        RW_VERIFY((*writer)->beginEpisode());
        std::vector<std::vector<double>> numbers;
        std::vector<std::vector<std::uint8_t>> pictures;
        numbers.reserve(64);
        pictures.reserve(64);
        FrameView frame;
        for (const Feature& feature : (*writer)->info().features) {
            const auto& defaults = defaultFeatures();
            if (std::any_of(defaults.begin(), defaults.end(), [&](const Feature& d) { return d.key == feature.key; })) {
                continue;
            }
            if (feature.isCamera()) {
                pictures.emplace_back(static_cast<std::size_t>(feature.width()), 90);
                frame.image(feature.key, pictures.back());
            } else {
                numbers.emplace_back(static_cast<std::size_t>(feature.width()), 1.0);
                frame.doubles(feature.key, numbers.back());
            }
        }
        for (int i = 0; i < 4; ++i) {
            RW_VERIFY((*writer)->addFrame(frame));
        }
        RW_VERIFY((*writer)->finishEpisode("a new task"));
        RW_VERIFY((*writer)->close());
        std::vector<Warning> after;
        const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, after);
        RW_VERIFY(reader);
        QVERIFY2(after.empty(), after.empty() ? "" : after.front().message.c_str());
        QCOMPARE((*reader)->frameCount(), (*before)->frameCount() + 4);
        QCOMPARE((*reader)->tasks().back(), std::string("a new task"));
        const auto stored = (*reader)->episodeStatistics(static_cast<std::int64_t>((*reader)->episodes().size()) - 1);
        RW_VERIFY(stored);
        QCOMPARE(stored->at("action").mean[0], 1.0);
    }
    QVERIFY(cases > 0);
}

void TestRecording::discardsEpisodes()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    RW_VERIFY(writer);
    RW_VERIFY((*writer)->beginEpisode());
    (*writer)->discardEpisode();
    RW_VERIFY((*writer)->beginEpisode());
    const auto empty = (*writer)->finishEpisode("t");
    QVERIFY(!empty);
    QCOMPARE(empty.error().code, Errc::FieldInvalid);
    RW_VERIFY(recordEpisode(**writer, 4, "t"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    QCOMPARE((*reader)->frameCount(), 4);
}

void TestRecording::oneWriterAtATime()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    RW_VERIFY(writer);
    const auto second = DatasetWriter::openForAppend(root, {});
    QVERIFY(!second);
    QCOMPARE(second.error().code, Errc::AlreadyExists);
    RW_VERIFY(recordEpisode(**writer, 4, "t"));
}

void TestRecording::filesRollOverToNextChunk()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec;
    spec.features = { scalarFeature("value", FeatureType::Int64) };
    {
        auto writer = DatasetWriter::create(root, spec);
        RW_VERIFY(writer);
    }
    // Three files a chunk instead of a thousand.
    std::string info = readFile(root / "meta" / "info.json").value();
    info.replace(info.find("\"chunks_size\": 1000"), 19, "\"chunks_size\": 3");
    RW_VERIFY(writeFileAtomically(root / "meta" / "info.json", info));
    auto writer = DatasetWriter::openForAppend(root, {});
    RW_VERIFY(writer);
    for (int e = 0; e < 230; ++e) {
        RW_VERIFY((*writer)->beginEpisode());
        FrameView frame;
        RW_VERIFY((*writer)->addFrame(frame.integer("value", e)));
        RW_VERIFY((*writer)->finishEpisode("t"));
    }
    RW_VERIFY((*writer)->close());
    QVERIFY(fs::exists(root / "data" / "chunk-076" / "file-001.parquet"));
    QVERIFY(fs::exists(root / "meta" / "episodes" / "chunk-000" / "file-002.parquet"));
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, {}, warnings);
    RW_VERIFY(reader);
    QVERIFY2(warnings.empty(), warnings.empty() ? "" : warnings.front().message.c_str());
    QCOMPARE((*reader)->frameCount(), 230);
    QCOMPARE(reinterpret_cast<const std::int64_t*>((*reader)->column("value")->bytes.data())[229], 229);
}

void TestRecording::killedAtAnyMoment()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    {
        auto writer = DatasetWriter::create(root, smallSpec());
        RW_VERIFY(writer);
    }
    std::mt19937 random(20240607);
    std::int64_t safe = 0;
    const int rounds =
        std::getenv("RANKWISE_KILL_ROUNDS") != nullptr ? std::atoi(std::getenv("RANKWISE_KILL_ROUNDS")) : 25;
    for (int round = 0; round < rounds; ++round) {
        int output = -1;
        const pid_t child = startChild("--record", root, output);
        QVERIFY(child > 0);
        // Some episodes run through, then the process dies at a random moment of the next.
        char byte = 0;
        for (int i = 0; i < 1 + round % 3 && ::read(output, &byte, 1) == 1; ++i) {
            ++safe;
        }
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
        ::kill(child, SIGKILL);
        while (::read(output, &byte, 1) == 1) {
            ++safe;
        }
        ::close(output);
        const int status = statusOf(child);
        QVERIFY2(WIFSIGNALED(status), "the recorder ended by itself");
        // As it lies there, before any repair.
        std::vector<Warning> warnings;
        const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
        RW_VERIFY(reader);
        const auto episodes = static_cast<std::int64_t>((*reader)->episodes().size());
        QVERIFY2(episodes == safe || episodes == safe + 1,
                 fmt::format("{} episodes, {} were safe", episodes, safe).c_str());
        safe = episodes;
        const std::string difference = differsFromRecording(**reader, false);
        QVERIFY2(difference.empty(), difference.c_str());
    }
    RecoveryReport report;
    auto writer = DatasetWriter::openForAppend(root, {}, &report);
    RW_VERIFY(writer);
    QCOMPARE(report.episodes, safe);
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    QVERIFY2(warnings.empty(), warnings.empty() ? "" : warnings.front().message.c_str());
    const std::string difference = differsFromRecording(**reader, true);
    QVERIFY2(difference.empty(), difference.c_str());
}

void TestRecording::recoversEveryStageOfPublishing()
{
    // A whole dataset of two episodes, and the same before the second: every mixture that publishing passes through.
    const QTemporaryDir folder;
    const fs::path base = fs::path(folder.path().toStdString());
    const fs::path full = base / "full";
    {
        auto writer = DatasetWriter::create(full, smallSpec());
        RW_VERIFY(writer);
        RW_VERIFY(recordEpisode(**writer, 6, "a"));
        fs::copy(full, base / "first", fs::copy_options::recursive);
        RW_VERIFY(recordEpisode(**writer, 7, "b"));
    }
    const std::vector<std::string> order { "videos/observation.images.front/chunk-000/file-001.mp4",
                                           "videos/observation.images.wrist/chunk-000/file-001.mp4",
                                           "data/chunk-000/file-001.parquet",
                                           "meta/tasks.parquet",
                                           "meta/episodes/chunk-000/file-000.parquet",
                                           "meta/rankwise_levels.json",
                                           "meta/stats.json",
                                           "meta/info.json" };
    const std::size_t committed = 5; // the episode table decides
    for (std::size_t stage = 0; stage <= order.size(); ++stage) {
        const fs::path root = base / fmt::format("stage-{}", stage);
        fs::copy(base / "first", root, fs::copy_options::recursive);
        for (std::size_t i = 0; i < stage; ++i) {
            fs::copy_file(full / order[i], root / order[i], fs::copy_options::overwrite_existing);
        }
        std::vector<Warning> warnings;
        RW_VERIFY(DatasetReader::open(root, { .verify = Verify::Frames }, warnings));
        RecoveryReport report;
        auto writer = DatasetWriter::openForAppend(root, {}, &report);
        RW_VERIFY(writer);
        QCOMPARE(report.episodes, stage >= committed ? 2 : 1);
        RW_VERIFY(recordEpisode(**writer, 5, "c"));
        RW_VERIFY((*writer)->close());
        std::vector<Warning> after;
        const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, after);
        RW_VERIFY(reader);
        QVERIFY2(after.empty(), after.empty() ? "" : after.front().message.c_str());
        const std::string difference = differsFromRecording(**reader, true);
        QVERIFY2(difference.empty(), difference.c_str());
        QCOMPARE((*reader)->statistics().at("observation.images.front").count, (*reader)->frameCount());
    }
}

void TestRecording::fileSizeLimitStopsCleanly()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    auto writer = DatasetWriter::create(root, smallSpec());
    RW_VERIFY(writer);
    RW_VERIFY(recordEpisode(**writer, 5, "t"));
    rlimit before {};
    ::getrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, SIG_IGN);
    // Every limit fails in another file: videos, levels, data, tables.
    for (const rlim_t limit : { 1'000u, 5'000u, 20'000u, 60'000u, 120'000u }) {
        const rlimit small { limit, before.rlim_max };
        ::setrlimit(RLIMIT_FSIZE, &small);
        const auto receipt = recordEpisode(**writer, 60, "t");
        ::setrlimit(RLIMIT_FSIZE, &before);
        QVERIFY(!receipt);
        QVERIFY2(receipt.error().code == Errc::DiskFull || receipt.error().code == Errc::IoFailed,
                 receipt.error().describe().c_str());
        std::vector<Warning> warnings;
        const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
        RW_VERIFY(reader);
        QCOMPARE((*reader)->episodes().size(), 1u);
    }
    RW_VERIFY(recordEpisode(**writer, 5, "t"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    QCOMPARE((*reader)->episodes().size(), 2u);
}

void TestRecording::fullDiskStopsCleanly()
{
    const QTemporaryDir folder;
    int output = -1;
    const pid_t child = startChild("--fill", fs::path(folder.path().toStdString()), output);
    const int status = statusOf(child);
    ::close(output);
    QVERIFY(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        QSKIP("this system does not permit a small file system of one's own");
    }
    QCOMPARE(WEXITSTATUS(status), 0);
}

void TestRecording::memoryStaysConstant()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec;
    spec.features = { cameraFeature("observation.images.a", FeatureType::Video, 240, 320),
                      scalarFeature("value", FeatureType::Float32) };
    auto writer = DatasetWriter::create(root, spec);
    RW_VERIFY(writer);
    const auto residentKb = [] {
        rusage usage {};
        ::getrusage(RUSAGE_SELF, &usage);
        return usage.ru_maxrss;
    };
    const auto pixels = pictureOf(1, 0, 240, 320);
    const auto record = [&](int frames) -> Result<EpisodeReceipt> {
        RW_TRY_VOID((*writer)->beginEpisode());
        for (int i = 0; i < frames; ++i) {
            FrameView frame;
            RW_TRY_VOID((*writer)->addFrame(frame.image("observation.images.a", pixels).number("value", i)));
        }
        return (*writer)->finishEpisode("t");
    };
    RW_VERIFY(record(60));
    const long before = residentKb();
    RW_VERIFY(record(600));
    // 600 frames are 138 MB as pixels.
    QVERIFY2(residentKb() - before < 20'000, fmt::format("{} kB more", residentKb() - before).c_str());
}

void TestRecording::av1IsSelectable()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    DatasetSpec spec = smallSpec();
    spec.features[4] = cameraFeature("observation.images.front", FeatureType::Video, 64, 96);
    spec.features[5] = cameraFeature("observation.images.wrist", FeatureType::Video, 64, 96);
    spec.video.codec = VideoCodec::Av1;
    auto writer = DatasetWriter::create(root, spec);
    if (!writer && writer.error().code == Errc::Unsupported) {
        QSKIP("FFmpeg was built without SVT-AV1");
    }
    RW_VERIFY(writer);
    RW_VERIFY((*writer)->beginEpisode());
    for (std::int64_t i = 0; i < 12; ++i) {
        const auto state = stateOf(i);
        const auto front = pictureOf(i, 0, 64, 96);
        FrameView frame;
        frame.floats("observation.state", state)
            .floats("action", state)
            .boolean("next.done", false)
            .integer("observation.counter", i);
        RW_VERIFY((*writer)->addFrame(
            frame.image("observation.images.front", front).image("observation.images.wrist", front)));
    }
    RW_VERIFY((*writer)->finishEpisode("t"));
    RW_VERIFY((*writer)->close());
    std::vector<Warning> warnings;
    const auto reader = DatasetReader::open(root, { .verify = Verify::Frames }, warnings);
    RW_VERIFY(reader);
    QVERIFY2(warnings.empty(), warnings.empty() ? "" : warnings.front().message.c_str());
    for (std::int64_t i = 0; i < 12; ++i) {
        const auto image = (*reader)->image("observation.images.front", i);
        RW_VERIFY(image);
        const auto expected = pictureOf(i, 0, 64, 96);
        double squares = 0;
        for (std::size_t k = 0; k < expected.size(); ++k) {
            const double d = static_cast<double>(expected[k]) - static_cast<double>((*image)->pixels[k]);
            squares += d * d;
        }
        QVERIFY(std::sqrt(squares / static_cast<double>(expected.size())) < 20);
    }
}

void TestRecording::commandsAnswer()
{
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    {
        auto writer = DatasetWriter::create(root, smallSpec());
        RW_VERIFY(writer);
        RW_VERIFY(recordEpisode(**writer, 9, "press the button"));
    }
    fs::create_directories(root / ".recording" / "episode");
    RW_VERIFY(writeFileAtomically(root / ".recording" / "episode" / "x.mp4", "half"));
    const auto check = datasetCheckCommand({ .path = root, .repair = true });
    RW_VERIFY(check);
    QVERIFY(check->ok);
    const Json report = Json::parse(check->json);
    QCOMPARE(report.at("verdict").get<std::string>(), std::string("open"));
    QCOMPARE(report.at("frames").get<int>(), 9);
    QCOMPARE(report.at("repairs").size(), 1u);
    const auto info = datasetInfoCommand({ .path = root, .episodes = true });
    RW_VERIFY(info);
    QCOMPARE(Json::parse(info->json).at("episode_list")[0].at("frames").get<int>(), 9);
    QVERIFY(info->text.find("press the button") != std::string::npos);
    const auto stats = datasetStatsCommand({ .path = root, .write = true });
    RW_VERIFY(stats);
    QVERIFY(Json::parse(stats->json).at("stats").contains("observation.images.front"));
    const auto convert = datasetConvertCommand({ .path = root, .out = root.string() + "-21", .to = "v2.1" });
    RW_VERIFY(convert);
    QCOMPARE(Json::parse(convert->json).at("videos_copied").get<int>(), 2);
    const auto wrong = datasetConvertCommand({ .path = root, .out = root.string() + "-x", .to = "v9" });
    QVERIFY(!wrong);
    QCOMPARE(wrong.error().code, Errc::UsageInvalid);
    fs::remove(root / "data" / "chunk-000" / "file-000.parquet");
    const auto refused = datasetCheckCommand({ .path = root });
    RW_VERIFY(refused);
    QVERIFY(!refused->ok);
    QCOMPARE(Json::parse(refused->json).at("error").at("code").get<std::string>(), std::string("FileNotFound"));
}

namespace rankwise::test {

int testRecording(int argc, char** argv)
{
    TestRecording test;
    return QTest::qExec(&test, argc, argv);
}

} // namespace rankwise::test

#include "recording.moc"
