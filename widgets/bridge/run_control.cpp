// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/run_control.h"

#include "backend/base/file.h"
#include "backend/base/worker_thread.h"
#include "widgets/bridge/text.h"

#include <nlohmann/json.hpp>

#include <QCoreApplication>
#include <QDir>
#include <QFile>
#include <QFileInfo>
#include <QProcess>
#include <QProcessEnvironment>
#include <QTemporaryDir>

#include <algorithm>
#include <chrono>

namespace rankwise::bridge {

namespace {

/// A worker takes what the window and the arm leave: on few cores frames and control would wait for it otherwise.
constexpr int kWorkerNice = 10;

} // namespace

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
    process.setArguments(QStringList { QStringLiteral("--nice"), QString::number(kWorkerNice) } + arguments);
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

QString workerLog(const QString& run)
{
    return run + QStringLiteral(".log");
}

Result<QString> startTraining(const QString& runsFolder, const QString& name, const Json& config, qint64* pid)
{
    const QString run = QDir(runsFolder).filePath(name);
    const QString file = run + QStringLiteral(".json");
    if (QFileInfo::exists(run) || QFileInfo::exists(file)) {
        return fail(Errc::AlreadyExists, "a run of this name is there already; choose another name", run.toStdString());
    }
    RW_TRY_VOID(createFolders(toPath(runsFolder)));
    RW_TRY_VOID(writeFileAtomically(toPath(file), jsonText(config)));
    RW_TRY(const qint64 worker, startDetached(trainArguments(runsFolder, name), workerLog(run)));
    if (pid != nullptr) {
        *pid = worker;
    }
    return run;
}

QStringList resumeArguments(const QString& run, std::int64_t steps)
{
    QStringList words { QStringLiteral("train"), QStringLiteral("--run"), run, QStringLiteral("--resume") };
    if (steps > 0) {
        words << QStringLiteral("--steps") << QString::number(steps);
    }
    return words;
}

Result<void> resumeTraining(const QString& run, std::int64_t steps, const JobContext& job)
{
    RW_TRY_VOID(data::expectNoWorker({ toPath(run) }));
    RW_TRY(const qint64 pid, startDetached(resumeArguments(run, steps), workerLog(run)));
    return awaitWorker(run, pid, job);
}

namespace {

/// The last line with words of a worker's log; empty when there is none.
std::string lastWords(const QString& file)
{
    constexpr qint64 kTail = 4096;
    QFile log(file);
    if (!log.open(QIODevice::ReadOnly) || !log.seek(std::max<qint64>(0, log.size() - kTail))) {
        return {};
    }
    const QString text = QString::fromUtf8(log.readAll()).trimmed();
    return text.section(QLatin1Char('\n'), -1).toStdString();
}

} // namespace

Result<void> awaitWorker(const QString& run, qint64 pid, const JobContext& job)
{
    using data::RunState;
    constexpr std::chrono::milliseconds kLook { 50 };
    const data::RunPaths paths { toPath(run) };
    job.report(0, "starting the worker");
    for (bool ended = false;;) {
        const auto status = data::readRunStatus(paths);
        if (status && status->pid == pid && status->state != RunState::Starting) {
            if (status->state == RunState::Failed || status->state == RunState::Lost) {
                return tl::unexpected<Error>(
                    status->error.value_or(Error { Errc::IoFailed, status->reason, run.toStdString() }));
            }
            return {};
        }
        if (ended) { // and its last word has been looked for after its end
            RW_TRY_VOID(data::expectNoWorker(paths));
            return fail(Errc::IoFailed, lastWords(workerLog(run)), run.toStdString());
        }
        ended = data::processStartTicks(pid) == 0;
        if (!ended && !waitFor(job.stop, kLook)) {
            return fail(Errc::Cancelled, "stopped waiting; the worker goes on", run.toStdString());
        }
    }
}

namespace {

/// The error that a command printed as JSON.
Error printedError(const Json& output, const QString& otherwise)
{
    Error error { Errc::IoFailed, otherwise.toStdString() };
    const auto found = output.is_object() ? output.find("error") : output.end();
    if (found != output.end() && found->is_object()) {
        const std::string code = found->value("code", std::string());
        error.message = found->value("message", error.message);
        error.subject = found->value("subject", std::string());
        for (int value = 0; value < 256; ++value) {
            if (errcName(static_cast<Errc>(value)) == code) {
                error.code = static_cast<Errc>(value);
                break;
            }
        }
    }
    return error;
}

} // namespace

Result<Json> checkTraining(const Json& config, const JobContext& job)
{
    constexpr int kLookMs = 50;
    const QString program = commandProgram();
    if (program.isEmpty()) {
        return fail(Errc::FileNotFound, "the rankwise program is not beside this one",
                    QCoreApplication::applicationDirPath().toStdString());
    }
    const QTemporaryDir folder;
    if (!folder.isValid()) {
        return fail(Errc::IoFailed, folder.errorString().toStdString(), folder.path().toStdString());
    }
    const QString file = folder.filePath(QStringLiteral("preflight.json"));
    RW_TRY_VOID(writeFileAtomically(toPath(file), jsonText(config)));
    job.report(0, "loading the policy and one batch");
    QProcess process;
    process.start(program,
                  { QStringLiteral("--json"), QStringLiteral("train"), file, QStringLiteral("--run"),
                    folder.filePath(QStringLiteral("run")), QStringLiteral("--preflight") });
    while (process.state() != QProcess::NotRunning && !process.waitForFinished(kLookMs)) {
        if (job.stopped()) {
            process.kill();
            (void)process.waitForFinished();
            return fail(Errc::Cancelled, "stopped");
        }
    }
    const Json output = Json::parse(process.readAllStandardOutput().toStdString(), nullptr, false);
    if (output.is_object() && output.contains("checks")) {
        return output;
    }
    const QString words = QString::fromUtf8(process.readAllStandardError()).trimmed();
    return tl::unexpected<Error>(
        printedError(output, words.isEmpty() ? process.errorString() : words.section(QLatin1Char('\n'), -1)));
}

} // namespace rankwise::bridge
