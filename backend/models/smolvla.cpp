// SPDX-License-Identifier: Apache-2.0
#include "backend/models/smolvla.h"

#include "backend/models/flow_matching.h"
#include "backend/models/smolvla_network.h"
#include "backend/models/token_blocks.h"

#include <fmt/core.h>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

namespace rankwise::models {

namespace {

constexpr std::string_view kRoot = "model.vlm_with_expert.";

Result<void> checkSizes(const io::PolicyConfig& config, const io::SmolVlaConfig& smol)
{
    const io::TextConfig& text = smol.vlm.text;
    const io::VisionConfig& vision = smol.vlm.vision;
    const auto reject = [](std::string field, std::string message) -> Result<void> {
        return fail(Errc::FieldInvalid, std::move(message), std::move(field));
    };
    if (smol.adaptToPiAloha) {
        return fail(Errc::Unsupported, "policies that convert ALOHA joints inside the network are not run",
                    "adapt_to_pi_aloha");
    }
    if (text.attentionBias || text.mlpBias) {
        return fail(Errc::Unsupported, "language models with biases are not run", "vlm_config.text_config");
    }
    if (text.hiddenAct != "silu" || vision.hiddenAct != "gelu_pytorch_tanh") {
        return fail(Errc::Unsupported,
                    "activations other than silu (language) and gelu_pytorch_tanh (vision) are not run",
                    "vlm_config.hidden_act");
    }
    if (text.headDim % 2 != 0 || text.numAttentionHeads % text.numKeyValueHeads != 0) {
        return reject("vlm_config.text_config",
                      "the head width must be even and the query heads a multiple of the key/value heads");
    }
    if (vision.hiddenSize % vision.numAttentionHeads != 0 || vision.imageSize < vision.patchSize) {
        return reject("vlm_config.vision_config",
                      "the width must be a multiple of the heads, and the image at least a patch");
    }
    if (smol.expertHiddenSize() < 2 || smol.expertHiddenSize() % 2 != 0) {
        return reject(
            "expert_width_multiplier",
            fmt::format("gives an expert width of {}; it must be even and at least 2", smol.expertHiddenSize()));
    }
    const std::int64_t layers = smol.numVlmLayers > 0 ? smol.numVlmLayers : text.numHiddenLayers;
    if (layers > text.numHiddenLayers) {
        return reject("num_vlm_layers", fmt::format("{} of {} layers", layers, text.numHiddenLayers));
    }
    const std::int64_t experts = smol.numExpertLayers > 0 ? smol.numExpertLayers : layers;
    if (experts > layers || layers % experts != 0) {
        return reject("num_expert_layers",
                      fmt::format("{} does not divide the {} layers of the language model", experts, layers));
    }
    if (config.actionDim() > config.maxActionDim || config.stateDim() > config.maxStateDim || config.actionDim() < 1) {
        return reject("max_action_dim", "state or action are wider than the network");
    }
    return {};
}

/// Whether the expert's layer `index` has key and value projections of its own width (joint attention).
bool jointWeights(const io::SmolVlaConfig& smol, std::int64_t index)
{
    const bool cross = smol.attentionMode.find("cross") != std::string::npos;
    return !cross || (smol.selfAttnEveryNLayers > 0 && index % smol.selfAttnEveryNLayers == 0);
}

/// Declares every tensor of the network in the checkpoint's order.
class Declaration {
public:
    Declaration(const io::PolicyConfig& config, SmolVlaNetwork& network, WeightTable& table)
        : m_config(config), m_smol(std::get<io::SmolVlaConfig>(config.model)), m_network(network), m_table(table)
    {
    }

    void run()
    {
        const bool visionTrains = !m_smol.freezeVisionEncoder && !m_smol.trainExpertOnly;
        vision(visionTrains);
        m_group = LayerGroup::Projection;
        m_trains = !m_smol.trainExpertOnly;
        const std::int64_t factor = m_smol.vlm.scaleFactor;
        linear(m_network.connector, std::string(kRoot) + "vlm.model.connector.modality_projection.proj",
               m_smol.vlm.text.hiddenSize, m_smol.vlm.vision.hiddenSize * factor * factor, false);
        language();
        expert();
        heads();
    }

private:
    void tensor(at::Tensor& member, std::string name, std::vector<std::int64_t> shape, WeightInit init)
    {
        m_table.add({ .name = std::move(name),
                      .shape = std::move(shape),
                      .tensor = &member,
                      .init = init,
                      .wide = m_wide,
                      .trainableByConfig = m_trains });
    }

