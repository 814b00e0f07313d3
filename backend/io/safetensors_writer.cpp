// Streaming writer and sharding.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/safetensors_writer.h"

#include "backend/base/checked_math.h"
#include "backend/base/json.h"
#include "backend/io/safetensors_reader.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

/// A JSON string literal, or an error for text that is not UTF-8.
Result<std::string> jsonString(const std::string& text)
{
    try {
        return Json(text).dump();
    } catch (const Json::type_error&) {
        return fail(Errc::FieldInvalid, "is not UTF-8 and cannot be stored", displayName(text));
    }
}

Result<std::string> metadataText(const Metadata& metadata)
{
    std::string text;
    for (const auto& [key, value] : metadata) {
        RW_TRY(const std::string keyText, jsonString(key));
        RW_TRY(const std::string valueText, jsonString(value));
        text += (text.empty() ? "" : ",") + keyText + ":" + valueText;
    }
    return "\"__metadata__\":{" + text + "}";
}

Result<void> checkNames(const std::vector<TensorSpec>& specs)
{
    std::vector<std::string_view> names;
    names.reserve(specs.size());
    for (const TensorSpec& spec : specs) {
        if (spec.name == "__metadata__") {
            return fail(Errc::FieldInvalid, "no tensor may have this reserved name", spec.name);
        }
        names.push_back(spec.name);
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) {
        return fail(Errc::AlreadyExists, "two tensors have this name", displayName(*twice));
    }
    return {};
}

std::vector<TensorSpec> specsOf(const std::map<std::string, TensorView>& tensors)
{
    std::vector<TensorSpec> specs;
    specs.reserve(tensors.size());
    for (const auto& [name, view] : tensors) {
        specs.push_back({ name, view.dtype, view.shape });
    }
    return specs;
}

using ViewPointers = std::vector<std::pair<const std::string*, const TensorView*>>;

std::vector<ViewPointers> splitIntoShards(const std::map<std::string, TensorView>& tensors, std::uint64_t maxBytes)
{
    std::vector<ViewPointers> shards(1);
    std::uint64_t filled = 0;
    for (const auto& [name, view] : tensors) {
        const std::uint64_t size = view.bytes.size();
        if (!shards.back().empty() && (filled > maxBytes || size > maxBytes - filled)) {
            shards.emplace_back();
            filled = 0;
        }
        shards.back().emplace_back(&name, &view);
        filled += size;
    }
    return shards;
}

} // namespace

Result<std::string> safetensorsHeaderText(std::vector<TensorSpec>& specs, const Metadata& metadata)
{
    RW_TRY_VOID(checkNames(specs));
    std::sort(specs.begin(), specs.end(), [](const TensorSpec& a, const TensorSpec& b) {
        return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
    });
    std::string json = "{";
    if (!metadata.empty()) {
        RW_TRY(json, metadataText(metadata));
        json.insert(0, "{");
    }
    std::uint64_t offset = 0;
    for (const TensorSpec& spec : specs) {
        auto size = tensorByteCount(spec.dtype, spec.shape);
        if (!size) {
            return fail(size.error().code, size.error().message, displayName(spec.name));
        }
        const auto end = checkedAdd(offset, *size);
        if (!end) {
            return fail(Errc::ShapeOverflow, "the tensors together do not fit 64 bits", displayName(spec.name));
        }
        RW_TRY(const std::string name, jsonString(spec.name));
        json +=
            fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", json.size() > 1 ? "," : "",
                        name, dtypeName(spec.dtype), fmt::join(spec.shape, ","), offset, *end);
        offset = *end;
    }
    json += '}';
    json.append((8 - json.size() % 8) % 8, ' ');
    if (json.size() > kMaxHeaderBytes) {
        return fail(Errc::HeaderTooLarge,
                    fmt::format("names and shapes of {} tensors take {} bytes, at most {} are "
                                "allowed",
                                specs.size(), json.size(), kMaxHeaderBytes));
    }
    const std::uint64_t length = json.size();
    std::string text(sizeof length, '\0');
    std::memcpy(text.data(), &length, sizeof length);
    return text + json;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const fs::path& path, std::vector<TensorSpec> specs,
                                                    const Metadata& metadata)
{
    RW_TRY(const std::string header, safetensorsHeaderText(specs, metadata));
    RW_TRY(AtomicFile file, AtomicFile::create(path));
    SafetensorsWriter writer(std::move(file));
    writer.m_path = path.string();
    std::uint64_t offset = header.size();
    for (std::size_t i = 0; i < specs.size(); ++i) {
        const std::uint64_t length = tensorByteCount(specs[i].dtype, specs[i].shape).value();
        writer.m_ranges.emplace(specs[i].name, Range { offset, length, 0, i });
        offset += length;
    }
    writer.m_specs = std::move(specs);
    RW_TRY_VOID(writer.m_file.write(header));
    return writer;
}

