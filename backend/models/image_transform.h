// Camera images on their way into the vision towers: resizing, padding, scaling.
//
// Notation: B batch, H and W height and width of the image, h and w those of the network.
// Sources: lerobot 0.6 (smolvla and pi0 modeling), transformers' Prismatic processor of OpenVLA, Pillow 10
// (Resample.c). SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

/// Where the padding goes that keeps the aspect ratio.
enum class PadPlacement : std::uint8_t {
    LeftTop, ///< SmolVLA: all of it left and above.
    Centered ///< pi0 and pi0.5: both sides; an odd pixel goes right and below.
};

/// Images resized with their aspect ratio into h x w, and mapped from [0, 1] to [-1, 1]; the padding is -1.
///
/// Bilinear with half-pixel centres and no antialiasing, as torch's interpolate. `Centered` limits resized values to
/// [0, 1] as the reference does. One pass over the pixels: bytes are read where they lie.
///
/// @param image  uint8 (0 to 255) or floating ([0, 1]); [B, 3, H, W], [B, H, W, 3], or without B
/// @return       f32 [B, 3, h, w], on the image's device
/// Errors: ShapeMismatch (no image of three channels), FieldInvalid (so narrow that nothing is left), Unsupported
/// (dtype). Thread: any; takes no gradient.
[[nodiscard]] Result<at::Tensor> resizeWithPad(const at::Tensor& image, std::int64_t height, std::int64_t width,
                                               PadPlacement placement);

/// The same without resizing: f32 [B, 3, H, W] in [-1, 1].
[[nodiscard]] Result<at::Tensor> signedImage(const at::Tensor& image);

/// [B, 3, H, W] f32 in [0, 1] from any of the layouts above.
[[nodiscard]] Result<at::Tensor> unitImage(const at::Tensor& image);

/// How OpenVLA's image processor fits an image into the square.
enum class SquareFit : std::uint8_t {
    Naive,     ///< "resize-naive": both sides to the size, aspect ratio lost.
    Letterbox, ///< "letterbox": padded to a square first, with the last tower's mean.
    Crop       ///< "resize-crop": shorter side to the size, centre cut out.
};

/// preprocessor_config.json of OpenVLA. The defaults are openvla-7b's.
struct OpenVlaImageConfig {
    std::int64_t size = 224;
    SquareFit fit = SquareFit::Naive;
    /// One for each tower: ImageNet's constants rounded to bfloat16 (DINOv2), and one half (SigLIP).
    std::vector<std::array<double, 3>> means { { 0.484375, 0.455078125, 0.40625 }, { 0.5, 0.5, 0.5 } };
    std::vector<std::array<double, 3>> stds { { 0.228515625, 0.2236328125, 0.224609375 }, { 0.5, 0.5, 0.5 } };
};

/// Parses a preprocessor_config.json. Errors: JsonInvalid, FieldInvalid, Unsupported (another interpolation or
/// strategy).
[[nodiscard]] Result<OpenVlaImageConfig> parseOpenVlaImageConfig(std::string_view text, const std::string& subject);

/// The image in the square, still in bytes: [3, size, size]. Bicubic with antialiasing on bytes, rounded between the
/// passes, bit for bit as Pillow.
/// @param image  uint8 [3, H, W] or [H, W, 3], on the CPU
/// Errors: ShapeMismatch, Unsupported (not uint8).
[[nodiscard]] Result<at::Tensor> openVlaResized(const at::Tensor& image, const OpenVlaImageConfig& config);

/// Pixel values for all towers, stacked on channels: f32 [B, 3 · towers, size, size].
/// @param image  uint8, or floating in [0, 1] (rounded to bytes); layouts as for resizeWithPad()
[[nodiscard]] Result<at::Tensor> openVlaPixels(const at::Tensor& image, const OpenVlaImageConfig& config);

/// Pillow's bicubic resize of bytes. @param image uint8 [H, W, 3], contiguous, on the CPU. @return [h, w, 3].
[[nodiscard]] at::Tensor resizeBicubic(const at::Tensor& image, std::int64_t height, std::int64_t width);

} // namespace rankwise::models
