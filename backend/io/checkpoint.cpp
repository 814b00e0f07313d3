// Finding and mapping the files of a checkpoint, and looking for NaN in it.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/checkpoint.h"

#include "backend/base/file.h"
#include "backend/base/json.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace fs = std::filesystem;

struct Checkpoint::State {
    struct File {
        MappedFile map;
        SafetensorsHeader header;
    };
    struct Location {
        std::size_t file = 0;
        const TensorInfo* info = nullptr;
    };

    std::vector<fs::path> paths;
    std::vector<File> files; // filled before `locations` points into it
    std::map<std::string, Location> locations;
    std::vector<std::string> names;
    std::map<std::string, std::string> aliases;
    std::map<std::string, std::string> metadata;
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;

    [[nodiscard]] const Location* find(const std::string& name) const
    {
        auto it = locations.find(name);
        if (it == locations.end()) {
            const auto alias = aliases.find(name);
            it = alias == aliases.end() ? locations.end() : locations.find(alias->second);
        }
        return it == locations.end() ? nullptr : &it->second;
    }
};

namespace {

constexpr std::array<const char*, 3> kWeightNames { "model.safetensors", "model.safetensors.index.json",
                                                    "adapter_model.safetensors" };

bool hasPickleExtension(const fs::path& path)
{
    static const std::set<std::string> extensions { ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle" };
    return extensions.contains(path.extension().string());
}

/// A pickle in `folder` that stands where weights are expected, or an empty path.
fs::path findPickle(const fs::path& folder)
{
    std::set<fs::path> found;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        if (hasPickleExtension(it->path()) && it->is_regular_file(error)) {
            found.insert(it->path());
        }
    }
    return found.empty() ? fs::path() : *found.begin();
}

/// Warnings of a reader that does not know the file get its path.
void addSubject(std::vector<Warning>& warnings, std::size_t from, const fs::path& path)
{
    for (std::size_t i = from; i < warnings.size(); ++i) {
        Warning& warning = warnings[i];
        warning.subject = warning.subject.empty() ? path.string() : path.string() + ": " + warning.subject;
    }
}

Result<std::pair<MappedFile, SafetensorsHeader>> openFile(const fs::path& path, std::vector<Warning>& warnings)
{
    if (hasPickleExtension(path)) {
        std::error_code error;
        if (fs::is_regular_file(path, error)) {
            return failPickle(path);
        }
    }
    RW_TRY(MappedFile map, MappedFile::open(path));
    const std::size_t before = warnings.size();
    auto header = parseSafetensorsHeader(map.bytes(), warnings);
    if (!header) {
        if (header.error().code == Errc::PickleRefused) {
            return failPickle(path);
        }
        Error error = header.error();
        error.subject = path.string();
        return tl::unexpected(std::move(error));
    }
    addSubject(warnings, before, path);
    return std::pair { std::move(map), std::move(*header) };
}

/// Which tensor is in which shard, as the index says.
struct ShardIndex {
    std::map<std::string, std::string> files; ///< Tensor -> file name.
    std::optional<double> totalSize;
    bool totalSizeInvalid = false;
};

bool isPlainName(const std::string& name)
{
    return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\") == std::string::npos
        && name.find('\0') == std::string::npos;
}

Result<ShardIndex> readIndex(const fs::path& path)
{
    RW_TRY(const Json json, readJsonFile(path));
    FieldReader reader(json, path.string());
    const Json* map = reader.requireObject("weight_map");
    const Json* metadata = reader.find("metadata");
    RW_TRY_VOID(reader.result());
    ShardIndex index;
    for (const auto& [name, file] : map->items()) {
        const std::string field = "weight_map." + displayName(name, 200);
        if (!file.is_string()) {
            return fail(Errc::FieldInvalid, fmt::format("{} must be a file name, not {}", field, file.type_name()),
                        path.string());
        }
        const auto& fileName = file.get_ref<const std::string&>();
        if (!isPlainName(fileName)) {
            return fail(Errc::FieldInvalid,
                        fmt::format("{} is \"{}\"; a plain name of a file in the same folder is expected", field,
                                    displayName(fileName, 200)),
                        path.string());
        }
        index.files.emplace(name, fileName);
    }
    if (metadata != nullptr) {
        const auto total = metadata->is_object() ? metadata->find("total_size") : metadata->end();
        if (metadata->is_object() && total != metadata->end()) {
            index.totalSizeInvalid = !total->is_number();
            index.totalSize = total->is_number() ? total->get<double>() : -1.0;
        }
    }
    return index;
}

Result<std::vector<fs::path>> shardPaths(const ShardIndex& index, const fs::path& path)
{
    std::set<std::string> names;
    for (const auto& [tensor, file] : index.files) {
        names.insert(file);
    }
    std::vector<fs::path> paths;
    std::vector<std::string> missing;
    for (const std::string& name : names) {
        const fs::path shard = path.parent_path() / name;
        std::error_code error;
        if (!fs::is_regular_file(shard, error)) {
            missing.push_back(name);
        }
        paths.push_back(shard);
    }
    if (!missing.empty()) {
        return fail(Errc::FileNotFound,
                    fmt::format("{} of {} shards are missing beside the index: {}", missing.size(), names.size(),
                                displayName(fmt::format("{}", fmt::join(missing, ", ")), 2000)),
                    path.string());
    }
    return paths;
}

Result<fs::path> resolveFolder(const fs::path& path)
{
    std::error_code error;
    if (!fs::is_directory(path, error)) {
        return path;
    }
    if (const fs::path weights = findWeights(path); !weights.empty()) {
        return weights;
    }
    if (const fs::path pickle = findPickle(path); !pickle.empty()) {
        return failPickle(pickle);
    }
    return fail(Errc::FileNotFound, fmt::format("the folder holds none of {}", fmt::join(kWeightNames, ", ")),
                path.string());
}

} // namespace

