// SPDX-License-Identifier: Apache-2.0
#include "backend/models/kernels.h"

#include "backend/base/result.h"
#include "backend/models/kernel_loops.h"

#include <cmath>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rankwise::models {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// An argument of an autograd function that takes no gradient and may be undefined.
struct Constant {
    at::Tensor tensor;
};

bool direct(const at::Tensor& x)
{
    return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

bool recording(const at::Tensor& a, const at::Tensor& b = {})
{
    return at::GradMode::is_enabled() && (a.requires_grad() || (b.defined() && b.requires_grad()));
}

/// Distance between the rows of x [..., n] seen as [rows, n], or -1 when they are not evenly spaced.
std::int64_t rowStride(const at::Tensor& x)
{
    if (x.size(-1) > 1 && x.stride(-1) != 1) {
        return -1;
    }
    std::int64_t stride = -1;
    std::int64_t expected = 0;
    for (std::int64_t dim = x.dim() - 2; dim >= 0; --dim) {
        if (x.size(dim) == 1) {
            continue;
        }
        if (stride < 0) {
            stride = x.stride(dim);
        } else if (x.stride(dim) != expected) {
            return -1;
        }
        expected = x.stride(dim) * x.size(dim);
    }
    return stride < 0 ? x.size(-1) : stride;
}

at::Tensor evenRows(const at::Tensor& x)
{
    return rowStride(x) < 0 ? x.contiguous() : x;
}

// ---- norms --------------------------------------------------------------------------------------------------

at::Tensor normComposed(const at::Tensor& x, const at::Tensor& weight, double eps, bool gemma)
{
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor unit = wide * (wide.square().mean(-1, true) + eps).rsqrt();
    return gemma ? (unit * (weight.to(at::kFloat) + 1.0)).to(x.scalar_type()) : weight * unit.to(x.scalar_type());
}

struct NormFunction : torch::autograd::Function<NormFunction> {
    static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps,
                              double offset)
    {
        const std::int64_t width = x.size(-1);
        const std::int64_t rows = x.numel() / std::max<std::int64_t>(width, 1);
        at::Tensor out = at::empty_like(x);
        at::Tensor scale = at::empty({ rows }, x.options());
        loops::normF32({ .x = x.const_data_ptr<float>(),
                         .weight = weight.const_data_ptr<float>(),
                         .out = out.mutable_data_ptr<float>(),
                         .scale = scale.mutable_data_ptr<float>(),
                         .rows = rows,
                         .width = width,
                         .eps = static_cast<float>(eps),
                         .offset = static_cast<float>(offset) });
        context->save_for_backward({ x, weight, scale });
        context->saved_data["offset"] = offset;
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients)
    {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor& x = saved[0];
        const at::Tensor& weight = saved[1];
        const at::Tensor dy = gradients[0].contiguous();
        const std::int64_t width = x.size(-1);
        at::Tensor dx = at::empty_like(x);
        const bool wantsWeight = context->needs_input_grad(1);
        at::Tensor dw = wantsWeight ? at::zeros_like(weight) : at::Tensor();
        loops::normBackwardF32({ .x = x.const_data_ptr<float>(),
                                 .weight = weight.const_data_ptr<float>(),
                                 .scale = saved[2].const_data_ptr<float>(),
                                 .dy = dy.const_data_ptr<float>(),
                                 .dx = dx.mutable_data_ptr<float>(),
                                 .dw = wantsWeight ? dw.mutable_data_ptr<float>() : nullptr,
                                 .rows = x.numel() / std::max<std::int64_t>(width, 1),
                                 .width = width,
                                 .offset = static_cast<float>(context->saved_data["offset"].toDouble()) });
        return { dx, dw, at::Tensor(), at::Tensor() };
    }
};

