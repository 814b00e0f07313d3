// The Spectra view, driven as a user does: with folders that a script fills, with runs, and with the real worker.
// Needs a display: ctest under xvfb-run where there is none.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "app/gui/screenshots.h"
#include "backend/base/resources.h"
#include "backend/data/spectra_folder.h"
#include "backend/io/safetensors_writer.h"
#include "tests/widgets/window_fixture.h"
#include "widgets/bridge/column_model.h"
#include "widgets/bridge/jobs_model.h"
#include "widgets/bridge/recognition.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/spectra_tail.h"
#include "widgets/bridge/spectra_worker.h"
#include "widgets/bridge/text.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/heat_map.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/line_chart.h"
#include "widgets/common/vtk_view.h"
#include "widgets/spectra/curve_panel.h"
#include "widgets/spectra/rank_chart.h"
#include "widgets/spectra/spectra_view.h"
#include "widgets/spectra/surface_view.h"
#include "widgets/train/rank_panel.h"
#include "widgets/train/train_view.h"

#include <QAbstractItemModelTester>
#include <QCheckBox>
#include <QComboBox>
#include <QDir>
#include <QElapsedTimer>
#include <QFileInfo>
#include <QLabel>
#include <QProcess>
#include <QPushButton>
#include <QSignalSpy>
#include <QSlider>
#include <QTableView>
#include <QTabWidget>

#include <cmath>
#include <csignal>
#include <random>

using namespace rankwise;
using bridge::Curve;
using bridge::toPath;
using bridge::toQString;
using data::SpectrumKind;
using data::SpectrumPass;
using tests::colors;
using tests::kPatience;
using tests::optionsIn;
using tests::RunShape;
using tests::RunWriter;

namespace {

/// Falling values whose energy is easy to count: σ_i = scale · q^i.
std::vector<double> geometric(int count, double ratio, double scale)
{
    std::vector<double> values;
    for (int i = 0; i < count; ++i) {
        values.push_back(scale * std::pow(ratio, i));
    }
    return values;
}

data::SpectraHeader headerOf(const RunShape& shape, const std::string& name)
{
    data::SpectraHeader header { .checkpoint = "/weights/" + name };
    for (int i = 0; i < shape.layers; ++i) {
        data::SpectraLayer layer { .path = tests::layerPath(shape, i),
                                   .group = std::min(2, i / std::max(1, shape.layers / 3)),
                                   .depth = i % std::max(1, shape.layers / 3) / 4,
                                   .rows = 40,
                                   .columns = 60,
                                   .rank = 8,
                                   .kinds = { SpectrumKind::Base, SpectrumKind::Delta, SpectrumKind::Merged } };
        header.layers.push_back(layer);
    }
    return header;
}

std::vector<double> sigmaOf(int layer, SpectrumKind kind, double ratioShift)
{
    std::vector<double> sigma = geometric(40, 0.9 + 0.007 * (layer % 12) - ratioShift, 2.0 + layer);
    if (kind == SpectrumKind::Delta) {
        sigma = geometric(8, 0.7, 0.1);
        sigma.resize(40, 0.0);
    }
    return sigma;
}

/// A finished folder with the layers of a scripted run.
void writeSpectra(const QString& folder, const RunShape& shape, double ratioShift = 0)
{
    auto writer = data::SpectraWriter::create(toPath(folder), headerOf(shape, "scripted"));
    QVERIFY(writer.has_value());
    for (int i = 0; i < shape.layers; ++i) {
        for (const SpectrumKind kind : { SpectrumKind::Base, SpectrumKind::Delta, SpectrumKind::Merged }) {
            QVERIFY(
                writer
                    ->add({ .layer = static_cast<std::size_t>(i), .kind = kind, .sigma = sigmaOf(i, kind, ratioShift) })
                    .has_value());
        }
    }
    QVERIFY(writer->endPass(SpectrumPass::Exact).has_value());
    QVERIFY(writer->finish(data::SpectraState::Finished).has_value());
}

} // namespace

class TestSpectra : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase();
    void cleanup();

    void tailFollowsFromCoarseToFine();
    void tailTellsNewerVersion();
    void scoresOfASnapshotAreSpectra();
    void folderIsRecognized();
    void cacheFollowsTheWeights();

    void emptyViewTeaches();
    void etaMovesTheCut();
    void curvesCanBeHidden();
    void selectionIsShared();
    void brushSelectsInEveryView();
    void surfacePicksLayers();
    void twoStandSideBySide();
    void scrubberShowsScoresOfARun();
    void everyCanvasExports();
    void withoutOpenGlTablesStay();
    void tableKeepsItsContract();
    void sessionComesBack();
    void brokenFolderIsTold();
    void screenshotsShowTheView();
#ifdef RANKWISE_HAS_ENGINE
    void workerComputesTheNanoPolicy();
    void badWeightsAreTold();
    void computationOutlivesTheWindow();
    void killedWorkerIsToldAndGoesOn();
    void twoWindowsShareOneComputation();
    void cancelEndsTheWorker();
    void cancelBeforeTheWorkerHasBegun();
#endif
    void guiThreadStaysResponsive()
    {
        tests::guiThreadStaysResponsive();
    }
};

void TestSpectra::initTestCase()
{
    qputenv("RANKWISE_PROGRAM", RANKWISE_BIN_DIR "/rankwise");
    tests::openGlIsAsExpected();
}

void TestSpectra::cleanup()
{
    common::ChartView::setSoftware(false);
}