Result<void> SafetensorsWriter::write(const std::string& name, std::span<const std::byte> bytes)
{
    const auto it = m_ranges.find(name);
    if (it != m_ranges.end() && it->second.written == 0 && it->second.length != bytes.size()) {
        const TensorSpec& spec = m_specs[it->second.index];
        return fail(Errc::ShapeMismatch,
                    fmt::format("{} of shape {} takes {} bytes, {} were given", dtypeName(spec.dtype),
                                shapeText(spec.shape), it->second.length, bytes.size()),
                    displayName(name));
    }
    if (it != m_ranges.end() && it->second.written > 0) {
        return fail(Errc::AlreadyExists, "the tensor was written before", displayName(name));
    }
    return append(name, bytes);
}

Result<void> SafetensorsWriter::append(const std::string& name, std::span<const std::byte> bytes)
{
    const auto it = m_ranges.find(name);
    if (it == m_ranges.end()) {
        return fail(Errc::TensorNotFound, "the tensor was not declared before writing began", displayName(name));
    }
    Range& range = it->second;
    if (bytes.size() > range.length - range.written) {
        return fail(Errc::ShapeMismatch,
                    fmt::format("{} more bytes for a tensor of {}, of which {} are written", bytes.size(), range.length,
                                range.written),
                    displayName(name));
    }
    RW_TRY_VOID(m_file.writeAt(range.begin + range.written, bytes));
    range.written += bytes.size();
    return {};
}

Result<void> SafetensorsWriter::commit()
{
    std::vector<std::string> missing;
    for (const auto& [name, range] : m_ranges) {
        if (range.written != range.length) {
            missing.push_back(displayName(name, 200));
        }
    }
    if (!missing.empty()) {
        return fail(Errc::DataInvalid,
                    fmt::format("{} tensors were not completely written: {}", missing.size(),
                                displayName(fmt::format("{}", fmt::join(missing, ", ")), 2000)),
                    m_path);
    }
    return m_file.commit();
}

Result<void> writeSafetensors(const fs::path& path, const std::map<std::string, TensorView>& tensors,
                              const Metadata& metadata, const JobContext& job)
{
    RW_TRY(auto writer, SafetensorsWriter::create(path, specsOf(tensors), metadata));
    std::size_t done = 0;
    for (const TensorSpec& spec : writer.specs()) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while writing", path.string());
        }
        RW_TRY_VOID(writer.write(spec.name, tensors.at(spec.name).bytes));
        job.report(static_cast<double>(++done) / static_cast<double>(tensors.size()), spec.name);
    }
    return writer.commit();
}

Result<std::vector<fs::path>> writeSharded(const fs::path& folder, const std::string& stem,
                                           const std::map<std::string, TensorView>& tensors,
                                           std::uint64_t maxShardBytes, const Metadata& metadata, const JobContext& job)
{
    if (stem.empty() || stem.find_first_of("/\\") != std::string::npos) {
        return fail(Errc::UsageInvalid, "the stem of the file names must be a plain name", stem);
    }
    const auto shards = splitIntoShards(tensors, maxShardBytes);
    const fs::path single = folder / (stem + ".safetensors");
    const fs::path indexPath = folder / (stem + ".safetensors.index.json");
    std::error_code ignored;
    if (shards.size() == 1) {
        RW_TRY_VOID(writeSafetensors(single, tensors, metadata, job));
        fs::remove(indexPath, ignored); // of an earlier, sharded save: it would name files that no longer belong
        return std::vector { single };
    }
    std::vector<fs::path> files;
    OrderedJson weightMap = OrderedJson::object();
    std::map<std::string, std::string> fileOf;
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < shards.size(); ++i) {
        const std::string name = fmt::format("{}-{:05}-of-{:05}.safetensors", stem, i + 1, shards.size());
        std::map<std::string, TensorView> part;
        for (const auto& [tensor, view] : shards[i]) {
            part.emplace(*tensor, *view);
            fileOf.emplace(*tensor, name);
            total += view->bytes.size();
        }
        RW_TRY_VOID(writeSafetensors(folder / name, part, metadata, job));
        files.push_back(folder / name);
    }
    for (const auto& [tensor, name] : fileOf) {
        weightMap[tensor] = name;
    }
    const OrderedJson index { { "metadata", { { "total_size", total } } }, { "weight_map", std::move(weightMap) } };
    RW_TRY_VOID(writeFileAtomically(indexPath, jsonText(index)));
    files.push_back(indexPath);
    fs::remove(single, ignored); // of an earlier save in one file, which readers would prefer
    return files;
}

} // namespace rankwise::io
