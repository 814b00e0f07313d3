// What a path is, for opening: a run, a dataset, a checkpoint or an adapter folder.
// Looks at names and small files only; `rankwise inspect` tells the rest.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "widgets/bridge/workspace.h"

#include <filesystem>
#include <string>

namespace rankwise::bridge {

struct Recognized {
    ItemKind kind = ItemKind::Other;
    std::filesystem::path path; ///< The folder or file that names the item: a file inside a run gives the run.
    std::string detail;
};

/// A file such as meta/info.json, run.json or model.safetensors leads to the item that holds it.
///
/// Errors: FileNotFound, Unsupported (nothing known), and those of reading its description.
/// Thread: any.
[[nodiscard]] Result<Recognized> recognize(const std::filesystem::path& path, const JobContext& job);

} // namespace rankwise::bridge
