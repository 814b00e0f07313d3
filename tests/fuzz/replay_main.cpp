// Runs a fuzz entry point without a fuzzer: every file of the seed folders, then random changes of them, always the
// same ones. Arguments: seconds, seed folders or files. Fails by crashing. SPDX-License-Identifier:
// Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::size_t kMaxSeedBytes = 64 << 10;

void addSeed(const std::filesystem::path& path, std::vector<Bytes>& seeds)
{
    std::error_code error;
    if (std::filesystem::is_regular_file(path, error) && std::filesystem::file_size(path, error) <= kMaxSeedBytes) {
        std::ifstream file(path, std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
}

Bytes changed(Bytes bytes, const std::vector<Bytes>& seeds, std::mt19937& random)
{
    const auto below = [&random](std::size_t n) { return n == 0 ? 0 : random() % n; };
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
        const std::size_t at = below(bytes.size());
        const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        switch (below(6)) {
        case 0:
            bytes.empty() ? void() : void(bytes[at] ^= static_cast<std::uint8_t>(1U << below(8)));
            break;
        case 1:
            bytes.empty() ? void() : void(bytes[at] = static_cast<std::uint8_t>(random()));
            break;
        case 2:
            bytes.resize(at);
            break;
        case 3:
            bytes.insert(place, static_cast<std::uint8_t>(random()));
            break;
        case 4:
            bytes.erase(place, place + static_cast<std::ptrdiff_t>(below(bytes.size() - at)));
            break;
        default: { // a piece of another seed
            const Bytes& other = seeds[below(seeds.size())];
            const std::size_t from = below(other.size());
            const std::size_t length = std::min(other.size() - from, 1 + below(32));
            bytes.insert(place, other.begin() + static_cast<std::ptrdiff_t>(from),
                         other.begin() + static_cast<std::ptrdiff_t>(from + length));
        }
        }
    }
    return bytes;
}

} // namespace

int main(int argc, char** argv)
{
    if (argc < 3) {
        std::fputs("usage: replay SECONDS SEEDS...\n", stderr);
        return 2;
    }
    const double seconds = std::stod(argv[1]);
    std::vector<Bytes> seeds;
    for (int i = 2; i < argc; ++i) {
        if (std::filesystem::is_regular_file(argv[i])) {
            addSeed(argv[i], seeds);
            continue;
        }
        std::vector<std::filesystem::path> files; // sorted: the run is the same everywhere
        for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
            files.push_back(entry.path());
        }
        std::sort(files.begin(), files.end());
        for (const auto& file : files) {
            addSeed(file, seeds);
        }
    }
    if (seeds.empty()) {
        std::fputs("no seeds\n", stderr);
        return 1;
    }
    const auto run = [](const Bytes& bytes) { LLVMFuzzerTestOneInput(bytes.data(), bytes.size()); };
    std::for_each(seeds.begin(), seeds.end(), run);
    std::mt19937 random(20'240'611);
    std::uint64_t inputs = seeds.size();
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (std::chrono::steady_clock::now() < end) {
        run(changed(seeds[random() % seeds.size()], seeds, random));
        ++inputs;
    }
    std::printf("%llu inputs from %zu seeds\n", static_cast<unsigned long long>(inputs), seeds.size());
    return 0;
}
