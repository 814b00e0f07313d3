// Resizing and scaling of camera images. Loops of our own for the CPU, which read bytes in place and write the
// network's floats once; torch's operators elsewhere.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/image_transform.h"

#include "backend/base/json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace rankwise::models {

namespace {

constexpr std::int64_t kChannels = 3;

/// Where an image stands in the padded output.
struct Placement {
    std::int64_t height = 0; ///< Of the resized image.
    std::int64_t width = 0;
    std::int64_t top = 0;
    std::int64_t left = 0;
};

/// The sizes of the reference: truncated quotients in f64.
Result<Placement> placementOf(std::int64_t imageHeight, std::int64_t imageWidth, std::int64_t height,
                              std::int64_t width, PadPlacement padding)
{
    const double ratio = std::max(static_cast<double>(imageWidth) / static_cast<double>(width),
                                  static_cast<double>(imageHeight) / static_cast<double>(height));
    Placement place;
    place.height = static_cast<std::int64_t>(static_cast<double>(imageHeight) / ratio);
    place.width = static_cast<std::int64_t>(static_cast<double>(imageWidth) / ratio);
    if (place.height < 1 || place.width < 1) {
        return fail(Errc::FieldInvalid,
                    fmt::format("an image of {} x {} pixels vanishes in {} x {}; crop it first", imageWidth,
                                imageHeight, width, height));
    }
    const bool centered = padding == PadPlacement::Centered;
    place.top = std::max<std::int64_t>(0, height - place.height) / (centered ? 2 : 1);
    place.left = std::max<std::int64_t>(0, width - place.width) / (centered ? 2 : 1);
    return place;
}

/// Two source positions and their weights for each target position: half-pixel centres, borders repeated.
struct LinearTaps {
    std::vector<std::int32_t> first;
    std::vector<std::int32_t> second;
    std::vector<float> weight; ///< Of the second.

    LinearTaps(std::int64_t from, std::int64_t to)
    {
        const float scale = static_cast<float>(from) / static_cast<float>(to);
        for (std::int64_t i = 0; i < to; ++i) {
            const float source = std::max(scale * (static_cast<float>(i) + 0.5F) - 0.5F, 0.0F);
            const auto index = std::min(static_cast<std::int32_t>(source), static_cast<std::int32_t>(from - 1));
            first.push_back(index);
            second.push_back(index + (index < from - 1 ? 1 : 0));
            weight.push_back(std::clamp(source - static_cast<float>(index), 0.0F, 1.0F));
        }
    }
};

/// Images in memory: planes, or pixels of three values when `channelStride` is 1.
template <class T> struct PixelSource {
    const T* data;
    std::int64_t height;
    std::int64_t width;
    std::int64_t imageStride;
    std::int64_t rowStride;
    std::int64_t channelStride;
    float scale; ///< Value to [0, 2]: 2 / 255 for bytes.
    float highest;
};

/// a + (b - a) w of two rows.
template <class T> void blendRows(const T* a, const T* b, float w, float* out, std::int64_t count)
{
    const float v = 1.0F - w;
    for (std::int64_t i = 0; i < count; ++i) {
        out[i] = v * static_cast<float>(a[i]) + w * static_cast<float>(b[i]);
    }
}

/// Rows [begin, end) of the output, all images and one row after the other.
template <class T> class BilinearPass {
public:
    BilinearPass(const PixelSource<T>& source, const Placement& place, std::int64_t height, std::int64_t width,
                 bool limit, float* out)
        : m_source(source), m_place(place), m_height(height), m_width(width), m_limit(limit), m_out(out),
          m_rows(source.height, place.height), m_columns(source.width, place.width)
    {
    }

    void run(std::int64_t begin, std::int64_t end) const
    {
        std::vector<float> blended(static_cast<std::size_t>(kChannels * m_source.width));
        for (std::int64_t index = begin; index < end; ++index) {
            writeRow(index / m_height, index % m_height, blended.data());
        }
    }

private:
    void writeRow(std::int64_t image, std::int64_t y, float* blended) const
    {
        float* rows = m_out + image * kChannels * m_height * m_width + y * m_width;
        const std::int64_t channelSize = m_height * m_width;
        if (y < m_place.top || y >= m_place.top + m_place.height) {
            for (std::int64_t c = 0; c < kChannels; ++c) {
                std::fill_n(rows + c * channelSize, m_width, -1.0F);
            }
            return;
        }
        blend(image, static_cast<std::size_t>(y - m_place.top), blended);
        const bool interleaved = m_source.channelStride == 1;
        for (std::int64_t c = 0; c < kChannels; ++c) {
            float* row = rows + c * channelSize;
            std::fill_n(row, m_place.left, -1.0F);
            if (interleaved) {
                gather(blended + c, kChannels, row + m_place.left);
            } else {
                gather(blended + c * m_source.width, 1, row + m_place.left);
            }
            const std::int64_t right = m_place.left + m_place.width;
            std::fill_n(row + right, m_width - right, -1.0F);
        }
    }

    void blend(std::int64_t image, std::size_t y, float* blended) const
    {
        const T* pixels = m_source.data + image * m_source.imageStride;
        const T* a = pixels + m_rows.first[y] * m_source.rowStride;
        const T* b = pixels + m_rows.second[y] * m_source.rowStride;
        if (m_source.channelStride == 1) {
            blendRows(a, b, m_rows.weight[y], blended, kChannels * m_source.width);
            return;
        }
        for (std::int64_t c = 0; c < kChannels; ++c) {
            blendRows(a + c * m_source.channelStride, b + c * m_source.channelStride, m_rows.weight[y],
                      blended + c * m_source.width, m_source.width);
        }
    }

    void gather(const float* values, std::int64_t stride, float* out) const
    {
        const float highest = m_limit ? m_source.highest : std::numeric_limits<float>::infinity();
        const float lowest = m_limit ? 0.0F : -std::numeric_limits<float>::infinity();
        for (std::int64_t x = 0; x < m_place.width; ++x) {
            const auto i = static_cast<std::size_t>(x);
            const float w = m_columns.weight[i];
            const float value =
                (1.0F - w) * values[m_columns.first[i] * stride] + w * values[m_columns.second[i] * stride];
            out[x] = std::min(std::max(value, lowest), highest) * m_source.scale - 1.0F;
        }
    }

    PixelSource<T> m_source;
    Placement m_place;
    std::int64_t m_height;
    std::int64_t m_width;
    bool m_limit;
    float* m_out;
    LinearTaps m_rows;
    LinearTaps m_columns;
};

/// An image tensor with its batch dimension and known layout.
struct Layout {
    at::Tensor image; ///< [B, 3, H, W] or [B, H, W, 3]
    bool channelsFirst = true;

