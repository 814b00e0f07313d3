// A camera image.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace rankwise::sim {

/// 8-bit RGB, rows from the top, [height, width, 3].
struct Image {
    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> rgb;

    friend bool operator==(const Image&, const Image&) = default;
};

} // namespace rankwise::sim
