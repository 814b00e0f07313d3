// The tensors of a policy by their names in the checkpoint: one table that loading, saving, random initialisation and
// parameter lists all read, so that a name stands in one place.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"
#include "backend/models/policy_registry.h"
#include "backend/tensor/tensor_file.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// How a tensor starts when a policy is trained from scratch.
enum class WeightInit : std::uint8_t {
    Linear,    ///< N(0, (0.8/√in)²)
    Residual,  ///< N(0, (0.4/√in)²): ends a residual branch
    Output,    ///< N(0, (0.08/√in)²): the action output
    Embedding, ///< N(0, 1/width)
    Position,  ///< N(0, 0.02²)
    One,
    Zero,
};

struct WeightSlot {
    std::string name;
    std::vector<std::int64_t> shape;
    at::Tensor* tensor = nullptr; ///< The model's member; stays valid as long as the model.
    WeightInit init = WeightInit::Linear;
    bool wide = false;     ///< f32 also with Precision::Mixed.
    bool optional = false; ///< May be absent from a file: then `fallback`'s values are taken.
    std::string fallback;
    bool trainableByConfig = true;
};

/// In the checkpoint's order.
class WeightTable {
public:
    void add(WeightSlot slot) { m_slots.push_back(std::move(slot)); }

    /// Fills every slot from `file`. `canonical` turns a stored name into the table's, or gives nothing for one that
    /// is no weight of the network.
    /// Errors: TensorNotFound (all missing names), DataInvalid (unexpected names, a name twice), ShapeMismatch (all
    /// that differ), Unsupported, Cancelled. After an error the slots are unchanged.
    [[nodiscard]] Result<void> load(const tensor::TensorFile& file,
                                    const std::function<std::optional<std::string>(const std::string&)>& canonical,
                                    const PolicyOptions& options, const JobContext& job);

    /// Random values as WeightInit says; the same on every machine.
    void initialise(std::uint64_t seed, const PolicyOptions& options);

    [[nodiscard]] std::vector<NamedParameter> parameters() const;
    [[nodiscard]] const std::vector<WeightSlot>& slots() const { return m_slots; }

private:
    std::vector<WeightSlot> m_slots;
};

/// Gives the slots of a new policy their tensors.
using WeightFill = std::function<Result<void>(WeightTable&)>;

/// The names of lerobot's older checkpoints in today's form: `._orig_mod.` dropped, `model.` put before names that
/// lack it. Nothing for normalisation statistics, which old files hold beside the weights.
[[nodiscard]] std::optional<std::string> canonicalName(const std::string& stored);

} // namespace rankwise::models
