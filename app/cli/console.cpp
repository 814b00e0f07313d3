// SPDX-License-Identifier: Apache-2.0
#include "app/cli/console.h"

#include "backend/base/log.h"
#include "backend/base/worker_thread.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace rankwise::cli {

void printResult(const Invocation& invocation, const std::string& text, const std::string& json)
{
    const std::string& chosen = invocation.json ? json : text;
    std::fwrite(chosen.data(), 1, chosen.size(), stdout);
    if (!chosen.empty() && chosen.back() != '\n') {
        std::fputc('\n', stdout);
    }
    std::fflush(stdout);
}

ExitCode printError(const Invocation& invocation, const Error& error)
{
    if (invocation.json) {
        OrderedJson object { { "code", std::string(errcName(error.code)) },
                             { "message", error.message },
                             { "subject", error.subject } };
        if (error.offset >= 0) {
            object["offset"] = error.offset;
        }
        const std::string text = jsonText(OrderedJson { { "error", object } });
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
    }
    fmt::print(stderr, "error: {}\n", error.describe());
    return error.code == Errc::Cancelled ? ExitCode::Interrupted
        : error.code == Errc::Internal   ? ExitCode::Internal
                                         : ExitCode::Failure;
}

Result<void> configureLogging(const Invocation& invocation)
{
    log::LogConfig config;
    RW_TRY_VOID(log::parseLevels(invocation.logLevels, config));
    config.file = invocation.logFile;
    return log::configure(config);
}

namespace {

/// The first signal asks for a stop, a second one ends the program; returns when `ended` becomes readable.
void waitForSignals(int arrived, int ended, std::stop_source& stop)
{
    int seen = 0;
    std::array<pollfd, 2> waiting { pollfd { arrived, POLLIN, 0 }, pollfd { ended, POLLIN, 0 } };
    while (::poll(waiting.data(), waiting.size(), -1) >= 0 || errno == EINTR) {
        if ((waiting[1].revents & POLLIN) != 0) {
            return;
        }
        signalfd_siginfo signal {};
        if ((waiting[0].revents & POLLIN) == 0 || ::read(arrived, &signal, sizeof signal) != sizeof signal) {
            continue;
        }
        if (++seen > 1) {
            std::_Exit(static_cast<int>(ExitCode::Interrupted));
        }
        fmt::print(stderr, "\nstopping; what is finished is kept (once more to end at once)\n");
        stop.request_stop();
    }
}

} // namespace

struct ConsoleJob::State {
    std::stop_source stop;
    JobContext context;
    WorkerThread signals;
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    std::chrono::steady_clock::time_point printed {};
    bool terminal = ::isatty(STDERR_FILENO) == 1;
    bool lineOpen = false;

    void report(double fraction, std::string_view step)
    {
        const auto now = std::chrono::steady_clock::now();
        const auto pause = terminal ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10'000);
        if (now - printed < pause) {
            return;
        }
        printed = now;
        const double seconds = std::chrono::duration<double>(now - start).count();
        std::string left = "";
        if (fraction > 0.01 && fraction < 1) {
            left = fmt::format(", about {:.0f} s left", seconds / fraction * (1 - fraction));
        }
        const std::string line = fmt::format("{:3.0f} %  {}  ({:.0f} s{})", fraction * 100, step, seconds, left);
        if (terminal) {
            fmt::print(stderr, "\r\033[K{}", line);
            lineOpen = true;
        } else {
            fmt::print(stderr, "{}\n", line);
        }
        std::fflush(stderr);
    }
};

ConsoleJob::ConsoleJob(const Invocation& invocation) : m_state(std::make_unique<State>())
{
    m_state->context.stop = m_state->stop.get_token();
    if (!invocation.json) {
        m_state->context.progress = [state = m_state.get()](double fraction, std::string_view step) {
            state->report(fraction, step);
        };
    }
    // A thread that waits for the signals, so that no code runs inside a handler. A second Ctrl-C ends at once.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    m_state->signals = WorkerThread("signals", [stop = m_state->stop, set](const std::stop_token& end) mutable {
        const int arrived = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        const int ended = ::eventfd(0, EFD_CLOEXEC);
        {
            const std::stop_callback wake(end, [ended] { ::eventfd_write(ended, 1); });
            waitForSignals(arrived, ended, stop);
        }
        ::close(arrived);
        ::close(ended);
    });
}

ConsoleJob::~ConsoleJob()
{
    clearLine();
}

const JobContext& ConsoleJob::context() const
{
    return m_state->context;
}

void ConsoleJob::clearLine()
{
    if (m_state->lineOpen) {
        fmt::print(stderr, "\r\033[K");
        std::fflush(stderr);
        m_state->lineOpen = false;
    }
}

ExitCode guarded(const Invocation& invocation, const std::function<ExitCode()>& body)
{
    if (invocation.nice > 0) {
        // Absolute, so that a program started by another one of these gets it once. Threads to come inherit it.
        ::setpriority(PRIO_PROCESS, 0, invocation.nice);
    }
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return printError(invocation,
                          { Errc::TooLarge, "not enough memory; use fewer samples a batch or a smaller model" });
    } catch (const std::exception& exception) {
        return printError(invocation,
                          { Errc::Internal, std::string("a bug in Rankwise, please report it: ") + exception.what() });
    }
}

} // namespace rankwise::cli
