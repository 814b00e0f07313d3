// Datasets that lerobot wrote, against what lerobot's loader returned; and broken ones, against what is expected of a
// careful reader. Cases are discovered.
// SPDX-License-Identifier: Apache-2.0
#include "dataset_fixture.h"

#include "backend/base/file.h"
#include "backend/data/dataset_check.h"
#include "backend/data/dataset_convert.h"
#include "backend/data/statistics.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <QTemporaryDir>

using namespace rankwise;
using namespace rankwise::data;
using namespace rankwise::test;
namespace fs = std::filesystem;

namespace {

constexpr double kPixelTolerance = 2.01; // of 255, between two decoders
constexpr double kMeanTolerance = 0.004;

/// One picture against its digest; empty when equal.
std::string differsFromDigest(const Image& image, const Json& digest)
{
    const auto shape = digest.at("shape_chw").get<std::vector<int>>();
    if (image.channels != shape[0] || image.height != shape[1] || image.width != shape[2]) {
        return "another shape";
    }
    const auto channels = static_cast<std::size_t>(image.channels);
    const std::size_t count = image.pixels.size() / channels;
    for (std::size_t c = 0; c < channels; ++c) {
        double sum = 0;
        double squares = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const double v = image.pixels[i * channels + c] / 255.0;
            sum += v;
            squares += v * v;
        }
        const double mean = sum / static_cast<double>(count);
        const double deviation = std::sqrt(std::max(0.0, squares / static_cast<double>(count) - mean * mean));
        if (std::abs(mean - digest["mean_rgb"][c].get<double>()) > kMeanTolerance
            || std::abs(deviation - digest["std_rgb"][c].get<double>()) > kMeanTolerance) {
            return fmt::format("channel {}: mean {} deviation {}", c, mean, deviation);
        }
    }
    for (const Json& pixel : digest.at("pixels_xy_rgb")) {
        const auto x = pixel[0].get<std::size_t>();
        const auto y = pixel[1].get<std::size_t>();
        for (std::size_t c = 0; c < channels; ++c) {
            const double ours = image.pixels[(y * static_cast<std::size_t>(image.width) + x) * channels + c];
            if (std::abs(ours - pixel[2][c].get<double>()) > kPixelTolerance) {
                return fmt::format("pixel {}, {} channel {}: {} and {}", x, y, c, ours, pixel[2][c].dump());
            }
        }
    }
    return {};
}

void flattenNumbers(const Json& json, std::vector<double>& values)
{
    if (json.is_array()) {
        for (const Json& item : json) {
            flattenNumbers(item, values);
        }
    } else {
        values.push_back(json.is_boolean() ? (json.get<bool>() ? 1.0 : 0.0) : json.get<double>());
    }
}

bool near(double a, double b, double relative)
{
    return std::abs(a - b) <= relative * std::max({ 1.0, std::abs(a), std::abs(b) })
        || (std::isnan(a) && std::isnan(b));
}

std::string differsFromNumbers(const std::vector<double>& ours, const Json& expected, double relative = 1e-6)
{
    std::vector<double> theirs;
    flattenNumbers(expected, theirs);
    if (ours.size() != theirs.size()) {
        return fmt::format("{} values instead of {}", ours.size(), theirs.size());
    }
    for (std::size_t i = 0; i < ours.size(); ++i) {
        if (!near(ours[i], theirs[i], relative)) {
            return fmt::format("value {}: {} instead of {}", i, ours[i], theirs[i]);
        }
    }
    return {};
}

std::shared_ptr<const DatasetReader> openOrFail(const fs::path& path, std::vector<Warning>& warnings)
{
    auto reader = DatasetReader::open(path, { .verify = Verify::Frames }, warnings);
    if (!reader) {
        QTest::qFail(reader.error().describe().c_str(), __FILE__, __LINE__);
        return nullptr;
    }
    return *reader;
}

} // namespace

