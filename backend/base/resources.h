// Where the files of resources/ are at run time: beside an installed program, or in the source tree it was built from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <filesystem>

namespace rankwise {

/// Path of a file or folder of resources/, e.g. "scenes/piper_table.xml".
///
/// The first that holds it wins: the folder named by $RANKWISE_RESOURCES, `../share/rankwise` seen from the running
/// program's folder, the source tree.
/// Errors: FileNotFound, naming the places that were looked at. Thread: any.
[[nodiscard]] Result<std::filesystem::path> resourcePath(const std::filesystem::path& relative);

} // namespace rankwise
