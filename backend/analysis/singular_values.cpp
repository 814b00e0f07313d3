// SPDX-License-Identifier: Apache-2.0
#include "backend/analysis/singular_values.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>
#include <fmt/core.h>

namespace rankwise::analysis {

namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr std::int64_t kShortSide = 64;     ///< Up to here the SVD costs nothing.
constexpr std::int64_t kEstimateFrom = 256; ///< Below, the exact values cost as little as an estimate.
constexpr std::int64_t kBlock = 512;        ///< Rows or columns put together at once.
constexpr std::int64_t kPanel = 192;        ///< Columns of the Gram matrix computed at once.

const at::TensorOptions kDoubles = at::TensorOptions().dtype(at::kDouble);

Result<void> checkParts(const MatrixParts& matrix)
{
    const at::Tensor& whole = matrix.weight.defined() ? matrix.weight : matrix.minus;
    if (matrix.a.defined() != matrix.b.defined() || (!whole.defined() && !matrix.a.defined())) {
        return fail(Errc::ShapeMismatch, "a part of the matrix is missing");
    }
    for (const at::Tensor& part : { matrix.weight, matrix.minus, matrix.a, matrix.b }) {
        if (part.defined() && (part.dim() != 2 || !part.is_floating_point())) {
            return fail(Errc::ShapeMismatch, "is no matrix of real numbers");
        }
    }
    const bool wholesAgree =
        !matrix.weight.defined() || !matrix.minus.defined() || matrix.weight.sizes() == matrix.minus.sizes();
    const bool factorsAgree = !matrix.a.defined()
        || (matrix.a.size(0) == matrix.b.size(1)
            && (!whole.defined() || (whole.size(0) == matrix.b.size(0) && whole.size(1) == matrix.a.size(1))));
    if (!wholesAgree || !factorsAgree) {
        return fail(Errc::ShapeMismatch, "the parts of the matrix have different shapes");
    }
    return {};
}

/// Rows (or columns) [from, from + count) of the matrix, in `type`.
at::Tensor blockOf(const MatrixParts& matrix, bool rows, std::int64_t from, std::int64_t count, at::ScalarType type)
{
    const std::int64_t dim = rows ? 0 : 1;
    at::Tensor block;
    if (matrix.weight.defined()) {
        block = matrix.weight.narrow(dim, from, count).to(type);
    }
    if (matrix.minus.defined()) {
        const at::Tensor minus = matrix.minus.narrow(dim, from, count).to(type);
        block = block.defined() ? block - minus : -minus;
    }
    if (matrix.a.defined()) {
        const at::Tensor b = (rows ? matrix.b.narrow(0, from, count) : matrix.b).to(type);
        const at::Tensor a = (rows ? matrix.a : matrix.a.narrow(1, from, count)).to(type);
        block = block.defined() ? at::addmm(block, b, a, 1, matrix.scale) : at::mm(b, a) * matrix.scale;
    }
    return block;
}

std::vector<double> falling(const at::Tensor& values)
{
    const at::Tensor contiguous = values.contiguous();
    const auto* data = contiguous.const_data_ptr<double>();
    std::vector<double> sorted(data, data + contiguous.numel());
    for (double& value : sorted) {
        value = std::max(value, 0.0);
    }
    std::ranges::sort(sorted, std::greater<>());
    return sorted;
}

bool allFinite(const at::Tensor& values)
{
    return std::isfinite((values * 0).sum().item<double>());
}

Result<SingularValues> ofProduct(const MatrixParts& matrix)
{
    const at::Tensor b = matrix.b.to(at::kDouble);
    const at::Tensor a = matrix.a.to(at::kDouble);
    if (!allFinite(a) || !allFinite(b) || !std::isfinite(matrix.scale)) {
        return fail(Errc::NotFinite, "a factor or the scale is not finite");
    }
    SingularValues values { .error = 8 * kEpsilon };
    if (a.size(0) > 0) {
        const at::Tensor rightOfB = std::get<1>(at::linalg_qr(b, "r"));     // [k, r]
        const at::Tensor rightOfA = std::get<1>(at::linalg_qr(a.t(), "r")); // [k', r]
        values.sigma = falling(at::linalg_svdvals(at::mm(rightOfB, rightOfA.t())) * std::abs(matrix.scale));
    }
    values.sigma.resize(static_cast<std::size_t>(std::min(matrix.rows(), matrix.columns())), 0.0);
    return values;
}

/// Upper triangle of the Gram matrix of the shorter side, in double.
Result<at::Tensor> gramOf(const MatrixParts& matrix, const JobContext& job)
{
    const bool tall = matrix.rows() >= matrix.columns();
    const std::int64_t length = std::max(matrix.rows(), matrix.columns());
    const std::int64_t side = std::min(matrix.rows(), matrix.columns());
    at::Tensor gram = at::zeros({ side, side }, kDoubles);
    for (std::int64_t from = 0; from < length; from += kBlock) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped");
        }
        const std::int64_t count = std::min(kBlock, length - from);
        at::Tensor block = blockOf(matrix, tall, from, count, at::kDouble);
        block = tall ? block : block.t(); // [count, side]
        for (std::int64_t p = 0; p < side; p += kPanel) {
            const std::int64_t width = std::min(kPanel, side - p);
            gram.narrow(0, 0, p + width)
                .narrow(1, p, width)
                .addmm_(block.narrow(1, 0, p + width).t(), block.narrow(1, p, width));
        }
    }
    return gram;
}

