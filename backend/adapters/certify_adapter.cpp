// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/certify_adapter.h"

#include "backend/adapters/adaptation_method.h"
#include "backend/adapters/lora_sp_layer.h"
#include "backend/adapters/module_pattern.h"
#include "backend/adapters/peft_folder.h"
#include "backend/adapters/target_selection.h"
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/models/certify_case.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

using tensor::TensorMap;

/// A case being judged.
struct Case : models::CertifyCase {
    [[nodiscard]] const at::Tensor& tensor(const std::string& name) const { return tensors.at(name); }
    [[nodiscard]] bool has(const std::string& name) const { return tensors.contains(name); }
};

/// Numbers of a case file may be the strings "nan", "inf", "-inf".
double numberOf(const Json& value)
{
    if (value.is_string()) {
        const std::string text = value.get<std::string>();
        if (text == "nan") {
            return std::numeric_limits<double>::quiet_NaN();
        }
        return text == "-inf" ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    }
    return value.get<double>();
}

at::Tensor tensorOf(const Json& list, at::ScalarType type)
{
    std::vector<double> values;
    for (const Json& value : list) {
        values.push_back(numberOf(value));
    }
    return at::from_blob(values.data(), { static_cast<std::int64_t>(values.size()) },
                         at::TensorOptions().dtype(at::kDouble))
        .clone()
        .to(type);
}

std::vector<std::int64_t> indicesOf(const at::Tensor& mask)
{
    const at::Tensor where = mask.nonzero().flatten().contiguous();
    const std::int64_t* data = where.const_data_ptr<std::int64_t>();
    return { data, data + where.numel() };
}

at::ScalarType typeOf(const std::string& name)
{
    return name == "float64" ? at::kDouble : (name == "bfloat16" ? at::kBFloat16 : at::kFloat);
}

// ------------------------------------------------------------------------------------------------ LoRA-SP

LoraSpOptions optionsOf(const Case& c, bool reference, const Json& config)
{
    LoraSpOptions o;
    o.mode = reference ? LoraSpOptions::Mode::Reference : LoraSpOptions::Mode::Paper;
    o.referenceSelect = reference;
    o.sortKey = reference ? LoraSpOptions::SortKey::Signed : LoraSpOptions::SortKey::Square;
    o.batchRatio = reference;
    o.referenceLosses = reference;
    o.lastCallOnly = reference;
    o.blocks = config.at("experts").get<std::int64_t>();
    o.bank = o.blocks * config.at("r").get<std::int64_t>();
    o.eta = config.value("eta", 0.9);
    o.scale = config.at("alpha").get<double>() / config.at("r").get<double>();
    o.routerDropout = 0;
    o.directRouter = config.value("direct_router", false);
    const std::string map = config.value("score_map", std::string("none"));
    o.scoreMap = map == "relu" ? ScoreMap::Relu
        : map == "softplus"    ? ScoreMap::Softplus
        : map == "abs"         ? ScoreMap::Abs
                               : ScoreMap::None;
    const std::string routing = config.value("routing", std::string("weighted"));
    o.routing = routing == "top1" ? LoraSpOptions::Routing::Top1
        : routing == "top2"       ? LoraSpOptions::Routing::Top2
                                  : LoraSpOptions::Routing::Weighted;
    if (const auto lambda = c.json.find("lambda"); lambda != c.json.end()) {
        o.spectralWeight = lambda->at("spec").get<double>();
        o.balanceWeight = lambda->at("balance").get<double>();
        o.zWeight = lambda->at("z").get<double>();
    }
    return o;
}

/// The base layer and the adapter with the case's parameters ("param." or "param0.").
struct Bench {
    models::Linear base;
    std::unique_ptr<LoraSpLayer> layer;

    Bench(const Case& c, LoraSpOptions options, const std::string& prefix)
    {
        const auto parameter = [&](const char* name) { return c.tensor(prefix + name).clone(); };
        base.weight = parameter("W0");
        base.path = "layer";
        if (c.has(prefix + "b0")) {
            base.bias = parameter("b0");
        }
        options.paramType = base.weight.scalar_type();
        layer = std::make_unique<LoraSpLayer>(base, options, std::make_shared<AdapterRandom>(0));
        layer->down = parameter("V").set_requires_grad(true);
        layer->up = parameter("U").set_requires_grad(true);
        layer->router1 = parameter("W1").set_requires_grad(true);
        if (c.has(prefix + "W2")) {
            layer->router2 = parameter("W2").set_requires_grad(true);
        }
    }

    [[nodiscard]] std::vector<std::pair<std::string, at::Tensor>> parameters() const
    {
        std::vector<std::pair<std::string, at::Tensor>> list { { "V", layer->down },
                                                               { "U", layer->up },
                                                               { "W1", layer->router1 } };
        if (!layer->directRouter()) {
            list.emplace_back("W2", layer->router2);
        }
        return list;
    }
};

void clearGradients(const std::vector<std::pair<std::string, at::Tensor>>& leaves)
{
    for (const auto& [name, leaf] : leaves) {
        leaf.mutable_grad() = at::Tensor();
    }
}

const std::vector<std::pair<std::string, std::string>>& lossNames()
{
    static const std::vector<std::pair<std::string, std::string>> names { { "spec", "spectral" },
                                                                          { "balance", "balance" },
                                                                          { "z", "z" } };
    return names;
}

