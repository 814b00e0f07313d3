// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora_sp_function.h"

#include <optional>
#include <span>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rankwise::adapters {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What both passes of the kernel read.
template <class Real>
void describe(SelectShape<Real>& shape, const at::Tensor& input, const at::Tensor& w1, const at::Tensor& w2,
              const at::Tensor& projected, const at::Tensor& valid)
{
    shape.tokens = input.size(0);
    shape.width = input.size(1);
    shape.bank = w2.size(0);
    shape.blocks = w2.size(1);
    shape.input = input.const_data_ptr<Real>();
    shape.w1 = w1.const_data_ptr<Real>();
    shape.w2 = w2.const_data_ptr<Real>();
    shape.projected = projected.defined() ? projected.const_data_ptr<Real>() : nullptr;
    shape.valid = valid.defined() ? valid.const_data_ptr<std::uint8_t>() : nullptr;
    shape.threads = at::get_num_threads();
}

/// Adds gates and ranks of the valid tokens to the sums of their kinds.
template <class Real> void addKinds(const SelectForward<Real>& job, at::Tensor& kinds)
{
    const std::span<const models::TokenKind> pattern = kindsOfRows(job.tokens);
    if (pattern.empty()) {
        return;
    }
    const std::int64_t width = kinds.size(1);
    auto* const sums = kinds.data_ptr<double>();
    std::size_t place = 0;
    for (std::int64_t t = 0; t < job.tokens; ++t) {
        double* const row = sums + static_cast<std::int64_t>(pattern[place]) * width;
        place = place + 1 == pattern.size() ? 0 : place + 1;
        if (job.valid != nullptr && job.valid[t] == 0) {
            continue;
        }
        row[0] += 1;
        row[1] += static_cast<double>(job.cuts[t].count);
        for (std::int64_t j = 0; j < job.blocks; ++j) {
            row[2 + j] += static_cast<double>(job.gates[t * job.blocks + j]);
        }
    }
}

/// Outputs of the forward kernel.
struct Run {
    at::Tensor masked, sums, gates, lse, cuts;
};

template <class Real>
Run runForward(const SelectInputs& inputs, const at::Tensor& input, const at::Tensor& projected,
               LoraSpStatistics& statistics, SelectOutputs& outputs)
{
    const std::int64_t tokens = input.size(0);
    const std::int64_t bank = inputs.w2.size(0);
    const std::int64_t blocks = inputs.w2.size(1);
    const at::TensorOptions real = input.options().requires_grad(false);
    Run run;
    run.masked = at::empty({ tokens, bank }, real);
    run.gates = at::empty({ tokens, blocks }, real);
    run.lse = at::empty({ tokens }, real);
    run.cuts = at::empty({ tokens, static_cast<std::int64_t>(sizeof(Cut<Real>)) }, real.dtype(at::kByte));
    outputs.top = at::zeros({ blocks }, real.dtype(at::kDouble));
    std::vector<double> gateSums(static_cast<std::size_t>(blocks));

    SelectForward<Real> job;
    describe(job, input, inputs.w1, inputs.w2, projected, inputs.valid);
    job.dropout = inputs.dropout;
    job.map = inputs.map;
    job.eta = inputs.eta;
    job.stride = inputs.stride;
    job.gates = run.gates.data_ptr<Real>();
    job.lse = run.lse.data_ptr<Real>();
    job.cuts = static_cast<Cut<Real>*>(run.cuts.mutable_data_ptr());
    job.masked = run.masked.data_ptr<Real>();

    SelectSums sums;
    sums.gates = gateSums.data();
    sums.top = outputs.top.data_ptr<double>();
    sums.ranks = statistics.ranks.data_ptr<std::int64_t>();
    sums.kept = statistics.kept.data_ptr<std::int64_t>();
    sums.share = statistics.share.data_ptr<double>();
    sums.largestShare = statistics.largestShare.data_ptr<double>();
    selectForward(job, sums);
    addKinds(job, statistics.kinds);

    outputs.tokens = sums.tokens;
    statistics.energy += sums.energy;
    statistics.tokens += sums.tokens;
    statistics.sampled += sums.sampled;
    double* gates = statistics.gates.data_ptr<double>();
    run.sums = at::empty({ 2 + blocks }, real);
    Real* out = run.sums.data_ptr<Real>();
    out[0] = static_cast<Real>(sums.missing);
    out[1] = static_cast<Real>(sums.squaredLse);
    for (std::int64_t j = 0; j < blocks; ++j) {
        gates[j] += sums.gates[j];
        out[2 + j] = static_cast<Real>(sums.gates[j]);
    }
    return run;
}

/// Gradients of the inputs, in the order of the node's arguments.
struct Gradients {
    at::Tensor rows, routerRows, down, w1, w2;
};

struct SelectNode : torch::autograd::Function<SelectNode> {
    static variable_list forward(AutogradContext* context, const at::Tensor& rows,
                                 const std::optional<at::Tensor>& routerRows, const std::optional<at::Tensor>& down,
                                 const at::Tensor& w1, const at::Tensor& w2, const SelectInputs* inputs,
                                 LoraSpStatistics* statistics, SelectOutputs* outputs)
    {
        const at::Tensor& input = routerRows ? *routerRows : rows;
        at::Tensor projected;
        at::ScalarType compute = rows.scalar_type();
        if (down) {
            projected = at::linear(rows, *down); // autocast may make it narrow
            compute = projected.scalar_type();
            projected = projected.to(rows.scalar_type()).contiguous();
        }
        const Run run = rows.scalar_type() == at::kDouble
            ? runForward<double>(*inputs, input, projected, *statistics, *outputs)
            : runForward<float>(*inputs, input, projected, *statistics, *outputs);
        context->save_for_backward({ rows, routerRows.value_or(at::Tensor()), down.value_or(at::Tensor()), w1, w2,
                                     inputs->valid, projected, run.gates, run.lse, run.cuts });
        context->saved_data["map"] = static_cast<std::int64_t>(inputs->map);
        context->saved_data["compute"] = static_cast<std::int64_t>(compute);
        context->saved_data["probability"] = inputs->dropout.probability;
        context->saved_data["seed"] = static_cast<std::int64_t>(inputs->dropout.seed);
        context->saved_data["rowsNeed"] = rows.requires_grad();
        context->saved_data["routerRowsNeed"] = routerRows && routerRows->requires_grad();
        context->set_materialize_grads(false);
        return { run.masked, run.sums };
    }

