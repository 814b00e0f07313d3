// libFuzzer target: no tokenizer.json and no text may crash, hang or read outside the buffer.
// The input is the file; what follows a zero byte is the text to encode.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::size_t zero = std::min(input.find('\0'), size);
    std::vector<rankwise::Warning> warnings;
    const auto tokenizer = rankwise::io::Tokenizer::fromJson(input.substr(0, zero), "fuzz.json", warnings);
    if (tokenizer) {
        const std::string_view text = zero < size ? input.substr(zero + 1) : std::string_view("pick up <s> \n 12");
        if (const auto encoding = tokenizer->encode(text, { .maxLength = 64, .offsets = true })) {
            (void)tokenizer->decode(encoding->ids, false);
        }
    }
    return 0;
}
