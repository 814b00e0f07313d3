// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/spectra_worker.h"

#include "backend/data/run_directory.h"
#include "backend/data/spectra_folder.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"

#include <QCoreApplication>
#include <QCryptographicHash>
#include <QDateTime>
#include <QDir>
#include <QFile>
#include <QFileInfo>
#include <QJsonDocument>
#include <QJsonObject>
#include <QProcess>
#include <QProcessEnvironment>
#include <QThread>

namespace rankwise::bridge {

namespace {

constexpr int kLookMs = 40;
constexpr int kPoliteMs = 120; ///< Between asking the worker to stop and ending it.

/// Identity of the weights below `path`: names, sizes and times of its safetensors files.
QByteArray identity(const QString& path)
{
    QString folder = path;
    if (data::isRunDirectory(toPath(path))) {
        const auto checkpoints = data::listCheckpoints({ toPath(path) });
        folder = checkpoints.empty() ? path : pathText(checkpoints.back().folder);
    }
    QByteArray text = QFileInfo(folder).absoluteFilePath().toUtf8();
    const QFileInfo own(folder);
    const QFileInfoList files = own.isDir()
        ? QDir(folder).entryInfoList({ QStringLiteral("*.safetensors"), QStringLiteral("adapter_config.json") },
                                     QDir::Files, QDir::Name)
        : QFileInfoList { own };
    for (const QFileInfo& file : files) {
        text += file.fileName().toUtf8() + ' ' + QByteArray::number(file.size()) + ' '
            + QByteArray::number(file.lastModified().toMSecsSinceEpoch()) + '\n';
    }
    return text;
}

/// Counts the lines that a growing file gets.
class LineCount {
public:
    explicit LineCount(const QString& file) : m_file(file) { }

    qint64 look()
    {
        if ((m_file.isOpen() || m_file.open(QIODevice::ReadOnly))) {
            while (true) {
                const QByteArray part = m_file.read(1 << 18);
                if (part.isEmpty()) {
                    break;
                }
                m_lines += part.count('\n');
            }
        }
        return m_lines;
    }

private:
    QFile m_file;
    qint64 m_lines = 0;
};

/// The worker's own words for its failure.
std::string failureOf(const QByteArray& output)
{
    const QJsonObject error = QJsonDocument::fromJson(output).object().value(QStringLiteral("error")).toObject();
    const QString subject = error.value(QStringLiteral("subject")).toString();
    const QString message = error.value(QStringLiteral("message")).toString();
    return (subject.isEmpty() ? message : subject + QStringLiteral(": ") + message).toStdString();
}

Result<QString> runWorker(const SpectraRequest& request, const JobContext& job)
{
    const QString program = commandProgram();
    if (program.isEmpty()) {
        return fail(Errc::FileNotFound,
                    "the rankwise program is not beside this one; build or install the whole project",
                    QCoreApplication::applicationDirPath().toStdString());
    }
    QDir().mkpath(QFileInfo(request.folder).absolutePath());
    QProcess process;
    process.setProgram(program);
    process.setArguments(spectraArguments(request) << QStringLiteral("--json"));
    process.setStandardInputFile(QProcess::nullDevice());
    process.setStandardErrorFile(QProcess::nullDevice());
    QProcessEnvironment environment = QProcessEnvironment::systemEnvironment();
    environment.insert(QStringLiteral("OMP_WAIT_POLICY"), QStringLiteral("PASSIVE"));
    process.setProcessEnvironment(environment);
    process.start();
    if (!process.waitForStarted()) {
        return fail(Errc::IoFailed, process.errorString().toStdString(), program.toStdString());
    }
    LineCount lines(QDir(request.folder).filePath(QStringLiteral("spectra.jsonl")));
    qint64 expected = 0;
    QByteArray output;
    while (!process.waitForFinished(kLookMs)) {
        if (process.state() == QProcess::NotRunning) {
            break;
        }
        if (job.stopped()) {
            process.terminate();
            if (!process.waitForFinished(kPoliteMs)) {
                process.kill();
                process.waitForFinished();
            }
            return fail(Errc::Cancelled, "stopped; what was computed is kept", request.folder.toStdString());
        }
        if (expected == 0) {
            if (const auto header = data::readSpectraHeader(toPath(request.folder));
                header && header->pid != 0 && data::processStartTicks(header->pid) == header->pidStart) {
                for (const data::SpectraLayer& layer : header->layers) {
                    expected += 2 * static_cast<qint64>(layer.kinds.size());
                }
            }
        }
        if (expected > 0) {
            job.report(std::min(1.0, static_cast<double>(lines.look()) / static_cast<double>(expected)),
                       QFileInfo(request.subject).fileName().toStdString());
        }
        output += process.readAllStandardOutput();
    }
    output += process.readAllStandardOutput();
    if (process.exitStatus() != QProcess::NormalExit || process.exitCode() != 0) {
        const std::string said = failureOf(output);
        return fail(Errc::IoFailed, said.empty() ? "the worker ended without a word" : said,
                    request.subject.toStdString());
    }
    return request.folder;
}

} // namespace

QStringList spectraArguments(const SpectraRequest& request)
{
    QStringList words { QStringLiteral("spectra"), request.subject };
    if (!request.base.isEmpty()) {
        words << QStringLiteral("--base") << request.base;
    }
    words << QStringLiteral("--out") << request.folder << QStringLiteral("--threads")
          << QString::number(std::max(1, QThread::idealThreadCount() - 1));
    return words;
}

QString spectraFolder(const QString& dataFolder, const QString& subject, const QString& base)
{
    QByteArray text = identity(subject);
    if (!base.isEmpty()) {
        text += identity(base);
    }
    const QByteArray hash = QCryptographicHash::hash(text, QCryptographicHash::Sha256).toHex().left(12);
    return QDir(dataFolder)
        .filePath(QStringLiteral("spectra/%1-%2").arg(QFileInfo(subject).fileName(), QString::fromLatin1(hash)));
}

Job* startSpectra(JobRunner& jobs, const SpectraRequest& request, QObject* receiver,
                  std::function<void(Result<QString>)> done)
{
    const QString title =
        QCoreApplication::translate("Spectra", "Spectra of %1").arg(QFileInfo(request.subject).fileName());
    return jobs.start<QString>(
        title, [request](const JobContext& job) { return runWorker(request, job); }, receiver, std::move(done));
}

} // namespace rankwise::bridge
