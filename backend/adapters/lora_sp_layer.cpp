// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora_sp_layer.h"

#include "backend/adapters/lora_sp_function.h"
#include "backend/models/token_context.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/TensorOperators.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

using Options = LoraSpOptions;

/// One of `names`, by position.
template <std::size_t Count>
std::size_t readChoice(FieldReader& reader, std::string_view key, const std::array<const char*, Count>& names,
                       std::size_t standard)
{
    std::string text = names[standard];
    reader.optional(key, text);
    std::string known;
    for (std::size_t i = 0; i < Count; ++i) {
        if (text == names[i]) {
            return i;
        }
        known += (i ? ", " : "") + std::string(names[i]);
    }
    reader.reject(key, fmt::format("is \"{}\"; known: {}", text, known));
    return standard;
}

constexpr std::array kModes { "paper", "reference" };
constexpr std::array kSortKeys { "square", "signed" };
constexpr std::array kScoreMaps { "none", "relu", "softplus", "abs" };
constexpr std::array kRoutings { "weighted", "top1", "top2" };
constexpr std::array kRouters { "two_stage", "direct" };
constexpr std::array kRouterNorms { "none", "rms" };
constexpr std::array kW2Inits { "block", "block+noise" };
constexpr std::array kReductions { "token_mean", "batch_ratio" };
constexpr std::array kAuxCalls { "accumulate", "last" };
constexpr std::array kDtypes { "float32", "float64", "bfloat16" };
constexpr double kW2NoiseDeviation = 0.02;
constexpr std::int64_t kSampleStride = 8;

/// Rows of x [..., in] as [T, in] in the type of the adapter.
at::Tensor rowsOf(const at::Tensor& x, at::ScalarType type)
{
    const at::Tensor rows = x.dim() == 2 ? x : x.reshape({ -1, x.size(-1) });
    return rows.scalar_type() == type ? rows : rows.to(type);
}

/// The current token mask as [T] bool where it describes these rows; undefined: all are real.
at::Tensor validRows(const at::Tensor& x)
{
    const models::TokenContext* tokens = models::currentTokens();
    if (!tokens || !tokens->valid.defined() || x.dim() != tokens->valid.dim() + 1
        || x.sizes().slice(0, static_cast<std::size_t>(x.dim() - 1)) != tokens->valid.sizes()) {
        return {};
    }
    return tokens->valid.reshape({ -1 });
}

at::Tensor mapScores(const at::Tensor& raw, ScoreMap map)
{
    switch (map) {
    case ScoreMap::None:
        return raw;
    case ScoreMap::Relu:
        return at::relu(raw);
    case ScoreMap::Softplus:
        return at::softplus(raw);
    case ScoreMap::Abs:
        return at::abs(raw);
    }
    RW_CHECK(false);
    return raw;
}

/// Gates of the top1 and top2 routings of the released code.
at::Tensor maskGates(const at::Tensor& gates, Options::Routing routing)
{
    if (routing == Options::Routing::Weighted) {
        return gates;
    }
    if (routing == Options::Routing::Top1) {
        const at::Tensor best = gates.argmax(-1, true);
        return at::zeros_like(gates).scatter(-1, best, 1.0);
    }
    const auto [values, indices] = gates.topk(std::min<std::int64_t>(2, gates.size(-1)), -1);
    return at::zeros_like(gates).scatter(-1, indices, values) / (values.sum(-1, true) + 1e-9);
}

} // namespace