/// Ritz values and weights of Lanczos runs on the Gram operator, one for each probe.
struct Quadrature {
    at::Tensor nodes;   ///< [p, steps] f64
    at::Tensor weights; ///< [p, steps] f64, summing to 1 over the steps
};

Result<Quadrature> lanczos(const at::Tensor& matrix, const EstimateOptions& options, const JobContext& job)
{
    const bool tall = matrix.size(0) >= matrix.size(1);
    const std::int64_t side = std::min(matrix.size(0), matrix.size(1));
    const std::int64_t p = options.probes;
    const std::int64_t steps = std::min(options.steps, side);
    const at::Tensor operand = tall ? matrix : matrix.t(); // [long, side]
    at::Tensor v = at::empty({ p, side }, at::TensorOptions().dtype(at::kFloat))
                       .normal_(0, 1, at::detail::createCPUGenerator(options.seed));
    v = v / v.norm(2, { 1 }, true);
    at::Tensor basis = at::empty({ p, steps, side }, v.options());
    at::Tensor tridiagonal = at::zeros({ p, steps, steps }, kDoubles);
    for (std::int64_t j = 0; j < steps; ++j) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped");
        }
        basis.select(1, j).copy_(v);
        at::Tensor w = at::mm(at::mm(v, operand.t()), operand); // [p, side]
        const at::Tensor known = basis.narrow(1, 0, j + 1);     // [p, j + 1, side]
        for (int pass = 0; pass < 2; ++pass) {                  // twice is enough
            const at::Tensor along = at::bmm(known, w.unsqueeze(2));
            if (pass == 0) {
                tridiagonal.select(1, j).select(1, j).copy_(along.select(1, j).squeeze(1));
            }
            w = w - at::bmm(known.transpose(1, 2), along).squeeze(2);
        }
        if (j + 1 == steps) {
            break;
        }
        const at::Tensor beta = w.norm(2, { 1 }, true);
        tridiagonal.select(1, j).select(1, j + 1).copy_(beta.squeeze(1));
        tridiagonal.select(1, j + 1).select(1, j).copy_(beta.squeeze(1));
        v = w / beta.clamp_min(1e-30);
    }
    const auto [nodes, vectors] = at::linalg_eigh(tridiagonal);
    return Quadrature { nodes.clamp_min(0), vectors.select(1, 0).square() };
}

/// The quantile function of the density that probes [from, to) found, at the middles of `side` equal parts: σ falling.
std::vector<double> quantiles(const Quadrature& found, std::int64_t from, std::int64_t to, std::int64_t side)
{
    std::vector<std::pair<double, double>> points; // σ, number of values it stands for
    const at::Tensor nodes = found.nodes.contiguous();
    const at::Tensor weights = found.weights.contiguous();
    const std::int64_t steps = nodes.size(1);
    for (std::int64_t i = from * steps; i < to * steps; ++i) {
        points.emplace_back(std::sqrt(nodes.const_data_ptr<double>()[i]),
                            weights.const_data_ptr<double>()[i] * static_cast<double>(side)
                                / static_cast<double>(to - from));
    }
    std::ranges::sort(points, std::greater<>());
    std::vector<double> middles(points.size());
    double sum = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
        middles[i] = sum + points[i].second / 2;
        sum += points[i].second;
    }
    std::vector<double> sigma(static_cast<std::size_t>(side));
    std::size_t next = 0;
    for (std::size_t k = 0; k < sigma.size(); ++k) {
        const double at = static_cast<double>(k) + 0.5;
        while (next < middles.size() && middles[next] < at) {
            ++next;
        }
        if (next == 0 || next == middles.size()) {
            sigma[k] = next == 0 ? points.front().first : points.back().first;
        } else {
            const double width = middles[next] - middles[next - 1];
            const double f = width > 0 ? (at - middles[next - 1]) / width : 0;
            sigma[k] = points[next - 1].first * (1 - f) + points[next].first * f;
        }
    }
    return sigma;
}

} // namespace

std::int64_t MatrixParts::rows() const
{
    return weight.defined() ? weight.size(0) : minus.defined() ? minus.size(0) : b.size(0);
}

