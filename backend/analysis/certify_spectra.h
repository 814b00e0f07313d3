// Golden cases of spectra: measures and fits of singular values, and the randomised SVD.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/models/certify.h"

#include <filesystem>
#include <vector>

namespace rankwise::analysis {

/// Compares every output that the case `json`, with its .safetensors beside it, records.
/// Errors: those of reading; Unsupported for a case of another kind. A wrong result is a failed row.
[[nodiscard]] Result<models::CertifyReport> certifySpectraCase(const std::filesystem::path& json,
                                                               const models::CertifyOptions& options = {});

/// Case files in `root` (the folder "spectra"), sorted. Errors: FileNotFound (none).
[[nodiscard]] Result<std::vector<std::filesystem::path>> spectraCases(const std::filesystem::path& root);

} // namespace rankwise::analysis
