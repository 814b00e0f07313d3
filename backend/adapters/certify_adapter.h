// Golden cases of adapters: ours against recorded results of the authors' code and of PEFT.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/models/certify.h"

#include <filesystem>
#include <vector>

namespace rankwise::adapters {

/// Compares every output that the case `json` records (a JSON file beside its .safetensors, or golden.json in an
/// adapter folder). What a case is follows from its folder (lora_sp, peft, baselines) and name.
///
/// Errors: those of reading; Unsupported for a case of a method that does not exist here, so that nothing passes
/// unseen. A wrong result is a failed row.
[[nodiscard]] Result<models::CertifyReport> certifyAdapterCase(const std::filesystem::path& json,
                                                               const models::CertifyOptions& options = {});

/// Case files under `root` (the folder that holds lora_sp, peft and baselines), sorted. Cases of methods that are not
/// in the registry are left out.
[[nodiscard]] Result<std::vector<std::filesystem::path>> adapterCases(const std::filesystem::path& root);

} // namespace rankwise::adapters
