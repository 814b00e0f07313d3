// SPDX-License-Identifier: Apache-2.0
#include "backend/models/smolvla_network.h"

#include "backend/base/result.h"
#include "backend/models/flow_matching.h"
#include "backend/models/token_blocks.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

void tap(Taps* taps, const std::string& name, const at::Tensor& value)
{
    if (taps != nullptr) {
        taps->put(name, value);
    }
}

bool blockTrains(const DecoderBlock& block, bool keysOnly)
{
    if (block.inputNorm.weight.requires_grad() || block.k.trains() || block.v.trains()) {
        return true;
    }
    return !keysOnly
        && (block.postNorm.weight.requires_grad() || block.q.trains() || block.o.trains() || block.gate.trains()
            || block.up.trains() || block.down.trains());
}

/// [B, G, P, d] -> [B, P, G·d]
at::Tensor headsAsRows(const at::Tensor& heads)
{
    return heads.transpose(1, 2).reshape({ heads.size(0), heads.size(2), -1 });
}

/// Grows while the prefix is put together.
struct PrefixParts {
    std::vector<at::Tensor> embeddings;
    std::vector<at::Tensor> valid;
    std::vector<TokenKind> kinds;

    void add(const at::Tensor& tokens, const at::Tensor& tokensValid, TokenKind kind)
    {
        embeddings.push_back(tokens);
        valid.push_back(tokensValid);
        kinds.insert(kinds.end(), static_cast<std::size_t>(tokens.size(1)), kind);
    }
};

} // namespace

std::size_t SmolVlaNetwork::lastReadLayer() const
{
    const std::size_t last = text.size() - 1;
    return last - last % static_cast<std::size_t>(expertEvery);
}

std::vector<std::reference_wrapper<Linear>> SmolVlaNetwork::linears()
{
    std::vector<std::reference_wrapper<Linear>> all;
    for (VisionTower::Block& block : vision.blocks) {
        all.insert(all.end(), { block.k, block.v, block.q, block.out, block.fc1, block.fc2 });
    }
    all.emplace_back(connector);
    const auto addBlocks = [&](std::vector<DecoderBlock>& blocks) {
        for (DecoderBlock& block : blocks) {
            all.insert(all.end(), { block.q, block.k, block.v, block.o, block.gate, block.up, block.down });
        }
    };
    addBlocks(text);
    all.emplace_back(lmHead);
    addBlocks(expert);
    all.insert(all.end(), { stateProj, actionIn, actionOut, timeIn, timeOut });
    return all;
}

bool SmolVlaNetwork::contextTrains() const
{
    if (embedding.requires_grad() || connector.trains() || vision.trains()) {
        return true;
    }
    const std::size_t last = lastReadLayer();
    for (std::size_t layer = 0; layer <= last; ++layer) {
        if (blockTrains(text[layer], layer == last)) {
            return true;
        }
    }
    return false;
}

std::vector<at::Tensor> SmolVlaNetwork::encodeImages(const std::vector<at::Tensor>& images,
                                                     const std::vector<at::Tensor>& masks, Taps* taps) const
{
    const at::AutoGradMode mode(at::GradMode::is_enabled() && (vision.trains() || connector.trains()));
    const std::int64_t batch = images.front().size(0);
    const std::int64_t patch = vision.patchWeight.size(2);
    std::vector<at::Tensor> features(images.size());
    for (std::size_t first = 0; first < images.size();) {
        std::size_t end = first + 1; // neighbours of the same size go through the tower together
        while (end < images.size() && images[end].sizes() == images[first].sizes()) {
            ++end;
        }
        const std::vector<at::Tensor> group(images.begin() + static_cast<std::ptrdiff_t>(first),
                                            images.begin() + static_cast<std::ptrdiff_t>(end));
        const at::Tensor pixels = group.size() == 1 ? group.front() : at::cat(group, 0); // [C·B, 3, H, W]
        const at::Tensor ids =
            bucketPositions(pixels.size(2) / patch, pixels.size(3) / patch, visionSide).to(pixels.device());
        const at::Tensor valid = at::cat(std::vector<at::Tensor>(masks.begin() + static_cast<std::ptrdiff_t>(first),
                                                                 masks.begin() + static_cast<std::ptrdiff_t>(end)),
                                         0);
        const bool all = valid.all().item<bool>();
        const auto context = [&](std::int64_t tokens) {
            return TokenContext { .valid = all ? at::Tensor() : valid.unsqueeze(1).expand({ -1, tokens }),
                                  .kinds = std::vector<TokenKind>(static_cast<std::size_t>(tokens), TokenKind::Image) };
        };
        at::Tensor hidden;
        {
            const TokenContext patches = context(ids.size(0));
            const TokenScope scope(patches);
            hidden = vision.forward(pixels, ids); // [C·B, S, vision width]
        }
        const at::Tensor shuffled = pixelShuffle(hidden, scaleFactor);
        const TokenContext tokens = context(shuffled.size(1));
        const TokenScope scope(tokens);
        const at::Tensor connected = connector.forward(shuffled); // [C·B, S/f², D]
        for (std::size_t camera = first; camera < end; ++camera) {
            const auto row = static_cast<std::int64_t>(camera - first) * batch;
            features[camera] = connected.narrow(0, row, batch);
            if (taps != nullptr) {
                taps->put("vision.hidden." + std::to_string(camera), hidden.narrow(0, row, batch));
                taps->put("vision.features." + std::to_string(camera), features[camera]);
                taps->put("vision.position_ids", ids.unsqueeze(0).expand({ batch, -1 }));
            }
        }
        first = end;
    }
    return features;
}

