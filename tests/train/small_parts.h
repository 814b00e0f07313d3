// The smallest policy, method and batches that the training loop can run: two linear layers, every weight trained.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/io/policy_config.h"
#include "backend/tensor/tensor_file.h"
#include "backend/train/flow_noise.h"
#include "backend/train/training_loop.h"

#include <chrono>
#include <limits>
#include <thread>

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/scalar_tensor.h>

#include <nlohmann/json.hpp>

namespace rankwise::test {

inline constexpr std::int64_t kChunk = 3;
inline constexpr std::int64_t kWidth = 4;
inline constexpr std::int64_t kState = 5;

class SmallPolicy : public models::Policy {
public:
    SmallPolicy()
    {
        m_config.type = "small";
        const std::int64_t in = kChunk * kWidth + 1 + kState;
        first.weight = train::drawNoise(1, 1, 16, in).squeeze(0).mul(0.2);
        second.weight = train::drawNoise(2, 1, kChunk * kWidth, 16).squeeze(0).mul(0.2);
        first.path = "net.first";
        first.group = models::LayerGroup::Language;
        second.path = "net.second";
        second.group = models::LayerGroup::Action;
    }
    [[nodiscard]] std::string_view type() const override { return "small"; }
    [[nodiscard]] const io::PolicyConfig& config() const override { return m_config; }
    [[nodiscard]] std::int64_t chunkSize() const override { return kChunk; }
    [[nodiscard]] std::int64_t actionSteps() const override { return kChunk; }
    [[nodiscard]] std::int64_t actionDim() const override { return kWidth; }
    [[nodiscard]] std::int64_t paddedActionDim() const override { return kWidth; }
    [[nodiscard]] std::vector<models::NamedParameter> parameters() const override
    {
        return { { "net.first.weight", first.weight }, { "net.second.weight", second.weight } };
    }
    [[nodiscard]] std::vector<std::reference_wrapper<models::Linear>> linears() override { return { first, second }; }
    [[nodiscard]] models::LossOutput loss(const models::PolicyBatch& batch, const at::Tensor& noise,
                                          const at::Tensor& time) override
    {
        const at::Tensor t = time.view({ -1, 1, 1 });
        const at::Tensor mixed = noise.mul(t).add(batch.actions.mul(at::full({}, 1.0).sub(t)));
        const at::Tensor input = at::cat({ mixed.flatten(1), time.unsqueeze(1), batch.state }, 1);
        const at::Tensor velocity = second.forward(at::relu(first.forward(input))).view_as(noise);
        const at::Tensor target = noise.sub(batch.actions);
        return { at::mse_loss(velocity, target), at::Tensor() };
    }
    [[nodiscard]] at::Tensor sampleActions(const models::PolicyBatch&, const at::Tensor& noise, std::int64_t) override
    {
        return noise;
    }
    void setTaps(models::Taps*) override { }
    void weightsChanged() override { ++changes; }

    models::Linear first;
    models::Linear second;
    std::int64_t changes = 0;

private:
    io::PolicyConfig m_config;
};

/// Trains everything; has an auxiliary loss, a digest, a state and a parameter that can change.
class SmallMethod : public adapters::AdaptationMethod {
public:
    [[nodiscard]] std::string_view name() const override { return "small"; }
    Result<void> attach(models::Policy& policy, std::uint64_t) override
    {
        m_parameters = policy.parameters();
        return {};
    }
    void detach(models::Policy&) override { }
    [[nodiscard]] std::vector<models::NamedParameter> trainable() const override { return m_parameters; }
    std::map<std::string, at::Tensor> auxiliaryLosses() override
    {
        const at::Tensor size = m_parameters[0].tensor.square().sum();
        return { { "size", size }, { "total", size.mul(0.001 * eta) } };
    }
    void afterStep(const adapters::TrainProgress& progress) override { count = count + progress.step; }
    [[nodiscard]] std::vector<adapters::LayerDigest> takeDigest() override
    {
        ++digests;
        adapters::LayerDigest digest {
            .path = "net.first", .group = models::LayerGroup::Language, .depth = 0, .capacity = 16
        };
        digest.tokens = 8;
        digest.rankMean = 10 * eta;
        digest.rankQuantiles = { 1, 2, 3, 4, 5 };
        digest.energy = 0.9;
        return { digest };
    }
    [[nodiscard]] std::map<std::string, at::Tensor> snapshot() override
    {
        return { { "net.first.scores", at::full({ 3 }, eta) } };
    }
    [[nodiscard]] std::map<std::string, at::Tensor> state() const override
    {
        return { { "count", at::scalar_tensor(count, at::TensorOptions().dtype(at::kLong)) } };
    }
    Result<void> restoreState(const std::map<std::string, at::Tensor>& state) override
    {
        count = state.at("count").item<std::int64_t>();
        return {};
    }
    Result<void> set(std::string_view name, double value) override
    {
        if (name != "eta" || value < 0 || value > 1) {
            return fail(Errc::FieldInvalid, "only eta in [0, 1] can be set");
        }
        eta = value;
        return {};
    }
    [[nodiscard]] Json config() const override { return { { "type", "small" } }; }
    Result<void> save(const std::filesystem::path& folder, const std::string& baseModel) const override
    {
        tensor::TensorMap tensors;
        for (const models::NamedParameter& parameter : m_parameters) {
            tensors[parameter.name] = parameter.tensor.detach();
        }
        RW_TRY_VOID(writeFileAtomically(folder / "adapter_config.json", jsonText(Json { { "base", baseModel } })));
        return tensor::saveTensors(folder / "adapter_model.safetensors", tensors);
    }
    Result<void> load(const std::filesystem::path&) override { return {}; }

    double eta = 0.9;
    std::int64_t count = 0;
    int digests = 0;

private:
    std::vector<models::NamedParameter> m_parameters;
};

/// Batch number n is a function of n alone.
class SmallBatches : public train::BatchSource {
public:
    Result<models::PolicyBatch> next(const JobContext& job) override
    {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped");
        }
        if (delayMs > 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(delayMs));
        }
        models::PolicyBatch batch;
        const auto seed = static_cast<std::uint64_t>(1000 + index);
        batch.actions = train::drawNoise(seed, 8, kChunk, kWidth);
        batch.state = train::drawNoise(seed + 500'000, 1, 8, kState).squeeze(0);
        if (index == poisoned) {
            batch.state.fill_(std::numeric_limits<float>::quiet_NaN());
        }
        ++index;
        return batch;
    }
    [[nodiscard]] Json position() const override { return { { "index", index } }; }
    Result<void> seek(const Json& position) override
    {
        index = position.at("index").get<std::int64_t>();
        return {};
    }

    std::int64_t index = 0;
    std::int64_t poisoned = -1;
    int delayMs = 0;
};

} // namespace rankwise::test
