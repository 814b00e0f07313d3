// Measures opening and loading a checkpoint file: the first table, and every tensor in memory.
//
//   bench_checkpoint table FILE   wall and memory until names, shapes and dtypes are known
//   bench_checkpoint load FILE    the same until every page of every tensor was read
//
// run_checkpoint_bench.sh runs the peer beside it. SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/io/checkpoint.h"
#include "backend/tensor/tensor_file.h"
#include "tests/bench/bench_support.h"

#include <cstdio>
#include <string>

#include <fmt/core.h>

#include <ATen/core/Tensor.h>

namespace {

using namespace rankwise;

using bench::cpuSeconds;
using bench::must;
using bench::peakMb;

std::int64_t readTable(const std::string& file)
{
    const io::Checkpoint checkpoint = must(io::Checkpoint::open(file));
    return static_cast<std::int64_t>(checkpoint.names().size());
}

std::int64_t readAll(const std::string& file)
{
    std::int64_t sum = 0;
    for (const auto& [name, tensor] : must(tensor::loadTensors(file))) {
        const at::Tensor bytes = tensor.flatten().view(at::kByte);
        sum += bytes.slice(0, 0, bytes.size(0), 4096).sum().item<std::int64_t>();
    }
    return sum;
}

} // namespace

int main(int argc, char** argv)
{
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() != 2 || (arguments[0] != "table" && arguments[0] != "load")) {
        fmt::print(stderr, "usage: see the first lines of bench_checkpoint.cpp\n");
        return 2;
    }
    const double memory = peakMb();
    const double cpu = cpuSeconds();
    const double start = bench::wallSeconds();
    const std::int64_t result = arguments[0] == "table" ? readTable(arguments[1]) : readAll(arguments[1]);
    const double wall = bench::wallSeconds() - start;
    fmt::print("{{\"wall_s\": {:.4f}, \"cpu_s\": {:.4f}, \"more_mb\": {:.1f}, \"peak_mb\": {:.1f}, \"result\": {}}}\n",
               wall, cpuSeconds() - cpu, peakMb() - memory, peakMb(), result);
    return 0;
}
