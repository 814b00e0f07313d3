// SPDX-License-Identifier: Apache-2.0
#include "app/gui/view_registry.h"

namespace rankwise::gui {

// One word a view, in the order of the tabs: NAME stands for NAMEEntry() in NAME_entry.cpp.
#define RANKWISE_VIEWS(VIEW) VIEW(robot) VIEW(datasets) VIEW(train) VIEW(spectra) VIEW(demo)

#define RANKWISE_DECLARE(name) ViewEntry name##Entry();
RANKWISE_VIEWS(RANKWISE_DECLARE)

std::vector<ViewEntry> viewEntries()
{
#define RANKWISE_ENTRY(name) name##Entry(),
    return { RANKWISE_VIEWS(RANKWISE_ENTRY) };
}

} // namespace rankwise::gui
