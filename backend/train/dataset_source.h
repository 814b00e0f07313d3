// Batches for training from a LeRobotDataset: frames by the loader, features by the policy's processor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/data/loader.h"
#include "backend/models/processor.h"
#include "backend/train/train_config.h"
#include "backend/train/training_loop.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace rankwise::train {

/// Which columns of the dataset serve the policy, after `dataset.rename`.
struct DatasetMapping {
    std::string stateKey;                                     ///< Of the dataset; empty when the policy takes no state.
    std::string actionKey;                                    ///< Of the dataset.
    std::vector<std::pair<std::string, std::string>> cameras; ///< Dataset's key, policy's name; in the policy's order.
    std::vector<std::string> missingCameras;                  ///< Of the policy, not in the dataset.
    std::vector<std::string> unusedCameras;                   ///< Of the dataset.
    std::string labelsKey;                                    ///< Of an auxiliary loss; empty: none.
};

/// Errors: FieldMissing (no action or state column, no camera of the policy; the message lists what is there and the
/// remedy), ShapeMismatch (widths).
[[nodiscard]] Result<DatasetMapping> mapDataset(const data::DatasetInfo& info, const io::PolicyConfig& policy,
                                                const std::map<std::string, std::string>& rename);

/// Statistics of the mapped state and action columns under the policy's names, as the processor takes them: the
/// dataset's own, computed where its files lack them. Those of actions that are relative to the state are computed
/// over all chunks of `chunk` actions that lie within an episode, one vector for all steps of the chunk.
/// Errors: those of reading, NotFinite.
[[nodiscard]] Result<models::Statistics> datasetStatistics(const data::DatasetReader& reader,
                                                           const DatasetMapping& mapping,
                                                           const models::RelativeActions& relative, std::int64_t chunk,
                                                           const JobContext& job);

/// Samples of one batch as the processor takes them, under the policy's names.
[[nodiscard]] Result<models::Transition> transitionOf(const std::vector<data::Sample>& samples,
                                                      const DatasetMapping& mapping);

/// Thread: the training loop's; frames are read by threads inside.
class DatasetSource : public BatchSource {
public:
    /// Errors: those of mapDataset() and of DataLoader::create().
    [[nodiscard]] static Result<std::unique_ptr<DatasetSource>>
    create(std::shared_ptr<const data::DatasetReader> reader, models::PolicyProcessor processor, DatasetMapping mapping,
           const TrainConfig& config, std::int64_t chunk);

    Result<models::PolicyBatch> next(const JobContext& job) override;
    [[nodiscard]] Json position() const override;
    Result<void> seek(const Json& position) override;

private:
    DatasetSource(std::shared_ptr<const data::DatasetReader> reader, models::PolicyProcessor processor,
                  DatasetMapping mapping);
    [[nodiscard]] Result<void> openLoader(const data::SamplerState& start);

    std::shared_ptr<const data::DatasetReader> m_reader;
    models::PolicyProcessor m_processor;
    DatasetMapping m_mapping;
    data::SampleRequest m_request;
    data::LoaderOptions m_options;
    std::unique_ptr<data::DataLoader> m_loader;
    data::SamplerState m_position;
};

} // namespace rankwise::train
