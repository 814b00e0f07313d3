// Streams by SplitMix64 of their coordinates, numbers by torch's CPU generator.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/flow_noise.h"

#include <ATen/Context.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>

namespace rankwise::train {

namespace {

std::uint64_t mixed(std::uint64_t value)
{
    value += 0x9e3779b97f4a7c15U;
    value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31U);
}

} // namespace

std::uint64_t streamSeed(std::uint64_t seed, RandomStream stream, std::int64_t step, std::int64_t pass)
{
    std::uint64_t value = mixed(seed);
    value = mixed(value ^ static_cast<std::uint64_t>(stream));
    value = mixed(value ^ static_cast<std::uint64_t>(step));
    return mixed(value ^ static_cast<std::uint64_t>(pass));
}

at::Tensor drawNoise(std::uint64_t seed, std::int64_t batch, std::int64_t chunk, std::int64_t width)
{
    return at::empty({ batch, chunk, width }, at::TensorOptions().dtype(at::kFloat))
        .normal_(0, 1, at::detail::createCPUGenerator(seed));
}

FlowDraw drawFlow(std::uint64_t seed, std::int64_t step, std::int64_t pass, std::int64_t batch, std::int64_t chunk,
                  std::int64_t width)
{
    const at::Tensor uniform =
        at::empty({ batch }, at::TensorOptions().dtype(at::kFloat))
            .uniform_(0, 1, at::detail::createCPUGenerator(streamSeed(seed, RandomStream::Time, step, pass)));
    return { .noise = drawNoise(streamSeed(seed, RandomStream::Noise, step, pass), batch, chunk, width),
             .time = uniform.pow(2.0 / 3.0).mul_(0.999).add_(0.001) };
}

void seedDropout(std::uint64_t seed, std::int64_t step, std::int64_t pass)
{
    at::manual_seed(streamSeed(seed, RandomStream::Dropout, step, pass));
}

} // namespace rankwise::train
