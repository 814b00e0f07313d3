// Compression: golden cases of PARA, discovered in the golden directory, and properties.
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/peft_folder.h"
#include "backend/compress/certify_para.h"
#include "backend/compress/para.h"
#include "backend/tensor/tensor_file.h"
#include "tests/models/judged_cases.h"
#include "tests/train/temporary_folder.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace rankwise::compress {
namespace {

std::filesystem::path goldenRoot()
{
    return tests::goldenRoot() / "adapters" / "para";
}

const std::size_t kCases =
    tests::registerCases("ParaCase", goldenRoot(), paraCases(goldenRoot()),
                         [](const std::filesystem::path& file, const models::CertifyOptions& options) {
                             const test::TemporaryFolder scratch;
                             return certifyParaCase(file, scratch.path(), options);
                         });

TEST(Golden, casesAreFound)
{
    EXPECT_GT(kCases, 0U) << goldenRoot();
}

at::Tensor random(std::int64_t rows, std::int64_t columns, std::uint64_t seed)
{
    at::Tensor values = at::empty({ rows, columns }, at::TensorOptions().dtype(at::kDouble));
    return values.normal_(0, 1, at::detail::createCPUGenerator(seed));
}

std::vector<ParaModule> someModules()
{
    return { { "a.q", random(8, 20, 1), random(30, 8, 2), 2.0, "vlm" },
             { "b.q", random(8, 16, 3), random(12, 8, 4) * 0.1, -0.5, "expert" },
             { "c.up", random(4, 3, 5), random(40, 4, 6), 1.0, "proj" } };
}

TEST(Para, energyIsMonotoneInTheBudget)
{
    const auto spectra = decomposeUpdates(someModules());
    ASSERT_TRUE(spectra.has_value());
    double before = 0;
    for (const double gamma : { 0.1, 0.2, 0.4, 0.6, 0.8, 1.0 }) {
        const auto choice = chooseRanks(*spectra, { .kind = ParaPolicy::Kind::Gamma, .value = gamma });
        ASSERT_TRUE(choice.has_value());
        EXPECT_GE(choice->keptEnergy, before);
        before = choice->keptEnergy;
    }
    EXPECT_NEAR(before, 1, 1e-12);
}

TEST(Para, errorIsTheDroppedEnergy)
{
    const auto modules = someModules();
    const auto spectra = decomposeUpdates(modules);
    ASSERT_TRUE(spectra.has_value());
    const auto choice = chooseRanks(*spectra, { .kind = ParaPolicy::Kind::RankTotal, .value = 7 });
    ASSERT_TRUE(choice.has_value());
    EXPECT_EQ(choice->totalRank, 7);
    double dropped = 0;
    double total = 0;
    for (std::size_t i = 0; i < modules.size(); ++i) {
        const at::Tensor dense = at::mm(modules[i].b, modules[i].a) * modules[i].scale;
        const at::Tensor cut = truncatedUpdate((*spectra)[i], choice->ranks.at(modules[i].path));
        dropped += (dense - cut).pow(2).sum().item<double>();
        total += dense.pow(2).sum().item<double>();
    }
    EXPECT_NEAR(choice->relativeError, std::sqrt(dropped / total), 1e-9);
}

TEST(Para, thresholdKeepsWhatReachesIt)
{
    const auto spectra = decomposeUpdates(someModules());
    ASSERT_TRUE(spectra.has_value());
    const auto choice = chooseRanks(*spectra, { .kind = ParaPolicy::Kind::Threshold, .value = 10 });
    ASSERT_TRUE(choice.has_value());
    for (const ParaSpectrum& s : *spectra) {
        std::int64_t expected = 0;
        for (std::size_t j = 0; j < s.sigma.size(); ++j) {
            expected += s.scaled(j) >= 10 ? 1 : 0;
        }
        EXPECT_EQ(choice->ranks.at(s.path), expected);
    }
}

TEST(Para, minimumRankAndGroups)
{
    const auto spectra = decomposeUpdates(someModules());
    ASSERT_TRUE(spectra.has_value());
    ParaPolicy policy { .kind = ParaPolicy::Kind::RankTotal, .value = 2, .minimumRank = 1 };
    const auto choice = chooseRanks(*spectra, policy);
    ASSERT_TRUE(choice.has_value());
    for (const auto& [path, rank] : choice->ranks) {
        EXPECT_GE(rank, 1) << path;
    }
    policy = { .kind = ParaPolicy::Kind::Groups, .groups = { { "vlm", 0.5 } } };
    const auto missing = chooseRanks(*spectra, policy);
    ASSERT_FALSE(missing.has_value());
    EXPECT_EQ(missing.error().code, Errc::FieldInvalid);
    policy.groups = { { "vlm", 0.5 }, { "expert", 0.25 }, { "proj", 1.0 } };
    const auto grouped = chooseRanks(*spectra, policy);
    ASSERT_TRUE(grouped.has_value());
    EXPECT_EQ(grouped->ranks.at("a.q"), 4);
    EXPECT_EQ(grouped->ranks.at("b.q"), 2);
    EXPECT_EQ(grouped->ranks.at("c.up"), 3); // only as many values as its width
}

TEST(Para, illConditionedFactorsKeepTheirDigits)
{
    // Columns that nearly repeat, columns of very different size, and a zero column, tall enough for the fast path.
    for (const int kind : { 0, 1, 2, 3 }) {
        at::Tensor b = random(200, 6, 40);
        at::Tensor a = random(6, 150, 41);
        if (kind == 1) {
            b.select(1, 5).copy_(b.select(1, 0) + 1e-9 * b.select(1, 1));
        } else if (kind == 2) {
            for (int j = 0; j < 6; ++j) {
                b.select(1, j).mul_(std::pow(10.0, -3 * j));
            }
        } else if (kind == 3) {
            a.select(0, 2).zero_();
        }
        const auto spectra = decomposeUpdates({ { "m", a, b, 1.0, "all" } });
        ASSERT_TRUE(spectra.has_value());
        const ParaSpectrum& s = spectra->front();
        const at::Tensor product = truncatedUpdate(s, 6);
        const at::Tensor dense = at::mm(b, a);
        EXPECT_LT((product - dense).norm().item<double>(), 1e-14 * dense.norm().item<double>()) << kind;
        for (const at::Tensor& basis : { s.u, s.v }) {
            const at::Tensor gram = at::mm(basis.t(), basis);
            EXPECT_LT((gram - gram.diag().diag()).abs().max().item<double>(), 1e-13) << kind;
            EXPECT_NEAR(gram.diag().min().item<double>(), 1, 1e-13) << kind;
        }
    }
}

TEST(Para, refusesWhatIsNotFinite)
{
    auto modules = someModules();
    modules[1].a.select(0, 0).fill_(std::nan(""));
    const auto spectra = decomposeUpdates(modules);
    ASSERT_FALSE(spectra.has_value());
    EXPECT_EQ(spectra.error().code, Errc::NotFinite);
    EXPECT_EQ(spectra.error().subject, "b.q");
}

TEST(Para, stops)
{
    std::stop_source source;
    source.request_stop();
    const auto spectra = decomposeUpdates(someModules(), { source.get_token(), {} });
    ASSERT_FALSE(spectra.has_value());
    EXPECT_EQ(spectra.error().code, Errc::Cancelled);
}

TEST(Para, refusesDoraAndKeepsOutputsWhole)
{
    const test::TemporaryFolder scratch;
    const std::filesystem::path peft = goldenRoot().parent_path() / "peft";
    const auto dora = compressAdapter(peft / "dora", scratch.path() / "dora", {});
    ASSERT_FALSE(dora.has_value());
    EXPECT_EQ(dora.error().code, Errc::Unsupported);
    EXPECT_FALSE(std::filesystem::exists(scratch.path() / "dora"));

    ASSERT_TRUE(compressAdapter(peft / "lora_r16", scratch.path() / "child", {}).has_value());
    const auto again = compressAdapter(peft / "lora_r16", scratch.path() / "child", {});
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, Errc::AlreadyExists);
}

