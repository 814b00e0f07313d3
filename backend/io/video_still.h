// Still pictures inside datasets: PNG and JPEG bytes to pixels, pixels to PNG.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/io/video_decoder.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace rankwise::io {

/// Decodes a PNG or JPEG to 8-bit RGB (or gray). Alpha is dropped.
/// Errors: DataInvalid (damaged, cut, or not a picture), Unsupported (another format), TooLarge.
/// Thread: any.
[[nodiscard]] Result<Pixels> decodeStill(std::span<const std::byte> bytes, bool gray, const std::string& subject);

/// Looks at the framing only: signature, chunk lengths and end of a PNG, markers of a JPEG. Cheap.
/// Errors: DataInvalid, Unsupported.
[[nodiscard]] Result<void> checkStill(std::span<const std::byte> bytes, const std::string& subject);

/// [H, W, C] with 1 or 3 channels to PNG, lossless.
[[nodiscard]] Result<std::vector<std::byte>> encodePng(std::span<const std::uint8_t> pixels, int height, int width,
                                                       int channels);

} // namespace rankwise::io
