// Judges of what comes before the network: images, normalisation, prompts, and tables of tokenizers.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer.h"
#include "backend/models/certify_runners.h"
#include "backend/models/image_transform.h"
#include "backend/models/normalizer.h"
#include "backend/models/processor.h"
#include "backend/models/prompt.h"
#include "backend/tensor/tensor_file.h"

#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

namespace fs = std::filesystem;

struct CaseTensors {
    tensor::TensorMap inputs;
    tensor::TensorMap outputs;
};

Result<CaseTensors> caseTensors(const fs::path& folder)
{
    CaseTensors tensors;
    RW_TRY(tensors.inputs, tensor::loadTensors(folder / "inputs.safetensors"));
    RW_TRY(tensors.outputs, tensor::loadTensors(folder / "outputs.safetensors"));
    return tensors;
}

/// value(c, y, x) = (37 x + 91 y + 53 c + floor(x y / 7)) mod 256, [1, 3, H, W] uint8: the image called "pattern".
at::Tensor patternImage(std::int64_t height, std::int64_t width)
{
    const at::Tensor y = at::arange(height, at::kLong).view({ 1, height, 1 });
    const at::Tensor x = at::arange(width, at::kLong).view({ 1, 1, width });
    const at::Tensor c = at::arange(3, at::kLong).view({ 3, 1, 1 });
    return (x * 37 + y * 91 + c * 53 + at::floor_divide(x * y, at::Scalar(7)))
        .remainder(256)
        .to(at::kByte)
        .unsqueeze(0);
}

at::Tensor inputImage(const Json& row, const tensor::TensorMap& inputs)
{
    const auto name = row.at("input").get<std::string>();
    if (name == "pattern") {
        const auto size = row.at("input_size_hw").get<std::vector<std::int64_t>>();
        return patternImage(size.at(0), size.at(1));
    }
    return inputs.at(name);
}

/// The rows and columns that were recorded.
at::Tensor recordedPart(const at::Tensor& image, const Json& row)
{
    if (!row.contains("rows")) {
        return image;
    }
    const at::Tensor rows =
        image.index_select(image.dim() - 2, at::tensor(row["rows"].get<std::vector<std::int64_t>>()));
    return rows.index_select(rows.dim() - 1, at::tensor(row["columns"].get<std::vector<std::int64_t>>()));
}

at::Tensor numbers(const Json& json)
{
    if (!json.is_array()) {
        return at::full({}, json.get<double>(), at::TensorOptions(at::kFloat));
    }
    std::vector<at::Tensor> parts;
    for (const Json& part : json) {
        parts.push_back(numbers(part));
    }
    return at::stack(parts);
}

std::string textDifference(const std::string& ours, const std::string& theirs)
{
    return ours == theirs ? std::string() : fmt::format("\"{}\" instead of \"{}\"", ours, theirs);
}

} // namespace

Result<CertifyReport> certifyImages(const fs::path& folder, const Json& json, const CertifyOptions&, const JobContext&)
{
    RW_TRY(const CaseTensors tensors, caseTensors(folder));
    const double absolute = json.at("tolerance").value("atol", 0.0);
    const double relative = json.at("tolerance").value("rtol", 0.0);
    CertifyReport report;
    for (const Json& row : json.at("rows")) {
        const auto kind = row.at("kind").get<std::string>();
        if (kind != "smolvla" && kind != "pi") {
            return fail(Errc::Unsupported, fmt::format("images are not prepared as \"{}\" here", kind),
                        folder.string());
        }
        const auto size = row.at("target_size_hw").get<std::vector<std::int64_t>>();
        const auto placement = kind == "pi" ? PadPlacement::Centered : PadPlacement::LeftTop;
        RW_TRY(const at::Tensor resized,
               resizeWithPad(inputImage(row, tensors.inputs), size.at(0), size.at(1), placement));
        const auto name = row.at("output").get<std::string>();
        compareTensors(report, name, recordedPart(resized, row), tensors.outputs.at(name), relative, absolute);
    }
    return report;
}

Result<CertifyReport> certifyOpenVlaImages(const fs::path& folder, const Json& json, const CertifyOptions&,
                                           const JobContext&)
{
    RW_TRY(const CaseTensors tensors, caseTensors(folder));
    const double levels = json.at("tolerance").value("resized_levels", 0.0);
    CertifyReport report;
    for (const Json& row : json.at("rows")) {
        const auto size = row.at("size").get<std::int64_t>();
        OrderedJson text { { "image_resize_strategy", row.at("strategy").get<std::string>() },
                           { "interpolations", { "bicubic", "bicubic" } } };
        text["input_sizes"] = { { 3, size, size }, { 3, size, size } };
        text["means"] = json.at("means");
        text["stds"] = json.at("stds");
        RW_TRY(const OpenVlaImageConfig config, parseOpenVlaImageConfig(text.dump(), folder.string()));
        const at::Tensor image = inputImage(row, tensors.inputs);
        const auto name = row.at("name").get<std::string>();
        RW_TRY(const at::Tensor whole, openVlaResized(image, config));
        RW_TRY(const at::Tensor pixels, openVlaPixels(image, config));
        const at::Tensor resized = recordedPart(whole, row);
        const at::Tensor& theirs = tensors.outputs.at(name + ".resized");
        compareTensors(report, name + ".resized", resized, theirs, 0, levels);
        if (resized.sizes() == theirs.sizes()) { // normalised values must agree where the bytes do
            const at::Tensor same = at::cat({ resized == theirs, resized == theirs }, 0);
            compareTensors(report, name + ".pixel_values", recordedPart(pixels.select(0, 0), row) * same,
                           tensors.outputs.at(name + ".pixel_values") * same, 0, 2e-6);
        }
    }
    return report;
}

