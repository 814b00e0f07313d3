// Compaction of a LoRA-SP bank of the nano policy on a golden dataset: what stays, what it changes, and refusals.
// SPDX-License-Identifier: Apache-2.0
#include "backend/compress/compact.h"

#include "backend/adapters/lora_sp.h"
#include "backend/base/resources.h"
#include "backend/models/policy_registry.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <unistd.h>

#include <ATen/core/grad_mode.h>
#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace rankwise::compress {
namespace {

namespace fs = std::filesystem;

class Compaction : public ::testing::Test {
protected:
    void SetUp() override
    {
        m_root = fs::temp_directory_path() / ("rankwise-compact-" + std::to_string(::getpid()));
        fs::create_directories(m_root / "adapter");
        m_nano = resourcePath("nano").value();
        const char* golden = std::getenv("RANKWISE_GOLDEN_DIR");
        m_dataset = fs::path(golden ? golden : RANKWISE_TEST_DATA "/golden") / "datasets/v30_h264";
        m_options.frames = 12;
        m_options.batch = 5;
        m_options.rename = { { "observation.images.side", "observation.images.wrist" } };
    }
    void TearDown() override { fs::remove_all(m_root); }

    /// An adapter of `type` with an update that matters.
    void writeAdapter(const Json& options)
    {
        const auto policy = models::loadPolicy(m_nano, {});
        ASSERT_TRUE(policy) << policy.error().describe();
        const auto method = adapters::makeMethod(options, "test");
        ASSERT_TRUE(method && (*method)->attach(**policy, 5));
        {
            const at::NoGradGuard noGrad;
            std::uint64_t seed = 1;
            for (const models::NamedParameter& parameter : (*method)->trainable()) {
                if (parameter.name.ends_with("_U")) {
                    at::Tensor up = parameter.tensor;
                    up.normal_(0, 0.02, at::detail::createCPUGenerator(seed++));
                } else if (parameter.name.ends_with("_W1")) {
                    at::Tensor router = parameter.tensor;
                    router.mul_(6); // routers that choose
                }
            }
        }
        ASSERT_TRUE((*method)->save(m_root / "adapter", "nano"));
        (*method)->detach(**policy);
    }

    Result<Json> compact(const std::string& name, double share, const JobContext& job = {})
    {
        m_options.leastShare = share;
        return compactAdapter(m_nano, m_root / "adapter", m_dataset, m_root / name, m_options, job);
    }

    fs::path m_root, m_nano, m_dataset;
    CompactOptions m_options;
};

TEST_F(Compaction, keepsTheFunctionAndGivesAReceipt)
{
    writeAdapter({ { "type", "lora_sp" }, { "bank", 32 }, { "blocks", 4 } });
    const auto all = compact("all", 0);
    ASSERT_TRUE(all) << all.error().describe();
    EXPECT_EQ((*all)["vectors_after"], (*all)["vectors_before"]);
    EXPECT_EQ((*all)["parameters_after"], (*all)["parameters_before"]);
    EXPECT_EQ((*all)["actions"]["largest_difference"], 0.0);
    EXPECT_GT((*all)["actions"]["rms"], 0.01);
    EXPECT_EQ((*all)["frames"], 12);

    const auto some = compact("some", 0.04);
    ASSERT_TRUE(some) << some.error().describe();
    const auto before = (*some)["vectors_before"].get<std::int64_t>();
    const auto after = (*some)["vectors_after"].get<std::int64_t>();
    EXPECT_LT(after, before);
    EXPECT_GT(after, 0);
    EXPECT_LT((*some)["parameters_after"], (*some)["parameters_before"]);
    EXPECT_LT((*some)["actions"]["rms_difference"].get<double>(), 0.2 * (*some)["actions"]["rms"].get<double>());
    std::int64_t sum = 0;
    for (const Json& layer : (*some)["layers"]) {
        sum += layer["vectors_after"].get<std::int64_t>();
        EXPECT_GE(layer["eta_after"], layer["eta_before"]);
        EXPECT_LE(layer["eta_after"], 1.0);
        EXPECT_GT(layer["rank_mean"], 0.0);
        EXPECT_LE(layer["rank_mean"], 32.0);
        EXPECT_GT(layer["tokens"], 0);
    }
    EXPECT_EQ(sum, after);
    // The receipt on disk is the one returned; the parameters are those of the file.
    EXPECT_EQ(readJsonFile(m_root / "some/compaction_report.json").value(), *some);
    const auto tensors = tensor::loadTensors(m_root / "some/adapter_model.safetensors");
    ASSERT_TRUE(tensors);
    std::int64_t numbers = 0;
    for (const auto& [name, tensor] : *tensors) {
        const bool counted = !name.ends_with("eta") && !name.ends_with("index");
        numbers += counted ? tensor.numel() : 0;
    }
    EXPECT_EQ((*some)["parameters_after"], numbers);
    // More is left out when more is asked for, and the same again for the same options.
    EXPECT_LE(compact("less", 0.2).value()["vectors_after"], after);
    Json again = compact("again", 0.04).value();
    EXPECT_EQ(again["layers"], (*some)["layers"]);
    EXPECT_EQ(again["actions"], (*some)["actions"]);
}

TEST_F(Compaction, showsTheScoresOfTypicalTokens)
{
    writeAdapter({ { "type", "lora_sp" }, { "bank", 32 }, { "blocks", 4 }, { "eta", 0.8 } });
    const auto receipt = compact("out", 0.02);
    ASSERT_TRUE(receipt) << receipt.error().describe();
    std::set<std::string> groups;
    for (const Json& one : (*receipt)["scores"]) {
        groups.insert(one["group"]);
        std::vector<double> squares;
        double total = 0;
        for (const double score : one["scores"].get<std::vector<double>>()) {
            squares.push_back(score * score);
            total += squares.back();
        }
        ASSERT_EQ(squares.size(), 32U);
        std::ranges::sort(squares, std::greater<> {});
        // k is the fewest with the share eta.
        const auto k = one["k"].get<std::size_t>();
        ASSERT_GE(k, 1U);
        double kept = 0;
        for (std::size_t i = 0; i + 1 < k; ++i) {
            kept += squares[i];
        }
        EXPECT_LT(kept, 0.8 * total) << one["path"];
        EXPECT_GE(kept + squares[k - 1], 0.8 * total * (1 - 2e-6)) << one["path"];
    }
    EXPECT_TRUE(groups.contains("vision") && groups.contains("language") && groups.contains("action"));
}

TEST_F(Compaction, refusals)
{
    writeAdapter({ { "type", "lora" }, { "r", 4 } });
    EXPECT_EQ(compact("out", 0.02).error().code, Errc::Unsupported);
    EXPECT_EQ(compact("out", 1.5).error().code, Errc::FieldInvalid);
    fs::remove_all(m_root / "adapter");
    fs::create_directories(m_root / "adapter");
    writeAdapter({ { "type", "lora_sp" }, { "bank", 16 } });
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(compact("out", 0.02, { .stop = stop.get_token(), .progress = {} }).error().code, Errc::Cancelled);
    EXPECT_FALSE(fs::exists(m_root / "out")) << "nothing is left of a stopped one";
    fs::create_directories(m_root / "there");
    EXPECT_EQ(compact("there", 0.02).error().code, Errc::AlreadyExists);
    m_dataset = m_root / "nowhere";
    EXPECT_EQ(compact("out", 0.02).error().code, Errc::FileNotFound);
}

} // namespace
} // namespace rankwise::compress
