// Speed of a tokenizer on a text file, and the ids of its lines for comparison with another implementation.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/io/tokenizer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

using namespace rankwise;
using Clock = std::chrono::steady_clock;

namespace {

std::vector<std::string> linesOf(std::string_view text)
{
    std::vector<std::string> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        lines.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

double seconds(Clock::duration duration)
{
    return std::chrono::duration<double>(duration).count();
}

int failed(const Error& error)
{
    fmt::print(stderr, "{}\n", error.describe());
    return 1;
}

/// Best of several passes over the lines; prints one JSON object.
int measure(const io::Tokenizer& tokenizer, const std::vector<std::string>& lines, double loadSeconds, int passes)
{
    double best = 1e300;
    std::size_t tokens = 0;
    std::size_t bytes = 0;
    for (int pass = 0; pass < passes; ++pass) {
        tokens = 0;
        bytes = 0;
        const auto start = Clock::now();
        for (const std::string& line : lines) {
            const auto encoding = tokenizer.encode(line);
            if (!encoding) {
                return failed(encoding.error());
            }
            tokens += encoding->ids.size();
            bytes += line.size();
        }
        best = std::min(best, seconds(Clock::now() - start));
    }
    fmt::print("{{\"load_s\": {:.4f}, \"best_s\": {:.6f}, \"mb_per_s\": {:.3f}, \"tokens\": {}, \"bytes\": {}}}\n",
               loadSeconds, best, static_cast<double>(bytes) / best / 1e6, tokens, bytes);
    return 0;
}

} // namespace

int main(int argc, char** argv)
{
    const std::vector<std::string_view> arguments(argv + 1, argv + argc);
    const std::string_view mode = arguments.size() == 3 ? arguments[2] : "";
    const bool known = mode.empty() || mode == "--ids" || mode == "--text";
    if (arguments.size() < 2 || arguments.size() > 3 || !known) {
        fmt::print(stderr,
                   "usage: bench_tokenizer TOKENIZER TEXTFILE [--ids | --text]\n"
                   "  --ids   print id:begin:end of each token of each line instead of measuring\n"
                   "  --text  print each line encoded and decoded\n");
        return 2;
    }
    std::vector<Warning> warnings;
    const auto start = Clock::now();
    const auto tokenizer = io::Tokenizer::load(arguments[0], warnings);
    const double loadSeconds = seconds(Clock::now() - start);
    if (!tokenizer) {
        return failed(tokenizer.error());
    }
    const auto text = readFile(arguments[1], std::uint64_t { 4 } << 30);
    if (!text) {
        return failed(text.error());
    }
    const std::vector<std::string> lines = linesOf(*text);
    if (mode.empty()) {
        return measure(*tokenizer, lines, loadSeconds, 5);
    }
    for (const std::string& line : lines) {
        const auto encoding = tokenizer->encode(line, { .offsets = mode == "--ids" });
        if (!encoding) {
            fmt::print("error {}\n", errcName(encoding.error().code));
            continue;
        }
        if (mode == "--text") {
            fmt::print("{}\n", tokenizer->decode(encoding->ids, false));
            continue;
        }
        std::string out;
        for (std::size_t i = 0; i < encoding->ids.size(); ++i) {
            out += fmt::format("{}{}:{}:{}", i > 0 ? " " : "", encoding->ids[i], encoding->offsets[i].begin,
                               encoding->offsets[i].end);
        }
        fmt::print("{}\n", out);
    }
    return 0;
}
