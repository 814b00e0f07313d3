// Run directories for tests: written as a worker writes them, and a scripted worker that steps, answers requests and
// lets its active ranks follow η.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/worker_thread.h"
#include "backend/data/run_directory.h"

#include <atomic>
#include <filesystem>
#include <fstream>

namespace rankwise::tests {

struct RunShape {
    int layers = 12;
    int capacity = 32;
    int steps = 100;
    int digestEvery = 5;
    double eta = 0.9;
    bool writeSnapshots = true;
};

/// Module path of a layer: a third each in vision, language and action.
[[nodiscard]] std::string layerPath(const RunShape& shape, int layer);
/// Mean active rank that the scripted worker reports.
[[nodiscard]] double scriptedRank(const RunShape& shape, int layer, int step, double eta);

/// Writes one line at a time, as a worker does.
class RunWriter {
public:
    RunWriter(std::filesystem::path folder, RunShape shape);

    void writeRunJson(std::int64_t version = 1);
    void start(std::int64_t resumedFrom = -1);
    void layerTable();
    void step(int step, double loss);
    void digest(int step, double eta);
    void snapshot(int step, double eta);
    void set(int step, const std::string& name, double value);
    void status(data::RunState state, int step, const std::string& reason = {});
    void raw(std::string_view text); ///< As it is, e.g. a torn line.
    /// Everything of a finished run.
    void whole();

    [[nodiscard]] const std::filesystem::path& folder() const { return m_folder; }
    [[nodiscard]] const RunShape& shape() const { return m_shape; }

private:
    std::filesystem::path m_folder;
    RunShape m_shape;
    std::ofstream m_events;
};

/// Steps until its end or a stop, obeying control/.
class ScriptedWorker {
public:
    explicit ScriptedWorker(std::filesystem::path folder, RunShape shape, int millisecondsPerStep);
    [[nodiscard]] int step() const { return m_step; }
    [[nodiscard]] double eta() const { return m_eta; }

private:
    void work(const std::stop_token& stop);

    std::filesystem::path m_folder;
    RunShape m_shape;
    int m_pace;
    std::atomic<int> m_step { 0 };
    std::atomic<double> m_eta;
    WorkerThread m_thread;
};

} // namespace rankwise::tests