fs::path findWeights(const fs::path& folder)
{
    for (const char* name : kWeightNames) {
        std::error_code error;
        if (fs::is_regular_file(folder / name, error)) {
            return folder / name;
        }
    }
    return {};
}

Checkpoint::Checkpoint(std::shared_ptr<const State> state) : m_state(std::move(state)) { }

Result<Checkpoint> Checkpoint::open(const fs::path& path)
{
    std::vector<Warning> ignored;
    return open(path, ignored);
}

Result<Checkpoint> Checkpoint::open(const fs::path& given, std::vector<Warning>& warnings)
{
    RW_TRY(const fs::path path, resolveFolder(given));
    auto state = std::make_shared<State>();
    std::optional<ShardIndex> index;
    if (path.extension() == ".json") {
        RW_TRY(index, readIndex(path));
        RW_TRY(state->paths, shardPaths(*index, path));
    } else {
        state->paths = { path };
    }

    for (const fs::path& file : state->paths) {
        RW_TRY(auto opened, openFile(file, warnings));
        state->files.push_back({ std::move(opened.first), std::move(opened.second) });
        state->metadata.insert(state->files.back().header.metadata.begin(), state->files.back().header.metadata.end());
    }

    std::size_t unlisted = 0;
    std::string firstUnlisted;
    for (std::size_t i = 0; i < state->files.size(); ++i) {
        for (const auto& [name, info] : state->files[i].header.tensors) {
            if (index && !index->files.contains(name)) {
                firstUnlisted = unlisted++ == 0 ? displayName(name, 200) : firstUnlisted;
            }
            const auto [it, isNew] = state->locations.try_emplace(name, State::Location { i, &info });
            if (!isNew) {
                return fail(Errc::DataInvalid,
                            fmt::format("the tensor \"{}\" is in {} and in {}", displayName(name, 200),
                                        state->paths[it->second.file].filename().string(),
                                        state->paths[i].filename().string()),
                            path.string());
            }
            state->names.push_back(name);
            state->parameters += info.elementCount();
            state->bytes += info.byteCount();
        }
    }
    std::sort(state->names.begin(), state->names.end());

    if (index) {
        for (const auto& [name, file] : index->files) {
            const auto it = state->locations.find(name);
            if (it == state->locations.end() || state->paths[it->second.file].filename() != file) {
                return fail(Errc::TensorNotFound,
                            fmt::format("the index puts \"{}\" into {}, which does not hold it", displayName(name, 200),
                                        displayName(file, 200)),
                            path.string());
            }
        }
        if (unlisted > 0) {
            warnings.push_back({ fmt::format("{} tensors of the shards are not in the index, the first is \"{}\"",
                                             unlisted, firstUnlisted),
                                 path.string() });
        }
        if (index->totalSizeInvalid) {
            warnings.push_back({ "metadata.total_size is not a number", path.string() });
        } else if (index->totalSize && *index->totalSize != static_cast<double>(state->bytes)) {
            warnings.push_back({ fmt::format("metadata.total_size is {:.0f}, the tensors take {} bytes",
                                             *index->totalSize, state->bytes),
                                 path.string() });
        }
        if (index->files.empty()) {
            warnings.push_back({ "weight_map is empty: the checkpoint has no tensors", path.string() });
        }
    }
    for (const auto& [dropped, kept] : state->metadata) {
        if (!state->locations.contains(dropped) && state->locations.contains(kept)) {
            state->aliases.emplace(dropped, kept);
        }
    }
    return Checkpoint(std::move(state));
}

