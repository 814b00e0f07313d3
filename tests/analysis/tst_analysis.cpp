// Spectra: singular values against torch's SVD and closed forms, estimates, sources, folders, golden cases.
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/peft_folder.h"
#include "backend/analysis/certify_spectra.h"
#include "backend/analysis/singular_values.h"
#include "backend/analysis/spectra.h"
#include "backend/base/file.h"
#include "backend/models/policy_registry.h"
#include "backend/tensor/tensor_file.h"
#include "tests/models/judged_cases.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include <unistd.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/diag_embed.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace rankwise::analysis {
namespace {

namespace fs = std::filesystem;
using data::SpectrumKind;
using data::SpectrumPass;

fs::path goldenRoot()
{
    return tests::goldenRoot() / "adapters" / "spectra";
}

/// A folder of its own, removed at the end.
struct Scratch {
    fs::path path;

    Scratch()
    {
        static int count = 0;
        path = fs::temp_directory_path()
            / ("rankwise-analysis-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
        fs::create_directories(path);
    }
    ~Scratch()
    {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
};

const std::size_t kCases =
    tests::registerCases("SpectraCase", goldenRoot(), spectraCases(goldenRoot()), certifySpectraCase);

TEST(Golden, casesAreFound)
{
    EXPECT_GT(kCases, 0U) << goldenRoot();
}

at::Tensor random(std::int64_t rows, std::int64_t columns, std::uint64_t seed, at::ScalarType type = at::kDouble)
{
    at::Tensor values = at::empty({ rows, columns }, at::TensorOptions().dtype(at::kDouble));
    return values.normal_(0, 1, at::detail::createCPUGenerator(seed)).to(type);
}

/// A matrix with these singular values.
at::Tensor withSpectrum(std::int64_t rows, std::int64_t columns, const std::vector<double>& sigma, std::uint64_t seed)
{
    const auto k = static_cast<std::int64_t>(sigma.size());
    const at::Tensor u = std::get<0>(at::linalg_qr(random(rows, k, seed)));
    const at::Tensor v = std::get<0>(at::linalg_qr(random(columns, k, seed + 1)));
    const at::Tensor s =
        at::from_blob(const_cast<double*>(sigma.data()), { k }, at::TensorOptions().dtype(at::kDouble)).clone();
    return at::mm(u * s, v.t());
}

std::vector<double> listOf(const at::Tensor& values)
{
    const at::Tensor doubles = values.to(at::kDouble).contiguous();
    return { doubles.const_data_ptr<double>(), doubles.const_data_ptr<double>() + doubles.numel() };
}

/// Largest |ours - theirs| over σ_1.
double difference(const std::vector<double>& ours, const std::vector<double>& theirs)
{
    EXPECT_EQ(ours.size(), theirs.size());
    double worst = 0;
    for (std::size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
        worst = std::max(worst, std::abs(ours[i] - theirs[i]));
    }
    return theirs.empty() || theirs.front() == 0 ? worst : worst / theirs.front();
}

struct Shape {
    std::int64_t rows, columns;
};

class ExactValues : public ::testing::TestWithParam<Shape> { };

TEST_P(ExactValues, equalTorchSvdInDouble)
{
    const auto [rows, columns] = GetParam();
    for (const at::ScalarType type : { at::kFloat, at::kBFloat16, at::kHalf, at::kDouble }) {
        const at::Tensor w = random(rows, columns, 7, type);
        const auto ours = singularValues({ .weight = w });
        ASSERT_TRUE(ours.has_value()) << ours.error().describe();
        const double error = difference(ours->sigma, listOf(at::linalg_svdvals(w.to(at::kDouble))));
        EXPECT_LE(error, std::max(ours->error, 1e-14)) << rows << "x" << columns;
        EXPECT_LE(error, 1e-6);
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ExactValues,
                         ::testing::Values(Shape { 1, 7 }, Shape { 64, 64 }, Shape { 65, 200 }, Shape { 200, 65 },
                                           Shape { 193, 193 }, Shape { 700, 300 }, Shape { 300, 1100 }));

TEST(ExactValues, knownSpectrumIsFound)
{
    // From 1 down to 1e-6 of it: the Gram matrix sees 1e-12, well above its rounding.
    std::vector<double> sigma;
    for (int i = 0; i < 120; ++i) {
        sigma.push_back(std::pow(10.0, -6.0 * i / 119.0) * 3);
    }
    const at::Tensor w = withSpectrum(400, 150, sigma, 3).to(at::kFloat);
    std::vector<double> theirs = listOf(at::linalg_svdvals(w.to(at::kDouble)));
    const auto ours = singularValues({ .weight = w });
    ASSERT_TRUE(ours.has_value());
    EXPECT_LE(difference(ours->sigma, theirs), 5e-8); // 2⁻²⁴ from storing the matrix, nothing from us
    const double ofSingle = difference(listOf(at::linalg_svdvals(w)), theirs);
    RecordProperty("svd_in_single_precision", std::to_string(ofSingle));
    EXPECT_LE(difference(ours->sigma, theirs), ofSingle);
}

TEST(ExactValues, closedForms)
{
    const auto identity = singularValues({ .weight = at::eye(100, at::TensorOptions().dtype(at::kFloat)) * -2 });
    ASSERT_TRUE(identity.has_value());
    for (const double value : identity->sigma) {
        EXPECT_NEAR(value, 2, 1e-14);
    }
    // All entries c: one value c √(m n).
    const auto constant =
        singularValues({ .weight = at::full({ 90, 160 }, 0.25, at::TensorOptions().dtype(at::kFloat)) });
    ASSERT_TRUE(constant.has_value());
    EXPECT_NEAR(constant->sigma.front(), 0.25 * std::sqrt(90.0 * 160.0), 1e-12);
    EXPECT_LE(constant->sigma[1], constant->error * constant->sigma.front());
    const auto zero = singularValues({ .weight = at::zeros({ 80, 70 }, at::TensorOptions().dtype(at::kFloat)) });
    ASSERT_TRUE(zero.has_value());
    EXPECT_EQ(zero->sigma, std::vector<double>(70, 0.0));
}

TEST(ExactValues, lowRankUpdateNeverFormsTheProduct)
{
    const at::Tensor a = random(6, 90, 1, at::kFloat);
    const at::Tensor b = random(120, 6, 2, at::kBFloat16);
    const auto ours = singularValues({ .a = a, .b = b, .scale = -1.5 });
    ASSERT_TRUE(ours.has_value());
    const at::Tensor product = at::mm(b.to(at::kDouble), a.to(at::kDouble)) * -1.5;
    EXPECT_LE(difference(ours->sigma, listOf(at::linalg_svdvals(product))), 1e-14);
    EXPECT_EQ(ours->sigma.size(), 90U);
    EXPECT_EQ(ours->sigma[6], 0);
    // More directions than the matrix has rows: a bank on a narrow layer.
    const auto narrow = singularValues({ .a = random(128, 32, 3), .b = random(64, 128, 4), .scale = 2 });
    ASSERT_TRUE(narrow.has_value());
    EXPECT_LE(difference(narrow->sigma, listOf(at::linalg_svdvals(at::mm(random(64, 128, 4), random(128, 32, 3)) * 2))),
              1e-14);
    // Factors of a size that would not fit as a product: only a few megabytes are touched.
    const auto large =
        singularValues({ .a = random(4, 200'000, 5, at::kFloat), .b = random(150'000, 4, 6, at::kFloat) });
    ASSERT_TRUE(large.has_value());
    EXPECT_GT(large->sigma[3], 0);
    EXPECT_EQ(large->sigma[4], 0);
}

TEST(ExactValues, sumOfWeightAndUpdate)
{
    const at::Tensor w = random(150, 220, 1, at::kFloat);
    const at::Tensor other = random(150, 220, 9, at::kBFloat16);
    const at::Tensor a = random(5, 220, 2, at::kFloat);
    const at::Tensor b = random(150, 5, 3, at::kFloat);
    const at::Tensor sum = w.to(at::kDouble) + at::mm(b.to(at::kDouble), a.to(at::kDouble)) * 0.7;
    const auto merged = singularValues({ .weight = w, .a = a, .b = b, .scale = 0.7 });
    ASSERT_TRUE(merged.has_value());
    EXPECT_LE(difference(merged->sigma, listOf(at::linalg_svdvals(sum))), 1e-12);
    const auto delta = singularValues({ .weight = w, .minus = other });
    ASSERT_TRUE(delta.has_value());
    EXPECT_LE(difference(delta->sigma, listOf(at::linalg_svdvals(w.to(at::kDouble) - other.to(at::kDouble)))), 1e-12);
    const auto wide = singularValues({ .weight = w.t(), .minus = other.t(), .a = b.t(), .b = a.t(), .scale = 0.7 });
    ASSERT_TRUE(wide.has_value());
    EXPECT_LE(difference(wide->sigma, listOf(at::linalg_svdvals(sum - other.to(at::kDouble)))), 1e-12);
}

TEST(ExactValues, badInputIsTold)
{
    at::Tensor w = random(70, 80, 1, at::kFloat);
    const auto codeOf = [](const auto& result) { return result ? Errc::Internal : result.error().code; };
    EXPECT_EQ(codeOf(singularValues({ .weight = w, .minus = random(70, 81, 1) })), Errc::ShapeMismatch);
    EXPECT_EQ(codeOf(singularValues({ .weight = w, .a = random(3, 80, 1) })), Errc::ShapeMismatch);
    EXPECT_EQ(codeOf(singularValues({ .weight = w, .a = random(3, 70, 1), .b = random(80, 3, 1) })),
              Errc::ShapeMismatch);
    EXPECT_EQ(codeOf(singularValues({})), Errc::ShapeMismatch);
    for (const double bad : { std::nan(""), static_cast<double>(INFINITY) }) {
        w.index_put_({ at::full({}, 3, at::kLong), at::full({}, 5, at::kLong) }, at::full({}, bad, at::kFloat));
        EXPECT_EQ(codeOf(singularValues({ .weight = w })), Errc::NotFinite);
        EXPECT_EQ(codeOf(estimateSingularValues({ .weight = w })), Errc::NotFinite);
    }
    const at::Tensor factor = at::full({ 3, 80 }, INFINITY, at::kFloat);
    EXPECT_EQ(codeOf(singularValues({ .a = factor, .b = random(70, 3, 1) })), Errc::NotFinite);
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(codeOf(singularValues({ .weight = random(70, 80, 1, at::kFloat) }, { stop.get_token(), {} })),
              Errc::Cancelled);
    EXPECT_EQ(
        codeOf(estimateSingularValues({ .weight = random(300, 300, 1, at::kFloat) }, {}, { stop.get_token(), {} })),
        Errc::Cancelled);
}

TEST(Estimate, isCloseAndKeepsEnergyAndNorm)
{
    std::vector<double> steep;
    std::vector<double> spiked;
    for (int i = 0; i < 400; ++i) {
        steep.push_back(std::pow(i + 1.0, -0.5));
        spiked.push_back(i == 0 ? 10 : 1 - i / 500.0);
    }
    const std::vector<at::Tensor> matrices { random(400, 400, 1, at::kFloat), random(1000, 400, 2, at::kFloat),
                                             withSpectrum(500, 400, steep, 3).to(at::kFloat),
                                             withSpectrum(400, 900, spiked, 5).to(at::kFloat) };
    for (const at::Tensor& w : matrices) {
        const auto exact = singularValues({ .weight = w });
        const auto estimate = estimateSingularValues({ .weight = w });
        ASSERT_TRUE(exact.has_value() && estimate.has_value());
        EXPECT_TRUE(std::ranges::is_sorted(estimate->sigma, std::greater<>()));
        EXPECT_GT(estimate->error, 1e-6) << "an estimate says that it is one";
        EXPECT_LE(difference(estimate->sigma, exact->sigma), 0.12); // single leading values move most
        EXPECT_NEAR(estimate->sigma.front(), exact->sigma.front(), 0.02 * exact->sigma.front());
        EXPECT_NEAR(data::totalEnergy(estimate->sigma), data::totalEnergy(exact->sigma),
                    1e-3 * data::totalEnergy(exact->sigma));
        const auto n = static_cast<double>(exact->sigma.size());
        for (const double eta : { 0.5, 0.9, 0.99 }) {
            EXPECT_NEAR(static_cast<double>(data::energyRank(estimate->sigma, eta)) / n,
                        static_cast<double>(data::energyRank(exact->sigma, eta)) / n, 0.06);
        }
    }
}

TEST(Estimate, sameSeedSameValues)
{
    const at::Tensor w = random(300, 300, 1, at::kFloat);
    const auto one = estimateSingularValues({ .weight = w }, { .seed = 5 });
    const auto two = estimateSingularValues({ .weight = w }, { .seed = 5 });
    const auto other = estimateSingularValues({ .weight = w }, { .seed = 6 });
    ASSERT_TRUE(one && two && other);
    EXPECT_EQ(one->sigma, two->sigma);
    EXPECT_NE(one->sigma, other->sigma);
}

TEST(Measures, closedForms)
{
    const std::vector<double> sigma { 3, 2, 1, 0 };
    EXPECT_EQ(data::totalEnergy(sigma), 14);
    const std::vector<double> energy = data::cumulativeEnergy(sigma);
    EXPECT_DOUBLE_EQ(energy[0], 9.0 / 14);
    EXPECT_DOUBLE_EQ(energy[1], 13.0 / 14);
    EXPECT_DOUBLE_EQ(energy[3], 1);
    EXPECT_EQ(data::energyRank(sigma, 0.5), 1);
    EXPECT_EQ(data::energyRank(sigma, 9.0 / 14), 1) << "reaching eta counts";
    EXPECT_EQ(data::energyRank(sigma, 0.9), 2);
    EXPECT_EQ(data::energyRank(sigma, 1.0), 3);
    EXPECT_EQ(data::energyRank(std::vector<double>(5, 0.0), 0.9), 0);
    EXPECT_EQ(data::energyRank({}, 0.9), 0);
    const data::SpectrumMeasures even = data::measureSpectrum(std::vector<double>(8, 2.0), 8, 8);
    EXPECT_NEAR(even.effectiveRank, 8, 1e-12);
    EXPECT_NEAR(even.stableRank, 8, 1e-12);
    EXPECT_NEAR(even.normalisedEntropy, 1, 1e-12);
    const data::SpectrumMeasures one = data::measureSpectrum(std::vector<double> { 5, 0, 0 }, 3, 3);
    EXPECT_NEAR(one.effectiveRank, 1, 1e-12);
    EXPECT_EQ(one.numericalRank, 1);
    EXPECT_EQ(data::measureSpectrum(std::vector<double> { 0, 0 }, 2, 2).stableRank, 0);
    EXPECT_FALSE(data::fitPowerLaw(std::vector<double>(20, 1.0)).has_value());
}

TEST(Measures, rankGrowsWithEta)
{
    const std::vector<double> sigma = singularValues({ .weight = random(60, 60, 4) })->sigma;
    std::int64_t last = 0;
    for (int percent = 1; percent <= 100; ++percent) {
        const std::int64_t k = data::energyRank(sigma, percent / 100.0);
        EXPECT_GE(k, last);
        last = k;
    }
    EXPECT_EQ(last, 60);
}

const fs::path kNano = fs::path(RANKWISE_RESOURCES) / "nano";

TEST(Source, layersOfACheckpointAreThoseOfItsPolicy)
{
    const auto source = SpectraSource::open({ .subject = kNano });
    ASSERT_TRUE(source.has_value()) << source.error().describe();
    auto policy = models::loadPolicy(kNano);
    ASSERT_TRUE(policy.has_value()) << policy.error().describe();
    std::map<std::string, const data::SpectraLayer*> byPath;
    for (const data::SpectraLayer& layer : source->header().layers) {
        byPath[layer.path] = &layer;
    }
    for (const models::Linear& linear : (*policy)->linears()) {
        const auto found = byPath.find(linear.path);
        ASSERT_NE(found, byPath.end()) << linear.path;
        EXPECT_EQ(found->second->group, static_cast<std::int64_t>(linear.group)) << linear.path;
        EXPECT_EQ(found->second->depth, linear.depth) << linear.path;
        EXPECT_EQ(found->second->columns, linear.weight.size(1)) << linear.path;
        byPath.erase(found);
    }
    for (const auto& [path, layer] : byPath) {
        ADD_FAILURE() << path << " is no linear layer of the policy";
    }
}

struct PlaceRow {
    const char* path;
    models::LayerGroup group;
    std::int64_t depth;
};

TEST(Source, placesOfOtherModels)
{
    using models::LayerGroup;
    for (const PlaceRow& row :
         { PlaceRow { "paligemma_with_expert.paligemma.model.vision_tower.vision_model.encoder.layers.26.mlp.fc1",
                      LayerGroup::Vision, 26 },
           PlaceRow { "paligemma_with_expert.paligemma.model.language_model.layers.3.self_attn.q_proj",
                      LayerGroup::Language, 3 },
           PlaceRow { "paligemma_with_expert.gemma_expert.model.layers.17.mlp.up_proj", LayerGroup::Action, 17 },
           PlaceRow { "paligemma_with_expert.paligemma.model.multi_modal_projector.linear", LayerGroup::Projection,
                      -1 },
           PlaceRow { "vision_backbone.featurizer.blocks.5.attn.qkv", LayerGroup::Vision, 5 },
           PlaceRow { "language_model.model.layers.31.self_attn.o_proj", LayerGroup::Language, 31 },
           PlaceRow { "model.layers.0.mlp.gate_proj", LayerGroup::Language, 0 },
           PlaceRow { "projector.fc1", LayerGroup::Projection, -1 },
           PlaceRow { "action_in_proj", LayerGroup::Projection, -1 } }) {
        EXPECT_EQ(placeOf(row.path).group, static_cast<std::int64_t>(row.group)) << row.path;
        EXPECT_EQ(placeOf(row.path).depth, row.depth) << row.path;
    }
}

void writeWeights(const fs::path& folder, const tensor::TensorMap& tensors)
{
    fs::create_directories(folder);
    ASSERT_TRUE(tensor::saveTensors(folder / "model.safetensors", tensors).has_value());
    std::ofstream(folder / "config.json") << "{}";
}

TEST(Source, updateOfLora)
{
    const Scratch scratch;
    const at::Tensor w = random(40, 30, 1, at::kFloat);
    const at::Tensor a = random(4, 30, 2, at::kFloat);
    const at::Tensor b = random(40, 4, 3, at::kFloat);
    writeWeights(scratch.path / "base", { { "layers.0.q_proj.weight", w }, { "layers.1.q_proj.weight", w * 2 } });
    fs::create_directories(scratch.path / "adapter");
    adapters::PeftWriteOptions write;
    write.targetModules = Json::array({ "q_proj" });
    write.baseModel = (scratch.path / "base").string();
    ASSERT_TRUE(adapters::writePeftFolder(scratch.path / "adapter",
                                          { { .path = "layers.0.q_proj", .a = a, .b = b, .alpha = 12 } }, write)
                    .has_value());
    const auto source = SpectraSource::open({ .subject = scratch.path / "adapter" });
    ASSERT_TRUE(source.has_value()) << source.error().describe();
    ASSERT_EQ(source->header().layers.size(), 2U);
    EXPECT_EQ(source->header().layers[0].rank, 4);
    EXPECT_EQ(source->header().layers[0].kinds,
              (std::vector { SpectrumKind::Base, SpectrumKind::Delta, SpectrumKind::Merged }));
    EXPECT_EQ(source->header().layers[1].kinds, std::vector { SpectrumKind::Base });
    const at::Tensor update = at::mm(b.to(at::kDouble), a.to(at::kDouble)) * 3;
    const auto contents = computeSpectraFolder(*source, {}, {});
    ASSERT_TRUE(contents.has_value()) << contents.error().describe();
    EXPECT_LE(difference(contents->spectra.at({ 0, SpectrumKind::Delta }).sigma, listOf(at::linalg_svdvals(update))),
              1e-12);
    EXPECT_LE(difference(contents->spectra.at({ 0, SpectrumKind::Merged }).sigma,
                         listOf(at::linalg_svdvals(w.to(at::kDouble) + update))),
              1e-12);
    const OrderedJson report = spectraJson(*contents, 0.9);
    EXPECT_NEAR(report["layers"][0]["delta_over_base"].get<double>(),
                (update.norm() / w.to(at::kDouble).norm()).item<double>(), 1e-9);
    EXPECT_EQ(report["groups"]["language"]["base"]["layers"], 2);
    // Without its base the update is all there is.
    fs::remove_all(scratch.path / "base");
    const auto alone = SpectraSource::open({ .subject = scratch.path / "adapter" });
    ASSERT_TRUE(alone.has_value()) << alone.error().describe();
    ASSERT_EQ(alone->header().layers.size(), 1U);
    EXPECT_EQ(alone->header().layers[0].kinds, std::vector { SpectrumKind::Delta });
    EXPECT_FALSE(alone->header().notes.empty());
}

TEST(Source, updateOfLoraSpAtEqualGates)
{
    const Scratch scratch;
    const at::Tensor v = random(8, 20, 1, at::kFloat);
    const at::Tensor u = random(24, 8, 2, at::kFloat);
    const at::Tensor w2 = random(8, 4, 3, at::kFloat);
    const std::string stem = "base_model.model.layers.0.up_proj.lora_sp_";
    ASSERT_TRUE(tensor::saveTensors(scratch.path / "adapter_model.safetensors",
                                    tensor::TensorMap { { stem + "V", v }, { stem + "U", u }, { stem + "W2", w2 } })
                    .has_value());
    for (const char* map : { "none", "relu", "abs", "softplus" }) {
        std::ofstream(scratch.path / "adapter_config.json")
            << Json { { "peft_type", "LORA_SP" }, { "scale", 1.5 }, { "score_map", map } }.dump();
        const auto source = SpectraSource::open({ .subject = scratch.path });
        ASSERT_TRUE(source.has_value()) << source.error().describe();
        at::Tensor s = w2.to(at::kDouble).mean(1);
        const std::string name = map;
        s = name == "relu" ? s.clamp_min(0) : (name == "abs" ? s.abs() : (name == "softplus" ? s.exp().log1p() : s));
        const at::Tensor update = at::mm(u.to(at::kDouble) * s, v.to(at::kDouble)) * 1.5;
        const auto ours = singularValues(*source->matrix(0, SpectrumKind::Delta));
        ASSERT_TRUE(ours.has_value());
        EXPECT_LE(difference(ours->sigma, listOf(at::linalg_svdvals(update))), 1e-12) << map;
        EXPECT_EQ(source->header().layers[0].rank, 8);
    }
}

TEST(Source, fullFineTuningIsADifference)
{
    const Scratch scratch;
    const at::Tensor before = random(30, 20, 1, at::kBFloat16);
    const at::Tensor after = before.to(at::kFloat) + random(30, 20, 2, at::kFloat) * 0.01;
    writeWeights(scratch.path / "before",
                 { { "a.fc.weight", before }, { "a.norm.weight", random(1, 20, 3).squeeze(0) } });
    writeWeights(scratch.path / "after", { { "a.fc.weight", after } });
    const auto source = SpectraSource::open({ .subject = scratch.path / "after", .base = scratch.path / "before" });
    ASSERT_TRUE(source.has_value()) << source.error().describe();
    ASSERT_EQ(source->header().layers.size(), 1U);
    const auto delta = singularValues(*source->matrix(0, SpectrumKind::Delta));
    ASSERT_TRUE(delta.has_value());
    EXPECT_LE(difference(delta->sigma, listOf(at::linalg_svdvals(after.to(at::kDouble) - before.to(at::kDouble)))),
              1e-12);
    writeWeights(scratch.path / "other", { { "b.fc.weight", before } });
    const auto none = SpectraSource::open({ .subject = scratch.path / "after", .base = scratch.path / "other" });
    ASSERT_FALSE(none.has_value());
    EXPECT_EQ(none.error().code, Errc::DataInvalid);
    writeWeights(scratch.path / "shape", { { "a.fc.weight", random(30, 21, 4) } });
    const auto shape = SpectraSource::open({ .subject = scratch.path / "after", .base = scratch.path / "shape" });
    ASSERT_FALSE(shape.has_value());
    EXPECT_EQ(shape.error().code, Errc::ShapeMismatch);
}

TEST(Folder, fillsFromCoarseToFineAndIsFollowed)
{
    const Scratch scratch;
    writeWeights(scratch.path / "w",
                 { { "layers.0.big.weight", random(400, 300, 1, at::kFloat) },
                   { "layers.0.small.weight", random(20, 30, 2, at::kFloat) } });
    const auto source = SpectraSource::open({ .subject = scratch.path / "w" });
    ASSERT_TRUE(source.has_value());
    const fs::path folder = scratch.path / "spectra";
    data::SpectraFollower follower(folder);
    const auto early = follower.poll();
    ASSERT_TRUE(early.has_value()) << "a folder that is not there yet";
    EXPECT_FALSE(early->header.has_value());
    const auto made = computeSpectraFolder(*source, { .threads = 2 }, folder);
    ASSERT_TRUE(made.has_value()) << made.error().describe();
    const auto update = follower.poll();
    ASSERT_TRUE(update.has_value() && update->header.has_value());
    EXPECT_EQ(update->state, data::SpectraState::Finished);
    EXPECT_EQ(update->endedPasses, (std::vector { SpectrumPass::Coarse, SpectrumPass::Exact }));
    ASSERT_EQ(update->records.size(), 3U) << "the small one once, the big one twice";
    EXPECT_EQ(update->records[0].layer, 1U) << "smallest first";
    EXPECT_EQ(update->records[0].pass, SpectrumPass::Exact);
    EXPECT_EQ(update->records[1].pass, SpectrumPass::Coarse);
    EXPECT_GT(update->records[1].error, 0);
    EXPECT_EQ(update->records[2].pass, SpectrumPass::Exact);
    EXPECT_EQ(update->skippedLines, 0U);
    // What is read equals what was computed, and both files of the passes are there.
    const auto read = data::readSpectra(folder);
    ASSERT_TRUE(read.has_value());
    for (const auto& [key, record] : made->spectra) {
        EXPECT_LE(difference(read->spectra.at(key).sigma, record.sigma), 1e-12);
    }
    for (const char* pass : { "pass-coarse.safetensors", "pass-exact.safetensors" }) {
        const auto tensors = tensor::loadTensors(folder / pass);
        ASSERT_TRUE(tensors.has_value()) << pass;
        EXPECT_EQ(tensors->at("layers.0.big.base.singular_values").numel(), 300);
        EXPECT_EQ(tensors->size(), 2U);
    }
    // A second computation in the same place starts anew for whoever follows.
    ASSERT_TRUE(computeSpectraFolder(*source, { .coarsePass = false }, folder).has_value());
    const auto again = follower.poll();
    ASSERT_TRUE(again.has_value() && again->header.has_value());
    EXPECT_EQ(again->records.size(), 2U);
}

TEST(Folder, tornAndForeignLinesAreSkipped)
{
    const Scratch scratch;
    const fs::path folder = scratch.path / "spectra";
    auto writer = data::SpectraWriter::create(
        folder, { .layers = { { .path = "a", .rows = 2, .columns = 2, .kinds = { SpectrumKind::Base } } } });
    ASSERT_TRUE(writer.has_value()) << writer.error().describe();
    ASSERT_TRUE(writer->add({ .layer = 0, .sigma = { 2, 1 } }).has_value());
    data::SpectraFollower follower(folder);
    {
        std::ofstream lines(folder / "spectra.jsonl", std::ios::app);
        lines << R"({"event":"spectrum","step":1,"time":0,"layer":7,"matrix":"base","pass":"exact","sigma":[1]})"
              << '\n'
              << R"({"event":"spectrum","step":1,"time":0,"layer":0,"matrix":"base","pass":"exact","sigma":[1,2]})"
              << '\n'
              << R"({"event":"spectrum","step":1,"time":0,"layer":0,"matrix":"base","pass":"exact","sigma":[-1]})"
              << '\n'
              << "not json\n"
              << R"({"event":"spectrum","step":1,"ti)";
    }
    const auto update = follower.poll();
    ASSERT_TRUE(update.has_value());
    EXPECT_EQ(update->records.size(), 1U);
    EXPECT_EQ(update->skippedLines, 4U);
    EXPECT_EQ(update->state, data::SpectraState::Running) << "this process lives";
    const auto strange = scratch.path / "strange";
    fs::create_directories(strange);
    std::ofstream(strange / "thesis.tex") << "x";
    const auto refused = data::SpectraWriter::create(strange, {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::AlreadyExists);
    EXPECT_TRUE(fs::exists(strange / "thesis.tex"));
}

TEST(Folder, deadWorkerAndNewerVersionAreTold)
{
    const Scratch scratch;
    const fs::path folder = scratch.path / "spectra";
    ASSERT_TRUE(data::SpectraWriter::create(folder, {}).has_value());
    auto json = readJsonFile(folder / "spectra.json");
    ASSERT_TRUE(json.has_value());
    (*json)["pid_start"] = 1;
    ASSERT_TRUE(writeFileAtomically(folder / "spectra.json", jsonText(*json)).has_value());
    data::SpectraFollower follower(folder);
    const auto update = follower.poll();
    ASSERT_TRUE(update.has_value());
    EXPECT_EQ(update->state, data::SpectraState::Lost);
    (*json)["version"] = 99;
    ASSERT_TRUE(writeFileAtomically(folder / "spectra.json", jsonText(*json)).has_value());
    const auto newer = follower.poll();
    ASSERT_FALSE(newer.has_value());
    EXPECT_EQ(newer.error().code, Errc::Unsupported);
}

TEST(Folder, cancelKeepsWhatIsThere)
{
    const Scratch scratch;
    tensor::TensorMap tensors;
    for (int i = 0; i < 12; ++i) {
        tensors["layers." + std::to_string(i) + ".fc.weight"] =
            random(300, 300, static_cast<std::uint64_t>(i), at::kFloat);
    }
    writeWeights(scratch.path / "w", tensors);
    const auto source = SpectraSource::open({ .subject = scratch.path / "w" });
    ASSERT_TRUE(source.has_value());
    std::stop_source stop;
    int reports = 0;
    const JobContext job { stop.get_token(), [&](double fraction, std::string_view) {
                              EXPECT_GE(fraction, 0);
                              EXPECT_LE(fraction, 1);
                              if (++reports == 4) {
                                  stop.request_stop();
                              }
                          } };
    const auto made = computeSpectraFolder(*source, {}, scratch.path / "spectra", job);
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().code, Errc::Cancelled);
    const auto kept = data::readSpectra(scratch.path / "spectra");
    ASSERT_TRUE(kept.has_value());
    EXPECT_EQ(kept->state, data::SpectraState::Stopped);
    EXPECT_GE(kept->spectra.size(), 3U);
    EXPECT_LT(kept->spectra.size(), 12U);
}

TEST(Folder, goesOnWhereItWasStopped)
{
    const Scratch scratch;
    tensor::TensorMap tensors;
    for (int i = 0; i < 6; ++i) {
        tensors["layers." + std::to_string(i) + ".fc.weight"] =
            random(300, 300, static_cast<std::uint64_t>(i), at::kFloat);
    }
    writeWeights(scratch.path / "w", tensors);
    const auto source = SpectraSource::open({ .subject = scratch.path / "w" });
    ASSERT_TRUE(source.has_value());
    const auto whole = computeSpectraFolder(*source, {}, scratch.path / "whole");
    ASSERT_TRUE(whole.has_value());

    const fs::path folder = scratch.path / "spectra";
    std::stop_source stop;
    int reports = 0;
    const JobContext job { stop.get_token(), [&](double, std::string_view) {
                              if (++reports == 9) { // six estimates, then three exact ones
                                  stop.request_stop();
                              }
                          } };
    ASSERT_FALSE(computeSpectraFolder(*source, {}, folder, job).has_value());
    std::ofstream(folder / "spectra.jsonl", std::ios::app) << R"({"event":"spectrum","st)"; // as a kill leaves it
    std::size_t exact = 0;
    const auto kept = data::readSpectra(folder);
    ASSERT_TRUE(kept.has_value());
    for (const auto& [key, record] : kept->spectra) {
        exact += record.pass == SpectrumPass::Exact ? 1 : 0;
    }
    ASSERT_GE(exact, 1U);
    ASSERT_LT(exact, 6U);

    data::SpectraFollower follower(folder);
    const auto made = computeSpectraFolder(*source, {}, folder);
    ASSERT_TRUE(made.has_value()) << made.error().describe();
    const auto update = follower.poll();
    ASSERT_TRUE(update.has_value());
    EXPECT_EQ(update->skippedLines, 0U);
    EXPECT_EQ(update->records.size(), kept->spectra.size() + 6 - exact) << "only what was not exact is computed";
    EXPECT_EQ(update->state, data::SpectraState::Finished);
    // To the bit what an undisturbed computation gives, in the lines and in the file of the pass.
    const auto read = data::readSpectra(folder);
    ASSERT_TRUE(read.has_value());
    for (const auto& [key, record] : whole->spectra) {
        EXPECT_EQ(read->spectra.at(key).sigma, record.sigma);
        EXPECT_EQ(made->spectra.at(key).sigma, record.sigma);
        ASSERT_EQ(read->spectra.at(key).power.has_value(), record.power.has_value());
    }
    const auto one = tensor::loadTensors(folder / "pass-exact.safetensors");
    const auto other = tensor::loadTensors(scratch.path / "whole" / "pass-exact.safetensors");
    ASSERT_TRUE(one.has_value() && other.has_value());
    EXPECT_EQ(one->size(), other->size());
    for (const auto& [name, tensor] : *other) {
        EXPECT_TRUE(at::equal(one->at(name), tensor)) << name;
    }
}

TEST(Folder, otherWeightsBeginAnew)
{
    const Scratch scratch;
    const fs::path folder = scratch.path / "spectra";
    for (const std::uint64_t seed : { 1U, 2U }) {
        writeWeights(scratch.path / "w", { { "layers.0.fc.weight", random(50, 40, seed, at::kFloat) } });
        // A second that the clock of the file system tells apart.
        fs::last_write_time(scratch.path / "w" / "model.safetensors",
                            fs::file_time_type::clock::now() + std::chrono::seconds(static_cast<std::int64_t>(seed)));
        const auto source = SpectraSource::open({ .subject = scratch.path / "w" });
        ASSERT_TRUE(source.has_value());
        const auto made = computeSpectraFolder(*source, {}, folder);
        ASSERT_TRUE(made.has_value());
        EXPECT_LE(difference(made->spectra.at({ 0, SpectrumKind::Base }).sigma,
                             listOf(at::linalg_svdvals(random(50, 40, seed, at::kFloat).to(at::kDouble)))),
                  1e-6)
            << "those of the file before would be wrong";
    }
}

TEST(Folder, oneWriterAtATime)
{
    const Scratch scratch;
    const fs::path folder = scratch.path / "spectra";
    {
        auto writer = data::SpectraWriter::create(folder, { .layers = { { .path = "a", .rows = 1, .columns = 1 } } });
        ASSERT_TRUE(writer.has_value());
        const auto second = data::SpectraWriter::create(folder, {});
        ASSERT_FALSE(second.has_value());
        EXPECT_EQ(second.error().code, Errc::AlreadyExists);
        EXPECT_EQ(data::readSpectraHeader(folder)->layers.size(), 1U) << "the first one's folder is as it was";
    }
    EXPECT_TRUE(data::SpectraWriter::create(folder, {}).has_value());
    // A description that a broken disk tore is no dead end.
    std::ofstream(folder / "spectra.json", std::ios::trunc) << "{ torn";
    EXPECT_TRUE(data::SpectraWriter::create(folder, {}).has_value());
    // One of a newer version is not destroyed.
    auto json = readJsonFile(folder / "spectra.json");
    ASSERT_TRUE(json.has_value());
    (*json)["version"] = 99;
    ASSERT_TRUE(writeFileAtomically(folder / "spectra.json", jsonText(*json)).has_value());
    const auto newer = data::SpectraWriter::create(folder, {});
    ASSERT_FALSE(newer.has_value());
    EXPECT_EQ(newer.error().code, Errc::Unsupported);
}

TEST(Folder, aBadMatrixIsNamed)
{
    const Scratch scratch;
    writeWeights(scratch.path / "w", { { "layers.0.fc.weight", at::full({ 100, 90 }, std::nan(""), at::kFloat) } });
    const auto source = SpectraSource::open({ .subject = scratch.path / "w" });
    ASSERT_TRUE(source.has_value());
    const auto made = computeSpectraFolder(*source, {}, scratch.path / "spectra");
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().code, Errc::NotFinite);
    EXPECT_EQ(made.error().subject, "layers.0.fc");
    const auto kept = data::readSpectra(scratch.path / "spectra");
    ASSERT_TRUE(kept.has_value());
    EXPECT_EQ(kept->state, data::SpectraState::Failed);
    ASSERT_TRUE(kept->failure.has_value());
    EXPECT_EQ(kept->failure->subject, "layers.0.fc");
}

} // namespace
} // namespace rankwise::analysis
