// The kinds of cases that this module can certify; certify.cpp picks among them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/certify.h"

#include <filesystem>
#include <string>

namespace rankwise::models {

/// One forward pass with intermediates, loss, gradients and sampling: run with every tap, without taps (padded tokens
/// dropped, products fused), and with only the configured parameters training (context without a graph).
[[nodiscard]] Result<CertifyReport> certifySmolVlaCase(const std::filesystem::path& folder, const Json& caseJson,
                                                       const CertifyOptions& options, const JobContext& job);

/// A whole checkpoint folder: raw observation in, robot units out.
[[nodiscard]] Result<CertifyReport> certifyCheckpoint(const std::filesystem::path& folder, const Json& caseJson,
                                                      const CertifyOptions& options, const JobContext& job);

/// The processors of a policy alone, before and after the network.
[[nodiscard]] Result<CertifyReport> certifyPipeline(const std::filesystem::path& folder, const Json& caseJson,
                                                    const CertifyOptions& options, const JobContext& job);

/// Time embedding, rotary positions, block masks, Euler steps, expert widths.
[[nodiscard]] Result<CertifyReport> certifyPrimitives(const std::filesystem::path& folder, const Json& caseJson,
                                                      const CertifyOptions& options, const JobContext& job);

/// Names, shapes and dtypes of a published checkpoint.
[[nodiscard]] Result<CertifyReport> certifyIdentity(const std::filesystem::path& file, const Json& table,
                                                    const CertifyOptions& options, const JobContext& job);

/// Resized and padded images, rows of case.json.
[[nodiscard]] Result<CertifyReport> certifyImages(const std::filesystem::path& folder, const Json& caseJson,
                                                  const CertifyOptions& options, const JobContext& job);
[[nodiscard]] Result<CertifyReport> certifyOpenVlaImages(const std::filesystem::path& folder, const Json& caseJson,
                                                         const CertifyOptions& options, const JobContext& job);
/// All modes of normalisation there and back.
[[nodiscard]] Result<CertifyReport> certifyNormalisation(const std::filesystem::path& file, const Json& json,
                                                         const CertifyOptions& options, const JobContext& job);
[[nodiscard]] Result<CertifyReport> certifyPrompts(const std::filesystem::path& file, const Json& json,
                                                   const CertifyOptions& options, const JobContext& job);
/// A tokenizer's folder with table.json: texts and their ids.
[[nodiscard]] Result<CertifyReport> certifyTokenizer(const std::filesystem::path& folder, const Json& table,
                                                     const CertifyOptions& options, const JobContext& job);

/// A row that compares something that is no number: `difference` says what differs, empty when nothing does.
void compareText(CertifyReport& report, std::string name, const std::string& difference);

} // namespace rankwise::models