LoraSpOptions LoraSpOptions::read(FieldReader& reader)
{
    Options o;
    o.mode = readChoice(reader, "mode", kModes, 0) == 0 ? Mode::Paper : Mode::Reference;
    const bool reference = o.mode == Mode::Reference;
    const std::size_t standard = reference ? 1 : 0;
    reader.optional("bank", o.bank, 1, 65'536);
    reader.optional("blocks", o.blocks, 1, 65'536);
    if (o.blocks > 0 && o.bank % o.blocks != 0) {
        reader.reject("bank", fmt::format("must be a multiple of blocks ({})", o.blocks));
    }
    reader.optional("eta", o.eta, 1e-6, 1.0);
    reader.optional("scale", o.scale, -1e6, 1e6);
    o.referenceSelect = readChoice(reader, "select", kModes, standard) == 1;
    o.sortKey = readChoice(reader, "sort_key", kSortKeys, standard) == 0 ? SortKey::Square : SortKey::Signed;
    o.scoreMap = static_cast<ScoreMap>(readChoice(reader, "score_map", kScoreMaps, 0));
    o.routing = static_cast<Routing>(readChoice(reader, "routing", kRoutings, 0));
    o.directRouter = readChoice(reader, "router", kRouters, 0) == 1;
    o.rmsRouter = readChoice(reader, "router_norm", kRouterNorms, 0) == 1;
    o.w2Noise = readChoice(reader, "w2_init", kW2Inits, 0) == 1 ? kW2NoiseDeviation : 0;
    reader.optional("router_dropout", o.routerDropout, 0.0, 0.99);
    o.zWeight = reference ? 1e-2 : 1e-3;
    if (const Json* weights = reader.find("weights"); weights && weights->is_object()) {
        FieldReader nested(*weights, {}, reader.fieldPath("weights") + ".");
        nested.optional("spectral", o.spectralWeight, 0.0, 1e6);
        nested.optional("balance", o.balanceWeight, 0.0, 1e6);
        nested.optional("z", o.zWeight, 0.0, 1e6);
        for (const std::string& key : nested.unknownKeys()) {
            nested.reject(key, "is no loss; known: spectral, balance, z");
        }
        reader.merge(nested);
    } else if (weights) {
        reader.reject("weights", "must be an object");
    }
    o.batchRatio = readChoice(reader, "spec_reduce", kReductions, standard) == 1;
    o.referenceLosses = readChoice(reader, "losses", kModes, standard) == 1;
    o.lastCallOnly = readChoice(reader, "aux_calls", kAuxCalls, standard) == 1;
    constexpr std::array types { at::kFloat, at::kDouble, at::kBFloat16 };
    o.paramType = types[readChoice(reader, "param_dtype", kDtypes, 0)];
    reader.optional("union_slicing", o.unionSlicing);
    reader.optional("fused", o.fused);
    return o;
}

Json LoraSpOptions::json() const
{
    const std::size_t type = paramType == at::kFloat ? 0 : (paramType == at::kDouble ? 1 : 2);
    return Json {
        { "mode", kModes[mode == Mode::Paper ? 0 : 1] },
        { "bank", bank },
        { "blocks", blocks },
        { "eta", eta },
        { "scale", scale },
        { "select", kModes[referenceSelect ? 1 : 0] },
        { "sort_key", kSortKeys[sortKey == SortKey::Square ? 0 : 1] },
        { "score_map", kScoreMaps[static_cast<std::size_t>(scoreMap)] },
        { "routing", kRoutings[static_cast<std::size_t>(routing)] },
        { "router", kRouters[directRouter ? 1 : 0] },
        { "router_norm", kRouterNorms[rmsRouter ? 1 : 0] },
        { "w2_init", kW2Inits[w2Noise > 0 ? 1 : 0] },
        { "router_dropout", routerDropout },
        { "weights", { { "spectral", spectralWeight }, { "balance", balanceWeight }, { "z", zWeight } } },
        { "spec_reduce", kReductions[batchRatio ? 1 : 0] },
        { "losses", kModes[referenceLosses ? 1 : 0] },
        { "aux_calls", kAuxCalls[lastCallOnly ? 1 : 0] },
        { "param_dtype", kDtypes[type] },
        { "union_slicing", unionSlicing },
        { "fused", fused },
    };
}

Result<ScoreSelection> selectByEnergy(const at::Tensor& scores, double eta, bool reference, Options::SortKey key)
{
    const at::NoGradGuard noGrad;
    const at::Tensor s = scores.detach();
    const std::int64_t bank = s.size(-1);
    const bool isSigned = key == Options::SortKey::Signed;
    const at::Tensor positions = at::arange(bank, at::TensorOptions().dtype(at::kLong).device(s.device()));
    ScoreSelection selection;
    if (reference) {
        const at::Tensor squares = s * s;
        const at::Tensor order = std::get<1>(at::sort(isSigned ? s : squares, std::optional<bool>(true), -1, true));
        const at::Tensor sums = squares.gather(-1, order).cumsum(-1);
        at::Tensor keptInOrder = sums <= eta * squares.sum(-1, true);
        keptInOrder = keptInOrder.logical_or(positions == 0);
        selection.keep = at::zeros_like(keptInOrder).scatter(-1, order, keptInOrder);
        selection.k = keptInOrder.sum(-1);
        const at::Tensor kept = at::where(selection.keep, squares, at::zeros_like(squares)).sum(-1);
        selection.energy = kept / (squares.sum(-1) + 1e-9);
        return selection;
    }
    const at::Tensor wide = s.to(at::kDouble);
    if (!wide.isfinite().all().item<bool>()) {
        return fail(Errc::NotFinite, "scores hold NaN or infinity", "lora_sp");
    }
    const at::Tensor squares = wide * wide;
    const at::Tensor order = std::get<1>(at::sort(isSigned ? wide : squares, std::optional<bool>(true), -1, true));
    const at::Tensor inOrder = squares.gather(-1, order);
    const at::Tensor total = squares.sum(-1, true);
    const at::Tensor none = total.squeeze(-1) == 0;
    if (eta >= 1) {
        selection.keep = s != 0;
        selection.k = selection.keep.sum(-1);
    } else {
        at::Tensor k = (inOrder.cumsum(-1) < eta * (1 - kEnergySlack) * total).sum(-1) + 1;
        k = at::where(none, at::zeros_like(k), k.clamp_max(bank));
        const at::Tensor keptInOrder = positions < k.unsqueeze(-1);
        selection.keep = at::zeros_like(keptInOrder).scatter(-1, order, keptInOrder);
        selection.k = k;
    }
    const at::Tensor kept = at::where(selection.keep, squares, at::zeros_like(squares)).sum(-1);
    const at::Tensor safe = at::where(none, at::ones_like(kept), total.squeeze(-1));
    selection.energy = at::where(none, at::ones_like(kept), kept / safe);
    return selection;
}

std::span<const models::TokenKind> kindsOfRows(std::int64_t rows)
{
    const models::TokenContext* tokens = models::currentTokens();
    if (tokens == nullptr || tokens->kinds.empty() || rows % static_cast<std::int64_t>(tokens->kinds.size()) != 0) {
        return {};
    }
    return tokens->kinds;
}

void LoraSpStatistics::reset(std::int64_t bank, std::int64_t blocks)
{
    ranks = at::zeros({ bank + 1 }, at::TensorOptions().dtype(at::kLong));
    kept = at::zeros({ bank }, at::TensorOptions().dtype(at::kLong));
    share = at::zeros({ bank }, at::TensorOptions().dtype(at::kDouble));
    largestShare = at::zeros({ bank }, at::TensorOptions().dtype(at::kDouble));
    gates = at::zeros({ blocks }, at::TensorOptions().dtype(at::kDouble));
    kinds = at::zeros({ kTokenKinds, 2 + blocks }, at::TensorOptions().dtype(at::kDouble));
    energy = 0;
    tokens = 0;
    sampled = 0;
}

void LoraSpStatistics::add(const LoraSpStatistics& other)
{
    ranks.add_(other.ranks);
    kept.add_(other.kept);
    share.add_(other.share);
    largestShare.copy_(at::maximum(largestShare, other.largestShare));
    gates.add_(other.gates);
    kinds.add_(other.kinds);
    energy += other.energy;
    tokens += other.tokens;
    sampled += other.sampled;
}

LoraSpLayer::LoraSpLayer(const models::Linear& base, const Options& options, std::shared_ptr<AdapterRandom> random)
    : eta(options.eta), scale(options.scale), m_options(options), m_random(std::move(random))
{
    RW_CHECK(options.bank % options.blocks == 0);
    const std::int64_t in = base.inFeatures();
    const double bound = 1 / std::sqrt(static_cast<double>(in));
    const at::Device device = base.weight.device();
    const std::int64_t outputs = options.directRouter ? options.bank : options.blocks;
    down = m_random->uniform(options.bank, in, bound, options.paramType).to(device);
    up = at::zeros({ base.outFeatures(), options.bank }, at::TensorOptions().dtype(options.paramType).device(device));
    router1 = m_random->uniform(outputs, in, bound, options.paramType).to(device);
    if (!options.directRouter) {
        const std::int64_t perBlock = options.bank / options.blocks;
        at::Tensor indicator =
            at::zeros({ options.bank, options.blocks }, at::TensorOptions().dtype(options.paramType));
        for (std::int64_t j = 0; j < options.blocks; ++j) {
            indicator.narrow(0, j * perBlock, perBlock).select(1, j).fill_(1);
        }
        if (options.w2Noise > 0) {
            indicator *= 1 + m_random->normal(options.bank, options.blocks, options.w2Noise, options.paramType);
        }
        router2 = indicator.to(device);
    }
    for (at::Tensor* parameter : { &down, &up, &router1, &router2 }) {
        if (parameter->defined()) {
            parameter->set_requires_grad(true);
        }
    }
    window.reset(bank(), blocks());
    digest.reset(bank(), blocks());
}

at::Tensor LoraSpLayer::routerInput(const at::Tensor& rows) const
{
    at::Tensor input = rows;
    if (m_options.routerDropout > 0 && at::GradMode::is_enabled()) {
        input = m_random->dropout(input, m_options.routerDropout);
    }
    if (m_options.rmsRouter) {
        input = input * at::rsqrt(input.pow(2).mean(-1, true) + 1e-6);
    }
    return input;
}

at::Tensor LoraSpLayer::composedScores(const at::Tensor& logits, at::Tensor& gates) const
{
    if (directRouter()) {
        gates = at::softmax(logits, -1);
        return mapScores(logits, m_options.scoreMap);
    }
    gates = maskGates(at::softmax(logits, -1), m_options.routing);
    return mapScores(at::linear(gates, router2), m_options.scoreMap);
}

LoraSpLayer::Scores LoraSpLayer::scores(const at::Tensor& rows) const
{
    at::Tensor input = rowsOf(rows, router1.scalar_type());
    if (m_options.rmsRouter) {
        input = input * at::rsqrt(input.pow(2).mean(-1, true) + 1e-6);
    }
    Scores result;
    result.logits = at::linear(input, router1);
    result.scores = composedScores(result.logits, result.gates);
    return result;
}

bool LoraSpLayer::canFuse(const at::Tensor& rows) const
{
    const at::ScalarType type = router1.scalar_type();
    return m_options.fused && rows.device().is_cpu() && (type == at::kFloat || type == at::kDouble)
        && !m_options.referenceSelect && m_options.sortKey == Options::SortKey::Square && !directRouter()
        && m_options.routing == Options::Routing::Weighted && !m_options.batchRatio && !m_options.referenceLosses
        && !record;
}

at::Tensor LoraSpLayer::forward(const models::Linear& base, const at::Tensor& x)
{
    const at::Tensor plain = x.dim() == 2 ? x : x.reshape({ -1, x.size(-1) });
    at::Tensor y = base.forwardBase(plain); // [T, out]
    const at::Tensor rows = rowsOf(x, down.scalar_type());
    at::Tensor used; // vectors that some token keeps, among those alive; undefined: all
    const at::Tensor h =
        canFuse(rows) ? fusedProduct(rows, validRows(x), used) : composedProduct(rows, validRows(x), used);
    at::Tensor u = m_alive.empty() ? up : up.index_select(1, m_aliveIndex);
    u = used.defined() ? u.index_select(1, used) : u;
    // In place: y is the fresh result of a product whose gradient does not need it.
    if (y.scalar_type() == h.scalar_type() && y.scalar_type() == u.scalar_type()) {
        y.addmm_(h, u.t(), 1, scale);
    } else {
        y = y + (at::linear(h, u) * scale).to(y.scalar_type());
    }
    if (x.dim() == 2) {
        return y;
    }
    std::vector<std::int64_t> sizes = x.sizes().vec();
    sizes.back() = y.size(1);
    return y.view(sizes);
}

/// In training the sums for each vector are samples, unless pruning or slicing depends on them.
std::int64_t LoraSpLayer::statisticsStride() const
{
    return at::GradMode::is_enabled() && !trackWindow && !m_options.unionSlicing ? kSampleStride : 1;
}

/// (V x) ⊙ s̄ [T, R'] through the CPU kernel.
at::Tensor LoraSpLayer::fusedProduct(const at::Tensor& rows, const at::Tensor& valid, at::Tensor& used)
{
    const bool sliced = !m_alive.empty();
    const at::Tensor v = sliced ? down.index_select(0, m_aliveIndex) : down;
    SelectInputs inputs;
    inputs.rows = rows;
    if (m_options.rmsRouter) {
        inputs.routerRows = routerInput(rows);
    } else if (m_options.routerDropout > 0 && at::GradMode::is_enabled()) {
        inputs.dropout = { m_options.routerDropout, m_random->draw() };
    }
    inputs.down = m_options.unionSlicing ? at::Tensor() : v;
    inputs.w1 = router1;
    inputs.w2 = sliced ? router2.index_select(0, m_aliveIndex) : router2;
    inputs.valid = valid.defined() ? valid.to(at::kByte) : valid;
    inputs.eta = eta;
    inputs.stride = statisticsStride();
    inputs.map = m_options.scoreMap;

    // Without anything that needs this call's counts alone, the kernel adds to the running ones.
    const bool direct = !sliced && !trackWindow && !m_options.unionSlicing;
    LoraSpStatistics call;
    if (!direct) {
        call.reset(inputs.w2.size(0), blocks());
    }
    const SelectOutputs outputs = selectAndMask(inputs, direct ? digest : call);
    if (!direct) {
        addStatistics(call);
    }
    if (at::GradMode::is_enabled()) {
        m_calls.push_back({ outputs.sums, outputs.top, {}, outputs.tokens });
    }
    if (!m_options.unionSlicing) {
        return outputs.masked;
    }
    at::Tensor masked = outputs.masked;
    const at::Tensor some = call.kept.nonzero().squeeze(-1);
    if (!valid.defined() && some.numel() < call.kept.numel()) { // padded rows are not in the counts
        used = some;
        masked = masked.index_select(1, used);
    }
    return masked * at::linear(rows, used.defined() ? v.index_select(0, used) : v).to(masked.scalar_type());
}

/// (V x) ⊙ s̄ [T, R'] from operators that any device has.
at::Tensor LoraSpLayer::composedProduct(const at::Tensor& rows, const at::Tensor& valid, at::Tensor& used)
{
    at::Tensor logits;
    {
        // Scores stay in the parameters' type under autocast: a rounded score changes which vectors are kept.
        const c10::impl::ExcludeDispatchKeyGuard noAutocast(c10::autocast_dispatch_keyset);
        logits = at::linear(routerInput(rows), router1);
    }
    const at::Tensor masked = composed(logits, valid, used);
    at::Tensor v = m_alive.empty() ? down : down.index_select(0, m_aliveIndex);
    v = used.defined() ? v.index_select(0, used) : v;
    const at::Tensor z = at::linear(rows, v);
    return masked * (z.scalar_type() == masked.scalar_type() ? z : z.to(masked.scalar_type()));
}

/// Masked scores s̄ [T, R'] from operators that any device has; `used` narrows R to R' with union slicing.
at::Tensor LoraSpLayer::composed(const at::Tensor& logits, const at::Tensor& valid, at::Tensor& used)
{
    at::Tensor gates;
    at::Tensor scores = composedScores(logits, gates);
    if (!m_alive.empty()) {
        scores = scores.index_select(-1, m_aliveIndex);
    }
    if (m_options.mode == Options::Mode::Paper && scores.scalar_type() == at::kBFloat16) {
        scores = scores.to(at::kFloat);
    }
    Result<ScoreSelection> chosen = selectByEnergy(scores, eta, m_options.referenceSelect, m_options.sortKey);
    if (!chosen) {
        // The loss becomes NaN, and the loop asks which layer it was.
        chosen = ScoreSelection { at::ones_like(scores, scores.options().dtype(at::kBool)),
                                  at::full({ scores.size(0) }, scores.size(1), scores.options().dtype(at::kLong)),
                                  at::full({ scores.size(0) }, std::nan(""), scores.options().dtype(at::kDouble)) };
    }
    if (at::GradMode::is_enabled()) {
        recordLosses(logits, gates, scores, *chosen, valid);
    }
    recordStatistics(gates, scores, *chosen, valid);
    if (record) {
        m_record = { scores.detach(), gates.detach(), chosen->keep, chosen->k, chosen->energy };
    }
    at::Tensor masked = at::where(chosen->keep, scores, at::zeros_like(scores));
    if (m_options.unionSlicing) {
        const at::NoGradGuard noGrad;
        const at::Tensor some = chosen->keep.any(0).nonzero().squeeze(-1);
        if (some.numel() < scores.size(1)) {
            used = some;
        }
    }
    return used.defined() ? masked.index_select(1, used) : masked;
}

void LoraSpLayer::recordLosses(const at::Tensor& logits, const at::Tensor& gates, const at::Tensor& scores,
                               const ScoreSelection& selection, const at::Tensor& valid)
{
    LoraSpCall call;
    const auto rowsThatCount = [&](const at::Tensor& t) { return valid.defined() ? t.index({ valid }) : t; };
    const at::Tensor s = rowsThatCount(scores);
    const at::Tensor keep = rowsThatCount(selection.keep);
    const at::Tensor l = rowsThatCount(logits);
    const at::Tensor g = rowsThatCount(gates);
    call.tokens = s.size(0);
    const at::Tensor squares = s * s;
    const at::Tensor kept = at::where(keep, squares, at::zeros_like(squares));
    if (m_options.batchRatio) {
        call.ratio = at::stack({ kept.sum(), squares.sum() });
    }
    at::Tensor spectral = at::zeros({}, s.options());
    if (!m_options.batchRatio) {
        const at::Tensor total = squares.sum(-1);
        const at::Tensor none = total == 0;
        const at::Tensor safe = at::where(none, at::ones_like(total), total);
        spectral = at::where(none, at::zeros_like(total), 1 - kept.sum(-1) / safe).sum();
    }
    if (m_options.referenceLosses) {
        // Softmax over the bank of the masked scores (dropped entries are 0), and ln(1 + clamped lse) of all scores.
        const at::Tensor q = at::softmax(at::where(keep, s, at::zeros_like(s)), -1);
        const std::int64_t bank = s.size(1);
        const at::Tensor top = at::bincount(q.detach().argmax(-1), {}, bank).to(q.scalar_type());
        const at::Tensor n = at::full({}, static_cast<double>(std::max<std::int64_t>(call.tokens, 1)), q.options());
        const at::Tensor fractions = (top.to(at::kFloat) / n.to(at::kFloat)).to(q.scalar_type()); // single there
        const at::Tensor balance = (fractions * q.mean(0)).sum() * static_cast<double>(bank);
        const at::Tensor z = at::logsumexp(s, -1).clamp(-1, 10).log1p().sum();
        call.sums = at::stack({ spectral, z, balance * n });
        call.top = top;
    } else {
        const at::Tensor lse = at::logsumexp(l, -1);
        const at::Tensor head = at::stack({ spectral.to(l.scalar_type()), (lse * lse).sum() });
        call.sums = at::cat({ head, g.sum(0).to(l.scalar_type()) });
        call.top = at::bincount(g.detach().argmax(-1), {}, g.size(1)).to(l.scalar_type());
    }
    m_calls.push_back(std::move(call));
}

void LoraSpLayer::recordStatistics(const at::Tensor& gates, const at::Tensor& scores, const ScoreSelection& selection,
                                   const at::Tensor& valid)
{
    const std::int64_t stride = statisticsStride(); // depends on whether gradients are enabled
    const at::NoGradGuard noGrad;
    const auto rowsThatCount = [&](const at::Tensor& t) {
        const at::Tensor flat = t.detach();
        return valid.defined() ? flat.index({ valid }) : flat;
    };
    const at::Tensor s = rowsThatCount(scores).to(at::kDouble);
    const at::Tensor squares = s * s;
    const at::Tensor total = squares.sum(-1, true);
    const at::Tensor shares = at::where(total == 0, at::zeros_like(squares), squares / total);
    LoraSpStatistics call;
    call.reset(s.size(1), blocks());
    call.tokens = s.size(0);
    if (call.tokens == 0) {
        return;
    }
    call.ranks = at::bincount(rowsThatCount(selection.k), {}, s.size(1) + 1).cpu();
    at::Tensor sample =
        at::arange(0, scores.size(0), at::TensorOptions().dtype(at::kLong).device(s.device())).remainder(stride).eq(0);
    sample = valid.defined() ? sample.index({ valid }) : sample;
    const at::Tensor sampledShares = shares.index({ sample });
    call.sampled = sampledShares.size(0);
    if (call.sampled > 0) {
        call.kept = rowsThatCount(selection.keep).logical_and(total != 0).index({ sample }).sum(0).cpu();
        call.share = sampledShares.sum(0).cpu();
        call.largestShare = std::get<0>(sampledShares.max(0)).cpu();
    }
    call.gates = rowsThatCount(gates).to(at::kDouble).sum(0).cpu();
    call.energy = rowsThatCount(selection.energy).to(at::kDouble).sum().item<double>();
    call.kinds = kindSums(gates.detach(), selection.k, valid);
    addStatistics(call);
}

/// The kinds' entry of the statistics of one call: gates [T, m] and k [T] of all rows.
at::Tensor LoraSpLayer::kindSums(const at::Tensor& gates, const at::Tensor& k, const at::Tensor& valid) const
{
    at::Tensor sums = at::zeros({ kTokenKinds, 2 + gates.size(1) }, at::TensorOptions().dtype(at::kDouble));
    const std::span<const models::TokenKind> kinds = kindsOfRows(gates.size(0));
    if (kinds.empty()) {
        return sums;
    }
    std::vector<std::int64_t> row;
    row.reserve(kinds.size());
    for (const models::TokenKind kind : kinds) {
        row.push_back(static_cast<std::int64_t>(kind));
    }
    const auto length = static_cast<std::int64_t>(row.size());
    at::Tensor index =
        at::from_blob(row.data(), { length }, at::TensorOptions().dtype(at::kLong)).repeat({ gates.size(0) / length });
    const at::Tensor one = at::ones({ gates.size(0), 1 }, at::TensorOptions().dtype(at::kDouble));
    at::Tensor values =
        at::cat({ one, k.cpu().to(at::kDouble).unsqueeze(1), gates.cpu().to(at::kDouble) }, 1); // [T, 2 + m]
    if (valid.defined()) {
        const at::Tensor counts = valid.cpu();
        index = index.index({ counts });
        values = values.index({ counts });
    }
    return sums.index_add_(0, index, values);
}

/// `call` covers the vectors in use; the running statistics cover the bank.
void LoraSpLayer::addStatistics(const LoraSpStatistics& call)
{
    if (m_alive.empty()) {
        digest.add(call);
        if (trackWindow) {
            window.add(call);
        }
        return;
    }
    const at::Tensor index = m_aliveIndex.cpu();
    LoraSpStatistics wide;
    wide.reset(bank(), blocks());
    wide.ranks.narrow(0, 0, call.ranks.numel()).copy_(call.ranks);
    wide.kept.index_copy_(0, index, call.kept);
    wide.share.index_copy_(0, index, call.share);
    wide.largestShare.index_copy_(0, index, call.largestShare);
    wide.gates = call.gates;
    wide.kinds = call.kinds;
    wide.energy = call.energy;
    wide.tokens = call.tokens;
    wide.sampled = call.sampled;
    digest.add(wide);
    if (trackWindow) {
        window.add(wide);
    }
}

std::int64_t LoraSpLayer::aliveCount() const
{
    return m_alive.empty() ? bank() : static_cast<std::int64_t>(m_alive.size());
}

Result<void> LoraSpLayer::setAlive(std::vector<std::int64_t> indices)
{
    if (indices.empty() || !std::ranges::is_sorted(indices, std::less_equal<> {}) || indices.front() < 0
        || indices.back() >= bank()) {
        return fail(Errc::FieldInvalid, "vectors in use must be sorted, distinct and inside of the bank", "lora_sp");
    }
    if (static_cast<std::int64_t>(indices.size()) == bank()) {
        m_alive.clear();
        m_aliveIndex = at::Tensor();
        return {};
    }
    m_aliveIndex = at::from_blob(indices.data(), { static_cast<std::int64_t>(indices.size()) },
                                 at::TensorOptions().dtype(at::kLong))
                       .clone()
                       .to(down.device());
    m_alive = std::move(indices);
    return {};
}

namespace {

/// Sums of the calls that count.
LoraSpCall joinCalls(const std::vector<LoraSpCall>& calls, bool lastOnly)
{
    LoraSpCall joined = calls.back();
    if (lastOnly) {
        return joined;
    }
    for (std::size_t i = 0; i + 1 < calls.size(); ++i) {
        joined.sums = joined.sums + calls[i].sums;
        joined.top = joined.top + calls[i].top;
        if (joined.ratio.defined()) {
            joined.ratio = joined.ratio + calls[i].ratio;
        }
        joined.tokens += calls[i].tokens;
    }
    return joined;
}

} // namespace

std::map<std::string, at::Tensor> loraSpLosses(std::span<LoraSpLayer* const> layers, const Options& options)
{
    std::vector<at::Tensor> sums;
    std::vector<at::Tensor> tops;
    std::vector<at::Tensor> ratios;
    std::vector<double> tokens;
    for (LoraSpLayer* layer : layers) {
        if (layer->calls().empty()) {
            continue;
        }
        const LoraSpCall call = joinCalls(layer->calls(), options.lastCallOnly);
        if (call.tokens == 0) {
            continue;
        }
        sums.push_back(call.sums);
        tops.push_back(call.top);
        if (call.ratio.defined()) {
            ratios.push_back(call.ratio);
        }
        tokens.push_back(static_cast<double>(call.tokens));
    }
    if (sums.empty()) {
        return {};
    }
    // The direct router has as many gates as vectors, so lengths may differ after compaction.
    const bool even = std::ranges::all_of(sums, [&](const at::Tensor& t) { return t.numel() == sums[0].numel(); });
    const std::int64_t groups = even ? 1 : static_cast<std::int64_t>(sums.size());
    const auto called = static_cast<double>(sums.size());
    const at::TensorOptions wide = sums[0].options().requires_grad(false);
    at::Tensor spectral = at::zeros({}, wide);
    at::Tensor balance = at::zeros({}, wide);
    at::Tensor z = at::zeros({}, wide);
    for (std::int64_t group = 0; group < groups; ++group) {
        const auto from = static_cast<std::size_t>(group);
        const std::size_t count = even ? sums.size() : 1;
        const at::Tensor stacked = at::stack(at::ArrayRef<at::Tensor>(&sums[from], count));
        const at::Tensor n = at::from_blob(&tokens[from], { static_cast<std::int64_t>(count), 1 }, at::kDouble)
                                 .to(wide.device(), wide.dtype().toScalarType(), false, true);
        const at::Tensor means = stacked / n; // [L, 2 + m]
        spectral = spectral + means.select(1, 0).sum();
        z = z + means.select(1, 1).sum();
        if (options.referenceLosses) {
            balance = balance + means.select(1, 2).sum();
        } else {
            const std::int64_t blocks = stacked.size(1) - 2;
            const at::Tensor fractions =
                at::stack(at::ArrayRef<at::Tensor>(&tops[from], count)).to(wide.dtype().toScalarType()) / n;
            balance = balance + (fractions * means.narrow(1, 2, blocks)).sum() * static_cast<double>(blocks);
        }
    }
    if (options.batchRatio) {
        const at::Tensor pairs = at::stack(ratios);
        spectral = (1 - (pairs.select(1, 0) / (pairs.select(1, 1) + 1e-9)).clamp(0, 1)).sum();
    }
    // The released code counts layers that were not called as zero spectral loss.
    const double all = options.mode == Options::Mode::Reference ? static_cast<double>(layers.size()) : called;
    std::map<std::string, at::Tensor> losses;
    losses["spectral"] = spectral / all;
    losses["balance"] = balance / called;
    losses["z"] = z / called;
    losses["total"] = options.spectralWeight * losses["spectral"] + options.balanceWeight * losses["balance"]
        + options.zWeight * losses["z"];
    return losses;
}

} // namespace rankwise::adapters