at::Tensor norm(const at::Tensor& input, const at::Tensor& weight, double eps, bool gemma)
{
    if (!direct(input) || !direct(weight)) {
        return normComposed(input, weight, eps, gemma);
    }
    const at::Tensor x = input.contiguous();
    const bool allF32 = x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
    const double offset = gemma ? 1.0 : 0.0;
    if (recording(x, weight)) {
        return allF32 ? NormFunction::apply(x, weight.contiguous(), eps, offset) : normComposed(x, weight, eps, gemma);
    }
    const std::int64_t width = x.size(-1);
    const std::int64_t rows = x.numel() / std::max<std::int64_t>(width, 1);
    if (allF32) {
        at::Tensor out = at::empty_like(x);
        loops::normF32({ .x = x.const_data_ptr<float>(),
                         .weight = weight.contiguous().const_data_ptr<float>(),
                         .out = out.mutable_data_ptr<float>(),
                         .scale = nullptr,
                         .rows = rows,
                         .width = width,
                         .eps = static_cast<float>(eps),
                         .offset = static_cast<float>(offset) });
        return out;
    }
    if (gemma || weight.scalar_type() != at::kBFloat16) {
        return normComposed(x, weight, eps, gemma);
    }
    // f32 stream, bf16 weight: the product is f32. bf16 stream: everything rounds to bf16.
    at::Tensor out = at::empty_like(x);
    const at::Tensor w = weight.contiguous();
    if (x.scalar_type() == at::kFloat) {
        loops::normF32WeightBf16(x.const_data_ptr<float>(), w.const_data_ptr(), out.mutable_data_ptr<float>(), rows,
                                 width, static_cast<float>(eps));
    } else {
        loops::normBf16(x.const_data_ptr(), w.const_data_ptr(), out.mutable_data_ptr(), rows, width,
                        static_cast<float>(eps));
    }
    return out;
}

// ---- rotary positions ---------------------------------------------------------------------------------------

at::Tensor splitComposed(const at::Tensor& x, std::int64_t headDim, const RopeTable* table)
{
    const at::Tensor heads = x.view({ x.size(0), x.size(1), -1, headDim }); // [B, S, H, d]
    if (table == nullptr) {
        return heads.transpose(1, 2).contiguous();
    }
    const at::Tensor wide = heads.to(at::kFloat);
    const std::int64_t half = headDim / 2;
    const at::Tensor first = wide.narrow(-1, 0, half);
    const at::Tensor second = wide.narrow(-1, half, half);
    const at::Tensor cos = table->cos.unsqueeze(2); // [B, S, 1, d/2]
    const at::Tensor sin = table->sin.unsqueeze(2);
    const at::Tensor rotated = at::cat({ first * cos - second * sin, second * cos + first * sin }, -1);
    return rotated.to(x.scalar_type()).transpose(1, 2).contiguous(); // [B, H, S, d]
}

loops::Heads headsOf(const at::Tensor& x, std::int64_t headDim, const at::Tensor& cos, const at::Tensor& sin)
{
    loops::Heads heads { .batch = x.size(0),
                         .tokens = x.size(1),
                         .heads = x.size(2) / headDim,
                         .headDim = headDim,
                         .rowStride = x.stride(1),
                         .batchStride = x.stride(0) };
    if (cos.defined()) {
        heads.cos = cos.const_data_ptr<float>();
        heads.sin = sin.const_data_ptr<float>();
        heads.tableStride = cos.size(0) == 1 ? 0 : cos.stride(0);
    }
    return heads;
}

at::Tensor splitDirect(const at::Tensor& x, std::int64_t headDim, const at::Tensor& cos, const at::Tensor& sin)
{
    const loops::Heads heads = headsOf(x, headDim, cos, sin);
    at::Tensor out = at::empty({ heads.batch, heads.heads, heads.tokens, headDim }, x.options());
    if (x.scalar_type() == at::kFloat) {
        loops::splitHeadsF32(heads, x.const_data_ptr<float>(), out.mutable_data_ptr<float>());
    } else {
        loops::splitHeadsBf16(heads, x.const_data_ptr(), out.mutable_data_ptr());
    }
    return out;
}