    [[nodiscard]] std::int64_t height() const { return image.size(channelsFirst ? 2 : 1); }
    [[nodiscard]] std::int64_t width() const { return image.size(channelsFirst ? 3 : 2); }
    [[nodiscard]] at::Tensor planar() const { return channelsFirst ? image : image.permute({ 0, 3, 1, 2 }); }
};

Result<Layout> layoutOf(const at::Tensor& given)
{
    at::Tensor image = given;
    if (image.defined() && image.dim() == 5) {
        image = image.select(1, -1); // Of several observation steps the last.
    }
    if (image.defined() && image.dim() == 3) {
        image = image.unsqueeze(0);
    }
    const bool fourDims = image.defined() && image.dim() == 4 && image.numel() > 0;
    if (!fourDims || (image.size(1) != kChannels && image.size(3) != kChannels)) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("an image must be [B, 3, H, W] or [B, H, W, 3]; this one is [{}]",
                                given.defined() ? fmt::format("{}", fmt::join(given.sizes(), ", ")) : "undefined"));
    }
    if (image.scalar_type() != at::kByte && !image.is_floating_point()) {
        return fail(Errc::Unsupported, "an image must be uint8 or floating in [0, 1]");
    }
    return Layout { image, image.size(1) == kChannels };
}

/// The same image in memory as BilinearPass reads it: rows without gaps, uint8 or f32.
template <class T> PixelSource<T> sourceOf(const Layout& layout, const at::Tensor& contiguous)
{
    const std::int64_t height = layout.height();
    const std::int64_t width = layout.width();
    const bool bytes = std::is_same_v<T, std::uint8_t>;
    return { .data = contiguous.const_data_ptr<T>(),
             .height = height,
             .width = width,
             .imageStride = kChannels * height * width,
             .rowStride = layout.channelsFirst ? width : kChannels * width,
             .channelStride = layout.channelsFirst ? height * width : 1,
             .scale = bytes ? 2.0F / 255.0F : 2.0F,
             .highest = bytes ? 255.0F : 1.0F };
}

