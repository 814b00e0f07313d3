// The workbench program.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "app/gui/options.h"
#include "app/gui/screenshots.h"
#include "backend/base/log.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/watched_application.h"

#include <QTextStream>
#include <QTimer>

#include <fstream>
#include <sstream>
#include <string>

#include <unistd.h>

namespace {

using namespace rankwise;

constexpr int kPollMs = 50;
constexpr int kActionsMs =
    1000; ///< Before pictures are taken: what the actions began shows itself as not settled then.

/// Milliseconds since this process was started, from the kernel's clock; -1 when it does not tell.
double millisecondsSinceExec()
{
    std::ifstream stat("/proc/self/stat");
    std::string line;
    std::getline(stat, line);
    std::istringstream rest(line.substr(line.rfind(')') + 1));
    std::string word;
    for (int field = 3; field <= 22 && rest >> word; ++field) { }
    std::ifstream uptime("/proc/uptime");
    double now = 0;
    if (!(uptime >> now) || word.empty()) {
        return -1;
    }
    return (now - std::stod(word) / static_cast<double>(sysconf(_SC_CLK_TCK))) * 1000;
}

int run(common::WatchedApplication& app, const gui::Options& options)
{
    gui::MainWindow window(options);
    if (options.timing) {
        QObject::connect(&window, &gui::MainWindow::firstPaint, &app, [&app] {
            QTextStream(stdout) << "first paint after " << qRound(millisecondsSinceExec()) << " ms\n";
            app.quit();
        });
    }
    window.show();
    // Actions may need what is being opened.
    QTimer opened;
    QObject::connect(&opened, &QTimer::timeout, &window, [&window, &opened, &options] {
        if (!window.settled()) {
            return;
        }
        opened.stop();
        if (!options.layer.isEmpty()) {
            window.workspace().selectLayer(options.layer);
        }
        if (options.episode >= 0) {
            window.showView(QStringLiteral("datasets"));
            window.workspace().selectEpisode(options.episode);
        }
        for (const QString& action : options.actions) {
            if (!window.commands().trigger(action)) {
                window.say(QStringLiteral("“%1” is not possible at present.").arg(action));
            }
        }
    });
    if (!options.actions.isEmpty() || !options.layer.isEmpty() || options.episode >= 0) {
        opened.start(kPollMs);
    }
    if (!options.screenshots.isEmpty()) {
        auto* shots = new gui::Screenshots(window, options.screenshots, options.themes, &window);
        QObject::connect(shots, &gui::Screenshots::finished, &app, [](int pictures, const QString& failure) {
            QTextStream(stdout) << pictures << " pictures\n";
            if (!failure.isEmpty()) {
                QTextStream(stderr) << failure << '\n';
            }
            QCoreApplication::exit(failure.isEmpty() ? 0 : 1);
        });
        QTimer::singleShot(options.actions.isEmpty() ? 0 : kActionsMs, shots, &gui::Screenshots::start);
    }
    const int code = app.exec();
    const auto& report = app.report();
    if (report.worstSeconds > 0) {
        log::info("gui", "{} events, {} above 16 ms, the longest {:.0f} ms: {}", report.events, report.slow,
                  report.worstSeconds * 1000, report.worst.toStdString());
    }
    return code;
}

} // namespace

int main(int argc, char** argv)
{
    QStringList arguments;
    for (int i = 0; i < argc; ++i) {
        arguments << QString::fromLocal8Bit(argv[i]);
    }
    // Help and errors need no display.
    const auto parsed = gui::parseOptions(arguments);
    if (const int* code = std::get_if<int>(&parsed)) {
        return *code;
    }
    if (qEnvironmentVariableIsEmpty("DISPLAY") && qEnvironmentVariableIsEmpty("WAYLAND_DISPLAY")
        && qEnvironmentVariableIsEmpty("QT_QPA_PLATFORM")) {
        QTextStream(stderr) << "rankwise-workbench: there is no display; set DISPLAY, or run it under xvfb-run\n";
        return 1;
    }
    common::setDefaultGlFormat();
    QCoreApplication::setApplicationName(QStringLiteral("rankwise-workbench"));
    QCoreApplication::setApplicationVersion(QStringLiteral(RANKWISE_VERSION));
    QCoreApplication::setAttribute(Qt::AA_ShareOpenGLContexts, false);
    common::WatchedApplication app(argc, argv);
    log::LogConfig config;
    config.terminal = qEnvironmentVariableIsSet("RANKWISE_LOG");
    config.level = log::Level::Info;
    if (const auto levels = log::parseLevels(qEnvironmentVariable("RANKWISE_LOG").toStdString(), config); !levels) {
        config.level = log::Level::Info;
    }
    (void)log::configure(config);
    return run(app, std::get<gui::Options>(parsed));
}
