// SPDX-License-Identifier: Apache-2.0
#include "tiny_vla.h"

#include <utility>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <ATen/TensorOperators.h>

namespace rankwise::test {

namespace {

const std::string kVlm = "model.vlm_with_expert.vlm.model.";
const std::string kExpert = "model.vlm_with_expert.lm_expert.layers.";

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight)
{
    return x * at::rsqrt(x.pow(2).mean(-1, true) + 1e-6) * weight;
}

models::LayerGroup groupOf(const std::string& path)
{
    if (path.find("vision_model") != std::string::npos) {
        return models::LayerGroup::Vision;
    }
    if (path.find("text_model") != std::string::npos) {
        return models::LayerGroup::Language;
    }
    return path.find("lm_expert") != std::string::npos ? models::LayerGroup::Action : models::LayerGroup::Projection;
}

} // namespace

TinyVla::TinyVla(tensor::TensorMap weights)
{
    for (auto& [name, tensor] : weights) {
        m_weights[name] = tensor.clone();
    }
    for (auto& [name, tensor] : m_weights) {
        const std::string path = name.substr(0, name.rfind('.'));
        if (!name.ends_with(".weight") || tensor.dim() != 2 || path.ends_with("embed_tokens")) {
            continue;
        }
        models::Linear linear;
        linear.weight = tensor;
        if (const auto bias = m_weights.find(path + ".bias"); bias != m_weights.end()) {
            linear.bias = bias->second;
        }
        linear.path = path;
        linear.group = groupOf(path);
        if (const std::size_t layers = path.find(".layers."); layers != std::string::npos) {
            linear.depth = std::stoll(path.substr(layers + 8));
        }
        m_linears.push_back(std::move(linear));
        m_byPath[path] = &m_linears.back();
    }
}

models::Linear& TinyVla::linear(const std::string& path)
{
    return *m_byPath.at(path);
}

std::int64_t TinyVla::paddedActionDim() const
{
    return m_byPath.at("model.action_in_proj")->inFeatures();
}

std::vector<models::NamedParameter> TinyVla::parameters() const
{
    std::vector<models::NamedParameter> list;
    for (const auto& [name, tensor] : m_weights) {
        list.push_back({ name, tensor, name.find("vision_model") == std::string::npos });
    }
    return list;
}

std::vector<std::reference_wrapper<models::Linear>> TinyVla::linears()
{
    return { m_linears.begin(), m_linears.end() };
}

at::Tensor TinyVla::attention(const std::string& path, const std::string& out, const at::Tensor& x, std::int64_t heads,
                              std::int64_t kvHeads, bool causal)
{
    const std::int64_t batch = x.size(0);
    const std::int64_t length = x.size(1);
    const std::int64_t dim = linear(path + "q_proj").outFeatures() / heads;
    const auto split = [&](const char* name, std::int64_t count) {
        return linear(path + name).forward(x).view({ batch, length, count, dim }).transpose(1, 2);
    };
    const at::Tensor q = split("q_proj", heads);
    const at::Tensor k = split("k_proj", kvHeads).repeat_interleave(heads / kvHeads, 1);
    const at::Tensor v = split("v_proj", kvHeads).repeat_interleave(heads / kvHeads, 1);
    at::Tensor scores = at::matmul(q, k.transpose(-1, -2)) * (1 / std::sqrt(static_cast<double>(dim)));
    if (causal) {
        const at::Tensor later = at::ones({ length, length }, at::TensorOptions().dtype(at::kBool)).triu(1);
        scores = scores.masked_fill(later, -std::numeric_limits<double>::infinity());
    }
    const at::Tensor mixed = at::matmul(scores.softmax(-1), v).transpose(1, 2).reshape({ batch, length, heads * dim });
    return linear(path + out).forward(mixed);
}

at::Tensor TinyVla::textLayer(const std::string& path, const at::Tensor& input, std::int64_t heads,
                              std::int64_t kvHeads)
{
    at::Tensor x = input
        + attention(path + "self_attn.", "o_proj", rmsNorm(input, m_weights.at(path + "input_layernorm.weight")), heads,
                    kvHeads, true);
    const at::Tensor n = rmsNorm(x, m_weights.at(path + "post_attention_layernorm.weight"));
    const at::Tensor gated =
        at::silu(linear(path + "mlp.gate_proj").forward(n)) * linear(path + "mlp.up_proj").forward(n);
    return x + linear(path + "mlp.down_proj").forward(gated);
}

