// A configuration of a whole run on the golden datasets, for tests and their child processes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/resources.h"
#include "backend/train/train_config.h"

#include "golden_cases.h"

namespace rankwise::test {

inline train::TrainConfig wholeConfig(std::int64_t steps)
{
    train::TrainConfig config;
    config.policy.path = resourcePath("nano").value().string();
    config.policy.init = "random";
    config.policy.seed = 3;
    config.dataset.path = (goldenRoot() / "datasets/v30_h264").string();
    config.dataset.rename = { { "observation.images.side", "observation.images.wrist" } };
    config.dataset.threads = 2;
    config.method = { { "type", "lora_sp" } };
    config.steps = steps;
    config.batchSize = 2;
    config.noiseDraws = 2;
    config.optimizer.preset = "nano";
    config.optimizer.lr = 1e-3;
    config.optimizer.clipNorm = 1.0;
    config.schedule = { "cosine", 5, 40, 1e-5 };
    config.ema.decay = 0.9;
    config.checkpointEvery = 5;
    config.snapshotEvery = 10;
    config.digestEvery = 3;
    return config;
}

} // namespace rankwise::test
