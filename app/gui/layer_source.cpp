// SPDX-License-Identifier: Apache-2.0
#include "app/gui/layer_source.h"

#include "widgets/bridge/text.h"

#include <QObject>

#include <memory>

namespace rankwise::gui {

common::PaletteSource layerSource(const ViewContext& context, std::vector<std::string> layers, const QString& item)
{
    const auto count = static_cast<qsizetype>(layers.size());
    auto shared = std::make_shared<const std::vector<std::string>>(std::move(layers));
    return { count, [context, shared, item](qsizetype at) -> common::PaletteEntry {
                const QString layer = bridge::toQString((*shared)[static_cast<std::size_t>(at)]);
                return { .text = layer,
                         .category = QObject::tr("Layer"),
                         .key = {},
                         .run = [context, layer] { context.workspace.selectLayer(layer); },
                         .command =
                             [item, layer] {
                                 return QStringLiteral("rankwise gui --open %1 --layer %2")
                                     .arg(bridge::shellWord(item), bridge::shellWord(layer));
                             } };
            } };
}

} // namespace rankwise::gui
