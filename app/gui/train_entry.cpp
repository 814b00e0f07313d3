// The Train tab in the window.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/layer_source.h"
#include "app/gui/main_window.h"
#include "app/gui/view_registry.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"
#include "widgets/train/train_view.h"

namespace rankwise::gui {

using train_view::TrainView;

namespace {

/// Open runs, and the layers of the selected one.
std::vector<common::PaletteSource> runSources(const ViewContext& context, const QString& id)
{
    QVector<common::PaletteEntry> runs;
    const auto open = context.workspace.runs();
    for (const bridge::RunTail* run : open) {
        const QString path = run->path();
        runs.push_back(
            { .text = run->title(),
              .category = TrainView::tr("Run"),
              .key = {},
              .run =
                  [context, id, path] {
                      context.workspace.selectRun(path);
                      context.view(id, true);
                  },
              .command = [path] { return QStringLiteral("rankwise gui --open ") + bridge::shellWord(path); } });
    }
    std::vector<std::string> layers;
    if (const bridge::RunTail* run = context.workspace.currentRun()) {
        for (const data::RunLayer& layer : run->record().layers()) {
            layers.push_back(layer.path);
        }
    }
    return { common::paletteSource(runs), layerSource(context, std::move(layers), context.workspace.selection().run) };
}

} // namespace

ViewEntry trainEntry()
{
    const QString id = QStringLiteral("train");
    return { .id = id,
             .title = TrainView::tr("Train"),
             .menu = TrainView::tr("&Train"),
             .key = QStringLiteral("Ctrl+3"),
             .kinds = { bridge::ItemKind::Run },
             .make =
                 [](const ViewContext& context) {
                     return speaking(new TrainView(context.workspace, context.settings, context.commands,
                                                   context.actions, context.undo),
                                     context);
                 },
             .addCommands =
                 [id](const ViewContext& context) {
                     TrainView::addCommands(context.commands, context.workspace,
                                            viewForCommands<TrainView>(context, id));
                 },
             .commandIds = TrainView::commandIds(),
             .palette = [id](const ViewContext& context) { return runSources(context, id); } };
}

TrainView* MainWindow::trainView()
{
    return viewAs<TrainView>(QStringLiteral("train"), true);
}

} // namespace rankwise::gui
