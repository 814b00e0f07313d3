// The Datasets tab: long lists that stay quick, quality flags, thumbnails, statistics beside a checkpoint's, and every
// broken dataset of the golden collection told in words. Needs a display.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "backend/data/dataset_writer.h"
#include "backend/data/frame_view.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/dataset_session.h"
#include "widgets/bridge/dataset_statistics.h"
#include "widgets/bridge/text.h"
#include "widgets/common/imgui_view.h"
#include "widgets/datasets/datasets_view.h"
#include "widgets/datasets/statistics_panel.h"
#include "widgets/datasets/thumbnail_delegate.h"

#include <QAbstractItemModelTester>
#include <QComboBox>
#include <QElapsedTimer>
#include <QScrollBar>
#include <QTableView>
#include <QTabWidget>
#include <QTemporaryDir>
#include <QTest>

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>

using namespace rankwise;
using bridge::toPath;
using tests::optionsIn;
namespace fs = std::filesystem;

namespace {

constexpr int kPatience = 30'000;
constexpr std::int64_t kFps = 10;
constexpr int kFrames = 40;

/// What an episode of the written dataset has that it should not.
enum class Flaw { None, Jump, StillTail };

std::array<float, 3> stateAt(Flaw flaw, int t)
{
    const int at = flaw == Flaw::StillTail ? std::min(t, kFrames - 15) : t;
    const float jump = flaw == Flaw::Jump && t >= 20 ? 2.0F : 0.0F;
    return { 0.01F * static_cast<float>(at) + jump, std::sin(0.1F * static_cast<float>(at)), 0.25F };
}

/// `episodes` without cameras; `flaws[i]` is that of episode i.
Result<void> writeDataset(const fs::path& root, int episodes, const std::vector<Flaw>& flaws)
{
    data::DatasetSpec spec { .fps = kFps, .robotType = "test" };
    spec.features = { data::vectorFeature("observation.state", data::FeatureType::Float32, { "a", "b", "c" }),
                      data::vectorFeature("action", data::FeatureType::Float32, { "a", "b", "c" }) };
    RW_TRY(const auto writer, data::DatasetWriter::create(root, spec));
    for (int e = 0; e < episodes; ++e) {
        RW_TRY_VOID(writer->beginEpisode());
        const Flaw flaw = static_cast<std::size_t>(e) < flaws.size() ? flaws[static_cast<std::size_t>(e)] : Flaw::None;
        for (int t = 0; t < kFrames; ++t) {
            const auto state = stateAt(flaw, t);
            const auto action = stateAt(Flaw::None, t + 1);
            data::FrameView frame;
            frame.floats("observation.state", state).floats("action", action);
            RW_TRY_VOID(writer->addFrame(frame));
        }
        RW_TRY_VOID(writer->finishEpisode("press the button"));
    }
    return writer->close();
}

QString goldenRoot()
{
    return qEnvironmentVariable("RANKWISE_GOLDEN_DIR", QStringLiteral(RANKWISE_TEST_DATA "/golden"))
        + QStringLiteral("/datasets");
}

} // namespace

class TestEpisodes : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase();
    void listComesBeforeItsJudgement();
    void flawsAreFlagged();
    void notFiniteFramesAreFlagged();
    void thumbnailsAreOfWhatIsInSight();
    void statisticsAreExactAndCompared();
    void brokenDatasetsAreTold_data();
    void brokenDatasetsAreTold();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }

private:
    QTemporaryDir m_folder;
    QString m_flawed;
};

void TestEpisodes::initTestCase()
{
    QCoreApplication::setApplicationName(QStringLiteral("rankwise-workbench"));
    m_flawed = m_folder.filePath(QStringLiteral("flawed"));
    const auto written = writeDataset(toPath(m_flawed), 3, { Flaw::None, Flaw::Jump, Flaw::StillTail });
    QVERIFY2(written.has_value(), written ? "" : written.error().describe().c_str());
}

void TestEpisodes::listComesBeforeItsJudgement()
{
    const int episodes =
        qEnvironmentVariableIsSet("RANKWISE_EPISODES") ? qEnvironmentVariableIntValue("RANKWISE_EPISODES") : 200;
    const QString path = m_folder.filePath(QStringLiteral("long"));
    const auto written = writeDataset(toPath(path), episodes, {});
    QVERIFY2(written.has_value(), written ? "" : written.error().describe().c_str());
    gui::MainWindow window(optionsIn(m_folder));
    window.show();
    window.showView(QStringLiteral("datasets"));
    QElapsedTimer watch;
    watch.start();
    window.workspace().openPath(path);
    datasets_view::DatasetsView* view = window.datasetsView();
    QTRY_COMPARE_WITH_TIMEOUT(view->episodes().rowCount(), episodes, kPatience);
    qInfo("list of %d episodes after %lld ms", episodes, static_cast<long long>(watch.elapsed()));
    const QAbstractItemModelTester tester(&view->episodes(), QAbstractItemModelTester::FailureReportingMode::QtTest);
    QTRY_COMPARE_WITH_TIMEOUT(view->episodes().judged(), static_cast<std::size_t>(episodes), kPatience);
    qInfo("all judged after %lld ms", static_cast<long long>(watch.elapsed()));
    view->table().scrollToBottom();
    view->table().selectRow(episodes - 1);
    QCOMPARE(window.workspace().selection().episode, qint64(episodes - 1));
    QCOMPARE(view->episodes().index(episodes - 1, bridge::EpisodeModel::Remarks).data().toString(), QString());
}

