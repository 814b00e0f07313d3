// Reads a checkpoint and writes it again: `copy_safetensors IN OUT`. For the comparison with the reference library.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/checkpoint.h"
#include "backend/io/safetensors_writer.h"

#include <cstdio>

namespace {

rankwise::Result<void> copy(const char* from, const char* to)
{
    using namespace rankwise::io;
    RW_TRY(const Checkpoint checkpoint, Checkpoint::open(from));
    std::map<std::string, TensorView> views;
    for (const std::string& name : checkpoint.names()) {
        RW_TRY(const TensorInfo info, checkpoint.info(name));
        RW_TRY(const auto bytes, checkpoint.bytes(name));
        views[name] = { info.dtype, info.shape, bytes };
    }
    return writeSafetensors(to, views, checkpoint.metadata());
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 3) {
        std::fputs("usage: copy_safetensors IN OUT\n", stderr);
        return 2;
    }
    const auto copied = copy(argv[1], argv[2]);
    if (!copied) {
        std::fprintf(stderr, "%s\n", copied.error().describe().c_str());
    }
    return copied ? 0 : 1;
}
