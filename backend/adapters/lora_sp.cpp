// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora_sp.h"

#include "backend/base/file.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::int64_t kFormat = 1;

at::Tensor indexTensor(const std::vector<std::int64_t>& values)
{
    return at::from_blob(const_cast<std::int64_t*>(values.data()), { static_cast<std::int64_t>(values.size()) },
                         at::TensorOptions().dtype(at::kLong))
        .clone();
}

std::vector<std::int64_t> indexVector(const at::Tensor& tensor)
{
    const at::Tensor values = tensor.to(at::kLong).contiguous();
    const std::int64_t* data = values.const_data_ptr<std::int64_t>();
    return { data, data + values.numel() };
}

std::vector<std::int64_t> allIndices(std::int64_t count)
{
    std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
    std::iota(indices.begin(), indices.end(), 0);
    return indices;
}

/// Quantile of a histogram over 0, 1, 2, ...: the smallest value that a share `q` of the counts does not exceed.
double histogramQuantile(const std::int64_t* counts, std::int64_t length, std::int64_t total, double q)
{
    const auto needed = static_cast<std::int64_t>(std::ceil(q * static_cast<double>(total)));
    std::int64_t seen = 0;
    for (std::int64_t k = 0; k < length; ++k) {
        seen += counts[k];
        if (seen > 0 && seen >= needed) {
            return static_cast<double>(k);
        }
    }
    return static_cast<double>(length - 1);
}

/// In place where the shape allows, so that an optimiser keeps its parameter.
void assign(at::Tensor& target, const at::Tensor& value)
{
    const at::NoGradGuard noGrad;
    if (target.sizes() == value.sizes()) {
        target.copy_(value);
    } else {
        target = value.to(target.options()).clone().set_requires_grad(true);
    }
}

/// One row for each kind of token that the layer saw.
void addKinds(const LoraSpStatistics& statistics, bool routed, LayerDigest& digest)
{
    const std::int64_t width = statistics.kinds.size(1);
    const double* row = statistics.kinds.const_data_ptr<double>();
    for (int kind = 0; kind < kTokenKinds; ++kind, row += width) {
        if (row[0] > 0) {
            KindDigest& entry = digest.kinds.emplace_back();
            entry.kind = static_cast<models::TokenKind>(kind);
            entry.tokens = static_cast<std::int64_t>(row[0]);
            entry.rankMean = row[1] / row[0];
            for (std::int64_t j = 2; routed && j < width; ++j) {
                entry.expertShares.push_back(row[j] / row[0]);
            }
        }
    }
}

struct StatisticsNames {
    std::string prefix;
    std::array<std::string, 5> tensors { "ranks", "kept", "share", "largest_share", "gates" };
    std::string scalars = "scalars"; ///< [energy, tokens, sampled]
    std::string kinds = "kinds";     ///< Absent from states of earlier versions: counting begins anew.
};

std::array<at::Tensor*, 5> tensorsOf(LoraSpStatistics& s)
{
    return { &s.ranks, &s.kept, &s.share, &s.largestShare, &s.gates };
}

void storeStatistics(const LoraSpStatistics& statistics, const std::string& prefix,
                     std::map<std::string, at::Tensor>& state)
{
    const StatisticsNames names;
    LoraSpStatistics copy = statistics;
    for (std::size_t i = 0; i < names.tensors.size(); ++i) {
        state[prefix + names.tensors[i]] = tensorsOf(copy)[i]->clone();
    }
    at::Tensor scalars = at::full({ 3 }, statistics.energy, at::TensorOptions().dtype(at::kDouble));
    scalars.data_ptr<double>()[1] = static_cast<double>(statistics.tokens);
    scalars.data_ptr<double>()[2] = static_cast<double>(statistics.sampled);
    state[prefix + names.scalars] = scalars;
    state[prefix + names.kinds] = statistics.kinds.clone();
}

