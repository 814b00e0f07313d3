// SPDX-License-Identifier: Apache-2.0
#include "app/gui/session.h"

#include "backend/base/file.h"
#include "backend/base/log.h"
#include "backend/data/run_directory.h"
#include "widgets/bridge/text.h"

#include <QDir>
#include <QFile>
#include <QJsonDocument>

#include <unistd.h>

namespace rankwise::gui {

namespace {
constexpr int kSessionVersion = 1;
}

SessionStore::SessionStore(QString dataFolder, QString name)
    : m_folder(std::move(dataFolder) + QStringLiteral("/sessions")), m_name(std::move(name))
{
    QDir().mkpath(m_folder);
}

SessionStore::~SessionStore()
{
    if (m_claimed) {
        QFile::remove(mark());
    }
}

QString SessionStore::file(const QString& name) const
{
    return QDir(m_folder).filePath(name + QStringLiteral(".json"));
}

QString SessionStore::mark() const
{
    return QDir(m_folder).filePath(m_name + QStringLiteral(".running"));
}

void SessionStore::begin()
{
    const QString wanted = m_name;
    for (int attempt = 2;; ++attempt) {
        QFile other(mark());
        if (!other.open(QIODevice::ReadOnly)) {
            break;
        }
        const QStringList words = QString::fromUtf8(other.readAll()).split(QLatin1Char(' '));
        const std::int64_t pid = words.value(0).toLongLong();
        const bool alive =
            pid > 0 && data::processStartTicks(pid) > 0 && data::processStartTicks(pid) == words.value(1).toLongLong();
        if (!alive) {
            m_endedBadly = true;
            break;
        }
        m_name = QStringLiteral("%1-%2").arg(wanted).arg(attempt);
    }
    const std::int64_t pid = ::getpid();
    const auto text = std::to_string(pid) + ' ' + std::to_string(data::processStartTicks(pid));
    m_claimed = writeFileAtomically(bridge::toPath(mark()), std::string_view(text)).has_value();
}

Result<QJsonObject> SessionStore::load() const
{
    RW_TRY(const std::string text, readFile(bridge::toPath(file(m_name)), 64u << 20));
    QJsonParseError error;
    const QJsonDocument document = QJsonDocument::fromJson(QByteArray::fromStdString(text), &error);
    if (!document.isObject()) {
        return fail(Errc::JsonInvalid, error.errorString().toStdString(), file(m_name).toStdString(), error.offset);
    }
    const QJsonObject session = document.object();
    if (session.value(QStringLiteral("version")).toInt() > kSessionVersion) {
        return fail(Errc::Unsupported, "a newer version wrote this session", file(m_name).toStdString());
    }
    return session;
}

Result<void> SessionStore::save(const QJsonObject& session) const
{
    QJsonObject stamped = session;
    stamped.insert(QStringLiteral("format"), QStringLiteral("rankwise_session"));
    stamped.insert(QStringLiteral("version"), kSessionVersion);
    const QByteArray text = QJsonDocument(stamped).toJson();
    return writeFileAtomically(bridge::toPath(file(m_name)),
                               std::string_view(text.constData(), static_cast<std::size_t>(text.size())));
}

QStringList SessionStore::names() const
{
    QStringList names;
    const QStringList files = QDir(m_folder).entryList({ QStringLiteral("*.json") }, QDir::Files, QDir::Name);
    for (const QString& entry : files) {
        names << entry.chopped(5);
    }
    return names;
}

} // namespace rankwise::gui
