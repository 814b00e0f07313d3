// The views of the window. Each has one file, NAME_entry.cpp, that says what the window has to know about it, and one
// word in the list of view_registry.cpp; tabs, menus, commands and the palette are made from these entries.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/spectra_computations.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"
#include "widgets/common/palette.h"

#include <QStringList>
#include <QVector>

#include <functional>
#include <vector>

class QUndoStack;
class QWidget;

namespace rankwise::gui {

/// What the window lends to its views.
struct ViewContext {
    bridge::Workspace& workspace;
    bridge::Settings& settings;
    bridge::SpectraComputations& computations;
    bridge::CommandRegistry& commands;
    common::ActionBinder& actions;
    QUndoStack& undo;
    std::function<void(const QString&)> say;
    /// A view by its id: made, and in front, with `show`; else nullptr while it was not made.
    std::function<QWidget*(const QString& id, bool show)> view;
    /// Makes a view that is not there, without bringing it to the front.
    std::function<QWidget*(const QString& id)> makeView;
};

/// One view.
struct ViewEntry {
    QString id;                      ///< "train"; stable: sessions store it. Its command is "view.train".
    QString title;                   ///< Of the tab.
    QString menu;                    ///< The title with its mnemonic.
    QString key;                     ///< That goes to it.
    QVector<bridge::ItemKind> kinds; ///< Items that are looked at in it.
    std::function<QWidget*(const ViewContext&)> make;
    std::function<void(const ViewContext&)> addCommands;
    QStringList commandIds; ///< For the menu; an empty one is a separator.
    /// Things in it that can be found.
    std::function<std::vector<common::PaletteSource>(const ViewContext&)> palette = {};
    /// Whether there is something to see; for pictures.
    std::function<bool(QWidget&)> settled = {};
};

/// All views, in the order of the tabs.
[[nodiscard]] std::vector<ViewEntry> viewEntries();

/// Lets a new view speak in the status bar.
template <class View> QWidget* speaking(View* view, const ViewContext& context)
{
    QObject::connect(view, &View::message, view, context.say);
    return view;
}

/// For the commands of a view that take it made: in front while one of them runs.
template <class View> std::function<View*()> viewForCommands(const ViewContext& context, const QString& id)
{
    return [context, id] {
        return qobject_cast<View*>(context.commands.running() ? context.view(id, true) : context.makeView(id));
    };
}

} // namespace rankwise::gui
