// SPDX-License-Identifier: Apache-2.0
#include "backend/compress/para.h"

#include "backend/adapters/peft_folder.h"
#include "backend/adapters/target_selection.h"
#include "backend/base/file.h"
#include "backend/base/sha256.h"
#include "backend/compress/tall_qr.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <limits>
#include <mutex>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::compress {

namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr double kEnergySlack = 1e-12;

/// One value of the pool.
struct Entry {
    double key = 0; ///< What it is ordered by, rounded to 12 significant digits.
    std::size_t module = 0;
    std::size_t index = 0;
    double value = 0; ///< σ̃
};

double rounded(double value)
{
    char text[40];
    std::snprintf(text, sizeof text, "%.11e", value);
    return std::strtod(text, nullptr);
}

/// Reduced QR of one factor, [rows, columns] in double: Q = basis · finish.
struct FactorQr {
    at::Tensor basis;  ///< [rows, k]
    at::Tensor finish; ///< [k, k]; undefined: 1.
    at::Tensor r;      ///< [k, columns]

    explicit FactorQr(const at::Tensor& matrix)
    {
        const at::Tensor m = matrix.contiguous();
        TallQr fast;
        if (m.size(0) >= 4 * m.size(1) && tallQr(m.const_data_ptr<double>(), m.size(0), m.size(1), fast)) {
            basis = tensorOf(fast.basis, m.size(0), m.size(1));
            finish = tensorOf(fast.finish, m.size(1), m.size(1));
            r = tensorOf(fast.r, m.size(1), m.size(1));
            return;
        }
        std::tie(basis, r) = at::linalg_qr(m); // nearly dependent columns
    }

    /// Q · w
    [[nodiscard]] at::Tensor times(const at::Tensor& w) const
    {
        if (!finish.defined()) {
            return at::mm(basis, w);
        }
        const at::Tensor weights = at::mm(finish, w).contiguous();
        at::Tensor result = at::empty({ basis.size(0), w.size(1) }, basis.options());
        tallProduct(basis.const_data_ptr<double>(), basis.size(0), basis.size(1), weights.const_data_ptr<double>(),
                    w.size(1), result.data_ptr<double>());
        return result;
    }

    static at::Tensor tensorOf(const std::vector<double>& values, std::int64_t rows, std::int64_t columns)
    {
        at::Tensor tensor = at::empty({ rows, columns }, at::TensorOptions().dtype(at::kDouble));
        std::copy(values.begin(), values.end(), tensor.data_ptr<double>());
        return tensor;
    }
};

bool allFinite(const at::Tensor& values)
{
    const double* data = values.const_data_ptr<double>();
    double poison = 0;
    for (std::int64_t i = 0; i < values.numel(); ++i) {
        poison += data[i] * 0; // NaN for NaN and infinity
    }
    return poison == 0;
}

/// For each column of u [rows, K] the sign of its entry of largest size, the first of equal ones: [1, K] of ±1.
at::Tensor signsOf(const at::Tensor& u)
{
    const std::int64_t columns = u.size(1);
    std::vector<double> extremes(static_cast<std::size_t>(columns));
    const double* data = u.const_data_ptr<double>();
    for (std::int64_t i = 0; i < u.size(0); ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            double& extreme = extremes[static_cast<std::size_t>(j)];
            const double value = data[i * columns + j];
            extreme = std::abs(value) > std::abs(extreme) ? value : extreme;
        }
    }
    at::Tensor signs = at::empty({ 1, columns }, u.options());
    for (std::int64_t j = 0; j < columns; ++j) {
        signs.data_ptr<double>()[j] = extremes[static_cast<std::size_t>(j)] < 0 ? -1 : 1;
    }
    return signs;
}

