// The adaptation method LoRA-SP: layers (lora_sp_layer.h), losses, statistics, pruning and files.
//
// Folder: adapter_config.json with peft_type "LORA_SP", all options, "compacted", and in "format" the version 1;
// adapter_model.safetensors with, for each layer,
//     base_model.model.<path>.lora_sp_V      [R', in]
//     base_model.model.<path>.lora_sp_U      [out, R']
//     base_model.model.<path>.lora_sp_W1     [m, in]
//     base_model.model.<path>.lora_sp_W2     [R', m]    (two-stage router)
//     base_model.model.<path>.lora_sp_eta    scalar f64
//     base_model.model.<path>.lora_sp_index  [R'] i64: where each vector stood in the bank of size R
// R' is R unless vectors were pruned or compacted away. The scale c is in the configuration.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/adaptation_method.h"
#include "backend/adapters/attachment.h"
#include "backend/adapters/lora_sp_layer.h"
#include "backend/base/json.h"

#include <memory>
#include <string>
#include <vector>

namespace rankwise::adapters {

/// Permanent pruning of vectors that no token needs.
struct LoraSpPruning {
    std::int64_t every = 0;     ///< Steps between checks; 0: off.
    std::int64_t warmup = 1000; ///< Steps before the first check.
    double keptBelow = 1e-4;    ///< Dead if kept by a smaller share of the window's tokens...
    double shareBelow = 1e-3;   ///< ...and if no token gave it this share of its energy,
    std::int64_t checks = 3;    ///< in so many checks one after the other.
    std::int64_t least = 4;     ///< Vectors that a layer keeps at least.
    bool rescaleEta = false;    ///< eta ← min(1, eta / (1 - mean share removed)).
};

class LoraSpMethod final : public AdaptationMethod {
public:
    LoraSpMethod(LoraSpOptions options, TargetOptions targets, LoraSpPruning pruning);

    [[nodiscard]] std::string_view name() const override { return "lora_sp"; }
    [[nodiscard]] Result<void> attach(models::Policy& policy, std::uint64_t seed) override;
    void detach(models::Policy& policy) override;
    [[nodiscard]] std::vector<models::NamedParameter> trainable() const override;
    void beginStep(const TrainProgress& progress) override;
    [[nodiscard]] std::map<std::string, at::Tensor> auxiliaryLosses() override;
    void afterStep(const TrainProgress& progress) override;
    [[nodiscard]] std::vector<LayerDigest> takeDigest() override;
    /// For each layer: rank_histogram [R+1], kept [R], share [R], largest_share [R], gates [m] of the tokens since the
    /// last digest, tokens [2] (all, and those sampled for kept and the shares), and W2 [R, m].
    [[nodiscard]] std::map<std::string, at::Tensor> snapshot() override;
    [[nodiscard]] std::map<std::string, at::Tensor> state() const override;
    [[nodiscard]] Result<void> restoreState(const std::map<std::string, at::Tensor>& state) override;
    [[nodiscard]] std::string nonFiniteLayer() const override;
    /// "eta" in (0, 1], for all layers.
    [[nodiscard]] Result<void> set(std::string_view name, double value) override;
    [[nodiscard]] Json config() const override;
    [[nodiscard]] Result<void> save(const std::filesystem::path& folder, const std::string& baseModel) const override;
    [[nodiscard]] Result<void> load(const std::filesystem::path& folder) override;
    /// Leaves out vectors whose largest share of any token's energy since resetStatistics() is below `leastShare`, and
    /// adapts each layer's eta so that the same vectors are kept: eta ← min(1, eta / (1 - mean share removed)).
    /// Before: resetStatistics() or takeDigest(), then the calibration set through the policy without gradients.
    /// Errors: DataInvalid (no token seen, or statistics of training among them) and those of save().
    [[nodiscard]] Result<void> saveCompact(const std::filesystem::path& folder, const std::string& baseModel,
                                           double leastShare) const override;

    /// Forgets the statistics of digests and pruning windows.
    void resetStatistics();
    [[nodiscard]] const Attachment& attachment() const { return m_attachment; }
    [[nodiscard]] std::vector<LoraSpLayer*> layers() const;

private:
    struct Outgoing {
        std::vector<std::int64_t> index;
        double eta = 0.9;
    };
    [[nodiscard]] Result<void> write(const std::filesystem::path& folder, const std::string& baseModel, bool compacted,
                                     const std::vector<Outgoing>& layers) const;
    void pruneLayer(LoraSpLayer& layer, std::vector<std::int64_t>& strikes) const;

    LoraSpOptions m_options;
    TargetOptions m_targets;
    LoraSpPruning m_pruning;
    Attachment m_attachment;
    std::shared_ptr<AdapterRandom> m_random;
    std::vector<std::vector<std::int64_t>> m_strikes; ///< For each layer and vector: failed checks in a row.
};

/// Options: those of LoraSpOptions and TargetOptions, and "prune": { every, warmup, kept_below, share_below, checks,
/// least, rescale_eta }.
[[nodiscard]] std::unique_ptr<AdaptationMethod> makeLoraSp(FieldReader& reader);

} // namespace rankwise::adapters