void TestSpectra::tailFollowsFromCoarseToFine()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    bridge::SpectraTail tail(path);
    QTest::qWait(50);
    QVERIFY(!tail.header());
    auto writer = data::SpectraWriter::create(
        toPath(path),
        { .layers = { { .path = "a.q_proj", .rows = 3, .columns = 3, .kinds = { SpectrumKind::Base } } } });
    QVERIFY(writer.has_value());
    QTRY_VERIFY_WITH_TIMEOUT(tail.header().has_value(), kPatience);
    QCOMPARE(tail.expected(), 1);
    QCOMPARE(tail.present(), 0);
    QVERIFY(writer->add({ .layer = 0, .pass = SpectrumPass::Coarse, .sigma = { 3, 1, 1 }, .error = 0.1 }).has_value());
    QTRY_COMPARE_WITH_TIMEOUT(tail.present(), 1, kPatience);
    QCOMPARE(tail.exact(), 0);
    QCOMPARE(tail.set()->at(0, Curve::Base)->pass, SpectrumPass::Coarse);
    const bridge::SpectraSetPtr before = tail.set();
    QVERIFY(writer->add({ .layer = 0, .sigma = { 3, 2, 1 } }).has_value());
    QTRY_COMPARE_WITH_TIMEOUT(tail.exact(), 1, kPatience);
    QCOMPARE(tail.set()->at(0, Curve::Base)->sigma, (std::vector<double> { 3, 2, 1 }));
    QCOMPARE(tail.set()->at(0, Curve::Base)->rank(0.9), std::int64_t(2)); // 13 of 14
    QCOMPARE(before->at(0, Curve::Base)->sigma[1], 1.0);                  // what a view holds does not change
    QCOMPARE(tail.state(), data::SpectraState::Running);
    QVERIFY(writer->finish(data::SpectraState::Finished).has_value());
    QTRY_COMPARE_WITH_TIMEOUT(tail.state(), data::SpectraState::Finished, kPatience);
    // Another computation in the same place begins anew.
    auto again = data::SpectraWriter::create(toPath(path), {});
    QVERIFY(again.has_value());
    QTRY_COMPARE_WITH_TIMEOUT(tail.expected(), 0, kPatience);
    QCOMPARE(tail.set()->layers.size(), std::size_t(0));
}

void TestSpectra::tailTellsNewerVersion()
{
    QTemporaryDir folder;
    QFile file(folder.filePath(QStringLiteral("spectra.json")));
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write(R"({"format": "rankwise_spectra", "version": 9})");
    file.close();
    bridge::SpectraTail tail(folder.path());
    QTRY_VERIFY_WITH_TIMEOUT(!tail.problem().isEmpty(), kPatience);
    QCOMPARE(tail.state(), data::SpectraState::Failed);
}

void TestSpectra::scoresOfASnapshotAreSpectra()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString path = folder.filePath(QStringLiteral("run"));
    RunWriter(toPath(path), shape).whole();
    const auto files = data::listSnapshots({ toPath(path) });
    QVERIFY(!files.empty());
    const auto snapshot = bridge::readSnapshot(files.begin()->second, {});
    QVERIFY(snapshot.has_value());
    bridge::LayerTable layers;
    for (int i = 0; i < shape.layers; ++i) {
        layers.push_back({ tests::layerPath(shape, i), i / 4, i % 4, shape.capacity });
    }
    const bridge::SpectraSetPtr set = bridge::spectraOfSnapshot(QStringLiteral("run"), *snapshot, layers);
    QCOMPARE(set->layers.size(), static_cast<std::size_t>(shape.layers));
    QVERIFY(set->has(Curve::Scores));
    const bridge::SpectrumPtr& scores = set->at(2, Curve::Scores);
    const std::vector<double> shares = snapshot->layers.at(set->layers[2].path).sortedShares();
    double sum = 0;
    for (const double share : shares) {
        sum += share;
    }
    QVERIFY(sum > 0);
    QVERIFY(std::abs(scores->sigma[0] * scores->sigma[0] - shares[0]) < 1e-12);
    QVERIFY(std::abs(scores->energy[3] - (shares[0] + shares[1] + shares[2] + shares[3]) / sum) < 1e-9);
}

void TestSpectra::folderIsRecognized()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, {});
    const auto item = bridge::recognize(toPath(path), {});
    QVERIFY(item.has_value());
    QCOMPARE(item->kind, bridge::ItemKind::Spectra);
    QVERIFY(item->detail.find("12 layers") != std::string::npos);
    const auto inside = bridge::recognize(toPath(path + QStringLiteral("/spectra.jsonl")), {});
    QVERIFY(inside.has_value());
    QCOMPARE(inside->path, item->path);
}

void TestSpectra::cacheFollowsTheWeights()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("model.safetensors"));
    const auto write = [&](const QByteArray& text) {
        QFile file(weights);
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write(text);
    };
    write("one");
    const QString first = bridge::spectraFolder(QStringLiteral("/data"), folder.path());
    QCOMPARE(bridge::spectraFolder(QStringLiteral("/data"), folder.path()), first);
    QVERIFY(first.startsWith(QLatin1String("/data/spectra/")));
    write("another");
    QVERIFY(bridge::spectraFolder(QStringLiteral("/data"), folder.path()) != first);
    const QStringList words =
        bridge::spectraArguments({ .subject = QStringLiteral("a"), .folder = QStringLiteral("f") });
    QCOMPARE(
        words.mid(0, 4),
        (QStringList { QStringLiteral("spectra"), QStringLiteral("a"), QStringLiteral("--out"), QStringLiteral("f") }));
}

