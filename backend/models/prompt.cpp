// Prompt texts, byte for byte as the reference implementations build them.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/prompt.h"

#include "backend/io/tokenizer.h"
#include "backend/io/tokenizer_text.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <utf8proc.h>

namespace rankwise::models {

namespace {

constexpr std::int64_t kEmptyPieceId = 29'871; ///< Llama-2's "▁" alone; the reference hard-codes it.
constexpr int kLastBin = 255;

/// Python's str.isspace(): White_Space and the four separators of ASCII.
bool isPythonSpace(std::uint32_t c)
{
    return (c >= 0x1C && c <= 0x1F) || io::tokenizer::isSpace(c);
}

bool isLetter(std::uint32_t c)
{
    return io::tokenizer::charClass(c) == io::tokenizer::CharClass::Letter;
}

} // namespace

std::string newlinePrompt(std::string_view task)
{
    std::string prompt(task);
    if (!task.ends_with('\n')) {
        prompt += '\n';
    }
    return prompt;
}

int stateBin(double value)
{
    if (std::isnan(value) || value >= 1) {
        return kLastBin;
    }
    if (value < -1) {
        return -1;
    }
    return static_cast<int>(std::floor(value * 128)) + 128;
}

std::string pi05Prompt(std::string_view task, const at::Tensor& state)
{
    std::string text(stripped(task));
    std::replace(text.begin(), text.end(), '_', ' ');
    std::replace(text.begin(), text.end(), '\n', ' ');
    const at::Tensor values = state.to(at::kCPU, at::kDouble).contiguous();
    RW_CHECK(values.dim() == 1);
    std::string prompt = "Task: " + text + ", State:";
    const double* value = values.const_data_ptr<double>();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
        prompt += fmt::format(" {}", stateBin(value[i]));
    }
    // Without any value the join of the reference leaves the space after the colon.
    prompt += values.numel() == 0 ? " " : "";
    return prompt + ";\nAction: ";
}

std::string openVlaPrompt(std::string_view task)
{
    return "In: What action should the robot take to " + lowerCase(task) + "?\nOut:";
}

Result<std::vector<std::int64_t>> openVlaPromptIds(const io::Tokenizer& tokenizer, std::string_view task)
{
    RW_TRY(io::Encoding encoding, tokenizer.encode(openVlaPrompt(task)));
    if (encoding.ids.empty() || encoding.ids.back() != kEmptyPieceId) {
        encoding.ids.push_back(kEmptyPieceId);
    }
    return std::move(encoding.ids);
}

std::string lowerCase(std::string_view text)
{
    constexpr std::uint32_t kSigma = 0x3A3;
    constexpr std::uint32_t kFinalSigma = 0x3C2;
    constexpr std::uint32_t kDottedI = 0x130;
    if (!io::tokenizer::isUtf8(text)) {
        return std::string(text);
    }
    std::string out;
    bool letterBefore = false;
    for (std::size_t i = 0; i < text.size();) {
        const std::uint32_t c = io::tokenizer::codePointAt(text, i);
        i += io::tokenizer::charLength(text[i]);
        if (c == kDottedI) {
            out += "i\xCC\x87";
        } else if (c == kSigma && letterBefore
                   && (i >= text.size() || !isLetter(io::tokenizer::codePointAt(text, i)))) {
            io::tokenizer::appendCodePoint(out, kFinalSigma);
        } else {
            const auto lower = utf8proc_tolower(static_cast<utf8proc_int32_t>(c));
            io::tokenizer::appendCodePoint(out, static_cast<std::uint32_t>(lower));
        }
        letterBefore = isLetter(c);
    }
    return out;
}

std::string_view stripped(std::string_view text)
{
    if (!io::tokenizer::isUtf8(text)) {
        return text;
    }
    while (!text.empty() && isPythonSpace(io::tokenizer::codePointAt(text, 0))) {
        text.remove_prefix(io::tokenizer::charLength(text[0]));
    }
    while (!text.empty()) {
        const std::size_t last = io::tokenizer::previousChar(text, text.size());
        if (!isPythonSpace(io::tokenizer::codePointAt(text, last))) {
            break;
        }
        text = text.substr(0, last);
    }
    return text;
}

} // namespace rankwise::models
