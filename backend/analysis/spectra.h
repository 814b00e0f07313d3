// Computes the spectra of a source from coarse to fine: first an estimate of every matrix (exact where that is as
// cheap), smallest matrices first, then the exact values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/analysis/spectra_source.h"
#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/data/spectra_folder.h"

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace rankwise::analysis {

struct SpectraOptions {
    bool coarsePass = true;
    bool exactPass = true;
    bool powerLaws = true;
    std::uint64_t seed = 1; ///< Of the estimates.
    /// What is there already: exact values are not computed again, estimates only by the exact pass.
    std::map<data::SpectrumKey, data::SpectrumPass> known;
    std::int64_t threads = 1; ///< Matrices side by side, each on one thread.
};

/// Called for every spectrum, and after the last of a pass. Thread: one call at a time, from any worker.
/// An error stops the computation and becomes its result.
struct SpectraSink {
    std::function<Result<void>(const data::SpectrumRecord&)> spectrum;
    std::function<Result<void>(data::SpectrumPass)> passEnded;
};

/// Errors: those of SpectraSource::matrix() and singularValues(), with the layer's path; those of the sink; Cancelled.
/// Thread: any; starts `threads` - 1 more. Memory: for each thread, a few matrices.
[[nodiscard]] Result<void> computeSpectra(const SpectraSource& source, const SpectraOptions& options,
                                          const SpectraSink& sink, const JobContext& job = {});

/// Computes into `folder`, which others may follow meanwhile, and goes on from what it has of the same weights. Returns
/// everything. Exact values do not depend on where a computation before was stopped.
/// Errors: those of computeSpectra() and SpectraWriter; also in the folder.
[[nodiscard]] Result<data::SpectraContents> computeSpectraFolder(const SpectraSource& source,
                                                                 const SpectraOptions& options,
                                                                 const std::filesystem::path& folder,
                                                                 const JobContext& job = {});

/// Report of finished spectra: by layer and matrix the measures, k(eta) and, by group, the shares of the values that
/// 50, 60, 70, 80, 90 and 99 % of the energy need.
[[nodiscard]] OrderedJson spectraJson(const data::SpectraContents& contents, double eta);
/// The same as a table for a terminal.
[[nodiscard]] std::string spectraText(const data::SpectraContents& contents, double eta);

} // namespace rankwise::analysis