void TestSpectra::emptyViewTeaches()
{
    QTemporaryDir folder;
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QVERIFY(view->subject().isEmpty());
    const auto buttons = view->findChildren<QPushButton*>();
    const bool sample = std::any_of(buttons.begin(), buttons.end(), [](const QPushButton* button) {
        return button->isVisible() && button->text().contains(QLatin1String("nano"));
    });
    QVERIFY(sample);
    QVERIFY(!window.commands().isEnabled(QStringLiteral("spectra.compute")));
    QVERIFY(window.commands().isEnabled(QStringLiteral("spectra.sample")));
    QVERIFY(window.commands().commandLine(QStringLiteral("spectra.compute")).startsWith(QLatin1String("rankwise ")));
}

void TestSpectra::etaMovesTheCut()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    const RunShape shape;
    writeSpectra(path, shape);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    // The first layer is shown without being chosen, with all three curves.
    QTRY_VERIFY_WITH_TIMEOUT(!view->curves().values().isEmpty(), kPatience);
    QCOMPARE(view->curves().values().curves().size(), std::size_t(3));
    window.workspace().selectLayer(toQString(tests::layerPath(shape, 5)));
    const std::vector<double> sigma = sigmaOf(5, SpectrumKind::Base, 0);
    qint64 last = 0;
    for (const int eta : { 300, 500, 900, 990 }) {
        view->etaSlider().setValue(eta);
        QCOMPARE(view->state().eta(), eta / 1000.0);
        const std::int64_t k = data::energyRank(sigma, eta / 1000.0);
        QVERIFY(k > last);
        last = k;
        const QString cut = QStringLiteral("W: k = %1/40").arg(k);
        const auto& curves = view->curves().energy().curves();
        QVERIFY2(std::any_of(curves.begin(), curves.end(), [&](const auto& c) { return c.name == cut; }),
                 qPrintable(cut));
        QCOMPARE(view->ranks().table()->index(5, 4).data(Qt::EditRole).toLongLong(), k);
        QVERIFY(view->ranks().title().contains(bridge::numberText(eta / 1000.0)));
    }
    // The other quantities against the layers.
    const data::SpectrumMeasures m = data::measureSpectrum(sigma, 40, 60);
    view->ranks().setQuantity(spectra_view::Quantity::EffectiveRank);
    QCOMPARE(view->ranks().table()->index(5, 4).data(Qt::EditRole).toDouble(), m.effectiveRank);
    view->ranks().setQuantity(spectra_view::Quantity::StableRank);
    QCOMPARE(view->ranks().table()->index(5, 4).data(Qt::EditRole).toDouble(), m.stableRank);
    view->ranks().setQuantity(spectra_view::Quantity::Change);
    const double change = std::sqrt(data::totalEnergy(sigmaOf(5, SpectrumKind::Delta, 0)) / data::totalEnergy(sigma));
    QVERIFY(std::abs(view->ranks().table()->index(5, 5).data(Qt::EditRole).toDouble() - change) < 1e-9 * change);
}

void TestSpectra::curvesCanBeHidden()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, {});
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    const int columns = view->table().model()->columnCount();
    const auto boxes = view->findChildren<QCheckBox*>();
    for (QCheckBox* box : boxes) {
        if (box->text() == bridge::curveName(Curve::Merged)) {
            QVERIFY(box->isVisible());
            box->setChecked(false);
        }
        if (box->text() == bridge::curveName(Curve::Scores)) {
            QVERIFY(!box->isVisible()); // there are none
        }
    }
    QVERIFY(view->table().model()->columnCount() < columns);
    QCOMPARE(view->state().curves(), (std::vector { Curve::Base, Curve::Delta }));
    QCOMPARE(view->curves().values().curves().size(), std::size_t(2));
}

void TestSpectra::selectionIsShared()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString run = folder.filePath(QStringLiteral("run"));
    const QString path = folder.filePath(QStringLiteral("spectra"));
    RunWriter(toPath(run), shape).whole();
    writeSpectra(path, shape);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, run, {} });
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("train"));
    common::HeatMap& map = window.trainView()->ranks().map();
    QTRY_COMPARE_WITH_TIMEOUT(map.rowCount(), shape.layers, kPatience);
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    view->showSubject(path);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    view->pages().setCurrentIndex(1);
    const QString layer = toQString(tests::layerPath(shape, 7));
    QTRY_VERIFY_WITH_TIMEOUT(view->ranks().placeOf(layer, Curve::Base).has_value(), kPatience);
    // A click on the mark of a layer, in the chart as it was drawn …
    const QPointF at = *view->ranks().placeOf(layer, Curve::Base);
    view->ranks().press(at);
    view->ranks().release(at);
    QCOMPARE(window.workspace().selection().layer, layer);
    QCOMPARE(map.selectedRow(), 7); // … selects its row of the rank map,
    QCOMPARE(view->table().currentIndex().row(), 7);
    QVERIFY(view->curves().values().title().contains(bridge::shortLayerName(layer.toStdString())));
    // and from the rank map back, by keyboard.
    QVERIFY(map.key(Qt::Key_Down));
    QCOMPARE(view->state().layer(), toQString(tests::layerPath(shape, 8)));
    QCOMPARE(view->table().currentIndex().row(), 8);
    QVERIFY(view->ranks().key(Qt::Key_Left));
    QCOMPARE(map.selectedRow(), 7);
    // The table selects as well.
    view->table().selectRow(3);
    QCOMPARE(map.selectedRow(), 3);
}