Result<void> readStatistics(LoraSpStatistics& statistics, const std::string& prefix,
                            const std::map<std::string, at::Tensor>& state)
{
    const StatisticsNames names;
    for (std::size_t i = 0; i < names.tensors.size(); ++i) {
        const auto stored = state.find(prefix + names.tensors[i]);
        at::Tensor* target = tensorsOf(statistics)[i];
        if (stored == state.end() || stored->second.sizes() != target->sizes()) {
            return fail(Errc::TensorNotFound, "is missing from the adapter's state or of another size",
                        prefix + names.tensors[i]);
        }
        *target = stored->second.to(target->options()).clone();
    }
    const auto scalars = state.find(prefix + names.scalars);
    if (scalars == state.end() || scalars->second.numel() != 3) {
        return fail(Errc::TensorNotFound, "is missing from the adapter's state", prefix + names.scalars);
    }
    const at::Tensor values = scalars->second.to(at::kDouble).contiguous();
    statistics.energy = values.const_data_ptr<double>()[0];
    statistics.tokens = static_cast<std::int64_t>(values.const_data_ptr<double>()[1]);
    statistics.sampled = static_cast<std::int64_t>(values.const_data_ptr<double>()[2]);
    if (const auto kinds = state.find(prefix + names.kinds);
        kinds != state.end() && kinds->second.sizes() == statistics.kinds.sizes()) {
        statistics.kinds = kinds->second.to(statistics.kinds.options()).clone();
    } else {
        statistics.kinds.zero_();
    }
    return {};
}

} // namespace

LoraSpMethod::LoraSpMethod(LoraSpOptions options, TargetOptions targets, LoraSpPruning pruning)
    : m_options(options), m_targets(std::move(targets)), m_pruning(pruning)
{
}

Result<void> LoraSpMethod::attach(models::Policy& policy, std::uint64_t seed)
{
    m_random = std::make_shared<AdapterRandom>(seed);
    RW_TRY_VOID(m_attachment.attach(policy, m_targets, [&](const models::Linear& linear) {
        auto layer = std::make_shared<LoraSpLayer>(linear, m_options, m_random);
        layer->trackWindow = m_pruning.every > 0;
        return layer;
    }));
    m_strikes.clear();
    for (const LoraSpLayer* layer : layers()) {
        m_strikes.emplace_back(static_cast<std::size_t>(layer->bank()), 0);
    }
    return {};
}

void LoraSpMethod::detach(models::Policy& policy)
{
    m_attachment.detach(policy);
    m_strikes.clear();
}

std::vector<LoraSpLayer*> LoraSpMethod::layers() const
{
    std::vector<LoraSpLayer*> list;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        list.push_back(static_cast<LoraSpLayer*>(entry.adapter.get()));
    }
    return list;
}

std::vector<models::NamedParameter> LoraSpMethod::trainable() const
{
    std::vector<models::NamedParameter> parameters;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        const std::string& path = entry.linear->path;
        parameters.push_back({ path + ".lora_sp_V", layer.down });
        parameters.push_back({ path + ".lora_sp_U", layer.up });
        parameters.push_back({ path + ".lora_sp_W1", layer.router1 });
        if (!layer.directRouter()) {
            parameters.push_back({ path + ".lora_sp_W2", layer.router2 });
        }
    }
    for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
        parameters.push_back(parameter);
    }
    return parameters;
}

void LoraSpMethod::beginStep(const TrainProgress&)
{
    for (LoraSpLayer* layer : layers()) {
        layer->beginStep();
    }
}

std::map<std::string, at::Tensor> LoraSpMethod::auxiliaryLosses()
{
    return loraSpLosses(layers(), m_options);
}

void LoraSpMethod::afterStep(const TrainProgress& progress)
{
    if (m_pruning.every <= 0 || progress.step < m_pruning.warmup || progress.step % m_pruning.every != 0) {
        return;
    }
    std::size_t i = 0;
    for (LoraSpLayer* layer : layers()) {
        pruneLayer(*layer, m_strikes[i++]);
        layer->window.reset(layer->bank(), layer->blocks());
    }
}