struct SplitFunction : torch::autograd::Function<SplitFunction> {
    static at::Tensor forward(AutogradContext* context, const at::Tensor& x, std::int64_t headDim, const Constant& cos,
                              const Constant& sin)
    {
        context->save_for_backward({ cos.tensor, sin.tensor });
        return splitDirect(x, headDim, cos.tensor, sin.tensor);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients)
    {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor dy = gradients[0].contiguous(); // [B, H, S, d]
        at::Tensor dx = at::empty({ dy.size(0), dy.size(2), dy.size(1) * dy.size(3) }, dy.options());
        loops::joinHeadsF32(headsOf(dx, dy.size(3), saved[0], saved[1]), dy.const_data_ptr<float>(),
                            dx.mutable_data_ptr<float>());
        return { dx, at::Tensor(), at::Tensor(), at::Tensor() };
    }
};

// ---- gated activations --------------------------------------------------------------------------------------

at::Tensor gatedComposed(const at::Tensor& gate, const at::Tensor& up, Activation activation)
{
    return (activation == Activation::Silu ? at::silu(gate) : at::gelu(gate, "tanh")) * up;
}

loops::Gated gatedOf(const at::Tensor& gate, const at::Tensor& up, bool gelu)
{
    const std::int64_t width = gate.size(-1);
    return { .rows = gate.numel() / std::max<std::int64_t>(width, 1),
             .width = width,
             .gateStride = rowStride(gate),
             .upStride = rowStride(up),
             .gelu = gelu };
}

struct GatedFunction : torch::autograd::Function<GatedFunction> {
    static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up, bool gelu)
    {
        at::Tensor out = at::empty(gate.sizes(), gate.options());
        loops::gatedF32(gatedOf(gate, up, gelu), gate.const_data_ptr<float>(), up.const_data_ptr<float>(),
                        out.mutable_data_ptr<float>());
        context->save_for_backward({ gate, up });
        context->saved_data["gelu"] = gelu;
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients)
    {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor dy = gradients[0].contiguous();
        at::Tensor dGate = at::empty(dy.sizes(), dy.options());
        at::Tensor dUp = at::empty(dy.sizes(), dy.options());
        loops::gatedBackwardF32(gatedOf(saved[0], saved[1], context->saved_data["gelu"].toBool()),
                                saved[0].const_data_ptr<float>(), saved[1].const_data_ptr<float>(),
                                dy.const_data_ptr<float>(), dGate.mutable_data_ptr<float>(),
                                dUp.mutable_data_ptr<float>());
        return { dGate, dUp, at::Tensor() };
    }
};

struct GeluFunction : torch::autograd::Function<GeluFunction> {
    static at::Tensor forward(AutogradContext* context, const at::Tensor& x)
    {
        at::Tensor out = at::empty_like(x);
        loops::geluF32(x.const_data_ptr<float>(), out.mutable_data_ptr<float>(), x.numel());
        context->save_for_backward({ x });
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients)
    {
        const at::Tensor x = context->get_saved_variables()[0];
        const at::Tensor dy = gradients[0].contiguous();
        at::Tensor dx = at::empty_like(x);
        loops::geluBackwardF32(x.const_data_ptr<float>(), dy.const_data_ptr<float>(), dx.mutable_data_ptr<float>(),
                               x.numel());
        return { dx };
    }
};

// ---- attention ----------------------------------------------------------------------------------------------

struct AttentionParts {
    at::Tensor probabilities; ///< [B·G, n·S, T] f32
    at::Tensor out;           ///< [B, S, H·d]
};

/// [B, H, S, d] seen as [B·G, n·S, d]: the query heads of a group lie one behind the other.
at::Tensor fold(const at::Tensor& heads, std::int64_t groups)
{
    return heads.view({ heads.size(0) * groups, -1, heads.size(3) });
}

at::Tensor joinHeads(const at::Tensor& folded, std::int64_t batch, std::int64_t tokens)
{
    const at::Tensor heads = folded.view({ batch, -1, tokens, folded.size(2) }); // [B, H, S, d]
    return heads.transpose(1, 2).reshape({ batch, tokens, -1 });
}

