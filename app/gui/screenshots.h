// Renders every view of a window into PNG files: for documentation and tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/main_window.h"

#include <QObject>
#include <QStringList>

#include <functional>
#include <vector>

namespace rankwise::gui {

/// Goes through the tabs and their pages in each theme, waits until each has settled, and saves
/// `<folder>/<view>[-<page>]-<theme>.png`. Emits finished() with the number of pictures, or a failure.
class Screenshots : public QObject {
    Q_OBJECT

public:
    Screenshots(MainWindow& window, QString folder, QStringList themes, QObject* parent = nullptr);
    void start();
    /// Milliseconds from the moment that a page is shown to its picture.
    void setSettleMs(int milliseconds) { m_settleMs = milliseconds; }

Q_SIGNALS:
    void finished(int pictures, const QString& failure);

private:
    void makeViews();
    void list();
    void waitForData();
    void next();

    struct Shot {
        QString file;
        QString theme;
        std::function<void()> prepare;
    };
    MainWindow& m_window;
    QString m_folder;
    QStringList m_themes;
    std::vector<Shot> m_shots;
    qsizetype m_views = 0; ///< That were made.
    std::size_t m_done = 0;
    int m_waits = 0;
    int m_settleMs = 700;
};

} // namespace rankwise::gui
