// `rankwise doctor`: what this machine has and lacks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace rankwise::cli {

/// One finding. `state` is "ok", "missing" (a feature is off) or "broken" (Rankwise cannot work).
struct Finding {
    std::string part;
    std::string state;
    std::string detail;
    std::string remedy; ///< Empty when ok.
};

/// Looks at processor, memory, LibTorch, GPU, video codecs, simulation, display, CAN and cameras.
[[nodiscard]] std::vector<Finding> examineMachine();

[[nodiscard]] std::string findingsText(const std::vector<Finding>& findings);
[[nodiscard]] std::string findingsJson(const std::vector<Finding>& findings);

} // namespace rankwise::cli
