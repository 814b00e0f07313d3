// Closing something in the workspace as a step that can be undone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/workspace.h"

#include <QUndoCommand>

namespace rankwise::gui {

/// redo() closes, undo() opens again with the selection of before; an item that is not open is left alone.
class CloseItem : public QUndoCommand {
public:
    CloseItem(bridge::Workspace& workspace, const bridge::WorkspaceItem& item)
        : m_workspace(workspace), m_item(item), m_before(workspace.selection())
    {
        setText(QObject::tr("Close %1").arg(item.title()));
    }
    void redo() override
    {
        m_before = m_workspace.selection();
        m_workspace.closeItem(m_item.path);
    }
    void undo() override
    {
        m_workspace.addItem(m_item);
        m_workspace.select(m_before);
    }

private:
    bridge::Workspace& m_workspace;
    bridge::WorkspaceItem m_item;
    bridge::Selection m_before;
};

} // namespace rankwise::gui
