// SPDX-License-Identifier: Apache-2.0
#include "backend/analysis/spectra_source.h"

#include "backend/adapters/peft_folder.h"
#include "backend/base/json.h"
#include "backend/data/run_directory.h"
#include "backend/io/checkpoint.h"
#include "backend/models/linear.h"
#include "backend/models/policy_registry.h"
#include "backend/models/weight_table.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softplus.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace rankwise::analysis {

namespace fs = std::filesystem;

using data::SpectrumKind;

namespace {

/// The linear layers of one set of weights: module path to stored name.
struct Weights {
    tensor::TensorFile file;
    std::map<std::string, std::string> layers;
};

bool isLinear(const std::string& name, const at::Tensor& tensor)
{
    return name.ends_with(".weight") && tensor.dim() == 2 && tensor.is_floating_point() && tensor.size(0) > 1
        && tensor.size(1) > 1 && name.find("embed") == std::string::npos;
}

/// Whether names are those of a policy of ours, whose older layouts we understand.
bool isPolicy(const fs::path& folder)
{
    const auto config = readJsonFile(folder / "config.json");
    if (!config || !config->is_object()) {
        return false;
    }
    const std::vector<std::string> types = models::policyTypes();
    const auto type = config->find("type");
    return type != config->end() && type->is_string()
        && std::ranges::find(types, type->get<std::string>()) != types.end();
}

Result<Weights> openWeights(const fs::path& path)
{
    RW_TRY(tensor::TensorFile file, tensor::TensorFile::open(path));
    Weights weights { .file = std::move(file) };
    const bool policy = isPolicy(fs::is_directory(path) ? path : path.parent_path());
    for (const std::string& stored : weights.file.names()) {
        const auto tensor = weights.file.tensor(stored);
        if (!tensor || !isLinear(stored, *tensor)) { // a type that torch lacks is no weight to look at
            continue;
        }
        const std::optional<std::string> name = policy ? models::canonicalName(stored) : stored;
        if (name) {
            weights.layers[name->substr(0, name->size() - std::string(".weight").size())] = stored;
        }
    }
    return weights;
}

/// The update of one module at hand.
struct Update {
    at::Tensor a, b;
    double scale = 1;
    std::int64_t rank = 0;
    std::optional<adapters::PeftModule> dora;
};

struct Adapter {
    std::map<std::string, Update> updates;
    std::vector<std::string> notes;
    std::string base;             ///< As its configuration names it.
    bool mergeable = true;        ///< W' = W + ΔW makes sense.
    std::optional<Weights> whole; ///< Full fine-tuning: the trained weights.
};

std::string textAt(const Json& json, const char* key)
{
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Adapter> openPeft(const fs::path& folder)
{
    RW_TRY(const adapters::PeftFolder peft, adapters::readPeftFolder(folder));
    Adapter adapter;
    for (const Warning& warning : peft.warnings) {
        adapter.notes.push_back(warning.subject.empty() ? warning.message : warning.subject + ": " + warning.message);
    }
    std::int64_t skipped = 0;
    const at::NoGradGuard noGrad;
    for (const adapters::PeftModule& module : peft.modules) {
        if (module.kind != adapters::PeftModule::Kind::Linear || module.transposed) {
            ++skipped;
            continue;
        }
        Update update { .a = module.a, .b = module.b, .scale = module.scale, .rank = module.rank() };
        if (module.e.defined()) {
            update.b = module.b.to(at::kDouble) * module.e.to(at::kDouble).view({ 1, -1 });
        }
        if (module.magnitude.defined()) {
            update.dora = module;
        }
        adapter.updates[module.path] = std::move(update);
    }
    if (skipped > 0) {
        adapter.notes.push_back(fmt::format("{} convolutions, embeddings or transposed layers are left out", skipped));
    }
    if (!peft.baseChanging.empty()) {
        adapter.mergeable = false;
        adapter.notes.push_back(fmt::format("the initialiser \"{}\" changed the base weights: the update is relative "
                                            "to those, so W' is left out",
                                            peft.baseChanging));
    }
    return adapter;
}

/// s at equal gates.
at::Tensor middleScores(const at::Tensor& w2, const std::string& map)
{
    const std::int64_t blocks = w2.size(1);
    const at::Tensor gates = at::full({ blocks }, 1.0 / static_cast<double>(blocks), w2.options());
    const at::Tensor scores = at::mv(w2, gates);
    if (map == "softplus") {
        return at::softplus(scores);
    }
    return map == "relu" ? at::relu(scores) : (map == "abs" ? at::abs(scores) : scores);
}

Result<Adapter> openLoraSp(const fs::path& folder, const Json& config)
{
    const at::NoGradGuard noGrad;
    Adapter adapter;
    double scale = 2;
    std::string map = "none";
    std::string router = "two_stage";
    FieldReader reader(config, (folder / "adapter_config.json").string());
    reader.optional("scale", scale);
    reader.optional("score_map", map);
    reader.optional("router", router);
    RW_TRY_VOID(reader.result());
    RW_TRY(const tensor::TensorFile file, tensor::TensorFile::open(folder / "adapter_model.safetensors"));
    const std::string prefix = "base_model.model.";
    const std::string suffix = ".lora_sp_V";
    for (const std::string& name : file.names()) {
        if (!name.starts_with(prefix) || !name.ends_with(suffix)) {
            continue;
        }
        const std::string stem = name.substr(0, name.size() - suffix.size());
        RW_TRY(const at::Tensor v, file.tensor(name));
        RW_TRY(const at::Tensor u, file.tensor(stem + ".lora_sp_U"));
        at::Tensor scores = at::ones({ v.size(0) }, at::TensorOptions().dtype(at::kDouble));
        if (router == "two_stage") {
            RW_TRY(const at::Tensor w2, file.tensor(stem + ".lora_sp_W2"));
            if (w2.dim() != 2 || w2.size(0) != v.size(0)) {
                return fail(Errc::ShapeMismatch, "the router does not fit the bank", stem);
            }
            scores = middleScores(w2.to(at::kDouble), map);
        }
        if (v.dim() != 2 || u.dim() != 2 || u.size(1) != v.size(0)) {
            return fail(Errc::ShapeMismatch, "the two sides of the bank have different sizes", stem);
        }
        adapter.updates[stem.substr(prefix.size())] = {
            .a = v, .b = u.to(at::kDouble) * scores.view({ 1, -1 }), .scale = scale, .rank = v.size(0)
        };
    }
    adapter.notes.push_back(router == "two_stage"
                                ? "LoRA-SP: the update depends on the token; shown at equal gates"
                                : "LoRA-SP: the update depends on the token; shown with all scores 1");
    return adapter;
}

Result<Adapter> openAdapter(const fs::path& folder)
{
    RW_TRY(const Json config, readJsonFile(folder / "adapter_config.json"));
    if (!config.is_object()) {
        return fail(Errc::FieldInvalid, "is not an object", (folder / "adapter_config.json").string());
    }
    const std::string type = textAt(config, "peft_type");
    Adapter adapter;
    if (type == "LORA" || type == "ADALORA") {
        RW_TRY(adapter, openPeft(folder));
    } else if (type == "LORA_SP") {
        RW_TRY(adapter, openLoraSp(folder, config));
    } else if (type == "FULL") {
        RW_TRY(adapter.whole, openWeights(folder / "adapter_model.safetensors"));
    } else {
        return fail(Errc::Unsupported, fmt::format("spectra of \"{}\" adapters are not known", type), folder.string());
    }
    adapter.base = textAt(config, "base_model_name_or_path");
    return adapter;
}

/// The base that an adapter names, where it is on this machine.
fs::path findBase(const std::string& named, const fs::path& adapter)
{
    std::error_code error;
    if (named.empty()) {
        return {};
    }
    for (const fs::path& candidate : { fs::path(named), adapter / named }) {
        if (fs::is_directory(candidate, error) && !io::findWeights(candidate).empty()) {
            return candidate;
        }
    }
    return {};
}

std::string absoluteText(const fs::path& path)
{
    return path.empty() ? std::string() : fs::absolute(path).lexically_normal().string();
}

} // namespace

struct SpectraSource::State {
    struct Layer {
        std::string base;    ///< Stored name in `base`; empty: none.
        std::string trained; ///< Stored name in `trained`.
        std::optional<Update> update;
    };
    data::SpectraHeader header;
    std::vector<Layer> layers; ///< Beside header.layers.
    std::optional<tensor::TensorFile> base;
    std::optional<tensor::TensorFile> trained;
};

LayerPlace placeOf(const std::string& path)
{
    LayerPlace place;
    std::string name;
    for (const char c : path) {
        name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    for (const char* joint : { "vlm_with_expert", "paligemma_with_expert" }) {
        if (const std::size_t at = name.find(joint); at != std::string::npos) {
            name.erase(at, std::string_view(joint).size());
        }
    }
    const auto has = [&](std::initializer_list<const char*> words) {
        return std::ranges::any_of(words, [&](const char* word) { return name.find(word) != std::string::npos; });
    };
    using models::LayerGroup;
    LayerGroup group = LayerGroup::Projection;
    if (has({ "expert" })) {
        group = LayerGroup::Action;
    } else if (has({ "connector", "projector", "modality_projection" })) {
        group = LayerGroup::Projection;
    } else if (has({ "vision", "visual", "siglip", "dino", "featurizer", "image_encoder" })) {
        group = LayerGroup::Vision;
    } else if (has({ "language_model", "text_model", "llm", "lm_head", ".layers." }) || name.starts_with("layers.")) {
        group = LayerGroup::Language;
    }
    place.group = static_cast<std::int64_t>(group);
    // The first number in the path counts the layers of its stack.
    for (std::size_t from = 0; from < name.size();) {
        const std::size_t to = std::min(name.find('.', from), name.size());
        const std::string_view part = std::string_view(name).substr(from, to - from);
        if (!part.empty() && part.size() < 7
            && std::ranges::all_of(part, [](unsigned char c) { return std::isdigit(c) != 0; })) {
            place.depth = std::stoll(std::string(part));
            break;
        }
        from = to + 1;
    }
    if (group == LayerGroup::Projection) {
        place.depth = -1;
    }
    return place;
}

Result<SpectraSource> SpectraSource::open(const SourceOptions& options)
{
    auto state = std::make_shared<State>();
    std::error_code error;
    if (!fs::exists(options.subject, error)) {
        return fail(Errc::FileNotFound, "there is no such file or folder", options.subject.string());
    }
    RW_TRY(const fs::path subject, data::newestCheckpointOr(options.subject));
    fs::path basePath = options.base;
    if (!basePath.empty()) {
        RW_TRY(basePath, data::newestCheckpointOr(basePath));
    }
    std::optional<Adapter> adapter;
    std::optional<Weights> base;
    std::optional<Weights> trained;
    if (fs::exists(subject / "adapter_config.json", error)) {
        RW_TRY(adapter, openAdapter(subject));
        state->header.adapter = absoluteText(subject);
        state->header.notes = adapter->notes;
        basePath = basePath.empty() ? findBase(adapter->base, subject) : basePath;
        if (!basePath.empty()) {
            RW_TRY(base, openWeights(basePath));
            state->header.checkpoint = absoluteText(basePath);
        } else {
            state->header.notes.push_back(
                fmt::format("the base \"{}\" is not on this machine: W and W' are left out", adapter->base));
        }
        trained = std::move(adapter->whole);
    } else if (basePath.empty()) {
        RW_TRY(base, openWeights(subject));
        state->header.checkpoint = absoluteText(subject);
    } else {
        RW_TRY(trained, openWeights(subject));
        RW_TRY(base, openWeights(basePath));
        state->header.checkpoint = absoluteText(subject);
        state->header.base = absoluteText(basePath);
    }

    std::map<std::string, State::Layer> byPath;
    for (const auto& [path, stored] : base ? base->layers : std::map<std::string, std::string> {}) {
        byPath[path].base = stored;
    }
    std::int64_t shared = 0;
    std::int64_t lone = 0;
    for (const auto& [path, stored] : trained ? trained->layers : std::map<std::string, std::string> {}) {
        (byPath.contains(path) ? shared : lone) += 1;
        byPath[path].trained = stored;
    }
    if (adapter) {
        for (auto& [path, update] : adapter->updates) {
            (byPath.contains(path) ? shared : lone) += 1;
            byPath[path].update = std::move(update);
        }
    }
    if (byPath.empty()) {
        return fail(Errc::DataInvalid, "holds no linear layer", subject.string());
    }
    const bool pair = base && (trained || adapter);
    if (pair && shared == 0) {
        return fail(Errc::DataInvalid, "has no layer in common with the base " + basePath.string(), subject.string());
    }
    if (pair && lone > 0) {
        state->header.notes.push_back(fmt::format("{} layers are not in the base", lone));
    }

    state->header.weights = data::weightsIdentity(subject, basePath);

    std::vector<std::pair<data::SpectraLayer, State::Layer>> rows;
    for (auto& [path, layer] : byPath) {
        const LayerPlace place = placeOf(path);
        data::SpectraLayer info { .path = path, .group = place.group, .depth = place.depth };
        std::vector<std::int64_t> shape;
        if (!layer.base.empty()) {
            RW_TRY(const at::Tensor weight, base->file.tensor(layer.base));
            shape = weight.sizes().vec();
            info.kinds.push_back(SpectrumKind::Base);
        }
        if (!layer.trained.empty()) {
            RW_TRY(const at::Tensor weight, trained->file.tensor(layer.trained));
            if (!shape.empty() && shape != weight.sizes().vec()) {
                return fail(Errc::ShapeMismatch, "has another shape than in the base", path);
            }
            shape = weight.sizes().vec();
            if (!layer.base.empty()) {
                info.kinds.push_back(SpectrumKind::Delta);
            }
            info.kinds.push_back(SpectrumKind::Merged);
        }
        if (layer.update) {
            const std::vector<std::int64_t> own { layer.update->b.size(0), layer.update->a.size(1) };
            if (!shape.empty() && shape != own) {
                return fail(Errc::ShapeMismatch, "the adapter has another shape than the base", path);
            }
            shape = own;
            info.rank = layer.update->rank;
            const bool whole = !layer.base.empty();
            if (!layer.update->dora || whole) {
                info.kinds.push_back(SpectrumKind::Delta);
            }
            if (whole && adapter->mergeable) {
                info.kinds.push_back(SpectrumKind::Merged);
            }
        }
        info.rows = shape.at(0);
        info.columns = shape.at(1);
        if (!info.kinds.empty()) {
            rows.emplace_back(std::move(info), std::move(layer));
        }
    }
    std::ranges::stable_sort(
        rows, {}, [](const auto& row) { return std::tuple(row.first.group, row.first.depth, row.first.path); });
    for (auto& [info, layer] : rows) {
        state->header.layers.push_back(std::move(info));
        state->layers.push_back(std::move(layer));
    }
    if (base) {
        state->base = base->file;
    }
    if (trained) {
        state->trained = trained->file;
    }
    SpectraSource source;
    source.m_state = std::move(state);
    return source;
}

const data::SpectraHeader& SpectraSource::header() const
{
    return m_state->header;
}

Result<MatrixParts> SpectraSource::matrix(std::size_t index, SpectrumKind kind) const
{
    RW_CHECK(index < m_state->layers.size());
    const at::NoGradGuard noGrad;
    const State::Layer& layer = m_state->layers[index];
    const auto stored = [&](const std::optional<tensor::TensorFile>& file,
                            const std::string& name) -> Result<at::Tensor> {
        RW_CHECK(file.has_value() && !name.empty());
        return file->tensor(name);
    };
    MatrixParts parts;
    if (layer.update && layer.update->dora && kind != SpectrumKind::Base) {
        RW_TRY(const at::Tensor weight, stored(m_state->base, layer.base));
        RW_TRY(const at::Tensor merged, adapters::peftMergedWeight(*layer.update->dora, weight.to(at::kDouble)));
        parts.weight = merged.to(at::kFloat);
        if (kind == SpectrumKind::Delta) {
            parts.weight = (merged - weight.to(at::kDouble)).to(at::kFloat);
        }
        return parts;
    }
    const bool factors = layer.update.has_value() && kind != SpectrumKind::Base;
    if (factors) {
        parts.a = layer.update->a;
        parts.b = layer.update->b;
        parts.scale = layer.update->scale;
    }
    if (kind == SpectrumKind::Base || (factors && kind == SpectrumKind::Merged)) {
        RW_TRY(parts.weight, stored(m_state->base, layer.base));
    } else if (!factors) {
        RW_TRY(parts.weight, stored(m_state->trained, layer.trained));
        if (kind == SpectrumKind::Delta) {
            RW_TRY(parts.minus, stored(m_state->base, layer.base));
        }
    }
    return parts;
}

} // namespace rankwise::analysis