Result<ParaSpectrum> decompose(const ParaModule& module)
{
    const at::NoGradGuard noGrad;
    ParaSpectrum spectrum;
    spectrum.path = module.path;
    spectrum.group = module.group;
    spectrum.scale = module.scale;
    if (module.a.dim() != 2 || module.b.dim() != 2 || module.a.size(0) != module.b.size(1)) {
        return fail(Errc::ShapeMismatch, "the two factors have different ranks", module.path);
    }
    spectrum.rank = module.a.size(0);
    spectrum.cost = module.a.size(1) + module.b.size(0);
    const at::Tensor b = module.b.detach().cpu().to(at::kDouble).contiguous();
    const at::Tensor a = module.a.detach().cpu().to(at::kDouble).contiguous();
    if (!allFinite(b) || !allFinite(a) || !std::isfinite(module.scale)) {
        return fail(Errc::NotFinite, "a factor or the scale is not finite", module.path);
    }
    if (spectrum.rank == 0) { // AdaLoRA may leave nothing
        spectrum.u = at::zeros({ b.size(0), 0 }, b.options());
        spectrum.v = at::zeros({ a.size(1), 0 }, a.options());
        return spectrum;
    }
    const FactorQr qrOfB(b);     // [out, k], [k, r]
    const FactorQr qrOfA(a.t()); // [in, k'], [k', r]
    const auto [left, sigma, right] = at::linalg_svd(at::mm(qrOfB.r, qrOfA.r.t()), false);
    at::Tensor u = qrOfB.times(left);
    at::Tensor v = qrOfA.times(right.t());
    const at::Tensor sign = signsOf(u.contiguous());
    spectrum.u = u * sign;
    spectrum.v = v * sign;
    const at::Tensor values = sigma.contiguous();
    const double* data = values.const_data_ptr<double>();
    spectrum.sigma.assign(data, data + values.numel());
    if (!spectrum.sigma.empty()) {
        spectrum.floor = static_cast<double>(std::max(a.size(1), b.size(0))) * kEpsilon * spectrum.scaled(0);
    }
    return spectrum;
}

/// Values above the floor of the given modules, largest key first.
template <class Key>
std::vector<Entry> poolOf(const std::vector<ParaSpectrum>& spectra, const std::vector<std::size_t>& modules, Key key)
{
    std::vector<Entry> entries;
    for (const std::size_t module : modules) {
        const ParaSpectrum& spectrum = spectra[module];
        for (std::size_t j = 0; j < spectrum.sigma.size(); ++j) {
            const double value = spectrum.scaled(j);
            if (value > spectrum.floor && value > 0) {
                entries.push_back({ rounded(key(spectrum, value)), module, j, value });
            }
        }
    }
    std::ranges::sort(entries, [&](const Entry& a, const Entry& b) {
        if (a.key != b.key) {
            return a.key > b.key;
        }
        const int byName = spectra[a.module].path.compare(spectra[b.module].path);
        return byName != 0 ? byName < 0 : a.index < b.index;
    });
    return entries;
}

std::size_t rankBudget(double gamma, std::int64_t ranks)
{
    return static_cast<std::size_t>(std::max(1.0, std::floor(gamma * static_cast<double>(ranks) + 1e-9)));
}

std::size_t energyPrefix(const std::vector<Entry>& entries, double share, double total)
{
    if (share >= 1) {
        return entries.size();
    }
    double sum = 0;
    for (std::size_t k = 0; k < entries.size(); ++k) {
        sum += entries[k].value * entries[k].value;
        if (sum >= share * total * (1 - kEnergySlack)) {
            return k + 1;
        }
    }
    return entries.size();
}

std::size_t parameterPrefix(const std::vector<ParaSpectrum>& spectra, const std::vector<Entry>& entries, double budget)
{
    double used = 0;
    std::size_t k = 0;
    for (; k < entries.size(); ++k) {
        used += static_cast<double>(spectra[entries[k].module].cost);
        if (used > budget) {
            break;
        }
    }
    return k;
}

std::vector<std::size_t> allOf(const std::vector<ParaSpectrum>& spectra)
{
    std::vector<std::size_t> modules(spectra.size());
    for (std::size_t i = 0; i < modules.size(); ++i) {
        modules[i] = i;
    }
    return modules;
}

std::int64_t rankSum(const std::vector<ParaSpectrum>& spectra, const std::vector<std::size_t>& modules)
{
    std::int64_t sum = 0;
    for (const std::size_t module : modules) {
        sum += spectra[module].rank;
    }
    return sum;
}