const std::vector<std::string>& Checkpoint::names() const
{
    return m_state->names;
}

const std::map<std::string, std::string>& Checkpoint::aliases() const
{
    return m_state->aliases;
}

bool Checkpoint::contains(const std::string& name) const
{
    return m_state->find(name) != nullptr;
}

Result<TensorInfo> Checkpoint::info(const std::string& name) const
{
    const auto* location = m_state->find(name);
    if (location == nullptr) {
        return fail(Errc::TensorNotFound, "no tensor of this name in the checkpoint", displayName(name));
    }
    return *location->info;
}

Result<std::span<const std::byte>> Checkpoint::bytes(const std::string& name) const
{
    const auto* location = m_state->find(name);
    if (location == nullptr) {
        return fail(Errc::TensorNotFound, "no tensor of this name in the checkpoint", displayName(name));
    }
    const State::File& file = m_state->files[location->file];
    return file.map.bytes().subspan(file.header.dataOffset + location->info->begin, location->info->byteCount());
}

const std::vector<fs::path>& Checkpoint::files() const
{
    return m_state->paths;
}

const std::map<std::string, std::string>& Checkpoint::metadata() const
{
    return m_state->metadata;
}

std::uint64_t Checkpoint::parameterCount() const
{
    return m_state->parameters;
}

std::uint64_t Checkpoint::byteCount() const
{
    return m_state->bytes;
}

namespace {

/// How a float type spells NaN and infinity: all exponent bits set; infinite when the fraction is 0.
struct FloatLayout {
    std::uint64_t exponent; ///< Exponent bits of one element.
    std::uint64_t fraction; ///< Fraction bits of one element.
};

/// Elements of `Unsigned`, eight bytes at a time: adding the exponent's lowest bit to the masked exponent carries into
/// the sign's place exactly when all exponent bits are set.
template <class Unsigned> NonFiniteCount countByExponent(std::span<const std::byte> bytes, FloatLayout layout)
{
    constexpr std::size_t kBits = sizeof(Unsigned) * 8;
    constexpr std::size_t kLanes = 64 / kBits;
    std::uint64_t repeat = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        repeat |= std::uint64_t { 1 } << (lane * kBits);
    }
    const std::uint64_t mask = layout.exponent * repeat;
    const std::uint64_t carry = (layout.exponent & (~layout.exponent + 1)) * repeat;
    const std::uint64_t sign = (std::uint64_t { 1 } << (kBits - 1)) * repeat;

