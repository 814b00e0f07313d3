// A named thread that always stops: joined by its destructor, woken early from its waits,
// and whose escaped exceptions are logged instead of ending the program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace rankwise {

/// Owns one thread. The destructor requests a stop and joins.
class WorkerThread {
public:
    WorkerThread() = default;

    /// Starts `body`. It must return soon after its token is stopped; waits go through waitFor().
    /// An exception that leaves `body` is logged as an error under `name`. `name` is cut to 15 bytes for the system.
    WorkerThread(std::string name, std::function<void(std::stop_token)> body);

    void requestStop() { m_thread.request_stop(); }
    void join()
    {
        if (m_thread.joinable()) {
            m_thread.join();
        }
    }
    [[nodiscard]] bool running() const { return m_thread.joinable(); }

private:
    std::jthread m_thread;
};

/// Sleeps for `duration` or until `stop`; returns false when it was stopped.
bool waitFor(const std::stop_token& stop, std::chrono::steady_clock::duration duration);

/// Sleeps until `deadline` or `stop`; returns false when it was stopped.
bool waitUntil(const std::stop_token& stop, std::chrono::steady_clock::time_point deadline);

}  // namespace rankwise
