// What a long-running backend function is told by its caller: when to stop and
// where to report progress.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <stop_token>
#include <string_view>

namespace rankwise {

/// Passed by const reference to every function that can take longer than 50 ms.
/// Thread: used by the thread that runs the function only.
struct JobContext {
    std::stop_token stop;

    /// Receives the fraction of the work done, in [0, 1], and the step's name. Empty when nobody listens.
    std::function<void(double fraction, std::string_view step)> progress;

    [[nodiscard]] bool stopped() const { return stop.stop_requested(); }

    /// Cheap; call it once per tensor, batch or episode.
    void report(double fraction, std::string_view step) const
    {
        if (progress) {
            progress(fraction, step);
        }
    }
};

}  // namespace rankwise
