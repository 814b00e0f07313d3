// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora_sp_function.h"

#include <optional>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rankwise::adapters {

namespace {

/// Outputs of the forward kernel that backward needs.
struct Run {
    at::Tensor masked, sums, gates, cuts, top;
};

template <class Real>
Run runForward(const at::Tensor& logits, const at::Tensor& w2, const at::Tensor& projected, const at::Tensor& valid,
               double eta, ScoreMap map, LoraSpStatistics& statistics)
{
    const std::int64_t tokens = logits.size(0);
    const std::int64_t blocks = logits.size(1);
    const std::int64_t bank = w2.size(0);
    const at::TensorOptions real = logits.options().requires_grad(false);
    Run run;
    run.masked = at::empty({ tokens, bank }, real);
    run.gates = at::empty({ tokens, blocks }, real);
    run.cuts = at::empty({ tokens, static_cast<std::int64_t>(sizeof(Cut<Real>)) }, real.dtype(at::kByte));
    run.top = at::zeros({ blocks }, real.dtype(at::kDouble));
    const at::Tensor gateSums = at::zeros({ blocks }, real.dtype(at::kDouble));

    SelectForward<Real> job;
    job.tokens = tokens;
    job.bank = bank;
    job.blocks = blocks;
    job.logits = logits.const_data_ptr<Real>();
    job.w2 = w2.const_data_ptr<Real>();
    job.projected = projected.defined() ? projected.const_data_ptr<Real>() : nullptr;
    job.valid = valid.defined() ? valid.const_data_ptr<std::uint8_t>() : nullptr;
    job.eta = eta;
    job.map = map;
    job.threads = at::get_num_threads();
    job.gates = run.gates.data_ptr<Real>();
    job.cuts = static_cast<Cut<Real>*>(run.cuts.mutable_data_ptr());
    job.masked = run.masked.data_ptr<Real>();

    SelectSums sums;
    sums.gates = gateSums.data_ptr<double>();
    sums.top = run.top.data_ptr<double>();
    sums.ranks = statistics.ranks.data_ptr<std::int64_t>();
    sums.kept = statistics.kept.data_ptr<std::int64_t>();
    sums.share = statistics.share.data_ptr<double>();
    sums.largestShare = statistics.largestShare.data_ptr<double>();
    selectForward(job, sums);

    statistics.gates.add_(gateSums);
    statistics.energy += sums.energy;
    statistics.tokens += sums.tokens;
    run.sums = at::empty({ 2 + blocks }, real);
    Real* out = run.sums.data_ptr<Real>();
    out[0] = static_cast<Real>(sums.missing);
    out[1] = static_cast<Real>(sums.squaredLse);
    for (std::int64_t j = 0; j < blocks; ++j) {
        out[2 + j] = static_cast<Real>(sums.gates[j]);
    }
    return run;
}

struct SelectNode : torch::autograd::Function<SelectNode> {
    static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& logits,
                                                  const at::Tensor& w2, const std::optional<at::Tensor>& product,
                                                  const std::optional<at::Tensor>& mask, double eta, int64_t map,
                                                  LoraSpStatistics* statistics, at::Tensor* top)
    {
        const at::Tensor projected = product.value_or(at::Tensor());
        const at::Tensor valid = mask.value_or(at::Tensor());
        const auto scoreMap = static_cast<ScoreMap>(map);
        const Run run = logits.scalar_type() == at::kDouble
            ? runForward<double>(logits, w2, projected, valid, eta, scoreMap, *statistics)
            : runForward<float>(logits, w2, projected, valid, eta, scoreMap, *statistics);
        *top = run.top;
        context->save_for_backward({ logits, w2, projected, valid, run.gates, run.cuts });
        context->saved_data["map"] = map;
        context->set_materialize_grads(false);
        return { run.masked, run.sums };
    }

    template <class Real>
    static torch::autograd::variable_list run(const torch::autograd::variable_list& saved, ScoreMap map,
                                              const at::Tensor& maskedGrad, const at::Tensor& sumsGrad)
    {
        const at::Tensor& logits = saved[0];
        const at::Tensor& w2 = saved[1];
        const at::Tensor& projected = saved[2];
        SelectBackward<Real> job;
        job.tokens = logits.size(0);
        job.blocks = logits.size(1);
        job.bank = w2.size(0);
        job.logits = logits.const_data_ptr<Real>();
        job.w2 = w2.const_data_ptr<Real>();
        job.projected = projected.defined() ? projected.const_data_ptr<Real>() : nullptr;
        job.valid = saved[3].defined() ? saved[3].const_data_ptr<std::uint8_t>() : nullptr;
        job.gates = saved[4].const_data_ptr<Real>();
        job.cuts = static_cast<const Cut<Real>*>(saved[5].const_data_ptr());
        job.map = map;
        job.threads = at::get_num_threads();

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
        const at::Tensor logitsGrad = at::empty_like(logits);
        at::Tensor projectedGrad;
        if (projected.defined() && upstream.defined()) {
            projectedGrad = at::empty_like(projected);
            job.projectedGrad = projectedGrad.data_ptr<Real>();
        }
        const at::Tensor w2Grad = at::empty({ job.bank, job.blocks }, w2.options().dtype(at::kDouble));
        job.logitsGrad = logitsGrad.data_ptr<Real>();
        job.w2Grad = w2Grad.data_ptr<double>();
        selectBackward(job);
        return { logitsGrad, w2Grad.to(w2.scalar_type()), projectedGrad, at::Tensor(), at::Tensor(), at::Tensor(),
                 at::Tensor(), at::Tensor() };
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   const torch::autograd::variable_list& grads)
    {
        const torch::autograd::variable_list saved = context->get_saved_variables();
        const auto map = static_cast<ScoreMap>(context->saved_data["map"].toInt());
        return saved[0].scalar_type() == at::kDouble ? run<double>(saved, map, grads[0], grads[1])
                                                     : run<float>(saved, map, grads[0], grads[1]);
    }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> selectAndMask(const at::Tensor& logits, const at::Tensor& w2,
                                                const at::Tensor& projected, const at::Tensor& valid, double eta,
                                                ScoreMap map, LoraSpStatistics& statistics, at::Tensor& top)
{
    const auto given = [](const at::Tensor& t) { return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt; };
    const auto outputs = SelectNode::apply(logits, w2, given(projected), given(valid), eta,
                                           static_cast<std::int64_t>(map), &statistics, &top);
    return { outputs[0], outputs[1] };
}

}  // namespace rankwise::adapters
