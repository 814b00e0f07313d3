// The Demo tab in the window.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "app/gui/view_registry.h"
#include "widgets/demo/demo_view.h"

namespace rankwise::gui {

using demo_view::DemoView;

ViewEntry demoEntry()
{
    const QString id = QStringLiteral("demo");
    return { .id = id,
             .title = DemoView::tr("Demo"),
             .menu = DemoView::tr("De&mo"),
             .key = QStringLiteral("Ctrl+5"),
             .kinds = { bridge::ItemKind::Demo },
             .make =
                 [](const ViewContext& context) {
                     return speaking(
                         new DemoView(context.workspace, context.settings, context.commands, context.actions), context);
                 },
             .addCommands =
                 [id](const ViewContext& context) {
                     DemoView::addCommands(context.commands, context.settings, [context, id](bool show) {
                         return qobject_cast<DemoView*>(context.view(id, show));
                     });
                 },
             .commandIds = DemoView::commandIds() };
}

DemoView* MainWindow::demoView()
{
    return viewAs<DemoView>(QStringLiteral("demo"), true);
}

} // namespace rankwise::gui
