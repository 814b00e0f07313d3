// SHA-256 of tensors: which weights two checkpoints share, and what a run started from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/tensor/tensor_file.h"

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace rankwise::tensor {

/// 64 hexadecimal digits over the row-major bytes, little-endian; neither shape nor dtype enters.
[[nodiscard]] std::string sha256OfTensor(const at::Tensor& tensor);

/// sha256OfTensor() of each. Errors: Cancelled.
[[nodiscard]] Result<std::map<std::string, std::string>> hashTensors(const TensorMap& tensors,
                                                                     const JobContext& job = {});

/// One digest of a whole state dict: over name, dtype, shape and bytes of every tensor in the order of the names.
/// Errors: Cancelled.
[[nodiscard]] Result<std::string> sha256OfTensors(const TensorMap& tensors, const JobContext& job = {});

} // namespace rankwise::tensor