    void linear(Linear& layer, const std::string& path, std::int64_t out, std::int64_t in, bool bias,
                WeightInit init = WeightInit::Linear)
    {
        layer.path = path;
        layer.group = m_group;
        layer.depth = m_depth;
        tensor(layer.weight, path + ".weight", { out, in }, init);
        if (bias) {
            tensor(layer.bias, path + ".bias", { out }, WeightInit::Zero);
        }
    }

    void norm(LayerNorm& layer, const std::string& path, std::int64_t width)
    {
        layer.eps = m_smol.vlm.vision.layerNormEps;
        tensor(layer.weight, path + ".weight", { width }, WeightInit::One);
        tensor(layer.bias, path + ".bias", { width }, WeightInit::Zero);
    }

    void norm(RmsNorm& layer, const std::string& path, std::int64_t width)
    {
        layer.eps = m_smol.vlm.text.rmsNormEps;
        tensor(layer.weight, path + ".weight", { width }, WeightInit::One);
    }

    void vision(bool trains)
    {
        const io::VisionConfig& sizes = m_smol.vlm.vision;
        const std::int64_t width = sizes.hiddenSize;
        const std::int64_t side = sizes.imageSize / sizes.patchSize;
        const std::string root = std::string(kRoot) + "vlm.model.vision_model.";
        m_trains = trains;
        m_group = LayerGroup::Vision;
        VisionTower& tower = m_network.vision;
        tower.heads = sizes.numAttentionHeads;
        tensor(tower.patchWeight, root + "embeddings.patch_embedding.weight",
               { width, sizes.numChannels, sizes.patchSize, sizes.patchSize }, WeightInit::Linear);
        tensor(tower.patchBias, root + "embeddings.patch_embedding.bias", { width }, WeightInit::Zero);
        tensor(tower.positions, root + "embeddings.position_embedding.weight", { side * side, width },
               WeightInit::Position);
        tower.blocks.resize(static_cast<std::size_t>(sizes.numHiddenLayers));
        for (std::size_t i = 0; i < tower.blocks.size(); ++i) {
            VisionTower::Block& block = tower.blocks[i];
            const std::string path = fmt::format("{}encoder.layers.{}.", root, i);
            m_depth = static_cast<std::int64_t>(i);
            linear(block.k, path + "self_attn.k_proj", width, width, true);
            linear(block.v, path + "self_attn.v_proj", width, width, true);
            linear(block.q, path + "self_attn.q_proj", width, width, true);
            linear(block.out, path + "self_attn.out_proj", width, width, true, WeightInit::Residual);
            norm(block.norm1, path + "layer_norm1", width);
            linear(block.fc1, path + "mlp.fc1", sizes.intermediateSize, width, true);
            linear(block.fc2, path + "mlp.fc2", width, sizes.intermediateSize, true, WeightInit::Residual);
            norm(block.norm2, path + "layer_norm2", width);
        }
        m_depth = -1;
        norm(tower.postNorm, root + "post_layernorm", width);
    }

    void block(DecoderBlock& layer, const std::string& path, std::int64_t width, std::int64_t mlp, std::int64_t keyIn,
               bool wideKeys)
    {
        const io::TextConfig& text = m_smol.vlm.text;
        const std::int64_t queries = text.numAttentionHeads * text.headDim;
        const std::int64_t keys = text.numKeyValueHeads * text.headDim;
        layer.headDim = text.headDim;
        linear(layer.q, path + "self_attn.q_proj", queries, width, false);
        m_wide = wideKeys;
        linear(layer.k, path + "self_attn.k_proj", keys, keyIn, false);
        linear(layer.v, path + "self_attn.v_proj", keys, keyIn, false);
        m_wide = false;
        linear(layer.o, path + "self_attn.o_proj", width, queries, false, WeightInit::Residual);
        linear(layer.gate, path + "mlp.gate_proj", mlp, width, false);
        linear(layer.up, path + "mlp.up_proj", mlp, width, false);
        linear(layer.down, path + "mlp.down_proj", width, mlp, false, WeightInit::Residual);
        norm(layer.inputNorm, path + "input_layernorm", width);
        norm(layer.postNorm, path + "post_attention_layernorm", width);
    }