SmolVlaPrefix SmolVlaNetwork::embedPrefix(const PolicyBatch& batch, Taps* taps) const
{
    const bool keepAll = taps != nullptr;
    const std::int64_t size = batch.state.size(0);
    const at::TensorOptions boolean = batch.state.options().dtype(at::kBool);
    const double width = static_cast<double>(embedding.size(1));
    PrefixParts parts;

    std::vector<at::Tensor> images;
    std::vector<at::Tensor> masks;
    std::vector<bool> seen;
    for (std::size_t camera = 0; camera < batch.images.size(); ++camera) {
        seen.push_back(keepAll || batch.imageMasks[camera].any().item<bool>());
        if (seen.back()) {
            images.push_back(batch.images[camera]);
            masks.push_back(batch.imageMasks[camera]);
        }
    }
    const std::vector<at::Tensor> features =
        images.empty() ? std::vector<at::Tensor>() : encodeImages(images, masks, taps);
    const auto special = [&](std::vector<std::int64_t> ids) {
        const at::Tensor tokens =
            at::embedding(embedding, at::tensor(ids, at::TensorOptions(at::kLong)).to(embedding.device()), padToken);
        parts.add(tokens.unsqueeze(0).expand({ size, -1, -1 }),
                  at::ones({ size, static_cast<std::int64_t>(ids.size()) }, boolean), TokenKind::Other);
    };
    std::size_t next = 0;
    std::vector<at::Tensor> imageTokens(batch.images.size());
    for (std::size_t camera = 0; camera < batch.images.size(); ++camera) {
        if (imageSpecialTokens) {
            special({ fakeImageToken, globalImageToken });
        }
        if (seen[camera]) {
            const at::Tensor& tokens = features[next];
            imageTokens[camera] = tokens;
            // The factor has the features' own precision.
            const double factor = at::scalar_tensor(std::sqrt(width), tokens.options()).item<double>();
            parts.add(tokens * factor, masks[next].unsqueeze(1).expand({ -1, tokens.size(1) }), TokenKind::Image);
            ++next;
        }
        if (imageSpecialTokens) {
            special({ fakeImageToken });
        }
    }

    at::Tensor tokens = batch.tokens;
    at::Tensor tokenMask = batch.tokenMask;
    if (!keepAll) {
        const at::Tensor used = tokenMask.any(0);
        if (!used.all().item<bool>()) {
            const at::Tensor columns = used.nonzero().flatten();
            tokens = tokens.index_select(1, columns);
            tokenMask = tokenMask.index_select(1, columns);
        }
    }
    parts.add(at::embedding(embedding, tokens, padToken) * std::sqrt(width), tokenMask, TokenKind::Language);

    const TokenContext stateContext { .valid = {}, .kinds = { TokenKind::State } };
    {
        const TokenScope scope(stateContext);
        parts.add(stateProj.forward(batch.state.unsqueeze(1)), at::ones({ size, 1 }, boolean), TokenKind::State);
    }
    SmolVlaPrefix prefix;
    prefix.imageTokens = std::move(imageTokens);
    prefix.stateColumn = static_cast<std::int64_t>(parts.kinds.size()) - 1;
    const std::int64_t missing = prefixLength - static_cast<std::int64_t>(parts.kinds.size());
    if (keepAll && missing > 0) {
        parts.add(at::zeros({ size, missing, embedding.size(1) }, parts.embeddings.back().options()),
                  at::zeros({ size, missing }, boolean), TokenKind::Other);
    }
    prefix.embeddings = at::cat(parts.embeddings, 1); // [B, P, D]
    prefix.valid = at::cat(parts.valid, 1);
    prefix.kinds = std::move(parts.kinds);
    prefix.flags = at::zeros({ size, prefix.valid.size(1) }, boolean);
    prefix.flags.narrow(1, prefix.stateColumn, 1).fill_(true);
    prefix.allValid = prefix.valid.all().item<bool>();
    tap(taps, "prefix.embeddings", prefix.embeddings);
    tap(taps, "prefix.pad_mask", prefix.valid);
    tap(taps, "prefix.block_flags", prefix.flags);
    return prefix;
}

