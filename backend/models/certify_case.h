// A recorded case that is being judged: what the judges of the modules above this one share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/certify.h"
#include "backend/tensor/tensor_file.h"

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

namespace rankwise::models {

/// One JSON file, the tensors in the safetensors file beside it, and what was compared so far.
struct CertifyCase {
    std::filesystem::path file;
    Json json;
    tensor::TensorMap tensors; ///< Empty where there is no such file.
    CertifyReport report;
    double toleranceScale = 1;

    /// Reads `path` and its tensors; sets all but the report's name, kind, family and rows.
    ///
    /// Errors: those of reading.
    [[nodiscard]] Result<void> load(const std::filesystem::path& path, const CertifyOptions& options);

    /// As compareTensors() of certify.h, in float64 and with both tolerances times `toleranceScale`.
    void compare(const std::string& name, const at::Tensor& ours, const at::Tensor& theirs, double relative,
                 double absolute = 0);
    void compareNumber(const std::string& name, double ours, double theirs, double relative, double absolute = 0);
    /// Something that holds or does not; `note` says why it should.
    void require(const std::string& name, bool holds, const std::string& note = {});
};

} // namespace rankwise::models