void TestEpisodes::flawsAreFlagged()
{
    std::vector<Warning> warnings;
    const auto dataset = bridge::openDataset(toPath(m_flawed), {});
    QVERIFY2(dataset.has_value(), dataset ? "" : dataset.error().describe().c_str());
    bridge::EpisodeModel model;
    model.setDataset(std::make_shared<const bridge::OpenedDataset>(*dataset));
    const auto remark = [&](int row) { return model.index(row, bridge::EpisodeModel::Remarks).data().toString(); };
    QCOMPARE(remark(1), QStringLiteral("…")); // nobody has looked yet
    const auto stretch = bridge::nextQuality(*dataset, 0, {});
    QVERIFY(stretch.has_value());
    model.setQuality(*stretch);
    QCOMPARE(model.judged(), std::size_t(3));
    QCOMPARE(remark(0), QString());
    QVERIFY2(remark(1).contains(QStringLiteral("1 jumps, the first at 2.0 s")), qPrintable(remark(1)));
    QVERIFY2(remark(2).contains(QStringLiteral("still for the last 1.")), qPrintable(remark(2)));
    model.setQuality({ .first = 7, .quality = {} }); // a stretch that does not fit is left alone
    QCOMPARE(model.judged(), std::size_t(3));
}

void TestEpisodes::notFiniteFramesAreFlagged()
{
    // The golden case: a dataset that opens with a warning and has NaN in an action.
    const QString path = m_folder.filePath(QStringLiteral("nan"));
    fs::copy(toPath(goldenRoot()) / "v30_h264", toPath(path), fs::copy_options::recursive);
    fs::copy(toPath(goldenRoot()) / "malformed/action_nan", toPath(path),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    const auto dataset = bridge::openDataset(toPath(path), {});
    QVERIFY2(dataset.has_value(), dataset ? "" : dataset.error().describe().c_str());
    const auto stretch = bridge::nextQuality(*dataset, 0, {});
    QVERIFY(stretch.has_value());
    int frames = 0;
    for (const bridge::EpisodeQuality& quality : stretch->quality) {
        frames += quality.notFinite;
    }
    QVERIFY(frames > 0);
    const auto statistics = bridge::datasetStatistics(*dataset, {}, {});
    QVERIFY(statistics.has_value());
    bool told = false;
    for (const auto& dimension : *statistics) {
        QVERIFY(std::isfinite(dimension.mean) && std::isfinite(dimension.std));
        told = told || datasets_view::remarkOn(dimension).contains(QStringLiteral("not finite"));
    }
    QVERIFY(told);
}

void TestEpisodes::thumbnailsAreOfWhatIsInSight()
{
    gui::MainWindow window(optionsIn(m_folder));
    window.resize(1280, 800);
    window.show();
    window.showView(QStringLiteral("datasets"));
    window.workspace().openPath(goldenRoot() + QStringLiteral("/v30_h264"));
    datasets_view::DatasetsView* view = window.datasetsView();
    QTRY_VERIFY_WITH_TIMEOUT(view->episodes().rowCount() > 0, kPatience);
    QTRY_COMPARE_WITH_TIMEOUT(view->thumbnails().decoded(), view->episodes().rowCount(), kPatience);
    // A dataset without cameras has none, and nobody tries.
    window.workspace().openPath(m_flawed);
    QTRY_COMPARE_WITH_TIMEOUT(view->episodes().rowCount(), 3, kPatience);
    const int before = view->thumbnails().decoded();
    QTest::qWait(300);
    QCOMPARE(view->thumbnails().decoded(), before);
}

void TestEpisodes::statisticsAreExactAndCompared()
{
    gui::MainWindow window(optionsIn(m_folder));
    window.show();
    window.showView(QStringLiteral("datasets"));
    window.workspace().openPath(m_flawed);
    datasets_view::DatasetsView* view = window.datasetsView();
    QTRY_COMPARE_WITH_TIMEOUT(view->episodes().rowCount(), 3, kPatience);
    auto* pages = view->findChild<QTabWidget*>();
    QVERIFY(pages != nullptr);
    pages->setCurrentWidget(&view->statistics());
    const bridge::ColumnModel& rows = view->statistics().rows();
    QTRY_COMPARE_WITH_TIMEOUT(rows.rowCount(), 6, kPatience);
    double sum = 0;
    for (const Flaw flaw : { Flaw::None, Flaw::Jump, Flaw::StillTail }) {
        for (int t = 0; t < kFrames; ++t) {
            sum += static_cast<double>(stateAt(flaw, t)[0]);
        }
    }
    QVERIFY(std::abs(rows.index(0, 4).data(Qt::EditRole).toDouble() - sum / (3 * kFrames)) < 1e-5);
    const int last = rows.columnCount() - 1;
    QVERIFY2(rows.index(2, last).data().toString().contains(QStringLiteral("hardly moves")),
             qPrintable(rows.index(2, last).data().toString()));
    QVERIFY(!rows.index(0, last).data().toString().contains(QStringLiteral("stats.json"))); // the writer's are right
    // Its histogram holds every frame once.
    view->statistics().table().selectRow(1);
    double frames = 0;
    for (int i = 0; i < view->statistics().histogram().table()->rowCount(); ++i) {
        frames += view->statistics().histogram().table()->index(i, 1).data(Qt::EditRole).toDouble();
    }
    QCOMPARE(frames, 3.0 * kFrames);
    // stats.json of other frames is told.
    const fs::path stats = toPath(m_flawed) / "meta/stats.json";
    Json json = Json::parse(std::ifstream(stats));
    json["observation.state"]["mean"][0] = 99;
    std::ofstream(stats) << json.dump();
    const auto dataset = bridge::openDataset(toPath(m_flawed), {});
    const auto found = bridge::datasetStatistics(*dataset, {}, {});
    QVERIFY(found.has_value());
    QVERIFY(datasets_view::remarkOn((*found)[0]).contains(QStringLiteral("stats.json says 99")));
    QVERIFY(!datasets_view::remarkOn((*found)[1]).contains(QStringLiteral("stats.json")));
    // A checkpoint's normalisation beside it: the nano policy's, whose features have the same names.
    QComboBox& checkpoints = view->statistics().checkpoints();
    const int nano = checkpoints.findText(QStringLiteral("nano"));
    QVERIFY(nano > 0);
    checkpoints.setCurrentIndex(nano);
    QTRY_COMPARE_WITH_TIMEOUT(rows.columnCount(), 12, kPatience);
    QVERIFY(rows.index(0, 9).data(Qt::EditRole).toDouble() > 0);
}

void TestEpisodes::brokenDatasetsAreTold_data()
{
    QTest::addColumn<QString>("base");
    QTest::addColumn<QStringList>("removed");
    QTest::addColumn<bool>("refused");
    const Json cases = Json::parse(std::ifstream(toPath(goldenRoot()) / "malformed/cases.json"), nullptr, false);
    QVERIFY(cases.is_object());
    for (const Json& one : cases["cases"]) {
        QStringList removed;
        for (const Json& path : one["remove"]) {
            removed << bridge::toQString(path.get<std::string>());
        }
        QTest::newRow(one["name"].get<std::string>().c_str())
            << bridge::toQString(one["base"].get<std::string>()) << removed << (one["expect"] == "refuse");
    }
}

void TestEpisodes::brokenDatasetsAreTold()
{
    QFETCH(QString, base);
    QFETCH(QStringList, removed);
    QFETCH(bool, refused);
    const QTemporaryDir folder;
    const fs::path root = toPath(folder.filePath(QStringLiteral("dataset")));
    fs::copy(toPath(goldenRoot() + QLatin1Char('/') + base), root, fs::copy_options::recursive);
    for (const QString& path : std::as_const(removed)) {
        fs::remove_all(root / toPath(path));
    }
    const fs::path over = toPath(goldenRoot()) / "malformed" / QTest::currentDataTag();
    if (fs::exists(over)) {
        fs::copy(over, root, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    }
    static gui::MainWindow* window = new gui::MainWindow(optionsIn(m_folder));
    window->show();
    window->showView(QStringLiteral("datasets"));
    datasets_view::DatasetsView* view = window->datasetsView();
    window->workspace().addItem({ bridge::ItemKind::Dataset, bridge::pathText(root), {} });
    window->workspace().selectDataset(bridge::pathText(root));
    const auto told = [&] {
        return window->lastMessage().contains(QStringLiteral("cannot be used"))
            || window->lastMessage().contains(QStringLiteral("cannot be shown"));
    };
    QTRY_VERIFY_WITH_TIMEOUT(told() || view->episodes().rowCount() > 0, kPatience);
    if (refused && !told()) { // opened: the trouble lies in the pictures, and shows itself when they are looked at
        for (int row = 0; row < view->episodes().rowCount() && !told(); ++row) {
            view->table().selectRow(row);
            window->workspace().clock().seek(window->workspace().clock().duration());
            QTest::qWait(150);
        }
    }
    if (told()) {
        qInfo("%s", qPrintable(window->lastMessage().section(QStringLiteral("cannot be "), 1)));
    }
    QVERIFY2(!refused || told(), "opened without a word");
    QVERIFY2(refused || view->episodes().rowCount() > 0, qPrintable(window->lastMessage()));
    window->workspace().closeItem(bridge::pathText(root));
    window->say(QStringLiteral("next"));
}

int main(int argc, char** argv)
{
    return tests::runTest<TestEpisodes>(argc, argv);
}

#include "tst_episodes.moc"
