// The Spectra tab in the window.
// SPDX-License-Identifier: Apache-2.0
#include "app/gui/layer_source.h"
#include "app/gui/main_window.h"
#include "app/gui/view_registry.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/spectra/spectra_view.h"

#include <unordered_set>

namespace rankwise::gui {

using spectra_view::SpectraView;

namespace {

/// The layers whose spectra are shown, but those that the selected run has too.
std::vector<common::PaletteSource> spectraLayers(const ViewContext& context, const QString& id)
{
    auto* view = qobject_cast<SpectraView*>(context.view(id, false));
    if (view == nullptr) {
        return {};
    }
    std::unordered_set<std::string> known;
    if (const bridge::RunTail* run = context.workspace.currentRun()) {
        for (const data::RunLayer& layer : run->record().layers()) {
            known.insert(layer.path);
        }
    }
    std::vector<std::string> layers;
    for (const data::SpectraLayer& layer : view->state().set().layers) {
        if (known.insert(layer.path).second) {
            layers.push_back(layer.path);
        }
    }
    return { layerSource(context, std::move(layers), view->subject()) };
}

} // namespace

ViewEntry spectraEntry()
{
    const QString id = QStringLiteral("spectra");
    return { .id = id,
             .title = SpectraView::tr("Spectra"),
             .menu = SpectraView::tr("S&pectra"),
             .key = QStringLiteral("Ctrl+4"),
             .kinds = { bridge::ItemKind::Checkpoint, bridge::ItemKind::Adapter, bridge::ItemKind::Spectra },
             .make =
                 [](const ViewContext& context) {
                     return speaking(
                         new SpectraView(context.workspace, context.computations, context.commands, context.actions),
                         context);
                 },
             .addCommands =
                 [id](const ViewContext& context) {
                     SpectraView::addCommands(
                         context.commands, context.workspace, context.computations,
                         [context, id](bool show) { return qobject_cast<SpectraView*>(context.view(id, show)); });
                 },
             .commandIds = SpectraView::commandIds(),
             .palette = [id](const ViewContext& context) { return spectraLayers(context, id); } };
}

SpectraView* MainWindow::spectraView(bool make)
{
    return viewAs<SpectraView>(QStringLiteral("spectra"), make);
}

} // namespace rankwise::gui