/// One forward pass with every loss and every gradient. `label` says which of our paths ran.
void judgeForward(Case& c, bool reference, bool fused, bool unionSlicing, const std::string& label)
{
    const Json& config = c.json.at("config");
    LoraSpOptions options = optionsOf(c, reference, config);
    options.fused = fused;
    options.unionSlicing = unionSlicing;
    Bench bench(c, options, "param.");
    const double tolerance = c.json.at("rtol").get<double>();
    const bool ties = config.value("ties", false);
    const bool coarse = typeOf(config.at("dtype").get<std::string>()) == at::kBFloat16;

    at::Tensor x = c.tensor("x").clone().set_requires_grad(true);
    bench.layer->record = !fused;
    const at::Tensor y = bench.layer->forward(bench.base, x);
    LoraSpLayer* layers[] = { bench.layer.get() };
    const auto losses = loraSpLosses(layers, options);
    const at::Tensor task = (y * c.tensor("dy")).sum();

    const Json& expected = c.json.at("losses");
    for (const auto& [theirs, ours] : lossNames()) {
        // Which of tied vectors survive is arbitrary in the reference, and its balance loss depends on it.
        const bool vague = ties && reference && theirs == "balance";
        c.compareNumber(label + "loss." + theirs, losses.at(ours).to(at::kDouble).item<double>(),
                        numberOf(expected.at(theirs)), vague ? 2e-2 : tolerance, tolerance * 0.1);
    }
    if (!fused) {
        const LoraSpLayer::Record& seen = bench.layer->lastRecord();
        const at::Tensor k = c.tensor("active_k").reshape({ -1 });
        c.compare(label + "active_k", seen.k.reshape({ -1 }), k, 0, coarse ? 1 : 0);
        c.compare(label + "scores", seen.scores.reshape(c.tensor("scores").sizes()), c.tensor("scores"), tolerance);
        if (!ties || !reference) {
            c.compare(label + "mask", seen.keep.reshape(c.tensor("mask").sizes()), c.tensor("mask"), 0);
        }
        if (c.has("gates") && !reference) {
            c.compare(label + "gates", seen.gates.reshape(c.tensor("gates").sizes()), c.tensor("gates"), tolerance);
            c.compare(label + "energy", seen.energy.reshape(c.tensor("energy").sizes()), c.tensor("energy"), tolerance);
        }
    } else {
        const LoraSpStatistics& s = bench.layer->digest;
        double sum = 0;
        for (std::int64_t k = 0; k < s.ranks.numel(); ++k) {
            sum += static_cast<double>(k * s.ranks.const_data_ptr<std::int64_t>()[k]);
        }
        c.compareNumber(label + "mean_k", sum / static_cast<double>(s.tokens), c.json.at("mean_k").get<double>(),
                        1e-12);
    }
    if (ties && reference) {
        return; // which of tied vectors survive is arbitrary there
    }
    c.compare(label + "y", y, c.tensor("y"), tolerance);
    c.compareNumber(label + "loss.task", task.to(at::kDouble).item<double>(), numberOf(expected.at("task")), tolerance,
                    tolerance * c.tensor("y").abs().max().to(at::kDouble).item<double>());
    const at::Tensor total = task + losses.at("total").to(task.scalar_type());
    c.compareNumber(label + "loss.total", total.to(at::kDouble).item<double>(), numberOf(expected.at("total")),
                    tolerance, tolerance * c.tensor("y").abs().max().to(at::kDouble).item<double>());

    auto leaves = bench.parameters();
    leaves.emplace_back("x", x);
    std::vector<std::pair<std::string, at::Tensor>> terms { { "task", task } };
    for (const auto& [theirs, ours] : lossNames()) {
        terms.emplace_back(theirs, losses.at(ours));
    }
    for (const auto& [term, value] : terms) {
        clearGradients(leaves);
        value.backward({}, true);
        for (const auto& [name, leaf] : leaves) {
            const std::string key = "grad." + term + "." + name;
            const at::Tensor ours = leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf);
            // A gradient that is not recorded is zero, up to the rounding of sums that cancel.
            const at::Tensor theirs = c.has(key) ? c.tensor(key) : at::zeros_like(leaf);
            c.compare(label + key, ours, theirs, tolerance, tolerance * 0.01);
        }
    }
}

Result<void> judgeForwardCase(Case& c)
{
    const bool reference = c.json.at("mode") == "reference";
    judgeForward(c, reference, false, false, "");
    if (!reference) {
        judgeForward(c, false, true, false, "fused.");
        judgeForward(c, false, true, true, "fused.union.");
        judgeForward(c, false, false, true, "union.");
    }
    return {};
}

/// Cut of each row by the CPU kernel, as a mask.
at::Tensor kernelMask(const at::Tensor& scores, double eta, at::Tensor& k)
{
    const std::int64_t rows = scores.size(0);
    const std::int64_t bank = scores.size(1);
    const at::Tensor wide = scores.to(at::kDouble).contiguous();
    const at::Tensor narrow = scores.contiguous();
    at::Tensor mask = at::zeros({ rows, bank }, at::TensorOptions().dtype(at::kBool));
    k = at::zeros({ rows }, at::TensorOptions().dtype(at::kLong));
    const double* values = wide.const_data_ptr<double>();
    for (std::int64_t t = 0; t < rows; ++t) {
        double level = 0;
        std::int64_t last = -1;
        if (scores.scalar_type() == at::kDouble) {
            const Cut<double> cut = selectScores(narrow.const_data_ptr<double>() + t * bank, bank, eta);
            level = cut.level;
            last = cut.last;
            k.data_ptr<std::int64_t>()[t] = cut.count;
        } else {
            const Cut<float> cut = selectScores(narrow.const_data_ptr<float>() + t * bank, bank, eta);
            level = static_cast<double>(cut.level);
            last = cut.last;
            k.data_ptr<std::int64_t>()[t] = cut.count;
        }
        for (std::int64_t i = 0; i < bank; ++i) {
            const double size = std::abs(values[t * bank + i]);
            mask.data_ptr<bool>()[t * bank + i] = size > level || (size == level && i <= last);
        }
    }
    return mask;
}

