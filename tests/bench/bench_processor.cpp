// Speed of the image path, and a checkpoint's pipelines made anew and saved, for comparison with lerobot.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/processor.h"
#include "backend/tensor/tensor_file.h"

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <fmt/format.h>

using namespace rankwise;

namespace {

int failed(const Error& error)
{
    fmt::print(stderr, "{}\n", error.describe());
    return 1;
}

double bestMilliseconds(const std::function<void()>& work)
{
    double best = 1e300;
    for (int i = 0; i < 15; ++i) {
        const auto start = std::chrono::steady_clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() * 1e3);
    }
    return best;
}

/// The same by torch's operators, one after the other, as the reference does it.
at::Tensor byOperators(const at::Tensor& interleaved, std::int64_t size)
{
    const at::Tensor image = interleaved.permute({ 0, 3, 1, 2 }).to(at::kFloat) / 255.0;
    const double ratio =
        std::max(static_cast<double>(image.size(3)), static_cast<double>(image.size(2))) / static_cast<double>(size);
    const auto height = static_cast<std::int64_t>(static_cast<double>(image.size(2)) / ratio);
    const auto width = static_cast<std::int64_t>(static_cast<double>(image.size(3)) / ratio);
    const at::Tensor resized = at::upsample_bilinear2d(image, { height, width }, false);
    return at::constant_pad_nd(resized, { size - width, 0, size - height, 0 }, 0.0) * 2.0 - 1.0;
}

int measureImages()
{
    at::set_num_threads(1);
    for (const auto& [height, width, size] : { std::array { 480, 640, 512 }, std::array { 480, 640, 224 },
                                               std::array { 256, 256, 512 }, std::array { 64, 64, 64 } }) {
        const at::Tensor image = at::randint(0, 256, { 1, height, width, 3 }, at::kByte);
        const double ours = bestMilliseconds(
            [&] { (void)models::resizeWithPad(image, size, size, models::PadPlacement::LeftTop).value(); });
        const double operators = bestMilliseconds([&] { (void)byOperators(image, size); });
        fmt::print("{{\"from\": [{}, {}], \"to\": {}, \"ours_ms\": {:.3f}, \"operators_ms\": {:.3f}, "
                   "\"times_as_fast\": {:.2f}}}\n",
                   height, width, size, ours, operators, operators / ours);
    }
    const at::Tensor image = at::randint(0, 256, { 480, 640, 3 }, at::kByte);
    fmt::print("{{\"bicubic 480 x 640 to 224\": {:.3f}}}\n",
               bestMilliseconds([&] { (void)models::resizeBicubic(image, 224, 224); }));
    return 0;
}

/// Makes the pipelines of `folder` anew from its configuration and statistics, and saves them in `out`.
int saveAnew(const std::string& folder, const std::string& tokenizerPath, const std::string& out)
{
    models::ProcessorOptions options;
    options.tokenizer = tokenizerPath;
    std::vector<Warning> warnings;
    const auto loaded = models::PolicyProcessor::load(folder, options, warnings);
    if (!loaded) {
        return failed(loaded.error());
    }
    const auto made = models::PolicyProcessor::create(loaded->config(), loaded->statistics(), *loaded->tokenizer());
    if (!made) {
        return failed(made.error());
    }
    const auto saved = made->save(out);
    return saved ? 0 : failed(saved.error());
}

} // namespace

int main(int argc, char** argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.empty()) {
        return measureImages();
    }
    if (arguments.size() == 3) {
        return saveAnew(arguments[0], arguments[1], arguments[2]);
    }
    fmt::print(stderr, "usage: bench_processor [FOLDER TOKENIZER OUT]\n");
    return 2;
}
