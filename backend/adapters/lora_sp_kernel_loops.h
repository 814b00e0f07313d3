// The loops of lora_sp_kernel.cpp, which includes this text once for each instruction set, inside of a namespace of its
// own. Vectors of 32 bytes become one or two registers, as the instruction set has them.
// SPDX-License-Identifier: Apache-2.0
// No include guard: see above.

constexpr std::int64_t kGroup = 128; // tokens whose sums are added first among themselves
constexpr int kRounds = 4;           // of the search among all scores, each to a quarter of the bracket
constexpr int kShortRounds = 3;      // of the search among the candidates that are left
constexpr std::int64_t kPad = 16;    // rows of buffers are padded with zeros to a multiple of this

std::int64_t padded(std::int64_t count)
{
    return (count + kPad - 1) / kPad * kPad;
}

std::size_t at(std::int64_t index)
{
    return static_cast<std::size_t>(index);
}

/// 32 bytes of Real, and of integers as wide for its masks.
template <class Real> struct Lanes;
template <> struct Lanes<float> {
    using Vector [[gnu::vector_size(32)]] = float;
    using Mask [[gnu::vector_size(32)]] = std::int32_t;
    using Integer = std::int32_t;
    using Half [[gnu::vector_size(16)]] = float;
    static constexpr std::int64_t kCount = 8;
    static constexpr Integer kMagnitude = 0x7fff'ffff;
};
template <> struct Lanes<double> {
    using Vector [[gnu::vector_size(32)]] = double;
    using Mask [[gnu::vector_size(32)]] = std::int64_t;
    using Integer = std::int64_t;
    static constexpr std::int64_t kCount = 4;
    static constexpr Integer kMagnitude = 0x7fff'ffff'ffff'ffff;
};

template <class Real> using Vector = typename Lanes<Real>::Vector;
template <class Real> using Mask = typename Lanes<Real>::Mask;

template <class Real> RW_INLINE Vector<Real> load(const Real* from)
{
    Vector<Real> value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class Real> RW_INLINE void store(Real* to, Vector<Real> value)
{
    std::memcpy(to, &value, sizeof value);
}

/// `value` where `mask` is set, else 0.
template <class Real> RW_INLINE Vector<Real> where(Mask<Real> mask, Vector<Real> value)
{
    return reinterpret_cast<Vector<Real>>(reinterpret_cast<Mask<Real>>(value) & mask);
}

template <class Real> RW_INLINE Vector<Real> magnitude(Vector<Real> value)
{
    return reinterpret_cast<Vector<Real>>(reinterpret_cast<Mask<Real>>(value) & Lanes<Real>::kMagnitude);
}

RW_INLINE float sumOf(Vector<float> value)
{
    Lanes<float>::Half halves[2];
    std::memcpy(halves, &value, sizeof halves);
    const Lanes<float>::Half sum = halves[0] + halves[1];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

RW_INLINE double sumOf(Vector<double> value)
{
    return (value[0] + value[1]) + (value[2] + value[3]);
}

/// One bit for each lane that is set.
RW_INLINE unsigned bitsOf(Mask<float> mask)
{
#ifdef RW_WIDE_LOOPS
    return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#else
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 8; ++lane) {
        bits |= mask[lane] != 0 ? 1U << lane : 0U;
    }
    return bits;
#endif
}

RW_INLINE unsigned bitsOf(Mask<double> mask)
{
#ifdef RW_WIDE_LOOPS
    return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<__m256d>(mask)));
#else
    unsigned bits = 0;
    for (unsigned lane = 0; lane < 4; ++lane) {
        bits |= mask[lane] != 0 ? 1U << lane : 0U;
    }
    return bits;
#endif
}

/// Where a search stands: S(low) >= target > S(high), S(t) = Σ of the squares that reach t.
template <class Real> struct Bracket {
    Real low = 0;
    Real high = 0;
    Real sumAtLow = 0;
    Real sumAtHigh = 0;
};

/// Narrows the bracket to a quarter, by the squares in a padded list; `outside` is the sum of squares that reach every
/// level asked for. Without branches: which quarter it is cannot be predicted.
template <class Real>
RW_INLINE void quarter(const Real* squares, std::int64_t width, Real target, Real outside, Bracket<Real>& bracket)
{
    const Real step = static_cast<Real>(0.25) * (bracket.high - bracket.low);
    const Real levels[5] = { bracket.low, bracket.low + step, bracket.low + 2 * step, bracket.low + 3 * step,
                             bracket.high };
    Vector<Real> first {};
    Vector<Real> second {};
    Vector<Real> third {};
    for (std::int64_t i = 0; i < width; i += Lanes<Real>::kCount) {
        const Vector<Real> value = load(squares + i);
        first += where<Real>(value >= levels[1], value);
        second += where<Real>(value >= levels[2], value);
        third += where<Real>(value >= levels[3], value);
    }
    const Real sums[5] = { bracket.sumAtLow, outside + sumOf(first), outside + sumOf(second), outside + sumOf(third),
                           bracket.sumAtHigh };
    // Counted in integers, so that rounding cannot leave the order of the levels.
    const std::size_t reached = static_cast<std::size_t>(sums[1] >= target)
        + static_cast<std::size_t>(sums[2] >= target) + static_cast<std::size_t>(sums[3] >= target);
    bracket = { levels[reached], levels[reached + 1], sums[reached], sums[reached + 1] };
}

