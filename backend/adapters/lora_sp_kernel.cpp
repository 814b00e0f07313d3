// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora_sp_kernel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

// The x86-64 baseline has 128-bit vectors only; the loops below gain a factor of 2 to 3 from 256 bits and FMA.
#if defined(__x86_64__) && !defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
#define RW_CLONES [[gnu::target_clones("arch=haswell", "default")]]
#else
#define RW_CLONES
#endif

namespace rankwise::adapters {

namespace {

constexpr std::int64_t kGroup = 128;        // tokens whose sums are added first among themselves
constexpr std::int64_t kFewCandidates = 12;
constexpr int kMaxHalvings = 12;
constexpr std::size_t kInsertionLimit = 40;
constexpr std::int64_t kLanes = 16;         // rows are padded to this many entries

std::int64_t padded(std::int64_t bank)
{
    return (bank + kLanes - 1) / kLanes * kLanes;
}

/// (sum, count) of the squares that reach `level`. `squares` is padded with zeros; level > 0.
template <class Real> struct Above {
    Real sum;
    Real count;
};

template <class Real>
[[gnu::always_inline]] inline Above<Real> sumAbove(const Real* squares, std::int64_t width, Real level)
{
    std::array<Real, kLanes> sums {};
    std::array<Real, kLanes> counts {};
    for (std::int64_t i = 0; i < width; i += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) {
            const Real value = squares[i + l];
            const bool hit = value >= level;
            sums[static_cast<std::size_t>(l)] += hit ? value : Real(0);
            counts[static_cast<std::size_t>(l)] += hit ? Real(1) : Real(0);
        }
    }
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) {
            sums[l] += sums[l + half];
            counts[l] += counts[l + half];
        }
    }
    return { sums[0], counts[0] };
}

/// Σ s² in double over the entries whose square (rounded to Real) is at least `level`.
template <class Real>
[[gnu::always_inline]] inline double exactAbove(const Real* scores, const Real* squares, std::int64_t width, Real level)
{
    std::array<double, kLanes> sums {};
    for (std::int64_t i = 0; i < width; i += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) {
            const double value = static_cast<double>(scores[i + l]);
            sums[static_cast<std::size_t>(l)] += squares[i + l] >= level ? value * value : 0.0;
        }
    }
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) {
            sums[l] += sums[l + half];
        }
    }
    return sums[0];
}

/// The rule by a full sort in double; any finite scores.
template <class Real> Cut<Real> selectBySorting(const Real* scores, std::int64_t bank, double eta)
{
    std::vector<std::int32_t> order(static_cast<std::size_t>(bank));
    double total = 0;
    for (std::int64_t i = 0; i < bank; ++i) {
        order[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i);
        total += static_cast<double>(scores[i]) * static_cast<double>(scores[i]);
    }
    if (total == 0) {
        return { std::numeric_limits<Real>::infinity(), -1, 0 };
    }
    std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
        return std::abs(scores[a]) > std::abs(scores[b]);
    });
    const double target = eta * (1 - kEnergySlack) * total;
    double sum = 0;
    for (std::int64_t k = 0; k < bank; ++k) {
        const std::int32_t index = order[static_cast<std::size_t>(k)];
        const double value = static_cast<double>(scores[index]);
        sum += value * value;
        if (sum >= target || k + 1 == bank) {
            return { std::abs(scores[index]), index, static_cast<std::int32_t>(k + 1) };
        }
    }
    return {};
}

/// Finishes a selection whose cut lies among the squares in [low, high): sorts those and walks.
template <class Real>
bool walkCandidates(const Real* scores, const Real* squares, std::int64_t bank, Real low, Real high, double sum,
                    double target, std::int32_t above, std::vector<std::int32_t>& candidates, Cut<Real>& cut)
{
    candidates.clear();
    for (std::int64_t i = 0; i < bank; ++i) {
        if (squares[i] >= low && squares[i] < high) {
            candidates.push_back(static_cast<std::int32_t>(i));
        }
    }
    const auto larger = [&](std::int32_t a, std::int32_t b) { return std::abs(scores[a]) > std::abs(scores[b]); };
    if (candidates.size() > kInsertionLimit) {
        std::ranges::stable_sort(candidates, larger);
    } else {  // std::stable_sort would allocate
        for (std::size_t i = 1; i < candidates.size(); ++i) {
            const std::int32_t moved = candidates[i];
            std::size_t hole = i;
            for (; hole > 0 && larger(moved, candidates[hole - 1]); --hole) {
                candidates[hole] = candidates[hole - 1];
            }
            candidates[hole] = moved;
        }
    }
    if (sum >= target) {
        return false;  // rounding of the bracket's sums: the cut lies above
    }
    for (const std::int32_t index : candidates) {
        const double value = static_cast<double>(scores[index]);
        sum += value * value;
        ++above;
        if (sum >= target) {
            cut = { std::abs(scores[index]), index, above };
            return true;
        }
    }
    return false;
}