Result<void> judgeSweep(Case& c)
{
    const at::Tensor scores = c.tensor("scores");
    const double least = scores.scalar_type() == at::kDouble ? 1e-6 : 1e-4;
    const Json& etas = c.json.at("config").at("etas");
    for (std::size_t i = 0; i < etas.size(); ++i) {
        const double eta = etas[i].get<double>();
        const auto at = static_cast<std::int64_t>(i);
        const auto judge = [&](const std::string& label, const std::string& theirs, const at::Tensor& keep,
                               const at::Tensor& k) {
            // A row counts where the cumulative energy comes near eta nowhere.
            at::Tensor sure = c.tensor(theirs + ".margin").select(0, at) > least;
            if (eta >= 1 && theirs == "paper") {
                sure.fill_(true);
            }
            const std::string name = fmt::format("{}eta={}", label, eta);
            if (!sure.any().item<bool>()) {
                return;
            }
            const at::Tensor rows = sure.nonzero().flatten();
            c.compare(name + ".k", k.index_select(0, rows), c.tensor(theirs + ".k").select(0, at).index_select(0, rows),
                      0);
            c.compare(name + ".mask", keep.index_select(0, rows),
                      c.tensor(theirs + ".mask").select(0, at).index_select(0, rows), 0);
        };
        RW_TRY(const ScoreSelection paper, selectByEnergy(scores, eta, false, LoraSpOptions::SortKey::Square));
        judge("paper.", "paper", paper.keep, paper.k);
        c.compare(fmt::format("paper.eta={}.energy", eta), paper.energy, c.tensor("paper.energy").select(0, at), 1e-6);
        at::Tensor k;
        const at::Tensor mask = kernelMask(scores, eta, k);
        judge("kernel.", "paper", mask, k);
        if (eta < 1) {
            RW_TRY(const ScoreSelection reference, selectByEnergy(scores, eta, true, LoraSpOptions::SortKey::Signed));
            judge("reference.", "ref", reference.keep, reference.k);
        }
    }
    return {};
}

/// Spectral loss of one token of given scores, and its gradient.
std::pair<at::Tensor, at::Tensor> spectralOf(const at::Tensor& s, const at::Tensor& keep, bool reference)
{
    at::Tensor leaf = s.detach().clone().set_requires_grad(true);
    const at::Tensor squares = leaf * leaf;
    const at::Tensor kept = (squares * keep).sum();
    const at::Tensor total = squares.sum();
    at::Tensor loss = reference     ? 1 - (kept / (total + 1e-9)).clamp(0, 1)
        : total.item<double>() == 0 ? (leaf * 0).sum()
                                    : 1 - kept / total;
    loss.backward();
    return { loss.detach(), leaf.grad() };
}

void judgeKept(Case& c, const std::string& name, const ScoreSelection& chosen, const Json& expected)
{
    c.compareNumber(name + ".k", static_cast<double>(chosen.k.sum().item<std::int64_t>()),
                    expected.at("k").get<double>(), 0);
    c.require(name + ".kept", indicesOf(chosen.keep) == expected.at("kept").get<std::vector<std::int64_t>>(),
              "other vectors are kept");
}

Result<void> judgeHandCases(Case& c)
{
    for (const Json& row : c.json.at("cases")) {
        const std::string id = row.at("id").get<std::string>();
        const double eta = row.at("eta").get<double>();
        const at::Tensor s = tensorOf(row.at("s"), at::kDouble);
        const auto paper = selectByEnergy(s, eta, false, LoraSpOptions::SortKey::Square);
        if (row.at("paper").contains("error")) {
            c.require(id + ".paper.error", !paper && paper.error().code == Errc::NotFinite, "must be refused");
        } else if (paper) {
            judgeKept(c, id + ".paper", *paper, row.at("paper"));
            const auto [loss, gradient] = spectralOf(s, paper->keep, false);
            c.compareNumber(id + ".paper.spec", loss.item<double>(), numberOf(row.at("paper").at("spec")), 1e-9, 1e-12);
            c.compare(id + ".paper.dspec_ds", gradient, tensorOf(row.at("paper").at("dspec_ds"), at::kDouble), 1e-9,
                      1e-12);
        } else {
            c.require(id + ".paper", false, paper.error().message);
        }
        if (!row.at("reference").contains("error")) {
            RW_TRY(const ScoreSelection reference, selectByEnergy(s, eta, true, LoraSpOptions::SortKey::Signed));
            // Which of tied vectors survive is arbitrary in the reference; the number is not.
            const at::Tensor sorted = std::get<0>(s.sort(-1, true));
            const std::int64_t k = reference.k.item<std::int64_t>();
            const bool tied =
                k < s.numel() && k > 0 && sorted.select(0, k - 1).item<double>() == sorted.select(0, k).item<double>();
            if (tied) {
                c.compareNumber(id + ".reference.k", static_cast<double>(k), row.at("reference").at("k").get<double>(),
                                0);
            } else {
                judgeKept(c, id + ".reference", reference, row.at("reference"));
                const auto [loss, gradient] = spectralOf(s, reference.keep, true);
                c.compareNumber(id + ".reference.spec", loss.item<double>(), numberOf(row.at("reference").at("spec")),
                                1e-9, 1e-12);
                c.compare(id + ".reference.dspec_ds", gradient,
                          tensorOf(row.at("reference").at("dspec_ds"), at::kDouble), 1e-9, 1e-12);
            }
        }
    }
    return {};
}

Result<void> judgeEdgeCases(Case& c)
{
    for (const Json& row : c.json.at("cases")) {
        const at::ScalarType type = typeOf(row.at("dtype").get<std::string>());
        const std::string id = row.at("id").get<std::string>() + "." + row.at("dtype").get<std::string>();
        const double eta = row.at("eta").get<double>();
        const at::Tensor s = tensorOf(row.at("s"), type);
        const auto paper = selectByEnergy(s, eta, false, LoraSpOptions::SortKey::Square);
        if (row.at("paper").contains("error")) {
            c.require(id + ".paper.error", !paper && paper.error().code == Errc::NotFinite, "must be refused");
        } else if (paper) {
            judgeKept(c, id + ".paper", *paper, row.at("paper"));
            c.compareNumber(id + ".paper.energy", paper->energy.item<double>(), numberOf(row.at("paper").at("energy")),
                            1e-9);
        } else {
            c.require(id + ".paper", false, paper.error().message);
        }
        RW_TRY(const ScoreSelection reference, selectByEnergy(s, eta, true, LoraSpOptions::SortKey::Signed));
        c.compareNumber(id + ".reference.k", static_cast<double>(reference.k.item<std::int64_t>()),
                        row.at("reference").at("k").get<double>(), 0);
    }
    return {};
}

