// The log dock: lines of this process, filtered by level, module and words, or those of one job.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/log_model.h"

#include <QWidget>

class QComboBox;
class QLineEdit;
class QTableView;
class QToolButton;

namespace rankwise::common {

class LogFilter;

class LogPanel : public QWidget {
    Q_OBJECT

public:
    explicit LogPanel(bridge::LogModel& model, QWidget* parent = nullptr);

    /// Every line between two times in Unix seconds, whatever its level, until the user takes that back; `title` says
    /// of what they are.
    void showSpan(const QString& title, double from, double to);
    /// All lines that level and words let through.
    void showAll();
    [[nodiscard]] QTableView& table() { return *m_table; }

private:
    LogFilter* m_filter;
    QComboBox* m_level;
    QLineEdit* m_search;
    QToolButton* m_span;
    QTableView* m_table;
};

} // namespace rankwise::common