loops::Softmax softmaxOf(const at::Tensor& q, const at::Tensor& k, const at::Tensor& bias)
{
    loops::Softmax softmax { .rows = q.size(0) * q.size(1) * q.size(2),
                             .width = k.size(2),
                             .scale = 1.0F / std::sqrt(static_cast<float>(q.size(3))) };
    if (bias.defined()) {
        softmax.bias = bias.const_data_ptr<float>();
        softmax.biasStride = bias.size(0) == 1 ? 0 : bias.stride(0);
        softmax.biasRows = bias.size(1);
        softmax.rowsOfSample = q.size(1) * q.size(2);
    }
    return softmax;
}

AttentionParts attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias)
{
    const std::int64_t groups = k.size(1);
    const at::Tensor kf = fold(k, groups).to(at::kFloat);
    at::Tensor scores = at::bmm(fold(q, groups).to(at::kFloat), kf.transpose(1, 2)); // [B·G, n·S, T]
    if (scores.device().is_cpu()) {
        loops::softmaxF32(softmaxOf(q, k, bias), scores.mutable_data_ptr<float>());
    } else {
        scores.mul_(1.0 / std::sqrt(static_cast<double>(q.size(3))));
        if (bias.defined()) {
            scores.view({ q.size(0), q.size(1), q.size(2), k.size(2) }).add_(bias.unsqueeze(1));
        }
        scores = at::_softmax(scores, -1, false);
    }
    const at::Tensor values = fold(v, groups);
    return { scores, joinHeads(at::bmm(scores.to(values.scalar_type()), values), q.size(0), q.size(2)) };
}

/// Scores and softmax are f32 whatever autocast would make of the products.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
    static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const Constant& bias)
    {
        const AttentionParts parts = attend(q, k, v, bias.tensor);
        context->save_for_backward({ q, k, v, parts.probabilities });
        return parts.out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients)
    {
        const NoAutocast exact(c10::autocast_dispatch_keyset);
        const variable_list saved = context->get_saved_variables();
        const at::Tensor& q = saved[0];
        const std::int64_t groups = saved[1].size(1);
        const at::Tensor qf = fold(q, groups);
        const at::Tensor kf = fold(saved[1], groups);
        const at::Tensor vf = fold(saved[2], groups);
        const at::Tensor& p = saved[3];
        const at::Tensor dOut = fold(splitDirect(gradients[0].contiguous(), q.size(3), {}, {}), groups);
        at::Tensor dq;
        at::Tensor dk;
        at::Tensor dv;
        if (context->needs_input_grad(2)) {
            dv = at::bmm(p.transpose(1, 2), dOut).view_as(saved[2]);
        }
        if (context->needs_input_grad(0) || context->needs_input_grad(1)) {
            at::Tensor ds = at::bmm(dOut, vf.transpose(1, 2));
            loops::softmaxBackwardF32(softmaxOf(q, saved[1], {}), p.const_data_ptr<float>(),
                                      ds.mutable_data_ptr<float>());
            if (context->needs_input_grad(0)) {
                dq = at::bmm(ds, kf).view_as(q);
            }
            if (context->needs_input_grad(1)) {
                dk = at::bmm(ds.transpose(1, 2), qf).view_as(saved[1]);
            }
        }
        return { dq, dk, dv, at::Tensor() };
    }
};

/// The same out of differentiable operators, for what the direct form does not cover.
at::Tensor attentionComposed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias)
{
    const std::int64_t groups = k.size(1);
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    at::Tensor scores = at::bmm(fold(q, groups).to(at::kFloat), fold(k, groups).to(at::kFloat).transpose(1, 2)) * scale;
    if (bias.defined()) {
        scores = (scores.view({ q.size(0), q.size(1), q.size(2), k.size(2) }) + bias.unsqueeze(1)).view_as(scores);
    }
    const at::Tensor probabilities = at::softmax(scores, -1).to(v.scalar_type());
    return joinHeads(at::bmm(probabilities, fold(v, groups)), q.size(0), q.size(2));
}

} // namespace

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps)
{
    return norm(x, weight, eps, false);
}

at::Tensor gemmaNorm(const at::Tensor& x, const at::Tensor& weight, double eps)
{
    return norm(x, weight, eps, true);
}