Result<CertifyReport> certifyNormalisation(const fs::path& file, const Json& json, const CertifyOptions&,
                                           const JobContext&)
{
    const double absolute = json.at("tolerance").value("atol", 0.0);
    const double relative = json.at("tolerance").value("rtol", 0.0);
    CertifyReport report;
    for (std::size_t i = 0; i < json.at("rows").size(); ++i) {
        const Json& row = json["rows"][i];
        Statistics statistics;
        for (const auto& feature : row.at("stats").items()) {
            for (const auto& statistic : feature.value().items()) {
                statistics[feature.key()][statistic.key()] = numbers(statistic.value());
            }
        }
        const auto name = row.at("mode").get<std::string>();
        const auto mode = io::normalizationModeFromName(name);
        if (!mode) {
            return fail(Errc::Unsupported, "no normalisation mode \"" + name + "\"", file.string());
        }
        const Normalizer normalizer(
            { { kStateKey, io::FeatureType::State, {} }, { kActionKey, io::FeatureType::Action, {} } },
            { { io::FeatureType::State, *mode }, { io::FeatureType::Action, *mode } }, statistics,
            row.at("eps").get<double>());
        const at::Tensor action = numbers(row.at("action"));
        RW_TRY(const at::Tensor state, normalizer.normalize(kStateKey, numbers(row.at("state"))));
        RW_TRY(const at::Tensor forward, normalizer.normalize(kActionKey, action));
        RW_TRY(const at::Tensor back, normalizer.unnormalize(kActionKey, action));
        const std::string prefix = fmt::format("{} {} ", i, name);
        compareTensors(report, prefix + "state", state, numbers(row.at("normalised_state")), relative, absolute);
        compareTensors(report, prefix + "action", forward, numbers(row.at("normalised_action")), relative, absolute);
        compareTensors(report, prefix + "back", back, numbers(row.at("unnormalised_action")), relative, absolute);
    }
    return report;
}

Result<CertifyReport> certifyPrompts(const fs::path&, const Json& json, const CertifyOptions&, const JobContext&)
{
    CertifyReport report;
    for (std::size_t i = 0; i < json.at("newline").size(); ++i) {
        const Json& row = json["newline"][i];
        compareText(report, fmt::format("newline {}", i),
                    textDifference(newlinePrompt(row.at("text").get<std::string>()),
                                   row.at("with_newline").get<std::string>()));
    }
    for (std::size_t i = 0; i < json.at("pi05").size(); ++i) {
        const Json& row = json["pi05"][i];
        compareText(report, fmt::format("pi05 {}", i),
                    textDifference(pi05Prompt(row.at("task").get<std::string>(), numbers(row.at("normalised_state"))),
                                   row.at("prompt").get<std::string>()));
    }
    return report;
}

Result<CertifyReport> certifyTokenizer(const fs::path& folder, const Json& table, const CertifyOptions&,
                                       const JobContext&)
{
    std::vector<Warning> warnings;
    RW_TRY(const io::Tokenizer tokenizer, io::Tokenizer::load(folder, warnings));
    CertifyReport report;
    const auto compareIds = [&](const std::string& name, const std::vector<io::TokenId>& ours, const Json& theirs) {
        const Json mine(ours);
        compareText(report, name, mine == theirs ? "" : fmt::format("{} instead of {}", mine.dump(), theirs.dump()));
    };
    const std::int64_t length = table.value("max_length", std::int64_t { 0 });
    for (std::size_t i = 0; i < table.at("rows").size(); ++i) {
        const Json& row = table["rows"][i];
        const auto text = row.at("text").get<std::string>();
        const std::string prefix = fmt::format("{} ", i);
        RW_TRY(const io::Encoding whole, tokenizer.encode(text, {}));
        compareIds(prefix + "ids", whole.ids, row.at("ids"));
        RW_TRY(const io::Encoding bare, tokenizer.encode(text, { .addSpecialTokens = false }));
        compareIds(prefix + "ids_without_special_tokens", bare.ids, row.at("ids_without_special_tokens"));
        if (const std::string padded = fmt::format("padded_{}", length); row.contains(padded)) {
            RW_TRY(const io::Encoding fixed, tokenizer.encode(text, { .maxLength = length, .padTo = length }));
            compareIds(prefix + padded, fixed.ids, row[padded]);
        }
    }
    return report;
}

} // namespace rankwise::models
