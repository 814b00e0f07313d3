// Speed of the practice arm: control steps (50 physics steps each) with the expert and two views of 96 pixels, and its
// parts. "per CPU s" counts the time of all threads, software rendering included: what one core does.
// Usage: bench_sim [steps a task] [pixels]
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/environment.h"
#include "backend/sim/episode_generator.h"
#include "backend/sim/expert.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

using namespace rankwise;
using namespace rankwise::sim;

namespace {

struct Clocks {
    double wall = 0;
    double cpu = 0;

    static Clocks now()
    {
        timespec cpu {};
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
        return { std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
                 static_cast<double>(cpu.tv_sec) + 1e-9 * static_cast<double>(cpu.tv_nsec) };
    }
    Clocks since(const Clocks& start) const { return { wall - start.wall, cpu - start.cpu }; }
    void add(const Clocks& other)
    {
        wall += other.wall;
        cpu += other.cpu;
    }
};

Result<void> measureTask(const std::string& task, int steps, int pixels)
{
    RW_TRY(const auto environment, Environment::create(task));
    Expert expert(*environment);
    RW_TRY_VOID(environment->observation(pixels, pixels).map([](const Observation&) {}));
    Clocks acting;
    Clocks drawing;
    Clocks moving;
    std::uint64_t seed = 0;
    environment->reset(seed);
    for (int i = 0; i < steps; ++i) {
        if (environment->success() || environment->stepCount() >= environment->description().expertTimeLimit) {
            environment->reset(++seed);
        }
        const Clocks a = Clocks::now();
        const Action action = expert.act(*environment);
        const Clocks b = Clocks::now();
        RW_TRY_VOID(environment->observation(pixels, pixels).map([](const Observation&) {}));
        const Clocks c = Clocks::now();
        RW_TRY_VOID(environment->step(action));
        acting.add(b.since(a));
        drawing.add(c.since(b));
        moving.add(Clocks::now().since(c));
    }
    const double wall = acting.wall + drawing.wall + moving.wall;
    const double cpu = acting.cpu + drawing.cpu + moving.cpu;
    std::printf("%-13s %8.0f %10.0f   %6.3f %9.2f %10.2f\n", task.c_str(), steps / wall, steps / cpu,
                1e3 * acting.cpu / steps, 1e3 * drawing.cpu / steps, 1e3 * moving.cpu / steps);
    return {};
}

Result<void> measureGenerator(int pixels, int threads)
{
    GeneratorOptions options;
    options.episodes = 4;
    options.width = pixels;
    options.height = pixels;
    options.threads = threads;
    const Clocks start = Clocks::now();
    RW_TRY(const GeneratorSummary summary, generateEpisodes(options, {}, [](Episode&&) -> Result<void> { return {}; }));
    const Clocks used = Clocks::now().since(start);
    std::printf(
        "generator, %d threads: %lld episodes, %lld frames, %.0f frames/s, %.0f frames per CPU s, %.1f episodes/s\n",
        threads, static_cast<long long>(summary.episodes), static_cast<long long>(summary.frames),
        static_cast<double>(summary.frames) / used.wall, static_cast<double>(summary.frames) / used.cpu,
        static_cast<double>(summary.episodes) / used.wall);
    return {};
}

Result<void> run(int steps, int pixels)
{
    RW_TRY(const std::string device, checkRendering());
    std::printf("MuJoCo %s, %s, two views of %d px\n", mujocoVersion().c_str(), device.c_str(), pixels);
    std::printf("%-13s %8s %10s   %6s %9s %10s\n", "task", "steps/s", "per CPU s", "expert", "2 views", "50 physics");
    for (const std::string& task : taskNames()) {
        RW_TRY_VOID(measureTask(task, steps, pixels));
    }
    std::printf("(last three columns: CPU ms a step)\n");
    RW_TRY_VOID(measureGenerator(pixels, 1));
    return measureGenerator(pixels, 2);
}

} // namespace

int main(int argc, char** argv)
{
    const int steps = argc > 1 ? std::atoi(argv[1]) : 200;
    const int pixels = argc > 2 ? std::atoi(argv[2]) : 96;
    if (const auto done = run(std::max(steps, 1), pixels); !done) {
        std::fprintf(stderr, "%s\n", done.error().describe().c_str());
        return 1;
    }
    return 0;
}
