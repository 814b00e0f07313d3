// The test program, which also is the worker process of its own evaluations.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/resources.h"
#include "backend/eval/rollout_processes.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

using namespace rankwise;

/// Dies when it gets its first episode; with a marker file only where that is not there yet, and leaves it.
void dieOnce(const std::string& marker)
{
    if (!marker.empty() && std::filesystem::exists(marker)) {
        return;
    }
    if (!marker.empty()) {
        std::ofstream(marker) << "died";
    }
    pollfd request { .fd = eval::kRolloutChannel, .events = POLLIN, .revents = 0 };
    ::poll(&request, 1, -1);
    const rlimit none {};
    ::setrlimit(RLIMIT_CORE, &none);
    std::signal(SIGSEGV, SIG_DFL);
    std::raise(SIGSEGV);
}

/// Writes its workers' process ids to `out` after the first episode and goes on until it is killed.
int evaluateForEver(int out)
{
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    eval::RolloutProcesses processes({ self, "--rollout-worker" }, 2);
    eval::RolloutOptions options;
    options.tasks = { "press_button" };
    options.episodes = 100'000;
    const auto report = processes.run("x", { .policy = resourcePath("nano").value(), .adapter = {} }, options, {},
                                      [&](const eval::RolloutEpisode&, std::int64_t done, std::int64_t) {
                                          const auto ids = processes.processIds();
                                          if (done == 1 && ids.size() == 2) {
                                              (void)!::write(out, ids.data(), 2 * sizeof(int));
                                          }
                                      });
    return report ? 0 : 1;
}

} // namespace

int main(int argc, char** argv)
{
    const std::string_view what = argc > 1 ? argv[1] : "";
    if (what == "--rollout-worker") {
        return eval::serveRollouts(eval::kRolloutChannel);
    }
    if (what == "--rollout-worker-crashing" && argc > 2) {
        dieOnce(argv[2]);
        return eval::serveRollouts(eval::kRolloutChannel);
    }
    if (what == "--evaluate-for-ever" && argc > 2) {
        return evaluateForEver(std::atoi(argv[2]));
    }
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
