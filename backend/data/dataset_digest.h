// What tells one dataset from another, for the files of a run: run.json's "hashes".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <filesystem>
#include <string>

namespace rankwise::data {

/// SHA-256 over every table byte for byte, and over videos by name and length. Stored in run.json: never changes.
/// Errors: IoFailed, Cancelled. Thread: any.
[[nodiscard]] Result<std::string> datasetDigest(const std::filesystem::path& root, const JobContext& job);

} // namespace rankwise::data
