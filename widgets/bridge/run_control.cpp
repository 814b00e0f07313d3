// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/run_control.h"

#include "backend/base/file.h"
#include "widgets/bridge/text.h"

#include <nlohmann/json.hpp>

#include <QCoreApplication>
#include <QDir>
#include <QFileInfo>
#include <QProcess>
#include <QProcessEnvironment>

namespace rankwise::bridge {

void postControl(JobRunner& jobs, const QString& run, data::ControlAction action, const QString& name, double value,
                 QObject* receiver, std::function<void(Result<std::optional<data::ControlAnswer>>)> done)
{
    constexpr double kPatience = 10;
    const QString title = QCoreApplication::translate("RunControl", "%1: %2")
                              .arg(QFileInfo(run).fileName(), toQString(data::controlActionName(action)));
    jobs.start<std::optional<data::ControlAnswer>>(
        title,
        [root = toPath(run), action, parameter = name.toStdString(),
         value](const JobContext& job) -> Result<std::optional<data::ControlAnswer>> {
            const data::RunPaths paths { root };
            RW_TRY(const std::string id, data::postRequest(paths, action, parameter, value));
            return data::waitForAnswer(paths, id, kPatience, job);
        },
        receiver, std::move(done));
}

QString commandProgram()
{
    const QFileInfo beside(QCoreApplication::applicationDirPath() + QStringLiteral("/rankwise"));
    const QString named = qEnvironmentVariable("RANKWISE_PROGRAM");
    if (!named.isEmpty() && QFileInfo(named).isExecutable()) {
        return named;
    }
    return beside.isExecutable() ? beside.absoluteFilePath() : QString();
}

Result<qint64> startDetached(const QStringList& arguments, const QString& logFile)
{
    const QString program = commandProgram();
    if (program.isEmpty()) {
        return fail(Errc::FileNotFound,
                    "the rankwise program is not beside this one; build or install the whole project",
                    QCoreApplication::applicationDirPath().toStdString());
    }
    QProcess process;
    process.setProgram(program);
    process.setArguments(arguments);
    process.setStandardInputFile(QProcess::nullDevice());
    process.setStandardOutputFile(logFile.isEmpty() ? QProcess::nullDevice() : logFile, QIODevice::Append);
    process.setStandardErrorFile(logFile.isEmpty() ? QProcess::nullDevice() : logFile, QIODevice::Append);
    QProcessEnvironment environment = QProcessEnvironment::systemEnvironment();
    environment.insert(QStringLiteral("OMP_WAIT_POLICY"), QStringLiteral("PASSIVE"));
    process.setProcessEnvironment(environment);
    qint64 pid = 0;
    if (!process.startDetached(&pid)) {
        return fail(Errc::IoFailed, process.errorString().toStdString(), program.toStdString());
    }
    return pid;
}

QStringList trainArguments(const QString& runsFolder, const QString& name, bool resume)
{
    const QString base = QDir(runsFolder).filePath(name);
    QStringList words { QStringLiteral("train"), base + QStringLiteral(".json"), QStringLiteral("--run"), base };
    if (resume) {
        words << QStringLiteral("--resume");
    }
    return words;
}

Result<QString> startTraining(const QString& runsFolder, const QString& name, const Json& config)
{
    const QString run = QDir(runsFolder).filePath(name);
    const QString file = run + QStringLiteral(".json");
    if (QFileInfo::exists(run) || QFileInfo::exists(file)) {
        return fail(Errc::AlreadyExists, "a run of this name is there already; choose another name", run.toStdString());
    }
    RW_TRY_VOID(createFolders(toPath(runsFolder)));
    RW_TRY_VOID(writeFileAtomically(toPath(file), jsonText(config)));
    RW_TRY(const qint64 pid, startDetached(trainArguments(runsFolder, name), run + QStringLiteral(".log")));
    (void)pid;
    return run;
}

} // namespace rankwise::bridge