std::int64_t MatrixParts::columns() const
{
    return weight.defined() ? weight.size(1) : minus.defined() ? minus.size(1) : a.size(1);
}

Result<SingularValues> singularValues(const MatrixParts& matrix, const JobContext& job)
{
    const at::NoGradGuard noGrad;
    RW_TRY_VOID(checkParts(matrix));
    if (matrix.lowRank()) {
        return ofProduct(matrix);
    }
    const std::int64_t side = std::min(matrix.rows(), matrix.columns());
    if (side == 0) {
        return SingularValues {};
    }
    const bool wide = (matrix.weight.defined() && matrix.weight.scalar_type() == at::kDouble)
        || (matrix.minus.defined() && matrix.minus.scalar_type() == at::kDouble);
    if (side <= kShortSide || wide) {
        const at::Tensor whole = blockOf(matrix, true, 0, matrix.rows(), at::kDouble);
        if (!allFinite(whole)) {
            return fail(Errc::NotFinite, "the matrix holds values that are not numbers");
        }
        return SingularValues { falling(at::linalg_svdvals(whole)), 8 * kEpsilon };
    }
    RW_TRY(const at::Tensor gram, gramOf(matrix, job));
    if (!allFinite(gram)) {
        return fail(Errc::NotFinite, "the matrix holds values that are not numbers");
    }
    SingularValues values { .sigma = falling(at::linalg_eigvalsh(gram, "U")) };
    for (double& value : values.sigma) {
        value = std::sqrt(value);
    }
    const double largest = values.sigma.front();
    const double smallest = values.sigma.back();
    const double doubt = static_cast<double>(side) * kEpsilon; // of λ, in λ_1
    values.error = !(largest > 0) ? 0 : std::min(std::sqrt(doubt), doubt * largest / (2 * std::max(smallest, 1e-300)));
    return values;
}

Result<SingularValues> estimateSingularValues(const MatrixParts& matrix, const EstimateOptions& options,
                                              const JobContext& job)
{
    const at::NoGradGuard noGrad;
    RW_TRY_VOID(checkParts(matrix));
    const std::int64_t side = std::min(matrix.rows(), matrix.columns());
    if (matrix.lowRank() || side < kEstimateFrom) {
        return singularValues(matrix, job);
    }
    const at::Tensor whole = blockOf(matrix, true, 0, matrix.rows(), at::kFloat);
    const double energy = std::pow(whole.norm().item<double>(), 2);
    if (!std::isfinite(energy)) {
        return fail(Errc::NotFinite, "the matrix holds values that are not numbers");
    }
    SingularValues values;
    if (!(energy > 0)) {
        values.sigma.assign(static_cast<std::size_t>(side), 0.0);
        return values;
    }
    RW_TRY(const Quadrature found, lanczos(whole, options, job));
    values.sigma = quantiles(found, 0, options.probes, side);
    // The largest value converges first, and the energy is known: the rest is scaled to it.
    const double largest = std::sqrt(std::min(energy, found.nodes.max().item<double>()));
    values.sigma.front() = largest;
    double rest = 0;
    for (std::size_t i = 1; i < values.sigma.size(); ++i) {
        rest += values.sigma[i] * values.sigma[i];
    }
    const double factor = rest > 0 ? std::sqrt(std::max(0.0, energy - largest * largest) / rest) : 1;
    for (std::size_t i = 1; i < values.sigma.size(); ++i) {
        values.sigma[i] = std::min(largest, values.sigma[i] * factor);
    }
    // How far half of the probes alone would be from the other half tells how far all are from the truth.
    if (options.probes > 1) {
        const std::vector<double> one = quantiles(found, 0, options.probes / 2, side);
        const std::vector<double> other = quantiles(found, options.probes / 2, options.probes, side);
        for (std::size_t i = 0; i < one.size(); ++i) {
            values.error = std::max(values.error, std::abs(one[i] - other[i]) / (2 * largest));
        }
    }
    return values;
}

Result<RandomizedSvd> randomizedSvd(const at::Tensor& matrix, const at::Tensor& omega, std::int64_t iterations)
{
    const at::NoGradGuard noGrad;
    if (matrix.dim() != 2 || omega.dim() != 2 || omega.size(0) != matrix.size(1)) {
        return fail(Errc::ShapeMismatch, "the test matrix does not fit the matrix");
    }
    at::Tensor q = std::get<0>(at::linalg_qr(at::mm(matrix, omega)));
    for (std::int64_t i = 0; i < iterations; ++i) {
        const at::Tensor z = std::get<0>(at::linalg_qr(at::mm(matrix.t(), q)));
        q = std::get<0>(at::linalg_qr(at::mm(matrix, z)));
    }
    const auto [u, sigma, vt] = at::linalg_svd(at::mm(q.t(), matrix), false);
    return RandomizedSvd { at::mm(q, u), sigma, vt };
}

} // namespace rankwise::analysis
