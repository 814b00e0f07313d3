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

private:
    void refreshButtons();

    bridge::JobsModel& m_model;
    QTableView* m_table;
    QPushButton* m_pause;
    QPushButton* m_cancel;
};

} // namespace rankwise::common