/// LoRA-MoE "weighted" in the stacked form: gates repeated over each block's vectors.
at::Tensor weightedMoe(const Bench& bench, const at::Tensor& x)
{
    const LoraSpLayer& layer = *bench.layer;
    const at::Tensor rows = x.reshape({ -1, x.size(-1) });
    const at::Tensor gates = at::linear(rows, layer.router1).softmax(-1);
    const at::Tensor spread = gates.repeat_interleave(layer.bank() / layer.blocks(), -1);
    const at::Tensor h = at::linear(rows, layer.down) * spread;
    at::Tensor y = at::linear(rows, bench.base.weight, bench.base.bias);
    y.addmm_(h, layer.up.t(), 1, layer.scale);
    std::vector<std::int64_t> sizes = x.sizes().vec();
    sizes.back() = y.size(1);
    return y.view(sizes);
}

Result<void> judgeMoeEquality(Case& c)
{
    const at::NoGradGuard noGrad;
    LoraSpOptions options = optionsOf(c, false, c.json.at("config"));
    options.eta = 1;
    const at::Tensor x = c.tensor("x");
    const double tolerance = x.scalar_type() == at::kDouble ? 1e-12 : 2e-5;
    for (const bool fused : { false, true }) {
        options.fused = fused;
        const std::string label = fused ? "fused." : "";
        Bench bench(c, options, "param.");
        bench.layer->record = !fused;
        const at::Tensor y = bench.layer->forward(bench.base, x);
        c.compare(label + "y.paper_eta1", y, c.tensor("y.paper_eta1"), tolerance);
        c.compare(label + "y.moe_weighted", y, c.tensor("y.moe_weighted"), tolerance);
        if (!fused) {
            c.require("bit for bit", at::equal(y, weightedMoe(bench, x)), "differs from the mixture in some bit");
            c.compare("paper.k", bench.layer->lastRecord().k.reshape({ -1 }), c.tensor("paper.k").reshape({ -1 }), 0);
        }
    }
    return {};
}

Result<void> judgeSingleBlock(Case& c)
{
    const at::NoGradGuard noGrad;
    LoraSpOptions options = optionsOf(c, false, c.json.at("config"));
    Bench bench(c, options, "param.");
    bench.layer->record = true;
    const at::Tensor y = bench.layer->forward(bench.base, c.tensor("x"));
    const LoraSpLayer::Record& seen = bench.layer->lastRecord();
    c.compare("y", y, c.tensor("y"), 1e-9);
    c.compare("scores", seen.scores.reshape(c.tensor("scores").sizes()), c.tensor("scores"), 1e-9);
    c.compare("k", seen.k.reshape({ -1 }), c.tensor("k").reshape({ -1 }), 0);
    c.require("scores do not depend on the input",
              at::equal(seen.scores, seen.scores.select(0, 0).expand_as(seen.scores)));
    return {};
}

/// SGD or AdamW, as the reference run's.
class Updater {
public:
    explicit Updater(const Json& config)
        : m_name(config.at("name").get<std::string>()), m_rate(config.at("lr").get<double>()),
          m_momentum(config.value("momentum", 0.0))
    {
        if (m_name == "adamw") {
            m_beta1 = config.at("betas")[0].get<double>();
            m_beta2 = config.at("betas")[1].get<double>();
            m_epsilon = config.at("eps").get<double>();
            m_decay = config.at("weight_decay").get<double>();
        }
    }

    void step(const std::vector<std::pair<std::string, at::Tensor>>& parameters)
    {
        const at::NoGradGuard noGrad;
        ++m_step;
        for (const auto& [name, parameter] : parameters) {
            const at::Tensor gradient = parameter.grad();
            auto& [first, second] = m_moments[name];
            if (!first.defined()) {
                first = at::zeros_like(parameter);
                second = at::zeros_like(parameter);
            }
            if (m_name == "sgd") {
                first = m_step == 1 ? gradient.clone() : m_momentum * first + gradient;
                parameter.sub_((m_momentum > 0 ? first : gradient) * m_rate);
                continue;
            }
            parameter.mul_(1 - m_rate * m_decay);
            first = m_beta1 * first + (1 - m_beta1) * gradient;
            second = m_beta2 * second + (1 - m_beta2) * gradient * gradient;
            const double bias1 = 1 - std::pow(m_beta1, m_step);
            const double bias2 = 1 - std::pow(m_beta2, m_step);
            parameter.sub_(m_rate / bias1 * first / ((second / bias2).sqrt() + m_epsilon));
        }
    }

private:
    std::string m_name;
    double m_rate, m_momentum, m_beta1 = 0, m_beta2 = 0, m_epsilon = 0, m_decay = 0;
    int m_step = 0;
    std::map<std::string, std::pair<at::Tensor, at::Tensor>> m_moments;
};