/// `scores` and `squares` padded with zeros to `width`.
template <class Real>
[[gnu::always_inline]] inline Cut<Real> selectPadded(const Real* scores, const Real* squares, std::int64_t bank,
                                                     std::int64_t width, double eta,
                                                     std::vector<std::int32_t>& candidates)
{
    if (eta >= 1) {
        std::int32_t count = 0;
        for (std::int64_t i = 0; i < bank; ++i) {
            count += scores[i] != 0 ? 1 : 0;
        }
        return { Real(0), -1, count };
    }
    std::array<Real, kLanes> most {};
    for (std::int64_t i = 0; i < width; i += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) {
            const auto lane = static_cast<std::size_t>(l);
            most[lane] = squares[i + l] > most[lane] ? squares[i + l] : most[lane];
        }
    }
    const Real largest = *std::ranges::max_element(most);
    const Real total = sumAbove(squares, width, Real(0)).sum;
    if (!(largest > Real(1e-30)) || !(total < Real(1e30))) {
        return selectBySorting(scores, bank, eta);  // squares out of the range that the halving trusts
    }
    // S(t) = Σ squares >= t falls with t. Keep S(low) >= target > S(high) and halve.
    const Real target = static_cast<Real>(eta) * total;
    Real low = 0;
    Real high = std::nextafter(largest, std::numeric_limits<Real>::infinity());
    Real inside = static_cast<Real>(bank);
    Real above = 0;
    Real middle = static_cast<Real>(0.5) * largest;
    for (int step = 0; step < kMaxHalvings && inside > static_cast<Real>(kFewCandidates); ++step) {
        const Above<Real> reached = sumAbove(squares, width, middle);
        if (reached.sum >= target) {
            low = middle;
            inside = reached.count - above;
        } else {
            inside -= reached.count - above;
            high = middle;
            above = reached.count;
        }
        middle = static_cast<Real>(0.5) * (low + high);
        if (!(middle > low) || !(middle < high)) {
            break;
        }
    }
    const double exactTotal = exactAbove(scores, squares, width, Real(0));
    const double exactTarget = eta * (1 - kEnergySlack) * exactTotal;
    const double sum = exactAbove(scores, squares, width, high);
    Cut<Real> cut;
    if (walkCandidates(scores, squares, bank, low, high, sum, exactTarget, static_cast<std::int32_t>(above),
                       candidates, cut)) {
        return cut;
    }
    return selectBySorting(scores, bank, eta);
}

/// Buffers of one thread.
template <class Real> struct Row {
    std::int64_t width;
    std::vector<Real> raw, scores, squares, grad;
    std::vector<std::int32_t> candidates;

    explicit Row(std::int64_t bank)
        : width(padded(bank))
        , raw(static_cast<std::size_t>(width))
        , scores(static_cast<std::size_t>(width))
        , squares(static_cast<std::size_t>(width))
        , grad(static_cast<std::size_t>(width))
    {
    }
};

/// W2 transposed and padded, [m, width].
template <class Real> std::vector<Real> transposed(const Real* w2, std::int64_t bank, std::int64_t blocks)
{
    const std::int64_t width = padded(bank);
    std::vector<Real> result(static_cast<std::size_t>(blocks * width));
    for (std::int64_t r = 0; r < bank; ++r) {
        for (std::int64_t j = 0; j < blocks; ++j) {
            result[static_cast<std::size_t>(j * width + r)] = w2[r * blocks + j];
        }
    }
    return result;
}