template <class T>
at::Tensor resizedOnCpu(const Layout& layout, const Placement& place, std::int64_t height, std::int64_t width,
                        PadPlacement padding)
{
    // A channels-last image is read as interleaved pixels, without a copy.
    Layout source = layout;
    const bool interleaved = layout.channelsFirst && layout.image.is_contiguous(at::MemoryFormat::ChannelsLast)
        && !layout.image.is_contiguous();
    if (interleaved) {
        source = { layout.image.permute({ 0, 2, 3, 1 }), false };
    }
    const at::Tensor contiguous = source.image.contiguous();
    const std::int64_t images = contiguous.size(0);
    at::Tensor out = at::empty({ images, kChannels, height, width }, at::TensorOptions(at::kFloat));
    const BilinearPass<T> pass(sourceOf<T>(source, contiguous), place, height, width, padding == PadPlacement::Centered,
                               out.data_ptr<float>());
    constexpr std::int64_t kRowsATask = 64;
    at::parallel_for(0, images * height, kRowsATask,
                     [&](std::int64_t begin, std::int64_t end) { pass.run(begin, end); });
    return out;
}

at::Tensor resizedOnDevice(const Layout& layout, const Placement& place, std::int64_t height, std::int64_t width,
                           PadPlacement padding)
{
    at::Tensor image = layout.planar();
    image = image.scalar_type() == at::kByte ? image.to(at::kFloat) / 255.0 : image.to(at::kFloat);
    image = at::upsample_bilinear2d(image, { place.height, place.width }, false);
    if (padding == PadPlacement::Centered) {
        image = image.clamp(0, 1);
    }
    return at::constant_pad_nd(
        image * 2.0 - 1.0,
        { place.left, width - place.left - place.width, place.top, height - place.top - place.height }, -1.0);
}

} // namespace

Result<at::Tensor> resizeWithPad(const at::Tensor& image, std::int64_t height, std::int64_t width,
                                 PadPlacement placement)
{
    RW_CHECK(height > 0 && width > 0);
    RW_TRY(Layout layout, layoutOf(image));
    RW_TRY(const Placement place, placementOf(layout.height(), layout.width(), height, width, placement));
    if (!layout.image.is_cpu()) {
        return resizedOnDevice(layout, place, height, width, placement);
    }
    if (layout.image.scalar_type() == at::kByte) {
        return resizedOnCpu<std::uint8_t>(layout, place, height, width, placement);
    }
    layout.image = layout.image.to(at::kFloat);
    return resizedOnCpu<float>(layout, place, height, width, placement);
}

Result<at::Tensor> unitImage(const at::Tensor& image)
{
    RW_TRY(const Layout layout, layoutOf(image));
    const at::Tensor planar = layout.planar().to(at::kFloat);
    return (layout.image.scalar_type() == at::kByte ? planar / 255.0 : planar).contiguous();
}

Result<at::Tensor> signedImage(const at::Tensor& image)
{
    RW_TRY(const at::Tensor unit, unitImage(image));
    return unit * 2.0 - 1.0;
}

