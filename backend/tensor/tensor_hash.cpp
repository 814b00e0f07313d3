// SPDX-License-Identifier: Apache-2.0
#include "backend/tensor/tensor_hash.h"

#include "backend/base/sha256.h"

#include <cstddef>
#include <span>

#include <fmt/core.h>
#include <fmt/format.h>

namespace rankwise::tensor {

namespace {

std::span<const std::byte> bytesOf(const at::Tensor& flat)
{
    return { static_cast<const std::byte*>(flat.const_data_ptr()), static_cast<std::size_t>(flat.nbytes()) };
}

} // namespace

std::string sha256OfTensor(const at::Tensor& tensor)
{
    return sha256Hex(bytesOf(tensor.detach().to(at::kCPU).contiguous()));
}

Result<std::map<std::string, std::string>> hashTensors(const TensorMap& tensors, const JobContext& job)
{
    std::map<std::string, std::string> hashes;
    for (const auto& [name, value] : tensors) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while hashing");
        }
        hashes.emplace_hint(hashes.end(), name, sha256OfTensor(value));
        job.report(static_cast<double>(hashes.size()) / static_cast<double>(tensors.size()), "hash tensors");
    }
    return hashes;
}

Result<std::string> sha256OfTensors(const TensorMap& tensors, const JobContext& job)
{
    Sha256 digest;
    std::size_t done = 0;
    for (const auto& [name, value] : tensors) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while hashing");
        }
        const at::Tensor flat = value.detach().to(at::kCPU).contiguous();
        const std::string head =
            fmt::format("{}\n{}\n[{}]\n", name, dtypeName(value.scalar_type()), fmt::join(value.sizes(), ","));
        digest.update(std::as_bytes(std::span(head)));
        digest.update(bytesOf(flat));
        job.report(static_cast<double>(++done) / static_cast<double>(tensors.size()), "hash tensors");
    }
    return digest.hex();
}

} // namespace rankwise::tensor