Result<void> checkPolicy(const ParaPolicy& policy)
{
    const bool share = policy.kind == ParaPolicy::Kind::Gamma || policy.kind == ParaPolicy::Kind::Energy
        || policy.kind == ParaPolicy::Kind::Local;
    if (policy.kind != ParaPolicy::Kind::Groups && !(policy.value > 0 && std::isfinite(policy.value))) {
        return fail(Errc::FieldInvalid, fmt::format("{} is no positive number", policy.value), "policy");
    }
    if (share && policy.value > 1) {
        return fail(Errc::FieldInvalid, fmt::format("{} is outside of (0, 1]", policy.value), "policy");
    }
    if (policy.kind == ParaPolicy::Kind::Bytes && policy.bytesPerNumber < 1) {
        return fail(Errc::FieldInvalid, "a number has at least one byte", "policy");
    }
    for (const auto& [name, gamma] : policy.groups) {
        if (!(gamma > 0 && gamma <= 1)) {
            return fail(Errc::FieldInvalid, fmt::format("{} is outside of (0, 1]", gamma), "policy: " + name);
        }
    }
    return {};
}

/// Values that each group's or module's own budget keeps.
Result<std::vector<Entry>> chooseByGroup(const std::vector<ParaSpectrum>& spectra, const ParaPolicy& policy)
{
    std::map<std::string, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < spectra.size(); ++i) {
        groups[policy.kind == ParaPolicy::Kind::Local ? spectra[i].path : spectra[i].group].push_back(i);
    }
    std::vector<Entry> chosen;
    for (const auto& [name, modules] : groups) {
        double gamma = policy.value;
        if (policy.kind == ParaPolicy::Kind::Groups) {
            const auto share = policy.groups.find(name);
            if (share == policy.groups.end()) {
                return fail(Errc::FieldInvalid, "has no share; every group of the adapter needs one", "group " + name);
            }
            gamma = share->second;
        }
        const auto entries = poolOf(spectra, modules, [](const ParaSpectrum&, double value) { return value; });
        const std::size_t budget = std::min(entries.size(), rankBudget(gamma, rankSum(spectra, modules)));
        chosen.insert(chosen.end(), entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(budget));
    }
    return chosen;
}

/// Adds to `chosen` what each module lacks of `minimum`.
void raiseToMinimum(const std::vector<ParaSpectrum>& spectra, std::int64_t minimum, std::vector<Entry>& chosen)
{
    std::vector<std::int64_t> have(spectra.size());
    for (const Entry& entry : chosen) {
        ++have[entry.module];
    }
    for (std::size_t i = 0; i < spectra.size(); ++i) {
        for (auto j = static_cast<std::size_t>(have[i]);
             j < std::min(static_cast<std::size_t>(minimum), spectra[i].sigma.size()); ++j) {
            const double value = spectra[i].scaled(j);
            if (value > spectra[i].floor && value > 0) {
                chosen.push_back({ value, i, j, value });
            }
        }
    }
}

std::string fixedName(ParaPolicy::Kind kind)
{
    switch (kind) {
    case ParaPolicy::Kind::Gamma:
        return "gamma";
    case ParaPolicy::Kind::Energy:
        return "energy";
    case ParaPolicy::Kind::Threshold:
        return "threshold";
    case ParaPolicy::Kind::RankTotal:
        return "rank_total";
    case ParaPolicy::Kind::Params:
        return "params";
    case ParaPolicy::Kind::ParamsOptimal:
        return "params_optimal";
    case ParaPolicy::Kind::Bytes:
        return "bytes";
    case ParaPolicy::Kind::Groups:
        return "groups";
    case ParaPolicy::Kind::Local:
        return "local";
    }
    return "gamma";
}

std::string layoutName(ParaLayout layout)
{
    return layout == ParaLayout::Baked ? "baked" : (layout == ParaLayout::KeptScale ? "kept_scale" : "padded");
}

} // namespace

double ParaSpectrum::scaled(std::size_t index) const
{
    return std::abs(scale) * sigma[index];
}

