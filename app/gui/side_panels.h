// The docks at the sides: the tree of what is open, and the inspector of what is selected.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/workspace.h"

#include <QTreeWidget>

namespace rankwise::gui {

/// Open items by kind. A click or Return selects, Delete closes; the context menu copies.
class WorkspaceTree : public QTreeWidget {
    Q_OBJECT

public:
    explicit WorkspaceTree(bridge::Workspace& workspace, QWidget* parent = nullptr);

Q_SIGNALS:
    void picked(rankwise::bridge::ItemKind kind);
    void closeAsked(const QString& path);

protected:
    void keyPressEvent(QKeyEvent* event) override;

private:
    void add(const bridge::WorkspaceItem& item);
    void remove(const QString& path);
    void markCurrent();
    void pick(const QTreeWidgetItem* item);
    void showMenu(const QPoint& at);

    bridge::Workspace& m_workspace;
    QTreeWidgetItem* m_groups[7] {};
};

/// Name and value of everything known about the selected run, layer, dataset and episode.
class Inspector : public QTreeWidget {
    Q_OBJECT

public:
    explicit Inspector(bridge::Workspace& workspace, QWidget* parent = nullptr);

private:
    void refill();
    void scheduleRefill();
    void addRun(const bridge::RunTail& run);
    void addLayer(const bridge::RunTail& run);

    bridge::Workspace& m_workspace;
    bool m_scheduled = false;
    QString m_followed;
};

} // namespace rankwise::gui