namespace {

/// Cubic convolution with a = -0.5, as Pillow evaluates it.
double bicubic(double x)
{
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

/// Fixed-point coefficients of one axis: for each target position the first source position and its weights.
struct ResampleTaps {
    static constexpr int kPrecisionBits = 32 - 8 - 2;

    std::vector<std::int64_t> first;
    std::vector<std::vector<std::int32_t>> weights;

    ResampleTaps(std::int64_t from, std::int64_t to)
    {
        const double scale = static_cast<double>(from) / static_cast<double>(to);
        const double filterScale = std::max(scale, 1.0);
        const double support = 2.0 * filterScale;
        for (std::int64_t i = 0; i < to; ++i) {
            const double center = (static_cast<double>(i) + 0.5) * scale;
            const auto low = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
            const auto high = std::min<std::int64_t>(static_cast<std::int64_t>(center + support + 0.5), from);
            std::vector<double> values;
            double sum = 0;
            for (std::int64_t x = low; x < high; ++x) {
                values.push_back(bicubic((static_cast<double>(x) - center + 0.5) * (1.0 / filterScale)));
                sum += values.back();
            }
            first.push_back(low);
            weights.emplace_back();
            for (const double value : values) {
                const double fixed = (sum != 0 ? value / sum : value) * (1 << kPrecisionBits);
                weights.back().push_back(static_cast<std::int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
            }
        }
    }
};

std::uint8_t roundedByte(std::int32_t sum)
{
    return static_cast<std::uint8_t>(std::clamp(sum >> ResampleTaps::kPrecisionBits, 0, 255));
}

constexpr std::int32_t kHalf = 1 << (ResampleTaps::kPrecisionBits - 1);

/// [H, W, 3] to [H, w, 3].
at::Tensor resampledColumns(const at::Tensor& image, std::int64_t width)
{
    const std::int64_t height = image.size(0);
    const std::int64_t from = image.size(1);
    const ResampleTaps taps(from, width);
    at::Tensor out = at::empty({ height, width, kChannels }, image.options());
    const auto* in = image.const_data_ptr<std::uint8_t>();
    auto* target = out.data_ptr<std::uint8_t>();
    at::parallel_for(0, height, 32, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            for (std::int64_t x = 0; x < width; ++x) {
                const auto& weights = taps.weights[static_cast<std::size_t>(x)];
                const auto* pixel = in + (y * from + taps.first[static_cast<std::size_t>(x)]) * kChannels;
                std::array<std::int32_t, kChannels> sums { kHalf, kHalf, kHalf };
                for (const std::int32_t weight : weights) {
                    for (std::size_t c = 0; c < kChannels; ++c) {
                        sums[c] += pixel[c] * weight;
                    }
                    pixel += kChannels;
                }
                for (std::size_t c = 0; c < kChannels; ++c) {
                    target[static_cast<std::size_t>((y * width + x) * kChannels) + c] = roundedByte(sums[c]);
                }
            }
        }
    });
    return out;
}

/// [H, W, 3] to [h, W, 3].
at::Tensor resampledRows(const at::Tensor& image, std::int64_t height)
{
    const ResampleTaps taps(image.size(0), height);
    const std::int64_t rowBytes = image.size(1) * kChannels;
    at::Tensor out = at::empty({ height, image.size(1), kChannels }, image.options());
    const auto* in = image.const_data_ptr<std::uint8_t>();
    auto* target = out.data_ptr<std::uint8_t>();
    at::parallel_for(0, height, 32, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::int32_t> sums(static_cast<std::size_t>(rowBytes));
        for (std::int64_t y = begin; y < end; ++y) {
            std::fill(sums.begin(), sums.end(), kHalf);
            const auto* row = in + taps.first[static_cast<std::size_t>(y)] * rowBytes;
            for (const std::int32_t weight : taps.weights[static_cast<std::size_t>(y)]) {
                for (std::int64_t i = 0; i < rowBytes; ++i) {
                    sums[static_cast<std::size_t>(i)] += row[i] * weight;
                }
                row += rowBytes;
            }
            std::transform(sums.begin(), sums.end(), target + y * rowBytes, roundedByte);
        }
    });
    return out;
}

/// The image in the middle of a square, the rest filled with the last tower's mean.
at::Tensor letterboxed(const at::Tensor& image, const OpenVlaImageConfig& config)
{
    const std::int64_t height = image.size(0);
    const std::int64_t width = image.size(1);
    const std::int64_t side = std::max(height, width);
    const std::int64_t top = (side - height) / 2;
    const std::int64_t left = (side - width) / 2;
    at::Tensor out = at::empty({ height + 2 * top, width + 2 * left, kChannels }, image.options());
    for (std::int64_t c = 0; c < kChannels; ++c) {
        const double mean = config.means.back()[static_cast<std::size_t>(c)];
        out.select(2, c).fill_(static_cast<std::int64_t>(mean * 255));
    }
    out.narrow(0, top, height).narrow(1, left, width).copy_(image);
    return out;
}

/// Shorter side to `size`, then the middle.
at::Tensor resizedAndCropped(const at::Tensor& image, std::int64_t size)
{
    const std::int64_t height = image.size(0);
    const std::int64_t width = image.size(1);
    const std::int64_t shorter = std::min(height, width);
    const std::int64_t longer = std::max(height, width);
    const auto stretched = static_cast<std::int64_t>(static_cast<double>(size * longer) / static_cast<double>(shorter));
    const at::Tensor resized =
        height <= width ? resizeBicubic(image, size, stretched) : resizeBicubic(image, stretched, size);
    const auto offset = [&](std::int64_t length) {
        return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(length - size) / 2.0));
    };
    return resized.narrow(0, offset(resized.size(0)), size).narrow(1, offset(resized.size(1)), size);
}

} // namespace

at::Tensor resizeBicubic(const at::Tensor& image, std::int64_t height, std::int64_t width)
{
    RW_CHECK(image.dim() == 3 && image.size(2) == kChannels && image.scalar_type() == at::kByte && height > 0
             && width > 0);
    at::Tensor out = image.contiguous();
    if (width != out.size(1)) {
        out = resampledColumns(out, width);
    }
    return height != out.size(0) ? resampledRows(out, height) : out;
}

