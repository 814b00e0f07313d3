// Log lines of this process, newest last, for the log dock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/log.h"

#include <QAbstractTableModel>
#include <QTimer>

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace rankwise::bridge {

/// Listens from construction to destruction; one at a time. Keeps the newest 20,000 lines.
class LogModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Time, Level, Module, Message, ColumnCount };
    enum Role { LevelRole = Qt::UserRole, UnixSecondsRole }; ///< log::Level as int; a double.

    explicit LogModel(QObject* parent = nullptr);
    ~LogModel() override;

    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    /// Shared with the logging threads.
    struct Inbox {
        std::mutex mutex;
        std::vector<log::Record> records;
    };
    void collect();

    std::shared_ptr<Inbox> m_inbox;
    std::deque<log::Record> m_lines;
    QTimer m_timer;
};

} // namespace rankwise::bridge