std::vector<LayerCache> SmolVlaNetwork::runText(at::Tensor x, const RopeTable& rope, const at::Tensor& bias,
                                                const std::vector<LayerCache>* past, Taps* taps,
                                                const char* tapPrefix) const
{
    std::vector<LayerCache> caches;
    const std::size_t last = taps != nullptr ? text.size() - 1 : lastReadLayer();
    for (std::size_t layer = 0; layer <= last; ++layer) {
        const DecoderBlock& block = text[layer];
        tap(taps, std::string(tapPrefix) + "vlm.layer_in." + std::to_string(layer), x);
        const at::Tensor h = block.inputNorm(x);
        // The last layer's own rows influence nothing: its keys and values are enough.
        const bool keysOnly = taps == nullptr && layer == last;
        const AttentionHeads heads = keysOnly ? block.keysAndValues(h, rope) : block.heads(h, rope);
        LayerCache cache { heads.k, heads.v };
        if (past != nullptr) {
            cache = { at::cat({ (*past)[layer].k, heads.k }, 2), at::cat({ (*past)[layer].v, heads.v }, 2) };
        }
        if (!keysOnly) {
            x = block.finish(x, groupedAttention(heads.q, cache.k, cache.v, bias));
        }
        caches.push_back(std::move(cache));
    }
    tap(taps, std::string(tapPrefix) + "vlm.final_norm_in", x);
    return caches;
}

std::vector<LayerCache> SmolVlaNetwork::readPrefix(const SmolVlaPrefix& prefix, Taps* taps, const char* tapPrefix) const
{
    const std::int64_t headDim = text.front().headDim;
    const at::Tensor valid = prefix.allValid ? prefix.valid.narrow(0, 0, 1) : prefix.valid;
    const at::Tensor flags = prefix.flags.narrow(0, 0, valid.size(0));
    const at::Tensor positions = positionIds(valid);
    const at::Tensor mask = blockMask(valid, flags); // [B or 1, P, P]
    const at::Tensor contextValid = prefix.allValid ? at::Tensor() : prefix.valid;

    const bool split = taps == nullptr && at::GradMode::is_enabled() && !contextTrains() && prefix.stateColumn > 0;
    if (!split) {
        const TokenContext context { .valid = contextValid, .kinds = prefix.kinds };
        const TokenScope scope(context);
        return runText(prefix.embeddings, ropeTable(positions, headDim), additiveMask(mask), nullptr, taps, tapPrefix);
    }
    // Nothing before the state trains, and nothing there sees it: only the state's row needs a graph. Columns behind
    // the state exist only with taps.
    const std::int64_t before = prefix.stateColumn;
    RW_CHECK(prefix.embeddings.size(1) == before + 1);
    std::vector<LayerCache> past;
    {
        const at::NoGradGuard noGrad;
        const TokenContext context { .valid = prefix.allValid ? at::Tensor() : prefix.valid.narrow(1, 0, before),
                                     .kinds = { prefix.kinds.begin(), prefix.kinds.end() - 1 } };
        const TokenScope scope(context);
        const at::Tensor bias =
            prefix.allValid ? at::Tensor() : additiveMask(mask.narrow(1, 0, before).narrow(2, 0, before));
        past = runText(prefix.embeddings.narrow(1, 0, before), ropeTable(positions.narrow(1, 0, before), headDim), bias,
                       nullptr, nullptr, tapPrefix);
    }
    const TokenContext context { .valid = {}, .kinds = { TokenKind::State } };
    const TokenScope scope(context);
    const at::Tensor bias = prefix.allValid ? at::Tensor() : additiveMask(mask.narrow(1, before, 1));
    return runText(prefix.embeddings.narrow(1, before, 1), ropeTable(positions.narrow(1, before, 1), headDim), bias,
                   &past, nullptr, tapPrefix);
}

