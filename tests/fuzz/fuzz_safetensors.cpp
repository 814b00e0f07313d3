// libFuzzer target: no input may crash, hang or read outside the buffer.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/checkpoint.h"
#include "backend/io/safetensors_reader.h"
#include "backend/io/safetensors_writer.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace rankwise::io;
    const auto file = std::as_bytes(std::span(data, size));
    const auto header = parseSafetensorsHeader(file);
    if (!header) {
        return 0;
    }
    std::vector<TensorSpec> specs;
    for (const auto& [name, info] : header->tensors) {
        const auto bytes = tensorBytes(*header, file, name);
        if (!bytes || bytes->size() != info.byteCount()) {
            std::abort();
        }
        (void)countNonFinite(info.dtype, *bytes);
        specs.push_back({ name, info.dtype, info.shape });
    }
    if (!safetensorsHeaderText(specs, header->metadata)) {
        std::abort(); // what was read can be written
    }
    return 0;
}
