// SPDX-License-Identifier: Apache-2.0
#include "backend/analysis/certify_spectra.h"

#include "backend/analysis/singular_values.h"
#include "backend/base/json.h"
#include "backend/data/spectrum.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <ATen/ops/mm.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::analysis {

namespace {

struct Case {
    models::CertifyReport report;
    tensor::TensorMap tensors;
    double scale = 1;

    void number(const std::string& name, double ours, const Json& row, const char* key, double relative,
                double absolute = 0)
    {
        if (const auto theirs = row.find(key); theirs != row.end() && theirs->is_number()) {
            models::compareNumber(report, name + "." + key, ours, theirs->get<double>(), relative * scale,
                                  absolute * scale);
        }
    }
    void same(const std::string& name, std::int64_t ours, std::int64_t theirs)
    {
        models::compareNumber(report, name, static_cast<double>(ours), static_cast<double>(theirs), 0);
    }
    Result<at::Tensor> doubles(const std::string& name) const
    {
        const auto found = tensors.find(name);
        if (found == tensors.end()) {
            return fail(Errc::TensorNotFound, "is not in the case", name);
        }
        return found->second.to(at::kDouble);
    }
};

std::span<const double> numbers(const at::Tensor& values)
{
    return { values.const_data_ptr<double>(), static_cast<std::size_t>(values.numel()) };
}

void judgeEnergy(Case& c, const std::string& name, std::span<const double> sigma, const Json& row)
{
    const auto judge = [&](const char* key, const char* sign, std::int64_t (*rank)(std::span<const double>, double)) {
        const auto table = row.find(key);
        if (table == row.end()) {
            return;
        }
        for (const auto& [eta, k] : table->items()) {
            c.same(fmt::format("{}.k({} {})", name, sign, eta), rank(sigma, std::stod(eta)), k.get<std::int64_t>());
        }
    };
    judge("k_smallest_with_energy_ge", "≥", data::energyRank);
    judge("k_largest_with_energy_le", "≤", data::energyRankBelow);
}

void judgeFits(Case& c, const std::string& name, std::span<const double> sigma, const at::Tensor& w, const Json& row)
{
    if (const auto law = row.find("power_law"); law != row.end()) {
        const auto fit = data::fitPowerLaw(sigma);
        c.same(name + ".power_law.exists", fit ? 1 : 0, law->is_object() ? 1 : 0);
        if (fit && law->is_object()) {
            c.number(name + ".power_law", fit->alpha, *law, "alpha", 1e-8);
            c.number(name + ".power_law", fit->xmin, *law, "xmin", 1e-8);
            c.number(name + ".power_law", fit->distance, *law, "D", 1e-8, 1e-10);
            c.number(name + ".power_law", static_cast<double>(fit->count), *law, "n_tail", 0);
        }
    }
    if (const auto noise = row.find("marchenko_pastur"); noise != row.end() && noise->is_object()) {
        const double deviation = w.std(false).item<double>();
        const double edge = data::marchenkoPasturEdge(deviation, w.size(0), w.size(1));
        c.number(name + ".marchenko_pastur", deviation, *noise, "sigma", 1e-9);
        c.number(name + ".marchenko_pastur", edge, *noise, "sigma_plus_of_W", 1e-9);
        c.number(name + ".marchenko_pastur",
                 static_cast<double>(std::ranges::count_if(sigma, [&](double s) { return s > edge; })), *noise,
                 "eigenvalues_above_edge", 0);
    }
}

Result<void> judgeSummary(Case& c, const Json& row)
{
    const std::string name = row.at("name").get<std::string>();
    RW_TRY(const at::Tensor w, c.doubles(name + ".W"));
    RW_TRY(const at::Tensor theirs, c.doubles(name + ".sigma"));
    RW_TRY(const SingularValues ours, singularValues({ .weight = w }));
    const at::Tensor sigma = theirs.contiguous();
    at::Tensor mine = sigma.clone();
    c.same(name + ".count", static_cast<std::int64_t>(ours.sigma.size()), sigma.numel());
    if (static_cast<std::int64_t>(ours.sigma.size()) == sigma.numel()) {
        std::ranges::copy(ours.sigma, mine.data_ptr<double>());
        models::compareTensors(c.report, name + ".sigma", mine, sigma, 1e-12 * c.scale);
    }
    // The measures are judged on the recorded values too, so that rounding in the SVD decides no count.
    const data::SpectrumMeasures m = data::measureSpectrum(numbers(sigma), w.size(0), w.size(1));
    c.number(name, m.largest, row, "sigma_max", 1e-12);
    c.number(name, m.frobenius, row, "frobenius", 1e-12);
    c.number(name, m.nuclear, row, "nuclear", 1e-12);
    c.number(name, static_cast<double>(m.numericalRank), row, "numerical_rank", 0);
    c.number(name, m.stableRank, row, "stable_rank", 1e-10);
    c.number(name, m.effectiveRank, row, "effective_rank_sigma", 1e-10);
    c.number(name, m.energyEffectiveRank, row, "effective_rank_energy", 1e-10);
    c.number(name, m.participationRatio, row, "participation_ratio", 1e-10);
    c.number(name, m.normalisedEntropy, row, "entropy_energy_normalised", 1e-10, 1e-12);
    c.number(name, m.condition, row, "condition", 1e-9);
    judgeEnergy(c, name, numbers(sigma), row);
    judgeFits(c, name, numbers(sigma), w, row);
    return {};
}

Result<void> judgeRandomized(Case& c, const Json& row)
{
    const std::string name = row.at("name").get<std::string>();
    const auto q = row.at("q").get<std::int64_t>();
    const auto iterations = row.at("iterations").get<std::int64_t>();
    RW_TRY(const at::Tensor w, c.doubles(name + ".W"));
    RW_TRY(const at::Tensor omega, c.doubles(fmt::format("{}.omega_{}", name, q)));
    const std::string run = fmt::format("{}.q{}.it{}", name, q, iterations);
    RW_TRY(const at::Tensor theirs, c.doubles(run + ".sigma"));
    RW_TRY(const RandomizedSvd ours, randomizedSvd(w, omega, iterations));
    models::compareTensors(c.report, run + ".sigma", ours.sigma, theirs, 1e-8 * c.scale);
    const at::Tensor gap = at::mm(ours.u.t(), ours.u);
    models::compareNumber(c.report, run + ".orthonormal",
                          gap.diagonal().sum().item<double>() + gap.square().sum().item<double>(),
                          2.0 * static_cast<double>(gap.size(0)), 1e-9 * c.scale);
    return {};
}

} // namespace