Result<at::Tensor> openVlaResized(const at::Tensor& image, const OpenVlaImageConfig& config)
{
    RW_TRY(const Layout layout, layoutOf(image));
    if (layout.image.scalar_type() != at::kByte || !layout.image.is_cpu() || layout.image.size(0) != 1) {
        return fail(Errc::Unsupported, "one uint8 image in the computer's memory is expected");
    }
    at::Tensor pixels = layout.image.select(0, 0);
    pixels = (layout.channelsFirst ? pixels.permute({ 1, 2, 0 }) : pixels).contiguous(); // [H, W, 3]
    if (config.fit == SquareFit::Naive) {
        pixels = resizeBicubic(pixels, config.size, config.size);
    } else {
        pixels =
            resizedAndCropped(config.fit == SquareFit::Letterbox ? letterboxed(pixels, config) : pixels, config.size);
    }
    return pixels.permute({ 2, 0, 1 }).contiguous(); // [3, size, size]
}

Result<at::Tensor> openVlaPixels(const at::Tensor& image, const OpenVlaImageConfig& config)
{
    RW_TRY(const Layout layout, layoutOf(image));
    at::Tensor bytes = layout.image.to(at::kCPU);
    if (bytes.scalar_type() != at::kByte) {
        bytes = (bytes.to(at::kFloat) * 255.0).round().clamp(0, 255).to(at::kByte);
    }
    std::vector<at::Tensor> batch;
    for (std::int64_t i = 0; i < bytes.size(0); ++i) {
        RW_TRY(const at::Tensor resized, openVlaResized(bytes.select(0, i), config));
        const at::Tensor unit = resized.to(at::kFloat) / 255.0;
        std::vector<at::Tensor> towers;
        for (std::size_t tower = 0; tower < config.means.size(); ++tower) {
            const auto constant = [&](const std::array<double, 3>& values) {
                return at::tensor(at::ArrayRef<double>(values.data(), values.size()), at::kFloat).view({ 3, 1, 1 });
            };
            towers.push_back((unit - constant(config.means[tower])) / constant(config.stds[tower]));
        }
        batch.push_back(at::cat(towers, 0)); // [3 · towers, size, size]
    }
    return at::stack(batch);
}

Result<OpenVlaImageConfig> parseOpenVlaImageConfig(std::string_view text, const std::string& subject)
{
    RW_TRY(const Json json, parseJson(text, subject));
    if (!json.is_object()) {
        return fail(Errc::FieldInvalid, "must be an object", subject);
    }
    OpenVlaImageConfig config;
    FieldReader reader(json, subject);
    std::string strategy = "resize-naive";
    std::vector<std::string> interpolations;
    reader.optional("image_resize_strategy", strategy);
    reader.optional("interpolations", interpolations);
    const auto isTriple = [](const Json& value) {
        return value.is_array() && value.size() == 3
            && std::all_of(value.begin(), value.end(), [](const Json& number) { return number.is_number(); });
    };
    const auto readTriples = [&](const char* key, std::vector<std::array<double, 3>>& out) {
        const Json* list = reader.find(key);
        if (list == nullptr) {
            return;
        }
        if (!list->is_array() || list->empty() || !std::all_of(list->begin(), list->end(), isTriple)) {
            reader.reject(key, "must be a list of three numbers for each tower");
            return;
        }
        out.clear();
        for (const Json& triple : *list) {
            out.push_back({ triple[0].get<double>(), triple[1].get<double>(), triple[2].get<double>() });
        }
    };
    readTriples("means", config.means);
    readTriples("stds", config.stds);
    std::vector<std::array<double, 3>> sizes;
    readTriples("input_sizes", sizes);
    for (const auto& size : sizes) {
        if (size != sizes.front() || size[0] != 3 || size[1] != size[2] || size[1] < 1 || size[1] > 4096) {
            reader.reject("input_sizes", "must be one square size for all towers", Errc::Unsupported);
        }
        config.size = static_cast<std::int64_t>(size[1]);
    }
    if (config.means.size() != config.stds.size()) {
        reader.reject("stds", "must have as many entries as means");
    }
    for (const auto& deviations : config.stds) {
        if (std::any_of(deviations.begin(), deviations.end(), [](double value) { return value <= 0; })) {
            reader.reject("stds", "must be positive");
        }
    }
    if (std::any_of(interpolations.begin(), interpolations.end(), [](const auto& name) { return name != "bicubic"; })) {
        reader.reject("interpolations", "only bicubic is supported", Errc::Unsupported);
    }
    if (strategy == "letterbox") {
        config.fit = SquareFit::Letterbox;
    } else if (strategy == "resize-crop") {
        config.fit = SquareFit::Crop;
    } else if (strategy != "resize-naive") {
        reader.reject("image_resize_strategy", "is not known", Errc::Unsupported);
    }
    RW_TRY_VOID(reader.result());
    return config;
}

} // namespace rankwise::models