/// raw = W2 g, scores = map(raw), squares = scores². Returns Σ squares. Same code forwards and backwards, so that
/// both see the same bits.
template <class Real>
[[gnu::always_inline]] inline Real scoreRow(Row<Real>& row, const Real* w2t, const Real* gates, std::int64_t bank,
                                            std::int64_t blocks, ScoreMap map)
{
    const std::int64_t width = row.width;
    Real* raw = row.raw.data();
    Real* scores = row.scores.data();
    Real* squares = row.squares.data();
    std::memset(raw, 0, static_cast<std::size_t>(width) * sizeof(Real));
    for (std::int64_t j = 0; j < blocks; ++j) {
        const Real gate = gates[j];
        const Real* column = w2t + j * width;
        for (std::int64_t i = 0; i < width; ++i) {
            raw[i] += gate * column[i];
        }
    }
    switch (map) {
    case ScoreMap::None:
        std::memcpy(scores, raw, static_cast<std::size_t>(width) * sizeof(Real));
        break;
    case ScoreMap::Relu:
        for (std::int64_t i = 0; i < width; ++i) {
            scores[i] = raw[i] < 0 ? Real(0) : raw[i];  // NaN stays NaN
        }
        break;
    case ScoreMap::Abs:
        for (std::int64_t i = 0; i < width; ++i) {
            scores[i] = std::abs(raw[i]);
        }
        break;
    case ScoreMap::Softplus:
        for (std::int64_t i = 0; i < bank; ++i) {
            scores[i] = raw[i] > Real(20) ? raw[i] : std::log1p(std::exp(raw[i]));
        }
        break;
    }
    std::array<Real, kLanes> sums {};
    for (std::int64_t i = 0; i < width; i += kLanes) {
        for (std::int64_t l = 0; l < kLanes; ++l) {
            squares[i + l] = scores[i + l] * scores[i + l];
            sums[static_cast<std::size_t>(l)] += squares[i + l];
        }
    }
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::size_t l = 0; l < half; ++l) {
            sums[l] += sums[l + half];
        }
    }
    return sums[0];
}

/// Sums of one group of tokens, laid out in one block of memory.
struct GroupSums {
    std::vector<double> gates, top, share, largest;
    std::vector<std::int64_t> ranks, kept;
    SelectSums sums;

    GroupSums(std::int64_t bank, std::int64_t blocks)
        : gates(static_cast<std::size_t>(blocks))
        , top(static_cast<std::size_t>(blocks))
        , share(static_cast<std::size_t>(padded(bank)))
        , largest(static_cast<std::size_t>(padded(bank)))
        , ranks(static_cast<std::size_t>(bank + 1))
        , kept(static_cast<std::size_t>(padded(bank)))
    {
    }
};

/// Softmax of one row; returns log Σ exp.
template <class Real>
[[gnu::always_inline]] inline Real softmaxRow(const Real* logits, std::int64_t blocks, Real* gates)
{
    Real most = logits[0];
    for (std::int64_t j = 1; j < blocks; ++j) {
        most = std::max(most, logits[j]);
    }
    Real sum = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        gates[j] = std::exp(logits[j] - most);
        sum += gates[j];
    }
    for (std::int64_t j = 0; j < blocks; ++j) {
        gates[j] /= sum;
    }
    return most + std::log(sum);
}

template <class Real> Real logSumExp(const Real* logits, std::int64_t blocks)
{
    Real most = logits[0];
    for (std::int64_t j = 1; j < blocks; ++j) {
        most = std::max(most, logits[j]);
    }
    Real sum = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        sum += std::exp(logits[j] - most);
    }
    return most + std::log(sum);
}

