// `rankwise rollout`: a policy on the practice arm in real time, as a stream of messages for a window.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "backend/base/worker_thread.h"
#include "backend/data/run_directory.h"
#include "backend/eval/live_rollout.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <filesystem>
#include <mutex>
#include <utility>

#include <poll.h>
#include <unistd.h>

#include <ATen/Parallel.h>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

/// Messages on their way out. A reader that does not keep up loses states and pictures, and nothing else: the
/// simulation does not wait for who watches.
class Outbox {
public:
    explicit Outbox(int fd) : m_fd(fd)
    {
        m_thread = WorkerThread("rollout out", [this](const std::stop_token& stop) { work(stop); });
    }
    ~Outbox() { finish(); }
    Outbox(const Outbox&) = delete;
    Outbox& operator=(const Outbox&) = delete;

    /// False when the reader is gone.
    bool send(const sim::StreamMessage& message)
    {
        std::vector<std::byte> bytes = sim::encodeMessage(message);
        const bool droppable =
            std::holds_alternative<sim::StreamState>(message) || std::holds_alternative<sim::StreamImages>(message);
        const std::lock_guard lock(m_mutex);
        if (!droppable || m_waiting + bytes.size() <= kMaxWaiting) {
            m_waiting += bytes.size();
            m_queue.push_back(std::move(bytes));
            m_wake.notify_one();
        }
        return !m_gone;
    }

    /// Writes what waits, at most until the reader is gone.
    void finish()
    {
        {
            const std::lock_guard lock(m_mutex);
            m_thread.requestStop();
        }
        m_wake.notify_one();
        m_thread.join();
    }

private:
    static constexpr std::size_t kMaxWaiting = 4u << 20;

    void work(const std::stop_token& stop)
    {
        for (;;) {
            std::vector<std::byte> bytes;
            {
                std::unique_lock lock(m_mutex);
                m_wake.wait(lock, [&] { return !m_queue.empty() || stop.stop_requested(); });
                if (m_queue.empty()) {
                    return;
                }
                bytes = std::move(m_queue.front());
                m_queue.pop_front();
                m_waiting -= bytes.size();
            }
            if (!write(bytes)) {
                m_gone = true;
                return;
            }
        }
    }

    bool write(const std::vector<std::byte>& bytes) const
    {
        for (std::size_t done = 0; done < bytes.size();) {
            const ssize_t n = ::write(m_fd, bytes.data() + done, bytes.size() - done);
            if (n < 0 && errno != EINTR) {
                return false;
            }
            done += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
        }
        return true;
    }

    int m_fd;
    std::mutex m_mutex; ///< Guards the queue.
    std::condition_variable m_wake;
    std::deque<std::vector<std::byte>> m_queue;
    std::size_t m_waiting = 0;
    std::atomic<bool> m_gone { false };
    WorkerThread m_thread; ///< Last: joined first.
};

/// Requests from a file descriptor. Its end is a request to stop: nobody watches any more.
class Inbox {
public:
    explicit Inbox(int fd) : m_fd(fd)
    {
        m_thread = WorkerThread("rollout in", [this](const std::stop_token& stop) { work(stop); });
    }
    ~Inbox()
    {
        m_thread.requestStop();
        m_thread.join();
    }
    Inbox(const Inbox&) = delete;
    Inbox& operator=(const Inbox&) = delete;

    std::vector<sim::StreamRequest> take()
    {
        const std::lock_guard lock(m_mutex);
        return std::exchange(m_requests, {});
    }

private:
    void push(const sim::StreamRequest& request)
    {
        const std::lock_guard lock(m_mutex);
        m_requests.push_back(request);
    }

    void work(const std::stop_token& stop)
    {
        constexpr int kPollMs = 50;
        sim::MessageSplitter splitter;
        std::array<std::byte, 4096> part {};
        while (!stop.stop_requested()) {
            pollfd waiting { m_fd, POLLIN, 0 };
            if (::poll(&waiting, 1, kPollMs) <= 0) {
                continue;
            }
            const ssize_t n = ::read(m_fd, part.data(), part.size());
            if (n < 0 && errno == EINTR) {
                continue;
            }
            bool readable = n > 0;
            if (readable) {
                splitter.add(std::span(part).first(static_cast<std::size_t>(n)));
            }
            while (readable) {
                const auto message = splitter.next();
                readable = message.has_value();
                if (!readable || !*message) {
                    break;
                }
                if (const auto request = sim::decodeRequest(**message)) {
                    push(*request);
                }
            }
            if (!readable) {
                push({ .kind = sim::StreamRequest::Kind::Stop });
                return;
            }
        }
    }

    int m_fd;
    std::mutex m_mutex;
    std::vector<sim::StreamRequest> m_requests;
    WorkerThread m_thread; ///< Last: joined first.
};

Result<void> roll(const RolloutCommandOptions& options, int threads, Outbox& outbox, ConsoleJob& job)
{
    RW_TRY(const sim::ArmKind arm, sim::armFromName(options.arm));
    fs::path adapter = options.adapter;
    if (!adapter.empty()) {
        RW_TRY(adapter, data::newestCheckpointOr(adapter));
    }
    RW_TRY(const auto runtime, runtimeFactory(options.policy, adapter)());
    at::set_num_threads(threads);
    eval::LiveOptions live;
    live.rollout.tasks = { options.task };
    live.rollout.seed = options.seed;
    live.rollout.actionSteps = options.actionSteps;
    live.rollout.environment.arm = arm;
    live.index = options.episode;
    live.name = fs::path(options.adapter.empty() ? options.policy : options.adapter).filename().string();
    live.imageSize = static_cast<int>(options.imageSize);
    live.paused = options.paused;
    live.speed = options.speed;
    Inbox inbox(STDIN_FILENO);
    return eval::runLive(*runtime, live,
                         { .send = [&](const sim::StreamMessage& message) { return outbox.send(message); },
                           .requests = [&] { return inbox.take(); } },
                         job.context());
}

} // namespace

ExitCode runRollout(const Invocation& invocation, const RolloutCommandOptions& options, ConsoleJob& job)
{
    if (::isatty(STDOUT_FILENO) != 0) {
        return printError(invocation,
                          { Errc::UsageInvalid,
                            "writes messages for a program, not for a terminal; `rankwise gui` shows a "
                            "rollout and `rankwise eval` counts its successes" });
    }
    std::signal(SIGPIPE, SIG_IGN);
    Outbox outbox(STDOUT_FILENO);
    const auto done = roll(options, tensorThreads(invocation), outbox, job);
    if (!done) {
        outbox.send(sim::StreamError { done.error().describe() });
    }
    outbox.finish();
    return done ? ExitCode::Success : printError(invocation, done.error());
}

} // namespace rankwise::cli
