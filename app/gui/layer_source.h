// Layers in the palette.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/gui/view_registry.h"

#include <string>
#include <vector>

namespace rankwise::gui {

/// Layers by their module path; picking one selects it. `item` is what they belong to.
[[nodiscard]] common::PaletteSource layerSource(const ViewContext& context, std::vector<std::string> layers,
                                                const QString& item);

} // namespace rankwise::gui