void TestSpectra::brushSelectsInEveryView()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString run = folder.filePath(QStringLiteral("run"));
    const QString path = folder.filePath(QStringLiteral("spectra"));
    RunWriter(toPath(run), shape).whole();
    writeSpectra(path, shape);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, run, {} });
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("train"));
    common::HeatMap& map = window.trainView()->ranks().map();
    QTRY_COMPARE_WITH_TIMEOUT(map.rowCount(), shape.layers, kPatience);
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    view->showSubject(path);
    view->pages().setCurrentIndex(1);
    // Four layers lie between 4 and 7: the language part.
    QRectF region;
    for (int i = 4; i < 8; ++i) {
        const QString layer = toQString(tests::layerPath(shape, i));
        QTRY_VERIFY_WITH_TIMEOUT(view->ranks().placeOf(layer, Curve::Base).has_value(), kPatience);
        const QPointF at = *view->ranks().placeOf(layer, Curve::Base);
        region = region.united(QRectF(at - QPointF(1, 1), QSizeF(2, 2)));
    }
    view->ranks().press(region.topLeft());
    view->ranks().drag(region.center());
    view->ranks().drag(region.bottomRight());
    view->ranks().release(region.bottomRight());
    QStringList expected;
    for (int i = 4; i < 8; ++i) {
        expected << toQString(tests::layerPath(shape, i));
    }
    QStringList selected = window.workspace().selection().layers;
    for (const QString& layer : expected) {
        QVERIFY2(selected.contains(layer), qPrintable(layer));
    }
    QCOMPARE(map.markedRows(), (std::vector { 4, 5, 6, 7 }));
    QCOMPARE(view->state().layers().size(), 4);
    // The close look shows the others faintly.
    QVERIFY(view->curves().values().curves().size() >= 3 + 3);
    // Escape lets go of all.
    QVERIFY(view->ranks().key(Qt::Key_Escape));
    QVERIFY(window.workspace().selection().layers.isEmpty());
    QVERIFY(map.markedRows().empty());
}

void TestSpectra::surfacePicksLayers()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, shape);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    view->pages().setCurrentIndex(2);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    QTRY_COMPARE_WITH_TIMEOUT(view->surface().table()->rowCount(), shape.layers, kPatience);
    QCOMPARE(view->surface().table()->columnCount(), 3 + spectra_view::SurfaceView::kSamples);
    QCOMPARE(view->surface().table()->index(4, 3).data(Qt::EditRole).toDouble(), 1.0); // σ_1 / σ_1
    if (!common::openGlWorks()) {
        return;
    }
    QTRY_VERIFY_WITH_TIMEOUT(view->surface().canvas()->paintCount() > 0, kPatience);
    QVERIFY(colors(view->surface().canvas()->grabFramebuffer()) >= 40);
    // Somewhere on the surface there is a layer to pick with a double click.
    QString found;
    QPoint at;
    const QSize size = view->surface().canvas()->size();
    for (int y = 10; y < size.height() && found.isEmpty(); y += 20) {
        for (int x = 10; x < size.width() && found.isEmpty(); x += 20) {
            found = view->surface().layerAt(QPointF(x, y));
            at = QPoint(x, y);
        }
    }
    QVERIFY(!found.isEmpty());
    QTest::mouseDClick(view->surface().canvas(), Qt::LeftButton, {}, at);
    QCOMPARE(window.workspace().selection().layer, found);
    QVERIFY(view->surface().layerAt(QPointF(-500, -500)).isEmpty());
}

void TestSpectra::twoStandSideBySide()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString one = folder.filePath(QStringLiteral("one"));
    const QString other = folder.filePath(QStringLiteral("other"));
    writeSpectra(one, shape);
    writeSpectra(other, shape, 0.05);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, one, {} });
    window.workspace().addItem({ bridge::ItemKind::Spectra, other, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    view->showSubject(one);
    const int columns = view->table().model()->columnCount();
    view->showBeside(other);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    QCOMPARE(view->beside(), other);
    QVERIFY(view->table().model()->columnCount() > columns);
    QCOMPARE(view->curves().values().curves().size(), std::size_t(6));
    QCOMPARE(view->curves().values().curves().front().name, QStringLiteral("W′₂"));
    // k of both in the table of the chart; the second falls faster, so it needs fewer.
    const int curves = 3;
    const auto* table = view->ranks().table();
    QCOMPARE(table->columnCount(), 4 + 2 * curves);
    for (int i = 0; i < shape.layers; ++i) {
        const qint64 here = table->index(i, 4).data(Qt::EditRole).toLongLong();
        const qint64 there = table->index(i, 4 + curves).data(Qt::EditRole).toLongLong();
        QCOMPARE(here, data::energyRank(sigmaOf(i, SpectrumKind::Base, 0), 0.9));
        QCOMPARE(there, data::energyRank(sigmaOf(i, SpectrumKind::Base, 0.05), 0.9));
        QVERIFY(there < here);
    }
    view->showBeside(QString());
    QCOMPARE(view->ranks().table()->columnCount(), 4 + curves);
    // Never beside itself.
    view->showBeside(one);
    QVERIFY(view->beside().isEmpty());
}

void TestSpectra::scrubberShowsScoresOfARun()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString path = folder.filePath(QStringLiteral("run"));
    RunWriter(toPath(path), shape).whole();
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Run, path, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QCOMPARE(view->subject(), path);
    QTRY_COMPARE_WITH_TIMEOUT(view->state().curves(), std::vector { Curve::Scores }, kPatience);
    QVERIFY(view->stepSlider().isVisible());
    QVERIFY(view->stepSlider().maximum() >= 1);
    const std::vector<double> late = view->state().set().at(3, Curve::Scores)->sigma;
    view->stepSlider().setValue(0);
    const auto files = data::listSnapshots({ toPath(path) });
    QCOMPARE(window.workspace().selection().step, files.begin()->first); // everything follows the step
    const auto early = bridge::readSnapshot(files.begin()->second, {});
    QVERIFY(early.has_value());
    const std::string layer = view->state().set().layers[3].path;
    const double expected = std::sqrt(early->layers.at(layer).sortedShares().front());
    QTRY_VERIFY_WITH_TIMEOUT(std::abs(view->state().set().at(3, Curve::Scores)->sigma.front() - expected) < 1e-12,
                             kPatience);
    QVERIFY(!late.empty());
}