TEST(Para, folderIsByteReproducible)
{
    const test::TemporaryFolder scratch;
    const std::filesystem::path input = goldenRoot().parent_path() / "peft" / "lora_r16";
    ASSERT_TRUE(compressAdapter(input, scratch.path() / "one", {}).has_value());
    ASSERT_TRUE(compressAdapter(input, scratch.path() / "two", {}).has_value());
    const auto one = tensor::loadTensors(scratch.path() / "one" / "adapter_model.safetensors");
    const auto two = tensor::loadTensors(scratch.path() / "two" / "adapter_model.safetensors");
    ASSERT_TRUE(one && two);
    ASSERT_EQ(one->size(), two->size());
    for (const auto& [name, values] : *one) {
        EXPECT_TRUE(values.equal(two->at(name))) << name;
    }
}

TEST(Para, convertsAdaptersThatChangedTheBase)
{
    const test::TemporaryFolder scratch;
    const std::filesystem::path folder = goldenRoot().parent_path() / "peft" / "init_pissa";
    const auto refused = compressAdapter(folder / "trained", scratch.path() / "alone", {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::Unsupported);
    ParaOptions options;
    options.policy = { .kind = ParaPolicy::Kind::Energy, .value = 1 };
    options.initialAdapter = folder / "initial";
    const auto receipt = compressAdapter(folder / "trained", scratch.path() / "child", options);
    ASSERT_TRUE(receipt.has_value()) << receipt.error().describe();
    const auto child = adapters::readPeftFolder(scratch.path() / "child");
    const auto golden = tensor::loadTensors(folder / "golden.safetensors");
    ASSERT_TRUE(child && golden);
    for (const adapters::PeftModule& module : child->modules) {
        const at::Tensor expected = golden->at(module.path + ".true_update");
        const at::Tensor delta = adapters::peftDelta(module, at::kFloat);
        EXPECT_LT((delta - expected).abs().max().item<double>(), 2e-5) << module.path;
    }
}

/// Needs a Python with peft, named by RANKWISE_PEER_PYTHON.
TEST(Peer, peftLoadsCompressedFolders)
{
    const char* python = std::getenv("RANKWISE_PEER_PYTHON");
    if (!python) {
        GTEST_SKIP() << "RANKWISE_PEER_PYTHON is not set";
    }
    const std::filesystem::path peft = goldenRoot().parent_path() / "peft";
    for (const char* input : { "lora_r16", "rslora_r16", "pattern_rslora" }) {
        for (const ParaLayout layout : { ParaLayout::Baked, ParaLayout::KeptScale, ParaLayout::Padded }) {
            const test::TemporaryFolder scratch;
            ParaOptions options;
            options.policy.value = 0.2;
            options.layout = layout;
            const std::filesystem::path child = scratch.path() / "child";
            ASSERT_TRUE(compressAdapter(peft / input, child, options).has_value());
            const auto folder = adapters::readPeftFolder(child);
            ASSERT_TRUE(folder.has_value()) << folder.error().describe();
            tensor::TensorMap expected;
            for (const adapters::PeftModule& module : folder->modules) {
                expected[module.path] = adapters::peftDelta(module, at::kFloat);
            }
            ASSERT_TRUE(tensor::saveTensors(scratch.path() / "expected.safetensors", expected).has_value());
            const std::string command = std::string(python) + " " RANKWISE_TEST_DATA "/../peers/peft_folder.py "
                + (peft / "tiny_base.safetensors").string() + " " + child.string() + " "
                + (scratch.path() / "expected.safetensors").string();
            EXPECT_EQ(std::system(command.c_str()), 0) << input;
        }
    }
}

} // namespace
} // namespace rankwise::compress
