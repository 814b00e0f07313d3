// SPDX-License-Identifier: Apache-2.0
#include "backend/train/localization_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/huber_loss.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/TensorOperators.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::train {

namespace {

constexpr std::int64_t kTokenNumbers = 16;
constexpr std::int64_t kHidden = 128;
constexpr std::array<std::string_view, 4> kNumbers { "u", "v", "depth", "inside" };
constexpr double kImageScale = 4.0; ///< u, v in [0, 1] become about unit variance,
constexpr double kDepthScale = 5.0; ///< and so do depths between 0 and 1 m.
constexpr double kHuberDelta = 0.1; ///< In these units: 2.5 % of the picture's side.

at::Tensor normal(std::vector<std::int64_t> shape, double scale, at::Generator& generator)
{
    return at::randn(shape, generator, at::TensorOptions().dtype(at::kFloat)).mul_(scale);
}

} // namespace

Result<LabelLayout> LabelLayout::fromNames(const std::vector<std::string>& names, const std::string& key)
{
    LabelLayout layout;
    std::int64_t numbers = 0;
    const auto reject = [&](const std::string& name) {
        return fail(Errc::FieldInvalid,
                    fmt::format("the name \"{}\" does not fit: labels are named <camera>.<point>.<number> with the "
                                "numbers {} of each point in this order, as `rankwise sim record --labels` writes them",
                                name, fmt::join(kNumbers, ", ")),
                    key);
    };
    for (const std::string& name : names) {
        const std::size_t first = name.find('.');
        const std::size_t last = name.rfind('.');
        if (first == std::string::npos || first == last
            || name.substr(last + 1) != kNumbers[static_cast<std::size_t>(numbers) % kNumbers.size()]) {
            return reject(name);
        }
        const std::string camera = name.substr(0, first);
        if (layout.cameras.empty() || layout.cameras.back() != camera) {
            if (std::ranges::find(layout.cameras, camera) != layout.cameras.end()) {
                return reject(name);
            }
            layout.cameras.push_back(camera);
        }
        ++numbers;
    }
    const auto each = static_cast<std::int64_t>(kNumbers.size() * layout.cameras.size());
    if (each == 0 || numbers % each != 0) {
        return reject(names.empty() ? std::string() : names.back());
    }
    layout.points = numbers / each;
    return layout;
}

Result<LocalizationHead> LocalizationHead::create(const LabelLayout& layout, const std::vector<std::string>& cameras,
                                                  const std::vector<at::Tensor>& tokens, std::uint64_t seed)
{
    at::Generator generator = at::detail::createCPUGenerator(seed);
    LocalizationHead head;
    head.m_points = layout.points;
    head.m_labelCameras = static_cast<std::int64_t>(layout.cameras.size());
    for (std::size_t i = 0; i < cameras.size(); ++i) {
        const auto found = std::ranges::find_if(
            layout.cameras, [&](const std::string& name) { return cameras[i].ends_with("." + name); });
        if (found == layout.cameras.end()) {
            return fail(Errc::FieldInvalid,
                        fmt::format("the labels know the cameras {}; the policy also sees \"{}\"",
                                    fmt::join(layout.cameras, ", "), cameras[i]),
                        "localization.feature");
        }
        if (i >= tokens.size() || !tokens[i].defined()) {
            return fail(Errc::ShapeMismatch, fmt::format("the policy gives no image tokens of \"{}\"", cameras[i]),
                        "localization.feature");
        }
        const std::int64_t width = tokens[i].size(2);
        const std::int64_t flat = tokens[i].size(1) * kTokenNumbers;
        const auto fanIn = [&](std::int64_t out, std::int64_t in) {
            return normal({ out, in }, 0.8 / std::sqrt(static_cast<double>(in)), generator);
        };
        Camera camera;
        camera.name = *found;
        camera.labelIndex = found - layout.cameras.begin();
        camera.reduce = { fanIn(kTokenNumbers, width), at::zeros({ kTokenNumbers }) };
        camera.norm = { at::ones({ flat }), at::zeros({ flat }) };
        camera.hidden = { fanIn(kHidden, flat), at::zeros({ kHidden }) };
        camera.out = { fanIn(layout.points * 3, kHidden), at::zeros({ layout.points * 3 }) };
        head.m_cameras.push_back(std::move(camera));
    }
    return head;
}

std::vector<models::NamedParameter> LocalizationHead::parameters() const
{
    std::vector<models::NamedParameter> all;
    for (const Camera& camera : m_cameras) {
        for (const auto& [name, layer] : { std::pair<const char*, const Layer*> { "reduce", &camera.reduce },
                                           { "norm", &camera.norm },
                                           { "hidden", &camera.hidden },
                                           { "out", &camera.out } }) {
            const std::string path = fmt::format("localization.{}.{}.", camera.name, name);
            all.push_back({ .name = path + "weight", .tensor = layer->weight });
            all.push_back({ .name = path + "bias", .tensor = layer->bias });
        }
    }
    return all;
}

LocalizationLoss LocalizationHead::loss(const std::vector<at::Tensor>& imageTokens, const at::Tensor& labels) const
{
    const at::Tensor points = labels.view({ labels.size(0), m_labelCameras, m_points, 4 });
    std::vector<at::Tensor> predicted;
    std::vector<at::Tensor> wanted;
    std::vector<at::Tensor> inside;
    for (std::size_t i = 0; i < m_cameras.size(); ++i) {
        if (i >= imageTokens.size() || !imageTokens[i].defined()) {
            continue;
        }
        const Camera& camera = m_cameras[i];
        const at::Tensor tokens = imageTokens[i].to(at::kFloat);
        at::Tensor x = at::linear(tokens, camera.reduce.weight, camera.reduce.bias).flatten(1); // [B, S · 16]
        x = at::layer_norm(x, { x.size(1) }, camera.norm.weight, camera.norm.bias);
        x = at::gelu(at::linear(x, camera.hidden.weight, camera.hidden.bias));
        predicted.push_back(at::linear(x, camera.out.weight, camera.out.bias).view({ -1, m_points, 3 }));
        const at::Tensor own = points.select(1, camera.labelIndex); // [B, P, 4]
        wanted.push_back(at::stack({ (own.select(2, 0) - 0.5) * kImageScale, (own.select(2, 1) - 0.5) * kImageScale,
                                     (own.select(2, 2) - 0.5) * kDepthScale },
                                   2));
        inside.push_back(own.select(2, 3).unsqueeze(2)); // [B, P, 1]
    }
    if (predicted.empty()) {
        return { at::zeros({}), 0 };
    }
    const at::Tensor guess = at::stack(predicted);
    const at::Tensor truth = at::stack(wanted);
    const at::Tensor mask = at::stack(inside);
    const at::Tensor count = mask.sum().clamp_min(1.0);
    const at::Tensor huber = at::huber_loss(guess, truth, at::Reduction::None, kHuberDelta) / kHuberDelta;
    LocalizationLoss result { (huber * mask).sum() / (3.0 * count) };
    const at::NoGradGuard noGrad;
    const at::Tensor error = (guess - truth).narrow(-1, 0, 2).abs() * mask;
    result.imageError = (error.sum() / (2.0 * kImageScale * count)).item<double>();
    return result;
}

} // namespace rankwise::train
