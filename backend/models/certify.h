// Comparing our results with recorded ones of the reference implementations: the judge behind `rankwise certify`
// and behind the golden tests, so that both always say the same.
//
// A case is a folder with case.json (what it is, tolerances) and safetensors files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/models/policy_registry.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// One compared tensor or number.
struct CertifyRow {
    std::string name;
    double peak = 0;       ///< Largest absolute value of the reference.
    double difference = 0; ///< Largest |ours - theirs|.
    double relative = 0;   ///< difference / peak; 0 when both are 0.
    double tolerance = 0;  ///< Largest allowed `difference`.
    bool passed = false;
    std::string note; ///< Why a comparison failed or was narrowed ("rows of padding left out"); often empty.
};

struct CertifyReport {
    std::string name;   ///< Of the case.
    std::string kind;   ///< "policy", "checkpoint", "training", "primitives", ...
    std::string family; ///< "smolvla", ...; empty where none applies.
    std::string about;
    std::vector<CertifyRow> rows;

    [[nodiscard]] bool passed() const; ///< At least one row, and every row.
    /// Columns name, peak, difference, relative, tolerance, verdict; failures first unless `all`.
    [[nodiscard]] std::string table(bool all = true) const;
    [[nodiscard]] Json json() const;
};

struct CertifyOptions {
    double toleranceScale = 1; ///< Multiplies every tolerance; 0 shows the true residuals.
    PolicyOptions policy;
};

/// Adds to `report` what |ours - theirs| is against tolerance `relativeToPeak` · max|theirs| + `absolute`.
/// A different shape, a missing tensor (undefined `ours`) and values that are not finite fail.
/// `rows`, where defined, is a bool mask over the leading dimensions of the tensors that says which entries count.
void compareTensors(CertifyReport& report, std::string name, const at::Tensor& ours, const at::Tensor& theirs,
                    double relativeToPeak, double absolute = 0, const at::Tensor& rows = {});
/// As above for numbers: tolerance `relative` · |theirs| + `absolute`.
void compareNumber(CertifyReport& report, std::string name, double ours, double theirs, double relative,
                   double absolute = 0);

/// Runs the case in `folder` (or described by one JSON file: identity tables) and compares every recorded output.
///
/// Errors: those of reading; Unsupported when no runner is registered for the case's kind and family (the message
/// says which), so that nothing passes unseen. A wrong result is not an error but a failed row.
[[nodiscard]] Result<CertifyReport> certifyCase(const std::filesystem::path& folder, const CertifyOptions& options = {},
                                                const JobContext& job = {});

/// What runs one kind of case. `caseJson` is the folder's case.json.
using CertifyRunner = std::function<Result<CertifyReport>(const std::filesystem::path& folder, const Json& caseJson,
                                                          const CertifyOptions& options, const JobContext& job)>;

/// Adds a runner for `kind` and `family` (empty: any). Modules above this one bring theirs so (training steps).
/// Thread: before the first certifyCase().
void registerCertifyRunner(std::string kind, std::string family, CertifyRunner runner);

} // namespace rankwise::models