template <class Real> double squareOf(Real score)
{
    return static_cast<double>(score) * static_cast<double>(score);
}

/// The rule by a full sort in double; any finite scores.
template <class Real> Cut<Real> selectBySorting(const Real* scores, std::int64_t bank, double eta)
{
    std::vector<std::int32_t> order(at(bank));
    std::iota(order.begin(), order.end(), 0);
    Cut<Real> result;
    for (std::int64_t i = 0; i < bank; ++i) {
        result.total += squareOf(scores[i]);
    }
    result.level = std::numeric_limits<Real>::infinity();
    if (result.total == 0) {
        return result;
    }
    std::ranges::stable_sort(order,
                             [&](std::int32_t a, std::int32_t b) { return std::abs(scores[a]) > std::abs(scores[b]); });
    const double target = eta * (1 - kEnergySlack) * result.total;
    for (std::int64_t k = 0; k < bank; ++k) {
        const std::int32_t index = order[at(k)];
        result.kept += squareOf(scores[index]);
        if (result.kept >= target || k + 1 == bank) {
            result.level = std::abs(scores[index]);
            result.last = index;
            result.count = static_cast<std::int32_t>(k + 1);
            break;
        }
    }
    return result;
}

constexpr std::int64_t kShortList = 48; // a multiple of kPad

/// The squares in [low, high) in the order of their indices, padded with zeros.
template <class Real> struct ShortList {
    Real squares[kShortList];
    std::int32_t indices[kShortList];
    std::int64_t count = 0;
    std::int64_t above = 0; ///< Squares that reach high.
    bool complete = true;   ///< Whether all found room.
};

template <class Real>
RW_INLINE void collect(const Real* squares, std::int64_t width, const Bracket<Real>& bracket, ShortList<Real>& list)
{
    for (std::int64_t i = 0; i < width; i += Lanes<Real>::kCount) {
        const Vector<Real> value = load(squares + i);
        const unsigned high = bitsOf(value >= bracket.high);
        unsigned bits = bitsOf(value >= bracket.low) & ~high;
        list.above += std::popcount(high);
        for (; bits != 0; bits &= bits - 1) {
            if (list.count == kShortList) {
                list.complete = false;
                return;
            }
            const std::int64_t index = i + std::countr_zero(bits);
            list.indices[list.count] = static_cast<std::int32_t>(index);
            list.squares[list.count++] = squares[index];
        }
    }
    for (std::int64_t i = list.count; i < kShortList; ++i) {
        list.squares[i] = 0;
    }
}

/// Largest of the list below `bound`; 0 when there is none.
template <class Real> RW_INLINE Real largestBelow(const ShortList<Real>& list, Real bound)
{
    Vector<Real> most {};
    for (std::int64_t i = 0; i < kShortList; i += Lanes<Real>::kCount) {
        const Vector<Real> value = load(list.squares + i);
        const Vector<Real> below = where<Real>(value < bound, value);
        most = most > below ? most : below;
    }
    Real largest = most[0];
    for (std::int64_t lane = 1; lane < Lanes<Real>::kCount; ++lane) {
        largest = most[lane] > largest ? most[lane] : largest;
    }
    return largest;
}

/// Index of the n-th (from 1) of the list's squares that equal `value`, in the order of indices; -1 when their scores
/// differ nevertheless, so that the order is another.
template <class Real>
RW_INLINE std::int32_t nthOfTie(const Real* scores, const ShortList<Real>& list, Real value, std::int64_t n)
{
    std::int32_t found = -1;
    Real size = -1;
    for (std::int64_t i = 0; i < kShortList; i += Lanes<Real>::kCount) {
        for (unsigned bits = bitsOf(load(list.squares + i) == value); bits != 0; bits &= bits - 1) {
            const std::int32_t index = list.indices[i + std::countr_zero(bits)];
            const Real own = std::abs(scores[index]);
            if (size >= 0 && own != size) {
                return -1;
            }
            size = own;
            found = --n == 0 ? index : found;
        }
    }
    return found;
}