void TestSpectra::everyCanvasExports()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, {});
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    int canvases = 0;
    for (int page = 0; page < view->pages().count(); ++page) {
        view->pages().setCurrentIndex(page);
        QTest::qWait(300);
        const auto frames = view->pages().widget(page)->findChildren<common::CanvasFrame*>();
        for (common::CanvasFrame* frame : frames) {
            ++canvases;
            QVERIFY(!frame->title().isEmpty());
            QVERIFY(!frame->accessibleName().isEmpty());
            QVERIFY2(frame->table()->rowCount() > 1, qPrintable(frame->title()));
            for (const char* suffix : { "svg", "pdf", "png", "csv" }) {
                const QString file = folder.filePath(QStringLiteral("%1.%2").arg(canvases).arg(QLatin1String(suffix)));
                QVERIFY2(frame->exportTo(file).has_value(), qPrintable(frame->title()));
                QVERIFY(QFileInfo(file).size() > 100);
            }
            QVERIFY2(colors(QImage(folder.filePath(QStringLiteral("%1.png").arg(canvases))), 6) >= 4,
                     qPrintable(frame->title()));
            frame->showTable(true);
            QVERIFY(frame->tableShown());
            frame->showTable(false);
        }
    }
    QCOMPARE(canvases, 4);
}

void TestSpectra::withoutOpenGlTablesStay()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, {});
    gui::MainWindow window(optionsIn(folder));
    window.settings().setSoftwareCharts(true);
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    const auto charts = view->findChildren<common::ChartView*>();
    QCOMPARE(charts.size(), 3);
    for (common::ChartView* chart : charts) {
        QVERIFY(chart->glCanvas() == nullptr);
        QVERIFY(chart->table()->rowCount() > 1);
        QVERIFY(chart->exportTo(folder.filePath(QStringLiteral("soft.png"))).has_value());
    }
    QVERIFY(view->surface().table()->rowCount() > 1 || view->surface().canvas() != nullptr);
    view->pages().setCurrentIndex(1);
    QTest::qWait(100);
    QVERIFY(colors(view->grab().toImage()) > 5);
}

void TestSpectra::tableKeepsItsContract()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    const RunShape shape;
    gui::MainWindow window(optionsIn(folder));
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    const QAbstractItemModelTester table(view->table().model(), QAbstractItemModelTester::FailureReportingMode::QtTest);
    const QAbstractItemModelTester ranks(view->ranks().table(), QAbstractItemModelTester::FailureReportingMode::QtTest);
    const QAbstractItemModelTester surface(view->surface().table(),
                                           QAbstractItemModelTester::FailureReportingMode::QtTest);
    writeSpectra(path, shape);
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
    QCOMPARE(view->table().model()->rowCount(), shape.layers);
    view->etaSlider().setValue(500);
    view->state().setShown(Curve::Delta, false);
    const data::SpectrumMeasures m = data::measureSpectrum(sigmaOf(0, SpectrumKind::Base, 0), 40, 60);
    const QAbstractItemModel* model = view->table().model();
    bool seen = false;
    for (int c = 0; c < model->columnCount(); ++c) {
        if (model->headerData(c, Qt::Horizontal, Qt::DisplayRole).toString() == QLatin1String("W effective")) {
            QCOMPARE(model->index(0, c).data(Qt::EditRole).toDouble(), m.effectiveRank);
            seen = true;
        }
    }
    QVERIFY(seen);
    window.workspace().closeItem(path);
    QVERIFY(view->subject().isEmpty());
    QCOMPARE(view->table().model()->rowCount(), 0);
}

void TestSpectra::sessionComesBack()
{
    QTemporaryDir folder;
    const RunShape shape;
    const QString one = folder.filePath(QStringLiteral("one"));
    const QString other = folder.filePath(QStringLiteral("other"));
    writeSpectra(one, shape);
    writeSpectra(other, shape, 0.05);
    const QStringList layers { toQString(tests::layerPath(shape, 2)), toQString(tests::layerPath(shape, 6)) };
    {
        gui::MainWindow window(optionsIn(folder));
        window.show();
        window.workspace().addItem({ bridge::ItemKind::Spectra, one, {} });
        window.workspace().addItem({ bridge::ItemKind::Spectra, other, {} });
        window.showView(QStringLiteral("spectra"));
        window.spectraView(true)->showSubject(other);
        window.spectraView(true)->showBeside(one);
        window.spectraView(true)->pages().setCurrentIndex(1);
        window.workspace().selectLayers(layers);
        window.close();
    }
    gui::MainWindow window(optionsIn(folder));
    window.show();
    spectra_view::SpectraView* view = window.spectraView(true);
    QCOMPARE(view->subject(), other);
    QCOMPARE(view->beside(), one);
    QCOMPARE(view->pages().currentIndex(), 1);
    QCOMPARE(window.workspace().selection().layers, layers);
    QCOMPARE(view->state().layers(), layers);
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), kPatience);
}