Result<std::vector<ParaSpectrum>> decomposeUpdates(const std::vector<ParaModule>& modules, const JobContext& job)
{
    std::vector<ParaSpectrum> spectra(modules.size());
    std::atomic<std::size_t> next { 0 };
    std::atomic<bool> stop { false };
    std::mutex mutex;
    std::optional<Error> error;
    const auto work = [&](bool reports) {
        for (std::size_t i = next++; i < modules.size() && !stop; i = next++) {
            if (job.stop.stop_requested()) {
                stop = true;
                break;
            }
            Result<ParaSpectrum> spectrum = decompose(modules[i]);
            if (spectrum) {
                spectra[i] = std::move(*spectrum);
            } else {
                const std::lock_guard lock(mutex);
                error = error ? error : std::optional<Error>(std::move(spectrum).error());
                stop = true;
            }
            if (reports) {
                job.report(static_cast<double>(i + 1) / static_cast<double>(modules.size()), modules[i].path);
            }
        }
    };
    // Small factorisations lose to hand-overs between threads: one thread for each module instead.
    const std::size_t count =
        std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, std::max<std::size_t>(modules.size(), 1));
    std::vector<std::exception_ptr> thrown(count);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 1; i < count; ++i) {
            threads.emplace_back([&, i] {
                try {
                    at::set_num_threads(1);
                    work(false);
                } catch (...) {
                    thrown[i] = std::current_exception();
                    stop = true;
                }
            });
        }
        const int before = at::get_num_threads();
        at::set_num_threads(1);
        try {
            work(true);
        } catch (...) {
            thrown[0] = std::current_exception();
            stop = true;
        }
        at::set_num_threads(before);
    }
    for (const std::exception_ptr& exception : thrown) {
        if (exception) {
            std::rethrow_exception(exception);
        }
    }
    if (error) {
        return tl::unexpected(std::move(*error));
    }
    if (job.stopped()) {
        return fail(Errc::Cancelled, "stopped while decomposing");
    }
    return spectra;
}

Result<ParaChoice> chooseRanks(const std::vector<ParaSpectrum>& spectra, const ParaPolicy& policy)
{
    using Kind = ParaPolicy::Kind;
    RW_TRY_VOID(checkPolicy(policy));
    const std::vector<std::size_t> all = allOf(spectra);
    const auto bySize = [](const ParaSpectrum&, double value) { return value; };
    const auto byDensity = [](const ParaSpectrum& s, double value) {
        return value * value / static_cast<double>(s.cost);
    };
    const std::vector<Entry> entries =
        policy.kind == Kind::ParamsOptimal ? poolOf(spectra, all, byDensity) : poolOf(spectra, all, bySize);
    double total = 0;
    for (const ParaSpectrum& spectrum : spectra) {
        double sum = 0;
        for (std::size_t j = 0; j < spectrum.sigma.size(); ++j) {
            sum += spectrum.scaled(j) * spectrum.scaled(j);
        }
        total += sum;
    }
    std::size_t count = 0;
    std::vector<Entry> chosen;
    switch (policy.kind) {
    case Kind::Gamma:
        count = rankBudget(policy.value, rankSum(spectra, all));
        break;
    case Kind::Energy:
        count = energyPrefix(entries, policy.value, total);
        break;
    case Kind::Threshold:
        count = static_cast<std::size_t>(
            std::ranges::count_if(entries, [&](const Entry& entry) { return entry.value >= policy.value; }));
        break;
    case Kind::RankTotal:
        count = static_cast<std::size_t>(policy.value);
        break;
    case Kind::Params:
    case Kind::ParamsOptimal:
        count = parameterPrefix(spectra, entries, policy.value);
        break;
    case Kind::Bytes:
        count = parameterPrefix(spectra, entries, policy.value / static_cast<double>(policy.bytesPerNumber));
        break;
    case Kind::Groups:
    case Kind::Local: {
        RW_TRY(chosen, chooseByGroup(spectra, policy));
        break;
    }
    }
    if (policy.kind != Kind::Groups && policy.kind != Kind::Local) {
        count = std::min(count, entries.size());
        chosen.assign(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(count));
    }
    raiseToMinimum(spectra, policy.minimumRank, chosen);

    ParaChoice choice;
    for (const ParaSpectrum& spectrum : spectra) {
        choice.ranks[spectrum.path] = 0;
    }
    double kept = 0;
    for (const Entry& entry : chosen) {
        ++choice.ranks[spectra[entry.module].path];
        kept += entry.value * entry.value;
        choice.tau = choice.tau ? std::min(*choice.tau, entry.value) : entry.value;
        choice.parameters += spectra[entry.module].cost;
    }
    choice.totalRank = static_cast<std::int64_t>(chosen.size());
    const auto rest = std::min(chosen.size(), entries.size());
    for (std::size_t i = rest; choice.tau && i < entries.size(); ++i) {
        choice.tiesCut += entries[i].value == *choice.tau ? 1 : 0;
    }
    if (rest > 0 && rest < entries.size()) {
        choice.gapAtCut = std::abs(entries[rest - 1].value - entries[rest].value)
            / std::max(entries[rest - 1].value, std::numeric_limits<double>::min());
    }
    if (total > 0) {
        choice.keptEnergy = kept / total;
        choice.relativeError = std::sqrt(std::max(0.0, total - kept) / total);
    }
    for (const auto& [path, rank] : choice.ranks) {
        if (rank == 0) {
            choice.removed.push_back(path);
        }
    }
    return choice;
}