/// Takes the list's squares from the largest on, ties by index, until the sum reaches the target. False when rounding
/// could decide otherwise.
template <class Real>
RW_INLINE bool walk(const Real* scores, const ShortList<Real>& list, Real high, double target, Cut<Real>& cut)
{
    const double doubt = 4 * static_cast<double>(std::numeric_limits<Real>::epsilon()) * cut.total;
    if (cut.kept >= target - doubt) {
        return false; // the cut may lie above the bracket
    }
    Real bound = high;
    std::int64_t count = list.above;
    while (true) {
        const Real value = largestBelow(list, bound);
        if (!(value > 0)) {
            return false; // it lies below
        }
        std::int64_t ties = 0;
        for (std::int64_t i = 0; i < kShortList; i += Lanes<Real>::kCount) {
            ties += std::popcount(bitsOf(load(list.squares + i) == value));
        }
        const auto square = static_cast<double>(value);
        const double all = cut.kept + static_cast<double>(ties) * square;
        if (all < target - doubt) {
            cut.kept = all;
            count += ties;
            bound = value;
            continue;
        }
        const auto taken = static_cast<std::int64_t>(std::ceil((target - cut.kept) / square));
        const double reached = cut.kept + static_cast<double>(taken) * square;
        if (taken > ties || reached - target < doubt || target - (reached - square) < doubt) {
            return false;
        }
        cut.last = nthOfTie(scores, list, value, taken);
        if (cut.last < 0) {
            return false;
        }
        cut.level = std::abs(scores[cut.last]);
        cut.count = static_cast<std::int32_t>(count + taken);
        cut.kept = reached;
        return true;
    }
}

/// `scores` and `squares` padded with zeros to `width`; `total` and `largest` of the squares.
template <class Real>
RW_INLINE Cut<Real> selectPadded(const Real* scores, const Real* squares, std::int64_t bank, std::int64_t width,
                                 Real total, Real largest, double eta)
{
    if (eta >= 1) {
        Cut<Real> cut;
        for (std::int64_t i = 0; i < bank; ++i) {
            cut.total += squareOf(scores[i]);
            cut.count += scores[i] != 0 ? 1 : 0;
        }
        cut.kept = cut.total;
        return cut;
    }
    if (!(largest > Real(1e-30)) || !(total < Real(1e30))) {
        return selectBySorting(scores, bank, eta); // squares out of the range that the search trusts
    }
    const double exactTarget = eta * (1 - kEnergySlack) * static_cast<double>(total);
    const Real target = static_cast<Real>(exactTarget);
    Bracket<Real> bracket { 0, std::nextafter(largest, std::numeric_limits<Real>::infinity()), total, 0 };
    for (int round = 0; round < kRounds; ++round) {
        quarter(squares, width, target, Real(0), bracket);
        // No more squares can lie inside than these would make up the energy in between.
        if (bracket.sumAtLow - bracket.sumAtHigh <= static_cast<Real>(kShortList - 8) * bracket.low) {
            break;
        }
    }
    ShortList<Real> list;
    collect(squares, width, bracket, list);
    if (!list.complete) {
        return selectBySorting(scores, bank, eta);
    }
    Cut<Real> cut;
    cut.total = static_cast<double>(total);
    const std::int64_t inside = list.count;
    Bracket<Real> narrow = bracket;
    for (int round = 0; inside > 8 && round < kShortRounds; ++round) {
        quarter(list.squares, kShortList, target, bracket.sumAtHigh, narrow);
    }
    cut.kept = static_cast<double>(narrow.sumAtHigh);
    for (std::int64_t i = 0; i < kShortList; i += Lanes<Real>::kCount) {
        list.above += std::popcount(bitsOf(load(list.squares + i) >= narrow.high));
    }
    if (walk(scores, list, narrow.high, exactTarget, cut)) {
        return cut;
    }
    return selectBySorting(scores, bank, eta);
}

/// Buffers of one thread; all padded with zeros.
template <class Real> struct Row {
    std::int64_t width;      ///< padded(bank)
    std::int64_t inputWidth; ///< padded(input width)
    std::vector<Real> raw, scores, squares, grad, product, input, factors;

    Row(std::int64_t bank, std::int64_t inputs)
        : width(padded(bank)), inputWidth(padded(inputs)), raw(at(width)), scores(at(width)), squares(at(width)),
          grad(at(width)), product(at(width)), input(at(inputWidth)), factors(at(inputWidth))
    {
    }
};

/// Weights in the layout of the loops: W1 padded [m, D'], W2 transposed and padded [m, R'].
template <class Real> struct Weights {
    std::vector<Real> w1, w2t;

    explicit Weights(const SelectShape<Real>& job)
        : w1(at(job.blocks * padded(job.width))), w2t(at(job.blocks * padded(job.bank)))
    {
        for (std::int64_t j = 0; j < job.blocks; ++j) {
            std::copy_n(job.w1 + j * job.width, job.width, w1.data() + j * padded(job.width));
            for (std::int64_t r = 0; r < job.bank; ++r) {
                w2t[at(j * padded(job.bank) + r)] = job.w2[r * job.blocks + j];
            }
        }
    }
};

/// A hash of 32 bits with good avalanche (two rounds of multiply and xor-shift).
RW_INLINE std::uint32_t scrambled(std::uint32_t value)
{
    value ^= value >> 16;
    value *= 0x7feb'352dU;
    value ^= value >> 15;
    value *= 0x846c'a68bU;
    return value ^ (value >> 16);
}