Result<models::CertifyReport> certifySpectraCase(const std::filesystem::path& file,
                                                 const models::CertifyOptions& options)
{
    RW_TRY(const Json json, readJsonFile(file));
    Case c { .scale = options.toleranceScale };
    c.report.name = file.stem().string();
    c.report.kind = "spectra";
    if (const auto note = json.find("note"); note != json.end() && note->is_string()) {
        c.report.about = note->get<std::string>();
    }
    const auto rows = json.find("rows");
    if (rows == json.end() || !rows->is_array() || rows->empty()) {
        return fail(Errc::FieldMissing, "has no rows", file.string());
    }
    RW_TRY(c.tensors, tensor::loadTensors(std::filesystem::path(file).replace_extension(".safetensors")));
    for (const Json& row : *rows) {
        if (row.contains("sigma_max")) {
            RW_TRY_VOID(judgeSummary(c, row));
        } else if (row.contains("iterations")) {
            RW_TRY_VOID(judgeRandomized(c, row));
        } else {
            return fail(Errc::Unsupported, "a row that is no summary and no randomised SVD", file.string());
        }
    }
    return std::move(c.report);
}

Result<std::vector<std::filesystem::path>> spectraCases(const std::filesystem::path& root)
{
    std::vector<std::filesystem::path> cases;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
        if (entry.path().extension() == ".json") {
            cases.push_back(entry.path());
        }
    }
    if (cases.empty()) {
        return fail(Errc::FileNotFound, "holds no cases of spectra", root.string());
    }
    std::ranges::sort(cases);
    return cases;
}

} // namespace rankwise::analysis
