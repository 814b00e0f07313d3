// Speed of a tokenizer on a text file, and the ids of its lines for comparison with another implementation.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/io/tokenizer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

using namespace rankwise;
using Clock = std::chrono::steady_clock;

namespace {

std::vector<std::string> linesOf(const std::string& text)
{
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.push_back(text.substr(begin, end - begin));
        begin = end + 1;
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
    CLI::App app { "Encodes every line of a text file" };
    std::string tokenizerPath;
    std::string textPath;
    bool dump = false;
    bool offsets = false;
    bool decode = false;
    int passes = 5;
    app.add_option("--tokenizer", tokenizerPath, "tokenizer.json, .model or a folder")->required();
    app.add_option("--text", textPath, "text file")->required();
    app.add_option("--passes", passes, "how often to encode the file; the best pass counts");
    app.add_flag("--dump", dump, "print the ids of each line instead of measuring");
    app.add_flag("--offsets", offsets, "with --dump: byte ranges as begin:end");
    app.add_flag("--decode", decode, "with --dump: the decoded text instead of the ids");
    CLI11_PARSE(app, argc, argv);

    std::vector<Warning> warnings;
    const auto start = Clock::now();
    const auto tokenizer = io::Tokenizer::load(tokenizerPath, warnings);
    const double loadSeconds = seconds(Clock::now() - start);
    if (!tokenizer) {
        return failed(tokenizer.error());
    }
    const auto text = readFile(textPath, std::uint64_t { 4 } << 30);
    if (!text) {
        return failed(text.error());
    }
    const std::vector<std::string> lines = linesOf(*text);
    if (!dump) {
        return measure(*tokenizer, lines, loadSeconds, passes);
    }
    for (const std::string& line : lines) {
        const auto encoding = tokenizer->encode(line, { .offsets = offsets });
        if (!encoding) {
            fmt::print("error {}\n", errcName(encoding.error().code));
            continue;
        }
        if (decode) {
            fmt::print("{}\n", tokenizer->decode(encoding->ids, false));
            continue;
        }
        std::string out;
        for (std::size_t i = 0; i < encoding->ids.size(); ++i) {
            out += fmt::format("{}{}", i > 0 ? " " : "", encoding->ids[i]);
            if (offsets) {
                out += fmt::format(":{}:{}", encoding->offsets[i].begin, encoding->offsets[i].end);
            }
        }
        fmt::print("{}\n", out);
    }
    return 0;
}