template <class Real>
RW_INLINE void fillFactors(const RouterDropout& dropout, std::int64_t t, std::int64_t width, Real* factors)
{
    // Two entries share a hash: i takes its lower half, i + half the upper.
    const auto threshold = static_cast<std::uint32_t>(dropout.probability * 65536.0 + 0.5);
    const Real scale = static_cast<Real>(65536.0 / (65536.0 - threshold));
    const std::uint32_t key =
        scrambled(scrambled(static_cast<std::uint32_t>(dropout.seed) ^ static_cast<std::uint32_t>(t))
                  + static_cast<std::uint32_t>(dropout.seed >> 32));
    const std::int64_t half = width / 2;
    Real* upper = factors + half;
    const auto bitsAt = [key](std::int64_t i) {
        // A Weyl sequence from a well-mixed start; one round mixes its steps.
        std::uint32_t bits = key + static_cast<std::uint32_t>(i) * 0x9e37'79b9U;
        bits = (bits ^ (bits >> 15)) * 0x846c'a68bU;
        return bits ^ (bits >> 16);
    };
    for (std::int64_t i = 0; i < half; ++i) {
        const std::uint32_t bits = bitsAt(i);
        factors[i] = (bits & 0xffffU) >= threshold ? scale : Real(0);
        upper[i] = (bits >> 16) >= threshold ? scale : Real(0);
    }
    if (width % 2 != 0) {
        factors[width - 1] = (bitsAt(half) & 0xffffU) >= threshold ? scale : Real(0);
    }
}

/// The router's input of token t after dropout, padded: in place where it can be, else in row.input.
template <class Real> RW_INLINE const Real* readInput(const SelectShape<Real>& job, std::int64_t t, Row<Real>& row)
{
    const Real* source = job.input + t * job.width;
    Real* input = row.input.data();
    if (job.width != row.inputWidth) {
        std::copy_n(source, job.width, input);
        source = input;
    }
    if (job.dropout.probability <= 0) {
        return source;
    }
    const Real* factors = row.factors.data();
    fillFactors(job.dropout, t, job.width, row.factors.data());
    for (std::int64_t i = 0; i < row.inputWidth; i += Lanes<Real>::kCount) {
        store<Real>(input + i, load(source + i) * load(factors + i));
    }
    return input;
}

template <class Real> RW_INLINE Real dotOf(const Real* a, const Real* b, std::int64_t width)
{
    Vector<Real> first {};
    Vector<Real> second {};
    std::int64_t i = 0;
    for (; i + 2 * Lanes<Real>::kCount <= width; i += 2 * Lanes<Real>::kCount) {
        first += load(a + i) * load(b + i);
        second += load(a + i + Lanes<Real>::kCount) * load(b + i + Lanes<Real>::kCount);
    }
    for (; i < width; i += Lanes<Real>::kCount) {
        first += load(a + i) * load(b + i);
    }
    return sumOf(first + second);
}

/// exp of values in [-87, 0], to about 1e-7 relative: 2^n · a polynomial on [-ln 2 / 2, ln 2 / 2].
RW_INLINE Vector<float> expOf(Vector<float> x)
{
    constexpr float kRound = 12582912.0F; // 1.5 · 2^23: adding it rounds to a whole number
    x = x > -87.0F ? x : Vector<float> {} - 87.0F;
    const Vector<float> shifted = x * 1.44269504F + kRound;
    const Vector<float> n = shifted - kRound;
    const Vector<float> r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
    Vector<float> y = r * 1.9875691500e-4F + 1.3981999507e-3F;
    y = y * r + 8.3334519073e-3F;
    y = y * r + 4.1665795894e-2F;
    y = y * r + 1.6666665459e-1F;
    y = y * r + 5.0000001201e-1F;
    y = y * r * r + r + 1.0F;
    const Mask<float> exponent = (reinterpret_cast<Mask<float>>(shifted) - 0x4b40'0000 + 127) << 23;
    return y * reinterpret_cast<Vector<float>>(exponent);
}

/// gates[j] = exp(gates[j] - most), and their sum.
RW_INLINE float exponentials(std::int64_t blocks, float most, float* gates)
{
    float sum = 0;
    for (std::int64_t j = 0; j < blocks; j += 8) {
        const std::int64_t count = std::min<std::int64_t>(8, blocks - j);
        float row[8] = { most, most, most, most, most, most, most, most };
        std::copy_n(gates + j, count, row);
        const Vector<float> x = load(row) - most;
        const Vector<float> y = expOf(x);
        store<float>(row, y);
        for (std::int64_t l = 0; l < count; ++l) {
            gates[j + l] = std::isfinite(x[l]) ? row[l] : std::exp(x[l]);
            sum += gates[j + l];
        }
    }
    return sum;
}

RW_INLINE double exponentials(std::int64_t blocks, double most, double* gates)
{
    double sum = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        gates[j] = std::exp(gates[j] - most);
        sum += gates[j];
    }
    return sum;
}

