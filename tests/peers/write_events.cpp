// Writes event files for read_events.py: write_events FOLDER COUNT. Scalars "loss" and "lr" of steps 0 … COUNT-1, the
// second half in a second file, as a resumed run does, and a torn record at the end, as a killed one leaves.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/event_file.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>

using namespace rankwise;

namespace {

Result<void> writeSteps(io::EventFileWriter& writer, std::int64_t from, std::int64_t to)
{
    for (std::int64_t step = from; step < to; ++step) {
        const auto x = static_cast<double>(step);
        if (auto added = writer.addScalars({ { "train/loss", std::exp(-0.1 * x) }, { "train/lr", 1e-3 / (1 + x) } },
                                           step, 1'700'000'000.25 + x);
            !added) {
            return added;
        }
        if (auto added = writer.addScalar("tag with \"ünïcode\"", -x, step, 1'700'000'000 + x); !added) {
            return added;
        }
    }
    return writer.sync();
}

Result<void> run(const char* folder, std::int64_t count)
{
    std::filesystem::path last;
    for (const auto& [from, to] : { std::pair { std::int64_t { 0 }, count / 2 }, std::pair { count / 2, count } }) {
        auto writer = io::EventFileWriter::create(folder);
        if (!writer) {
            return tl::unexpected<Error>(writer.error());
        }
        if (auto written = writeSteps(*writer, from, to); !written) {
            return written;
        }
        last = writer->path();
    }
    std::ofstream(last, std::ios::app | std::ios::binary) << "torn";
    return {};
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: write_events FOLDER COUNT\n");
        return 2;
    }
    const auto written = run(argv[1], std::atoll(argv[2]));
    if (!written) {
        std::fprintf(stderr, "%s\n", written.error().describe().c_str());
    }
    return written ? 0 : 1;
}