/// One token forwards: fills the outputs of row `t` and adds to the sums of its group.
template <class Real>
[[gnu::always_inline]] inline void forwardToken(const SelectForward<Real>& job, const Real* w2t, std::int64_t t,
                                                Row<Real>& row, GroupSums& group, Real* keptCount, Real* share,
                                                Real* largest)
{
    const std::int64_t bank = job.bank;
    const std::int64_t blocks = job.blocks;
    Real* gates = job.gates + t * blocks;
    const Real lse = softmaxRow(job.logits + t * blocks, blocks, gates);
    const Real total = scoreRow(row, w2t, gates, bank, blocks, job.map);
    const bool finite = std::isfinite(total) || std::ranges::all_of(row.scores, [](Real s) { return std::isfinite(s); });
    Cut<Real> cut { Real(-1), -1, static_cast<std::int32_t>(bank) };
    if (finite) {
        cut = selectPadded(row.scores.data(), row.squares.data(), bank, row.width, job.eta, row.candidates);
    }
    job.cuts[t] = cut;

    const Real* scores = row.scores.data();
    const Real* squares = row.squares.data();
    Real* keep = row.grad.data();  // 1 where kept
    const Real level = cut.level;
    const std::int64_t last = cut.last;
    for (std::int64_t i = 0; i < bank; ++i) {
        const Real size = std::abs(scores[i]);
        keep[i] = size > level ? Real(1) : Real(0);
    }
    for (std::int64_t i = 0; i <= last; ++i) {
        keep[i] = std::abs(scores[i]) >= level ? Real(1) : Real(0);
    }
    Real* masked = job.masked + t * bank;
    const Real poison = finite ? Real(0) : std::numeric_limits<Real>::quiet_NaN();
    if (job.projected) {
        const Real* z = job.projected + t * bank;
        for (std::int64_t i = 0; i < bank; ++i) {
            masked[i] = (keep[i] != 0 ? z[i] * scores[i] : Real(0)) + poison;
        }
    } else {
        for (std::int64_t i = 0; i < bank; ++i) {
            masked[i] = (keep[i] != 0 ? scores[i] : Real(0)) + poison;
        }
    }
    if (job.valid && job.valid[t] == 0) {
        return;
    }

    SelectSums& sums = group.sums;
    double energy = finite ? 1.0 : std::numeric_limits<double>::quiet_NaN();
    const double exactTotal = exactAbove(scores, squares, row.width, Real(0));
    if (finite && exactTotal > 0) {
        std::array<double, kLanes> dropped {};
        for (std::int64_t i = 0; i < row.width; i += kLanes) {
            for (std::int64_t l = 0; l < kLanes; ++l) {
                const double value = static_cast<double>(scores[i + l]);
                dropped[static_cast<std::size_t>(l)] += keep[i + l] != 0 ? 0.0 : value * value;
            }
        }
        double missing = 0;
        for (const double value : dropped) {
            missing += value;
        }
        energy = 1 - missing / exactTotal;
        sums.missing += missing / exactTotal;
        const Real scale = static_cast<Real>(1 / exactTotal);
        for (std::int64_t i = 0; i < bank; ++i) {
            const Real part = squares[i] * scale;
            share[i] += part;
            largest[i] = part > largest[i] ? part : largest[i];
            keptCount[i] += keep[i];
        }
    } else if (!finite) {
        sums.missing = std::numeric_limits<double>::quiet_NaN();
    }
    sums.energy += energy;
    sums.squaredLse += static_cast<double>(lse) * static_cast<double>(lse);
    ++sums.tokens;
    ++group.ranks[static_cast<std::size_t>(cut.count)];
    std::int64_t best = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        group.gates[static_cast<std::size_t>(j)] += static_cast<double>(gates[j]);
        best = gates[j] > gates[best] ? j : best;
    }
    group.top[static_cast<std::size_t>(best)] += 1;
}

template <class Real>
[[gnu::always_inline]] inline void forwardGroup(const SelectForward<Real>& job, const Real* w2t, std::int64_t from,
                                                std::int64_t to, Row<Real>& row, GroupSums& group)
{
    std::vector<Real> statistics(static_cast<std::size_t>(3 * row.width));
    Real* kept = statistics.data();
    Real* share = kept + row.width;
    Real* largest = share + row.width;
    for (std::int64_t t = from; t < to; ++t) {
        forwardToken(job, w2t, t, row, group, kept, share, largest);
    }
    for (std::int64_t i = 0; i < job.bank; ++i) {
        const auto at = static_cast<std::size_t>(i);
        group.kept[at] += static_cast<std::int64_t>(kept[i]);
        group.share[at] += static_cast<double>(share[i]);
        group.largest[at] = static_cast<double>(largest[i]);
    }
}

void addGroup(const GroupSums& group, std::int64_t bank, std::int64_t blocks, SelectSums& sums)
{
    sums.energy += group.sums.energy;
    sums.missing += group.sums.missing;
    sums.squaredLse += group.sums.squaredLse;
    sums.tokens += group.sums.tokens;
    for (std::int64_t j = 0; j < blocks; ++j) {
        sums.gates[j] += group.gates[static_cast<std::size_t>(j)];
        sums.top[j] += group.top[static_cast<std::size_t>(j)];
    }
    for (std::int64_t i = 0; i < bank; ++i) {
        const auto at = static_cast<std::size_t>(i);
        sums.kept[i] += group.kept[at];
        sums.share[i] += group.share[at];
        sums.largestShare[i] = std::max(sums.largestShare[i], group.largest[at]);
    }
    for (std::int64_t k = 0; k <= bank; ++k) {
        sums.ranks[k] += group.ranks[static_cast<std::size_t>(k)];
    }
}

