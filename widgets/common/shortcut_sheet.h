// The sheet of all actions with their keys (F1): search, give another key, copy as command.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"

#include <QDialog>

class QTreeWidget;
class QKeySequenceEdit;
class QPushButton;

namespace rankwise::common {

class ShortcutSheet : public QDialog {
    Q_OBJECT

public:
    ShortcutSheet(bridge::CommandRegistry& registry, QWidget* parent);

Q_SIGNALS:
    void message(const QString& text);

private:
    void refill();
    void giveKey(const QString& key);
    [[nodiscard]] QString currentId() const;

    bridge::CommandRegistry& m_registry;
    QTreeWidget* m_tree;
    QKeySequenceEdit* m_edit;
    QPushButton* m_apply;
    QString m_filter;
};

} // namespace rankwise::common