ParaFactors paraFactors(const ParaSpectrum& spectrum, std::int64_t rank, ParaLayout layout)
{
    const at::NoGradGuard noGrad;
    std::vector<double> roots;
    for (std::size_t j = 0; j < static_cast<std::size_t>(rank); ++j) {
        roots.push_back(std::sqrt(layout == ParaLayout::KeptScale ? spectrum.sigma[j] : spectrum.scaled(j)));
    }
    const at::Tensor root = at::from_blob(roots.data(), { rank }, at::TensorOptions().dtype(at::kDouble)).clone();
    const double sign = layout != ParaLayout::KeptScale && spectrum.scale < 0 ? -1 : 1;
    return { spectrum.u.narrow(1, 0, rank) * root * sign, (spectrum.v.narrow(1, 0, rank) * root).t().contiguous() };
}

at::Tensor truncatedUpdate(const ParaSpectrum& spectrum, std::int64_t rank)
{
    const ParaFactors factors = paraFactors(spectrum, rank, ParaLayout::Baked);
    return at::mm(factors.b, factors.a);
}

std::string defaultGroup(const std::string& path)
{
    const auto has = [&](const char* part) { return path.find(part) != std::string::npos; };
    if (has("lm_expert") || has("gemma_expert")) {
        return "expert";
    }
    if (has("vision")) {
        return "vision";
    }
    return has(".vlm.") || has("paligemma") ? "vlm" : "proj";
}

