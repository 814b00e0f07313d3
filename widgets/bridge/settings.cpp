// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/settings.h"

#include <QDir>
#include <QFileInfo>
#include <QStandardPaths>

#include <algorithm>

namespace rankwise::bridge {

namespace {
constexpr qsizetype kMaxRecent = 12;
}

Settings::Settings(const QString& file, QObject* parent) : QObject(parent)
{
    if (file.isEmpty()) {
        const QString config = QStandardPaths::writableLocation(QStandardPaths::GenericConfigLocation);
        m_store = std::make_unique<QSettings>(config + QStringLiteral("/rankwise/workbench.ini"), QSettings::IniFormat);
        m_dataFolder =
            QStandardPaths::writableLocation(QStandardPaths::GenericDataLocation) + QStringLiteral("/rankwise");
    } else {
        m_store = std::make_unique<QSettings>(file, QSettings::IniFormat);
        m_dataFolder = QFileInfo(file).absolutePath();
    }
}

QString Settings::theme() const
{
    return m_store->value(QStringLiteral("theme"), QStringLiteral("system")).toString();
}

void Settings::setTheme(const QString& name)
{
    m_store->setValue(QStringLiteral("theme"), name);
    Q_EMIT changed();
}

double Settings::zoom() const
{
    return std::clamp(m_store->value(QStringLiteral("zoom"), 1.0).toDouble(), 0.5, 3.0);
}

void Settings::setZoom(double factor)
{
    m_store->setValue(QStringLiteral("zoom"), std::clamp(factor, 0.5, 3.0));
    Q_EMIT changed();
}

QString Settings::runsFolder() const
{
    const QString fallback = QDir::home().filePath(QStringLiteral("rankwise/runs"));
    return m_store->value(QStringLiteral("runs_folder"), fallback).toString();
}

void Settings::setRunsFolder(const QString& folder)
{
    m_store->setValue(QStringLiteral("runs_folder"), folder);
    Q_EMIT changed();
}

bool Settings::softwareCharts() const
{
    return m_store->value(QStringLiteral("software_charts"), false).toBool();
}

void Settings::setSoftwareCharts(bool on)
{
    m_store->setValue(QStringLiteral("software_charts"), on);
    Q_EMIT changed();
}

QStringList Settings::recent() const
{
    return m_store->value(QStringLiteral("recent")).toStringList();
}

void Settings::addRecent(const QString& kind, const QString& path)
{
    QStringList list = recent();
    const QString entry = kind + QLatin1Char('\n') + path;
    list.removeAll(entry);
    list.prepend(entry);
    while (list.size() > kMaxRecent) {
        list.removeLast();
    }
    m_store->setValue(QStringLiteral("recent"), list);
    Q_EMIT changed();
}

void Settings::clearRecent()
{
    m_store->remove(QStringLiteral("recent"));
    Q_EMIT changed();
}

QHash<QString, QString> Settings::keys() const
{
    QHash<QString, QString> keys;
    m_store->beginGroup(QStringLiteral("keys"));
    const QStringList ids = m_store->childKeys();
    for (const QString& id : ids) {
        keys.insert(id, m_store->value(id).toString());
    }
    m_store->endGroup();
    return keys;
}

void Settings::setKeys(const QHash<QString, QString>& keys)
{
    m_store->remove(QStringLiteral("keys"));
    m_store->beginGroup(QStringLiteral("keys"));
    for (auto entry = keys.begin(); entry != keys.end(); ++entry) {
        m_store->setValue(entry.key(), entry.value());
    }
    m_store->endGroup();
}

QString Settings::dataFolder() const
{
    QDir().mkpath(m_dataFolder);
    return m_dataFolder;
}

} // namespace rankwise::bridge