void LoraSpMethod::pruneLayer(LoraSpLayer& layer, std::vector<std::int64_t>& strikes) const
{
    if (layer.window.tokens == 0) {
        return;
    }
    const auto tokens = static_cast<double>(layer.window.tokens);
    const std::int64_t* kept = layer.window.kept.const_data_ptr<std::int64_t>();
    const double* share = layer.window.share.const_data_ptr<double>();
    const double* largest = layer.window.largestShare.const_data_ptr<double>();
    std::vector<std::int64_t> alive = layer.alive().empty() ? allIndices(layer.bank()) : layer.alive();
    std::vector<std::int64_t> dying;
    for (const std::int64_t i : alive) {
        std::int64_t& strike = strikes[static_cast<std::size_t>(i)];
        const bool unused =
            static_cast<double>(kept[i]) / tokens < m_pruning.keptBelow && largest[i] < m_pruning.shareBelow;
        strike = unused ? strike + 1 : 0;
        if (strike >= m_pruning.checks) {
            dying.push_back(i);
        }
    }
    // The least needed go first when a floor limits how many may.
    std::ranges::stable_sort(dying, [&](std::int64_t a, std::int64_t b) { return share[a] < share[b]; });
    const auto room = std::max<std::int64_t>(0, static_cast<std::int64_t>(alive.size()) - m_pruning.least);
    dying.resize(std::min(dying.size(), static_cast<std::size_t>(room)));
    if (dying.empty()) {
        return;
    }
    double removed = 0;
    for (const std::int64_t i : dying) {
        removed += share[i] / tokens;
        std::erase(alive, i);
    }
    const Result<void> done = layer.setAlive(alive);
    RW_CHECK(done.has_value());
    if (m_pruning.rescaleEta) {
        layer.eta = std::min(1.0, layer.eta / (1 - std::min(removed, 0.99)));
    }
}

std::vector<LayerDigest> LoraSpMethod::takeDigest()
{
    std::vector<LayerDigest> digests;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        auto& layer = static_cast<LoraSpLayer&>(*entry.adapter);
        const LoraSpStatistics& s = layer.digest;
        LayerDigest digest;
        digest.path = entry.linear->path;
        digest.group = entry.linear->group;
        digest.depth = entry.linear->depth;
        digest.capacity = layer.aliveCount();
        digest.tokens = s.tokens;
        if (s.tokens > 0) {
            const auto tokens = static_cast<double>(s.tokens);
            const std::int64_t* counts = s.ranks.const_data_ptr<std::int64_t>();
            double sum = 0;
            for (std::int64_t k = 0; k < s.ranks.numel(); ++k) {
                sum += static_cast<double>(k) * static_cast<double>(counts[k]);
            }
            digest.rankMean = sum / tokens;
            for (const double q : { 0.0, 0.25, 0.5, 0.75, 1.0 }) {
                digest.rankQuantiles.push_back(histogramQuantile(counts, s.ranks.numel(), s.tokens, q));
            }
            digest.energy = s.energy / tokens;
            if (!layer.directRouter()) {
                const double* gates = s.gates.const_data_ptr<double>();
                for (std::int64_t j = 0; j < s.gates.numel(); ++j) {
                    digest.expertShares.push_back(gates[j] / tokens);
                }
            }
            addKinds(s, !layer.directRouter(), digest);
        }
        digests.push_back(std::move(digest));
        layer.digest.reset(layer.bank(), layer.blocks());
    }
    return digests;
}

std::map<std::string, at::Tensor> LoraSpMethod::snapshot()
{
    std::map<std::string, at::Tensor> tensors;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        const std::string prefix = entry.linear->path + ".";
        tensors[prefix + "rank_histogram"] = layer.digest.ranks.clone();
        tensors[prefix + "kept"] = layer.digest.kept.clone();
        tensors[prefix + "share"] = layer.digest.share.clone();
        tensors[prefix + "largest_share"] = layer.digest.largestShare.clone();
        tensors[prefix + "gates"] = layer.digest.gates.clone();
        tensors[prefix + "tokens"] = indexTensor({ layer.digest.tokens, layer.digest.sampled });
        if (!layer.directRouter()) {
            tensors[prefix + "W2"] = layer.router2.detach().clone();
        }
    }
    return tensors;
}

void LoraSpMethod::resetStatistics()
{
    for (LoraSpLayer* layer : layers()) {
        layer->window.reset(layer->bank(), layer->blocks());
        layer->digest.reset(layer->bank(), layer->blocks());
    }
}