void judgeTraining(Case& c, bool fused, const std::string& label)
{
    const Json& config = c.json.at("config");
    LoraSpOptions options = optionsOf(c, c.json.at("mode") == "reference", config);
    options.fused = fused;
    Bench bench(c, options, "param0.");
    const auto parameters = bench.parameters();
    const bool wide = config.at("dtype") == "float64";
    const double tolerance = wide ? 1e-7 : 1e-3; // grows along the run from rounding alone
    Updater updater(config.at("optim"));
    LoraSpLayer* layers[] = { bench.layer.get() };
    const auto steps = config.at("steps").get<std::int64_t>();
    std::map<std::string, std::vector<double>> log;
    std::vector<at::Tensor> ks;
    bench.layer->record = !fused;
    for (std::int64_t step = 1; step <= steps; ++step) {
        bench.layer->beginStep();
        bench.layer->digest.reset(bench.layer->bank(), bench.layer->blocks());
        const at::Tensor task = at::mse_loss(bench.layer->forward(bench.base, c.tensor("x")), c.tensor("target"));
        const auto losses = loraSpLosses(layers, options);
        const at::Tensor total = task + losses.at("total");
        clearGradients(parameters);
        total.backward();
        double norm = 0;
        for (const auto& [name, parameter] : parameters) {
            norm += parameter.grad().to(at::kDouble).pow(2).sum().item<double>();
        }
        log["total"].push_back(total.item<double>());
        log["task"].push_back(task.item<double>());
        for (const auto& [theirs, ours] : lossNames()) {
            log[theirs].push_back(losses.at(ours).item<double>());
        }
        log["grad_norm"].push_back(std::sqrt(norm));
        const LoraSpStatistics& s = bench.layer->digest;
        double sum = 0;
        for (std::int64_t k = 0; k < s.ranks.numel(); ++k) {
            sum += static_cast<double>(k * s.ranks.const_data_ptr<std::int64_t>()[k]);
        }
        log["mean_k"].push_back(sum / static_cast<double>(s.tokens));
        if (!fused) {
            ks.push_back(bench.layer->lastRecord().k.reshape({ -1 }));
        }
        updater.step(parameters);
        for (const auto& [name, parameter] : parameters) {
            const std::string key = fmt::format("param{}.{}", step, name);
            if (c.has(key)) {
                c.compare(label + key, parameter, c.tensor(key), tolerance);
            }
        }
    }
    for (const auto& [name, values] : log) {
        const at::Tensor ours = tensorOf(Json(values), at::kDouble);
        c.compare(label + "log." + name, ours, tensorOf(c.json.at("log").at(name), at::kDouble), tolerance);
    }
    if (!fused) {
        c.compare(label + "k", at::stack(ks), c.tensor("k"), 0);
    }
}

Result<void> judgeTrainingCase(Case& c)
{
    judgeTraining(c, false, "");
    if (c.json.at("mode") == "paper") {
        judgeTraining(c, true, "fused.");
    }
    return {};
}

Result<void> judgeLoraSp(Case& c)
{
    const std::string name = c.file.stem().string();
    if (name.starts_with("paper_") || name.starts_with("ref_")) {
        return judgeForwardCase(c);
    }
    if (name.starts_with("sweep_")) {
        return judgeSweep(c);
    }
    if (name.starts_with("train_")) {
        return judgeTrainingCase(c);
    }
    if (name.starts_with("moe_equality")) {
        return judgeMoeEquality(c);
    }
    if (name.starts_with("single_block")) {
        return judgeSingleBlock(c);
    }
    if (name == "hand_cases") {
        return judgeHandCases(c);
    }
    if (name == "edge_cases") {
        return judgeEdgeCases(c);
    }
    return fail(Errc::Unsupported, fmt::format("no judge for LoRA-SP cases named \"{}\"", name), c.file.string());
}

// ------------------------------------------------------------------------------------------------ PEFT

/// Base weights that a folder's case stands on.
Result<TensorMap> baseWeights(const std::filesystem::path& folder)
{
    return tensor::loadTensors(folder.parent_path() / "tiny_base.safetensors");
}

Result<void> judgeModules(Case& c, const PeftFolder& folder, const TensorMap& base)
{
    const Json& expected = c.json.at("modules");
    c.compareNumber("modules", static_cast<double>(folder.modules.size()), static_cast<double>(expected.size()), 0);
    for (const PeftModule& module : folder.modules) {
        const auto row = expected.find(module.path);
        if (row == expected.end()) {
            c.require(module.path, false, "is not adapted in the reference");
            continue;
        }
        c.compareNumber(module.path + ".r", static_cast<double>(module.rank()), row->at("r").get<double>(), 0);
        c.compareNumber(module.path + ".scaling", module.scale, row->at("scaling").get<double>(), 1e-12);
        const std::string key = "mod." + module.path;
        if (c.has(key + ".delta")) {
            c.compare(module.path + ".delta", peftDelta(module, at::kFloat), c.tensor(key + ".delta"), 2e-5);
        }
        const auto weight = base.find(module.path + ".weight");
        if (weight == base.end()) {
            c.require(module.path, false, "the base has no such weight");
            continue;
        }
        if (c.has(key + ".merged_weight")) {
            RW_TRY(const at::Tensor merged, peftMergedWeight(module, weight->second));
            c.compare(module.path + ".merged_weight", merged, c.tensor(key + ".merged_weight"), 2e-5);
        }
        if (c.has(key + ".x") && module.kind == PeftModule::Kind::Linear) {
            const auto bias = base.find(module.path + ".bias");
            RW_TRY(const at::Tensor y,
                   peftForward(module, weight->second, bias == base.end() ? at::Tensor() : bias->second,
                               c.tensor(key + ".x")));
            c.compare(module.path + ".y", y, c.tensor(key + ".y"), 2e-5);
        }
    }
    return {};
}