/// One token backwards. `w2Grad` [m, width] is the group's.
template <class Real>
[[gnu::always_inline]] inline void backwardToken(const SelectBackward<Real>& job, const Real* w2t, std::int64_t t,
                                                 Row<Real>& row, Real* w2Grad)
{
    const std::int64_t bank = job.bank;
    const std::int64_t blocks = job.blocks;
    const Real* gates = job.gates + t * blocks;
    const Cut<Real> cut = job.cuts[t];
    scoreRow(row, w2t, gates, bank, blocks, job.map);
    const Real* scores = row.scores.data();
    Real* grad = row.grad.data();
    Real* keep = row.squares.data();  // squares are read before they become the mask
    const bool counted = !job.valid || job.valid[t] != 0;

    double total = 0;
    double missing = 0;
    for (std::int64_t i = 0; i < bank; ++i) {
        const double value = static_cast<double>(scores[i]);
        const Real size = std::abs(scores[i]);
        keep[i] = size > cut.level || (size == cut.level && i <= cut.last) ? Real(1) : Real(0);
        total += value * value;
        missing += keep[i] != 0 ? 0.0 : value * value;
    }
    Real keptSlope = 0;
    Real droppedSlope = 0;
    if (counted && job.missingGrad != 0 && total > 0) {
        keptSlope = static_cast<Real>(-2 * missing / (total * total) * job.missingGrad);
        droppedSlope = static_cast<Real>(2 * (total - missing) / (total * total) * job.missingGrad);
    }
    for (std::int64_t i = 0; i < bank; ++i) {
        grad[i] = scores[i] * (keep[i] != 0 ? keptSlope : droppedSlope);
    }
    if (job.maskedGrad) {
        const Real* upstream = job.maskedGrad + t * bank;
        if (job.projected) {
            const Real* z = job.projected + t * bank;
            Real* zGrad = job.projectedGrad + t * bank;
            for (std::int64_t i = 0; i < bank; ++i) {
                const Real kept = keep[i] != 0 ? upstream[i] : Real(0);
                grad[i] += kept * z[i];
                zGrad[i] = kept * scores[i];
            }
        } else {
            for (std::int64_t i = 0; i < bank; ++i) {
                grad[i] += keep[i] != 0 ? upstream[i] : Real(0);
            }
        }
    }
    const Real* raw = row.raw.data();
    switch (job.map) {
    case ScoreMap::None:
        break;
    case ScoreMap::Relu:
        for (std::int64_t i = 0; i < bank; ++i) {
            grad[i] = raw[i] > 0 ? grad[i] : Real(0);
        }
        break;
    case ScoreMap::Abs:
        for (std::int64_t i = 0; i < bank; ++i) {
            grad[i] = raw[i] > 0 ? grad[i] : (raw[i] < 0 ? -grad[i] : Real(0));
        }
        break;
    case ScoreMap::Softplus:
        for (std::int64_t i = 0; i < bank; ++i) {
            grad[i] *= Real(1) / (Real(1) + std::exp(-raw[i]));
        }
        break;
    }

    Real* logitsGrad = job.logitsGrad + t * blocks;
    Real mean = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        const Real* column = w2t + j * row.width;
        Real* columnGrad = w2Grad + j * row.width;
        const Real gate = gates[j];
        std::array<Real, kLanes> sums {};
        for (std::int64_t i = 0; i < row.width; i += kLanes) {
            for (std::int64_t l = 0; l < kLanes; ++l) {
                columnGrad[i + l] += gate * grad[i + l];
                sums[static_cast<std::size_t>(l)] += column[i + l] * grad[i + l];
            }
        }
        Real dot = 0;
        for (const Real value : sums) {
            dot += value;
        }
        if (counted && job.gatesGrad) {
            dot += static_cast<Real>(job.gatesGrad[j]);
        }
        logitsGrad[j] = dot;
        mean += gate * dot;
    }
    Real pull = 0;
    if (counted && job.squaredLseGrad != 0) {
        pull = static_cast<Real>(2 * job.squaredLseGrad) * logSumExp(job.logits + t * blocks, blocks);
    }
    for (std::int64_t j = 0; j < blocks; ++j) {
        logitsGrad[j] = gates[j] * (logitsGrad[j] - mean + pull);
    }
}

