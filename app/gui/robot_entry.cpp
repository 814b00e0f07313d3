// The Robot tab in the window.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "app/gui/view_registry.h"
#include "widgets/robot/robot_view.h"

namespace rankwise::gui {

using robot_view::RobotView;

ViewEntry robotEntry()
{
    const QString id = QStringLiteral("robot");
    return { .id = id,
             .title = RobotView::tr("Robot"),
             .menu = RobotView::tr("&Robot"),
             .key = QStringLiteral("Ctrl+1"),
             .kinds = {},
             .make =
                 [](const ViewContext& context) {
                     auto* view = new RobotView(context.workspace, context.actions);
                     QObject::connect(view, &RobotView::armChanged, &context.commands,
                                      &bridge::CommandRegistry::refresh);
                     return speaking(view, context);
                 },
             .addCommands =
                 [id](const ViewContext& context) {
                     RobotView::addCommands(context.commands, [context, id](bool show) {
                         return qobject_cast<RobotView*>(context.view(id, show));
                     });
                 },
             .commandIds = RobotView::commandIds(),
             .settled =
                 [](QWidget& view) {
                     constexpr double kArmSeconds = 2.5; // Until there is something to see.
                     const auto* robot = qobject_cast<RobotView*>(&view);
                     if (robot == nullptr || robot->arm() == nullptr) {
                         return true;
                     }
                     const auto moment = robot->arm()->latest();
                     return moment != nullptr && (moment->time > kArmSeconds || moment->ended);
                 } };
}

RobotView* MainWindow::robotView(bool make)
{
    return viewAs<RobotView>(QStringLiteral("robot"), make);
}

} // namespace rankwise::gui