/// Factors of PiSSA and its kin: the stored ones are those of the run, and the converted folder is the true update.
Result<void> judgeInit(Case& c)
{
    const std::filesystem::path folder = c.file.parent_path();
    const std::string kind =
        c.json.at("init_lora_weights").is_string() ? c.json.at("init_lora_weights").get<std::string>() : "default";
    if (std::filesystem::exists(folder / "trained")) {
        RW_TRY(const PeftFolder trained, readPeftFolder(folder / "trained"));
        for (const PeftModule& module : trained.modules) {
            c.compare(module.path + ".A_trained", module.a, c.tensor(module.path + ".A_trained"), 0);
            c.compare(module.path + ".B_trained", module.b, c.tensor(module.path + ".B_trained"), 0);
        }
        const bool changes = kind == "olora" || kind.starts_with("pissa");
        c.require("changed the base", changes == !trained.baseChanging.empty(), "must be told apart");
    }
    if (std::filesystem::exists(folder / "converted")) {
        RW_TRY(const PeftFolder converted, readPeftFolder(folder / "converted"));
        c.require("converted is plain", converted.baseChanging.empty());
        for (const PeftModule& module : converted.modules) {
            c.compare(module.path + ".true_update", peftDelta(module, at::kFloat),
                      c.tensor(module.path + ".true_update"), 2e-5, 1e-5);
        }
    }
    std::vector<PeftModule> initial;
    if (std::filesystem::exists(folder / "initial")) { // A0 and B0 of the case are those after training
        RW_TRY(PeftFolder stored, readPeftFolder(folder / "initial"));
        initial = std::move(stored.modules);
    }
    for (const auto& [name, tensor] : c.tensors) {
        if (!name.ends_with(".A0") || !c.has(name.substr(0, name.size() - 3) + ".W_after_init")) {
            continue;
        }
        const std::string path = name.substr(0, name.size() - 3);
        const Json& report = c.json.at("report").at(path);
        PeftModule module;
        module.path = path;
        module.a = tensor;
        module.b = c.tensor(path + ".B0");
        if (const auto stored = std::ranges::find(initial, path, &PeftModule::path); stored != initial.end()) {
            module = *stored;
        }
        module.scale = report.at("scaling").get<double>();
        const double allowed = report.value("init_error", 0.0) * 1.5 + 1e-5;
        c.compare(path + ".W", c.tensor(path + ".W_after_init") + peftDelta(module, at::kFloat), c.tensor(path + ".W"),
                  0, allowed);
    }
    if (c.report.rows.empty()) {
        return fail(Errc::Unsupported, "nothing to compare", c.file.string());
    }
    return {};
}

/// Sum of two adapters: concatenation is exact.
Result<void> judgeWeighted(Case& c)
{
    const Json& config = c.json.at("config");
    for (const auto& [name, tensor] : c.tensors) {
        if (!name.ends_with(".a.A")) {
            continue;
        }
        const std::string path = name.substr(0, name.size() - 4);
        at::Tensor sum;
        for (std::size_t i = 0; i < 2; ++i) {
            const std::string which = i == 0 ? ".a" : ".b";
            PeftModule module;
            module.path = path;
            module.a = c.tensor(path + which + ".A");
            module.b = c.tensor(path + which + ".B");
            const double alpha = config.at("alpha")[i].get<double>();
            const auto r = static_cast<double>(module.rank());
            const bool stabilized = i == 1 && config.value("rslora_b", false);
            module.scale = alpha / (stabilized ? std::sqrt(r) : r);
            const at::Tensor delta = peftDelta(module, at::kFloat) * config.at("weights")[i].get<double>();
            sum = sum.defined() ? sum + delta : delta;
        }
        c.compare(path + ".cat", sum, c.tensor(path + ".cat.delta"), 2e-5);
    }
    return {};
}

/// Low-rank factors that PEFT derived from given updates: their energy is what the rule asked for.
Result<void> judgeConversion(Case& c)
{
    for (const auto& [rank, report] : c.json.at("report").items()) {
        for (const auto& [name, tensor] : c.tensors) {
            const std::string prefix = "rank_" + rank + ".";
            const std::string ending = ".lora_A.weight";
            if (!name.starts_with(prefix) || !name.ends_with(ending)) {
                continue;
            }
            std::string path = name.substr(prefix.size(), name.size() - prefix.size() - ending.size());
            const std::string wrapped = "base_model.model.";
            path = path.starts_with(wrapped) ? path.substr(wrapped.size()) : path;
            PeftModule module;
            module.path = path;
            module.a = tensor;
            module.b = c.tensor(name.substr(0, name.size() - ending.size()) + ".lora_B.weight");
            std::vector<std::pair<std::string, double>> alphas;
            for (const auto& [key, value] : report.at("alpha_pattern").items()) {
                alphas.emplace_back(key, value.get<double>());
            }
            RW_TRY(const PatternTable table, PatternTable::make(alphas, "alpha_pattern"));
            RW_TRY(const std::optional<double> alpha, table.find(path));
            module.scale = alpha.value_or(report.at("lora_alpha").get<double>()) / static_cast<double>(module.rank());
            const at::Tensor delta = c.tensor("delta." + path).to(at::kDouble);
            const at::Tensor rest = delta - peftDelta(module, at::kDouble);
            const double kept = 1 - rest.pow(2).sum().item<double>() / delta.pow(2).sum().item<double>();
            const double wanted = std::stod(rank);
            if (wanted < 1) {
                c.require(path + ".energy " + rank, kept >= wanted - 1e-4, fmt::format("keeps only {}", kept));
            } else {
                c.compareNumber(path + ".rank " + rank, static_cast<double>(module.rank()), wanted, 0);
            }
        }
    }
    return {};
}

Result<void> judgePatternRules(Case& c)
{
    for (const Json& row : c.json.at("patterns")) {
        std::vector<std::pair<std::string, double>> entries;
        for (const Json& key : row.at("keys")) {
            entries.emplace_back(key.get<std::string>(), 1.0);
        }
        const std::string path = row.at("path").get<std::string>();
        const std::string name = row.at("keys").dump() + " " + path;
        const auto table = PatternTable::make(entries, "pattern");
        if (row.contains("error")) {
            c.require(name, !table, "must be refused");
            continue;
        }
        if (!table) {
            c.require(name, false, table.error().message);
            continue;
        }
        RW_TRY(const std::optional<std::string> key, table->findKey(path));
        const Json& resolved = row.at("resolved");
        c.require(name, resolved.is_null() ? !key : key && *key == resolved.get<std::string>(),
                  "resolves to another key");
    }
    for (const Json& row : c.json.at("targets")) {
        const std::string path = row.at("path").get<std::string>();
        const std::string name = row.at("config").dump() + " " + path;
        FieldReader reader(row.at("config"), c.file.string());
        TargetOptions options;
        readTargetOptions(reader, options);
        const auto matcher = TargetMatcher::make(options);
        if (row.contains("error")) {
            c.require(name, !reader.ok() || !matcher, "must be refused");
            continue;
        }
        RW_TRY_VOID(reader.result());
        if (!matcher) {
            c.require(name, false, matcher.error().message);
            continue;
        }
        RW_TRY(const bool hit, matcher->matches(path));
        c.require(name, hit == row.at("targeted").get<bool>(), "chosen otherwise");
    }
    return {};
}

