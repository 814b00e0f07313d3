// SPDX-License-Identifier: Apache-2.0
#include "app/gui/options.h"

#include "app/gui/session.h"

#include <QCommandLineParser>
#include <QCoreApplication>
#include <QTextStream>

namespace rankwise::gui {

namespace {
enum ExitCode { kSuccess = 0, kUsage = 2 };
}

std::variant<Options, int> parseOptions(const QStringList& arguments)
{
    QCommandLineParser parser;
    parser.setApplicationDescription(
        QStringLiteral("The Rankwise workbench: fine-tune, look at and compress vision-language-action policies."));
    const QCommandLineOption help = parser.addHelpOption();
    parser.addOptions({
        { QStringLiteral("session"), QStringLiteral("Take up this named session."), QStringLiteral("name"),
          QStringLiteral("default") },
        { QStringLiteral("open"), QStringLiteral("Open a run, dataset, checkpoint or adapter; may repeat."),
          QStringLiteral("path") },
        { QStringLiteral("follow"),
          QStringLiteral("Follow this run directory, which need not be there yet; may repeat."),
          QStringLiteral("path") },
        { QStringLiteral("layer"), QStringLiteral("Select this layer after the start."), QStringLiteral("path") },
        { QStringLiteral("episode"), QStringLiteral("Select this episode after the start."), QStringLiteral("number") },
        { QStringLiteral("do"), QStringLiteral("Run an action by its id after the start; may repeat."),
          QStringLiteral("action") },
        { QStringLiteral("screenshot"), QStringLiteral("Render every view into this folder and end."),
          QStringLiteral("folder") },
        { QStringLiteral("theme"), QStringLiteral("system, dark, light or contrast; with --screenshot also all."),
          QStringLiteral("name") },
        { QStringLiteral("size"), QStringLiteral("Size of the window, e.g. 1280x800."), QStringLiteral("WxH") },
        { QStringLiteral("settings"), QStringLiteral("Settings file instead of the user's."), QStringLiteral("file") },
        { QStringLiteral("no-restore"), QStringLiteral("Start the session empty.") },
        { QStringLiteral("timing"), QStringLiteral("Print the milliseconds to the first painted window and end.") },
    });
    parser.addPositionalArgument(QStringLiteral("paths"), QStringLiteral("Things to open."),
                                 QStringLiteral("[paths...]"));
    if (!parser.parse(arguments)) {
        QTextStream(stderr) << parser.errorText() << "\nTry --help.\n";
        return kUsage;
    }
    if (parser.isSet(help)) {
        QTextStream(stdout) << parser.helpText();
        return kSuccess;
    }
    Options options;
    options.session = parser.value(QStringLiteral("session"));
    options.open = parser.values(QStringLiteral("open")) + parser.positionalArguments();
    options.follow = parser.values(QStringLiteral("follow"));
    options.layer = parser.value(QStringLiteral("layer"));
    if (parser.isSet(QStringLiteral("episode"))) {
        bool number = false;
        options.episode = parser.value(QStringLiteral("episode")).toLongLong(&number);
        if (!number || options.episode < 0) {
            QTextStream(stderr) << "--episode wants the number of an episode\n";
            return kUsage;
        }
    }
    options.actions = parser.values(QStringLiteral("do"));
    options.screenshots = parser.value(QStringLiteral("screenshot"));
    options.settingsFile = parser.value(QStringLiteral("settings"));
    options.restore = !parser.isSet(QStringLiteral("no-restore"));
    options.timing = parser.isSet(QStringLiteral("timing"));
    const QString theme = parser.value(QStringLiteral("theme"));
    const QStringList known { QStringLiteral("system"), QStringLiteral("dark"), QStringLiteral("light"),
                              QStringLiteral("contrast") };
    if (theme == QLatin1String("all") && !options.screenshots.isEmpty()) {
        options.themes = known.mid(1);
    } else if (known.contains(theme)) {
        options.themes = { theme };
    } else if (!theme.isEmpty()) {
        QTextStream(stderr) << "there is no theme " << theme << "; known: " << known.join(QStringLiteral(", ")) << '\n';
        return kUsage;
    }
    if (const QString problem = sessionNameProblem(options.session); !problem.isEmpty()) {
        QTextStream(stderr) << problem << '\n';
        return kUsage;
    }
    if (parser.isSet(QStringLiteral("size"))) {
        const QStringList parts = parser.value(QStringLiteral("size")).split(QLatin1Char('x'));
        const QSize size(parts.value(0).toInt(), parts.value(1).toInt());
        if (parts.size() != 2 || size.width() < 640 || size.height() < 400 || size.width() > 16384
            || size.height() > 16384) {
            QTextStream(stderr) << "--size wants WIDTHxHEIGHT, at least 640x400\n";
            return kUsage;
        }
        options.size = size;
    }
    return options;
}

} // namespace rankwise::gui
