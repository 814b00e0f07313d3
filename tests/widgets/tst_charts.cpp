// Charts: series, axes, colors, export, and OpenGL against the painter. Needs a display, as the window's tests do.
// SPDX-License-Identifier: Apache-2.0
#include "tests/widgets/window_fixture.h"
#include "widgets/common/bar_chart.h"
#include "widgets/common/box_chart.h"
#include "widgets/common/chart_view.h"
#include "widgets/common/color_map.h"
#include "widgets/common/heat_map.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/line_chart.h"
#include "widgets/common/theme.h"

#include <QTableView>

#include <algorithm>
#include <cmath>

using namespace rankwise;
using tests::colors;
using tests::kPatience;

class TestCharts : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void initTestCase() { tests::openGlIsAsExpected(); }
    void cleanup() { common::ChartView::setSoftware(false); }

    void colorMapsAreMonotonousInLightness_data();
    void colorMapsAreMonotonousInLightness();
    void seriesExtentEqualsBruteForce();
    void millionPointsDrawInOneFrame();
    void axisTicksAreRound_data();
    void axisTicksAreRound();
    void chartsExportEverywhere_data();
    void chartsExportEverywhere();
    void chartWithoutOpenGl();
    void openGlAndPainterShowTheSame();
    void themesApply();
    void guiThreadStaysResponsive() { tests::guiThreadStaysResponsive(); }
};

void TestCharts::colorMapsAreMonotonousInLightness_data()
{
    QTest::addColumn<int>("map");
    QTest::newRow("viridis") << static_cast<int>(common::ColorMap::Viridis);
    QTest::newRow("cividis") << static_cast<int>(common::ColorMap::Cividis);
}

void TestCharts::colorMapsAreMonotonousInLightness()
{
    QFETCH(int, map);
    double before = -1;
    for (int i = 0; i <= 100; ++i) {
        const QRgb rgb = common::mapColor(static_cast<common::ColorMap>(map), i / 100.0);
        const double light = 0.2126 * qRed(rgb) + 0.7152 * qGreen(rgb) + 0.0722 * qBlue(rgb);
        QVERIFY(light > before - 0.6);
        before = light;
    }
    QCOMPARE(common::mapColor(common::ColorMap::Viridis, std::nan("")), qRgb(128, 128, 128));
    QCOMPARE(common::mapColor(common::ColorMap::Viridis, 7.0), common::mapColor(common::ColorMap::Viridis, 1.0));
}

