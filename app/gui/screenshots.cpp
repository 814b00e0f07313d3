// SPDX-License-Identifier: Apache-2.0
#include "app/gui/screenshots.h"

#include "widgets/common/theme.h"

#include <QDir>
#include <QImage>
#include <QPixmap>
#include <QTabWidget>
#include <QTimer>

namespace rankwise::gui {

namespace {

constexpr int kPollMs = 100;
constexpr int kMaxPolls = 300;

QString fileName(const QString& title)
{
    QString name = title.toLower();
    for (QChar& letter : name) {
        letter = letter.isLetterOrNumber() ? letter : QLatin1Char('-');
    }
    return name;
}

} // namespace

Screenshots::Screenshots(MainWindow& window, QString folder, QStringList themes, QObject* parent)
    : QObject(parent), m_window(window), m_folder(std::move(folder)), m_themes(std::move(themes))
{
    if (m_themes.isEmpty()) {
        m_themes << common::ThemeSwitch::instance().choice();
    }
}

void Screenshots::start()
{
    if (!QDir().mkpath(m_folder)) {
        Q_EMIT finished(0, tr("cannot make the folder %1").arg(m_folder));
        return;
    }
    makeViews();
}

/// One view an event: all at once would be felt.
void Screenshots::makeViews()
{
    const QStringList ids = m_window.viewIds();
    if (m_views < ids.size()) {
        m_window.view(ids[m_views++]);
        QTimer::singleShot(0, this, &Screenshots::makeViews);
        return;
    }
    list();
    QTimer::singleShot(0, this, &Screenshots::waitForData);
}

void Screenshots::list()
{
    for (const QString& theme : std::as_const(m_themes)) {
        for (const QString& id : m_window.viewIds()) {
            const auto* pages = m_window.view(id)->findChild<QTabWidget*>();
            const int count = pages != nullptr ? pages->count() : 1;
            for (int page = 0; page < count; ++page) {
                const QString part = pages != nullptr ? QLatin1Char('-') + fileName(pages->tabText(page)) : QString();
                m_shots.push_back(
                    { QStringLiteral("%1/%2%3-%4.png").arg(m_folder, id, part, theme), theme, [this, id, page, pages] {
                         m_window.showView(id);
                         if (pages != nullptr) {
                             const_cast<QTabWidget*>(pages)->setCurrentIndex(page);
                         }
                     } });
            }
        }
    }
}

void Screenshots::waitForData()
{
    if (m_window.settled() || ++m_waits > kMaxPolls) {
        next();
    } else {
        QTimer::singleShot(kPollMs, this, &Screenshots::waitForData);
    }
}

void Screenshots::next()
{
    if (m_done == m_shots.size()) {
        Q_EMIT finished(static_cast<int>(m_done), {});
        return;
    }
    const Shot& shot = m_shots[m_done];
    auto& themes = common::ThemeSwitch::instance();
    if (themes.choice() != shot.theme) {
        themes.apply(shot.theme, m_window.settings().zoom());
        QTimer::singleShot(0, this, &Screenshots::next);
        return;
    }
    shot.prepare();
    QTimer::singleShot(m_settleMs, this, [this] {
        const QString file = m_shots[m_done].file;
        m_window.workspace().jobs().start<bool>(
            QString(),
            [file, image = m_window.grab().toImage()](const JobContext&) -> Result<bool> {
                return image.save(file) ? Result<bool>(true) : fail(Errc::IoFailed, "cannot write", file.toStdString());
            },
            this,
            [this](Result<bool> saved) {
                if (!saved) {
                    Q_EMIT finished(static_cast<int>(m_done), QString::fromStdString(saved.error().describe()));
                    return;
                }
                ++m_done;
                QTimer::singleShot(0, this, &Screenshots::next);
            });
    });
}

} // namespace rankwise::gui