    void language()
    {
        const io::TextConfig& text = m_smol.vlm.text;
        const std::string root = std::string(kRoot) + "vlm.model.text_model.";
        const bool trains = !m_smol.trainExpertOnly;
        m_group = LayerGroup::Language;
        m_trains = trains;
        tensor(m_network.embedding, root + "embed_tokens.weight", { text.vocabSize, text.hiddenSize },
               WeightInit::Embedding);
        const std::size_t count = m_network.text.size();
        const std::size_t lastRead = m_network.lastReadLayer();
        for (std::size_t i = 0; i < count; ++i) {
            m_depth = static_cast<std::int64_t>(i);
            // The reference freezes the last layer, and the one before when the expert has fewer layers.
            m_trains = trains && i + 1 != count && !(m_network.expertEvery > 1 && i + 2 == count);
            DecoderBlock& layer = m_network.text[i];
            block(layer, fmt::format("{}layers.{}.", root, i), text.hiddenSize, text.intermediateSize, text.hiddenSize,
                  false);
            if (i >= lastRead) {
                for (Linear* dead : { &layer.q, &layer.o, &layer.gate, &layer.up, &layer.down }) {
                    dead->deadEnd = true;
                }
                layer.k.deadEnd = i > lastRead;
                layer.v.deadEnd = i > lastRead;
            }
        }
        m_depth = -1;
        m_trains = false;
        norm(m_network.textNorm, root + "norm", text.hiddenSize);
        const std::string head = std::string(kRoot) + "vlm.lm_head";
        m_network.lmHead.path = head;
        m_network.lmHead.group = LayerGroup::Language;
        m_network.lmHead.deadEnd = true;
        m_table.add({ .name = head + ".weight",
                      .shape = { text.vocabSize, text.hiddenSize },
                      .tensor = &m_network.lmHead.weight,
                      .init = WeightInit::Embedding,
                      .optional = true,
                      .fallback = root + "embed_tokens.weight",
                      .trainableByConfig = false });
    }

    void expert()
    {
        const io::TextConfig& text = m_smol.vlm.text;
        const std::int64_t width = m_smol.expertHiddenSize();
        const std::string root = std::string(kRoot) + "lm_expert.";
        m_group = LayerGroup::Action;
        m_trains = true;
        for (std::size_t i = 0; i < m_network.expert.size(); ++i) {
            m_depth = static_cast<std::int64_t>(i);
            const bool joint = jointWeights(m_smol, m_depth);
            block(m_network.expert[i], fmt::format("{}layers.{}.", root, i), width, expertMlpWidth(width),
                  joint ? width : text.numKeyValueHeads * text.headDim, !joint);
        }
        m_depth = -1;
        norm(m_network.expertNorm, root + "norm", width);
    }

    void heads()
    {
        const std::int64_t width = m_smol.expertHiddenSize();
        m_group = LayerGroup::Projection;
        m_wide = true;
        m_trains = m_smol.trainStateProj;
        linear(m_network.stateProj, "model.state_proj", m_smol.vlm.text.hiddenSize, m_config.maxStateDim, true);
        m_trains = true;
        linear(m_network.actionIn, "model.action_in_proj", width, m_config.maxActionDim, true);
        linear(m_network.actionOut, "model.action_out_proj", m_config.maxActionDim, width, true, WeightInit::Output);
        linear(m_network.timeIn, "model.action_time_mlp_in", width, 2 * width, true);
        linear(m_network.timeOut, "model.action_time_mlp_out", width, width, true);
    }

    const io::PolicyConfig& m_config;
    const io::SmolVlaConfig& m_smol;
    SmolVlaNetwork& m_network;
    WeightTable& m_table;
    LayerGroup m_group = LayerGroup::Vision;
    std::int64_t m_depth = -1;
    bool m_wide = false;
    bool m_trains = true;
};

class SmolVlaPolicy final : public Policy {
public:
    explicit SmolVlaPolicy(io::PolicyConfig config) : m_config(std::move(config)) { }