    template <class Real>
    static Gradients run(AutogradContext* context, const variable_list& saved, const at::Tensor& maskedGrad,
                         const at::Tensor& sumsGrad)
    {
        const at::Tensor& rows = saved[0];
        const at::Tensor& routerRows = saved[1];
        const at::Tensor& down = saved[2];
        const at::Tensor& w1 = saved[3];
        const at::Tensor& w2 = saved[4];
        const at::Tensor& projected = saved[6];
        const at::Tensor& input = routerRows.defined() ? routerRows : rows;
        SelectBackward<Real> job;
        describe(job, input, w1, w2, projected, saved[5]);
        job.dropout.probability = context->saved_data["probability"].toDouble();
        job.dropout.seed = static_cast<std::uint64_t>(context->saved_data["seed"].toInt());
        job.map = static_cast<ScoreMap>(context->saved_data["map"].toInt());
        job.gates = saved[7].const_data_ptr<Real>();
        job.lse = saved[8].const_data_ptr<Real>();
        job.cuts = static_cast<const Cut<Real>*>(saved[9].const_data_ptr());

        const at::Tensor upstream = maskedGrad.defined() ? maskedGrad.contiguous() : maskedGrad;
        job.maskedGrad = upstream.defined() ? upstream.const_data_ptr<Real>() : nullptr;
        std::vector<double> gatesGrad;
        if (sumsGrad.defined()) {
            const at::Tensor sums = sumsGrad.to(at::kDouble).contiguous();
            const double* values = sums.const_data_ptr<double>();
            job.missingGrad = values[0];
            job.squaredLseGrad = values[1];
            gatesGrad.assign(values + 2, values + sums.numel());
            job.gatesGrad = gatesGrad.data();
        }
        const at::Tensor logitsGrad = at::empty({ job.tokens, job.blocks }, input.options());
        at::Tensor projectedGrad;
        if (projected.defined() && upstream.defined()) {
            projectedGrad = at::empty_like(projected);
            job.projectedGrad = projectedGrad.data_ptr<Real>();
        }
        const at::Tensor w1Grad = at::empty({ job.blocks, job.width }, w1.options().dtype(at::kDouble));
        const at::Tensor w2Grad = at::empty({ job.bank, job.blocks }, w2.options().dtype(at::kDouble));
        job.logitsGrad = logitsGrad.data_ptr<Real>();
        job.w1Grad = w1Grad.data_ptr<double>();
        job.w2Grad = w2Grad.data_ptr<double>();
        Gradients gradients;
        const bool apart = routerRows.defined();
        const bool rowsNeed = context->saved_data["rowsNeed"].toBool();
        at::Tensor inputGrad;
        if (apart ? context->saved_data["routerRowsNeed"].toBool() : rowsNeed) {
            inputGrad = at::empty_like(input);
            job.inputGrad = inputGrad.data_ptr<Real>();
        }
        selectBackward(job);

        gradients.w1 = w1Grad.to(w1.scalar_type());
        gradients.w2 = w2Grad.to(w2.scalar_type());
        (apart ? gradients.routerRows : gradients.rows) = inputGrad;
        if (projectedGrad.defined()) {
            const auto compute = static_cast<at::ScalarType>(context->saved_data["compute"].toInt());
            const at::Tensor narrow = projectedGrad.to(compute);
            gradients.down = at::mm(narrow.t(), rows.to(compute)).to(down.scalar_type());
            if (rowsNeed && gradients.rows.defined() && compute == rows.scalar_type()) {
                gradients.rows.addmm_(narrow, down);
            } else if (rowsNeed) {
                const at::Tensor through = at::mm(narrow, down.to(compute)).to(rows.scalar_type());
                gradients.rows = gradients.rows.defined() ? gradients.rows.add_(through) : through;
            }
        }
        return gradients;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads)
    {
        const variable_list saved = context->get_saved_variables();
        const Gradients g = saved[0].scalar_type() == at::kDouble ? run<double>(context, saved, grads[0], grads[1])
                                                                  : run<float>(context, saved, grads[0], grads[1]);
        return { g.rows, g.routerRows, g.down, g.w1, g.w2, at::Tensor(), at::Tensor(), at::Tensor() };
    }
};

} // namespace

SelectOutputs selectAndMask(const SelectInputs& given, LoraSpStatistics& statistics)
{
    SelectInputs inputs = given;
    inputs.rows = given.rows.contiguous();
    inputs.routerRows = given.routerRows.defined() ? given.routerRows.contiguous() : given.routerRows;
    inputs.w1 = given.w1.contiguous();
    inputs.w2 = given.w2.contiguous();
    const auto optional = [](const at::Tensor& t) { return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt; };
    SelectOutputs outputs;
    const variable_list results = SelectNode::apply(inputs.rows, optional(inputs.routerRows), optional(inputs.down),
                                                    inputs.w1, inputs.w2, &inputs, &statistics, &outputs);
    outputs.masked = results[0];
    outputs.sums = results[1];
    return outputs;
}

} // namespace rankwise::adapters
