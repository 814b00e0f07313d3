// SPDX-License-Identifier: Apache-2.0
#include "backend/tensor/tensor_file.h"

#include "backend/base/file.h"
#include "backend/io/checkpoint.h"
#include "backend/io/safetensors_writer.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <span>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/core.h>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

namespace rankwise::tensor {

namespace {

struct TypePair {
    io::Dtype stored;
    at::ScalarType torch;
};

constexpr std::array kTypes {
    TypePair { io::Dtype::Bool, at::kBool },
    TypePair { io::Dtype::U8, at::kByte },
    TypePair { io::Dtype::I8, at::kChar },
    TypePair { io::Dtype::F8E5M2, at::kFloat8_e5m2 },
    TypePair { io::Dtype::F8E4M3, at::kFloat8_e4m3fn },
    TypePair { io::Dtype::F8E8M0, at::kFloat8_e8m0fnu },
    TypePair { io::Dtype::F8E4M3Fnuz, at::kFloat8_e4m3fnuz },
    TypePair { io::Dtype::F8E5M2Fnuz, at::kFloat8_e5m2fnuz },
    TypePair { io::Dtype::I16, at::kShort },
    TypePair { io::Dtype::U16, at::kUInt16 },
    TypePair { io::Dtype::F16, at::kHalf },
    TypePair { io::Dtype::BF16, at::kBFloat16 },
    TypePair { io::Dtype::I32, at::kInt },
    TypePair { io::Dtype::U32, at::kUInt32 },
    TypePair { io::Dtype::F32, at::kFloat },
    TypePair { io::Dtype::C64, at::kComplexFloat },
    TypePair { io::Dtype::F64, at::kDouble },
    TypePair { io::Dtype::I64, at::kLong },
    TypePair { io::Dtype::U64, at::kUInt64 },
};

/// A file mapped so that writing copies the page for this process alone.
class PrivateMap {
public:
    static Result<std::shared_ptr<const PrivateMap>> open(const std::filesystem::path& path)
    {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return failErrno(errno, "open", path);
        }
        struct stat status { };
        if (::fstat(fd, &status) != 0) {
            const int error = errno;
            ::close(fd);
            return failErrno(error, "read the size of", path);
        }
        auto map = std::shared_ptr<PrivateMap>(new PrivateMap);
        map->m_size = static_cast<std::size_t>(status.st_size);
        if (map->m_size > 0) {
            void* data = ::mmap(nullptr, map->m_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
            if (data == MAP_FAILED) {
                const int error = errno;
                ::close(fd);
                return failErrno(error, "map", path);
            }
            map->m_data = static_cast<std::byte*>(data);
        }
        ::close(fd);
        return map;
    }

    PrivateMap(const PrivateMap&) = delete;
    PrivateMap& operator=(const PrivateMap&) = delete;
    ~PrivateMap()
    {
        if (m_data != nullptr) {
            ::munmap(m_data, m_size);
        }
    }

    [[nodiscard]] std::byte* data() const { return m_data; }
    [[nodiscard]] std::size_t size() const { return m_size; }

private:
    PrivateMap() = default;

    std::byte* m_data = nullptr;
    std::size_t m_size = 0;
};

struct Place {
    io::TensorInfo info;
    std::shared_ptr<const PrivateMap> map;
    std::size_t offset = 0; ///< Of the first byte in the file.
};

} // namespace

struct TensorFile::State {
    std::map<std::string, Place> places;
    std::map<std::string, std::string> aliases;
    std::map<std::string, std::string> metadata;