    Result<void> build(const WeightFill& fill)
    {
        const io::SmolVlaConfig& smol = std::get<io::SmolVlaConfig>(m_config.model);
        RW_TRY_VOID(checkSizes(m_config, smol));
        const std::int64_t layers = smol.numVlmLayers > 0 ? smol.numVlmLayers : smol.vlm.text.numHiddenLayers;
        const std::int64_t experts = smol.numExpertLayers > 0 ? smol.numExpertLayers : layers;
        m_network.chunk = m_config.chunkSize;
        m_network.scaleFactor = smol.vlm.scaleFactor;
        m_network.visionSide = smol.vlm.vision.imageSize / smol.vlm.vision.patchSize;
        m_network.padToken = smol.vlm.text.padTokenId;
        m_network.fakeImageToken = smol.vlm.fakeImageTokenId;
        m_network.globalImageToken = smol.vlm.globalImageTokenId;
        m_network.prefixLength = smol.prefixLength;
        m_network.expertEvery = layers / experts;
        m_network.imageSpecialTokens = smol.addImageSpecialTokens;
        m_network.minPeriod = smol.minPeriod;
        m_network.maxPeriod = smol.maxPeriod;
        m_network.text.resize(static_cast<std::size_t>(layers));
        m_network.expert.resize(static_cast<std::size_t>(experts));
        for (std::int64_t layer = 0; layer < layers; ++layer) {
            // The kind of attention goes by the language layer, the weights' shapes by the expert's.
            const bool joint = jointWeights(smol, layer);
            m_network.joint.push_back(joint);
            if (layer % m_network.expertEvery == 0 && joint != jointWeights(smol, layer / m_network.expertEvery)) {
                return fail(
                    Errc::FieldInvalid,
                    "with fewer expert layers than language layers, joint and cross-attention layers do not line up; "
                    "take self_attn_every_n_layers <= 0 or attention_mode self_attn",
                    "self_attn_every_n_layers");
            }
        }
        if (smol.addImageSpecialTokens
            && (std::max(smol.vlm.fakeImageTokenId, smol.vlm.globalImageTokenId) >= smol.vlm.text.vocabSize
                || std::min(smol.vlm.fakeImageTokenId, smol.vlm.globalImageTokenId) < 0)) {
            return fail(Errc::FieldInvalid, "the special image tokens are not in the vocabulary",
                        "add_image_special_tokens");
        }
        Declaration(m_config, m_network, m_table).run();
        RW_TRY_VOID(fill(m_table));
        pack();
        return {};
    }

    [[nodiscard]] std::string_view type() const override { return "smolvla"; }
    [[nodiscard]] const io::PolicyConfig& config() const override { return m_config; }
    [[nodiscard]] std::int64_t chunkSize() const override { return m_config.chunkSize; }
    [[nodiscard]] std::int64_t actionSteps() const override { return m_config.nActionSteps; }
    [[nodiscard]] std::int64_t actionDim() const override { return m_config.actionDim(); }
    [[nodiscard]] std::int64_t paddedActionDim() const override { return m_config.maxActionDim; }
    [[nodiscard]] std::vector<NamedParameter> parameters() const override { return m_table.parameters(); }
    [[nodiscard]] std::vector<std::reference_wrapper<Linear>> linears() override { return m_network.linears(); }
    void setTaps(Taps* taps) override { m_taps = taps; }
    void weightsChanged() override { } // No copies are kept: fused products read the weights themselves.

    [[nodiscard]] LossOutput loss(const PolicyBatch& batch, const at::Tensor& noise, const at::Tensor& time) override
    {
        const SmolVlaPrefix prefix = m_network.embedPrefix(batch, m_taps);
        const std::int64_t samples = batch.actions.size(0);
        const std::int64_t draws = noise.size(0) / samples;
        RW_CHECK(draws >= 1 && noise.size(0) == draws * samples && time.size(0) == noise.size(0));
        const SmolVlaMemory memory
            = repeatedMemory(m_network.remember(prefix, m_network.readPrefix(prefix, m_taps, "train.")), draws);
        const auto repeated = [draws](const at::Tensor& tensor) {
            if (draws == 1 || !tensor.defined()) {
                return tensor;
            }
            std::vector<std::int64_t> times(static_cast<std::size_t>(tensor.dim()), 1);
            times.front() = draws;
            return tensor.repeat(times);
        };
        const at::Tensor actions = repeated(batch.actions);
        const at::Tensor predicted = m_network.velocity(noisyActions(actions, noise, time), time, memory, m_taps);
        FlowLoss loss = flowLoss(predicted, actions, noise, repeated(batch.actionIsPad), actionDim());
        loss.perSample = loss.perSample.view({ draws, samples }).mean(0);
        if (m_taps != nullptr) {
            tapMasks(prefix);
            m_taps->put("train.losses", loss.elements);
            m_taps->put("train.loss", loss.loss);
            m_taps->put("train.loss_per_sample", loss.perSample);
        }
        return { loss.loss, loss.perSample, prefix.imageTokens };
    }

