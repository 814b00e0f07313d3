// libFuzzer target: no message may crash, hang or allocate by an unchecked number; what decodes encodes to a message
// that decodes to the same bytes again.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/msgpack.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace rankwise::io;
    const auto value = decodeMsgpack(std::as_bytes(std::span(data, size)));
    if (!value) {
        return 0;
    }
    const auto message = encodeMsgpack(*value);
    if (!message) {
        std::abort();
    }
    // NaN differs from itself, so that messages are compared instead of values.
    const auto again = decodeMsgpack(*message);
    if (!again || encodeMsgpack(*again).value() != *message) {
        std::abort();
    }
    return 0;
}