class TestGolden : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void findsCases();
    void itemsEqual_data();
    void itemsEqual();
    void windowsEqual_data();
    void windowsEqual();
    void tablesEqual_data();
    void tablesEqual();
    void statisticsEqual_data();
    void statisticsEqual();
    void convertsThereAndBack_data();
    void convertsThereAndBack();
    void malformed_data();
    void malformed();
    void truncatedFilesAreRefused();

private:
    static void addCases();
    static Json expectedOf(const QString& name);
};

void TestGolden::addCases()
{
    QTest::addColumn<QString>("name");
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(goldenDatasets())) {
        const std::string file = entry.path().filename().string();
        if (file.ends_with(".expected.json")) {
            names.push_back(file.substr(0, file.size() - std::string_view(".expected.json").size()));
        }
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        QTest::newRow(name.c_str()) << QString::fromStdString(name);
    }
}

Json TestGolden::expectedOf(const QString& name)
{
    return Json::parse(readFile(goldenDatasets() / (name.toStdString() + ".expected.json")).value());
}

void TestGolden::findsCases()
{
    int datasets = 0;
    for (const auto& entry : fs::directory_iterator(goldenDatasets())) {
        datasets += entry.path().filename().string().ends_with(".expected.json") ? 1 : 0;
    }
    QVERIFY2(datasets > 0, "no golden dataset was found");
}

void TestGolden::itemsEqual_data()
{
    addCases();
}

void TestGolden::itemsEqual()
{
    QFETCH(QString, name);
    const Json expected = expectedOf(name);
    std::vector<Warning> warnings;
    const auto reader = openOrFail(goldenDatasets() / name.toStdString(), warnings);
    QVERIFY(reader != nullptr);
    QVERIFY2(warnings.empty(), warnings.empty() ? "" : warnings.front().message.c_str());
    QCOMPARE(reader->frameCount(), expected.at("length").get<std::int64_t>());
    QVERIFY(!expected.at("items").empty());
    for (const Json& entry : expected.at("items")) {
        const auto index = entry.at("index").get<std::int64_t>();
        for (const auto& [key, value] : entry.at("item").items()) {
            std::string difference;
            if (key == "task") {
                const auto sample = reader->sample(index, {});
                RW_VERIFY(sample);
                difference = sample->task == value.get<std::string>() ? "" : "another task";
            } else if (const Feature* feature = reader->info().find(key); feature != nullptr && feature->isCamera()) {
                const auto image = reader->image(key, index);
                RW_VERIFY(image);
                difference = differsFromDigest(**image, value);
            } else {
                const auto sample = reader->sample(index, { .columns = { { key, { 0 } } }, .cameras = {} });
                RW_VERIFY(sample);
                difference = differsFromNumbers(sample->columns.at(key).doubles(), value);
            }
            QVERIFY2(difference.empty(), fmt::format("frame {} {}: {}", index, key, difference).c_str());
        }
    }
}

void TestGolden::windowsEqual_data()
{
    addCases();
}

void TestGolden::windowsEqual()
{
    QFETCH(QString, name);
    const Json expected = expectedOf(name);
    std::vector<Warning> warnings;
    const auto reader = openOrFail(goldenDatasets() / name.toStdString(), warnings);
    QVERIFY(reader != nullptr);
    SampleRequest request;
    for (const auto& [key, seconds] : expected.at("delta_timestamps").items()) {
        const auto offsets = SampleRequest::offsetsFromSeconds(seconds.get<std::vector<double>>(), reader->info().fps);
        RW_VERIFY(offsets);
        auto& list = reader->info().find(key)->isCamera() ? request.cameras : request.columns;
        list.push_back({ key, *offsets });
    }
    QVERIFY(!expected.at("windows").empty());
    for (const Json& window : expected.at("windows")) {
        const auto sample = reader->sample(window.at("index").get<std::int64_t>(), request);
        RW_VERIFY(sample);
        QCOMPARE(sample->task, window.at("task").get<std::string>());
        for (const auto& [key, ours] : sample->columns) {
            const std::string difference = differsFromNumbers(ours.doubles(), window.at(key));
            QVERIFY2(difference.empty(), fmt::format("{}: {}", key, difference).c_str());
            QCOMPARE(std::vector<bool>(ours.isPad.begin(), ours.isPad.end()),
                     window.at(key + "_is_pad").get<std::vector<bool>>());
        }
        for (const auto& [key, ours] : sample->cameras) {
            QCOMPARE(std::vector<bool>(ours.isPad.begin(), ours.isPad.end()),
                     window.at(key + "_is_pad").get<std::vector<bool>>());
            for (std::size_t t = 0; t < ours.frames.size(); ++t) {
                const Json& digests = window.at(key);
                const std::string difference =
                    differsFromDigest(*ours.frames[t], digests.is_array() ? digests[t] : digests);
                QVERIFY2(difference.empty(), fmt::format("{} step {}: {}", key, t, difference).c_str());
            }
        }
    }
}