/// Broken folders: what PEFT refuses or gets silently wrong must not open; what opens has the intact one's factors.
Result<void> judgeMalformed(Case& c)
{
    const std::filesystem::path root = c.file.parent_path();
    RW_TRY(const PeftFolder intact, readPeftFolder(root / "_ok"));
    RW_TRY(const TensorMap base, baseWeights(root));
    const std::set<std::string> harmless { "float16", "bfloat16", "mixed_dtypes" }; // rounded factors
    const std::set<std::string> configured { "alpha_zero", "alpha_float" };         // another scale, as asked for
    for (const Json& row : c.json.at("cases")) {
        const std::string folder = row.at("folder").get<std::string>();
        auto opened = readPeftFolder(root / folder);
        for (std::size_t i = 0; opened && i < opened->modules.size(); ++i) {
            const auto weight = base.find(opened->modules[i].path + ".weight");
            if (weight == base.end()) {
                opened = fail(Errc::TensorNotFound, "the base has no such module", opened->modules[i].path);
            } else if (auto merged = peftMergedWeight(opened->modules[i], weight->second); !merged) {
                opened = tl::unexpected(std::move(merged).error());
            }
        }
        if (row.at("peft") == "raises") {
            c.require(folder, !opened, "PEFT refuses it, we open it");
            continue;
        }
        const bool same = row.at("same_as_intact").get<bool>();
        if (!same && !harmless.contains(folder) && !configured.contains(folder)) {
            const bool reported = !opened || !opened->warnings.empty();
            c.require(folder, reported, "loads as another function, and nothing is said");
            continue;
        }
        if (!opened) {
            c.require(folder, folder == "unknown_suffix", opened.error().describe());
            continue;
        }
        for (std::size_t i = 0; i < intact.modules.size() && i < opened->modules.size(); ++i) {
            const double tolerance = harmless.contains(folder) ? 1e-2 : 1e-6;
            at::Tensor ours = peftDelta(opened->modules[i], at::kFloat);
            at::Tensor theirs = peftDelta(intact.modules[i], at::kFloat);
            if (configured.contains(folder)) {
                const double alpha = opened->config.at("lora_alpha").get<double>();
                theirs = theirs * (alpha / intact.alpha);
            }
            c.compare(folder + "." + intact.modules[i].path, ours, theirs, tolerance);
        }
    }
    return {};
}

Result<void> judgeRefusal(Case& c)
{
    const auto opened = readPeftFolder(c.file.parent_path());
    c.require("refused", !opened && opened.error().code == Errc::Unsupported, "must be refused as unsupported");
    return {};
}

Result<void> judgePeft(Case& c)
{
    const std::filesystem::path folder = c.file.parent_path();
    const std::string name = folder.filename().string();
    if (c.file.filename() == "pattern_rules.json") {
        return judgePatternRules(c);
    }
    if (c.file.filename() == "outcomes.json") {
        return judgeMalformed(c);
    }
    if (name.starts_with("refuse_")) {
        return judgeRefusal(c);
    }
    if (name == "weighted_adapters") {
        return judgeWeighted(c);
    }
    if (name == "convert_to_lora") {
        return judgeConversion(c);
    }
    if (name.starts_with("init_") && c.json.contains("init_lora_weights")) {
        return judgeInit(c);
    }
    if (name.starts_with("init_")) {
        // EVA, CorDA and LoRA-GA: the fresh adapter as it was saved.
        RW_TRY(const PeftFolder opened, readPeftFolder(folder));
        for (const PeftModule& module : opened.modules) {
            c.compare(module.path + ".A0", module.a, c.tensor(module.path + ".A0"), 0);
            c.compareNumber(module.path + ".scaling", module.scale,
                            c.json.at("report").at(module.path).at("scaling").get<double>(), 1e-12);
        }
        return {};
    }
    if (c.json.contains("reload_error")) {
        c.require("refused", !readPeftFolder(folder), "PEFT cannot load what it saved here, and neither should we");
        RW_TRY(const PeftFolder ordered, readPeftFolder(folder.string() + "_ordered"));
        RW_TRY(const TensorMap base, baseWeights(folder));
        return judgeModules(c, ordered, base);
    }
    RW_TRY(const PeftFolder opened, readPeftFolder(folder));
    RW_TRY(const TensorMap base, baseWeights(folder));
    return judgeModules(c, opened, base);
}

// ------------------------------------------------------------------------------------------------ baselines

Result<void> judgeAdaLoraFolder(Case& c)
{
    RW_TRY(const PeftFolder folder, readPeftFolder(c.file.parent_path()));
    for (const PeftModule& module : folder.modules) {
        const at::Tensor& expected = c.tensor("delta." + module.path);
        c.compare("delta." + module.path, peftDelta(module, at::kDouble), expected,
                  expected.scalar_type() == at::kDouble ? 1e-9 : 2e-5, 1e-9);
    }
    at::Tensor h = c.tensor("x");
    for (const char* layer : { "l0", "l1", "l2" }) {
        const auto module = std::ranges::find(folder.modules, std::string(layer), &PeftModule::path);
        const at::Tensor& weight = c.tensor(std::string("base.") + layer + ".weight");
        const at::Tensor& bias = c.tensor(std::string("base.") + layer + ".bias");
        if (module == folder.modules.end()) {
            h = at::linear(h, weight, bias);
        } else {
            RW_TRY(h, peftForward(*module, weight, bias, h));
        }
        h = std::string_view(layer) == "l2" ? h : h.tanh();
    }
    c.compare("out_final", h, c.tensor("out_final"), h.scalar_type() == at::kDouble ? 1e-9 : 2e-5);
    return {};
}