std::map<std::string, at::Tensor> LoraSpMethod::state() const
{
    std::map<std::string, at::Tensor> state;
    if (!m_random) {
        return state;
    }
    state["rng"] = m_random->state();
    std::size_t i = 0;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        const std::string prefix = entry.linear->path + ".";
        state[prefix + "eta"] = at::full({}, layer.eta, at::TensorOptions().dtype(at::kDouble));
        state[prefix + "alive"] = indexTensor(layer.alive().empty() ? allIndices(layer.bank()) : layer.alive());
        state[prefix + "strikes"] = indexTensor(m_strikes[i++]);
        storeStatistics(layer.window, prefix + "window.", state);
        storeStatistics(layer.digest, prefix + "digest.", state);
    }
    return state;
}

Result<void> LoraSpMethod::restoreState(const std::map<std::string, at::Tensor>& state)
{
    RW_CHECK(m_random != nullptr);
    const auto find = [&](const std::string& name) -> Result<at::Tensor> {
        const auto stored = state.find(name);
        if (stored == state.end()) {
            return fail(Errc::TensorNotFound, "is missing from the adapter's state", name);
        }
        return stored->second.cpu();
    };
    RW_TRY(const at::Tensor rng, find("rng"));
    RW_TRY_VOID(m_random->restore(rng));
    std::size_t i = 0;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        auto& layer = static_cast<LoraSpLayer&>(*entry.adapter);
        const std::string prefix = entry.linear->path + ".";
        RW_TRY(const at::Tensor eta, find(prefix + "eta"));
        RW_TRY(const at::Tensor alive, find(prefix + "alive"));
        RW_TRY(const at::Tensor strikes, find(prefix + "strikes"));
        if (strikes.numel() != layer.bank()) {
            return fail(Errc::ShapeMismatch, "is of another bank size", prefix + "strikes");
        }
        layer.eta = eta.to(at::kDouble).item<double>();
        RW_TRY_VOID(layer.setAlive(indexVector(alive)));
        m_strikes[i++] = indexVector(strikes);
        RW_TRY_VOID(readStatistics(layer.window, prefix + "window.", state));
        RW_TRY_VOID(readStatistics(layer.digest, prefix + "digest.", state));
    }
    return {};
}

std::string LoraSpMethod::nonFiniteLayer() const
{
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        for (const LoraSpCall& call : layer.calls()) {
            if (!call.sums.isfinite().all().item<bool>()) {
                return entry.linear->path;
            }
        }
    }
    return {};
}

Result<void> LoraSpMethod::set(std::string_view name, double value)
{
    if (name != "eta") {
        return AdaptationMethod::set(name, value);
    }
    if (!(value > 0 && value <= 1)) {
        return fail(Errc::FieldInvalid, fmt::format("{} is outside of (0, 1]", value), "eta");
    }
    m_options.eta = value;
    for (LoraSpLayer* layer : layers()) {
        layer->eta = value;
    }
    return {};
}

Json LoraSpMethod::config() const
{
    Json json = m_options.json();
    json["type"] = "lora_sp";
    writeTargetOptions(m_targets, json);
    if (m_pruning.every > 0) {
        json["prune"] = { { "every", m_pruning.every },           { "warmup", m_pruning.warmup },
                          { "kept_below", m_pruning.keptBelow },  { "share_below", m_pruning.shareBelow },
                          { "checks", m_pruning.checks },         { "least", m_pruning.least },
                          { "rescale_eta", m_pruning.rescaleEta } };
    }
    return json;
}

