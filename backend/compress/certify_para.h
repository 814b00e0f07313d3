// Golden cases of PARA: pools, folders, hand and hard cases.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/models/certify.h"

#include <filesystem>
#include <vector>

namespace rankwise::compress {

/// Compares every output that the case `json` records. Folder cases write into a new folder below `scratch`.
/// Errors: those of reading; Unsupported for a case that has no judge. A wrong result is a failed row.
[[nodiscard]] Result<models::CertifyReport> certifyParaCase(const std::filesystem::path& json,
                                                            const std::filesystem::path& scratch,
                                                            const models::CertifyOptions& options = {});

/// Case files in `root` (the folder "para"), sorted. Errors: FileNotFound (none).
[[nodiscard]] Result<std::vector<std::filesystem::path>> paraCases(const std::filesystem::path& root);

} // namespace rankwise::compress