SmolVlaMemory SmolVlaNetwork::remember(const SmolVlaPrefix& prefix, std::vector<LayerCache> layers) const
{
    const std::int64_t headDim = text.front().headDim;
    const at::Tensor valid = prefix.allValid ? prefix.valid.narrow(0, 0, 1) : prefix.valid;
    const std::int64_t rows = valid.size(0);
    const at::Tensor steps = at::arange(chunk, valid.options().dtype(at::kLong)).unsqueeze(0); // [1, T]
    const at::Tensor reach = valid.unsqueeze(1).expand({ rows, chunk, valid.size(1) });
    const at::Tensor causal = steps.unsqueeze(1).le(steps.unsqueeze(2)).expand({ rows, chunk, chunk });

    SmolVlaMemory memory;
    memory.jointRope = ropeTable(valid.sum(1, true) + steps, headDim);
    memory.crossRope = ropeTable(steps, headDim);
    memory.jointBias = additiveMask(at::cat({ reach, causal }, 2));
    if (!prefix.allValid) {
        memory.crossBias = additiveMask(reach);
    }
    const TokenContext context { .valid = prefix.allValid ? at::Tensor() : prefix.valid, .kinds = prefix.kinds };
    const TokenScope scope(context);
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        if (!hasExpert(layer) || joint[layer]) {
            continue;
        }
        const DecoderBlock& block = expert[layer / static_cast<std::size_t>(expertEvery)];
        layers[layer] = { splitHeads(block.k.forward(headsAsRows(layers[layer].k)), headDim),
                          splitHeads(block.v.forward(headsAsRows(layers[layer].v)), headDim) };
    }
    memory.layers = std::move(layers);
    return memory;
}

SmolVlaMemory repeatedMemory(SmolVlaMemory memory, std::int64_t draws)
{
    if (draws == 1) {
        return memory;
    }
    const auto repeat = [draws](at::Tensor& tensor, bool shared) {
        if (tensor.defined() && !(shared && tensor.size(0) == 1)) { // one row for all samples is broadcast
            std::vector<std::int64_t> times(static_cast<std::size_t>(tensor.dim()), 1);
            times.front() = draws;
            tensor = tensor.repeat(times);
        }
    };
    for (LayerCache& layer : memory.layers) {
        repeat(layer.k, false);
        repeat(layer.v, false);
    }
    for (RopeTable* table : { &memory.jointRope, &memory.crossRope }) {
        repeat(table->cos, true);
        repeat(table->sin, true);
    }
    repeat(memory.jointBias, true);
    repeat(memory.crossBias, true);
    return memory;
}

at::Tensor SmolVlaNetwork::embedActions(const at::Tensor& noisy, const at::Tensor& time) const
{
    const at::Tensor actions = actionIn.forward(noisy); // [B, T, W]
    const at::Tensor when = timeEmbedding(time, actions.size(2), minPeriod, maxPeriod).to(actions.scalar_type());
    const at::Tensor both = at::cat({ actions, when.unsqueeze(1).expand_as(actions) }, 2);
    return timeOut.forward(at::silu(timeIn.forward(both)));
}

at::Tensor SmolVlaNetwork::velocity(const at::Tensor& noisy, const at::Tensor& time, const SmolVlaMemory& memory,
                                    Taps* taps) const
{
    const std::int64_t headDim = text.front().headDim;
    const TokenContext context { .valid = {},
                                 .kinds = std::vector<TokenKind>(static_cast<std::size_t>(chunk), TokenKind::Action) };
    const TokenScope scope(context);
    at::Tensor x = embedActions(noisy, time); // [B, T, W]
    tap(taps, "suffix.embeddings", x);
    for (std::size_t layer = 0; layer < text.size(); ++layer) {
        if (!hasExpert(layer)) {
            continue;
        }
        const std::size_t index = layer / static_cast<std::size_t>(expertEvery);
        const DecoderBlock& block = expert[index];
        const LayerCache& cache = memory.layers[layer];
        tap(taps, "train.expert.layer_in." + std::to_string(index), x);
        const at::Tensor h = block.inputNorm(x);
        at::Tensor attended;
        if (joint[layer]) {
            const AttentionHeads heads = block.heads(h, memory.jointRope);
            attended = groupedAttention(heads.q, at::cat({ cache.k, heads.k }, 2), at::cat({ cache.v, heads.v }, 2),
                                        memory.jointBias);
        } else {
            const at::Tensor q = splitHeads(block.q.forward(h), headDim, &memory.crossRope);
            attended = groupedAttention(q, cache.k, cache.v, memory.crossBias);
        }
        tap(taps, "train.expert.attention_out." + std::to_string(index), attended);
        x = block.finish(x, attended);
    }
    tap(taps, "train.expert.final_norm_in", x);
    const at::Tensor out = expertNorm(x);
    tap(taps, "train.expert.final_norm_out", out);
    const at::Tensor result = actionOut.forward(out.to(at::kFloat));
    tap(taps, "train.velocity", result);
    return result;
}

} // namespace rankwise::models
