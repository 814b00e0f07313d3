// SPDX-License-Identifier: Apache-2.0
#include "tests/widgets/window_fixture.h"

#include "backend/base/log.h"
#include "backend/base/resources.h"
#include "widgets/bridge/text.h"

#include <QDir>
#include <QFileInfo>
#include <QProcess>

#include <csignal>
#include <set>

namespace rankwise::tests {

gui::Options optionsIn(const QTemporaryDir& folder)
{
    gui::Options options;
    options.settingsFile = folder.filePath(QStringLiteral("workbench.ini"));
    return options;
}

FinishedRun::FinishedRun(RunShape runShape) : shape(runShape), path(folder.filePath(QStringLiteral("run")))
{
    RunWriter(bridge::toPath(path), shape).whole();
}

std::size_t colors(const QImage& image, std::size_t enough)
{
    std::set<QRgb> seen;
    for (int y = 0; y < image.height(); y += 2) {
        for (int x = 0; x < image.width() && seen.size() < enough; x += 2) {
            seen.insert(image.pixel(x, y));
        }
    }
    return seen.size();
}

void openGlIsAsExpected()
{
    if (qEnvironmentVariableIsSet("RANKWISE_EXPECT_NO_OPENGL")) {
        QVERIFY2(!common::openGlWorks(), "this run was to be without OpenGL");
        return;
    }
    QVERIFY2(common::openGlWorks() || qEnvironmentVariableIsSet("RANKWISE_NO_OPENGL"),
             "tests of the window need OpenGL 3.2; Mesa's software renderer has it");
}

void guiThreadStaysResponsive()
{
    const auto* app = qobject_cast<common::WatchedApplication*>(qApp);
    QVERIFY(app != nullptr);
    const auto& report = app->report();
    qInfo("%llu events, %llu above 16 ms, the longest %.0f ms: %s", static_cast<unsigned long long>(report.events),
          static_cast<unsigned long long>(report.slow), report.worstSeconds * 1000, qPrintable(report.worst));
    // 100 ms on a quiet machine; the default run may share its cores with anything, and the longest of a quarter
    // million events then says more about the scheduler than about the window.
    const int limit = qEnvironmentVariableIntValue("RANKWISE_GUI_LIMIT_MS");
    QVERIFY2(report.worstWorkSeconds * 1000 < (limit > 0 ? limit : 100),
             qPrintable(QStringLiteral("%1 ms in %2").arg(report.worstWorkSeconds * 1000).arg(report.worstWork)));
}

void configureLog()
{
    log::LogConfig config { .level = log::Level::Warn };
    if (qEnvironmentVariableIsSet("RANKWISE_LOG")
        && log::parseLevels(qEnvironmentVariable("RANKWISE_LOG").toStdString(), config)) {
        (void)log::configure(config);
    }
}

void prepareEngine(const QString& program, const QString& demos, int episodes, QString& nano)
{
    QVERIFY2(QFileInfo(program).isExecutable(), "the rankwise program is not built");
    qputenv("RANKWISE_PROGRAM", program.toLocal8Bit());
    const auto found = resourcePath("nano");
    QVERIFY2(found.has_value(), found ? "" : found.error().describe().c_str());
    nano = bridge::toQString(found->string());
    QProcess record;
    record.start(program,
                 { QStringLiteral("sim"), QStringLiteral("record"), QStringLiteral("--task"),
                   QStringLiteral("press_button"), QStringLiteral("--episodes"), QString::number(episodes),
                   QStringLiteral("--seed"), QStringLiteral("3"), QStringLiteral("--out"), demos });
    QVERIFY(record.waitForFinished(120'000));
    QVERIFY2(record.exitCode() == 0, record.readAllStandardError().constData());
}

void killWorkers(const QString& runs)
{
    const QDir folder(runs);
    for (const QString& name : folder.entryList(QDir::Dirs | QDir::NoDotAndDotDot)) {
        const auto status = data::readRunStatus({ bridge::toPath(folder.filePath(name)) });
        if (status && status->active()) {
            ::kill(static_cast<pid_t>(status->pid), SIGKILL);
        }
    }
}

} // namespace rankwise::tests
