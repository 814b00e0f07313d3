// The parts of small_parts.h put together, and child processes of the test program that train.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/train/checkpoint.h"
#include "backend/train/run_directory.h"
#include "backend/train/training_loop.h"

#include "small_parts.h"

#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

namespace rankwise::test {

struct SmallRun {
    /// With an empty folder nothing is written.
    SmallRun(train::TrainConfig c, const std::filesystem::path& folder, bool resume = false);
    [[nodiscard]] train::LoopParts parts();
    [[nodiscard]] Result<train::TrainSummary> train();

    train::TrainConfig config;
    SmallPolicy policy;
    SmallMethod method;
    SmallBatches batches;
    std::unique_ptr<train::AdamW> optimizer;
    std::unique_ptr<train::RunWriter> run;
    train::TrainObserver observer;
    train::TrainerState start;
    JobContext job;
};

/// Starts this test program again as a training worker with `arguments`; see main.cpp.
[[nodiscard]] pid_t startChild(const std::vector<std::string>& arguments);
/// As startChild(), and waits: the exit status, or -1 when it ended by a signal.
[[nodiscard]] int runChild(const std::vector<std::string>& arguments);

} // namespace rankwise::test
