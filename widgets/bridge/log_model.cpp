// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/log_model.h"

#include "widgets/bridge/text.h"

#include <QDateTime>

#include <array>
#include <utility>

namespace rankwise::bridge {

namespace {

constexpr std::size_t kMaxLines = 20'000;

QString levelName(log::Level level)
{
    static constexpr std::array kNames { "trace", "debug", "info", "warning", "error", "off" };
    return QLatin1String(kNames.at(static_cast<std::size_t>(level)));
}

} // namespace

LogModel::LogModel(QObject* parent) : QAbstractTableModel(parent), m_inbox(std::make_shared<Inbox>())
{
    log::setListener([inbox = m_inbox](const log::Record& record) {
        const std::lock_guard lock(inbox->mutex);
        inbox->records.push_back(record);
    });
    m_timer.setInterval(100);
    connect(&m_timer, &QTimer::timeout, this, &LogModel::collect);
    m_timer.start();
}

LogModel::~LogModel()
{
    log::setListener({});
}

void LogModel::collect()
{
    std::vector<log::Record> fresh;
    {
        const std::lock_guard lock(m_inbox->mutex);
        fresh.swap(m_inbox->records);
    }
    if (fresh.empty()) {
        return;
    }
    const int first = static_cast<int>(m_lines.size());
    beginInsertRows({}, first, first + static_cast<int>(fresh.size()) - 1);
    for (log::Record& record : fresh) {
        m_lines.push_back(std::move(record));
    }
    endInsertRows();
    if (m_lines.size() > kMaxLines) {
        const int extra = static_cast<int>(m_lines.size() - kMaxLines);
        beginRemoveRows({}, 0, extra - 1);
        m_lines.erase(m_lines.begin(), m_lines.begin() + extra);
        endRemoveRows();
    }
}

int LogModel::rowCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : static_cast<int>(m_lines.size());
}

int LogModel::columnCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : ColumnCount;
}

QVariant LogModel::data(const QModelIndex& index, int role) const
{
    if (!checkIndex(index, CheckIndexOption::IndexIsValid)) {
        return {};
    }
    const log::Record& line = m_lines[static_cast<std::size_t>(index.row())];
    if (role == LevelRole) {
        return static_cast<int>(line.level);
    }
    if (role == UnixSecondsRole) {
        return line.unixSeconds;
    }
    if (role != Qt::DisplayRole) {
        return {};
    }
    switch (index.column()) {
    case Time:
        return QDateTime::fromMSecsSinceEpoch(static_cast<qint64>(line.unixSeconds * 1000))
            .toString(QStringLiteral("HH:mm:ss.zzz"));
    case Level:
        return levelName(line.level);
    case Module:
        return toQString(line.module);
    case Message:
        return toQString(line.message);
    default:
        return {};
    }
}

QVariant LogModel::headerData(int section, Qt::Orientation orientation, int role) const
{
    if (role != Qt::DisplayRole || orientation != Qt::Horizontal) {
        return {};
    }
    switch (section) {
    case Time:
        return tr("Time");
    case Level:
        return tr("Level");
    case Module:
        return tr("Module");
    case Message:
        return tr("Message");
    default:
        return {};
    }
}

} // namespace rankwise::bridge
