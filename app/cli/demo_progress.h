// How far a demo is: for the line on the terminal, and for windows that watch (backend/data/demo_status.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/worker_thread.h"
#include "backend/data/demo_status.h"

#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace rankwise::cli {

/// Thread: any.
class DemoProgress {
public:
    /// `console` gets every change at once; must outlive this.
    explicit DemoProgress(const JobContext& console) : m_console(console) { }
    /// Without finish(): the demo failed or was stopped, says the status.
    ~DemoProgress();

    /// A part that is still to do, in estimated seconds; parts show in the order of their first mention.
    /// `run`: its run directory, relative to the demo's folder.
    void expect(const std::string& part, double seconds, const std::string& run = {});
    void reached(const std::string& part, double fraction, const std::string& text);
    /// One rollout ended.
    void count(const std::string& policy, const std::string& task, bool success);
    /// A context that stops with the console's and whose progress is that of `part`.
    [[nodiscard]] JobContext context(const std::string& part);

    /// Writes the status twice a second from now on, in a thread of its own: training does not wait for the disk.
    void publishTo(const std::filesystem::path& folder, bool quick);
    /// How it ended; written by the destructor.
    void finish(data::RunState state, const std::string& reason);

private:
    struct Part {
        data::DemoPart shown;
        double seconds = 0;
    };
    [[nodiscard]] Part* find(const std::string& name);
    [[nodiscard]] double fraction() const;
    void publish();

    const JobContext& m_console;
    mutable std::mutex m_mutex;
    std::vector<Part> m_parts;
    data::DemoStatus m_status;
    std::filesystem::path m_folder;
    bool m_changed = true;
    WorkerThread m_publisher;
};

} // namespace rankwise::cli
