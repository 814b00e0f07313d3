// SPDX-License-Identifier: Apache-2.0
#include "backend/models/certify_case.h"

namespace rankwise::models {

Result<void> CertifyCase::load(const std::filesystem::path& path, const CertifyOptions& options)
{
    file = path;
    toleranceScale = options.toleranceScale;
    RW_TRY(json, readJsonFile(path));
    report.about = json.is_object() ? json.value("note", std::string()) : std::string();
    std::filesystem::path weights = path;
    weights.replace_extension(".safetensors");
    if (std::filesystem::exists(weights)) {
        RW_TRY(tensors, tensor::loadTensors(weights));
    }
    return {};
}

void CertifyCase::compare(const std::string& name, const at::Tensor& ours, const at::Tensor& theirs, double relative,
                          double absolute)
{
    compareTensors(report, name, ours.detach().to(at::kDouble), theirs.to(at::kDouble), relative * toleranceScale,
                   absolute * toleranceScale);
}

void CertifyCase::compareNumber(const std::string& name, double ours, double theirs, double relative, double absolute)
{
    models::compareNumber(report, name, ours, theirs, relative * toleranceScale, absolute * toleranceScale);
}

void CertifyCase::require(const std::string& name, bool holds, const std::string& note)
{
    models::compareNumber(report, name, holds ? 1 : 0, 1, 0);
    if (!holds) {
        report.rows.back().note = note;
    }
}

} // namespace rankwise::models
