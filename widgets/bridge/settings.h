// What the window remembers between starts, apart from sessions. Stored as an INI file in the user's
// configuration folder.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QHash>
#include <QMap>
#include <QObject>
#include <QPointer>
#include <QString>
#include <QStringList>
#include <QTimer>
#include <QVariant>

namespace rankwise::bridge {

class JobRunner;

/// Values are kept in memory, read once and written a moment after a change. Thread: GUI.
class Settings : public QObject {
    Q_OBJECT

public:
    /// `file` empty: the usual place of this user.
    explicit Settings(const QString& file = {}, QObject* parent = nullptr);
    ~Settings() override; ///< Writes what is not written yet.

    /// Writes with this runner from now on, away from the GUI thread: a sync of the disk may take long.
    void writeWith(JobRunner& runner);

    /// The value of an entry of settingList(), as delivered where the user gave none.
    [[nodiscard]] QVariant value(const QString& key) const;
    void setValue(const QString& key, const QVariant& value);
    /// Puts the value as delivered back.
    void reset(const QString& key);
    [[nodiscard]] bool isStandard(const QString& key) const;

    [[nodiscard]] QString theme() const; ///< "system", "dark", "light" or "contrast".
    void setTheme(const QString& name);
    [[nodiscard]] double zoom() const; ///< 0.5 … 3, 1 is the system's font size.
    void setZoom(double factor);
    [[nodiscard]] QString runsFolder() const;
    void setRunsFolder(const QString& folder);
    [[nodiscard]] bool softwareCharts() const; ///< Draw charts without OpenGL.
    void setSoftwareCharts(bool on);

    /// Newest first, at most 12, as "kind\npath".
    [[nodiscard]] QStringList recent() const;
    void addRecent(const QString& kind, const QString& path);
    void clearRecent();

    [[nodiscard]] QHash<QString, QString> keys() const;
    void setKeys(const QHash<QString, QString>& keys);

    /// Folder of sessions and crash journals; made when asked for.
    [[nodiscard]] QString dataFolder() const;
    [[nodiscard]] QString sessionsFolder() const { return m_dataFolder + QStringLiteral("/sessions"); }

Q_SIGNALS:
    void changed(const QString& key);

private:
    void put(const QString& key, const QVariant& value); ///< An invalid value takes the key away.
    void write();

    QString m_file;
    QString m_dataFolder;
    QHash<QString, QVariant> m_values;
    QMap<QString, QVariant> m_unwritten;
    QPointer<JobRunner> m_runner;
    QTimer m_later;
};

} // namespace rankwise::bridge