void TestGolden::tablesEqual_data()
{
    addCases();
}

void TestGolden::tablesEqual()
{
    QFETCH(QString, name);
    const Json expected = expectedOf(name);
    std::vector<Warning> warnings;
    const auto reader = openOrFail(goldenDatasets() / name.toStdString(), warnings);
    QVERIFY(reader != nullptr);
    QCOMPARE(static_cast<std::int64_t>(reader->episodes().size()), expected.at("num_episodes").get<std::int64_t>());
    QCOMPARE(reader->info().fps, expected.at("fps").get<std::int64_t>());
    QCOMPARE(reader->tasks().size(), expected.at("tasks").size());
    for (const auto& [index, task] : expected.at("tasks").items()) {
        QCOMPARE(reader->tasks().at(std::stoul(index)), task.get<std::string>());
    }
    for (std::size_t e = 0; e < reader->episodes().size(); ++e) {
        const EpisodeInfo& episode = reader->episodes()[e];
        const Json& row = expected.at("episode_rows")[e];
        QCOMPARE(episode.fromIndex, expected.at("episodes_from_to")[e][0].get<std::int64_t>());
        QCOMPARE(episode.toIndex, expected.at("episodes_from_to")[e][1].get<std::int64_t>());
        QCOMPARE(episode.length, row.at("length").get<std::int64_t>());
        QCOMPARE(episode.tasks, row.at("tasks").get<std::vector<std::string>>());
        for (const VideoSpan& span : episode.videos) {
            if (!row.contains("videos/" + span.key + "/file_index")) {
                continue;
            }
            QCOMPARE(span.fileIndex, row.at("videos/" + span.key + "/file_index").get<std::int64_t>());
            QCOMPARE(span.chunkIndex, row.at("videos/" + span.key + "/chunk_index").get<std::int64_t>());
            QVERIFY(near(span.fromTimestamp, row.at("videos/" + span.key + "/from_timestamp").get<double>(), 1e-6));
            QVERIFY(near(span.toTimestamp, row.at("videos/" + span.key + "/to_timestamp").get<double>(), 1e-6));
        }
    }
}

void TestGolden::statisticsEqual_data()
{
    addCases();
}