/// Softmax in place; returns log Σ exp.
template <class Real> RW_INLINE Real softmaxRow(std::int64_t blocks, Real* gates)
{
    Real most = gates[0];
    for (std::int64_t j = 1; j < blocks; ++j) {
        most = std::max(most, gates[j]);
    }
    const Real sum = exponentials(blocks, most, gates);
    const Real scale = 1 / sum;
    for (std::int64_t j = 0; j < blocks; ++j) {
        gates[j] *= scale;
    }
    return most + std::log(sum);
}

/// sums = Σ_j column_j · gate_j. `Fixed` is the number of blocks where it is known, else 0.
template <class Real, std::int64_t Fixed>
RW_INLINE void combineColumns(const Real* columns, const Real* gates, std::int64_t width, std::int64_t blocks,
                              Real* sums)
{
    const std::int64_t count = Fixed > 0 ? Fixed : blocks;
    for (std::int64_t i = 0; i < width; i += Lanes<Real>::kCount) {
        Vector<Real> sum {};
        for (std::int64_t j = 0; j < count; ++j) {
            sum += load(columns + j * width + i) * gates[j];
        }
        store<Real>(sums + i, sum);
    }
}

/// columnGrads_j += grad · gate_j; dots_j = Σ column_j · grad.
template <class Real, std::int64_t Fixed>
RW_INLINE void spreadGradient(const Real* columns, const Real* gates, const Real* grad, std::int64_t width,
                              std::int64_t blocks, Real* columnGrads, Real* dots)
{
    if constexpr (Fixed > 0) {
        Vector<Real> sums[static_cast<std::size_t>(Fixed)] {};
        for (std::int64_t i = 0; i < width; i += Lanes<Real>::kCount) {
            const Vector<Real> g = load(grad + i);
            for (std::int64_t j = 0; j < Fixed; ++j) {
                Real* target = columnGrads + j * width + i;
                store<Real>(target, load(target) + g * gates[j]);
                sums[j] += load(columns + j * width + i) * g;
            }
        }
        for (std::int64_t j = 0; j < Fixed; ++j) {
            dots[j] = sumOf(sums[j]);
        }
    } else {
        for (std::int64_t j = 0; j < blocks; ++j) {
            Vector<Real> sum {};
            for (std::int64_t i = 0; i < width; i += Lanes<Real>::kCount) {
                const Vector<Real> g = load(grad + i);
                Real* target = columnGrads + j * width + i;
                store<Real>(target, load(target) + g * gates[j]);
                sum += load(columns + j * width + i) * g;
            }
            dots[j] = sumOf(sum);
        }
    }
}

