// What a command prints: its result as text or JSON, and its error in one place.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/cli/command_line.h"
#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <functional>
#include <memory>
#include <string>

namespace rankwise::cli {

/// Prints `text`, or the object when --json was given.
void printResult(const Invocation& invocation, const std::string& text, const std::string& json);

/// Prints "error: …" and, with --json, {"error": {"code", "message", "subject", "offset"}} on standard output.
ExitCode printError(const Invocation& invocation, const Error& error);

/// Sets logging up from --log and --log-file.
[[nodiscard]] Result<void> configureLogging(const Invocation& invocation);

/// A JobContext whose token is stopped by SIGINT and SIGTERM, and whose progress goes to standard error: a line that
/// rewrites itself on a terminal, one line every ten seconds elsewhere, nothing with --json.
class ConsoleJob {
public:
    explicit ConsoleJob(const Invocation& invocation);
    ~ConsoleJob();
    ConsoleJob(const ConsoleJob&) = delete;
    ConsoleJob& operator=(const ConsoleJob&) = delete;

    [[nodiscard]] const JobContext& context() const;
    /// Ends the progress line.
    void clearLine();

private:
    struct State;
    std::unique_ptr<State> m_state;
};

/// Runs `body` at the priority asked for; an exception that escapes it is reported as Internal.
ExitCode guarded(const Invocation& invocation, const std::function<ExitCode()>& body);

} // namespace rankwise::cli