Result<void> LoraSpMethod::write(const std::filesystem::path& folder, const std::string& baseModel, bool compacted,
                                 const std::vector<Outgoing>& layers) const
{
    RW_CHECK(m_attachment.attached());
    Json json = config();
    json["peft_type"] = "LORA_SP";
    json["format"] = kFormat;
    json["compacted"] = compacted;
    json["base_model_name_or_path"] = baseModel;
    json["target_modules"] = peftTargets(m_targets, m_attachment.paths(), m_attachment.allPaths());
    json.erase("exclude_modules");
    json.erase("layers_to_transform");
    json.erase("layers_pattern");
    RW_TRY_VOID(writeFileAtomically(folder / "adapter_config.json", jsonText(json)));
    tensor::TensorMap tensors;
    std::size_t i = 0;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        const Outgoing& outgoing = layers[i++];
        const std::string prefix = std::string(kPrefix) + entry.linear->path + ".lora_sp_";
        const at::Tensor index = indexTensor(outgoing.index);
        const at::Tensor on = index.to(layer.down.device());
        tensors[prefix + "V"] = layer.down.detach().index_select(0, on);
        tensors[prefix + "U"] = layer.up.detach().index_select(1, on).contiguous();
        tensors[prefix + "W1"] =
            layer.directRouter() ? layer.router1.detach().index_select(0, on) : layer.router1.detach();
        if (!layer.directRouter()) {
            tensors[prefix + "W2"] = layer.router2.detach().index_select(0, on);
        }
        tensors[prefix + "eta"] = at::full({}, outgoing.eta, at::TensorOptions().dtype(at::kDouble));
        tensors[prefix + "index"] = index;
    }
    for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
        tensors[std::string(kPrefix) + parameter.name] = parameter.tensor.detach();
    }
    return tensor::saveTensors(folder / "adapter_model.safetensors", tensors, { { "format", "pt" } });
}

Result<void> LoraSpMethod::save(const std::filesystem::path& folder, const std::string& baseModel) const
{
    std::vector<Outgoing> outgoing;
    for (const LoraSpLayer* layer : layers()) {
        outgoing.push_back({ allIndices(layer->bank()), layer->eta });
    }
    return write(folder, baseModel, false, outgoing);
}

Result<void> LoraSpMethod::saveCompact(const std::filesystem::path& folder, const std::string& baseModel,
                                       double leastShare) const
{
    std::vector<Outgoing> outgoing;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        const LoraSpStatistics& s = layer.digest;
        if (s.tokens == 0) {
            return fail(Errc::DataInvalid, "saw no token; run the calibration set through the policy first",
                        entry.linear->path);
        }
        if (s.sampled != s.tokens) {
            return fail(Errc::DataInvalid,
                        "has statistics of training; reset them and run the calibration set without gradients",
                        entry.linear->path);
        }
        const double* largest = s.largestShare.const_data_ptr<double>();
        const double* share = s.share.const_data_ptr<double>();
        Outgoing out;
        double removed = 0;
        std::int64_t strongest = 0;
        for (const std::int64_t i : layer.alive().empty() ? allIndices(layer.bank()) : layer.alive()) {
            strongest = largest[i] > largest[strongest] ? i : strongest;
            if (largest[i] >= leastShare) {
                out.index.push_back(i);
            } else {
                removed += share[i] / static_cast<double>(s.tokens);
            }
        }
        if (out.index.empty()) {
            out.index.push_back(strongest);
            removed -= share[strongest] / static_cast<double>(s.tokens);
        }
        out.eta = layer.eta >= 1 ? 1.0 : std::min(1.0, layer.eta / (1 - std::min(removed, 0.99)));
        outgoing.push_back(std::move(out));
    }
    return write(folder, baseModel, true, outgoing);
}

