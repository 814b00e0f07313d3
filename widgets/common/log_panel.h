// The log dock: lines of this process, filtered by level, module and words.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/log_model.h"

#include <QWidget>

namespace rankwise::common {

class LogPanel : public QWidget {
    Q_OBJECT

public:
    explicit LogPanel(bridge::LogModel& model, QWidget* parent = nullptr);
};

} // namespace rankwise::common
