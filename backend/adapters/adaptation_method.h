// The interface of an adaptation method (full fine-tuning, LoRA, LoRA-SP, ...): which parameters it adds to
// linear layers, its auxiliary losses, its statistics, and how it is saved. Adding a method is one file and
// one line in registry.cpp; the train loop, the views and the files know only this interface.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"
#include "backend/models/token_context.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// What one layer did with the tokens of one kind.
struct KindDigest {
    models::TokenKind kind = models::TokenKind::Other;
    std::int64_t tokens = 0;
    double rankMean = 0;
    std::vector<double> expertShares; ///< Empty without routing.
};

/// Statistics of one adapted layer since the last digest, over the valid tokens seen.
struct LayerDigest {
    std::string path; ///< Module path of the linear layer.
    models::LayerGroup group = models::LayerGroup::Projection;
    std::int64_t depth = -1;
    std::int64_t capacity = 0; ///< Bank size or rank.
    std::int64_t tokens = 0;   ///< Tokens counted.
    double rankMean = 0;       ///< Active rank: mean, then quantiles 0, 25, 50, 75, 100 %.
    std::vector<double> rankQuantiles;
    double energy = 1;                ///< Mean kept energy E(k).
    std::vector<double> expertShares; ///< Mean share of each block or expert; empty without routing.
    std::vector<KindDigest> kinds;    ///< The same by kind of token; empty where a method does not tell them apart.
};

/// Where a training run stands when a hook is called.
struct TrainProgress {
    std::int64_t step = 0;  ///< Optimiser steps finished.
    std::int64_t total = 0; ///< Optimiser steps planned.
};

/// Thread: that of the training loop.
class AdaptationMethod {
public:
    virtual ~AdaptationMethod() = default;

    [[nodiscard]] virtual std::string_view name() const = 0; ///< Registry name, e.g. "lora_sp".

    /// Freezes and unfreezes the policy's parameters and hooks adapters into its matching layers.
    /// Errors: FieldInvalid (no layer matches, with the patterns and near misses).
    [[nodiscard]] virtual Result<void> attach(models::Policy& policy, std::uint64_t seed) = 0;
    /// Removes the hooks; the base weights are untouched.
    virtual void detach(models::Policy& policy) = 0;

    /// What the optimiser updates, in a stable order and under stable names.
    [[nodiscard]] virtual std::vector<models::NamedParameter> trainable() const = 0;

    /// Called before each forward pass of a training step; clears per-step records.
    virtual void beginStep(const TrainProgress&) { }
    /// Auxiliary losses of the last forward passes by name, unweighted, and their weighted sum under "total";
    /// empty when the method has none.
    [[nodiscard]] virtual std::map<std::string, at::Tensor> auxiliaryLosses() { return {}; }
    /// After the backward pass, before the optimiser; gradients are there.
    virtual void afterBackward(const TrainProgress&) { }
    /// After the optimiser's step (budget schedules, re-masking).
    virtual void afterStep(const TrainProgress&) { }

    /// Digests of all adapted layers since the last call; empty for methods without per-layer statistics.
    [[nodiscard]] virtual std::vector<LayerDigest> takeDigest() { return {}; }
    /// Tensors worth a snapshot (rank histograms, scores, routing tables) under "<layer path>.<what>".
    [[nodiscard]] virtual std::map<std::string, at::Tensor> snapshot() { return {}; }

    /// State beyond trainable() that resume needs (masks, running means); same names in restoreState().
    [[nodiscard]] virtual std::map<std::string, at::Tensor> state() const { return {}; }
    [[nodiscard]] virtual Result<void> restoreState(const std::map<std::string, at::Tensor>&) { return {}; }

    /// Path of the first layer whose last forward pass gave values that are not numbers; empty when there is none or
    /// the method does not look. Asked for when a loss is not finite.
    [[nodiscard]] virtual std::string nonFiniteLayer() const { return {}; }

    /// A parameter that can change while training ("eta"). Errors: FieldInvalid.
    [[nodiscard]] virtual Result<void> set(std::string_view name, double value);

    /// Resolved configuration, as it goes into run.json.
    [[nodiscard]] virtual Json config() const = 0;

    /// Writes adapter_config.json and adapter_model.safetensors into an existing folder; PEFT's format where it has
    /// the type. `baseModel` goes into base_model_name_or_path.
    [[nodiscard]] virtual Result<void> save(const std::filesystem::path& folder,
                                            const std::string& baseModel) const = 0;
    /// Loads what save() wrote into the attached adapters. Errors: those of the reader, ShapeMismatch, TensorNotFound.
    [[nodiscard]] virtual Result<void> load(const std::filesystem::path& folder) = 0;

    /// Writes a smaller adapter that leaves out vectors which no token needed since the statistics were last reset, as
    /// save() writes and load() reads. Errors: Unsupported (methods without such vectors) and those of save().
    [[nodiscard]] virtual Result<void> saveCompact(const std::filesystem::path& folder, const std::string& baseModel,
                                                   double leastShare) const;

    /// Adds the update to the policy's weights in place, where the update does not depend on the input, and detaches.
    /// Errors: Unsupported.
    [[nodiscard]] virtual Result<void> merge(models::Policy& policy);
};

/// Makes the method `type` from its JSON options, e.g. {"type":"lora_sp","eta":0.9}. Errors: Unsupported (with the
/// names that exist), FieldInvalid.
[[nodiscard]] Result<std::unique_ptr<AdaptationMethod>> makeMethod(const Json& options, const std::string& file);
/// Makes the attached method that `folder` was saved by: reads its adapter_config.json, attaches to `policy` and loads.
/// For variants of LoRA that are read but not trained here (DoRA, AdaLoRA) use mergePeftFolder().
/// Errors: those of reading; Unsupported, FieldInvalid, ShapeMismatch, TensorNotFound.
[[nodiscard]] Result<std::unique_ptr<AdaptationMethod>> methodFromFolder(const std::filesystem::path& folder,
                                                                         models::Policy& policy);
/// Names in the registry, sorted.
[[nodiscard]] std::vector<std::string> methodNames();

} // namespace rankwise::adapters
