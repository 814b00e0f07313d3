// The Datasets tab in the window.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/main_window.h"
#include "app/gui/view_registry.h"
#include "widgets/bridge/text.h"
#include "widgets/datasets/datasets_view.h"

#include <QPointer>

namespace rankwise::gui {

using datasets_view::DatasetsView;

namespace {

/// The episodes of the selected dataset.
std::vector<common::PaletteSource> episodeSource(const ViewContext& context, const QString& id)
{
    auto* view = qobject_cast<DatasetsView*>(context.view(id, false));
    const QString dataset = context.workspace.selection().dataset;
    if (view == nullptr || dataset.isEmpty()) {
        return {};
    }
    const QPointer<bridge::EpisodeModel> episodes(&view->episodes());
    return { { episodes->rowCount(), [context, id, episodes, dataset](qsizetype at) -> common::PaletteEntry {
                  const auto cell = [&](int column) {
                      return episodes ? episodes->data(episodes->index(static_cast<int>(at), column), Qt::DisplayRole)
                                      : QVariant();
                  };
                  const qint64 number = cell(bridge::EpisodeModel::Number).toLongLong();
                  return { .text = QString::number(number) + QStringLiteral(": ")
                               + cell(bridge::EpisodeModel::Task).toString(),
                           .category = DatasetsView::tr("Episode"),
                           .key = {},
                           .run =
                               [context, id, number, dataset] {
                                   context.view(id, true);
                                   context.workspace.selectDataset(dataset);
                                   context.workspace.selectEpisode(number);
                               },
                           .command =
                               [number, dataset] {
                                   return QStringLiteral("rankwise gui --open %1 --episode %2")
                                       .arg(bridge::shellWord(dataset))
                                       .arg(number);
                               } };
              } } };
}

} // namespace

ViewEntry datasetsEntry()
{
    const QString id = QStringLiteral("datasets");
    return { .id = id,
             .title = DatasetsView::tr("Datasets"),
             .menu = DatasetsView::tr("&Datasets"),
             .key = QStringLiteral("Ctrl+2"),
             .kinds = { bridge::ItemKind::Dataset },
             .make =
                 [](const ViewContext& context) {
                     return speaking(new DatasetsView(context.workspace, context.settings, context.actions), context);
                 },
             .addCommands =
                 [id](const ViewContext& context) {
                     DatasetsView::addCommands(context.commands, context.workspace, context.settings,
                                               viewForCommands<DatasetsView>(context, id));
                 },
             .commandIds = DatasetsView::commandIds(),
             .palette = [id](const ViewContext& context) { return episodeSource(context, id); } };
}

DatasetsView* MainWindow::datasetsView()
{
    return viewAs<DatasetsView>(QStringLiteral("datasets"), true);
}

} // namespace rankwise::gui
