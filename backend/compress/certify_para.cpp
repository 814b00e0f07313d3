// SPDX-License-Identifier: Apache-2.0
#include "backend/compress/certify_para.h"

#include "backend/adapters/peft_folder.h"
#include "backend/base/json.h"
#include "backend/compress/para.h"
#include "backend/models/certify_case.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::compress {

namespace {

struct Case : models::CertifyCase {
    std::filesystem::path scratch;
};

at::Tensor vectorOf(const std::vector<double>& values)
{
    return at::from_blob(const_cast<double*>(values.data()), { static_cast<std::int64_t>(values.size()) },
                         at::TensorOptions().dtype(at::kDouble))
        .clone();
}

at::Tensor scaledValues(const ParaSpectrum& spectrum)
{
    std::vector<double> values;
    for (std::size_t j = 0; j < spectrum.sigma.size(); ++j) {
        values.push_back(spectrum.scaled(j));
    }
    return vectorOf(values);
}

ParaPolicy policyOf(const std::string& kind, const Json& argument)
{
    ParaPolicy policy;
    static const std::map<std::string, ParaPolicy::Kind> kinds {
        { "gamma", ParaPolicy::Kind::Gamma },
        { "energy", ParaPolicy::Kind::Energy },
        { "rank_total", ParaPolicy::Kind::RankTotal },
        { "params", ParaPolicy::Kind::Params },
        { "params_optimal", ParaPolicy::Kind::ParamsOptimal },
        { "groups", ParaPolicy::Kind::Groups },
        { "local", ParaPolicy::Kind::Local },
        { "threshold", ParaPolicy::Kind::Threshold },
    };
    policy.kind = kinds.at(kind);
    if (argument.is_object()) {
        policy.groups = argument.get<std::map<std::string, double>>();
    } else {
        policy.value = argument.get<double>();
    }
    return policy;
}

/// Ranks, threshold, size and energy of one request.
void judgeChoice(Case& c, const std::string& name, const Result<ParaChoice>& choice, const Json& expected)
{
    if (!choice) {
        c.require(name, false, choice.error().describe());
        return;
    }
    // Where two values lie closer than rounding, another machine may cut elsewhere.
    const Json& gap = expected.at("gap_at_cut");
    const bool tie = expected.value("ties_cut_at_tau", 0) > 0;
    if (!gap.is_null() && gap.get<double>() <= 1e-6 && !tie && gap.get<double>() > 1e-12) {
        c.compareNumber(name + ".total_rank", static_cast<double>(choice->totalRank),
                        expected.at("total_rank").get<double>(), 0);
        return;
    }
    const auto ranks = expected.at("ranks").get<std::map<std::string, std::int64_t>>();
    std::string difference;
    for (const auto& [path, rank] : ranks) {
        const auto ours = choice->ranks.find(path);
        if (ours == choice->ranks.end() || ours->second != rank) {
            difference += fmt::format("{}: {} for {}; ", path, ours == choice->ranks.end() ? -1 : ours->second, rank);
        }
    }
    c.require(name + ".ranks", difference.empty() && ranks.size() == choice->ranks.size(), difference);
    c.compareNumber(name + ".total_rank", static_cast<double>(choice->totalRank),
                    expected.at("total_rank").get<double>(), 0);
    c.compareNumber(name + ".params", static_cast<double>(choice->parameters), expected.at("params").get<double>(), 0);
    c.compareNumber(name + ".kept_energy", choice->keptEnergy, expected.at("kept_energy").get<double>(), 1e-9);
    c.compareNumber(name + ".error", choice->relativeError, expected.at("rel_frobenius_error").get<double>(), 1e-6,
                    1e-7);
    if (expected.at("tau").is_null()) {
        c.require(name + ".tau", !choice->tau);
    } else {
        c.compareNumber(name + ".tau", choice->tau.value_or(-1), expected.at("tau").get<double>(), 1e-9);
    }
    c.require(name + ".removed", choice->removed == expected.at("removed_modules").get<std::vector<std::string>>());
}

Result<void> judgePool(Case& c)
{
    std::vector<ParaModule> modules;
    for (const auto& [path, row] : c.json.at("modules").items()) {
        modules.push_back({ path, c.tensors.at(path + ".A"), c.tensors.at(path + ".B"), row.at("scale").get<double>(),
                            row.at("group").get<std::string>() });
    }
    RW_TRY(const std::vector<ParaSpectrum> spectra, decomposeUpdates(modules));
    for (std::size_t i = 0; i < spectra.size(); ++i) {
        const ParaSpectrum& s = spectra[i];
        c.compare(s.path + ".sigma", scaledValues(s), c.tensors.at(s.path + ".sigma"), 1e-9);
        c.compareNumber(s.path + ".cost", static_cast<double>(s.cost),
                        c.json.at("modules").at(s.path).at("cost_per_rank").get<double>(), 0);
        const at::Tensor dense = at::mm(modules[i].b.to(at::kDouble), modules[i].a.to(at::kDouble)) * modules[i].scale;
        c.compare(s.path + ".product", truncatedUpdate(s, static_cast<std::int64_t>(s.sigma.size())), dense, 1e-12,
                  1e-14);
    }
    for (const Json& row : c.json.at("policies")) {
        const std::string kind = row.at("policy").get<std::string>();
        judgeChoice(c, kind + " " + row.at("arg").dump(), chooseRanks(spectra, policyOf(kind, row.at("arg"))), row);
    }
    const auto ranks = c.json.at("export").at("ranks").get<std::map<std::string, std::int64_t>>();
    for (const ParaSpectrum& s : spectra) {
        const std::int64_t rank = ranks.at(s.path);
        // Within a tie of singular values the vectors, and so a product cut inside of it, are arbitrary.
        const auto at = static_cast<std::size_t>(rank);
        const bool insideTie =
            rank > 0 && at < s.sigma.size() && std::abs(s.sigma[at - 1] - s.sigma[at]) <= 1e-9 * s.sigma[at - 1];
        if (!insideTie) {
            c.compare(s.path + ".delta_truncated", truncatedUpdate(s, rank), c.tensors.at(s.path + ".delta_truncated"),
                      1e-9, 1e-14);
        }
        const ParaFactors factors = paraFactors(s, rank, ParaLayout::Baked);
        c.compare(s.path + ".baked", at::mm(factors.b, factors.a), truncatedUpdate(s, rank), 1e-12, 1e-14);
    }
    return {};
}

Result<void> judgeChild(Case& c, const std::string& name, const std::filesystem::path& ours,
                        const std::filesystem::path& theirs)
{
    RW_TRY(const adapters::PeftFolder mine, adapters::readPeftFolder(ours));
    RW_TRY(const adapters::PeftFolder reference, adapters::readPeftFolder(theirs));
    c.compareNumber(name + ".modules", static_cast<double>(mine.modules.size()),
                    static_cast<double>(reference.modules.size()), 0);
    for (const adapters::PeftModule& module : reference.modules) {
        const auto found = std::ranges::find(mine.modules, module.path, &adapters::PeftModule::path);
        if (found == mine.modules.end()) {
            c.require(name + "." + module.path, false, "is missing");
            continue;
        }
        c.compareNumber(name + "." + module.path + ".r", static_cast<double>(found->rank()),
                        static_cast<double>(module.rank()), 0);
        c.compareNumber(name + "." + module.path + ".scale", found->scale, module.scale, 1e-12);
        c.compare(name + "." + module.path + ".delta", adapters::peftDelta(*found, at::kDouble),
                  adapters::peftDelta(module, at::kDouble), 5e-6);
    }
    c.require(name + ".warnings", mine.warnings.empty(), mine.warnings.empty() ? "" : mine.warnings[0].message);
    return {};
}

Result<void> judgeFolder(Case& c)
{
    const std::filesystem::path folder = c.file.parent_path();
    for (const Json& row : c.json.at("outputs")) {
        const std::string name = row.at("folder").get<std::string>();
        ParaOptions options;
        options.policy = policyOf(row.at("policy").get<std::string>(), row.at("arg"));
        const std::string layout = row.at("layout").get<std::string>();
        options.layout = layout == "baked" ? ParaLayout::Baked
            : layout == "padded"           ? ParaLayout::Padded
                                           : ParaLayout::KeptScale;
        for (const auto& [path, module] : c.json.at("modules").items()) {
            options.groupOf[path] = module.at("group").get<std::string>();
        }
        const std::filesystem::path output = c.scratch / (folder.filename().string() + "_" + name);
        RW_TRY(const Json receipt, compressAdapter(folder / "input", output, options));
        c.compareNumber(name + ".kept_energy", receipt.at("kept_energy").get<double>(),
                        row.at("kept_energy").get<double>(), 1e-9);
        for (const auto& [path, rank] : row.at("ranks").items()) {
            c.compareNumber(name + "." + path + ".rank", receipt.at("modules").at(path).at("rank").get<double>(),
                            rank.get<double>(), 0);
            c.compare(name + "." + path + ".sigma",
                      vectorOf(receipt.at("modules").at(path).at("sigma").get<std::vector<double>>()),
                      c.tensors.at("sigma." + path), 1e-9);
        }
        RW_TRY(const Json config, readJsonFile(output / "adapter_config.json"));
        if (layout == "baked") {
            c.compareNumber(name + ".r", config.at("r").get<double>(), row.at("r").get<double>(), 0);
            c.require(name + ".rank_pattern", config.at("rank_pattern") == row.at("rank_pattern"),
                      config.at("rank_pattern").dump());
            c.require(name + ".alpha_pattern", config.at("alpha_pattern") == row.at("alpha_pattern"),
                      config.at("alpha_pattern").dump());
        }
        RW_TRY_VOID(judgeChild(c, name, output, folder / name));
    }
    return {};
}

/// Paths that end in each other: the written keys must give each its own rank.
Result<void> judgeCollision(Case& c)
{
    std::vector<ParaModule> modules;
    for (const auto& [path, scale] : c.json.at("scale").items()) {
        modules.push_back({ path, c.tensors.at(path + ".A"), c.tensors.at(path + ".B"), scale.get<double>(), "all" });
    }
    RW_TRY(const std::vector<ParaSpectrum> spectra, decomposeUpdates(modules));
    const auto choice = chooseRanks(spectra, policyOf("gamma", c.json.at("config").at("gamma")));
    judgeChoice(c, "gamma", choice, c.json);
    if (!choice) {
        return {};
    }
    std::vector<adapters::PeftOutput> outputs;
    std::map<std::string, double> ranks;
    std::vector<std::string> kept;
    std::vector<std::string> all;
    for (const ParaSpectrum& s : spectra) {
        const std::int64_t rank = choice->ranks.at(s.path);
        all.push_back(s.path);
        if (rank == 0) {
            continue;
        }
        const ParaFactors factors = paraFactors(s, rank, ParaLayout::Baked);
        outputs.push_back({ s.path, factors.a, factors.b, static_cast<double>(rank) });
        ranks[s.path] = static_cast<double>(rank);
        kept.push_back(s.path);
    }
    const std::filesystem::path output = c.scratch / "collision";
    std::filesystem::create_directories(output);
    adapters::PeftWriteOptions write;
    write.targetModules = adapters::peftTargets({}, kept, all);
    RW_TRY_VOID(adapters::writePeftFolder(output, outputs, write));
    RW_TRY(const Json config, readJsonFile(output / "adapter_config.json"));
    c.require("rank_pattern", config.at("rank_pattern") == c.json.at("rank_pattern"), config.at("rank_pattern").dump());
    return judgeChild(c, "child", output, c.file.parent_path() / "child");
}

Result<void> judgeHard(Case& c)
{
    for (const auto& [name, row] : c.json.at("report").items()) {
        const at::Tensor& a = c.tensors.at(name + ".A");
        const at::Tensor& b = c.tensors.at(name + ".B");
        RW_TRY(const std::vector<ParaSpectrum> spectra, decomposeUpdates({ { name, a, b, 1.0, "all" } }));
        // Near-cancelling factors are of norm far above their product's: rounding counts against the factors.
        const double rounding =
            b.abs().max().item<double>() * a.abs().max().item<double>() * static_cast<double>(a.size(0)) * 1e-14;
        c.compare(name + ".sigma", scaledValues(spectra[0]), c.tensors.at(name + ".sigma"), 1e-12, rounding);
        c.compare(name + ".product", truncatedUpdate(spectra[0], static_cast<std::int64_t>(spectra[0].sigma.size())),
                  at::mm(b, a), 1e-12, rounding);
        const at::Tensor gram = at::mm(spectra[0].u.t(), spectra[0].u);
        c.compare(name + ".orthonormal", gram - gram.diag().diag(), at::zeros_like(gram), 0, 1e-13);
    }
    return {};
}

/// Diagonal factors of the hand cases.
ParaModule diagonal(const std::string& path, std::vector<double> sigma, double scale, std::int64_t rank,
                    std::int64_t in = 0, std::int64_t out = 0)
{
    const auto k = static_cast<std::int64_t>(sigma.size());
    ParaModule module;
    module.path = path;
    module.group = "all";
    module.scale = scale;
    // `rank` counts stored vectors; those beyond the given values are zero.
    module.b = at::zeros({ std::max(out, k), rank }, at::TensorOptions().dtype(at::kDouble));
    module.a = at::zeros({ rank, std::max(in, k) }, at::TensorOptions().dtype(at::kDouble));
    for (std::int64_t i = 0; i < k; ++i) {
        module.b.data_ptr<double>()[i * rank + i] = sigma[static_cast<std::size_t>(i)];
        module.a.data_ptr<double>()[i * module.a.size(1) + i] = 1;
    }
    return module;
}

at::Tensor matrix(std::initializer_list<std::initializer_list<double>> rows)
{
    std::vector<double> values;
    for (const auto& row : rows) {
        values.insert(values.end(), row.begin(), row.end());
    }
    return vectorOf(values).view({ static_cast<std::int64_t>(rows.size()), -1 });
}

std::map<std::string, std::vector<ParaModule>> handModules()
{
    const at::Tensor b1 = matrix({ { 4, 0, 0 }, { 0, 2, 0 }, { 0, 0, 1 }, { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } });
    const at::Tensor a1 = matrix({ { 0, 2, 0, 0 }, { -2, 0, 0, 0 }, { 0, 0, 0, 1 } });
    const at::Tensor b2 = matrix({ { 1, 1, 0 }, { 1, -1, 0 }, { 0, 0, 2 }, { 1, 1, 0 }, { 1, -1, 0 } });
    const at::Tensor a2 = matrix({ { 0, 0, 3 }, { 1.5, 0, 0 }, { 0, 1, 0 } });
    return {
        { "P1", { { "m", matrix({ { 1, 2 }, { 0, 1 } }), matrix({ { 1, 0 }, { 0, 1 }, { 1, 1 } }), 1, "all" } } },
        { "P2",
          { { "m", matrix({ { 3, 0, 4 }, { 0, 5, 0 } }), matrix({ { 1, 1 }, { 1, 1 }, { 1, -1 }, { 1, -1 } }), 1,
              "all" } } },
        { "P3",
          { { "m", matrix({ { 1, 0, 0, 1 }, { 0, 1, 0, 1 }, { 0, 0, 1, 1 } }), matrix({ { 1, 2, 3 }, { 4, 5, 6 } }), 1,
              "all" } } },
        { "P4", { { "L1", a1, b1, 1, "all" }, { "L2", a2, b2, 1, "all" } } },
        { "P5", { diagonal("M1", { 3, 2 }, 2, 2), diagonal("M2", { 10, 6 }, 0.5, 2) } },
        { "P6", { diagonal("M1", { 4, 2, 1 }, 1, 3), diagonal("M2", { 3, 2, 0.5 }, 1, 3) } },
        { "P7", { { "L1", a1, b1, 2, "all" } } },
        { "P8", { diagonal("M1", { 4, 3 }, 1, 2, 50, 50), diagonal("M2", { 3.5, 2 }, 1, 2, 5, 5) } },
    };
}

Result<void> judgeHand(Case& c)
{
    const auto modules = handModules();
    for (const Json& row : c.json.at("cases")) {
        const std::string id = row.at("id").get<std::string>();
        const auto known = modules.find(id.substr(0, 2));
        if (known == modules.end()) {
            return fail(Errc::Unsupported, fmt::format("no judge for hand case \"{}\"", id), c.file.string());
        }
        RW_TRY(const std::vector<ParaSpectrum> spectra, decomposeUpdates(known->second));
        const auto choose = [&](const std::string& kind, double value) {
            return chooseRanks(spectra, policyOf(kind, Json(value)));
        };
        if (row.contains("sigma")) {
            c.compare(id + ".sigma", scaledValues(spectra[0]), vectorOf(row.at("sigma").get<std::vector<double>>()),
                      1e-12);
        }
        if (id == "P1") {
            const at::Tensor one = truncatedUpdate(spectra[0], 1);
            for (std::size_t i = 0; i < row.at("rank1").size(); ++i) {
                c.compare(fmt::format("P1.rank1.{}", i), one.select(0, static_cast<std::int64_t>(i)),
                          vectorOf(row.at("rank1")[i].get<std::vector<double>>()), 1e-12);
            }
            c.compareNumber("P1.kept", choose("rank_total", 1)->keptEnergy, row.at("kept_energy").get<double>(), 1e-12);
        } else if (id == "P2") {
            c.compareNumber("P2.rank", static_cast<double>(choose("rank_total", 1)->ranks.at("m")),
                            row.at("budget1").at("m").get<double>(), 0);
        } else if (id.starts_with("P4_")) {
            const std::string rest = id.substr(3);
            const std::string kind = rest.substr(0, rest.rfind('_'));
            double value = std::stod(rest.substr(rest.rfind('_') + 1));
            if (kind == "gamma") { // the name has four digits of a sixth or a third
                value = std::round(value * 6) / 6;
            }
            judgeChoice(c, id, choose(kind, value), row);
        } else if (id.starts_with("P5")) {
            for (const ParaSpectrum& s : spectra) {
                c.compare(id + "." + s.path, scaledValues(s),
                          vectorOf(row.at("sigma_scaled").at(s.path).get<std::vector<double>>()), 1e-12);
            }
            judgeChoice(c, id, choose("rank_total", 2), row);
        } else if (id.starts_with("P6")) {
            judgeChoice(c, id, choose("energy", 0.9), row);
        } else if (id.starts_with("P7")) {
            const at::Tensor x = vectorOf({ 1, 2, 3, 4 });
            const ParaFactors factors = paraFactors(spectra[0], 2, ParaLayout::Baked);
            c.compare("P7.full", truncatedUpdate(spectra[0], 3).mv(x),
                      vectorOf(row.at("full").get<std::vector<double>>()), 1e-12);
            c.compare("P7.rank2", factors.b.mv(factors.a.mv(x)),
                      vectorOf(row.at("rank2_baked").get<std::vector<double>>()), 1e-12);
        } else if (id.starts_with("P8_")) {
            judgeChoice(c, id, choose(id.substr(3, id.rfind('_') - 3), 20), row);
        }
    }
    return {};
}

} // namespace