RopeTable ropeTable(const at::Tensor& positions, std::int64_t headDim, double theta)
{
    const at::Tensor exponents =
        at::arange(headDim / 2, positions.options().dtype(at::kFloat)) * (2.0 / static_cast<double>(headDim));
    const at::Tensor timescale = at::pow(at::Scalar(theta), exponents);
    const at::Tensor radians = positions.to(at::kFloat).unsqueeze(-1) / timescale; // [B, S, d/2]
    return { radians.cos(), radians.sin() };
}

at::Tensor splitHeads(const at::Tensor& input, std::int64_t headDim, const RopeTable* table)
{
    RW_CHECK(input.dim() == 3 && input.size(2) % headDim == 0);
    const at::Tensor x = input.stride(2) == 1 ? input : input.contiguous();
    if (!direct(x) || (recording(x) && x.scalar_type() != at::kFloat)) {
        return splitComposed(x, headDim, table);
    }
    const at::Tensor cos = table != nullptr ? table->cos : at::Tensor();
    const at::Tensor sin = table != nullptr ? table->sin : at::Tensor();
    return recording(x) ? SplitFunction::apply(x, headDim, Constant { cos }, Constant { sin })
                        : splitDirect(x, headDim, cos, sin);
}

at::Tensor gatedProduct(const at::Tensor& gateInput, const at::Tensor& upInput, Activation activation)
{
    const bool gelu = activation == Activation::GeluTanh;
    const bool same = gateInput.scalar_type() == upInput.scalar_type();
    if (!direct(gateInput) || !same || (recording(gateInput, upInput) && gateInput.scalar_type() != at::kFloat)) {
        return gatedComposed(gateInput, upInput, activation);
    }
    const at::Tensor gate = evenRows(gateInput);
    const at::Tensor up = evenRows(upInput);
    if (recording(gate, up)) {
        return GatedFunction::apply(gate, up, gelu);
    }
    at::Tensor out = at::empty(gate.sizes(), gate.options());
    if (gate.scalar_type() == at::kFloat) {
        loops::gatedF32(gatedOf(gate, up, gelu), gate.const_data_ptr<float>(), up.const_data_ptr<float>(),
                        out.mutable_data_ptr<float>());
    } else {
        loops::gatedBf16(gatedOf(gate, up, gelu), gate.const_data_ptr(), up.const_data_ptr(), out.mutable_data_ptr());
    }
    return out;
}

at::Tensor geluTanh(at::Tensor x)
{
    if (!direct(x) || (recording(x) && x.scalar_type() != at::kFloat)) {
        return at::gelu(x, "tanh");
    }
    if (!x.is_contiguous()) {
        x = x.contiguous();
    }
    if (recording(x)) {
        return GeluFunction::apply(x);
    }
    // Large activations are not worth fresh memory: its pages cost more than the arithmetic.
    const bool ours = x.use_count() == 1 && !x.is_view() && x.storage().use_count() == 1;
    at::Tensor out = ours ? x : at::empty_like(x);
    if (x.scalar_type() == at::kFloat) {
        loops::geluF32(x.const_data_ptr<float>(), out.mutable_data_ptr<float>(), x.numel());
    } else {
        loops::geluBf16(x.const_data_ptr(), out.mutable_data_ptr(), x.numel());
    }
    return out;
}

at::Tensor groupedAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& biasInput)
{
    const NoAutocast exact(c10::autocast_dispatch_keyset);
    const at::Tensor bias = biasInput.defined() ? biasInput.contiguous() : biasInput;
    RW_CHECK(q.dim() == 4 && k.dim() == 4 && q.size(1) % k.size(1) == 0 && q.is_contiguous());
    if (!recording(q, k) && !recording(v)) {
        return attend(q, k.contiguous(), v.contiguous(), bias).out;
    }
    const bool f32 = q.scalar_type() == at::kFloat && k.scalar_type() == at::kFloat && v.scalar_type() == at::kFloat;
    return f32 && q.device().is_cpu() ? AttentionFunction::apply(q, k.contiguous(), v.contiguous(), Constant { bias })
                                      : attentionComposed(q, k.contiguous(), v.contiguous(), bias);
}

} // namespace rankwise::models