namespace {

/// The module whose update is s·(B·A - B₀·A₀): factors side by side, as PEFT's own conversion does.
Result<ParaModule> withoutInitial(const ParaModule& module, const adapters::PeftFolder& initial)
{
    const auto before = std::ranges::find(initial.modules, module.path, &adapters::PeftModule::path);
    if (before == initial.modules.end() || before->b.size(0) != module.b.size(0)
        || before->a.size(1) != module.a.size(1)) {
        return fail(Errc::ShapeMismatch, "the initial adapter has no such module or another size", module.path);
    }
    const at::NoGradGuard noGrad;
    ParaModule joined = module;
    joined.a = at::cat({ module.a.to(at::kDouble), before->a.to(at::kDouble) }, 0);
    joined.b = at::cat({ module.b.to(at::kDouble), before->b.to(at::kDouble) * -(before->scale / module.scale) }, 1);
    return joined;
}

Result<std::vector<ParaModule>> modulesOf(const adapters::PeftFolder& folder, const ParaOptions& options)
{
    if (folder.dora) {
        return fail(Errc::Unsupported,
                    "DoRA: cutting the update also changes the norm it is divided by; merge the adapter instead",
                    "use_dora");
    }
    if (!folder.tokens.empty()) {
        return fail(Errc::Unsupported, "trained token rows cannot be compressed", "trainable_token_indices");
    }
    std::optional<adapters::PeftFolder> initial;
    if (!folder.baseChanging.empty()) {
        if (options.initialAdapter.empty()) {
            return fail(Errc::Unsupported,
                        fmt::format("\"{}\" changed the base weights: give the adapter as it was before training too",
                                    folder.baseChanging),
                        "init_lora_weights");
        }
        RW_TRY(initial, adapters::readPeftFolder(options.initialAdapter));
    }
    std::vector<ParaModule> modules;
    for (const adapters::PeftModule& stored : folder.modules) {
        if (stored.kind != adapters::PeftModule::Kind::Linear || stored.transposed) {
            return fail(Errc::Unsupported, "convolutions, embeddings and transposed layers cannot be compressed",
                        stored.path);
        }
        ParaModule module;
        module.path = stored.path;
        module.a = stored.a;
        module.b = stored.b;
        if (stored.e.defined()) {
            const at::NoGradGuard noGrad;
            module.b = stored.b.to(at::kDouble) * stored.e.to(at::kDouble).view({ 1, -1 });
        }
        module.scale = stored.scale;
        const auto group = options.groupOf.find(stored.path);
        module.group = group == options.groupOf.end() ? defaultGroup(stored.path) : group->second;
        if (initial) {
            RW_TRY(module, withoutInitial(module, *initial));
        }
        modules.push_back(std::move(module));
    }
    return modules;
}

/// Largest relative Frobenius error that storing factors in `type` adds to a kept update, over the modules.
double castError(const ParaFactors& factors, at::ScalarType type)
{
    // ‖B̂Â - cast(B̂)cast(Â)‖ from the factors alone: both differences are small, their product negligible.
    const at::Tensor b = factors.b.to(type).to(at::kDouble);
    const at::Tensor a = factors.a.to(type).to(at::kDouble);
    const auto squaredNorm = [](const at::Tensor& left, const at::Tensor& right) {
        return (at::mm(left.t(), left) * at::mm(right, right.t())).sum().item<double>();
    };
    const at::Tensor left = at::cat({ factors.b - b, b }, 1);
    const at::Tensor right = at::cat({ factors.a, factors.a - a }, 0);
    return std::sqrt(std::max(0.0, squaredNorm(left, right)) / std::max(squaredNorm(factors.b, factors.a), 1e-300));
}

Json receiptOf(const adapters::PeftFolder& folder, const std::vector<ParaSpectrum>& spectra, const ParaChoice& choice,
               const ParaOptions& options)
{
    std::int64_t before = 0;
    std::int64_t ranksBefore = 0;
    Json modules = Json::object();
    for (const ParaSpectrum& spectrum : spectra) {
        const std::int64_t rank = choice.ranks.at(spectrum.path);
        before += spectrum.rank * spectrum.cost;
        ranksBefore += spectrum.rank;
        std::vector<double> values;
        double total = 0;
        double kept = 0;
        for (std::size_t j = 0; j < spectrum.sigma.size(); ++j) {
            const double value = spectrum.scaled(j);
            values.push_back(value);
            total += value * value;
            kept += j < static_cast<std::size_t>(rank) ? value * value : 0;
        }
        modules[spectrum.path] = { { "group", spectrum.group },
                                   { "rank_before", spectrum.rank },
                                   { "rank", rank },
                                   { "scale", spectrum.scale },
                                   { "sigma", values },
                                   { "energy", total },
                                   { "dropped_energy", total - kept } };
    }
    std::int64_t carried = 0;
    for (const auto& [name, tensor] : folder.saved) {
        carried += tensor.numel();
    }
    Json policy { { "kind", fixedName(options.policy.kind) }, { "value", options.policy.value } };
    if (!options.policy.groups.empty()) {
        policy["groups"] = options.policy.groups;
    }
    if (options.policy.minimumRank > 0) {
        policy["minimum_rank"] = options.policy.minimumRank;
    }
    return Json { { "method", "para" },
                  { "policy", policy },
                  { "layout", layoutName(options.layout) },
                  { "tau", choice.tau ? Json(*choice.tau) : Json() },
                  { "ties_cut_at_tau", choice.tiesCut },
                  { "gap_at_cut", choice.gapAtCut ? Json(*choice.gapAtCut) : Json() },
                  { "kept_energy", choice.keptEnergy },
                  { "relative_frobenius_error", choice.relativeError },
                  { "rank_total_before", ranksBefore },
                  { "rank_total", choice.totalRank },
                  { "parameters_before", before },
                  { "parameters", choice.parameters },
                  { "parameters_carried_over", carried },
                  { "removed_modules", choice.removed },
                  { "modules", modules } };
}

} // namespace

