// The steps that a processor pipeline is made of. Internal to the processor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/processor.h"

#include <memory>
#include <string>
#include <vector>

namespace rankwise::models {

/// One step; immutable. Source: the class that lerobot registers under the same name.
class ProcessorStep {
public:
    virtual ~ProcessorStep() = default;
    [[nodiscard]] virtual Result<void> apply(Transition& transition) const = 0;
    /// The normaliser inside, for steps that have one.
    [[nodiscard]] virtual const Normalizer* normalizer() const { return nullptr; }
    [[nodiscard]] virtual const io::Tokenizer* tokenizer() const { return nullptr; }
};

/// A device by torch's name. Errors: FieldInvalid.
[[nodiscard]] Result<at::Device> deviceNamed(const std::string& name);

/// What the steps of a pipeline are made from besides their JSON.
struct StepSources {
    std::string file;                                                               ///< For messages.
    std::function<Result<Statistics>(const std::string& stateFile)> loadStatistics; ///< Of one step.
    std::function<Result<std::optional<io::Tokenizer>>(const std::string& name)> loadTokenizer;
    const ProcessorOptions& options;
    std::int64_t maxStateDim = 32;
    bool isPostprocessor = false;
    RelativeActions relative; ///< Found in the preprocessor; the postprocessor undoes it.
};

/// Errors: Unsupported (registry name, or a value that is not implemented), FieldInvalid, FieldMissing, and those of
/// the loaders. A step that shifts actions is remembered in `sources.relative`.
[[nodiscard]] Result<std::unique_ptr<const ProcessorStep>> makeProcessorStep(const io::ProcessorStep& description,
                                                                             StepSources& sources);

} // namespace rankwise::models