    [[nodiscard]] const Place* find(const std::string& name) const
    {
        if (const auto place = places.find(name); place != places.end()) {
            return &place->second;
        }
        const auto alias = aliases.find(name);
        const auto kept = alias == aliases.end() ? places.end() : places.find(alias->second);
        return kept == places.end() ? nullptr : &kept->second;
    }
};

Result<at::ScalarType> scalarTypeOf(io::Dtype dtype)
{
    for (const TypePair& pair : kTypes) {
        if (pair.stored == dtype) {
            return pair.torch;
        }
    }
    return fail(Errc::Unsupported, fmt::format("torch has no element type {}", io::dtypeName(dtype)));
}

Result<io::Dtype> dtypeOf(at::ScalarType type)
{
    for (const TypePair& pair : kTypes) {
        if (pair.torch == type) {
            return pair.stored;
        }
    }
    return fail(Errc::Unsupported, fmt::format("safetensors has no element type {}", c10::toString(type)));
}

std::string dtypeName(at::ScalarType type)
{
    const auto dtype = dtypeOf(type);
    return dtype ? std::string(io::dtypeName(*dtype)) : "?";
}

Result<TensorFile> TensorFile::open(const std::filesystem::path& path)
{
    RW_TRY(const io::Checkpoint checkpoint, io::Checkpoint::open(path));
    auto state = std::make_shared<State>();
    state->aliases = checkpoint.aliases();
    state->metadata = checkpoint.metadata();
    for (const std::filesystem::path& file : checkpoint.files()) {
        RW_TRY(const std::shared_ptr<const PrivateMap> map, PrivateMap::open(file));
        const std::span<const std::byte> bytes(map->data(), map->size());
        RW_TRY(const io::SafetensorsHeader header, io::parseSafetensorsHeader(bytes));
        for (const auto& [name, info] : header.tensors) {
            const std::size_t offset = static_cast<std::size_t>(header.dataOffset + info.begin);
            state->places.try_emplace(name, Place { .info = info, .map = map, .offset = offset });
        }
    }
    TensorFile result;
    result.m_state = std::move(state);
    return result;
}

std::vector<std::string> TensorFile::names() const
{
    std::vector<std::string> names;
    names.reserve(m_state->places.size());
    for (const auto& [name, place] : m_state->places) {
        names.push_back(name);
    }
    return names;
}

bool TensorFile::contains(const std::string& name) const
{
    return m_state->find(name) != nullptr;
}

const std::map<std::string, std::string>& TensorFile::metadata() const
{
    return m_state->metadata;
}

Result<at::Tensor> TensorFile::tensor(const std::string& name) const
{
    const Place* place = m_state->find(name);
    if (place == nullptr) {
        return fail(Errc::TensorNotFound, "no tensor of that name", name);
    }
    auto type = scalarTypeOf(place->info.dtype);
    if (!type) {
        return fail(type.error().code, type.error().message, name);
    }
    const at::TensorOptions options = at::TensorOptions(at::kCPU).dtype(*type);
    if (place->info.byteCount() == 0) {
        return at::empty(place->info.shape, options);
    }
    std::byte* data = place->map->data() + place->offset;
    const std::size_t alignment = c10::elementSize(*type);
    if (reinterpret_cast<std::uintptr_t>(data) % std::max<std::size_t>(alignment, 1) != 0) {
        at::Tensor copy = at::empty(place->info.shape, options);
        std::copy_n(data, place->info.byteCount(), static_cast<std::byte*>(copy.mutable_data_ptr()));
        return copy;
    }
    return at::from_blob(
        data, place->info.shape, [map = place->map](void*) mutable { map.reset(); }, options);
}

Result<TensorMap> TensorFile::all() const
{
    TensorMap tensors;
    for (const auto& [name, place] : m_state->places) {
        RW_TRY(at::Tensor value, tensor(name));
        tensors.emplace_hint(tensors.end(), name, std::move(value));
    }
    return tensors;
}

Result<TensorMap> loadTensors(const std::filesystem::path& path)
{
    RW_TRY(const TensorFile file, TensorFile::open(path));
    return file.all();
}

Result<void> saveTensors(const std::filesystem::path& path, const NamedTensors& tensors,
                         const std::map<std::string, std::string>& metadata, const JobContext& job)
{
    const at::NoGradGuard noGrad;
    std::vector<io::TensorSpec> specs;
    std::map<std::string, const at::Tensor*> byName;
    for (const auto& [name, value] : tensors) {
        RW_CHECK(value.defined(), name);
        auto dtype = dtypeOf(value.scalar_type());
        if (!dtype) {
            return fail(dtype.error().code, dtype.error().message, name);
        }
        specs.push_back({ .name = name, .dtype = *dtype, .shape = value.sizes().vec() });
        byName.try_emplace(name, &value);
    }
    RW_TRY(io::SafetensorsWriter writer, io::SafetensorsWriter::create(path, std::move(specs), metadata));
    std::size_t done = 0;
    for (const io::TensorSpec& spec : writer.specs()) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while writing", path.string());
        }
        const at::Tensor flat = byName.at(spec.name)->detach().to(at::kCPU).contiguous();
        RW_TRY_VOID(writer.write(
            spec.name,
            std::span(static_cast<const std::byte*>(flat.const_data_ptr()), static_cast<std::size_t>(flat.nbytes()))));
        job.report(static_cast<double>(++done) / static_cast<double>(tensors.size()), "save tensors");
    }
    return writer.commit();
}

Result<void> saveTensors(const std::filesystem::path& path, const TensorMap& tensors,
                         const std::map<std::string, std::string>& metadata, const JobContext& job)
{
    return saveTensors(path, NamedTensors(tensors.begin(), tensors.end()), metadata, job);
}

} // namespace rankwise::tensor