Result<Json> compressAdapter(const std::filesystem::path& input, const std::filesystem::path& output,
                             const ParaOptions& options, const JobContext& job)
{
    std::error_code ignored;
    if (std::filesystem::exists(output, ignored)) {
        return fail(Errc::AlreadyExists, "exists already; choose another folder", output.string());
    }
    RW_TRY(const adapters::PeftFolder folder, adapters::readPeftFolder(input));
    RW_TRY(const std::vector<ParaModule> modules, modulesOf(folder, options));
    // Hashing the input takes as long as decomposing it: beside each other.
    std::future<Result<std::string>> weightsHash = std::async(std::launch::async, [&] {
        return sha256OfFile(input / "adapter_model.safetensors", { job.stop, {} });
    });
    RW_TRY(const std::vector<ParaSpectrum> spectra, decomposeUpdates(modules, job));
    RW_TRY(const ParaChoice choice, chooseRanks(spectra, options.policy));
    if (choice.totalRank == 0) {
        return fail(Errc::DataInvalid,
                    "nothing would be left: the budget is below one rank of the first module, or "
                    "all updates are zero",
                    input.string());
    }
    std::int64_t largest = 0;
    for (const auto& [path, rank] : choice.ranks) {
        largest = std::max(largest, rank);
    }

    const at::NoGradGuard noGrad;
    std::vector<adapters::PeftOutput> outputs;
    adapters::PeftWriteOptions write;
    double worstCast = 0;
    std::vector<std::string> kept;
    std::set<std::string> paths(options.linearPaths.begin(), options.linearPaths.end());
    for (const ParaSpectrum& spectrum : spectra) {
        paths.insert(spectrum.path);
        const std::int64_t rank = choice.ranks.at(spectrum.path);
        if (rank == 0) {
            continue;
        }
        ParaFactors factors = paraFactors(spectrum, rank, options.layout);
        worstCast = std::max(worstCast, castError(factors, options.type));
        double alpha = options.layout == ParaLayout::KeptScale ? spectrum.scale * static_cast<double>(rank)
                                                               : static_cast<double>(rank);
        if (options.layout == ParaLayout::Padded) {
            const std::int64_t missing = largest - rank;
            factors.b = at::cat({ factors.b, at::zeros({ factors.b.size(0), missing }, factors.b.options()) }, 1);
            factors.a = at::cat({ factors.a, at::zeros({ missing, factors.a.size(1) }, factors.a.options()) }, 0);
            alpha = static_cast<double>(largest);
        }
        kept.push_back(spectrum.path);
        outputs.push_back({ spectrum.path, factors.a, factors.b, alpha });
    }
    write.saved = folder.saved;
    for (const adapters::PeftModule& module : folder.modules) {
        if (choice.ranks.at(module.path) == 0 && (module.upBias.defined() || module.baseBias.defined())) {
            return fail(Errc::Unsupported, "keeps a trained bias but no rank; give a minimum rank of 1", module.path);
        }
        if (module.upBias.defined()) { // the library multiplies it by the scale
            const double newScale = options.layout == ParaLayout::KeptScale ? module.scale : 1;
            write.saved[module.path + ".lora_B.bias"] = module.upBias.to(at::kFloat) * (module.scale / newScale);
        }
        if (module.baseBias.defined()) {
            write.saved[module.path + ".base_layer.bias"] = module.baseBias;
        }
    }
    adapters::TargetOptions asList;
    asList.kind = adapters::TargetOptions::Kind::Endings;
    asList.endings = kept;
    write.targetModules = adapters::peftTargets(asList, kept, { paths.begin(), paths.end() });
    write.inherit = folder.config;
    if (folder.type == "ADALORA") {
        for (const char* key :
             { "target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step" }) {
            write.inherit.erase(key);
        }
    }
    write.dropout = 0;
    write.type = options.type;

    Json receipt = receiptOf(folder, spectra, choice, options);
    RW_TRY(receipt["input"]["adapter_config.json"], sha256OfFile(input / "adapter_config.json", job));
    RW_TRY(receipt["input"]["adapter_model.safetensors"], weightsHash.get());
    receipt["relative_cast_error"] = worstCast;
    RW_TRY(AtomicFolder target, AtomicFolder::create(output));
    RW_TRY_VOID(adapters::writePeftFolder(target.path(), outputs, write));
    RW_TRY_VOID(writeFileAtomically(target.path() / "compression_report.json", jsonText(receipt)));
    RW_TRY_VOID(target.commit());
    return receipt;
}

} // namespace rankwise::compress
