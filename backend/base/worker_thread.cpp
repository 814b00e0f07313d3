// SPDX-License-Identifier: Apache-2.0
#include "backend/base/worker_thread.h"

#include "backend/base/log.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <utility>

#include <pthread.h>

namespace rankwise {

WorkerThread::WorkerThread(std::string name, std::function<void(std::stop_token)> body)
    : m_thread([name = std::move(name), body = std::move(body)](const std::stop_token& stop) {
          pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
          try {
              body(stop);
          } catch (const std::exception& exception) {
              log::error(name, "thread ended by an exception: {}", exception.what());
          }
      })
{
}

bool waitUntil(const std::stop_token& stop, std::chrono::steady_clock::time_point deadline)
{
    std::mutex mutex;
    std::condition_variable_any condition;
    std::unique_lock lock(mutex);
    condition.wait_until(lock, stop, deadline, [] { return false; });
    return !stop.stop_requested();
}

bool waitFor(const std::stop_token& stop, std::chrono::steady_clock::duration duration)
{
    return waitUntil(stop, std::chrono::steady_clock::now() + duration);
}

}  // namespace rankwise
