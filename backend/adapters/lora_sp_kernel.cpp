// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/lora_sp_kernel.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define RW_INLINE [[gnu::always_inline]] inline

namespace rankwise::adapters {

namespace {

namespace baseline {
#include "backend/adapters/lora_sp_kernel_loops.h"
}

// The x86-64 baseline has 128-bit vectors only; 256 bits and FMA are three times as fast. Only functions that are
// defined between the pragmas get the wider set, so nothing of it can leak into other translation units.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RW_HAS_WIDE 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2") // no arch=: it would keep the library's functions from being inlined
#define RW_WIDE_LOOPS 1
namespace wide {
#include "backend/adapters/lora_sp_kernel_loops.h"
}
#undef RW_WIDE_LOOPS
#pragma GCC pop_options

bool wideWorks()
{
    static const bool works =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    return works;
}
#endif

} // namespace

#ifdef RW_HAS_WIDE
#define RW_DISPATCH(call) return wideWorks() ? wide::call : baseline::call
#else
#define RW_DISPATCH(call) return baseline::call
#endif

template <class Real> Cut<Real> selectScores(const Real* scores, std::int64_t bank, double eta)
{
    RW_DISPATCH(selectScores(scores, bank, eta));
}

template <class Real> void selectForward(const SelectForward<Real>& job, SelectSums& sums)
{
    RW_DISPATCH(selectForward(job, sums));
}

template <class Real> void selectBackward(const SelectBackward<Real>& job)
{
    RW_DISPATCH(selectBackward(job));
}

template <class Real>
void dropoutFactors(const RouterDropout& dropout, std::int64_t t, std::int64_t width, Real* factors)
{
    RW_DISPATCH(dropoutFactors(dropout, t, width, factors));
}

#define RW_INSTANTIATE(Real)                                                                                           \
    template Cut<Real> selectScores(const Real*, std::int64_t, double);                                                \
    template void selectForward(const SelectForward<Real>&, SelectSums&);                                              \
    template void selectBackward(const SelectBackward<Real>&);                                                         \
    template void dropoutFactors(const RouterDropout&, std::int64_t, std::int64_t, Real*);
RW_INSTANTIATE(float)
RW_INSTANTIATE(double)
#undef RW_INSTANTIATE

} // namespace rankwise::adapters
