// The jobs dock: what runs, how far it is, and the buttons to pause and to stop it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/jobs_model.h"

#include <QWidget>

class QPushButton;
class QTableView;

namespace rankwise::common {

class JobsPanel : public QWidget {
    Q_OBJECT

public:
    explicit JobsPanel(bridge::JobsModel& model, QWidget* parent = nullptr);

    [[nodiscard]] QTableView& table() { return *m_table; }
    /// Stops the job of the current row, and so on; nothing where that is not possible.
    void stopCurrent();
    void pauseCurrent();
    void showLogOfCurrent();

Q_SIGNALS:
    /// Asks for the log lines between two times, in Unix seconds; `to` 0: until now.
    void logAsked(const QString& title, double from, double to);

protected:
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    void refreshButtons();

    bridge::JobsModel& m_model;
    QTableView* m_table;
    QPushButton* m_pause;
    QPushButton* m_cancel;
    QPushButton* m_log;
};

} // namespace rankwise::common