at::Tensor TinyVla::forward(const at::Tensor& image, const at::Tensor& tokens, const at::Tensor& state,
                            const at::Tensor& action, const at::Tensor& time)
{
    const std::string patch = kVlm + "vision_model.embeddings.patch_embedding.";
    at::Tensor x = at::conv2d(image, m_weights.at(patch + "weight"), m_weights.at(patch + "bias"), { 4, 4 })
                       .flatten(2)
                       .transpose(1, 2);
    const std::int64_t visionWidth = x.size(-1);
    for (int layer = 0;; ++layer) {
        const std::string path = kVlm + "vision_model.encoder.layers." + std::to_string(layer) + ".";
        if (!m_byPath.contains(path + "mlp.fc1")) {
            break;
        }
        const auto norm = [&](const at::Tensor& t, const std::string& name) {
            return at::layer_norm(t, { visionWidth }, m_weights.at(path + name + ".weight"),
                                  m_weights.at(path + name + ".bias"));
        };
        x = x + attention(path + "self_attn.", "out_proj", norm(x, "layer_norm1"), 2, 2, false);
        const at::Tensor h = at::gelu(linear(path + "mlp.fc1").forward(norm(x, "layer_norm2")), "tanh");
        x = x + linear(path + "mlp.fc2").forward(h);
    }
    x = linear(kVlm + "connector.modality_projection.proj").forward(x);
    const at::Tensor words = at::embedding(m_weights.at(kVlm + "text_model.embed_tokens.weight"), tokens);
    at::Tensor h = at::cat({ x, words, linear("model.state_proj").forward(state).unsqueeze(1) }, 1);
    const std::int64_t textHeads = h.size(-1) / 8;
    for (int layer = 0;; ++layer) {
        const std::string path = kVlm + "text_model.layers." + std::to_string(layer) + ".";
        if (!m_byPath.contains(path + "mlp.gate_proj")) {
            break;
        }
        h = textLayer(path, h, textHeads, std::max<std::int64_t>(1, textHeads / 2));
    }
    const at::Tensor prefix = linear("model.prefix_to_expert").forward(h);
    at::Tensor a = linear("model.action_in_proj").forward(action);
    const std::int64_t width = a.size(-1);
    const at::Tensor phases =
        (time.view({ -1, 1, 1 }) * at::arange(1, width + 1, at::TensorOptions().dtype(a.scalar_type()))).sin();
    a = at::silu(linear("model.action_time_mlp_in").forward(at::cat({ a, phases.expand_as(a) }, -1)));
    a = linear("model.action_time_mlp_out").forward(a);
    at::Tensor z = at::cat({ prefix, a }, 1);
    for (int layer = 0;; ++layer) {
        const std::string path = kExpert + std::to_string(layer) + ".";
        if (!m_byPath.contains(path + "mlp.gate_proj")) {
            break;
        }
        z = textLayer(path, z, std::max<std::int64_t>(2, width / 8), 1);
    }
    return linear("model.action_out_proj").forward(z.narrow(1, prefix.size(1), a.size(1)));
}

at::Tensor TinyVla::forward(const tensor::TensorMap& golden)
{
    return forward(golden.at("model.image"), golden.at("model.tokens"), golden.at("model.state"),
                   golden.at("model.action"), golden.at("model.t"));
}

models::LossOutput TinyVla::loss(const models::PolicyBatch& batch, const at::Tensor& noise, const at::Tensor& time)
{
    const at::Tensor out = forward(batch.images.at(0), batch.tokens, batch.state, noise, time);
    const at::Tensor loss = at::mse_loss(out, batch.actions);
    return { loss, (out - batch.actions).pow(2).mean({ 1, 2 }).detach() };
}

at::Tensor TinyVla::sampleActions(const models::PolicyBatch& batch, const at::Tensor& noise, std::int64_t)
{
    return forward(batch.images.at(0), batch.tokens, batch.state, noise, at::ones({ noise.size(0) }))
        .narrow(-1, 0, actionDim());
}

} // namespace rankwise::test
