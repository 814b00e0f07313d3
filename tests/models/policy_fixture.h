// A tiny SmolVLA with random weights, and batches for it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/io/policy_config.h"
#include "backend/models/policy_registry.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <ATen/core/Tensor.h>

namespace rankwise::tests {

/// Two cameras, `layers` language layers, grouped heads; small enough for finite differences.
io::PolicyConfig tinyConfig(std::int64_t layers = 4);

std::unique_ptr<models::Policy> tinyPolicy(std::uint64_t seed = 3, const models::PolicyOptions& options = {});

struct TinyBatch {
    models::PolicyBatch batch;
    at::Tensor noise;
    at::Tensor time;
};

/// `words` real tokens of six for each sample, equal or not.
TinyBatch tinyBatch(const io::PolicyConfig& config, const std::vector<std::int64_t>& words);

/// Sample `index` of a batch, alone.
TinyBatch sampleOf(const TinyBatch& whole, std::int64_t index);

/// A folder that goes away with the object.
class TemporaryFolder {
public:
    TemporaryFolder()
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "tst_models_XXXXXX").string();
        m_path = mkdtemp(pattern.data());
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder()
    {
        std::error_code error;
        std::filesystem::remove_all(m_path, error);
    }
    [[nodiscard]] const std::filesystem::path& path() const { return m_path; }

private:
    std::filesystem::path m_path;
};

} // namespace rankwise::tests