void TestGolden::statisticsEqual()
{
    QFETCH(QString, name);
    const Json expected = expectedOf(name);
    std::vector<Warning> warnings;
    const auto reader = openOrFail(goldenDatasets() / name.toStdString(), warnings);
    QVERIFY(reader != nullptr);
    const auto compare = [](const FeatureStatistics& ours, const Json& theirs, double relative) {
        std::string difference;
        for (const auto& [key, values] : { std::pair { "min", &ours.min },
                                           { "max", &ours.max },
                                           { "mean", &ours.mean },
                                           { "std", &ours.std },
                                           { "q01", &ours.q01 },
                                           { "q50", &ours.q50 },
                                           { "q99", &ours.q99 } }) {
            if (difference.empty() && theirs.contains(key)) {
                difference = differsFromNumbers(*values, theirs.at(key), relative);
                difference = difference.empty() ? "" : fmt::format("{} {}", key, difference);
            }
        }
        return difference;
    };
    // As stored, read back.
    for (const auto& [key, theirs] : expected.at("stats").items()) {
        QVERIFY2(reader->statistics().contains(key), key.c_str());
        const FeatureStatistics& ours = reader->statistics().at(key);
        const std::string difference = compare(ours, theirs, 1e-5);
        QVERIFY2(difference.empty(), fmt::format("{}: {}", key, difference).c_str());
        QCOMPARE(ours.count, theirs.at("count")[0].get<std::int64_t>());
    }
    // Computed here, per episode by lerobot's rule, against what lerobot computed for each episode.
    for (const EpisodeInfo& episode : reader->episodes()) {
        const auto stored = reader->episodeStatistics(episode.index);
        RW_VERIFY(stored);
        QVERIFY(!stored->empty());
        const auto computed = computeEpisodeStatistics(*reader, episode.index, { .rule = QuantileRule::Histogram });
        RW_VERIFY(computed);
        for (const auto& [key, theirs] : *stored) {
            const FeatureStatistics& ours = computed->at(key);
            const bool video = reader->info().find(key)->type == FeatureType::Video;
            QCOMPARE(ours.mean.size(), theirs.mean.size());
            for (std::size_t d = 0; d < theirs.mean.size(); ++d) {
                const double range = std::max(theirs.max[d] - theirs.min[d], 1e-6);
                // Videos: lerobot's numbers are of the pictures before encoding.
                const double relative = video ? 0.03 : 1e-6;
                QVERIFY2(near(ours.mean[d], theirs.mean[d], relative), key.c_str());
                QVERIFY2(video || near(ours.min[d], theirs.min[d], relative), key.c_str());
                QVERIFY2(video || near(ours.max[d], theirs.max[d], relative), key.c_str());
                // lerobot 0.4 squares 8-bit pixels in 8 bits, and its counters in single precision.
                if (!theirs.camera && key != "observation.counter") {
                    QVERIFY2(near(ours.std[d], theirs.std[d], 1e-4), key.c_str());
                }
                if (theirs.hasQuantiles() && !video && key != "observation.counter") {
                    for (const auto& [a, b] : { std::pair { &ours.q01, &theirs.q01 },
                                                { &ours.q10, &theirs.q10 },
                                                { &ours.q50, &theirs.q50 },
                                                { &ours.q90, &theirs.q90 },
                                                { &ours.q99, &theirs.q99 } }) {
                        QVERIFY2(std::abs((*a)[d] - (*b)[d]) <= range * 2.0 / 5000 + 1e-7,
                                 fmt::format("{} quantile {} instead of {}", key, (*a)[d], (*b)[d]).c_str());
                    }
                }
            }
        }
    }
}

void TestGolden::convertsThereAndBack_data()
{
    addCases();
}