void TestSpectra::brokenFolderIsTold()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, {});
    QFile file(path + QStringLiteral("/spectra.json"));
    QVERIFY(file.open(QIODevice::WriteOnly | QIODevice::Truncate));
    file.write("{ torn");
    file.close();
    bridge::SpectraTail tail(path);
    QTRY_VERIFY_WITH_TIMEOUT(!tail.problem().isEmpty(), kPatience);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    window.showView(QStringLiteral("spectra"));
    QTest::qWait(200); // says so and goes on
    QVERIFY(window.spectraView(true)->state().curves().empty());
    QVERIFY(!window.spectraView(true)->complete());
}

void TestSpectra::screenshotsShowTheView()
{
    QTemporaryDir folder;
    const QString path = folder.filePath(QStringLiteral("spectra"));
    writeSpectra(path, {});
    gui::Options options = optionsIn(folder);
    gui::MainWindow window(options);
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Spectra, path, {} });
    gui::Screenshots shots(window, folder.filePath(QStringLiteral("shots")), { QStringLiteral("dark") });
    QSignalSpy finished(&shots, &gui::Screenshots::finished);
    shots.start();
    QTRY_COMPARE_WITH_TIMEOUT(finished.count(), 1, 4 * kPatience);
    for (const char* page : { "curves", "ranks", "surface", "table" }) {
        const QImage image(folder.filePath(QStringLiteral("shots/spectra-%1-dark.png").arg(QLatin1String(page))));
        QVERIFY2(!image.isNull(), page);
        QVERIFY2(colors(image) >= 15, page);
    }
}

#ifdef RANKWISE_HAS_ENGINE

void TestSpectra::workerComputesTheNanoPolicy()
{
    QTemporaryDir folder;
    const auto nano = resourcePath("nano");
    QVERIFY(nano.has_value());
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().openPath(bridge::pathText(*nano));
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    QTRY_VERIFY_WITH_TIMEOUT(!view->subject().isEmpty(), kPatience);
    QVERIFY(window.commands().trigger(QStringLiteral("spectra.compute")));
    QVERIFY(window.commands()
                .commandLine(QStringLiteral("spectra.compute"))
                .startsWith(QLatin1String("rankwise spectra ")));
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), 4 * kPatience);
    QVERIFY(!view->curves().values().isEmpty());
    QVERIFY(!view->curves().energy().isEmpty());
    QVERIFY(view->state().set().layers.size() > 70);
    for (std::size_t i = 0; i < view->state().set().layers.size(); ++i) {
        const bridge::SpectrumPtr& spectrum = view->state().set().at(i, Curve::Base);
        QVERIFY(spectrum != nullptr);
        QCOMPARE(spectrum->sigma.size(),
                 static_cast<std::size_t>(
                     std::min(view->state().set().layers[i].rows, view->state().set().layers[i].columns)));
        QVERIFY(spectrum->measures.largest > 0);
    }
    // What was computed is kept: another window has it at once.
    gui::MainWindow second(optionsIn(folder));
    second.workspace().addItem({ bridge::ItemKind::Checkpoint, bridge::pathText(*nano), {} });
    QTRY_VERIFY_WITH_TIMEOUT(second.spectraView(true)->complete(), kPatience);
    QCOMPARE(second.workspace().jobs().runningJobs(), 0);
}

/// A checkpoint of random square matrices.
void writeRandom(const QString& folder, std::size_t count, std::int64_t side, bool withNaN)
{
    QDir().mkpath(folder);
    QFile config(folder + QStringLiteral("/config.json"));
    QVERIFY(config.open(QIODevice::WriteOnly));
    config.write("{}");
    config.close();
    std::mt19937 random(5);
    std::vector<std::vector<float>> values(count);
    std::map<std::string, io::TensorView> tensors;
    for (std::size_t i = 0; i < count; ++i) {
        values[i].resize(static_cast<std::size_t>(side * side));
        for (float& value : values[i]) {
            value = static_cast<float>(random()) / 4e9F - 0.5F;
        }
        if (withNaN) {
            values[i][7] = std::numeric_limits<float>::quiet_NaN();
        }
        tensors["layers." + std::to_string(i) + ".fc.weight"] = { .dtype = io::Dtype::F32,
                                                                  .shape = { side, side },
                                                                  .bytes = std::as_bytes(std::span(values[i])) };
    }
    QVERIFY(io::writeSafetensors(toPath(folder + QStringLiteral("/model.safetensors")), tensors).has_value());
}

void TestSpectra::badWeightsAreTold()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("weights"));
    writeRandom(weights, 1, 80, true);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Checkpoint, weights, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    view->compute();
    QTRY_VERIFY_WITH_TIMEOUT(window.lastMessage().contains(QLatin1String("layers.0.fc")), kPatience);
    QVERIFY(!view->complete());
}

