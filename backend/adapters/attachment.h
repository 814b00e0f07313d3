// What every method does to a policy: freeze it, hook adapters into chosen layers, and undo both.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/target_selection.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::adapters {

/// The layers of one method in one policy. The policy must outlive it.
class Attachment {
public:
    struct Layer {
        models::Linear* linear = nullptr;
        std::shared_ptr<models::LinearAdapter> adapter;
    };
    using Factory = std::function<std::shared_ptr<models::LinearAdapter>(const models::Linear&)>;

    /// Freezes all parameters and puts an adapter on each layer that `options` choose. Nothing changed on errors.
    /// Errors: FieldInvalid, AlreadyExists (a layer has an adapter).
    [[nodiscard]] Result<void> attach(models::Policy& policy, const TargetOptions& options, const Factory& factory);
    /// Removes the hooks and restores what was trainable.
    void detach(models::Policy& policy);

    [[nodiscard]] bool attached() const { return !m_layers.empty(); }
    [[nodiscard]] const std::vector<Layer>& layers() const { return m_layers; }
    [[nodiscard]] std::vector<std::string> paths() const;
    /// Paths of all linear layers of the policy.
    [[nodiscard]] const std::vector<std::string>& allPaths() const { return m_allPaths; }

    /// Parameters under modules_to_save, made trainable; names as in the checkpoint.
    [[nodiscard]] const std::vector<models::NamedParameter>& savedParameters() const { return m_saved; }

private:
    std::vector<Layer> m_layers;
    std::vector<std::string> m_allPaths;
    std::vector<models::NamedParameter> m_saved;
    std::map<std::string, bool> m_wasTrainable;
};

/// Part of the policy that each parameter belongs to: that of the linear layer whose path shares the most leading
/// components with its name.
[[nodiscard]] std::map<std::string, models::LayerGroup> parameterGroups(models::Policy& policy);

/// "vision", "language", "action" or "projection"; as written in options and files.
[[nodiscard]] std::string_view groupName(models::LayerGroup group);

} // namespace rankwise::adapters