void TestGolden::convertsThereAndBack()
{
    QFETCH(QString, name);
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString());
    std::vector<Warning> warnings;
    const auto original = openOrFail(goldenDatasets() / name.toStdString(), warnings);
    QVERIFY(original != nullptr);
    const DatasetVersion other =
        original->info().version == DatasetVersion::V30 ? DatasetVersion::V21 : DatasetVersion::V30;
    const auto there = convertDataset(original->root(), root / "there", other);
    RW_VERIFY(there);
    QCOMPARE(there->videosEncoded, 0);
    const auto back = convertDataset(root / "there", root / "back", original->info().version);
    RW_VERIFY(back);
    for (const char* step : { "there", "back" }) {
        std::vector<Warning> stepWarnings;
        const auto reader = openOrFail(root / step, stepWarnings);
        QVERIFY(reader != nullptr);
        QVERIFY2(stepWarnings.empty(), stepWarnings.empty() ? "" : stepWarnings.front().message.c_str());
        QCOMPARE(reader->frameCount(), original->frameCount());
        QCOMPARE(reader->tasks(), original->tasks());
        for (const Feature& feature : original->info().features) {
            if (feature.isCamera()) {
                for (std::int64_t row = 0; row < reader->frameCount(); ++row) {
                    const auto a = original->image(feature.key, row);
                    const auto b = reader->image(feature.key, row);
                    RW_VERIFY(a);
                    RW_VERIFY(b);
                    QVERIFY2((*a)->pixels == (*b)->pixels, fmt::format("{} frame {}", feature.key, row).c_str());
                }
            } else {
                QVERIFY2(original->column(feature.key)->bytes == reader->column(feature.key)->bytes,
                         feature.key.c_str());
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- malformed

void TestGolden::malformed_data()
{
    QTest::addColumn<QString>("name");
    QTest::addColumn<QString>("base");
    QTest::addColumn<QString>("expect");
    QTest::addColumn<QStringList>("remove");
    const Json json = Json::parse(readFile(goldenDatasets() / "malformed" / "cases.json").value());
    for (const Json& entry : json.at("cases")) {
        QStringList remove;
        for (const Json& path : entry.at("remove")) {
            remove << QString::fromStdString(path.get<std::string>());
        }
        const auto name = entry.at("name").get<std::string>();
        QTest::newRow(name.c_str()) << QString::fromStdString(name)
                                    << QString::fromStdString(entry.at("base").get<std::string>())
                                    << QString::fromStdString(entry.at("expect").get<std::string>()) << remove;
    }
}

void TestGolden::malformed()
{
    QFETCH(QString, name);
    QFETCH(QString, base);
    QFETCH(QString, expect);
    QFETCH(QStringList, remove);
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    fs::copy(goldenDatasets() / base.toStdString(), root, fs::copy_options::recursive);
    for (const QString& path : remove) {
        QVERIFY(fs::remove(root / path.toStdString()));
    }
    const fs::path overlay = goldenDatasets() / "malformed" / name.toStdString();
    if (fs::exists(overlay)) {
        fs::copy(overlay, root, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    }
    // The quick look at opening and the deep check must agree.
    for (const Verify verify : { Verify::Files, Verify::Frames }) {
        const auto report = checkDataset(root, verify);
        RW_VERIFY(report);
        QString found = QString::fromUtf8(verdictName(report->verdict).data());
        const std::string said = report->error ? report->error->describe()
            : report->problems.empty()         ? std::string("nothing")
                                               : report->problems.front().message;
        QVERIFY2(found == expect,
                 fmt::format("{} instead of {}: {}", found.toStdString(), expect.toStdString(), said).c_str());
        if (report->error) {
            QVERIFY2(report->error->code != Errc::Internal && !report->error->subject.empty(), said.c_str());
        }
    }
}

void TestGolden::truncatedFilesAreRefused()
{
    const fs::path source = goldenDatasets() / "v30_h264";
    if (!fs::exists(source)) {
        QSKIP("the golden folder has no v30_h264");
    }
    const QTemporaryDir folder;
    const fs::path root = fs::path(folder.path().toStdString()) / "dataset";
    fs::copy(source, root, fs::copy_options::recursive);
    const std::string info = readFile(root / "meta" / "info.json").value();
    for (std::size_t length = 0; length + 1 < info.size(); length += 7) {
        RW_VERIFY(writeFileAtomically(root / "meta" / "info.json", info.substr(0, length)));
        std::vector<Warning> warnings;
        QVERIFY(!DatasetReader::open(root, { .verify = Verify::Tables }, warnings));
    }
    RW_VERIFY(writeFileAtomically(root / "meta" / "info.json", info));
    for (const char* path : { "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet",
                              "videos/observation.images.front/chunk-000/file-000.mp4" }) {
        const std::string whole = readFile(root / path).value();
        for (std::size_t part = 0; part < 20; ++part) {
            RW_VERIFY(writeFileAtomically(root / path, whole.substr(0, whole.size() * part / 20)));
            std::vector<Warning> warnings;
            QVERIFY2(!DatasetReader::open(root, {}, warnings), path);
        }
        RW_VERIFY(writeFileAtomically(root / path, whole));
    }
    std::vector<Warning> warnings;
    RW_VERIFY(DatasetReader::open(root, {}, warnings));
}

namespace rankwise::test {

int testGolden(int argc, char** argv)
{
    TestGolden test;
    return QTest::qExec(&test, argc, argv);
}

} // namespace rankwise::test

#include "golden_datasets.moc"
