// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/snapshot.h"

#include "backend/base/file.h"
#include "backend/io/safetensors_reader.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

namespace rankwise::bridge {

namespace {

template <class T> std::vector<double> convert(std::span<const std::byte> bytes)
{
    std::vector<double> values(bytes.size() / sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        T value;
        std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
        values[i] = static_cast<double>(value);
    }
    return values;
}

std::vector<double> convertBrain(std::span<const std::byte> bytes)
{
    std::vector<double> values(bytes.size() / 2);
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t half = 0;
        std::memcpy(&half, bytes.data() + 2 * i, 2);
        const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
        float value = 0;
        std::memcpy(&value, &bits, 4);
        values[i] = static_cast<double>(value);
    }
    return values;
}

Result<std::vector<double>> values(io::Dtype dtype, std::span<const std::byte> bytes, const std::string& name)
{
    switch (dtype) {
    case io::Dtype::F64:
        return convert<double>(bytes);
    case io::Dtype::F32:
        return convert<float>(bytes);
    case io::Dtype::BF16:
        return convertBrain(bytes);
    case io::Dtype::I64:
        return convert<std::int64_t>(bytes);
    case io::Dtype::I32:
        return convert<std::int32_t>(bytes);
    case io::Dtype::U8:
        return convert<std::uint8_t>(bytes);
    default:
        return fail(Errc::Unsupported, "is stored in a type that is not shown", name);
    }
}

std::vector<double>* fieldOf(LayerSnapshot& layer, std::string_view what)
{
    return what == "rank_histogram" ? &layer.rankHistogram
        : what == "kept"            ? &layer.kept
        : what == "share"           ? &layer.share
        : what == "gates"           ? &layer.gates
                                    : nullptr;
}

} // namespace

double LayerSnapshot::meanRank() const
{
    double sum = 0;
    for (std::size_t k = 0; k < rankHistogram.size(); ++k) {
        sum += static_cast<double>(k) * rankHistogram[k];
    }
    return tokens > 0 ? sum / tokens : 0;
}

std::vector<double> LayerSnapshot::sortedShares() const
{
    std::vector<double> sorted = share;
    for (double& value : sorted) {
        value = sampled > 0 ? value / sampled : 0;
    }
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    return sorted;
}

Result<Snapshot> readSnapshot(const std::filesystem::path& path, const JobContext& job)
{
    RW_TRY(const MappedFile file, MappedFile::open(path));
    RW_TRY(const io::SafetensorsHeader header, io::parseSafetensorsHeader(file.bytes()));
    Snapshot snapshot;
    double done = 0;
    for (const auto& [name, info] : header.tensors) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", path.string());
        }
        job.report(++done / static_cast<double>(header.tensors.size()), name);
        const std::size_t dot = name.rfind('.');
        if (dot == std::string::npos) {
            continue;
        }
        const std::string layer = name.substr(0, dot);
        const std::string what = name.substr(dot + 1);
        const bool spectrum = what.ends_with("singular_values");
        const bool counts = what == "tokens";
        if (!spectrum && !counts && fieldOf(snapshot.layers[layer], what) == nullptr) {
            continue;
        }
        RW_TRY(const std::span<const std::byte> bytes, io::tensorBytes(header, file.bytes(), name));
        RW_TRY(std::vector<double> numbers, values(info.dtype, bytes, name));
        if (spectrum) {
            snapshot.spectra[layer][what] = std::move(numbers);
        } else if (counts) {
            snapshot.layers[layer].sampled = numbers.size() == 2 ? numbers[1] : 0;
        } else {
            *fieldOf(snapshot.layers[layer], what) = std::move(numbers);
        }
    }
    for (auto& [path_, layer] : snapshot.layers) {
        layer.tokens = std::accumulate(layer.rankHistogram.begin(), layer.rankHistogram.end(), 0.0);
        layer.sampled = layer.sampled > 0 ? layer.sampled : layer.tokens;
    }
    std::erase_if(snapshot.layers, [](const auto& item) { return item.second.rankHistogram.empty(); });
    return snapshot;
}

Result<std::vector<double>> tensorValues(const std::filesystem::path& path, const std::string& name)
{
    RW_TRY(const MappedFile file, MappedFile::open(path));
    RW_TRY(const io::SafetensorsHeader header, io::parseSafetensorsHeader(file.bytes()));
    RW_TRY(const std::span<const std::byte> bytes, io::tensorBytes(header, file.bytes(), name));
    return values(header.tensors.at(name).dtype, bytes, name);
}

} // namespace rankwise::bridge
