// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/settings.h"

#include "backend/base/log.h"
#include "widgets/bridge/job_runner.h"
#include "widgets/bridge/setting_list.h"

#include <QDir>
#include <QFileInfo>
#include <QSettings>
#include <QStandardPaths>

#include <algorithm>
#include <utility>

namespace rankwise::bridge {

namespace {

constexpr qsizetype kMaxRecent = 12;
constexpr int kWriteMs = 200;
const QLatin1String kRecent("recent");
const QLatin1String kKeys("keys/");

/// Changes these keys only: another window may have changed others meanwhile.
Result<bool> writeValues(const QString& file, const QMap<QString, QVariant>& values)
{
    QSettings store(file, QSettings::IniFormat);
    for (auto entry = values.begin(); entry != values.end(); ++entry) {
        if (entry.value().isValid()) {
            store.setValue(entry.key(), entry.value());
        } else {
            store.remove(entry.key());
        }
    }
    store.sync();
    if (store.status() != QSettings::NoError) {
        log::warn("gui", "the settings cannot be written: {}", file.toStdString());
        return fail(Errc::IoFailed, "the settings cannot be written", file.toStdString());
    }
    return true;
}

} // namespace

Settings::Settings(const QString& file, QObject* parent) : QObject(parent)
{
    if (file.isEmpty()) {
        const QString config = QStandardPaths::writableLocation(QStandardPaths::GenericConfigLocation);
        m_file = config + QStringLiteral("/rankwise/workbench.ini");
        m_dataFolder =
            QStandardPaths::writableLocation(QStandardPaths::GenericDataLocation) + QStringLiteral("/rankwise");
    } else {
        m_file = file;
        m_dataFolder = QFileInfo(file).absolutePath();
    }
    const QSettings store(m_file, QSettings::IniFormat);
    const QStringList names = store.allKeys();
    for (const QString& name : names) {
        m_values.insert(name, store.value(name));
    }
    m_later.setSingleShot(true);
    m_later.setInterval(kWriteMs);
    connect(&m_later, &QTimer::timeout, this, &Settings::write);
}

Settings::~Settings()
{
    if (!m_unwritten.isEmpty()) {
        (void)writeValues(m_file, m_unwritten);
    }
}

void Settings::writeWith(JobRunner& runner)
{
    m_runner = &runner;
}

void Settings::put(const QString& key, const QVariant& value)
{
    if (m_values.value(key) == value) {
        return;
    }
    if (value.isValid()) {
        m_values.insert(key, value);
    } else {
        m_values.remove(key);
    }
    m_unwritten.insert(key, value);
    m_later.start();
}

void Settings::write()
{
    const auto values = std::exchange(m_unwritten, {});
    if (m_runner == nullptr) {
        (void)writeValues(m_file, values);
        return;
    }
    m_runner->startInOrder<bool>([file = m_file, values](const JobContext&) { return writeValues(file, values); }, this,
                                 [](const Result<bool>&) {});
}

QVariant Settings::value(const QString& key) const
{
    const SettingSpec* spec = findSetting(key);
    const QVariant value = m_values.value(key, spec != nullptr ? spec->standard : QVariant());
    if (spec != nullptr && spec->kind == SettingKind::Percent) {
        return std::clamp(value.toDouble(), spec->lowest, spec->highest);
    }
    return value;
}

void Settings::setValue(const QString& key, const QVariant& value)
{
    put(key, value);
    Q_EMIT changed(key);
}

void Settings::reset(const QString& key)
{
    put(key, {});
    Q_EMIT changed(key);
}

bool Settings::isStandard(const QString& key) const
{
    const SettingSpec* spec = findSetting(key);
    return spec == nullptr || !spec->standard.isValid() || value(key).toString() == spec->standard.toString();
}

QString Settings::theme() const
{
    return value(QStringLiteral("theme")).toString();
}

void Settings::setTheme(const QString& name)
{
    setValue(QStringLiteral("theme"), name);
}

double Settings::zoom() const
{
    return value(QStringLiteral("zoom")).toDouble();
}

void Settings::setZoom(double factor)
{
    setValue(QStringLiteral("zoom"), std::clamp(factor, 0.5, 3.0));
}

QString Settings::runsFolder() const
{
    return value(QStringLiteral("runs_folder")).toString();
}

void Settings::setRunsFolder(const QString& folder)
{
    setValue(QStringLiteral("runs_folder"), folder);
}

bool Settings::softwareCharts() const
{
    return value(QStringLiteral("software_charts")).toBool();
}

void Settings::setSoftwareCharts(bool on)
{
    setValue(QStringLiteral("software_charts"), on);
}

QStringList Settings::recent() const
{
    return m_values.value(kRecent).toStringList();
}

void Settings::addRecent(const QString& kind, const QString& path)
{
    QStringList list = recent();
    const QString entry = kind + QLatin1Char('\n') + path;
    list.removeAll(entry);
    list.prepend(entry);
    setValue(kRecent, QStringList(list.mid(0, kMaxRecent)));
}

void Settings::clearRecent()
{
    reset(kRecent);
}

QHash<QString, QString> Settings::keys() const
{
    QHash<QString, QString> keys;
    for (auto entry = m_values.begin(); entry != m_values.end(); ++entry) {
        if (entry.key().startsWith(kKeys)) {
            keys.insert(entry.key().mid(kKeys.size()), entry.value().toString());
        }
    }
    return keys;
}

void Settings::setKeys(const QHash<QString, QString>& keys)
{
    const QStringList before = this->keys().keys();
    for (const QString& id : before) {
        if (!keys.contains(id)) {
            put(kKeys + id, {});
        }
    }
    for (auto entry = keys.begin(); entry != keys.end(); ++entry) {
        put(kKeys + entry.key(), entry.value());
    }
}

QString Settings::dataFolder() const
{
    QDir().mkpath(m_dataFolder);
    return m_dataFolder;
}

} // namespace rankwise::bridge