Result<models::CertifyReport> certifyParaCase(const std::filesystem::path& json, const std::filesystem::path& scratch,
                                              const models::CertifyOptions& options)
{
    Case c;
    c.scratch = scratch;
    c.report.kind = "para";
    c.report.family = "para";
    const std::string folder = json.parent_path().filename().string();
    const std::string stem = json.stem().string();
    c.report.name = stem == "golden" ? folder : stem;
    RW_TRY_VOID(c.load(json, options));
    try {
        if (stem.starts_with("pool_")) {
            RW_TRY_VOID(judgePool(c));
        } else if (stem == "hard_factors") {
            RW_TRY_VOID(judgeHard(c));
        } else if (stem == "hand_cases") {
            RW_TRY_VOID(judgeHand(c));
        } else if (stem == "golden" && folder.starts_with("folder_")) {
            RW_TRY_VOID(c.json.contains("outputs") ? judgeFolder(c) : judgeCollision(c));
        } else {
            return fail(Errc::Unsupported, fmt::format("no judge for PARA cases named \"{}\"", stem), json.string());
        }
    } catch (const std::exception& error) { // a field or tensor that the case lacks
        return fail(Errc::DataInvalid, error.what(), json.string());
    }
    return c.report;
}

Result<std::vector<std::filesystem::path>> paraCases(const std::filesystem::path& root)
{
    std::vector<std::filesystem::path> cases;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename().string();
        const bool inRoot = it->path().parent_path() == root;
        if (it->is_regular_file() && it->path().extension() == ".json" && (inRoot || name == "golden.json")) {
            cases.push_back(it->path());
        }
    }
    if (cases.empty()) {
        return fail(Errc::FileNotFound, "holds no PARA cases", root.string());
    }
    std::ranges::sort(cases);
    return cases;
}

} // namespace rankwise::compress
