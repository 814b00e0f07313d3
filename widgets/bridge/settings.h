// What the window remembers between starts, apart from sessions. Stored as an INI file in the user's
// configuration folder.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QHash>
#include <QObject>
#include <QSettings>
#include <QString>
#include <QStringList>

#include <memory>

namespace rankwise::bridge {

/// Thread: GUI.
class Settings : public QObject {
    Q_OBJECT

public:
    /// `file` empty: the usual place of this user.
    explicit Settings(const QString& file = {}, QObject* parent = nullptr);

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

Q_SIGNALS:
    void changed();

private:
    std::unique_ptr<QSettings> m_store;
    QString m_dataFolder;
};

} // namespace rankwise::bridge
