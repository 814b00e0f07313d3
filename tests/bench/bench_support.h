// What every measurement needs: clocks, and results that end the program when they are errors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include <fmt/core.h>
#include <sys/resource.h>

namespace rankwise::bench {

template <class T> T must(Result<T> result)
{
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().describe());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) {
        return std::move(*result);
    }
}

/// Of this process, user and system.
inline double cpuSeconds()
{
    rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

inline double wallSeconds()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Peak resident memory of this process, MB.
inline double peakMb()
{
    rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) * 1024e-6;
}

} // namespace rankwise::bench
