// For the loops written with AVX-512 intrinsics: whether the compiler has them, and the attribute that lets a function
// use them in a file compiled for any processor. Included by .cpp files alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define RW_AVX512 1
#include <immintrin.h>

/// Only for functions behind hasRowProducts().
#define RW_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#define RW_TARGET_INLINE RW_TARGET __attribute__((always_inline)) inline
#endif
