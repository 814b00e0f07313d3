// A tiny policy with SmolVLA-like module names, which the PEFT golden folders were made on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/io/policy_config.h"
#include "backend/models/policy.h"
#include "backend/tensor/tensor_file.h"

#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::test {

/// Built from the tensors of tiny_base.safetensors; widths follow from their shapes. `loss` and `sampleActions` use
/// the batch of the golden cases: images[0] [B, 3, 8, 8], tokens, state, and the noise as the action.
class TinyVla final : public models::Policy {
public:
    explicit TinyVla(tensor::TensorMap weights);

    /// [B, steps, pad] from image, tokens [B, L], state [B, pad], action [B, steps, pad], time [B].
    [[nodiscard]] at::Tensor forward(const at::Tensor& image, const at::Tensor& tokens, const at::Tensor& state,
                                     const at::Tensor& action, const at::Tensor& time);
    /// The same from tensors named "model.image", ...
    [[nodiscard]] at::Tensor forward(const tensor::TensorMap& golden);

    [[nodiscard]] models::Linear& linear(const std::string& path);

    [[nodiscard]] std::string_view type() const override { return "smolvla"; }
    [[nodiscard]] const io::PolicyConfig& config() const override { return m_config; }
    [[nodiscard]] std::int64_t chunkSize() const override { return 4; }
    [[nodiscard]] std::int64_t actionSteps() const override { return 4; }
    [[nodiscard]] std::int64_t actionDim() const override { return 7; }
    [[nodiscard]] std::int64_t paddedActionDim() const override;
    [[nodiscard]] std::vector<models::NamedParameter> parameters() const override;
    [[nodiscard]] std::vector<std::reference_wrapper<models::Linear>> linears() override;
    [[nodiscard]] models::LossOutput loss(const models::PolicyBatch& batch, const at::Tensor& noise,
                                          const at::Tensor& time) override;
    [[nodiscard]] at::Tensor sampleActions(const models::PolicyBatch& batch, const at::Tensor& noise,
                                           std::int64_t steps) override;
    void setTaps(models::Taps*) override { }
    void weightsChanged() override { ++changes; }

    int changes = 0; ///< Calls of weightsChanged().

private:
    [[nodiscard]] at::Tensor attention(const std::string& path, const std::string& out, const at::Tensor& x,
                                       std::int64_t heads, std::int64_t kvHeads, bool causal);
    [[nodiscard]] at::Tensor textLayer(const std::string& path, const at::Tensor& x, std::int64_t heads,
                                       std::int64_t kvHeads);

    io::PolicyConfig m_config;
    tensor::TensorMap m_weights;
    std::deque<models::Linear> m_linears;
    std::map<std::string, models::Linear*> m_byPath;
};

} // namespace rankwise::test
