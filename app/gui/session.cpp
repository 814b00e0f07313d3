// SPDX-License-Identifier: Apache-2.0
#include "app/gui/session.h"

#include "backend/base/file.h"
#include "backend/data/run_directory.h"
#include "widgets/bridge/text.h"

#include <QDir>
#include <QJsonDocument>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <system_error>

#include <unistd.h>

namespace rankwise::gui {

namespace {

namespace fs = std::filesystem;

constexpr int kSessionVersion = 1;
constexpr qsizetype kMaxName = 100;
constexpr std::uint64_t kMaxMark = 4096;
constexpr std::uint64_t kMaxBytes = 64u << 20;

std::string ownMark()
{
    const std::int64_t pid = ::getpid();
    return std::to_string(pid) + ' ' + std::to_string(data::processStartTicks(pid));
}

/// Whether the process that wrote this mark lives.
bool lives(const std::string& mark)
{
    const QStringList words = bridge::toQString(mark).split(QLatin1Char(' '));
    const std::int64_t pid = words.value(0).toLongLong();
    const auto ticks = pid > 0 ? data::processStartTicks(pid) : 0;
    return ticks > 0 && ticks == words.value(1).toLongLong();
}

} // namespace

QString sessionNameProblem(const QString& name)
{
    const bool control =
        std::any_of(name.begin(), name.end(), [](QChar letter) { return letter.category() == QChar::Other_Control; });
    if (name.trimmed() != name || name.isEmpty() || name.size() > kMaxName || name.contains(QLatin1Char('/'))
        || name.startsWith(QLatin1Char('.')) || control) {
        return QObject::tr(
                   "a session's name has no slash, no point in front, no space around it and at most %1 letters")
            .arg(kMaxName);
    }
    return {};
}

SessionStore::SessionStore(QString folder) : m_folder(std::move(folder))
{
    QDir().mkpath(m_folder);
}

QString SessionStore::file(const QString& name) const
{
    return QDir(m_folder).filePath(name + QStringLiteral(".json"));
}

QString SessionStore::mark(const QString& name) const
{
    return QDir(m_folder).filePath(name + QStringLiteral(".running"));
}

Result<bool> SessionStore::claim(const QString& name) const
{
    static std::atomic<int> counter { 0 };
    const fs::path target = bridge::toPath(mark(name));
    fs::path aside = target;
    aside += ".tmp-" + std::to_string(::getpid()) + '-' + std::to_string(++counter);
    // Not synced: the mark need not outlive the machine.
    std::ofstream out(aside);
    out << ownMark() << std::flush;
    if (!out) {
        return fail(Errc::IoFailed, "the session cannot be marked as open", name.toStdString());
    }
    out.close();
    // A link is made whole or not at all, and by one of two windows only.
    const bool made = ::link(aside.c_str(), target.c_str()) == 0;
    std::error_code error;
    if (!made) {
        const auto other = readFile(target, kMaxMark);
        if (other && lives(*other)) {
            fs::remove(aside, error);
            return fail(Errc::AlreadyExists, "the session is open in another window", name.toStdString());
        }
        fs::rename(aside, target, error);
    }
    std::error_code ignored;
    fs::remove(aside, ignored);
    if (error) {
        return fail(Errc::IoFailed, error.message(), name.toStdString());
    }
    return !made;
}

Result<bool> SessionStore::claimNew(const QString& name) const
{
    RW_TRY_VOID(claim(name));
    if (exists(name)) {
        release(name);
        return fail(Errc::AlreadyExists, "there is a session of that name", name.toStdString());
    }
    return true;
}

void SessionStore::release(const QString& name) const
{
    if (holds(name)) {
        std::error_code error;
        fs::remove(bridge::toPath(mark(name)), error);
    }
}

bool SessionStore::holds(const QString& name) const
{
    const auto text = readFile(bridge::toPath(mark(name)), kMaxMark);
    return text && *text == ownMark();
}

Result<SessionStore::Taken> SessionStore::take(const QString& name) const
{
    RW_TRY(const bool endedBadly, claim(name));
    auto state = load(name);
    if (!state && state.error().code != Errc::FileNotFound) {
        release(name);
        return tl::unexpected<Error>(state.error());
    }
    return Taken { state ? *state : QJsonObject(), endedBadly };
}

Result<QJsonObject> SessionStore::load(const QString& name) const
{
    RW_TRY(const std::string text, readFile(bridge::toPath(file(name)), kMaxBytes));
    QJsonParseError error;
    const QJsonDocument document = QJsonDocument::fromJson(QByteArray::fromStdString(text), &error);
    if (!document.isObject()) {
        return fail(Errc::JsonInvalid, error.errorString().toStdString(), file(name).toStdString(), error.offset);
    }
    const QJsonObject session = document.object();
    if (session.value(QStringLiteral("version")).toInt() > kSessionVersion) {
        return fail(Errc::Unsupported, "a newer version wrote this session", file(name).toStdString());
    }
    return session;
}

Result<bool> SessionStore::save(const QString& name, const QJsonObject& state) const
{
    QJsonObject stamped = state;
    stamped.insert(QStringLiteral("format"), QStringLiteral("rankwise_session"));
    stamped.insert(QStringLiteral("version"), kSessionVersion);
    const QByteArray text = QJsonDocument(stamped).toJson();
    RW_TRY_VOID(writeFileAtomically(bridge::toPath(file(name)),
                                    std::string_view(text.constData(), static_cast<std::size_t>(text.size()))));
    return true;
}

Result<bool> SessionStore::rename(const QString& from, const QString& to) const
{
    RW_TRY_VOID(claimNew(to));
    std::error_code error;
    fs::rename(bridge::toPath(file(from)), bridge::toPath(file(to)), error);
    if (error) {
        release(to);
        return fail(error == std::errc::no_such_file_or_directory ? Errc::FileNotFound : Errc::IoFailed,
                    error.message(), from.toStdString());
    }
    release(from);
    return true;
}

Result<bool> SessionStore::remove(const QString& name) const
{
    RW_TRY_VOID(claim(name));
    std::error_code error;
    fs::remove(bridge::toPath(file(name)), error);
    release(name);
    if (error) {
        return fail(Errc::IoFailed, error.message(), name.toStdString());
    }
    return true;
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

bool SessionStore::exists(const QString& name) const
{
    std::error_code error;
    return fs::exists(bridge::toPath(file(name)), error);
}

} // namespace rankwise::gui
