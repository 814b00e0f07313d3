// What the pre-flight of a composed run found: which layers it adapts, how much trains, what it needs and how long it
// takes, and every check with its verdict.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"

#include <QWidget>

class QFormLayout;
class QLabel;
class QVBoxLayout;

namespace rankwise::train_view {

/// Thread: GUI.
class PreflightCard : public QWidget {
    Q_OBJECT

public:
    explicit PreflightCard(QWidget* parent = nullptr);

    void showBusy();
    /// `report` as PreflightReport::json() writes it.
    void showReport(const Json& report);
    void showFailure(const Error& error);
    void clear();
    /// Everything the card says, a line a check.
    [[nodiscard]] QString text() const;

private:
    void addNumber(const QString& name, const QString& value);
    void addCheck(const QString& level, const QString& name, const QString& text);

    QLabel* m_verdict;
    QFormLayout* m_numbers;
    QVBoxLayout* m_checks;
    QStringList m_lines;
};

} // namespace rankwise::train_view