/// Twelve matrices that take a moment each, so that there is a middle to act in.
void writeMany(const QString& folder)
{
    writeRandom(folder, 12, 900, false);
}

/// The one folder of spectra below the data folder of a window; empty: none yet.
QString onlyFolder(gui::MainWindow& window)
{
    const QDir spectra(window.settings().dataFolder() + QStringLiteral("/spectra"));
    const QStringList names = spectra.entryList(QDir::Dirs | QDir::NoDotAndDotDot);
    return names.size() == 1 ? spectra.filePath(names.front()) : QString();
}

std::map<data::SpectrumKey, std::vector<double>> exactIn(const QString& folder)
{
    std::map<data::SpectrumKey, std::vector<double>> exact;
    const auto contents = data::readSpectra(toPath(folder));
    for (const auto& [key, record] : contents ? contents->spectra : decltype(contents->spectra) {}) {
        if (record.pass == SpectrumPass::Exact) {
            exact[key] = record.sigma;
        }
    }
    return exact;
}

/// What a computation that nobody disturbs gives for `weights`.
std::map<data::SpectrumKey, std::vector<double>> undisturbed(const QString& weights, const QString& folder)
{
    QProcess process;
    process.start(QStringLiteral(RANKWISE_BIN_DIR "/rankwise"),
                  { QStringLiteral("spectra"), weights, QStringLiteral("--out"), folder });
    return process.waitForFinished(4 * kPatience) && process.exitCode() == 0
        ? exactIn(folder)
        : std::map<data::SpectrumKey, std::vector<double>>();
}

int exactOf(spectra_view::SpectraView* view)
{
    int exact = 0;
    for (const auto& of : view->state().set().spectra) {
        exact += of[0] && of[0]->pass == SpectrumPass::Exact ? 1 : 0;
    }
    return exact;
}

/// Row of the computation among the jobs; -1: none.
int jobRow(const bridge::JobsModel& jobs)
{
    for (int row = 0; row < jobs.rowCount(); ++row) {
        if (jobs.index(row, bridge::JobsModel::Title).data().toString().startsWith(QLatin1String("Spectra of"))) {
            return row;
        }
    }
    return -1;
}

QString jobText(const bridge::JobsModel& jobs, bridge::JobsModel::Column column)
{
    return jobs.index(jobRow(jobs), column).data().toString();
}

void TestSpectra::computationOutlivesTheWindow()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("weights"));
    writeMany(weights);
    std::optional<data::SpectraHeader> begun;
    {
        // A window of its own process, so that it can be killed.
        QProcess window;
        window.setProcessChannelMode(QProcess::ForwardedChannels);
        window.start(QStringLiteral(RANKWISE_BIN_DIR "/rankwise-workbench"),
                     { QStringLiteral("--settings"), optionsIn(folder).settingsFile, QStringLiteral("--open"), weights,
                       QStringLiteral("--do"), QStringLiteral("spectra.compute") });
        QVERIFY(window.waitForStarted());
        gui::MainWindow reader(optionsIn(folder)); // only to learn the place
        QTRY_VERIFY_WITH_TIMEOUT(exactIn(onlyFolder(reader)).size() >= 2, kPatience);
        window.kill();
        QVERIFY(window.waitForFinished(kPatience));
        const auto header = data::readSpectraHeader(toPath(onlyFolder(reader)));
        QVERIFY(header.has_value());
        begun = *header;
        QVERIFY2(data::spectraWorkerLives(*begun), "the worker must outlive the window");
    }
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Checkpoint, weights, {} });
    auto* jobs = window.findChild<bridge::JobsModel*>();
    QVERIFY(jobs != nullptr);
    // Found again as a job, before its view was ever made, and carried to its end by the same worker.
    QTRY_VERIFY_WITH_TIMEOUT(jobRow(*jobs) >= 0, kPatience);
    QVERIFY(jobs->index(jobRow(*jobs), 0).data(bridge::JobsModel::CanCancelRole).toBool());
    QVERIFY(window.spectraView(false) == nullptr);
    window.showView(QStringLiteral("spectra"));
    QTRY_VERIFY_WITH_TIMEOUT(window.spectraView(true)->complete(), 4 * kPatience);
    // What was found in its last moments leaves no row.
    QTRY_VERIFY_WITH_TIMEOUT(jobRow(*jobs) < 0 || jobText(*jobs, bridge::JobsModel::State) == QLatin1String("done"),
                             kPatience);
    const auto header = data::readSpectraHeader(toPath(onlyFolder(window)));
    QVERIFY(header.has_value());
    QCOMPARE(header->pid, begun->pid);
    QCOMPARE(exactIn(onlyFolder(window)), undisturbed(weights, folder.filePath(QStringLiteral("quiet"))));
}