    NonFiniteCount count;
    const auto countSlowly = [&](std::span<const std::byte> part) {
        for (std::size_t i = 0; i + sizeof(Unsigned) <= part.size(); i += sizeof(Unsigned)) {
            Unsigned value {};
            std::memcpy(&value, part.data() + i, sizeof value);
            if ((value & layout.exponent) == layout.exponent) {
                ++((value & layout.fraction) == 0 ? count.infinite : count.nan);
            }
        }
    };
    constexpr std::size_t kWords = 512;
    std::array<std::uint64_t, kWords> block {};
    while (bytes.size() >= sizeof block) {
        std::memcpy(block.data(), bytes.data(), sizeof block);
        std::uint64_t found = 0;
        for (const std::uint64_t word : block) {
            found |= (word & mask) + carry;
        }
        if ((found & sign) != 0) {
            countSlowly(bytes.first(sizeof block));
        }
        bytes = bytes.subspan(sizeof block);
    }
    countSlowly(bytes);
    return count;
}

/// Types whose only special values are a few NaN bytes.
std::uint64_t countBytes(std::span<const std::byte> bytes, unsigned mask, unsigned value)
{
    return static_cast<std::uint64_t>(std::count_if(bytes.begin(), bytes.end(), [mask, value](std::byte b) {
        return (std::to_integer<unsigned>(b) & mask) == value;
    }));
}

} // namespace

NonFiniteCount countNonFinite(Dtype dtype, std::span<const std::byte> bytes)
{
    switch (dtype) {
    case Dtype::F64:
        return countByExponent<std::uint64_t>(bytes, { 0x7FF0'0000'0000'0000, 0x000F'FFFF'FFFF'FFFF });
    case Dtype::C64:
    case Dtype::F32:
        return countByExponent<std::uint32_t>(bytes, { 0x7F80'0000, 0x007F'FFFF });
    case Dtype::F16:
        return countByExponent<std::uint16_t>(bytes, { 0x7C00, 0x03FF });
    case Dtype::BF16:
        return countByExponent<std::uint16_t>(bytes, { 0x7F80, 0x007F });
    case Dtype::F8E5M2:
        return countByExponent<std::uint8_t>(bytes, { 0x7C, 0x03 });
    case Dtype::F8E4M3:
        return { countBytes(bytes, 0x7F, 0x7F), 0 };
    case Dtype::F8E8M0:
        return { countBytes(bytes, 0xFF, 0xFF), 0 };
    case Dtype::F8E4M3Fnuz:
    case Dtype::F8E5M2Fnuz:
        return { countBytes(bytes, 0xFF, 0x80), 0 };
    default:
        return {};
    }
}

Result<std::map<std::string, NonFiniteCount>> scanNonFinite(const Checkpoint& checkpoint, const JobContext& job)
{
    constexpr std::size_t kChunk = 16U << 20; // a multiple of every element size; how often a stop is looked for
    std::map<std::string, NonFiniteCount> result;
    std::uint64_t done = 0;
    for (const std::string& name : checkpoint.names()) {
        RW_TRY(const TensorInfo info, checkpoint.info(name));
        RW_TRY(auto bytes, checkpoint.bytes(name));
        NonFiniteCount count;
        do {
            if (job.stopped()) {
                return fail(Errc::Cancelled, "stopped while looking for NaN", displayName(name));
            }
            const auto part = bytes.first(std::min(bytes.size(), kChunk));
            const NonFiniteCount found = isFloating(info.dtype) ? countNonFinite(info.dtype, part) : NonFiniteCount {};
            count.nan += found.nan;
            count.infinite += found.infinite;
            bytes = bytes.subspan(part.size());
            done += part.size();
        } while (!bytes.empty());
        if (count != NonFiniteCount {}) {
            result.emplace(name, count);
        }
        job.report(
            checkpoint.byteCount() == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(checkpoint.byteCount()),
            "values");
    }
    return result;
}

} // namespace rankwise::io