    [[nodiscard]] at::Tensor sampleActions(const PolicyBatch& batch, const at::Tensor& noise,
                                           std::int64_t steps) override
    {
        at::Tensor actions;
        {
            const c10::InferenceMode inference;
            actions = sample(batch, noise, steps > 0 ? steps : std::get<io::SmolVlaConfig>(m_config.model).numSteps);
        }
        return actions.narrow(2, 0, actionDim()).clone();
    }

private:
    void pack()
    {
        const at::NoGradGuard noGrad;
        m_network.vision.pack();
        for (DecoderBlock& block : m_network.text) {
            block.pack();
        }
        for (std::size_t i = 0; i < m_network.expert.size(); ++i) {
            if (jointWeights(std::get<io::SmolVlaConfig>(m_config.model), static_cast<std::int64_t>(i))) {
                m_network.expert[i].pack();
            } else {
                LinearGroup::pack({ &m_network.expert[i].gate, &m_network.expert[i].up });
            }
        }
    }

    at::Tensor sample(const PolicyBatch& batch, const at::Tensor& noise, std::int64_t steps)
    {
        const SmolVlaPrefix prefix = m_network.embedPrefix(batch, m_taps);
        std::vector<LayerCache> layers = m_network.readPrefix(prefix, m_taps, "prefill.");
        if (m_taps != nullptr) {
            tapPrefill(prefix, layers);
        }
        const SmolVlaMemory memory = m_network.remember(prefix, std::move(layers));
        std::int64_t step = 0;
        const at::Tensor actions = integrateFlow(noise, steps, [&](const at::Tensor& x, double time) {
            const at::Tensor times = at::full({ x.size(0) }, time, x.options());
            const at::Tensor v = m_network.velocity(x, times, memory, nullptr);
            if (m_taps != nullptr) {
                m_taps->replace(fmt::format("sample.x.{}", step), x);
                m_taps->replace(fmt::format("sample.velocity.{}", step), v);
                m_taps->replace(fmt::format("sample.time.{}", step), times);
            }
            ++step;
            return v;
        });
        if (m_taps != nullptr) {
            m_taps->put("sample.actions_padded", actions);
        }
        return actions;
    }

    void tapMasks(const SmolVlaPrefix& prefix)
    {
        const at::TensorOptions boolean = prefix.valid.options();
        const std::int64_t size = prefix.valid.size(0);
        const at::Tensor suffix = at::ones({ size, chunkSize() }, boolean);
        const at::Tensor valid = at::cat({ prefix.valid, suffix }, 1);
        m_taps->put("suffix.pad_mask", suffix);
        m_taps->put("suffix.block_flags", suffix.to(at::kFloat));
        m_taps->put("train.attention_mask", blockMask(valid, at::cat({ prefix.flags, suffix }, 1)));
        m_taps->put("train.position_ids", positionIds(valid));
    }

    void tapPrefill(const SmolVlaPrefix& prefix, const std::vector<LayerCache>& layers)
    {
        const std::int64_t size = prefix.valid.size(0);
        const at::Tensor suffix = at::ones({ size, chunkSize() }, prefix.valid.options());
        m_taps->put("prefill.attention_mask", blockMask(prefix.valid, prefix.flags));
        m_taps->put("prefill.position_ids", positionIds(prefix.valid));
        const at::Tensor reach = prefix.valid.unsqueeze(1).expand({ size, chunkSize(), prefix.valid.size(1) });
        m_taps->put("denoise.attention_mask", at::cat({ reach, blockMask(suffix, suffix) }, 2));
        m_taps->put("denoise.position_ids", prefix.valid.sum(1, true) + positionIds(suffix));
        for (std::size_t i = 0; i < layers.size(); ++i) {
            m_taps->put(fmt::format("prefill.keys.{}", i), layers[i].k);
            m_taps->put(fmt::format("prefill.values.{}", i), layers[i].v);
        }
    }

    io::PolicyConfig m_config;
    SmolVlaNetwork m_network;
    WeightTable m_table;
    Taps* m_taps = nullptr;
};

} // namespace

Result<std::unique_ptr<Policy>> makeSmolVla(const io::PolicyConfig& config, const WeightFill& fill)
{
    if (config.smolvla() == nullptr) {
        return rankwise::fail(Errc::FieldInvalid, "the configuration has no part for smolvla", "type");
    }
    auto policy = std::make_unique<SmolVlaPolicy>(config);
    RW_TRY_VOID(policy->build(fill));
    return policy;
}

} // namespace rankwise::models