void TestSpectra::killedWorkerIsToldAndGoesOn()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("weights"));
    writeMany(weights);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Checkpoint, weights, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    auto* jobs = window.findChild<bridge::JobsModel*>();
    view->compute();
    QVERIFY(jobRow(*jobs) >= 0); // at once
    QTRY_VERIFY_WITH_TIMEOUT(exactOf(view) >= 3, kPatience);
    const auto header = data::readSpectraHeader(toPath(onlyFolder(window)));
    QVERIFY(header.has_value());
    QCOMPARE(::kill(static_cast<pid_t>(header->pid), SIGKILL), 0);
    QTRY_VERIFY_WITH_TIMEOUT(jobText(*jobs, bridge::JobsModel::State).startsWith(QLatin1String("failed")), kPatience);
    QVERIFY(window.lastMessage().contains(QLatin1String("killed")));
    const int kept = exactOf(view);
    QVERIFY(kept >= 3 && kept < 12);
    const auto before = exactIn(onlyFolder(window));

    view->compute();
    QTRY_VERIFY_WITH_TIMEOUT(view->complete(), 4 * kPatience);
    const auto after = exactIn(onlyFolder(window));
    QCOMPARE(after.size(), std::size_t(12));
    QCOMPARE(after, undisturbed(weights, folder.filePath(QStringLiteral("quiet"))));
    // What was exact is in the new file once: it was not computed again.
    QFile lines(onlyFolder(window) + QStringLiteral("/spectra.jsonl"));
    QVERIFY(lines.open(QIODevice::ReadOnly));
    const QByteArray text = lines.readAll();
    for (const auto& [key, sigma] : before) {
        QCOMPARE(
            text.count(QByteArrayLiteral("\"layer\":") + QByteArray::number(static_cast<qulonglong>(key.first)) + ','),
            1);
    }
}

void TestSpectra::twoWindowsShareOneComputation()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("weights"));
    writeMany(weights);
    gui::MainWindow one(optionsIn(folder));
    gui::MainWindow two(optionsIn(folder));
    for (gui::MainWindow* window : { &one, &two }) {
        window->show();
        window->workspace().addItem({ bridge::ItemKind::Checkpoint, weights, {} });
        window->showView(QStringLiteral("spectra"));
        window->spectraView(true)->compute();
    }
    QTRY_VERIFY_WITH_TIMEOUT(one.spectraView(true)->complete() && two.spectraView(true)->complete(), 4 * kPatience);
    for (gui::MainWindow* window : { &one, &two }) {
        auto* jobs = window->findChild<bridge::JobsModel*>();
        QTRY_COMPARE_WITH_TIMEOUT(jobText(*jobs, bridge::JobsModel::State), QStringLiteral("done"), kPatience);
    }
    QCOMPARE(exactIn(onlyFolder(one)), undisturbed(weights, folder.filePath(QStringLiteral("quiet"))));
}

void TestSpectra::cancelEndsTheWorker()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("weights"));
    writeRandom(weights, 4, 1400, false);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Checkpoint, weights, {} });
    window.showView(QStringLiteral("spectra"));
    spectra_view::SpectraView* view = window.spectraView(true);
    auto* jobs = window.findChild<bridge::JobsModel*>();
    view->compute();
    QTRY_VERIFY_WITH_TIMEOUT(!view->state().curves().empty(), kPatience);
    const auto header = data::readSpectraHeader(toPath(onlyFolder(window)));
    QVERIFY(header.has_value() && data::spectraWorkerLives(*header));
    QElapsedTimer watch;
    watch.start();
    jobs->cancel(jobRow(*jobs));
    QVERIFY(jobText(*jobs, bridge::JobsModel::Progress).contains(QLatin1String("stopping"))); // at once
    while (jobText(*jobs, bridge::JobsModel::State) != QLatin1String("cancelled") && watch.elapsed() < kPatience) {
        QTest::qWait(5);
    }
    QVERIFY2(watch.elapsed() < 400, qPrintable(QString::number(watch.elapsed()))); // 200 ms on a quiet machine
    QTRY_VERIFY_WITH_TIMEOUT(!data::spectraWorkerLives(*header), kPatience);
    QTest::qWait(500);
    QCOMPARE(jobText(*jobs, bridge::JobsModel::State), QStringLiteral("cancelled")); // and no second row
    QVERIFY(!view->state().curves().empty());                                        // what was computed is kept
    const auto labels = view->findChildren<QLabel*>();
    QVERIFY(std::any_of(labels.begin(), labels.end(), [](const QLabel* label) {
        return label->toolTip().contains(QLatin1String("Compute goes on from there"));
    }));
}

void TestSpectra::cancelBeforeTheWorkerHasBegun()
{
    QTemporaryDir folder;
    const QString weights = folder.filePath(QStringLiteral("weights"));
    writeRandom(weights, 4, 1400, false);
    gui::MainWindow window(optionsIn(folder));
    window.show();
    window.workspace().addItem({ bridge::ItemKind::Checkpoint, weights, {} });
    window.showView(QStringLiteral("spectra"));
    auto* jobs = window.findChild<bridge::JobsModel*>();
    window.spectraView(true)->compute();
    jobs->cancel(jobRow(*jobs));
    QTRY_COMPARE_WITH_TIMEOUT(jobText(*jobs, bridge::JobsModel::State), QStringLiteral("cancelled"), kPatience);
    const QString place = onlyFolder(window);
    const auto header = data::readSpectraHeader(toPath(place));
    QVERIFY(place.isEmpty() || !header || !data::spectraWorkerLives(*header));
    // It can be begun again.
    window.spectraView(true)->compute();
    QTRY_VERIFY_WITH_TIMEOUT(!window.spectraView(true)->state().curves().empty(), kPatience);
    jobs->cancel(jobRow(*jobs));
    QTRY_COMPARE_WITH_TIMEOUT(jobText(*jobs, bridge::JobsModel::State), QStringLiteral("cancelled"), kPatience);
}

#endif

int main(int argc, char** argv)
{
    return tests::runTest<TestSpectra>(argc, argv);
}

#include "tst_spectra.moc"
