// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/spectra_worker.h"

#include "backend/base/file.h"
#include "backend/base/worker_thread.h"
#include "backend/data/run_directory.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"

#include <QDir>
#include <QFile>
#include <QFileInfo>
#include <QThread>

#include <chrono>
#include <csignal>

namespace rankwise::bridge {

namespace {

constexpr std::chrono::milliseconds kLook { 30 };
constexpr std::chrono::milliseconds kPatience { 400 };

/// The description in `folder` while a worker of this machine fills it.
std::optional<data::SpectraHeader> liveHeader(const QString& folder)
{
    auto header = data::readSpectraHeader(toPath(folder));
    if (header && data::spectraWorkerLives(*header)) {
        return std::move(*header);
    }
    return std::nullopt;
}

/// The worker's own words for its failure: its last line of that kind, from `begin` on.
std::string failureIn(const QString& log, qint64 begin)
{
    constexpr qint64 kTail = 8192;
    QFile file(log);
    if (!file.open(QIODevice::ReadOnly)) {
        return {};
    }
    file.seek(std::max(begin, file.size() - kTail));
    const QList<QByteArray> lines = file.readAll().split('\n');
    for (qsizetype i = lines.size() - 1; i >= 0; --i) {
        if (lines[i].startsWith("error: ")) {
            return lines[i].mid(7).toStdString();
        }
    }
    return {};
}

/// Ends a process that has not said where it writes yet.
void endProcess(qint64 pid, std::int64_t startTicks)
{
    const auto lives = [&] { return startTicks > 0 && data::processStartTicks(pid) == startTicks; };
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPoliteMs);
    if (lives()) {
        ::kill(static_cast<pid_t>(pid), SIGTERM);
    }
    while (lives() && std::chrono::steady_clock::now() < until) {
        (void)waitFor({}, kLook);
    }
    if (lives()) {
        ::kill(static_cast<pid_t>(pid), SIGKILL);
    }
}

} // namespace

QStringList spectraArguments(const SpectraRequest& request)
{
    QStringList words { QStringLiteral("spectra"), request.subject };
    if (!request.base.isEmpty()) {
        words << QStringLiteral("--base") << request.base;
    }
    if (!request.folder.isEmpty()) {
        words << QStringLiteral("--out") << request.folder;
    }
    words << QStringLiteral("--threads") << QString::number(std::max(1, QThread::idealThreadCount() - 1));
    return words;
}

QString spectraFolder(const QString& dataFolder, const QString& subject, const QString& base)
{
    const std::string identity =
        data::weightsIdentity(toPath(subject), base.isEmpty() ? std::filesystem::path() : toPath(base));
    return QDir(dataFolder)
        .filePath(QStringLiteral("spectra/%1-%2").arg(QFileInfo(subject).fileName(), toQString(identity).left(12)));
}

QString subjectName(const QString& path)
{
    const QFileInfo info(path);
    if (!info.fileName().startsWith(QLatin1String("step-"))) {
        return info.fileName();
    }
    const QString run = QFileInfo(QFileInfo(info.absolutePath()).absolutePath()).fileName();
    return QStringLiteral("%1 %2").arg(run, info.fileName());
}

Result<data::SpectraHeader> launchSpectra(const SpectraRequest& request, const JobContext& job,
                                          const std::atomic<bool>& cancelled)
{
    if (auto there = liveHeader(request.folder)) {
        return std::move(*there);
    }
    const QString log = request.folder + QStringLiteral(".log");
    RW_TRY_VOID(createFolders(toPath(QFileInfo(request.folder).absolutePath())));
    const qint64 logBegin = QFileInfo(log).size();
    const double begun = data::unixSeconds();
    RW_TRY(const qint64 pid, startDetached(spectraArguments(request), log));
    const std::int64_t ticks = data::processStartTicks(pid);
    std::optional<std::chrono::steady_clock::time_point> ended;
    while (true) {
        const bool gone = ticks == 0 || data::processStartTicks(pid) != ticks;
        auto header = data::readSpectraHeader(toPath(request.folder));
        if (header && (header->started >= begun || data::spectraWorkerLives(*header))) {
            return header;
        }
        // A worker that found another one at it goes at once; that one's description may be a moment behind.
        const auto now = std::chrono::steady_clock::now();
        ended = gone && !ended ? now : ended;
        if (ended && now - *ended > kPatience) {
            const std::string said = failureIn(log, logBegin);
            return fail(Errc::DataInvalid, said.empty() ? "the worker ended without a word" : said);
        }
        if (cancelled) {
            endProcess(pid, ticks);
        }
        if (cancelled || !waitFor(job.stop, kLook)) {
            return fail(Errc::Cancelled, "stopped", request.folder.toStdString());
        }
    }
}

bool signalSpectraWorker(const data::SpectraHeader& header, int signal)
{
    return data::spectraWorkerLives(header) && ::kill(static_cast<pid_t>(header.pid), signal) == 0;
}

} // namespace rankwise::bridge