/// raw = W2 g, scores = map(raw). Same code forwards and backwards, so that both see the same bits.
template <class Real>
RW_INLINE void scoreRow(Row<Real>& row, const Real* w2t, const Real* gates, std::int64_t bank, std::int64_t blocks,
                        ScoreMap map)
{
    Real* raw = row.raw.data();
    Real* scores = row.scores.data();
    const std::int64_t width = row.width;
    if (blocks == 4) {
        combineColumns<Real, 4>(w2t, gates, width, blocks, raw);
    } else {
        combineColumns<Real, 0>(w2t, gates, width, blocks, raw);
    }
    switch (map) {
    case ScoreMap::None:
        std::memcpy(scores, raw, at(width) * sizeof(Real));
        break;
    case ScoreMap::Relu:
        for (std::int64_t i = 0; i < width; ++i) {
            scores[i] = raw[i] < 0 ? Real(0) : raw[i]; // NaN stays NaN
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
}

template <class Real> constexpr std::array<typename Lanes<Real>::Integer, 8> kLaneIndex { 0, 1, 2, 3, 4, 5, 6, 7 };

/// Which of the lanes from index i on a cut keeps.
template <class Real>
RW_INLINE Mask<Real> keptLanes(Vector<Real> scores, const Cut<Real>& cut, std::int64_t i, Mask<Real> lanes)
{
    const Vector<Real> size = magnitude<Real>(scores);
    const auto last = static_cast<typename Lanes<Real>::Integer>(cut.last - i);
    return (size > cut.level) | ((size == cut.level) & (lanes <= last));
}

template <class Real> RW_INLINE Mask<Real> laneIndices()
{
    Mask<Real> lanes;
    std::memcpy(&lanes, kLaneIndex<Real>.data(), sizeof lanes);
    return lanes;
}

/// Sums of one group of tokens.
template <class Real> struct GroupSums {
    std::vector<double> gates, top;
    std::vector<std::int64_t> ranks;
    std::vector<Real> share, largest;
    std::vector<typename Lanes<Real>::Integer> kept;
    SelectSums sums;

    GroupSums(std::int64_t bank, std::int64_t blocks)
        : gates(at(blocks)), top(at(blocks)), ranks(at(bank + 1)), share(at(padded(bank))), largest(at(padded(bank))),
          kept(at(padded(bank)))
    {
    }
};

/// Σ and maximum of the squares, which it writes.
template <class Real> RW_INLINE void squareRow(Row<Real>& row, Real& total, Real& largest)
{
    Vector<Real> sum {};
    Vector<Real> most {};
    for (std::int64_t i = 0; i < row.width; i += Lanes<Real>::kCount) {
        const Vector<Real> score = load(row.scores.data() + i);
        const Vector<Real> square = score * score;
        store<Real>(row.squares.data() + i, square);
        sum += square;
        most = most > square ? most : square;
    }
    total = sumOf(sum);
    largest = 0;
    for (std::int64_t lane = 0; lane < Lanes<Real>::kCount; ++lane) {
        largest = std::max(largest, most[lane]);
    }
}

/// masked = z ⊙ s where kept, and the sums for each vector with weight `scale` = 1/Σs² (0: not counted).
template <class Real>
RW_INLINE void maskRow(const SelectForward<Real>& job, std::int64_t t, const Cut<Real>& cut, bool counted, Real scale,
                       Row<Real>& row, GroupSums<Real>& group)
{
    const bool whole = job.bank == row.width;
    const Real* z = job.projected ? job.projected + t * job.bank : nullptr;
    Real* masked = whole ? job.masked + t * job.bank : row.grad.data();
    if (z && !whole) {
        std::copy_n(z, job.bank, row.product.data());
        z = row.product.data();
    }
    const Mask<Real> lanes = laneIndices<Real>();
    for (std::int64_t i = 0; i < row.width; i += Lanes<Real>::kCount) {
        const Vector<Real> score = load(row.scores.data() + i);
        const Mask<Real> keep = keptLanes<Real>(score, cut, i, lanes);
        store<Real>(masked + i, where<Real>(keep, z ? load(z + i) * score : score));
        if (counted) {
            const Vector<Real> part = load(row.squares.data() + i) * scale;
            store<Real>(group.share.data() + i, load(group.share.data() + i) + part);
            const Vector<Real> most = load(group.largest.data() + i);
            store<Real>(group.largest.data() + i, most > part ? most : part);
            Mask<Real> count;
            std::memcpy(&count, group.kept.data() + i, sizeof count);
            count -= keep;
            std::memcpy(group.kept.data() + i, &count, sizeof count);
        }
    }
    if (!whole) {
        std::copy_n(masked, job.bank, job.masked + t * job.bank);
    }
}

/// One token forwards: fills the outputs of row `t` and adds to the sums of its group.
template <class Real>
RW_INLINE void forwardToken(const SelectForward<Real>& job, const Weights<Real>& weights, std::int64_t t,
                            Row<Real>& row, GroupSums<Real>& group)
{
    const std::int64_t bank = job.bank;
    const std::int64_t blocks = job.blocks;
    Real* gates = job.gates + t * blocks;
    const Real* input = readInput(job, t, row);
    for (std::int64_t j = 0; j < blocks; ++j) {
        gates[j] = dotOf(input, weights.w1.data() + j * row.inputWidth, row.inputWidth);
    }
    const Real lse = softmaxRow(blocks, gates);
    job.lse[t] = lse;
    scoreRow(row, weights.w2t.data(), gates, bank, blocks, job.map);
    Real total = 0;
    Real largest = 0;
    squareRow(row, total, largest);
    const bool counted = !job.valid || job.valid[t] != 0;
    const bool finite =
        std::isfinite(total) || std::ranges::all_of(row.scores, [](Real s) { return std::isfinite(s); });
    SelectSums& sums = group.sums;
    if (!finite) {
        constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
        job.cuts[t] = { Real(-1), -1, static_cast<std::int32_t>(bank), kNaN, kNaN };
        std::fill_n(job.masked + t * bank, bank, std::numeric_limits<Real>::quiet_NaN());
        sums.missing = counted ? kNaN : sums.missing;
        sums.energy = counted ? kNaN : sums.energy;
    } else {
        const Cut<Real> chosen =
            selectPadded(row.scores.data(), row.squares.data(), bank, row.width, total, largest, job.eta);
        job.cuts[t] = chosen;
        const bool some = chosen.total > 0;
        maskRow(job, t, chosen, counted && some && t % job.stride == 0,
                some ? static_cast<Real>(1 / chosen.total) : Real(0), row, group);
        const double energy = some ? std::min(1.0, chosen.kept / chosen.total) : 1.0;
        sums.energy += counted ? energy : 0;
        sums.missing += counted ? 1 - energy : 0;
    }
    if (!counted) {
        return;
    }
    sums.squaredLse += static_cast<double>(lse) * static_cast<double>(lse);
    ++sums.tokens;
    sums.sampled += t % job.stride == 0 ? 1 : 0;
    ++group.ranks[at(job.cuts[t].count)];
    std::int64_t best = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        group.gates[at(j)] += static_cast<double>(gates[j]);
        best = gates[j] > gates[best] ? j : best;
    }
    group.top[at(best)] += 1;
}

template <class Real>
void addGroup(const GroupSums<Real>& group, std::int64_t bank, std::int64_t blocks, SelectSums& sums)
{
    sums.energy += group.sums.energy;
    sums.missing += group.sums.missing;
    sums.squaredLse += group.sums.squaredLse;
    sums.tokens += group.sums.tokens;
    sums.sampled += group.sums.sampled;
    for (std::int64_t j = 0; j < blocks; ++j) {
        sums.gates[j] += group.gates[at(j)];
        sums.top[j] += group.top[at(j)];
    }
    for (std::int64_t i = 0; i < bank; ++i) {
        sums.kept[i] += static_cast<std::int64_t>(group.kept[at(i)]);
        sums.share[i] += static_cast<double>(group.share[at(i)]);
        sums.largestShare[i] = std::max(sums.largestShare[i], static_cast<double>(group.largest[at(i)]));
    }
    for (std::int64_t k = 0; k <= bank; ++k) {
        sums.ranks[k] += group.ranks[at(k)];
    }
}

/// Gradient at the scores of token t in row.grad, from the spectral loss and from `masked`; writes that at z.
template <class Real>
RW_INLINE void scoreGradient(const SelectBackward<Real>& job, std::int64_t t, bool counted, Row<Real>& row)
{
    const bool whole = job.bank == row.width;
    const Cut<Real> cut = job.cuts[t];
    const Mask<Real> lanes = laneIndices<Real>();
    Vector<Real> keptSlope {};
    Vector<Real> droppedSlope {};
    if (counted && job.missingGrad != 0) {
        const double kept = cut.kept;
        const double total = cut.total;
        if (total > 0) {
            keptSlope += static_cast<Real>(-2 * std::max(0.0, total - kept) / (total * total) * job.missingGrad);
            droppedSlope += static_cast<Real>(2 * kept / (total * total) * job.missingGrad);
        }
    }
    const Real* upstream = job.maskedGrad ? job.maskedGrad + t * job.bank : nullptr;
    const Real* z = job.projected ? job.projected + t * job.bank : nullptr;
    Real* zGrad = job.projectedGrad ? job.projectedGrad + t * job.bank : nullptr;
    if (!whole && upstream) { // squares are free here: upstream; product: z, then its gradient
        std::copy_n(upstream, job.bank, row.squares.data());
        upstream = row.squares.data();
    }
    if (!whole && z) {
        std::copy_n(z, job.bank, row.product.data());
        z = row.product.data();
    }
    Real* zGradRow = whole ? zGrad : row.product.data();
    for (std::int64_t i = 0; i < row.width; i += Lanes<Real>::kCount) {
        const Vector<Real> score = load(row.scores.data() + i);
        const Mask<Real> keep = keptLanes<Real>(score, cut, i, lanes);
        Vector<Real> grad = score * (where<Real>(keep, keptSlope) + where<Real>(~keep, droppedSlope));
        if (upstream) {
            const Vector<Real> through = where<Real>(keep, load(upstream + i));
            if (z) {
                grad += through * load(z + i);
                if (zGrad) {
                    store<Real>(zGradRow + i, through * score);
                }
            } else {
                grad += through;
            }
        }
        store<Real>(row.grad.data() + i, grad);
    }
    if (!whole && zGrad && upstream && z) {
        std::copy_n(row.product.data(), job.bank, zGrad);
    }
}

/// From the gradient at the mapped scores to that at the raw ones.
template <class Real> RW_INLINE void unmap(ScoreMap map, std::int64_t bank, Row<Real>& row)
{
    const Real* raw = row.raw.data();
    Real* grad = row.grad.data();
    switch (map) {
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
    for (std::int64_t i = bank; i < row.width; ++i) {
        grad[i] = 0;
    }
}

/// Gradient at the router's input of token t; row.factors still hold its dropout.
template <class Real>
RW_INLINE void writeInputGrad(const SelectBackward<Real>& job, const Weights<Real>& weights, std::int64_t t,
                              const Real* slopes, Row<Real>& row)
{
    const bool whole = job.width == row.inputWidth;
    Real* target = whole ? job.inputGrad + t * job.width : row.input.data();
    if (job.blocks == 4) {
        combineColumns<Real, 4>(weights.w1.data(), slopes, row.inputWidth, job.blocks, target);
    } else {
        combineColumns<Real, 0>(weights.w1.data(), slopes, row.inputWidth, job.blocks, target);
    }
    if (job.dropout.probability > 0) {
        for (std::int64_t i = 0; i < row.inputWidth; i += Lanes<Real>::kCount) {
            store<Real>(target + i, load(target + i) * load(row.factors.data() + i));
        }
    }
    if (!whole) {
        std::copy_n(target, job.width, job.inputGrad + t * job.width);
    }
}

/// One token backwards. The weight gradients [m, R'] and [m, D'] are the group's.
template <class Real>
RW_INLINE void backwardToken(const SelectBackward<Real>& job, const Weights<Real>& weights, std::int64_t t,
                             Row<Real>& row, Real* w2Grad, Real* w1Grad)
{
    const std::int64_t blocks = job.blocks;
    const Real* gates = job.gates + t * blocks;
    const bool counted = !job.valid || job.valid[t] != 0;
    scoreRow(row, weights.w2t.data(), gates, job.bank, blocks, job.map);
    scoreGradient(job, t, counted, row);
    unmap(job.map, job.bank, row);

    Real* logitsGrad = job.logitsGrad + t * blocks;
    const Real* grad = row.grad.data();
    if (blocks == 4) {
        spreadGradient<Real, 4>(weights.w2t.data(), gates, grad, row.width, blocks, w2Grad, logitsGrad);
    } else {
        spreadGradient<Real, 0>(weights.w2t.data(), gates, grad, row.width, blocks, w2Grad, logitsGrad);
    }
    Real mean = 0;
    for (std::int64_t j = 0; j < blocks; ++j) {
        if (counted && job.gatesGrad) {
            logitsGrad[j] += static_cast<Real>(job.gatesGrad[j]);
        }
        mean += gates[j] * logitsGrad[j];
    }
    const Real pull = counted ? static_cast<Real>(2 * job.squaredLseGrad) * job.lse[t] : Real(0);
    const Real* input = readInput(job, t, row);
    for (std::int64_t j = 0; j < blocks; ++j) {
        const Real slope = gates[j] * (logitsGrad[j] - mean + pull);
        logitsGrad[j] = slope;
        Real* target = w1Grad + j * row.inputWidth;
        for (std::int64_t i = 0; i < row.inputWidth; i += Lanes<Real>::kCount) {
            store<Real>(target + i, load(target + i) + load(input + i) * slope);
        }
    }
    if (job.inputGrad) {
        writeInputGrad(job, weights, t, logitsGrad, row);
    }
}

/// Runs body(group, row) for each group of tokens, on `threads` threads.
template <class Real, class Body> void forEachGroup(const SelectShape<Real>& job, const Body& body)
{
    const std::int64_t groups = (job.tokens + kGroup - 1) / kGroup;
    [[maybe_unused]] const int threads =
        static_cast<int>(std::clamp<std::int64_t>(job.threads, 1, std::max<std::int64_t>(groups, 1)));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Row<Real> row(job.bank, job.width);
#pragma omp for schedule(static)
        for (std::int64_t g = 0; g < groups; ++g) {
            body(g, row);
        }
    }
}

template <class Real> Cut<Real> selectScores(const Real* scores, std::int64_t bank, double eta)
{
    Row<Real> row(bank, 0);
    std::copy_n(scores, bank, row.scores.data());
    Real total = 0;
    Real largest = 0;
    squareRow(row, total, largest);
    return selectPadded(row.scores.data(), row.squares.data(), bank, row.width, total, largest, eta);
}

template <class Real> void selectForward(const SelectForward<Real>& job, SelectSums& sums)
{
    const Weights<Real> weights(job);
    const std::int64_t groups = (job.tokens + kGroup - 1) / kGroup;
    std::vector<GroupSums<Real>> parts(at(groups), GroupSums<Real>(job.bank, job.blocks));
    forEachGroup<Real>(job, [&](std::int64_t g, Row<Real>& row) {
        for (std::int64_t t = g * kGroup; t < std::min(job.tokens, (g + 1) * kGroup); ++t) {
            forwardToken(job, weights, t, row, parts[at(g)]);
        }
    });
    for (const GroupSums<Real>& part : parts) {
        addGroup(part, job.bank, job.blocks, sums);
    }
}

template <class Real> void selectBackward(const SelectBackward<Real>& job)
{
    const Weights<Real> weights(job);
    const std::int64_t width = padded(job.bank);
    const std::int64_t inputWidth = padded(job.width);
    const std::int64_t groups = (job.tokens + kGroup - 1) / kGroup;
    std::vector<Real> w2Parts(at(groups * job.blocks * width));
    std::vector<Real> w1Parts(at(groups * job.blocks * inputWidth));
    forEachGroup<Real>(job, [&](std::int64_t g, Row<Real>& row) {
        for (std::int64_t t = g * kGroup; t < std::min(job.tokens, (g + 1) * kGroup); ++t) {
            backwardToken(job, weights, t, row, w2Parts.data() + g * job.blocks * width,
                          w1Parts.data() + g * job.blocks * inputWidth);
        }
    });
    std::fill_n(job.w2Grad, job.bank * job.blocks, 0.0);
    std::fill_n(job.w1Grad, job.width * job.blocks, 0.0);
    for (std::int64_t g = 0; g < groups; ++g) {
        for (std::int64_t j = 0; j < job.blocks; ++j) {
            const Real* w2Part = w2Parts.data() + (g * job.blocks + j) * width;
            for (std::int64_t r = 0; r < job.bank; ++r) {
                job.w2Grad[r * job.blocks + j] += static_cast<double>(w2Part[r]);
            }
            const Real* w1Part = w1Parts.data() + (g * job.blocks + j) * inputWidth;
            for (std::int64_t i = 0; i < job.width; ++i) {
                job.w1Grad[j * job.width + i] += static_cast<double>(w1Part[i]);
            }
        }
    }
}

template <class Real>
void dropoutFactors(const RouterDropout& dropout, std::int64_t t, std::int64_t width, Real* factors)
{
    fillFactors(dropout, t, width, factors);
}