Result<void> LoraSpMethod::load(const std::filesystem::path& folder)
{
    RW_CHECK(m_attachment.attached());
    RW_TRY(const Json json, readJsonFile(folder / "adapter_config.json"));
    FieldReader reader(json, (folder / "adapter_config.json").string());
    std::string type;
    std::int64_t format = kFormat;
    bool compacted = false;
    double scale = m_options.scale;
    reader.require("peft_type", type);
    reader.optional("format", format, 1);
    reader.optional("compacted", compacted);
    reader.optional("scale", scale);
    RW_TRY_VOID(reader.result());
    if (type != "LORA_SP" || format != kFormat) {
        return fail(Errc::Unsupported,
                    fmt::format("peft_type \"{}\", format {}: not LORA_SP of format {}", type, format, kFormat),
                    folder.string());
    }
    RW_TRY(const tensor::TensorFile file, tensor::TensorFile::open(folder / "adapter_model.safetensors"));

    struct Loaded {
        std::map<std::string, at::Tensor> tensors;
    };
    std::vector<Loaded> all;
    for (const Attachment::Layer& entry : m_attachment.layers()) {
        const auto& layer = static_cast<const LoraSpLayer&>(*entry.adapter);
        const std::string prefix = std::string(kPrefix) + entry.linear->path + ".lora_sp_";
        Loaded loaded;
        for (const char* name : { "V", "U", "W1", "W2", "eta", "index" }) {
            if (layer.directRouter() && std::string_view(name) == "W2") {
                continue;
            }
            RW_TRY(loaded.tensors[name], file.tensor(prefix + name));
            const at::Tensor& tensor = loaded.tensors[name];
            if (tensor.is_floating_point() && !tensor.isfinite().all().item<bool>()) {
                return fail(Errc::NotFinite, "holds NaN or infinity", prefix + name);
            }
        }
        const auto& t = loaded.tensors;
        const std::int64_t bank = t.at("V").dim() == 2 ? t.at("V").size(0) : -1;
        const bool fits = bank > 0 && t.at("U").dim() == 2 && t.at("V").size(1) == entry.linear->inFeatures()
            && t.at("U").size(0) == entry.linear->outFeatures() && t.at("U").size(1) == bank && t.at("W1").dim() == 2
            && t.at("W1").size(1) == entry.linear->inFeatures()
            && (layer.directRouter()
                    ? t.at("W1").size(0) == bank
                    : t.at("W2").dim() == 2 && t.at("W2").size(0) == bank && t.at("W2").size(1) == t.at("W1").size(0))
            && t.at("eta").numel() == 1 && t.at("index").numel() == bank;
        if (!fits || (!compacted && bank != layer.bank())) {
            return fail(Errc::ShapeMismatch, "does not fit the layer of the policy or the bank of the options", prefix);
        }
        all.push_back(std::move(loaded));
    }
    std::vector<std::pair<at::Tensor, at::Tensor>> saved;
    for (const models::NamedParameter& parameter : m_attachment.savedParameters()) {
        RW_TRY(at::Tensor stored, file.tensor(std::string(kPrefix) + parameter.name));
        if (stored.sizes() != parameter.tensor.sizes()) {
            return fail(Errc::ShapeMismatch, "does not fit the parameter of the policy", parameter.name);
        }
        saved.emplace_back(parameter.tensor, std::move(stored));
    }

    std::size_t i = 0;
    for (LoraSpLayer* layer : layers()) {
        const auto& t = all[i].tensors;
        assign(layer->down, t.at("V"));
        assign(layer->up, t.at("U"));
        assign(layer->router1, t.at("W1"));
        if (!layer->directRouter()) {
            assign(layer->router2, t.at("W2"));
        }
        layer->eta = t.at("eta").to(at::kDouble).item<double>();
        layer->scale = scale;
        RW_TRY_VOID(layer->setAlive(allIndices(layer->bank())));
        layer->window.reset(layer->bank(), layer->blocks());
        layer->digest.reset(layer->bank(), layer->blocks());
        m_strikes[i++].assign(static_cast<std::size_t>(layer->bank()), 0);
    }
    const at::NoGradGuard noGrad;
    for (auto& [target, value] : saved) {
        target.copy_(value);
    }
    return {};
}

std::unique_ptr<AdaptationMethod> makeLoraSp(FieldReader& reader)
{
    const LoraSpOptions options = LoraSpOptions::read(reader);
    TargetOptions targets;
    readTargetOptions(reader, targets);
    LoraSpPruning pruning;
    if (const Json* prune = reader.find("prune"); prune && prune->is_object()) {
        FieldReader nested(*prune, {}, reader.fieldPath("prune") + ".");
        pruning.every = 500;
        nested.optional("every", pruning.every, 0, 1'000'000'000);
        nested.optional("warmup", pruning.warmup, 0, 1'000'000'000);
        nested.optional("kept_below", pruning.keptBelow, 0.0, 1.0);
        nested.optional("share_below", pruning.shareBelow, 0.0, 1.0);
        nested.optional("checks", pruning.checks, 1, 1000);
        nested.optional("least", pruning.least, 1, 65'536);
        nested.optional("rescale_eta", pruning.rescaleEta);
        for (const std::string& key : nested.unknownKeys()) {
            nested.reject(key, "is unknown");
        }
        reader.merge(nested);
    } else if (prune) {
        reader.reject("prune", "must be an object");
    }
    return std::make_unique<LoraSpMethod>(options, std::move(targets), pruning);
}

} // namespace rankwise::adapters
