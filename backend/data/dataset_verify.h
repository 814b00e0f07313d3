// Looks at the pictures of an open dataset: video indices against the episode table, framing of embedded pictures,
// and every frame decoded; for the sources of backend/data only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/data/dataset_reader.h"

#include <vector>

namespace rankwise::data {

/// Errors: as DatasetReader::open() with Verify::Files.
[[nodiscard]] Result<void> verifyFiles(const DatasetReader& reader, std::vector<Warning>& warnings);

/// Decodes every frame of every camera in order. Errors: those of DatasetReader::image(), Cancelled.
[[nodiscard]] Result<void> verifyFrames(const DatasetReader& reader, const JobContext& job);

} // namespace rankwise::data