RW_CLONES void forwardGroups(const SelectForward<float>& job, const float* w2t, std::int64_t from, std::int64_t to,
                             Row<float>& row, GroupSums& group)
{
    forwardGroup(job, w2t, from, to, row, group);
}

RW_CLONES void forwardGroups(const SelectForward<double>& job, const double* w2t, std::int64_t from, std::int64_t to,
                             Row<double>& row, GroupSums& group)
{
    forwardGroup(job, w2t, from, to, row, group);
}

RW_CLONES void backwardTokens(const SelectBackward<float>& job, const float* w2t, std::int64_t from, std::int64_t to,
                              Row<float>& row, float* w2Grad)
{
    for (std::int64_t t = from; t < to; ++t) {
        backwardToken(job, w2t, t, row, w2Grad);
    }
}

RW_CLONES void backwardTokens(const SelectBackward<double>& job, const double* w2t, std::int64_t from, std::int64_t to,
                              Row<double>& row, double* w2Grad)
{
    for (std::int64_t t = from; t < to; ++t) {
        backwardToken(job, w2t, t, row, w2Grad);
    }
}

}  // namespace

template <class Real> Cut<Real> selectScores(const Real* scores, std::int64_t bank, double eta)
{
    Row<Real> row(bank);
    for (std::int64_t i = 0; i < bank; ++i) {
        row.scores[static_cast<std::size_t>(i)] = scores[i];
        row.squares[static_cast<std::size_t>(i)] = scores[i] * scores[i];
    }
    return selectPadded(row.scores.data(), row.squares.data(), bank, row.width, eta, row.candidates);
}

template <class Real> void selectForward(const SelectForward<Real>& job, SelectSums& sums)
{
    const std::vector<Real> w2t = transposed(job.w2, job.bank, job.blocks);
    const std::int64_t groups = (job.tokens + kGroup - 1) / kGroup;
    std::vector<GroupSums> parts(static_cast<std::size_t>(groups), GroupSums(job.bank, job.blocks));
    [[maybe_unused]] const int threads = static_cast<int>(std::clamp<std::int64_t>(job.threads, 1, std::max<std::int64_t>(groups, 1)));
#pragma omp parallel num_threads(threads)
    {
        Row<Real> row(job.bank);
#pragma omp for schedule(static)
        for (std::int64_t g = 0; g < groups; ++g) {
            forwardGroups(job, w2t.data(), g * kGroup, std::min(job.tokens, (g + 1) * kGroup), row,
                          parts[static_cast<std::size_t>(g)]);
        }
    }
    for (const GroupSums& part : parts) {
        addGroup(part, job.bank, job.blocks, sums);
    }
}

template <class Real> void selectBackward(const SelectBackward<Real>& job)
{
    const std::vector<Real> w2t = transposed(job.w2, job.bank, job.blocks);
    const std::int64_t width = padded(job.bank);
    const std::int64_t groups = (job.tokens + kGroup - 1) / kGroup;
    std::vector<Real> parts(static_cast<std::size_t>(groups * job.blocks * width));
    [[maybe_unused]] const int threads = static_cast<int>(std::clamp<std::int64_t>(job.threads, 1, std::max<std::int64_t>(groups, 1)));
#pragma omp parallel num_threads(threads)
    {
        Row<Real> row(job.bank);
#pragma omp for schedule(static)
        for (std::int64_t g = 0; g < groups; ++g) {
            backwardTokens(job, w2t.data(), g * kGroup, std::min(job.tokens, (g + 1) * kGroup), row,
                           parts.data() + g * job.blocks * width);
        }
    }
    for (std::int64_t r = 0; r < job.bank; ++r) {
        for (std::int64_t j = 0; j < job.blocks; ++j) {
            double sum = 0;
            for (std::int64_t g = 0; g < groups; ++g) {
                sum += static_cast<double>(parts[static_cast<std::size_t>((g * job.blocks + j) * width + r)]);
            }
            job.w2Grad[r * job.blocks + j] = sum;
        }
    }
}

template Cut<float> selectScores(const float*, std::int64_t, double);
template Cut<double> selectScores(const double*, std::int64_t, double);
template void selectForward(const SelectForward<float>&, SelectSums&);
template void selectForward(const SelectForward<double>&, SelectSums&);
template void selectBackward(const SelectBackward<float>&);
template void selectBackward(const SelectBackward<double>&);

}  // namespace rankwise::adapters
