// A recorder of intermediate activations, for tests, certification and panels that look inside a policy.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <utility>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// Receives activations by name while a policy runs. A policy without a recorder does no extra work; with one it
/// keeps padded tokens that it would otherwise drop, so that every recorded tensor has the full width.
class Taps {
public:
    /// Keeps a reference to `value`, detached; a name that is there already keeps its first value.
    void put(std::string name, const at::Tensor& value);
    /// As put(), and a later value replaces an earlier one.
    void replace(std::string name, const at::Tensor& value);

    [[nodiscard]] const std::map<std::string, at::Tensor>& tensors() const { return m_tensors; }
    void clear() { m_tensors.clear(); }

private:
    std::map<std::string, at::Tensor> m_tensors;
};

} // namespace rankwise::models