/// LoRA-SP at eta = 1 with the block indicator is the weighted mixture.
Result<void> judgeMixture(Case& c)
{
    const Json& config = c.json.at("config");
    const auto experts = config.at("experts").get<std::int64_t>();
    const auto rank = config.at("r").get<std::int64_t>();
    const at::ScalarType type = typeOf(config.at("dtype").get<std::string>());
    const double tolerance = type == at::kDouble ? 1e-9 : 2e-5;
    models::Linear base;
    base.weight = c.tensor("param.W0").clone();
    base.bias = c.tensor("param.b0").clone();
    LoraSpOptions options = optionsOf(c, false, config);
    options.eta = 1;
    options.paramType = type;
    for (const bool fused : { false, true }) {
        options.fused = fused;
        const std::string label = fused ? "fused." : "";
        LoraSpLayer layer(base, options, std::make_shared<AdapterRandom>(0));
        layer.down = c.tensor("param.A").reshape({ experts * rank, -1 }).clone().set_requires_grad(true);
        layer.up =
            c.tensor("param.B").permute({ 1, 0, 2 }).reshape({ -1, experts * rank }).clone().set_requires_grad(true);
        layer.router1 = c.tensor("param.Wr").clone().set_requires_grad(true);
        layer.router2.set_requires_grad(false);
        at::Tensor x = c.tensor("x").clone().set_requires_grad(true);
        const at::Tensor y = layer.forward(base, x);
        c.compare(label + "weighted.y", y, c.tensor("weighted.y"), tolerance);
        LoraSpLayer* layers[] = { &layer };
        const auto losses = loraSpLosses(layers, options);
        const Json& report = c.json.at("report").at("weighted");
        // The released code rounds the fractions f_e to single precision.
        c.compareNumber(label + "balance", losses.at("balance").item<double>(), report.at("balance").get<double>(),
                        std::max(tolerance, 1e-7));
        c.compareNumber(label + "z", losses.at("z").item<double>(), report.at("z").get<double>(), tolerance);
        const at::Tensor total = (y * c.tensor("dy")).sum() + 1e-2 * losses.at("balance") + 1e-3 * losses.at("z");
        total.backward();
        c.compare(label + "weighted.grad.x", x.grad(), c.tensor("weighted.grad.x"), tolerance);
        c.compare(label + "weighted.grad.A", layer.down.grad().reshape(c.tensor("param.A").sizes()),
                  c.tensor("weighted.grad.A"), tolerance);
        c.compare(label + "weighted.grad.B", layer.up.grad().reshape({ -1, experts, rank }).permute({ 1, 0, 2 }),
                  c.tensor("weighted.grad.B"), tolerance);
        c.compare(label + "weighted.grad.Wr", layer.router1.grad(), c.tensor("weighted.grad.Wr"), tolerance);
    }
    return {};
}

Result<void> judgeBaseline(Case& c)
{
    const std::string name = c.file.stem().string();
    if (name == "golden") {
        return judgeAdaLoraFolder(c);
    }
    if (name.starts_with("lora_moe_")) {
        return judgeMixture(c);
    }
    return fail(Errc::Unsupported, fmt::format("no method here runs \"{}\"", name), c.file.string());
}

/// Name of the folder below the root that `file` is in: "lora_sp", "peft" or "baselines".
std::string familyOf(const std::filesystem::path& file)
{
    for (std::filesystem::path folder = file.parent_path(); folder.has_filename(); folder = folder.parent_path()) {
        const std::string name = folder.filename().string();
        if (name == "lora_sp" || name == "peft" || name == "baselines") {
            return name;
        }
    }
    return {};
}

bool isCase(const std::filesystem::path& file)
{
    if (file.extension() != ".json") {
        return false;
    }
    const std::string name = file.filename().string();
    const std::string family = familyOf(file);
    if (name == "adapter_config.json" || family.empty()) {
        return name == "adapter_config.json" && file.parent_path().filename().string().starts_with("refuse_");
    }
    if (name == "data_inits.json" || (family == "peft" && name == "tiny_base.json")) {
        return false;
    }
    // Runs of a method that the registry does not have.
    return !name.starts_with("adalora_authors_");
}

} // namespace

Result<models::CertifyReport> certifyAdapterCase(const std::filesystem::path& json,
                                                 const models::CertifyOptions& options)
{
    Case c;
    const std::string family = familyOf(json);
    c.report.family = family;
    c.report.kind = "adapter";
    c.report.name = json.stem() == "golden" || json.filename() == "adapter_config.json"
        ? json.parent_path().filename().string()
        : json.stem().string();
    RW_TRY_VOID(c.load(json, options));
    try {
        if (family == "lora_sp") {
            RW_TRY_VOID(judgeLoraSp(c));
        } else if (family == "peft") {
            RW_TRY_VOID(judgePeft(c));
        } else if (family == "baselines") {
            RW_TRY_VOID(judgeBaseline(c));
        } else {
            return fail(Errc::Unsupported, "is in none of the folders lora_sp, peft, baselines", json.string());
        }
    } catch (const std::exception& error) { // a field or tensor that the case lacks, or a shape that does not fit
        return fail(Errc::DataInvalid, error.what(), json.string());
    }
    return c.report;
}

Result<std::vector<std::filesystem::path>> adapterCases(const std::filesystem::path& root)
{
    std::vector<std::filesystem::path> cases;
    for (const char* family : { "lora_sp", "peft", "baselines" }) {
        std::error_code error;
        for (std::filesystem::recursive_directory_iterator it(root / family, error), end; !error && it != end;
             it.increment(error)) {
            if (it->is_regular_file() && isCase(it->path())) {
                cases.push_back(it->path());
            }
        }
        if (error && error != std::errc::no_such_file_or_directory) {
            return fail(Errc::IoFailed, error.message(), (root / family).string());
        }
    }
    if (cases.empty()) {
        return fail(Errc::FileNotFound, "holds no adapter cases", root.string());
    }
    std::ranges::sort(cases);
    return cases;
}

} // namespace rankwise::adapters
