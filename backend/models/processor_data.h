// What a policy's processor holds. Internal to the processor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/processor_steps.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::models {

struct PolicyProcessorData {
    io::PolicyConfig config;
    io::ProcessorPipeline pre;  ///< As in the files, for saving; empty for OpenVLA.
    io::ProcessorPipeline post; ///< As above.
    std::vector<std::unique_ptr<const ProcessorStep>> preSteps;
    std::vector<std::unique_ptr<const ProcessorStep>> postSteps;

    RelativeActions relative; ///< Of the preprocessor.
    at::Device device = at::kCPU;
    std::optional<io::Tokenizer> openVlaTokenizer;
    OpenVlaImageConfig openVlaImages;
    std::map<std::string, io::ActionStatistics> openVlaActions; ///< By data set.
    std::string unnormKey;

    /// The first normaliser of either pipeline, or nullptr.
    [[nodiscard]] const Normalizer* normalizer() const
    {
        for (const auto* steps : { &preSteps, &postSteps }) {
            for (const auto& step : *steps) {
                if (step->normalizer() != nullptr) {
                    return step->normalizer();
                }
            }
        }
        return nullptr;
    }
};

} // namespace rankwise::models