void TestCharts::seriesExtentEqualsBruteForce()
{
    common::Series series;
    std::vector<double> values;
    std::uint32_t state = 1;
    for (int i = 0; i < 5000; ++i) {
        state = state * 1664525U + 1013904223U;
        values.push_back(i % 97 == 13 ? std::nan("") : static_cast<double>(state >> 8) / 1e6);
        series.append(i, values.back());
    }
    for (const auto& [from, to] : std::vector<std::pair<std::size_t, std::size_t>> {
             { 0, 5000 }, { 0, 1 }, { 13, 14 }, { 7, 4099 }, { 256, 512 }, { 255, 513 }, { 4990, 6000 }, { 10, 10 } }) {
        common::Series::Extent expected;
        for (std::size_t i = from; i < std::min<std::size_t>(to, values.size()); ++i) {
            expected.add(values[i]);
        }
        const common::Series::Extent got = series.extent(from, to);
        QCOMPARE(got.empty, expected.empty);
        if (!expected.empty) {
            QCOMPARE(got.low, expected.low);
            QCOMPARE(got.high, expected.high);
        }
    }
    // No spike is lost, whatever the width.
    common::Series spike;
    for (int i = 0; i < 100'000; ++i) {
        spike.append(i, i == 54'321 ? 9.0 : 0.0);
    }
    for (const int columns : { 7, 100, 1000 }) {
        double highest = 0;
        for (const auto& [x, y] : spike.decimated(0, 99'999, columns)) {
            highest = std::max(highest, y);
        }
        QCOMPARE(highest, 9.0);
        QVERIFY(spike.decimated(0, 99'999, columns).size() <= static_cast<std::size_t>(2 * columns + 4));
    }
    series.cutAbove(100);
    QCOMPARE(series.size(), std::size_t(101));
}

void TestCharts::millionPointsDrawInOneFrame()
{
    auto series = std::make_shared<common::Series>();
    for (int i = 0; i < 1'000'000; ++i) {
        series->append(i, std::sin(i * 0.001) + 0.1 * std::sin(i * 1.7));
    }
    common::LineChart chart(QStringLiteral("loss"), QStringLiteral("step"), QStringLiteral("loss"));
    chart.setCurves({ { QStringLiteral("loss"), series, 0, false } });
    common::ChartView view(chart);
    view.resize(900, 400);
    view.show();
    QVERIFY(QTest::qWaitForWindowExposed(&view));
    QVERIFY(view.glCanvas() != nullptr);
    std::vector<double> times;
    for (int frame = 0; frame < 20; ++frame) {
        const std::uint64_t before = view.glCanvas()->paintCount();
        chart.setView(std::pair { frame * 1000.0, 1'000'000.0 - frame * 1000.0 });
        QTRY_VERIFY_WITH_TIMEOUT(view.glCanvas()->paintCount() > before, kPatience);
        times.push_back(view.glCanvas()->paintSeconds());
    }
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2] * 1000;
    qInfo("1,000,000 points: %.1f ms a frame (median)", median);
    QVERIFY2(median < 16, qPrintable(QStringLiteral("%1 ms").arg(median)));
    QCOMPARE(chart.table()->rowCount(), 1'000'000);
}

void TestCharts::axisTicksAreRound_data()
{
    QTest::addColumn<double>("low");
    QTest::addColumn<double>("high");
    QTest::addColumn<bool>("logarithmic");
    QTest::newRow("unit") << 0.0 << 1.0 << false;
    QTest::newRow("odd") << -0.37 << 12.9 << false;
    QTest::newRow("tiny") << 1e-7 << 3e-7 << false;
    QTest::newRow("large") << 1e6 << 5e6 << false;
    QTest::newRow("decades") << 1e-6 << 1e-1 << true;
    QTest::newRow("within a decade") << 0.2 << 0.7 << true;
}

void TestCharts::axisTicksAreRound()
{
    QFETCH(double, low);
    QFETCH(double, high);
    QFETCH(bool, logarithmic);
    const common::Axis axis { .low = low, .high = high, .from = 100, .to = 500, .logarithmic = logarithmic };
    const std::vector<double> ticks = axis.ticks(6);
    QVERIFY(ticks.size() >= 2 && ticks.size() <= 14);
    for (const double tick : ticks) {
        QVERIFY(tick >= low - (high - low) * 1e-6 && tick <= high + (high - low) * 1e-6);
        QVERIFY(std::abs(axis.value(axis.pixel(tick)) - tick) <= 1e-9 * std::max(1.0, std::abs(tick)));
    }
}

namespace {

std::vector<std::unique_ptr<common::Chart>> sampleCharts()
{
    std::vector<std::unique_ptr<common::Chart>> charts;
    auto series = std::make_shared<common::Series>();
    for (int i = 0; i < 200; ++i) {
        series->append(i, std::exp(-i * 0.02));
    }
    auto line =
        std::make_unique<common::LineChart>(QStringLiteral("Loss"), QStringLiteral("step"), QStringLiteral("loss"));
    line->setCurves({ { QStringLiteral("task"), series, 0, false } });
    charts.push_back(std::move(line));
    auto map = std::make_unique<common::HeatMap>(QStringLiteral("Rank map"), QStringLiteral("layer"),
                                                 QStringLiteral("step"), QStringLiteral("rank"));
    map->reset({ { QStringLiteral("a"), QStringLiteral("x.a"), QStringLiteral("vision") },
                 { QStringLiteral("b"), QStringLiteral("x.b"), QStringLiteral("action") } },
               { 0, 10, 20 }, [](int r, int c) { return r * 3.0 + c; });
    charts.push_back(std::move(map));
    auto boxes = std::make_unique<common::BoxChart>(QStringLiteral("Active ranks"), QStringLiteral("rank"));
    boxes->setPanels({ { QStringLiteral("Vision"),
                         { { QStringLiteral("a"), QStringLiteral("x.a"), { 1, 2, 3, 4, 5 }, 3, 4, {} } } } },
                     8);
    charts.push_back(std::move(boxes));
    auto bars = std::make_unique<common::BarChart>(QStringLiteral("Shares"), QStringLiteral("direction"),
                                                   QStringLiteral("share"));
    bars->setBars({}, {}, { { 0.5 }, { 0.3 }, { 0.2 } }, false);
    bars->setCut(1, QStringLiteral("kept"));
    charts.push_back(std::move(bars));
    return charts;
}

} // namespace

void TestCharts::chartsExportEverywhere_data()
{
    QTest::addColumn<int>("chart");
    QTest::addColumn<QString>("suffix");
    QTest::addColumn<QByteArray>("magic");
    for (int i = 0; i < 4; ++i) {
        for (const auto& [suffix, magic] :
             std::vector<std::pair<QString, QByteArray>> { { QStringLiteral("svg"), "<?xml" },
                                                           { QStringLiteral("pdf"), "%PDF" },
                                                           { QStringLiteral("png"), "\x89PNG" },
                                                           { QStringLiteral("csv"), "" } }) {
            QTest::addRow("%d %s", i, qPrintable(suffix)) << i << suffix << magic;
        }
    }
}

void TestCharts::chartsExportEverywhere()
{
    QFETCH(int, chart);
    QFETCH(QString, suffix);
    QFETCH(QByteArray, magic);
    const auto charts = sampleCharts();
    common::Chart& one = *charts[static_cast<std::size_t>(chart)];
    common::ChartView view(one);
    view.resize(700, 400);
    QTemporaryDir folder;
    const QString file = folder.filePath(QStringLiteral("figure.") + suffix);
    const auto done = view.exportTo(file);
    QVERIFY2(done.has_value(), done ? "" : done.error().describe().c_str());
    QFile written(file);
    QVERIFY(written.open(QIODevice::ReadOnly));
    const QByteArray bytes = written.readAll();
    QVERIFY(bytes.startsWith(magic));
    if (suffix == QLatin1String("csv")) {
        QCOMPARE(bytes.count("\r\n"), one.table()->rowCount() + 1);
    } else if (suffix == QLatin1String("svg")) {
        QVERIFY(bytes.contains(one.title().toUtf8()));
        QVERIFY(bytes.contains("<text"));
    } else if (suffix == QLatin1String("png")) {
        QVERIFY(colors(QImage::fromData(bytes)) > 5);
    }
    const auto bad = view.exportTo(folder.filePath(QStringLiteral("figure.doc")));
    QCOMPARE(bad.error().code, Errc::Unsupported);
    QCOMPARE(view.exportTo(QStringLiteral("/nowhere/figure.svg")).error().code, Errc::FileNotFound);
}

void TestCharts::chartWithoutOpenGl()
{
    const auto charts = sampleCharts();
    common::ChartView view(*charts[0]);
    view.resize(600, 300);
    view.show();
    QVERIFY(QTest::qWaitForWindowExposed(&view));
    QVERIFY(view.glCanvas() != nullptr);
    common::ChartView::setSoftware(true); // what happens when the context is lost
    QVERIFY(view.glCanvas() == nullptr);
    QTest::qWait(50);
    QVERIFY(colors(view.grab().toImage()) > 5);
    view.showTable(true);
    auto* table = view.findChild<QTableView*>();
    QVERIFY(table != nullptr && table->isVisible());
    QCOMPARE(table->model()->rowCount(), 200);
    QVERIFY(!table->accessibleName().isEmpty());
}

void TestCharts::openGlAndPainterShowTheSame()
{
    for (const auto& chart : sampleCharts()) {
        common::ChartView view(*chart);
        view.resize(600, 320);
        view.show();
        QVERIFY(QTest::qWaitForWindowExposed(&view));
        QTest::qWait(60);
        const QImage gl = view.grab()
                              .toImage()
                              .convertToFormat(QImage::Format_RGB32)
                              .scaled(60, 32, Qt::IgnoreAspectRatio, Qt::SmoothTransformation);
        common::ChartView::setSoftware(true);
        QTest::qWait(60);
        const QImage painted = view.grab()
                                   .toImage()
                                   .convertToFormat(QImage::Format_RGB32)
                                   .scaled(60, 32, Qt::IgnoreAspectRatio, Qt::SmoothTransformation);
        common::ChartView::setSoftware(false);
        double difference = 0;
        for (int y = 0; y < gl.height(); ++y) {
            for (int x = 0; x < gl.width(); ++x) {
                difference += std::abs(qGray(gl.pixel(x, y)) - qGray(painted.pixel(x, y)));
            }
        }
        difference /= gl.width() * gl.height();
        QVERIFY2(difference < 6,
                 qPrintable(QStringLiteral("%1: mean difference %2").arg(chart->title()).arg(difference)));
    }
}

void TestCharts::themesApply()
{
    auto& themes = common::ThemeSwitch::instance();
    for (const QString& name : common::themeNames()) {
        themes.apply(name, 1);
        const common::Theme& theme = common::currentTheme();
        QCOMPARE(QApplication::palette().color(QPalette::Base), theme.base);
        // Contrast of text, after WCAG 2.1.
        const auto luminance = [](const QColor& color) {
            const auto linear = [](double v) { return v <= 0.03928 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4); };
            return 0.2126 * linear(color.redF()) + 0.7152 * linear(color.greenF()) + 0.0722 * linear(color.blueF());
        };
        const auto contrast = [&](const QColor& a, const QColor& b) {
            const double la = luminance(a) + 0.05;
            const double lb = luminance(b) + 0.05;
            return std::max(la, lb) / std::min(la, lb);
        };
        QVERIFY(contrast(theme.text, theme.base) >= 7);
        QVERIFY(contrast(theme.dimText, theme.base) >= 4.5);
        QVERIFY(contrast(theme.accentText, theme.accent) >= 4.5);
        for (const QColor& series : theme.series) {
            QVERIFY2(contrast(series, theme.base) >= 3, qPrintable(theme.name + series.name()));
        }
    }
    themes.apply(QStringLiteral("dark"), 1.5);
    const double zoomed = QApplication::font().pointSizeF();
    themes.apply(QStringLiteral("dark"), 1);
    QVERIFY(zoomed > 1.4 * QApplication::font().pointSizeF());
}

int main(int argc, char** argv)
{
    return tests::runTest<TestCharts>(argc, argv);
}

#include "tst_charts.moc"
